"""The main text of an HTML page, by trafilatura; runs in the worker only.

Settings are fixed so that the same page gives the same text on any day: a date is taken where the page states it
(trafilatura would search the text, and refuses dates after today), and no memory of earlier pages is used.

The page is parsed here, not by trafilatura: at 256 levels, or at a text of 10 MB, its parser stops, and it goes on with
what came before as if that were the page. And white space is made what a browser shows: a line end of the source within
a paragraph is a blank, where trafilatura leaves a line end behind each link, and rules about lines count the source's.

The parser has decoded the page's entities; trafilatura decodes once more, and would make `&params` of a program `¶ms`.
So it sees another sign where the page has `&`. And the title is what the page says it is: trafilatura takes headings.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tilth.data.extract.charset import decode
from tilth.data.extract.layout import WORD, layout_of
from tilth.data.extract.license import stated_license
from tilth.data.extract.result import Extracted, Fault

_DATES = {"original_date": True, "extensive_search": False, "min_date": "1990-01-01", "max_date": "2100-01-01"}
_AS_WRITTEN = frozenset(("pre", "textarea", "listing", "xmp", "plaintext"))  # their line ends are meant
_SHOWN_OF = {"meta": ("content",), "math": ("alttext",)}  # the attributes that a text or title is taken from
_AMPERSANDS_IN_JSON = re.compile(r"(?:&|\\u0026)(?:amp;|(?!#?\w+;))")
_BLANKS = re.compile(r"[ \t\r\n\f]+")
_ENOUGH = 0.9  # of the words of a table that is opened must be kept
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def parse(raw: bytes, options: dict[str, Any]) -> Extracted:
    """The page's main text, title, date and licence; `empty` when there is no text, `too_deep` for a hostile tree."""
    text, faults = decode(raw, options["charset"])
    if nuls := text.count("\0"):  # the tree cannot hold them; nor other controls, which a browser shows no more
        faults.append(Fault("nul", str(nuls), "NUL characters removed"))
    tree = _tree(text)
    if isinstance(tree, Fault):
        return Extracted(None, faults=(*faults, tree))
    title, unseen = _title(tree), stated_license(tree)  # before trafilatura, which takes the tree apart
    ampersand = _hide_ampersands(tree)
    found = _found(tree, options)
    main = _text(found, options).replace(ampersand, "&")
    if not main.strip():
        return Extracted(None, faults=(*faults, Fault("empty", "0", "no main text")))
    heading, license = (_line(text and text.replace(ampersand, "&")) for text in (found.title, found.license))
    return Extracted(main, title or heading, _line(found.date), license or unseen, tuple(faults))


def _tree(text: str) -> Any:
    """The page as lxml's tree, or why there is none."""
    tree = _parsed(text)
    if isinstance(tree, Fault):
        return tree
    if isinstance(fault := _show_without_frames(tree), Fault):
        return fault
    _unwrap(tree)
    return tree


def _show_without_frames(tree: Any) -> Fault | None:
    """Makes `<body>` of the first `<noframes>` of a page that has none: the parser leaves it as it is written."""
    shown = tree.find("body") is not None
    for noframes in list(tree.iter("noframes")):
        raw, noframes.text = noframes.text, None
        if shown or not (raw and raw.strip()):
            continue
        inner = _parsed(raw)
        if isinstance(inner, Fault):
            return inner if inner.rule != "empty" else None
        body, shown = inner.find("body"), True
        tree.append(inner if body is None else body)
    return None


