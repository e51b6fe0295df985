"""Thoughts of answers that a template writes nothing of: found by what transformers writes of the same messages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tokenizer.chat_helpers import Pair, answers, encoder, made_pair, used
from tests.tokenizer.chat_templates import THOUGHTS
from tilth.tokenizer.chat import Dropped
from tilth.tokenizer.templates import ChatTemplate, built_in
from tilth.tokenizer.thoughts import ALWAYS, EARLIER

_CONTENT = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{{ CONTENT }}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEMPLATES = {
    "cuts": _CONTENT.replace("CONTENT", "m.content.split('</think>')[-1] if m.role == 'assistant' else m.content"),
    "passes over": _CONTENT.replace("CONTENT", "m.content"),
    "last": THOUGHTS,
    "chatml": built_in("chatml").source,
}


def asks(number: int) -> dict[str, Any]:
    return {"role": "user", "content": f"Why {number}? He is glad, she is."}


def told(*thoughts: str, within: bool) -> list[dict[str, Any]]:
    """A question and an answer for each thought; the words of the first one stand in the question too."""
    talk = []
    for number, thought in enumerate(thoughts):
        said = {"role": "assistant", "content": f"So {number}."}
        if thought and within:
            said["content"] = f"<think>\n{thought}\n</think>\n\nSo {number}."
        elif thought:
            said["reasoning_content"] = thought
        talk += [asks(number), said]
    return talk


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return made_pair(tmp_path_factory.mktemp("gpt2"), "gpt2", ["<|im_start|>", "<|im_end|>", "<s>", "</s>"])


@pytest.mark.parametrize("train_on", ["answers", "all"])
@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize("name", list(TEMPLATES))
def test_lost_is_what_transformers_writes_nothing_of(name: str, within: bool, train_on: Any, pair: Pair) -> None:
    talks = [("red 1",), ("red 1", "blue 2"), ("red 1", ""), ("", "blue 2"), ("", ""), ("red 1", "blue 2", "green 3")]
    with encoder(pair, ChatTemplate("own", TEMPLATES[name])) as made:
        for thoughts in talks:
            talk = told(*thoughts, within=within)

            def writes(place: int, count: int, talk: list[dict[str, Any]] = talk, said: Any = thoughts) -> bool:
                text = pair[1].apply_chat_template(talk[:count], chat_template=TEMPLATES[name], tokenize=False)
                return said[place] in text

            lost = [n for n, thought in enumerate(thoughts) if thought and not writes(n, len(talk))]
            never = any(not writes(n, 2 * n + 2) for n in lost)
            found = used(made.encode([{"messages": talk}], train_on)[0]).lost
            assert found == ((ALWAYS if never else EARLIER, len(lost)) if lost else None), thoughts
            if name == "last" and len(thoughts) > 1 and thoughts[0]:
                assert found is not None and found.rule == EARLIER


def test_thoughts_are_told_from_their_words(pair: Pair) -> None:
    """Words that stand in the question as well; a beginning that a prompt would have opened; several; none at all."""
    with encoder(pair, ChatTemplate("own", TEMPLATES["cuts"])) as made:
        for content, lost in (
            ("<think>glad</think>So.", (ALWAYS, 1)),
            ("He is glad.\n</think>\n\nSo.", (ALWAYS, 1)),
            ("<think>a</think>b<think>c</think>So.", (ALWAYS, 1)),
            ("<think>\n\n</think>\n\nSo.", None),
            ("So <think> it ends.", None),
        ):
            row = {"messages": [asks(1), {"role": "assistant", "content": content}]}
            assert used(made.encode([row])[0]).lost == lost, content
    parts = [{"type": "text", "text": "<think>glad</think>So."}]
    mute = _CONTENT.replace("CONTENT", "m.content if m.content is string else (m.content[0].text.split('>')[-1])")
    with encoder(pair, ChatTemplate("own", mute)) as made:
        row = {"messages": [asks(1), {"role": "assistant", "content": parts}]}
        assert used(made.encode([row])[0]).lost == (ALWAYS, 1)


CLOSING = (  # as Qwen 3.5's small ones: a prompt that closes the thoughts unless it is told otherwise
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.index0 > ns.last %}"
    "{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}{{ m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}"
    "{% if OPENS %}{% else %}{{ '\n</think>\n\n' }}{% endif %}{% endif %}"
)


@pytest.mark.parametrize(
    ("opens", "given", "way"),
    [
        ("enable_thinking is defined and enable_thinking is true", {}, "{enable_thinking: true}"),
        ("enable_thinking", {"enable_thinking": False}, "{enable_thinking: true}"),
        ("not skip_think", {"skip_think": True}, "{skip_think: false}"),
        ("enable_thinking and false", {}, ""),  # a variable that changes nothing is no way out
        ("false", {}, ""),
    ],
)
def test_a_prompt_that_closes_the_thoughts_of_an_answer_is_told_with_what_opens_them(
    opens: str, given: dict[str, Any], way: str, pair: Pair
) -> None:
    template = ChatTemplate("own", CLOSING.replace("OPENS", opens))
    rows = [
        {"messages": told(*thoughts, within=False)} for thoughts in (("red 1",), ("red 1", "blue 2"), ("red 1", ""))
    ]
    with encoder(pair, template, **given) as made:
        first, second, last = made.encode(rows)
    for dropped, place in ((first, 1), (second, 3)):
        assert isinstance(dropped, Dropped) and dropped.rule == "rewritten" and f"answer {place} " in dropped.detail
        end = "differently afterwards" + (f"; with data.chat.variables: {way} it does not" if way else "")
        assert dropped.detail.endswith(end)
    assert answers(pair[0], last) == ["So 0.<|im_end|>", "So 1.<|im_end|>"]
    if way:
        name, value = way.strip("{}").split(": ")
        with encoder(pair, template, **{**given, name: value == "true"}) as made:
            found = made.encode(rows)[1]
        assert answers(pair[0], found) == ["So 0.<|im_end|>", "blue 2\n</think>\n\nSo 1.<|im_end|>"]


def test_of_a_long_row_no_way_out_is_looked_for(pair: Pair) -> None:
    """It would take the time that one conversation has, twice: what was dropped stopped the run."""
    template, talk = ChatTemplate("own", CLOSING.replace("OPENS", "enable_thinking")), told("red 1", within=False)
    with encoder(pair, template) as made:
        for before, way in (("", True), ("x" * 10_000, False)):
            asked = {**talk[0], "content": before + talk[0]["content"]}
            (dropped,) = made.encode([{"messages": [asked, *talk[1:]]}])
            assert isinstance(dropped, Dropped) and dropped.rule == "rewritten"
            assert ("data.chat.variables" in dropped.detail) == way
