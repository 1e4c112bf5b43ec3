"""Generation: agreement with scoring, independence of the batch, incremental reading, reports and refusals."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from apelr_model import (
    ImpossibleObservationError,
    MixtureOfSoftmaxesConfig,
    NothingLeftError,
    PlanPolicy,
    SamplingSettings,
    TransformerLMConfig,
    V1Config,
    V2Config,
    generate,
    score,
)
from apelr_model.generation import read_prompts

PROMPTS = [[1, 2, 3, 4, 5], [6], [7, 8, 9, 1, 2, 3, 4, 5, 6, 7], [2, 2]]
LIVELY = SamplingSettings(temperature=0.8, top_k=8, top_p=0.95, repetition_penalty=1.3, no_repeat_ngram_size=3)


class CountingExecutor(torch.nn.Module):
    """Passes everything on to an executor and records the shape of every read."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.reads = []

    def forward(self, ids, carry, lengths=None, restarts=None):
        self.reads.append(tuple(ids.shape))
        return self.inner(ids, carry, lengths, restarts)

    def initial_carry(self, batch_size):
        return self.inner.initial_carry(batch_size)

    def select_rows(self, carry, rows):
        return self.inner.select_rows(carry, rows)


class FlatHead(torch.nn.Module):
    """Every id is equally likely under every plan state."""

    def __init__(self, states, vocab):
        super().__init__()
        self.shape = (states, vocab)

    def forward(self, hidden):
        return hidden.new_zeros(len(hidden), *self.shape)


def run(model, prompts, settings=None, *, seeds=None, max_new_tokens=15, **extra):
    """The tokens of each row, in order."""
    rows = [[] for _ in prompts]
    for token in generate(
        model,
        prompts,
        SamplingSettings() if settings is None else settings,
        max_new_tokens=max_new_tokens,
        seeds=list(range(len(prompts))) if seeds is None else seeds,
        **extra,
    ):
        rows[token.row].append(token)
    return rows


class TestAgreesWithScoring:
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
    @pytest.mark.parametrize("settings", [SamplingSettings(), LIVELY, SamplingSettings(temperature=0.0)])
    @pytest.mark.parametrize("chunk_size", [1, 3, 16])
    def test_log_probs_beliefs_and_chunks_are_those_of_score(self, make_model, dtype, tolerance, settings, chunk_size):
        model = make_model(vocab=23, chunk_size=chunk_size, num_layers=2, dtype=dtype)
        for prompt, tokens in zip(PROMPTS, run(model, PROMPTS, settings), strict=True):
            assert len(tokens) == 15
            scored = score(model, [*prompt, *(token.id for token in tokens)])
            for i, token in enumerate(tokens):
                target = len(prompt) - 1 + i
                assert token.log_prob == pytest.approx(scored.log_prob[target].item(), abs=tolerance)
                assert token.belief == pytest.approx(scored.log_belief[target].exp().tolist(), abs=tolerance)
                assert token.chunk == scored.chunk_index[target] == target // chunk_size


POLICIES = {
    V1Config: [
        {},
        {"mode": "uniform"},
        {"force_state": 1},
        {"freeze_after": 0},
        {"freeze_after": 7},
        {"force_state": 2, "freeze_after": 3},
    ],
    V2Config: [
        {},
        {"mode": "uniform", "token_filtering": False},
        {"force_state": 1},
        {"freeze_after": 7},
        {"temperature": 0.5, "lookahead_horizon": 3, "feedback_scale": 0.6},
        {"feedback_scale": 1.0, "token_filtering": False},
        {"temperature": 2.0, "feedback_scale": 0.3, "freeze_after": 4, "token_filtering": False},
    ],
    MixtureOfSoftmaxesConfig: [{}, {"mode": "uniform"}, {"force_state": 2}],
    TransformerLMConfig: [{}],
}


