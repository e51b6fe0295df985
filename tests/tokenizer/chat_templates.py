"""Templates in the manner of those that checkpoints bring: what they use of Jinja, what they are strict about."""

from __future__ import annotations

# ChatML with a default system prompt, tools as JSON and tool calls, as in Qwen 2.5.
TOOLS = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are a helpful assistant.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""  # noqa: E501

# Thoughts kept after the last question only, an empty thought written for an answer without one, as in Qwen 3.
THOUGHTS = """{%- set ns = namespace(last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if message.role == "user" and message.content is string %}
        {%- set ns.last = index %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thought = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last %}
            {{- '<|im_start|>assistant\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' }}
            {{- content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

# A date in the system prompt, headers trimmed, as in Llama 3.1.
DATED = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

# No generation prompt, roles in turn or an exception, one line, as in Mistral's first and Llama 2's.
STRICT = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)

# A macro, documents, a block set, filters, loop controls, as in Cohere's and Granite's.
MACROS = """{%- macro turn(role, text) -%}
<|im_start|>{{ role }}
{{ text | trim }}<|im_end|>
{% endmacro -%}
{%- set quoted -%}
{%- for document in documents or [] %}
{{ loop.index }}. {{ document.title | upper }}: {{ document.text }}
{%- if loop.index >= 2 %}{% break %}{% endif %}
{%- endfor %}
{%- endset -%}
{{ turn('system', quoted) if quoted else '' }}
{%- for message in messages %}
{%- if message.role == 'system' and not message.content %}{% continue %}{% endif %}
{{- turn(message.role, message.content) }}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

# The generation prompt opens a thought that the history does not have, as in DeepSeek R1's.
OPENED = """{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}\
<|im_start|>user {{ message.content }}{% elif message.role == 'assistant' %}\
<|im_start|>assistant{{ message.content.split('</think>')[-1] if '</think>' in message.content else message.content }}\
<|im_end|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant<think>\\n{% endif %}"""

# No special token ends an answer, as where a base model is tuned on plain text.
PLAIN = (
    "{% for message in messages %}{{ '### ' + message.role + ':\\n' + message.content + '\\n\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant:\\n' }}{% endif %}"
)

# What stands before an answer is written anew with each message, so that no beginning of it is one of the whole.
COUNTED = (
    "{{ messages | length }} messages\n"
    "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
)

ALL = {
    "tools": TOOLS,
    "thoughts": THOUGHTS,
    "dated": DATED,
    "strict": STRICT,
    "macros": MACROS,
    "opened": OPENED,
    "plain": PLAIN,
    "counted": COUNTED,
}

TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": 'Says <b>weather</b> & "more"', "parameters": {"type": "object"}},
}

TALKS: dict[str, list[dict[str, object]]] = {
    "one": [{"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "Hello, 世界! 😀"}],
    "two": [
        {"role": "user", "content": " What is 2+2? \n"},
        {"role": "assistant", "content": "It's 4.\n\n- really\n"},
        {"role": "user", "content": "and <b>3+3</b> > 5?"},
        {"role": "assistant", "content": "  6, so yes.  "},
    ],
    "system": [
        {"role": "system", "content": "Be brief. "},
        {"role": "user", "content": "naïve café?"},
        {"role": "assistant", "content": "Größe"},
    ],
    "open": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ],
    "calls": [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"type": "function", "function": {"name": "weather", "arguments": {"city": "Köln <|im_end|>"}}}
            ],
        },
        {"role": "tool", "content": '{"t": 21}', "name": "weather"},
        {"role": "assistant", "content": "It is 21 degrees."},
    ],
    "thinking": [
        {"role": "user", "content": "Q1"},
        {"role": "assistant", "content": "<think>\nhm 1\n</think>\n\nA1"},
        {"role": "user", "content": "Q2"},
        {"role": "assistant", "reasoning_content": "hm 2", "content": "A2"},
    ],
}
