import json
import math
from typing import Any

import pytest
import torch

from apelr_cli.evaluation_output import page, planner_report
from apelr_cli.plan_choice import choose_policy
from apelr_model import (
    MixtureOfSoftmaxesConfig,
    PlannerLM,
    TokenBatch,
    TransformerLMConfig,
    V1Config,
    V2Config,
    build_model,
    mean_nll,
    planner_diagnostics,
)
from apelr_tokenizers import Tokenizer

CONFIGS = {
    "v1": V1Config(num_plan_states=3, chunk_size=3, token_dim=5, hidden_dim=7, fusion_dim=6),
    "v2": V2Config(num_plan_states=3, chunk_size=3, token_dim=5, hidden_dim=7, lookahead_feedback_scale=0.2),
    "mixture_of_softmaxes": MixtureOfSoftmaxesConfig(num_plan_states=3, token_dim=5, hidden_dim=7),
    "transformer_lm": TransformerLMConfig(token_dim=5, hidden_dim=7),
}
ABOUT = {"text": "a text", "rows": 3, "seq_len": 12, "tokenizer_lossless": True}


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest, bpe: Tokenizer, device: str) -> PlannerLM:
    torch.manual_seed(0)
    return build_model(CONFIGS[request.param], bpe.vocab_size).to(device)


@pytest.fixture
def batches(bpe: Tokenizer) -> list[TokenBatch]:
    ids = torch.randint(0, bpe.vocab_size, (3, 13), generator=torch.Generator().manual_seed(0))
    return [TokenBatch(ids[:, :-1], ids[:, 1:], torch.tensor([12, 12, 5]))]


def test_the_report_is_every_diagnostic_as_json(model: PlannerLM, bpe: Tokenizer, batches: list[TokenBatch]) -> None:
    report = planner_report(model, batches, bpe, text_bytes=50)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    found = planner_diagnostics(model, batches)
    for name in found._fields:
        if name not in ("forced_state_matrix", "states"):
            assert report[name] == getattr(found, name), name
    if found.forced_state_matrix is not None:
        assert report["forced_state_matrix"] == [list(row) for row in found.forced_state_matrix]
    assert report["perplexity"] == pytest.approx(math.exp(found.nll))
    assert report["bits_per_byte"] == pytest.approx(found.nll * 29 / math.log(2) / 50)
    kinds = {"v1_filtered_mixture": "exact filter", "v2_planner_required": "causal policy"}
    assert report["gate"] == kinds.get(model.config.version, "no plan")
    assert report["policy"]["feedback_scale"] == model.policy.feedback_scale
    for state, ours in zip(found.states, report["states"], strict=True):
        assert ours["usage"] == state.usage
        assert [token["text"] for token in ours["tokens"]] == [bpe.decode([token.id]) for token in state.tokens]


def test_without_diagnostics_the_likelihood_is_left(
    model: PlannerLM, bpe: Tokenizer, batches: list[TokenBatch]
) -> None:
    report = planner_report(model, batches, bpe, diagnostics=False)
    likelihood = ["nll", "perplexity", "bits_per_byte", "targets", "text_bytes"]
    assert list(report) == [*likelihood, "gate", "policy"]
    assert report["nll"] == pytest.approx(mean_nll(model, batches).nll)
    assert report["bits_per_byte"] is report["text_bytes"] is None


def test_a_choice_is_what_is_measured(bpe: Tokenizer, batches: list[TokenBatch]) -> None:
    model = build_model(CONFIGS["v2"], bpe.vocab_size)
    choice = choose_policy(model, {"force_state": 1})
    report = planner_report(model, batches, bpe, choice=choice)
    assert report["policy"]["force_state"] == 1
    assert report["nll"] == pytest.approx(report["states"][1]["forced_nll"])


def test_infinite_numbers_are_null(bpe: Tokenizer, batches: list[TokenBatch]) -> None:
    """One state cannot say a word of the text; the others can."""
    model = build_model(CONFIGS["v2"], bpe.vocab_size)
    with torch.no_grad():
        model.head.bias[0, int(batches[0].targets[0, 0])] = -math.inf
    report = planner_report(model, batches, bpe)
    assert report["states"][0]["forced_nll"] is None
    assert "infinite" in page({**ABOUT, **report})
    json.dumps(report, allow_nan=False)


def test_the_page_shows_what_there_is(model: PlannerLM, bpe: Tokenizer, batches: list[TokenBatch]) -> None:
    report: dict[str, Any] = {**ABOUT, **planner_report(model, batches, bpe, text_bytes=50)}
    text = page(report)
    assert text.startswith("text            a text: 3 rows of at most 12 targets\ntargets         29\n")
    assert f"gate            {report['gate']}\n" in text
    assert f"nats per token  {report['nll']:.4f}\n" in text
    if not report["states"]:
        assert text.count("\n") == 7
        return
    assert f"{'every plan state weighs the same':<52} {report['planner_mask_delta_loss']:>+9.4f}" in text
    assert ("belief forgotten at boundaries" in text) is (report["boundary_reset_delta_loss"] is not None)
    table = text.splitlines()[-4:]
    assert table[0].startswith("state  usage  stays forced nll  raised tokens")
    assert [int(line.split()[0]) for line in table[1:]] == [0, 1, 2]


def test_unknown_bytes_and_a_lossy_tokenizer_are_said(bpe: Tokenizer, batches: list[TokenBatch]) -> None:
    report = planner_report(build_model(CONFIGS["v1"], bpe.vocab_size), batches, bpe, diagnostics=False)
    text = page({**ABOUT, **report, "tokenizer_lossless": False, "perplexity": None})
    assert "bits per byte   unknown\n" in text
    assert "tokenizer       the tokenizer is lossy" in text
    assert "perplexity      above e^700\n" in text
