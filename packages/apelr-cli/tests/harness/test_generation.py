"""Continued texts are those of `generate` with the request's own seed, whatever the batch."""

import pytest

from apelr_cli.harness.generation import continue_texts
from apelr_cli.harness.requests import GenerationRequest
from apelr_cli.loading import load_model
from apelr_model import PlanPolicy, SamplingSettings, generate

GREEDY, LIVELY = SamplingSettings(temperature=0.0), SamplingSettings(temperature=1.3, top_k=9)
ASKED = [
    GenerationRequest("the cat", GREEDY, 12, ()),
    GenerationRequest("the dog ran to the cat", LIVELY, 12, ("e",)),
    GenerationRequest("", LIVELY, 12, ()),
    GenerationRequest("the cat", LIVELY, 12, ("a", "th")),
    GenerationRequest("a cat and a dog", LIVELY, 5, ()),
    GenerationRequest("the cat", LIVELY, 12, ()),
]


@pytest.fixture
def loaded(make_checkpoint, device):
    return load_model(make_checkpoint(), device)


def run(loaded, asked=ASKED, *, batch_size=2, **settings):
    made = dict(continue_texts(loaded, asked, batch_size=batch_size, seed=7, **settings))
    assert sorted(made) == list(range(len(asked)))
    return [made[number] for number in range(len(asked))]


def alone(loaded, number, **settings):
    request, tokenizer = ASKED[number], loaded.tokenizer
    tokens = generate(
        loaded.model,
        [[tokenizer.bos_id, *tokenizer.encode(request.prompt).ids]],
        request.settings,
        max_new_tokens=request.max_new_tokens,
        seeds=[7 + number],
        eos_id=tokenizer.eos_id,
        **settings,
    )
    text = tokenizer.decode(token.id for token in tokens)
    for stop in request.stops:
        text = text.split(stop)[0]
    return text


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_the_text_of_each_request_alone(loaded, batch_size):
    made = run(loaded, batch_size=batch_size)
    assert made == [alone(loaded, number) for number in range(len(ASKED))]
    assert len(made[4]) <= 5 < len(made[5])
    assert made[3] != made[5], "the same prompt with another seed"


def test_interventions(loaded):
    policy = PlanPolicy(force_state=1)
    assert run(loaded, policy=policy) == [alone(loaded, i, policy=policy) for i in range(len(ASKED))]
    assert run(loaded, freeze_planner=True) == [alone(loaded, i, freeze_planner=True) for i in range(len(ASKED))]
    assert len({str(run(loaded, **more)) for more in ({}, {"policy": policy}, {"freeze_planner": True})}) == 3


def test_nothing_asked(loaded):
    assert run(loaded, []) == []
