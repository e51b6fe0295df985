"""What bad input gets: a message that names value and place, a remedy, the exit code of its kind, and nothing lost."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.jobs.conftest import Cli, Said
from tests.jobs.helpers import SMALL, write_recipe, write_texts

PYTHON = sys.executable
CHAR = [*SMALL[:-1], "tokenizer={kind: char}"]


def source(path: str, **options: Any) -> list[str]:
    return [*SMALL, f"data.sources={json.dumps([{'path': path, **options}])}"]


def facts_of(said: Said, folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / said.json()["folder"] / "manifest.json").read_text())
    return facts


def ledger_of(said: Said, folder: Path) -> list[dict[str, str]]:
    files = sorted((folder / said.json()["folder"] / "ledger").glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


# Text


@pytest.mark.parametrize("content", [b"", b" \n\t\n", b"\xef\xbb\xbf", b"\0\0"])
def test_a_file_without_text(tmp_path: Path, cli: Cli, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    write_recipe(tmp_path / "r.yaml", "a.txt")
    cli("prepare", "r.yaml").expect_fault(3, "no document is left after reading a.txt", "read/empty dropped 1")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.pdf", b"hello, this is a text", "a.pdf: its only file cannot be used, or not whole: a.pdf: it is no PDF"),
        ("a.csv", b"text\n", "no document is left after reading a.csv"),
    ],
)
def test_a_file_that_is_not_what_it_is_called_is_told(
    tmp_path: Path, cli: Cli, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    write_recipe(tmp_path / "r.yaml", name)
    cli("prepare", "r.yaml").expect_fault(
        3, said, "its bytes do not begin with %PDF" if "pdf" in name else "a header, and no row"
    )


def test_bytes_of_all_values_are_told_as_no_text(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "bytes.txt").write_bytes(bytes(range(256)) * 50)
    (tmp_path / "latin.txt").write_bytes("\n".join(f"Où êtes-vous né, {n} fois ?" for n in range(50)).encode("latin-1"))
    write_recipe(tmp_path / "r.yaml", "*.txt")
    said = cli("prepare", "r.yaml", sets=SMALL)
    assert said.code == 0 and "bytes.txt does not look like text, or is in another encoding (a tenth" in said.err
    assert "latin.txt looks like Windows-1252" in said.err and "latin.txt does not" not in said.err


def test_empty_files_are_counted_and_the_others_used(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts", documents=5)
    (tmp_path / "texts" / "none.txt").touch()
    write_recipe(tmp_path / "r.yaml", "texts")
    said = cli("prepare", "r.yaml", "--json", sets=SMALL)
    assert said.json()["dropped"] == {"deduplicate/exact_duplicate": 1, "read/empty": 1}
    for file in (tmp_path / "texts").iterdir():
        file.write_bytes(b"")
    cli("prepare", "r.yaml").expect_fault(3, "read/empty dropped 7")


def test_everything_dropped_by_a_rule_names_the_rule(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "a.txt").write_text("short\n")
    write_recipe(tmp_path / "r.yaml", "a.txt")
    limit = "look at these rules: data.clean has min_length (characters: 16)"
    cli("prepare", "r.yaml").expect_fault(3, "no document is left of a.txt", "clean/min_length dropped 1", limit)
    sets = ["data.clean=[{gopher_quality: {min_words: 7}}]"]
    cli("prepare", "r.yaml", sets=sets).expect_fault(3, "data.clean has gopher_quality/too_few_words")


@pytest.mark.slow
def test_a_text_shorter_than_one_context(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "a.txt").write_text("A text of some forty characters, no more.\n")
    write_recipe(tmp_path / "r.yaml", "a.txt")
    sets = [*SMALL, "model.context_length=256"]
    cli("train", "r.yaml", sets=sets).expect_fault(
        3, "one sample needs 257", "give more text", "or set model.context_length: "
    )
    # The remedy works, in the same run folder: nothing was trained there that the other recipe could spoil.
    assert cli("train", "r.yaml", "--json", sets=SMALL).json()["step"] == 12


def test_a_split_that_leaves_one_side_empty(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "a.txt").write_text("A text of some forty characters, no more.\n")
    write_recipe(tmp_path / "r.yaml", "a.txt", data={"split": {"validation": 0.001, "by": "document"}})
    cli("prepare", "r.yaml").expect_fault(3, "the split leaves 1 training and 0 validation documents", "by: tail")


def test_a_book_in_a_hundred_pieces_is_split_by_its_tail(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "a.txt").write_text("".join(f"Sentence number {n} of the book is this one. " for n in range(2000)))
    data = {"clean": [{"cut": {"characters": 400}}], "split": {"validation": 0.05}}
    write_recipe(tmp_path / "r.yaml", "a.txt", data=data)
    told = cli("prepare", "r.yaml")
    assert told.code == 0 and "the end of each source's text is held out instead" in " ".join(told.err.split())


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("nowhere.txt", ("there is nothing at nowhere.txt", "path: nowhere.txt")),
        ("texts/*.md", ("the glob texts/*.md matches no file",)),
        ("pictures", ("no file that can be read", "a.xyz: its suffix is .xyz")),
        ("pictures/a.xyz", ("the suffix of pictures/a.xyz is not known", "format:")),
    ],
)
def test_a_source_that_is_not_there(tmp_path: Path, cli: Cli, path: str, parts: tuple[str, ...]) -> None:
    write_texts(tmp_path / "texts", documents=2)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.xyz").write_bytes(b"\x89XYZ")
    write_recipe(tmp_path / "r.yaml", path)
    message = cli("prepare", "r.yaml").expect_fault(3, *parts)
    assert path != "nowhere.txt" or f"relative paths start from {tmp_path}" in message
    assert not (tmp_path / "work" / "tasks").exists()


@pytest.mark.parametrize("words", [("prepare", "r.yaml"), ("evaluate", "nothing"), ("train", "r.yaml")])
def test_who_asks_for_an_object_gets_one_of_a_fault_too(tmp_path: Path, cli: Cli, words: tuple[str, ...]) -> None:
    write_recipe(tmp_path / "r.yaml", "nowhere.txt")
    plain = cli(*words)
    said = cli(*words, "--json")
    assert plain.out == "" and said.err == plain.err and said.code == plain.code != 0
    error = json.loads(said.out)["error"]
    told = f"tilth: {error['message']}\n  remedy: {error['remedy']}\n"
    assert error["exit_code"] == said.code and said.err.endswith(told)


@pytest.mark.parametrize(
    ("words", "message", "command"),
    [
        (("prepare", "r.yaml", "--wrkers", "2"), "No such option: --wrkers", "tilth prepare"),
        (("train",), "Missing argument 'RECIPE'.", "tilth train"),
        (("evaluate", "runs/r", "more"), "Got unexpected extra argument", "tilth evaluate"),
        (("check", "r.yaml", "--workers", "two"), "Invalid value for '--workers'", "tilth check"),
        (
            ("prepare", "r.yaml", "--executor", "x"),
            "Invalid value for '--executor': 'x' is not one of",
            "tilth prepare",
        ),
        (("prepaer",), "No such command 'prepaer'.", "tilth"),
    ],
)
def test_who_asks_for_an_object_gets_one_of_a_command_line_that_cannot_be_read(
    cli: Cli, words: tuple[str, ...], message: str, command: str
) -> None:
    plain, said = cli(*words), cli(*words, "--json")
    assert (plain.out, plain.code) == ("", 2) and (said.err, said.code) == (plain.err, 2)
    error = json.loads(said.out)["error"]
    assert message in error["message"] and error["message"] in said.err
    assert error["remedy"] == f"see `{command} --help`" and error["exit_code"] == 2


@pytest.mark.slow
def test_bytes_that_are_no_text_are_counted_where_they_stand(tmp_path: Path, cli: Cli) -> None:
    words = b" words enough for a document\n"
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "bad.txt").write_bytes(b"caf\xe9" + words + b"na\xefve" + words)
    (tmp_path / "texts" / "bom.txt").write_bytes(b"\xef\xbb\xbfmarked" + words)
    (tmp_path / "texts" / "nul.txt").write_bytes(b"nu\0\0l" + words)
    (tmp_path / "texts" / "wide.txt").write_bytes("wide and long enough for a document\n".encode("utf-16"))
    (tmp_path / "texts" / "rows.jsonl").write_bytes(b'{"text": "lone \\ud800 surrogate, and more of it"}\n')
    write_recipe(tmp_path / "r.yaml", "texts")
    said = cli("prepare", "r.yaml", "--json", sets=SMALL)
    assert said.json()["documents"] == 5
    assert said.json()["dropped"] == {}
    read = {k: n for k, n in facts_of(said, tmp_path)["rules"]["changed"].items() if k.startswith("read/")}
    assert read == {"read/bom": 2, "read/invalid_utf8": 1, "read/nul": 1, "read/surrogate": 1}
    found = {row["rule"]: (row["value"], row["detail"]) for row in ledger_of(said, tmp_path) if row["stage"] == "read"}
    assert found["invalid_utf8"] == ("2", "texts/bad.txt: the first at byte 3 of the file")
    assert found["nul"][0] == "2" and found["surrogate"][0] == "1"
    dropped = cli("prepare", "r.yaml", "--json", sets=source("texts", invalid_utf8="drop"))
    assert dropped.json()["dropped"] == {"read/invalid_utf8": 1} and dropped.json()["documents"] == 4


def test_text_in_an_older_encoding_is_told_with_the_line_that_recodes_it(tmp_path: Path, cli: Cli) -> None:
    text = "".join(f"Café naïve façade, {n} fois.\n" for n in range(60))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "latin.txt").write_bytes(text.encode("latin-1"))
    (tmp_path / "texts" / "utf.txt").write_text(text.replace("fois", "autres"), "utf-8")
    write_recipe(tmp_path / "r.yaml", "texts")
    said = cli("prepare", "r.yaml", sets=SMALL)
    assert said.code == 0 and said.err.count("not UTF-8") == 1
    assert "texts: 180 bytes of 1 file are not UTF-8, and became U+FFFD: texts/latin.txt looks like Windows" in said.err
    assert "`iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW`" in said.err and "`invalid_utf8: drop`" in said.err
    dropped = cli("prepare", "r.yaml", sets=source("texts", invalid_utf8="drop"))
    assert dropped.code == 0 and "not UTF-8" not in dropped.err  # as it was asked for


def rows(good: int, bad: int, text: str = "a row with some words in it, number") -> str:
    lines = [json.dumps({"text": f"{text} {n}"}) for n in range(good)]
    return "\n".join([*lines[:3], *(f"{{bad {n}" for n in range(bad)), *lines[3:]])


@pytest.mark.slow
def test_rows_that_are_not_json_are_counted_and_the_rest_goes_on(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "a.jsonl").write_text(rows(299, 2) + '\n{"title": "no text here"}\n')
    write_recipe(tmp_path / "r.yaml", "a.jsonl")
    said = cli("prepare", "r.yaml", "--json", sets=SMALL)
    assert said.json()["dropped"] == {"read/no_field": 1, "read/not_json": 2}
    assert said.json()["documents"] == 299
    details = [row["detail"] for row in ledger_of(said, tmp_path) if row["verdict"] == "dropped"]
    assert sorted(detail.split(": ")[0] for detail in details) == ["a.jsonl:302", "a.jsonl:4", "a.jsonl:5"]


@pytest.mark.slow
def test_too_many_rows_that_are_not_json_stop_the_run(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "a.jsonl").write_text(rows(297, 6))
    write_recipe(tmp_path / "r.yaml", "a.jsonl")
    said = cli("prepare", "r.yaml", sets=SMALL)
    said.expect_fault(
        3, "a.jsonl: 6 of 303 rows cannot be used", ": not JSON: ", "(a.jsonl:4 and 5 more)", "max_bad_rows"
    )
    more = cli("prepare", "r.yaml", "--json", sets=source("a.jsonl", max_bad_rows=0.02))
    assert more.json()["dropped"] == {"read/not_json": 6}


@pytest.mark.slow
def test_most_rows_of_a_short_file_stop_the_run(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "the one good row"}\n' + "not json\n" * 98)
    write_recipe(tmp_path / "r.yaml", "a.jsonl")
    told = "a.jsonl: 98 of 99 rows cannot be used: not JSON: "
    cli("prepare", "r.yaml", sets=SMALL).expect_fault(3, told, "(a.jsonl:2 and 97 more)", "max_bad_rows")


@pytest.mark.slow
def test_files_with_bad_rows_are_named_where_the_run_goes_on(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "0.json").write_text('{"name": "of a program"}')
    for number in range(1, 9):
        (tmp_path / "texts" / f"{number}.jsonl").write_text(
            rows(30, 3, f"a row with some words in it, of {number}, number")
        )
    data = {"split": {"by": "tail"}, "decontaminate": {"validation": False}}  # they are all alike
    write_recipe(tmp_path / "r.yaml", "texts", data=data)
    said = cli("prepare", "r.yaml", "--json", sets=SMALL)
    assert said.json()["dropped"] == {"read/no_field": 1, "read/not_json": 24}
    assert "texts/0.json: 1 of 1 rows cannot be used: no 'text' (texts/0.json#row=1)" in said.err
    for number in range(1, 5):
        assert f"texts/{number}.jsonl: 3 of 33 rows cannot be used: not JSON: Expecting" in said.err
        assert f"(texts/{number}.jsonl:4 and 2 more)" in said.err
    assert "texts/5.jsonl" not in said.err
    assert "texts: and 4 more files with such rows; in all 25 rows of 9 files" in said.err
    assert "cannot be used" in cli("prepare", "r.yaml", sets=SMALL).err, "and when all is made already"
    write_recipe(tmp_path / "r.yaml", "texts", data={"clean": [{"min_length": {"characters": 10_000}}]})
    assert "texts/1.jsonl: 3 of 33" in cli("prepare", "r.yaml", sets=SMALL).err, "and when nothing is left"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "rule", "said"),
    [
        ("bad.jsonl", "not json\n" * 40, "bad_rows", "texts/bad.jsonl: 40 of 40 rows cannot be used: not JSON: "),
        (
            "bad.csv",
            "title,body\na,b\n",
            "other_schema",
            "texts/bad.csv:1: no column 'text'; the columns are 'title', ",
        ),
    ],
)
def test_a_file_of_rows_that_are_others_is_lost_and_its_source_goes_on(
    tmp_path: Path, cli: Cli, name: str, content: str, rule: str, said: str
) -> None:
    (tmp_path / "texts").mkdir()
    for number in range(4):
        (tmp_path / "texts" / f"{number}.jsonl").write_text(rows(30, 0, f"a row with words in it, of {number}, number"))
    (tmp_path / "texts" / name).write_text(content)
    write_recipe(tmp_path / "r.yaml", "texts")
    done = cli("prepare", "r.yaml", "--json", sets=SMALL)
    assert done.json()["documents"] == 120 and done.json()["dropped"][f"read/{rule}"] == 1
    assert f"texts: 1 of its 5 files cannot be used, or not whole: {said}" in done.err
    for number in range(4):
        (tmp_path / "texts" / f"{number}.jsonl").unlink()
    remedy = "check `format:`" if rule == "bad_rows" else "name the column that holds the text"
    cli("prepare", "r.yaml", sets=SMALL).expect_fault(
        3, said, remedy
    )  # where all are so, the recipe means something else


@pytest.mark.slow
def test_the_files_of_a_source_that_all_lack_the_field_stop_the_run_with_the_one_they_have(
    tmp_path: Path, cli: Cli
) -> None:
    (tmp_path / "texts").mkdir()
    for number in range(3):
        (tmp_path / "texts" / f"{number}.jsonl").write_text('{"body": "some words in a row"}\n' * 12)
    write_recipe(tmp_path / "r.yaml", "texts")
    told = ("texts: 3 of its 3 files cannot be used", "texts/0.jsonl: 12 of 12 rows cannot be used: no 'text'")
    cli("prepare", "r.yaml", sets=SMALL).expect_fault(3, *told, "write `field: body`")
