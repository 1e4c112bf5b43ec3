"""`generate()`: cache and belief move together through batches, beams and repeated prompts."""

import pytest
import torch

from apelr_model import SamplingSettings, generate, score

pytest.importorskip("transformers", reason="the extra apelr-model[transformers] is not installed")

from transformers import DynamicCache

from apelr_model.hf import ApelrCache

ROWS = [[3, 5, 7, 9, 4, 6, 8], [9, 8, 7, 4], [6]]
NO_END = {"eos_token_id": None, "pad_token_id": 0, "max_new_tokens": 9}


@pytest.fixture
def batch(padded, device):
    ids, mask = padded(ROWS)
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def test_greedy_text_is_ours_for_rows_of_any_length(ours, as_transformers, batch):
    found = as_transformers(ours).generate(**batch, **NO_END, do_sample=False)
    wanted = [[], [], []]
    for token in generate(ours, ROWS, SamplingSettings(temperature=0), max_new_tokens=9, seeds=[0, 0, 0]):
        wanted[token.row].append(token.id)
    assert found[:, 7:].tolist() == wanted


def test_beams_move_keys_states_and_beliefs_together(ours, as_transformers, batch):
    """With a cache as without one; and the scores are ours of the whole text."""
    model = as_transformers(ours)
    settings = {**NO_END, "num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.0}
    found = model.generate(**batch, **settings, return_dict_in_generate=True, output_scores=True)
    assert torch.equal(found.sequences, model.generate(**batch, **settings, use_cache=False))
    assert isinstance(found.past_key_values, ApelrCache)
    assert found.past_key_values.batch_size == 9
    for index, (sequence, total) in enumerate(zip(found.sequences, found.sequences_scores, strict=True)):
        prompt = ROWS[index // 2]
        log_probs = score(ours, [*prompt, *sequence[7:].tolist()]).log_prob[len(prompt) - 1 :]
        assert total.item() == pytest.approx(log_probs.sum().item(), abs=1e-4)


def test_samples_are_those_of_the_model_without_a_cache(ours, as_transformers, batch):
    model = as_transformers(ours)
    settings = {**NO_END, "do_sample": True, "num_return_sequences": 3, "top_k": 0, "temperature": 0.9}
    drawn = []
    for use_cache in (True, False):
        torch.manual_seed(5)
        drawn.append(model.generate(**batch, **settings, use_cache=use_cache))
    assert torch.equal(*drawn)
    assert len({tuple(row) for row in drawn[0].tolist()}) == 9


def test_it_streams_and_reads_prompts_in_pieces_where_each_row_has_a_token(planner, as_transformers, batch):
    class Streamer:
        def __init__(self):
            self.ids = []

        def put(self, ids):
            self.ids += ids.flatten().tolist()

        def end(self):
            self.ids.append("end")

    model, streamer = as_transformers(planner), Streamer()
    ids = batch["input_ids"][:1]
    wanted = model.generate(ids, **NO_END, do_sample=False)
    found = model.generate(ids, **NO_END, do_sample=False, streamer=streamer, prefill_chunk_size=3)
    assert streamer.ids == [*wanted[0].tolist(), "end"]
    assert torch.equal(found, wanted)
    with pytest.raises(ValueError, match=r"^attention_mask must keep a token of every row, row 1 has none$"):
        model.generate(**batch, **NO_END, do_sample=False, prefill_chunk_size=3)


def test_rows_end_at_eos_and_are_filled_with_padding(planner, as_transformers, batch):
    with torch.no_grad():
        planner.head.bias[:, 2] += 1.5
    torch.manual_seed(0)
    found = as_transformers(planner).generate(**batch, max_new_tokens=40, do_sample=True)
    ends = [row.index(2) for row in found[:, 7:].tolist()]
    assert len(set(ends)) > 1
    for row, end in zip(found[:, 7:].tolist(), ends, strict=True):
        assert not any(row[end + 1 :])


def test_a_returned_cache_goes_on(planner, as_transformers):
    """As a conversation does: what has been read is not read again."""
    model, ids = as_transformers(planner), torch.tensor([ROWS[0]], device=planner.device)
    first = model.generate(ids, **NO_END, do_sample=False, return_dict_in_generate=True)
    longer = torch.cat([first.sequences, torch.tensor([[3, 4]], device=planner.device)], dim=1)
    found = model.generate(longer, past_key_values=first.past_key_values, **NO_END, do_sample=False)
    assert torch.equal(found, model.generate(longer, **NO_END, do_sample=False))


def test_what_would_roll_the_belief_back_is_refused(planner, as_transformers):
    model, ids = as_transformers(planner), torch.tensor([ROWS[0]], device=planner.device)
    with pytest.raises(ValueError, match="stateful"):
        model.generate(ids, **NO_END, prompt_lookup_num_tokens=2)
    with pytest.raises(ValueError, match="stateful"):
        model.generate(ids, **NO_END, assistant_model=as_transformers(planner))


def test_other_caches_are_refused(planner, as_transformers):
    model, ids = as_transformers(planner), torch.tensor([ROWS[0]], device=planner.device)
    with pytest.raises(ValueError, match=r"^past_key_values must be an ApelrCache, got DynamicCache$"):
        model.generate(ids, **NO_END, past_key_values=DynamicCache())
    with pytest.raises(ValueError, match=r"^past_key_values must be an ApelrCache, got DynamicCache$"):
        model(ids, past_key_values=DynamicCache())
    with pytest.raises(ValueError, match=r"^cache_implementation must not be given, got 'static'"):
        model.generate(ids, **NO_END, cache_implementation="static")


@torch.no_grad()
def test_rows_are_selected_repeated_and_forgotten(planner, as_transformers, device):
    model = as_transformers(planner)
    ids = torch.tensor([[3, 4, 5], [6, 7, 8]], device=device)
    cache = model(ids).past_key_values
    cache.batch_repeat_interleave(2)
    cache.reorder_cache(torch.tensor([3, 0, 1], device=device))
    found = model(torch.tensor([[9], [9], [4]], device=device), past_key_values=cache).logits[:, 0]
    wanted = model(torch.tensor([[6, 7, 8, 9], [3, 4, 5, 9], [3, 4, 5, 4]], device=device)).logits[:, -1]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)
    cache.reset()
    assert (cache.batch_size, cache.get_seq_length()) == (-1, 0)
    torch.testing.assert_close(model(ids, past_key_values=cache).logits, model(ids).logits, rtol=0, atol=1e-9)
