"""Conversations to text, ids and labels: beside transformers, beside each other, beside what was published."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from tests.tokenizer.chat_helpers import Pair, answers, encoder, used, without_marks
from tests.tokenizer.chat_templates import ALL, COUNTED, OPENED, PLAIN, TALKS, THOUGHTS, TOOL, TOOLS
from tests.tokenizer.foreign_kinds import KINDS, TEXT
from tilth.core.errors import DataError, RecipeError
from tilth.tokenizer import TokenizerConfig, load_tokenizer, train_tokenizer
from tilth.tokenizer.chat import ChatConfig, ChatEncoder, Dropped, encode_completions
from tilth.tokenizer.chat_files import chat_files, read_chat
from tilth.tokenizer.templates import BUILT_IN, ChatTemplate, built_in, choose_template

# ----------------------------------------------------------------------------------------- the text

EXPECTED = {
    "chatml": (
        "<|im_start|>system\nBe brief. <|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHo <|im_end|>\n<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\n"
    ),
    "llama3": (
        "BOS<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nMore<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "mistral": "BOS[INST] Be brief. \n\nHi[/INST] Ho EOS[INST] More[/INST]",
    "gemma": (
        "BOS<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHo<end_of_turn>\n"
        "<start_of_turn>user\nMore<end_of_turn>\n<start_of_turn>model\n"
    ),
    "zephyr": "<|system|>\nBe brief. EOS\n<|user|>\nHiEOS\n<|assistant|>\nHo EOS\n<|user|>\nMoreEOS\n<|assistant|>\n",
}
SHORT = [
    {"role": "system", "content": "Be brief. "},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Ho "},
    {"role": "user", "content": "More"},
]


@pytest.mark.parametrize("name", list(BUILT_IN))
def test_built_in_templates_write_what_was_published(name: str) -> None:
    tokenizer = train_tokenizer(TokenizerConfig(kind="byte"), [])
    with ChatEncoder(tokenizer, built_in(name), variables={"bos_token": "BOS", "eos_token": "EOS"}) as made:
        assert made.render(SHORT, add_generation_prompt=True) == EXPECTED[name]
        assert made.missing_tokens == list(BUILT_IN[name])
        calls = [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "y", "tool_calls": [{"function": {}}]},
        ]
        for messages in (calls, [{"role": "user", "content": [{"type": "text", "text": "x"}]}]):
            with pytest.raises(DataError, match="refused"):  # never left out, never written as Python writes a list
                made.render(messages)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ALL))
def test_texts_are_those_of_transformers(name: str, pairs: dict[str, Pair]) -> None:
    _, theirs = pairs["gpt2"]
    documents = [
        {"title": "one", "text": "<|im_end|> 1"},
        {"title": "two", "text": "2"},
        {"title": "three", "text": "3"},
    ]
    with encoder(pairs["gpt2"], ChatTemplate(name, ALL[name]), enable_thinking=False) as made:
        seen = 0
        for talk in TALKS.values():
            for tools in (None, [TOOL]):
                row = {"messages": talk, "tools": tools, "documents": documents}
                for prompt in (False, True):
                    answer = next(made.renderer.render("text_prompt" if prompt else "text", [row]))
                    options = {"chat_template": ALL[name], "tokenize": False, "add_generation_prompt": prompt}
                    try:
                        expected = theirs.apply_chat_template(
                            talk, tools=tools, documents=documents, enable_thinking=False, **options
                        )
                    except Exception:  # but where the content of a call is wanted, which transformers leaves out
                        called = any(message.get("tool_calls") for message in talk)
                        assert called or (isinstance(answer, Dropped) and answer.rule in ("refused", "template"))
                    else:
                        assert answer == {"text": expected}
                        seen += 1
        assert seen >= 4


def test_the_date_is_the_one_that_is_given() -> None:
    tokenizer = train_tokenizer(TokenizerConfig(kind="byte"), [])
    with ChatEncoder(
        tokenizer, ChatTemplate("dated", "{{ strftime_now('%d %b %Y') }}"), today=datetime.date(2020, 2, 29)
    ) as made:
        assert made.render(SHORT) == "29 Feb 2020"


# ----------------------------------------------------------------------------------------- ids and labels


@pytest.mark.slow
@pytest.mark.parametrize("name", list(BUILT_IN))
@pytest.mark.parametrize("kind", list(KINDS))
def test_ids_and_masks_are_those_of_transformers(kind: str, name: str, pairs: dict[str, Pair]) -> None:
    theirs = pairs[kind][1]
    template = built_in(name)
    talks = [TALKS[talk] for talk in ("one", "two", "open")]
    with encoder(pairs[kind], template) as marked, encoder(pairs[kind], without_marks(template)) as unmarked:
        rows = [{"messages": talk} for talk in talks]
        by_marks, by_beginnings = marked.encode(rows), unmarked.encode(rows)
        for talk, one, other in zip(talks, by_marks, by_beginnings, strict=True):
            expected = theirs.apply_chat_template(
                talk, chat_template=template.source, return_assistant_tokens_mask=True, return_dict=True
            )
            assert used(one).ids.tolist() == expected["input_ids"] == used(other).ids.tolist()
            if name != "mistral":  # the space before its answers is the template's; only there a token holds both
                assert used(other).trained.tolist() == used(one).trained.tolist()
            # transformers finds no token for a character that has several (bytes), that a normalizer took away, or for
            # the space that begins an answer where the post-processor trims offsets, and then leaves out the answer.
            assert used(one).ended and used(other).ended
            assert set(np.flatnonzero(expected["assistant_masks"])) <= set(np.flatnonzero(used(one).trained))
            if kind == "llama3" or (kind == "gpt2" and talk is not TALKS["two"]):
                assert used(one).trained.astype(int).tolist() == expected["assistant_masks"]
            prompt = theirs.apply_chat_template(talk[:1], chat_template=template.source, add_generation_prompt=True)
            assert marked.prompt(talk[:1]) == prompt["input_ids"] == unmarked.prompt(talk[:1])


@pytest.mark.parametrize("flags", [{"rstrip": True}, {"lstrip": True}, {"normalized": True}, {"single_word": True}])
@pytest.mark.parametrize("kind", ["gpt2", "llama2", "mistral"])
def test_flags_of_special_tokens_hold(kind: str, flags: dict[str, bool], tmp_path: Path) -> None:
    """White space that a token takes along (Phi 3), names that are normalized (early Llamas), words that are alone."""
    load_tokenizer(KINDS[kind](tmp_path / "a")).with_special_tokens(BUILT_IN["chatml"]).save(tmp_path / "b")
    path = tmp_path / "b" / "tokenizer.json"
    model = json.loads(path.read_text())
    for entry in model["added_tokens"]:
        entry.update(flags if entry["content"] in BUILT_IN["chatml"] else {})
    path.write_text(json.dumps(model))
    ours, theirs = load_tokenizer(tmp_path / "b"), transformers.AutoTokenizer.from_pretrained(tmp_path / "b")
    template = without_marks(built_in("chatml"))
    with ChatEncoder(ours, template) as made:
        for talk, encoded in zip(
            TALKS.values(), made.encode([{"messages": talk} for talk in TALKS.values()]), strict=True
        ):
            if isinstance(encoded, Dropped):
                continue
            if kind == "llama2" and "normalized" in flags:
                # Normalized, the name begins with the prefix space: transformers finds it behind a space only.
                special = np.isin(encoded.ids, [ours.special_tokens[name] for name in BUILT_IN["chatml"]])
                assert special.sum() == 2 * len(talk)
            else:
                expected = theirs.apply_chat_template(talk, chat_template=template.source, return_dict=True)
                assert encoded.ids.tolist() == expected["input_ids"]


def test_a_token_that_takes_white_space_of_an_answer_along_is_not_trained(tmp_path: Path) -> None:
    """Phi 3's `<|assistant|>`: that of an answer's beginning is a part of it, and the token is the template's."""
    load_tokenizer(KINDS["gpt2"](tmp_path / "a")).with_special_tokens(["<|user|>", "<|end|>"]).save(tmp_path / "b")
    path = tmp_path / "b" / "tokenizer.json"
    model = json.loads(path.read_text())
    for entry in model["added_tokens"]:
        entry["rstrip"] = entry["lstrip"] = entry["content"] in ("<|user|>", "<|end|>")
    path.write_text(json.dumps(model))
    ours, theirs = load_tokenizer(tmp_path / "b"), transformers.AutoTokenizer.from_pretrained(tmp_path / "b")
    marked = "{% generation %}{{ m.content }}{% endgeneration %}"
    answer = "{% for m in messages %}{{ '<|user|>' }}CONTENT{{ '<|end|>' }}{% endfor %}".replace("CONTENT", marked)
    with ChatEncoder(ours, ChatTemplate("own", answer)) as made:
        for content in ("\n\n ok  ", "  ok", "ok", "ok\n"):
            row = [{"role": "assistant", "content": content}]
            encoded = used(made.encode([{"messages": row}])[0])
            assert encoded.ids.tolist() == theirs.apply_chat_template(row, chat_template=answer)["input_ids"]
            assert answers(ours, encoded) == ["ok"]


