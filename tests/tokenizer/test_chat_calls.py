"""Arguments of calls as JSON texts, as OpenAI writes them: what templates are given, beside transformers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.tokenizer.chat_helpers import Pair, answers, encoder, made_pair, used
from tests.tokenizer.chat_templates import TOOL, TOOLS
from tilth.tokenizer.templates import ChatTemplate

_ARGUMENTS = {"city": "Köln <|im_end|>", "of": {"days": [1, 2.5, None]}}
_ONE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.tool_calls %}{% for call in m.tool_calls %}"
    "{% set call = call.function or call %}{{ call.name + ' ' }}CALL{% endfor %}{% else %}{{ m.content }}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_REFUSES = "{% if call.arguments is not string %}{{ raise_exception('a text, please') }}{% endif %}"
_ITEMS = "{% for key, value in call.arguments.items() %}{{ key }}={{ value | tojson }};{% endfor %}"
_BRANCHES = (  # as Gemma 4: texts are for another format
    "{{ 'call{' }}{% if call.arguments is mapping %}" + _ITEMS + "{% else %}{{ call.arguments }}{% endif %}{{ '}' }}"
)
OBJECTS = {"tojson": TOOLS, "whole": _ONE.replace("CALL", "{{ call | tojson }}"), "items": _ONE.replace("CALL", _ITEMS)}
OBJECTS["branches"] = _ONE.replace("CALL", _BRANCHES)
TEXTS = {
    "either": _ONE.replace("CALL", "{{ call.arguments if call.arguments is string else call.arguments | tojson }}"),
    "added": _ONE.replace("CALL", "{{ '```' + call.arguments + '```' }}"),
    "printed": _ONE.replace("CALL", "{{ call.arguments }}"),  # an object would be written as Python has it
    "refuses": _ONE.replace("CALL", _REFUSES + "{{ call.arguments }}"),
}
NAMES = ["<|im_start|>", "<|im_end|>", "<s>", "</s>"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return made_pair(tmp_path_factory.mktemp("gpt2"), "gpt2", NAMES)


def talk(arguments: Any, outer: bool = True) -> list[dict[str, Any]]:
    call = {"name": "weather", "arguments": arguments}
    return [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call} if outer else call]},
        {"role": "tool", "content": '{"t": 21}', "name": "weather"},
        {"role": "assistant", "content": "It is 21 degrees."},
    ]


@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize("name", [*OBJECTS, *TEXTS])
def test_texts_are_given_as_what_the_template_is_for(name: str, outer: bool, pair: Pair) -> None:
    source = {**OBJECTS, **TEXTS}[name]
    written = json.dumps(_ARGUMENTS, ensure_ascii=False)
    tools = [TOOL] if name == "tojson" else None
    row = {"messages": talk(written, outer), "tools": tools}
    expected = talk(_ARGUMENTS if name in OBJECTS else written, outer)
    with encoder(pair, ChatTemplate("own", source)) as made:
        said = made.render(row["messages"], tools)
        assert said == pair[1].apply_chat_template(expected, tools, chat_template=source, tokenize=False)
        prompt = made.render(row["messages"][:3], tools, add_generation_prompt=True)
        assert prompt == pair[1].apply_chat_template(
            expected[:3], tools, chat_template=source, tokenize=False, add_generation_prompt=True
        )
        encoded = made.encode([row])[0]
        assert pair[0].decode(made.prompt(row["messages"][:3], tools)) == prompt  # type: ignore[arg-type]
    assert pair[0].decode(used(encoded).ids) == said
    call, told = answers(pair[0], encoded)
    assert call.endswith("<|im_end|>") and told == "It is 21 degrees.<|im_end|>"
    if name in ("tojson", "either", "printed"):
        assert written in call


@pytest.mark.parametrize("name", [*OBJECTS, *TEXTS])
def test_objects_are_given_as_what_the_template_is_for(name: str, pair: Pair) -> None:
    source = {**OBJECTS, **TEXTS}[name]
    written = json.dumps(_ARGUMENTS, ensure_ascii=False)
    expected = talk(_ARGUMENTS if name in OBJECTS else written)
    with encoder(pair, ChatTemplate("own", source)) as made:
        said = made.render(talk(_ARGUMENTS), [TOOL])
        assert said == pair[1].apply_chat_template(expected, [TOOL], chat_template=source, tokenize=False)
        compact = json.dumps(_ARGUMENTS, ensure_ascii=False, separators=(",", ":"))
        if name == "either":  # a text that is written as it came stays so
            assert compact in made.render(talk(compact), [TOOL])


def test_objects_that_only_python_would_print_so_are_no_texts(pair: Pair) -> None:
    """One message has an object and the other a text: both are given in one form."""
    told = [*talk({"n": None}), *talk('{"n": true}')]
    with encoder(pair, ChatTemplate("own", TEXTS["printed"])) as made:
        said = made.render(told)
    assert 'weather {"n": null}' in said and 'weather {"n": true}' in said


@pytest.mark.parametrize("text", ["", "Köln", "[1]", '{"city": NaN}', '{"city"', "[" * 100_000])
def test_what_is_no_object_stays_a_text(text: str, pair: Pair) -> None:
    with encoder(pair, ChatTemplate("own", TOOLS)) as made:
        theirs = pair[1].apply_chat_template(talk(text), [TOOL], chat_template=TOOLS, tokenize=False)
        assert made.render(talk(text), [TOOL]) == theirs


def test_no_arguments_and_several_calls(pair: Pair) -> None:
    calls = [{"function": {"name": "weather", "arguments": given}} for given in ("{}", '{"n": 1}', {"n": 2})]
    parsed = [{"function": {"name": "weather", "arguments": given}} for given in ({}, {"n": 1}, {"n": 2})]
    rows = [[{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": told}] for told in (calls, parsed)]
    with encoder(pair, ChatTemplate("own", TOOLS)) as made:
        assert made.render(rows[0], [TOOL]) == made.render(rows[1], [TOOL])
