"""V2, and every use of the belief: against path enumeration and a plain reference that knows no logarithms.

Whole sequences, pieces, single steps, ragged rows and rows at different positions must all agree.
"""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_model import MixtureOfSoftmaxesConfig, PlanPolicy, TransformerLMConfig, V1Config, V2Config
from apelr_model.executor_config import TransformerConfig
from apelr_model.policy import EXACT
from apelr_model.policy_check import policy_fields

ONE_POLICY = {
    V1Config: ("mode", "force_state", "freeze_after"),
    V2Config: tuple(field.name for field in dataclasses.fields(PlanPolicy)),
    MixtureOfSoftmaxesConfig: ("mode", "force_state"),
    TransformerLMConfig: (),
}


@st.composite
def policies(draw, kind=V2Config, states=3, steps=10):
    """Any policy that a version can obey, with one intervention on the gate at most."""
    fields = {
        "temperature": st.sampled_from((1.0, 0.5, 1.7)),
        "lookahead_horizon": st.integers(1, 4),
        "feedback_scale": st.sampled_from((0.0, 0.3, 1.0)),
        "token_filtering": st.booleans(),
        "freeze_after": st.one_of(st.none(), st.integers(0, steps)),
    }
    chosen = {name: draw(values) for name, values in fields.items() if name in ONE_POLICY[kind]}
    gate = draw(st.sampled_from(("normal", "normal", "uniform", "forced"))) if ONE_POLICY[kind] else "normal"
    if gate == "uniform":
        chosen["mode"] = "uniform"
    if gate == "forced":
        chosen["force_state"] = draw(st.integers(0, states - 1))
    return PlanPolicy(**chosen)


def some_ids(model, rows, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, model.vocab_size, (rows, count), generator=generator).to(model.device)


def with_zeros(model, seed):
    """Some starts, moves and words impossible; every row keeps a possibility."""
    generator = torch.Generator().manual_seed(seed)
    tables = [model.planner.initial_logits.view(1, -1), model.planner.transition_logits, head_bias(model)]
    for table in tables:
        lost = (torch.rand(table.shape, generator=generator) < 0.3).to(table.device)
        lost[:, 0] = False
        with torch.no_grad():
            table[lost] = -math.inf
    return model


def head_bias(model):
    return model.head.bias if isinstance(model.config, V2Config) else model.head.plan_vocab_bias


def plan(model):
    return model.planner.initial_logits.softmax(-1).tolist(), model.planner.transition_logits.softmax(-1).tolist()


def assert_probabilities(log_values, wanted):
    wanted = torch.tensor(wanted, dtype=torch.float64)
    assert not log_values.isnan().any()
    assert (log_values.exp().cpu() - wanted).abs().max() <= 1e-10


