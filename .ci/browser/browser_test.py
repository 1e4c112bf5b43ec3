"""Pages of runs in a real Chromium: no error, no request; hover, keyboard, filter and widths do what they should."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

PAGES = Path(os.environ["APELR_BROWSER_PAGES"]).resolve()
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
NAMES = ("report", "hostile", "compare")
WIDTHS, SCHEMES = (1280, 390), ("light", "dark")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=os.environ["APELR_CHROMIUM"], args=list(FLAGS))
        yield started
        started.close()


class Looked:
    """A page that is open, and what it said and asked for."""

    def __init__(self, browser: Browser, name: str, width: int, scheme: Any) -> None:
        self.page: Page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto((PAGES / f"{name}.html").as_uri())


@pytest.fixture
def look(browser: Browser) -> Iterator[Any]:
    """look(name, width, scheme) -> Looked. Afterwards no page may have said or asked for anything."""
    opened: list[Looked] = []

    def look(name: str = "report", width: int = 1280, scheme: str = "light") -> Looked:
        opened.append(Looked(browser, name, width, scheme))
        return opened[-1]

    yield look
    for each in opened:
        assert each.said == []
        assert [url for url in each.asked if not url.startswith(("file:", "data:"))] == []
        assert len(each.asked) == 1, "the page itself alone"
        each.page.close()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_a_page_fits_its_width(look: Any, name: str, width: int, scheme: str) -> None:
    page = look(name, width, scheme).page
    for fold in page.locator("details > summary").all():
        fold.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = false))")
    if page.locator(".token").count() > 8:
        page.locator(".token").nth(8).click()
    if name != "hostile":
        page.screenshot(path=PAGES / f"{name}-{width}-{scheme}.png", full_page=True)


def test_hover_and_keyboard_show_the_same(look: Any) -> None:
    page = look().page
    tokens, found = page.locator(".token"), page.locator(".inspector .found")
    assert not found.is_visible()
    tokens.nth(5).hover()
    hovered = found.inner_text()
    shares = [float(row.locator("span").inner_text().split()[0]) for row in page.locator(".belief-row").all()]
    assert "bits of surprise" in hovered
    assert 0.5 < sum(shares) <= 1.01
    tokens.nth(0).focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert found.inner_text() == hovered
    assert page.evaluate("document.activeElement.id") == "t0-5"
    assert page.locator('.text [tabindex="0"]').count() == page.locator(".text").count(), "one stop a passage"


def test_the_filter_leaves_one_state_alone(look: Any) -> None:
    page = look().page
    state = page.locator(".token").nth(5).get_attribute("data-f").split()[0]
    button = page.locator(f'[data-filter="{state}"]')
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    lit = page.locator(".token:not(.dim)")
    assert lit.count() > 0
    assert {each.split()[0] for each in lit.evaluate_all("(all) => all.map((e) => e.dataset.f)")} == {state}
    assert page.locator(".card:not(.dim)").evaluate_all("(all) => all.map((e) => e.dataset.state)") == [state]
    button.click()
    assert page.locator(".dim").count() == 0


def test_the_view_changes_the_colours(look: Any) -> None:
    page = look().page
    read = "(all) => all.map((e) => e.className)"
    filtered = page.locator(".token").evaluate_all(read)
    page.locator('[data-view="s"]').click()
    smoothed = page.locator(".token").evaluate_all(read)
    assert filtered != smoothed
    assert page.evaluate("getComputedStyle(document.querySelector('.token')).backgroundColor") != "rgba(0, 0, 0, 0)"


@pytest.mark.parametrize("name", ["report", "compare"])
def test_the_values_of_a_curve_are_under_the_pointer_and_on_the_keys(look: Any, name: str) -> None:
    page = look(name).page
    figure = page.locator("[data-chart]").first
    last = figure.locator(".legend").inner_text()
    figure.focus()
    page.keyboard.press("Home")
    first = figure.locator(".legend").inner_text()
    assert first != last
    box = figure.locator("svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.14, box["y"] + box["height"] / 2)
    assert figure.locator(".legend").inner_text() == first
    page.mouse.move(0, 0)
    assert figure.locator(".legend").inner_text() == last


def test_text_of_a_corpus_is_text(look: Any) -> None:
    page = look("hostile").page
    assert page.evaluate("window.hurt") is None
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    assert "<img src=x onerror=" in page.locator("main").inner_text()


def test_a_script_that_gets_in_does_not_run(look: Any) -> None:
    looked = look("hostile")
    looked.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.hurt = 3";
            document.body.append(script);
        }"""
    )
    assert looked.page.evaluate("window.hurt") is None
    assert "Content Security Policy" in looked.said.pop()
