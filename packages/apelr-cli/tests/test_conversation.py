"""Turns go on from the model's state: their belief is that of reading everything at once, and undo is exact."""

import math

import pytest
import torch

from apelr_cli.conversation import Conversation, ConversationError
from apelr_cli.conversation_commands import ANSWERS, COMMANDS, read_command
from apelr_cli.loading import load_model
from apelr_cli.plan_choice import choose_policy
from apelr_cli.sample_row import SampleRow
from apelr_cli.sampling import SampleRequest
from apelr_model import MixtureOfSoftmaxesConfig, SamplingSettings, TransformerConfig, TransformerLMConfig, V2Config
from apelr_tokenizers import Tokenizer

SIZES = {"num_plan_states": 3, "chunk_size": 3, "token_dim": 5}
VERSIONS = {
    "v1": None,
    "v2": V2Config(hidden_dim=7, **SIZES),
    "v2_transformer": V2Config(hidden_dim=8, executor=TransformerConfig(num_heads=2), **SIZES),
}


class Silent:
    """An output that shows nothing."""

    def start(self) -> None: ...
    def add(self, index: int, text: str, row: SampleRow) -> None: ...
    def foresee(self, index: int, forecast: object) -> None: ...
    def end(self, index: int, row: SampleRow) -> None: ...
    def abandon(self) -> None: ...


@pytest.fixture
def talk(make_checkpoint, char: Tokenizer, device: str):
    """Makes a conversation: talk(config, seed=3) or with other changes to the request, or `plan` options."""

    def make(config: object = None, plan: dict[str, object] | None = None, **changes: object) -> Conversation:
        loaded = load_model(make_checkpoint(config=config, never=[char.eos_id]), device)
        asked = {
            "prompt": "",
            "settings": SamplingSettings(temperature=0.8),
            "max_new_tokens": 8,
            "seed": 3,
            "num_samples": 1,
            "stops": (),
            "lookahead_steps": 0,
            "async_lookahead": False,
            "choice": choose_policy(loaded.model, plan or {}),
        }
        return Conversation(loaded, SampleRequest(**{**asked, **changes}))  # type: ignore[arg-type]

    return make


def do(conversation: Conversation, line: str) -> str:
    name, number = read_command(line)
    return ANSWERS[name](conversation, number)


