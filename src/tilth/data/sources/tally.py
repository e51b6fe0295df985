"""Rows of a file, good and bad, and what is said when the bad ones are too many.

    Tally(intake).good()  .bad(locator, note)  .odd(locator, note)  .left_out(locator, note)  .empty(row)
                 .took_in(rows, locator, note, remedy)  .judge()  .tell()
    like(name, names)                 what of a file a recipe may have meant

Complaints are gathered by their rule: a wrong key makes the same one of every row. Where it is the key, the remedy
names those that the rows have.
"""

from __future__ import annotations

import difflib
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tilth.core.faults import cut, short
from tilth.data.document import Outcome
from tilth.data.sources.chatgpt import is_tree
from tilth.data.sources.inputs import split_suffixes
from tilth.data.sources.intake import Intake, Note
from tilth.data.sources.keys import MESSAGES, TEXTS, rows_in, text_of, text_within, value_at
from tilth.data.sources.losses import FEW, JUDGED_FROM, UnfitFileError, too_many
from tilth.data.sources.messages import remedy_of
from tilth.data.sources.shapes import conversation_in

_JUDGED_EVERY = 10_000
_SHOWN = 8  # keys of a row
_UNPACK = {".gz": "gzip -dc", ".zst": "zstd -dc", ".bz2": "bzip2 -dc", ".xz": "xz -dc"}
_ALL_BUT = 0.01  # of the rows, and ten of them at least: so few with a text are a sign of a wrong key
_EMPTY_FROM = 10
NO_LINES = (
    "this is JSON that goes over lines, or one list, not an object on each line: write `format: json` (in a folder or "
    "an archive give such files the suffix .json)"
)
"""What to do about such a file that is read as JSON Lines."""


def like(name: str, names: Sequence[str]) -> str | None:
    """The one of `names` that was meant by `name`: written otherwise, or nearly the same."""
    plain = {each.strip().casefold(): each for each in reversed(names)}
    close = difflib.get_close_matches(name.strip().casefold(), plain, n=1, cutoff=0.6)
    return plain[close[0]] if close else None


