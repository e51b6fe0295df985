"""Stages over conversations: the messages say what the text says, or they are gone; the rest is left alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.stages.helpers import document, texts_of
from tests.data.stages.test_rules import BAIT, ENDLESS
from tilth.core.config import parse
from tilth.data.document import Document
from tilth.data.sources.messages import rendered
from tilth.data.spoken import WITHDRAWN
from tilth.data.stages import STAGES, Stage, clean, run_stage
from tilth.data.stages.run import Outcomes

KEY = "ghp_Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4zAb7dEf"
RULES = {"rules": [{"name": "bad", "pattern": "bad"}]}
REPLACED = {"rules": [{"name": "bad", "pattern": "bad", "replacement": "badly"}]}


def stage(name: str, **options: Any) -> Stage:
    return Stage(name, parse(STAGES[name].options, options))


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def answer(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def talk(*messages: dict[str, Any], **meta: Any) -> Document:
    return Document("0" * 32, rendered(messages), "s", "s.jsonl:1", None, {"messages": list(messages), **meta})


def said(outcome: Outcomes) -> list[tuple[str, str, str]]:
    return [(verdict.rule, verdict.verdict, verdict.value) for verdict in outcome.verdicts]


def left(outcome: Outcomes) -> Document:
    (one,) = outcome.documents
    assert "messages" not in one.meta or rendered(one.meta["messages"]) == one.text
    return one


def test_what_is_masked_in_the_text_is_masked_in_its_messages() -> None:
    given = talk(user("I am ada@gmail.com, ada@gmail.com."), answer("Yes.", reasoning=f"so, {KEY}\nbob@gmail.com"))
    made = clean(given, [stage("pii")])
    assert said(made) == [("pii/email", "changed", "3"), ("pii/key", "changed", "1")]
    assert left(made).meta == {
        "messages": [user("I am [EMAIL], [EMAIL]."), answer("Yes.", reasoning="so, [KEY]\n[EMAIL]")]
    }
    assert clean(left(made), [stage("pii")]) == Outcomes((left(made),)), "twice is once"


def test_calls_of_tools_and_their_answers_are_masked_string_by_string() -> None:
    """In the text a line end before an address is `\\n`: the n is no part of it, and JSON stays JSON."""
    arguments = {"to": "ada@gmail.com", "body": "Hi,\nbob@gmail.com  \n", "eve@gmail.com": 3}
    calls = [
        {"id": "call_1", "function": {"name": "send", "arguments": json.dumps(arguments)}},
        {"id": "call_2", "function": {"name": "send", "arguments": arguments}},
    ]
    tool = {"role": "tool", "content": '{"sent": "ada@gmail.com"}', "tool_call_id": "call_1", "name": "ada@gmail.com"}
    tools = [{"name": "send", "description": "as zoe@gmail.com does"}]
    made = left(clean(talk(user("mail"), answer("", tool_calls=calls), tool, tools=tools), [stage("pii")]))
    masked = {"to": "[EMAIL]", "body": "Hi,\n[EMAIL]  \n", "[EMAIL]": 3}
    _, asked, told = made.meta["messages"]
    first, second = asked["tool_calls"]
    assert json.loads(first["function"]["arguments"]) == second["function"]["arguments"] == masked
    assert (first["id"], first["function"]["name"]) == ("call_1", "send")
    assert told == {"role": "tool", "content": '{"sent": "[EMAIL]"}', "tool_call_id": "call_1", "name": "[EMAIL]"}
    assert made.meta["tools"] == [{"name": "send", "description": "as [EMAIL] does"}]
    assert "@" not in made.text


def test_what_only_the_whole_shows_is_masked_in_the_text_and_takes_the_messages() -> None:
    given = talk(user("pay"), answer("", tool_calls=[{"card": 4111111111111111}]), tools=[{"name": "pay"}])
    made = clean(given, [stage("pii")])
    assert said(made) == [("pii/card", "changed", "1")]
    assert "[CARD]" in left(made).text and left(made).meta == {WITHDRAWN: "pii"}


def test_white_space_goes_from_texts_and_stays_in_arguments() -> None:
    call = [{"arguments": {"file": "a  \r\n\n\n\n\nb \n"}}]
    given = talk(user("a \r\n\n\n\n\nb  "), answer("yes\t", tool_calls=call))
    names = ("newlines", "controls", "unicode", "trailing_space", "blank_lines", "strip")
    made = clean(given, [stage(name) for name in names])
    assert said(made) == [
        ("newlines", "changed", "1"),
        ("trailing_space", "changed", "4"),
        ("blank_lines", "changed", "2"),
    ]
    assert left(made).meta["messages"] == [user("a\n\n\nb"), answer("yes", tool_calls=call)]
    blank = clean(talk(user("a "), answer("\n", tool_calls=call)), [stage("trailing_space"), stage("strip")])
    assert left(blank).meta["messages"] == [user("a"), answer("", tool_calls=call)], "nothing was said before either"


def test_lines_go_from_messages_and_no_message_goes_silent() -> None:
    lines = stage("drop_lines", rules=[{"name": "bad", "pattern": "^bad"}])
    made = clean(talk(user("bad line\ngood"), answer("yes\nbad too")), [lines])
    assert said(made) == [("bad", "changed", "2")] and left(made).meta["messages"] == [user("good"), answer("yes")]
    silent = clean(talk(user("bad line"), answer("yes ada@gmail.com")), [lines, stage("pii")])
    assert left(silent).text == "user: \n\nassistant: yes [EMAIL]"
    assert left(silent).meta == {WITHDRAWN: "drop_lines"}, "the first that they could not follow"
    assert said(clean(talk(user("bad"), answer("bad")), [lines])) == [("bad", "dropped", "2")]


def test_a_replacement_is_made_once_and_figures_add_up() -> None:
    made = clean(talk(user("bad bad"), answer("bad", tool_calls=[{"bad": ["bad"]}])), [stage("replace", **REPLACED)])
    assert said(made) == [("bad", "changed", "5")]
    assert left(made).meta["messages"] == [
        user("badly badly"),
        answer("badly", tool_calls=[{"badly": ["badly"]}]),
    ]
    alike = {"rules": [{"name": "n", "pattern": r"\d", "replacement": "0"}]}
    merged = clean(talk(user("go"), answer("", tool_calls=[{"a1": 1, "a2": 2}])), [stage("replace", **alike)])
    assert left(merged).meta == {WITHDRAWN: "replace"}, "two keys became one"
    unseen = clean(talk(user("go"), tools=[{"a1": 1, "a2": 2}]), [stage("replace", **alike)])
    assert left(unseen).meta == {WITHDRAWN: "replace"} and left(unseen).text == "user: go"
    assert said(unseen) == [("n", "changed", "2")]


def test_a_pattern_without_end_leaves_its_message_alone() -> None:
    rules = [{"name": "fine", "pattern": "q", "replacement": ""}, {"name": "e", "pattern": ENDLESS, "replacement": ""}]
    made = clean(talk(user(f"{BAIT} q"), answer("aq")), [stage("replace", rules=rules, timeout_seconds=0.05)])
    assert sorted(said(made)) == [("fine", "changed", "1"), ("replace/timeout", "changed", "0.05")]
    assert left(made).meta == {"messages": [user(f"{BAIT} q"), answer("a")], "replace_timed_out": True}


def test_spelling_sees_the_whole_and_leaves_calls() -> None:
    """A word that another message has as well is a term."""
    prose = "the people of this country have a new house and a garden with many trees\nand"
    once = talk(user(prose), answer(f"{prose} becuase", tool_calls=[{"why": "becuse of rain"}]))
    made = clean(once, [stage("spelling")])
    assert left(made).meta["messages"][1] == answer(f"{prose} because", tool_calls=[{"why": "becuse of rain"}])
    assert left(made).meta["messages"][0] == user(prose)
    twice = talk(user(f"{prose} becuase"), answer(f"{prose} becuase"))
    assert clean(twice, [stage("spelling")]) == Outcomes((twice,))


def test_what_drops_a_document_drops_it_whole() -> None:
    given = talk(user("ada@gmail.com"), answer("bob@gmail.com"))
    assert said(clean(given, [stage("pii", action="drop")])) == [("pii/email", "dropped", "2")]
    assert said(clean(given, [stage("min_length", characters=1000)])) == [
        ("min_length", "dropped", str(len(given.text)))
    ]
    assert left(clean(given, [stage("min_length", characters=30)])) is given, "as a whole it is long enough"


def test_pieces_have_no_messages() -> None:
    made = clean(
        talk(user("one two three. four five six."), answer("seven eight nine. ten eleven.")),
        [stage("cut", characters=30, min_characters=5)],
    )
    assert len(made.documents) > 1 and {piece.meta.get(WITHDRAWN) for piece in made.documents} == {"cut"}
    assert not any("messages" in piece.meta for piece in made.documents)


def test_messages_of_another_text_are_not_edited() -> None:
    """As of a document that something else gave another text: it is read as any text, and then has none."""
    given = Document("0" * 32, "ada@gmail.com came", "s", "s:1", None, {"messages": [user("ada@gmail.com left")]})
    made = left(clean(given, [stage("pii")]))
    assert (made.text, made.meta) == ("[EMAIL] came", {WITHDRAWN: "pii"})


pieces = st.lists(
    st.sampled_from([" ada@gmail.com ", "bad", " ", "\n", "\r\n", "a\u0301", "\x07", "“", "4155550123 ", f" {KEY} "]),
    max_size=5,
)
texts = pieces.map("".join)
structures = st.recursive(
    texts | st.integers(0, 3),
    lambda own: st.lists(own, max_size=2) | st.dictionaries(texts, own, max_size=2),
    max_leaves=4,
)
turns = st.one_of(
    texts.map(user),
    texts.map(answer),
    st.builds(lambda said, calls: answer(said, tool_calls=[calls]), texts, structures),
    st.builds(lambda said, calls: answer(said, tool_calls=[json.dumps(calls)]), texts, structures),
)
REWRITING = [
    stage("newlines"),
    stage("controls"),
    stage("unicode"),
    stage("strip"),
    stage("blank_lines", most=0),
    stage("drop_spans", **RULES),
    stage("drop_lines", **RULES),
    stage("replace", **REPLACED),
    stage("pii"),
]


@pytest.mark.parametrize("one", REWRITING, ids=lambda one: one.name)
@given(st.lists(turns, min_size=1, max_size=3), st.lists(texts, max_size=2))
def test_every_stage_leaves_messages_that_say_the_text(
    one: Stage, messages: list[dict[str, Any]], plain: list[str]
) -> None:
    """Beside any neighbours; and text alone is what it was without them."""
    spoken = talk(*messages)
    if not spoken.text:
        return
    others = [document(text, number) for number, text in enumerate(plain) if text]
    made, *rest = run_stage(one, [spoken, *others])
    assert rest == run_stage(one, others) and made == clean(spoken, [one])
    assert bool(made.verdicts) == (made.documents != (spoken,))
    for after in made.documents:
        if WITHDRAWN in after.meta:
            assert "messages" not in after.meta
        else:
            assert rendered(after.meta["messages"]) == after.text
            assert [m["role"] for m in after.meta["messages"]] == [m["role"] for m in messages]
        if one.name == "pii":
            assert "@gmail" not in str(after.meta) and KEY not in str(after.meta)
            assert texts_of(run_stage(one, [after])[0]) == [after.text]
