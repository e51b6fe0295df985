"""What `tilth check` says of rows, it says by file and row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.bases import SFT, tuning, write_base
from tests.jobs.conftest import Cli

pytestmark = pytest.mark.slow


def chat(number: int, answer: str | None = None, **changes: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": f"{number}?"}, {"role": "assistant", "content": answer or f"an {number}"}]
    return {"messages": [{**said[0], **changes}, said[1]]}


def recipe(folder: Path, files: dict[str, list[Any]], **data: Any) -> None:
    """A recipe over files of rows, each a source; those of one name lie in folders of their own."""
    write_base(folder / "base", "llama")
    for name, rows in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    sources = [{"path": name, "map": {"messages": "messages"}} for name in files]
    tuning(folder, "base", **{**SFT, "data": {**SFT["data"], "sources": sources, **data}})


def warnings(cli: Cli, *words: str) -> tuple[dict[str, str], str]:
    """Message and remedy by rule; and the text for people on one line."""
    said = cli("check", "r.yaml", "--json", *words)
    found = json.loads(said.out.splitlines()[-1])
    text = " ".join(" ".join(said.out.splitlines()[:-1]).split())
    return {one["rule"]: f"{one['message']} | {one['remedy']}" for one in found["errors"] + found["warnings"]}, text


def test_rows_that_were_left_out_are_named(tmp_path: Path, cli: Cli) -> None:
    bad = {2: {"nope": 1}, 4: chat(4, role="robot"), 6: chat(6, role="robot"), 7: chat(7, role="robot"),
           8: chat(8, role="robot"), 9: {"messages": [{"role": "user", "content": "well?"}]}}  # fmt: skip
    rows = [bad.get(number, chat(number)) for number in range(1, 31)]
    recipe(tmp_path, {"a/rows.jsonl": rows, "b/rows.jsonl": [chat(n) for n in range(40, 60)] + [{"nope": 2}]})
    found, text = warnings(cli)
    assert found["unusable"].startswith("of all that was read, rows were left out: ")
    assert "left out: read/unknown_role 4 of all that was read" in text
    at = "a/rows.jsonl"
    for said in (f"read/unknown_role 4 ({at}:4, {at}:6, {at}:7 …)", f"read/no_field 2 ({at}:2, b/rows.jsonl:21)",
                 f"encode/no_answer 1 ({at}:9)"):  # fmt: skip
        assert said in found["unusable"] and said in text
    assert f"`tilth trace tuned --doc {at}:9`" in found["unusable"]
    assert cli("trace", "tuned", "--doc", f"{at}:9").code == 0


def test_what_the_template_drops_the_template_mends(tmp_path: Path, cli: Cli) -> None:
    talks = [chat(number) for number in range(40)]
    talks[3]["messages"] = [{"role": "system", "content": "Be brief."}, *talks[3]["messages"]]
    source = "{% for m in messages %}{% if m.role != 'system' %}{{ '\n' + m.content }}{% endif %}{% endfor %}"
    template = "data.chat.template, data.chat.variables: a template that writes these conversations whole"
    for bad, remedy in ((talks[3], template), ({"nope": 1}, f"{template}, and data.sources: mend these rows")):
        recipe(tmp_path, {"rows.jsonl": [*talks, bad]}, deduplicate="none", chat={"template": source})
        told = warnings(cli)[0]["unusable"]
        assert "encode/left_out" in told and f" | {remedy}; `tilth trace" in told


def test_rows_that_do_not_fit_are_named(tmp_path: Path, cli: Cli) -> None:
    long = {3: chat(3, "word " * 50), 5: chat(5, "many words " * 60)}
    recipe(
        tmp_path,
        {"rows.jsonl": [long.get(number, chat(number)) for number in range(1, 41)]},
        split={"validation": 0.02},
    )
    named = "(rows.jsonl:3, rows.jsonl:5)"
    for way, rule in (("drop", "dropped"), ("truncate", "truncated"), ("split", "split")):
        found, text = warnings(cli, "--set", f"data.packing.too_long={way}")
        assert named in found[rule] and named in text
    found, text = warnings(cli, "--set", "data.packing.too_long=error")
    assert "the longest, rows.jsonl:5, needs" in found["too_long"] and "the longest, rows.jsonl:5, needs" in text
    cli("train", "r.yaml", sets=["data.packing.too_long=error"]).expect_fault(3, "the longest, rows.jsonl:5, needs")


def test_copies_are_named(tmp_path: Path, cli: Cli) -> None:
    same = {number: chat(99) for number in (4, 8, 9)}
    rows = [same.get(number, chat(number)) for number in range(1, 41)]
    recipe(tmp_path, {"rows.jsonl": rows}, deduplicate="none", split={"validation": 0.0})
    assert "(rows.jsonl:8, rows.jsonl:9)" in warnings(cli)[0]["duplicates"]


@pytest.mark.parametrize("by", ["document", "auto"])
def test_rows_without_answers_are_told_before_an_empty_split(tmp_path: Path, cli: Cli, by: str) -> None:
    question = {"messages": [{"role": "user", "content": "well?"}]}
    recipe(tmp_path, {"rows.jsonl": [question] * 30}, split={"validation": 0.1, "by": by})
    said = ("encode/no_answer dropped 30", "rows.jsonl:1: no message is of the assistant", "at the rows")
    cli("check", "r.yaml").expect_fault(2, *said)
    cli("train", "r.yaml").expect_fault(3, *said)
    cli("check", "r.yaml", sets=["data.chat.train_on=all"]).expect_fault(2, "the split leaves")
