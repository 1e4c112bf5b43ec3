"""Pickles looked at as text: what is let through, and what each refusal says."""

import contextlib
import pickle
import struct
from collections import OrderedDict
from pickle import UnpicklingError

import pytest
import torch

from apelr_model.archive import read_pickle
from apelr_model.plain_pickle import LARGEST_TUPLE, check_pickle

START = b"\x80\x02"


def called(module, name, arguments):
    """The opcodes that call module.name with the arguments that the given opcodes make."""
    return START + f"c{module}\n{name}\n".encode() + arguments + b"\x85R."


HUGE = b"\x8a\x06" + (10**12).to_bytes(6, "little")


def test_all_that_torch_saves_of_plain_data_and_tensors_passes(tmp_path):
    kinds = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.int64, torch.bool)
    content = {
        "tensors": {str(kind): torch.zeros(2, 3, dtype=kind) for kind in kinds},
        "parameter": torch.nn.Parameter(torch.zeros(2)),
        "module": torch.nn.Linear(2, 2).state_dict(),  # an OrderedDict with an attribute
        "optimizer": torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))]).state_dict(),
        "rng": torch.get_rng_state(),
        "shape": torch.Size([2, 3]),
        "plain": [
            1,
            -(2**40),
            2**300,
            1.5,
            "Ünï",
            None,
            True,
            False,
            (),
            (1,),
            (1, 2),
            (1, 2, 3),
            (1, 2, 3, 4),
            [],
            {},
        ],
        "ordered": OrderedDict(a=1),
        "many": {str(i): i for i in range(3000)},
    }
    path = tmp_path / "file.pt"
    torch.save(content, path)
    check_pickle(read_pickle(path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (called("os", "system", b"X\x04\x00\x00\x00true"), "a reference to 'os.system'"),
        (called("builtins", "bytearray", HUGE), "a reference to 'builtins.bytearray'"),
        (called("torch", "Tensor", HUGE), "a reference to 'torch.Tensor'"),
        (called("torch.storage", "UntypedStorage", HUGE), "a reference to 'torch.storage.UntypedStorage'"),
        (START + b"ios\nsystem\n.", "the pickle opcode INST"),
        (START + b"\x8c\x02os\x8c\x06system\x93.", "the pickle opcode SHORT_BINUNICODE"),
        (START + b"\x82\x01.", "the pickle opcode EXT1"),
        (pickle.dumps({}, protocol=4), "the pickle opcode PROTO 4"),
        (b"I1\n.", "the pickle opcode INT"),
        (START + b")" + b"\x85" * LARGEST_TUPLE + b".", "a tuple of more than 1000 values"),
        (START + b")" + b"q\x00h\x00h\x00\x87" * 7 + b".", "a tuple of more than 1000 values"),
    ],
)
def test_anything_else_is_refused(content, reason):
    with pytest.raises(UnpicklingError) as caught:
        check_pickle(content)
    assert str(caught.value) == reason


def test_a_tuple_as_large_as_the_bound_passes():
    check_pickle(START + b")" + b"\x85" * (LARGEST_TUPLE - 1) + b".")
    check_pickle(START + b"(" + b"K\x01" * (LARGEST_TUPLE - 1) + b"t.")


@pytest.mark.parametrize("length", range(12))
def test_a_pickle_that_is_cut_off_is_no_pickle(length):
    whole = pickle.dumps({"a": [1.5]}, protocol=2)
    with pytest.raises(ValueError, match=r"not enough data|exhausted|expected "):
        check_pickle(whole[:length])


@pytest.mark.parametrize("content", [START + b"R.", START + b"h\x05.", START + b"t.", START + b"0.", START + b"s."])
def test_pickles_that_do_not_add_up_do_not_confuse_it(content):
    """torch.load refuses them; here they may pass or be refused, no more."""
    with contextlib.suppress(UnpicklingError):
        check_pickle(content)


def test_a_length_that_is_declared_is_not_taken_in_memory():
    with pytest.raises(ValueError, match="expected 4294967295 bytes"):
        check_pickle(START + b"X" + struct.pack("<I", 2**32 - 1) + b"short")
