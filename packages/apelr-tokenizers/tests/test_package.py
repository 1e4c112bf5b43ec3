"""The face of the package, its borders, and the README."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import apelr_tokenizers

SOURCES = sorted(Path(apelr_tokenizers.__file__).parent.glob("*.py"))
README = Path(__file__).parents[1] / "README.md"


def test_public_names_are_frozen() -> None:
    assert apelr_tokenizers.__all__ == [
        "BpeTokenizer",
        "CharTokenizer",
        "Encoding",
        "IdentityTokenizer",
        "StreamDecoder",
        "Tokenizer",
        "TokenizerConfig",
        "TokenizerError",
        "fit_tokenizer",
        "load_tokenizer",
        "tokenizer_from_text",
    ]
    assert all(hasattr(apelr_tokenizers, name) for name in apelr_tokenizers.__all__)
    assert issubclass(apelr_tokenizers.TokenizerError, ValueError)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_only_the_standard_library_and_tokenizers_are_imported(path: Path) -> None:
    allowed = {*sys.stdlib_module_names, "tokenizers", "apelr_tokenizers"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert {name.name.split(".")[0] for name in node.names} <= allowed
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert str(node.module).split(".")[0] in allowed


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_only_files_touches_the_disk(path: Path) -> None:
    calls = {
        node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    disk = {"open", "read_bytes", "write_bytes", "read_text", "write_text", "replace", "unlink", "from_file"}
    if path.name != "files.py":
        ours = {"base.py": {"write_text"}, "load.py": {"read_text"}}.get(path.name, set())
        assert calls & disk <= ours


def test_it_imports_alone_in_a_fresh_interpreter() -> None:
    paths = [path for path in sys.path if path]
    script = f"import sys; sys.path[:0] = {paths!r}; import apelr_tokenizers; print(len(apelr_tokenizers.__all__))"
    result = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert result.stdout == "11\n"


def test_the_readme_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, str(README), "exec"), {})


def test_the_readme_names_everything_public() -> None:
    text = README.read_text(encoding="utf-8")
    assert all(f"`{name}" in text for name in apelr_tokenizers.__all__)
    fields = apelr_tokenizers.TokenizerConfig.__dataclass_fields__
    assert all(f"`{name}`" in text for name in fields)
