"""Commitments: samples, their gradient in the linear domain, and the filter that goes on from them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_model import (
    ChunkRule,
    NonFiniteError,
    OptimConfig,
    PlanPolicy,
    Trainer,
    V2Config,
    V2LossWeights,
    filter_sequence,
)
from apelr_model.arithmetic import LOG_ARITHMETIC
from apelr_model.commitment import LARGEST_GRADIENT, ProbabilityArithmetic, gumbel_commitment
from apelr_model.gate import gate_weights, log_gate
from apelr_model.objective import loss_terms, total_loss

AS_IT_IS = ProbabilityArithmetic(lambda log_belief: log_belief.exp())


def random_problem(device, *, states, steps, rows, seed, zeros=False):
    draw = torch.Generator().manual_seed(seed)
    seen = -4 * torch.rand(rows, steps, states, generator=draw, dtype=torch.float64)
    tables = torch.randn(states + 1, states, generator=draw, dtype=torch.float64)
    if zeros:
        lost = torch.rand(tables.shape, generator=draw) < 0.3
        lost[:, 0] = False
        tables = tables.masked_fill(lost, -math.inf)
        seen[..., 1:] = seen[..., 1:].masked_fill(torch.rand(seen[..., 1:].shape, generator=draw) < 0.2, -math.inf)
    evidence = torch.randn(rows, 2 * steps + 2, states, generator=draw, dtype=torch.float64)
    tables = tables.log_softmax(-1)
    return [x.to(device) for x in (seen, tables[0], tables[1:], evidence)]


class TestProbabilityArithmetic:
    @pytest.mark.parametrize(
        "policy", [PlanPolicy(), PlanPolicy(temperature=0.5, feedback_scale=0.3, lookahead_horizon=2)]
    )
    @settings(max_examples=30)
    @given(
        states=st.integers(1, 4),
        documents=st.lists(st.integers(1, 6), min_size=1, max_size=3),
        chunk_size=st.integers(1, 4),
        offset=st.integers(0, 1),
        zeros=st.booleans(),
        seed=st.integers(0, 1000),
    )
    def test_it_is_the_same_filter(self, device, policy, states, documents, chunk_size, offset, zeros, seed):
        """Values and gradients of ordinary beliefs, with restarts, evidence, masks and gates."""
        offset = min(offset, chunk_size)
        clock = [t for length in documents for t in range(length)]
        segments = ChunkRule(chunk_size=chunk_size, offset=offset).segments(clock)
        tensors = random_problem(device, states=states, steps=len(clock), rows=2, seed=seed, zeros=zeros)
        mask = torch.tensor([[True] * len(clock), [t < len(clock) - 1 for t in range(len(clock))]], device=device)
        results = []
        for arithmetic, gate in ((LOG_ARITHMETIC, log_gate), (AS_IT_IS, gate_weights)):
            seen, initial, move, evidence = (x.clone().requires_grad_() for x in tensors)
            found = filter_sequence(
                seen,
                initial.log_softmax(-1),
                move,
                segments,
                evidence=evidence[:, : segments.runs],
                mask=mask,
                arithmetic=arithmetic,
                gate=lambda belief, gate=gate, move=move: gate(belief, move, policy),
            )
            finite = found.token_log_prob[torch.isfinite(found.token_log_prob)]
            (finite.sum() + found.start[..., 0].sum()).backward()
            results.append(
                (found, [torch.zeros_like(x) if x.grad is None else x.grad for x in (seen, initial, move, evidence)])
            )
        (logs, of_logs), (linear, of_linear) = results
        torch.testing.assert_close(linear.token_log_prob, logs.token_log_prob, rtol=1e-10, atol=1e-10)
        for a, b in zip(linear, logs, strict=True):
            if a.shape == logs.log_belief.shape or a.shape == logs.log_start.shape:
                torch.testing.assert_close(a.exp(), b.exp(), rtol=0, atol=1e-10)
        if not zeros:  # with zeros, only the linear form has a gradient there
            for a, b in zip(of_linear, of_logs, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
        assert all(bool(torch.isfinite(gradient).all()) for gradient in of_linear)

    @pytest.mark.parametrize("gap", [0.0, 5.0, 100.0, 250.0])
    @pytest.mark.parametrize("worse", [False, True])
    def test_a_one_hot_states_gradient_is_the_closed_form(self, device, gap, worse):
        """d log sum_k s_k e^(l_k) / d s_k = e^(l_k) / sum, and the same by finite differences."""
        gap = -gap if worse else gap
        seen = torch.tensor([-3.0, -3.0 + gap, -7.0], dtype=torch.float64, device=device)
        state = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64, device=device, requires_grad=True)
        AS_IT_IS.expect(state, seen).backward()
        wanted = [1.0, math.exp(gap), math.exp(-4.0)]
        assert state.grad.tolist() == pytest.approx(wanted, rel=1e-12)
        for k, slope in enumerate(wanted):
            step = 1e-6 / max(1.0, slope)
            moved = state.detach().clone()
            moved[k] += step
            rise = math.log(
                math.fsum(s * math.exp(x - -3.0) for s, x in zip(moved.tolist(), seen.tolist(), strict=True))
            )
            assert rise / step == pytest.approx(slope, rel=1e-5)

    def test_beyond_all_bounds_the_gradient_is_large_and_finite(self, device):
        state = torch.tensor([1.0, 0.0], dtype=torch.float64, device=device, requires_grad=True)
        AS_IT_IS.expect(state, torch.tensor([-2000.0, 0.0], dtype=torch.float64, device=device)).backward()
        assert math.isfinite(state.grad[1])
        assert state.grad[1] > 1e100

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("chosen", [0, 1])
    def test_a_whole_chunk_from_a_one_hot_state(self, device, dtype, chosen):
        """Its tokens' log-probabilities sum to log sum_k s_k e^(sum of l_k), and so do their gradients, at 100 nats.

        Up to a constant, the same for all states: no move from one probability vector to another sees it.
        """
        seen = torch.tensor([[-1.0, -21.0, -2.0], [-2.0, -82.0, -1.0], [-1.0, -1.0, -1.5]], dtype=dtype, device=device)
        state = torch.nn.functional.one_hot(torch.tensor([chosen]), 3).double().to(device).requires_grad_()
        segments = ChunkRule(chunk_size=4).segments([0, 1, 2])
        found = filter_sequence(
            seen.unsqueeze(0),
            torch.zeros(3, device=device).log_softmax(-1),
            torch.zeros(3, 3, device=device).log_softmax(-1),
            segments,
            arithmetic=ProbabilityArithmetic(lambda _: state),
        )
        assert found.log_belief.exp().tolist() == [[state[0].tolist()] * 3]
        assert found.log_belief_after.exp().tolist() == [[state[0].tolist()] * 3]
        torch.testing.assert_close(found.token_log_prob[0], seen[:, chosen].double())
        found.token_log_prob.sum().backward()
        sums = seen.double().sum(0)
        found_slopes = state.grad[0] - state.grad[0, chosen]
        torch.testing.assert_close(found_slopes, (sums - sums[chosen]).exp() - 1, rtol=1e-6, atol=0)

    def test_an_impossible_observation_is_minus_infinity_not_nan(self, device):
        seen = torch.tensor([[[-1.0, -2.0], [-math.inf, -math.inf], [-1.0, -1.0]]], dtype=torch.float64, device=device)
        start, move = torch.zeros(2, device=device).log_softmax(-1), torch.zeros(2, 2, device=device).log_softmax(-1)
        found = filter_sequence(seen, start, move, ChunkRule(chunk_size=2).segments([0, 1, 2]), arithmetic=AS_IT_IS)
        assert found.token_log_prob[0, 1:].tolist() == [-math.inf, -math.inf]
        assert not any(bool(tensor.isnan().any()) for tensor in found)


class TestGumbel:
    BELIEF = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64).log()

    @pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
    def test_samples_are_one_hot_and_as_frequent_as_the_belief_at_any_temperature(self, device, temperature):
        torch.manual_seed(0)
        many = self.BELIEF.to(device).expand(20000, -1)
        drawn = gumbel_commitment(many, temperature=temperature, hard_fraction=1.0)
        assert drawn.dtype == torch.float64
        assert bool(((drawn == 0) | (drawn == 1)).all())
        assert bool((drawn.sum(-1) == 1).all())
        assert drawn.mean(0).tolist() == pytest.approx([0.5, 0.3, 0.2, 0.0], abs=0.015)
        assert not drawn[:, 3].any()

    def test_the_rest_of_the_state_is_the_belief(self, device):
        torch.manual_seed(0)
        found = gumbel_commitment(self.BELIEF.to(device).expand(50, -1), temperature=1.0, hard_fraction=0.25)
        sampled = (found - 0.75 * self.BELIEF.to(device).exp()) / 0.25
        torch.testing.assert_close(sampled, sampled.round(), rtol=0, atol=1e-12)
        torch.testing.assert_close(sampled.sum(-1), torch.ones(50, dtype=torch.float64, device=device))
        none = gumbel_commitment(self.BELIEF.to(device).expand(3, -1), temperature=1.0, hard_fraction=0.0)
        torch.testing.assert_close(none, self.BELIEF.to(device).exp().expand(3, -1))

    def test_a_seed_repeats_them(self, device):
        many = self.BELIEF.to(device).expand(40, -1)
        draws = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            draws.append(gumbel_commitment(many, temperature=1.0, hard_fraction=1.0))
        assert torch.equal(draws[0], draws[1])
        assert not torch.equal(draws[0], draws[2])

    @pytest.mark.parametrize("temperature", [0.5, 2.0])
    @pytest.mark.parametrize("fraction", [0.3, 1.0])
    def test_backwards_it_is_the_relaxed_sample(self, device, temperature, fraction):
        """(1 - f) b + f softmax((log b + g) / t), with the Gumbel noise g that was drawn."""
        factor = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64, device=device)
        gradients = []
        for relaxed in (False, True):
            torch.manual_seed(3)
            belief = self.BELIEF.to(device).repeat(5, 1).requires_grad_()
            if relaxed:
                noise = -torch.empty_like(belief).exponential_().log()
                soft = ((belief + noise) / temperature).softmax(-1)
                found = (1 - fraction) * belief.exp() + fraction * soft
            else:
                found = gumbel_commitment(belief, temperature=temperature, hard_fraction=fraction)
            (found * factor).sum().backward()
            gradients.append(belief.grad)
        torch.testing.assert_close(*gradients)
        assert bool((gradients[0][:, 3] == 0).all())
        assert bool((gradients[0][:, :3] != 0).any())

    def test_its_gradient_is_bounded(self, device):
        belief = self.BELIEF[:3].to(device).repeat(5, 1).requires_grad_()
        torch.manual_seed(0)
        seen = []
        found = gumbel_commitment(belief, temperature=1.0, hard_fraction=1.0)
        found.register_hook(seen.append)
        (found * torch.tensor([1e43, -1e43, 2.0], device=device)).sum().backward()
        assert seen[0].abs().max() <= LARGEST_GRADIENT
        assert bool(torch.isfinite(belief.grad.float()).all())


COMMITTED = {"kind": V2Config, "plan_commitment": "gumbel_st", "chunk_size": 4}


def read(model, ids, **extra):
    return model.read(ids[:, :-1], ids[:, 1:], **extra)


def ids_for(model, rows=3, count=14):
    return torch.randint(0, 11, (rows, count), generator=torch.Generator().manual_seed(4)).to(model.device)


class TestInTheModel:
    def committed(self, make_model, fraction=1.0, **sizes):
        model = make_model(**{**COMMITTED, **sizes}).train()
        model.planner.hard_fraction = fraction
        return model

    def test_hard_beliefs_stay_one_hot_to_the_chunks_end(self, make_model):
        model = self.committed(make_model)
        torch.manual_seed(0)
        filtered = read(model, ids_for(model)).filtered
        belief = filtered.log_belief.exp()
        assert bool(((belief == 0) | (belief == 1)).all())
        assert torch.equal(belief, filtered.log_belief_after.exp())
        for row in belief:
            for first, end in ((0, 3), (3, 7), (7, 11), (11, 13)):  # V2: the first chunk has L - 1 targets
                assert bool((row[first:end] == row[first]).all())
        assert len({tuple(row) for row in filtered.start.flatten(0, 1).tolist()}) > 1
        # What was committed to is not what was believed: that is a distribution.
        assert bool((filtered.log_start.exp().amax(-1) < 1).any())

    def test_the_starts_are_those_of_the_chunks(self, make_model):
        model = self.committed(make_model)
        torch.manual_seed(0)
        filtered = read(model, ids_for(model)).filtered
        torch.testing.assert_close(filtered.start[:, 0], filtered.log_belief[:, 0].exp())
        torch.testing.assert_close(filtered.start[:, 1], filtered.log_belief[:, 3].exp())

    def test_likelihoods_are_those_of_the_committed_states(self, make_model):
        model = self.committed(make_model)
        torch.manual_seed(0)
        reading = read(model, ids_for(model))
        state = reading.filtered.log_belief.argmax(-1, keepdim=True)
        wanted = reading.state_log_probs.gather(-1, state).squeeze(-1)
        torch.testing.assert_close(reading.filtered.token_log_prob, wanted)

    def test_a_soft_plan_in_training_is_the_filter_itself(self, make_model):
        model = make_model(kind=V2Config)
        ids = ids_for(model)
        wanted = read(model, ids).filtered
        for other in (make_model(kind=V2Config).train(), self.committed(make_model, fraction=0.0)):
            found = read(other, ids).filtered
            assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))

    def test_a_tiny_fraction_changes_next_to_nothing(self, make_model):
        """The two arithmetics meet: values and gradients of all parameters."""
        ids, results = ids_for(make_model()), []
        for fraction in (0.0, 1e-13):
            model = self.committed(make_model, fraction=fraction, lookahead_feedback_scale=0.3, planner_temperature=0.7)
            torch.manual_seed(0)
            found = read(model, ids).filtered.token_log_prob
            found.mean().backward()
            results.append((found, [p.grad for p in model.parameters() if p.grad is not None]))
        torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-10)
        for a, b in zip(results[0][1], results[1][1], strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-9)

    def test_nothing_is_committed_in_eval_mode(self, make_model):
        model, plain = self.committed(make_model).eval(), make_model(kind=V2Config)
        ids = ids_for(model)
        before = torch.get_rng_state()
        with torch.no_grad():
            assert all(
                torch.equal(a, b) for a, b in zip(read(model, ids).filtered, read(plain, ids).filtered, strict=True)
            )
        assert torch.equal(torch.get_rng_state(), before)

    def test_a_seed_repeats_a_training_step(self, make_model, make_batch):
        found = []
        for seed in (1, 1, 2):
            model = make_model(**COMMITTED)
            trainer = Trainer(model, OptimConfig(max_steps=5, warmup_steps=0), V2LossWeights(usage_balance=0.1))
            torch.manual_seed(seed)
            found.append([trainer.train_step(make_batch([9, 6, 12], seed=step)) for step in range(3)])
        assert found[0] == found[1] != found[2]

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    @pytest.mark.parametrize("fraction", [0.5, 1.0])
    def test_gradients_are_finite_at_100_nat_gaps(self, make_model, make_batch, dtype, fraction):
        model = self.committed(make_model, fraction=fraction, dtype=dtype)
        with torch.no_grad():
            model.head.bias.mul_(60)
        weights = V2LossWeights(usage_balance=0.1, boundary_entropy=0.1, future_contrastive=0.1)
        torch.manual_seed(0)
        terms = loss_terms(model, make_batch([12, 9, 5]), weights)
        found = read(model, make_batch([12]).inputs)
        gaps = found.state_log_probs.amax(-1) - found.state_log_probs.amin(-1)
        assert gaps.max() > 100
        total_loss(terms, weights, 0).backward()
        for name, parameter in model.named_parameters():
            assert bool(torch.isfinite(parameter.grad).all()), name
        for name in ("initial_logits", "transition_logits", "context_proj.weight"):
            assert bool((model.planner.get_parameter(name).grad != 0).any()), name

    def test_rows_of_several_documents_are_committed_at_every_chunks_start(self, make_model):
        model = self.committed(make_model)
        ids = ids_for(model, rows=2)
        clock = [[*range(6), *range(7)], [*range(2), *range(11)]]
        torch.manual_seed(0)
        reading = read(model, ids, positions=torch.tensor(clock, device=model.device))
        belief = reading.filtered.log_belief.exp()
        assert bool(((belief == 0) | (belief == 1)).all())
        starts = reading.filtered.start[reading.segments.begins.to(belief.device)]
        assert bool(((starts == 0) | (starts == 1)).all())

    def test_going_on_in_the_middle_of_a_chunk_commits_nothing_new(self, make_model):
        model = self.committed(make_model)
        ids = ids_for(model)
        torch.manual_seed(0)
        first = read(model, ids[:, :6])
        second = read(model, ids[:, 5:9], state=first.state)  # targets 5, 6 | 7: the boundary is before target 7
        torch.testing.assert_close(second.filtered.log_belief[:, :2].exp(), first.filtered.log_belief[:, 3:].exp())


ANNEALED = {
    "kind": V2Config,
    "plan_commitment": "gumbel_st",
    "commitment_warmup_steps": 2,
    "commitment_ramp_steps": 2,
    "commitment_max_hard_fraction": 0.5,
    "plan_temperature_start": 2.0,
    "plan_temperature_end": 1.0,
}


class TestSchedule:
    def test_each_step_is_made_at_its_own_fraction_and_temperature(self, make_model, make_batch, monkeypatch):
        model = make_model(**ANNEALED)
        seen = []
        inner = model.planner.read

        def read(*arguments, **named):
            seen.append((model.planner.hard_fraction, arguments[3].temperature))
            return inner(*arguments, **named)

        monkeypatch.setattr(model.planner, "read", read)
        trainer = Trainer(model, OptimConfig(max_steps=4), V2LossWeights())
        for step in range(6):
            trainer.train_step(make_batch([9, 6], seed=step))
        fractions, temperatures = zip(*seen, strict=True)
        assert fractions == (0.0, 0.0, 0.25, 0.5, 0.5, 0.5)
        assert temperatures == pytest.approx((2.0, 1.75, 1.5, 1.25, 1.0, 1.0))

    def test_a_saved_model_has_the_temperature_of_its_step(self, make_model, make_batch):
        model = make_model(**ANNEALED)
        trainer = Trainer(model, OptimConfig(max_steps=4), V2LossWeights())
        for step, wanted in enumerate((1.75, 1.5, 1.25, 1.0, 1.0)):
            trainer.train_step(make_batch([9, 6], seed=step))
            fresh = make_model(seed=5, **ANNEALED)
            fresh.load_state_dict(model.state_dict())
            assert fresh.policy.temperature == model.policy.temperature == wanted

    def test_a_resumed_run_goes_on_at_the_same_fraction(self, make_model, make_batch):
        whole = Trainer(make_model(**ANNEALED), OptimConfig(max_steps=6), V2LossWeights())
        torch.manual_seed(7)
        reports = [whole.train_step(make_batch([9, 6], seed=step)) for step in range(5)]
        first = Trainer(make_model(**ANNEALED), OptimConfig(max_steps=6), V2LossWeights())
        torch.manual_seed(7)
        made = [first.train_step(make_batch([9, 6], seed=step)) for step in range(3)]
        second = Trainer(make_model(seed=9, **ANNEALED), OptimConfig(max_steps=6), V2LossWeights())
        second.load_state_dict(first.state_dict())
        made += [second.train_step(make_batch([9, 6], seed=step)) for step in range(3, 5)]
        assert made == reports

    def test_version_1_has_no_schedule(self, make_model):
        model = make_model()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.set_schedule(3, 10)
        assert model.planner.hard_fraction == 0.0
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_nan_belief_is_named_in_training_too(make_model, make_batch):
    model = make_model(**COMMITTED)
    trainer = Trainer(model, OptimConfig(), V2LossWeights())
    with torch.no_grad():
        model.planner.initial_logits[0] = math.nan
    with pytest.raises(NonFiniteError, match=r"^loss term nll is nan at step 0; no parameter was changed; "):
        trainer.train_step(make_batch([5, 3]))
