"""A page or a PDF as a document: what extraction makes of the file, and what is said where it makes nothing of it.

read_page(intake, content, extractors)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from tilth.core.words import plural
from tilth.data.document import Outcome, Verdict
from tilth.data.extract import BROKEN_PAGE, SCANNED_PAGES, Extractors
from tilth.data.sources.config import SourceConfig
from tilth.data.sources.content import Content, gathered
from tilth.data.sources.intake import Intake, Note

_UNREAD = ("broken", "crashed", "timeout", "memory", "too_deep")
"""Of a page or PDF: the file is not read. One that is empty, needs a password or is too large is read as what it is."""
_UNREAD_OF_THE_WHOLE = (*_UNREAD, "encrypted", "too_large")
"""Where each file is needed whole."""
_Said = TypeVar("_Said", Note, Verdict)
_CAPS = {"timeout": "seconds", "memory": "memory", "too_large": "max_bytes"}


def _more_room(config: SourceConfig, rule: str) -> str:
    """What to do about a page or PDF that needs more of what `extract:` gives."""
    if rule not in _CAPS:
        return ""
    key = _CAPS[rule]
    now = getattr(config.extract, key)
    return (
        f"raise `extract: {{{key}: …}}` (now {now if isinstance(now, int) else f'{now:g}'}), take such files away, "
        f"or let them pass with a higher `max_bad_rows:` (now {config.max_bad_rows:g})"
    )


def read_page(intake: Intake, content: Content, extractors: Extractors) -> Iterator[Outcome]:
    """The one outcome of a page or PDF."""
    yield _extracted(intake, content, extractors)


def _extracted(intake: Intake, content: Content, extractors: Extractors) -> Outcome:
    """A page or PDF as a document; `meta` has its title and date where it states them."""
    item, most = intake.item, intake.config.extract.max_bytes
    raw = gathered(content.pieces, most)
    if isinstance(raw, int):
        large = Note("too_large", str(raw), f"{item.locator}: {raw} bytes, more than {most}")
        more_room = _more_room(intake.config, large.rule)
        return intake.lose(item.locator, large, remedy=more_room) if intake.whole else intake.drop(item.locator, large)
    found = extractors.of("html" if item.kind == "html" else "pdf").extract(raw, item.locator)
    notes = [Note(*fault) for fault in found.faults]
    if found.text is None and notes[-1].rule in (_UNREAD_OF_THE_WHOLE if intake.whole else _UNREAD):
        return intake.lose(item.locator, *notes, remedy=_more_room(intake.config, notes[-1].rule))
    pages = [note.detail.removeprefix(f"{item.locator}: ").rstrip(".") for note in notes if note.rule == BROKEN_PAGE]
    lacks_pages = intake.whole and bool(pages)
    if lacks_pages:
        notes = _pages_last(notes)
    if found.text is None and lacks_pages:
        return intake.lose(item.locator, *notes, remedy=_more_room(intake.config, notes[-1].rule))
    _tell_of_pages(intake, [] if lacks_pages else pages, notes)
    if found.text is None:
        return intake.drop(item.locator, *notes)
    meta = {key: value for key, value in (("title", found.title), ("date", found.date)) if value}
    made = intake.from_page(item.locator, found.text, *notes, meta=meta, license=found.license)
    return replace(made, verdicts=tuple(_pages_last(made.verdicts)), loses=True) if lacks_pages else made


def _tell_of_pages(intake: Intake, lost: Sequence[str], notes: Sequence[Note]) -> None:
    """Of a PDF that is used: the pages that it loses, and those that are pictures."""
    locator, told, number = intake.item.locator, [], len(lost)
    if lost:
        more = f", and {len(lost) - 1} more like that" if len(lost) > 1 else ""
        told.append(f"{plural(len(lost), 'page')} cannot be read: {lost[0]}{more}")
    for scanned in (note for note in notes if note.rule == SCANNED_PAGES):
        number += int(scanned.value)
        told.append(f"{scanned.detail.removeprefix(f'{locator}: ')} (a program for OCR, as ocrmypdf, adds one)")
    if told:
        intake.unusable.take_pages(number, f"{locator}: {'; '.join(told)}")


def _pages_last(said: Sequence[_Said]) -> list[_Said]:
    """With the first page that is lost at the end: the last says what is wrong with a file."""
    pages = [one for one in said if one.rule == BROKEN_PAGE]
    return [one for one in said if one.rule != BROKEN_PAGE] + pages[::-1]
