from pathlib import Path

import pytest

from apelr_cli import shipped
from apelr_cli.shipped import find_config, shipped_description, shipped_folder, shipped_names, shipped_text


def test_a_checkout_ships_its_configs_folder():
    assert shipped_folder() == Path(shipped.__file__).resolve().parents[4] / "configs"


def test_a_wheel_ships_them_inside_the_package(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "apelr_cli"
    (package / "configs").mkdir(parents=True)
    (package / "configs" / "mine.yaml").write_text("# Mine: tiny.\nseed: 1\n", encoding="utf-8")
    monkeypatch.setattr(shipped, "__file__", str(package / "shipped.py"))
    assert shipped_names() == ["mine"]
    assert find_config("mine") == package / "configs" / "mine.yaml"


def test_an_installation_without_any_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "a" / "b" / "apelr_cli" / "shipped.py"))
    with pytest.raises(
        ValueError, match=r"this installation holds no shipped configs: neither .*configs nor .*configs is a"
    ):
        shipped_names()


def test_text_and_description():
    text = shipped_text("quickstart")
    assert (shipped_folder() / "quickstart.yaml").read_text(encoding="utf-8") == text
    assert text.startswith(f"# {shipped_description('quickstart')}\n")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ValueError, match=r"^no shipped config is called quickstrat; did you mean quickstart\?$"):
        shipped_text("quickstrat")
    with pytest.raises(
        ValueError, match=r"^no shipped config is called zzz; there are cc_news_bpe_ident_cpk, .*python_docs, .*"
    ):
        shipped_text("zzz")
    with pytest.raises(ValueError, match=r"no shipped config is called ../pyproject"):
        shipped_text("../pyproject")


def test_a_path_comes_before_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("quickstart") == shipped_folder() / "quickstart.yaml"
    Path("quickstart").write_text("", encoding="utf-8")
    assert find_config("quickstart") == Path("quickstart")


def test_neither_a_file_nor_a_name(tmp_path):
    with pytest.raises(
        ValueError, match=r"^cfg/quickstrat.yaml is neither a file nor a shipped config; did you mean quickstart\?$"
    ):
        find_config("cfg/quickstrat.yaml")
    with pytest.raises(
        ValueError, match=r"^zzz is neither a file nor a shipped config; there are cc_news_bpe_ident_cpk, "
    ):
        find_config("zzz")
    with pytest.raises(ValueError, match=r"is a folder, not a config file$"):
        find_config(str(tmp_path))
