"""A small corpus on which every step of data preparation has something to do, and the recipe that does all of them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.data.planted import words_of

RULES = {
    "changed": ["clean/advert", "clean/pii/email", "deduplicate/shared_lines"],
    "dropped": [
        "read/not_json", "clean/min_length", "deduplicate/exact_duplicate", "deduplicate/near_duplicate",
        "decontaminate/evaluation_item", "decontaminate/held_out_text",
    ],
}  # fmt: skip
"""What must have happened to some document, or the corpus proves less than it should."""


def text_of(seed: int, count: int = 60) -> str:
    """Lines of ten made-up words."""
    draw = random.Random(seed)
    made = words_of(draw, count)
    return "\n".join(" ".join(made[n : n + 10]) for n in range(0, count, 10)) + "\n"


def write_everything(folder: Path) -> Path:
    """Writes the corpus and returns the recipe."""
    (folder / "texts").mkdir(parents=True)
    for n in range(120):
        text = text_of(n, 120)
        if n % 10 == 3:
            text = text_of(n - 1, 120)[:-30] + "with other words at its end.\n"
        if n % 5 == 1:
            text = "This line stands in a great many of these documents.\n" + text
        if n % 7 == 0:
            text += f"[advert] buy it now\nWrite to someone{n}@somewhere.org, they said.\n"
        (folder / "texts" / f"{n:03d}.txt").write_text(text)
    (folder / "texts" / "copy.txt").write_text((folder / "texts" / "004.txt").read_text())
    (folder / "texts" / "short.txt").write_text("short\n")
    items = [text_of(9000 + n, 30) for n in range(8)]
    rows = [text_of(5000 + n) for n in range(200)]
    rows[20] += items[3].upper()
    rows += [text_of(7000 + n) + rows[n].title() + text_of(8000 + n) for n in range(40)]  # of which some are held out
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows) + "no json\n")
    (folder / "items.jsonl").write_text("".join(json.dumps({"question": item}) + "\n" for item in items))
    path = folder / "r.yaml"
    path.write_text(json.dumps(RECIPE))
    return path


RECIPE: dict[str, Any] = {
    "name": "everything",
    "data": {
        "sources": [{"path": "texts"}, {"path": "rows.jsonl"}],
        "shard_bytes": 65536,
        "clean": ["standard", {"drop_lines": {"rules": [{"name": "advert", "pattern": r"^\[advert\]"}]}}, "pii"],
        "deduplicate": "near",
        "shared_lines": {"documents": 10, "characters": 20},
        "decontaminate": {"against": [{"path": "items.jsonl", "field": "question"}]},
        "split": {"validation": 0.1, "by": "document"},
        "mixture": {"texts": {"weight": 0.7}, "rows.jsonl": {"weight": 0.3}},
    },
    "tokenizer": {"kind": "bpe", "vocab_size": 400},
    "train": {"steps": 12},
}
