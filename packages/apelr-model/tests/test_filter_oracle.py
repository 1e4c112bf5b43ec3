"""The filter against its definition: enumeration of plan paths, single steps, gradients and accuracy."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_model import ChunkRule, condition, cross_boundary, filter_sequence, forecast
from apelr_model.belief import log_mean_state, log_normalize, log_sum_exp

INF = math.inf


def probabilities(generator: torch.Generator, *shape: int, zeros: bool = False) -> torch.Tensor:
    """Random rows that sum to one; with `zeros`, about a third of the entries are exactly zero."""
    weights = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.01
    if zeros:
        kept = torch.rand(shape, generator=generator) > 0.35
        kept.scatter_(-1, torch.randint(0, shape[-1], (*shape[:-1], 1), generator=generator), True)
        weights = weights * kept
    return weights / weights.sum(-1, keepdim=True)


def random_problem(batch, steps, states, chunks, *, seed, zeros=False, with_evidence=True):
    """Token log-probs [B, T, K], log pi [K], log P [K, K], evidence [B, C, K] (or None)."""
    generator = torch.Generator().manual_seed(seed)
    observed = -3 * torch.rand(batch, steps, states, generator=generator, dtype=torch.float64)
    if zeros:
        observed = observed.masked_fill(torch.rand(batch, steps, states, generator=generator) < 0.2, -INF)
    evidence = None
    if with_evidence:
        evidence = 2 * torch.randn(batch, chunks, states, generator=generator, dtype=torch.float64)
    initial = probabilities(generator, states, zeros=zeros).log()
    return observed, initial, probabilities(generator, states, states, zeros=zeros).log(), evidence


@st.composite
def grids(draw, max_chunks=3, max_chunk_size=4, max_states=3):
    """(chunk_index, chunk_size, states): both versions' grids, T mostly not a multiple of the chunk size."""
    chunk_size = draw(st.integers(1, max_chunk_size))
    offset = draw(st.sampled_from((0, 1)))
    steps = draw(st.integers(1, max_chunks * chunk_size - offset)) if max_chunks * chunk_size > offset else 1
    return ChunkRule(chunk_size=chunk_size, offset=offset).index(0, steps), draw(st.integers(1, max_states))


def by_steps(observed, initial, transition, chunk_index, evidence, start_chunk=0):
    """The same by single steps: (before, after, token log-probabilities)."""
    present = sorted(set(chunk_index))
    belief = initial.expand(len(observed), -1)
    chunk, before, after, log_probs = start_chunk, [], [], []
    for t, next_chunk in enumerate(chunk_index):
        if next_chunk != chunk:
            belief = cross_boundary(
                belief, transition, None if evidence is None else evidence[:, present.index(next_chunk)]
            )
            chunk = next_chunk
        before.append(belief)
        log_probs.append(log_mean_state(belief, observed[:, t]))
        belief = condition(belief, observed[:, t])
        after.append(belief)
    return torch.stack(before, 1), torch.stack(after, 1), torch.stack(log_probs, 1)


def assert_same(found, expected, tolerance=1e-10):
    """Equal as probabilities and, where finite, as logarithms."""
    assert not torch.isnan(found).any()
    torch.testing.assert_close(found.exp(), expected.exp(), rtol=0, atol=tolerance)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


