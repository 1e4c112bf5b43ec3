"""Config keys of the prototype that are called otherwise here, or that nothing needs any more."""

__all__ = ["PROTOTYPE_KEYS"]

PROTOTYPE_KEYS = {
    "data.tokenizer_fit_max_chars": "it is tokenizer.fit_max_chars now",
    "data.tokenizer_fit_max_examples": "set tokenizer.fit_max_chars instead",
    "model.eps": "beliefs are exact and need no epsilon; leave it out",
    "train.adaptive_batch": "set train.batch_size and train.grad_accum_steps instead",
    "train.eval_planner_diagnostics": "apelr eval has the diagnostics of any checkpoint; leave it out",
    "train.final_eval_planner_diagnostics": "the final evaluation always has them; leave it out",
    "train.save_optimizer_state": "checkpoints always hold it; leave it out",
}
"""Each such key, and what to do (docs/model_versions.md)."""
