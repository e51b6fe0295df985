"""Cleaning: what each stage does, that it does it once, and that it says so."""

from __future__ import annotations

import ast
import html
import sysconfig
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.core.config import Config, fingerprint, parse
from tilth.core.errors import RecipeError
from tilth.data import stages
from tilth.data.document import Document, Outcome
from tilth.data.stages import PRESETS, STAGES, CleanStages, Stage, build_stages

STANDARD = build_stages("standard")

# Characters that the stages act on, so that hypothesis meets them often.
NASTY = st.text(
    st.sampled_from("ab e\u0301\u0327Å\u212b\u2000\u2028\x85\r\n\t\f\v\x00\x1c\x7f\x9f\ufeff\u00a0한\u1100\u1161\ufb01")
)
TEXTS = st.one_of(NASTY, st.text(), st.lists(NASTY, max_size=8).map("\n".join))


class Recipe(Config):
    clean: CleanStages = "standard"


def document(text: str) -> Document:
    return Document("id", text, "source", "place:1")


def clean(document: Document, rules: tuple[Stage, ...]) -> Outcome:
    """No stage here cuts documents up: what is left is one, or none."""
    left, verdicts = stages.clean(document, rules)
    return Outcome(*left or (None,), verdicts)


def cleaned(text: str, value: object = "standard") -> str | None:
    outcome = clean(document(text), build_stages(parse(Recipe, {"clean": value}).clean))
    return outcome.document.text if outcome.document else None


def said(text: str, value: object = "standard") -> list[tuple[str, str, str]]:
    outcome = clean(document(text), build_stages(parse(Recipe, {"clean": value}).clean))
    return [(verdict.rule, verdict.verdict, verdict.value) for verdict in outcome.verdicts]


@pytest.mark.parametrize(
    ("stage", "before", "after", "value"),
    [
        ("newlines", "a\r\nb\rc\u2028e\u2029f\fg\vh\n", "a\nb\nc\ne\nf\ng\nh\n", 6),
        ("controls", "a\x00b\x1bc\x7fd\te\n", "abcd\te\n", 3),
        ("controls", "é\x00b\x9dc\ufeffd\te\n", "ébcd\te\n", 3),
        ("controls", "clear \x96 it isn\x92t\x85\n", "clear – it isn’t…\n", 3),
        ("unicode", "b\u0301\u0327", "b\u0327\u0301", 1),  # the same accents in the order that Unicode gives them
        ("unicode", "ok\ncafe\u0301 \u212b", "ok\ncafé Å", 3),  # e, its accent and the Angstrom sign gave way
        ("trailing_space", "a  \n\tb\u00a0\t\nc ", "a\n\tb\nc", 5),
        ("blank_lines", "a\n\n\nb\n\n\n\n\nc", "a\n\n\nb\n\n\nc", 2),
        ("strip", " \n\n    a = 1\n    b\n\n ", "    a = 1\n    b\n", 5),
    ],
)
def test_stage_changes_and_counts(stage: str, before: str, after: str, value: int) -> None:
    outcome = clean(document(before), build_stages(({stage: {}},)))
    assert outcome.document is not None and outcome.document.text == after
    (verdict,) = outcome.verdicts
    assert (verdict.stage, verdict.rule, verdict.verdict, verdict.value) == ("clean", stage, "changed", str(value))
    assert (verdict.doc_id, verdict.detail) == ("id", "place:1")


def test_clean_text_is_left_alone_and_nothing_is_said() -> None:
    before = document("def f():\n\treturn 1\n\n\nprint('Å')")
    outcome = clean(before, STANDARD)
    assert outcome.document is before
    assert outcome.verdicts == ()


@pytest.mark.parametrize("end", ["\r\n", "\r", "\v", "\f", "\u2028", "\u2029"])
def test_each_line_end_is_seen_on_its_own(end: str) -> None:
    assert cleaned(f"a{end}b", ["newlines"]) == "a\nb"
    assert said(f"a{end}b", ["newlines"]) == [("newlines", "changed", "1")]


@pytest.mark.parametrize("code", range(0x80, 0xA0))
def test_c1_controls_are_what_browsers_take_them_for(code: int) -> None:
    meant = html.unescape(f"&#{code};")  # the table of WHATWG
    assert cleaned(f"a{chr(code)}b", ["newlines", "controls"]) == (f"a{meant}b" if meant != chr(code) else "ab")


def test_source_files_keep_the_letters_that_they_were_written_with() -> None:
    ohm = Document("id", "assert '\u2126'.lower() == '\u03c9'", "source", "lib/test.py", meta={"code": "python"})
    assert clean(ohm, build_stages("standard")).document is ohm
    asked = clean(ohm, build_stages(({"unicode": {"code": True}},))).document
    assert asked is not None and asked.text == unicodedata.normalize("NFC", ohm.text) != ohm.text


def test_a_letter_and_its_accent_meet_when_what_parted_them_is_gone() -> None:
    assert cleaned("enough to keep: e\x00\u0301") == "enough to keep: \u00e9"


def test_none_touches_nothing() -> None:
    assert cleaned("\x00 \r\n", "none") == "\x00 \r\n"


