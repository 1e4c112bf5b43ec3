"""The library's own Trainer on our model."""

import math

import pytest
import torch
from torch.utils.data import Dataset

pytest.importorskip("transformers", reason="the extra apelr-model[transformers] is not installed")
pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate, which is not installed")

from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

LAST = 8


class Rows(Dataset):
    """Rows of one repeated phrase, from any place in it; some padded at the left."""

    def __len__(self):
        return 16

    def __getitem__(self, index):
        phrase = [3, 5, 7, 9] * 6
        pads = index % 3
        ids = torch.tensor([0] * pads + phrase[index % 4 :][: 12 - pads])
        mask = (torch.arange(12) >= pads).long()
        return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def test_the_trainer_trains_evaluates_saves_and_goes_on(planner, as_transformers, tmp_path, device):
    if device.type != "cpu":
        pytest.skip("once is enough")
    model = as_transformers(planner.float())
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=LAST,
        save_steps=LAST // 2,
        logging_steps=LAST // 2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=0.05,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=1,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=Rows(), eval_dataset=Rows())
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    assert math.isfinite(before)
    assert after < 0.7 * before
    assert trainer.predict(Rows()).predictions.shape == (16, 12, model.config.vocab_size)  # logits, and no belief
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / f"checkpoint-{LAST}")
    for one, two in zip(saved.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, two)
    fresh = as_transformers(planner)
    again = Trainer(model=fresh, args=arguments, train_dataset=Rows())
    again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{LAST // 2}"))
    for one, two in zip(fresh.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-5)
