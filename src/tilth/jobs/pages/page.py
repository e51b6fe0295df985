"""Pages for people: a template of this folder, with data put in that cannot break out of it.

Page("report.html.jinja").render(view) -> bytes      one file, with nothing from elsewhere in it
count  number  rough  duration  size  clip  against_forecast    how numbers and texts are written on a page
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from tilth.core.words import against_forecast, duration, plural, size
from tilth.jobs.pages.charts import number

# Control characters as pictures: what stands in data must be seen, and must not steer the page.
_VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}


class Page:
    """A template, and how it is filled in: all that comes from data is escaped."""

    def __init__(self, name: str) -> None:
        environment = jinja2.Environment(
            autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        filters = (count, number, rough, duration, size, clip, against_forecast)
        environment.filters |= {function.__name__: function for function in filters} | {"ln": math.log}
        self._template = environment.from_string(_text(name))

    def render(self, view: Mapping[str, Any]) -> bytes:
        """The page, in UTF-8."""
        html = self._template.render(style=Markup(_text("page.css")), **view).translate(_VISIBLE)
        # Slashes as references: a URL in data is shown as it is, and the file holds no network address.
        return html.replace("://", ":&#47;&#47;").encode("utf-8", "replace")


def _text(name: str) -> str:
    return (resources.files("tilth") / "jobs" / "pages" / name).read_text(encoding="utf-8")


def count(value: int, noun: str = "") -> str:
    """`1,003,855`; with a noun `1 step`, `2,000 steps`."""
    return plural(value, noun) if noun else f"{value:,}"


def rough(value: float) -> str:
    """In words: `0.81 million`."""
    for unit, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if value >= unit or (name == "million" and value >= unit / 10):
            return f"{value / unit:.3g} {name}"
    return f"{value:,}"


def clip(text: str, most: int) -> tuple[str, int]:
    """The first `most` characters, and how many were left out."""
    return text[:most], max(0, len(text) - most)
