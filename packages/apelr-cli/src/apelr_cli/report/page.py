"""HTML of one file: templates, style sheet and script put together, all text escaped, no network allowed."""

import base64
import hashlib
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from apelr_cli.plan_palette import PALETTE
from apelr_cli.report import svg_graph, svg_lines, svg_matrix

__all__ = ["MARK", "render"]

MARK = '<meta name="generator" content="apelr">'
"""In the first lines of every page that is made here, and in no other."""
LIGHT_TINT, DARK_TINT = 50, 36
"""Per cent of a state's colour behind its text, at most: more would be hard to read."""


def render(template: str, **data: Any) -> str:
    """A template of this package with its data as a whole page.

    The page's policy allows the one style sheet and the one script in it, by their digests, and no request: text that
    a corpus or a tokenizer brings in is escaped, and would not run if it were not.
    """
    environment = Environment(
        loader=PackageLoader("apelr_cli.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        line_chart=svg_lines.line_chart,
        usage_bands=svg_lines.usage_bands,
        heat_map=svg_matrix.heat_map,
        bars=svg_matrix.bars,
        belief_strip=svg_matrix.belief_strip,
        plan_strip=svg_matrix.plan_strip,
        transition_graph=svg_graph.transition_graph,
        number=_number,
    )
    tints = {"palette": PALETTE, "light_tint": LIGHT_TINT, "dark_tint": DARK_TINT}
    style = Markup(environment.get_template("style.css").render(tints))
    script = Markup(environment.get_template("page.js").render())
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    page = environment.get_template(template)
    return page.render(data, mark=Markup(MARK), style=style, script=script, policy=Markup(policy))


def _digest(content: str) -> str:
    """As a Content-Security-Policy names an inline element."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")


def _number(value: float | None, places: int = 3) -> str:
    """A figure for reading; a dash where there is none."""
    return "–" if value is None else f"{value:,.{places}f}"
