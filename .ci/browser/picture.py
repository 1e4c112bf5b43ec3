"""Pictures of a report for the documentation: python .ci/browser/picture.py RUN/report.html NAME [TOKEN]

Writes NAME-1280.png (light) and NAME-390.png (dark), the first text in sight, one of its tokens (from 0, of all
texts) pointed at. Run it with the environment of `nox -s browser`, .nox/browser.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SCREENS = ((1280, 1000, "light"), (390, 844, "dark"))


def take(page: Path, name: str, token: int) -> None:
    """Open the page at both widths, point at the token and keep what is seen."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for width, height, scheme in SCREENS:
            opened = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            opened.goto(f"{page.resolve().as_uri()}#text")
            opened.locator(".token").nth(token).hover()
            opened.screenshot(path=f"{name}-{width}.png")
        browser.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0)