@pytest.mark.slow
def test_trained_is_the_answer_and_the_token_that_ends_it(pairs: dict[str, Pair]) -> None:
    ours = pairs["gpt2"][0]
    expected = {
        "tools": ["It's 4.\n\n- really\n<|im_end|>", "  6, so yes.  <|im_end|>"],
        "thoughts": ["It's 4.\n\n- really\n<|im_end|>", "<think>\n\n</think>\n\n  6, so yes.  <|im_end|>"],
        "strict": [" It's 4.\n\n- really\n<|im_end|>", "   6, so yes.  <|im_end|>"],
        "macros": ["It's 4.\n\n- really<|im_end|>", "6, so yes.<|im_end|>"],
        "opened": ["It's 4.\n\n- really\n<|im_end|>", "  6, so yes.  <|im_end|>"],
        "plain": ["It's 4.\n\n- really\n\n\n", "  6, so yes.  \n\n"],
    }
    for name, texts in expected.items():
        with encoder(pairs["gpt2"], ChatTemplate(name, ALL[name])) as made:
            encoded = used(made.encode([{"messages": TALKS["two"]}])[0])
            assert answers(ours, encoded) == texts, name
            assert encoded.ended == (name != "plain")


def test_tool_calls_are_answers_too(pairs: dict[str, Pair]) -> None:
    with encoder(pairs["gpt2"], ChatTemplate("tools", TOOLS)) as made:
        encoded = made.encode([{"messages": TALKS["calls"], "tools": [TOOL]}])[0]
        call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln <|im_end|>"}}\n</tool_call><|im_end|>'
        assert answers(pairs["gpt2"][0], encoded) == [call, "It is 21 degrees.<|im_end|>"]


