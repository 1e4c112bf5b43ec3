"""What V1's and V2's planners have beside the filter."""

import pytest
import torch

from apelr_model import V1Config, V2Config, V2LossWeights, planner_diagnostics
from apelr_model.objective import loss_terms
from apelr_model.planner_versions import V1Planner, V2Planner

SIZES = {"num_plan_states": 3, "hidden_dim": 4, "token_dim": 2, "chunk_size": 5, "planner_context_scale": 0.5}


def test_where_boundaries_fall_and_what_evidence_reads(device):
    first, second = V1Planner(V1Config(**SIZES)), V2Planner(V2Config(**SIZES))
    assert (first.chunks.chunk_size, first.chunks.offset, first.summary) == (5, 0, "last_state")
    assert (second.chunks.chunk_size, second.chunks.offset, second.summary) == (5, 1, "chunk_mean")
    assert first.context_scale == second.context_scale == 0.5
    assert first.hard_fraction == second.hard_fraction == 0.0


def test_the_recognizer_gives_log_probabilities(device):
    torch.manual_seed(0)
    planner = V1Planner(V1Config(**SIZES)).double().to(device)
    mean = torch.randn(6, 4, dtype=torch.float64, device=device)
    wanted = (mean @ planner.recognizer.weight.T + planner.recognizer.bias).log_softmax(-1)
    torch.testing.assert_close(planner.recognize(mean), wanted)


def test_the_recognizer_stays_in_float32_under_autocast(device):
    planner = V1Planner(V1Config(**SIZES)).to(device)
    mean = torch.randn(2, 4, device=device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        found = planner.recognize(mean.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, planner.recognize(mean.bfloat16().float()))


def test_the_planner_temperature_is_a_buffer_that_starts_where_its_schedule_does():
    assert float(V2Planner(V2Config(**SIZES)).temperature) == 1.0
    assert float(V2Planner(V2Config(**SIZES, planner_temperature=0.5)).temperature) == 0.5
    annealed = V2Config(**SIZES, planner_temperature=0.5, plan_temperature_start=2.0, plan_temperature_end=1.0)
    planner = V2Planner(annealed)
    assert float(planner.temperature) == 2.0
    assert "temperature" in planner.state_dict()
    assert "temperature" not in dict(planner.named_parameters())
    assert not any("temperature" in name for name in V1Planner(V1Config(**SIZES)).state_dict())


def test_what_the_contrast_alone_needs_can_be_left_out(make_model, make_batch):
    sizes = {"kind": V2Config, "hidden_dim": 7, "num_plan_states": 3}
    whole, without = make_model(**sizes), make_model(**sizes, future_horizon_chunks=0)
    count = [sum(parameter.numel() for parameter in model.parameters()) for model in (whole, without)]
    assert count[0] - count[1] == 3 * 7 + 7 * 7
    batch = make_batch([12, 9])
    assert planner_diagnostics(without, [batch]).future_contrastive_loss is None
    assert planner_diagnostics(whole, [batch]).future_contrastive_loss > 0
    loss_terms(without, batch, V2LossWeights(usage_balance=0.1)).nll.backward()
    with pytest.raises(ValueError, match=r"^the future-contrastive loss needs model.future_horizon_chunks >= 1$"):
        loss_terms(without, batch, V2LossWeights(future_contrastive=0.1))
