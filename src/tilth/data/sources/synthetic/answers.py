"""The fixed file of a synthetic source as documents: a pure function of its bytes.

    read_synthetic(intake)

make: documents    an answer is a document
make: pairs        an answer is a JSON list of {question, answer}, or has one in a code fence; each is a document with
                   `meta.messages`

Each answer that gives none, or not what was asked for, is a verdict of the stage `read`: `no_answer` (all attempts
failed), `rejected` (the endpoint refused the request), `refused` (the model or its filter did), `empty`, `not_pairs`,
`bad_pair`; where more than a tenth of them give none it is said. What a model thinks first (`<think>…</think>`) is
taken out (`thinking`). `cut_off` says that a document was ended by the limit of tokens, or the pair that was.
`meta.provenance` says who wrote it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tilth.core.errors import DataError
from tilth.core.words import plural
from tilth.data.document import Outcome, Verdict
from tilth.data.sources import streams
from tilth.data.sources.intake import Intake, Note, without_surrogates
from tilth.data.sources.messages import rendered

_REFUSALS = {"content_filter", "refusal", "safety"}
_THINKS, _TAG = "<think>", re.compile("<(/?)think>")
_THOUGHT = re.compile(r"^[^\S\n]*+</think>|</think>(?=[^\S\n]*+\n[^\S\n]*+\n)", re.MULTILINE)
_TOLD_FROM = 0.1  # the share of answers that give nothing
_DECODER = json.JSONDecoder()
_BEGIN = re.compile(r"\s*+(?=[\[{])")
_FENCE = re.compile(r"```[a-zA-Z]*+\s*+(?=[\[{])")
_LIST = re.compile(r'(?:\{\s*+"[^"\\]*+"\s*+:\s*+)?\[\s*+')
_MOST_FENCES = 1000  # of which each that is no JSON costs a pass over what stands before it
_COMMA = re.compile(r"\s*+,\s*+")


def read_synthetic(intake: Intake) -> Iterator[Outcome]:
    """The outcomes of a file of answers."""
    pairs, count, bad = intake.item.kind == "synthetic_pairs", 0, list[Verdict]()
    for number, line in streams.lines(streams.read_pieces(intake.item)):
        try:
            row = json.loads(line) if isinstance(line, bytes) else None
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise DataError(f"{intake.item.path}, line {number}, is not what was written", "remove that file")
        outcomes = list(_answer(intake, row, pairs=pairs))
        yield from outcomes
        count += 1
        if not any(outcome.document for outcome in outcomes):
            bad.append(outcomes[0].verdicts[-1])
    if len(bad) > _TOLD_FROM * count:
        intake.unusable.take(len(bad), f"{intake.item.locator}: {_told(bad, count)}")


def _told(bad: Sequence[Verdict], count: int) -> str:
    """How many answers give nothing, and for the most frequent reasons the first of them."""
    rules = Counter(verdict.rule for verdict in bad).most_common(3)
    first = {verdict.rule: verdict.detail for verdict in reversed(bad)}
    why = "; ".join(f"{first[rule]}{f' (and {n - 1} more)' if n > 1 else ''}" for rule, n in rules)
    return f"{len(bad)} of {plural(count, 'answer')} cannot be used: {why}"


def _answer(intake: Intake, row: dict[str, Any], *, pairs: bool) -> Iterator[Outcome]:
    locator = f"{intake.item.locator}#request={row['number'] + 1}"
    if (fault := _fault(row, locator)) is not None:
        yield intake.drop(locator, fault)
        return
    meta = {"provenance": _provenance(row)}
    group = row["group"] or (locator if pairs else None)  # one answer's pairs are about the same
    intake.meta = {"group": group} if group else {}
    content = _behind_thoughts(row["content"])
    if thought := len(row["content"]) - len(content):
        intake.note_file(Note("thinking", str(thought), f"{locator}: what the model thought first is taken out"))
    if pairs:
        yield from _pairs(intake, content, locator, meta, cut=row["finish_reason"] == "length")
        return
    text, notes = without_surrogates(content, locator)
    if row["finish_reason"] == "length":
        notes.append(Note("cut_off", "", f"{locator}: it ends where the limit of tokens did"))
    yield intake.from_text(locator, text, *notes, meta=meta)


def _fault(row: dict[str, Any], locator: str) -> Note | None:
    """Why an answer is none."""
    if row["status"] is None:
        return Note("no_answer", "", f"{locator}: all attempts failed")
    if row["status"] != 200:
        return Note(
            "rejected", str(row["status"]), f"{locator}: the endpoint answered {row['status']}: {row['content']}"
        )
    if row["finish_reason"] in _REFUSALS:
        return Note("refused", row["finish_reason"], f"{locator}: the answer ends by {row['finish_reason']}")
    return None


def _behind_thoughts(content: str) -> str:
    """An answer without what a reasoning model writes before it; of a block that never ends nothing is left.

    Some templates open that block in the prompt, so that only its end is in the answer. It is one that begins a line
    outside a code fence or has a blank line behind it; any other is what the answer says of such tags.
    """
    if content.lstrip().startswith(_THINKS):
        return content[_end_of_thoughts(content) :].lstrip()
    end = _THOUGHT.search(content)
    if end is None or _THINKS in content[: end.start()] or content.count("```", 0, end.start()) % 2:
        return content
    return content[end.end() :].lstrip()


def _end_of_thoughts(content: str) -> int:
    """Behind the tag that closes the first one, or the last there is: thoughts may name a tag without closing it."""
    depth, last = 0, len(content)
    for tag in _TAG.finditer(content):
        depth += -1 if tag[1] else 1
        last = tag.end() if tag[1] else last
        if not depth:
            break
    return last


def _provenance(row: dict[str, Any]) -> dict[str, Any]:
    said = {"endpoint", "asked_model", "model", "prompt", "seed", "finish_reason", "usage", "time"}
    return {"request": row["number"] + 1, **{key: row[key] for key in sorted(said)}}


def _pairs(intake: Intake, content: str, locator: str, meta: dict[str, Any], *, cut: bool) -> Iterator[Outcome]:
    if not content.strip():
        yield intake.drop(locator, Note("empty", "0", f"{locator}: no text"))
        return
    found = _parsed(content, cut=cut)
    if not found.items and not found.cut:
        yield intake.drop(locator, Note("not_pairs", "", f"{locator}: no JSON list of pairs: {content[:60]!r}"))
        return
    for number, pair in enumerate(found.items, 1):
        place = f"{locator},pair={number}"
        turns = [pair.get(key) if isinstance(pair, dict) else None for key in ("question", "answer")]
        texts = [turn for turn in turns if isinstance(turn, str) and turn.strip()]
        if len(texts) < 2:
            yield intake.drop(place, Note("bad_pair", "", f"{place}: no question and answer that are texts"))
            continue
        (question, q_notes), (answer, a_notes) = (without_surrogates(t.replace("\0", ""), place) for t in texts)
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        yield intake.from_text(place, rendered(messages), *q_notes, *a_notes, meta={**meta, "messages": messages})
    if found.cut:
        place, whole = f"{locator},pair={len(found.items) + 1}", len(found.items)
        why = f"{place}: the answer ends here, where the limit of tokens did; {whole} before it are whole"
        yield intake.drop(place, Note("cut_off", str(whole), why))


class _Found(NamedTuple):
    """The items of an answer's JSON, and whether it was cut off within it."""

    items: list[Any]
    cut: bool = False


