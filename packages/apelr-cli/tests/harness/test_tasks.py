"""Tasks in the harness's YAML, local and offline: its numbers are those of our own `score` and `generate`."""

import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch
import yaml

from apelr_cli.harness import tasks
from apelr_cli.harness.tasks import HarnessError, run_tasks
from apelr_cli.loading import load_model
from apelr_model import PlanPolicy, SamplingSettings, generate, score

needs_harness = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="the extra apelr-cli[lm-eval] is not installed"
)

CHOICES = [
    {"question": "the cat sat on", "choices": ["the mat.", "the dog.", "a cat"], "answer": 0},
    {"question": "the dog ran to", "choices": ["the mat.", "the cat."], "answer": 1},
    {"question": "a big", "choices": ["old bed.", "mat", "dog"], "answer": 2},
]
LAST_WORDS = [
    {"text": "the cat sat on the mat"},
    {"text": "the dog ran to the cat"},
    {"text": "a cat and a"},
]
PAGES = [{"page": "the cat sat on the mat. " * 40}, {"page": "a dog ran"}, {"page": "the dog. the cat. a bed."}]
PROMPTS = ["the cat", "the dog ran", "a big old"]

TASKS = {
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "doc_to_choice": "{{choices}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "last_word": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}",
        "doc_to_target": "{{' '+text.split(' ')[-1]}}",
        "metric_list": [
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        ],
    },
    "pages": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{page}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}],
    },
    "copy": {
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{target}}",
        "generation_kwargs": {"until": [","], "max_gen_toks": 6},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    },
}


@pytest.fixture
def loaded(make_checkpoint, bpe, device):
    return load_model(make_checkpoint(bpe, dtype=torch.float64), device)


