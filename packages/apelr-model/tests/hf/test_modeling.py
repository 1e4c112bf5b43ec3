"""Every version as a causal language model: its numbers are those of `score`, whatever the padding and the pieces."""

import subprocess
import sys
import textwrap

import pytest
import torch

from apelr_model import ImpossibleObservationError, PlanPolicy, TransformerConfig, V2Config, score

pytest.importorskip("transformers", reason="the extra apelr-model[transformers] is not installed")

from transformers import AutoConfig, AutoModelForCausalLM

from apelr_model.hf import ApelrCache, ApelrConfig, ApelrForCausalLM

ROWS = [[3, 5, 7, 9, 4, 6, 8, 10, 3, 3, 5], [9, 8, 7, 4], [6], [10, 3]]
IDS = [3, 5, 7, 9, 4, 6, 8, 10, 3, 3, 5, 1, 2, 0, 9, 9, 4]


def close(found, wanted, tolerance=1e-9):
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance)


def nll(model, ids, **more):
    return -score(model, ids, **more).log_prob


@torch.no_grad()
def test_logits_and_beliefs_are_those_of_score(ours, as_transformers):
    ids = torch.tensor([IDS], device=ours.device)
    output = as_transformers(ours)(ids)
    wanted = score(ours, IDS)
    close(output.logits.logsumexp(-1), torch.zeros_like(output.logits[..., 0]))
    found = output.logits[0, :-1].softmax(-1).log().gather(1, ids[0, 1:, None]).squeeze(1)
    close(found, wanted.log_prob)
    close(output.log_belief[0, :-1], wanted.log_belief)
    close(output.log_gate[0, :-1], wanted.log_gate)


@torch.no_grad()
def test_in_single_precision_they_agree_to_a_ten_thousandth(ours, as_transformers):
    ours.float()
    ids = torch.tensor([IDS], device=ours.device)
    found = as_transformers(ours)(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None]).squeeze(1)
    close(found, score(ours, IDS).log_prob.float(), 1e-4)


@torch.no_grad()
def test_in_half_precision_it_is_near(ours, as_transformers):
    ids = torch.tensor([IDS], device=ours.device)
    wanted = as_transformers(ours)(ids).logits
    found = as_transformers(ours.bfloat16())(ids).logits
    assert found.dtype == torch.float32
    assert (found - wanted).abs().mean() < 0.1


@torch.no_grad()
def test_the_loss_is_the_mean_nll_of_the_labels_that_count(ours, as_transformers):
    model, ids = as_transformers(ours), torch.tensor([IDS], device=ours.device)
    close(model(ids, labels=ids).loss.double(), nll(ours, IDS).mean(), 1e-6)
    labels = ids.clone()
    labels[0, [0, 3, 4, 16]] = -100
    counted = [t - 1 for t in range(1, 17) if t not in (3, 4, 16)]
    close(model(ids, labels=labels).loss.double(), nll(ours, IDS)[counted].mean(), 1e-6)
    close(model(ids, labels=labels, num_items_in_batch=26).loss.double(), nll(ours, IDS)[counted].sum() / 26, 1e-6)


def test_gradients_are_those_of_our_own_loss(ours, as_transformers):
    model, ids = as_transformers(ours), torch.tensor([IDS], device=ours.device)
    model(ids, labels=ids).loss.backward()
    reading = ours.read(ids[:, :-1], ids[:, 1:], keep_state=False)
    (-reading.filtered.token_log_prob.mean()).backward()
    for (name, found), wanted in zip(model.planner_lm.named_parameters(), ours.parameters(), strict=True):
        if wanted.grad is not None:
            close(found.grad, wanted.grad, 1e-6)
        else:
            assert found.grad is None, name


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padding_is_not_there(ours, as_transformers, padded, side):
    """Neither executor nor belief sees it, and chunks are counted from each row's own first token."""
    model = as_transformers(ours)
    ids, mask = (tensor.to(ours.device) for tensor in padded(ROWS, side))
    output = model(ids, attention_mask=mask)
    for row, own in enumerate(ROWS):
        alone = model(torch.tensor([own], device=ours.device))
        for name in ("logits", "log_belief", "log_gate"):
            close(getattr(output, name)[row, mask[row].bool()], getattr(alone, name)[0])
    close(output.logits[2], output.logits[2, :1].expand_as(output.logits[2]))  # pads show their row's nearest
    each = torch.cat([nll(ours, own) for own in ROWS if len(own) > 1])
    close(model(ids, attention_mask=mask, labels=ids).loss.double(), each.mean(), 1e-6)


