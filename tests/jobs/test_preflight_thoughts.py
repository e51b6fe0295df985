"""Thoughts that a chat template leaves out: counted when data is prepared, told by `tilth check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.bases import SFT, tuning, write_base
from tests.jobs.conftest import Cli

pytestmark = pytest.mark.slow

_LAST = (
    "{% for m in messages %}{{ '\n' + m.role + ': ' }}{% if loop.last and m.reasoning_content %}"
    "{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}{{ m.content + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\nassistant: ' }}{% endif %}"
)
_NEVER = _LAST.replace("loop.last and ", "false and ")
_ALWAYS = _LAST.replace("loop.last and ", "")


def chat(number: int, *thoughts: str) -> dict[str, Any]:
    talk = []
    for turn, thought in enumerate(thoughts):
        said = {"role": "assistant", "content": f"an {number}.{turn}"}
        talk += [{"role": "user", "content": f"{number}.{turn}?"}]
        talk += [said | ({"reasoning_content": thought} if thought else {})]
    return {"messages": talk}


def test_they_are_counted_and_told(tmp_path: Path, cli: Cli) -> None:
    rows = [chat(n, f"h{n}") for n in range(20)] + [chat(n, f"h{n}", f"m{n}") for n in range(20, 27)]
    rows += [chat(n, "", "") for n in range(27, 60)]
    write_base(tmp_path / "base", "llama")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    always, earlier = "encode/thoughts_left_out", "encode/earlier_thoughts_left_out"
    for template, lost, places in (
        (_NEVER, {always: 27}, "in 27 rows (rows.jsonl:1, rows.jsonl:2, rows.jsonl:3 …)"),
        (_LAST, {earlier: 7}, "in 7 rows (rows.jsonl:21, rows.jsonl:22, rows.jsonl:23 …)"),
        (_ALWAYS, {}, ""),
    ):
        source = {"path": "rows.jsonl", "map": {"messages": "messages"}}
        tuning(
            tmp_path, "base", **{**SFT, "data": {**SFT["data"], "sources": [source], "chat": {"template": template}}}
        )
        said = cli("prepare", "r.yaml").out
        assert all(f"changed by {rule}" in said for rule in lost) and said.count("thoughts_left_out") == len(lost)
        found = json.loads(cli("check", "r.yaml", "--json").out.splitlines()[-1])
        assert found["ok"] and found["lost"] == lost
        told = {one["rule"]: one for one in found["warnings"]}
        assert ("thoughts_left_out" in told) == bool(lost) and "bare_answers" not in told
        if lost:
            one = told["thoughts_left_out"]
            assert f"{places}, of all that was read: " in one["message"], "validation too"
            remedy = "data.chat.template: one that" if always in lost else "data.sources: a row for each turn"
            assert one["remedy"].startswith(remedy)
