"""Templates that are hostile and conversations that cannot be trained on: an error that names template or row and the
remedy, or a counted drop; never a loss of nothing, and no run is begun."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.bases import SFT, tuning, write_base
from tests.jobs.conftest import Cli

pytestmark = pytest.mark.slow

LOOP = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
TEMPLATES = {
    "loops": (LOOP, ("the chat template of the recipe", "processor time", "chatml")),
    "range": ("{% for a in range(10**9) %}{% endfor %}", ("encode/template", "chats.jsonl:1", "Range too big")),
    "recurses": ("{% macro a(n) %}{{ a(n) }}{% endmacro %}{{ a(0) }}", ("calls itself without end",)),
    "reads attributes": ("{{ messages.__class__.__mro__ }}", ("must not touch", "__class__")),
    "writes without end": ("{% for a in range(99999) %}{{ messages|string * 9999 }}{% endfor %}", ("without end",)),
    "reads files": ("{% include '/etc/passwd' %}", ("encode/template", "no loader")),
    "is no template": ("{% for %}", ("does not compile", "line 1")),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_base(tmp_path / "base", "llama")
    tuning(tmp_path, "base", **SFT)
    return tmp_path


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind == "loops" else kind for kind in TEMPLATES]
)
def test_a_hostile_template_ends_with_its_name(folder: Path, cli: Cli, kind: str) -> None:
    template, said = TEMPLATES[kind]
    tuning(folder, "base", **{**SFT, "data": {**SFT["data"], "chat": {"template": template}}})
    cli("train", "r.yaml").expect_fault(3, *said)
    assert not (folder / "runs").exists()
    assert not list((folder / "work").rglob("*.tmp"))


def chat(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


GOOD = [chat(("user", f"hi {n}"), ("assistant", f"yes {n}")) for n in range(30)]
BAD = {
    "encode/no_answer": [chat(("user", "alone"))],
    "encode/empty_turn": [
        chat(("user", " "), ("assistant", "y")),
        chat(*3 * [("user", "x"), ("assistant", "y")], ("user", "")),
    ],
    "read/unknown_role": [chat(("wizard", "x"), ("assistant", "y"))],
    "read/empty": [chat(("user", ""), ("assistant", "")), {"messages": []}],
    "read/not_messages": [{"messages": "no"}, {"messages": [{"role": "user"}]}, chat(("user", 5), ("assistant", None))],
}
LONG = chat(("user", "word " * 200_000), ("assistant", "yes"))  # a million tokens and more of this tokenizer's


def rows(folder: Path, *several: list[dict[str, Any]], **more: Any) -> list[str]:
    lines = [json.dumps(row) for some in several for row in some]
    (folder / "chats.jsonl").write_text("\n".join(lines) + "\n")
    source = {"path": "chats.jsonl", "map": {"messages": "messages"}, "max_bad_rows": 1, **more}
    return [f"data.sources=[{json.dumps(source)}]", "data.split={validation: 0.2, by: document}"]


def test_conversations_that_cannot_be_used_are_counted_drops(folder: Path, cli: Cli) -> None:
    sets = rows(folder, GOOD, *BAD.values(), [LONG])
    said = cli("prepare", "r.yaml", "--json", sets=sets).json()
    assert said["dropped"] == {rule: len(bad) for rule, bad in BAD.items()} and said["documents"] == len(GOOD) + 1
    assert sum(said["tokens"].values()) > 800_000
    result = cli("train", "r.yaml", "--json", sets=[*sets, "train.steps=2"]).json()
    assert 0 < result["train_loss"] < 20


@pytest.mark.parametrize(
    ("chats", "more", "said"),
    [
        ([chat(("user", f"alone {n}")) for n in range(30)], "drop", ("encode/no_answer dropped 30", "chats.jsonl:")),
        (
            [chat(("user", f"{n} " * 90), ("assistant", "yes")) for n in range(30)],
            "truncate",
            ("no token that is trained",),
        ),
        ([chat(("user", f"{n} " * 90), ("assistant", "yes")) for n in range(30)], "drop", ("longer than a row",)),
        (
            [chat(("user", f"{n} " * 90), ("assistant", "yes")) for n in range(30)],
            "error",
            ("too long for a row of 32",),
        ),
    ],
)
def test_nothing_to_train_is_an_error(
    folder: Path, cli: Cli, chats: list[dict[str, Any]], more: str, said: tuple[str, ...]
) -> None:
    cli("train", "r.yaml", sets=[*rows(folder, chats), f"data.packing.too_long={more}"]).expect_fault(3, *said)
    assert not list((folder / "runs").rglob("*.json*"))
