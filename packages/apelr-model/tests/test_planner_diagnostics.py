"""Planner diagnostics against plain loops over tokens, pairs and states, and on models with known answers."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from apelr_model import (
    ImpossibleObservationError,
    MixtureOfSoftmaxesConfig,
    PlanPolicy,
    TokenBatch,
    TransformerLMConfig,
    V1Config,
    V2Config,
    build_model,
    evaluate,
    planner_diagnostics,
)
from apelr_model.batch_statistics import chunk_starts, read_batch
from apelr_model.future_contrast import future_contrastive

STATES, CHUNK, VOCAB = 3, 3, 11
SIZES = {"num_plan_states": STATES, "chunk_size": CHUNK, "token_dim": 5, "hidden_dim": 7}
STEERED = {"planner_temperature": 0.7, "lookahead_horizon": 2, "lookahead_feedback_scale": 0.4}
FORMS = {
    "v1": (V1Config, SIZES),
    "v2": (V2Config, SIZES),
    "v2_steered": (V2Config, {**SIZES, **STEERED}),
    "v2_unfiltered": (V2Config, {**SIZES, "token_filtering": False}),
}


def make(form, device, *, spread=1.0, seed=5, **sizes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(form(**sizes), VOCAB)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith(("planner", "head")):
                    parameter.add_(spread * torch.randn_like(parameter))
    return model.to(device=device, dtype=torch.float64).eval()


@pytest.fixture(params=FORMS)
def planned(request, device):
    form, sizes = FORMS[request.param]
    return make(form, device, **sizes)


@pytest.fixture
def batches(make_batch):
    return [make_batch([10, 3, 7, 8], width=10), make_batch([6, 9], seed=1, width=9), make_batch([5], seed=2)]


class Plain:
    """One batch, token by token: emissions and evidence as the model gives them, everything else in loops."""

    def __init__(self, model, batch):
        with torch.no_grad():
            self.found = read_batch(model, batch)
        reading = self.found.reading
        self.model, self.batch, self.policy = model, batch, model.policy
        self.emissions = reading.state_log_probs.tolist()
        self.evidence = reading.evidence.tolist()
        self.initial = model.planner.log_initial().exp().tolist()
        self.transition = model.planner.log_transition().exp().tolist()
        self.lengths = batch.lengths.tolist()

    def gate(self, belief, feedback_scale=None):
        scale = self.policy.feedback_scale if feedback_scale is None else feedback_scale
        ahead, mixed = belief, [(1 - scale) * b for b in belief]
        for _ in range(self.policy.lookahead_horizon):
            ahead = [sum(ahead[i] * self.transition[i][j] for i in range(STATES)) for j in range(STATES)]
            mixed = [m + scale * a / self.policy.lookahead_horizon for m, a in zip(mixed, ahead, strict=True)]
        weights = [m ** (1 / self.policy.temperature) for m in mixed]
        return [w / sum(weights) for w in weights]

    def beliefs(self, *, reset=None, evidence=True):
        """[B][T][K] beliefs before each target; `reset` takes the place of b P at boundaries."""
        found = []
        for row, length in enumerate(self.lengths):
            belief, run, beliefs = self.initial, 0, []
            for t in range(length):
                offset = self.model.chunks.offset
                if t > 0 and (t + offset) % CHUNK == 0:
                    run += 1
                    crossed = reset or [
                        sum(belief[i] * self.transition[i][j] for i in range(STATES)) for j in range(STATES)
                    ]
                    log_weights = self.evidence[row][run] if evidence else [0.0] * STATES
                    weights = [c * math.exp(e) for c, e in zip(crossed, log_weights, strict=True)]
                    belief = [w / sum(weights) for w in weights]
                beliefs.append(belief)
                if self.policy.token_filtering:
                    seen = self.emissions[row][t]
                    weights = [b * math.exp(e) for b, e in zip(belief, seen, strict=True)]
                    belief = [w / sum(weights) for w in weights]
            found.append(beliefs)
        return found

    def gates(self, **changes):
        return [[self.gate(belief) for belief in row] for row in self.beliefs(**changes)]

    def losses(self, gates):
        """[(row, t, NLL)] of every target that has a gate."""
        return [
            (row, t, -math.log(sum(g * math.exp(e) for g, e in zip(gate, self.emissions[row][t], strict=True))))
            for row, of_row in enumerate(gates)
            for t, gate in enumerate(of_row)
        ]


def mean_loss(plains, gates_of):
    losses = [loss for plain in plains for _, _, loss in plain.losses(gates_of(plain))]
    return math.fsum(losses) / len(losses)


@pytest.fixture
def plains(planned, batches):
    return [Plain(planned, batch) for batch in batches]


@pytest.fixture
def found(planned, batches):
    return planner_diagnostics(planned, batches, top_tokens=4)


class TestDeltas:
    def test_nll(self, found, plains, planned, batches):
        assert found.nll == pytest.approx(mean_loss(plains, Plain.gates), abs=1e-10)
        assert found.nll == pytest.approx(evaluate(planned, batches).nll, abs=1e-12)
        assert found.targets == 28 + 15 + 5

    def test_a_uniform_gate(self, found, plains):
        uniform = mean_loss(plains, lambda plain: [[[1 / STATES] * STATES] * n for n in plain.lengths])
        assert found.planner_mask_delta_loss == pytest.approx(uniform - found.nll, abs=1e-10)

    def test_no_feedback(self, found, plains, planned):
        if isinstance(planned.config, V1Config):
            assert found.feedback_delta_loss is None
            return
        plain = mean_loss(plains, lambda p: [[p.gate(b, feedback_scale=0.0) for b in row] for row in p.beliefs()])
        assert found.feedback_delta_loss == pytest.approx(plain - found.nll, abs=1e-10)
        assert (found.feedback_delta_loss == 0) is (planned.policy.feedback_scale == 0)

    def test_no_evidence(self, found, plains):
        changed = mean_loss(plains, lambda plain: plain.gates(evidence=False))
        assert found.evidence_off_delta_loss == pytest.approx(changed - found.nll, abs=1e-10)
        assert abs(found.evidence_off_delta_loss) > 1e-6

    def test_a_belief_that_never_changes(self, found, plains, planned, batches):
        changed = mean_loss(plains, lambda plain: [[plain.gate(plain.initial)] * n for n in plain.lengths])
        assert found.frozen_delta_loss == pytest.approx(changed - found.nll, abs=1e-10)
        frozen = evaluate(planned, batches, policy=replace(planned.policy, freeze_after=0))
        assert found.frozen_delta_loss == pytest.approx(frozen.nll - found.nll, abs=1e-10)
        assert abs(found.frozen_delta_loss) > 1e-6

    def test_a_reset_at_every_boundary(self, found, plains):
        stationary = torch.tensor(plains[0].initial, dtype=torch.float64)
        for _ in range(10_000):
            stationary = stationary @ torch.tensor(plains[0].transition, dtype=torch.float64)
        changed = mean_loss(plains, lambda plain: plain.gates(reset=stationary.tolist()))
        assert found.boundary_reset_delta_loss == pytest.approx(changed - found.nll, abs=1e-9)
        assert abs(found.boundary_reset_delta_loss) > 1e-6

    def test_beliefs_of_another_row(self, found, plains):
        changes = []
        for plain in plains:
            beliefs, own = plain.beliefs(), {(row, t): loss for row, t, loss in plain.losses(plain.gates())}
            rows = len(beliefs)
            if rows == 1:
                continue
            other = [beliefs[(row + rows // 2) % rows] for row in range(rows)]
            gates = [[plain.gate(b) for b in theirs[:n]] for theirs, n in zip(other, plain.lengths, strict=True)]
            changes += [loss - own[row, t] for row, t, loss in plain.losses(gates)]
        assert found.shuffled_belief_delta_loss == pytest.approx(math.fsum(changes) / len(changes), abs=1e-10)


class TestStates:
    def test_divergences_usage_and_words(self, found, plains, planned):
        """Two nested loops over states and tokens."""
        hidden = torch.cat([plain.found.hidden for plain in plains])
        gates = torch.tensor([gate for plain in plains for row in plain.gates() for gate in row], dtype=torch.float64)
        probs = planned.head(hidden).softmax(-1).detach().double().cpu()

        def entropy(p):
            return -(p * p.log()).sum(-1)

        matrix = [
            [
                float(
                    (
                        entropy((probs[:, i] + probs[:, j]) / 2) - (entropy(probs[:, i]) + entropy(probs[:, j])) / 2
                    ).mean()
                )
                for j in range(STATES)
            ]
            for i in range(STATES)
        ]
        for ours, theirs in zip(found.forced_state_matrix, matrix, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-10)
        assert found.forced_state_divergence == found.forced_state_matrix[0][1]
        assert found.plan_js_div_loss == pytest.approx((matrix[0][1] + matrix[0][2] + matrix[1][2]) / 3, abs=1e-10)
        mixture = torch.einsum("nk,nkv->nv", gates, probs)
        information = entropy(mixture) - (gates * entropy(probs)).sum(-1)
        assert found.plan_mi == pytest.approx(float(information.mean()), abs=1e-10)
        lift = probs.mean(0) / mixture.mean(0)
        for state, ours in enumerate(found.states):
            wanted = sorted(
                (v for v in range(VOCAB) if lift[state, v] > 1 and probs[:, state, v].mean() >= 1 / VOCAB),
                key=lambda v: -lift[state, v],
            )[:4]
            assert [token.id for token in ours.tokens] == wanted
            assert [token.lift for token in ours.tokens] == pytest.approx(lift[state, wanted].tolist())
            losses = [-e[state] for p in plains for row, n in zip(p.emissions, p.lengths, strict=True) for e in row[:n]]
            assert ours.forced_nll == pytest.approx(math.fsum(losses) / len(losses), abs=1e-10)

    @pytest.mark.parametrize(("states", "every"), [(8, 1), (9, 3), (16, 5)])
    def test_many_states_are_compared_at_an_even_sample(self, device, batches, states, every):
        """All pairs by hand, at every third target of a batch for 9 states."""
        model = make(V2Config, device, **{**SIZES, "num_plan_states": states})
        found = planner_diagnostics(model, batches)
        with torch.no_grad():
            probs = [model.head(read_batch(model, batch).hidden).softmax(-1).cpu() for batch in batches]
        sample = torch.cat([of_batch[torch.arange(len(of_batch)) % every == 0] for of_batch in probs])
        assert len(sample) == {1: 48, 3: 10 + 5 + 2, 5: 6 + 3 + 1}[every]

        def divergence(p, q):
            middle = (p + q) / 2
            return float(((p * (p / middle).log()).sum(-1) + (q * (q / middle).log()).sum(-1)).mean() / 2)

        for i, row in enumerate(found.forced_state_matrix):
            wanted = [divergence(sample[:, i], sample[:, j]) for j in range(states)]
            assert row == pytest.approx(wanted, abs=1e-10)
        above = [found.forced_state_matrix[i][j] for i in range(states) for j in range(i + 1, states)]
        assert found.plan_js_div_loss == pytest.approx(math.fsum(above) / len(above), abs=1e-12)
        assert found.forced_state_divergence == found.forced_state_matrix[0][1]
        every_target = divergence(*torch.cat(probs)[:, :2].unbind(1))
        assert (found.forced_state_divergence == pytest.approx(every_target, abs=1e-12)) is (every == 1)

    def test_the_chain(self, found, plains):
        for ours, row in zip(found.states, plains[0].transition, strict=True):
            assert ours.transition == pytest.approx(row)
        stationary = [state.stationary for state in found.states]
        moved = [
            sum(s * row[j] for s, row in zip(stationary, plains[0].transition, strict=True)) for j in range(STATES)
        ]
        assert moved == pytest.approx(stationary, abs=1e-10)


class TestChunks:
    def test_usage_persistence_and_entropy_by_loops(self, found, plains, planned):
        """Chunk c's inputs begin with number cL; the plan in force there has the belief of its first target."""
        starts = []
        for plain in plains:
            for row, length in zip(plain.beliefs(), plain.lengths, strict=True):
                # Target cL follows input cL. It is the chunk's first in V1, the second in V2.
                first = [max(0, c * CHUNK - planned.chunks.offset) for c in range(math.ceil(length / CHUNK))]
                starts.append([row[t] for t in first])
        every = [belief for row in starts for belief in row]
        usage = [math.fsum(belief[k] for belief in every) / len(every) for k in range(STATES)]
        assert [state.usage for state in found.states] == pytest.approx(usage, abs=1e-10)
        entropy = -sum(u * math.log(u) for u in usage)
        assert found.expert_utilization == pytest.approx(entropy / math.log(STATES), abs=1e-10)
        if not isinstance(planned.config, V1Config):  # V1's is about every target
            assert found.usage_kl_to_uniform == pytest.approx(math.log(STATES) - entropy, abs=1e-10)
        entropies = [-sum(b * math.log(b) for b in belief) for belief in every]
        assert found.boundary_entropy == pytest.approx(math.fsum(entropies) / len(entropies), abs=1e-10)
        likeliest = [[belief.index(max(belief)) for belief in row] for row in starts]
        same = [a == b for row in likeliest for a, b in itertools.pairwise(row)]
        assert found.state_persistence == pytest.approx(sum(same) / len(same))

    def test_beliefs_after_each_target_by_loops(self, found, plains, planned, batches):
        """Entropy in both versions; KL of their mean in V1, whose other figures are those of `evaluate`."""
        after = []
        for plain in plains:
            for row, beliefs in enumerate(plain.beliefs()):
                for t, belief in enumerate(beliefs):
                    seen = plain.emissions[row][t] if planned.policy.token_filtering else [0.0] * STATES
                    weights = [b * math.exp(e) for b, e in zip(belief, seen, strict=True)]
                    after.append([w / sum(weights) for w in weights])
        entropies = [-sum(b * math.log(b) for b in belief) for belief in after]
        assert found.belief_entropy == pytest.approx(math.fsum(entropies) / len(entropies), abs=1e-10)
        if not isinstance(planned.config, V1Config):
            assert found.chunk_bow is found.chunk_post_kl is None
            return
        mean = [math.fsum(belief[k] for belief in after) / len(after) for k in range(STATES)]
        wanted = math.log(STATES) + sum(m * math.log(m) for m in mean)
        assert found.usage_kl_to_uniform == pytest.approx(wanted, abs=1e-10)
        assert abs(found.usage_kl_to_uniform - math.log(STATES) * (1 - found.expert_utilization)) > 1e-6
        same = evaluate(planned, batches)
        for name, theirs in (
            ("usage_kl_to_uniform", same.usage_kl),
            ("belief_entropy", same.belief_entropy),
            ("plan_mi", same.plan_mi),
            ("chunk_bow", same.chunk_bow),
            ("chunk_post_kl", same.chunk_post_kl),
        ):
            assert getattr(found, name) == pytest.approx(theirs, abs=1e-12), name
        assert found.chunk_post_kl > 1e-6

    def test_the_contrast_is_the_loss_terms_mean_weighted_by_chunks(self, found, plains, planned):
        if isinstance(planned.config, V1Config):
            assert found.future_contrastive_loss is None
            return
        total = count = 0.0
        for plain in plains:
            with torch.no_grad():
                starts = chunk_starts(planned, plain.found)
                term = future_contrastive(
                    starts.state,
                    planned.planner.plan_state_emb.weight,
                    planned.planner.future_proj(starts.summary),
                    horizon=planned.config.future_horizon_chunks,
                    temperature=planned.policy.temperature,
                    valid=starts.valid,
                )
            total += float(term) * int(starts.valid.sum())
            count += int(starts.valid.sum())
        assert found.future_contrastive_loss == pytest.approx(total / count, abs=1e-6)


