"""What is done again when a recipe or its text changes, with everything on: only what has other documents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.everything import RECIPE, text_of, write_everything
from tests.jobs.helpers import hashes
from tests.jobs.test_pipeline import prepared, reused
from tilth.core.tasks import Done

pytestmark = pytest.mark.slow

DATA: dict[str, Any] = {key: value for key, value in RECIPE["data"].items() if key != "mixture"}
BPE = {"kind": "bpe", "vocab_size": 400}
STANDARD, _, PII = DATA["clean"]
CHAIN = ("lines", "shared_lines", "decontaminate", "digest", "signature")
"""What a part goes through after `clean:`, in the same pass."""

Redone = dict[str, int]


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Redone]:
    """Prepares once more, and says how many tasks of each kind were done, not found."""
    base = tmp_path_factory.mktemp("redone")
    write_everything(base)

    def run(change: dict[str, Any], texts: dict[str, str] | None = None, tokenizer: Any = None) -> Redone:
        before = {name: (base / name).read_text() for name in texts or {} if (base / name).exists()}
        for name, text in (texts or {}).items():
            (base / name).write_text(text)
        done: list[Done] = []
        prepared(base, {**DATA, **change}, tokenizer or BPE, done)
        for name, text in before.items():
            (base / name).write_text(text)
        return {kind: made for kind, (_, made) in reused(done).items() if made}

    parts = run({})
    assert parts["collect"] == parts["digest"] == parts["encode"] == 3 and run({}) == {}
    return run


def in_part(stages: int, parts: int = 1) -> Redone:
    return {"clean": stages * parts} | dict.fromkeys(CHAIN, parts)


def test_a_new_source_is_read_and_cleaned_alone(again: Callable[..., Redone]) -> None:
    sources = [*DATA["sources"], {"path": "more.txt"}]
    redone = again({"sources": sources}, {"more.txt": text_of(123456, 50)})
    whole = ["shared", "exact", "candidates", "near", "assign", "held_out_index", "leaks", "tokenizer"]
    alone = in_part(9) | dict.fromkeys(["collect", "shingles", "held_out", "hits"], 1)
    # All is compared anew, and the tokenizer learns from all; others' n-grams were not made again.
    assert redone == alone | dict.fromkeys(whole, 1) | {"recall": 2, "encode": 4}
    front = again({"sources": [sources[-1], *sources[:-1]]})
    assert not set(front) & {"collect", "clean", *CHAIN, "shingles", "held_out", "hits"}, "the order is nobody's text"
    # A vocabulary that is given, not learned, leaves the shards of others.
    again({}, tokenizer={"kind": "byte"})
    assert again({"sources": sources}, tokenizer={"kind": "byte"}) == {"encode": 1}


def test_a_stage_that_leaves_the_same_documents_ends_there(again: Callable[..., Redone]) -> None:
    other = {"drop_lines": {"rules": [{"name": "advert", "pattern": r"^\[advert\] "}]}}
    redone = again({"clean": [STANDARD, other, PII]})
    assert redone == in_part(2, parts=3) | {"recall": 1}  # how well items are found, in texts as they are before


def test_a_changed_option_of_a_later_step_leaves_those_before_it(again: Callable[..., Redone]) -> None:
    assert again({"shared_lines": {"documents": 11, "characters": 20}}) == {"shared": 1}
    assert again({"deduplicate": {"threshold": 0.8}}) == {"near": 1}
    tail = again({"split": {"validation": 0.1, "by": "tail"}})
    assert not set(tail) & {"collect", "clean", *CHAIN, "shared", "exact", "candidates", "shingles"}


def test_a_changed_file_redoes_its_part(again: Callable[..., Redone]) -> None:
    redone = again({}, {"texts/118.txt": text_of(118, 120) + "One more line.\n"})
    assert redone["collect"] == 1 and redone.items() >= in_part(9).items() and redone["hits"] == redone["encode"] == 1
    spaces = again({}, {"texts/118.txt": text_of(118, 120) + "One more line.  \n"})
    assert spaces == {"collect": 1, **in_part(9), "recall": 1}, "cleaned it is the same"


def test_what_was_found_is_what_would_be_made(tmp_path: Path) -> None:
    write_everything(tmp_path)
    changes: list[dict[str, Any]] = [{}, {"clean": [STANDARD, PII]}, {"deduplicate": {"threshold": 0.7}}, {}]
    for change in changes:
        found = prepared(tmp_path, {**DATA, **change}, BPE)
    alone = prepared(tmp_path, DATA, BPE, workspace="alone")
    assert hashes(found.folder) == hashes(alone.folder)
    assert {path.name for path in (tmp_path / "alone/tasks").iterdir()} < {
        path.name for path in (tmp_path / "work/tasks").iterdir()
    }
