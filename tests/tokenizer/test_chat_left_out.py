"""What a template writes nothing of: calls are refused without, contents and thoughts are counted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tokenizer.chat_helpers import Pair, answers, encoder, made_pair, used
from tests.tokenizer.chat_templates import TOOL
from tilth.core.errors import DataError
from tilth.tokenizer.chat import ChatEncoder, Dropped
from tilth.tokenizer.templates import ChatTemplate
from tilth.tokenizer.thoughts import ALWAYS, EARLIER, UNSAID

_HEAD = "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
_END = "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
_CALL = (
    "{% for c in m.tool_calls %}{{ c.function.name + ' ' }}"
    "{% for key, value in c.function.arguments.items() %}{{ key }}={{ value }};{% endfor %}{% endfor %}"
)
SAYS = _HEAD + "{{ m.content }}" + _END  # as LFM 2
CALLS_OR_SAYS = _HEAD + "{% if m.tool_calls %}" + _CALL + "{% else %}{{ m.content }}{% endif %}" + _END  # as Llama 3.2
NAMES_ALONE = CALLS_OR_SAYS.replace("{{ key }}={{ value }};", "")
BOTH = _HEAD + "{{ m.content }}{% if m.tool_calls %}" + _CALL + "{% endif %}" + _END
LAST = BOTH.replace("{{ m.content }}", "{{ m.reasoning_content if loop.last else '' }}{{ m.content }}")
PARTS = _HEAD + "{{ m.content if m.role == 'user' else m.content[0].text }}" + _END  # as Idefics 3


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return made_pair(tmp_path_factory.mktemp("gpt2"), "gpt2", ["<|im_start|>", "<|im_end|>", "<s>", "</s>"])


def made(pair: Pair, source: str) -> ChatEncoder:
    return encoder(pair, ChatTemplate("own", source))


def row(content: str, arguments: Any, thought: str = "") -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "weather", "arguments": arguments}}
    said = {"role": "assistant", "content": content, "tool_calls": [call], "reasoning_content": thought}
    asked = {"role": "user", "content": "The weather in Rome?"}
    return {"messages": [asked, said, {"role": "tool", "content": "21"}, {"role": "assistant", "content": "It is 21."}]}


@pytest.mark.parametrize("arguments", [{"city": "Rome"}, '{"city": "Rome"}'])
@pytest.mark.parametrize("source", [SAYS, NAMES_ALONE], ids=["says", "names"])
def test_calls_are_missed_though_tools_are_described(source: str, arguments: Any, pair: Pair) -> None:
    """The name of the function stands in the descriptions, and the argument in the question."""
    talk = row("I look.", arguments)["messages"]
    with made(pair, source) as found:
        dropped = found.encode([{"messages": talk, "tools": [TOOL]}])[0]
        assert isinstance(dropped, Dropped) and dropped.rule == "left_out" and "calls in message 1" in dropped.detail
        with pytest.raises(DataError, match=r"left_out: .* calls in message 1"):
            found.prompt(talk[:3], [TOOL])


RESULTS = _HEAD + "{% if m.role != 'tool' %}{{ m.content }}{% endif %}" + _END  # as Phi 4: no branch for a tool
QUOTED = _HEAD + "{{ m.content | tojson if m.role == 'tool' else m.content }}" + _END  # as gpt-oss
SWITCHED = _HEAD + "{{ m.content | replace('/no_think', '') | trim }}" + _END  # as Nemotron


@pytest.mark.parametrize("result", ["21", "Sunny in Rome: 21 degrees", '{"a": "é"}', "It is 21."])
def test_results_of_tools_are_missed(result: str, pair: Pair) -> None:
    """Words of the result stand in the answer to it."""
    called = [{"role": "user", "content": "The weather in Rome?"}, {"role": "assistant", "content": "look(Rome)"}]
    talk = [*called, {"role": "tool", "content": result}]
    answered = [*talk, {"role": "assistant", "content": "It is 21."}]
    with made(pair, RESULTS) as found:
        dropped = found.encode([{"messages": answered}, {"messages": [*called, *called]}])
        assert dropped[0] == Dropped("left_out", "the template writes nothing of message 2, of the tool")
        used(dropped[1])
        with pytest.raises(DataError, match=r"left_out: .* message 2, of the tool"):
            found.prompt(talk)
    with made(pair, QUOTED) as found:
        used(found.encode([{"messages": answered}])[0])
        assert found.prompt(talk)


def test_parts_that_are_missed(pair: Pair) -> None:
    """What the API is given in parts; a text without a word is none that could be missed."""
    parts = [{"type": "text", "text": text} for text in ("Hi", "there")]
    first, all_of_them = (_HEAD + part + _END for part in ("{{ m.content[0].text }}", "{{ m.content | tojson }}"))
    with made(pair, first) as found, made(pair, all_of_them) as other:
        assert found.prompt([{"role": "user", "content": parts[:1]}]) and other.prompt(
            [{"role": "user", "content": parts}]
        )
        assert found.prompt([{"role": "user", "content": [parts[0], {"type": "text", "text": " "}]}])
        with pytest.raises(DataError, match="message 0, of the user"):
            found.prompt([{"role": "user", "content": parts}])


@pytest.mark.parametrize("role", ["system", "user"])
def test_switches_that_a_template_takes_out(role: str, pair: Pair) -> None:
    talk = [{"role": role, "content": "/no_think"}, {"role": "user", "content": "Hi"}]
    with made(pair, SWITCHED) as found:
        row = used(found.encode([{"messages": [*talk, {"role": "assistant", "content": "Hello"}]}])[0])
    assert answers(pair[0], row)[0].startswith("Hello")


@pytest.mark.parametrize("arguments", [{"city": "Rome"}, '{"city": "Rome"}', {}, '{"city": "Köln <|im_end|>"}'])
def test_contents_beside_calls(arguments: Any, pair: Pair) -> None:
    talk = row("I look.", arguments)
    with made(pair, CALLS_OR_SAYS) as found, made(pair, BOTH) as other:
        alone = used(found.encode([talk])[0])
        assert alone.unsaid == (UNSAID, 1) and alone.lost is None
        assert "I look." not in answers(pair[0], alone)[0]
        whole = used(other.encode([talk])[0])
        assert whole.unsaid is None and answers(pair[0], whole)[0].startswith("I look.weather ")
        assert used(found.encode([row("\n", arguments)])[0]).unsaid is None
        assert isinstance(found.prompt(talk["messages"][:3]), list)


def test_a_template_for_parts_is_given_parts(pair: Pair) -> None:
    """Some fail on a text (LLaVA-NeXT), others write nothing of it: Jinja's undefined (Idefics 3)."""
    silent = PARTS.replace("m.content[0].text", "m.content[0].text | default('')")
    looped = _HEAD + "{% for part in m.content if part.type == 'text' %}{{ part.text }}{% endfor %}" + _END
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello <|im_end|>"}] * 2
    system = {"role": "system", "content": "Be brief."}
    with made(pair, SAYS) as texts:
        plain = used(texts.encode([{"messages": [system, *talk]}])[0])
        prompt = texts.prompt([system, *talk[:3]])
    for source in (looped, looped.replace("if part.type == 'text'", ""), silent, PARTS):
        alike = talk if source in (PARTS, silent) else [system, *talk]  # these have texts of the user alone
        with made(pair, source) as found:
            row = used(found.encode([{"messages": alike}])[0])
            assert row.unsaid is None and answers(pair[0], row) == answers(pair[0], plain)
            if alike != talk:
                assert row.ids.tolist() == plain.ids.tolist() and row.trained.tolist() == plain.trained.tolist()
                assert found.prompt([system, *talk[:3]]) == prompt


def test_parts_that_a_template_would_print_are_a_text(pair: Pair) -> None:
    """It writes nothing of a text, and a list as it is: neither is what was said."""
    printed = _HEAD + "{% if m.content is not string %}{{ m.content | tojson }}{% endif %}" + _END
    with made(pair, printed) as found:
        dropped = found.encode(
            [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Oh"}]}]
        )
        assert isinstance(dropped[0], Dropped) and dropped[0].rule == "left_out"


@pytest.mark.parametrize("arguments", [{"city": "Rome"}, '{"city": "Rome"}'])
def test_thoughts_beside_calls(arguments: Any, pair: Pair) -> None:
    """However the arguments came: the template knows objects alone."""
    with made(pair, LAST) as last, made(pair, BOTH) as never:
        assert used(last.encode([row("", arguments, "Hm.")])[0]).lost == (EARLIER, 1)
        assert used(never.encode([row("", arguments, "Hm.")])[0]).lost == (ALWAYS, 1)
        assert used(never.encode([row("", arguments)])[0]).lost is None
