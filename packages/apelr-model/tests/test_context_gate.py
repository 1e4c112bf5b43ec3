"""The controls: an ordinary mixture of softmaxes, and an ordinary language model, against plain references."""

import math

import pytest
import torch

from apelr_model import MixtureOfSoftmaxesConfig, NoLossWeights, PlanPolicy, TransformerLMConfig, evaluate, score
from apelr_model.context_gate import ContextGate
from apelr_model.objective import loss_terms, total_loss


def some_ids(model, rows=2, count=9):
    return torch.randint(0, 11, (rows, count), generator=torch.Generator().manual_seed(0)).to(model.device)


def read(model, ids, **extra):
    with torch.no_grad():
        return model.read(ids[:, :-1], ids[:, 1:], **extra)


def test_a_mixture_of_softmaxes_is_its_formula(make_model, executor_sizes):
    """p(y | h) = sum_k softmax(W h + b)_k softmax(W_k h + b_k)_y, term by term with Python floats."""
    model = make_model(kind=MixtureOfSoftmaxesConfig, **executor_sizes)
    ids = some_ids(model)
    reading = read(model, ids)
    weight, bias = model.head.weight.view(3, 11, 8).tolist(), model.head.bias.tolist()
    gate_weight, gate_bias = model.planner.gate_proj.weight.tolist(), model.planner.gate_proj.bias.tolist()

    def softmax(rows, offsets, vector):
        scores = [
            math.exp(math.fsum(w * x for w, x in zip(row, vector, strict=True)) + o)
            for row, o in zip(rows, offsets, strict=True)
        ]
        return [s / math.fsum(scores) for s in scores]

    for row in range(2):
        for t in range(8):
            hidden = reading.hidden[row, t].tolist()
            gate = softmax(gate_weight, gate_bias, hidden)
            target = int(ids[row, t + 1])
            joint = [g * softmax(weight[k], bias[k], hidden)[target] for k, g in enumerate(gate)]
            assert reading.filtered.token_log_prob[row, t].item() == pytest.approx(
                math.log(math.fsum(joint)), abs=1e-10
            )
            assert reading.filtered.log_gate[row, t].exp().tolist() == pytest.approx(gate, abs=1e-10)
            earned = [j / math.fsum(joint) for j in joint]
            assert reading.filtered.log_belief_after[row, t].exp().tolist() == pytest.approx(earned, abs=1e-10)


def test_a_transformer_lm_is_cross_entropy_on_the_executor(make_model, make_batch, executor_sizes):
    """Value and gradient of every parameter, of ragged rows."""
    model, plain = (make_model(kind=TransformerLMConfig, **executor_sizes).train() for _ in range(2))
    batch = make_batch([9, 4, 7])
    terms = loss_terms(model, batch, NoLossWeights())
    total_loss(terms, NoLossWeights(), 0).backward()
    hidden, _ = plain.executor(batch.inputs, plain.executor.initial_carry(3), lengths=batch.lengths)
    logits = hidden @ plain.head.weight.T + plain.head.bias[0]
    wanted = torch.nn.functional.cross_entropy(logits[batch.valid], batch.targets[batch.valid])
    wanted.backward()
    torch.testing.assert_close(terms.nll, wanted)
    assert terms.usage.tolist() == [1.0]
    for (name, a), b in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_one_head_makes_a_mixture_an_ordinary_language_model(make_model):
    one = make_model(kind=MixtureOfSoftmaxesConfig, num_plan_states=1)
    plain = make_model(kind=TransformerLMConfig)
    plain.load_state_dict(one.state_dict())
    ids = some_ids(one)
    assert torch.equal(read(one, ids).filtered.token_log_prob, read(plain, ids).filtered.token_log_prob)


def test_all_there_is_are_distributions(make_model, version):
    model = make_model(kind=version)
    filtered = read(model, some_ids(model)).filtered
    for log_weights in (filtered.log_belief, filtered.log_belief_after, filtered.log_gate, filtered.log_start):
        sums = log_weights.exp().sum(-1)
        torch.testing.assert_close(sums, torch.ones_like(sums))


def test_the_gate_has_no_memory(make_model):
    """With the executor silenced, all positions have one gate, whatever was seen."""
    model = make_model(kind=MixtureOfSoftmaxesConfig)
    with torch.no_grad():
        for parameter in model.executor.gru.parameters():
            parameter.zero_()
    gate = read(model, some_ids(model)).filtered.log_gate
    assert bool((gate == gate[0, 0]).all())
    assert model.planner.gate_proj.bias.detach().log_softmax(-1).tolist() == pytest.approx(gate[0, 0].tolist())


def test_there_is_one_chunk_however_long_the_text(make_model):
    model = make_model(kind=MixtureOfSoftmaxesConfig)
    found = score(model, some_ids(model, rows=1, count=40)[0].tolist())
    assert set(found.chunk_index) == {0}
    reading = read(model, some_ids(model))
    assert reading.segments.runs == 1
    assert reading.evidence is None


def test_forced_and_uniform_gates(make_model):
    model = make_model(kind=MixtureOfSoftmaxesConfig)
    ids = some_ids(model)
    free = read(model, ids)
    for state in range(3):
        forced = read(model, ids, policy=PlanPolicy(force_state=state)).filtered.token_log_prob
        torch.testing.assert_close(forced, free.state_log_probs[..., state])
    uniform = read(model, ids, policy=PlanPolicy(mode="uniform")).filtered.token_log_prob
    torch.testing.assert_close(uniform, free.state_log_probs.logsumexp(-1) - math.log(3))


def test_the_gate_is_computed_in_float32_under_autocast(device):
    torch.manual_seed(0)
    gate = ContextGate(num_plan_states=3, hidden_dim=4).to(device)
    hidden = torch.randn(2, 5, 4, device=device).bfloat16()
    state = gate.initial_state(2)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        entered, log_gate = gate.enter(state, hidden[:, 0], PlanPolicy())
    wanted = gate.gate_proj(hidden[:, 0].float()).double().log_softmax(-1)
    torch.testing.assert_close(log_gate, wanted)
    assert torch.equal(entered.log_belief, log_gate)


def test_a_gate_over_one_state_has_no_parameters():
    assert list(ContextGate(num_plan_states=1, hidden_dim=4).parameters()) == []
    assert ContextGate(num_plan_states=1, hidden_dim=4).state_dict() == {}


@pytest.mark.parametrize("kind", [MixtureOfSoftmaxesConfig, TransformerLMConfig])
def test_evaluation_of_a_control(make_model, make_batch, kind):
    model = make_model(kind=kind)
    batch = make_batch([9, 4])
    found = evaluate(model, [batch], text_bytes=20)
    assert found.chunk_bow is None
    assert found.chunk_post_kl is None
    assert len(found.usage) == model.num_plan_states
    assert sum(found.usage) == pytest.approx(1)
    if kind is TransformerLMConfig:
        assert (found.belief_entropy, found.usage_kl, found.usage) == (0.0, 0.0, (1.0,))
        assert found.plan_mi == pytest.approx(0, abs=1e-12)
    else:
        assert found.plan_mi > 1e-3
        assert 0 < found.belief_entropy < math.log(3)
