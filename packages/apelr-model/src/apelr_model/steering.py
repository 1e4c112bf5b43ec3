"""Can the plan be steered? Texts written under a forced plan state, read again without being told which."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.batch_statistics import read_batch
from apelr_model.batches import TokenBatch
from apelr_model.generation import generate
from apelr_model.planner import FilterPlanner
from apelr_model.planner_lm import PlannerLM
from apelr_model.policy import PlanPolicy
from apelr_model.sampling import SamplingSettings
from apelr_model.scoring import eval_mode

__all__ = ["Steering", "steering"]


class Steering(NamedTuple):
    """Texts under each plan state, and the states that the filter takes them for."""

    texts: tuple[tuple[tuple[int, ...], ...], ...]
    """[K][n] ids of each continuation, EOS included where it came."""
    free_texts: tuple[tuple[int, ...], ...]
    """[n] continuations under the model's own use of its belief, for comparison."""
    recovery: tuple[tuple[int, ...], ...]
    """[K][K] number of texts by forced state (row) and re-inferred one (column)."""
    too_short: tuple[int, ...]
    """[K] texts that ended within the burn-in: there is nothing to infer from, and they are in no row."""
    burn_in: int
    """Tokens at each text's start whose beliefs do not count."""

    def recovered(self, states: Collection[int] | None = None) -> float | None:
        """Share of the texts forced into one of `states` (None: all) that are taken for it; None without texts."""
        rows = range(len(self.recovery)) if states is None else states
        total = sum(sum(self.recovery[k]) for k in rows)
        return sum(self.recovery[k][k] for k in rows) / total if total else None


@torch.no_grad()
def steering(
    model: PlannerLM,
    prompt: Sequence[int],
    *,
    texts: int,
    max_new_tokens: int,
    settings: SamplingSettings | None = None,
    eos_id: int | None = None,
    burn_in: int | None = None,
    policy: PlanPolicy | None = None,
    seed: int = 0,
) -> Steering:
    """For each plan state write `texts` continuations of the prompt (ids) with it forced, and infer it from the text.

    The text is read from the prompt's start by the model's own filter, which is not told of the state. Its belief AFTER
    each generated token is averaged over the tokens from number `burn_in` on (None: the model's chunk size, in which
    time a boundary is crossed and the prompt's own plan may be left); the text is recovered where the forced state is
    the largest (of equal ones the first). Text i of state k draws with seed + k texts + i, the free ones with the seeds
    that follow: no other random number is drawn. `policy` says how the belief is used in reading and in all texts
    (None: the model's own); a state that it forces, or a uniform gate, has no part in them: free texts are free. Leaves
    the model in the mode it was in. Raises ValueError for a model without a chain of at least two plan states, an empty
    prompt, or where no token is left after the burn-in.
    """
    if not isinstance(model.planner, FilterPlanner) or model.num_plan_states == 1:
        raise ValueError(f"{model.config.version} with one plan state, or without a chain of them, cannot be steered")
    burn_in = model.chunks.chunk_size if burn_in is None else burn_in
    if texts < 1 or not 0 <= burn_in < max_new_tokens:
        raise ValueError(
            f"steering needs texts >= 1 and more new tokens than the burn-in of {burn_in}, "
            f"got {texts} texts of {max_new_tokens} tokens"
        )
    settings = SamplingSettings() if settings is None else settings
    policy = replace(model.policy if policy is None else model.check_policy(policy), force_state=None, mode="normal")
    states = model.num_plan_states
    policies = [*(replace(policy, force_state=k) for k in range(states)), policy]
    written, recovery, too_short = [], [], []
    with eval_mode(model):
        for k, used in enumerate(policies):
            seeds = range(seed + k * texts, seed + (k + 1) * texts)
            written.append(_write(model, prompt, used, settings, max_new_tokens, seeds, eos_id))
        for made in written[:states]:
            inferred = _infer(model, prompt, made, burn_in, policy)
            recovery.append(tuple(inferred.count(k) for k in range(states)))
            too_short.append(inferred.count(None))
    return Steering(tuple(written[:states]), written[states], tuple(recovery), tuple(too_short), burn_in)


def _write(
    model: PlannerLM,
    prompt: Sequence[int],
    policy: PlanPolicy,
    settings: SamplingSettings,
    max_new_tokens: int,
    seeds: Sequence[int],
    eos_id: int | None,
) -> tuple[tuple[int, ...], ...]:
    """One continuation for each seed."""
    made: list[list[int]] = [[] for _ in seeds]
    for token in generate(
        model,
        [prompt] * len(seeds),
        settings,
        max_new_tokens=max_new_tokens,
        seeds=seeds,
        eos_id=eos_id,
        policy=policy,
    ):
        made[token.row].append(token.id)
    return tuple(tuple(ids) for ids in made)


def _infer(
    model: PlannerLM, prompt: Sequence[int], texts: Sequence[Sequence[int]], burn_in: int, policy: PlanPolicy
) -> list[int | None]:
    """The state with the largest mean belief over each text's tokens after the burn-in; None where there are none."""
    longest = max(len(text) for text in texts)
    ids = torch.zeros(len(texts), len(prompt) + longest, dtype=torch.long, device=model.device)
    for row, text in enumerate(texts):
        ids[row, : len(prompt) + len(text)] = torch.tensor([*prompt, *text])
    lengths = torch.tensor([len(prompt) + len(text) - 1 for text in texts], device=model.device)
    found = read_batch(model, TokenBatch(ids[:, :-1], ids[:, 1:], lengths), policy=policy)
    beliefs = found.reading.filtered.log_belief_after.exp()
    target = torch.arange(beliefs.shape[1], device=beliefs.device)
    counted = (target >= len(prompt) - 1 + burn_in) & (target < lengths.to(beliefs.device).unsqueeze(1))
    sums: Tensor = (beliefs * counted.unsqueeze(-1)).sum(1)
    likeliest = sums.argmax(-1).tolist()
    return [state if some else None for state, some in zip(likeliest, counted.any(1).tolist(), strict=True)]
