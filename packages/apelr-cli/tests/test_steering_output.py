"""Steering in reports: what the model's own function gives, and pages that say it."""

import json
from typing import Any

import pytest
import torch

from apelr_cli.loading import LoadedModel
from apelr_cli.steering_options import SteeringRequest
from apelr_cli.steering_output import steering_lines, steering_report
from apelr_data import BEATS
from apelr_model import V2Config, build_model, steering, text_repetition
from apelr_tokenizers import Tokenizer, TokenizerConfig, fit_tokenizer

REQUEST = SteeringRequest(texts=3, tokens=20, seed=5)


@pytest.fixture
def loaded(bpe: Tokenizer, device: str) -> LoadedModel:
    torch.manual_seed(0)
    model = build_model(V2Config(num_plan_states=3, chunk_size=4, token_dim=5, hidden_dim=7), bpe.vocab_size)
    return LoadedModel(model.to(device), bpe)


def report_of(loaded: LoadedModel, request: SteeringRequest = REQUEST, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"usage": [0.6, 0.39, 0.01], "beats": False, **changes}
    return steering_report(loaded, request, loaded.model.policy, settings["usage"], beats=settings["beats"])


def test_the_report_is_what_the_model_says(loaded: LoadedModel) -> None:
    report, tokenizer = report_of(loaded), loaded.tokenizer
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    found = steering(loaded.model, [tokenizer.bos_id], texts=3, max_new_tokens=20, eos_id=tokenizer.eos_id, seed=5)
    assert report["recovery"] == [list(row) for row in found.recovery]
    assert report["recovered"] == found.recovered()
    assert report["used_states"] == [0, 1]  # 0.01 is less than a tenth of 1 / 3
    assert report["recovered_used"] == found.recovered([0, 1])
    assert (report["texts_per_state"], report["tokens"], report["burn_in"], report["seed"]) == (3, 20, 4, 5)
    assert report["beats"] is None
    free = text_repetition(found.free_texts)
    assert report["repetition"]["free"] == {"distinct": list(free.distinct), "repeated": list(free.repeated)}
    forced = [text_repetition(texts).distinct[1] for texts in found.texts]
    assert [each["distinct"][1] for each in report["repetition"]["forced"]] == forced


def test_a_text_has_four_chunks_unless_asked_otherwise(loaded: LoadedModel) -> None:
    assert report_of(loaded, SteeringRequest(texts=1, tokens=None, seed=0))["tokens"] == 16


def test_the_page_says_what_was_found(loaded: LoadedModel) -> None:
    report = report_of(loaded)
    lines = list(steering_lines(report))
    assert lines[0] == "steering: 3 texts of at most 20 tokens under each plan state, read again from token 5 on"
    assert lines[1].endswith(f"{report['recovered']:.4f}")
    assert "of the 2 states that are used" in lines[2]
    assert not any("beat" in line for line in lines)
    table = lines[-3:]
    for state, (line, row) in enumerate(zip(table, report["recovery"], strict=True)):
        assert line.split()[:2] == [str(state), f"{row[state] / 3:.3f}"]
        assert f"{row.index(max(row))} ({max(row)})" in line


def test_sentences_are_told_by_their_beats(device: str) -> None:
    """State 0 says one sentence of a beat again and again, state 1 ends at once."""
    sentence = "More than anything, Ada wanted a tall red drum."
    tokenizer = fit_tokenizer(TokenizerConfig(type="char", min_frequency=1), [sentence])
    model = build_model(V2Config(num_plan_states=2, chunk_size=4, token_dim=4, hidden_dim=4), tokenizer.vocab_size)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
        model.head.bias[0, tokenizer.encode(".").ids[0]] = 40.0
        model.head.bias[1, tokenizer.eos_id] = 40.0
    report = report_of(LoadedModel(model.to(device), tokenizer), usage=[0.5, 0.5], beats=True)
    beats = report["beats"]
    assert beats["names"] == list(BEATS)
    assert beats["table"] == [[0] * len(BEATS)] * 2
    assert beats["normalized_mutual_info"] is None
    assert report["too_short"] == [0, 3]
    lines = list(steering_lines(report))
    assert lines[-1].split()[:2] == ["1", "-"]
    assert "too short" in lines[-1]


def test_shares_of_beats_on_the_page(loaded: LoadedModel) -> None:
    table = [[3, 0, 1] + [0] * (len(BEATS) - 3), [0] * len(BEATS), [0, 2] + [0] * (len(BEATS) - 2)]
    beats = {"names": BEATS, "table": table, "impossible": [4, 0, 0], "normalized_mutual_info": 0.5}
    lines = list(steering_lines({**report_of(loaded), "beats": beats}))
    assert lines[-3].endswith("opening 0.38, journey 0.12, impossible 0.50")
    assert lines[-2].endswith("no whole sentence")
    assert lines[-1].endswith("want 1.00")
    assert any(line.endswith("0.5000") and "NMI" in line for line in lines)