class TestKnownAnswers:
    def test_states_that_are_alike_do_not_matter(self, device, make_batch):
        model = make(V2Config, device, **SIZES)
        with torch.no_grad():
            model.head.weight.view(STATES, VOCAB, -1)[:] = model.head.weight.view(STATES, VOCAB, -1)[:1].clone()
            model.head.bias[:] = model.head.bias[:1].clone()
        found = planner_diagnostics(model, [make_batch([10, 8])])
        names = ("planner_mask", "shuffled_belief", "frozen", "boundary_reset", "evidence_off")
        for value in (*(getattr(found, f"{name}_delta_loss") for name in names), found.plan_mi, found.plan_js_div_loss):
            assert value == pytest.approx(0, abs=1e-12)
        lifts = [token.lift for state in found.states for token in state.tokens]
        assert lifts == pytest.approx([1.0] * len(lifts), abs=1e-12)

    def test_a_plan_that_stays_and_speaks_a_language_of_its_own(self, device):
        """State k says id k alone; a row holds one id: the plan is known after its first target and never changes."""
        model = make(V2Config, device, spread=0.0, **{**SIZES, "boundary_evidence": False})
        with torch.no_grad():
            model.head.weight.zero_()
            model.head.bias.fill_(-20.0)
            for k in range(STATES):
                model.head.bias[k, k] = 20.0
            model.planner.initial_logits.zero_()
            model.planner.transition_logits.copy_(40 * torch.eye(STATES))
        ids = torch.arange(STATES, device=model.device).unsqueeze(1).expand(-1, 12)
        found = planner_diagnostics(model, [TokenBatch(ids, ids, torch.full((STATES,), 12, device=model.device))])
        surprise = math.log(STATES)
        assert found.nll == pytest.approx(surprise / 12, abs=1e-9)  # each row's first target, and nothing after it
        assert found.planner_mask_delta_loss == pytest.approx(surprise * 11 / 12, abs=1e-9)
        assert found.frozen_delta_loss == pytest.approx(surprise * 11 / 12, abs=1e-9)  # pi is uniform here
        # Four boundaries in 12 targets, before targets 2, 5, 8 and 11: the plan is asked for again after each.
        assert found.boundary_reset_delta_loss == pytest.approx(surprise * 4 / 12, abs=1e-9)
        # Sure of another row's state, every target but the first has a probability between e^-40 and 3 e^-40.
        assert (40 - math.log(3)) * 11 / 12 <= found.shuffled_belief_delta_loss <= 40 * 11 / 12
        assert found.evidence_off_delta_loss is None
        # The first chunk starts with no favourite, which reads as state 0: rows 1 and 2 seem to change once.
        assert found.state_persistence == pytest.approx(7 / 9)
        assert found.expert_utilization == pytest.approx(1.0)
        assert found.forced_state_divergence == pytest.approx(math.log(2), abs=1e-9)
        assert [[token.id for token in state.tokens] for state in found.states] == [[0], [1], [2]]
        assert [token.lift for state in found.states for token in state.tokens] == pytest.approx([STATES] * STATES)

    def test_a_belief_that_is_sure_of_one_state(self, device, make_batch):
        model = make(V2Config, device, **{**SIZES, "boundary_evidence": False})
        with torch.no_grad():
            model.planner.initial_logits.copy_(torch.tensor([200.0, 0.0, 0.0]))
            model.planner.transition_logits.copy_(torch.tensor([[200.0, 0.0, 0.0]] * STATES))
        found = planner_diagnostics(model, [make_batch([10, 8])])
        assert found.expert_utilization == pytest.approx(0, abs=1e-9)
        assert found.nll == pytest.approx(found.states[0].forced_nll, abs=1e-9)
        assert found.shuffled_belief_delta_loss == pytest.approx(0, abs=1e-9)


