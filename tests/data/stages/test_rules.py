"""A user's regular expressions: what they drop and replace, what they may not do, and the ready-made ones."""

from __future__ import annotations

import re
from typing import Any

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from tests.data.stages.helpers import check_the_contract, cleaned, grows_linearly, run, said, stage, texts_of
from tilth.core.config import parse
from tilth.core.errors import RecipeError
from tilth.data.stages.patterns import _PLAIN, LineRule, Subject, matching_lines
from tilth.data.stages.ready_rules import READY
from tilth.data.stages.rules import RULE_STAGES, DropLinesOptions

ENDLESS = r"(?:x(?:a|aa)+c)"  # as many ways to fail as Fibonacci's numbers
BAIT = "x" + "a" * 80


def made(name: str, *rules: Any, **options: Any) -> Any:
    return stage(RULE_STAGES, name, {"rules": list(rules), **options})


def test_lines_that_match_go_and_each_counts_for_the_first_rule() -> None:
    both = made(
        "drop_lines",
        {"name": "advert", "pattern": r"\bbuy\b", "flags": ["ignorecase"]},
        {"name": "shout", "pattern": r"^[A-Z !]+$"},
    )
    text = "Buy now\nfine\nBUY!\n\nWOW !\nbuyer"
    assert cleaned(both, text) == "fine\n\nbuyer"
    assert said(both, text) == [("advert", "changed", "2"), ("shout", "changed", "1")]
    assert said(both, "BUY") == [("advert", "dropped", "1")]


@pytest.mark.parametrize(("text", "left"), [("a\nX", "a"), ("a\nX\n", "a\n"), ("X\na", "a"), ("X\n\na", "\na")])
def test_a_line_goes_with_its_own_line_end(text: str, left: str) -> None:
    assert cleaned(made("drop_lines", {"name": "x", "pattern": "X"}), text) == left


def test_spans_go_until_none_is_left() -> None:
    brackets = made("drop_spans", {"name": "brackets", "pattern": r"\([^()]*\)"})
    assert cleaned(brackets, "a (b (c) d) e") == "a  e"
    assert said(brackets, "a (b (c) d) e") == [("brackets", "changed", "9")]
    crossed = made("drop_spans", {"name": "b", "pattern": "b"}, {"name": "ac", "pattern": "ac"})
    assert said(crossed, "xabacccy") == [("b", "changed", "1"), ("ac", "changed", "4")]


def test_replacing_uses_groups_and_counts_replacements() -> None:
    dates = made("replace", {"name": "dates", "pattern": r"(\d+)/(?P<m>\d+)", "replacement": r"\g<m>-\1"})
    assert cleaned(dates, "1/2 and 3/4") == "2-1 and 4-3"
    assert said(dates, "1/2 and 3/4") == [("dates", "changed", "2")]
    same = made("replace", {"name": "same", "pattern": "a", "replacement": "a"})
    assert said(same, "banana") == []


def test_documents_go_by_matches_or_by_their_share_of_lines() -> None:
    often = made("drop_documents", {"name": "often", "pattern": "spam", "at_least": 3})
    assert said(often, "spam spam") == []
    assert said(often, "spam spamspam spam") == [("often", "dropped", "4")]
    share = made("drop_documents", {"name": "quotes", "pattern": "^>", "share_of_lines": 0.5})
    assert said(share, "> a\n\n\nb\nc") == []
    assert said(share, "> a\n\n\nb") == [("quotes", "dropped", "0.5")]


@pytest.mark.slow
def test_a_pattern_without_end_is_stopped_counted_and_kept_or_dropped() -> None:
    for name, extra in (
        ("drop_lines", {}),
        ("drop_spans", {}),
        ("replace", {"replacement": ""}),
        ("drop_documents", {}),
        ("drop_documents", {"share_of_lines": 0.5}),
    ):
        rules = ({"name": "fine", "pattern": "q"} | extra, {"name": "endless", "pattern": ENDLESS} | extra)
        keep = made(name, *rules, timeout_seconds=0.05)
        first, second = run(keep, [BAIT + " kept as it came", "y"])
        assert [left.text for left in first.documents] == [BAIT + " kept as it came"]
        assert first.documents[0].meta == {f"{name}_timed_out": True}
        assert [(v.rule, v.verdict, v.value) for v in first.verdicts] == [(f"{name}/timeout", "changed", "0.05")]
        assert second.verdicts == ()
        drop = made(name, *rules, timeout_seconds=0.05, on_timeout="drop")
        assert said(drop, BAIT) == [(f"{name}/timeout", "dropped", "0.05")]


