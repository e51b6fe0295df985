"""Where answers begin by templates whose generation prompt is always there, or says more than the history does."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from tests.tokenizer.chat_helpers import Pair, encoder, made_pair, used
from tilth.tokenizer.chat import ChatEncoder, Dropped
from tilth.tokenizer.templates import ChatTemplate

_NAMES = ["<|im_start|>", "<|im_end|>", "<s>", "</s>", "<|sep|>", "<|begin|>", "<|user|>", "<|assistant|>"]
_ROLES = {"s": "system", "u": "user", "a": "assistant"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return made_pair(tmp_path_factory.mktemp("llama3"), "llama3", _NAMES)


def talk(said: str) -> list[dict[str, Any]]:
    return [{"role": _ROLES[letter], "content": f"It is {place}."} for place, letter in enumerate(said)]


class Prompted(NamedTuple):
    """A template in which ANSWER stands for what is trained, and talks that it is right for."""

    text: str
    talks: tuple[str, ...]
    end: str = "'<|im_end|>'"

    @property
    def source(self) -> str:
        return self.text.replace("ANSWER", "{{ m.content + END }}").replace("END", self.end)

    @property
    def marked(self) -> str:
        answer = "{%- generation %}{{ m.content + END }}{%- endgeneration %}"
        said = "{% if m.role == 'assistant' %}" + answer + "{% else %}{{ m.content + END }}{% endif %}"
        return self.text.replace("ANSWER", said).replace("END", self.end)


_HEAD = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
_PROMPT = "{{ '<|im_start|>assistant\n' }}"
_THINK = "'<think>\\n\\n</think>\\n\\n'"
_UNANSWERED = "{% if add_generation_prompt and messages[-1].role != 'assistant' %}" + _PROMPT + "{% endif %}"
_TURNS = ("ua", "uaua", "suaua", "uauaua", "uau", "uaaua")
_OPENED = "'<|im_start|>assistant<|sep|>'"  # as Cohere's Command A, with a text of its own at the beginning
_PREAMBLE = "{{ bos_token + '<|im_start|>system<|sep|>Be good.' + END }}"
_COHERE = _PREAMBLE + "{% for m in messages %}{{ '<|im_start|>' + m.role + '<|sep|>' }}HEADANSWER{% endfor %}"
_ASKED = "{% if add_generation_prompt %}<|begin|>{% endif %}"
_SAYS = "{{ '<|begin|>' if m.role == 'assistant' else '' }}"
PROMPTED = {
    "all but its end always": Prompted(
        _COHERE.replace("HEAD", _SAYS) + "{{ " + _OPENED + " }}" + _ASKED, _TURNS, "'<|im_end|>'"
    ),
    "always, behind a preamble": Prompted(_COHERE.replace("HEAD", "") + "{{ " + _OPENED + " }}", _TURNS),
    "always, roles as tokens": Prompted(
        "{{ bos_token + 'Be good.' + END }}{% for m in messages %}{{ '<|' + m.role + '|>' }}ANSWER{% endfor %}"
        "<|assistant|>",
        _TURNS,
    ),
    "always, not without a message": Prompted(
        "{% if messages[0].role %}{% endif %}" + _HEAD + "ANSWER{{ '\n' }}{% endfor %}" + _PROMPT, _TURNS
    ),
    "always": Prompted(_HEAD + "ANSWER{{ '\n' }}{% endfor %}" + _PROMPT, _TURNS),
    "always, joined": Prompted(_HEAD + "ANSWER{% endfor %}" + _PROMPT, _TURNS),
    "always, begun": Prompted("{{ bos_token }}" + _HEAD + "ANSWER{% endfor %}" + _PROMPT, _TURNS),
    "thoughts for the last": Prompted(
        _HEAD
        + "{% if m.role == 'assistant' and loop.last %}{{ "
        + _THINK
        + " }}{% endif %}ANSWER{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' + THINK }}{% endif %}".replace("THINK", _THINK),
        ("ua", "uaua", "suaua", "uauaua", "uau"),
    ),
    # No prompt behind an answer, as in Qwen 1.5, whose last answer has no end either.
    "none behind answers": Prompted(_HEAD + "ANSWER{{ '\n' }}{% endfor %}" + _UNANSWERED, (*_TURNS, "suaaa")),
    "begun with the first message": Prompted(  # as the first Llama 3
        "{% for m in messages %}{{ (bos_token if loop.first else '') + '<|im_start|>' + m.role + '\n' }}ANSWER"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        (*_TURNS, "a", "au", "aua", "auaua", "saua"),
    ),
    "Qwen 1.5": Prompted(
        _HEAD + "{% set end = '<|im_end|>\n' if add_generation_prompt or not loop.last else '' %}"
        "ANSWER{{ end[10:] }}{% endfor %}" + _UNANSWERED,
        (*_TURNS, "suaaa"),
        "end[:10]",
    ),
}


def made(pair: Pair, source: str, **variables: Any) -> ChatEncoder:
    return encoder(pair, ChatTemplate("own", source), **variables)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PROMPTED))
def test_masks_are_those_of_transformers(name: str, pair: Pair) -> None:
    ours, theirs = pair
    prompted = PROMPTED[name]
    with made(pair, prompted.source) as found:
        for said in prompted.talks:
            encoded = used(found.encode([{"messages": talk(said)}])[0])
            expected = theirs.apply_chat_template(
                talk(said), chat_template=prompted.marked, return_assistant_tokens_mask=True, return_dict=True
            )
            assert encoded.ids.tolist() == expected["input_ids"], said
            assert encoded.trained.astype(int).tolist() == expected["assistant_masks"], said
        assert found.stop_ids() == {ours.end_of_text, ours.special_tokens["<|im_end|>"]}


def test_a_prompt_nobody_asked_for_is_told_where_its_beginning_cannot_be(pair: Pair) -> None:
    """The template fails without a message, and no token opens one."""
    needy = "{% if messages[0].role == 'system' %}{% endif %}" + PROMPTED["always"].source
    with made(pair, needy.replace("<|im_start|>", "### ")) as found:
        dropped = found.encode([{"messages": talk("uaua")}])[0]
        assert isinstance(dropped, Dropped) and dropped.rule == "template" and "asked or not" in dropped.detail