class TestOracle:
    @settings(max_examples=150)
    @given(grids(), st.booleans(), st.booleans(), st.integers(0, 2**32))
    def test_every_probability_and_belief_is_a_ratio_of_path_sums(
        self, device, enumerate_paths, grid, with_evidence, zeros, seed
    ):
        chunk_index, states = grid
        present = sorted(set(chunk_index))
        observed, initial, transition, evidence = random_problem(
            2, len(chunk_index), states, len(present), seed=seed, zeros=zeros, with_evidence=with_evidence
        )
        result = filter_sequence(
            observed.to(device),
            initial.to(device),
            transition.to(device),
            chunk_index,
            evidence=None if evidence is None else evidence.to(device),
        )
        for row in range(2):
            by_chunk = None if evidence is None else dict(zip(present, evidence[row].tolist(), strict=True))
            expected = enumerate_paths(
                observed[row].tolist(), initial.exp().tolist(), transition.exp().tolist(), chunk_index, by_chunk
            )
            for found, wanted in zip(
                (result.token_log_prob, result.log_belief, result.log_belief_after), expected, strict=True
            ):
                assert found.dtype == torch.float64
                difference = found[row].exp().cpu() - torch.tensor(wanted, dtype=torch.float64)
                assert difference.abs().max() <= 1e-10

    def test_the_normaliser_of_the_evidence_is_no_part_of_the_likelihood(self):
        """Adding a constant to the evidence, or evidence that favours nothing, changes no number."""
        observed, initial, transition, evidence = random_problem(2, 7, 3, 4, seed=1)
        index = ChunkRule(chunk_size=2).index(0, 7)
        plain = filter_sequence(observed, initial, transition, index, evidence=evidence)
        shifted = filter_sequence(observed, initial, transition, index, evidence=evidence + 5)
        flat = filter_sequence(observed, initial, transition, index, evidence=torch.full_like(evidence, -3.0))
        none = filter_sequence(observed, initial, transition, index)
        for a, b in zip((*plain, *flat), (*shifted, *none), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
        assert (plain.token_log_prob - none.token_log_prob).abs().max() > 1e-2  # but evidence does act

    def test_evidence_of_the_first_chunk_is_used_only_where_a_boundary_leads_into_it(self):
        observed, initial, transition, evidence = random_problem(1, 4, 3, 2, seed=2)
        other = evidence.clone()
        other[:, 0] += torch.tensor([5.0, -5.0, 0.0])
        index = [0, 0, 1, 1]
        torch.testing.assert_close(
            filter_sequence(observed, initial, transition, index, evidence=evidence),
            filter_sequence(observed, initial, transition, index, evidence=other),
        )
        entered = filter_sequence(observed, initial, transition, index, evidence=evidence, start_chunk=-1)
        changed = filter_sequence(observed, initial, transition, index, evidence=other, start_chunk=-1)
        assert (entered.log_belief - changed.log_belief).abs().max() > 0.1


class TestOneRecursion:
    @settings(max_examples=60)
    @given(grids(max_chunks=12, max_chunk_size=7, max_states=6), st.booleans(), st.booleans(), st.integers(0, 2**32))
    def test_single_steps_give_the_whole_sequence(self, device, grid, with_evidence, zeros, seed):
        index, states = grid
        problem = random_problem(
            3, len(index), states, len(set(index)), seed=seed, zeros=zeros, with_evidence=with_evidence
        )
        observed, initial, transition, evidence = (None if x is None else x.to(device) for x in problem)
        result = filter_sequence(observed, initial, transition, index, evidence=evidence)
        before, after, log_probs = by_steps(observed, initial, transition, index, evidence)
        assert_same(result.log_belief, before)
        assert_same(result.log_belief_after, after)
        assert_same(result.token_log_prob, log_probs)

    @settings(max_examples=60)
    @given(grids(max_chunks=6, max_chunk_size=5, max_states=5), st.data(), st.integers(0, 2**32))
    def test_a_sequence_can_be_cut_anywhere(self, grid, data, seed):
        index, states = grid
        present = sorted(set(index))
        observed, initial, transition, evidence = random_problem(2, len(index), states, len(present), seed=seed)
        whole = filter_sequence(observed, initial, transition, index, evidence=evidence)
        cuts = sorted(data.draw(st.sets(st.integers(1, len(index)), max_size=3)) | {len(index)})
        belief, start, chunk, pieces = initial, 0, 0, []
        for cut in cuts:
            part = index[start:cut]
            rows = [present.index(c) for c in sorted(set(part))]
            piece = filter_sequence(
                observed[:, start:cut], belief, transition, part, evidence=evidence[:, rows], start_chunk=chunk
            )
            pieces.append(piece)
            belief, start, chunk = piece.log_belief_after[:, -1], cut, part[-1]
        for field in range(3):
            assert_same(torch.cat([piece[field] for piece in pieces], dim=1), whole[field])

    def test_nothing_depends_on_what_comes_later(self):
        observed, initial, transition, evidence = random_problem(2, 9, 3, 3, seed=3)
        index = ChunkRule(chunk_size=4).index(0, 9)
        first = filter_sequence(observed, initial, transition, index, evidence=evidence)
        later, after_evidence = observed.clone(), evidence.clone()
        later[:, 4:] -= 7 * torch.rand(2, 5, 3, dtype=torch.float64)
        after_evidence[:, 1:] += torch.tensor([3.0, 0.0, -3.0])
        second = filter_sequence(later, initial, transition, index, evidence=after_evidence)
        for a, b in zip(first[:4], second[:4], strict=True):  # by target
            torch.testing.assert_close(a[:, :4], b[:, :4], rtol=0, atol=0)
        for a, b in zip(first[4:], second[4:], strict=True):  # by chunk
            torch.testing.assert_close(a[:, :1], b[:, :1], rtol=0, atol=0)
        assert (first.log_belief[:, 4] - second.log_belief[:, 4]).abs().max() > 0.1

    def test_each_row_may_start_from_its_own_belief(self):
        observed, _, transition, _ = random_problem(2, 5, 3, 3, seed=4)
        initial = probabilities(torch.Generator().manual_seed(5), 2, 3).log()
        index = ChunkRule(chunk_size=2).index(0, 5)
        both = filter_sequence(observed, initial, transition, index)
        for row in range(2):
            alone = filter_sequence(observed[row : row + 1], initial[row], transition, index)
            for a, b in zip(both, alone, strict=True):
                torch.testing.assert_close(a[row : row + 1], b)

    def test_inside_a_chunk_the_plan_stays(self):
        """Without a boundary the transition is never looked at."""
        observed, initial, transition, _ = random_problem(1, 6, 3, 1, seed=6)
        same = filter_sequence(observed, initial, transition, [0] * 6)
        other = filter_sequence(observed, initial, torch.full((3, 3), -math.log(3.0)), [0] * 6)
        torch.testing.assert_close(same, other, rtol=0, atol=0)

    def test_condition_takes_the_sum_of_several_observations(self):
        observed, initial, _, _ = random_problem(2, 4, 3, 1, seed=7)
        at_once = condition(initial, observed.sum(1))
        one_by_one = initial
        for t in range(4):
            one_by_one = condition(one_by_one, observed[:, t])
        assert_same(at_once, one_by_one)


class TestPadding:
    @settings(max_examples=40)
    @given(grids(max_chunks=4, max_chunk_size=4, max_states=4), st.data(), st.integers(0, 2**32))
    def test_values_at_padding_change_nothing(self, device, grid, data, seed):
        index, states = grid
        steps = len(index)
        problem = random_problem(3, steps, states, len(set(index)), seed=seed)
        observed, initial, transition, evidence = (x.to(device) for x in problem)
        lengths = [data.draw(st.integers(1, steps)) for _ in range(3)]
        mask = torch.arange(steps, device=device) < torch.tensor(lengths, device=device).unsqueeze(1)
        results = []
        for filler in (0.0, -INF, INF, math.nan, 1e30):
            filled = observed.masked_fill(~mask.unsqueeze(-1), filler).requires_grad_()
            result = filter_sequence(filled, initial, transition, index, evidence=evidence, mask=mask)
            result.token_log_prob.sum().backward()
            assert torch.isfinite(filled.grad).all()
            assert (filled.grad[~mask] == 0).all()
            results.append((*(x.detach() for x in result), filled.grad))
        for other in results[1:]:
            for a, b in zip(results[0], other, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=0)
        assert (results[0][2][~mask] == 0).all()
        for row, length in enumerate(lengths):
            present = len(set(index[:length]))
            alone = filter_sequence(
                observed[row : row + 1, :length],
                initial,
                transition,
                index[:length],
                evidence=evidence[row : row + 1, :present],
            )
            for a, b in zip(results[0][:3], alone[:3], strict=True):
                assert_same(a[row : row + 1, :length], b)

    def test_the_clock_runs_on_where_nothing_is_observed(self):
        observed, initial, transition, _ = random_problem(1, 6, 3, 3, seed=8)
        mask = torch.tensor([[True, True, False, False, True, True]])
        result = filter_sequence(observed, initial, transition, [0, 0, 1, 1, 2, 2], mask=mask)
        crossed = cross_boundary(cross_boundary(result.log_belief_after[:, 1], transition), transition)
        assert_same(result.log_belief[:, 4], crossed)


class TestGradients:
    @pytest.mark.parametrize(("chunk_size", "offset"), [(1, 0), (1, 1), (3, 0), (3, 1), (9, 0)])
    def test_gradcheck(self, device, chunk_size, offset):
        index = ChunkRule(chunk_size=chunk_size, offset=offset).index(0, 5)
        problem = random_problem(2, 5, 3, len(set(index)), seed=9)
        leaves = [x.to(device).requires_grad_() for x in problem]
        mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2], device=device)

        def run(observed, initial, transition, evidence):
            result = filter_sequence(observed, initial, transition, index, evidence=evidence, mask=mask)
            return result.token_log_prob, result.log_belief, result.log_belief_after

        assert torch.autograd.gradcheck(run, leaves)

    @settings(max_examples=30)
    @given(grids(), st.integers(0, 2**32))
    def test_the_gradient_is_the_smoothed_posterior(self, enumerate_paths, grid, seed):
        """d log p(all) / d l_t(k) = p(plan of target t = k | all targets), by enumeration."""
        index, states = grid
        observed, initial, transition, _ = random_problem(1, len(index), states, 0, seed=seed, with_evidence=False)
        observed.requires_grad_()
        filter_sequence(observed, initial, transition, index).token_log_prob.sum().backward()
        plain, start, move = observed.detach()[0].tolist(), initial.exp().tolist(), transition.exp().tolist()

        def total(values):
            return math.prod(enumerate_paths(values, start, move, index)[0])

        for t in range(len(index)):
            for k in range(states):
                only = [
                    [x if (s, j) == (t, k) or s != t else -INF for j, x in enumerate(r)] for s, r in enumerate(plain)
                ]
                assert observed.grad[0, t, k].item() == pytest.approx(total(only) / total(plain), abs=1e-10)

    def test_gradients_stay_finite_at_zeros_and_100_nat_gaps(self, device):
        generator = torch.Generator().manual_seed(10)
        observed = -100.0 * torch.randint(0, 2, (2, 50, 4), generator=generator).to(device)
        observed[:, :, 0] = -50.0
        observed[0, 3, 1] = -INF
        observed.requires_grad_()
        initial = torch.tensor([0.5, 0.5, 0.0, 0.0], device=device).log().requires_grad_()
        move = torch.eye(4, device=device).roll(1, 0).log().requires_grad_()
        result = filter_sequence(observed, initial, move, ChunkRule(chunk_size=8).index(0, 50))
        (result.token_log_prob.sum() + result.log_belief_after.exp().square().sum()).backward()
        for leaf in (observed, initial, move):
            assert torch.isfinite(leaf.grad).all()