class TestEveryVersionAgreesWithScoring:
    """Both executors, all versions and every use of the belief."""

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
    def test_with_the_same_policy(self, make_model, version, executor_sizes, dtype, tolerance):
        model = make_model(kind=version, vocab=23, dtype=dtype, **executor_sizes)
        for fields in POLICIES[version]:
            policy = PlanPolicy(**fields)
            for prompt, tokens in zip(PROMPTS, run(model, PROMPTS, policy=policy, max_new_tokens=9), strict=True):
                self.compare(model, prompt, tokens, policy, tolerance)

    @pytest.mark.parametrize("kind", [V1Config, V2Config])
    def test_a_planner_frozen_after_the_prompt_is_frozen_at_its_last_position(self, make_model, kind, executor_sizes):
        model = make_model(kind=kind, vocab=23, **executor_sizes)
        for fields in POLICIES[kind]:
            policy = PlanPolicy(**fields)
            rows = run(model, PROMPTS, policy=policy, freeze_planner=True, max_new_tokens=9)
            for prompt, tokens in zip(PROMPTS, rows, strict=True):
                end = len(prompt) - 1
                freeze = end if policy.freeze_after is None else min(end, policy.freeze_after)
                self.compare(model, prompt, tokens, replace(policy, freeze_after=freeze), 1e-9)

    def test_a_model_uses_its_own_policy(self, make_model):
        model = make_model(
            kind=V2Config, vocab=23, planner_temperature=0.5, lookahead_feedback_scale=0.4, lookahead_horizon=2
        )
        for prompt, tokens in zip(PROMPTS, run(model, PROMPTS), strict=True):
            self.compare(model, prompt, tokens, None, 1e-9)
        assert run(model, PROMPTS) == run(model, PROMPTS, policy=model.policy)

    def compare(self, model, prompt, tokens, policy, tolerance):
        scored = score(model, [*prompt, *(token.id for token in tokens)], policy=policy)
        assert len(tokens) > 0
        reported = scored.log_gate if policy is not None and policy.force_state is not None else scored.log_belief
        for i, token in enumerate(tokens):
            target = len(prompt) - 1 + i
            assert token.log_prob == pytest.approx(scored.log_prob[target].item(), abs=tolerance)
            assert token.belief == pytest.approx(reported[target].exp().tolist(), abs=tolerance)
            assert token.chunk == scored.chunk_index[target]

    @pytest.mark.parametrize("kind", [V1Config, V2Config, MixtureOfSoftmaxesConfig])
    def test_a_forced_states_reported_belief_is_the_one_hot_gate(self, make_model, kind):
        model = make_model(kind=kind, vocab=23)
        for tokens in run(model, PROMPTS, policy=PlanPolicy(force_state=1)):
            assert {token.belief for token in tokens} == {(0.0, 1.0, 0.0)}

    @pytest.mark.parametrize("kind", [MixtureOfSoftmaxesConfig, TransformerLMConfig])
    def test_the_controls_have_no_plan_to_freeze_or_to_look_ahead_with(self, make_model, kind):
        model = make_model(kind=kind)
        message = (
            f"^{model.config.version} has no freeze_after: it belongs to v1_filtered_mixture and v2_planner_required$"
        )
        with pytest.raises(ValueError, match=message):
            run(model, [[1]], freeze_planner=True)
        with pytest.raises(ValueError, match=f"^{model.config.version} has no plan to look ahead with$"):
            run(model, [[1]], lookahead_steps=2)