@pytest.mark.slow
def test_a_pattern_that_takes_too_much_memory_is_counted_and_the_document_kept_or_dropped() -> None:
    text = "a" * 4_000_000  # each turn of the group takes some of the library's gigabyte
    greedy = {"name": "greedy", "pattern": r"(a|b)++"}
    (kept, fine) = run(made("drop_spans", greedy, timeout_seconds=60), [text, "c ab"])
    assert texts_of(kept) == [text] and kept.documents[0].meta == {"drop_spans_out_of_memory": True}
    assert [(v.rule, v.verdict, v.value) for v in kept.verdicts] == [("drop_spans/memory", "changed", "4000000")]
    assert texts_of(fine) == ["c "]
    drop = made("drop_spans", greedy, timeout_seconds=60, on_timeout="drop")
    assert said(drop, text) == [("drop_spans/memory", "dropped", "4000000")]


def test_a_pattern_that_is_slow_over_lines_only_still_finds_its_lines() -> None:
    # `\s*` runs on over blank lines: quadratic in the whole text, quick in each line.
    slow = made("drop_lines", {"name": "slow", "pattern": r"\s*\s*q$"}, timeout_seconds=2)
    text = "\n" * 30_000 + "  q\nw"
    assert said(slow, text) == [("slow", "changed", "1")]


PATTERNS = st.recursive(
    st.sampled_from(
        ["a", "b", " ", "^", "$", r"\b", r"\s", r"\w", r"\W", "[^a]", "[a ]", ".", r"\d", "(?=a)", "(?<!a)"]
    ),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda both: f"(?:{both[0]}|{both[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "*?", "++"])).map(lambda p: f"(?:{p[0]}){p[1]}"),
    ),
    max_leaves=6,
)


@given(PATTERNS, st.text(st.sampled_from("ab \n1é"), max_size=40))
def test_lines_by_one_search_are_those_found_one_by_one(pattern: str, text: str) -> None:
    options = parse(DropLinesOptions, {"rules": [{"name": "rule", "pattern": pattern}]})
    found = matching_lines(options.rules[0], Subject(text, options))
    assert found == [n for n, line in enumerate(text.split("\n")) if regex.search(pattern, line)]


def test_the_short_cut_is_taken_for_plain_patterns_only() -> None:
    assert all(map(_PLAIN.fullmatch, [r"^\s*a[bc]+$", r"(?:a|b){2,3}?\.", r"(?i:x)\p{Lu}", r"(?P<n>a)\("]))
    assert not any(map(_PLAIN.fullmatch, ["(?<!a)b", "(?!a)", "a++", "(?>a)", r"(a)\1", r"\Aa", "(?:a){e<=1}", r"\Ba"]))


@given(st.lists(st.text(st.sampled_from("ab(): \n>x"), max_size=30), max_size=5))
def test_rules_hold_to_the_contract(texts: list[str]) -> None:
    for one in (
        made("drop_lines", {"name": "a", "pattern": "^a"}, {"name": "b", "pattern": "b$"}),
        made("drop_spans", {"name": "brackets", "pattern": r"\([^()]*\)"}, {"name": "ab", "pattern": "ab"}),
        made("replace", {"name": "a", "pattern": "a", "replacement": "x"}),
        made("drop_documents", {"name": "a", "pattern": "a", "at_least": 3}),
        made("drop_spans", *(name for name, ready in READY.items() if ready.kind == "spans")),
        made("drop_lines", *(name for name, ready in READY.items() if ready.kind == "lines")),
    ):
        check_the_contract(one, texts)


@pytest.mark.parametrize(
    ("name", "rule", "message", "remedy"),
    [
        ("drop_lines", {"name": "a", "pattern": "(("}, "rules.0.pattern: '((' is no regular", "mend the pattern"),
        ("drop_lines", {"name": "a", "pattern": "[a"}, "unterminated character set at position 2", "mend"),
        ("drop_lines", {"name": "A b", "pattern": "a"}, "rules.0.name: 'A b' is no name", "small letters"),
        (
            "drop_lines",
            "quoted_replies",
            "no ready-made rule is called 'quoted_replies'",
            "did you mean `quoted_reply`?",
        ),
        ("drop_lines", {"name": "mine"}, "no ready-made rule is called 'mine'", "give a pattern"),
        ("drop_lines", "out_of_character", "rules.0: out_of_character is a rule for spans", "use it in drop_spans"),
        ("drop_spans", "quoted_reply", "is a rule for lines", "use it in drop_lines"),
        ("drop_documents", "quoted_reply", "is a rule for lines", "share_of_lines"),
        ("replace", {"name": "a", "pattern": "(a)", "replacement": r"\2"}, "rules.0.replacement", "groups"),
        ("replace", {"name": "a", "pattern": "(a)", "replacement": r"\g<b>"}, "rules.0.replacement", "groups"),
        ("replace", {"name": "a", "pattern": "a"}, "rules.0.replacement: missing", "add"),
        ("drop_lines", {"name": "a", "pattern": "a", "flags": ["case"]}, "flags", "ignorecase"),
        ("drop_lines", {"name": "a", "patern": "a"}, "no ready-made rule is called 'a'", "give a pattern"),
        ("drop_lines", 7, "rules.0", "keys and values"),
    ],
)
def test_a_wrong_rule_says_what_and_how(name: str, rule: Any, message: str, remedy: str) -> None:
    with pytest.raises(RecipeError) as caught:
        made(name, rule)
    assert message in caught.value.message
    assert remedy in caught.value.remedy