def sequential_reference(observed, initial, transition, chunk_size):
    """Plain float64, one token at a time; [T][K] before, after, [T] log-probabilities of one row."""

    def normalised(values):
        peak = max(values)
        if peak == -INF:
            return values
        total = peak + math.log(sum(math.exp(v - peak) for v in values))
        return [v - total for v in values]

    def log_sum(values):
        peak = max(values)
        return peak if peak == -INF else peak + math.log(sum(math.exp(v - peak) for v in values))

    belief, before, after, log_probs = list(initial), [], [], []
    for t, row in enumerate(observed):
        if t > 0 and t % chunk_size == 0:
            belief = normalised(
                [log_sum([b + move[k] for b, move in zip(belief, transition, strict=True)]) for k in range(len(belief))]
            )
        joint = [b + x for b, x in zip(belief, row, strict=True)]
        before.append(belief)
        log_probs.append(log_sum(joint))
        belief = normalised(joint)
        after.append(belief)
    return before, after, log_probs


def excursions(steps, seed, period):
    """[T, 3] float32: gaps of 100 nats a token; each run of `period` tokens is undone by the next one.

    The cumulative sums of states 0 and 1 part by 100 nats a token, meet again exactly, and stay together for
    another run: beliefs there hang on small differences of very large sums.
    """
    generator = torch.Generator().manual_seed(seed)
    rounds = -(-steps // (3 * period))
    noise = 0.6 * torch.rand(2, rounds, period, 2, generator=generator) - 0.3
    apart = torch.tensor([-100.0, -0.7]) + noise[0]
    first_two = torch.cat([apart, apart.flip(-1), noise[1] - 3.0], dim=1).reshape(-1, 2)[:steps]
    return torch.cat([first_two, torch.full((steps, 1), -103.0)], dim=1)


class TestFloat32Accuracy:
    @pytest.mark.parametrize(
        ("chunk_size", "period"),
        [(1, 500), (16, 1), (16, 8), (16, 500), (10_000, 1), (10_000, 8), (10_000, 500), (10_000, 3333)],
    )
    def test_10_000_tokens_with_100_nat_gaps(self, device, chunk_size, period):
        steps = 10_000
        observed = excursions(steps, seed=period, period=period)
        generator = torch.Generator().manual_seed(11)
        initial = probabilities(generator, 3).log().float()
        transition = probabilities(generator, 3, 3).log().float()
        index = ChunkRule(chunk_size=chunk_size).index(0, steps)
        result = filter_sequence(observed[None].to(device), initial.to(device), transition.to(device), index)
        expected = sequential_reference(
            observed.double().tolist(), initial.double().tolist(), transition.double().tolist(), chunk_size
        )
        for found, wanted in zip(result[:3], (expected[0], expected[1], expected[2]), strict=True):
            wanted_tensor = torch.tensor(wanted, dtype=torch.float64)
            assert torch.isfinite(found).all()
            if found.ndim == 3:
                assert (found[0].exp().cpu() - wanted_tensor.exp()).abs().max() <= 1e-4
                torch.testing.assert_close(found.exp().sum(-1).cpu(), torch.ones(1, steps, dtype=torch.float64))
            else:
                assert (found[0].cpu() - wanted_tensor).abs().max() <= 1e-4

    def test_the_accuracy_test_can_fail(self):
        """A float32 cumulative sum over the same tokens is wrong by far more than the bound."""
        observed = excursions(10_000, seed=3333, period=3333)
        naive = observed.cumsum(0).log_softmax(-1).exp()
        exact = observed.double().cumsum(0).log_softmax(-1).exp()
        assert (naive - exact).abs().max() > 1e-3


class TestImpossible:
    def test_an_impossible_target_has_log_probability_minus_infinity_and_nothing_is_nan(self, device):
        observed, initial, transition, _ = random_problem(2, 8, 3, 3, seed=12, with_evidence=False)
        observed[0, 2] = -INF
        observed = observed.to(device).requires_grad_()
        index = ChunkRule(chunk_size=3).index(0, 8)
        result = filter_sequence(observed, initial.to(device), transition.to(device), index)
        for tensor in result:
            assert not torch.isnan(tensor).any()
        assert (result.token_log_prob[0, 2:] == -INF).all()
        assert (result.log_belief_after[0, 2:] == -INF).all()
        assert torch.isfinite(result.token_log_prob[0, :2]).all()
        assert torch.isfinite(result.token_log_prob[1]).all()
        result.token_log_prob[result.token_log_prob > -INF].sum().backward()
        assert not torch.isnan(observed.grad).any()

    def test_a_plan_excluded_by_zeros_makes_a_target_impossible(self):
        """Plan 0 is certain and the target is impossible under plan 0 alone."""
        observed = torch.tensor([[[-INF, -1.0]]])
        result = filter_sequence(observed, torch.tensor([0.0, -INF]), torch.zeros(2, 2), [0])
        assert result.token_log_prob.item() == -INF

    def test_single_steps_keep_minus_infinity(self):
        nothing = torch.full((3,), -INF)
        observed, initial, transition, _ = random_problem(1, 1, 3, 1, seed=13)
        assert (condition(initial, nothing) == -INF).all()
        assert (cross_boundary(nothing, transition, torch.ones(3)) == -INF).all()
        assert (condition(nothing, observed[0, 0]) == -INF).all()
        assert (log_normalize(nothing) == -INF).all()

    def test_log_sum_exp_of_nothing_has_gradient_zero(self):
        values = torch.tensor([[-INF, -INF], [0.0, 1.0]], requires_grad=True)
        total = log_sum_exp(values, -1)
        assert total[0] == -INF
        assert total[1].item() == pytest.approx(math.log(1 + math.e))
        total.sum().backward()
        assert (values.grad[0] == 0).all()
        assert torch.isfinite(values.grad).all()


class TestForecast:
    @settings(max_examples=40)
    @given(st.integers(1, 6), st.integers(1, 12), st.booleans(), st.integers(0, 2**32))
    def test_forecasts_are_matrix_powers(self, states, steps, zeros, seed):
        generator = torch.Generator().manual_seed(seed)
        belief = probabilities(generator, 2, states, zeros=zeros)
        move = probabilities(generator, states, states, zeros=zeros)
        ahead = forecast(belief.log(), move.log(), steps)
        assert ahead.shape == (2, steps, states)
        for s in range(1, steps + 1):
            wanted = belief @ torch.linalg.matrix_power(move, s)
            torch.testing.assert_close(ahead[:, s - 1].exp(), wanted, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("steps", [0, -1])
    def test_fewer_than_one_step_is_refused(self, steps):
        with pytest.raises(ValueError, match=rf"^steps must be >= 1, got {steps}$"):
            forecast(torch.zeros(2), torch.zeros(2, 2), steps)


class TestMixture:
    def test_mean_state_over_states_and_over_a_vocabulary(self):
        generator = torch.Generator().manual_seed(14)
        belief = probabilities(generator, 2, 3)
        words = probabilities(generator, 2, 3, 5)
        found = log_mean_state(belief.log(), words.log())
        torch.testing.assert_close(found.exp(), torch.einsum("bk,bkv->bv", belief, words))
        torch.testing.assert_close(log_mean_state(belief.log(), words[..., 0].log()), found[:, 0])
        assert log_mean_state(belief.log(), words.log().float()).dtype == torch.float32


class TestArguments:
    def call(self, *, observed=(1, 4, 2), initial=(2,), index=(0, 0, 1, 1), **extra):
        return filter_sequence(torch.zeros(observed), torch.zeros(initial), torch.zeros(2, 2), index, **extra)

    def test_the_defaults_of_this_class_are_accepted(self):
        assert self.call(evidence=torch.zeros(1, 2, 2)).token_log_prob.shape == (1, 4)

    @pytest.mark.parametrize("shape", [(4, 2), (0, 4, 2), (1, 0, 2), (1, 4, 0)])
    def test_shape_of_the_token_log_probs(self, shape):
        with pytest.raises(ValueError, match=r"token_log_probs must be \[B, T, K\], not empty, got \["):
            self.call(observed=shape)

    @pytest.mark.parametrize("shape", [(3,), (2, 2), (1, 3), ()])
    def test_shape_of_the_initial_belief(self, shape):
        with pytest.raises(ValueError, match=r"log_initial must be \[K\] or \[B, K\], got"):
            self.call(initial=shape)

    def test_shape_of_the_transition(self):
        with pytest.raises(ValueError, match=r"log_transition must be \[K, K\] = \[2, 2\], got \[3, 2\]"):
            filter_sequence(torch.zeros(1, 4, 2), torch.zeros(2), torch.zeros(3, 2), [0, 0, 1, 1])

    def test_shape_of_the_mask(self):
        with pytest.raises(ValueError, match=r"mask must be \[B, T\] = \[1, 4\], got \[4\]"):
            self.call(mask=torch.ones(4, dtype=torch.bool))

    def test_length_of_the_chunk_index(self):
        with pytest.raises(ValueError, match="chunks must have one entry for each of the 4 targets, got 3"):
            self.call(index=(0, 0, 1))

    @pytest.mark.parametrize("index", [(0, 0, 2, 2), (0, 1, 0, 1), (2, 2, 2, 2), (-1, 0, 0, 0)])
    def test_growth_of_the_chunk_index(self, index):
        with pytest.raises(ValueError, match=r"chunks must start at start_chunk \(0\) or one above"):
            self.call(index=index)

    @pytest.mark.parametrize("shape", [(1, 1, 2), (1, 2, 3), (2, 2, 2), (2,)])
    def test_shape_of_the_evidence(self, shape):
        with pytest.raises(ValueError, match=r"evidence must be \[B, S, K\] = \[1, 2, 2\], got"):
            self.call(evidence=torch.zeros(shape))
