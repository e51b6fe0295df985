"""The model of py3langid, over many texts at once.

    classify(texts) -> [(label, score)]     what `LanguageIdentifier.classify` of the package says of each

The model (Lui and Baldwin 2012) is a finite automaton over bytes that tells which n-grams of a list occur in a text,
and a naive Bayes classifier over how often. The package walks through one text after another, a byte at a time in
Python. Here all texts take a step at once, as one operation over arrays, which is four times as fast; a test compares
the answers with the package's own. The release of the package is held (below 0.5), for its arrays are not its public
face. Texts do not touch one another: each has its own state and its own sum.
"""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tilth.core.errors import RecipeError

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

_TEXTS = 512  # at a time: their states and n-grams stay within some megabytes


class Model(NamedTuple):
    """S states, F n-grams, L labels.

    Attributes:
        labels: the name of each label; one may stand twice (two scripts of a language).
        first: int64 [L]: where each label's name stands first.
        step: [rows * 256]: the next state, for a row and a byte.
        row: int64 [S]: where the row of a state begins in `step`.
        ngram: [S]: the n-gram that ends when a state is reached, or -1.
        weights: float32 [F, L].
        prior: float32 [L].
    """

    labels: list[str]
    first: I64
    step: npt.NDArray[Any]
    row: I64
    ngram: npt.NDArray[Any]
    weights: F32
    prior: F32


@cache
def load() -> Model:
    """The model, loaded once in a process (a second, 120 MB)."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]
    except ImportError:
        raise RecipeError(
            "the stage `language` needs py3langid, which is not installed", "pip install 'tilth[web]'"
        ) from None
    known = LanguageIdentifier.from_model_file(MODEL_FILE)
    labels = list(known.nb_classes)
    return Model(
        labels=labels,
        first=np.array([labels.index(label) for label in labels]),
        step=np.asarray(known.tk_nextmove),
        row=np.asarray(known.tk_row).astype(np.int64) << 8,
        ngram=np.asarray(known.tk_output),
        weights=np.asarray(known.nb_ptc, np.float32),
        prior=np.asarray(known.nb_pc, np.float32),
    )


def classify(texts: Sequence[str]) -> list[tuple[str, float]]:
    """The likeliest label of each text and its probability; for texts of a few thousand bytes."""
    model = load()
    answers: list[tuple[str, float]] = []
    for start in range(0, len(texts), _TEXTS):
        raws = [_bytes(text) for text in texts[start : start + _TEXTS]]
        for raw, (ngrams, counts) in zip(raws, _ngrams(model, raws), strict=True):
            answers.append(_likeliest(model, len(raw), ngrams, counts))
    return answers


def _bytes(text: str) -> bytes:
    """As the model was taught to read: normalised (NFC), capitals alone as small letters."""
    text = text.lower() if text.isupper() else text
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")


def _ngrams(model: Model, raws: Sequence[bytes]) -> Iterator[tuple[I64, I64]]:
    """Of each text the n-grams that it holds, and how often."""
    lengths = np.array([len(raw) for raw in raws])
    order = np.argsort(-lengths, kind="stable")  # the longest first: those that still walk are a slice
    found = _walk(model, [raws[n] for n in order], lengths[order])
    place, text = np.nonzero(found >= 0)
    pairs = order[text] * np.int64(len(model.weights)) + found[place, text]
    distinct, counts = np.unique(pairs, return_counts=True)
    owner, ngrams = np.divmod(distinct, len(model.weights))
    borders = np.searchsorted(owner, np.arange(len(raws) + 1))
    for start, end in itertools.pairwise(borders):
        yield ngrams[start:end], counts[start:end]


def _walk(model: Model, raws: Sequence[bytes], lengths: I64) -> npt.NDArray[Any]:
    """The n-gram that ends at each byte of each text [bytes, texts], or -1; texts come with the longest first."""
    longest = max(1, int(lengths[0]))
    padded = np.frombuffer(b"".join(raw.ljust(longest, b"\0") for raw in raws), np.uint8)
    bytes_TN = np.ascontiguousarray(padded.reshape(len(raws), longest).T)
    found_TN = np.full((longest, len(raws)), -1, model.ngram.dtype)
    walking = np.searchsorted(-lengths, -np.arange(longest), side="left")
    state = np.zeros(len(raws), np.int64)
    for place in range(longest):
        n = walking[place]
        state[:n] = model.step[model.row[state[:n]] + bytes_TN[place, :n]]
        found_TN[place, :n] = model.ngram[state[:n]]
    return found_TN


def _likeliest(model: Model, size: int, ngrams: I64, counts: I64) -> tuple[str, float]:
    """Naive Bayes over log(1 + count); the sums are divided by the root of the length, which makes them honest."""
    scores = np.log1p(counts.astype(np.float32)) @ model.weights[ngrams] + model.prior
    if not len(ngrams):  # nothing to go by: all are as likely
        scores = np.zeros_like(model.prior)
    odds = np.exp((scores - scores.max()) / np.float32(math.sqrt(size or 1)))
    shares = np.bincount(model.first, odds / odds.sum())
    best = int(shares.argmax())
    return model.labels[best], float(shares[best])
