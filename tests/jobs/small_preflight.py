"""A preflight of a small recipe, for rows that a test writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tilth.jobs.preflight import Preflight, look
from tilth.jobs.prepare import prepare_data
from tilth.jobs.recipe import make_recipe

NO_END = "{% for m in messages %}{{ m.role }}: {% generation %}{{ m.content }}{% endgeneration %}\n{% endfor %}"
Row = dict[str, Any]


def small_preflight(rows: list[Row], *sets: str, objective: str = "sft") -> Preflight:
    """What is found of a recipe, with `key=value` set, for these rows: texts, or all columns by their names. All is
    written to where the process stands.
    """
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"path": "rows.jsonl"} | ({"map": {name: name for name in rows[0]}} if "text" not in rows[0] else {})
    data: dict[str, Any] = {
        "name": "small",
        "data": {"sources": [source], "clean": "none", "split": {"validation": 0.2, "by": "document"}},
        "tokenizer": {"kind": "byte"},
        "model": {"preset": "llama-tiny", "num_hidden_layers": 1, "hidden_size": 32, "context_length": 64},
        "train": {"objective": objective, "steps": 12, "batch_tokens": 256, "precision": "fp32"},
    }
    recipe = make_recipe(data, sets)
    return look(recipe, prepare_data(recipe, Path("work"), workers=1))
