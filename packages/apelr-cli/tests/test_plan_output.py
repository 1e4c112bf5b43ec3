import math

import pytest
import torch

from apelr_cli.plan_output import shown_plans
from apelr_model import Score, plan_trellis


@pytest.fixture
def scored() -> Score:
    """Two plans, two chunks of two targets and one of one: which plan the first chunk had shows only later."""
    stay = torch.tensor([[0.9, 0.1], [0.1, 0.9]]).log()
    seen = torch.tensor([[[0.5, 0.5], [0.4, 0.6], [0.9, 0.1], [0.5, 0.5], [0.8, 0.2]]]).log()
    trellis = plan_trellis(seen, torch.tensor([0.5, 0.5]).log(), stay, [0, 0, 1, 1, 2])
    beliefs = torch.full((5, 2), 0.5, dtype=torch.float64).log()
    return Score(torch.zeros(5), beliefs, beliefs, [0, 0, 1, 1, 2], trellis)


def test_filtered_beliefs_are_the_scores_own(scored: Score) -> None:
    shown = shown_plans(scored._replace(trellis=None), "filtered")
    assert (shown.key, shown.totals, shown.summary) == ("belief", {}, ())
    assert shown.values(1, 3) == [pytest.approx([0.5, 0.5])] * 2


def test_smoothed_probabilities_look_back_from_the_end(scored: Score) -> None:
    shown = shown_plans(scored, "smoothed")
    weights = {
        (a, b, c): (0.4, 0.6)[a] * (0.9 if a == b else 0.1) * (0.9, 0.1)[b] * (0.9 if b == c else 0.1) * (0.8, 0.2)[c]
        for a in (0, 1)
        for b in (0, 1)
        for c in (0, 1)
    }
    total = math.fsum(weights.values())
    first = math.fsum(weight for path, weight in weights.items() if path[0] == 0) / total
    assert shown.key == "posterior"
    assert shown.values(0, 2) == [pytest.approx([first, 1 - first])] * 2
    entropy = -math.fsum(weight / total * math.log(weight / total) for weight in weights.values())
    assert shown.totals == {"plan_entropy": pytest.approx(entropy)}
    assert shown.summary == (f"plan entropy    {entropy:.4f} nats, of the path of 3 plans given the text",)


def test_the_best_path_has_one_state_a_chunk(scored: Score) -> None:
    shown = shown_plans(scored, "viterbi")
    assert shown.key == "plan"
    assert shown.values(0, 5) == [0, 0, 0, 0, 0]
    assert shown.totals["plan_path"] == [0, 0, 0]
    assert isinstance(log_prob := shown.totals["plan_log_prob"], float)
    assert log_prob < 0
    assert shown.summary == (f"plan path       log-probability {log_prob:.4f} nats given the text, 3 plans",)
