from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from apelr_cli.evaluation_text import TextRequest, find_text
from apelr_cli.loading import LoadedModel, load_model
from apelr_cli.report.passages import Passage, read_passages
from apelr_model import V2Config, forecast, score, smooth_plans


@pytest.fixture(scope="module")
def loaded(run_of: Callable[..., Path]) -> LoadedModel:
    return load_model(run_of(), "cpu")


@pytest.fixture(scope="module")
def passages(loaded: LoadedModel) -> tuple[Passage, ...]:
    text = find_text(loaded, TextRequest())
    return read_passages(loaded, text, text.known_plans(loaded.model.chunks).labels)


def test_the_beliefs_are_those_of_score_and_smoothing(loaded: LoadedModel, passages: tuple[Passage, ...]) -> None:
    ids = [loaded.tokenizer.bos_id, *(token.id for token in passages[0].tokens)]
    found = score(loaded.model, ids, with_trellis=True)
    assert found.trellis is not None
    smoothed = found.trellis.at_targets(smooth_plans(found.trellis).log_posterior)[0].exp()
    assert torch.allclose(torch.tensor(passages[0].filtered, dtype=torch.float64), found.log_belief.exp(), atol=1e-9)
    assert torch.allclose(torch.tensor(passages[0].smoothed, dtype=torch.float64), smoothed, atol=1e-9)
    assert [token.chunk for token in passages[0].tokens] == found.chunk_index
    assert passages[0].tokens[0].bits == pytest.approx(-float(found.log_prob[0]) / 0.6931471805599453)


def test_a_forecast_knows_only_the_text_before_it(loaded: LoadedModel, passages: tuple[Passage, ...]) -> None:
    """In chunks of 4 of which V2's first has 3 targets, targets 7 to 10 are chunk 2; 2 before, chunk 0 had ended."""
    assert [token.chunk for token in passages[0].tokens[:8]] == [0, 0, 0, 1, 1, 1, 1, 2]
    assert passages[0].foreseen[2][:7] == (None,) * 7
    ids = [loaded.tokenizer.bos_id, *(token.id for token in passages[0].tokens[:3])]
    trellis = score(loaded.model, ids, with_trellis=True).trellis
    assert trellis is not None
    expected = forecast(trellis.log_after[0, 0], trellis.log_transition, 2)[1].exp()
    assert passages[0].foreseen[2][7] == pytest.approx(expected.tolist(), abs=1e-6)


def test_tokens_have_their_text_and_known_plan(loaded: LoadedModel, passages: tuple[Passage, ...]) -> None:
    first = passages[0]
    assert "".join(token.text for token in first.tokens) == loaded.tokenizer.decode([t.id for t in first.tokens])
    assert first.tokens[0].plan == 0, "a story begins with its opening"
    assert first.place == "a document's beginning"
    assert len(first.tokens) == 32, "no longer than a row"


def test_shares_given_to_what_came_are_probabilities(passages: tuple[Passage, ...]) -> None:
    assert [steps for steps, *_ in passages[0].overlaps] == [1, 2, 3, 4]
    assert all(0 <= share <= 1 for passage in passages for _, *shares in passage.overlaps for share in shares)


@pytest.mark.parametrize("version", ["mixture_of_softmaxes", "transformer_lm"])
def test_a_control_has_gates_and_nothing_to_smooth(run_of: Callable[..., Path], version: str) -> None:
    control = load_model(run_of(version), "cpu")
    (first, *_) = read_passages(control, find_text(control, TextRequest()), None)
    assert (first.smoothed, first.foreseen, first.overlaps) == ((), {}, ())
    assert all(sum(row) == pytest.approx(1) for row in first.filtered)
    assert first.tokens[0].plan == -1


def test_an_impossible_token_is_told_and_leaves_no_belief(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    config = V2Config(num_plan_states=3, chunk_size=3, token_dim=5, hidden_dim=7)
    impossible = load_model(make_checkpoint(config=config, never=[7]), "cpu")
    file = tmp_path / "text.txt"
    file.write_text("a " + impossible.tokenizer.decode([7]) + " a", encoding="utf-8")
    (passage,) = read_passages(impossible, find_text(impossible, TextRequest(file=file)), None)
    place = [token.id for token in passage.tokens].index(7)
    assert [token.bits is None for token in passage.tokens[: place + 1]] == [False] * place + [True]
    assert sum(passage.filtered[place]) == pytest.approx(1)
    assert sum(passage.filtered[place + 1]) == 0
