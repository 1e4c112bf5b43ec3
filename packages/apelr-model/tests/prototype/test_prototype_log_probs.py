"""Log-probabilities of models in the prototype's files against a reference written from the equations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_model import load_checkpoint, score


def sigmoid(vector):
    return 1 / (1 + torch.exp(-vector))


def hidden_states(tensors, config, ids):
    """h_0 ... h_{T-1}: a gated recurrent unit, one token and one layer at a time."""
    state = [torch.zeros(config["hidden_dim"], dtype=torch.float64) for _ in range(config["num_layers"])]
    found = []
    for token in ids[:-1]:
        below = tensors["token_emb.weight"][token]
        for layer in range(config["num_layers"]):
            w_ih, w_hh, b_ih, b_hh = (
                tensors[f"backbone.{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            from_below, from_before = (w_ih @ below + b_ih).chunk(3), (w_hh @ state[layer] + b_hh).chunk(3)
            reset = sigmoid(from_below[0] + from_before[0])
            update = sigmoid(from_below[1] + from_before[1])
            new = torch.tanh(from_below[2] + reset * from_before[2])
            state[layer] = below = (1 - update) * new + update * state[layer]
        found.append(below)
    return found


def softmax(vector):
    weights = torch.exp(vector - vector.max())
    return weights / weights.sum()


def affine(tensors, name, vector):
    return tensors[f"{name}.weight"] @ vector + tensors[f"{name}.bias"]


def token_probabilities(tensors, config, version, hidden):
    """[K, V], row k: p(y | h, plan k)."""
    rows = []
    for k in range(config["num_plan_states"]):
        if version == 1:
            plan = tensors["plan_proj.weight"] @ tensors["plan_emb.weight"][k]
            fused = torch.tanh(affine(tensors, "state_proj", hidden) + plan)
            logits = affine(tensors, "out_proj", fused) + tensors["plan_vocab_bias"][k]
        else:
            logits = affine(tensors, f"expert_heads.{k}", hidden)
        rows.append(softmax(logits))
    return torch.stack(rows)


def reference(content, ids):
    """log p(y_t | x_<=t) for every target, in float64 with probabilities and loops alone."""
    config, version = content["model_config"], 1 if "plan_emb.weight" in content["model_state_dict"] else 2
    tensors = {name: tensor.double() for name, tensor in content["model_state_dict"].items()}
    hidden = hidden_states(tensors, config, ids)
    belief = softmax(tensors["planner_init_logits"])
    transition = torch.stack([softmax(row) for row in tensors["planner_transition_logits"]])
    L, scale = config["chunk_size"], config["planner_context_scale"]
    log_probs = []
    for t, target in enumerate(ids[1:]):
        if (t > 0 and t % L == 0) if version == 1 else (t + 1) % L == 0:
            if version == 1:
                evidence = scale * affine(tensors, "planner_ctx_proj", hidden[t])
            else:
                mean = sum(hidden[t - L + 1 : t + 1]) / L
                evidence = scale * affine(tensors, "planner_boundary_proj", mean)
                evidence = evidence + affine(tensors, "planner_obs_proj", mean)
            belief = belief @ transition * torch.exp(evidence)
            belief = belief / belief.sum()
        gate = belief
        if version == 2:
            horizon, share = config["lookahead_horizon"], config["lookahead_feedback_scale"]
            forecasts, power = torch.zeros_like(belief), belief
            for _ in range(horizon):
                power = power @ transition
                forecasts = forecasts + power / horizon
            gate = ((1 - share) * belief + share * forecasts) ** (1 / config["planner_temperature"])
            gate = gate / gate.sum()
        likelihoods = token_probabilities(tensors, config, version, hidden[t])[:, target]
        log_probs.append(math.log(float(gate @ likelihoods)))
        if version == 1 or config["token_filtering"]:
            belief = belief * likelihoods / (belief @ likelihoods)
    return log_probs


def found(path, ids, dtype):
    return score(load_checkpoint(path).build_model().to(dtype), ids).log_prob.tolist()


SIZES = {
    "vocab_size": st.integers(5, 40),
    "num_plan_states": st.integers(1, 6),
    "chunk_size": st.integers(1, 7),
    "token_dim": st.integers(1, 6),
    "hidden_dim": st.integers(1, 6),
    "num_layers": st.integers(1, 3),
    "planner_context_scale": st.sampled_from([0.0, 0.5, 1, 2.0]),
}
V1_SIZES = st.fixed_dictionaries({**SIZES, "fusion_dim": st.integers(1, 6)})
V2_SIZES = st.fixed_dictionaries(
    {
        **SIZES,
        "planner_temperature": st.sampled_from([0.5, 1.0, 2.0]),
        "token_filtering": st.booleans(),
        "lookahead_horizon": st.integers(1, 4),
        "lookahead_feedback_scale": st.sampled_from([0, 0.25, 0.6, 1.0]),
    }
)


@pytest.mark.parametrize(("version", "sizes"), [(1, V1_SIZES), (2, V2_SIZES)])
@settings(max_examples=40)
@given(data=st.data())
def test_every_size_and_setting_in_double_precision(make_content, tmp_path_factory, version, sizes, data):
    fields = data.draw(sizes)
    content = make_content(version, dtype=torch.float64, seed=data.draw(st.integers(0, 99)), **fields)
    ids = data.draw(st.lists(st.integers(0, fields["vocab_size"] - 1), min_size=2, max_size=20))
    path = tmp_path_factory.getbasetemp() / f"v{version}.pt"
    torch.save(content, path)
    assert found(path, ids, torch.float64) == pytest.approx(reference(content, ids), rel=0, abs=1e-9)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_single_precision_as_files_have_it(make_content, write, version, seed):
    content = make_content(version, seed=seed)
    ids = torch.randint(11, (60,), generator=torch.Generator().manual_seed(seed)).tolist()
    assert found(write(content), ids, torch.float32) == pytest.approx(reference(content, ids), rel=0, abs=1e-3)


def test_the_default_of_an_earlier_revision_is_no_feedback(make_content, write):
    content = make_content(2, dtype=torch.float64)
    for name in ("lookahead_horizon", "lookahead_feedback_scale", "async_planner"):
        del content["model_config"][name]
    path, ids = write(content), [1, 4, 7, 2, 9, 3, 10, 0, 5, 5, 8]
    content["model_config"].update(lookahead_horizon=1, lookahead_feedback_scale=0.0)
    assert found(path, ids, torch.float64) == pytest.approx(reference(content, ids), rel=0, abs=1e-9)
