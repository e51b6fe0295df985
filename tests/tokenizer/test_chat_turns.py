"""Conversations of several turns by templates in the manner of models that think and call: masks to the token."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tokenizer.chat_helpers import Pair, answers, encoder, made_pair, used
from tests.tokenizer.chat_templates import TOOL
from tilth.tokenizer.chat import ChatEncoder, Dropped
from tilth.tokenizer.templates import ChatTemplate

_NAMES = [
    *("<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|start|>", "<|channel|>", "<|message|>"),
    *("<|end|>", "<|return|>", "<|call|>", "<s>", "</s>"),
]
_LAST = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% set ns = namespace(last=-1) %}{% for m in messages %}"
    "{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}"
    "{% set thought = (m.reasoning_content or '') if loop.index0 > ns.last else '' %}"
)
_CALLS = "{% for c in m.tool_calls or [] %}{{ c.function.name + ' ' + (c.function.arguments | tojson) }}{% endfor %}"
_SAYS = "{{ m.content }}" + _CALLS
_TURN = "{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}ANSWER{{ '\n' }}{% else %}"
_TURNS = _LAST + _TURN + "{{ m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}"
_OPENED = "{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
_FINAL = "{{ '<|channel|>final<|message|>' + m.content + ('<|return|>' if loop.last else '<|end|>') }}"
_ANALYSIS = "'<|channel|>analysis<|message|>' + m.reasoning_content + '<|end|><|start|>assistant'"
# What stands between ( and ) is trained: where the prompt for the answer ends, as far as both are the same, to its end.
THINKING = {
    # Thoughts behind the last question, empty ones too, as Qwen 3.5.
    "opened": _TURNS.replace(
        "ANSWER",
        "{% if loop.index0 > ns.last %}{{ '<think>\n' }}([{{ thought + '\n</think>\n\n' }}"
        + _SAYS
        + "<|im_end|>]){% else %}(["
        + _SAYS
        + "<|im_end|>]){% endif %}",
    )
    + _OPENED,
    # An empty thought in place of each that is left out, which is opened otherwise than a prompt's, as Nemotron 3.
    "emptied": _TURNS.replace(
        "ANSWER",
        "{{ '<think>' }}{% if thought %}{{ '\n' }}{% endif %}([{{ thought + '</think>' }}" + _SAYS + "<|im_end|>])",
    )
    + _OPENED,
    # No token ends an answer, as GLM 4.5.
    "unended": _LAST + "{{ '<|' + m.role + '|>' }}{% if m.role == 'assistant' %}"
    "([{{ '\n<think>' + thought + '</think>\n' }}" + _SAYS + "]){% else %}{{ '\n' + m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
    # Thoughts for the last answer, and beside calls before one, and another token behind it, as gpt-oss.
    "channels": _LAST + "{{ '<|start|>' + m.role }}{% if m.role != 'assistant' %}{{ '<|message|>' + m.content + "
    "'<|end|>' }}{% else %}([{% if thought and (loop.last or m.tool_calls and not loop.nextitem) %}{{ "
    + _ANALYSIS
    + " }}{% endif %}{% if m.tool_calls %}{{ ' to=' }}"
    + _CALLS
    + "<|call|>{% else %}"
    + _FINAL
    + "{% endif %}]){% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}",
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The kind whose offsets transformers keeps."""
    return made_pair(tmp_path_factory.mktemp("llama3"), "llama3", _NAMES)


def asked(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str, thought: str = "") -> dict[str, Any]:
    return {"role": "assistant", "content": text, **({"reasoning_content": thought} if thought else {})}


def called(thought: str = "", arguments: Any = None, **more: Any) -> list[dict[str, Any]]:
    function = {"name": "weather", "arguments": arguments or {"city": "Rome"}}
    call = {**said("", thought), "tool_calls": [{"type": "function", "function": function, "id": "a"}], **more}
    return [call, {"role": "tool", "content": "21", "tool_call_id": "a"}]


TALKS = {
    "one": [asked("Hi"), said("Hello")],
    "thoughts": [asked("Q1"), said("A1", "hm 1"), asked("Q2"), said("A2", "hm 2")],
    "three": [asked("Q1"), said("A1", "hm 1"), asked("Q2"), said("A2"), asked("Q3"), said("A3", "hm 3")],
    "calls": [asked("Q1"), *called("hm 1"), said("A1", "hm 2"), asked("Q2"), said("A2", "hm 3")],
    "a thought at the call": [asked("Q1"), *called("hm 1"), said("A1"), asked("Q2"), said("A2")],
    "no thoughts": [asked("Q1"), *called(), said("A1"), asked("Q2"), said("A2")],
    "one question": [asked("Q1"), *called("hm 1"), *called("hm 2"), said("A1", "hm 3")],
    "calls twice": [asked("Q1"), *called("hm 1"), said("A1"), asked("Q2"), *called("hm 2"), said("A2", "hm")],
}


