"""The choice of one token: each step against a slow reference, their order, and the distribution drawn from."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_model import NothingLeftError, SamplingSettings
from apelr_model.sampling import banned_by_ngram, choose, keep_top_k, keep_top_p, temper

INF = math.inf


def log_probs_of(*probabilities):
    return torch.tensor([probabilities], dtype=torch.float64).log()


def random_log_probs(seed, rows, vocab, ties=False):
    values = torch.rand(rows, vocab, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 6
    return (values.round() if ties else values).log_softmax(-1)


def draw(log_probs, settings, uniform, *, seen=None, banned=None):
    rows = len(log_probs)
    return choose(
        log_probs,
        settings,
        seen=torch.zeros(log_probs.shape, dtype=torch.bool) if seen is None else seen,
        banned=[set()] * rows if banned is None else banned,
        uniform=torch.as_tensor(uniform, dtype=torch.float64),
    ).tolist()


def slow_distribution(log_probs, settings, seen, banned):
    """Section by section, in plain Python: the distribution over one row's ids."""
    scores = {i: x for i, x in enumerate(log_probs) if x > -INF}
    scores = {i: x - (math.log(settings.repetition_penalty) if i in seen else 0.0) for i, x in scores.items()}
    scores = {i: x for i, x in scores.items() if i not in banned}
    order = sorted(scores, key=lambda i: (-scores[i], i))
    if settings.top_k:
        order = order[: settings.top_k]
    total = math.fsum(math.exp(scores[i]) for i in order)
    kept, mass = [], 0.0
    for i in order:
        kept.append(i)
        mass += math.exp(scores[i]) / total
        if mass >= settings.top_p:
            break
    left = math.fsum(math.exp(scores[i]) for i in kept)
    return {i: math.exp(scores[i]) / left for i in kept}


class TestTemper:
    @given(st.floats(0.1, 5), st.integers(0, 2**32))
    def test_it_divides_each_states_logits(self, temperature, seed):
        logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found = temper(logits.log_softmax(-1), temperature)
        torch.testing.assert_close(found, (logits / temperature).log_softmax(-1), rtol=0, atol=1e-10)

    @pytest.mark.parametrize("temperature", [1e-6, 1e-39, 1e-46, 5e-324])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_tiny_temperatures_act_like_argmax(self, device, temperature, dtype):
        log_probs = log_probs_of(0.2, 0.5, 0.3, 0.0).to(device=device, dtype=dtype)
        assert temper(log_probs, temperature).exp().tolist() == [[0.0, 1.0, 0.0, 0.0]]
        equal = log_probs_of(0.4, 0.2, 0.4).to(device=device, dtype=dtype)
        assert temper(equal, temperature).exp().tolist() == [pytest.approx([0.5, 0.0, 0.5])]

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_vast_temperatures_leave_what_is_possible_alike(self, device, dtype):
        log_probs = log_probs_of(0.2, 0.8, 0.0).to(device=device, dtype=dtype)
        assert temper(log_probs, 1e300).exp().tolist() == [pytest.approx([0.5, 0.5, 0.0])]


class TestNgrams:
    def test_an_example(self):
        assert banned_by_ngram([1, 2, 3, 1, 2], 3) == {3}
        assert banned_by_ngram([1, 2, 1], 2) == {2}
        assert banned_by_ngram([4, 5], 1) == {4, 5}
        assert banned_by_ngram([1, 2, 3], 0) == set()
        assert banned_by_ngram([], 2) == set()

    @given(st.lists(st.integers(0, 2), max_size=14), st.integers(1, 5))
    def test_exactly_the_ids_that_complete_a_repeated_ngram(self, ids, size):
        grams = [tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)]
        slow = set()
        for token in range(3):
            longer = [*ids, token]
            if len(longer) >= size and tuple(longer[-size:]) in grams:
                slow.add(token)
        assert banned_by_ngram(ids, size) == slow


class TestTopK:
    @given(st.integers(0, 9), st.booleans(), st.integers(0, 2**32))
    def test_it_keeps_the_k_most_likely_and_of_equals_the_lower_id(self, k, ties, seed):
        log_probs = random_log_probs(seed, 3, 7, ties)
        kept = keep_top_k(log_probs, k)
        for row, values in enumerate(log_probs.tolist()):
            order = sorted(range(7), key=lambda i: (-values[i], i))[: k or 7]
            assert kept[row].tolist() == [x if i in order else -INF for i, x in enumerate(values)]


class TestTopP:
    @given(st.floats(0.01, 1), st.integers(0, 2**32))
    def test_it_keeps_the_smallest_set_of_enough_mass(self, p, seed):
        log_probs = random_log_probs(seed, 2, 7) - 3.0  # need not sum to one
        kept = keep_top_p(log_probs, p) > -INF
        shares = log_probs.softmax(-1)
        for row in range(2):
            inside = shares[row][kept[row]]
            if p < 1:
                assert inside.sum() >= p - 1e-12
                assert inside.sum() - inside.min() < p + 1e-12
            if not kept[row].all():
                assert inside.min() >= shares[row][~kept[row]].max()

    def test_edges(self):
        log_probs = log_probs_of(0.5, 0.25, 0.25)
        assert (keep_top_p(log_probs, 0.5) > -INF).tolist() == [[True, False, False]]
        assert (keep_top_p(log_probs, 0.75) > -INF).tolist() == [[True, True, False]]  # ties: the lower id
        assert (keep_top_p(log_probs, 1e-9) > -INF).tolist() == [[True, False, False]]
        assert (keep_top_p(log_probs.float(), 1e-46) > -INF).tolist() == [[True, False, False]]  # 0 in float32
        assert (keep_top_p(log_probs, 1.0) > -INF).all()

    def test_ids_already_excluded_stay_excluded_and_have_no_mass(self):
        log_probs = torch.tensor([[-INF, -1.0, -2.0, -INF]])
        assert (keep_top_p(log_probs, 0.999) > -INF).tolist() == [[False, True, True, False]]


