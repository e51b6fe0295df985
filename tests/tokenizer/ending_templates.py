"""Templates that end the last answer otherwise than those before it, or write a generation prompt behind messages only.

Each as published, and with `{% generation %}` around what is an answer: the same text, for masks of transformers'.
"""

from __future__ import annotations

from typing import NamedTuple


class Ending(NamedTuple):
    """A template.

    Attributes:
        source: as checkpoints bring it.
        marked: the same text, answers marked.
        within, last: what ends an answer that messages follow, and one that ends the conversation.
    """

    source: str
    marked: str
    within: str
    last: str


# End-of-text behind the whole conversation, as in Phi 3, 3.5 and 4 mini.
PHI3 = Ending(
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' }}{% if message['role'] != 'assistant' %}"
    "{{ message['content'] + '<|end|>\n' }}{% elif loop.last and not add_generation_prompt %}"
    "{%- generation %}{{ message['content'] + '<|end|>\n' + eos_token }}{%- endgeneration %}{% else %}"
    "{%- generation %}{{ message['content'] + '<|end|>' }}{%- endgeneration %}{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}"
    "{% elif messages[-1]['role'] != 'assistant' %}{{ eos_token }}{% endif %}",
    "<|end|>",
    "<|end|>\n<|end_of_text|>",
)

# End-of-text in place of the token that ends every other message, as in OLMo 3.
_OLMO3 = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ '<|im_start|>assistant\n' }}ANSWER"
    "{% else %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
OLMO3 = Ending(
    _OLMO3.replace(
        "ANSWER",
        "{{ message['content'] }}{% if not loop.last %}{{ '<|im_end|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    ),
    _OLMO3.replace(
        "ANSWER",
        "{%- generation %}{{ message['content'] + ('<|im_end|>' if not loop.last else eos_token) }}{%- endgeneration %}"
        "{{ '' if loop.last else '\n' }}",
    ),
    "<|im_end|>",
    "<|end_of_text|>",
)

# The same with a system prompt of its own, which ends as its messages do.
_OWN = (
    "{% if not messages | selectattr('role', 'equalto', 'system') | list %}"
    "{{ '<|im_start|>system\nBe good.<|im_end|>\n' }}{% endif %}"
)
OLMO3_SYSTEM = OLMO3._replace(source=_OWN + OLMO3.source, marked=_OWN + OLMO3.marked)

# Nothing ends an answer that messages follow.
_UNENDED = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}{% if message['role'] == 'assistant' %}ANSWER"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
UNENDED = Ending(
    _UNENDED.replace("ANSWER", "{{ message['content'] }}{% if loop.last %}{{ eos_token }}{% endif %}"),
    _UNENDED.replace(
        "ANSWER",
        "{%- generation %}{{ message['content'] + (eos_token if loop.last else '') }}{%- endgeneration %}",
    ),
    "",
    "<|end_of_text|>",
)

# The same with a system prompt of its own, so that no conversation begins as a later message does.
_OWN_OPENED = (
    "{% if not messages | selectattr('role', 'equalto', 'system') | list %}{{ '<|system|>Be good.' }}{% endif %}"
)
UNENDED_SYSTEM = UNENDED._replace(source=_OWN_OPENED + UNENDED.source, marked=_OWN_OPENED + UNENDED.marked)

# An end only where something follows, as in Yi and Qwen 1.5: nothing ends the last answer.
_YI = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% set end = '<|im_end|>' if (loop.last and add_generation_prompt) or not loop.last else '' %}ANSWER"
    "{{ '\n' if end }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
YI = Ending(
    _YI.replace("ANSWER", "{{ message['content'] + end }}"),
    _YI.replace(
        "ANSWER",
        "{% if message['role'] == 'assistant' %}{%- generation %}{{ message['content'] + end }}{%- endgeneration %}"
        "{% else %}{{ message['content'] + end }}{% endif %}",
    ),
    "<|im_end|>",
    "",
)