@pytest.fixture
def folder(tmp_path):
    """A folder of tasks whose data sets are local files; `copy` has no data yet."""
    place = tmp_path / "tasks"
    place.mkdir()
    data = {"choice": CHOICES, "last_word": LAST_WORDS, "pages": PAGES}
    for name, content in TASKS.items():
        files = {"test": str(tmp_path / f"{name}.jsonl")}
        task = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": files, "cache_dir": str(tmp_path / "cache")},
            "test_split": "test",
            **content,
        }
        (place / f"{name}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
        write_rows(tmp_path / f"{name}.jsonl", data.get(name, []))
    return place


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def log_prob(loaded, context, continuation, policy=None):
    """log p(continuation | context); in these texts ids never reach across the space between the two."""
    before, whole = loaded.tokenizer.encode(context).ids, loaded.tokenizer.encode(context + continuation).ids
    assert whole[: len(before)] == before
    found = score(loaded.model, [loaded.tokenizer.bos_id, *whole], policy=policy).log_prob
    return found[len(before) :].sum().item()


def run(loaded, folder, names, **settings):
    return run_tasks(loaded, names, include_path=folder, **settings).plain


@needs_harness
class TestNumbers:
    @pytest.mark.parametrize("policy", [None, PlanPolicy(force_state=2)])
    def test_multiple_choice(self, loaded, folder, policy):
        found = run(loaded, folder, ["choice"], policy=policy)["results"]["choice"]
        right = right_per_byte = 0
        for row in CHOICES:
            totals = [log_prob(loaded, row["question"], f" {choice}", policy) for choice in row["choices"]]
            shares = [total / len(choice) for total, choice in zip(totals, row["choices"], strict=True)]
            right += totals.index(max(totals)) == row["answer"]
            right_per_byte += shares.index(max(shares)) == row["answer"]
        assert found["acc,none"] == pytest.approx(right / 3, abs=1e-12)
        assert found["acc_norm,none"] == pytest.approx(right_per_byte / 3, abs=1e-12)

    def test_last_word_perplexity_and_document_bits_per_byte(self, loaded, folder):
        found = run(loaded, folder, ["last_word", "pages"], batch_size=2)["results"]
        words = [row["text"].rsplit(" ", 1) for row in LAST_WORDS]
        mean = sum(log_prob(loaded, context, f" {word}") for context, word in words) / 3
        assert found["last_word"]["perplexity,none"] == pytest.approx(math.exp(-mean), rel=1e-6)
        total = sum(log_prob(loaded, "", row["page"]) for row in PAGES)
        size = sum(len(row["page"].encode()) for row in PAGES)
        assert found["pages"]["bits_per_byte,none"] == pytest.approx(-total / size / math.log(2), rel=1e-6)
        assert found["pages"]["byte_perplexity,none"] == pytest.approx(math.exp(-total / size), rel=1e-6)
        alone = run(loaded, folder, ["last_word", "pages"], batch_size=1)["results"]
        for task, metric in (("last_word", "perplexity,none"), ("pages", "bits_per_byte,none")):
            assert alone[task][metric] == pytest.approx(found[task][metric], rel=1e-9)

    def test_generation(self, loaded, folder, tmp_path):
        tokenizer = loaded.tokenizer
        rows = []
        for prompt in PROMPTS:
            ids = [tokenizer.bos_id, *tokenizer.encode(prompt).ids]
            greedy = SamplingSettings(temperature=0)
            made = generate(loaded.model, [ids], greedy, max_new_tokens=6, seeds=[0], eos_id=tokenizer.eos_id)
            rows.append({"prompt": prompt, "target": tokenizer.decode(token.id for token in made).split(",")[0]})
        rows[1]["target"] += " and more"
        write_rows(tmp_path / "copy.jsonl", rows)
        found = run(loaded, folder, ["copy"])["results"]["copy"]
        assert found["exact_match,none"] == pytest.approx(2 / 3, abs=1e-12)

    def test_what_is_reported(self, loaded, folder):
        found = run_tasks(loaded, ["cho*"], include_path=folder, limit=2, policy=PlanPolicy(mode="uniform"), seed=1)
        assert json.loads(json.dumps(found.plain, allow_nan=False)) == found.plain
        assert found.plain["n-samples"]["choice"] == {"original": 3, "effective": 2}
        assert found.plain["config"]["model_version"] == "v1_filtered_mixture"
        assert "mode='uniform'" in found.plain["config"]["policy"]
        assert found.table.startswith("|Tasks")
        assert "|choice|" in found.table

    def test_a_group_of_tasks(self, loaded, folder):
        group = {"group": "all", "task": ["choice", {"group": "inner", "task": ["last_word"]}]}
        group["aggregate_metric_list"] = [{"metric": "acc", "weight_by_size": True}]
        (folder / "all.yaml").write_text(yaml.safe_dump(group), encoding="utf-8")
        found = run_tasks(loaded, ["all", "pages"], include_path=folder)
        results = found.plain["results"]
        assert results.keys() >= {"choice", "last_word", "pages"}
        both = results["choice"]["acc,none"] + results["last_word"]["acc,none"]
        assert found.plain["groups"]["all"]["acc,none"] == pytest.approx(both / 2, abs=1e-12)
        assert "|Groups" in found.table


@needs_harness
class TestRefusals:
    @pytest.fixture(autouse=True)
    def only_local_tasks(self, monkeypatch):
        """Reading the thousands of the harness takes ten seconds."""
        from lm_eval import tasks as its_tasks

        class Local(its_tasks.TaskManager):
            def __init__(self, include_path=None, include_defaults=False):
                super().__init__(include_path=include_path, include_defaults=False)

        monkeypatch.setattr(its_tasks, "TaskManager", Local)

    def test_an_unknown_task(self, loaded, folder):
        with pytest.raises(HarnessError, match=r"^the harness has no task chioce; did you mean choice\?$"):
            run_tasks(loaded, ["pages", "chioce"], include_path=folder)

    def test_a_folder_that_is_none(self, loaded, tmp_path):
        with pytest.raises(HarnessError, match="nowhere is not a folder of task files"):
            run_tasks(loaded, ["pages"], include_path=tmp_path / "nowhere")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"doc_to_text": "{{nofield.x}}"}, "cannot run choice: UndefinedError: 'nofield' is undefined"),
            ({"outptu_type": "x"}, "cannot run choice: TypeError: .*outptu_type"),
            ({"test_split": "nonsense"}, "cannot run choice: KeyError: 'nonsense'"),
            ({"output_type": "nonsense"}, "invalid output_type 'nonsense'"),
            ({"output_type": "generate_until", "generation_kwargs": {"num_beams": 4}}, "got num_beams"),
        ],
    )
    def test_a_task_file_that_is_wrong(self, loaded, folder, change, message):
        task = yaml.safe_load((folder / "choice.yaml").read_text(encoding="utf-8"))
        (folder / "choice.yaml").write_text(yaml.safe_dump({**task, **change}), encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            run_tasks(loaded, ["choice"], include_path=folder)

    def test_data_that_are_wrong_or_not_there(self, loaded, folder, tmp_path):
        (tmp_path / "choice.jsonl").write_text("{not json\n", encoding="utf-8")
        with pytest.raises(HarnessError, match=r"^cannot run choice: .*JSON"):
            run_tasks(loaded, ["choice"], include_path=folder)
        (tmp_path / "choice.jsonl").unlink()
        with pytest.raises(OSError, match=r"choice\.jsonl"):
            run_tasks(loaded, ["choice"], include_path=folder)


@needs_harness
@pytest.mark.parametrize(
    ("folder_name", "name", "kind"),
    [
        ("wikitext", "wikitext", "loglikelihood_rolling"),
        ("lambada", "lambada_openai", "loglikelihood"),
        ("lambada", "lambada_standard", "loglikelihood"),
        ("piqa", "piqa", "multiple_choice"),
        ("hellaswag", "hellaswag", "multiple_choice"),
        ("arc", "arc_easy", "multiple_choice"),
        ("arc", "arc_challenge", "multiple_choice"),
        ("winogrande", "winogrande", "multiple_choice"),
        ("siqa", "social_iqa", "multiple_choice"),
        ("super_glue", "boolq", "multiple_choice"),
        ("openbookqa", "openbookqa", "multiple_choice"),
    ],
)
def test_the_tasks_of_the_docs_are_the_harness_s_own_and_ask_what_we_answer(folder_name, name, kind):
    import lm_eval.tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    place = Path(lm_eval.tasks.__file__).parent / folder_name
    manager = lm_eval.tasks.TaskManager(include_path=str(place), include_defaults=False)
    assert name in manager.all_subtasks
    assert load_yaml(manager.task_index[name].yaml_path, resolve_func=False)["output_type"] == kind


def test_without_the_harness_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(tasks, "find_spec", lambda name: None)
    with pytest.raises(HarnessError, match=r"^the lm-evaluation-harness .*: pip install 'apelr-cli\[lm-eval\]'$"):
        run_tasks(None, ["lambada_openai"])
