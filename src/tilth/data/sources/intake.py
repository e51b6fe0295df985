"""From raw bytes to outcomes: the one place where a text that was read becomes a document.

`Intake` decodes exactly, takes out what no text may hold (bytes that are not UTF-8, NULs, lone surrogates, the byte
order mark), says each of these in a verdict of the stage `read`, and drops what is empty.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tilth.data.document import Document, Outcome, Rows, Verdict, make_doc_id, make_doc_ids, plain_rows
from tilth.data.sources.config import SourceConfig
from tilth.data.sources.inputs import Input
from tilth.data.sources.notes import Note, without_surrogates
from tilth.data.sources.undecoded import Met, Undecoded
from tilth.data.sources.unusable import Unusable

__all__ = ["Intake", "Note", "without_surrogates"]

_PART = re.compile(r"#bytes=(\d+)-\d+$")  # of a large file: texts.py counts from the file's start
_REPLACEMENT = "\ufffd".encode()


class Intake:
    """Makes the outcomes of one input, and remembers what was found before its first document.

    Args:
        entry: it is a file in an archive, whose `path` names nothing that can be opened.
    """

    def __init__(
        self,
        item: Input,
        config: SourceConfig,
        met: Met | None = None,
        unusable: Unusable | None = None,
        *,
        among_many: bool = False,
        whole: bool = False,
        entry: bool = False,
    ) -> None:
        self.item, self.config, self.among_many = item, config, among_many
        self.whole, self.entry = whole, entry
        self.met, self.unusable = met or Met(), unusable or Unusable()
        self.undecoded = Undecoded()  # of this input alone, which an entry of an archive is
        self.license = config.license or item.license
        self.meta: dict[str, Any] = {}
        """What is known of all its documents: `code`, the language of a source file; `group`, which is never divided
        between training and validation; `twin`, where the documents of a group hold one another's text."""
        self._of_the_file: list[Note] = []
        self._mark = ""  # the encoding that a byte order mark, which was taken off, or the file itself says
        self._outcomes = 0

    def note_file(self, note: Note) -> None:
        """Something about the file as a whole; it is said of its first document."""
        if note.rule in ("bom", "charset"):
            self._mark = note.value
        self._of_the_file.append(note)

    def decode(self, raw: bytes, place: str) -> tuple[str, list[Note]]:
        """UTF-8 to text; each ill-formed sequence (Unicode 15, section 3.9) becomes one U+FFFD, counted in a note."""
        try:
            text = raw.decode()
            self.undecoded.others += len(raw) - len(text)
            return text, []
        except UnicodeDecodeError as error:
            self.undecoded.take(raw)
            text = raw.decode("utf-8", "replace")
            # 0xEF is never a continuation byte, so each EF BF BD in the data is a U+FFFD that someone wrote.
            bad = text.count("\ufffd") - raw.count(_REPLACEMENT)
            return text, [Note("invalid_utf8", str(bad), f"{place}: the first at {self._where(place, error.start)}")]

    def _where(self, place: str, byte: int) -> str:
        """A byte (from 0) of what stands at a place, as one finds it: counted from the file's start where that is
        known.
        """
        name = self.item.locator
        part = _PART.search(place) if place != name else None
        if part:
            byte += int(part[1])
        elif self._mark == "utf-8" and place in (name, f"{name}:1"):
            byte += len(codecs.BOM_UTF8)
        of = "the file" if part or place == name else "what begins there"
        recoded = f", as UTF-8 (it is {self._mark})" if self._mark not in ("", "utf-8") else ""
        return f"byte {byte} of {of}{recoded}"

    def from_bytes(self, locator: str, raw: bytes, *notes: Note) -> Outcome:
        """The document that `raw` is, or why it is none."""
        text, faults = self.decode(raw, locator)
        return self.from_text(locator, text, *notes, *faults)

    def from_text(
        self, locator: str, text: str, *notes: Note, meta: Mapping[str, Any] | None = None, license: str | None = None
    ) -> Outcome:
        """The document that `text` is, or why it is none.

        Args:
            meta: what is known of this document alone.
            license: the one it states itself; the recipe's comes before it, that of the data set's card behind.
        """
        said = list(notes)
        if self.config.invalid_utf8 == "drop" and any(note.rule == "invalid_utf8" for note in said):
            return self._dropped(locator, sorted(said, key=lambda note: note.rule == "invalid_utf8"))
        if nuls := text.count("\0"):
            text = text.replace("\0", "")
            said.append(Note("nul", str(nuls), f"{locator}: NUL characters removed"))
        if not text or text.isspace():
            return self._dropped(locator, [*said, Note("empty", "0", f"{locator}: no text")])
        doc_id = make_doc_id(self.item.source, locator)
        known = {**self.meta, **(meta or {})}
        stated = self.config.license or license or self.license
        document = Document(doc_id, text, self.item.source, locator, stated, known)
        return self._outcome(document, doc_id, said)

    def from_page(
        self, locator: str, text: str, *notes: Note, meta: Mapping[str, Any] | None = None, license: str | None = None
    ) -> Outcome:
        """The document that the text of a page is, which someone else decoded, or why it is none."""
        if any(note.rule == "invalid_utf8" for note in notes):
            self.met.page(locator, text)
        return self.from_text(locator, text, *notes, meta=meta, license=license)

    def close(self) -> None:
        """To be called when no more is read of it."""
        self.met.file(self.item.locator, self.undecoded)

    @property
    def takes_rows(self) -> bool:
        """Whether nothing has to be said of the next documents that is not in their texts."""
        return not (self._of_the_file or self.meta)

    def rows(self, texts: Any, numbers: Sequence[int], before: str = ":") -> Rows:
        """The documents that texts are of which nothing is to be said: Arrow's, with the number of each line or row,
        and what stands before it in a locator.
        """
        place = self.item.locator + before
        self._outcomes += len(texts)
        ids, locators = make_doc_ids(self.item.source, place, numbers), [f"{place}{n}" for n in numbers]
        return plain_rows(ids, texts, self.item.source, locators, self.license)

    def drop(self, locator: str, *notes: Note) -> Outcome:
        """No document stands at `locator`, for the reason that the last of `notes` gives."""
        return self._dropped(locator, list(notes))

    def lose(self, locator: str, *notes: Note, remedy: str = "") -> Outcome:
        """From `locator` on the file cannot be read, for the reason that the last of `notes` gives."""
        return replace(self._dropped(locator, list(notes)), loses=True, remedy=remedy)

    def rest(self) -> list[Outcome]:
        """To be called at the end: a file that gave no outcome at all is an empty one."""
        if self._outcomes:
            return []
        return [self.drop(self.item.locator, Note("empty", "0", f"{self.item.locator}: no text"))]

    def _dropped(self, locator: str, notes: list[Note]) -> Outcome:
        return self._outcome(None, make_doc_id(self.item.source, locator), notes)

    def _outcome(self, document: Document | None, doc_id: str, notes: list[Note]) -> Outcome:
        self._outcomes += 1
        notes, self._of_the_file = [*self._of_the_file, *notes], []
        verdicts = [Verdict(doc_id, "read", rule, "changed", value, detail) for rule, value, detail in notes]
        if document is None:
            verdicts[-1] = replace(verdicts[-1], verdict="dropped")  # the last rule is the one that dropped it
        return Outcome(document, tuple(verdicts))