def test_rules_are_none_or_two_of_a_name() -> None:
    with pytest.raises(RecipeError, match="at least 1"):
        made("drop_lines")
    with pytest.raises(RecipeError, match="two rules are called 'a'"):
        made("drop_lines", {"name": "a", "pattern": "a"}, {"name": "a", "pattern": "b"})


def test_a_ready_made_rule_is_written_out_and_comes_back_the_same() -> None:
    options = parse(DropLinesOptions, {"rules": ["quoted_reply", {"name": "share_buttons"}]})
    plain = options.model_dump(mode="json")
    assert plain["rules"][0]["pattern"] == READY["quoted_reply"].pattern
    assert parse(DropLinesOptions, plain) == options


def test_the_schema_offers_the_names() -> None:
    schema = DropLinesOptions.model_json_schema()["$defs"][LineRule.__name__]
    names, rule = schema["anyOf"]
    assert names["enum"] == list(READY) and rule["required"] == ["name"] and "pattern" in rule["properties"]


# What each ready-made rule takes, and what looks like it and stays. In spans, what is taken stands between ‹ and ›.
EXAMPLES: dict[str, tuple[list[str], list[str]]] = {
    "out_of_character": (
        [
            "He nods.‹ ((brb, dinner))›",
            "‹((is this (still) on?))› She waits.",
            "Go!‹ (OOC: sorry, my cat)› \nYes",
            "‹[ooc who rolls?]›",
            "so‹   (ooc that (really) hurt)›.",
            "He nods.‹ [ooc] this [/ooc]› She",
            "‹[OOC]two lines,\n[both]\n\ngone[/OOC]›\nYes",
            "‹(ooc)he (too)(/ooc)› says so [/ooc]",
            "‹[ooc]›" + "far " * 501 + "[/ooc]",
        ],
        [
            "f((x, y)) and set((alpha, beta))",
            "the sum ((a+b)*c) is odd",
            "if ((left == right)) then",
            "He (a cook) left.",
            "a book (Oocyte: a study) on eggs",
            "open ((never closed",
            "((1))",
            "x = ((width + 1) * 2)",
        ],
    ),
    "email_signature": (
        ["Thanks!\n‹-- \nJo Smith\nAcme›", "Hi\n\n‹--\nJo›", "x\n‹-- \nJo\n\n›", "‹-- \nJo\n-- \nAl›"],
        [
            "a -- b\nc",
            "---\nfront matter",
            "-- \nJo\n\nP.S. A new paragraph.",
            "-- \n" + "one\n" * 12,
            "-- \n" + "x" * 101,
            "--flag\nvalue",
            "-- \none\n" + "two\n" * 8 + "-- \nthree",
        ],
    ),
    "out_of_character_line": (
        ["OOC: back in five", "  ooc: hello", "OOC - is it my turn?"],
        ["He said OOC: nothing", "OOCYTES: a study", "OOC", "ooc-free zone"],
    ),
    "quoted_reply": (
        ["> I agree.", ">I agree.", "> > deeper", ">> deeper", ">>>deepest", ">", " > one blank", ">>>> four"],
        [">>> print(1)", ">>>", "a > b", "-> arrow", "  > two blanks are no quote", "<b>bold</b>"],
    ),
    "reply_header": (
        [
            "On Mon, 3 May 2021 at 10:15, Al Body <al@body.org> wrote:",
            "> On 03/05/21 10:15, Al Body wrote:",
            "Am 3. Mai 2024 schrieb Anna <a@b.de>:",
            "> Am 03.05.21 um 10:15 Uhr schrieb Al Body:",
            "-----Original Message-----",
            "Begin forwarded message:",
            "---------- Forwarded message ---------",
        ],
        [
            "On Monday my father finally wrote:",
            "On the wall somebody wrote: 1984 was here",
            "The original message was lost.",
            "In 1904 Joyce wrote:",
            "Am 3. Mai 1945 schrieb Anna in ihr Tagebuch:",
            "-- original --",
        ],
    ),
    "cookie_notice": (
        [
            "We use cookies to improve your experience.",
            "This website uses first-party cookies and similar technologies.",
            "By continuing to browse you agree to our use of cookies.",
            "Accept all cookies",
            "This site uses cookies. By continuing you agree.",
            "Cookie policy",
            "Our site uses cookies on this device, OK?",
        ],
        [
            "Grandma uses cookies to bribe us.",
            "Our site uses cookies. By using little sugar we make them light.",
            "We use two cups of cookies for the crust.",
            "Session cookies are set by the server.",
            "The cookie policy of the library changed in May.",
            "We accept cookies gladly.",
        ],
    ),
    "newsletter": (
        [
            "Subscribe to our newsletter!",
            "Sign up for the weekly garden newsletter",
            "* Sign up now for our free mailing list",
            "Unsubscribe",
            "Click here to unsubscribe",
            "Enter your email address to subscribe",
            "You are receiving this email because you signed up.",
        ],
        [
            "They had to subscribe to the theory.",
            "Sign up for the race by Friday.",
            "Her newsletter reached ten thousand readers.",
            "To unsubscribe a callback, call off().",
            "Join to the left of the beam",
        ],
    ),
    "share_buttons": (
        [
            "Share this",
            "Share this article on Facebook",
            "Share | Tweet | Pin it",
            "» Follow us on Twitter",
            "Share on Facebook Share on Twitter",
            "Click to share on X (Opens in new window)",
        ],
        [
            "Share this with your doctor before you travel.",
            "They share on average two rooms.",
            "Follow us on the map below",
            "The share of exports fell.",
            "Tweets are short",
        ],
    ),
    "rights_reserved": (
        [
            "All rights reserved.",
            "© 2020 Example Inc. All rights reserved.",
            "Copyright (c) 1999-2003 by Jo. All Rights Reserved",
            "Example Ltd. All rights reserved",
            "© 2021 Example",
            "(c) 2021 Example GmbH",
        ],
        [
            "# Copyright (c) 2001 Jo. All rights reserved.",
            "All rights reserved to the crown were given up in 1603.",
            "Copyright is a right of authors.",
            "// (c) 2021 Example. All rights reserved.",
            "(c) the third case",
        ],
    ),
    "page_furniture": (
        [
            "Skip to content",
            "Back to top",
            "↑ Back to top ↑",
            "Privacy policy | Terms of use | Contact us",
            "Read more »",
            "Leave a comment",
            "Advertisement",
            "Next page",
        ],
        [
            "Read more about soil in chapter two.",
            "He came back to top the list.",
            "The privacy policy of the firm is short.",
            "Contact us at noon.",
            "Advertisements were banned.",
            "Next page one finds a map",
        ],
    ),
}


