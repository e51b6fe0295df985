"""kill -9 at random moments of `tilth prepare` with everything on: what is resumed to its end equals what was never
stopped, task by task and to the bit, whoever does the work."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

import tilth
from tests.jobs.everything import RULES, write_everything
from tests.jobs.helpers import begun, command, environment, hashes, killed, last_json
from tests.jobs.helpers import tilth as run
from tilth.data.dataset import open_dataset

pytestmark = pytest.mark.slow

Results = dict[str, str]


def results(workspace: Path) -> Results:
    """The hash of every file of every task and dataset."""
    kinds = ("tasks", "datasets")
    return {f"{kind}/{name}": found for kind in kinds for name, found in hashes(workspace / kind).items()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the corpus and, in `whole`, what a run in one process that was never stopped makes of it."""
    folder = tmp_path_factory.mktemp("everything")
    recipe = write_everything(folder)
    made = last_json(run("prepare", recipe, "--workspace", "whole", "--workers", "1", "--json", cwd=folder))
    facts = open_dataset(folder / made["folder"]).facts
    assert facts["shards"] >= 3 and len(facts["sources"]) == 2
    for verdict, rules in RULES.items():
        missing = set(rules) - set(facts["rules"][verdict])
        assert not missing, f"the corpus has nothing for {missing}"
    return folder


def started(words: list[str], folder: Path, workspace: Path) -> subprocess.Popen[str]:
    """Starts the command, and waits until it has the workspace: before that a kill meets nothing but imports."""
    process = begun(words, folder)
    lock = workspace / ".lock"
    while process.poll() is None and not (lock.exists() and lock.read_text() == str(process.pid)):
        time.sleep(0.005)
    return process


def check_kills(words: list[str], folder: Path, kills: int, longest: float, expected: Results) -> None:
    """Kills the run at random moments until so many kills met it at work, and lets it go on to its end."""
    draw, count, tries, workspace = random.Random(7), 0, 0, folder / "killed"
    while count < kills:
        tries += 1
        assert tries < 4 * kills, "it ends before it can be killed: make the work longer"
        if killed(started(words, folder, workspace), draw.uniform(0, longest)):
            count += 1
        else:
            assert results(workspace) == expected
            shutil.rmtree(workspace)
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert results(workspace) == expected
    left = [path for path in workspace.rglob("*") if path.name.endswith(".tmp")]
    assert not left, "nothing half-made is left"


def words_of(folder: Path, *more: str) -> list[str]:
    return command("prepare", folder / "r.yaml", "--workspace", "killed", "--json", *more)


def test_killed_twenty_times(corpus: Path) -> None:
    words = words_of(corpus, "--workers", "2")
    check_kills(words, corpus, 20, 1.2, results(corpus / "whole"))


def test_the_same_from_a_script(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(corpus)
    dataset = tilth.prepare(tilth.load_recipe("r.yaml"), "script", workers=2, executor="processes")
    assert results(corpus / "script") == results(corpus / "whole")
    assert dataset.folder.parent == Path("script/datasets")


@pytest.mark.parametrize("more", [("--workers", "2"), ("--workers", "4"), ("--workers", "2", "--executor", "ray")])
def test_whoever_does_the_work(corpus: Path, more: tuple[str, ...]) -> None:
    done = run("prepare", "r.yaml", "--workspace", "other", "--json", *more, cwd=corpus)
    assert done.returncode == 0, done.stderr
    assert results(corpus / "other") == results(corpus / "whole")
    shutil.rmtree(corpus / "other")


def test_killed_on_ray(corpus: Path) -> None:
    words = words_of(corpus, "--workers", "2", "--executor", "ray")
    check_kills(words, corpus, 4, 6.0, results(corpus / "whole"))
