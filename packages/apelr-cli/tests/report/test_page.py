import base64
import hashlib
import re

import pytest

from apelr_cli.plan_palette import PALETTE
from apelr_cli.report.page import DARK_TINT, LIGHT_TINT, MARK, render

BACKGROUNDS = {"light": ("#fdfdfb", "#1b1d20", "#5a5f67"), "dark": ("#121316", "#e9e7e1", "#a5a9b1")}
"""Background, text and muted text of the style sheet."""


@pytest.fixture(scope="module")
def page() -> str:
    empty = dict.fromkeys(("columns", "rows", "notes", "charts", "matches", "shares"), ())
    return render("compare.html", title="</title><script>", command="x", data={"a": "</script><b>"}, **empty)


def digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def test_the_policy_allows_the_pages_own_style_and_script_alone(page: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    style = re.search(r"<style>(.*)</style>", page, re.DOTALL)
    script = re.search(r"<script>(.*)</script>", page, re.DOTALL)
    assert style is not None
    assert script is not None
    assert f"style-src '{digest(style[1])}'; script-src '{digest(script[1])}'" in policy[1]
    assert policy[1].startswith("default-src 'none'")
    assert "http" not in policy[1]


def test_the_page_names_no_place_on_the_network(page: str) -> None:
    assert not re.findall(r"https?://|@import|url\(|src=", page)
    assert re.findall(r'href="(?!#)([^"]*)"', page) == ["data:,"]


def test_what_is_put_in_is_escaped(page: str) -> None:
    assert "<title>&lt;/title&gt;&lt;script&gt;</title>" in page
    assert '{"a": "\\u003c/script\\u003e\\u003cb\\u003e"}' in page
    assert page.index(MARK) < 512


@pytest.mark.parametrize(("scheme", "tint"), [("light", LIGHT_TINT), ("dark", DARK_TINT)])
def test_text_is_readable_on_every_state_colour(page: str, scheme: str, tint: int) -> None:
    background, ink, muted = BACKGROUNDS[scheme]
    assert all(f": {colour};" in page for colour in BACKGROUNDS[scheme])
    assert f"--tint: {tint};" in page
    for colour in PALETTE:
        behind = [(1 - tint / 100) * b + tint / 100 * c for b, c in zip(rgb(background), rgb(colour), strict=True)]
        assert contrast(rgb(ink), behind) >= 4.5, colour
    assert contrast(rgb(muted), rgb(background)) >= 4.5


def rgb(colour: str) -> list[float]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def contrast(one: list[float], other: list[float]) -> float:
    """WCAG 2's ratio."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: list[float]) -> float:
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
