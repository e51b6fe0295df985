"""Text given to `evaluate --data` and `generate --prompt` loses nothing silently."""

from __future__ import annotations

import errno
import json
import random
import shutil
from pathlib import Path

import pytest

from tests.data.planted import words_of
from tests.jobs.conftest import Cli, Said
from tests.jobs.helpers import SMALL, write_recipe, write_texts
from tilth.core.files import disk


@pytest.mark.slow
def test_what_is_not_taken_as_it_is_is_said(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts", documents=30)
    write_recipe(tmp_path / "r.yaml", "texts", train={"steps": 2}, data={"clean": "standard"})
    assert cli("train", "r.yaml", "--run", "run", sets=[*SMALL, "tokenizer={kind: char}"]).code == 0
    (tmp_path / "bad.jsonl").write_text(
        "".join('{"text": "rain on the field in the deep green"}\n' for _ in range(200))
    )
    with (tmp_path / "bad.jsonl").open("a") as file:
        file.write('no json\n{"text": "sun"}\n{"text": "the sun and the ÄÖ field"}\n')
    said = cli("evaluate", "run", "--data", "bad.jsonl")
    assert said.code == 0, said.err
    assert "bad.jsonl: dropped by read/not_json: 1" in said.err
    assert "bad.jsonl: dropped by clean/min_length: 1" in said.err
    assert "bad.jsonl: 2 characters that the tokenizer does not know" in said.err

    written = cli("generate", "run", "--prompt", "the ß", "--max-new-tokens", "3")
    assert written.code == 0 and "'ß'" in written.err
    cli("evaluate", "run", "--data", "").expect_fault(2, "path")


LINE = "the sun and the rain on the green field, deep under the slow stone and water"


def unlike(count: int) -> list[str]:
    """Lines that are no near-duplicates of each other, or the end of them would not be held out."""
    draw = random.Random(count)
    return [" ".join(words_of(draw, 14)) for _ in range(count)]


def evaluated(said: Said) -> int:
    return int(said.json()["tokens"])


def test_format_and_field_can_be_said(trained: Path, cli: Cli) -> None:
    (trained / "a.log").write_text(LINE + "\n")
    (trained / "b.jsonl").write_text(json.dumps({"body": LINE}) + "\n")
    cli("evaluate", "runs/small", "--data", "a.log").expect_fault(
        3, "suffix of a.log is not known", "write `--format` (text, markdown"
    )
    said = cli("evaluate", "runs/small", "--data", "b.jsonl").expect_fault(3, "no 'text'", "write `--field body`")
    assert "max_bad_rows" not in said, "no such option is there"
    read = cli("evaluate", "runs/small", "--data", "a.log", "--format", "text", "--json")
    assert evaluated(read) == len(LINE) + 2
    read = cli("evaluate", "runs/small", "--data", "b.jsonl", "--field", "body", "--json")
    assert evaluated(read) == len(LINE) + 1
    (trained / "c.csv").write_text(f"id;body\n1;{LINE}\n")
    words = ("evaluate", "runs/small", "--data", "c.csv", "--field", "body")
    cli(*words).expect_fault(3, 'write `--separator ";"`')
    assert evaluated(cli(*words, "--separator", ";", "--json")) == len(LINE) + 1
    cli("evaluate", "runs/small", "--field", "body").expect_fault(2, "field without data", "--data FILE")
    cli("evaluate", "runs/small", "--data", "a.log", "--format", "txet").expect_fault(2, "format: 'txet'", "`text`")


def test_files_that_cannot_be_used_are_judged_as_prepare_does(trained: Path, cli: Cli) -> None:
    """The figures are those of the folder without them; what stays out is named, and too much of it stops."""
    folder = trained / "more"
    folder.mkdir()
    for n in range(12):
        (folder / f"{n:02}.txt").write_text(f"{LINE} {n}")
    whole = cli("evaluate", "runs/small", "--data", "more", "--json")
    (folder / "books.csv").write_text("title,summary\nA,Book\n")
    (folder / "cut.parquet").write_bytes(b"PAR1")
    (folder / "a.srt").write_text(LINE)
    said = cli("evaluate", "runs/small", "--data", "more", "--json")
    assert said.json() == whole.json()
    assert "more: 2 of its 14 files cannot be used, or not whole: more/books.csv:1: no column 'text'; the" in said.err
    assert "more/cut.parquet" in said.err and "more: dropped by read/other_schema: 1" in said.err
    assert "more: dropped by list/unknown_suffix: 1 (more/a.srt)" in said.err
    assert "exclude" not in said.err, "no such option is there"
    for n in range(4):
        (folder / f"more{n}.csv").write_text("title,summary\nA,Book\n")
    stopped = cli("evaluate", "runs/small", "--data", "more").expect_fault(3, "6 of its 18 files", "with `--field`")
    assert "max_bad_rows" not in stopped and "exclude" not in stopped


def test_remedies_are_what_can_be_typed(trained: Path, cli: Cli) -> None:
    (trained / "a.csv").write_text("title,summary\nA,Book\n")
    (trained / "m.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "hi"}]}))
    (trained / "none").mkdir()
    there = "put the file under `data.sources` of a recipe"
    cli("evaluate", "runs/small", "--data", "a.csv").expect_fault(3, "with `--field`, or", there)
    cli("evaluate", "runs/small", "--data", "m.jsonl").expect_fault(3, "`map:` cannot be typed here", there)
    for name in ("none", "gone.txt"):
        cli("evaluate", "runs/small", "--data", name).expect_fault(3, f"check `--data {name}`")
    # Prepare's remedy for rows within an object is not lost, and a note on them names no key as if it could be typed.
    (trained / "w.json").write_text(json.dumps({"data": {"items": [{"text": LINE}]}}))
    (trained / "w2.json").write_text(json.dumps({"text": "the sun", "items": [{"text": LINE}]}))
    untyped = f"`records:` cannot be typed here: {there}"
    within = "for the rows in it write `records: data.items`; "
    cli("evaluate", "runs/small", "--data", "w.json").expect_fault(3, "no text to evaluate", within + untyped)
    beside = f"`records: items` reads them (w2.json#row=1); {untyped}"
    said = cli("evaluate", "runs/small", "--data", "w2.json").expect_fault(3, "dropped by clean/min_length: 1", beside)
    assert said.count("records:") == 2
    (trained / "w2.json").write_text(json.dumps({"text": LINE, "items": [{"text": LINE * 2}]}))
    told = cli("evaluate", "runs/small", "--data", "w2.json")
    assert told.code == 0 and beside in told.err


@pytest.mark.slow
def test_format_and_field_are_the_recipe_s_where_that_is_plain(tmp_path: Path, cli: Cli) -> None:
    lines = unlike(30)
    rows = "".join(json.dumps({"body": line}) + "\n" for line in lines)
    for name in ("a.log", "b.log"):
        (tmp_path / name).write_text(rows)
    (tmp_path / "c.txt").write_text(LINE)
    write_recipe(tmp_path / "r.yaml", "a.log", train={"steps": 2, "schedule": {"warmup_steps": 0}})
    sets = [*SMALL, "data.sources=[{path: a.log, format: jsonl, field: body}]"]
    assert cli("train", "r.yaml", sets=sets).code == 0
    assert evaluated(cli("evaluate", "runs/small", "--data", "b.log", "--json")) == sum(len(line) + 1 for line in lines)
    assert evaluated(cli("evaluate", "runs/small", "--data", "c.txt", "--json")) == len(LINE) + 1, "its suffix says it"


@pytest.mark.slow
def test_rows_are_taken_as_the_recipe_took_them(tmp_path: Path, cli: Cli) -> None:
    """A template over columns, and rows that stand somewhere in a JSON file: also for a copy of the model."""
    rows = [{"title": f"T{n}", "body": line} for n, line in enumerate(unlike(30))]
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps({"data": {"items": rows}}))
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_recipe(tmp_path / "r.yaml", "a.json", train={"steps": 2, "schedule": {"warmup_steps": 0}})
    source = {"path": "a.json", "template": "{title}: {body}", "records": "data.items"}
    assert cli("train", "r.yaml", sets=[*SMALL, f"data.sources={json.dumps([source])}"]).code == 0
    expected = sum(len(f"{row['title']}: {row['body']}") + 1 for row in rows)
    assert evaluated(cli("evaluate", "runs/small", "--data", "b.json", "--json")) == expected
    shutil.copytree(tmp_path / "runs" / "small" / "final", tmp_path / "copy")
    assert evaluated(cli("evaluate", "copy", "--data", "c.jsonl", "--json")) == expected
    read = cli("evaluate", "copy", "--data", "c.jsonl", "--field", "body", "--json")
    assert evaluated(read) == sum(len(row["body"]) + 1 for row in rows), "what is asked for comes first"


def test_a_copy_of_the_final_model_is_evaluated_on_a_file(trained: Path, cli: Cli) -> None:
    text = f"{LINE}   \r\n\r\n\r\n\r\n{LINE}\r\n"
    (trained / "a.txt").write_text(text, newline="")
    there = cli("evaluate", "runs/small", "--data", "a.txt", "--json")
    assert evaluated(there) < len(text), "it is cleaned"
    shutil.copytree(trained / "runs" / "small" / "final", trained / "copy")
    copied = cli("evaluate", "copy", "--data", "a.txt", "--json")
    assert copied.json() == there.json() and copied.err == there.err
    cli("evaluate", "copy").expect_fault(4, "copy is not in a run folder", "--data FILE")
    (trained / "copy" / "manifest.json").unlink()
    bare = cli("evaluate", "copy", "--data", "a.txt", "--json")
    assert bare.json() == there.json() and "copy does not say how its text was cleaned: `clean: standard`" in bare.err


def test_no_room_for_temporary_files(trained: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (trained / "a.txt").write_text(LINE)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "write", full)
        cli("evaluate", "runs/small", "--data", "a.txt").expect_fault(3, "the disk is full (", "TMPDIR=")
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.mkdtemp", full)
        cli("evaluate", "runs/small", "--data", "a.txt").expect_fault(3, "No space left on device", "TMPDIR=")