@torch.no_grad()
def test_masked_columns_inside_a_row_are_not_there_either(ours, as_transformers):
    model = as_transformers(ours)
    ids = torch.tensor([IDS], device=ours.device)
    mask = torch.ones_like(ids)
    mask[0, [0, 4, 5, 9]] = 0
    kept = ids[mask.bool()].tolist()
    output = model(ids, attention_mask=mask, labels=ids)
    close(output.logits[mask.bool()], model(torch.tensor([kept], device=ours.device)).logits[0])
    close(output.loss.double(), nll(ours, kept).mean(), 1e-6)


@pytest.mark.parametrize("cut", [1, 4, 10])
@torch.no_grad()
def test_pieces_with_a_cache_give_what_the_whole_gives(ours, as_transformers, padded, cut):
    """Where each row has a token in each piece."""
    model = as_transformers(ours)
    rows = [[*row, *IDS] for row in ROWS]
    ids, mask = (tensor.to(ours.device) for tensor in padded(rows))
    ids, mask = ids[:, -18 - cut :], mask[:, -18 - cut :]
    whole = model(ids, attention_mask=mask, use_cache=False)
    assert whole.past_key_values is None
    cache, logits, beliefs = None, [], []
    for begin, end in ((0, 1 + cut), (1 + cut, 2 + cut), (2 + cut, 18 + cut)):
        output = model(ids[:, begin:end], attention_mask=mask[:, :end], past_key_values=cache)
        cache = output.past_key_values
        logits.append(output.logits)
        beliefs.append(output.log_belief)
    assert cache.get_seq_length() == 18 + cut
    close(torch.cat(logits, 1), whole.logits)
    close(torch.cat(beliefs, 1), whole.log_belief)
    close(model(ids, attention_mask=mask, logits_to_keep=2).logits, whole.logits[:, -2:])


@torch.no_grad()
def test_a_policy_intervenes_as_it_does_in_score(planner, as_transformers):
    model, ids = as_transformers(planner), torch.tensor([IDS], device=planner.device)
    for policy in (PlanPolicy(force_state=1), PlanPolicy(mode="uniform"), PlanPolicy(freeze_after=5)):
        model.policy = policy
        found = model(ids).logits[0, :-1].gather(1, ids[0, 1:, None]).squeeze(1)
        close(found, score(planner, IDS, policy=policy).log_prob)
    model.policy = PlanPolicy(force_state=9)
    with pytest.raises(ValueError, match="force_state"):
        model(ids)


@torch.no_grad()
def test_saved_and_loaded_it_is_bit_for_bit_the_same(ours, as_transformers, tmp_path):
    model = as_transformers(ours)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is ApelrForCausalLM
    assert not loaded.training
    assert loaded.dtype == torch.float64
    for (name, found), wanted in zip(loaded.planner_lm.state_dict().items(), ours.state_dict().values(), strict=True):
        assert torch.equal(found, wanted.cpu()), name
    config = AutoConfig.from_pretrained(tmp_path)
    assert config.model_config == ours.config
    assert (config.vocab_size, config.apelr["step"], config.pad_token_id) == (ours.vocab_size, 7, 0)
    assert len(list(loaded.parameters())) == len(list(ours.parameters()))  # tied weights are one
    ids = torch.tensor([IDS])
    close(loaded(ids).logits, model.cpu()(ids).logits)