@settings(max_examples=25)
@given(
    states=st.integers(1, 3),
    chunk_size=st.integers(1, 4),
    evidence=st.booleans(),
    filtering=st.booleans(),
    zeros=st.booleans(),
    data=st.data(),
    seed=st.integers(0, 1000),
)
def test_version_2_is_the_enumeration_over_all_plans(
    make_model, plain_model, enumerate_paths, states, chunk_size, evidence, filtering, zeros, data, seed
):
    """Chunks (t + 1) // L: the first has L - 1 targets, none with L = 1; evidence from the mean over L inputs."""
    model = make_model(
        kind=V2Config,
        num_plan_states=states,
        chunk_size=chunk_size,
        boundary_evidence=evidence,
        planner_context_scale=0.5,
        token_filtering=filtering,
        seed=seed,
    )
    if zeros:
        with_zeros(model, seed)
    steps = data.draw(st.integers(1, max(1, 3 * chunk_size - 1)))
    ids = some_ids(model, 1, steps + 1, seed)
    with torch.no_grad():
        reading = model.read(ids[:, :-1], ids[:, 1:])
    words, boundaries = plain_model(model, ids[0, :-1].tolist())
    index = [(t + 1) // chunk_size for t in range(steps)]
    chosen = [[words[t][k][y] for k in range(states)] for t, y in enumerate(ids[0, 1:].tolist())]
    logs = [[math.log(p) if p else -math.inf for p in of_states] for of_states in chosen]
    by_chunk = {index[t]: of_chunk for t, of_chunk in boundaries.items()}
    assert sorted(by_chunk) == list(range(1, index[-1] + 1))
    # Without token filtering the belief never learns from a token: the paths' weights hold no likelihoods.
    learnt = logs if filtering else [[0.0] * states for _ in logs]
    probabilities, before, after = enumerate_paths(learnt, *plan(model), index, by_chunk)
    if not filtering:
        probabilities = [
            math.fsum(b * p for b, p in zip(*pair, strict=True)) for pair in zip(before, chosen, strict=True)
        ]
    assert_probabilities(reading.filtered.token_log_prob[0], probabilities)
    assert_probabilities(reading.filtered.log_belief[0], before)
    assert_probabilities(reading.filtered.log_belief_after[0], after)
    assert_probabilities(reading.filtered.log_gate[0], before)
    assert model.chunks.chunks(reading.positions)[0].tolist() == index


@pytest.mark.parametrize("kind", [V1Config, V2Config])
@settings(max_examples=40)
@given(
    states=st.integers(1, 4),
    chunk_size=st.integers(1, 4),
    evidence=st.booleans(),
    zeros=st.booleans(),
    steps=st.integers(1, 11),
    data=st.data(),
    seed=st.integers(0, 1000),
)
def test_every_policy_equals_the_plain_reference(
    make_model, plain_model, plain_policy, kind, states, chunk_size, evidence, zeros, steps, data, seed
):
    model = make_model(
        kind=kind, num_plan_states=states, chunk_size=chunk_size, boundary_evidence=evidence, hidden_dim=4, seed=seed
    )
    if zeros:
        with_zeros(model, seed)
    policy = data.draw(policies(kind, states, steps))
    ids = some_ids(model, 1, steps + 1, seed)
    with torch.no_grad():
        found = model.read(ids[:, :-1], ids[:, 1:], policy=policy).filtered
    words, boundaries = plain_model(model, ids[0, :-1].tolist())
    expected = plain_policy(words, ids[0, 1:].tolist(), boundaries, *plan(model), policy)
    tensors = (found.token_log_prob, found.log_belief, found.log_gate, found.log_belief_after)
    for tensor, wanted in zip(tensors, zip(*expected, strict=True), strict=True):
        assert_probabilities(tensor[0], wanted)


def walk(model, ids, policy):
    """What `read` gives, one token at a time: token_log_prob, log_belief, log_gate, log_belief_after, and the state."""
    state = model.initial_state(len(ids))
    found = ([], [], [], [])
    for t in range(ids.shape[1] - 1):
        prediction = model.predict(ids[:, t], state, policy=policy)
        sums = prediction.log_probs.exp().sum(-1)
        torch.testing.assert_close(sums, torch.ones_like(sums))
        state = model.observe(prediction, ids[:, t + 1], policy=policy)
        chosen = prediction.log_probs.gather(1, ids[:, t + 1 : t + 2])[:, 0]
        after = state.log_belief
        for values, new in zip(found, (chosen, prediction.log_belief, prediction.log_gate, after), strict=True):
            values.append(new)
    return [torch.stack(values, dim=1) for values in found], state


def quantities(filtered):
    return [filtered.token_log_prob, filtered.log_belief, filtered.log_gate, filtered.log_belief_after]


def assert_close(found, wanted, tolerance=1e-10):
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def assert_same_plan(first, second):
    assert first.position.tolist() == second.position.tolist()
    assert_close(first.plan, second.plan)


SIZES = {"hidden_dim": 8, "num_layers": 2}
EXECUTORS = [{}, {"executor": TransformerConfig(num_heads=2, num_kv_heads=1, mlp_dim=12)}]
VERSIONS = list(ONE_POLICY)


def any_model(make_model, data):
    kind = data.draw(st.sampled_from(VERSIONS))
    sizes = SIZES | data.draw(st.sampled_from(EXECUTORS)) | {"seed": data.draw(st.integers(0, 20))}
    if kind in (V1Config, V2Config):
        sizes["chunk_size"] = data.draw(st.integers(1, 5))
    return make_model(kind=kind, **sizes), kind


class TestAgreement:
    """Every version, executor and policy: one answer, however a text is read."""

    @settings(max_examples=40)
    @given(steps=st.integers(1, 12), data=st.data())
    def test_single_steps_equal_the_whole(self, make_model, steps, data):
        model, kind = any_model(make_model, data)
        policy = data.draw(policies(kind, steps=steps))
        ids = some_ids(model, 2, steps + 1, steps)
        with torch.no_grad():
            whole = model.read(ids[:, :-1], ids[:, 1:], policy=policy)
            found, state = walk(model, ids, policy)
        assert_close(found, quantities(whole.filtered))
        assert_same_plan(state, whole.state)

    @settings(max_examples=40)
    @given(steps=st.integers(2, 14), data=st.data())
    def test_pieces_equal_the_whole(self, make_model, steps, data):
        model, kind = any_model(make_model, data)
        policy = data.draw(policies(kind, steps=steps))
        cuts = sorted(data.draw(st.sets(st.integers(1, steps - 1), max_size=3)))
        ids = some_ids(model, 2, steps + 1, steps)
        state, parts = None, []
        with torch.no_grad():
            whole = model.read(ids[:, :-1], ids[:, 1:], policy=policy)
            for start, end in zip([0, *cuts], [*cuts, steps], strict=True):
                inputs, targets = ids[:, start:end], ids[:, start + 1 : end + 1]
                reading = model.read(inputs, targets, state=state, policy=policy)
                state = reading.state
                parts.append(quantities(reading.filtered))
        assert_close([torch.cat(pieces, dim=1) for pieces in zip(*parts, strict=True)], quantities(whole.filtered))
        assert_same_plan(state, whole.state)

    @settings(max_examples=30)
    @given(lengths=st.lists(st.integers(0, 9), min_size=2, max_size=4), more=st.integers(1, 6), data=st.data())
    def test_ragged_rows_stand_and_go_on_as_each_would_alone(self, make_model, lengths, more, data):
        """After a right-padded reading rows are at different positions; from there both ways of going on agree."""
        model, kind = any_model(make_model, data)
        policy = data.draw(policies(kind, steps=max(lengths) + more))
        width = max(1, *lengths)
        ids = some_ids(model, len(lengths), width + 1, more)
        new = some_ids(model, len(lengths), more + 1, more + 50)
        new[:, 0] = ids[torch.arange(len(lengths)), torch.tensor(lengths)]
        with torch.no_grad():
            counts = torch.tensor(lengths, device=model.device)
            first = model.read(ids[:, :-1], ids[:, 1:], lengths=counts, policy=policy)
            on = model.read(new[:, :-1], new[:, 1:], state=first.state, policy=policy)
            stepped = model.predict(new[:, 0], first.state, policy=policy)
            for row, length in enumerate(lengths):
                text = torch.cat([ids[row : row + 1, :length], new[row : row + 1]], dim=1)
                alone = model.read(text[:, :-1], text[:, 1:], policy=policy)
                whole = [values[0] for values in quantities(alone.filtered)]
                padded = [values[row, :length] for values in quantities(first.filtered)]
                assert_close(padded, [values[:length] for values in whole])
                assert_close([values[row] for values in quantities(on.filtered)], [values[length:] for values in whole])
                assert_close([stepped.log_belief[row], stepped.log_gate[row]], [whole[1][length], whole[2][length]])
                own = model.select_rows(on.state, torch.tensor([row], device=model.device))
                assert_same_plan(own, alone.state)

    def test_padding_gives_nothing_and_reads_nothing(self, make_model, version, executor_sizes):
        model = make_model(kind=version, **executor_sizes)
        ids = some_ids(model, 2, 9)
        lengths = torch.tensor([8, 3], device=model.device)
        other = ids.clone()
        other[1, 4:] = (other[1, 4:] + 1) % 11
        with torch.no_grad():
            first, second = (model.read(x[:, :-1], x[:, 1:], lengths=lengths) for x in (ids, other))
        assert first.filtered.token_log_prob[1, 3:].tolist() == [0.0] * 5
        assert_close(quantities(first.filtered)[0][1:], quantities(second.filtered)[0][1:], 0)
        assert_same_plan(first.state, second.state)


class TestPoliciesInWords:
    """What the policies promise, on whole sequences."""

    def read(self, model, policy, ids):
        with torch.no_grad():
            return model.read(ids[:, :-1], ids[:, 1:], policy=policy).filtered

    @pytest.mark.parametrize("kind", [V1Config, V2Config])
    def test_frozen_from_the_start_is_the_initial_distribution_throughout(self, make_model, kind):
        model = make_model(kind=kind)
        found = self.read(model, PlanPolicy(freeze_after=0), some_ids(model, 1, 12))
        start = model.planner.log_initial().detach()
        torch.testing.assert_close(found.log_belief[0], start.expand(11, -1))
        torch.testing.assert_close(found.log_belief_after[0], start.expand(11, -1))

    @pytest.mark.parametrize("kind", [V1Config, V2Config])
    @pytest.mark.parametrize("freeze", [1, 3, 4, 5, 8, 20])
    def test_frozen_later_is_the_unfrozen_one_and_then_stays(self, make_model, kind, freeze):
        model = make_model(kind=kind)
        ids = some_ids(model, 1, 13)
        free, frozen = self.read(model, EXACT, ids), self.read(model, PlanPolicy(freeze_after=freeze), ids)
        assert_close([v[:, :freeze] for v in quantities(frozen)], [v[:, :freeze] for v in quantities(free)], 1e-12)
        kept = free.log_belief_after[0, min(freeze, 12) - 1]
        for t in range(freeze, 12):
            torch.testing.assert_close(frozen.log_belief[0, t], kept)

    def test_full_feedback_over_one_chunk_is_the_belief_one_chunk_on(self, make_model):
        model = make_model(kind=V2Config)
        found = self.read(model, PlanPolicy(feedback_scale=1.0), some_ids(model, 1, 10))
        wanted = found.log_belief.exp() @ model.planner.log_transition().detach().double().exp()
        torch.testing.assert_close(found.log_gate.exp(), wanted)

    @pytest.mark.parametrize("horizon", [1, 2, 5])
    def test_the_horizon_does_nothing_without_feedback(self, make_model, horizon):
        model = make_model(kind=V2Config)
        ids = some_ids(model, 1, 10)
        found = self.read(model, PlanPolicy(lookahead_horizon=horizon), ids)
        assert torch.equal(found.token_log_prob, self.read(model, EXACT, ids).token_log_prob)

    def test_a_low_temperature_leaves_the_likeliest_state_alone(self, make_model):
        model = make_model(kind=V2Config)
        found = self.read(model, PlanPolicy(temperature=1e-4), some_ids(model, 1, 10))
        one_hot = torch.nn.functional.one_hot(found.log_belief.argmax(-1), 3).double()
        torch.testing.assert_close(found.log_gate.exp(), one_hot)

    def test_the_policy_touches_no_belief_but_by_filtering_and_freezing(self, make_model):
        model = make_model(kind=V2Config)
        ids = some_ids(model, 1, 10)
        plain = self.read(model, EXACT, ids)
        for policy in (
            PlanPolicy(temperature=0.3, feedback_scale=0.7, lookahead_horizon=2),
            PlanPolicy(mode="uniform"),
            PlanPolicy(force_state=1),
        ):
            found = self.read(model, policy, ids)
            assert torch.equal(found.log_belief, plain.log_belief)
            assert torch.equal(found.log_belief_after, plain.log_belief_after)
            assert not torch.equal(found.token_log_prob, plain.token_log_prob)


def test_the_fields_tried_here_are_those_of_each_version(make_model):
    for kind, names in ONE_POLICY.items():
        assert policy_fields(make_model(kind=kind).config) == set(names)


def test_the_past_does_not_depend_on_the_future(make_model, version, executor_sizes):
    model = make_model(kind=version, **executor_sizes)
    ids = some_ids(model, 1, 13)
    other = ids.clone()
    other[:, 7:] = (other[:, 7:] + 1) % 11
    with torch.no_grad():
        first, second = (quantities(model.read(x[:, :-1], x[:, 1:]).filtered) for x in (ids, other))
    assert_close([values[:, :6] for values in first], [values[:, :6] for values in second], 1e-12)
    assert (first[0][:, 6] != second[0][:, 6]).all()


def test_float32_parameters_give_float64_beliefs(make_model, version):
    model = make_model(kind=version, dtype=torch.float32)
    ids = some_ids(model, 2, 6)
    with torch.no_grad():
        reading = model.read(ids[:, :-1], ids[:, 1:])
        prediction = model.predict(ids[:, 0], model.initial_state(2))
    assert reading.state_log_probs.dtype == torch.float32
    assert all(tensor.dtype == torch.float64 for tensor in reading.filtered)
    assert reading.state.log_belief.dtype == prediction.log_gate.dtype == torch.float64


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (V1Config, {}),
        (V1Config, {"freeze_after": 5}),
        (V2Config, {}),
        (V2Config, {"temperature": 0.6, "lookahead_horizon": 2, "feedback_scale": 0.4}),
        (V2Config, {"temperature": 1.8, "feedback_scale": 1.0, "token_filtering": False}),
        (MixtureOfSoftmaxesConfig, {}),
    ],
)
def test_the_nll_has_the_gradient_of_finite_differences(make_model, kind, fields):
    """In every parameter of the planner, and in the biases of the head."""
    model = make_model(kind=kind, **({"chunk_size": 3} if kind in (V1Config, V2Config) else {}))
    ids, policy = some_ids(model, 2, 9), PlanPolicy(**fields)
    lengths = torch.tensor([8, 6], device=model.device)
    own = ("recognizer", "plan_state_emb", "future_proj")  # the NLL does not depend on what only losses train
    names = [name for name, _ in model.planner.named_parameters(prefix="planner") if name.split(".")[1] not in own]
    names.append("head.plan_vocab_bias" if kind is V1Config else "head.bias")

    def nll(*values):
        changed = dict(zip(names, values, strict=True))
        reading = torch.func.functional_call(
            model, changed, (ids[:, :-1], ids[:, 1:]), {"policy": policy, "lengths": lengths}
        )
        return reading.filtered.token_log_prob.sum()

    model.forward = model.read
    values = [model.get_parameter(name).detach().clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(nll, values, eps=1e-6, atol=1e-6)