def _parsed(content: str, *, cut: bool) -> _Found:
    """The JSON that an answer is, or that stands in code fences in it, one value after another; of one that was `cut`
    what is whole. Lists without any pair are words in brackets where there are pairs elsewhere.
    """
    starts = [found.end() for found in (_BEGIN.match(content), *_FENCE.finditer(content)) if found][:_MOST_FENCES]
    found, ends, broken = list[list[Any]](), 0, -1
    for begins in starts:
        if begins >= ends:
            values, ends = _values(content, begins)
            found += map(_items, values)
            left = _BEGIN.match(content, ends)
            broken = left.end() if left else broken
    if cut and broken >= 0:
        found.append(_whole_items(content, broken))
    pairs = [items for items in found if any(isinstance(item, dict) for item in items)] or found[:1]
    return _Found([item for items in pairs for item in items], cut=cut and broken >= 0)


def _values(content: str, place: int) -> tuple[list[Any], int]:
    """The JSON values that stand there one after another, and where what is none begins."""
    values = list[Any]()
    while begins := _BEGIN.match(content, place):
        try:
            value, ends = _DECODER.raw_decode(content, begins.end())
        except (ValueError, RecursionError):
            break
        values.append(value)
        place = ends
    return values, place


def _items(value: Any) -> list[Any]:
    """Those of a list, or of the one list in an object."""
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list)]
        return lists[0] if len(lists) == 1 else [value] if {"question", "answer"} <= value.keys() else []
    return value if isinstance(value, list) else []


def _whole_items(content: str, start: int) -> list[Any]:
    """The first items of a list that breaks off."""
    items, place = list[Any](), _LIST.match(content, start)
    while place:
        try:
            item, end = _DECODER.raw_decode(content, place.end())
        except (ValueError, RecursionError):
            break
        items.append(item)
        place = _COMMA.match(content, end)
    return items
