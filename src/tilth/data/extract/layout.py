"""Tables that lay a page out, as old pages have them: they become plain containers, so that paragraphs stay paragraphs.

As a table each row is one line of text with `|` between its cells, which is right for data. So a table counts as layout
only where nothing says that it holds data (`<th>`, `<caption>`, a role), and it either

- has one cell with more than half of the page's text, in two or more paragraphs or headings (or ends of paragraphs by
  `<br><br>`), and no more than two rows with text in several cells; or
- holds a table that is layout, and has more than half of the page's text;

or where the page says that it is (`role="presentation"`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_PARTS = frozenset(("tbody", "thead", "tfoot", "tr", "td"))
_PARAGRAPHS = frozenset(("p", "h1", "h2", "h3", "h4", "h5", "h6"))
_OF_DATA = frozenset(("th", "caption"))
_LAYOUT = {"presentation": True, "none": True, "table": False, "grid": False, "treegrid": False}  # roles
_NOT_SHOWN = frozenset(("script", "style"))
_BLANKS = " \t\r\n\f"  # not the no-break space: it is there to be a line


@dataclass
class _Cell:
    text: int = 0  # characters
    paragraphs: int = 0
    begun: bool = False  # a paragraph that has no text so far

    def add(self, text: int) -> None:
        self.text += text
        self.paragraphs += self.begun
        self.begun = False


@dataclass
class _Table:
    parts: list[Any]
    data: bool = False
    around: _Cell = field(default_factory=_Cell)  # what stands in no cell
    rows: list[list[_Cell]] = field(default_factory=lambda: [[]])
    tables: list[_Table] = field(default_factory=list)

    @property
    def cell(self) -> _Cell:
        """The cell that is read now."""
        return self.rows[-1][-1] if self.rows[-1] else self.around

    def text(self) -> int:
        return self.around.text + sum(cell.text for row in self.rows for cell in row)

    def is_layout(self, page: int, layout: set[int]) -> bool:
        """Whether it lays out a page of so many characters; `layout` has the tables in it that do."""
        stated = _LAYOUT.get(self.parts[0].get("role", "").strip().lower())
        if self.data or stated is not None:
            return bool(stated)
        if any(id(table) in layout and table.text() > page / 2 for table in self.tables):
            return True
        several = sum(sum(cell.text > 0 for cell in row) > 1 for row in self.rows)
        return several < 3 and any(cell.text > page / 2 and cell.paragraphs > 1 for row in self.rows for cell in row)


def unlay(tree: Any) -> None:
    """Makes `<div>` of the tables in lxml's tree that are layout, and of their rows and cells."""
    tables, page = _tables(tree)
    layout: set[int] = set()
    for table in tables:
        if table.is_layout(page, layout):
            layout.add(id(table))
            for element in table.parts:
                element.tag = "div"


def _tables(tree: Any) -> tuple[list[_Table], int]:
    """The tables, inner ones first, and how many characters of text the page has."""
    from lxml import etree

    tables: list[_Table] = []
    around: list[_Table] = []
    page = _Cell()
    body = tree if (found := tree.find("body")) is None else found
    for event, element in etree.iterwalk(body, events=("start", "end")):
        if event == "start":
            if element.tag == "table":
                around.append(_Table([element]))
            elif around:
                _begin(around[-1], element)
            text = None if element.tag in _NOT_SHOWN else element.text
        else:
            if element.tag == "table":
                tables.append(around.pop())
                if around:
                    around[-1].tables.append(tables[-1])
                    around[-1].cell.text += tables[-1].text()
            text = element.tail
        if text and (length := len(text.strip())):
            page.add(length)
            if around:
                around[-1].cell.add(length)
    return tables, page.text


def _begin(table: _Table, element: Any) -> None:
    tag = element.tag
    table.data |= tag in _OF_DATA
    if tag in _PARTS:
        table.parts.append(element)
    if tag == "tr":
        table.rows.append([])
    elif tag in ("td", "th"):
        table.rows[-1].append(_Cell())
    elif tag in _PARAGRAPHS or (tag == "br" and _follows_another(element)):
        table.cell.begun = True


def _follows_another(br: Any) -> bool:
    before = br.getprevious()
    return before is not None and before.tag == "br" and not (before.tail or "").strip(_BLANKS)
