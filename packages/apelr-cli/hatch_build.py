"""Puts the shipped configs into the wheel, whether built from the repository or from an sdist."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShippedConfigs(BuildHookInterface):
    """Adds the folder `configs`: two levels up in the repository, beside this file in an sdist."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the folder for a wheel or an sdist; an editable installation reads the repository's own."""
        if version == "editable":
            return
        here = Path(self.root)
        beside, above = here / "configs", here.parent.parent / "configs"
        target = "configs" if self.target_name == "sdist" else "apelr_cli/configs"
        build_data["force_include"][str(beside if beside.is_dir() else above)] = target
