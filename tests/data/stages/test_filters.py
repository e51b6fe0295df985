"""Quality filters, rule by rule: one document that breaks just that rule, and one just inside its limit."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from string import ascii_lowercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.core.config import Config, parse
from tilth.core.errors import RecipeError
from tilth.data.document import Document
from tilth.data.stages.base import Result
from tilth.data.stages.filters import FILTER_STAGES
from tilth.data.stages.gopher_quality import GopherQualityOptions
from tilth.data.stages.limits import in_pieces
from tilth.data.stages.run import clean, run_stage
from tilth.data.stages.table import CleanStages, build_stages

LIMITS = {
    "gopher_repetition/duplicate_5_grams": 0.15,
    "gopher_repetition/duplicate_6_grams": 0.14,
    "gopher_repetition/duplicate_7_grams": 0.13,
    "gopher_repetition/duplicate_8_grams": 0.12,
    "gopher_repetition/duplicate_9_grams": 0.11,
    "gopher_repetition/duplicate_10_grams": 0.10,
}


def results(stage: str, texts: list[str], **options: object) -> list[Result]:
    kind = FILTER_STAGES[stage]
    documents = [Document(str(n), text, "source", "place") for n, text in enumerate(texts)]
    return kind.run(documents, parse(kind.options, options))


def verdict(text: str, stage: str, **options: object) -> tuple[str, float]:
    """Rule and value of a dropped document; ("", 0) for one that is kept as it is."""
    (result,) = results(stage, [text], **options)
    if result.text is not None:
        assert result.text == text and not result.also
        return "", 0
    return result.rule, result.value


def words(count: int, length: int = 5, first: int = 0) -> list[str]:
    """So many different words."""
    letters = product(ascii_lowercase, repeat=length)
    made: Iterator[str] = ("".join(word) for word in letters)
    return [word for n, word in zip(range(count + first), made, strict=False) if n >= first]


def quality_cases() -> Iterator[tuple[str, str, str, float]]:
    """(rule, document inside, document that breaks it, the figure)"""
    stop = ["the", "of"]
    yield "too_few_words", " ".join(stop + words(48)), " ".join(stop + words(47)) + " - • !", 49
    yield "too_many_words", " ".join(stop + words(99_998)), " ".join(stop + words(99_999)), 100_001
    short = [*stop, *words(58, 3, first=100)]
    yield "words_too_short", " ".join([*short[:-1], "four"]), " ".join(short), 179 / 60
    long = [*stop, *words(43, 10), *words(14, 11)]
    yield "words_too_long", " ".join([*long, "a" * 11]), " ".join([*long, "a" * 12]), 601 / 60
    yield "too_many_hashes", " ".join(stop + words(88) + ["#"] * 10), " ".join(stop + words(87) + ["#"] * 11), 0.11
    dots = ["...", "…"] * 5
    inside, outside = stop + dots + words(88), [*stop, *dots, "...", *words(87)]
    yield "too_many_ellipses", " ".join(inside), " ".join(outside), 0.11
    lines = [" ".join(["•" if n % 2 else "-", *stop, *words(5, first=5 * n)]) for n in range(10)]
    yield "too_many_bullets", "\n".join([*lines[:9], "the end"]), "\n  ".join(lines), 1.0
    lines = [" ".join([*stop, *words(5, first=5 * n)]) for n in range(10)]
    ended = [line + ("..." if n % 2 else "… ") for n, line in enumerate(lines[:4])]
    yield "too_many_ellipsis_lines", "\n".join(ended[:3] + lines[3:]), "\n".join(ended + lines[4:]), 0.4
    numbers = [f"{n}" for n in range(1000, 1021)]
    alphabetic = [" ".join(stop + words(78) + numbers[:20]), " ".join(stop + words(77) + numbers)]
    yield "too_few_alphabetic_words", alphabetic[0], alphabetic[1], 0.79
    yield "too_few_stop_words", " ".join(["the", "of", *words(60)]), " ".join(["the", "the", "Of", *words(60)]), 1


def of_length(text: str, length: int) -> str:
    """`text` and then words that stand once, so many characters in all."""
    room = length - len(text) - 1
    count = max(1, room // 9)  # words of eight letters, the last one longer
    filler = " ".join(words(count, 8, first=1000))
    return f"{text} {filler}{'z' * (room - len(filler))}"


def duplicate_grams(n: int, limit: float) -> tuple[str, str]:
    """Five phrases of n words, each twice, in a text just long enough, and in one a letter shorter."""
    parts = words(10, 6)
    phrases = [" ".join(words(n, 4, first=n * (k % 5))) for k in range(10)]
    text = " ".join(f"{part} {phrase}" for part, phrase in zip(parts, phrases, strict=True))
    enough = math.ceil(5 * 4 * n / limit)
    return of_length(text, enough), of_length(text, enough - 1)


def top_gram(n: int, limit: float, times: int = 12) -> tuple[str, str, int]:
    phrase = " ".join(words(n, 4))
    text = " ".join(f"{word} {phrase}" for word in words(times, 6))
    enough = math.ceil(times * (5 * n - 1) / limit)
    return of_length(text, enough), of_length(text, enough - 1), enough


def repetition_cases() -> Iterator[tuple[str, str, str, float]]:
    long = [" ".join(words(8, 6, first=8 * n)) for n in range(8)]
    for name, gap in (("paragraphs", "\n\n"), ("lines", "\n")):
        inside, outside = [*long[:6], *["ok"] * 4], [*long[:5], *["ok"] * 5]
        yield f"duplicate_{name}", gap.join(inside), gap.join(outside), 0.4
    for name, gap in (("paragraph", "\n\n"), ("line", "\n")):
        block = "x" * 100
        start = "another" + gap + of_length("a", 500 - 207 - 3 * len(gap))
        texts = [gap.join([start, block, block]), gap.join([start[:-2], block + "x", block + "x"])]
        assert list(map(len, texts)) == [500, 500]
        yield f"duplicate_{name}_characters", texts[0], texts[1], 101 / 500
    for n, limit in ((2, 0.20), (3, 0.18), (4, 0.16)):
        inside_, outside_, enough = top_gram(n, limit)
        yield f"top_{n}_gram", inside_, outside_, 12 * (5 * n - 1) / (enough - 1)
    for rule, limit in LIMITS.items():
        n = int(rule.split("_")[2])
        within, beyond = duplicate_grams(n, limit)
        yield rule.split("/")[1], within, beyond, 5 * 4 * n / len(beyond)


def fineweb_cases() -> Iterator[tuple[str, str, str, float]]:
    lines = [" ".join(words(6, 7, first=6 * n)) for n in range(25)]
    yield "no_text", "One line that is longer than short.", " \n\t\n", 0
    ended = [line + mark for line, mark in zip(lines, ".?!", strict=False)]
    yield "few_ended_lines", "\n".join(ended + lines[3:]), "\n".join(ended[:2] + lines[2:]), 0.08
    short = [f"{n:02} {'x' * 26}." for n in range(67)]
    assert {len(line) for line in short} == {30}
    full = [" ".join(words(6, 7, first=6 * n)) for n in range(33)]
    yield "short_lines", "\n".join(short + full), "\n".join([*short, "99", *full[1:]]), 0.68
    single = ["y" * 9 + ".", "y" * 9 + "."]
    rest = [" ".join(words(20, 8, first=20 * n)) + "." for n in range(5)]
    room = 1000 - sum(map(len, rest)) - 20
    inside, outside = [*rest, "z" * room, *single], [*rest, "z" * (room - 1), *single]
    yield "duplicate_characters", "\n".join(inside), "\n".join(outside), 10 / 999
    twenty = [" ".join(words(10, 4, first=10 * n)) for n in range(2)]
    assert len(" ".join(twenty).split()) == 20
    yield "new_lines", ("\n" * 6).join(twenty) + "", ("\n" * 7).join(twenty), 0.35


CASES = [
    (stage, *case)
    for stage, cases in (
        ("gopher_quality", quality_cases),
        ("gopher_repetition", repetition_cases),
        ("fineweb", fineweb_cases),
    )
    for case in cases()
]


@pytest.mark.parametrize(("stage", "rule", "inside", "outside", "value"), CASES, ids=[f"{c[0]}/{c[1]}" for c in CASES])
def test_each_rule_drops_what_breaks_it_and_nothing_less(
    stage: str, rule: str, inside: str, outside: str, value: float
) -> None:
    options = {"min_ended_lines": None} if rule == "new_lines" else {}
    assert verdict(inside, stage, **options) == ("", 0)
    assert verdict(outside, stage, **options) == (f"{stage}/{rule}", pytest.approx(value))


def test_null_switches_a_rule_off() -> None:
    for stage, rule, _, outside, _ in CASES:
        options = FILTER_STAGES[stage].options
        off = {name: None for name, field in options.model_fields.items() if isinstance(field.default, int | float)} | (
            {"short_line": 30} if stage == "fineweb" else {}
        )
        if rule != "no_text":
            assert verdict(outside, stage, **off) == ("", 0), rule


def test_each_stage_has_a_case_for_each_of_its_rules() -> None:
    assert len({case[1] for case in CASES if case[0] == "gopher_quality"}) == 10
    assert len({case[1] for case in CASES if case[0] == "gopher_repetition"}) == 13
    assert len({case[1] for case in CASES if case[0] == "fineweb"}) == 5


SENTENCES = [f"This is sentence number {word} here." for word in ("one", "two", "three", "four", "five")]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("no end of this line", "c4/no_end"),
        ("three dots at the end...", "c4/no_end"),
        ("Two words.", "c4/few_words"),
        ("Please enable JavaScript to see this.", "c4/javascript"),
        ("Read our Privacy Policy before you go.", "c4/policy"),
        ("By this you accept the Terms of Use.", "c4/policy"),
        (f"A long {'x' * 1001} word.", "c4/long_word"),
    ],
)
def test_c4_removes_lines_and_says_how_many(line: str, rule: str) -> None:
    (result,) = results("c4", ["\n".join([*SENTENCES[:2], line, *SENTENCES[2:], line])])
    assert result.text == "\n".join(SENTENCES)
    assert (result.rule, result.value, result.also) == (rule, 2, ())


@pytest.mark.parametrize(
    "line",
    ['He said "so".', "Is that so?", "So it is!", "It 'is so'", f"A long {'x' * 1000} word.", "It has three words."],
)
def test_c4_keeps_lines_just_inside(line: str) -> None:
    assert verdict("\n".join([line, *SENTENCES]), "c4") == ("", 0)


@pytest.mark.parametrize(
    ("line", "rule", "value"),
    [
        ("Here is Lorem Ipsum for you.", "c4/lorem_ipsum", 6),
        ("The function { is open.", "c4/curly_bracket", 6),
    ],
)
def test_c4_drops_documents(line: str, rule: str, value: int) -> None:
    assert verdict("\n".join([*SENTENCES, line]), "c4") == (rule, value)
    broken = line.removesuffix(".")  # it goes for its end before it is asked for anything else
    (result,) = results("c4", ["\n".join([*SENTENCES, broken])])
    assert (result.text, result.rule) == ("\n".join(SENTENCES), "c4/no_end")


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One is here. Two is here. Three is here. Four is here.", 4),
        ("Dr. J. Smith of the U.S. paid 3.14 dollars, e.g. to me.", 1),
        ("What is that?! He said so. (Really.) And then?", 4),
        ("\n".join(SENTENCES[:4]), 4),
        ("No sentence at all", 0),
    ],
)
def test_c4_counts_sentences(text: str, sentences: int) -> None:
    assert verdict(text, "c4") == ("c4/few_sentences", sentences)
    if sentences:
        assert verdict(text, "c4", min_sentences=sentences) == ("", 0)


def test_c4_takes_citations_out_and_names_every_change() -> None:
    text = "\n\n".join(["A fact.[1][edit] ", "A fact that stands here.[2]", *SENTENCES, "menu"])
    (result,) = results("c4", [text])
    assert result.text == "\n".join(["A fact that stands here.", *SENTENCES])
    assert {(result.rule, result.value), *result.also} == {("c4/few_words", 1), ("c4/citations", 1), ("c4/no_end", 1)}
    (result,) = results("c4", ["\n\n".join(SENTENCES) + " \n"])
    assert (result.text, result.rule, result.value) == ("\n".join(SENTENCES), "c4/margins", 6)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("A mass,[4] in words.[12][13] The next.[8]Then", "A mass, in words. The next.Then"),
        ("Galaxy[11] and (152 km)[5] are far.[7] It[8].", "Galaxy and (152 km) are far. It."),
        ('The "near"[6] and the "far".[7]', 'The "near" and the "far".'),
        ("History[edit] A fact.[citation needed]", "History A fact."),
        ("A name.[1][edit][a]", "A name.[a]"),
        ("argv[1] is set, and lines[2] too.", "argv[1] is set, and lines[2] too."),
        ("A list v[0] or v[1] is known.[2]", "A list v[0] or v[1] is known."),
        ("names[] and v[1] are known.[2]", "names[] and v[1] are known."),
        ("lines[1:] and v[1] are known.[2]", "lines[1:] and v[1] are known."),
        ("Match fenceposts: (), [] and {}, x = [1]", "Match fenceposts: (), [] and {}, x = [1]"),
        ("jq '.[1]', a.[2](x), [[0],[1],[2]], x[edit] = 1", "jq '.[1]', a.[2](x), [[0],[1],[2]], x[edit] = 1"),
        ("As in [3], since 2010 [1966].", "As in [3], since 2010 [1966]."),
    ],
)
def test_c4_takes_of_prose_what_is_a_citation_and_no_index(text: str, left: str) -> None:
    lenient = {"ends": None, "min_line_words": 0, "min_sentences": 0, "curly_bracket": False, "citations": "prose"}
    (result,) = results("c4", [text], **lenient)
    assert result.text == left
    assert result.value == text.count("[") - left.count("[")
    kind = FILTER_STAGES["c4"]
    documents = [Document(str(n), text, "s", "p", meta={"code": "py"} if n == 1 else {}) for n in range(3)]
    made = kind.run(documents, parse(kind.options, lenient | {"margins": False}))
    assert [result.text for result in made] == [left, text, left], "source files keep all of them"


WARNINGS = """Please enable JavaScript to view the comments powered by Disqus.
You need to enable JavaScript to run this app.
This site requires Javascript.
JavaScript is required to use this page.
Your browser does not support JavaScript!
JavaScript must be enabled in order for you to see the map in standard view.
We've detected that JavaScript is disabled in this browser.
It looks like you have JavaScript turned off.
This email address is being protected from spambots. You need JavaScript enabled to view it.
Sorry, you need Javascript on to view this.
Javascript is currently not supported, or is disabled by this browser.
For full functionality of this site it is necessary to enable JavaScript.
Please turn on JavaScript in your browser and refresh the page.
Turn JavaScript on, please.
To use this form you have to activate your Javascript.
Some features of this site may not work without JavaScript.
Your browser doesn’t support JavaScript, so this page cannot be shown.
It looks like JavaScript isn’t enabled in your browser.
This site requires JavaScript and cookies to be enabled.
This site requires JavaScript, please enable it.
Please switch on JavaScript in your browser settings.
Sorry, this content cannot be displayed without JavaScript.
If this takes long, check that your browser supports JavaScript.
Some features may not work because you don't have JavaScript.
Error: JavaScript Disabled.
Sorry! Javascript not enabled.
You must have JavaScript available in your browser.
You need to have JavaScript on. Then reload the page.
You need to have JavaScript on, or this will not work.
Please have JavaScript on and cookies enabled.
It requires JavaScript available in the browser to show maps.
JavaScript disabled in your browser.""".splitlines()
TAUGHT = """JavaScript is a language that browsers run.
All browsers support JavaScript, and a browser that is old supports less of it.
Enable the strict mode in JavaScript by a string.
Disable the button with JavaScript; in JavaScript, a semicolon is not required.
A function in JavaScript is not required to return anything.
This allows JavaScript to read files, and JavaScript actions are enabled by events.
JavaScript runs in your browser, not on the server.
The value is a JavaScript string, and the callback gives a JavaScript number.
This API throws a JavaScript error with the text provided.
We moved from Java to JavaScript, which needs no compiler.
Without JavaScript engines there would be no such pages, says the author of JavaScript.
JavaScript is needed to build interactive pages, and you will learn it in chapter three.
JavaScript is required reading for every front-end developer.
To enable JavaScript developers to test faster, we wrote a runner.
The course requires JavaScript. You should know loops.
Use this flag to allow JavaScript in PDF files.
In 1995 Netscape enabled JavaScript in its browser.
Experience with JavaScript is required for this role.
Knowledge of JavaScript is required.
A developer needs JavaScript to be typed.
You cannot write front-end code without JavaScript.
The form does not work without JavaScript, which is why progressive enhancement matters.
The attacker can turn JavaScript on with this setting.
If JavaScript is disabled, the noscript element is shown.
If your app needs JavaScript to render, crawlers see nothing.
Tor disabled JavaScript by default in the safest mode.
JavaScript is blocked while a stylesheet is loading.
Web apps must have JavaScript on the client and a server in Go.
The browser has JavaScript available on every page, which makes it the universal runtime.
We kept images and JavaScript disabled.
The benefits of having JavaScript on your resume are obvious.
Experience with JavaScript on your side helps.""".splitlines()


def test_c4_takes_of_javascript_what_asks_a_visitor_for_it_or_all() -> None:
    lenient = {"min_sentences": 0, "javascript": "warnings"}
    mixed = [line for pair in itertools.zip_longest(WARNINGS, TAUGHT) for line in pair if line]
    (result,) = results("c4", ["\n".join(mixed)], **lenient)
    assert result.text is not None and set(result.text.splitlines()) == set(TAUGHT)
    assert (result.rule, result.value) == ("c4/javascript", len(WARNINGS))
    assert results("c4", ["\n".join(WARNINGS + TAUGHT)], min_sentences=0)[0].value == len(WARNINGS + TAUGHT)
    assert results("c4", ["\n".join(WARNINGS)], **lenient | {"javascript": False})[0].text == "\n".join(WARNINGS)


@pytest.mark.parametrize("word", ["allow", "allow a ", "javascript ", "browser support ", "turn ", "javascript your "])
def test_c4_looks_for_warnings_in_time_in_proportion_to_the_line(word: str) -> None:
    line = f"javascript {word * (2_000_000 // len(word))}."
    began = time.process_time()
    results("c4", [line], javascript="warnings", max_word_length=None)
    assert time.process_time() - began < 4


def test_web_leaves_what_prose_about_code_is_made_of() -> None:
    (c4,) = (one for one in build_stages("web") if one.name == "c4")
    assert c4.options.model_dump()["citations"] == "prose" and c4.options.model_dump()["javascript"] == "warnings"


def test_c4_leaves_paragraphs_and_indentation_where_asked() -> None:
    text = "\n\n".join([*SENTENCES[:3], f"  {SENTENCES[3]}[1] ", "menu", SENTENCES[4]]) + "\n"
    (result,) = results("c4", [text], margins=False)
    assert result.text == text.replace("\n\nmenu\n", "\n\n").replace("[1]", "")
    assert {(result.rule, result.value), *result.also} == {("c4/citations", 1), ("c4/no_end", 1)}
    plain = text.replace("[1]", "").replace("menu\n\n", "")
    assert verdict(plain, "c4", margins=False) == ("", 0) and results("c4", [plain], margins=False)[0].text == plain
    few = "\n\n\n".join(SENTENCES[:4])
    assert verdict(few, "c4", margins=False) == ("c4/few_sentences", 4), "blank lines are no sentences"


PROSE = """Overview

