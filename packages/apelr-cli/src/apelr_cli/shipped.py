"""The configurations that ship with the package: `configs/` of a checkout, `apelr_cli/configs` of a wheel."""

from pathlib import Path

from apelr_cli.near_names import did_you_mean

__all__ = ["find_config", "shipped_description", "shipped_folder", "shipped_names", "shipped_text"]


def shipped_folder() -> Path:
    """The folder of the shipped files. Raises ValueError when the installation holds none."""
    here = Path(__file__).resolve().parent
    in_wheel = here / "configs"
    if in_wheel.is_dir():
        return in_wheel
    # packages/apelr-cli/src/apelr_cli, four levels below the top of a checkout
    in_checkout = here.parents[3] / "configs"
    if here.parents[2].name == "packages" and in_checkout.is_dir():
        return in_checkout
    raise ValueError(f"this installation holds no shipped configs: neither {in_wheel} nor {in_checkout} is a folder")


def shipped_names() -> list[str]:
    """The names of all shipped configs, sorted."""
    return sorted(path.stem for path in shipped_folder().glob("*.yaml"))


def shipped_text(name: str) -> str:
    """One shipped file, verbatim. Raises ValueError with the nearest name when there is none of that name."""
    names = shipped_names()
    if name not in names:
        raise ValueError(f"no shipped config is called {name}{did_you_mean(name, names) or _listing(names)}")
    return (shipped_folder() / f"{name}.yaml").read_bytes().decode("utf-8")


def shipped_description(name: str) -> str:
    """The first line of a shipped file, a comment that says what it is for."""
    return shipped_text(name).partition("\n")[0].strip().removeprefix("#").strip()


def find_config(text: str) -> Path:
    """The file that `--config` means: an existing path first, else a shipped name.

    Raises ValueError naming both when it is neither.
    """
    path = Path(text)
    if path.is_file():
        return path
    if path.is_dir():
        raise ValueError(f"{text} is a folder, not a config file")
    names = shipped_names()
    if text in names:
        return shipped_folder() / f"{text}.yaml"
    near = did_you_mean(path.stem, names) or _listing(names)
    raise ValueError(f"{text} is neither a file nor a shipped config{near}")


def _listing(names: list[str]) -> str:
    return f"; there are {', '.join(names)}"
