"""Does a pickle hold plain data and tensors, and nothing else? It is read as a list of opcodes; nothing is executed.

`torch.load(weights_only=True)` executes no code of a file either, but lets one call `bytearray(10**12)` or
`torch.Tensor(10**12)`, and hashes a tuple that is nested a million times.
"""

import pickletools
from pickle import UnpicklingError

__all__ = ["check_pickle"]

STORAGES = ("Bool", "Byte", "Char", "Short", "Int", "Long", "Half", "BFloat16", "Float", "Double")
GLOBALS = {
    "collections OrderedDict",
    "torch Size",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {name}Storage" for name in STORAGES),
}
"""All that a pickle may name. None of it takes memory that the file does not fill."""
OPCODES = {
    *(
        "PROTO",
        "STOP",
        "MARK",
        "BINPUT",
        "LONG_BINPUT",
        "BINGET",
        "LONG_BINGET",
        "GLOBAL",
        "REDUCE",
        "BUILD",
        "BINPERSID",
    ),
    *(
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINFLOAT",
        "BINUNICODE",
        "SHORT_BINSTRING",
    ),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
}
"""What `torch.save` writes, in pickle protocol 2."""
LARGEST_TUPLE = 1000
"""Values in a tuple, those of the tuples inside counted in: hashing it takes that long, and that much stack."""


def check_pickle(content: bytes) -> None:
    """Raise UnpicklingError, saying what it found, unless the pickle holds plain data and tensors alone.

    ValueError where it is cut off or no pickle at all.
    """
    stack: list[int] = []  # how many values each is, as LARGEST_TUPLE counts them
    memo: dict[object, int] = {}
    marks: list[int] = []
    for opcode, argument, _ in pickletools.genops(content):
        name = opcode.name
        if name not in OPCODES or (name == "PROTO" and argument != 2):
            raise UnpicklingError(f"the pickle opcode {name}" + (f" {argument}" if name == "PROTO" else ""))
        if name == "GLOBAL" and argument not in GLOBALS:
            raise UnpicklingError(f"a reference to {str(argument).replace(' ', '.')!r:.100}")
        if name == "MARK":
            marks.append(len(stack))
            continue
        taken = _take(stack, marks, opcode)
        if name.endswith("BINPUT"):
            memo[argument] = stack[-1] if stack else 1
        elif name.endswith("BINGET"):
            stack.append(memo.get(argument, 1))
        elif name.startswith("TUPLE"):
            stack.append(1 + sum(taken))
            if stack[-1] > LARGEST_TUPLE:
                raise UnpicklingError(f"a tuple of more than {LARGEST_TUPLE} values")
        else:
            stack.extend(1 for _ in opcode.stack_after)


def _take(stack: list[int], marks: list[int], opcode: pickletools.OpcodeInfo) -> list[int]:
    """Take what the opcode takes off the stack, and return it."""
    before = opcode.stack_before
    start = len(stack) - len(before)
    if pickletools.markobject in before:
        start = (marks.pop() if marks else 0) - before.index(pickletools.markobject)
    taken = stack[max(0, start) :]
    del stack[max(0, start) :]
    return taken
