"""Quality filters beside datatrove's, document by document, on several hundred documents of many kinds.

With tilth's tokens given to datatrove, every verdict, the rule of it and all that is left of a text must be the same:
that is the rules. With its own (spaCy's), nearly all are: that is the tokens (decision 16).
"""

from __future__ import annotations

import ast
import random
import re
import sysconfig
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from datatrove.data import Document as Page
from datatrove.pipeline import filters as peer
from datatrove.pipeline.filters.gopher_repetition_filter import (
    find_all_duplicate,
    find_duplicates,
    find_top_duplicate,
    get_n_grams,
)
from datatrove.utils.word_tokenizers import SpaCyTokenizer

from tilth.data.document import Document
from tilth.data.stages.english_tokens import find_tokens
from tilth.data.stages.filters import FILTER_STAGES

pytestmark = pytest.mark.slow

PEERS: dict[str, Any] = {
    "gopher_quality": peer.GopherQualityFilter,
    "gopher_repetition": peer.GopherRepetitionFilter,
    "c4": peer.C4QualityFilter,
    "fineweb": peer.FineWebQualityFilter,
}
NAMES = {
    "gopher_short_doc": "too_few_words",
    "gopher_long_doc": "too_many_words",
    "gopher_below_avg_threshold": "words_too_short",
    "gopher_above_avg_threshold": "words_too_long",
    "gopher_too_many_hashes": "too_many_hashes",
    "gopher_too_many_ellipsis": "too_many_ellipses",
    "gopher_too_many_bullets": "too_many_bullets",
    "gopher_too_many_end_ellipsis": "too_many_ellipsis_lines",
    "gopher_below_alpha_threshold": "too_few_alphabetic_words",
    "gopher_enough_stop_words": "too_few_stop_words",
    "dup_para_frac": "duplicate_paragraphs",
    "dup_para_char_frac": "duplicate_paragraph_characters",
    "dup_line_frac": "duplicate_lines",
    "dup_line_char_frac": "duplicate_line_characters",
    **{f"top_{n}_gram": f"top_{n}_gram" for n in (2, 3, 4)},
    **{f"duplicated_{n}_n_grams": f"duplicate_{n}_grams" for n in range(5, 11)},
    "too_few_sentences": "few_sentences",
    "lorem_ipsum": "lorem_ipsum",
    "curly_bracket": "curly_bracket",
    "empty": "no_text",
    "line_punct_ratio": "few_ended_lines",
    "short_line_ratio": "short_lines",
    "char_dup_ratio": "duplicate_characters",
    "list_ratio": "new_lines",
}
FOREIGN = (
    "Der Boden ist locker und gut für die Saat. Wer ihn pflegt, erntet im Herbst. Das wissen alle, die hier wohnen. ",
    "La tierra está lista para la siembra. Quien la cuida, cosecha en otoño. ¿No es verdad? ¡Claro que sí! ",
    "土壤松软,适合播种。照顾它的人秋天会有收成。大家都知道这一点。",
    "Почва рыхлая и готова к посеву. Кто за ней ухаживает, осенью соберёт урожай. ",
)


@cache
def corpus() -> tuple[str, ...]:
    """Documentation, docstrings, sources, and pages that are put together to break rules, or nearly."""
    r = random.Random(7)
    doc = [topics[name] for name in sorted(topics)]
    sources = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[::2]:
        source = path.read_text("utf-8")
        doc += [
            d for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and (d := ast.get_docstring(node))
        ]
        sources.append(source[: r.randint(300, 6000)])
    prose = [" ".join(part.split()) for text in doc for part in text.split("\n\n")]
    prose = [part for part in prose if len(part) > 100 and part.endswith(".") and '"' not in part]
    spam = "buy cheap pills now free offer click here the to of and best".split()  # noqa: SIM905
    pages = ["\n\n".join(r.sample(prose, r.randint(2, 9))) for _ in range(120)]
    pages += ["\n".join(_repeating(r, prose)) for _ in range(120)]
    pages += [_spam(r, spam) for _ in range(60)]
    pages += ["\n".join(r.choice(("- ", "• ", "")) + r.choice(prose)[:60] for _ in range(20)) for _ in range(20)]
    pages += ["\n".join("- " + line[:80] for line in r.sample(prose, 12)) for _ in range(5)]
    pages += [" ".join(r.choices([*spam, "#", "antidisestablishment"], (1,) * 13 + (k, 5 - k), k=80)) for k in range(6)]
    pages += [" ".join(r.choices([*spam, "supercalifragilistic"], (1,) * 13 + (k,), k=80)) for k in range(0, 30, 2)]
    pages += [r.choice(prose)[:n] + r.choice((".", "", "...")) for n in range(60, 600, 12)]
    pages += [text * n for text in FOREIGN for n in (1, 3, 30)]
    pages += ["", " \n", "word", "\n\nword\n", "one\rtwo\x85three\u2028four.", "Lorem ipsum is here. " * 9]
    return (*doc[::3], *sources[::2], *pages)