def made(pair: Pair, source: str) -> ChatEncoder:
    return encoder(pair, ChatTemplate("own", source))


@pytest.mark.parametrize("name", list(THINKING))
def test_answers_whose_earlier_thoughts_are_left_out(name: str, pair: Pair) -> None:
    ours, theirs = pair
    marked = THINKING[name].replace("([", "{%- generation %}").replace("])", "{%- endgeneration %}")
    with made(pair, THINKING[name].replace("([", "").replace("])", "")) as found:
        for which, messages in TALKS.items():
            encoded = used(found.encode([{"messages": messages, "tools": [TOOL]}])[0])
            expected = theirs.apply_chat_template(
                messages, [TOOL], chat_template=marked, return_assistant_tokens_mask=True, return_dict=True
            )
            assert encoded.ids.tolist() == expected["input_ids"], which
            assert encoded.trained.astype(int).tolist() == expected["assistant_masks"], (which, answers(ours, encoded))


def test_a_token_behind_thoughts_ends_no_answer(pair: Pair) -> None:
    """As gpt-oss, whose earlier answers end with the token that thoughts end with."""
    for name, ends in (("channels", {"<|return|>", "<|call|>"}), ("opened", {"<|im_end|>"})):
        with made(pair, THINKING[name].replace("([", "").replace("])", "")) as found:
            assert found.stop_ids() == {pair[0].end_of_text, *(pair[0].special_tokens[end] for end in ends)}


def test_a_token_behind_each_of_several_calls_ends_no_answer(pair: Pair) -> None:
    """Else a model that asks twice is cut short behind the first."""
    calls = (
        "{% for c in m.tool_calls or [] %}{{ c.function.name + (c.function.arguments | tojson) }}<|call|>{% endfor %}"
    )
    written = _LAST + "<|{{ m.role }}|>{{ m.content }}" + calls + "LAST{% endfor %}"
    source = written + "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    for last, ends in (("", set[str]()), ("{% if m.role == 'assistant' %}<|end|>{% endif %}", {"<|end|>"})):
        with made(pair, source.replace("LAST", last)) as found:
            assert found.stop_ids() == {pair[0].end_of_text, *(pair[0].special_tokens[end] for end in ends)}


@pytest.mark.parametrize("prompt", ["ASSISTANT:", "### Response:\n"])
def test_a_prompt_that_parts_from_the_history_within_its_words_begins_no_answer(prompt: str, pair: Pair) -> None:
    """Else the words before the answer are trained, which the model is then given, and writes once more."""
    written = "{{ ('USER: ' if m.role == 'user' else OPENED) + m.content + '<|end|>' }}{% endfor %}"
    source = "{% for m in messages %}" + written.replace("OPENED", repr(f"\n {prompt} "))
    with made(pair, source + "{% if add_generation_prompt %}{{ " + repr(prompt) + " }}{% endif %}") as found:
        for talk in ("one", "thoughts"):
            dropped = found.encode([{"messages": TALKS[talk]}])[0]
            assert isinstance(dropped, Dropped) and dropped.rule == "rewritten"


# As Mistral: tools stand before the last question, and questions and answers that only say something alternate.
_ALTERNATING = (
    "{% set ns = namespace(last=-1, turn=0) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% if m.role == 'user' or m.role == 'assistant' and not m.tool_calls %}"
    "{% if (m.role == 'user') != (ns.turn % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% set ns.turn = ns.turn + 1 %}{% endif %}{% endfor %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% if loop.index0 == ns.last and tools %}{{ '<|tool|>' + (tools | tojson) }}{% endif %}"
    "{{ '<|user|>' + m.content + '<|assistant|>' }}{% elif m.role == 'tool' %}{{ '<|tool|>' + m.content + '<|end|>' }}"
    "{% else %}{{ ' ' + m.content }}" + _CALLS + "</s>{% endif %}{% endfor %}"
)


def test_calls_before_the_last_question_where_roles_must_alternate(pair: Pair) -> None:
    with made(pair, _ALTERNATING) as found:
        encoded = found.encode([{"messages": TALKS["no thoughts"], "tools": [TOOL]}])[0]
        told = [text.strip() for text in answers(pair[0], encoded)]
        assert told == ['weather {"city": "Rome"}</s>', "A1</s>", "A2</s>"]


_OWN = "<|im_start|>assistant\n"
_ASKS = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}" + _CALLS + "{{ '<|im_end|>\n' }}"
BRANCHES = (  # a prompt is asked for, but with tools or documents it is always there, as in Command R7B
    "{% if tools or documents %}{{ '<|im_start|>system\n' + ((tools or documents) | tojson) + '<|im_end|>\n' }}"
    + _ASKS
    + "{% endfor %}{{ OWN }}{% else %}"
    + _ASKS
    + "{% endfor %}{% if add_generation_prompt %}{{ OWN }}{% endif %}{% endif %}"
).replace("OWN", repr(_OWN))


