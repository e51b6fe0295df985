"""Spelling: slips that are put right, what is left alone, and how often it is right, on typos made for the purpose."""

from __future__ import annotations

import ast
import random
import re
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.stages.helpers import check_the_contract, cleaned, grows_linearly, run, said, stage
from tilth.core.config import parse
from tilth.core.errors import RecipeError
from tilth.data.stages.spelling import _ALONE, _NEAR, SPELLING_STAGES, SpellingOptions

pytestmark = pytest.mark.slow

pytest.importorskip("symspellpy")
PROSE = "Plain words stand around it so that most of them are known, as in any text that people write. "


@cache
def made(**options: Any) -> Any:
    return stage(SPELLING_STAGES, "spelling", options)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("recieve", "receive"),  # changed places
        ("hte quick thier", "hte quick their"),  # short words stay
        ("seperate", "separate"),  # a vowel for a vowel
        ("differenr", "differenr"),  # the last letter: it might be another form
        ("govermment", "government"),  # the key beside it
        ("comittee", "committee"),  # one of two
        ("acccount", "account"),  # one too many
        ("langage", "language"),  # one missing
    ],
)
def test_slips_are_put_right(wrong: str, right: str) -> None:
    assert cleaned(made(), PROSE + wrong) == PROSE + right
    assert said(made(), PROSE + wrong) == ([("spelling", "changed", "1")] if wrong != right else [])


@pytest.mark.parametrize(
    "text",
    [
        "Recieve RECIEVE reCieve",  # names and mixed words
        "recieve2 rec1eve _recieve recieve_all recieve() recieve.py os.recieve self.recieve",
        "https://example.org/recieve?recieve=1 /usr/recieve recieve@example.org -recieve- --recieve C:\\recieve",
        "`recieve` and `we recieve it`\n    recieve\n\trecieve = 1\n```\nrecieve\n```\n~~~ py\nrecieve",
        "recieve and recieve",  # a term
        "colour color favourite favorite analyse analyze humor centre theaters offense couldn doesn",
        "bytecode nonzero hashable subclassing whitespace",
        "iterable namespace tokenizer quantiles gzipped umask mtime accessor mixin",
        "zzyzx qwertyuiop",
    ],
)
def test_what_may_be_right_stays(text: str) -> None:
    assert said(made(), PROSE + text) == []


def test_other_languages_stay() -> None:
    french = "Le gouvernment a recieve les ministres pendant la semaine derniere et leur reponse etait attendue."
    assert said(made(), french) == []
    assert said(made(most_unknown=1.0), french) != []


def test_options_act() -> None:
    assert cleaned(made(min_letters=4), PROSE + "wrok") == PROSE + "work"
    assert said(stage(SPELLING_STAGES, "spelling", {"words": ["Recieve"]}), PROSE + "recieve") == []
    assert said(made(ratio=1e9), PROSE + "comming") == []


@pytest.mark.slow  # the larger index takes seconds
def test_two_slips_in_a_word_are_put_right_when_asked_for() -> None:
    assert cleaned(made(edit_distance=2), PROSE + "goverrmment") == PROSE + "government"
    assert said(made(), PROSE + "goverrmment") == []


def test_a_word_list_becomes_part_of_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("recieve\nteh\n\nrecieve\n", encoding="utf-8")
    options = parse(SpellingOptions, {"words": str(path)})
    path.unlink()
    assert options.words == ["recieve", "teh"]
    assert parse(SpellingOptions, options.model_dump(mode="json")) == options


def test_a_word_list_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"na\xefve")
    for path in (tmp_path / "none", tmp_path / "latin", tmp_path, "a\0b"):
        with pytest.raises(RecipeError, match="cannot read the word list") as caught:
            parse(SpellingOptions, {"words": str(path)})
        assert "words" in caught.value.message and "one word a line" in caught.value.remedy


def test_without_the_library_the_recipe_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilth.data.stages.optional.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="`spelling` needs symspellpy") as caught:
        stage(SPELLING_STAGES, "spelling")
    assert "pip install 'tilth[spelling]'" in caught.value.remedy


def typo(draw: random.Random, word: str) -> str:
    """One slip: a key beside, two letters changed, one twice, one left out."""
    kind, place = draw.randrange(4), draw.randrange(len(word) - 1)
    if kind == 0:
        return word[:place] + draw.choice(_NEAR[word[place]]) + word[place + 1 :]
    if kind == 1:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[: place + 1] + word[place:] if kind == 2 else word[:place] + word[place + 1 :]


def docstrings() -> list[str]:
    texts = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[::2]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = [n for n in ast.walk(tree) if isinstance(n, (ast.Module, ast.FunctionDef, ast.ClassDef))]
        texts.append("\n\n".join(filter(None, map(ast.get_docstring, nodes))))
    return [text for text in texts if len(text) > 300]


def test_it_is_right_far_more_often_than_wrong() -> None:
    draw, right, wrong, made_wrong = random.Random(1), 0, 0, 0
    for text in docstrings():

        def slip(match: re.Match[str]) -> str:
            return typo(draw, match[0]) if len(match[0]) > 3 and draw.random() < 0.02 else match[0]

        broken = _ALONE.sub(slip, text)
        mended = cleaned(made(), broken)
        assert mended is not None
        for before, between, after in zip(*(re.findall(r"\w+|\W", t) for t in (text, broken, mended)), strict=True):
            made_wrong += before != between
            right += between != after and after == before
            wrong += between != after and after != before
    assert made_wrong > 300
    assert right / (right + wrong) > 0.97, (right, wrong)
    assert right / made_wrong > 0.35, (right, made_wrong)


@given(
    st.lists(
        st.lists(st.sampled_from([PROSE, "recieve ", "thier\n", "`recieve`", "    comittee\n", "x ", "```\n"])).map(
            "".join
        ),
        max_size=3,
    )
)
def test_spelling_holds_to_the_contract(texts: list[str]) -> None:
    check_the_contract(made(), texts)


def test_long_lines_take_linear_time() -> None:
    for unit in ("a", "a ", "`", "` ", "recieve ", "    \n", "```\n", "recieve("):
        assert grows_linearly(made(), PROSE * 3 + unit, 100_000), unit
    run(made(), ["a" * 10_000_000, "a" * 10_000_000 + "("])
