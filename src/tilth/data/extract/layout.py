"""Tables that lay a page out, as old pages have them: they become plain containers, so that paragraphs stay paragraphs.

As a table each row is one line of text with `|` between its cells, which is right for data. So a table counts as layout
only where nothing says that it holds data (`<th>`, `<caption>`, a role), and one of its cells has more than half of the
page's text, and either

- this text is two or more paragraphs or headings (or ends of paragraphs by `<br><br>`), and no more than two rows of
  the table have text in several cells; or
- the cell holds a table that is layout;

and where what stands beside that cell is links, or paragraphs too, and no head of columns above it, or where no other
row, rows of links not counted, has text in several cells, as then there are no columns; or where the page says that it
is (`role="presentation"`).

Of a plain container trafilatura keeps little more than paragraphs and tables. So text that stands bare in a cell
becomes paragraphs, and the innermost part of the page that has nearly all of its text is marked as the main text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

WORD = re.compile(r"\w+")
_PARTS = frozenset(("tbody", "thead", "tfoot", "tr", "td", "th", "caption", "colgroup", "col"))
_CELLS = frozenset(("td", "th", "caption"))
_PARAGRAPHS = frozenset(("p", "h1", "h2", "h3", "h4", "h5", "h6"))
_OF_DATA = frozenset(("th", "caption"))
_LAYOUT = {"presentation": True, "none": True, "table": False, "grid": False, "treegrid": False}  # roles
_NOT_SHOWN = frozenset(("script", "style"))
_BLANKS = " \t\r\n\f"  # not the no-break space: it is there to be a line
_MOST = 0.9  # of the text that is in no link: what is left is a page's head and foot
_SENTENCE = 40  # characters
_CONTAINERS = frozenset(("div", "center"))
_NAMES = """address article aside blockquote body center dd details dialog dir div dl dt fieldset figcaption figure
footer form frameset h1 h2 h3 h4 h5 h6 header hgroup hr html legend li listing main menu nav noframes noscript ol
optgroup option p plaintext pre search section select summary table tbody td tfoot th thead tr ul xmp"""
_BLOCKS = frozenset(_NAMES.split())  # all else stands in the lines of a paragraph, what no browser knows too


@dataclass
class _Cell:
    element: Any = None
    text: int = 0  # characters
    links: int = 0  # of these
    paragraphs: int = 0
    begun: bool = False  # a paragraph that has no text so far
    tables: list[_Table] = field(default_factory=list)

    def add(self, text: int, in_link: bool) -> None:
        self.text += text
        self.links += text * in_link
        self.paragraphs += self.begun
        self.begun = False

    def hold(self, table: _Table) -> None:
        """Takes in a table, and its text."""
        whole = table.all()
        self.tables.append(table)
        self.text += whole.text
        self.links += whole.links

    @property
    def is_menu(self) -> bool:
        return self.text <= 2 * self.links


@dataclass
class _Table:
    parts: list[Any]
    data: bool = False
    around: _Cell = field(default_factory=_Cell)  # what stands in no cell
    rows: list[list[_Cell]] = field(default_factory=lambda: [[]])
    beside: list[Any] = field(default_factory=list)  # what is no menu beside a long cell, where there are no columns

    @property
    def cell(self) -> _Cell:
        """The cell that is read now."""
        return self.rows[-1][-1] if self.rows[-1] else self.around

    def cells(self) -> Iterator[_Cell]:
        yield self.around
        for row in self.rows:
            yield from row

    def all(self) -> _Cell:
        """Its cells as one."""
        text, links = (sum(getattr(cell, name) for cell in self.cells()) for name in ("text", "links"))
        return _Cell(self.parts[0], text, links, tables=[table for cell in self.cells() for table in cell.tables])

    def of_several(self) -> list[list[_Cell]]:
        """What has text in rows that have it in several cells."""
        rows = ([cell for cell in row if cell.text] for row in self.rows)
        return [row for row in rows if len(row) > 1]

    def stated(self) -> bool | None:
        """What the page says of it: whether it is layout."""
        return _LAYOUT.get(self.parts[0].get("role", "").strip().lower(), False if self.data else None)

    def is_layout(self, page: _Cell, layout: set[int]) -> bool:
        """Whether it lays out a page with so much text; `layout` has the tables in it that do."""
        if (stated := self.stated()) is not None:
            return stated
        few = len(self.of_several()) < 3
        for row in self.rows:
            for cell in row:
                holds = any(id(table) in layout and table.all().text > page.text / 2 for table in cell.tables)
                if cell.text > page.text / 2 and (holds or (few and cell.paragraphs > 1)):
                    return self._is_beside_no_data(row, cell)
        return False

    def _is_beside_no_data(self, row: list[_Cell], long: _Cell) -> bool:
        """Whether what stands beside a long cell is no data that belongs to it."""
        beside = [cell for cell in row if cell.text and cell is not long]
        if sum(not all(cell.is_menu for cell in one) for one in self.of_several()) < 2:
            self.beside = [cell.element for cell in beside if not cell.is_menu]
            return True
        if not all(cell.is_menu or cell.paragraphs > 1 for cell in beside):
            return False
        above = self.rows[: next(n for n, one in enumerate(self.rows) if one is row)]
        heads = [sum(cell.text > 0 for cell in one) for one in above if not any(cell.links for cell in one)]
        return all(_is_list(cell) for cell in beside) or len(beside) + 1 not in heads


def _is_list(menu: _Cell) -> bool:
    """Whether it has several links: a name in a row of data has one."""
    return sum(1 for _ in menu.element.iter("a")) > 1


def layout_of(tree: Any) -> Layout | None:
    """The tables in lxml's tree that are layout; None where there are none."""
    tables, page = _tables(tree)
    layout: set[int] = set()
    for table in tables:
        if table.is_layout(page, layout):
            layout.add(id(table))
    return Layout(tree, page, [table for table in tables if id(table) in layout]) if layout else None


