"""Rows of several documents: each is read, filtered, trained on and counted as if it were alone."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_model import (
    MixtureOfSoftmaxesConfig,
    NoLossWeights,
    PlanPolicy,
    TokenBatch,
    TransformerLMConfig,
    V1Config,
    V1LossWeights,
    V2Config,
    V2LossWeights,
    evaluate,
)
from apelr_model.executor_config import TransformerConfig
from apelr_model.objective import TERM_NAMES, loss_terms, step_totals, total_loss

ALL = {
    V1Config: V1LossWeights(
        entropy_reg_weight=0.3,
        usage_balance_weight=0.4,
        chunk_bow_weight=0.5,
        plan_mi_weight=0.6,
        chunk_post_kl_weight=0.7,
    ),
    V2Config: V2LossWeights(
        usage_balance=0.3,
        boundary_entropy=0.4,
        future_contrastive=0.5,
        plan_js_div=0.6,
        rep_unlikelihood=0.7,
        rep_window=3,
    ),
    MixtureOfSoftmaxesConfig: NoLossWeights(),
    TransformerLMConfig: NoLossWeights(),
}
EXECUTORS = [{}, {"executor": TransformerConfig(num_heads=2, num_kv_heads=1, mlp_dim=12, window=5)}]
DOCUMENTS = [[4, 1, 6], [3], [1, 1, 1, 2], [5, 5]]

rows_of_documents = st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=3), min_size=1, max_size=3)


def pieces(batch, documents):
    """(row, first target, end) of each document."""
    return [
        (row, sum(lengths[:i]), sum(lengths[: i + 1]))
        for row, lengths in enumerate(documents)
        for i in range(len(lengths))
    ]


def separate(batch, documents):
    """The same documents, one a row."""
    columns = [
        [values[row, start:end] for row, start, end in pieces(batch, documents)]
        for values in (batch.inputs, batch.targets)
    ]
    lengths = torch.tensor([len(inputs) for inputs in columns[0]], device=batch.inputs.device)
    return TokenBatch(*(torch.nn.utils.rnn.pad_sequence(column, batch_first=True) for column in columns), lengths)


def any_model(make_model, data, **extra):
    kind = data.draw(st.sampled_from(list(ALL)))
    sizes = {"hidden_dim": 8, "num_layers": 2, **data.draw(st.sampled_from(EXECUTORS)), **extra}
    if kind in (V1Config, V2Config):
        sizes["chunk_size"] = data.draw(st.integers(1, 4))
    return make_model(kind=kind, **sizes), kind


@settings(max_examples=20)
@given(documents=rows_of_documents, data=st.data())
def test_reading_a_row_is_reading_each_document_alone(make_model, make_batch, documents, data):
    model, kind = any_model(make_model, data)
    policy = model.policy
    if kind in (V1Config, V2Config) and data.draw(st.booleans()):
        policy = dataclasses.replace(policy, freeze_after=data.draw(st.integers(0, 6)))  # counted in each document
    lengths = [sum(row) for row in documents]
    batch = make_batch(lengths, documents=documents)
    with torch.no_grad():
        together = model.read(
            batch.inputs, batch.targets, lengths=batch.lengths, positions=batch.positions, policy=policy
        )
        for row, start, end in pieces(batch, documents):
            own = slice(row, row + 1), slice(start, end)
            alone = model.read(batch.inputs[own], batch.targets[own], policy=policy)
            torch.testing.assert_close(together.hidden[row, start:end], alone.hidden[0], rtol=0, atol=1e-10)
            for a, b in zip(together.filtered[:4], alone.filtered[:4], strict=True):
                torch.testing.assert_close(a[row, start:end], b[0], rtol=0, atol=1e-10)
            if end == lengths[row]:  # the row stands where its last document stands
                state = model.select_rows(together.state, torch.tensor([row], device=model.device))
                assert state.position.tolist() == alone.state.position.tolist() == [end - start]
                for a, b in zip(state.plan, alone.state.plan, strict=True):
                    torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
                new = batch.targets[row : row + 1, end - 1]
                first, second = (model.predict(new, at, policy=policy) for at in (state, alone.state))
                torch.testing.assert_close(first.log_probs, second.log_probs, rtol=0, atol=1e-10)


@settings(max_examples=25)
@given(cut=st.integers(1, 10), data=st.data())
def test_a_row_of_documents_can_be_read_in_pieces(make_model, make_batch, cut, data):
    """A piece may begin in the middle of a document, or exactly where one does."""
    model, _ = any_model(make_model, data)
    documents = [[4, 1, 6], [2, 9]]
    batch = make_batch([11, 11], documents=documents)
    positions = batch.positions
    with torch.no_grad():
        whole = model.read(batch.inputs, batch.targets, positions=positions)
        first = model.read(batch.inputs[:, :cut], batch.targets[:, :cut], positions=positions[:, :cut])
        second = model.read(
            batch.inputs[:, cut:], batch.targets[:, cut:], positions=positions[:, cut:], state=first.state
        )
    for a, b, c in zip(first.filtered[:4], second.filtered[:4], whole.filtered[:4], strict=True):
        torch.testing.assert_close(torch.cat([a, b], dim=1), c, rtol=0, atol=1e-10)
    for a, b in zip(second.state.plan, whole.state.plan, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@settings(max_examples=20)
@given(documents=rows_of_documents, data=st.data())
def test_losses_are_those_of_a_batch_of_the_documents(make_model, make_batch, documents, data):
    """Every term, the totals they divide by, and the gradient of every parameter."""
    model, kind = any_model(make_model, data)
    weights = ALL[kind]
    batch = make_batch([sum(row) for row in documents], documents=documents)
    results = []
    for each in (batch, separate(batch, documents)):
        terms = loss_terms(model, each, weights)
        model.zero_grad()
        total_loss(terms, weights, 5).backward()
        gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}
        results.append((step_totals(model, each, weights), terms, gradients))
    (totals, terms, gradients), (totals_apart, terms_apart, gradients_apart) = results
    assert totals == totals_apart
    for name in (*TERM_NAMES, "usage"):
        a, b = getattr(terms, name), getattr(terms_apart, name)
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10, msg=name)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, gradients_apart[name], rtol=0, atol=1e-9, msg=name)


def test_evaluations_too(make_model, make_batch, version, executor_sizes):
    model = make_model(kind=version, **executor_sizes)
    batch = make_batch([sum(row) for row in DOCUMENTS], documents=DOCUMENTS)
    together, apart = (evaluate(model, [each], text_bytes=50) for each in (batch, separate(batch, DOCUMENTS)))
    for name, a, b in zip(together._fields, together, apart, strict=True):
        assert a == pytest.approx(b, abs=1e-10), name


def test_one_document_from_the_rows_start_is_a_row_without_positions(make_model, make_batch, version, executor_sizes):
    model = make_model(kind=version, **executor_sizes)
    with torch.no_grad():
        plain, given = (
            loss_terms(model, make_batch([9, 5], documents=documents), ALL[version]) for documents in (None, [[9], [5]])
        )
    for a, b in zip(plain, given, strict=True):
        if a is not None:
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_a_document_does_not_see_the_one_before(make_model, make_batch, version, executor_sizes):
    model = make_model(kind=version, **executor_sizes)
    batch = make_batch([10], documents=[[6, 4]])
    other = batch._replace(inputs=batch.inputs.clone(), targets=batch.targets.clone())
    other.inputs[:, :6] = (other.inputs[:, :6] + 1) % 11
    other.targets[:, :6] = (other.targets[:, :6] + 1) % 11
    with torch.no_grad():
        first, second = (
            model.read(each.inputs, each.targets, positions=each.positions).filtered for each in (batch, other)
        )
    assert torch.equal(first.token_log_prob[:, 6:], second.token_log_prob[:, 6:])
    assert torch.equal(first.log_belief[:, 6:], second.log_belief[:, 6:])
    assert (first.token_log_prob[:, :6] != second.token_log_prob[:, :6]).any()


def test_positions_that_jump_are_refused(make_model, make_batch, version):
    model, batch = make_model(kind=version), make_batch([5])
    positions = torch.tensor([[0, 1, 3, 4, 5]], device=batch.inputs.device)
    with pytest.raises(ValueError, match=r"^positions must count on by one or start again at 0$"):
        model.read(batch.inputs, batch.targets, positions=positions)


@pytest.mark.parametrize("kind", [V1Config, V2Config])
def test_a_planner_frozen_at_a_position_is_frozen_there_in_every_document(make_model, make_batch, kind):
    model = make_model(kind=kind, chunk_size=2)
    batch = make_batch([10], documents=[[6, 4]])
    with torch.no_grad():
        belief = model.read(
            batch.inputs, batch.targets, positions=batch.positions, policy=PlanPolicy(freeze_after=3)
        ).filtered.log_belief_after[0]
    assert torch.equal(belief[3], belief[5])
    assert not torch.equal(belief[6], belief[5])
    assert not torch.equal(belief[8], belief[7])
    torch.testing.assert_close(belief[9], belief[8])
