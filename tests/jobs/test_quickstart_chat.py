"""`tilth quickstart --chat` whole, on a small standard library: from text to a chat; again; and what stops it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

import tilth
from tests.jobs.conftest import Said, call
from tests.jobs.forked import Forked, forked
from tests.jobs.helpers import environment, hashes
from tilth.core.files import read_json
from tilth.jobs.answers import groups_of, questions_of
from tilth.jobs.quickstart_chat import chat_recipe
from tilth.jobs.runs import dataset_of

RUN, TUNED = "runs/quickstart", "runs/quickstart-chat"
STEPS = ("--steps", "3", "--workers", "1")


WORDS = ("quickstart", "--chat", "--workers", "1")
CODE = (
    "import sysconfig, sys; sysconfig.get_path = lambda _: 'library'; sys.argv[0] = 'tilth'\n"
    "from tilth.cli.main import main; main()"
)
AGAIN = [sys.executable, "-c", CODE, *WORDS]


def small_library(folder: Path) -> Path:
    """The short modules of this Python's library."""
    folder.mkdir(parents=True)
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*.py")):
        if path.stat().st_size < 10_000:
            shutil.copyfile(path, folder / path.name)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("chat")
    library = small_library(folder / "library")
    with (
        mock.patch("tilth.data.sources.python_docs.sysconfig.get_path", lambda _: str(library)),
        mock.patch("tilth.jobs.quickstart_chat.ASKED", 3),
    ):
        yield folder


@pytest.fixture(scope="module")
def first(place: Path) -> Said:
    """Pretrained by the plain command, then tuned."""
    alone = call(place, "quickstart", *STEPS)
    assert alone.code == 0, alone.err
    return call(place, "quickstart", "--chat", *STEPS)


@pytest.mark.slow
def test_it_pretrains_tunes_measures_and_says_so(place: Path, first: Said) -> None:
    assert first.code == 0, first.err
    assert f"done before: {RUN}, " in first.out and f"done: {TUNED}, " in first.out, "the quickstart's model is used"
    figures = read_json(place / TUNED / "answers.json")
    for when in ("before", "after"):
        assert all(f"{figures[when][name]['loss']:.3f}" in first.out for name in ("unread", "read"))
    unread = figures["before"]["unread"]["loss"], figures["after"]["unread"]["loss"]
    assert unread[1] < unread[0], "three steps are enough for that"
    assert figures["shown"] and all(row["question"] in " ".join(first.out.split()) for row in figures["shown"])
    assert f"chat {TUNED} --temperature 0" in first.out and "> " not in first.out, "nobody is there to talk with"


@pytest.mark.slow
def test_what_is_held_out_was_not_read(place: Path, first: Said) -> None:
    assert first.code == 0, first.err
    pretrained, questions = dataset_of(place / RUN), dataset_of(place / TUNED)
    read = groups_of(pretrained, "train")
    trained, held_out = questions_of(questions, "train"), questions_of(questions, "validation")
    assert held_out and not {pair.group for pair in held_out} & read
    others = questions_of(questions, "test")
    assert others and {pair.group for pair in others} <= read
    assert not {pair.group for pair in trained} & {pair.group for pair in [*held_out, *others]}
    counts = read_json(place / TUNED / "answers.json")["questions"]
    assert counts["unread"]["held_out"] == len(held_out) and counts["read"]["held_out"] == len(others)
    assert all(c["held_out"] == c["measured"] + c["answers_in_training"] for c in counts.values())


@pytest.mark.slow
def test_typed_again_it_says_the_same_and_does_nothing(place: Path, first: Said) -> None:
    assert first.code == 0, first.err
    before = hashes(place / "runs")
    again = call(place, "quickstart", "--chat", "--workers", "1")
    assert again.code == 0, again.err
    assert again.out.count("done before: ") == 2
    assert again.out.partition("held-out questions")[2] == first.out.partition("held-out questions")[2]
    assert {k: v for k, v in hashes(place / "runs").items() if "events" not in k} == {
        k: v for k, v in before.items() if "events" not in k
    }


