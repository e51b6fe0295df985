"""Examples of what no stage of `clean:` dropped: documents that went for others, and files that never became any.

    compared_examples(dataset, ledger, most) -> rows     duplicates, each beside the one that stays; twins
    unread_examples(ledger, most) -> rows                what `list`, `fetch` and `read` say of what they left out

Rows are those of the ledger's examples, with a `note` for people. Texts are read from the workspace's tasks, for the
dataset does not hold what was dropped; where these are gone there are no such examples, and where one is altered its
note says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilth.core.errors import IntegrityError
from tilth.data.dataset import Dataset
from tilth.data.ledger import Ledger, cut_from
from tilth.data.lineage import text_left
from tilth.data.tasks.examples import CHARACTERS, around_the_change

Row = dict[str, Any]
_DRAWN = "QUALIFY row_number() OVER (PARTITION BY stage, rule, verdict ORDER BY doc_id, detail) <= ? ORDER BY ALL"
_COMPARED = f"""
    SELECT stage, rule, verdict, value, doc_id, detail FROM ledger
    WHERE verdict = 'dropped' AND rule IN ('exact_duplicate', 'near_duplicate', 'held_out_twin') {_DRAWN}
"""
_UNREAD = f"""
    SELECT stage, rule, verdict, value, doc_id, detail FROM ledger
    WHERE phase IN ('list', 'fetch', 'read') AND verdict <> 'kept' AND detail <> '' {_DRAWN}
"""


def compared_examples(dataset: Dataset, ledger: Ledger, most: int) -> list[Row]:
    """Of each rule that compares documents some that it dropped, as they were."""
    _ = dataset.origins  # an altered file of the dataset is an error; one of a task costs its examples alone
    found = (_compared(dataset, ledger, row) for row in ledger.rows(_COMPARED, [most]))
    return [row for row in found if row is not None]


def _compared(dataset: Dataset, ledger: Ledger, row: Mapping[str, Any]) -> Row | None:
    about = ledger.identity(row["doc_id"])
    named = {**row, "source": about["source"], "locator": about["locator"]}
    near = row["rule"] == "near_duplicate"
    try:
        text = _text(dataset, ledger, about)
        kept = None if row["rule"] == "held_out_twin" else ledger.identity(row["detail"] if near else row["value"])
        other = _text(dataset, ledger, kept) if near and kept else None
    except LookupError:
        return None
    except IntegrityError as error:
        return {**named, "before": "", "after": None, "characters": 0, "note": error.message}
    before, after = around_the_change(text, other)
    shown = {"before": before, "after": after, "characters": len(text), "note": _note(row, kept)}
    return {**named, **shown}


def _note(row: Mapping[str, Any], kept: Mapping[str, Any] | None) -> str:
    if kept is None:
        return f"held out with the documents of {row['value']}, which hold its text"
    if row["rule"] == "exact_duplicate":
        return f"the same as {kept['locator']}, which stays"
    return f"{row['value']} like {kept['locator']}, which stays: struck is what it does not have, marked what it has"


def _text(dataset: Dataset, ledger: Ledger, about: Mapping[str, Any]) -> str:
    if about["part"] is None:
        raise LookupError(f"it is not known where {about['doc_id']} was")
    tasks = dataset.folder.resolve().parent.parent / "tasks"
    trail = [*cut_from(about["source"], about["locator"]), about["doc_id"]]
    return text_left(tasks, dataset.origins[about["part"]], trail)


def unread_examples(ledger: Ledger, most: int) -> list[Row]:
    """Of each rule of what is listed, fetched and read some details: there is no text yet."""
    rows = ledger.rows(_UNREAD, [most])
    return [
        {**row, "before": row["detail"][:CHARACTERS], "after": None, "characters": 0}
        | {"source": "", "locator": "", "value": "", "note": ""}
        for row in rows
    ]