@pytest.mark.parametrize("order", [1, -1])
def test_a_prompt_that_nobody_asked_for_beside_tools_or_documents_alone(order: int, pair: Pair) -> None:
    documents = [{"title": "one", "text": "1"}]
    rows = [{"messages": TALKS["no thoughts"], **more} for more in ({}, {"tools": [TOOL]}, {"documents": documents})]
    with made(pair, BRANCHES) as found:
        for encoded in found.encode(rows[::order]):
            call, *told = answers(pair[0], encoded)
            assert call == 'weather {"city": "Rome"}<|im_end|>' and told == ["A1<|im_end|>", "A2<|im_end|>"]


def test_an_id_in_the_place_of_the_name(pair: Pair) -> None:
    """As Kimi K2: `functions.weather:0` says what is called, another id does not."""
    written = "{{ c.id + ' ' + (c.function.arguments | tojson) }}"
    source = BRANCHES.replace("{{ c.function.name + ' ' + (c.function.arguments | tojson) }}", written)
    rows = []
    for name in ("functions.weather:0", "call_1"):
        messages = [asked("Q1"), *called(), said("A1")]
        messages[1]["tool_calls"][0]["id"] = name
        rows.append({"messages": messages, "tools": [TOOL]})
    with made(pair, source) as found:
        known, other = found.encode(rows)
        assert answers(pair[0], known) == ['functions.weather:0 {"city": "Rome"}<|im_end|>', "A1<|im_end|>"]
        assert isinstance(other, Dropped) and "calls in message 1" in other.detail


# As DeepSeek R1 distilled: what is no None is an answer, instead of the calls or behind them.
_TEXT_CALLS = "{% for c in m.tool_calls %}{{ c.function.name + ' ' + c.function.arguments }}{% endfor %}"
_NONE = (
    "{% for m in messages %}{% if m.role != 'assistant' %}{{ '<|user|>' + m.content }}{% else %}{% if IS %}"
    "{{ '<|assistant|>' }}" + _TEXT_CALLS + "<|end|>{% endif %}{% if m.content is not none %}"
    "{{ '<|assistant|>' + m.content }}<|end|>{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@pytest.mark.parametrize("arguments", ['{"city": "Rome"}', {"city": "Rome"}])
@pytest.mark.parametrize("test", ["m.content is none", "m.tool_calls"])
def test_answers_that_only_call_are_no_empty_answers(test: str, arguments: Any, pair: Pair) -> None:
    rows = [
        {"messages": [asked("Q1"), *called(arguments=arguments, content=given), said("A1")]} for given in ("", None)
    ]
    with made(pair, _NONE.replace("IS", test)) as found, made(pair, BRANCHES) as concatenates:
        for encoded in found.encode(rows):
            assert answers(pair[0], encoded) == ['weather {"city": "Rome"}<|end|>', "A1<|end|>"]
        for encoded in concatenates.encode(rows):
            assert answers(pair[0], encoded) == ['weather {"city": "Rome"}<|im_end|>', "A1<|im_end|>"]


def test_a_switch_that_the_template_takes_out_is_no_loss(pair: Pair) -> None:
    switched = BRANCHES.replace("m.content", "m.content.replace('/no_think', '').rstrip()")
    silent = BRANCHES.replace("'\n' + m.content", "'\n' + ('' if m.role == 'system' else m.content)")
    for text in ("/no_think", "Be brief. /no_think", "/no_think\nBe brief."):
        row = {"messages": [{"role": "system", "content": text}, asked("Hi"), said("Hello")]}
        with made(pair, switched) as found, made(pair, silent) as other:
            assert answers(pair[0], found.encode([row])[0]) == ["Hello<|im_end|>"]
            dropped = other.encode([row])[0]
            assert isinstance(dropped, Dropped) and dropped.rule == "left_out" and "of the system" in dropped.detail


def test_an_end_that_is_marked_apart_belongs_to_its_answer(pair: Pair) -> None:
    """As TRL's templates for the training of Phi 3."""
    apart = (
        "{% for m in messages %}{{ '<|' + m.role + '|>' }}{% if m.role == 'assistant' %}{% generation %}"
        "{{ m.content + '<|end|>' }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
        "{% if not add_generation_prompt %}{% generation %}{{ eos_token }}{% endgeneration %}{% endif %}"
    )
    messages = [asked("Q1"), said("A1"), asked("Q2"), {**said("A2"), "weight": 0}]
    with made(pair, apart) as found:
        first, both = found.encode([{"messages": messages}, {"messages": [*messages[:3], said("A2")]}])
        assert answers(pair[0], first) == ["A1<|end|>"] and answers(pair[0], both)[1].startswith("A2<|end|><|")
