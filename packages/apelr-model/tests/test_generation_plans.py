"""Generation under every version, executor and policy: agreement with scoring, forecasts as events, forced states."""

import itertools
import math

import pytest
import torch

from apelr_model import (
    GeneratedToken,
    MixtureOfSoftmaxesConfig,
    PlanForecast,
    PlanPolicy,
    SamplingSettings,
    TransformerLMConfig,
    V1Config,
    V2Config,
    build_model,
    generate,
    score,
)
from apelr_model.executor_config import GRUConfig, TransformerConfig

PROMPTS = [[1, 2, 3, 4, 5], [6], [7, 8, 9, 1, 2, 3, 4, 5, 6, 7], [2, 2]]
VOCAB = 17
LIVELY = SamplingSettings(temperature=0.8, top_k=8, top_p=0.95, repetition_penalty=1.3, no_repeat_ngram_size=3)
EXECUTORS = {"gru": GRUConfig(), "transformer": TransformerConfig(num_heads=2, num_kv_heads=1)}
PLANS = {"num_plan_states": 3, "chunk_size": 3}
CONFIGS = {
    "v1": (V1Config, {**PLANS, "fusion_dim": 6}),
    "v2": (V2Config, PLANS),
    "v2_fed_back": (V2Config, {**PLANS, "lookahead_horizon": 3, "lookahead_feedback_scale": 0.4}),
    "v2_chunks_of_one": (V2Config, {"num_plan_states": 3, "chunk_size": 1}),
    "mixture_of_softmaxes": (MixtureOfSoftmaxesConfig, {"num_plan_states": 3}),
    "transformer_lm": (TransformerLMConfig, {}),
}
INTERVENTIONS = {
    "none": {},
    "uniform": {"mode": "uniform"},
    "force_state": {"force_state": 2},
    "freeze_after": {"freeze_after": 7},
    "temperature": {"temperature": 0.5},
    "feedback": {"lookahead_horizon": 4, "feedback_scale": 0.6},
    "no_token_filtering": {"token_filtering": False},
    "all": {"temperature": 2.0, "lookahead_horizon": 2, "feedback_scale": 0.3, "freeze_after": 9},
}
FIELDS = {
    "v1": {"none", "uniform", "force_state", "freeze_after"},
    "v2": set(INTERVENTIONS),
    "v2_fed_back": set(INTERVENTIONS),
    "v2_chunks_of_one": set(INTERVENTIONS),
    "mixture_of_softmaxes": {"none", "uniform", "force_state"},
    "transformer_lm": {"none"},
}
CASES = [(version, name) for version, names in FIELDS.items() for name in INTERVENTIONS if name in names]


def make(version, executor="gru", dtype=torch.float64, device="cpu", **changes):
    form, sizes = CONFIGS[version]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = form(token_dim=8, hidden_dim=8, executor=EXECUTORS[executor], **{**sizes, **changes})
        model = build_model(config, VOCAB)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith(("planner", "head")):
                    parameter.add_(0.7 * torch.randn_like(parameter))
    return model.to(device=device, dtype=dtype).eval()


def events(model, prompts=PROMPTS, settings=None, *, seeds=None, max_new_tokens=15, **extra):
    return list(
        generate(
            model,
            prompts,
            settings or SamplingSettings(),
            max_new_tokens=max_new_tokens,
            seeds=list(range(len(prompts))) if seeds is None else seeds,
            **extra,
        )
    )


def by_row(found):
    tokens = [event for event in found if isinstance(event, GeneratedToken)]
    return [[token for token in tokens if token.row == row] for row in range(len(PROMPTS))]


