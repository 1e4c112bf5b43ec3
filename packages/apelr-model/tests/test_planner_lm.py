"""The model end to end: against plain Python and path enumeration, and steps against whole sequences."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st


def assert_same_state(first, second):
    assert first.position.tolist() == second.position.tolist()
    for a, b in ((first.carry, second.carry), (first.log_belief, second.log_belief)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@settings(max_examples=12)
@given(
    states=st.integers(1, 3),
    chunk_size=st.integers(1, 4),
    layers=st.integers(1, 2),
    evidence=st.booleans(),
    scale=st.sampled_from((0.5, 2.0)),
    data=st.data(),
    seed=st.integers(0, 1000),
)
def test_version_1_is_the_enumeration_over_all_plans(
    make_model, plain_model, enumerate_paths, states, chunk_size, layers, evidence, scale, data, seed
):
    """Every probability and belief of `read`, from the equations alone: GRU, head, evidence from h_t, all paths."""
    model = make_model(
        num_plan_states=states,
        chunk_size=chunk_size,
        num_layers=layers,
        boundary_evidence=evidence,
        planner_context_scale=scale,
        seed=seed,
    )
    steps = data.draw(st.integers(1, 3 * chunk_size))
    ids = torch.randint(0, 11, (1, steps + 1), generator=torch.Generator().manual_seed(seed)).to(model.device)
    with torch.no_grad():
        reading = model.read(ids[:, :-1], ids[:, 1:])
    words, boundary = plain_model(model, ids[0, :-1].tolist())
    index = [t // chunk_size for t in range(steps)]
    initial = model.planner.initial_logits.softmax(-1).tolist()
    move = model.planner.transition_logits.softmax(-1).tolist()
    targets = ids[0, 1:].tolist()
    chosen = [[math.log(words[t][k][y]) for k in range(states)] for t, y in enumerate(targets)]
    by_chunk = {index[t]: of_chunk for t, of_chunk in boundary.items()}
    assert sorted(by_chunk) == list(range(1, index[-1] + 1))
    expected = enumerate_paths(chosen, initial, move, index, by_chunk)
    filtered = reading.filtered
    found = (filtered.token_log_prob, filtered.log_belief, filtered.log_belief_after)
    for tensor, wanted in zip(found, expected, strict=True):
        assert (tensor[0].exp().cpu() - torch.tensor(wanted, dtype=torch.float64)).abs().max() <= 1e-10
    assert model.chunks.chunks(reading.positions)[0].tolist() == index


def test_one_plan_state_is_a_plain_gru_language_model(make_model):
    model = make_model(num_plan_states=1, chunk_size=3)
    ids = torch.randint(0, 11, (2, 11), generator=torch.Generator().manual_seed(0)).to(model.device)
    with torch.no_grad():
        reading = model.read(ids[:, :-1], ids[:, 1:])
        hidden, _ = model.executor.gru(model.executor.token_emb(ids[:, :-1]))
        plan = model.head.plan_proj(model.head.plan_emb.weight)[0]
        logits = model.head.out_proj(torch.tanh(model.head.state_proj(hidden) + plan)) + model.head.plan_vocab_bias[0]
        wanted = logits.log_softmax(-1).gather(-1, ids[:, 1:].unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(reading.filtered.token_log_prob, wanted, rtol=0, atol=1e-10)
    assert (reading.filtered.log_belief == 0).all()


class TestSteps:
    @settings(max_examples=15)
    @given(st.integers(1, 5), st.integers(1, 4), st.booleans(), st.integers(1, 14), st.integers(0, 1000))
    def test_predict_and_observe_equal_read(self, make_model, chunk_size, states, evidence, steps, seed):
        model = make_model(
            chunk_size=chunk_size, num_plan_states=states, boundary_evidence=evidence, num_layers=2, seed=seed
        )
        ids = torch.randint(0, 11, (2, steps + 1), generator=torch.Generator().manual_seed(seed)).to(model.device)
        with torch.no_grad():
            whole = model.read(ids[:, :-1], ids[:, 1:])
            state = model.initial_state(2)
            for t in range(steps):
                prediction = model.predict(ids[:, t], state)
                torch.testing.assert_close(
                    prediction.log_probs.exp().sum(-1), torch.ones_like(prediction.log_probs[:, 0])
                )
                chosen = prediction.log_probs.gather(1, ids[:, t + 1 : t + 2])[:, 0]
                torch.testing.assert_close(chosen, whole.filtered.token_log_prob[:, t], rtol=0, atol=1e-10)
                torch.testing.assert_close(prediction.log_belief, whole.filtered.log_belief[:, t], rtol=0, atol=1e-10)
                state = model.observe(prediction, ids[:, t + 1])
                torch.testing.assert_close(state.log_belief, whole.filtered.log_belief_after[:, t], rtol=0, atol=1e-10)
                assert state.position.tolist() == [t + 1, t + 1]
        assert_same_state(state, whole.state)

    @pytest.mark.parametrize("cut", range(1, 11))
    def test_read_goes_on_from_a_state(self, make_model, cut):
        model = make_model(chunk_size=4)
        ids = torch.randint(0, 11, (2, 12), generator=torch.Generator().manual_seed(cut)).to(model.device)
        with torch.no_grad():
            whole = model.read(ids[:, :-1], ids[:, 1:])
            first = model.read(ids[:, :cut], ids[:, 1 : cut + 1])
            second = model.read(ids[:, cut:-1], ids[:, cut + 1 :], state=first.state)
        assert torch.equal(torch.cat([first.positions, second.positions], dim=1), whole.positions)
        for a, b, c in zip(first.filtered[:4], second.filtered[:4], whole.filtered[:4], strict=True):
            torch.testing.assert_close(torch.cat([a, b], dim=1), c, rtol=0, atol=1e-10)
        assert_same_state(second.state, whole.state)

    @settings(max_examples=15)
    @given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(1, 5))
    def test_rows_of_different_lengths_stand_where_each_would_alone(self, make_model, lengths, chunk_size):
        model = make_model(chunk_size=chunk_size)
        width = max([*lengths, 1])
        ids = torch.randint(0, 11, (len(lengths), width + 1), generator=torch.Generator().manual_seed(2))
        ids = ids.to(model.device)
        nexts = torch.arange(len(lengths), device=model.device)
        with torch.no_grad():
            state = model.read(ids[:, :-1], ids[:, 1:], lengths=torch.tensor(lengths, device=model.device)).state
            together = model.predict(nexts, state)
            assert state.position.tolist() == lengths
            for row, length in enumerate(lengths):
                alone = model.initial_state(1)
                if length:
                    alone = model.read(ids[row : row + 1, :length], ids[row : row + 1, 1 : length + 1]).state
                prediction = model.predict(nexts[row : row + 1], alone)
                torch.testing.assert_close(together.log_probs[row], prediction.log_probs[0], rtol=0, atol=1e-10)
                torch.testing.assert_close(together.log_belief[row], prediction.log_belief[0], rtol=0, atol=1e-10)

    def test_select_rows_keeps_a_rows_future(self, make_model):
        model = make_model(chunk_size=3)
        ids = torch.randint(0, 11, (3, 8), generator=torch.Generator().manual_seed(3)).to(model.device)
        lengths = torch.tensor([7, 2, 5], device=model.device)
        with torch.no_grad():
            state = model.read(ids[:, :-1], ids[:, 1:], lengths=lengths).state
            all_rows = model.predict(ids[:, 0], state)
            rows = torch.tensor([2, 0], device=model.device)
            chosen = model.predict(ids[rows, 0], model.select_rows(state, rows))
        torch.testing.assert_close(chosen.log_probs, all_rows.log_probs[rows], rtol=0, atol=1e-12)
        assert chosen.position.tolist() == [5, 7]

    def test_rows_at_different_positions_are_read_on(self, make_model):
        """Each from its own place in its own chunk, as it would be alone."""
        model = make_model(chunk_size=3)
        ids = torch.randint(0, 11, (3, 13), generator=torch.Generator().manual_seed(5)).to(model.device)
        lengths = torch.tensor([7, 2, 6], device=model.device)
        with torch.no_grad():
            state = model.read(ids[:, :7], ids[:, 1:8], lengths=lengths).state
            together = model.read(ids[:, 7:-1], ids[:, 8:], state=state)
            for row, length in enumerate(lengths.tolist()):
                own = ids[row : row + 1]
                alone = model.read(own[:, :length], own[:, 1 : length + 1]).state
                alone = model.read(own[:, 7:-1], own[:, 8:], state=alone)
                for a, b in zip(together.filtered[:4], alone.filtered[:4], strict=True):
                    torch.testing.assert_close(a[row], b[0], rtol=0, atol=1e-12)
                assert together.positions[row].tolist() == list(range(length, length + 5))
                assert_same_state(model.select_rows(together.state, torch.tensor([row])), alone.state)


def test_the_past_does_not_depend_on_the_future(make_model):
    model = make_model()
    ids = torch.randint(0, 11, (1, 13), generator=torch.Generator().manual_seed(4)).to(model.device)
    other = ids.clone()
    other[:, 7:] = (other[:, 7:] + 1) % 11
    with torch.no_grad():
        first, second = (model.read(x[:, :-1], x[:, 1:]).filtered for x in (ids, other))
    for a, b in zip(first[:4], second[:4], strict=True):
        torch.testing.assert_close(a[:, :6], b[:, :6], rtol=0, atol=0)
    assert (first.token_log_prob[:, 6] != second.token_log_prob[:, 6]).all()


def test_distributions_over_the_vocabulary_are_the_belief_weighted_ones(make_model):
    model = make_model()
    with torch.no_grad():
        prediction = model.predict(torch.tensor([3, 4], device=model.device), model.initial_state(2))
    mixed = (prediction.log_belief.exp().unsqueeze(-1) * prediction.state_log_probs.exp()).sum(1)
    torch.testing.assert_close(prediction.log_probs.exp(), mixed)