class TestChoose:
    @settings(max_examples=80)
    @given(
        st.floats(1, 4),
        st.integers(0, 6),
        st.floats(0.05, 1),
        st.sets(st.integers(0, 6)),
        st.sets(st.integers(0, 6), max_size=6),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 2**32),
    )
    def test_it_inverts_the_distribution_of_all_steps_in_their_order(self, penalty, k, p, seen, banned, uniform, seed):
        log_probs = random_log_probs(seed, 1, 7)
        chosen = SamplingSettings(repetition_penalty=penalty, top_k=k, top_p=p)
        distribution = slow_distribution(log_probs[0].tolist(), chosen, seen, banned)
        mask = torch.tensor([[i in seen for i in range(7)]])
        found = draw(log_probs, chosen, [uniform], seen=mask, banned=[banned])[0]
        below = math.fsum(share for i, share in distribution.items() if i < found)
        assert found in distribution
        assert below - 1e-9 <= uniform <= below + distribution[found] + 1e-9

    def test_the_penalty_comes_before_the_ban_before_top_k_before_top_p(self):
        """0.4 0.3 0.2 0.1: a penalty of 4 on id 0 puts it last; with id 1 banned, top-k 2 leaves 2 and then 0 or 3."""
        log_probs = log_probs_of(0.4, 0.3, 0.2, 0.1)
        seen = torch.tensor([[True, False, False, False]])
        points = torch.linspace(0, 0.999, 50)

        def support(settings, banned):
            return {draw(log_probs, settings, [u], seen=seen, banned=[banned])[0] for u in points}

        assert support(SamplingSettings(repetition_penalty=4.1, top_k=2), {1}) == {2, 3}
        assert support(SamplingSettings(repetition_penalty=4.1, top_k=1), {1}) == {2}
        # Of what top-k leaves (0.2 and 0.1, shares 2/3 and 1/3), 0.6 of the mass is id 2 alone.
        assert support(SamplingSettings(repetition_penalty=4.1, top_k=2, top_p=0.6), {1}) == {2}
        assert support(SamplingSettings(repetition_penalty=4.1, top_k=2, top_p=0.7), {1}) == {2, 3}

    def test_frequencies_follow_the_distribution(self):
        """Chi-square with 5 degrees of freedom: 20.5 is the 0.999 quantile."""
        probabilities = torch.tensor([0.02, 0.38, 0.1, 0.25, 0.05, 0.2], dtype=torch.float64)
        draws = 20_000
        uniform = torch.rand(draws, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        ids = draw(probabilities.log().expand(draws, -1), SamplingSettings(), uniform)
        counts = torch.bincount(torch.tensor(ids), minlength=6)
        expected = probabilities * draws
        assert ((counts - expected).square() / expected).sum() < 20.5

    @pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
    def test_an_impossible_id_is_never_drawn(self, uniform):
        log_probs = torch.tensor([[-INF, math.log(0.5), -INF, math.log(0.5), -INF]], dtype=torch.float64)
        assert draw(log_probs, SamplingSettings(), [uniform])[0] in (1, 3)

    def test_temperature_0_takes_the_most_likely_of_what_is_left(self):
        log_probs = log_probs_of(0.5, 0.3, 0.2)
        greedy = SamplingSettings(temperature=0.0)
        assert [draw(log_probs, greedy, [u])[0] for u in (0.0, 0.5, 0.99)] == [0, 0, 0]
        assert draw(log_probs, greedy, [0.0], banned=[{0}]) == [1]
        penalised = SamplingSettings(temperature=0.0, repetition_penalty=3.0)
        assert draw(log_probs, penalised, [0.0], seen=torch.tensor([[True, False, False]])) == [1]

    def test_rows_are_independent(self):
        log_probs = random_log_probs(1, 5, 7)
        uniform = torch.rand(5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        chosen = SamplingSettings(top_k=4, top_p=0.9)
        together = draw(log_probs, chosen, uniform)
        assert together == [draw(log_probs[i : i + 1], chosen, uniform[i : i + 1])[0] for i in range(5)]

    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    def test_nothing_left_is_an_error_not_a_random_token(self, temperature):
        message = (
            r"^no token is left to sample: every id is excluded; "
            r"lower no_repeat_ngram_size or generate fewer tokens$"
        )
        with pytest.raises(NothingLeftError, match=message):
            draw(log_probs_of(0.5, 0.5), SamplingSettings(temperature=temperature), [0.5], banned=[{0, 1}])

    def test_the_arguments_are_left_as_they_were(self):
        log_probs = random_log_probs(3, 1, 5)
        before = log_probs.clone()
        draw(log_probs, SamplingSettings(repetition_penalty=2.0, top_k=2), [0.1], banned=[{1}])
        assert torch.equal(log_probs, before)
