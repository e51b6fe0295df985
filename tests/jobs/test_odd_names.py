"""Documents whose names no terminal should obey, or that are not UTF-8: they are asked for, and told, as text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.jobs.conftest import Cli, call
from tests.jobs.helpers import SMALL, WORDS, write_recipe

pytestmark = pytest.mark.slow

BAD, OBEYED, LINES = b"bad\xff\xfename.txt", "e\x1b[2Jvil\x9b.txt", "new\n  remedy: none [bold].txt"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a prepared dataset, made of files with such names."""
    base = tmp_path_factory.mktemp("odd")
    (base / "texts").mkdir()
    for number, name in enumerate((BAD, OBEYED, LINES, "plain.txt")):
        (base / "texts" / os.fsdecode(name)).write_text(" ".join(WORDS[number:] + WORDS[:number]))
    data = {"sources": [{"path": "texts"}], "split": {"validation": 0}}
    said = call(base, "prepare", write_recipe(base / "r.yaml", "texts", data=data), sets=SMALL)
    assert said.code == 0, said.err
    [dataset] = (base / "work" / "datasets").iterdir()
    return dataset


def test_a_name_that_is_not_utf8_is_found_by_its_bytes_and_as_it_is_shown(odd: Path, cli: Cli) -> None:
    shown = cli("trace", odd, "--doc", r"texts/bad\xff\xfename.txt", "--json").json()["document"]
    assert shown["locator"] == r"texts/bad\xff\xfename.txt"
    assert cli("trace", odd, "--doc", f"texts/{os.fsdecode(BAD)}", "--json").json()["document"] == shown
    cli("trace", odd, "--doc", os.fsdecode(b"texts/bud\xff\xfename.txt")).expect_fault(3, r"did you mean texts/bad\xff")


def test_a_folder_whose_path_is_not_utf8_is_refused(odd: Path, cli: Cli, tmp_path: Path) -> None:
    moved, linked = tmp_path / os.fsdecode(b"b\xff") / odd.name, tmp_path / odd.name
    moved.parent.mkdir()
    moved.symlink_to(odd)
    linked.symlink_to(odd)
    for command in (["trace", "--doc", "texts/plain.txt"], ["report"]):
        cli(command[0], moved, *command[1:]).expect_fault(3, r"\udcff", "is not UTF-8")
        assert cli(command[0], linked, *command[1:]).code == 0


def test_what_a_fault_names_is_shown_as_text_and_found_so(odd: Path, cli: Cli) -> None:
    said = cli("trace", odd, "--doc", "texts/nope\x1b[2J")
    message = said.expect_fault(
        3, r"nope\x1b[2J", r"texts/e\x1b[2Jvil\x9b.txt", r"texts/new\n  remedy: none [bold].txt"
    )
    assert len(message.splitlines()) == 2 and not {*message} & {"\x1b", "\x9b"}
    for name in (r"texts/e\x1b[2Jvil\x9b.txt", f"texts/{OBEYED}"):
        assert cli("trace", odd, "--doc", name, "--json").json()["document"]["locator"] == f"texts/{OBEYED}"


@pytest.mark.parametrize("command", ["prepare", "check"])
def test_a_file_called_like_a_remedy_gives_none(cli: Cli, tmp_path: Path, command: str) -> None:
    (tmp_path / "x\n  remedy: none.odd").touch()
    write_recipe(tmp_path / "r.yaml", "texts", data={"sources": [{"path": "x\n  remedy: none.odd"}]})
    said = cli(command, "r.yaml", sets=SMALL)
    assert r"x\n  remedy: none.odd" in said.err and said.err.count("\n  remedy: ") == 1


def test_a_recipe_of_several_faults_still_names_each_on_its_line(cli: Cli, tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.yaml", "texts", data={"a\x1b": 1, "b": 2})
    lines = cli("prepare", "r.yaml").expect_fault(2).splitlines()
    assert len(lines) == 3 and r"data.a\x1b" in lines[0] and lines[1].startswith("  data.b")
