"""One text that grows in turns: what is added is read, what is drawn is added, and nothing is read twice."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.errors import ImpossibleObservationError
from apelr_model.generation import check_counts, check_ids, impossible_rows
from apelr_model.generation_step import (
    GeneratedToken,
    Lookahead,
    draw_next,
    plan_lookahead,
    report_tokens,
    reported_belief,
)
from apelr_model.lookahead import PlanForecast
from apelr_model.model_state import ModelState
from apelr_model.planner_lm import PlannerLM
from apelr_model.policy import PlanPolicy
from apelr_model.sampling import SamplingSettings

__all__ = ["SessionState", "TextSession"]


class SessionState(NamedTuple):
    """Where a session stands; what is done later does not change it."""

    ids: tuple[int, ...]
    """Everything read and drawn so far, in order."""
    model_state: ModelState
    """B = 1: every id but the last has been read, and each has been observed."""
    random: Tensor
    """State of the generator that draws tokens."""


class TextSession:
    """A text that is read and continued in turns, with its belief. Sets the model to eval mode.

    After any turns the belief is what reading all ids at once under the same policies gives, and the first turn draws
    what `generate` draws with the same seed. A session may go back to any earlier `state`, so the steps of a model that
    `compile_decoding` has compiled, which write over it, are not used here.
    """

    def __init__(self, model: PlannerLM, first_id: int, *, seed: int = 0) -> None:
        """Begin with one id, the tokenizer's BOS. Raises ValueError where the vocabulary does not have it."""
        check_ids(model, [first_id])
        self.model = model.eval()
        self._ids: tuple[int, ...] = (first_id,)
        self._model_state = model.initial_state(1)
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def state(self) -> SessionState:
        """Where the session stands."""
        return SessionState(self._ids, self._model_state, self._generator.get_state())

    def restore(self, state: SessionState) -> None:
        """Stand where a session of the same model stood, its random numbers included."""
        self._ids, self._model_state = state.ids, state.model_state
        self._generator.set_state(state.random)

    def reseed(self, seed: int) -> None:
        """Draw what comes next with the random numbers of `seed`."""
        self._generator.manual_seed(seed)

    @property
    def ids(self) -> tuple[int, ...]:
        """Everything read and drawn so far, in order."""
        return self._ids

    @property
    def log_belief(self) -> Tensor:
        """[K] log-probability of each plan state after the last id, in its chunk; float64."""
        return self._model_state.log_belief[0].clone()

    @torch.inference_mode()
    def read(self, ids: Sequence[int], *, policy: PlanPolicy | None = None) -> None:
        """Add ids to the text. `policy` says how the belief is used (None: the model's own).

        Raises ValueError for ids outside the vocabulary and ImpossibleObservationError where they have probability
        zero under every path of plans; the session then stands where it stood.
        """
        if not ids:
            return
        check_ids(self.model, ids)
        row = torch.tensor([[self._ids[-1], *ids]], device=self.model.device)
        reading = self.model.read(row[:, :-1], row[:, 1:], state=self._model_state, policy=policy)
        if bool(impossible_rows(reading).any()):
            raise ImpossibleObservationError("the text has probability zero under every plan")
        self._ids, self._model_state = (*self._ids, *ids), reading.state

    def generate(
        self,
        settings: SamplingSettings,
        *,
        max_new_tokens: int,
        eos_id: int | None = None,
        lookahead_steps: int = 0,
        async_lookahead: bool = False,
        policy: PlanPolicy | None = None,
        is_finished: Callable[[], bool] = lambda: False,
    ) -> Iterator[GeneratedToken | PlanForecast]:
        """Continue the text by up to `max_new_tokens`; each is part of it when it is yielded, as row 0.

        It ends where `is_finished`, asked after each token has been taken, is true, and at `eos_id`, which is yielded
        and is no part of the text, since the text may go on. Everything else is as in `apelr_model.generate`.

        Raises ValueError for bad arguments and NothingLeftError where sampling has nothing to choose from.
        """
        check_counts(max_new_tokens=max_new_tokens, lookahead_steps=lookahead_steps)
        policy = self.model.policy if policy is None else self.model.check_policy(policy)
        lookahead = plan_lookahead(self.model, lookahead_steps, beside=async_lookahead)
        return self._generate(settings, max_new_tokens, eos_id, lookahead, policy, is_finished)

    @torch.inference_mode()
    def _generate(
        self,
        settings: SamplingSettings,
        max_new_tokens: int,
        eos_id: int | None,
        lookahead: Lookahead | None,
        policy: PlanPolicy,
        is_finished: Callable[[], bool],
    ) -> Iterator[GeneratedToken | PlanForecast]:
        model = self.model
        seen = torch.zeros(1, model.vocab_size, dtype=torch.bool, device=model.device)
        seen[0, list(self._ids)] = True
        queue = None if lookahead is None else lookahead.queue
        for _ in range(max_new_tokens):
            pending = torch.tensor([self._ids[-1]], device=model.device)
            prediction = model.predict(pending, self._model_state, policy=policy)
            chosen = draw_next(model, prediction, settings, seen, [self._ids], [self._generator])
            (token,) = report_tokens(model, prediction, chosen, [0], lookahead, policy)
            position = len(self._ids) - 1
            if token.id != eos_id:
                self._model_state = model.observe(prediction, chosen, policy=policy)
                self._ids = (*self._ids, token.id)
                seen[0, token.id] = True
            yield token
            if queue is not None:
                yield from queue.take()
                queue.begin(reported_belief(prediction, policy), [0], [position], [token.chunk])
            if token.id == eos_id or is_finished():
                break
        if queue is not None:
            yield from queue.take()
