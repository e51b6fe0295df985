"""Items in documents: arrays against the rule written out over words and sets; recall, also of broken detectors."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.planted import words_of
from tilth.data import words
from tilth.data.duplicates.runs import merged
from tilth.data.leaks import decontaminate, readings
from tilth.data.leaks.decontaminate import (
    GAP,
    OWNERS,
    DecontaminateConfig,
    Grams,
    Hits,
    Index,
    capped,
    empty_filter,
    evidence,
    fill_filter,
    gram_widths,
    item_grams,
    needed,
    passages,
)
from tilth.data.leaks.planting import HOST_WORDS, LONGEST, PLANTED, Item, excerpt, has_words, measure
from tilth.data.tasks.leaks import Detector

words.find_words([""])  # the tables are made at the first call, which would miss hypothesis' deadline


def index_of(items: Sequence[str], ngram: int, shortest: int, run: int = 3) -> Index:
    """An index merged of runs of a few items each."""
    runs, sizes, widths = [], [], []
    for start in range(0, len(items), run):
        grams, *measures = item_grams(items[start : start + run], start, ngram, shortest)
        runs.append(grams)
        sizes.append(measures[0])
        widths.append(measures[1])
    firsts = np.zeros(len(runs), np.int64)
    pieces = merged([grams.hashes for grams in runs], [[grams.owners] for grams in runs], 5)
    kept = [capped(piece, firsts) for piece in pieces]
    whole = Grams(*(np.concatenate([piece[n] for piece in kept]) for n in (0, 1)))
    assert (np.diff(whole.hashes.astype(object)) >= 0).all(), "sorted"
    bits = empty_filter(len(whole.hashes))
    fill_filter(bits, whole.hashes)
    return Index(whole, bits, np.concatenate(sizes), np.concatenate(widths))


def width_of(size: int, ngram: int, shortest: int) -> int:
    if size < shortest:
        return 0
    return ngram if size >= 4 * ngram else min(ngram, shortest)


def cover(words_: Sequence[str], allowed: set[tuple[str, ...]], width: int, gap: int) -> list[tuple[int, int, int]]:
    """Passages of a document that n-grams out of `allowed` make: (first word, last word, words covered)."""
    places = [p for p in range(len(words_) - width + 1) if tuple(words_[p : p + width]) in allowed]
    found: list[list[int]] = []
    for place in places:
        if found and place - found[-1][-1] <= gap:
            found[-1].append(place)
        else:
            found.append([place])
    result = []
    for run in found:
        seen: set[tuple[str, ...]] = set()
        covered: set[int] = set()
        for place in run:
            gram = tuple(words_[place : place + width])
            if gram not in seen:
                seen.add(gram)
                covered |= set(range(place, place + width))
        result.append((run[0], run[-1] + width - 1, len(covered)))
    return result


def by_hand(
    items: Sequence[str], texts: Sequence[str], ngram: int, shortest: int, share: float, most: int, gap: int
) -> list[tuple[int, int, int, int]]:
    """(row, item, first word, last word) by the rule as it is written."""
    found = []
    for row, text in enumerate(texts):
        for number, item in enumerate(items):
            own = item.split()
            width = width_of(len(own), ngram, shortest)
            if not width:
                continue
            allowed = {tuple(own[p : p + width]) for p in range(len(own) - width + 1)}
            size = sum(covered for *_, covered in cover(own, allowed, width, len(own)))
            least = size if size < 2 * shortest else min(-(-size * share // 1), most)
            found += [
                (row, number, first, last)
                for first, last, covered in cover(text.split(), allowed, width, gap)
                if min(covered, size) >= least
            ]
    return found


vocabulary = st.sampled_from(list("abcdefgh"))
texts = st.lists(st.lists(vocabulary, max_size=25).map(" ".join), max_size=4)
items = st.lists(st.lists(vocabulary, max_size=14).map(" ".join), min_size=1, max_size=6)


@given(items, texts, st.integers(1, 4), st.integers(1, 4), st.sampled_from([0.25, 0.5, 1.0]), st.sampled_from([3, 99]))
def test_items_are_found_where_the_rule_says(
    given_items: list[str], given_texts: list[str], ngram: int, shortest: int, share: float, most: int
) -> None:
    gap = 5
    index = index_of(given_items, ngram, shortest)
    least = needed(index.sizes, share, most, shortest)
    found = passages(index.find(given_texts), index, least, gap)
    rows = [
        (row, item, len(given_texts[row][:start].split()), len(given_texts[row][:end].split()) - 1)
        for row, item, start, end in zip(
            found.rows.tolist(), found.items.tolist(), found.starts.tolist(), found.ends.tolist(), strict=True
        )
    ]
    assert rows == by_hand(given_items, given_texts, ngram, shortest, share, most, gap)


@given(items, texts, st.integers(1, 40))
def test_pieces_of_hits_give_what_all_together_give(
    given_items: list[str], given_texts: list[str], at_once: int
) -> None:
    index = index_of(given_items, 2, 2)
    hits, least = index.find(given_texts), needed(index.sizes, 0.5, 50, 2)
    whole = passages(hits, index, least, 5)
    before, decontaminate._HITS_AT_ONCE = decontaminate._HITS_AT_ONCE, at_once
    try:
        cut = passages(hits, index, least, 5)
    finally:
        decontaminate._HITS_AT_ONCE = before
    assert all((a == b).all() for a, b in zip(whole, cut, strict=True))


def test_the_widths_of_items() -> None:
    sizes = np.arange(120)
    assert gram_widths(sizes, 13, 8).tolist() == [width_of(size, 13, 8) for size in sizes.tolist()]


def test_case_punctuation_and_lines_do_not_count() -> None:
    item = "The quick brown fox jumps over the lazy dog, and nobody was surprised."
    index = index_of([item], 13, 8)
    detector = Detector(index, DecontaminateConfig())
    same = ["x y THE QUICK -- brown\n\n  fox jumps; over 'the' lazy dog\nand nobody was surprised, z"]
    assert detector.flags(same) == [True]
    [start], [end] = detector.find(same).starts.tolist(), detector.find(same).ends.tolist()
    assert same[0][start:end].startswith("THE QUICK") and same[0][start:end].endswith("surprised")
    assert detector.flags(["The quick brown fox jumps.", "nobody was surprised by the lazy dog"]) == [False, False]


def test_a_word_replaced_in_the_midst_hides_no_item_of_sixteen_words() -> None:
    draw = random.Random(1)
    items = [words_of(draw, size) for size in range(16, 60)]
    detector = Detector(index_of([" ".join(item) for item in items], 13, 8), DecontaminateConfig())
    for number, item in enumerate(items):
        texts = [" ".join([*item[:n], "other", *item[n + 1 :]]) for n in range(len(item))]
        assert detector.flags(texts) == [True] * len(texts), number


def test_long_items_are_found_by_fifty_of_their_words() -> None:
    item = words_of(random.Random(2), 5000)
    detector = Detector(index_of([" ".join(item)], 13, 8), DecontaminateConfig())
    around = words_of(random.Random(3), 300)
    held = [" ".join([*around, *item[n : n + size], *around]) for n in (0, 777, 4950) for size in (50,)]
    assert detector.flags(held) == [True] * 3
    assert detector.flags([" ".join([*around, *item[100:149], *around])]) == [False]
    apart = [*item[100:130], *words_of(random.Random(4), GAP), *item[130:150]]
    assert detector.flags([" ".join(apart)]) == [True]
    farther = [*item[100:130], *words_of(random.Random(4), GAP + 20), *item[130:150]]
    assert detector.flags([" ".join(farther)]) == [False]


def test_what_an_item_says_again_and_again_covers_its_words_once() -> None:
    chorus = "row row row your boat gently down the stream and dream of all that rhymes"
    item = f"{chorus} {' '.join(words_of(random.Random(5), 60))}"
    detector = Detector(index_of([item], 13, 8), DecontaminateConfig())
    assert detector.flags([" ".join([chorus] * 9)]) == [False]
    assert detector.flags([item]) == [True]


def test_an_item_that_repeats_itself_is_found() -> None:
    item = " ".join(["never"] * 70)
    assert Detector(index_of([item], 13, 8), DecontaminateConfig()).flags([f"he said {item} again"]) == [True]


def test_an_ngram_of_many_items_is_counted_for_the_first_of_them() -> None:
    question = " ".join(words_of(random.Random(6), 30))
    items = [f"{question} {number}" for number in range(100)]
    index = index_of(items, 13, 8)
    counts = np.unique(index.grams.hashes, return_counts=True)[1]
    assert counts.max() == OWNERS
    assert Detector(index, DecontaminateConfig()).find([question]).items.tolist() == list(range(OWNERS))


hit = st.tuples(st.integers(0, 2), st.integers(0, 12), st.sampled_from([2, 3, 5]), st.integers(0, 5))


@given(st.lists(hit, max_size=12, unique_by=lambda one: one[:3]), st.sets(st.integers(0, 5)))
def test_evidence_is_what_common_ngrams_leave(given_hits: list[tuple[int, int, int, int]], common: set[int]) -> None:
    rows, places, widths, grams = (
        (np.array(column, np.int64) for column in zip(*given_hits, strict=True))
        if (given_hits)
        else [np.empty(0, np.int64)] * 4
    )
    shared = {(r, w) for r, p, width, g in given_hits if g in common for w in range(p, p + width)}
    left = [
        one
        for one in given_hits
        if one[3] not in common and 2 * sum((one[0], w) in shared for w in range(one[1], one[1] + one[2])) <= one[2]
    ]
    hits = Hits(rows, places, widths, places, places, grams, places, places)
    found = evidence(hits, np.array(sorted(common), np.int64))
    assert list(zip(*(found[n].tolist() for n in (0, 1, 2, 5)), strict=True)) == left


def test_common_ngrams_are_no_evidence() -> None:
    item = " ".join(words_of(random.Random(7), 60))
    index = index_of([item], 13, 8)
    every = np.unique(index.find([item]).grams)
    assert Detector(index, DecontaminateConfig(), every).flags([item]) == [False]
    first = np.sort(index.find([item]).grams[:5])
    assert Detector(index, DecontaminateConfig(), first).flags([item]) == [True]


def test_the_filter_turns_nothing_away_that_is_there() -> None:
    hashes = words.mix(np.arange(50_000, dtype=np.uint64))
    bits = empty_filter(len(hashes))
    fill_filter(bits, np.sort(hashes))
    shift = np.uint64(64 - (len(bits) * 8 - 1).bit_length())

    def passes(values: words.U64) -> words.U64:
        slots = values >> shift
        return (bits[slots >> np.uint64(3)] >> (slots & np.uint64(7)).astype(np.uint8)) & 1  # type: ignore[no-any-return]

    assert passes(hashes).all()
    assert passes(words.mix(np.arange(10**6, 2 * 10**6, dtype=np.uint64))).mean() < 1 / 15
    assert len(bits) <= 4 * len(hashes)


@given(st.lists(st.lists(st.integers(0, 2**64 - 1)), min_size=1, max_size=5), st.integers(1, 9))
def test_merged_runs_are_sorted_and_whole(runs: list[list[int]], at_once: int) -> None:
    keys = [np.array(sorted(run), np.uint64) for run in runs]
    columns = [[np.arange(len(run))] for run in runs]
    rows = [
        (key, run, place)
        for piece in merged(keys, columns, at_once)
        for key, run, place in zip(piece.keys.tolist(), piece.runs.tolist(), piece.columns[0].tolist(), strict=True)
    ]
    expected = sorted((key, n, place) for n, run in enumerate(runs) for place, key in enumerate(sorted(run)))
    assert rows == expected


def prose(seed: int, count: int) -> str:
    """Sentences of made-up words, in lines."""
    draw = random.Random(seed)
    made = words_of(draw, count)
    ends = [". " if n % 9 == 8 else ",\n" if n % 7 == 6 else " " for n in range(count)]
    return "".join(
        word.capitalize() * (n % 9 == 0) + word * (n % 9 != 0) + end
        for n, (word, end) in enumerate(zip(made, ends, strict=True))
    )


ITEMS = [Item(f"{n:032x}", prose(n, 20 + 4 * n)) for n in range(60)]
HOSTS = [prose(1000 + n, 300) for n in range(40)]


@pytest.mark.slow
def test_planted_items_are_found() -> None:
    detector = Detector(index_of([item.text for item in ITEMS], 13, 8), DecontaminateConfig())
    found = measure(detector.flags, ITEMS, HOSTS)
    assert found["caught"] == {
        **{kind: [60, 60] for kind in PLANTED},
        "one_word_in_20": found["caught"]["one_word_in_20"],
    }
    assert found["caught"]["one_word_in_20"][1] >= 57
    assert found["false_alarms"] == {"unplanted": [40, 0], "shuffled": [60, 0]}
    assert measure(detector.flags, ITEMS, HOSTS) == found, "nothing is drawn but from the items"
    real = measure(detector.flags, ITEMS, [*HOSTS, f"{HOSTS[0]} {ITEMS[5].text}"])
    assert real["false_alarms"]["unplanted"] == [41, 1]


@pytest.mark.slow
def test_scripts_without_spaces_are_shuffled_and_planted_into_like_others() -> None:
    draw = random.Random(5)
    letters = [chr(code) for code in range(0x4E00, 0x4E00 + 1500)]

    def chinese(count: int) -> str:
        return "".join(draw.choices(letters, k=count))

    items = [Item(f"{n:032x}", chinese(60)) for n in range(15)]
    hosts = [chinese(300) for _ in range(20)]
    assert all(has_words(host, HOST_WORDS) for host in hosts) and not has_words(chinese(HOST_WORDS - 1), HOST_WORDS)
    detector = Detector(index_of([item.text for item in items], 13, 8), DecontaminateConfig())
    found = measure(detector.flags, items, hosts)
    assert found["caught"]["verbatim"] == [15, 15]
    assert found["false_alarms"] == {"unplanted": [20, 0], "shuffled": [15, 0]}


def test_an_item_of_few_words_is_not_looked_for_in_another_order() -> None:
    seen: list[str] = []

    def find(texts: Sequence[str]) -> list[bool]:
        seen.extend(texts)
        return [False] * len(texts)

    items = [Item("0" * 32, "One, two! " * 30), Item("1" * 32, "A b c; d (e) f g h.")]
    assert measure(find, items, ["a host"])["false_alarms"]["shuffled"] == [1, 0]
    shuffled = seen[-1].replace("a host", "").strip()
    assert sorted(shuffled) == sorted(items[1].text) and shuffled != items[1].text
    assert re.sub(r"\w", "x", shuffled) == "x x x; x (x) x x x.", "what stands between words stays"


@pytest.mark.slow
def test_a_detector_that_is_broken_catches_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes that tell capitals from small letters, and words that end at spaces alone: each shows in its own kind."""

    def caught(find_words: object) -> dict[str, float]:
        monkeypatch.setattr(words, "find_words", find_words)
        detector = Detector(index_of([item.text for item in ITEMS], 13, 8), DecontaminateConfig())
        found = measure(detector.flags, ITEMS, HOSTS)["caught"]
        return {kind: n / of for kind, (of, n) in found.items()}

    whole = words.find_words

    def unfolded(given_texts: Sequence[str]) -> words.Words:
        found = whole(given_texts)
        joined = [text[a:b] for text, a, b in spans(given_texts, found)]
        return found._replace(hashes=np.array([hash_of(word) for word in joined], np.uint64))

    def by_spaces(given_texts: Sequence[str]) -> words.Words:
        tokens = [[(m.start(), m.end(), m.group().lower()) for m in SPACED.finditer(t)] for t in given_texts]
        flat = [token for own in tokens for token in own]
        offsets = np.concatenate([[0], np.cumsum([len(own) for own in tokens])]).astype(np.int64)
        starts, ends = (np.array([token[n] for token in flat], np.int64) for n in (0, 1))
        return words.Words(np.array([hash_of(token[2]) for token in flat], np.uint64), offsets, starts, ends)

    assert caught(unfolded)["case"] < 0.2 and caught(unfolded)["verbatim"] == 1
    assert caught(by_spaces)["punctuation"] < 0.2 and caught(by_spaces)["case"] == 1
    assert caught(whole)["case"] == caught(whole)["punctuation"] == caught(whole)["typeset"] == 1
    monkeypatch.setattr(readings, "read", as_it_is)
    assert caught(whole)["typeset"] < 0.2 and caught(whole)["verbatim"] == 1


def as_it_is(texts: Sequence[str]) -> readings.Readings:
    same = np.arange(len(texts))
    return readings.Readings(list(texts), same, len(texts), same, {})


def spans(given_texts: Sequence[str], found: words.Words) -> list[tuple[str, int, int]]:
    owners = np.repeat(np.arange(len(given_texts)), np.diff(found.offsets)).tolist()
    return [(given_texts[n], a, b) for n, a, b in zip(owners, found.starts.tolist(), found.ends.tolist(), strict=True)]


def hash_of(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


SPACED = re.compile(r"\S+")


def test_a_long_item_is_planted_in_part() -> None:
    text = prose(9, 3000)
    part = excerpt("00", text)
    assert part in text and len(part.split()) == LONGEST
    assert excerpt("00", part) == part and excerpt("01", text) != part
    assert excerpt("00", ITEMS[3].text) == ITEMS[3].text


def test_options_and_sources_are_read() -> None:
    config = DecontaminateConfig.model_validate({"against": ["a.jsonl", {"path": "b.jsonl", "field": "question"}]})
    assert [source.path for source in config.against] == ["a.jsonl", "b.jsonl"]
    assert config.against[1].field == "question"