@pytest.mark.slow
def test_at_a_terminal_a_chat_opens(place: Path, first: Said) -> None:
    assert first.code == 0, first.err
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        AGAIN, cwd=place, env=environment(TERM="dumb"), stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        os.write(ours, b"What does textwrap.dedent do?\n/exit\n")
        said = b""
        while piece := _read(ours):
            said += piece
    os.close(ours)
    assert process.returncode == 0, said.decode()
    text = said.decode()
    assert "/help lists the commands" in text and "Ask it something" in text
    assert text.index("What to type next") < text.index("/help lists")


@pytest.mark.slow
def test_piped_lines_are_answered_and_an_idle_pipe_holds_nothing_up(place: Path, first: Said) -> None:
    assert first.code == 0, first.err
    question = "What does textwrap.dedent do?"
    (place / "again.py").write_text(CODE)
    (place / "lines").write_text(f"{question}\n/nothing\n/quit\n")
    with (place / "lines").open() as lines:
        piped = forked(*WORDS, cwd=place, script="again.py", stdin=lines.fileno())
    assert piped.returncode == 0, piped.stderr
    answers = tilth.load(place / TUNED).generate([{"role": "user", "content": question}], temperature=0).strip()
    told = piped.stdout.partition("What it answers to standard input:\n")[2].strip()
    assert told == answers and ("(no answer;" in piped.stderr) == (not answers)  # of three steps, mostly none
    assert "/nothing is no command" in piped.stderr
    read, write = os.pipe()
    idle = Forked(*WORDS, cwd=place, script="again.py", stdin=read)
    os.close(read)
    said, _ = idle.communicate(timeout=60)
    os.close(write)
    assert idle.returncode == 0 and "standard input" not in said


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # the other end is closed
        return b""


@pytest.mark.slow
def test_figures_are_measured_anew_when_they_are_of_another_model(place: Path, first: Said) -> None:
    assert first.code == 0, first.err
    path = place / TUNED / "answers.json"
    right = path.read_text()
    wrong = json.loads(right)
    wrong["of"]["model"] = "another"
    wrong["after"]["unread"]["loss"] = 0.0
    path.write_text(json.dumps(wrong))
    again = call(place, "quickstart", "--chat", "--workers", "1")
    assert again.code == 0, again.err
    assert json.loads(path.read_text()) == json.loads(right)


@pytest.mark.slow
def test_a_model_that_went_on_is_not_tuned_further(place: Path, first: Said, tmp_path: Path) -> None:
    assert first.code == 0, first.err
    shutil.copytree(place / "runs", tmp_path / "runs", symlinks=True)
    further = ("--workspace", place / "work", "--workers", "1")
    assert call(tmp_path, "quickstart", "--steps", "4", *further).code == 0
    refused = call(tmp_path, "quickstart", "--chat", *further)
    message = refused.expect_fault(2, f"{TUNED} was tuned beside {RUN}", "trained further")
    assert f"move {TUNED} away" in message


@pytest.mark.slow
def test_a_disk_without_room_is_told_before_it_trains(place: Path, tmp_path: Path) -> None:
    full = SimpleNamespace(total=1 << 40, used=1 << 40, free=1_000_000)
    with mock.patch.object(shutil, "disk_usage", return_value=full):
        said = call(tmp_path, "quickstart", *STEPS)
    said.expect_fault(2, "a checkpoint takes", "has 1 MB free")
    assert not (tmp_path / RUN).exists() and "2/4" in said.out, "the text is ready by then"


def test_the_recipe_starts_from_the_run_that_is_named(tmp_path: Path) -> None:
    recipe = chat_recipe(tmp_path / "mine", None, 7)
    assert recipe.model.from_ == str(tmp_path / "mine") and recipe.train.steps == 7 and recipe.train.hours is None
    assert chat_recipe(tmp_path / "mine", 3, None).train.hours == pytest.approx(0.05)
