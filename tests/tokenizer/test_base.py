import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.core.config import parse
from tilth.core.errors import DataError, RecipeError
from tilth.tokenizer import StreamDecoder, Tokenizer, TokenizerConfig, train_tokenizer

BYTES = train_tokenizer(TokenizerConfig(kind="byte"), [])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"vocab_size": 100}, "257"),
        ({"vocab_size": 1 << 40}, "16777216"),
        ({"train_bytes": 0}, "nothing to learn"),
        ({"special_tokens": ["mask"]}, r"<\|name\|>"),
        ({"special_tokens": ["<|_|>"]}, r"<\|name\|>"),  # marks only: a pretoken can spell it
        ({"special_tokens": ["<|endoftext|>"]}, "stands twice"),
        ({"special_tokens": ["<|a|>", "<|a|>"]}, "stands twice"),
        ({"vocab_size": 257, "special_tokens": ["<|a|>"]}, "258"),
        ({"pattern": "gpt5"}, "gpt4"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused_with_a_remedy(data: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        parse(TokenizerConfig, data)
    assert " | " not in str(caught.value) and caught.value.remedy


def test_ids_are_ordinary_ones_then_special_ones(any_kind: Tokenizer) -> None:
    ids = sorted(any_kind.special_tokens.values())
    assert ids == list(range(any_kind.vocab_size - len(ids), any_kind.vocab_size))
    assert any_kind.end_of_text == any_kind.special_tokens["<|endoftext|>"]
    assert "<|mask|>" in any_kind.special_tokens


def test_text_never_becomes_a_special_token(any_kind: Tokenizer) -> None:
    text = "<|endoftext|><|mask|> <|endoftext|>\n<|unk|>"
    ids = any_kind.encode(text)
    assert max(ids) < any_kind.vocab_size - len(any_kind.special_tokens)
    assert any_kind.decode(ids) == text


def test_special_ids_are_shown_by_name_or_skipped(any_kind: Tokenizer) -> None:
    ids = [*any_kind.encode("ab"), any_kind.end_of_text, *any_kind.encode("c")]
    assert any_kind.decode(ids) == "ab<|endoftext|>c"
    assert any_kind.decode(ids, skip_special=True) == "abc"


@pytest.mark.parametrize("as_type", [list, tuple, np.array, iter])
def test_ids_may_come_as_any_row(any_kind: Tokenizer, as_type: type) -> None:
    assert any_kind.decode(as_type(any_kind.encode("def f(x):"))) == "def f(x):"


@pytest.mark.parametrize("wrong", [-1, "size", 1 << 70])
def test_an_id_that_is_none_is_refused(any_kind: Tokenizer, wrong: int | str) -> None:
    bad = any_kind.vocab_size if wrong == "size" else wrong
    with pytest.raises(DataError):
        any_kind.decode([0, bad])  # type: ignore[list-item]


def test_ids_that_are_no_row_of_whole_numbers_are_refused(any_kind: Tokenizer) -> None:
    for wrong in (np.array([1.0]), np.array([[1]]), np.array([True])):
        with pytest.raises(DataError, match="flat row"):
            any_kind.decode(wrong)


def test_the_list_and_the_array_are_equal(any_kind: Tokenizer, corpus: list[str]) -> None:
    array = any_kind.encode_array(corpus[1])
    assert array.dtype == np.uint32 and array.flags.writeable
    assert array.tolist() == any_kind.encode(corpus[1])
    assert any_kind.decode(array) == corpus[1]


def test_empty_text_is_no_ids(any_kind: Tokenizer) -> None:
    assert any_kind.encode("") == any_kind.encode(b"") == []
    assert any_kind.decode([]) == ""
    assert any_kind.encode_array("").dtype == np.uint32


@given(st.binary(max_size=60))
def test_streamed_text_is_the_whole_text(data: bytes) -> None:
    stream = StreamDecoder(BYTES)
    pieces = [stream.push(token) for token in BYTES.encode(data)]
    assert "".join(pieces) + stream.flush() == BYTES.decode(BYTES.encode(data))


def test_a_stream_holds_back_half_characters() -> None:
    stream = StreamDecoder(BYTES)
    assert [stream.push(value) for value in "é中".encode()] == ["", "é", "", "", "中"]
    assert stream.push(0xE4) == "" and stream.flush() == "\ufffd" and stream.flush() == ""
    assert stream.push(BYTES.end_of_text) == ""
    assert StreamDecoder(BYTES, skip_special=False).push(BYTES.end_of_text) == "<|endoftext|>"
