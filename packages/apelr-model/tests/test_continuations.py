"""Continuations: scores are those of `score`, whatever the batch; flags say what greedy generation would do."""

import math

import pytest
import torch

from apelr_model import PlanPolicy, SamplingSettings, V2Config, continuations, generate, score
from apelr_model.continuations import Continuation, score_continuations

ASKED = [
    Continuation([1], [4, 2, 7, 7, 3, 1, 0, 9, 10, 5, 2]),
    Continuation([1, 5, 6, 2, 8, 3], [4]),
    Continuation([1, 5, 6, 2, 8, 3], [9, 3, 3, 1, 2]),
    Continuation([1, 9], []),
    Continuation([1], [3]),
    Continuation([1, 5, 6, 2, 8, 3], [4, 4]),
    Continuation([1, *[2, 3, 4] * 7], [2, 3, 6, 6, 6, 6, 1]),
]


def run(model, asked=ASKED, **arguments):
    """Log-probabilities and flags in the order asked for."""
    found = sorted(score_continuations(model, asked, **arguments))
    assert [each.number for each in found] == list(range(len(asked)))
    return [each.log_prob for each in found], [each.is_greedy for each in found]


def reference(model, asked=ASKED, policy=None):
    """By one pass of `score` over each whole text."""
    found = []
    for context, ids in asked:
        log_prob = score(model, [*context, *ids], policy=policy).log_prob if len(context) + len(ids) > 1 else []
        found.append(float(sum(log_prob[len(context) - 1 :])))
    return found


@pytest.fixture
def model(make_model, version, executor_sizes):
    return make_model(kind=version, **executor_sizes)


class TestScores:
    def test_are_those_of_the_whole_text(self, model):
        assert run(model)[0] == pytest.approx(reference(model), abs=1e-9)

    @pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
    @pytest.mark.parametrize("segment", [1, 3, 1000])
    def test_do_not_depend_on_the_batch_or_on_where_reading_pauses(self, model, monkeypatch, batch_size, segment):
        wanted = run(model)
        monkeypatch.setattr(continuations, "SEGMENT", segment)
        found = run(model, batch_size=batch_size)
        assert found[0] == pytest.approx(wanted[0], abs=1e-9)
        assert found[1] == wanted[1]

    def test_in_float32(self, make_model):
        model = make_model(kind=V2Config, dtype=torch.float32)
        assert run(model, batch_size=2)[0] == pytest.approx(reference(model), abs=1e-4)

    @pytest.mark.parametrize(
        "policy",
        [
            PlanPolicy(force_state=1),
            PlanPolicy(mode="uniform"),
            PlanPolicy(freeze_after=4),
            PlanPolicy(temperature=0.5, feedback_scale=0.3, lookahead_horizon=2),
            PlanPolicy(token_filtering=False),
        ],
        ids=lambda policy: str(policy)[:40],
    )
    def test_with_an_intervention(self, make_model, policy):
        model = make_model(kind=V2Config)
        found = run(model, batch_size=3, policy=policy)[0]
        assert found == pytest.approx(reference(model, policy=policy), abs=1e-9)
        assert found != pytest.approx(run(model)[0], abs=1e-3)

    def test_nothing_has_probability_one(self, make_model):
        assert run(make_model(), [Continuation([1, 2, 3], []), Continuation([1], [])]) == ([0.0, 0.0], [True, True])

    def test_what_the_model_excludes(self, make_model):
        model = make_model()
        with torch.no_grad():
            model.head.out_proj.bias[5] = -math.inf
        asked = [Continuation([1, 2], [3, 5, 4]), Continuation([1, 5, 2], [3]), Continuation([1, 2], [3, 4, 4])]
        found = run(model, asked)[0]
        assert found[:2] == [-math.inf, -math.inf]
        assert found[2] == pytest.approx(reference(model, asked[2:])[0], abs=1e-9)

    def test_a_context_is_read_once_for_all_its_continuations(self, make_model, monkeypatch):
        model = make_model()
        read, rows = model.read, []

        def counting(inputs, *arguments, **settings):
            rows.append(tuple(inputs.shape))
            return read(inputs, *arguments, **settings)

        monkeypatch.setattr(model, "read", counting)
        context = [1, *[2, 3] * 20]
        run(model, [Continuation(context, [i]) for i in range(8)], batch_size=8)
        assert rows == [(1, 40), (8, 1)]


class TestGreedy:
    def test_is_what_generation_at_temperature_0_gives(self, model):
        prompts = [[1], [1, 4], [1, 5, 6, 2, 8], [1, 7, 7], [1, 2, 0]]
        made = [[] for _ in prompts]
        for token in generate(model, prompts, SamplingSettings(temperature=0), max_new_tokens=9, seeds=range(5)):
            made[token.row].append(token.id)
        other = [[(i + (position == 6)) % 11 for position, i in enumerate(ids)] for ids in made]
        asked = [Continuation(*pair) for ids in (made, other) for pair in zip(prompts, ids, strict=True)]
        assert run(model, asked, batch_size=3)[1] == [True] * 5 + [False] * 5

    def test_is_not_looked_for_where_it_is_not_wanted(self, make_model):
        model = make_model()
        wanted = run(model)
        assert any(wanted[1])
        assert run(model, find_greedy=False) == (pytest.approx(wanted[0], abs=1e-12), [False] * len(ASKED))


class TestRefusals:
    @pytest.mark.parametrize(
        ("asked", "settings", "message"),
        [
            (
                [Continuation([1], [2]), Continuation([], [2])],
                {},
                "a context needs at least one id, got none in number 1",
            ),
            ([Continuation([1], [11])], {}, "ids must be between 0 and 10, got 11 in number 0"),
            ([Continuation([-1], [2])], {}, "ids must be between 0 and 10, got -1 in number 0"),
            ([Continuation([1], [2])], {"batch_size": 0}, "batch_size must be >= 1, got 0"),
            ([], {"policy": PlanPolicy(temperature=2.0)}, "v1_filtered_mixture has no temperature"),
        ],
    )
    def test_come_before_any_work(self, make_model, asked, settings, message):
        with pytest.raises(ValueError, match=message):
            score_continuations(make_model(), asked, **settings)

    def test_nothing_asked(self, make_model):
        assert list(score_continuations(make_model(), [])) == []
