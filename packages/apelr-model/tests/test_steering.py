"""Steering: states that cannot be mistaken, states that are all alike, and re-inference by scoring each text alone."""

import pytest
import torch

from apelr_model import (
    MixtureOfSoftmaxesConfig,
    PlanPolicy,
    SamplingSettings,
    V1Config,
    V2Config,
    build_model,
    generate,
    score,
    steering,
)

STATES = 3


def speaking(device, *, gap, kind=V2Config, chunk_size=4):
    """State k prefers id k by `gap` nats; id 3 is as rare as a wrong one."""
    sizes = {"num_plan_states": STATES, "chunk_size": chunk_size, "token_dim": 4, "hidden_dim": 5}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(kind(**sizes, **({"fusion_dim": 4} if kind is V1Config else {})), 4)
    model = model.to(device=device, dtype=torch.float64).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("head"):
                parameter.zero_()
        bias = model.head.plan_vocab_bias if kind is V1Config else model.head.bias
        bias[:, :STATES] += gap * torch.eye(STATES, device=device)
        model.planner.transition_logits.copy_(2 * torch.eye(STATES))
    return model


@pytest.mark.parametrize("kind", [V1Config, V2Config])
def test_states_with_words_of_their_own_are_always_recovered(device, kind):
    found = steering(speaking(device, gap=30.0, kind=kind), [3], texts=4, max_new_tokens=9)
    assert found.recovery == ((4, 0, 0), (0, 4, 0), (0, 0, 4))
    assert found.recovered() == 1
    assert found.recovered([0, 2]) == 1
    assert found.too_short == (0, 0, 0)
    assert found.burn_in == 4
    assert found.texts == tuple(tuple((k,) * 9 for _ in range(4)) for k in range(STATES))
    assert [len(text) for text in found.free_texts] == [9] * 4


def test_states_that_are_alike_are_not_told_apart(device):
    found = steering(speaking(device, gap=0.0), [3], texts=4, max_new_tokens=9)
    assert [sum(row) for row in found.recovery] == [4, 4, 4]
    assert found.recovered() == pytest.approx(1 / STATES)


@pytest.mark.parametrize("kind", [V1Config, V2Config])
@pytest.mark.parametrize("burn_in", [0, 5])
def test_inference_is_scoring_each_text_alone(make_model, kind, burn_in):
    model = make_model(kind=kind, vocab=7)
    prompt, eos = [1, 4, 2], 6
    found = steering(model, prompt, texts=6, max_new_tokens=14, eos_id=eos, burn_in=burn_in, seed=5)
    table, short = [[0] * STATES for _ in range(STATES)], [0] * STATES
    for k, texts in enumerate(found.texts):
        for text in texts:
            assert 1 <= len(text) <= 14
            assert eos not in text[:-1]
            scored = score(model, [*prompt, *text], with_trellis=True)
            runs, sums = scored.trellis.segments.number[0].tolist(), torch.zeros(STATES, dtype=torch.float64)
            after = torch.tensor(  # the belief after a target: before the next one, or at the end of a run
                [
                    (
                        scored.log_belief[t + 1]
                        if t + 1 < len(runs) and runs[t + 1] == runs[t]
                        else scored.trellis.log_after[0, runs[t]]
                    )
                    .exp()
                    .tolist()
                    for t in range(len(runs))
                ]
            )
            for t in range(len(prompt) - 1 + burn_in, len(runs)):
                sums += after[t]
            if len(text) <= burn_in:
                short[k] += 1
            else:
                table[k][int(sums.argmax())] += 1
    assert found.recovery == tuple(tuple(row) for row in table)
    assert found.too_short == tuple(short)
    total = sum(map(sum, table))
    assert found.recovered() == pytest.approx(sum(table[k][k] for k in range(STATES)) / total)
    assert found.recovered([1]) == pytest.approx(table[1][1] / sum(table[1]))


def test_texts_are_those_of_generation_with_the_state_forced(make_model):
    model = make_model(kind=V2Config)
    settings = SamplingSettings(temperature=0.8, top_k=6)
    found = steering(model, [1, 2], texts=2, max_new_tokens=6, settings=settings, seed=10)
    for k, policy in enumerate([*(PlanPolicy(force_state=k) for k in range(STATES)), model.policy]):
        seeds = [10 + 2 * k, 11 + 2 * k]
        made = [[], []]
        for token in generate(model, [[1, 2]] * 2, settings, max_new_tokens=6, seeds=seeds, policy=policy):
            made[token.row].append(token.id)
        written = found.free_texts if k == STATES else found.texts[k]
        assert written == tuple(tuple(ids) for ids in made)


def test_a_seed_decides_and_mode_and_random_state_are_left_alone(make_model):
    model = make_model(dropout=0.5).train()
    before = torch.get_rng_state()
    first, again, other = (steering(model, [1], texts=2, max_new_tokens=6, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_a_policy_is_how_texts_are_read(make_model):
    """Frozen at pi, every text is taken for the state that pi prefers."""
    model = make_model(kind=V2Config)
    free = steering(model, [1], texts=3, max_new_tokens=6)
    frozen = steering(model, [1], texts=3, max_new_tokens=6, policy=PlanPolicy(freeze_after=0))
    likeliest = int(model.planner.log_initial().argmax())
    assert frozen.texts == free.texts
    assert [row[likeliest] for row in frozen.recovery] == [3, 3, 3]


@pytest.mark.parametrize("policy", [PlanPolicy(force_state=1), PlanPolicy(mode="uniform")])
def test_free_texts_are_free_whatever_is_forced_elsewhere(device, policy):
    model = speaking(device, gap=3.0)
    assert steering(model, [3], texts=4, max_new_tokens=9, policy=policy) == steering(
        model, [3], texts=4, max_new_tokens=9, policy=PlanPolicy()
    )


def test_nothing_is_said_of_texts_that_all_end_at_once(device):
    found = steering(speaking(device, gap=30.0), [3], texts=2, max_new_tokens=9, eos_id=1)
    assert found.texts[1] == ((1,), (1,))
    assert found.too_short == (0, 2, 0)
    assert found.recovered([1]) is None
    assert found.recovered() == 1


def test_refusals(make_model):
    for model in (make_model(kind=MixtureOfSoftmaxesConfig), make_model(num_plan_states=1)):
        with pytest.raises(ValueError, match="with one plan state, or without a chain of them, cannot be steered"):
            steering(model, [1], texts=1, max_new_tokens=9)
    for texts, tokens in ((0, 9), (1, 4)):
        with pytest.raises(ValueError, match=r"^steering needs texts >= 1 and more new tokens than the burn-in of 4"):
            steering(make_model(), [1], texts=texts, max_new_tokens=tokens)
    with pytest.raises(ValueError, match=r"^every prompt needs at least one id"):
        steering(make_model(), [], texts=1, max_new_tokens=9)