def test_what_a_template_passes_over_is_told(pairs: dict[str, Pair]) -> None:
    """Else a system prompt, tools or calls of them would be left out of training and of chats without a word."""
    mute = "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
    asked = [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Hi"}]
    talk = [*asked, {"role": "assistant", "content": "Hello"}]
    with encoder(pairs["gpt2"], ChatTemplate("mute", mute)) as made:
        for row, said in (
            ({"messages": talk}, "message 0, of the system"),
            ({"messages": talk[1:], "tools": [TOOL]}, "the tools"),
            ({"messages": TALKS["calls"]}, "the calls in message 1"),
        ):
            dropped = made.encode([row], "all")[0]
            assert isinstance(dropped, Dropped) and dropped.rule == "left_out" and said in dropped.detail
        assert not isinstance(made.encode([{"messages": talk[1:]}], "all")[0], Dropped)
        with pytest.raises(DataError, match="left_out: the template writes nothing of message 0"):
            made.prompt(asked)
        assert "brief" not in made.render(asked), "as transformers has it"


def test_thoughts_that_the_history_leaves_out(pairs: dict[str, Pair]) -> None:
    with encoder(pairs["gpt2"], ChatTemplate("thoughts", THOUGHTS)) as made:
        encoded = made.encode([{"messages": TALKS["thinking"]}])[0]
        assert answers(pairs["gpt2"][0], encoded) == ["A1<|im_end|>", "<think>\nhm 2\n</think>\n\nA2<|im_end|>"]
    with encoder(pairs["gpt2"], ChatTemplate("opened", OPENED)) as made:
        talk = [TALKS["thinking"][0], {"role": "assistant", "content": "<think>x</think><th>y"}]
        assert answers(pairs["gpt2"][0], made.encode([{"messages": talk}])[0]) == ["<th>y<|im_end|>"]


def test_what_is_trained_of_a_template_that_rewrites_history_is_what_the_whole_has(pairs: dict[str, Pair]) -> None:
    said = [f"<|im_start|>assistant {TALKS['two'][place]['content']}<|im_end|>" for place in (1, 3)]
    with encoder(pairs["gpt2"], ChatTemplate("counted", COUNTED)) as made:
        encoded = made.encode([{"messages": TALKS["two"]}])[0]
        assert answers(pairs["gpt2"][0], encoded) == said
        assert used(made.encode([{"messages": TALKS["two"]}], "all")[0]).trained.all()


def test_a_template_that_rewrites_answers_is_found_out(pairs: dict[str, Pair]) -> None:
    """Another word behind an answer that messages follow: nothing tells whether it is the answer's."""
    source = COUNTED.replace("<|im_end|>", "{{ '' if loop.last else ' (' ~ messages | length ~ ')' }}<|im_end|>")
    with encoder(pairs["gpt2"], ChatTemplate("rewritten", source)) as made:
        dropped = made.encode([{"messages": TALKS["two"]}])[0]
        assert isinstance(dropped, Dropped) and dropped.rule == "rewritten" and "answer 1" in dropped.detail


@pytest.mark.slow
@pytest.mark.parametrize("config", [{"kind": "char"}, {"kind": "byte"}, {"vocab_size": 300}])
@pytest.mark.parametrize("name", list(BUILT_IN))
def test_tilths_own_tokenizers(config: dict[str, Any], name: str) -> None:
    """Ids by hand: each stretch between special tokens encoded alone; labels by what the stretches say."""
    text = "".join(str(message["content"]) for message in TALKS["two"]) + "\nusermodelassistant"
    plain = train_tokenizer(TokenizerConfig(**config), [text, *TEXT])
    tokenizer = plain.with_special_tokens([*BUILT_IN[name], "<s>"])
    for template in (built_in(name), without_marks(built_in(name))):
        with ChatEncoder(tokenizer, template, variables={"bos_token": "<s>"}) as made:
            encoded = used(made.encode([{"messages": TALKS["two"]}])[0])
            rendered = made.render(TALKS["two"])
            ids: list[int] = []
            for piece in re.split("(" + "|".join(map(re.escape, tokenizer.special_tokens)) + ")", rendered):
                special = tokenizer.special_tokens.get(piece)
                ids += tokenizer.encode(piece) if special is None else [special]
            assert encoded.ids.tolist() == ids
            ends = {"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>"}.get(name, "<|endoftext|>")
            stripped = [str(message["content"]).strip() for message in TALKS["two"][1::2]]
            found = [text.removesuffix(ends).strip() for text in answers(tokenizer, encoded)]
            assert found == stripped
            assert made.stop_ids() == {tokenizer.end_of_text, tokenizer.special_tokens[ends]}


# ----------------------------------------------------------------------------------------- the rest


def test_stop_ids_and_prompts(pairs: dict[str, Pair]) -> None:
    ours = pairs["llama3"][0]
    with encoder(pairs["llama3"], built_in("llama3")) as made:
        assert made.stop_ids() == {ours.end_of_text, ours.special_tokens["<|eot_id|>"]}
        assert made.prompt([{"role": "user", "content": "the fox"}])[-2:] == [
            ours.special_tokens["<|end_header_id|>"],
            *ours.encode("\n\n"),
        ]
        with pytest.raises(DataError, match="empty: there is no message"):
            made.prompt([])
    with encoder(pairs["llama3"], ChatTemplate("plain", PLAIN)) as made:
        assert made.stop_ids() == {ours.end_of_text}


@pytest.mark.parametrize("kind", list(KINDS))
def test_completions(kind: str, pairs: dict[str, Pair]) -> None:
    ours = pairs[kind][0]
    texts = [("Q: the fox?\nA:", " it is </s> <|im_end|> 😀"), ("", "the"), ("the", " "), ("12", "345")]
    for (prompt, completion), row in zip(texts, encode_completions(ours, texts), strict=True):
        if not completion.strip():
            assert row == Dropped("empty_answer", "the completion is empty")
            continue
        body = ours.encode(prompt + completion)
        assert used(row).ids.tolist() == [*ours.opening, *body, ours.end_of_text]
        untrained = used(row).ids[~used(row).trained].tolist()[len(ours.opening) :]
        assert untrained == ours.encode(prompt)[: len(untrained)]  # what is not trained is of the prompt alone
        assert len(ours.encode(prompt)) - len(untrained) <= 2  # but for a token that holds both
        assert used(row).trained[-1]
    whole = used(encode_completions(ours, texts[:1], "all")[0])
    assert whole.trained.all()


def test_choosing_a_template(tmp_path: Path) -> None:
    assert choose_template("chatml", None) is built_in("chatml")
    assert choose_template("{{ messages }}", "own").source == "{{ messages }}"
    assert choose_template("checkpoint", "own").source == "own"
    with pytest.raises(RecipeError, match="has no chat template"):
        choose_template("checkpoint", None)
    with pytest.raises(RecipeError, match="did you mean chatml"):
        choose_template("chatlm", None)
    assert ChatConfig().template == "checkpoint"
    assert built_in("chatml").fingerprint != built_in("zephyr").fingerprint


def test_a_checkpoints_own_template(tmp_path: Path) -> None:
    folder = KINDS["gpt2"](tmp_path)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    assert load_tokenizer(folder).chat_template is None
    (folder / "chat_template.json").write_text('{"chat_template": "of a processor"}')
    assert load_tokenizer(folder).chat_template == "of a processor"
    for said, expected in (
        ("plain", "plain"),
        ([{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}], "d"),
    ):
        path.write_text(json.dumps({**config, "chat_template": said}))
        assert load_tokenizer(folder).chat_template == expected
    (folder / "chat_template.jinja").write_text("of its own file")
    assert load_tokenizer(folder).chat_template == "of its own file"
    assert transformers.AutoTokenizer.from_pretrained(folder).chat_template == "of its own file"
    load_tokenizer(folder).save(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").chat_template == "of its own file"
    (folder / "chat_template.jinja").unlink()
    path.write_text(json.dumps({**config, "chat_template": 3}))
    with pytest.raises(DataError, match=r"chat template in .* is damaged"):
        _ = load_tokenizer(folder).chat_template


@pytest.mark.parametrize("listed", [True, False], ids=["tokenizer_config", "files"])
@pytest.mark.parametrize(
    ("default", "tool_use"),
    [
        ("no tools: {{ messages[0].content }}", "tools {{ tools | length }}: {{ messages[0].content }}"),
        (
            "\n  {%- set at = 'x' %}\n{{ at }}{% if true %}\n  d\n{% endif %}\n   ",
            "\n\n  {% if tools %}\n t  \n  {% endif %}\n\n",
        ),
        (
            "  {%- for m in messages %} {{ m.content }}\n{% endfor %} end  ",
            "{#- about tools -#}\n  {{ tools[0].name }} -\n  \n",
        ),
    ],
)  # fmt: skip
def test_a_template_for_tools_is_taken_where_there_are_tools(
    default: str, tool_use: str, listed: bool, tmp_path: Path
) -> None:
    folder = KINDS["gpt2"](tmp_path)
    if listed:
        path = folder / "tokenizer_config.json"
        named = [{"name": "default", "template": default}, {"name": "tool_use", "template": tool_use}]
        path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": named}))
    else:
        (folder / "additional_chat_templates").mkdir()
        (folder / "chat_template.jinja").write_text(default)
        (folder / "additional_chat_templates" / "tool_use.jinja").write_text(tool_use)
    theirs, chat = transformers.AutoTokenizer.from_pretrained(folder), read_chat(folder)
    assert set(theirs.chat_template) == {"default", "tool_use"} and chat is not None
    talk = [{"role": "user", "content": "well?"}]
    with chat.encoder(load_tokenizer(folder)) as ours:
        for tools in (None, [{"name": "spade"}]):
            expected = theirs.apply_chat_template(talk, tools=tools, tokenize=False)
            assert ours.render(talk, tools) == expected
        for name, content in chat_files(chat).items():  # as a run and its export have it: one template
            (tmp_path / "out").mkdir(exist_ok=True)
            (tmp_path / "out" / name).write_bytes(content)
        again = read_chat(tmp_path / "out")
    assert again is not None and again.template.source == chat.template.source
    theirs.chat_template = chat.template.source
    assert theirs.apply_chat_template(talk, tools=[{"name": "spade"}], tokenize=False) == expected
