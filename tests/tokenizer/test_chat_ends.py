"""Where answers end and begin by templates that treat the last one, or the first, otherwise: masks to the token."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tokenizer.chat_helpers import Pair, answers, encoder, made_pair, used
from tests.tokenizer.ending_templates import (
    CLOSED_LATE,
    CLOSED_LATE_SYSTEM,
    ENDINGS,
    FORGETFUL,
    HIDDEN,
    OLMO3,
    OLMO3_SYSTEM,
    OPENED_ONCE,
    PHI3,
    YI,
    Ending,
)
from tilth.tokenizer.chat import ChatEncoder, Dropped
from tilth.tokenizer.templates import ChatTemplate

NEWLINE = "\n"
_NAMES = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|im_start|>", "<|im_end|>", "<|tool|>", "<s>", "</s>"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The kind whose offsets transformers keeps, with names of roles as special tokens."""
    return made_pair(tmp_path_factory.mktemp("llama3"), "llama3", _NAMES)


def talk(*said: str) -> list[dict[str, Any]]:
    """Messages by the first letter of what is said: s(ystem), u(ser), a(ssistant) or t(ool)."""
    roles = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return [{"role": roles[text[0]], "content": text[1:]} for text in said]


TALKS = {
    "one": talk("uHi", "aHello, 世界!"),
    "two": talk("uHi", "aHello", "umore", "aNo."),
    "same": talk("uHi", "aHi", "uHi", "aHi", "uHi", "aHi"),
    "system": talk("sBe brief.", "uWhy?", "aSo.\n- it is\n", "u", "aIt is "),
    "open": talk("uHi", "aHello", "uWell"),
    "thoughts": talk("uHi", "a<think>\nhm\n</think>\n\nHello", "uWell", "a<think>no</think>Yes"),
    "first": talk("aHello", "uHi", "aHello", "uWell", "aYes"),
    "alone": talk("aHello"),
    "spoken to": talk("sBe brief.", "aHello", "uHi", "aYes"),
}


def made(pair: Pair, source: str) -> ChatEncoder:
    return encoder(pair, ChatTemplate("own", source))


def by_prefixes(theirs: Any, ending: Ending, messages: list[dict[str, Any]]) -> list[int]:
    """What is trained, from lengths of texts by transformers: of the prompt for an answer, and of that with it."""
    whole = theirs.apply_chat_template(messages, chat_template=ending.source, tokenize=False)
    mask = [0] * len(ids_of(theirs, whole))
    for place, message in enumerate(messages):
        if message["role"] == "assistant":
            prompt = prompt_for(theirs, ending, messages[:place], whole)
            answered = prompt + message["content"] + (ending.within if messages[place + 1 :] else ending.last)
            assert whole.startswith(answered)
            start, stop = len(ids_of(theirs, prompt)), len(ids_of(theirs, answered))
            mask[start:stop] = [1] * (stop - start)
    return mask


def prompt_for(theirs: Any, ending: Ending, before: list[dict[str, Any]], whole: str) -> str:
    """transformers renders no prompt of nothing: there it is the text to the end of the first header of an answer."""
    if not before:
        header = f"assistant{'|>' if '<|assistant|>' in whole else ''}"
        header += NEWLINE if header + NEWLINE in whole else ""
        return whole[: whole.index(header) + len(header)]
    options = {"chat_template": ending.source, "tokenize": False, "add_generation_prompt": True}
    return str(theirs.apply_chat_template(before, **options))


def ids_of(theirs: Any, text: str) -> list[int]:
    ids: list[int] = theirs(text, add_special_tokens=False)["input_ids"]
    return ids


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ENDINGS))
def test_masks_are_those_of_transformers_and_of_prefixes(name: str, pair: Pair) -> None:
    ending, theirs = ENDINGS[name], pair[1]
    rows = [{"messages": messages} for messages in TALKS.values()]
    with made(pair, ending.source) as found, made(pair, ending.marked) as marked:
        for (which, messages), one, other in zip(TALKS.items(), found.encode(rows), marked.encode(rows), strict=True):
            assert found.render(messages) == marked.render(messages)
            expected = theirs.apply_chat_template(
                messages, chat_template=ending.marked, return_assistant_tokens_mask=True, return_dict=True
            )
            assert used(one).ids.tolist() == expected["input_ids"], which
            assert used(one).trained.astype(int).tolist() == expected["assistant_masks"], which
            assert used(one).trained.tolist() == used(other).trained.tolist(), which
            assert used(one).trained.astype(int).tolist() == by_prefixes(theirs, ending, messages), which


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ENDINGS))
def test_generation_stops_where_any_answer_ends(name: str, pair: Pair) -> None:
    """A model that learned from conversations of several turns ends an answer as those within them do."""
    ours, ending = pair[0], ENDINGS[name]
    with made(pair, ending.source) as found, made(pair, ending.marked) as marked:
        ends = {ours.special_tokens[end] for end in (ending.within, "<|end_of_text|>") if end}
        assert found.stop_ids() == marked.stop_ids() == {ours.end_of_text} | ends