def _parsed(text: str) -> Any:
    from lxml import etree, html

    parser = html.HTMLParser(
        encoding="utf-8",
        huge_tree=True,  # libxml2 still stops at 2048 levels
        collect_ids=False,
        default_doctype=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        tree = html.document_fromstring(_NO_XML.sub("", text).encode(), parser=parser)
    except etree.ParserError:  # nothing in it
        return Fault("empty", "0", "no main text")
    except etree.XMLSyntaxError as error:
        if error.code == etree.ErrorTypes.ERR_NO_MEMORY:
            raise MemoryError from error
        raise
    if any(error.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for error in parser.error_log):
        return Fault("too_deep", "", "nested too deeply for the parser")
    return tree


def _unwrap(tree: Any) -> None:
    """Runs of white space with a line end in them become one blank, but where they stand as they were written: there
    `<br>` becomes a line end, as trafilatura takes the indentation of what follows one.
    """
    from lxml import etree

    within = 0
    breaks = []
    for event, element in etree.iterwalk(tree, events=("start", "end")):
        as_written = element.tag in _AS_WRITTEN
        within += as_written * (1 if event == "start" else -1)
        place = "text" if event == "start" else "tail"
        text = getattr(element, place)
        if not within and text and "\n" in text:
            setattr(element, place, _BLANKS.sub(" ", text))
        if within and event == "end" and element.tag == "br":
            breaks.append(element)
    for br in breaks:
        br.tail = f"\n{br.tail or ''}"
        br.drop_tag()


def _title(tree: Any) -> str | None:
    """What the page says its title is: to those that show it elsewhere (`og:title`), else in `<title>`."""
    said = [meta.get("content") for meta in tree.iter("meta") if _name(meta) == "og:title"]
    titles = (title for title in tree.iter("title") if next(title.iterancestors("svg"), None) is None)
    said += ["".join(title.itertext()) for title in titles]
    return next(filter(None, map(_line, said)), None)


def _name(meta: Any) -> str:
    return (meta.get("property") or meta.get("name") or "").strip().lower()


def _hide_ampersands(tree: Any) -> str:
    """Puts a sign that the page does not have in the place of each `&` that is shown, and gives that sign.

    One sign for one: what trafilatura takes depends on lengths, and not all of its ways decode equally often. Texts in
    JSON, which it takes where the page shows none, keep their entities: they are decoded once, but for `&amp;`, which
    is such a sign at once.
    """
    from lxml import etree

    page = etree.tostring(tree, encoding="unicode")
    signs = (sign for sign in map(chr, range(ord("＆"), sys.maxunicode)) if sign.isprintable() and sign not in page)
    ampersand = next(signs, "&")
    for element in tree.iter(etree.Element):
        if element.text and element.tag == "script":
            element.text = _AMPERSANDS_IN_JSON.sub(ampersand, element.text)
        elif element.text and "&" in element.text:
            element.text = element.text.replace("&", ampersand)
        if element.tail and "&" in element.tail:
            element.tail = element.tail.replace("&", ampersand)
        for name in _SHOWN_OF.get(element.tag, ()):
            if "&" in element.get(name, ""):
                element.set(name, element.get(name).replace("&", ampersand))
    return ampersand


def _found(tree: Any, options: dict[str, Any]) -> Any:
    """What trafilatura finds, with tables of layout opened, unless much of their text is lost by that."""
    layout = layout_of(tree)
    if layout is None:
        return _extracted(tree, options)
    closed = copy.deepcopy(tree)
    words = Counter(layout.open())
    opened = _extracted(tree, options)
    if (kept := _kept(opened, words, options)) >= _ENOUGH * words.total():
        return opened
    unopened = _extracted(closed, options)
    return opened if kept >= _ENOUGH * _kept(unopened, words, options) else unopened


def _kept(found: Any, words: Counter[str], options: dict[str, Any]) -> int:
    return (Counter(WORD.findall(_text(found, options))) & words).total()


def _text(found: Any, options: dict[str, Any]) -> str:
    parts = (found.text, found.comments if options["comments"] else None) if found is not None else ()
    return "\n\n".join(part for part in parts if part)


def _extracted(tree: Any, options: dict[str, Any]) -> Any:
    import trafilatura

    with _memory_errors_noticed():
        return trafilatura.bare_extraction(
            tree,
            favor_precision=options["favor"] == "precision",
            favor_recall=options["favor"] == "recall",
            include_comments=options["comments"],
            include_tables=options["tables"],
            include_images=False,
            include_formatting=False,
            include_links=False,
            deduplicate=False,
            with_metadata=True,
            date_extraction_params=dict(_DATES),
        )


class _Swallowed(logging.Handler):
    """Notices when trafilatura goes on after an error that must not be passed over: memory that was refused."""

    memory = False

    def emit(self, record: logging.LogRecord) -> None:
        self.memory |= isinstance(record.args, tuple) and any(isinstance(arg, MemoryError) for arg in record.args)


@contextlib.contextmanager
def _memory_errors_noticed() -> Iterator[None]:
    handler, logger = _Swallowed(logging.WARNING), logging.getLogger("trafilatura")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
    if handler.memory:
        raise MemoryError


def _line(text: str | None) -> str | None:
    return " ".join(text.split()) or None if text else None