class TestAgreesWithScoring:
    @pytest.mark.parametrize("executor", EXECUTORS)
    @pytest.mark.parametrize(("version", "intervention"), CASES)
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
    def test_in_every_version_under_every_policy(self, device, version, executor, intervention, dtype, tolerance):
        model = make(version, executor, dtype, device)
        policy = PlanPolicy(**{**vars(model.policy), **INTERVENTIONS[intervention]})
        for prompt, tokens in zip(PROMPTS, by_row(events(model, policy=policy)), strict=True):
            scored = score(model, [*prompt, *(token.id for token in tokens)], policy=policy)
            shown = scored.log_belief if policy.force_state is None else scored.log_gate
            for target, token in enumerate(tokens, start=len(prompt) - 1):
                assert token.log_prob == pytest.approx(scored.log_prob[target].item(), abs=tolerance)
                assert token.belief == pytest.approx(shown[target].exp().tolist(), abs=tolerance)
                assert token.chunk == scored.chunk_index[target]

    @pytest.mark.parametrize("executor", EXECUTORS)
    @pytest.mark.parametrize("version", ["v1", "v2", "v2_fed_back", "v2_chunks_of_one"])
    def test_freezing_after_the_prompt_is_freezing_at_its_last_position(self, device, version, executor):
        model = make(version, executor, device=device)
        for prompt, tokens in zip(PROMPTS, by_row(events(model, freeze_planner=True)), strict=True):
            policy = PlanPolicy(**{**vars(model.policy), "freeze_after": len(prompt) - 1})
            scored = score(model, [*prompt, *(token.id for token in tokens)], policy=policy)
            for target, token in enumerate(tokens, start=len(prompt) - 1):
                assert token.log_prob == pytest.approx(scored.log_prob[target].item(), abs=1e-9)
                assert token.belief == tokens[0].belief

    def test_a_forced_state_is_reported_as_the_belief_and_foreseen_from(self, device):
        model = make("v2", device=device)
        policy = PlanPolicy(force_state=1)
        transition = model.log_transition().exp().double()
        for token in events(model, policy=policy, lookahead_steps=2):
            assert token.belief == (0, 1, 0)
            assert token.lookahead[0] == pytest.approx(transition[1].tolist(), abs=1e-12)
            assert token.lookahead[1] == pytest.approx((transition @ transition)[1].tolist(), abs=1e-12)


class TestTemperature:
    """Semantics: V1 divides each state's logits before its softmax, every other version the mixture's log-probs."""

    @pytest.mark.parametrize("version", ["v1", "v2", "mixture_of_softmaxes"])
    def test_which_distribution_is_drawn_from(self, device, version):
        model = make(version, device=device)
        prompt, temperature, draws = [1, 2, 3], 0.4, 4000
        with torch.no_grad():
            ids = torch.tensor([prompt], device=model.device)
            state = model.read(ids[:, :-1], ids[:, 1:]).state
            found = model.predict(ids[:, -1], state)
        gate, states = found.log_gate[0].exp(), found.state_log_probs[0]
        if version == "v1":
            wanted = gate @ (states / temperature).softmax(-1).double()
        else:
            wanted = ((gate @ states.exp()).log() / temperature).softmax(-1)
        settings = SamplingSettings(temperature=temperature)
        seeds = range(draws)
        drawn = [t.id for t in events(model, [prompt] * draws, settings, seeds=seeds, max_new_tokens=1)]
        shares = torch.bincount(torch.tensor(drawn), minlength=VOCAB) / draws
        assert (shares - wanted.cpu()).abs().max() < 4 * math.sqrt(0.25 / draws)
        other = ((gate @ states.exp()).log() / temperature).softmax(-1)
        if version == "v1":
            assert (other - wanted).abs().max() > 8 * math.sqrt(0.25 / draws), "the two forms must be told apart"


