import ast
from pathlib import Path

import pytest
from tokenizers import models

import apelr_tokenizers
from apelr_tokenizers import TokenizerError
from apelr_tokenizers.guard import library_errors


class Panic(BaseException):
    """Like the library's PanicException: not an Exception."""


@pytest.mark.parametrize("error", [Panic("index\nout of range"), Exception("index out of range")])
def test_a_panic_or_a_bare_exception_becomes_one_line(error: BaseException) -> None:
    with pytest.raises(TokenizerError, match=r"^cannot do it: index out of range$"), library_errors("do it"):
        raise error


def test_a_real_failure_of_the_library() -> None:
    with pytest.raises(TokenizerError, match=r"^cannot do it: "), library_errors("do it"):
        models.BPE({"a": 0, "b": 1}, [("a", "b")])


def test_an_error_without_text_is_named_by_its_type() -> None:
    with pytest.raises(TokenizerError, match=r"^cannot do it: Panic$"), library_errors("do it"):
        raise Panic


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), MemoryError(), TokenizerError("mine")]
)
def test_requests_to_stop_and_our_own_error_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, library_errors("do it"):
        raise error
    assert caught.value is error


def test_it_is_the_one_broad_except_of_the_package() -> None:
    broad = []
    for path in Path(apelr_tokenizers.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                named = ast.unparse(node.type) if node.type else "BaseException"
                if named in {"BaseException", "Exception"}:
                    broad.append(path.name)
    assert broad == ["guard.py"]
