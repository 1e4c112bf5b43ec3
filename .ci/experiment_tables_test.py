"""The printed tables of experiments, from small files in the place of runs, and the numbers that no command gives."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

FOLDER = Path(__file__).resolve().parent / "experiments"
sys.path.insert(0, str(FOLDER))

import ablations  # noqa: E402
import evaluations  # noqa: E402
import frontier  # noqa: E402
import large  # noqa: E402
import planted  # noqa: E402
import real_text  # noqa: E402
import running  # noqa: E402
import storyworld  # noqa: E402

from apelr_cli.config_reader import load_run_config  # noqa: E402
from apelr_cli.json_values import as_json  # noqa: E402
from apelr_cli.run_config import to_yaml  # noqa: E402
from apelr_model import ForecastSkill, Interval, PlannerDiagnostics  # noqa: E402
from apelr_tokenizers import fit_tokenizer  # noqa: E402

STEPS = [
    ForecastSkill(s, 9, -1.0, -2.0, -1.5, -1.6, Interval(1.0, 0.25, 2), Interval(0.5, -0.5, 1), Interval(0.75, 0.5, 1))
    for s in range(1, 9)
]
AGREEMENT = {"normalized_mutual_info": 0.75, "used_states": 3.5, "matching": [1, 0, -1, -1]}
DELTAS = {
    "plan_mi": 0.125,
    "boundary_reset_delta_loss": 0.25,
    "shuffled_belief_delta_loss": 0.375,
    "planner_mask_delta_loss": 0.0625,
    "state_persistence": 0.5,
}
MEASURED = {
    "nll": 3.0,
    **DELTAS,
    "states": [{"usage": share} for share in (0.5, 0.5, 0.0, 0.0)],
    "recovery": {"labels": 4, "filtered": AGREEMENT, "smoothed": AGREEMENT, "transition": {"largest": 0.125}},
    "lookahead_skill": {"steps": as_json(STEPS)},
    "steering": {"recovered": 0.625},
}


def made(table, out, monkeypatch, *, seeds=2, better=(), changes=lambda run: {}):
    """The table of finished runs: NLL 4, 3.5 of those whose names begin with `better`, 1 / 8 more with every seed.

    `changes` are what a run's evaluation has in other ways than `MEASURED`.
    """
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for stage in table.stages(range(seeds), out):
        for run in stage:
            nll = (3.5 if run.name.startswith(better) else 4.0) + run.seed / 8
            folder = run.folder(out)
            folder.mkdir(exist_ok=True)
            (folder / "checkpoint.pt").touch()
            metrics = {
                "validation": {"nll": nll, "bits_per_byte": nll / 2},
                "references_bits_per_byte": {"source": 1.0},
            }
            about = {"parameters": {"total": 2_000_000}, "flops_per_token": {"total": 5_000_000}}
            contents = {"metrics.json": metrics, "run.json": about}
            for options in run.evaluations:
                kept = {
                    "made_with": evaluations.made_with(folder),
                    "found": {**MEASURED, **changes(run), "nll": nll - 1},
                }
                contents[evaluations.evaluation_name(options)] = kept
            for name, content in contents.items():
                (folder / name).write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setattr("evaluations.apelr", lambda arguments: pytest.fail(f"evaluated by itself: {arguments}"))
    return [line[2:-2].split(" | ") for line in table.table(range(seeds), out).splitlines()]


def row(table, *begin):
    """The one row that begins with these cells, and the rest of it."""
    (found,) = [cells[len(begin) :] for cells in table if cells[: len(begin)] == list(begin)]
    return found


def test_the_measures_are_those_of_the_diagnostics():
    assert DELTAS.keys() <= set(PlannerDiagnostics._fields)


def test_planted(tmp_path, monkeypatch):
    monkeypatch.setattr(planted, "_true_model", lambda folder: (2.0, 0.875))
    more = {"recovery": {**MEASURED["recovery"], "labels": 3}}
    changes = {"16-plans-32-states": more}
    table = made(planted, tmp_path, monkeypatch, changes=lambda run: changes.get(run.name, {}))
    nmis = ["0.750 ± 0.000", "0.875 ± 0.000"]
    used = ["2.000 ± 0.000", "3.500 ± 0.000", "3.50"]
    assert row(table, "4", "4") == ["1.5312 ± 0.0442", *nmis, "0.125 ± 0.000", *used]
    assert row(table, "16", "32") == ["1.5312 ± 0.0442", *nmis, "–", *used]
    assert row(table, "16", "1.00 ± 0.00 (0.25)")[2] == "0.50 ± 0.00 (-0.50)"
    titles = row(table, "K* plans", "K states")
    assert titles[-3:] == ["exp(usage entropy)", "states in use", "fewest"]


def test_storyworld(tmp_path, monkeypatch):
    monkeypatch.setattr(storyworld, "_clusters", lambda folder: {"LDA": 0.25, "k-means": 0.5})
    table = made(storyworld, tmp_path, monkeypatch, better="mixture-gate-lr-1")
    assert row(table, "bits per byte / the source's own") == ["2.031 ± 0.044"]
    assert row(table, "NMI with beats, k-means") == ["0.500 ± 0.000"]
    assert row(table, "steering, share recovered") == ["0.625 ± 0.000"]
    skill = "skill 2 ahead, over frequencies, nats (smallest low end of 95 %)"
    assert row(table, skill) == ["0.750 ± 0.000 (0.500)"]
    assert row(table, "mixture-gate-lr-1") == ["2.00 M", "3.5625 ± 0.0884", "1.7812 ± 0.0442"]
    assert row(table, "mixture-gate-lr-5") == row(table, "transformer_lm") == row(table, "v2")


def test_real_text(tmp_path, monkeypatch):
    table = made(real_text, tmp_path, monkeypatch, better=("v2", "transformer-window-8-lr-0.003"))
    common = ["2.00 M", "5.00 M"]
    assert row(table, "v2", *common) == ["3.5625 ± 0.0884", "1.7812 ± 0.0442", ""]
    assert row(table, "mixture-gate-lr-5", *common) == ["4.0625 ± 0.0884", "2.0312 ± 0.0442", "-0.5000 ± 0.0000"]
    assert row(table, "mixture-gate-lr-5", "3.0625 ± 0.0884") == ["-0.5000 ± 0.0000"]  # rows of 2,048
    assert row(table, "transformer-window-8-lr-0.003", "2.5625 ± 0.0884") == ["+0.0000 ± 0.0000"]
    assert row(table, "planner_mask_delta_loss") == ["0.0625 ± 0.0000"]
    assert row(table, "transformer-window-null-lr-0.006") == ["4.0000"]


def test_ablations(tmp_path, monkeypatch):
    table = made(ablations, tmp_path, monkeypatch, seeds=1)
    assert row(table, "no window") == ["4.0000", "0.125", "0.250", "0.375", "0.500"]


def test_frontier(tmp_path, monkeypatch):
    table = made(frontier, tmp_path, monkeypatch, seeds=1, better="window-8-8")
    assert row(table, "8", "8") == ["3.5000", "0.125", "0.250", "0.375"]
    assert row(table, "everything", "no plan") == ["4.0000", "–", "–", "–"]


def test_large(tmp_path, monkeypatch):
    table = made(large, tmp_path, monkeypatch, better="v2")
    deltas, plan, control = ["0.125 ± 0.000", "0.250 ± 0.000", "0.375 ± 0.000"], "3.5625 ± 0.0884", "4.0625 ± 0.0884"
    less = "-0.5000 ± 0.0000"
    assert row(table, "python_docs") == [plan, control, control, less, less, *deltas]
    assert row(table, "fineweb_edu_65m") == [plan, control, "–", less, "–", *deltas]


def bags(labels, *, swapped=()):
    """Chunks of 12 tokens, four words for each of three labels; those that are `swapped` have another label's words."""
    found = np.zeros((len(labels), 12))
    draw = np.random.default_rng(0)
    for chunk, label in enumerate(labels):
        kind = (label + 1) % 3 if chunk in swapped else label
        np.add.at(found[chunk], 4 * kind + draw.integers(4, size=12), 1)
    return csr_matrix(found)


