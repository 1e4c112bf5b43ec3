import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from apelr_cli.loading import LoadedModel, load_model
from apelr_cli.scoring_output import LOSSY, json_pieces, score_ids, text_pieces
from apelr_model import ImpossibleObservationError, score, smooth_plans, viterbi_plans
from apelr_tokenizers import Tokenizer


@pytest.fixture
def loaded(make_checkpoint: Callable[..., Path], device: str) -> LoadedModel:
    return load_model(make_checkpoint(), device)


def ids_of(loaded: LoadedModel, text: str) -> list[int]:
    return [loaded.tokenizer.bos_id, *loaded.tokenizer.encode(text).ids]


def test_totals_follow_from_the_targets(loaded: LoadedModel) -> None:
    ids = ids_of(loaded, "the cat")
    scored = score_ids(loaded, ids, 7)
    expected = -math.fsum(score(loaded.model, ids).log_prob.tolist())
    assert scored.nll == pytest.approx(expected, abs=1e-9)
    assert scored.bits_per_byte == pytest.approx(expected / math.log(2) / 7, abs=1e-9)
    assert score_ids(loaded, ids, None).bits_per_byte is None


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025, 2500])
def test_the_json_pieces_are_one_object_on_one_line(loaded: LoadedModel, count: int) -> None:
    ids = ids_of(loaded, ("the cat sat " * 300)[:count])
    scored = score_ids(loaded, ids, count)
    line = "".join(json_pieces(scored))
    assert line.index("\n") == len(line) - 1
    found = json.loads(line)
    assert list(found) == ["tokens", "nll", "bits_per_byte", "gate"]
    assert [entry["id"] for entry in found["tokens"]] == ids[1:]
    assert all(list(entry) == ["id", "log_prob", "chunk", "belief"] for entry in found["tokens"])
    assert [entry["chunk"] for entry in found["tokens"]] == [t // 3 for t in range(count)]
    beliefs = scored.score.log_belief.exp().tolist()
    assert [entry["belief"] for entry in found["tokens"]] == beliefs
    assert sum(entry["log_prob"] for entry in found["tokens"]) == pytest.approx(-found["nll"], abs=1e-6)


@pytest.mark.parametrize("count", [1, 1024, 1025])
def test_smoothed_and_best_plans_take_the_beliefs_place(loaded: LoadedModel, count: int) -> None:
    ids = ids_of(loaded, ("the cat sat " * 300)[:count])
    trellis = score(loaded.model, ids, with_trellis=True).trellis
    assert trellis is not None
    smoothed = json.loads("".join(json_pieces(score_ids(loaded, ids, count, "smoothed"))))
    wanted = smooth_plans(trellis)
    posteriors = wanted.log_posterior[0].exp().tolist()
    assert [entry["posterior"] for entry in smoothed["tokens"]] == [posteriors[t // 3] for t in range(count)]
    assert smoothed["plan_entropy"] == wanted.path_entropy.item()
    best = json.loads("".join(json_pieces(score_ids(loaded, ids, count, "viterbi"))))
    found = viterbi_plans(trellis)
    assert best["plan_path"] == found.plans[0].tolist()
    assert [entry["plan"] for entry in best["tokens"]] == [best["plan_path"][t // 3] for t in range(count)]
    assert best["plan_log_prob"] == found.log_posterior.item()


def test_the_table_shows_them_too(loaded: LoadedModel) -> None:
    ids = ids_of(loaded, "the cat")
    for kind, heading, line in (
        ("smoothed", "smoothed", r"plan entropy    \d+\.\d{4} nats, of the path of 3 plans given the text"),
        ("viterbi", "plan", r"plan path       log-probability -\d+\.\d{4} nats given the text, 3 plans"),
    ):
        scored = score_ids(loaded, ids, 7, kind)
        summary, table = "".join(text_pieces(scored, loaded.tokenizer)).split("\n\n")
        assert re.fullmatch(line, summary.splitlines()[5])
        header, *lines = table.splitlines()
        assert header.split() == ["target", "id", "log_prob", "chunk", heading, "text"]
        assert {row.index('"') for row in lines} == {header.index("text")}
        plans = [row.split()[4] for row in lines]
        states = scored.plans.by_target if kind == "viterbi" else scored.plans.by_target.argmax(-1)
        assert [int(plan.split(":")[0]) for plan in plans] == states.tolist()


def test_unknown_bytes_are_null(loaded: LoadedModel) -> None:
    line = "".join(json_pieces(score_ids(loaded, ids_of(loaded, "a"), None)))
    assert json.loads(line)["bits_per_byte"] is None


def test_the_table_is_aligned_below_a_summary(loaded: LoadedModel) -> None:
    scored = score_ids(loaded, ids_of(loaded, "the cat"), 7)
    summary, table = "".join(text_pieces(scored, loaded.tokenizer)).split("\n\n")
    per_token = scored.nll / 7
    assert summary.splitlines() == [
        "targets         7",
        f"nll             {scored.nll:.4f} nats",
        f"nats per token  {per_token:.4f}",
        f"perplexity      {math.exp(per_token):.4f}",
        f"bits per byte   {scored.bits_per_byte:.4f} (7 bytes)",
        f"tokenizer       {LOSSY}",
    ]
    header, *lines = table.splitlines()
    assert [line.split('"')[1] for line in lines] == list("the cat")
    assert {line.index('"') for line in lines} == {header.index("text")}
    first = lines[0].split()
    assert first[:4] == ["0", str(scored.ids[1]), f"{float(scored.score.log_prob[0]):.4f}", "0"]
    belief = scored.score.log_belief[0].exp()
    assert first[4] == f"{int(belief.argmax())}:{float(belief.max()):.2f}"


def test_a_lossless_tokenizer_is_called_so(make_checkpoint: Callable[..., Path], bpe: Tokenizer, device: str) -> None:
    loaded = load_model(make_checkpoint(bpe), device)
    text = "".join(text_pieces(score_ids(loaded, ids_of(loaded, "a"), None), loaded.tokenizer))
    assert "tokenizer       lossless\n" in text
    assert "bits per byte   unknown: ids do not say how many bytes of text they stand for\n" in text


def test_an_impossible_target_is_named(make_checkpoint: Callable[..., Path], char: Tokenizer, device: str) -> None:
    s = char.encode("s").ids[0]
    loaded = load_model(make_checkpoint(never=[s]), device)
    with pytest.raises(ImpossibleObservationError, match=rf"^target 4 \(id {s}\) has probability zero"):
        score_ids(loaded, ids_of(loaded, "cat sat on"), 10)