# A generation prompt behind the last message and not without one, as in OLMo 2 …
_OLMO2 = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>\n' }}"
    "{% if message['role'] == 'assistant' %}ANSWER{% if not loop.last %}{{ '\n' }}{% endif %}"
    "{% else %}{{ message['content'] + '\n' }}{% endif %}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}"
)
_ENDED = "{{ message['content'] + eos_token }}"
OLMO2 = Ending(
    _OLMO2.replace("ANSWER", _ENDED),
    _OLMO2.replace("ANSWER", "{%- generation %}" + _ENDED + "{%- endgeneration %}"),
    "<|end_of_text|>",
    "<|end_of_text|>",
)

# … and in Zephyr.
_ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
ANSWER
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
ZEPHYR = Ending(
    _ZEPHYR.replace("ANSWER", "{{ '<|assistant|>\n'  + message['content'] + eos_token }}"),
    _ZEPHYR.replace("ANSWER", "{{ '<|assistant|>\n' }}{% generation %}" + _ENDED + "{%- endgeneration %}{{ '' }}"),
    "<|end_of_text|>",
    "<|end_of_text|>",
)

ENDINGS = {
    "phi3": PHI3,
    "olmo3": OLMO3,
    "olmo3_system": OLMO3_SYSTEM,
    "unended": UNENDED,
    "unended_system": UNENDED_SYSTEM,
    "yi": YI,
    "olmo2": OLMO2,
    "zephyr": ZEPHYR,
}

# Thoughts are left out once a question follows, with the end of Phi 3.
FORGETFUL = (
    "{% for message in messages %}{% set content = message['content'] %}"
    "{% if '</think>' in content and not loop.last %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{ '<|' + message['role'] + '|>\n' + content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)

# What a conversation begins with tells nothing of how a later message is opened: a text or the tools of the template's,
# another role than the user's, a number; or the template refuses it.
_SAYS = "{% if messages[0]['role'] != 'system' %}{{ 'Be good. ' }}{% endif %}"
_LISTS = "{% if tools %}{{ '<|system|>Tools: ' + (tools | tojson) }}{% endif %}"
_USER_FIRST = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('the user speaks first') }}{% endif %}"
_SYSTEM_OPENED = "{% if messages[0]['role'] != 'system' %}{{ '<|system|>Be good.' }}{% endif %}"
_TURNS = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ OPENING + message['content'] }}"
    "{% else %}{{ OTHERS + message['content'] }}{% if loop.last %}{{ eos_token }}{% endif %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}PROMPT{% endif %}"
)
_ROUNDS = _TURNS.replace("OPENING", "'<|user|>[Round ' ~ loop.index0 ~ '] '").replace("PROMPT", "<|assistant|>")
_BEGUN = _TURNS.replace("OPENING", "'<s>[INST] '").replace("PROMPT", " [/INST]").replace("eos_token", "'</s>'")
HIDDEN = {
    "text": _SAYS + UNENDED.source,
    "system": _SYSTEM_OPENED + UNENDED.source,
    "tools": _LISTS + UNENDED.source,
    "user first": _USER_FIRST + UNENDED.source,
    "rounds": _ROUNDS.replace("OTHERS", "'<|' + message['role'] + '|>'"),
    "begins": _SAYS + _BEGUN.replace("OTHERS", "' [/INST]'"),
}

# Each message is closed by what opens the next: with a system prompt of the template's nothing tells which it is.
CLOSED_LATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if not loop.last or add_generation_prompt %}{{ '<|end|>' }}{% else %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CLOSED_LATE_SYSTEM = _SYSTEM_OPENED + CLOSED_LATE
OPENED_ONCE = _SYSTEM_OPENED + (
    "{% for message in messages %}{% if loop.first or messages[loop.index0 - 1]['role'] != message['role'] %}"
    "{{ '<|' + message['role'] + '|>' }}{% endif %}{{ '* ' + message['content'] }}"
    "{% if loop.last and message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>* ' }}{% endif %}"
)
