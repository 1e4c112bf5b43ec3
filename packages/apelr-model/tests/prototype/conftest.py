"""Fixtures around checkpoints in the prototype's format."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture(scope="session")
def make_content() -> Callable[..., dict[str, Any]]:
    """The content of a file: `make_content(2, num_plan_states=5)`; see prototype_content.py beside this file."""
    spec = importlib.util.spec_from_file_location("prototype_content", Path(__file__).with_name("prototype_content.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.prototype_content  # type: ignore[no-any-return]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    """Saves a content as the prototype did; gives the path."""

    def save(content: Any) -> Path:
        path = tmp_path / "checkpoint.pt"
        torch.save(content, path)
        return path

    return save
