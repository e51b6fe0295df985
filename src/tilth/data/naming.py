"""What documents are called, for messages: the locators (file and row) behind the ids of a dataset.

locators(files, doc_ids)             of documents of a split, in its Parquet files
first_dropped(files, rules, …)       the first documents that the rules of a ledger dropped, or changed
passed_over(verdicts, source)        the first files that each rule of a listing left out
with_numbers(named, dropped)         these, beside how many there are
told_by(detail, doc_id, sources)     the locator that the detail of a verdict begins with
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tilth.data.document import Verdict, make_doc_id

NAMED = 3
"""Files that are named, of each rule."""
_LEDGER = re.compile(r"(.*)-(\d+)\.parquet")


def locators(files: Iterable[Path], doc_ids: Collection[str]) -> dict[str, str]:
    """The locators of documents, by their ids; read until all are found."""
    found, wanted = dict[str, str](), pa.array(sorted(set(doc_ids)), pa.string())
    for path in files:
        if len(found) == len(wanted):
            break
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["doc_id", "locator"]):
                rows = batch.filter(pc.is_in(batch["doc_id"], wanted)).to_pydict()
                found |= dict(zip(rows["doc_id"], rows["locator"], strict=True))
    return found


def first_dropped(
    files: Iterable[Path], rules: Collection[str], sources: Collection[str], most: int, verdict: str = "dropped"
) -> dict[str, list[str]]:
    """The locators of the first documents that each rule dropped, `most` at the most; an id where none is told.

    Args:
        files: of the ledger.
        rules: as `read/no_field`.
        verdict: another one, of which the same is asked.
    """
    found: dict[str, list[str]] = {rule: [] for rule in rules}
    for phase, path in _in_order(files, {rule.partition("/")[0] for rule in rules}):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["doc_id", "rule", "verdict", "detail"]):
                told = batch.filter(pc.equal(batch["verdict"], verdict))
                for rule in pc.unique(told["rule"]).to_pylist():
                    names = found.get(f"{phase}/{rule}", [])
                    own = told.filter(pc.equal(told["rule"], rule)).slice(0, most - len(names))
                    names += [
                        told_by(row["detail"], row["doc_id"], sources) or row["doc_id"] for row in own.to_pylist()
                    ]
    return found


def _in_order(files: Iterable[Path], phases: Collection[str]) -> list[tuple[str, Path]]:
    named = [(match, path) for path in files if (match := _LEDGER.fullmatch(path.name)) and match[1] in phases]
    return [(match[1], path) for match, path in sorted(named, key=lambda one: (one[0][1], int(one[0][2])))]


def passed_over(verdicts: Iterable[Verdict], source: str) -> dict[str, list[str]]:
    """The locators of the first files of a source that each rule of its listing left out, by stage and rule; so are
    those in archives whose suffix is not known.
    """
    found: dict[str, list[str]] = {}
    for one in verdicts:
        names = found.setdefault(f"{one.stage}/{one.rule}", []) if _is_file_left_out(one) else None
        if names is not None and len(names) < NAMED:
            names.append(told_by(one.detail, one.doc_id, [source]) or one.doc_id)
    return found


def _is_file_left_out(verdict: Verdict) -> bool:
    return verdict.stage == "list" or (verdict.stage, verdict.rule) == ("read", "unknown_suffix")


def first_named(several: Iterable[Mapping[str, Iterable[str]]]) -> dict[str, list[str]]:
    """What `passed_over` found in several sources, together."""
    found: dict[str, list[str]] = {}
    for one in several:
        for rule, names in one.items():
            found[rule] = [*found.get(rule, ()), *names][:NAMED]
    return found


def with_numbers(named: Mapping[str, Sequence[str]], dropped: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """What `--json` says of files that no listing read: {rule: {files, first}}.

    Args:
        named: what `passed_over` found; results of before have none.
        dropped: how many each rule dropped, those of other stages too.
    """
    listed = {rule: n for rule, n in dropped.items() if rule.startswith("list/")}
    return {rule: {"files": round(n), "first": [*named.get(rule, ())]} for rule, n in listed.items()}


def told_by(detail: str, doc_id: str, sources: Collection[str]) -> str | None:
    """The locator that a detail begins with, which is the one whose hash the id is; None where it names none."""
    for locator in beginnings(detail):
        if any(make_doc_id(source, locator) == doc_id for source in sources):
            return locator
    return None


def beginnings(detail: str) -> Iterator[str]:
    """What a detail may begin with as a locator: all of it, up to each `: `, and what of that is the file's."""
    yield detail
    for mark in (": ", r":\d+: |, |#"):
        for found in re.finditer(mark, detail):
            yield detail[: found.start()]