class TestLookahead:
    @pytest.mark.parametrize("executor", EXECUTORS)
    @pytest.mark.parametrize("version", ["v1", "v2", "v2_fed_back"])
    @pytest.mark.parametrize("settings", [SamplingSettings(), LIVELY])
    def test_off_on_and_beside_give_the_same_tokens(self, device, version, executor, settings):
        model = make(version, executor, device=device)
        off = events(model, settings=settings)
        on = events(model, settings=settings, lookahead_steps=3)
        beside = events(model, settings=settings, lookahead_steps=3, async_lookahead=True)
        assert [token._replace(lookahead=()) for token in on] == off
        assert [event for event in beside if isinstance(event, GeneratedToken)] == off

    @pytest.mark.parametrize("version", ["v1", "v2", "v2_fed_back"])
    def test_events_hold_the_forecast_of_every_token(self, device, version):
        model = make(version, device=device)
        on = by_row(events(model, lookahead_steps=3))
        beside = events(model, lookahead_steps=3, async_lookahead=True)
        for row, (prompt, tokens) in enumerate(zip(PROMPTS, on, strict=True)):
            found = [event for event in beside if isinstance(event, PlanForecast) and event.row == row]
            assert [event.position for event in found] == list(range(len(prompt) - 1, len(prompt) - 1 + len(tokens)))
            assert [event.chunk for event in found] == [token.chunk for token in tokens]
            for event, token in zip(found, tokens, strict=True):
                for ours, theirs in zip(event.probabilities, token.lookahead, strict=True):
                    assert ours == pytest.approx(theirs, abs=1e-12)

    def test_events_come_one_token_late_and_all_before_their_row_ends(self, device):
        model = make("v2", device=device)
        prompts, eos = [[1, 2]] * 8, 3
        found = events(
            model, prompts, seeds=range(8), eos_id=eos, max_new_tokens=25, lookahead_steps=1, async_lookahead=True
        )
        tokens, forecasts = dict.fromkeys(range(8), 0), dict.fromkeys(range(8), 0)
        ended = set()
        for event in found:
            if isinstance(event, PlanForecast):
                assert event.position == 1 + forecasts[event.row]
                forecasts[event.row] += 1
                continue
            assert tokens[event.row] - forecasts[event.row] <= 1
            tokens[event.row] += 1
            before = [row for row in ended if tokens[row] < tokens[event.row]]
            assert all(forecasts[row] == tokens[row] for row in before), "the step after a row's last token"
            if event.id == eos:
                ended.add(event.row)
        assert forecasts == tokens
        assert len(set(tokens.values())) > 2

    def test_a_caller_who_ends_a_row_has_its_forecasts_before_the_next_token(self, device):
        model = make("v2", device=device)
        counts = [0, 0]
        stream = generate(
            model,
            [[1], [2]],
            SamplingSettings(),
            max_new_tokens=6,
            seeds=[0, 1],
            lookahead_steps=1,
            async_lookahead=True,
            is_finished=lambda row: row == 0 and counts[0] == 2,
        )
        order = []
        for event in stream:
            if isinstance(event, GeneratedToken):
                counts[event.row] += 1
            order.append((type(event).__name__[0], event.row))
        token, foreseen = "G", "P"
        last = max(i for i, entry in enumerate(order) if entry == (token, 0))
        following = next(i for i, entry in enumerate(order) if i > last + 1 and entry == (token, 1))
        assert sum(entry == (foreseen, 0) for entry in order[:following]) == 2
        assert counts == [2, 6]

    def test_nothing_is_foreseen_unless_asked(self, device):
        found = events(make("v2", device=device), async_lookahead=True)
        assert all(isinstance(event, GeneratedToken) for event in found)

    @pytest.mark.parametrize("version", ["mixture_of_softmaxes", "transformer_lm"])
    def test_a_control_has_nothing_to_look_ahead_with(self, device, version):
        with pytest.raises(ValueError, match=f"^{version} has no plan to look ahead with$"):
            generate(make(version), [[1]], SamplingSettings(), max_new_tokens=1, seeds=[0], lookahead_steps=1)

    def test_the_forecast_shown_does_not_depend_on_the_horizon_fed_back(self, device):
        """`lookahead_steps` displays, the policy's horizon steers: they are two things."""
        model = make("v2", device=device)
        token = next(iter(events(model, [[1, 2]], lookahead_steps=2, max_new_tokens=1)))
        steered = PlanPolicy(lookahead_horizon=5, feedback_scale=0.9)
        other = next(iter(events(model, [[1, 2]], lookahead_steps=2, max_new_tokens=1, policy=steered)))
        for ours, theirs in itertools.zip_longest(token.lookahead, other.lookahead):
            assert ours == pytest.approx(theirs, abs=1e-12)