def test_short_document_is_dropped_with_its_length() -> None:
    assert said("a short one \n") == [
        ("trailing_space", "changed", "1"),
        ("min_length", "dropped", "12"),
    ]
    assert cleaned("a short one \n") is None
    assert cleaned("exactly sixteen.") == "exactly sixteen."
    assert cleaned("exactly fifteen") is None


def test_document_of_nothing_is_dropped_by_the_stage_that_emptied_it() -> None:
    assert said("\x00\x01", ["controls"]) == [("controls", "dropped", "2")]


def test_options() -> None:
    assert cleaned("a\n\n\nb", [{"blank_lines": {"most": 0}}]) == "a\nb"
    assert cleaned("ﬁne", [{"unicode": {"form": "NFKC"}}]) == "fine"
    assert cleaned("abc", [{"min_length": {"characters": 3}}, "strip"]) == "abc"


@given(TEXTS)
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    first = clean(document(text), STANDARD).document
    if first is not None:
        second = clean(first, STANDARD)
        assert second.document is first
        assert second.verdicts == ()


@given(TEXTS)
def test_what_is_clean(text: str) -> None:
    outcome = clean(document(text + " and enough to keep"), STANDARD)
    assert outcome.document is not None
    result = outcome.document.text
    assert unicodedata.is_normalized("NFC", result)
    assert {c for c in result if unicodedata.category(c) == "Cc"} <= {"\n", "\t"}
    assert not any(line != line.rstrip() for line in result.split("\n"))
    assert "\n\n\n\n" not in result
    assert result.removesuffix("\n") == result.rstrip() and result.split("\n")[0] != ""


@given(TEXTS)
def test_each_change_has_a_verdict(text: str) -> None:
    outcome = clean(document(text), STANDARD)
    changed = outcome.document is None or outcome.document.text != text
    assert changed == bool(outcome.verdicts)
    assert (outcome.document is None) == (bool(outcome.verdicts) and outcome.verdicts[-1].verdict == "dropped")


@given(TEXTS)
def test_controls_agree_whether_or_not_the_text_is_ascii(text: str) -> None:
    # The two paths of the stage, made to do the same work.
    ascii_only = "".join(c for c in text if c.isascii())
    assert cleaned(f"{ascii_only}é", ["controls"]) == (cleaned(ascii_only, ["controls"]) or "") + "é"


@pytest.mark.slow
def test_python_sources_stay_the_same_programs() -> None:
    folder = Path(sysconfig.get_path("stdlib"))
    paths = sorted(folder.glob("*.py"))[::6]
    assert len(paths) > 20
    for path in paths:
        source = path.read_text(encoding="utf-8")
        kept = cleaned(source)
        if kept is not None:
            # Docstrings may lose white space at line ends; the rest of the tree must not move.
            assert _shape(kept) == _shape(source), path.name


def _shape(source: str) -> list[tuple[str, ...]]:
    tree = ast.parse(source)
    return [
        (type(node).__name__, *(str(node.value).split() if isinstance(node, ast.Constant) else ()))
        for node in ast.walk(tree)
    ]


@pytest.mark.slow
def test_long_runs_take_linear_time() -> None:
    # Quadratic behaviour would take minutes here, not moments.
    began = time.process_time()
    for text in (" " * 2_000_000 + "x", "\n" * 2_000_000 + "x" * 20, ("\u0301" * 200 + " ") * 5_000, "\r" * 1_000_000):
        clean(document(text), STANDARD)
    assert time.process_time() - began < 60


@pytest.mark.parametrize(
    ("value", "message", "remedy"),
    [
        ("standart", "no preset is called 'standart'", "did you mean `standard`?"),
        (["min_lenght"], "stage 1: no stage is called 'min_lenght'", "did you mean `min_length`?"),
        (["strip", {"unicode": {"form": "NFX"}}], "stage 2 (unicode)", "NFC"),
        ([{"min_length": {"character": 3}}], "character: unknown key", "did you mean `characters`?"),
        ([{"min_length": {"characters": 0}}], "characters", "at least 1"),
        ([{"strip": {}, "controls": {}}], "is not one stage", "- name"),
        ([{"min_length": 3}], "3 is not a mapping", "{option: value}"),
        (7, "neither a preset nor a list", "none, standard"),
    ],
)
def test_a_wrong_recipe_says_what_and_how(value: object, message: str, remedy: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(Recipe, {"clean": value})
    assert "clean: " in caught.value.message
    assert message in caught.value.message
    assert remedy in caught.value.remedy


def test_a_list_is_written_out_and_comes_back_the_same() -> None:
    recipe = parse(Recipe, {"clean": ["strip", {"min_length": {"characters": 5}}, {"blank_lines": None}]})
    plain = recipe.model_dump(mode="json")
    assert plain == {"clean": [{"strip": {}}, {"min_length": {"characters": 5}}, {"blank_lines": {"most": 2}}]}
    again = parse(Recipe, plain)
    assert again == recipe and fingerprint(again) == fingerprint(recipe)
    assert parse(Recipe, {}).model_dump(mode="json") == {"clean": "standard"}


def test_the_schema_knows_every_stage_and_preset() -> None:
    preset, steps = Recipe.model_json_schema()["properties"]["clean"]["anyOf"]
    assert preset["enum"] == list(PRESETS)
    names, one = steps["items"]["anyOf"]
    assert names["enum"] == [*PRESETS, *STAGES] and list(one["properties"]) == list(STAGES)
