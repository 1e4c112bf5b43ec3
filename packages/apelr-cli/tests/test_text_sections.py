"""The sections that decide the ids, read without torch and without the model's keys."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from apelr_cli.config_reader import load_run_config
from apelr_cli.errors import ConfigError
from apelr_cli.run_config import RunConfig
from apelr_cli.shipped import find_config, shipped_names
from apelr_cli.text_sections import OTHER_KEYS, TextSections, load_text_sections


def test_together_with_the_other_keys_they_are_a_run_s() -> None:
    own = {field.name for field in fields(TextSections)}
    assert own | set(OTHER_KEYS) == {field.name for field in fields(RunConfig)}
    assert not own & set(OTHER_KEYS)


@pytest.mark.parametrize("name", shipped_names())
def test_they_are_read_as_a_run_reads_them(name: str) -> None:
    path = find_config(name)
    overrides = ["seed=5", "data.max_val_examples=3", "tokenizer.vocab_size=300", "train.seq_len=16"]
    run, sections = load_run_config(path, overrides), load_text_sections(path, overrides)
    assert (sections.seed, sections.tokenizer, sections.data) == (run.seed, run.tokenizer, run.data)


def test_every_problem_in_them_is_named_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: {nonsense: 1}\ndta: {}\nseed: -1\ndata: {min_chars: -2}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_text_sections(path, ["tokenizer.vocab_size=many", "x"])
    assert str(caught.value).splitlines() == [
        "--set x must be of the form key.sub=value",
        "unknown key dta; did you mean data?",
        "tokenizer.vocab_size must be an integer, got many",
        "data.min_chars must be >= 0, got -2",
        "seed must be between 0 and 2^63 - 1, got -1",
    ]


def test_torch_is_not_imported() -> None:
    code = "import sys, apelr_cli.text_sections, apelr_cli.prepared_text, apelr_cli.packing_progress;"
    done = subprocess.run(
        [sys.executable, "-c", code + "print('torch' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
