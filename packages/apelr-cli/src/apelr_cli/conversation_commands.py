"""The commands of a conversation: their names, their arguments, and what they answer."""

from collections.abc import Callable
from typing import NamedTuple

from apelr_cli.conversation import Conversation, ConversationError
from apelr_cli.near_names import did_you_mean
from apelr_cli.terminal_text import visible

__all__ = ["ANSWERS", "COMMANDS", "is_command", "read_command"]

LARGEST_SEED = 2**63 - 1


class Command(NamedTuple):
    """One command."""

    argument: str
    """What its argument is called; empty where it takes none."""
    help: str


def is_command(line: str) -> bool:
    """Whether a line is a command; `//` begins a text that begins with a slash."""
    return line.startswith("/") and not line.startswith("//")


def read_command(line: str) -> tuple[str, int]:
    """The name of a command, and its argument (0 where it takes none).

    Raises ConversationError for a command that is unknown or has a wrong argument.
    """
    name, *arguments = line[1:].split() or [""]
    command = COMMANDS.get(name)
    if command is None:
        near = did_you_mean(name, COMMANDS).replace("mean ", "mean /")
        raise ConversationError(f"unknown command {visible('/' + name)}{near or '; /help lists the commands'}")
    wanted = 1 if command.argument else 0
    if len(arguments) == wanted and all(_is_number(each) for each in arguments):
        return name, int(arguments[0]) if arguments else 0
    takes = "one number" if wanted else "no argument"
    raise ConversationError(
        f"/{name} takes {takes}, as in {_usage(name)}; got {visible(' '.join(arguments)) or 'none'}"
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= len(str(LARGEST_SEED))


def _usage(name: str) -> str:
    return f"/{name} {COMMANDS[name].argument}".rstrip()


def _force(conversation: Conversation, state: int) -> str:
    conversation.force(state)
    return f"state {state} is forced; /free ends it"


def _free(conversation: Conversation, _: int) -> str:
    conversation.force(None)
    return "no state is forced"


def _freeze(conversation: Conversation, _: int) -> str:
    conversation.freeze(True)
    return "the belief is frozen; /unfreeze ends it"


def _unfreeze(conversation: Conversation, _: int) -> str:
    conversation.freeze(False)
    return "the belief is not frozen"


def _undo(conversation: Conversation, _: int) -> str:
    conversation.undo()
    return f"took back a turn; {_extent(conversation)}"


def _reset(conversation: Conversation, _: int) -> str:
    conversation.reset()
    return "began anew"


def _seed(conversation: Conversation, seed: int) -> str:
    if seed > LARGEST_SEED:
        raise ConversationError(f"a seed is at most {LARGEST_SEED}, got {seed}")
    conversation.session.reseed(seed)
    return f"what comes next has seed {seed}"


def _help(conversation: Conversation, _: int) -> str:
    width = max(len(_usage(name)) for name in COMMANDS)
    return "\n".join([*(f"{_usage(name):<{width}}  {command.help}" for name, command in COMMANDS.items()), *NOTES])


def _extent(conversation: Conversation) -> str:
    turns = len(conversation.turns)
    return f"{turns} turn{'' if turns == 1 else 's'} and {len(conversation.session.ids) - 1} tokens are left"


COMMANDS = {
    "force": Command("K", "Give all weight to plan state K (from 0)."),
    "free": Command("", "Force no state."),
    "freeze": Command("", "From here on neither tokens nor boundaries change the belief."),
    "unfreeze": Command("", "Let them change it again."),
    "belief": Command("", "Show the belief after the last token."),
    "text": Command("", "Show all of the text so far."),
    "undo": Command("", "Take the last turn back, random numbers included; what steers the plan stays."),
    "retry": Command("", "The last turn again, with other random numbers."),
    "seed": Command("N", "Draw what comes next with the random numbers of seed N."),
    "reset": Command("", "Begin anew: no text, the options' seed and planner."),
    "help": Command("", "Show this."),
    "quit": Command("", "Leave; so does Ctrl-D."),
}
"""In the order of /help."""

ANSWERS: dict[str, Callable[[Conversation, int], str]] = {
    "force": _force,
    "free": _free,
    "freeze": _freeze,
    "unfreeze": _unfreeze,
    "belief": lambda conversation, _: conversation.belief_line(),
    "text": lambda conversation, _: visible(conversation.text()),
    "undo": _undo,
    "seed": _seed,
    "reset": _reset,
    "help": _help,
}
"""What a command does, and says of what is so now. /retry draws and /quit leaves: the loop does these two."""

NOTES = (
    "Any other line is text to continue, as it stands; an empty line just goes on.",
    "A line that ends in \\ goes on in the next, with the line end between; one that ends in \\\\ ends in a backslash.",
    "A text that begins with a slash is typed with two. Ctrl-C stops the text.",
)
