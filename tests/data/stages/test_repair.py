"""Mojibake: mended as ftfy mends it, found by a short cut that misses nothing, and nothing else touched."""

from __future__ import annotations

import importlib.util
import itertools
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.stages.helpers import check_the_contract, cleaned, grows_linearly, run, said, stage
from tilth.core.errors import RecipeError
from tilth.data.document import Document
from tilth.data.stages.repair import _WINDOW, REPAIR_STAGES, RepairOptions, _members, _table
from tilth.data.stages.run import run_stage

ftfy = pytest.importorskip("ftfy")
from ftfy.badness import MOJIBAKE_CATEGORIES, is_bad  # noqa: E402

MARKS = "".join(map(_members, MOJIBAKE_CATEGORIES.values())) + "ˆ‰Šž€\u0402\u0452"
BROKEN = st.text(st.sampled_from(MARKS + "  aàÂÃ\n")) | st.text().map(
    lambda t: t.encode("utf8", "replace").decode("latin-1")
)
ORDINARY = (
    "“Is it?” — “No…” she said; don’t, naïve, Größe, cœur, « là », Łódź, Ελλάδα, Москва, 漢字、かな。 "
    "½ × 2² ± 3 °C ﬁ Ａ &eacute; <b>"
)


@cache
def made(**options: Any) -> Any:
    return stage(REPAIR_STAGES, "repair", options)


@pytest.mark.parametrize(
    ("before", "after", "value"),
    [
        ("schÃ¶n", "schön", 2),
        ("ok\ndonâ€™t\nok", "ok\ndon’t\nok", 3),
        ("â€œquotedâ€\x9d", "“quoted”", 6),
        ("ÐŸÑ€Ð¸Ð²ÐµÑ‚", "Привет", 12),
        ("Ã\x83Â¶", "ö", 4),  # twice
        ("a \x1b[31mred\x1b[0m b", "a red b", 9),
    ],
)
def test_broken_text_is_mended(before: str, after: str, value: int) -> None:
    assert cleaned(made(), before) == after
    assert said(made(), before) == [("repair", "changed", str(value))]


def test_ordinary_text_stays() -> None:
    for text in (ORDINARY, "plain ASCII &amp; \t\\x1b[0m"):
        assert cleaned(made(), text) == text and said(made(), text) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("A letra Ã é usada em português.", "A letra Ã é usada em português."),
        ("o Ã não é", "o Ã não é"),
        ("Il va Ã Paris avec Marie.", "Il va à Paris avec Marie."),
        ("il est allÃ© Ã la mer", "il est allé à la mer"),
        ("Ã\xa0 la mer, é", "à la mer, é"),
        ("voilÃ la mer", "voilà la mer"),
    ],
)
def test_a_letter_of_portuguese_stays_where_the_line_was_decoded_rightly(before: str, after: str) -> None:
    assert cleaned(made(), before) == after


def test_options_act() -> None:
    assert cleaned(made(ligatures=True), "ﬁne") == "fine"
    assert cleaned(made(widths=True), "Ａ１") == "A1"
    assert cleaned(made(straight_quotes=True), "“it’s”") == '"it\'s"'
    assert cleaned(made(terminal_escapes=False), "\x1b[0mx") == "\x1b[0mx"
    assert cleaned(made(html_entities="replace"), "<b>\n&eacute; &amp;lt;") == "<b>\né <"
    assert cleaned(made(html_entities="unless_html"), "<b>\n&eacute;") == "<b>\n&eacute;"
    assert cleaned(made(html_entities="unless_html"), "b\n&eacute; &lt;i") == "b\né <i"


CONFIGS = [
    {},
    {"ligatures": True, "widths": True, "straight_quotes": True, "html_entities": "replace", "terminal_escapes": False},
]


@pytest.mark.parametrize("options", CONFIGS)
@given(text=BROKEN | st.text() | st.text(st.sampled_from("&eacut;#38ﬁ’“Ａ\x1b[0m\n")))
def test_it_does_what_ftfy_does(options: dict[str, Any], text: str) -> None:
    config = RepairOptions(**options)  # type: ignore[arg-type]
    fixer = _table(config, config.html_entities == "replace")
    once = fixer.fix(text)
    expected = once if fixer.fix(once) == once else None  # else: a line end has come into a line
    if expected is not None and text:
        assert cleaned(made(**options), text) == (expected or None)


@pytest.mark.slow
def test_no_pair_that_ftfy_takes_for_broken_is_passed_over() -> None:
    table = _table(RepairOptions(), False)
    letters = sorted(set(MARKS) | set("aZ 9²³¡€\xa0\u0402"))
    pairs = ["".join(pair) for pair in itertools.product(letters, repeat=2)]
    lines = [f"{before}{pair}{after}" for pair in pairs for before, after in (("", ""), ("a ", "a"), (" ", " "))]
    ends = np.cumsum([len(line) + 1 for line in lines])
    suspected = set(np.searchsorted(ends, table.suspects("\n".join(lines)), "right").tolist())
    passed_over = [lines[n] for n in range(len(lines)) if n not in suspected]
    assert len(passed_over) > 50_000  # the short cut is one
    assert [line for line in passed_over if is_bad(line)] == []


def test_most_lines_of_real_text_are_passed_over() -> None:
    assert len(_table(RepairOptions(), False).suspects(ORDINARY * 50)) < 600


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_a_pair_over_the_border_of_two_windows_is_seen(shift: int) -> None:
    text = "x" * (_WINDOW - 1 + shift) + "Ã¶"
    assert cleaned(made(), text) == text[:-2] + "ö"


@given(st.lists(BROKEN | st.text(st.sampled_from("&eacut;#38<x \n\x1b[0m")), max_size=4))
def test_repair_holds_to_the_contract(texts: list[str]) -> None:
    for options in (*CONFIGS, {"html_entities": "unless_html"}):
        check_the_contract(made(**options), texts)


@given(BROKEN)
def test_no_surrogate_comes_of_it(text: str) -> None:
    if any("\ud800" <= c <= "\udfff" for c in text):
        return
    for left in run(made(), [text])[0].documents:
        assert left.text.encode().decode() == left.text


def test_python_sources_stay_what_they_are() -> None:
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    texts = [path.read_text(encoding="utf-8") for path in paths]
    assert any(not text.isascii() for text in texts)
    assert [path.name for path, outcome in zip(paths, run(made(), texts), strict=True) if outcome.verdicts] == []


def test_source_files_are_left_alone_unless_they_are_asked_for() -> None:
    text = "assert mend('schÃ¶n') == 'schön'\n"
    code = Document("id", text, "source", "tests/test_mend.py", meta={"code": "python"})
    (kept,) = run_stage(made(), [code])
    assert kept.documents == (code,) and kept.verdicts == ()
    (mended,) = run_stage(made(code=True), [code])
    assert mended.documents[0].text == "assert mend('schön') == 'schön'\n"


@pytest.mark.slow
def test_long_lines_take_linear_time() -> None:
    for unit in ("a", "é", "Ã", "Ã¶", "â€", "\x85", "\x1b["):
        assert grows_linearly(made(), unit, 50_000), unit


def test_without_the_library_the_recipe_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilth.data.stages.optional.find_spec", lambda name: None)
    with pytest.raises(RecipeError) as caught:
        stage(REPAIR_STAGES, "repair")
    assert "`repair` needs ftfy" in caught.value.message and "pip install 'tilth[web]'" in caught.value.remedy
    assert importlib.util.find_spec("ftfy") is not None
