import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.core.errors import DataError
from tilth.tokenizer import TokenizerConfig, train_tokenizer
from tilth.tokenizer.byte import ByteTokenizer
from tilth.tokenizer.char import CharTokenizer


def test_characters_get_their_place_in_sorted_order() -> None:
    tokenizer = CharTokenizer.train(["hello", "wörld\n"])
    characters = sorted(set("hellowörld\n"))
    assert tokenizer.encode("low\n") == [characters.index(character) for character in "low\n"]
    assert tokenizer.special_tokens == {"<|unk|>": len(characters), "<|endoftext|>": len(characters) + 1}
    assert tokenizer.vocab_size == len(characters) + 2


def test_unseen_characters_are_unknown_and_named() -> None:
    tokenizer = CharTokenizer.train(["abc"])
    unknown = tokenizer.special_tokens["<|unk|>"]
    text = "aXb\U0010ffffY\ud800Xc"
    assert tokenizer.encode(text) == [0, unknown, 1, unknown, unknown, unknown, unknown, 2]
    assert tokenizer.unknown_characters(text, limit=3) == ["X", "\U0010ffff", "Y"]
    assert tokenizer.encode("".join(map(chr, range(0xD800)))).count(unknown) == 0xD800 - 3
    assert tokenizer.unknown_characters("abc") == []


def test_bytes_are_read_as_utf8() -> None:
    tokenizer = CharTokenizer.train(["aé"])
    assert tokenizer.encode("éa".encode()) == [1, 0]
    assert tokenizer.encode(b"a\xff") == [0, tokenizer.special_tokens["<|unk|>"]]


def test_surrogates_are_not_learned() -> None:
    assert CharTokenizer.train(["a\ud800b"]).characters == "ab"


@pytest.mark.parametrize("texts", [[], [""], ["\ud800"]])
def test_no_character_at_all_is_refused(texts: list[str]) -> None:
    with pytest.raises(DataError, match="no text"):
        train_tokenizer(TokenizerConfig(kind="char"), texts)


@given(st.lists(st.text(), min_size=1).filter(lambda texts: any(texts)))
def test_char_gives_back_what_it_saw_in_any_order(texts: list[str]) -> None:
    tokenizer = CharTokenizer.train(texts)
    assert [tokenizer.decode(tokenizer.encode(text)) for text in texts] == texts
    assert CharTokenizer.train(texts[::-1]).fingerprint == tokenizer.fingerprint


@given(st.binary())
def test_byte_ids_are_the_bytes(data: bytes) -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.encode(data) == list(data)
    assert tokenizer.decode_bytes(tokenizer.encode_array(data)) == data


def test_byte_takes_text_as_utf8() -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.encode("é") == [0xC3, 0xA9]
    assert tokenizer.encode("\ud800") == list("\ud800".encode("utf-8", "surrogatepass"))
    assert tokenizer.vocab_size == 257 and tokenizer.end_of_text == 256
    assert np.array_equal(tokenizer.encode_array(bytes(range(256))), np.arange(256))
