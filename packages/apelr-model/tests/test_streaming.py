"""The streaming filter is `filter_sequence`, a token at a time: beliefs, probabilities, forecasts and fixed lags."""

import io
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_model import (
    ChunkRule,
    StreamingFilter,
    StreamState,
    filter_sequence,
    fixed_lag_plans,
    forecast,
    plan_trellis,
    smooth_plans,
)

INF = math.inf


def tables(states, seed=0):
    draw = torch.Generator().manual_seed(seed)
    initial = torch.randn(states, generator=draw, dtype=torch.float64).log_softmax(-1)
    return initial, torch.randn(states, states, generator=draw, dtype=torch.float64).log_softmax(-1)


def observations(batch, steps, states, seed=0):
    draw = torch.Generator().manual_seed(seed + 100)
    return torch.randn(batch, steps, states, generator=draw, dtype=torch.float64) - 2


def run(stream, problem, *, steps):
    """Every step's result, the evidence of a run given at the step that enters it."""
    arguments = problem.arguments
    segments, evidence = arguments["chunks"], arguments["evidence"]
    for t in range(steps):
        number = segments.number[:, t]
        rows = torch.arange(len(number), device=number.device)
        weights = None if evidence is None else evidence[rows, number]
        if not bool(stream.crosses.any()):
            weights = None  # a caller need not compute what is not used
        yield stream.step(arguments["token_log_probs"][:, t], evidence=weights)


@settings(max_examples=60)
@given(
    st.integers(0, 2**32),
    st.integers(1, 4),
    st.sampled_from((0, 1)),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
    st.integers(1, 12),
)
def test_token_by_token_is_the_whole_sequence(
    plan_problem, seed, chunk_size, offset, states, zeros, with_evidence, steps
):
    problem = plan_problem(
        [[steps], [steps]],
        seed=seed,
        states=states,
        chunk_size=chunk_size,
        offset=offset,
        zeros=zeros,
        with_evidence=with_evidence,
    )
    arguments = problem.arguments
    whole = filter_sequence(**arguments)
    stream = StreamingFilter(
        arguments["log_initial"],
        arguments["log_transition"],
        ChunkRule(chunk_size=chunk_size, offset=offset),
        batch_size=2,
    )
    for t, found in enumerate(run(stream, problem, steps=steps)):
        for a, b in zip(found, (whole.log_belief, whole.log_belief_after, whole.token_log_prob), strict=True):
            assert a.dtype == torch.float64
            torch.testing.assert_close(a, b[:, t], rtol=1e-10, atol=1e-10)
        ahead = forecast(found.log_belief_after, arguments["log_transition"], 3)
        torch.testing.assert_close(stream.forecast(3), ahead, rtol=0, atol=0)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 3), st.sampled_from((0, 1)), st.integers(0, 3), st.booleans())
def test_what_it_says_of_ended_chunks_is_fixed_lag_smoothing(plan_problem, seed, chunk_size, offset, lag, zeros):
    steps = 4 * chunk_size + 2
    problem = plan_problem([[steps]], seed=seed, states=3, chunk_size=chunk_size, offset=offset, zeros=zeros)
    arguments = problem.arguments
    trellis = plan_trellis(**arguments)
    lagged = fixed_lag_plans(trellis, lag)
    rule = ChunkRule(chunk_size=chunk_size, offset=offset)
    stream = StreamingFilter(arguments["log_initial"], arguments["log_transition"], rule, batch_size=1, lag=lag)
    number = trellis.segments.number[0].tolist()
    for t, _ in enumerate(run(stream, problem, steps=steps)):
        seen = torch.arange(steps) <= t
        so_far = smooth_plans(plan_trellis(**{**arguments, "mask": seen.unsqueeze(0).to(trellis.in_path.device)}))
        found, chunk = stream.smoothed()[0], number[t]
        assert found.shape == (lag + 1, 3)
        for back in range(lag + 1):
            if back > chunk:
                assert (found[lag - back] == -INF).all()
            else:
                expected = so_far.log_posterior[0, chunk - back]
                torch.testing.assert_close(found[lag - back], expected, rtol=1e-10, atol=1e-10)
        if (t == steps - 1 or number[t + 1] > chunk) and chunk >= lag:
            torch.testing.assert_close(found[0], lagged[0, chunk - lag], rtol=1e-10, atol=1e-10)


def test_one_stream_needs_no_batch():
    initial, transition = tables(3)
    rule = ChunkRule(chunk_size=2)
    one, many = (
        StreamingFilter(initial, transition, rule, lag=1),
        StreamingFilter(initial, transition, rule, batch_size=2, lag=1),
    )
    for observed in observations(1, 5, 3)[0]:
        assert one.crosses.item() == many.crosses[0].item()
        torch.testing.assert_close(one.before(observed), many.before(observed.expand(2, -1))[1])
        found, expected = (
            one.step(observed, evidence=observed),
            many.step(observed.expand(2, -1), evidence=observed.expand(2, -1)),
        )
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b[0])
    assert one.forecast(2).shape == (2, 3)
    assert one.smoothed().shape == (2, 3)


def test_the_belief_before_a_token_can_be_looked_at_without_moving_on():
    initial, transition = tables(3)
    stream = StreamingFilter(initial, transition, ChunkRule(chunk_size=1))
    evidence = torch.tensor([1.0, 0.0, -1.0])
    observed = observations(1, 2, 3)[0]
    stream.step(observed[0])
    before = stream.before(evidence)
    assert torch.equal(before, stream.before(evidence))
    assert not torch.equal(before, stream.before())
    assert torch.equal(before, stream.step(observed[1], evidence=evidence).log_belief)