class TestVersions:
    CHAIN = (
        "frozen_delta_loss",
        "boundary_reset_delta_loss",
        "evidence_off_delta_loss",
        "feedback_delta_loss",
        "state_persistence",
        "boundary_entropy",
        "belief_entropy",
        "chunk_bow",
        "chunk_post_kl",
        "future_contrastive_loss",
    )

    def test_a_control_without_memory_has_what_makes_sense(self, device, batches):
        model = make(MixtureOfSoftmaxesConfig, device, num_plan_states=STATES, token_dim=5, hidden_dim=7)
        found = planner_diagnostics(model, batches)
        uniform = evaluate(model, batches, policy=PlanPolicy(mode="uniform")).nll
        assert found.planner_mask_delta_loss == pytest.approx(uniform - found.nll, abs=1e-10)
        gates = torch.cat([read_batch(model, batch).log_gate.exp().detach() for batch in batches])
        assert [state.usage for state in found.states] == pytest.approx(gates.mean(0).tolist())
        assert found.shuffled_belief_delta_loss is not None
        assert found.plan_mi == pytest.approx(evaluate(model, batches).plan_mi)
        assert all(getattr(found, name) is None for name in self.CHAIN)
        assert all(state.transition is state.stationary is None for state in found.states)

    @pytest.mark.parametrize(
        ("form", "sizes"), [(TransformerLMConfig, {}), (V2Config, {"num_plan_states": 1, "chunk_size": 3})]
    )
    def test_one_state_leaves_the_nll(self, device, batches, form, sizes):
        model = make(form, device, token_dim=5, hidden_dim=7, **sizes)
        found = planner_diagnostics(model, batches)
        assert found.nll == pytest.approx(evaluate(model, batches).nll)
        assert found.states == ()
        assert all(value is None for value in found._asdict().values() if not isinstance(value, int | float | tuple))

    def test_one_row_and_one_chunk_leave_nothing_to_compare(self, device, make_batch):
        model = make(V2Config, device, **SIZES)
        found = planner_diagnostics(model, [make_batch([2])])
        assert found.shuffled_belief_delta_loss is None
        assert found.state_persistence is None
        assert found.future_contrastive_loss is None
        assert found.planner_mask_delta_loss is not None

    @pytest.mark.parametrize("changes", [{"freeze_after": 4}, {"force_state": 1}, {"mode": "uniform"}])
    def test_a_policy_is_what_is_measured_from(self, device, batches, changes):
        model = make(V2Config, device, **{**SIZES, **STEERED})
        policy = replace(model.policy, **changes)
        found = planner_diagnostics(model, batches, policy=policy)
        assert found.nll == pytest.approx(evaluate(model, batches, policy=policy).nll)
        if "freeze_after" not in changes:
            for name in ("shuffled_belief", "frozen", "boundary_reset", "evidence_off"):
                assert getattr(found, f"{name}_delta_loss") == pytest.approx(0, abs=1e-12)

    def test_rows_of_several_documents(self, device, make_batch):
        """The same documents as rows of their own, or in one row with restarts."""
        model = make(V2Config, device, **SIZES)
        batch = make_batch([12])
        clock = torch.arange(12, device=batch.inputs.device) % 6
        joined = planner_diagnostics(model, [batch._replace(positions=clock.unsqueeze(0))])
        apart = planner_diagnostics(
            model, [TokenBatch(batch.inputs.view(2, 6), batch.targets.view(2, 6), batch.lengths.new_tensor([6, 6]))]
        )
        for name in ("nll", "planner_mask_delta_loss", "boundary_reset_delta_loss", "evidence_off_delta_loss"):
            assert getattr(joined, name) == pytest.approx(getattr(apart, name), abs=1e-10)
        for name in ("state_persistence", "expert_utilization", "plan_mi", "future_contrastive_loss"):
            assert getattr(joined, name) == pytest.approx(getattr(apart, name), abs=1e-6)

    def test_mode_random_state_and_gradients_are_left_alone(self, device, batches):
        model = make(V2Config, device, **SIZES, dropout=0.5).train()
        before = torch.get_rng_state()
        assert planner_diagnostics(model, batches) == planner_diagnostics(model, batches)
        assert torch.equal(torch.get_rng_state(), before)
        assert model.training
        assert all(parameter.grad is None for parameter in model.parameters())

    def test_refusals(self, device, make_batch):
        model = make(V2Config, device, **SIZES)
        with pytest.raises(ValueError, match=r"^evaluation needs at least one batch with a target$"):
            planner_diagnostics(model, [])
        with pytest.raises(ValueError, match="force_state must be between 0 and 2, got 3"):
            planner_diagnostics(model, [make_batch([3])], policy=PlanPolicy(force_state=3))
        with torch.no_grad():
            model.head.bias[:, 9] = -math.inf
        batch = make_batch([4])
        batch.targets[0, 2] = 9
        with pytest.raises(ImpossibleObservationError, match="target 2 of row 0"):
            planner_diagnostics(model, [batch])
