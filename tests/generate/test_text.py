"""From ids to text: stop strings whatever the tokens are, ends of text, characters that several tokens make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.generate.helpers import random_model
from tilth.core.errors import RecipeError
from tilth.generate import text as text_module
from tilth.generate.config import SamplingConfig
from tilth.generate.text import TextOptions, generate_texts, stream_texts
from tilth.model.kv_cache import KVCache
from tilth.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer

BYTE = train_tokenizer(TokenizerConfig(kind="byte"), [])
MODEL = random_model()


def pieces_of(samples: list[list[int]], stop: tuple[str, ...] = (), tokenizer: Tokenizer = BYTE) -> list[list[str]]:
    """What is streamed for each sample when the model would write these ids."""

    def scripted(*_: Any, **options: Any) -> Iterator[list[int | None]]:
        assert options["stop_ids"] == {tokenizer.end_of_text} and options["vocab_size"] == tokenizer.vocab_size
        for position in range(max(map(len, samples))):
            yield [ids[position] if position < len(ids) else None for ids in samples]

    options = TextOptions(samples=len(samples), stop=stop)
    pieces: list[list[str]] = [[] for _ in samples]
    over: set[int] = set()
    with mock.patch.object(text_module, "generate_ids", scripted):
        for sample, piece in stream_texts(MODEL, tokenizer, "", options):
            assert sample not in over, "a piece after the sample's end"
            if not piece:
                over.add(sample)
                continue
            pieces[sample].append(piece)
    assert over == set(range(len(samples))), "every sample is told to have ended"
    return pieces


def text_of(ids: list[int], stop: tuple[str, ...] = (), tokenizer: Tokenizer = BYTE) -> str:
    return "".join(pieces_of([ids], stop, tokenizer)[0])


def cut_by_hand(text: str, stop: tuple[str, ...]) -> str:
    """The reference: letter by letter, up to where a stop string is whole for the first time."""
    for end in range(len(text) + 1):
        found = [end - len(s) for s in stop if s and text[:end].endswith(s)]
        if found:
            return text[: min(found)]
    return text


class Words(Tokenizer):
    """Tokens that are arbitrary pieces of text, so that a text can be cut anywhere."""

    kind = "byte"

    def __init__(self, words: list[str]) -> None:
        super().__init__([word.encode() for word in words], ["<|endoftext|>"])

    def encode_array(self, text: str | bytes) -> Any:
        raise NotImplementedError

    def encode(self, text: str | bytes) -> list[int]:
        return []

    def with_special_tokens(self, names: Sequence[str]) -> Tokenizer:
        raise NotImplementedError

    def model_json(self) -> dict[str, Any]:
        raise NotImplementedError


ALPHABET = "ab\n"


@settings(max_examples=400, deadline=None)
@given(
    words=st.lists(st.text(ALPHABET, min_size=1, max_size=4), min_size=1, max_size=12),
    stop=st.lists(st.text(ALPHABET, min_size=1, max_size=4), max_size=3),
    ended=st.booleans(),
)
def test_stop_strings_are_found_wherever_tokens_end(words: list[str], stop: list[str], ended: bool) -> None:
    tokenizer = Words(words)
    ids = [*range(len(words)), *([tokenizer.end_of_text] if ended else [])]
    expected = cut_by_hand("".join(words), tuple(stop))
    pieces = pieces_of([ids], tuple(stop), tokenizer)[0]
    assert "".join(pieces) == expected
    # What was streamed is never taken back: each piece goes on where the last one ended, and no stop string shows.
    for n in range(len(pieces)):
        assert expected.startswith("".join(pieces[: n + 1]))


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=30), stop=st.lists(st.text(min_size=1, max_size=3), max_size=2))
def test_bytes_that_make_characters_come_whole(text: str, stop: list[str]) -> None:
    pieces = pieces_of([BYTE.encode(text)], tuple(stop))[0] if text else []
    assert "".join(pieces) == cut_by_hand(text, tuple(stop))
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)


def test_text_comes_at_once_where_no_stop_string_can_begin() -> None:
    pieces = pieces_of([BYTE.encode("abc END abEN")], ("END",))[0]
    assert pieces == ["a", "b", "c", " "], "the stop string was held back from its first letter on, and never shown"
    assert pieces_of([BYTE.encode("xENDx")], ("ENDE",))[0] == ["x", "ENDx"], "let go when it turns out to be none"
    assert pieces_of([BYTE.encode("xEN")], ("END",))[0] == ["x", "EN"], "and at the end"


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one two", ("two",), "one "),
        ("one two", ("one",), ""),
        ("aaab", ("aab",), "a"),
        ("ababac", ("abac",), "ab"),
        ("xabcx", ("abc", "b"), "xa"),  # "b" is whole first
        ("xabcx", ("bc", "abc"), "x"),  # whole together: the longer one
        ("no stop here", ("stops",), "no stop here"),
        ("line\n\nnext", ("\n\n",), "line"),
        ("né — fin", ("—",), "né "),
    ],
)
def test_where_a_text_is_cut(text: str, stop: tuple[str, ...], expected: str) -> None:
    assert cut_by_hand(text, stop) == expected
    assert text_of(BYTE.encode(text), stop) == expected
    assert text_of([0], stop, Words([text])) == expected


def test_end_of_text_ends_a_sample() -> None:
    end = BYTE.end_of_text
    assert text_of([*BYTE.encode("done"), end, *BYTE.encode("more")]) == "done"
    assert text_of([end]) == ""
    assert text_of([*BYTE.encode("caf"), 0xC3, end]) == "caf\ufffd", "half a character shows that it is half"
    assert text_of([*BYTE.encode("caf"), 0xC3]) == "caf\ufffd"
    assert text_of(BYTE.encode("<|endoftext|>")) == "<|endoftext|>", "text that spells it is text"


def test_samples_end_by_themselves() -> None:
    texts = ["first STOP never", "second goes on to its end", "third"]
    pieces = pieces_of([[*BYTE.encode(text), BYTE.end_of_text] for text in texts], ("STOP",))
    assert ["".join(parts) for parts in pieces] == ["first ", texts[1], texts[2]]


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(RecipeError, match="stop string is empty"):
        TextOptions(stop=("x", ""))


@pytest.mark.parametrize("count", [0, -1])
def test_no_token_to_write_is_refused(count: int) -> None:
    with pytest.raises(RecipeError, match=f"max_new_tokens is {count}: nothing would be written"):
        TextOptions(max_new_tokens=count)


def test_writing_leaves_the_model_as_it_was_even_when_nobody_reads_on() -> None:
    model = random_model()
    model.train()
    stream = stream_texts(model, BYTE, "ab", TextOptions(max_new_tokens=5))
    next(stream)
    assert not model.training
    stream.close()
    assert model.training


def test_an_empty_prompt_begins_a_new_document() -> None:
    greedy = SamplingConfig(temperature=0.0)
    with mock.patch.object(text_module, "generate_ids", wraps=text_module.generate_ids) as engine:
        empty = generate_texts(MODEL, BYTE, "", TextOptions(max_new_tokens=5, sampling=greedy))
        assert engine.call_args.args[1] == [BYTE.end_of_text]
        other = generate_texts(MODEL, BYTE, "<|endoftext|>", TextOptions(max_new_tokens=5, sampling=greedy))
        assert engine.call_args.args[1] == list(b"<|endoftext|>"), "a prompt never makes a special token"
    assert empty != other


def test_streamed_pieces_joined_are_the_text() -> None:
    options = TextOptions(max_new_tokens=60, samples=3, stop=("e",), sampling=SamplingConfig(temperature=1.5))
    texts = generate_texts(MODEL, BYTE, "some prompt", options)
    joined = ["", "", ""]
    for sample, piece in stream_texts(MODEL, BYTE, "some prompt", options):
        joined[sample] += piece
    assert joined == texts and len(set(texts)) == 3 and not any("e" in text for text in texts)


def test_more_samples_than_memory_holds_are_refused_at_once() -> None:
    with pytest.raises(RecipeError, match=r"1,000,000,000 samples take [\d,.]+ GiB at least") as refused:
        next(stream_texts(MODEL, BYTE, "a", TextOptions(samples=10**9)))
    assert "--samples" in refused.value.remedy


def test_what_samples_take_is_that_of_their_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    model, options = random_model(), TextOptions(samples=100, max_new_tokens=1000)
    for dtype in (torch.float32, torch.bfloat16):
        cache = model.to(dtype).new_cache(100, model.config.context_length)
        assert isinstance(cache, KVCache) and cache.keys.dtype == dtype
        takes = cache.keys.nbytes + cache.values.nbytes + 100 * 2 * 4 * 257
        for room in (takes, takes - 1):
            monkeypatch.setattr(text_module, "total_memory_bytes", lambda room=room: room)
            with pytest.raises(RecipeError) if room < takes else nullcontext():
                next(stream_texts(model, BYTE, "a", options))