@pytest.mark.slow
@pytest.mark.parametrize("ending", [PHI3, OLMO3, OLMO3_SYSTEM], ids=["phi3", "olmo3", "olmo3_system"])
def test_ends_that_are_spelled_are_no_ends(ending: Ending, pair: Pair) -> None:
    said = f" {ending.within} {ending.last}"
    with made(pair, ending.source) as found:
        row = {"messages": talk("uHi" + said, "aHello" + said, "umore" + said, "aNo" + said + " .")}
        encoded = found.encode([row])[0]
        assert answers(pair[0], encoded) == [f"Hello{said}{ending.within}", f"No{said} .{ending.last}"]


@pytest.mark.slow
def test_an_answer_that_is_written_otherwise_later_is_told(pair: Pair) -> None:
    """However the template ends the last one: what it says must be the same."""
    edited = PHI3.source.replace(
        "message['content'] +",
        "message['content'] + (' (old)' if message['role'] == 'assistant' and not loop.last else '') +",
    )
    cut = OLMO3.source.replace("{{ message['content'] }}", "{{ message['content'][: none if loop.last else 3] }}")
    thoughts, row = {"messages": TALKS["thoughts"]}, {"messages": TALKS["two"]}
    for source in (edited, cut):
        assert source not in (PHI3.source, OLMO3.source)
        with made(pair, source) as found:
            dropped, alone = found.encode([row, {"messages": TALKS["one"]}])
            assert isinstance(dropped, Dropped) and dropped.rule == "rewritten" and "answer 1" in dropped.detail
            assert used(alone).trained.any()
    with made(pair, FORGETFUL) as found:
        assert answers(pair[0], found.encode([row])[0]) == ["Hello<|end|>", "No.<|end|>\n<|end_of_text|>"]
        last = "<think>no</think>Yes<|end|>\n<|end_of_text|>"
        # The white space that the template leaves is a token with the line break before it.
        assert answers(pair[0], found.encode([thoughts])[0]) == ["\n\n\nHello<|end|>", last]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(HIDDEN))
def test_what_opens_the_next_message_is_no_end(name: str, pair: Pair) -> None:
    """Whatever the template writes before the first message, or however it refuses others."""
    tools = [{"type": "function", "function": {"name": "look", "description": "", "parameters": {}}}]
    last = "</s>" if name == "begins" else "<|end_of_text|>"
    with made(pair, HIDDEN[name]) as found:
        tool = talk("uHi", "aHello", "tfound", "aSo.", "u?", "aNo.")
        for messages in [TALKS["two"]] if name in ("rounds", "begins") else [TALKS["two"], tool]:
            said = [message["content"] for message in messages if message["role"] == "assistant"]
            encoded = found.encode([{"messages": messages, "tools": tools if name == "tools" else None}])[0]
            assert answers(pair[0], encoded) == [*said[:-1], said[-1] + last]
        assert found.stop_ids() == {pair[0].end_of_text, pair[0].special_tokens[last]}


NAMES_TOOLS = (  # the sandbox refuses `append`, which nobody comes to without tools
    "{% if tools %}{% set names = [] %}{% for tool in tools %}{% set _ = names.append(tool) %}{% endfor %}{% endif %}"
)
CALLS_APART = (  # as GigaChat 3: a call is a message of its own, behind the answer's end
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% for call in m.tool_calls or [] %}{{ 'call\n' + call.function.name + '<|im_end|>\n' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.mark.slow
@pytest.mark.parametrize("source", [NAMES_TOOLS + CALLS_APART, CALLS_APART])
def test_conversations_with_calls_take_no_end_from_others(pair: Pair, source: str) -> None:
    with made(pair, source) as found:
        assert found.stop_ids() == {pair[0].end_of_text, pair[0].special_tokens["<|im_end|>"]}


@pytest.mark.slow
def test_a_token_that_may_be_either_is_told(pair: Pair) -> None:
    for source in (CLOSED_LATE_SYSTEM, OPENED_ONCE):
        with made(pair, source) as found:
            dropped, alone = found.encode([{"messages": TALKS["two"]}, {"messages": TALKS["one"]}])
            assert isinstance(dropped, Dropped) and dropped.rule == "rewritten" and "answer 1" in dropped.detail
            assert used(alone).trained.any()
            assert found.stop_ids() == {pair[0].end_of_text}
    with made(pair, CLOSED_LATE) as found:
        assert answers(pair[0], found.encode([{"messages": TALKS["two"]}])[0]) == ["Hello<|end|>", "No.<|end_of_text|>"]


@pytest.mark.slow
def test_a_last_answer_that_nothing_ends_is_told(pair: Pair) -> None:
    with made(pair, YI.source) as found:
        closed, bare = found.encode([{"messages": TALKS["open"]}, {"messages": TALKS["two"]}])
        assert used(closed).ended and not used(bare).ended
        assert answers(pair[0], bare) == ["Hello<|im_end|>", "No."]