def test_clusters_of_chunks_that_can_be_told_apart_are_found():
    labels = np.arange(30) % 3
    known = torch.from_numpy(labels).clone()
    known[0] = -1
    words = bags(labels, swapped=(0,))
    assert storyworld.agreement(words, words, known, clusters=3, seed=0) == {"LDA": 1.0, "k-means": 1.0}


def test_clusters_are_the_better_of_those_fitted_to_the_text_itself_and_to_other_text():
    """Two kinds of words of one label, which only other text has side by side, are taken for two labels without it."""
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 1])
    kinds = bags([0, 0, 0, 0, 0, 1, 2])
    together = csr_matrix(np.repeat([[3] * 8 + [0] * 4, [0] * 8 + [6] * 4], 20, axis=0))
    alone, helped = (storyworld.agreement(kinds, other, labels, clusters=2, seed=0) for other in (kinds, together))
    assert max(alone.values()) < 1
    assert helped == {"LDA": 1.0, "k-means": 1.0}
    words, one_kind = bags(np.arange(30) % 3), bags([0] * 20)
    unhelped = storyworld.agreement(words, one_kind, torch.arange(30) % 3, clusters=3, seed=0)
    assert unhelped == {"LDA": 1.0, "k-means": 1.0}


def test_clusters_are_of_whole_chunks_of_held_out_stories_and_of_some_that_were_trained_on(tmp_path, monkeypatch):
    changes = ["data.max_val_examples=2", "tokenizer.type=char", "tokenizer.byte_level=false"]
    config = load_run_config(running.Run("", "v2_quickstart").config_file, changes)
    corpus = storyworld.open_corpus(config.data, seed=config.seed)
    tokenizer = fit_tokenizer(config.tokenizer, corpus.documents("validation"))
    tokenizer.save(tmp_path / "tokenizer.json")
    (tmp_path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    monkeypatch.setattr(storyworld, "CLUSTERED", 3)
    monkeypatch.setattr(storyworld, "agreement", lambda *given, **options: (given, options))
    (words, learnt, labels), options = storyworld._clusters(tmp_path)
    held_out = sum(1 + len(text) + 1 for text in corpus.documents("validation"))
    assert words.shape == (held_out // 16, tokenizer.vocab_size)
    assert set(words.sum(1).ravel().tolist()[0]) == {16.0}
    assert len(labels) == words.shape[0] < learnt.shape[0]
    assert options == {"clusters": 8, "seed": 0}