def at_once(conversation: Conversation) -> torch.Tensor:
    """The belief after reading all ids in one piece."""
    model, ids = conversation.session.model, torch.tensor([conversation.session.ids])
    ids = ids.to(model.device)
    return model.read(ids[:, :-1], ids[:, 1:], policy=conversation.policy).state.log_belief[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_belief_after_turns_is_that_of_reading_all_at_once(talk, version: str) -> None:
    conversation = talk(VERSIONS[version])
    for text in ("the cat", "", " and a dog, a big", "t"):
        conversation.say(text, Silent())
        with torch.no_grad():
            torch.testing.assert_close(conversation.session.log_belief, at_once(conversation), rtol=0, atol=1e-5)
    assert len(conversation.session.ids) == 1 + 7 + 17 + 1 + 4 * 8


@pytest.mark.parametrize("version", VERSIONS)
def test_undo_is_exact_and_the_same_line_then_draws_the_same(talk, version: str) -> None:
    conversation = talk(VERSIONS[version])
    conversation.say("the cat", Silent())
    ids, belief = conversation.session.ids, conversation.session.log_belief
    drawn = conversation.say(" sat", Silent()).ids
    assert do(conversation, "/undo") == "took back a turn; 1 turn and 15 tokens are left"
    assert conversation.session.ids == ids
    assert torch.equal(conversation.session.log_belief, belief)
    assert conversation.say(" sat", Silent()).ids == drawn
    again = conversation.retry(Silent()).ids
    assert again[: len(ids) + 4] == drawn[: len(ids) + 4]
    assert again != drawn
    do(conversation, "/undo")
    do(conversation, "/undo")
    assert len(conversation.session.ids) == 1
    for command in (lambda: do(conversation, "/undo"), lambda: conversation.retry(Silent())):
        with pytest.raises(ConversationError, match="there is no turn to take back"):
            command()


def test_a_seed_and_a_reset_begin_the_same_random_numbers_again(talk) -> None:
    conversation = talk()
    first = conversation.say("the", Silent()).ids
    do(conversation, "/force 1")
    do(conversation, "/reset")
    assert conversation.policy.force_state is None
    assert conversation.say("the", Silent()).ids == first
    do(conversation, "/undo")
    do(conversation, "/seed 4")
    other = conversation.say("the", Silent()).ids
    assert other != first
    assert other == talk(seed=4).say("the", Silent()).ids


def test_a_forced_state_gets_all_weight_until_it_is_free(talk) -> None:
    conversation = talk()
    conversation.say("the", Silent())
    assert do(conversation, "/force 2") == "state 2 is forced; /free ends it"
    assert {token.belief for token, _ in conversation.say("", Silent()).tokens} == {(0.0, 0.0, 1.0)}
    assert do(conversation, "/belief").endswith(" | state 2 is forced")
    do(conversation, "/free")
    assert all(token.belief != (0.0, 0.0, 1.0) for token, _ in conversation.say("", Silent()).tokens)
    with pytest.raises(ConversationError, match="the plan state must be between 0 and 2, got 3"):
        do(conversation, "/force 3")


def test_free_goes_back_to_the_mode_of_the_options(talk) -> None:
    conversation = talk(plan={"mode": "uniform"})
    assert do(conversation, "/belief").endswith(" | all states weigh the same")
    do(conversation, "/force 1")
    assert (conversation.policy.mode, conversation.policy.force_state) == ("normal", 1)
    do(conversation, "/free")
    assert (conversation.policy.mode, conversation.policy.force_state) == ("uniform", None)


def test_a_frozen_belief_stays_whatever_is_read_and_drawn(talk) -> None:
    conversation = talk(VERSIONS["v2"])
    conversation.say("the", Silent())
    belief = conversation.session.log_belief
    do(conversation, "/freeze")
    conversation.say(" cat sat on the", Silent())
    assert torch.equal(conversation.session.log_belief, belief)
    assert do(conversation, "/belief").endswith(" | frozen")
    do(conversation, "/unfreeze")
    conversation.say(" mat", Silent())
    assert not torch.equal(conversation.session.log_belief, belief)


def test_freeze_planner_freezes_after_the_first_text_and_undo_knows(talk) -> None:
    conversation = talk(plan={"freeze_planner": True})
    frozen = []
    for _ in range(2):
        conversation.say("the cat", Silent())
        frozen.append(conversation.session.log_belief)
        conversation.say(" sat", Silent())
        frozen.append(conversation.session.log_belief)
        do(conversation, "/undo")
        do(conversation, "/undo")
    assert all(torch.equal(each, frozen[0]) for each in frozen)
    assert not torch.equal(frozen[0], conversation.session.log_belief)


def test_a_turn_ends_at_a_stop_string_and_where_it_is_stopped(talk) -> None:
    free = talk().say("the", Silent())
    stop = free.text[3]
    row = talk(stops=(stop,)).say("the", Silent())
    assert row.text == free.text[: free.text.index(stop)]
    assert len(talk(max_new_tokens=10**9).say("the", Silent(), is_stopped=lambda: True).tokens) == 1


def test_a_belief_is_shown_with_its_forecasts(talk) -> None:
    conversation = talk(lookahead_steps=2)
    conversation.say("the", Silent())
    first, *ahead = do(conversation, "/belief").split(" | ")
    assert first.startswith("belief after 11 tokens: ")
    assert [each[:3] for each in ahead] == ["+1 ", "+2 "]
    shown = {int(k): float(p) for k, p in (each.split(":") for each in first.split(": ", 1)[1].split())}
    for state, log_prob in enumerate(conversation.session.log_belief.tolist()):
        assert shown.get(state, 0.0) == pytest.approx(math.exp(log_prob), abs=0.0051)


@pytest.mark.parametrize("config", [MixtureOfSoftmaxesConfig(hidden_dim=8), TransformerLMConfig(hidden_dim=8)])
def test_a_control_talks_and_refuses_what_needs_a_chain_of_plans(talk, config: object) -> None:
    conversation = talk(config)
    conversation.say("the cat", Silent())
    for line in ("/belief", "/freeze", "/unfreeze"):
        with pytest.raises(ConversationError, match="has no chain of plans"):
            do(conversation, line)
    if isinstance(config, TransformerLMConfig):
        with pytest.raises(ConversationError, match="transformer_lm has no plan state to force"):
            do(conversation, "/force 0")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/forse 1", "unknown command /forse; did you mean /force?"),
        ("/", "unknown command /; /help lists the commands"),
        ("/\x1b[2J", r"unknown command /\x1b[2J; /help lists the commands"),
        ("/force", "/force takes one number, as in /force K; got none"),
        ("/force -1", "/force takes one number, as in /force K; got -1"),
        ("/force 1 2", "/force takes one number, as in /force K; got 1 2"),
        ("/undo 2", "/undo takes no argument, as in /undo; got 2"),
        ("/seed 99999999999999999999", "/seed takes one number, as in /seed N; got 99999999999999999999"),
    ],
)
def test_a_wrong_command_is_one_line(line: str, message: str) -> None:
    with pytest.raises(ConversationError) as error:
        read_command(line)
    assert str(error.value) == message


def test_every_command_is_in_the_help_and_does_something(talk) -> None:
    assert ANSWERS.keys() == COMMANDS.keys() - {"quit", "retry"}
    lines = do(talk(), "/help").splitlines()
    assert [line.split()[0] for line in lines[: len(COMMANDS)]] == [f"/{name}" for name in COMMANDS]
    with pytest.raises(ConversationError, match="a seed is at most 9223372036854775807"):
        do(talk(), "/seed 9999999999999999999")