class TestIndependence:
    @pytest.mark.parametrize("settings", [SamplingSettings(), LIVELY])
    def test_a_seed_gives_the_same_text_alone_and_in_any_batch(self, make_model, settings):
        model = make_model(vocab=23, chunk_size=3)
        seeds = [5, 6, 7, 8]
        together = run(model, PROMPTS, settings, seeds=seeds)
        backwards = run(model, PROMPTS[::-1], settings, seeds=seeds[::-1])[::-1]
        for row, prompt in enumerate(PROMPTS):
            alone = run(model, [prompt], settings, seeds=[seeds[row]])[0]
            ids = [token.id for token in alone]
            assert ids == [token.id for token in together[row]] == [token.id for token in backwards[row]]

    def test_rows_that_end_early_do_not_disturb_the_others(self, make_model, version, executor_sizes):
        chunks = {"chunk_size": 3} if version in (V1Config, V2Config) else {}
        model = make_model(kind=version, vocab=7, **chunks, **executor_sizes)
        seeds = list(range(8))
        rows = run(model, [[1, 2]] * 8, seeds=seeds, eos_id=3, max_new_tokens=30)
        assert len({len(tokens) for tokens in rows}) > 2
        for seed, tokens in zip(seeds, rows, strict=True):
            alone = run(model, [[1, 2]], seeds=[seed], eos_id=3, max_new_tokens=30)[0]
            assert [t.id for t in tokens] == [t.id for t in alone]

    def test_seeds_matter_and_repeat(self, make_model):
        model = make_model(vocab=23)
        texts = [tuple(t.id for t in run(model, [[1]], seeds=[seed])[0]) for seed in (1, 1, 2)]
        assert texts[0] == texts[1] != texts[2]

    def test_the_global_random_state_is_neither_read_nor_changed(self, make_model):
        model = make_model(vocab=23, dropout=0.5).train()
        before = torch.get_rng_state()
        first = run(model, [[1]])
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(99)
        assert run(model, [[1]]) == first

    def test_lookahead_changes_nothing_and_is_belief_times_powers(self, make_model):
        model = make_model(vocab=23, chunk_size=3)
        without = run(model, PROMPTS, LIVELY)
        ahead = run(model, PROMPTS, LIVELY, lookahead_steps=4)
        move = model.planner.log_transition().exp().detach().cpu()
        for a, b in zip(itertools.chain(*without), itertools.chain(*ahead), strict=True):
            assert a.lookahead == ()
            assert a == b._replace(lookahead=())
            assert len(b.lookahead) == 4
            for s, forecast in enumerate(b.lookahead, start=1):
                wanted = torch.tensor(b.belief, dtype=torch.float64) @ torch.linalg.matrix_power(move, s)
                assert forecast == pytest.approx(wanted.tolist(), abs=1e-10)


