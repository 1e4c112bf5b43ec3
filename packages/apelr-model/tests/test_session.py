"""Sessions: turns are worth one reading of everything, undo is exact, and draws are those of `generate`."""

import math

import pytest
import torch

from apelr_model import (
    ImpossibleObservationError,
    MixtureOfSoftmaxesConfig,
    NothingLeftError,
    PlanForecast,
    SamplingSettings,
    TextSession,
    TransformerConfig,
    TransformerLMConfig,
    V1Config,
    V2Config,
    generate,
    typical_tokens,
)
from apelr_model.generation import read_prompts

LIVELY = SamplingSettings(temperature=0.8, top_k=8, top_p=0.95, repetition_penalty=1.3, no_repeat_ngram_size=3)
KINDS = {
    "v1": {"kind": V1Config},
    "v2": {"kind": V2Config},
    "v2_transformer": {"kind": V2Config, "hidden_dim": 8, "executor": TransformerConfig(num_heads=2, window=5)},
    "v2_fed_back": {"kind": V2Config, "lookahead_horizon": 2, "lookahead_feedback_scale": 0.4},
    "mixture_of_softmaxes": {"kind": MixtureOfSoftmaxesConfig},
    "transformer_lm": {"kind": TransformerLMConfig, "hidden_dim": 8},
}


@pytest.fixture(params=list(KINDS))
def model(request, make_model):
    return make_model(vocab=23, dtype=torch.float32, **KINDS[request.param])


def talk(session, turns, **settings):
    """Read and continue, turn by turn; what was drawn in each."""
    drawn = []
    for ids in turns:
        session.read(ids)
        drawn.append([token.id for token in session.generate(LIVELY, max_new_tokens=7, **settings)])
    return drawn


def test_the_belief_after_turns_is_that_of_reading_all_at_once(model):
    session = TextSession(model, 1, seed=3)
    drawn = talk(session, [[4, 5, 6], [7], [], [8, 9, 2, 2, 3]])
    assert list(session.ids) == [1, 4, 5, 6, *drawn[0], 7, *drawn[1], *drawn[2], 8, 9, 2, 2, 3, *drawn[3]]
    at_once = read_prompts(model, [session.ids])
    torch.testing.assert_close(session.log_belief, at_once.log_belief[0], rtol=0, atol=1e-5)
    assert int(session.state.model_state.position) == int(at_once.position) == len(session.ids) - 1


def test_the_first_turn_is_what_generate_draws(model):
    session = TextSession(model, 1, seed=5)
    (drawn,) = talk(session, [[4, 5, 6]])
    told = generate(model, [[1, 4, 5, 6]], LIVELY, max_new_tokens=7, seeds=[5])
    assert drawn == [token.id for token in told]


def test_going_back_is_exact_and_draws_the_same_again(model):
    session = TextSession(model, 1)
    talk(session, [[4, 5, 6]])
    before, belief = session.state, session.log_belief
    (drawn,) = talk(session, [[7, 8]])
    session.restore(before)
    assert torch.equal(session.log_belief, belief)
    assert session.ids == before.ids
    assert talk(session, [[7, 8]]) == [drawn]
    session.restore(before)
    session.reseed(99)
    assert talk(session, [[7, 8]]) != [drawn]


def test_the_end_of_a_text_is_yielded_and_is_no_part_of_it(make_model):
    model = make_model(vocab=5)
    session = TextSession(model, 1, seed=1)
    drawn = [token.id for token in session.generate(SamplingSettings(), max_new_tokens=200, eos_id=2)]
    assert drawn[-1] == 2
    assert list(session.ids) == [1, *drawn[:-1]]


def test_it_ends_after_the_token_at_which_it_is_finished(make_model):
    session = TextSession(make_model(), 1)
    taken = []
    for token in session.generate(SamplingSettings(), max_new_tokens=50, is_finished=lambda: len(taken) == 3):
        taken.append(token.id)
        assert session.ids[-1] == token.id, "a token is part of the text when it is yielded"
    assert session.ids == (1, *taken)
    assert len(taken) == 3


def test_forecasts_beside_the_tokens_change_nothing_and_come_for_each(make_model):
    model = make_model(kind=V2Config)
    plain, beside = (TextSession(model, 1, seed=2) for _ in range(2))
    tokens = list(plain.generate(SamplingSettings(), max_new_tokens=9, lookahead_steps=2))
    events = list(beside.generate(SamplingSettings(), max_new_tokens=9, lookahead_steps=2, async_lookahead=True))
    assert plain.ids == beside.ids
    forecasts = [event for event in events if isinstance(event, PlanForecast)]
    assert [event.position for event in forecasts] == list(range(9))
    for token, forecast in zip(tokens, forecasts, strict=True):
        torch.testing.assert_close(torch.tensor(token.lookahead), torch.tensor(forecast.probabilities))


def test_what_cannot_be_read_leaves_everything_as_it_was(make_model):
    model = make_model(kind=V2Config, vocab=9)
    with torch.no_grad():
        model.head.bias[:, 7] = -math.inf
    session = TextSession(model, 1)
    session.read([3, 4])
    ids, belief = session.ids, session.log_belief
    with pytest.raises(ImpossibleObservationError, match="the text has probability zero"):
        session.read([3, 7, 3])
    with pytest.raises(ValueError, match="between 0 and 8, got 9"):
        session.read([9])
    assert session.ids == ids
    assert torch.equal(session.log_belief, belief)
    with pytest.raises(ValueError, match="max_new_tokens must be >= 0, got -1"):
        session.generate(SamplingSettings(), max_new_tokens=-1)
    with pytest.raises(ValueError, match="between 0 and 8, got -1"):
        TextSession(model, -1)
    with pytest.raises(NothingLeftError):
        list(session.generate(SamplingSettings(no_repeat_ngram_size=1), max_new_tokens=20))
    assert session.ids[: len(ids)] == ids, "what was drawn before stays"


@torch.no_grad()
def test_typical_tokens_are_those_whose_lift_is_greatest(make_model):
    model = make_model(kind=V2Config, vocab=9, num_plan_states=2)
    ids = [1, 3, 4, 5, 6, 3, 4]
    reading = model.read(torch.tensor([ids[:-1]]), torch.tensor([ids[1:]]))
    probs = model.head(reading.hidden[0]).log_softmax(-1).exp()
    mixture = torch.einsum("tk,tkv->v", reading.filtered.log_gate[0].exp(), probs)
    lift = probs.sum(0) / mixture
    found = typical_tokens(model, ids, count=2)
    assert len(found) == 2
    for state, tokens in enumerate(found):
        assert tokens
        for token in tokens:
            assert token.lift == pytest.approx(float(lift[state, token.id]))
            assert token.lift > 1
    assert typical_tokens(model, [1]) == ((), ())
