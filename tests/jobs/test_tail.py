"""The end of the text held out: never what is a near-duplicate of text that is trained on."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.data.planted import planted, words_of
from tests.jobs.conftest import Cli
from tests.jobs.helpers import write_recipe
from tests.jobs.test_bad_input import facts_of

ALIKE = 0.85


def write_rows(path: Path, texts: Sequence[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def recipe(folder: Path, **data: Any) -> None:
    write_recipe(folder / "r.yaml", "a.jsonl", data={"clean": "none", **data})


@pytest.mark.parametrize("by", ["tail", "auto"])
def test_a_cut_never_parts_near_duplicates(tmp_path: Path, cli: Cli, by: str) -> None:
    draw = random.Random(5)
    pairs = [planted(draw, ALIKE) for _ in range(20)]
    alone = [" ".join(words_of(draw, 300)) for _ in range(34)]
    early, late = ([pair[side] for pair in pairs] for side in (0, 1))
    write_rows(tmp_path / "a.jsonl", [*early, *alone[:30], *late, *alone[30:]])  # 74: `auto` cuts the text of so few
    recipe(tmp_path, split={"validation": 0.2, "by": by})
    told = cli("prepare", "r.yaml", "--json")
    facts = facts_of(told, tmp_path)
    # Ten of the later ones stand behind the cut, and it goes through one.
    assert facts["split"] == {"by": "tail", "together": 11}
    assert facts["splits"]["validation"]["documents"] == 4 and facts["documents"] == 74
    said = " ".join((told.out + told.err).split())
    assert "held out is the end of each source's text 11 documents of it trained on: near-duplicates of what is" in said
    cli("report", told.json()["folder"], "--html", "page.html")
    page = " ".join((tmp_path / "page.html").read_text().split())
    assert "but for 11 documents of it that are near-duplicates of what is trained on" in page


@pytest.mark.parametrize("by", ["tail", "auto"])
def test_where_all_that_would_be_held_out_is_alike_the_remedy_is_said_and_works(
    tmp_path: Path, cli: Cli, by: str
) -> None:
    draw = random.Random(6)
    words = words_of(draw, 120)
    write_rows(tmp_path / "a.jsonl", [" ".join([*words[:-3], *words_of(draw, 3)]) for _ in range(150)])
    recipe(tmp_path, split={"validation": 0.05, "by": by})
    cli("prepare", "r.yaml").expect_fault(
        3, "150 training and 0 validation", "would part near-duplicates", "data.deduplicate: near"
    )
    if by == "tail":
        recipe(tmp_path, split={"validation": 0.05, "by": by}, deduplicate={"most_of_a_source": 1})
        assert facts_of(cli("prepare", "r.yaml", "--json"), tmp_path)["splits"]["validation"]["documents"] == 1