class TestSteps:
    def test_eos_ends_a_row_and_is_yielded(self, make_model):
        model = make_model(vocab=5)
        rows = run(model, [[1]] * 12, eos_id=2, max_new_tokens=40)
        for tokens in rows:
            ids = [token.id for token in tokens]
            assert 2 not in ids[:-1]
            assert ids[-1] == 2 or len(ids) == 40
        assert any(tokens[-1].id == 2 for tokens in rows)

    def test_a_caller_can_end_a_row_and_the_others_go_on(self, make_model):
        """Asked once after each token, when the caller has taken it; an ended row is read no more."""
        model = make_model(vocab=23)
        plain = run(model, PROMPTS)
        model.executor = CountingExecutor(model.executor)
        rows, asked = [[] for _ in PROMPTS], []

        def is_finished(row):
            asked.append((row, len(rows[row])))
            return row == 2 and len(rows[row]) == 3

        tokens = generate(
            model, PROMPTS, SamplingSettings(), max_new_tokens=15, seeds=range(4), is_finished=is_finished
        )
        for token in tokens:
            rows[token.row].append(token)
        ids = [[token.id for token in tokens] for tokens in rows]
        assert ids == [[t.id for t in tokens[: 3 if row == 2 else 15]] for row, tokens in enumerate(plain)]
        assert sorted(asked) == [(row, n) for row in range(4) for n in range(1, (3 if row == 2 else 15) + 1)]
        assert model.executor.reads[1:] == [(4, 1)] * 3 + [(3, 1)] * 12

    def test_the_prefix_is_read_once_and_each_later_step_reads_one_token(self, make_model):
        model = make_model(vocab=23)
        model.executor = CountingExecutor(model.executor)
        run(model, PROMPTS, max_new_tokens=6)
        longest = max(map(len, PROMPTS))
        assert model.executor.reads == [(4, longest - 1)] + [(4, 1)] * 6

    def test_finished_rows_are_read_no_more(self, make_model):
        model = make_model(vocab=5)
        model.executor = CountingExecutor(model.executor)
        rows = run(model, [[1]] * 6, eos_id=2, max_new_tokens=20)
        alive = [sum(len(tokens) > step for tokens in rows) for step in range(max(map(len, rows)))]
        assert model.executor.reads == [(n, 1) for n in alive]

    def test_tokens_come_as_they_are_made(self, make_model):
        model = make_model(vocab=23)
        model.executor = CountingExecutor(model.executor)
        tokens = generate(model, [[1, 2, 3]], SamplingSettings(), max_new_tokens=1000, seeds=[0])
        assert model.executor.reads == []
        next(tokens)
        assert model.executor.reads == [(1, 2), (1, 1)]
        assert torch.is_grad_enabled()
        next(tokens)
        assert len(model.executor.reads) == 3

    def test_read_prompts_observes_all_but_predicts_after_the_last(self, make_model):
        model = make_model(vocab=23)
        state = read_prompts(model, PROMPTS)
        assert state.position.tolist() == [len(prompt) - 1 for prompt in PROMPTS]
        untouched = read_prompts(model, [[3], [4]])
        torch.testing.assert_close(untouched.log_belief, model.planner.log_initial().detach().expand(2, -1))

    def test_no_tokens_asked_for_gives_none(self, make_model):
        assert run(make_model(vocab=23), PROMPTS, max_new_tokens=0) == [[], [], [], []]

    def test_dropout_is_off(self, make_model):
        model = make_model(vocab=23, dropout=0.5).train()
        assert run(model, [[1]]) == run(model, [[1]])
        assert not model.training

    def test_the_temperature_is_that_of_each_states_logits(self, make_model):
        """Two sharp states: tempering each keeps the belief's weights; tempering the mixture would move them."""
        model = make_model(vocab=4, num_plan_states=2)
        with torch.no_grad():
            model.head.out_proj.weight.zero_()
            model.head.out_proj.bias.zero_()
            model.head.plan_vocab_bias.copy_(torch.tensor([[9.0, 0.0, 0.0, 0.0], [0.0, 9.0, 0.0, 0.0]]))
            model.planner.initial_logits.copy_(torch.tensor([0.8, 0.2]).log())
        settings = SamplingSettings(temperature=0.5)
        rows = run(model, [[0]] * 400, settings, max_new_tokens=1)
        share = sum(tokens[0].id == 0 for tokens in rows) / 400
        assert 0.72 < share < 0.88  # the tempered mixture would give 0.94

    def test_temperature_0_is_the_argmax_of_the_untempered_mixture(self, make_model):
        model = make_model(vocab=23)
        prompt = [4, 5]
        for token in run(model, [prompt], SamplingSettings(temperature=0.0))[0]:
            with torch.no_grad():
                state = read_prompts(model, [prompt])
                prediction = model.predict(torch.tensor([prompt[-1]], device=model.device), state)
            assert token.id == int(prediction.log_probs.argmax())
            prompt = [*prompt, token.id]

    def test_no_ngram_is_repeated_prompt_included(self, make_model):
        settings = SamplingSettings(no_repeat_ngram_size=2)
        prompt = [1, 2, 3, 1]
        tokens = run(make_model(vocab=7), [prompt], settings, max_new_tokens=25)[0]
        ids = [*prompt, *(token.id for token in tokens)]
        grams = Counter(itertools.pairwise(ids))
        assert max(grams.values()) == 1

    def test_a_uniform_model_draws_by_the_rows_own_random_numbers(self, make_model):
        model = make_model(vocab=16)
        model.head = FlatHead(3, 16)
        for seed, tokens in enumerate(run(model, [[1], [2], [3]], max_new_tokens=20)):
            generator = torch.Generator().manual_seed(seed)
            numbers = torch.rand(20, generator=generator, dtype=torch.float64)
            assert [t.id for t in tokens] == [int(u * 16) for u in numbers]
            assert [t.log_prob for t in tokens] == pytest.approx([-math.log(16)] * 20)

    def test_the_penalty_reaches_prompt_and_generated_ids(self, make_model):
        model = make_model(vocab=4)
        model.head = FlatHead(3, 4)
        settings = SamplingSettings(temperature=0.0, repetition_penalty=2.0)
        assert [t.id for t in run(model, [[0]], settings, max_new_tokens=4)[0]] == [1, 2, 3, 0]


