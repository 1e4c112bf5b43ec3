"""A conversation with a model: turns that go on from one another, what steers them, and the way back."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from apelr_cli.loading import LoadedModel
from apelr_cli.plan_choice import has_chain
from apelr_cli.sample_row import SampleRow
from apelr_cli.sampling import SampleOutput, SampleRequest, hand_on
from apelr_cli.user_input import warn_of_unknown
from apelr_model import PlanPolicy, SessionState, TextSession, forecast, policy_fields

__all__ = ["Conversation", "ConversationError"]

SMALLEST_SHOWN = 0.005
"""The least probability of a plan state that is named in a belief."""


class ConversationError(ValueError):
    """What was asked for cannot be done now; nothing has changed."""


class Turn(NamedTuple):
    """What a turn began with."""

    before: SessionState
    text: str
    """What the user added."""
    froze: bool
    """Whether `--freeze-planner` froze the belief once this text had been read."""


class Conversation:
    """The turns of one text under the options of `apelr sample`; each goes on from the model's state."""

    def __init__(self, loaded: LoadedModel, request: SampleRequest) -> None:
        self._loaded = loaded
        self._request = request
        self.turns: list[Turn] = []
        self._begin()

    def _begin(self) -> None:
        self.session = TextSession(self._loaded.model, self._loaded.tokenizer.bos_id, seed=self._request.seed)
        self.turns.clear()
        self._policy = self._request.choice.policy
        self.is_frozen = False

    @property
    def policy(self) -> PlanPolicy:
        """How the belief is used now."""
        return replace(self._policy, freeze_after=0) if self.is_frozen else self._policy

    def say(self, text: str, output: SampleOutput, *, is_stopped: Callable[[], bool] = lambda: False) -> SampleRow:
        """One turn: read `text`, continue it until the end of a text, a stop string, or `is_stopped`.

        Raises ImpossibleObservationError where the text cannot be read, and nothing has changed; NothingLeftError
        where nothing is left to draw, and the turn ends there.
        """
        tokenizer, asked = self._loaded.tokenizer, self._request
        before, encoding = self.session.state, tokenizer.encode(text)
        warn_of_unknown(tokenizer, text, encoding)
        self.session.read(encoding.ids, policy=self.policy)
        freezes = asked.choice.freeze_planner and not self.turns
        self.is_frozen = self.is_frozen or freezes
        self.turns.append(Turn(before, text, freezes))
        row = SampleRow(text, self.session.ids, tokenizer, asked.stops)
        events = self.session.generate(
            asked.settings,
            max_new_tokens=asked.max_new_tokens,
            eos_id=tokenizer.eos_id,
            lookahead_steps=asked.lookahead_steps,
            async_lookahead=asked.async_lookahead,
            policy=self.policy,
            is_finished=lambda: row.done or is_stopped(),
        )
        hand_on(events, [row], output, foreseen=asked.foreseen)
        return row

    def undo(self) -> Turn:
        """Go back to before the last turn; what steers the plan stays. Raises ConversationError without one."""
        if not self.turns:
            raise ConversationError("there is no turn to take back")
        turn = self.turns.pop()
        self.session.restore(turn.before)
        self.is_frozen = self.is_frozen and not turn.froze
        return turn

    def retry(self, output: SampleOutput, *, is_stopped: Callable[[], bool] = lambda: False) -> SampleRow:
        """The last turn again, with other random numbers. Raises ConversationError without one."""
        random = self.session.state.random
        text = self.undo().text
        self.session.restore(self.session.state._replace(random=random))
        return self.say(text, output, is_stopped=is_stopped)

    def reset(self) -> None:
        """Begin anew: nothing read, the options' seed and use of the belief."""
        self._begin()

    def force(self, state: int | None) -> None:
        """Give all weight to a plan state; None to none. Raises ConversationError where the model cannot."""
        if "force_state" not in policy_fields(self._loaded.model.config):
            raise ConversationError(f"{self._loaded.model.config.version} has no plan state to force")
        mode = self._request.choice.policy.mode if state is None else "normal"
        try:
            policy = self._loaded.model.check_policy(replace(self._policy, force_state=state, mode=mode))
        except ValueError as error:
            raise ConversationError(str(error).replace("force_state", "the plan state")) from error
        self._policy = policy

    def freeze(self, frozen: bool) -> None:
        """Whether from now on neither tokens nor boundaries change the belief. Raises ConversationError without one."""
        self._check_chain()
        self.is_frozen = frozen

    def belief_line(self) -> str:
        """The belief after the last token, forecasts if they are asked for, and what steers the plan, in one line.

        Raises ConversationError in a model without a chain of plans.
        """
        self._check_chain()
        log_belief, count = self.session.log_belief.cpu(), len(self.session.ids) - 1
        parts = [f"belief after {count} tokens: {_states(log_belief.exp().tolist())}"]
        if self._request.lookahead_steps:
            log_transition = self._loaded.model.log_transition().detach().cpu()
            ahead = forecast(log_belief.unsqueeze(0), log_transition, self._request.lookahead_steps)[0].exp()
            parts += [f"+{step} {_states(belief)}" for step, belief in enumerate(ahead.tolist(), 1)]
        if self._policy.force_state is not None:
            parts.append(f"state {self._policy.force_state} is forced")
        if self._policy.mode == "uniform":
            parts.append("all states weigh the same")
        if self.is_frozen:
            parts.append("frozen")
        return " | ".join(parts)

    def text(self) -> str:
        """All of the text so far."""
        return self._loaded.tokenizer.decode(self.session.ids)

    def _check_chain(self) -> None:
        if not has_chain(self._loaded.model):
            raise ConversationError(f"{self._loaded.model.config.version} has no chain of plans")


def _states(belief: list[float]) -> str:
    order = sorted(range(len(belief)), key=lambda state: -belief[state])
    return " ".join(f"{state}:{belief[state]:.2f}" for state in order if belief[state] >= SMALLEST_SHOWN)
