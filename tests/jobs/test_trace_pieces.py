"""What `tilth trace` says of a document that was cut up: all of its pieces, whatever became of them."""

from __future__ import annotations

import itertools
import json
import random

import pytest

from tests.jobs.helpers import WORDS
from tilth.cli.trace_display import print_documents
from tilth.core.config import parse
from tilth.data.config import DataConfig
from tilth.data.dataset import Dataset
from tilth.data.plans.pipeline import prepare
from tilth.data.plans.workshop import Workshop
from tilth.jobs.trace import trace_document
from tilth.tokenizer import TokenizerConfig

pytestmark = pytest.mark.slow

BOOK = "a: b.jsonl:1"
"""A name that holds what stands between a locator and what is said of it."""
DATA = {
    "sources": [{"path": "a: b.jsonl"}],
    "clean": [
        {"cut": {"characters": 3000, "min_characters": 100}},
        {"cut": {"characters": 600, "min_characters": 100}},
    ],
    "shared_lines": {"documents": 3, "keep": "none"},
    "decontaminate": {"against": ["exam.jsonl"]},
    "split": {"validation": 0.2},
}


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Books in pieces, the first with a notice that all of them share, an item of an exam, and a passage twice."""
    base, draw = tmp_path_factory.mktemp("cut"), random.Random(5)
    words = [f"{first}{second}" for first in WORDS for second in WORDS]
    said = ["".join(" ".join(draw.choices(words, k=14)) + ".\n" for _ in range(3)) for _ in range(32)]
    notice, item, twice = said[:3]
    books = [[*said[3:9], notice, item, twice, said[9], twice, said[22]], *([said[n], notice] for n in range(10, 22))]
    rows = (json.dumps({"text": "\n".join(book)}) for book in books)
    (base / "a: b.jsonl").write_text("\n".join(rows))
    (base / "exam.jsonl").write_text(json.dumps({"text": item}))
    config, tokenizer = parse(DataConfig, DATA, "data"), parse(TokenizerConfig, {"kind": "byte"})
    return prepare(config, tokenizer, "small", base, Workshop(base / "work"))


def test_all_pieces_are_told_each_with_its_outcome(cut: Dataset) -> None:
    pieces = trace_document(cut, BOOK)["pieces"]
    whole = [piece for piece in pieces if piece["locator"].count("#characters=") == 1]
    spans = [piece["locator"].rpartition("=")[2].split("-") for piece in whole]
    assert spans[0][0] == "0" and all(a[1] == b[0] for a, b in itertools.pairwise(spans))
    fates = [piece["fate"] for piece in pieces]
    assert {"dropped by deduplicate/shared_lines", "dropped by decontaminate/evaluation_item"} <= {*fates}
    assert "dropped by deduplicate/exact_duplicate" in fates and "kept in train" in fates
    assert fates[0] == "cut into pieces" and "not kept" not in fates
    assert [trace_document(cut, piece["doc_id"])["fate"] for piece in pieces] == fates


def test_a_piece_is_told_as_characters_of_its_whole_and_not_as_a_change_of_words(
    cut: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    read = json.loads((cut.folder.parents[2] / "a: b.jsonl").read_text().splitlines()[0])["text"]
    pieces = trace_document(cut, BOOK)["pieces"]
    outer, inner = next(one["locator"].split("#characters=")[1:] for one in pieces if one["fate"] == "kept in train")
    traced = trace_document(cut, f"{BOOK}#characters={outer}#characters={inner}")
    cuts = [verdict for verdict in traced["verdicts"] if verdict["rule"] == "cut"]
    assert [verdict["piece"] for verdict in cuts] == [[int(n) for n in span.split("-")] for span in (outer, inner)]
    assert cuts[0]["characters"] == len(read) and {verdict["after"] for verdict in cuts} == {None}
    print_documents([traced])
    said = capsys.readouterr().out
    start, end = cuts[0]["piece"]
    assert f"this piece is characters {start:,} to {end:,} of {len(read):,}" in said and "{+" not in said
    print_documents([trace_document(cut, BOOK)])
    assert f"cut  {cuts[0]['value']} pieces" in (said := capsys.readouterr().out) and "{+" not in said
