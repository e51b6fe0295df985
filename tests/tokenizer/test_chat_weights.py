"""Answers of weight 0, as OpenAI's files have them: read, and not trained."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tokenizer.chat_helpers import Pair, answers, encoder, made_pair, without_marks
from tests.tokenizer.chat_templates import THOUGHTS, TOOLS
from tilth.tokenizer.chat import Dropped
from tilth.tokenizer.templates import ChatTemplate, built_in

_MARKS = built_in("chatml")
_JOINED = ChatTemplate(  # both answers stand in one stretch
    "joined",
    "{% generation %}{% for m in messages %}{{ m.content + '<|im_end|>' }}{% endfor %}{% endgeneration %}",
)
TEMPLATES = {
    "marks": _MARKS,
    "no marks": without_marks(_MARKS),
    "thoughts": ChatTemplate("own", THOUGHTS),
    "tools": ChatTemplate("own", TOOLS),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return made_pair(tmp_path_factory.mktemp("gpt2"), "gpt2", ["<|im_start|>", "<|im_end|>", "<s>", "</s>"])


def talk(*weights: float | None) -> list[dict[str, Any]]:
    messages = list[dict[str, Any]]()
    for number, weight in enumerate(weights):
        said = {"role": "assistant", "content": f"So {number}.", "weight": weight}
        messages += [{"role": "user", "content": f"Why {number}? So {number}."}, said]
    return messages


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_they_are_read_and_not_trained(name: str, pair: Pair) -> None:
    with encoder(pair, TEMPLATES[name]) as made:
        for weights in ((0, 1), (1, 0), (0.0, None, 0, 1), (1, None)):
            row, all_of_it = {"messages": talk(*weights)}, {"messages": talk(*(None for _ in weights))}
            found, other = made.encode([row, all_of_it])
            assert not isinstance(found, Dropped) and not isinstance(other, Dropped)
            assert found.ids.tolist() == other.ids.tolist() and found.ended
            told = answers(pair[0], other)
            assert answers(pair[0], found) == [one for one, weight in zip(told, weights, strict=True) if weight != 0]
            assert made.encode([row], "all")[0].trained.all()  # type: ignore[union-attr]
        dropped = made.encode([{"messages": talk(0, 0)}])[0]
        assert isinstance(dropped, Dropped) and dropped.rule == "no_answer" and "weight" in dropped.detail


@pytest.mark.parametrize("name", ["marks", "no marks", "thoughts"])
def test_what_a_template_leaves_out_of_them_is_not_missed(name: str, pair: Pair) -> None:
    """Nothing is trained without it: no other template, nor other rows, would mend that."""
    messages = talk(0, 1)
    messages[1]["reasoning_content"] = "Hm."
    with encoder(pair, TEMPLATES[name]) as made:
        found = made.encode([{"messages": messages}])[0]
        assert not isinstance(found, Dropped) and found.lost is None
        assert made.encode([{"messages": messages}], "all")[0].lost is not None  # type: ignore[union-attr]
        learned = made.encode([{"messages": [messages[0], {**messages[1], "weight": 1}, *messages[2:]]}])[0]
        assert not isinstance(learned, Dropped) and learned.lost is not None and learned.lost.answers == 1


def test_what_they_say_beside_calls_is_not_missed(pair: Pair) -> None:
    called = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
    messages = talk(0, 1)
    messages[1:2] = [{**messages[1], "tool_calls": [called]}, {"role": "tool", "content": "21"}]
    source = (
        "{% for m in messages %}{% if m.tool_calls %}{{ m.tool_calls[0].function | tojson }}{% else %}{{ m.content }}"
        "{% endif %}{{ '<|im_end|>' }}{% endfor %}"
    )
    with encoder(pair, ChatTemplate("calls or says", source)) as made:
        found, whole = made.encode([{"messages": messages}])[0], made.encode([{"messages": messages}], "all")[0]
        assert not isinstance(found, Dropped) and found.unsaid is None
        assert not isinstance(whole, Dropped) and whole.unsaid is not None and whole.unsaid.answers == 1


def test_a_stretch_of_several_answers_is_told(pair: Pair) -> None:
    with encoder(pair, _JOINED) as made:
        dropped, whole = made.encode([{"messages": talk(0, 1)}, {"messages": talk(1, 1)}])
        assert isinstance(dropped, Dropped) and "weight 0" in dropped.detail and not isinstance(whole, Dropped)
