"""Rows as training reads them, made readable.

    first_rows(recipe, dataset, sampler, count) -> [Row]

A row is documents (or one window of text); a document is stretches of text that are trained, that are not, and special
tokens by their names.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from tilth.data.batches.batch import IGNORE, Ahead, Batch, Int64
from tilth.data.batches.order import Sampler, read
from tilth.data.dataset import Dataset
from tilth.jobs.objectives import masker_of
from tilth.jobs.recipe import Recipe
from tilth.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Stretch:
    """Tokens in a row that are alike: their text, how many they are, whether they are trained, whether special."""

    text: str
    tokens: int
    trained: bool
    special: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A row of training: its sample number, its documents, and how many positions are padding."""

    sample: int
    documents: tuple[tuple[Stretch, ...], ...]
    padding: int

    def __str__(self) -> str:
        """Its documents, each from a new line on; what is trained stands in [[ ]]."""
        return "\n".join(
            "".join(f"[[{stretch.text}]]" if stretch.trained else stretch.text for stretch in document)
            for document in self.documents
        )


def first_rows(recipe: Recipe, dataset: Dataset, sampler: Sampler, count: int = 2) -> list[Row]:
    """The rows that the first step begins with. Of a masked model what is hidden is shown, as what is trained."""
    batch = read(sampler, np.arange(min(count, sampler.samples_per_epoch), dtype=np.int64))
    masker = masker_of(recipe, dataset)
    batch = batch if masker is None else masker(batch)
    return [_row(batch, row, sampler.ahead, dataset.tokenizer) for row in range(len(batch.input_ids))]


def _row(batch: Batch, row: int, ahead: Ahead, tokenizer: Tokenizer) -> Row:
    input_ids, labels = batch.input_ids[row], batch.labels[row]
    documents = np.ones(len(input_ids), np.int32) if batch.doc_ids is None else batch.doc_ids[row]
    shown = []
    for number in np.unique(documents[documents > 0]).tolist():
        own = documents == number
        tokens, trained = _tokens(input_ids[own], labels[own], ahead)
        shown.append(_stretches(tokens, trained, tokenizer))
    return Row(int(batch.sample_ids[row]), tuple(shown), int((documents == 0).sum()))


def _tokens(input_ids: Int64, labels: Int64, ahead: Ahead) -> tuple[Int64, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """The tokens of a document, and whether each is trained: the one after its last position too, where that is."""
    trained = labels != IGNORE
    if ahead == 0:
        return np.where(trained, labels, input_ids), trained
    last = labels[-1:][trained[-1:]]
    return np.append(input_ids, last), np.append(False, trained)[: len(input_ids) + len(last)]


def _stretches(
    tokens: Int64, trained: np.ndarray[tuple[int], np.dtype[np.bool_]], tokenizer: Tokenizer
) -> tuple[Stretch, ...]:
    special = np.isin(tokens, list(tokenizer.special_tokens.values()))
    found, at = [], 0
    for (is_trained, is_special), group in itertools.groupby(zip(trained.tolist(), special.tolist(), strict=True)):
        size = len(list(group))
        data = tokenizer.decode_bytes(tokens[at : at + size], begins=at == 0)
        found.append(Stretch(data.decode("utf-8", "replace"), size, is_trained, is_special))
        at += size
    return tuple(found)
