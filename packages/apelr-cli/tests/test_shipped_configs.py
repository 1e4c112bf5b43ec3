"""Every file in configs/ loads, states its version and sizes, and says in its first line what it is for."""

import re

import pytest
import yaml

from apelr_cli.config_reader import load_run_config
from apelr_cli.shipped import find_config, shipped_description, shipped_names, shipped_text
from apelr_model import build_model

EXPECTED = [
    "tinystories_smoke",
    "tinystories_iter",
    "tinystories_selfbias_smoke",
    "tinystories_small",
    "tinystories_bpe_smoke",
    "tinystories_bpe_ident_iter",
    "tinystories_bpe_ident_cpk_scale",
    "wikitext2_bpe_ident_cpk",
    "wikitext2_bpe_ident_cpk_smoke",
    "cc_news_bpe_ident_cpk",
    "tinystories_bpe_ident_resume_sharp",
    "quickstart",
    "python_docs",
]
MODEL_SIZES = ["num_plan_states", "chunk_size", "token_dim", "hidden_dim", "fusion_dim", "num_layers"]

each_config = pytest.mark.parametrize("name", shipped_names())


def load(name):
    return load_run_config(find_config(name))


def test_the_promised_configs_are_there():
    assert set(EXPECTED) <= set(shipped_names())


@each_config
def test_it_loads_and_states_its_version_and_sizes(name):
    stated = yaml.safe_load(shipped_text(name))
    assert stated["model"]["version"] == load(name).model.version
    assert set(MODEL_SIZES) <= set(stated["model"])
    assert {"type", "vocab_size"} <= set(stated["tokenizer"])
    assert {"seq_len", "batch_size", "max_steps", "lr"} <= set(stated["train"])
    assert "source" in stated["data"]


@each_config
def test_the_first_line_gives_size_and_time(name):
    config, line = load(name), shipped_description(name)
    parameters = sum(each.numel() for each in build_model(config.model, config.tokenizer.vocab_size).parameters())
    stated = float(re.search(r"([\d.]+) million parameters", line).group(1))
    assert parameters / 1e6 == pytest.approx(stated, rel=0.06)
    assert re.search(r"minute|second|hour|night|GPU|as long", line)


@each_config
def test_the_name_says_what_is_inside(name):
    config = load(name)
    words = name.split("_")
    assert config.tokenizer.type == ("bpe" if "bpe" in words or name in ("quickstart", "python_docs") else "char")
    if "ident" in words:
        assert config.tokenizer.normalizer == "none"
        assert config.tokenizer.byte_level
        assert not config.tokenizer.lowercase
    assert (config.train.chunk_post_kl_weight > 0) == ("cpk" in words or "sharp" in words)
    assert (config.train.entropy_reg_weight > 0) == ("sharp" in words)
    if "smoke" in words:
        assert config.train.max_steps <= 100
    assert config.data.source == {"quickstart": "storyworld", "python": "python_docs", "cc": "cc_news"}.get(
        words[0], words[0]
    )


def test_selfbias_is_smoke_with_longer_plans():
    plain, biased = load("tinystories_smoke"), load("tinystories_selfbias_smoke")
    assert biased.model.planner_self_bias > plain.model.planner_self_bias
    assert biased.train == plain.train


def test_resume_sharp_fits_the_run_that_it_goes_on_from():
    first, second = load("tinystories_bpe_ident_cpk_scale"), load("tinystories_bpe_ident_resume_sharp")
    assert second.train.resume_from == "runs/tinystories_bpe_ident_cpk_scale/checkpoint.pt"
    assert (second.model, second.tokenizer, second.data) == (first.model, first.tokenizer, first.data)
    assert second.train.max_steps > first.train.max_steps
