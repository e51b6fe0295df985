"""Text from a model: prompts in, pieces of text out as they come, ended by end-of-text or a stop string."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tilth.core.environment import total_memory_bytes
from tilth.core.errors import DataError, RecipeError
from tilth.generate.config import SamplingConfig
from tilth.generate.engine import generate_ids
from tilth.generate.prefix_cache import Memory
from tilth.model.config import ModelConfig
from tilth.model.kv_cache import KVCache
from tilth.model.wrapped import AnyModel
from tilth.tokenizer import StreamDecoder, Tokenizer


@dataclass(frozen=True)
class TextOptions:
    """How much to write, and when to stop: at end-of-text and at `stop_ids`, or before a stop string. `model`: what
    errors call the model.
    """

    max_new_tokens: int = 200
    samples: int = 1
    stop: tuple[str, ...] = ()
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    stop_ids: frozenset[int] = frozenset()
    model: str = "the model"

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise RecipeError(f"max_new_tokens is {self.max_new_tokens}: nothing would be written", "give 1 or more")
        if "" in self.stop:
            raise RecipeError("a stop string is empty: it would end every text at once", "leave it out")


def stream_texts(
    model: AnyModel,
    tokenizer: Tokenizer,
    prompt: str | list[int],
    options: TextOptions,
    memory: Memory | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Iterator[tuple[int, str]]:
    """(sample, piece of text) as they come; a sample's pieces joined are its text. An empty piece ends a sample.

    An empty prompt begins a new document. Characters that several tokens make come when they are whole; what might be
    the start of a stop string is held back until it is known.

    Args:
        prompt: a text, read after the tokenizer's opening (bos); or the ids themselves, after which a text begins.
        memory, stopped: as of `generate_ids`.

    DataError when the prompt has an id that the model has no row for.
    """
    was_training = model.training
    model.eval()
    opened = _opening(tokenizer, prompt) if isinstance(prompt, str) else _Opened(prompt, begins=True)
    check_ids(model, opened.ids, options.model)
    _check_room(model, options, len(opened.ids))
    first_ids, stop_ids = opened.first_ids, options.stop_ids | {tokenizer.end_of_text}
    writers = [_Writer(tokenizer, options.stop, stop_ids, opened) for _ in range(options.samples)]
    ids = generate_ids(
        model,
        opened.ids,
        options.sampling,
        samples=options.samples,
        max_new_tokens=options.max_new_tokens,
        stop_ids=stop_ids,
        vocab_size=tokenizer.vocab_size,
        first_ids=None if first_ids is None else torch.tensor(first_ids, device=model.output_weight.device),
        memory=memory,
        stopped=stopped,
        over=lambda sample: writers[sample].over,
    )
    try:
        for row in ids:
            for sample, (writer, token) in enumerate(zip(writers, row, strict=True)):
                if token is not None:
                    yield from ((sample, piece) for piece in writer.take(token))
            if all(writer.over for writer in writers):
                break
        for sample, writer in enumerate(writers):
            yield from ((sample, piece) for piece in writer.take(tokenizer.end_of_text))
    finally:
        model.train(was_training)


def generate_texts(model: AnyModel, tokenizer: Tokenizer, prompt: str | list[int], options: TextOptions) -> list[str]:
    """The whole text of every sample, without the prompt."""
    texts = [""] * options.samples
    for sample, piece in stream_texts(model, tokenizer, prompt, options):
        texts[sample] += piece
    return texts


def check_ids(model: AnyModel, ids: Sequence[int] | npt.NDArray[np.integer[Any]], called: str = "the model") -> None:
    """DataError when one of them is no id of the model: its vocabulary may be smaller than the tokenizer's, and
    larger, where it is padded. `called`: what the error calls the model.
    """
    found, rows = np.asarray(ids), model.config.vocabulary
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise DataError(f"token ids came as {found.ndim}-dimensional {found.dtype}", "give one row of whole numbers")
    wrong = found[(found < 0) | (found >= rows)]
    if len(wrong):
        raise DataError(
            f"{wrong[0]} is no token id of {called}, which has rows for 0 to {rows - 1}",
            "name a checkpoint whose tokenizer and weights are of one revision",
        )


def _check_room(model: AnyModel, options: TextOptions, prompt: int) -> None:
    """RecipeError when so many samples cannot be: what is known of each alone is more than the memory of its device."""
    config, device = model.config, model.output_weight.device
    where, room = "this machine", total_memory_bytes()
    if device.type == "cuda":
        where, room = "the GPU", torch.cuda.get_device_properties(device).total_memory
    each = 4 * 2 * config.vocabulary  # scores, and what is drawn from
    if isinstance(config, ModelConfig):
        one = model.new_cache(1, 1)
        assert isinstance(one, KVCache)
        each += (one.keys.nbytes + one.values.nbytes) * min(config.context_length, prompt + options.max_new_tokens)
    if room is not None and (all_ := options.samples * each) > room:
        raise RecipeError(
            f"{options.samples:,} samples take {all_ / 2**30:,.1f} GiB at least; {where} has {room / 2**30:.1f}",
            f"ask for at most {room // each:,} at once (--samples), or for fewer tokens of each (--max-new-tokens)",
        )


class _Opened(NamedTuple):
    """A prompt as the model reads it.

    Attributes:
        ids: at least one.
        first_ids: those with which the answer may begin; None: any.
        given: what the answer repeats of the prompt.
        begins: whether no text stands before the answer.
    """

    ids: list[int]
    first_ids: list[int] | None = None
    given: str = ""
    begins: bool = False


def _opening(tokenizer: Tokenizer, prompt: str) -> _Opened:
    """BPE keeps a space with the word after it. A prompt that ends in one would end in a token that the model has
    hardly seen before a word, and it would answer as if none came: so the space is left to the answer, which must then
    begin with it.
    """
    if tokenizer.kind == "bpe" and prompt.endswith(" ") and not prompt[:-1].endswith((" ", "\n", "\t")):
        opens = [token for token in range(tokenizer.vocab_size) if _opens_word(tokenizer, token)]
        if opens:
            return _Opened(_read(tokenizer, prompt[:-1]), opens, " ")
    return _Opened(_read(tokenizer, prompt), begins=not prompt)


def _read(tokenizer: Tokenizer, prompt: str) -> list[int]:
    return [*tokenizer.opening, *tokenizer.encode(prompt)] or [tokenizer.end_of_text]


def _opens_word(tokenizer: Tokenizer, token: int) -> bool:
    """Whether a token is a space and something that is none."""
    if token in tokenizer.special_tokens.values():
        return False
    text = tokenizer.token_bytes(token)
    return text.startswith(b" ") and not text.isspace()


class _Writer:
    """One sample's tokens to text, up to its end."""

    def __init__(self, tokenizer: Tokenizer, stop: tuple[str, ...], stop_ids: frozenset[int], opened: _Opened) -> None:
        self._decoder, self._stop, self._ends = StreamDecoder(tokenizer, begins=opened.begins), stop, stop_ids
        self._held, self._given = "", opened.given
        self.over = False

    def take(self, token: int) -> list[str]:
        """What one more token lets out; an empty piece behind it when the text is then over."""
        if self.over:
            return []
        piece = self._push(token)
        return ([piece] if piece else []) + ([""] if self.over else [])

    def _push(self, token: int) -> str:
        if token in self._ends:
            return self._flush()
        text = self._decoder.push(token)
        if text and self._given:
            text, self._given = text.removeprefix(self._given), ""
        self._held += text
        return self._release()

    def _release(self) -> str:
        """What cannot be part of a stop string any more."""
        found = [(at + len(stop), at) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:  # the one that is whole first, however tokens cut the text
            self.over, text, self._held = True, self._held[: min(found)[1]], ""
            return text
        keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        text, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return text

    def _flush(self) -> str:
        self._held += self._decoder.flush()
        text = self._release()
        text, self._held = text + self._held, ""
        self.over = True
        return text


def _overlap(text: str, stop: str) -> int:
    """The longest end of `text` that `stop` begins with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