class Layout:
    """Tables of a tree that are layout, inner ones first; `page` is all of it."""

    def __init__(self, tree: Any, page: _Cell, tables: list[_Table]) -> None:
        self._tree, self._page, self._tables = tree, page, tables
        self._ids = set(map(id, tables))

    def open(self) -> list[str]:
        """Makes `<div>` of the tables, and of their rows and cells, and marks the main text. What is given are words
        that should be kept: those of the main text, or else, menus among them, what is no link in the tables.
        """
        from lxml import etree

        main = self._main()
        own = {table.parts[0] for table in self._tables}
        outer = [table for table in own if own.isdisjoint(table.iterancestors("table"))]
        words = [word for table in outer for word in _words(table)] if main is None else list(_words(main, links=True))
        for table in outer:
            etree.strip_tags(table, "font", "nobr", "spacer", "basefont")  # they stand around whole paragraphs
        parted: set[Any] = set()
        for table in self._tables:
            for element in table.parts:
                is_cell, element.tag = element.tag in _CELLS, "div"
                if is_cell:
                    _make_paragraphs(element, parted)
        if main is None and self._is_most():
            main = _wrapped(self._tree)
        if main is not None:
            main.tag = "article"
        return words

    def _is_most(self) -> bool:
        """Whether the main text is in them, and the page has no mark of its own."""
        more = any(table.all().text > self._page.text / 2 for table in self._tables)
        return more and next(self._tree.iter("article", "main"), None) is None

    def _main(self) -> Any:
        """The innermost table or cell that has nearly all of the page's text, all of its data, and what may be a name
        or a date of the text; None: no such.
        """
        if not self._is_most():
            return None
        beside = [cell for table in self._tables for cell in table.beside]
        needed = _around_all([*self._data_in(self._page), *_sentences(self._tree), *beside])
        for table in self._tables:
            for cell in (*table.cells(), table.all()):
                enough = cell.text - cell.links >= _MOST * (self._page.text - self._page.links)
                if enough and cell.element is not None and (needed is None or cell.element in needed):
                    return cell.element
        return None

    def _data_in(self, cell: _Cell) -> list[Any]:
        """The tables of data in it."""
        found, tables = [], [*cell.tables]
        while tables:  # a page may have more levels than Python has
            table = tables.pop()
            whole = table.all()
            is_data = table.data or (len(table.of_several()) > 1 and not whole.is_menu)
            if is_data and id(table) not in self._ids:
                found.append(whole.element)
            else:
                tables += whole.tables
        return found


