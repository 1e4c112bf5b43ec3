"""V1's head against its formula, written out with loops."""

import torch

from apelr_model.head_v1 import V1Head


def make_head(device, dropout=0.0):
    torch.manual_seed(0)
    head = V1Head(vocab_size=5, num_plan_states=3, hidden_dim=4, fusion_dim=6, dropout=dropout).double()
    with torch.no_grad():
        head.plan_vocab_bias.normal_()
    return head.to(device)


def test_logits_are_those_of_the_formula(device):
    """logits_k = W_o tanh(W_s h + b_s + W_p u_k) + b_o + v_k."""
    head = make_head(device).eval()
    hidden = torch.randn(7, 4, dtype=torch.float64, device=device)
    logits = head(hidden)
    assert logits.shape == (7, 3, 5)
    for n in range(7):
        state = head.state_proj.weight @ hidden[n] + head.state_proj.bias
        for k in range(3):
            fused = torch.tanh(state + head.plan_proj.weight @ head.plan_emb.weight[k])
            wanted = head.out_proj.weight @ fused + head.out_proj.bias + head.plan_vocab_bias[k]
            torch.testing.assert_close(logits[n, k], wanted, rtol=0, atol=1e-12)


def test_dropout_falls_on_the_fused_state_before_the_output_projection(device):
    head = make_head(device)
    head.dropout = torch.nn.Module()
    head.dropout.forward = torch.zeros_like
    logits = head(torch.randn(2, 4, dtype=torch.float64, device=device))
    torch.testing.assert_close(logits, (head.out_proj.bias + head.plan_vocab_bias).expand(2, 3, 5))


def test_dropout_acts_in_training_only(device):
    head = make_head(device, dropout=0.5)
    hidden = torch.randn(4, 4, dtype=torch.float64, device=device)
    assert (head.train()(hidden) != head(hidden)).any()
    assert (head.eval()(hidden) == head(hidden)).all()


def test_plans_differ_from_the_start():
    """Fresh plan embeddings have about unit variance: nearly equal ones would be a saddle point."""
    torch.manual_seed(0)
    head = V1Head(vocab_size=50, num_plan_states=16, hidden_dim=32, fusion_dim=64, dropout=0.0)
    assert 0.9 < head.plan_emb.weight.std().item() < 1.1
    log_probs = head(torch.randn(20, 32)).log_softmax(-1)
    assert (log_probs[:, 0] - log_probs[:, 1]).abs().max() > 0.1
