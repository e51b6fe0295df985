"""Words by tables and prefix sums, against words by regular expressions and dictionaries."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from tilth.data.words import batches, find_words, hash_words, ngrams

ALONE = r"[[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]&&[\p{L}\p{N}]]"
CLASSES = {*range(1, 9), *range(10, 37), *range(200, 241)}
MARKS = "".join(chr(code) for code in range(0x30000) if unicodedata.combining(chr(code)) in CLASSES)
ACCENT = regex.compile(f"[{MARKS}\uff9e\uff9f]", regex.V1)
WORD = regex.compile(
    rf"{ALONE}|(?!{ALONE}|{ACCENT.pattern})[\p{{L}}\p{{N}}\p{{M}}](?:(?!{ALONE})[\p{{L}}\p{{N}}\p{{M}}])*", regex.V1
)
LETTERS = (
    "aAbß Éé,.\n-_'x1２Σσς漢字かがなไทยİıﬁﬃĳ½힣ﾊﾟ\u0301\u0323\u093c\u094d\u0bca\u3099\u05b4\u20dd\U0001d400\U0001f600"
)
find_words([chr(code) for code in range(0, 0x110000, 0x1000)])  # makes all tables, which takes longer than a deadline
texts = st.lists(st.text(st.sampled_from(LETTERS) | st.characters(), max_size=30), max_size=5)


def spelled(word: str) -> str:
    """The letters that count."""
    apart = "".join(c if "\uac00" <= c <= "\ud7a3" else unicodedata.normalize("NFKD", c) for c in word).lower()
    return "".join(c for c in apart if regex.match(r"[\p{L}\p{N}\p{M}]", c) and not ACCENT.match(c)).replace("ς", "σ")


def words_by_regex(text: str) -> list[tuple[int, int, str]]:
    return [(m.start(), m.end(), spelled(m.group())) for m in WORD.finditer(text)]


@given(texts)
@example(["", "a", "", "a\nb", ""])
@example(["lone \ud800 surrogate", "it's"])
def test_words_stand_where_the_expression_finds_them(given_texts: Sequence[str]) -> None:
    found = find_words(given_texts)
    spelling: dict[int, str] = {}
    for number, text in enumerate(given_texts):
        span = slice(found.offsets[number], found.offsets[number + 1])
        expected = words_by_regex(text)
        assert list(zip(found.starts[span], found.ends[span], strict=True)) == [(a, b) for a, b, _ in expected]
        for value, (_, _, word) in zip(found.hashes[span].tolist(), expected, strict=True):
            assert spelling.setdefault(value, word) == word, "two words share a hash"
    assert len(set(spelling.values())) == len(spelling), "one word has two hashes"
    for others in (given_texts, [text.encode("utf-8", "surrogatepass") for text in given_texts]):
        hashes, offsets = hash_words(others)
        assert np.array_equal(hashes, found.hashes) and np.array_equal(offsets, found.offsets)


def test_a_word_has_the_same_hash_wherever_it_stands() -> None:
    texts = ["soil", "Soil, SOIL!", "x" * 5000 + " soil", "the sóil"]
    hashes = find_words(texts)
    last = [hashes.hashes[end - 1] for end in hashes.offsets[1:]]
    assert len(set(last)) == 1


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=7), max_size=4), st.integers(1, 5))
def test_ngrams_are_those_of_a_window(docs: list[list[str]], n: int) -> None:
    found = ngrams(find_words([" ".join(words) for words in docs]), n)
    meaning: dict[int, tuple[str, ...]] = {}
    for number, words in enumerate(docs):
        span = found.hashes[found.offsets[number] : found.offsets[number + 1]].tolist()
        expected = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)] or ([tuple(words)] if words else [])
        assert len(span) == len(expected)
        for value, gram in zip(span, expected, strict=True):
            assert meaning.setdefault(value, gram) == gram
    assert len(set(meaning.values())) == len(meaning)


def test_long_words_differ_by_any_letter_and_are_not_taken_for_short_ones() -> None:
    long = [letter * n for letter in "ab" for n in (*range(1, 40), 5000)]
    words = [*long, "a" * 16 + "b", "b" + "a" * 16, "慡", "aa" + "я", "я" + "aa", "яя", "\U0001d7d8" * 9]
    hashes = find_words([" ".join(words)]).hashes
    assert len(set(hashes.tolist())) == len(words)
    assert find_words(["𝟘𝟘𝟘𝟘𝟘𝟘𝟘𝟘𝟘"]).hashes[0] == find_words(["000000000"]).hashes[0], "as what they count"


@pytest.mark.slow
def test_many_different_words_do_not_collide() -> None:
    texts = [" ".join(f"w{i:x}" for i in range(start, start + 50_000)) for start in range(0, 400_000, 50_000)]
    hashes = np.concatenate([find_words(batch).hashes for batch in batches(texts, 1000)])
    assert len(np.unique(hashes)) == len(hashes) == 400_000
    low = np.unique(hashes & np.uint64(0xFFFFFFFF))
    assert len(low) > 400_000 - 60, "the low half is as random as the whole: 19 collisions are expected"


def test_batches_keep_order_and_size() -> None:
    assert list(batches(["aa", "b", "ccc", "", "d"], 3)) == [["aa", "b"], ["ccc"], ["", "d"]]
    assert list(batches([])) == []


def test_composed_letters_are_the_same_words_as_their_parts() -> None:
    made_of = (chr(code) for code in range(0x80, 0x30000) if unicodedata.decomposition(chr(code)))
    letters = [letter for letter in made_of if regex.match(r"[\p{L}\p{N}\p{M}]", letter)]
    for form in ("NFD", "NFKD"):
        apart = [unicodedata.normalize(form, letter) for letter in letters]
        known = [
            n
            for n, (one, other) in enumerate(zip(letters, apart, strict=True))
            if not regex.match(r"[\uac00-\ud7a3\p{Tibetan}\p{Myanmar}\p{Thai}\p{Lao}]", one)
            and regex.fullmatch(r"[\p{L}\p{N}\p{M}]*", other)
            and len(WORD.findall(f"x{one}z")) == len(WORD.findall(f"x{other}z"))  # a circled 一 is no word by itself
        ]
        assert len(known) > 3000
        ours, theirs = (find_words([f"x{texts_[n]}z" for n in known]) for texts_ in (letters, apart))
        assert np.array_equal(ours.hashes, theirs.hashes) and np.array_equal(ours.offsets, theirs.offsets)
    assert find_words(["e\u0301 ﬁne Ǆ"]).hashes.tolist() == find_words(["É FINE dž"]).hashes.tolist()


def test_a_word_with_very_many_accents_takes_no_longer() -> None:
    text = "x" + "\u0301" * 1_000_000 + "y z"
    found = find_words([text])
    assert found.hashes.tolist() == find_words(["xy z"]).hashes.tolist()
    assert (found.starts.tolist(), found.ends.tolist()) == ([0, 1_000_003], [1_000_002, 1_000_004])