@pytest.mark.parametrize("name", list(READY))
def test_ready_made_rules_take_what_they_should(name: str) -> None:
    positives, near_misses = EXAMPLES[name]
    assert len(positives) >= 3 and len(near_misses) >= 4
    one = made(READY[name].stage, name)
    for text in near_misses:
        assert cleaned(one, text) == text, text
    for text in positives:
        if READY[name].kind == "lines":
            assert cleaned(one, f"before\n{text}\nafter") == "before\nafter", text
        else:
            before = text.replace("‹", "").replace("›", "")
            assert cleaned(one, before) == (re.sub("‹.*›", "", text, flags=re.DOTALL) or None), text


@pytest.mark.parametrize("name", list(READY))
def test_ready_made_rules_match_only_what_holds_their_words(name: str) -> None:
    ready = READY[name]
    pattern = regex.compile(ready.pattern, sum(getattr(regex, flag.upper()) for flag in ready.flags))
    for text in EXAMPLES[name][0]:
        for case in (str, str.upper, str.lower):
            text = case(text.replace("‹", "").replace("›", ""))
            if pattern.search(text):
                assert not ready.needs or any(word in text.lower() for word in ready.needs), text


@pytest.mark.parametrize("name", list(READY))
def test_ready_made_rules_take_linear_time(name: str) -> None:
    one = made(READY[name].stage, name, timeout_seconds=20)
    phrase = EXAMPLES[name][0][0].replace("‹", "").replace("›", "")
    for unit in (
        phrase.replace("\n", " ") + " ",
        " ((",
        " [ooc] a",
        " ",
        "share on ",
        "all rights reserved. ",
        "x",
        "-- \nx\n",
    ):
        assert grows_linearly(one, unit, 50_000), unit


@pytest.mark.slow
def test_ten_megabytes_of_one_letter_are_no_trouble() -> None:
    for name, letters in (("drop_lines", "a> ("), ("drop_spans", "a( \n")):
        every = made(name, *(rule for rule, ready in READY.items() if ready.stage == name))
        for letter in letters:
            (outcome,) = run(every, [letter * 10_000_000])
            assert not any("timeout" in verdict.rule for verdict in outcome.verdicts), letter
