"""Masked language models: which tokens of a row are hidden, and what stands in their place.

    MaskingConfig            what a recipe says of it
    Words                    of each token id, whether it goes on with a word
    make_masker(…)           -> Masker, for a tokenizer
    Masker(batch)            hides tokens of a batch whose labels are its own tokens
    masked_pass(…)           a full pass over a stream's windows, for evaluation
    padded_windows(…)        those windows, nothing hidden yet
    unpadded(…)              without the padding, where nothing keeps it apart

Some tokens of a row are chosen; most of them become the mask token, some another token, the rest stay, and these alone
are predicted (Devlin et al. 2019, arXiv:1810.04805, section 3.1 and appendix A.1). Each token (or word) is chosen by
itself with the probability of the recipe, as in transformers' DataCollatorForLanguageModeling; where that chooses none
of a row, the one that was nearest to it is taken. Special tokens, padding and what is not trained are never chosen.

Every draw comes from (seed, "mask", sample number): the same for any number of processes and after any kill, another
one in each epoch. An evaluation draws by the number of the row alone, so that all evaluations hide the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from tilth.core.config import Config
from tilth.core.errors import RecipeError
from tilth.core.random import derive_seed, draws
from tilth.data.batches.batch import IGNORE, Batch, Int64, make_batch, positions_of
from tilth.data.shards import TokenStream
from tilth.tokenizer import Tokenizer

MASKING_VERSION = 2
"""Changes when the same rows are masked in another way: a run never goes on so."""
MASK_NAMES = ("<|mask|>", "[MASK]", "<mask>")
"""What the mask token is called: by tilth, by BERT, by RoBERTa."""

Bool = npt.NDArray[np.bool_]
Bits = npt.NDArray[np.uint64]


class MaskingConfig(Config):
    """Which tokens a masked language model has to guess; the names are transformers'."""

    mlm_probability: float = Field(default=0.15, gt=0, le=1)
    """The share of tokens that are chosen."""
    mask_replace_prob: float = Field(default=0.8, ge=0, le=1)
    """Of those the share that becomes the mask token."""
    random_replace_prob: float = Field(default=0.1, ge=0, le=1)
    """Of those the share that becomes another token, any but the special ones; the rest stay as they are."""
    whole_word_mask: bool = False
    """All tokens of a word are chosen together, or none."""

    @model_validator(mode="after")
    def _shares_of_one(self) -> MaskingConfig:
        if self.mask_replace_prob + self.random_replace_prob > 1:
            raise ValueError(
                f"mask_replace_prob {self.mask_replace_prob:g} and random_replace_prob {self.random_replace_prob:g} "
                "are more than 1 | make them smaller"
            )
        return self


@dataclass(frozen=True, slots=True)
class Words:
    """Where words begin, as far as the tokens tell.

    Attributes:
        continues: whether a token goes on with the word before it, bool [V].
        ends: whether no token after it can go on with its word, bool [V].
    """

    continues: Bool
    ends: Bool

    @classmethod
    def of_bytes(cls, tokens: Iterable[bytes]) -> Words:
        """By the bytes of tokens within a text, a space before a word included: a word goes on with a letter, a digit
        or what is not ASCII; white space and marks begin one, and what comes after white space does. So it is for every
        vocabulary, however it spells that space (`Ġ`, `▁`, or no `##`).
        """
        tokens = list(tokens)
        continues = [bool(token) and (token[:1].isalnum() or token[0] >= 0x80) for token in tokens]
        return cls(np.array(continues, np.bool_), np.array([token[-1:].isspace() for token in tokens], np.bool_))

    def starts(self, tokens: Int64, apart: Bool) -> Int64:
        """The column in which the word of each token begins [B, T].

        Args:
            apart: tokens that are words of their own; so that no word goes over them.
        """
        begins = apart | ~self.continues[tokens]
        begins[:, 1:] |= (apart | self.ends[tokens])[:, :-1]
        begins[:, 0] = True
        columns = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
        return np.maximum.accumulate(np.where(begins, columns, 0), axis=1)