def _repeating(r: random.Random, prose: Sequence[str]) -> list[str]:
    """Lines of which some come again, some cut short, some with what C4 does not like."""
    lines = r.sample(prose, r.randint(3, 8))
    lines += r.choices(lines, k=r.randint(0, 2))
    lines += [line[: r.randint(5, 200)] for line in r.choices(lines, k=r.randint(0, 4))]
    odd = [
        "Enable JavaScript to see this page.",
        "See our privacy policy for more.",
        "It is so.[1][edit] [2]",
        "if (a) { b; }.",
    ]
    lines += r.choices([*odd, "Read more...", "", "  ", "Home"], k=r.randint(0, 4))
    r.shuffle(lines)
    return lines


def _spam(r: random.Random, words: Sequence[str]) -> str:
    lines = (" ".join(r.choices(words, k=r.randint(2, 12))) for _ in range(r.randint(3, 40)))
    return "\n".join(line + r.choice(("", "!", "...", ".", " #")) for line in lines)


class OwnTokens(SpaCyTokenizer):
    """tilth's tokens for datatrove; sentences stay spaCy's."""

    def word_tokenize(self, text: str) -> list[str]:
        found = find_tokens([text])
        return [text[start:end] for start, end in zip(found.starts.tolist(), found.ends.tolist(), strict=True)]


Said = tuple[str, str]
"""The rule that dropped a document, or nothing, and what is left of its text."""


def theirs(stage: str, texts: Sequence[str], language: Any) -> list[Said]:
    step, said = PEERS[stage](language=language), list[Said]()
    for text in texts:
        page = Page(text=text, id="")
        verdict = step.filter(page)
        said.append(("", page.text) if verdict is True else (NAMES[verdict[1]], ""))
    return said


def ours(stage: str, texts: Sequence[str]) -> list[Said]:
    kind = FILTER_STAGES[stage]
    results = kind.run([Document("", text, "", "") for text in texts], kind.options())
    return [("", r.text) if r.text is not None else (r.rule.removeprefix(f"{stage}/"), "") for r in results]


@pytest.mark.parametrize("stage", PEERS)
def test_the_rules_are_the_same_for_every_document(stage: str) -> None:
    texts = [text for text in corpus() if text]  # an empty text is no document for tilth, whatever the stage
    assert len(texts) > 500
    mine, peers = ours(stage, texts), theirs(stage, texts, OwnTokens("en"))
    different = [(a, b, text[:200]) for a, b, text in zip(mine, peers, texts, strict=True) if a != b]
    assert different == []
    rules = {rule for rule, _ in mine}
    assert "" in rules and len(rules) >= {"gopher_quality": 6, "gopher_repetition": 6, "c4": 3, "fineweb": 4}[stage]


def share(rule: str, text: str, words: list[str]) -> float:
    """What datatrove's own functions measure for a rule of `gopher_repetition`."""
    number = int("".join(filter(str.isdigit, rule)) or 0)
    if rule.startswith("top"):
        return find_top_duplicate(get_n_grams(words, number)) / len(text)
    if number:
        return find_all_duplicate(words, number) / len(text)
    pieces = re.split(r"\n{2,}", text.strip()) if "paragraph" in rule else re.split(r"\n+", text)
    again, characters = find_duplicates(pieces)
    return characters / len(text) if rule.endswith("characters") else again / len(pieces)


def test_the_values_of_repetition_are_those_that_they_measure() -> None:
    texts = [text for text in corpus() if text]
    kind, tokens = FILTER_STAGES["gopher_repetition"], OwnTokens("en")
    results = kind.run([Document("", text, "", "") for text in texts], kind.options())
    dropped = [(text, result) for text, result in zip(texts, results, strict=True) if result.text is None]
    assert len(dropped) > 100
    for text, result in dropped:
        expected = share(result.rule.partition("/")[2], text, tokens.word_tokenize(text))
        assert result.value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("stage", PEERS)
def test_their_own_tokens_change_a_verdict_in_a_hundred_at_most(stage: str) -> None:
    texts = [text for text in corpus() if text]
    mine, peers = ours(stage, texts), theirs(stage, texts, "en")
    different = [(a[0], b[0], text[:200]) for a, b, text in zip(mine, peers, texts, strict=True) if a != b]
    print(stage, len(different), "of", len(texts), different)
    assert len(different) <= len(texts) / 100
