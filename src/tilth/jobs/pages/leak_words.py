"""How leaks are spoken of, in tables and on pages: by the keys of the manifest's `decontamination`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilth.core.words import plural

NAMES = {"evaluation": "evaluation items", "held_out": "held-out documents"}
"""What was looked for."""
PLANTED = {
    "verbatim": "as they are",
    "rewrapped": "re-wrapped",
    "embedded": "within a line",
    "case": "other case",
    "punctuation": "other punctuation",
    "typeset": "as pages and PDFs write words",
    "one_word_in_20": "one word in 20 replaced",
}
"""How it was planted, to see what is found."""
ALARMS = {"unplanted": "documents with one before planting", "shuffled": "found with their words in another order"}
"""What is found besides: in documents as they are, which is a leak or an error; in another order, which is an error."""
MEANING = (
    "planted: put into copies of training documents, to see how much is found; with one before: a leak that is real, "
    "or an error"
)
"""What the figures are of."""


def why_missed(own: Mapping[str, Any]) -> str:
    """Why not all items are found that were planted as they are, where that is known; "" else."""
    planted, found = own["caught"].get("verbatim", (0, 0))
    if found == planted or not own.get("common"):
        return ""
    return (
        f"{plural(own['common'], 'run')} of words that many training documents share (data.decontaminate.common) left "
        "out: what holds little else is not found"
    )