class TestRefusals:
    def call(self, model, prompts=((1, 2),), *, max_new_tokens=3, seeds=(0,), **extra):
        """Only calls: bad arguments must not wait for the first token."""
        return generate(model, prompts, SamplingSettings(), max_new_tokens=max_new_tokens, seeds=seeds, **extra)

    @pytest.mark.parametrize("prompts", [[], [[]], [[1], []]])
    def test_empty_prompts(self, make_model, prompts):
        message = "^every prompt needs at least one id; start an empty one with the tokenizer's BOS id$"
        with pytest.raises(ValueError, match=message):
            self.call(make_model(), prompts, seeds=[0] * len(prompts))

    def test_number_of_seeds(self, make_model):
        with pytest.raises(ValueError, match=r"^seeds must have one entry a prompt \(1\), got 2$"):
            self.call(make_model(), seeds=[0, 1])

    def test_negative_counts(self, make_model):
        with pytest.raises(ValueError, match=r"^max_new_tokens must be >= 0, got -1$"):
            self.call(make_model(), max_new_tokens=-1)
        with pytest.raises(ValueError, match=r"^lookahead_steps must be >= 0, got -2$"):
            self.call(make_model(), lookahead_steps=-2)

    @pytest.mark.parametrize("wrong", [11, -1])
    def test_ids_outside_the_vocabulary(self, make_model, wrong):
        with pytest.raises(ValueError, match=rf"^prompt ids must be between 0 and 10, got {wrong}$"):
            self.call(make_model(), [[1, wrong]])

    def test_a_prompt_of_probability_zero_is_named(self, make_model, version):
        """Wherever in the prompt the impossible id is, also where no belief keeps a memory of it."""
        model = make_model(kind=version)
        with torch.no_grad():
            (model.head.plan_vocab_bias if version is V1Config else model.head.bias)[:, 9] = -math.inf
        frozen = {} if version not in (V1Config, V2Config) else {"policy": PlanPolicy(freeze_after=0)}
        for prompts, extra in (([[9, 1], [1, 9, 2], [3]], {}), ([[0], [1, 9, 2]], frozen)):
            tokens = self.call(model, prompts, seeds=range(len(prompts)), **extra)
            with pytest.raises(ImpossibleObservationError, match=r"^prompt 1 has probability zero under every plan$"):
                next(tokens)
        assert next(self.call(model, [[9, 1, 2]])).row == 0

    def test_padding_makes_no_prompt_impossible(self, make_model):
        """Right padding is id 0."""
        model = make_model()
        with torch.no_grad():
            model.head.plan_vocab_bias[:, 0] = -math.inf
        assert next(self.call(model, [[1, 2, 3, 4, 5], [6, 7]], seeds=[0, 1])).row == 0

    def test_nothing_left_stops_the_generation(self, make_model):
        settings = SamplingSettings(no_repeat_ngram_size=1)
        tokens = generate(make_model(vocab=4), [[0]], settings, max_new_tokens=10, seeds=[0])
        assert sorted(next(tokens).id for _ in range(3)) == [1, 2, 3]
        with pytest.raises(NothingLeftError, match="no token is left to sample"):
            next(tokens)
