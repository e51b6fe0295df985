import os
import random
import time

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from tilth.tokenizer import bpe as bpe_module
from tilth.tokenizer.bpe import BpeTokenizer
from tilth.tokenizer.patterns import PATTERNS, compiled

TRICKY = " \t\n\r\u00a0\u2028'sStTlLrReEvVdDmM123.,<|>aé中ſK😀\u0301"
LESSON = "  it's  \n\n we'll 12 ... aa\t\té é \r\na.\n\nb.\r\n1'\n \n" * 3
SMALL = {
    name: train_tokenizer(
        TokenizerConfig(vocab_size=300, pattern=name),
        ["  it's  \n\n we'll 12 ... aa\t\té é \r\na.\n\nb.\r\n1'\n \n" * 3],
    )
    for name in PATTERNS
}
texts = st.text(st.sampled_from(TRICKY) | st.characters(exclude_categories=["Cs"]), max_size=60)


def engine_of(tokenizer: Tokenizer) -> tiktoken.Encoding:
    ordinary = range(tokenizer.vocab_size - len(tokenizer.special_tokens))
    ranks = {tokenizer.token_bytes(token): token for token in ordinary}
    return tiktoken.Encoding("x", pat_str=PATTERNS[tokenizer.pattern], mergeable_ranks=ranks, special_tokens={})


def ids_by_definition(tokenizer: Tokenizer, text: str) -> list[int]:
    """Cut by Python's regex; in each pretoken join the neighbours that make the lowest token, leftmost first."""
    rank = {tokenizer.token_bytes(token): token for token in range(tokenizer.vocab_size - 1)}
    ids = []
    for pretoken in compiled(tokenizer.pattern).findall(text):
        parts = [bytes([byte]) for byte in pretoken.encode()]
        while True:
            found = [(rank[a + b], at) for at, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in rank]  # noqa: B905, RUF007
            if not found:
                break
            _, at = min(found)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        ids += [rank[part] for part in parts]
    return ids


def test_real_text_is_encoded_as_by_tiktoken(bpe: Tokenizer, corpus: list[str]) -> None:
    engine = engine_of(bpe)
    for text in corpus[:20]:
        assert bpe.encode(text) == engine.encode_ordinary(text)
        assert bpe.encode(text.encode()) == bpe.encode(text)
    assert len(bpe.encode(corpus[1])) < len(corpus[1]) / 2


@pytest.mark.parametrize("name", PATTERNS)
@given(text=st.text(TRICKY, max_size=60))
def test_ids_are_those_of_the_definition(name: str, text: str) -> None:
    assert SMALL[name].encode(text) == ids_by_definition(SMALL[name], text)


@pytest.mark.parametrize("name", PATTERNS)
@given(text=st.text(st.sampled_from(TRICKY), max_size=60), size=st.integers(0, 9))
def test_the_pieces_of_a_long_text_give_the_ids_of_the_whole(name: str, text: str, size: int) -> None:
    pieces = SMALL[name].cut(text, size)
    assert "".join(pieces) == text
    assert [i for piece in pieces for i in engine_of(SMALL[name]).encode_ordinary(piece)] == SMALL[name].encode(text)


def test_a_long_text_is_cut(bpe: Tokenizer, corpus: list[str]) -> None:
    pieces = bpe.cut(corpus[1], 1000)
    assert len(corpus[1]) / 1000 * 0.5 < len(pieces) <= len(corpus[1]) / 1000 + 1
    assert [i for piece in pieces for i in bpe.encode(piece)] == bpe.encode(corpus[1])


@pytest.mark.parametrize("name", PATTERNS)
@given(data=st.binary() | texts.map(str.encode))
def test_any_bytes_come_back(name: str, data: bytes) -> None:
    assert SMALL[name].decode_bytes(SMALL[name].encode(data)) == data


@pytest.mark.parametrize("name", PATTERNS)
@given(text=st.text(st.characters(categories=["Cs"]) | st.sampled_from("ab \n.é"), max_size=20))
def test_surrogates_are_their_bytes(name: str, text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    assert SMALL[name].encode(text) == SMALL[name].encode(data)
    assert SMALL[name].decode_bytes(SMALL[name].encode(text)) == data


def test_bytes_that_are_not_utf8_stand_apart() -> None:
    tokenizer = SMALL["gpt4"]
    expected = tokenizer.encode("it's ") + [tokenizer.encode(b"\xff")[0]] * 2 + tokenizer.encode("  é")
    assert tokenizer.encode(b"it's " + b"\xff\xff" + "  é".encode()) == expected


@pytest.mark.slow
@settings(max_examples=400)
@pytest.mark.parametrize("name", PATTERNS)
@given(text=st.text(" \n\t\r\u00a0aé1.'s中", max_size=40))
def test_the_rule_for_runs_of_space_gives_the_ids_of_tiktoken(name: str, text: str) -> None:
    tokenizer = SMALL[name]
    assert isinstance(tokenizer, BpeTokenizer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe_module, "LONG_RUN", 1)
        by_rule = tokenizer._encode_long_runs(text).tolist()
    assert by_rule == engine_of(tokenizer).encode_ordinary(text)


@pytest.mark.slow
@pytest.mark.parametrize("around", [("", ""), ("a.", "b"), ("a", ".")])
@pytest.mark.parametrize("space", [" ", "\n", " \n", "\t "])
def test_a_million_spaces(bpe: Tokenizer, space: str, around: tuple[str, str]) -> None:
    text = around[0] + space * (1_200_000 // len(space)) + around[1]
    ids = bpe.encode_array(text)
    assert bpe.decode(ids) == text
    # A run of a tenth is within what tiktoken can do, and has the same beginning and end.
    short = bpe.encode(around[0] + space * (120_000 // len(space)) + around[1])
    assert ids[:20].tolist() == short[:20] and ids[-2:].tolist() == short[-2:]


def test_tiktoken_alone_still_gives_up_on_such_text(bpe: Tokenizer) -> None:
    with pytest.raises(ValueError, match="Max stack size"):
        engine_of(bpe).encode_to_numpy(" " * 1_200_000 + "x")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unit", "size"),
    [
        ("a", 4),
        (" ", 4),
        ("mixed", 4),
        *((unit, 2) for unit in ("\n", "1", ".", "中", " \n", "\u00a0")),
        ("random", 1),
    ],
)
def test_megabytes_of_anything(unit: str, size: int) -> None:
    count = size * 1_000_000 // len(unit.encode())
    mixed = "".join(random.Random(0).choices(" \t\n", k=size * 1_000_000)) if unit == "mixed" else ""
    data = {"mixed": mixed.encode(), "random": os.urandom(size * 1_000_000)}.get(unit, unit.encode() * count)
    start = time.perf_counter()
    ids = SMALL["gpt4"].encode_array(data)
    assert time.perf_counter() - start < 30  # a second where it is linear, many minutes where it is not
    assert SMALL["gpt4"].decode_bytes(ids) == data
