"""Plain texts of a checkpoint whose texts have a beginning of their own: as its tokenizer writes them, in every row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import transformers

from tests.jobs.bases import CONTEXT, tuning
from tests.model.families import from_config, save
from tests.tokenizer import foreign_kinds
from tilth.data.dataset import Dataset
from tilth.jobs.objectives import Reading, held_out_pass, training_sampler
from tilth.jobs.prepare import prepare_data
from tilth.jobs.recipe import load_recipe
from tilth.training.config import OBJECTIVES

SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64,
         "max_position_embeddings": CONTEXT, "vocab_size": 512}  # fmt: skip


def write_base(folder: Path, kind: str) -> transformers.PreTrainedTokenizerBase:
    config = transformers.BertConfig(**SIZES) if kind == "wordpiece" else transformers.LlamaConfig(**SIZES)
    save(from_config(config), folder)
    foreign_kinds.KINDS[kind](folder)
    return transformers.AutoTokenizer.from_pretrained(folder)


def prepared(folder: Path, kind: str, **data: object) -> Dataset:
    masked = kind == "wordpiece"
    train = {"objective": "masked_lm"} if masked else {}
    recipe = load_recipe(tuning(folder, "base", data=data, train=train))
    return prepare_data(recipe, folder / "work", workers=1, root=folder)


@pytest.mark.parametrize("kind", ["llama3", "llama2", "gemma", "wordpiece", "gpt2", "unigram"])
def test_a_document_is_what_its_tokenizer_makes_of_it_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    theirs = write_base(tmp_path / "base", kind)
    dataset = prepared(tmp_path, kind)
    seen = 0
    for split in ("train", "validation"):
        stream = dataset.stream(split)
        borders = [*np.flatnonzero(stream.read(0, stream.tokens) == dataset.tokenizer.end_of_text) + 1]
        texts = [text for path in dataset.files(f"documents/{split}") for text in _texts(path)]
        for start, stop, text in zip([0, *borders[:-1]], borders, texts, strict=True):
            ids = theirs(text)["input_ids"]
            ended = ids if ids[-1] == dataset.tokenizer.end_of_text else [*ids, dataset.tokenizer.end_of_text]
            assert stream.read(int(start), int(stop - start)).tolist() == ended
            seen += 1
    assert seen > 10


def _texts(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    texts: list[str] = pq.read_table(path, columns=["text"])["text"].to_pylist()
    return texts


@pytest.mark.parametrize(("kind", "opened"), [("llama3", True), ("gpt2", False)])
def test_a_packed_document_is_read_from_its_own_beginning_or_from_the_end_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, opened: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    write_base(tmp_path / "base", kind)
    data = {"sources": [{"path": "texts"}], "packing": {"too_long": "split"}}
    recipe = load_recipe(tuning(tmp_path, "base", data=data))
    dataset = prepare_data(recipe, tmp_path / "work", workers=1, root=tmp_path)
    tokenizer, stream = dataset.tokenizer, dataset.stream("validation")
    reading = Reading(OBJECTIVES["causal_lm"], CONTEXT, isolate=True, packed=True, masking=None)
    read, bears = [], 0
    for batch in held_out_pass(reading, stream, tokenizer, 4):
        read += batch.input_ids[batch.positions == 0].tolist()
        bears += int((batch.labels >= 0).sum())
    first = tokenizer.opening[0] if opened else tokenizer.end_of_text
    assert first in read
    # All but the beginnings is predicted.
    assert bears == stream.tokens - (stream.documents if opened else 0)
    assert training_sampler(recipe, dataset).samples_per_epoch > 0


def test_a_tokenizer_that_opens_otherwise_is_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words are the same, and so is their fingerprint."""
    monkeypatch.chdir(tmp_path)
    write_base(tmp_path / "base", "llama3")
    opened = prepared(tmp_path, "llama3")
    place = tmp_path / "base" / "tokenizer.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "post_processor": None}))
    bare = prepared(tmp_path, "llama3")
    assert opened.tokenizer.fingerprint == bare.tokenizer.fingerprint and opened.folder != bare.folder
    assert bare.tokenizer.opening == [] and opened.tokenizer.opening != []
    first, other = (int(dataset.stream("train").read(0, 1)[0]) for dataset in (opened, bare))
    assert first == opened.tokenizer.opening[0] != other


def test_held_out_text_is_measured_without_the_tokens_that_begin_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_base(tmp_path / "base", "llama3")
    dataset = prepared(tmp_path, "llama3")
    stream, begin = dataset.stream("validation"), dataset.tokenizer.opening[0]
    for packed in (False, True):
        reading = Reading(OBJECTIVES["causal_lm"], CONTEXT, isolate=True, packed=packed, masking=None)
        labels = [batch.labels for batch in held_out_pass(reading, stream, dataset.tokenizer, 4)]
        bears = [label for some in labels for label in some[some >= 0].tolist()]
        assert len(bears) == stream.tokens - stream.documents and begin not in bears
