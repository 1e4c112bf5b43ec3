"""What loss terms and evaluations are means of: one entry a target or a chunk, the runs regrouped by document."""

import torch

from apelr_model.batch_statistics import mixture_statistics, read_batch, recognizer_kl

RAGGED = [10, 3, 7, 1, 4, 9]


def test_statistics_have_one_entry_a_target_and_a_chunk(make_model, make_batch):
    model = make_model()
    with torch.no_grad():
        found = read_batch(model, make_batch(RAGGED))
        mixed = mixture_statistics(model, found)
        kl = recognizer_kl(model.planner, found)
    assert found.token_nll.shape == (sum(RAGGED),)
    assert found.hidden.shape == (sum(RAGGED), 7)
    assert found.log_belief.shape == found.log_gate.shape == found.log_belief_after.shape == (sum(RAGGED), 3)
    assert mixed.plan_mi.shape == (sum(RAGGED),)
    assert mixed.chunk_bow.shape == kl.shape == (sum(-(-n // 4) for n in RAGGED),)
    assert (mixed.plan_mi >= -1e-12).all()
