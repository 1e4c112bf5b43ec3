"""The file in a saved folder that lets programs load our models which have not imported this package."""

from pathlib import Path

__all__ = ["AUTO_MAP", "write_remote_code"]

NAME = "modeling_apelr"
CLASSES = {"AutoConfig": "ApelrConfig", "AutoModelForCausalLM": "ApelrForCausalLM"}
AUTO_MAP = {auto: f"{NAME}.{name}" for auto, name in CLASSES.items()}
"""What `config.json` says of it; read by transformers with `trust_remote_code=True`."""
CODE = '''"""Loads the model's classes from the installed package, for `trust_remote_code=True`."""

from apelr_model.hf import ApelrConfig, ApelrForCausalLM

__all__ = ["ApelrConfig", "ApelrForCausalLM"]
'''


def write_remote_code(folder: Path) -> None:
    """Write the file into `folder`. Raises OSError."""
    (folder / f"{NAME}.py").write_text(CODE, encoding="utf-8")