def test_rows_restart_and_rest_alone():
    initial, transition = tables(3)
    rule = ChunkRule(chunk_size=2, offset=1)
    observed = observations(2, 9, 3)
    stream = StreamingFilter(initial, transition, rule, batch_size=2, lag=2)
    for t in range(4):
        stream.step(observed[:, t])
    stream.restart(torch.tensor([False, True]))
    assert (stream.smoothed()[1, :2] == -INF).all()
    for t in range(4, 9):
        found = stream.step(
            observed[:, t].where(torch.tensor([[True], [t < 7]]), math.nan), active=torch.tensor([True, t < 7])
        )
    assert stream.state.position.tolist() == [9, 3]
    long = filter_sequence(observed[:1], initial, transition, rule.segments(range(9)))
    short = filter_sequence(observed[1:, 4:7], initial, transition, rule.segments(range(3)))
    torch.testing.assert_close(stream.state.log_belief[0], long.log_belief_after[0, -1])
    torch.testing.assert_close(stream.state.log_belief[1], short.log_belief_after[0, -1])
    assert found.token_log_prob[1] == 0
    torch.testing.assert_close(found.token_log_prob[0], long.token_log_prob[0, -1])
    stream.restart()
    assert stream.state.position.tolist() == [0, 0]
    assert torch.equal(stream.state.log_belief[0], initial)


def test_a_state_can_be_saved_and_gone_on_from():
    initial, transition = tables(4)
    rule = ChunkRule(chunk_size=3)
    observed = observations(1, 12, 4)[0]
    stream = StreamingFilter(initial, transition, rule, lag=2)
    for t in range(7):
        stream.step(observed[t])
    file = io.BytesIO()
    torch.save(stream.state._asdict(), file)
    kept, size = stream.state, [x.shape for x in stream.state]
    expected = [stream.step(x) for x in observed[7:]]
    file.seek(0)
    other = StreamingFilter(initial, transition, rule, lag=2)
    other.load_state(StreamState(**torch.load(file)))
    for again in (other, stream):
        again.load_state(kept)
        for x, wanted in zip(observed[7:], expected, strict=True):
            for a, b in zip(again.step(x), wanted, strict=True):
                assert torch.equal(a, b)
    assert torch.equal(other.smoothed(), stream.smoothed())
    assert [x.shape for x in stream.state] == size  # memory does not grow


def test_no_gradient_is_kept_and_the_tables_are_copies():
    initial, transition = (x.requires_grad_() for x in tables(3))
    stream = StreamingFilter(initial, transition, ChunkRule(chunk_size=1), lag=1)
    with torch.no_grad():
        initial.zero_()
    observed = observations(1, 3, 3)[0].requires_grad_()
    for x in observed:
        found = stream.step(x, evidence=x)
    assert not any(x.requires_grad for x in (*found, *stream.state, stream.smoothed(), stream.forecast(1)))
    assert stream.state.log_belief.exp().sum().item() == pytest.approx(1)


def test_an_impossible_observation_is_minus_infinity_until_the_restart():
    initial, transition = tables(2)
    stream = StreamingFilter(initial, transition, ChunkRule(chunk_size=1), lag=1)
    assert stream.step(torch.full((2,), -INF)).token_log_prob == -INF
    found = stream.step(torch.zeros(2))
    assert found.token_log_prob == -INF
    assert (stream.smoothed() == -INF).all()
    stream.restart()
    assert stream.step(torch.zeros(2)).token_log_prob.item() == pytest.approx(0)


class TestArguments:
    def make(self, **extra):
        return StreamingFilter(*tables(3), ChunkRule(chunk_size=2), **extra)

    @pytest.mark.parametrize(
        ("extra", "message"),
        [({"batch_size": 0}, "batch_size must be >= 1, got 0"), ({"lag": -1}, "lag must be >= 0, got -1")],
    )
    def test_numbers(self, extra, message):
        with pytest.raises(ValueError, match=message):
            self.make(**extra)

    def test_tables(self):
        with pytest.raises(
            ValueError, match=r"log_initial must be \[K\] and log_transition \[K, K\], got \[3\] and \[2"
        ):
            StreamingFilter(torch.zeros(3), torch.zeros(2, 2), ChunkRule(chunk_size=1))

    def test_shapes_of_a_step(self):
        with pytest.raises(ValueError, match=r"token_log_probs must be \[K\] = \[3\], got \[1, 3\]"):
            self.make().step(torch.zeros(1, 3))
        with pytest.raises(ValueError, match=r"token_log_probs must be \[B, K\] = \[2, 3\], got \[3\]"):
            self.make(batch_size=2).step(torch.zeros(3))
        with pytest.raises(ValueError, match=r"evidence must be \[K\] = \[3\], got \[2\]"):
            self.make().step(torch.zeros(3), evidence=torch.zeros(2))
        with pytest.raises(ValueError, match=r"active must be \[B\] = \[2\], got \[3\]"):
            self.make(batch_size=2).step(torch.zeros(2, 3), active=torch.ones(3).bool())
        with pytest.raises(ValueError, match=r"rows must be \[B\] = \[2\], got \[3\]"):
            self.make(batch_size=2).restart(torch.ones(3).bool())

    def test_a_state_of_another_shape(self):
        with pytest.raises(ValueError, match=r"log_ended must be \[1, 0, 3\], got \[1, 2, 3\]"):
            self.make().load_state(self.make(lag=2).state)