@final
class Masker:
    """Hides tokens of batches.

    Args:
        mask_token: the id that stands for a hidden token.
        special: ids that are never hidden, and never stand in for another; bool [V].
        words: needed for whole words.
    """

    def __init__(
        self, config: MaskingConfig, seed: int, mask_token: int, special: Bool, words: Words | None = None
    ) -> None:
        assert words is not None or not config.whole_word_mask
        self.config, self.seed, self.mask_token = config, seed, mask_token
        self.special, self._words = special, words
        self._ordinary = np.flatnonzero(~special)

    def __call__(self, batch: Batch, *, evaluation: bool = False) -> Batch:
        """The batch with tokens hidden, and labels where they were; its labels say what may be chosen.

        Args:
            evaluation: draw by the number of the sample alone, whatever the seed of the run.
        """
        seeds = [self._seed_of(sample, evaluation) for sample in batch.sample_ids.tolist()]
        rows, length = batch.input_ids.shape
        choosing, replacing, other = draws(seeds, 3 * length).reshape(rows, 3, length).swapaxes(0, 1)
        chosen = self._chosen(batch, choosing)
        share = _unit(replacing)
        mask, random = self.config.mask_replace_prob, self.config.mask_replace_prob + self.config.random_replace_prob
        input_ids = np.where(chosen & (share < mask), self.mask_token, batch.input_ids)
        changed = chosen & (share >= mask) & (share < random)
        input_ids[changed] = self._ordinary[other[changed] % np.uint64(len(self._ordinary))]
        return replace(batch, input_ids=input_ids, labels=np.where(chosen, batch.labels, IGNORE))

    def _seed_of(self, sample: int, evaluation: bool) -> int:
        return derive_seed(0, "mask/evaluation", sample) if evaluation else derive_seed(self.seed, "mask", sample)

    def _chosen(self, batch: Batch, bits: Bits) -> Bool:
        candidates = (batch.labels != IGNORE) & ~self.special[batch.input_ids]
        if self.config.whole_word_mask:
            bits = np.take_along_axis(bits, self._word_starts(batch), axis=1)
        chosen = candidates & (_unit(bits) < self.config.mlm_probability)
        # Compared as whole numbers, so that all tokens of the nearest word are taken together, and of other words none.
        bits = np.where(candidates, bits, np.uint64(2**64 - 1))
        nearest = candidates & (bits == bits.min(axis=1, keepdims=True))
        return np.asarray(np.where(chosen.any(axis=1, keepdims=True), chosen, nearest))

    def _word_starts(self, batch: Batch) -> Int64:
        assert self._words is not None
        apart = self.special[batch.input_ids]
        starts = self._words.starts(batch.input_ids, apart)
        if batch.doc_ids is None:
            return starts
        documents = np.diff(batch.doc_ids, axis=1, prepend=-1) != 0
        columns = np.broadcast_to(np.arange(starts.shape[1]), starts.shape)
        return np.maximum(starts, np.maximum.accumulate(np.where(documents, columns, 0), axis=1))

    def order(self) -> dict[str, Any]:
        """What decides the draws beside seed and sample number: plain data for the loader's state."""
        return {"version": MASKING_VERSION, **self.config.model_dump()}


def _unit(bits: Bits) -> npt.NDArray[np.float64]:
    """Uniform in [0, 1), from the upper 53 bits."""
    return np.asarray((bits >> np.uint64(11)) * 2.0**-53, np.float64)


def make_masker(config: MaskingConfig, tokenizer: Tokenizer, seed: int) -> Masker:
    """The masker for a tokenizer.

    Raises:
        RecipeError: the tokenizer has no mask token.
    """
    named = tokenizer.special_tokens
    mask = next((named[name] for name in MASK_NAMES if name in named), None)
    if mask is None:
        raise RecipeError(
            f"train.objective masked_lm needs a mask token; the tokenizer's special tokens are {', '.join(named)}",
            "set tokenizer.special_tokens: ['<|mask|>']",
        )
    special = np.zeros(tokenizer.vocab_size, np.bool_)
    special[list(named.values())] = True
    words = None
    if config.whole_word_mask:
        tokens = (tokenizer.decode_bytes([token], begins=False) for token in range(tokenizer.vocab_size))
        words = Words.of_bytes(tokens)
    return Masker(config, seed, mask, special, words)


def masked_pass(stream: TokenStream, context_length: int, rows: int, masker: Masker, isolate: bool) -> Iterator[Batch]:
    """All windows of a stream, each token in one, with the same tokens hidden in every pass; the last row is filled up
    with padding, or, where documents see each other, ends with the stream (`unpadded`).
    """
    windows = -(-stream.tokens // context_length)
    for first in range(0, windows, rows):
        samples = np.arange(first, min(first + rows, windows), dtype=np.int64)
        batch = masker(padded_windows(stream, context_length, samples, isolate), evaluation=True)
        yield from unpadded(batch, stream)


def padded_windows(stream: TokenStream, context_length: int, windows: Int64, isolate: bool) -> Batch:
    """Some of the windows that a stream is cut into from its beginning, rising, labels the tokens themselves; what
    reaches beyond its end is padding. Without `isolate` nothing keeps that apart: it is for `unpadded` to cut off.
    """
    batch = make_batch(stream, windows * context_length, context_length, windows, isolate, ahead=0)
    inside = windows[:, None] * context_length + np.arange(context_length) < stream.tokens
    batch = replace(
        batch, input_ids=np.where(inside, batch.input_ids, 0), labels=np.where(inside, batch.labels, IGNORE)
    )
    if batch.doc_ids is None:
        return batch
    doc_ids = np.where(inside, batch.doc_ids, 0).astype(np.int32)
    return replace(batch, doc_ids=doc_ids, positions=positions_of(doc_ids))


def unpadded(batch: Batch, stream: TokenStream) -> Iterator[Batch]:
    """Padded windows as they can be read: where documents see each other, those that the stream ends in are a batch by
    themselves, as long as what is there. So nothing need be kept apart, which not every model can.
    """
    rows, length = batch.input_ids.shape
    left = stream.tokens - batch.sample_ids * length
    whole = rows if batch.doc_ids is not None else int((left >= length).sum())
    if whole:
        yield batch.rows(0, whole)
    if whole < rows:
        rest, end = batch.rows(whole, rows), int(left[-1])
        yield replace(rest, input_ids=rest.input_ids[:, :end], labels=rest.labels[:, :end])
