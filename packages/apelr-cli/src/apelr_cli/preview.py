"""The short text that a run shows of its model from time to time."""

from apelr_cli.run_config import RunConfig
from apelr_cli.signals import StopRequest
from apelr_model import PlannerLM, SamplingSettings, generate
from apelr_tokenizers import Tokenizer

__all__ = ["preview_text"]


def preview_text(config: RunConfig, model: PlannerLM, tokenizer: Tokenizer, stop: StopRequest) -> str:
    """The preview prompt and what the model writes after it; draws no number from the training RNG.

    A signal ends it between two tokens.
    """
    train = config.train
    prompt = [tokenizer.bos_id, *tokenizer.encode(train.preview_prompt).ids]
    tokens = generate(
        model,
        [prompt],
        SamplingSettings(temperature=0.8),
        max_new_tokens=train.preview_tokens,
        seeds=[config.seed],
        eos_id=tokenizer.eos_id,
    )
    return train.preview_prompt + tokenizer.decode([token.id for token in stop.watch(tokens)])