class Tally:
    """Counts rows, good and bad, and raises when the bad ones are too many.

    Args:
        called: what is counted: the files of an archive are judged as the rows of a file are.
    """

    def __init__(self, intake: Intake, called: str = "rows") -> None:
        self.intake, self._called = intake, called
        self._rows = 0
        self._bad_rows = 0
        self._rules: Counter[str] = Counter()
        self._first: dict[str, tuple[str, Note]] = {}  # of each rule
        self._odd: Counter[str] = Counter()  # rows that were taken, by the rule of what was said of them
        self._remedies: Counter[str] = Counter()
        self._of_what_took_in = ""  # rows: what to do about it
        self._silent: dict[str, None] = {}  # who says nothing in some row
        self._without: Mapping[str, Any] = {}  # the first row that lacks a key
        self._more: tuple[str, Note] | None = None  # of a file that is one object with a text, and rows beside it
        self._empty = 0
        self._first_empty: Mapping[str, Any] = {}

    @property
    def rows(self) -> int:
        """How many were counted."""
        return self._rows

    def good(self, rows: int = 1) -> None:
        """More rows that can be used (or that are empty, which is no fault)."""
        while rows:
            step = min(rows, _JUDGED_EVERY - self._rows % _JUDGED_EVERY)
            self._rows += step
            rows -= step
            self._look()

    def bad(self, locator: str, note: Note, row: Mapping[str, Any] | None = None, *, remedy: str = "") -> Outcome:
        """One more row that cannot be used; its outcome.

        Args:
            row: what it holds, where it is known.
            remedy: what to do about it, where that is known.
        """
        self._remedies[remedy] += 1
        self._rows += 1
        self._bad_rows += 1
        self._rules[note.rule] += 1
        self._first.setdefault(note.rule, (locator, note))
        if note.rule == "empty_turn":
            self._silent[note.value] = None
        if note.rule == "no_field" and row and not self._without:
            self._without = row
        self._look()
        return self.intake.drop(locator, note)

    def took_in(self, rows: int, locator: str, note: Note, remedy: str) -> None:
        """So many more rows that cannot be used: a bad one that was counted took them in, and is named first."""
        self._rows += rows
        self._bad_rows += rows
        self._first[note.rule] = (locator, note)
        self._of_what_took_in = remedy

    def empty(self, row: Mapping[str, Any] | None = None) -> None:
        """One more row whose text is null or white space, which is no fault where others have one."""
        self._empty += 1
        self._first_empty = self._first_empty or row or {}
        self.good()

    def odd(self, locator: str, note: Note) -> Note:
        """Of a row that can be used, and should be looked at: the note on it."""
        self._odd[note.rule] += 1
        self._first.setdefault(note.rule, (locator, note))
        return note

    def left_out(self, locator: str, note: Note) -> Outcome:
        """One more row that is left out for what it is, which is no fault of it; its outcome."""
        self.odd(locator, note)
        self.good()
        return self.intake.drop(locator, note)

    def holds_more(self, locator: str, row: Mapping[str, Any], text: str) -> None:
        """Notes of a JSON file by itself, of whose first row this is the text, where longer rows in it are not read."""
        item, config = self.intake.item, self.intake.config
        told = self.intake.whole or not self.intake.among_many
        alone = self._rows == 1 and item.kind == "json" and not config.records and told
        place = rows_in(row) if alone else None
        if place and text_within(value_at(row, place)) > len(text):
            said = f"{locator}: its rows at {short(place)} are not read; `records: {cut(place)}` reads them"
            self._more = (locator, Note("rows_inside", "", said))

    @property
    def misses_all(self) -> bool:
        """Whether a file that must be whole is one object without a text, and rows in it, of which none is read."""
        return self.intake.whole and self._rows == 1 and bool(self._advised or self._inside())

    def too_many_with(self, more: int) -> bool:
        """Whether with so many more that cannot be used the bad rows are too many."""
        few = 0 if self.intake.whole else FEW
        return too_many(self._bad_rows + more, self._rows + more, self.intake.config.max_bad_rows, few)

    def _look(self) -> None:
        # The share is judged at the file's end; before, where all are bad from the first on, and, of a file by itself,
        # now and then, so that a large wrong one stops early. One of many is read to its end: others go on beside it.
        now_and_then = self._rows % _JUDGED_EVERY == 0 and not self.intake.among_many
        if now_and_then or (self._rows == JUDGED_FROM and self._bad_rows == JUDGED_FROM):
            self._judge(f"of the first {self._rows} {self._called} {self._bad_rows}")

    def judge(self) -> None:
        """At the file's end: raises UnfitFileError when the bad rows are too many, and tells of fewer."""
        self._judge(self._counted)
        config = self.intake.config
        few = self._rows - self._empty < _ALL_BUT * self._rows
        if self._rows >= _EMPTY_FROM and few and config.max_bad_rows < 1:
            said = f"{self._empty} of {self._rows} rows have no text by `{config.wanted}`: null, or white space"
            remedy = f"{self._offer(self._first_empty)}; `max_bad_rows: 1` goes on with the others"
            raise UnfitFileError(f"{self.intake.item.path}: {said}", remedy, "empty")
        self.tell()

    def tell(self) -> None:
        """At the file's end: puts its bad and odd rows, if any, to those that are told when the source was read."""
        if self._more and self._rows == 1:
            self.odd(*self._more)
        said = [self._said(self._counted)] if self._bad_rows else []
        said += [self._complaint(rule, count) for rule, count in self._odd.items()]
        said += [inside] if (inside := self._inside()) else []
        if said:
            rows = self._bad_rows + self._odd.total()
            advice = self._advice() if self._bad_rows else ""
            self.intake.unusable.take(rows, f"{self.intake.item.locator}: {'; '.join(said)}", advice)

    @property
    def _counted(self) -> str:
        if self._called == "files":
            return "its only file" if self._rows == 1 else f"{self._bad_rows} of its {self._rows} files"
        return f"{self._bad_rows} of {self._rows} {self._called}"

    @property
    def _advised(self) -> str:
        """The first remedy that came with a row."""
        return next(filter(None, self._remedies), "")

    def _judge(self, counted: str) -> None:
        if self.too_many_with(0):
            remedy = self._remedy(self.intake.config.max_bad_rows)
            raise UnfitFileError(f"{self.intake.item.path}: {self._said(counted)}", remedy)

    def _said(self, counted: str) -> str:
        return f"{counted} cannot be used: " + "; ".join(
            self._complaint(rule, count) for rule, count in self._rules.most_common(3)
        )

    def _complaint(self, rule: str, count: int) -> str:
        locator, note = self._first[rule]
        said = note.detail.removeprefix(f"{locator}: ")
        if rule == "not_json":
            said = f"not JSON: {said}"
        elif rule == "no_field":
            said = said.partition("; ")[0]  # the keys that there are belong into the remedy
        elif rule == "empty_turn" and len(self._silent) > 1:
            said = f"nothing is said by {' or '.join(f'the {role}' for role in self._silent)}"
        return f"{said} ({locator}{f' and {count - 1} more' if count > 1 else ''})"

    def _remedy(self, limit: float) -> str:
        """What to do where they are too many; where all are, no share lets them pass."""
        if self._called == "files" and self._advised:
            return self._advised
        hopeless = self._bad_rows == self._rows
        return self._advice() if hopeless else f"{self._advice()}, or raise `max_bad_rows:` (now {limit:g})"

    def _advice(self) -> str:
        """What to do, beside letting more of such rows pass."""
        config = self.intake.config
        if self._called == "files":
            return self._advised or "get the archive again, or take these files out of it"
        if self._rows == 1 and (alone := self._advised or self._inside()):
            return alone
        if self._of_what_took_in:
            return self._of_what_took_in
        rule = self._rules.most_common(1)[0][0]
        if rule == "not_json" and self._advised == NO_LINES and 2 * self._bad_rows > self._rows:
            return NO_LINES
        if rule == "not_json" and (common := self._remedies.most_common(1)[0][0]) not in ("", NO_LINES):
            return common
        if rule == "not_text" and (of_lists := self._of_lists(self._first[rule][1].value)):
            return of_lists
        if of_messages := remedy_of(self._first[rule][1]):
            return of_messages
        if rule != "no_field" or not self._without:
            return f"check `format:` and `{config.wanted}`, mend the file"
        return self._offer(self._without)

    def _offer(self, row: Mapping[str, Any]) -> str:
        """What a recipe may have meant that does not find a text in this row."""
        config = self.intake.config
        if not row:
            return f"check `{config.wanted}`"
        shown = list(row)[:_SHOWN]
        have = f"the rows have {', '.join(map(cut, shown))}"
        if config.map is not None or config.template is not None:
            return f"{have}: check `{config.wanted}`"
        if is_tree(row.get("mapping")):
            exported = "these are conversations that ChatGPT exported"
            return f"{exported}: write `map: {{messages: mapping}}` (with train.objective: sft)"
        texts = _texts_in(row)
        longest = max(texts, key=lambda name: len(texts[name]), default=None)
        close = like(config.field, list(texts))
        meant = close or longest
        if meant is not None and meant not in shown:  # what is offered is seen to be there
            have += f" … {cut(meant)}"
        answers = conversation_in(row)
        if answers and (not close or f"{{{close}}}" in answers):  # a question's `context` only looks like `text`
            as_text = f", for one key as text `field: {cut(meant)}`" if meant else ""
            return f"{have}: {answers}{as_text}"
        return f"{have}: {f'write `field: {cut(meant)}`' if meant else 'none of it is a text'}"

    def _of_lists(self, kind: str) -> str:
        """What to do about lists where a text should stand."""
        if kind == MESSAGES:
            config = self.intake.config
            if config.map is not None and config.map.messages is None:
                return "write texts into both prompt and completion, or lists of messages into both"
            name = "COLUMN" if config.map is not None or config.template is not None else cut(config.field)
            return f"write `map: {{messages: {name}}}` (with train.objective: sft)"
        several = "write one text into each row: of alternatives the first, of parts all with line ends between"
        return several if kind == TEXTS else ""

    def _inside(self) -> str:
        """Of a JSON file that is one object without the key: where its rows seem to stand."""
        kind, row = self.intake.item.kind, self._without
        alone = self._rows == 1 and kind in ("json", "jsonl") and not self.intake.config.records
        place = rows_in(row) if alone and kind == "json" else None
        if alone and _holds_rows(row, place):
            return (
                "the file is one object, and its values look like the rows; they are read from lines of their own: "
                f"{self._lines_of_it()}"
            )
        return f"the file is one object; for the rows in it write `records: {cut(place)}`" if place else ""

    def _lines_of_it(self) -> str:
        """The command that makes lines of the values of an object."""
        item, config = self.intake.item, self.intake.config
        if self.intake.entry:
            return "take the file out of its archive, and `jq -c '.[]' FILE > NEW.jsonl`"
        # By its locator where that is a path: what is kept of a file is the same on all machines.
        name = shlex.quote(item.locator if config.path_prefix else str(item.path))
        unpack = _UNPACK.get(split_suffixes(item.path.name)[1])
        return f"`{unpack} {name} | jq -c '.[]' > NEW.jsonl`" if unpack else f"`jq -c '.[]' {name} > NEW.jsonl`"


def _holds_rows(row: Mapping[str, Any], place: str | None) -> bool:
    """Whether the values of an object are objects with a text at some key that they share, as rows are, and are not
    mostly the list at `place`.
    """
    inner = list(row.values())
    if len(inner) < 2 or not all(isinstance(one, dict) for one in inner):
        return False
    shared = set(inner[0]).intersection(*inner[1:])
    if place is not None and 2 * text_within(value_at(row, place)) > text_within(row[place.partition(".")[0]]):
        return False
    return any(all(isinstance(one[key], str) for one in inner) for key in shared)


def _texts_in(row: Mapping[str, Any]) -> dict[str, str]:
    """The texts of a row, and those in the objects that it holds, by their keys."""
    texts = {name: text for name, value in row.items() if value is not None and (text := text_of(value))}
    inner = (
        (f"{name}.{key}", one) for name, value in row.items() if isinstance(value, dict) for key, one in value.items()
    )
    return {**{name: text for name, one in inner if one is not None and (text := text_of(one))}, **texts}
