import json
import random
from collections import Counter
from itertools import pairwise

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as HfTokenizer

from tilth.tokenizer import TokenizerConfig, pretokens, train_tokenizer
from tilth.tokenizer.bpe_train import Merges, byte_tokens, learn_merges
from tilth.tokenizer.hf_format import spell
from tilth.tokenizer.patterns import PATTERNS, PatternName
from tilth.tokenizer.pretokens import count_pretokens

EVERYTHING = 1 << 40


def learn(texts: list[str], pattern: PatternName, size: int) -> Merges:
    return learn_merges(count_pretokens(texts, pattern, EVERYTHING).counts, size)


def spelled_pairs(merges: Merges) -> list[tuple[str, str]]:
    return [(spell(merges.tokens[left]), spell(merges.tokens[right])) for left, right in merges.pairs]


def merges_of_hugging_face(texts: list[str], pattern: PatternName, size: int) -> list[tuple[str, str]]:
    tokenizer = HfTokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERNS[pattern]), "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, letters])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def merges_by_definition(texts: list[str], pattern: PatternName, size: int) -> list[tuple[int, int]]:
    """Counts all pairs anew for every merge: slow, and as the algorithm is told."""
    id_of = {token[0]: place for place, token in enumerate(byte_tokens())}
    counts = Counter(word for text in texts for word in regex.findall(PATTERNS[pattern], text))
    words = [([id_of[byte] for byte in word.encode()], count) for word, count in counts.items()]
    merges: list[tuple[int, int]] = []
    while 256 + len(merges) < size:
        pairs: Counter[tuple[int, int]] = Counter()
        for word, count in words:
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs or max(pairs.values()) < 2:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        words = [(replaced(word, best, 256 + len(merges)), count) for word, count in words]
        merges.append(best)
    return merges


def replaced(word: list[int], pair: tuple[int, int], token: int) -> list[int]:
    result, place = [], 0
    while place < len(word):
        hit = tuple(word[place : place + 2]) == pair
        result.append(token if hit else word[place])
        place += 2 if hit else 1
    return result


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_merges_are_those_of_hugging_face(corpus: list[str], pattern: PatternName) -> None:
    ours = spelled_pairs(learn(corpus, pattern, 4000))
    assert len(ours) == 4000 - 256
    assert ours == merges_of_hugging_face(corpus, pattern, 4000)


@given(st.lists(st.text("aab é\n'", max_size=40), max_size=8), st.integers(256, 330))
def test_merges_are_those_of_the_definition(texts: list[str], size: int) -> None:
    assert learn(texts, "gpt4", size).pairs == merges_by_definition(texts, "gpt4", size)


@given(st.lists(st.sampled_from(["a" * n for n in range(1, 20)]), max_size=6))
def test_overlapping_pairs_are_merged_as_one_reads(words: list[str]) -> None:
    text = " ".join(words)
    assert learn([text], "gpt2", 270).pairs == merges_by_definition([text], "gpt2", 270)


def test_the_bytes_come_first_in_the_order_of_gpt2() -> None:
    tokens = b"".join(byte_tokens())
    assert tokens[:94] == bytes(range(0x21, 0x7F))
    assert [spell(token) for token in byte_tokens()] == sorted(pre_tokenizers.ByteLevel.alphabet())


@pytest.mark.slow
def test_the_order_of_texts_does_not_matter(corpus: list[str]) -> None:
    config = TokenizerConfig(vocab_size=700)
    shuffled = random.Random(1).sample(corpus, len(corpus))
    assert train_tokenizer(config, shuffled).fingerprint == train_tokenizer(config, corpus).fingerprint


def test_the_number_of_processes_does_not_matter(corpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretokens, "_BLOCK", 50_000)  # many blocks
    assert count_pretokens(corpus, "gpt4", 900_000, 2) == count_pretokens(corpus, "gpt4", 900_000)


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_long_texts_are_cut_where_the_pattern_cuts(
    corpus: list[str], pattern: PatternName, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(corpus)[:200_000]
    whole = count_pretokens([text], pattern, EVERYTHING)
    assert whole.counts == Counter(piece.encode() for piece in regex.findall(PATTERNS[pattern], text))
    monkeypatch.setattr(pretokens, "_BLOCK", 30)
    assert count_pretokens([text], pattern, EVERYTHING) == whole


def test_reading_stops_at_the_limit_and_says_so() -> None:
    read = count_pretokens(["abc ", "éé", "x"], "gpt4", 7)
    assert (read.texts, read.bytes_read, read.stopped_at_limit) == (2, 7, 1)
    assert read.counts == {b"abc": 1, b" ": 1, "é".encode(): 1}  # the half character is left out
    assert count_pretokens(["abc ", "éé"], "gpt4", 7).stopped_at_limit == 1
    assert count_pretokens(["abc ", "éé"], "gpt4", 8).stopped_at_limit == 0
    assert count_pretokens(["abc ", "éé", "x"], "gpt4", 8).stopped_at_limit == 1


def test_what_is_not_learned_from_is_counted() -> None:
    tokenizer = train_tokenizer(TokenizerConfig(), ["x" * 5000, "ab\ud800\udc00ab", "1 " * 2])
    assert tokenizer.training["long_pretokens"] == 1 and tokenizer.training["long_bytes"] == 5000
    assert tokenizer.training["surrogates"] == 2
    assert tokenizer.token_bytes(256) in (b"ab", b"1 ", b" 1")
    assert b"xx" not in [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]


def test_too_little_text_gives_fewer_entries() -> None:
    assert train_tokenizer(TokenizerConfig(), []).vocab_size == 257
    assert train_tokenizer(TokenizerConfig(), ["abcd"]).vocab_size == 257  # nothing occurs twice
    assert train_tokenizer(TokenizerConfig(), ["abab"]).vocab_size == 258


def test_counts_beyond_32_bits_do_not_overflow() -> None:
    huge = 1 << 40
    merges = learn_merges({b"ab": huge, b"cd": huge + 1, b"ef": 3}, 258)
    assert merges.tokens[256:] == [b"cd", b"ab"]
