"""The planner's parameters: distributions, evidence, recognizer and boundaries."""

import pytest
import torch

from apelr_model import cross_boundary
from apelr_model.planner import Planner


def make_planner(device, **changes):
    torch.manual_seed(0)
    settings = {"num_plan_states": 3, "hidden_dim": 4, "context_scale": 0.5, "self_bias": 2.0}
    return Planner(**{**settings, "boundary_evidence": True, **changes}).double().to(device)


def test_a_fresh_plan_starts_anywhere_and_prefers_to_stay(device):
    planner = make_planner(device)
    torch.testing.assert_close(planner.log_initial().exp(), torch.full((3,), 1 / 3, dtype=torch.float64).to(device))
    move = planner.log_transition().exp()
    torch.testing.assert_close(move.sum(-1), torch.ones(3, dtype=torch.float64, device=device))
    torch.testing.assert_close(move.diagonal() / move[0, 1], torch.full_like(move[0], 2.0).exp())


def test_rows_of_the_transition_sum_to_one_whatever_the_logits(device):
    planner = make_planner(device)
    with torch.no_grad():
        planner.transition_logits.normal_(std=20)
    torch.testing.assert_close(planner.log_transition().exp().sum(1), torch.ones(3, dtype=torch.float64, device=device))


def test_evidence_is_the_scaled_projection(device):
    planner = make_planner(device)
    hidden = torch.randn(2, 5, 4, dtype=torch.float64, device=device)
    wanted = 0.5 * (hidden @ planner.context_proj.weight.T + planner.context_proj.bias)
    torch.testing.assert_close(planner.evidence(hidden), wanted)


def test_without_boundary_evidence_there_is_none(device):
    planner = make_planner(device, boundary_evidence=False)
    assert planner.evidence(torch.zeros(2, 4, device=device)) is None
    assert not any("context" in name for name, _ in planner.named_parameters())


def test_the_recognizer_gives_log_probabilities(device):
    planner = make_planner(device)
    mean = torch.randn(6, 4, dtype=torch.float64, device=device)
    wanted = (mean @ planner.recognizer.weight.T + planner.recognizer.bias).log_softmax(-1)
    torch.testing.assert_close(planner.recognize(mean), wanted)


@pytest.mark.parametrize("evidence", [True, False])
def test_enter_crosses_where_it_is_told_to_and_nowhere_else(device, evidence):
    planner = make_planner(device, boundary_evidence=evidence)
    belief = torch.randn(3, 3, dtype=torch.float64, device=device).log_softmax(-1)
    hidden = torch.randn(3, 4, dtype=torch.float64, device=device)
    entered = planner.enter(belief, hidden, torch.tensor([True, False, True], device=device))
    crossed = cross_boundary(belief, planner.log_transition(), planner.evidence(hidden))
    torch.testing.assert_close(entered[[0, 2]], crossed[[0, 2]])
    torch.testing.assert_close(entered[1], belief[1], rtol=0, atol=0)


def test_evidence_and_recognizer_stay_in_float32_under_autocast(device):
    planner = make_planner(device).float()
    hidden = torch.randn(2, 4, device=device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        found = planner.evidence(hidden.bfloat16()), planner.recognize(hidden.bfloat16())
    assert [x.dtype for x in found] == [torch.float32, torch.float32]
    torch.testing.assert_close(found[0], planner.evidence(hidden.bfloat16().float()))