def test_missing_and_unknown_tensors_are_refused(planner, as_transformers, tmp_path):
    from safetensors.torch import load_file, save_file

    as_transformers(planner).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    emb = tensors.pop("planner_lm.planner.initial_logits")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"has missing tensors: planner_lm\.planner\.initial_logits"):
        ApelrForCausalLM.from_pretrained(tmp_path)
    more = {**tensors, "planner_lm.planner.initial_logits": emb, "another": emb.clone()}
    save_file(more, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="has unexpected tensors: another"):
        ApelrForCausalLM.from_pretrained(tmp_path)


def test_a_fresh_model_is_initialised_as_ours_is():
    config = V2Config(num_plan_states=3, hidden_dim=8, executor=TransformerConfig(num_heads=2))
    from apelr_model import build_model

    torch.manual_seed(3)
    wanted = build_model(config, 11)
    torch.manual_seed(3)
    found = AutoModelForCausalLM.from_config(ApelrConfig.of_model(config, 11))
    for one, two in zip(found.planner_lm.parameters(), wanted.parameters(), strict=True):
        assert torch.equal(one, two)


def test_what_cannot_be_is_refused_in_one_line(planner, as_transformers):
    model, ids = as_transformers(planner), torch.tensor([[3, 4], [5, 6]], device=planner.device)
    with pytest.raises(ValueError, match=r"^attention_mask must keep a token of every row, row 1 has none$"):
        model(ids, attention_mask=torch.tensor([[0, 1], [0, 0]]))
    with pytest.raises(ValueError, match=r"^attention_mask must be \[2, 2\], got \[2, 3\]$"):
        model(ids, attention_mask=torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"^labels must be \[2, 2\], got \[2, 1\]$"):
        model(ids, labels=ids[:, 1:])
    with pytest.raises(ValueError, match=r"^logits_to_keep must be a whole number >= 0, got tensor\(\[0\]\)$"):
        model(ids, logits_to_keep=torch.tensor([0]))
    with pytest.raises(ValueError, match="cannot be resized"):
        model.resize_token_embeddings(20)
    for name in ("position_ids", "output_hidden_states", "output_attentions"):
        with pytest.raises(TypeError, match=name):
            model(ids, **{name: ids})
    with pytest.raises(ValueError, match="cannot be cropped"):
        ApelrCache(planner.executor).crop(-1)


@torch.no_grad()
def test_an_impossible_token_is_named_and_padding_of_ended_rows_is_not_one(planner, as_transformers):
    planner.head.bias[:, [0, 5]] = -torch.inf
    model = as_transformers(planner)
    for ids in ([[3, 4, 6], [3, 5, 4]], [[3, 4, 6], [3, 0, 4]]):
        with pytest.raises(ImpossibleObservationError, match="row 1 of input_ids has probability zero"):
            model(torch.tensor(ids, device=planner.device))
    first = model(torch.tensor([[3, 4], [3, 6]], device=planner.device))
    after = model(torch.tensor([[7], [0]], device=planner.device), past_key_values=first.past_key_values)
    assert after.logits.exp().sum(-1).sub(1).abs().max() < 1e-9
    with pytest.raises(ImpossibleObservationError, match="row 0"):
        model(torch.tensor([[5], [0]], device=planner.device), past_key_values=after.past_key_values)


def test_the_public_names_are_frozen():
    import apelr_model.hf as face

    assert face.__all__ == [
        "ApelrCache",
        "ApelrConfig",
        "ApelrForCausalLM",
        "ApelrOutput",
        "PretrainedExecutor",
        "load_planner",
        "planner_on",
        "save_planner",
    ]
    assert all(getattr(face, name).__doc__ for name in face.__all__)


@pytest.mark.parametrize("missing", ["transformers", "safetensors"])
def test_without_the_extra_one_line_says_what_to_install_and_the_package_itself_needs_nothing(missing):
    program = f"""
        import sys
        import importlib.util as util
        found = util.find_spec
        util.find_spec = lambda name, *rest: None if name == {missing!r} else found(name, *rest)
        import apelr_model
        assert "transformers" not in sys.modules and "safetensors" not in sys.modules
        try:
            import apelr_model.hf
        except ImportError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    wanted = "apelr_model.hf needs transformers; install it with: pip install 'apelr-model[transformers]'\n"
    assert done.stdout == wanted