def _sentences(tree: Any) -> list[Any]:
    """The paragraphs that are long enough to be one, links not counted."""
    texts = ((p, "".join(p.xpath(".//text()[not(ancestor::a)]"))) for p in _body(tree).iter("p"))
    return [p for p, text in texts if len(text.strip()) >= _SENTENCE]


def _around_all(parts: list[Any]) -> set[Any] | None:
    """The elements that each of these is in; None where there is none of them."""
    around = None
    for part in parts:
        own = set(part.iterancestors())
        around = own if around is None else around & own
    return around


def _wrapped(tree: Any) -> Any:
    """A new element that has all that is in the page's body."""
    body = _body(tree)
    whole = body.makeelement("div")
    whole.text, body.text = body.text, None
    whole.extend(list(body))
    body.append(whole)
    return whole


def _words(element: Any, *, links: bool = False) -> Iterator[str]:
    """The words in an element, with those of links or without."""
    texts = element.xpath(f".//text()[not(ancestor::script or ancestor::style{'' if links else ' or ancestor::a'})]")
    return (word for text in texts for word in WORD.findall(text))


def _make_paragraphs(cell: Any, parted: set[Any]) -> None:
    """Puts each run of text, and of elements that stand in a line, into a `<p>`, as blocks and `<br><br>` part them;
    but for cells that were `parted` before.
    """
    around = [cell]
    while around:
        element = around.pop()
        if element not in parted:
            parted.add(element)
            around += _parted(element)


def _parted(cell: Any) -> list[Any]:
    """The same of what stands in it directly; the containers in it are given."""
    from lxml import etree

    within = []
    pieces = [(None, cell.text), *((child, child.tail) for child in cell)]
    cell.text, cell[:] = None, []
    paragraph: Any = None
    for child, text in pieces:
        if child is not None:
            child.tail = None
            if not _is_in_line(child):
                paragraph = None
                cell.append(child)
                if child.tag in _CONTAINERS:
                    within.append(child)
            elif child.tag == "br" and paragraph is not None and len(paragraph) and _is_break(paragraph[-1]):
                paragraph = None
            elif child.tag != "br" or paragraph is not None:
                paragraph = etree.SubElement(cell, "p") if paragraph is None else paragraph
                paragraph.append(child)
        if text and (paragraph is not None or text.strip(_BLANKS)):
            paragraph = etree.SubElement(cell, "p") if paragraph is None else paragraph
            if len(paragraph):
                paragraph[-1].tail = text
            else:
                paragraph.text = text
    return within


def _is_in_line(element: Any) -> bool:
    return not any(part.tag in _BLOCKS for part in element.iter())


def _tables(tree: Any) -> tuple[list[_Table], _Cell]:
    """The tables, inner ones first, and the page as a cell that has them all."""
    from lxml import etree

    tables: list[_Table] = []
    around: list[_Table] = []
    page = _Cell()
    links = 0
    for event, element in etree.iterwalk(_body(tree), events=("start", "end")):
        links += (element.tag == "a") * (1 if event == "start" else -1)
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
                    around[-1].cell.hold(tables[-1])
                else:
                    page.tables.append(tables[-1])
            text = element.tail
        if text and (length := len(text.strip())):
            page.add(length, links > 0)
            if around:
                around[-1].cell.add(length, links > 0)
    return tables, page


def _body(tree: Any) -> Any:
    return tree if (found := tree.find("body")) is None else found


def _begin(table: _Table, element: Any) -> None:
    tag = element.tag
    table.data |= tag in _OF_DATA
    if tag in _PARTS:
        table.parts.append(element)
    if tag in ("tr", "caption"):
        table.rows.append([])
    if tag in _CELLS:
        table.rows[-1].append(_Cell(element))
    elif tag in _PARAGRAPHS or (tag == "br" and _follows_another(element)):
        table.cell.begun = True


def _follows_another(br: Any) -> bool:
    before = br.getprevious()
    return before is not None and _is_break(before)


def _is_break(element: Any) -> bool:
    """Whether it ends a line, and nothing follows in the next."""
    return element.tag == "br" and not (element.tail or "").strip(_BLANKS)
