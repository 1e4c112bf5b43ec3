"""A folder of `apelr export --format hf` where it is used: transformers, its pipeline, the harness, and back."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the extra apelr-cli[transformers] is not installed")

from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, pipeline

from apelr_cli.loading import load_model
from apelr_model import TransformerConfig, V2Config, load_checkpoint, score
from apelr_model.hf import ApelrForCausalLM

FILES = {
    *("config.json", "generation_config.json", "model.safetensors", "modeling_apelr.py"),
    *("tokenizer.json", "tokenizer_config.json", "apelr_tokenizer.json"),
}
TEXT = "the cat sat on the mat."


@pytest.fixture
def run(make_checkpoint: Any, bpe: Any) -> Path:
    config = V2Config(num_plan_states=3, chunk_size=4, hidden_dim=8, executor=TransformerConfig(num_heads=2))
    return make_checkpoint(bpe, config=config, changes={"step": 12, "run_config": {"seed": 3}})


@pytest.fixture
def folder(apelr: Any, run: Path, tmp_path: Path) -> Path:
    done = apelr("export", run, tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "Writing" not in done.output
    return tmp_path / "out"


def log_prob(run: Path, context: str, continuation: str) -> float:
    model, tokenizer, *_ = load_model(run, "cpu")
    before, whole = (tokenizer.encode(text).ids for text in (context, context + continuation))
    assert whole[: len(before)] == before
    return score(model, [tokenizer.bos_id, *whole]).log_prob[len(before) :].sum().item()


def assert_same(found: Path, wanted: Path) -> None:
    one, two = load_checkpoint(found), load_checkpoint(wanted)
    assert (one.model_config, one.step, one.run_config) == (two.model_config, two.step, two.run_config)
    assert (one.tokenizer, one.tokenizer_fingerprint) == (two.tokenizer, two.tokenizer_fingerprint)
    assert one.model.keys() == two.model.keys()
    assert all(torch.equal(tensor, two.model[name]) for name, tensor in one.model.items())


def test_it_holds_what_transformers_reads_and_our_tokenizer(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES


@torch.no_grad()
def test_auto_classes_read_it_and_give_our_numbers(folder: Path, run: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert type(model) is ApelrForCausalLM
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    found = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None]).squeeze(1)
    ours = load_model(run, "cpu")
    wanted = score(ours.model, [ours.tokenizer.bos_id, *ours.tokenizer.encode(TEXT).ids]).log_prob
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-4)


def test_with_remote_code_nothing_of_ours_need_be_imported_first(folder: Path, tmp_path: Path) -> None:
    program = """
        import sys
        from transformers import AutoModelForCausalLM
        assert not any(name.startswith("apelr") for name in sys.modules)
        try:
            AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=False)
        except ValueError as error:
            print("trust_remote_code" in str(error))
        model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)
        print(type(model).__module__, type(model).__name__)
    """
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", textwrap.dedent(program), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\napelr_model.hf.modeling ApelrForCausalLM\n"


def test_the_pipeline_writes_what_apelr_sample_writes(apelr: Any, folder: Path, run: Path) -> None:
    write = pipeline("text-generation", model=str(folder), device="cpu")
    settings = GenerationConfig(max_new_tokens=8, do_sample=False, pad_token_id=0, eos_token_id=None)
    found = write(["the cat", "a"], generation_config=settings, return_full_text=False, batch_size=2)
    for prompt, (continued,) in zip(["the cat", "a"], found, strict=True):
        sampled = ("--prompt", prompt, "--max-new-tokens", 8, "--temperature", 0, "--checkpoint", run)
        assert apelr("sample", *sampled).stdout.removesuffix("\n") == prompt + continued["generated_text"]


def test_back_bit_for_bit(apelr: Any, folder: Path, run: Path, tmp_path: Path) -> None:
    done = apelr("convert", folder, tmp_path / "back.pt")
    assert done.exit_code == 0, done.output
    assert_same(tmp_path / "back.pt", run)


def test_what_transformers_saved_later_comes_back_with_the_tokenizer_named(
    apelr: Any, folder: Path, run: Path, tmp_path: Path
) -> None:
    """In several files, too."""
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "later", max_shard_size="4KB")
    assert (tmp_path / "later" / "model.safetensors.index.json").exists()
    assert (tmp_path / "later" / "modeling_apelr.py").read_bytes() == (folder / "modeling_apelr.py").read_bytes()
    refused = apelr("convert", tmp_path / "later", tmp_path / "back.pt")
    assert refused.exit_code == 1
    assert "carries no tokenizer" in refused.output
    named = ("--tokenizer", folder / "apelr_tokenizer.json")
    done = apelr("convert", tmp_path / "later", tmp_path / "back.pt", *named)
    assert done.exit_code == 0, done.output
    assert_same(tmp_path / "back.pt", run)


def test_a_tokenizer_that_transformers_has_no_form_of_is_refused_before_anything_is_written(
    apelr: Any, make_checkpoint: Any, tmp_path: Path
) -> None:
    from apelr_tokenizers import TokenizerConfig, fit_tokenizer

    numbers = fit_tokenizer(TokenizerConfig(type="identity", vocab_size=12), [])
    done = apelr("export", make_checkpoint(numbers), tmp_path / "out")
    assert done.exit_code == 1
    assert done.output.splitlines()[-1].startswith("Error: transformers has no form of a IdentityTokenizer")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


CHOICES = [
    {"question": "the cat sat on", "choices": [" the mat.", " the dog.", " a cat"], "answer": 0},
    {"question": "the dog ran to", "choices": [" the mat.", " the cat."], "answer": 1},
    {"question": "a big", "choices": [" old bed.", " mat", " dog"], "answer": 2},
]
PAGES = ["the cat sat on the mat. " * 10, "a dog ran", "the dog. the cat. a bed."]


def test_the_harness_s_own_hf_model_scores_and_continues_as_we_do(apelr: Any, folder: Path, run: Path) -> None:
    pytest.importorskip("lm_eval", reason="the extra apelr-cli[lm-eval] is not installed")
    pytest.importorskip("accelerate", reason="the harness's hf model needs accelerate, which is not installed")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    def asked(kind: str, rows: list[tuple[Any, ...]]) -> list[Instance]:
        return [Instance(request_type=kind, doc={}, arguments=row, idx=0) for row in rows]

    model = HFLM(pretrained=str(folder), device="cpu", batch_size=3, trust_remote_code=True)
    pairs = [(row["question"], choice) for row in CHOICES for choice in row["choices"]]
    found = [value for value, _ in model.loglikelihood(asked("loglikelihood", pairs), disable_tqdm=True)]
    assert found == pytest.approx([log_prob(run, *pair) for pair in pairs], abs=1e-4)
    settings = {"until": ["<never>"], "max_gen_toks": 6, "do_sample": False}
    prompts = ["the cat", "a dog and"]
    continued = model.generate_until(asked("generate_until", [(text, settings) for text in prompts]), disable_tqdm=True)
    for prompt, text in zip(prompts, continued, strict=True):
        sampled = ("--prompt", prompt, "--max-new-tokens", 6, "--temperature", 0, "--checkpoint", run)
        assert apelr("sample", *sampled).stdout.removesuffix("\n") == prompt + text
    assert model.max_length == 2048
    pages = HFLM(pretrained=str(folder), device="cpu", batch_size=3, add_bos_token=False)
    found = pages.loglikelihood_rolling(asked("loglikelihood_rolling", [(page,) for page in PAGES]), disable_tqdm=True)
    assert found == pytest.approx([log_prob(run, "", page) for page in PAGES], abs=1e-3)


def test_a_local_task_gives_the_figure_of_apelr_eval(folder: Path, run: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="the extra apelr-cli[lm-eval] is not installed")
    pytest.importorskip("accelerate", reason="the harness's hf model needs accelerate, which is not installed")
    import json

    import yaml
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from apelr_cli.harness.tasks import run_tasks

    (tmp_path / "choice.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CHOICES))
    task = {
        "task": "choice",
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(tmp_path / "choice.jsonl")},
            "cache_dir": str(tmp_path / "cache"),
        },
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "doc_to_choice": "{{choices}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "choice.yaml").write_text(yaml.safe_dump(task))
    found = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(folder), "trust_remote_code": True},
        tasks=["choice"],
        task_manager=TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
        device="cpu",
        batch_size=2,
        bootstrap_iters=0,
    )
    wanted = run_tasks(load_model(run, "cpu"), ["choice"], include_path=tmp_path / "tasks").plain
    for metric in ("acc,none", "acc_norm,none"):
        assert found["results"]["choice"][metric] == wanted["results"]["choice"][metric]