"Back Off" is a song by an English musician (born 1940), released as a single in March 1972; it sold 3,000,000 copies.

MARIANA:
Fear me not.

ISABELLA:
    Little have you to say, when you depart from him, but, soft and low, 'Remember now my brother.' So be it, then.

MARIANA:
Fear me not. It was the end of the day, and the musicians had left; nobody, they said, would come again (or so I have
heard, with some surprise, from those who should know)."""


@pytest.mark.slow
def test_what_the_preset_web_changes_in_the_published_rules_keeps_prose() -> None:
    kept = clean(Document("id", PROSE, "source", "page.html"), build_stages("web"))
    assert [left.text for left in kept.documents] == [PROSE] and kept.verdicts == ()
    published = {"gopher_quality", "c4", "fineweb"}
    took = {name: results(name, [PROSE], **({"ends": None} if name == "c4" else {}))[0] for name in published}
    assert took["gopher_quality"].rule == "gopher_quality/too_few_alphabetic_words"
    assert took["fineweb"].rule == "fineweb/duplicate_characters"
    assert took["c4"].text is not None and "MARIANA" not in took["c4"].text and "Overview" not in took["c4"].text


def test_c4_switches() -> None:
    text = "lorem ipsum { javascript privacy policy [1]"
    assert verdict(text, "c4")[0] == "c4/few_sentences"
    off = {"lorem_ipsum": False, "curly_bracket": False, "javascript": False, "policy": [], "citations": False}
    assert verdict(text, "c4", ends=None, min_sentences=1, **off) == ("", 0)
    assert verdict(text, "c4", ends=None, min_sentences=1, lorem_ipsum=False, javascript=False)[0] == "c4/curly_bracket"


def test_bad_words_come_from_a_file_and_are_part_of_the_options(tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_text("Mud\n\nvery bad\n", "utf-8")
    text = "\n".join([*SENTENCES, "MUD is very bad, muddy is not."])
    assert verdict(text, "c4") == ("", 0)
    assert verdict(text, "c4", bad_words=str(path)) == ("c4/bad_words", 2)
    options = parse(FILTER_STAGES["c4"].options, {"bad_words": str(path)})
    plain = options.model_dump(mode="json")
    path.unlink()
    assert plain["bad_words"] == ["mud", "very bad"]
    assert parse(FILTER_STAGES["c4"].options, plain) == options
    with pytest.raises(RecipeError, match="cannot read the word list"):
        parse(FILTER_STAGES["c4"].options, {"bad_words": str(path)})
    path.write_text("\n", "utf-8")
    with pytest.raises(RecipeError, match="is empty"):
        parse(FILTER_STAGES["c4"].options, {"bad_words": str(path)})


@pytest.mark.parametrize("options", [{"stop_words": ["two words"]}, {"bullets": ["--"]}, {"min_words": -1}])
def test_options_that_cannot_be_meant_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        parse(GopherQualityOptions, options)


class Recipe(Config):
    clean: CleanStages


def test_filters_are_stages_of_a_recipe() -> None:
    recipe = parse(Recipe, {"clean": [*FILTER_STAGES, {"gopher_quality": {"min_words": None}}]})
    assert parse(Recipe, recipe.model_dump(mode="json")) == recipe
    stage = build_stages(recipe.clean)[0]
    (outcome,) = run_stage(stage, [Document("id", "Too short.", "source", "place")])
    assert outcome.documents == ()
    (said,) = outcome.verdicts
    assert (said.rule, said.verdict, said.value) == ("gopher_quality/too_few_words", "dropped", "2")


PIECES = st.sampled_from(
    [case[3] for case in CASES if len(case[3]) < 3000] + ["", "\n", "word", "{ lorem ipsum.", *SENTENCES]
)
TEXTS = st.lists(st.one_of(PIECES, st.lists(PIECES, max_size=3).map("\n\n".join), st.text(max_size=40)), max_size=6)


@pytest.mark.slow
@given(TEXTS)
def test_a_document_does_not_depend_on_its_neighbours(texts: list[str]) -> None:
    for stage in FILTER_STAGES:
        together = results(stage, texts)
        alone = [result for text in texts for result in results(stage, [text])]
        assert together == alone
        assert results(stage, texts[::-1]) == together[::-1]


def test_a_batch_is_looked_at_in_pieces() -> None:
    sizes: list[int] = []

    def look(texts: list[str], options: object) -> list[Result]:
        sizes.append(len(texts))
        return [Result(text) for text in texts]

    documents = [Document("", "x" * 50_000, "", "") for _ in range(7)]
    assert len(in_pieces(look)(documents, None)) == 7  # type: ignore[arg-type]
    assert sizes == [3, 3, 1]
