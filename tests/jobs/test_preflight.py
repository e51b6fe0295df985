"""Each rule of a preflight, provoked by real data, and none by what is healthy."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import transformers

from tests.jobs.small_preflight import NO_END, Row, small_preflight
from tests.model.families import SHAPES, from_config, save
from tilth.core.config import parse_yaml
from tilth.core.errors import DataError
from tilth.data.shards import TokenStream
from tilth.data.sources import SourceConfig
from tilth.jobs.base import find_base, with_base
from tilth.jobs.parts import complete_model
from tilth.jobs.preflight import Preflight, gather
from tilth.jobs.preflight.rules import ERRORS, WARNINGS, judge
from tilth.jobs.preflight.run_rules import MANY_NOISY_READINGS, MANY_READINGS
from tilth.jobs.preflight.tokens import read_split
from tilth.jobs.recipe import make_recipe, shipped_recipe
from tilth.jobs.start import loaded_base, starting_model
from tilth.model.adapters import book_of, lora_layers
from tilth.model.quantize import NF4
from tilth.tokenizer import TokenizerConfig, train_tokenizer
from tilth.training.config import TrainConfig
from tilth.training.optim import make_optimizer, state_bytes

pytestmark = pytest.mark.slow

CHATML = ["<|im_start|>", "<|im_end|>"]
MASKED = TrainConfig(objective="masked_lm", steps=1, batch_tokens=64)


def pairs(count: int = 60) -> list[Row]:
    """Rows that have no words in common."""
    return [{"prompt": f"what{n} is{n} it{n}? ", "completion": f"answer{n} of{n} mine{n}"} for n in range(count)]


@pytest.fixture
def looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Preflight]:
    """`looked(rows, "key=value", …)`: what is found of a small recipe for these rows."""
    monkeypatch.chdir(tmp_path)

    return small_preflight


def rules(found: Preflight) -> tuple[set[str], set[str]]:
    """Errors and warnings, but the one that all these data are small: it has a test of its own."""
    return {fault.rule for fault in found.errors}, {fault.rule for fault in found.warnings} - {"small_validation"}


def llama(folder: Path, vocab_size: int = 260, **changes: Any) -> Path:
    """A random checkpoint of Hugging Face's with a byte tokenizer."""
    values = {
        **SHAPES["llama"][2],
        "vocab_size": vocab_size,
        "max_position_embeddings": 256,
        "eos_token_id": 256,
        **changes,
    }
    save(from_config(transformers.LlamaConfig(**values)), folder)
    train_tokenizer(TokenizerConfig(kind="byte"), ["text"]).save(folder)
    return folder


def test_a_healthy_recipe_has_neither_error_nor_warning(looked: Callable[..., Preflight]) -> None:
    found = looked(
        pairs(), "data.chat.template=chatml", f"tokenizer.special_tokens={CHATML}", "model.context_length=128"
    )
    assert found.ok and rules(found) == (set(), set())
    assert found.plain()["rows"] + found.facts.validation.documents == 60


def test_a_run_that_should_take_more_memory_than_there_is(
    looked: Callable[..., Preflight], monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = ["data.chat.template=chatml", f"tokenizer.special_tokens={CHATML}", "model.context_length=128"]
    sets.append("train.activation_checkpointing=none")
    found = looked(pairs(), *sets)
    assert found.forecast is not None
    needed = found.forecast.memory.total
    enough, scarce, too_little = (set(), set()), (set(), {"memory"}), ({"memory"}, set())
    for there, expected in ((needed * 2, enough), (needed * 0.98, scarce), (needed // 2, too_little)):
        monkeypatch.setattr("tilth.jobs.forecasting.room.room_of", lambda device, there=there: there)
        assert rules(looked(pairs(), *sets)) == expected
    assert "`tilth check RECIPE --fit " in looked(pairs(), *sets).errors[0].remedy


def test_rows_are_what_training_reads_with_its_marks(looked: Callable[..., Preflight]) -> None:
    sets = ["data.chat.template=chatml", f"tokenizer.special_tokens={CHATML}", "model.context_length=128"]
    found = looked(pairs(), *sets)
    assert [row.sample for row in found.rows] == [0, 1]
    for row in found.rows:
        assert row.padding + sum(s.tokens for d in row.documents for s in d) - len(row.documents) <= 128
        for document in row.documents:
            text = "".join(stretch.text for stretch in document)
            trained = [stretch for stretch in document if stretch.trained]
            assert text.startswith("<|im_start|>user\nwhat") and trained[-1].text == "<|im_end|>"
            assert trained[-1].special and "".join(s.text for s in trained[:-1]).startswith("answer")
            assert not any(stretch.trained for stretch in document[:4]), "nothing of the question is trained"


def test_rows_of_a_masked_model_show_what_is_hidden(looked: Callable[..., Preflight]) -> None:
    texts = [{"text": f"a text of {n} and more words than one"} for n in range(60)]
    bert = "{preset: bert-mini, num_hidden_layers: 1, hidden_size: 32, num_attention_heads: 2, context_length: 64}"
    sets = [f"model={bert}", "tokenizer.special_tokens=['<|mask|>']"]
    found = looked(texts, *sets, objective="masked_lm")
    assert found.ok
    shown = "".join(s.text for d in found.rows[0].documents for s in d)
    assert "<|mask|>" not in shown and any(s.trained for d in found.rows[0].documents for s in d)
    assert looked(texts, f"model={bert}", objective="masked_lm").errors[0].rule == "mask_token"


def test_text_in_windows_is_healthy_too(looked: Callable[..., Preflight]) -> None:
    texts = [{"text": f"a text of {n}, and some more words than one"} for n in range(60)]
    found = looked(texts, objective="causal_lm")
    assert rules(found) == (set(), set())
    said = found.plain()["forecast"]
    assert said["filled"] == said["trained"] == 1.0 and said["rows_per_step"] == 4 and said["tokens"] == 12 * 256


@pytest.mark.parametrize(
    ("too_long", "counted"),
    [("error", "too_long"), ("split", "split"), ("drop", "dropped"), ("truncate", "truncated")],
)
def test_what_is_too_long_is_counted_by_what_becomes_of_it(
    looked: Callable[..., Preflight], too_long: str, counted: str
) -> None:
    rows = pairs(40) + [{"prompt": f"{n}?", "completion": "long " * 20 + str(n)} for n in range(20)]
    found = looked(rows, f"data.packing.too_long={too_long}")
    said, long = found.plain(), int((found.facts.train.lengths > 65).sum())
    assert said["too_long"] == long > 5 and said["errors" if too_long == "error" else "warnings"][0]["rule"] == counted
    for key in ("split", "dropped", "truncated"):
        assert said[key] == (long if key == counted else 0)
    assert said["without_end"] == (long if too_long == "truncate" else 0), "what is cut off loses its end"
    assert ("without_end" in rules(found)[1]) == (too_long == "truncate")
    assert found.ok == (too_long != "error") == bool(found.rows)


def test_a_longer_row_is_no_remedy_at_the_checkpoints_limit(looked: Callable[..., Preflight], tmp_path: Path) -> None:
    folder = llama(tmp_path / "llama", max_position_embeddings=64)
    sets = (f"model={{from: {folder}, context_length: 64}}", "tokenizer={}", "data.packing.too_long=drop")
    found = looked([{"prompt": f"{n}?", "completion": "long " * n} for n in range(30)], *sets)
    (remedy,) = (fault.remedy for fault in found.warnings if fault.rule == "dropped")
    assert remedy == "model.from: a checkpoint that is made for more than 64 tokens, or too_long: split"


def test_plain_text_may_be_split(looked: Callable[..., Preflight]) -> None:
    long = [{"text": f"{n} " * 60} for n in range(10, 40)]
    packed = looked(long, "data.packing.too_long=split", objective="causal_lm")
    assert packed.plain()["split"] > 0 and rules(packed) == (set(), set())


def test_to_drop_is_not_offered_where_it_would_leave_nothing(looked: Callable[..., Preflight]) -> None:
    long = [{"prompt": f"{n} " * 60, "completion": f"{n}"} for n in range(10, 40)]
    for rows, offered in ((long, False), ([*long, *pairs(90)], True)):
        (split,) = (fault for fault in looked(rows, "data.packing.too_long=split").warnings if fault.rule == "split")
        assert ("too_long: drop" in split.remedy) == offered
        (error,) = looked(rows, "data.packing.too_long=error").errors
        assert error.rule == "too_long" and ("drop" in error.remedy) == offered and "split" in error.remedy
    texts = [{"text": f"{n} " * 3000} for n in range(10, 40)]
    (gone,) = looked(texts, "data.packing.too_long=drop", objective="causal_lm").errors
    assert gone.remedy == "data.packing.too_long: split, or model.context_length above 64"
    (error,) = looked(texts, "data.packing.too_long=error", objective="causal_lm").errors
    assert error.remedy == "set data.packing.too_long to split", "no context of so many tokens is offered"


def test_answers_without_answers_are_noticed(looked: Callable[..., Preflight]) -> None:
    as_text = ["data.sources=[{path: rows.jsonl, field: prompt}]"]
    assert rules(looked(pairs(), *as_text)) == (set(), {"no_answers"})
    assert rules(looked(pairs(), *as_text, "data.packing.too_long=split", objective="causal_lm"))[1] == set()
    assert rules(looked(pairs())) == (set(), set())


def test_a_validation_split_of_a_few_tokens_is_noticed(looked: Callable[..., Preflight]) -> None:
    for count, noisy in ((20, True), (400, False)):
        found = looked([{"text": f"word{n} of{n} and{n} more{n}"} for n in range(count)], objective="causal_lm")
        tokens = found.facts.validation.tokens
        said = [fault.message for fault in found.warnings if fault.rule == "small_validation"]
        assert said == ([f"validation predicts {tokens} tokens in all: figures of so few are noise"] if noisy else [])
    hidden = replace(found.facts, recipe=found.facts.recipe.model_copy(update={"train": MASKED}))
    assert tokens < 6 * 1000 and "small_validation" in {fault.rule for fault in judge(hidden)[1]}


def test_answers_that_are_all_cut_off_are_an_error_and_some_a_warning(looked: Callable[..., Preflight]) -> None:
    long = [{"prompt": f"{n} " * 60, "completion": "yes"} for n in range(10, 40)]
    found = looked(long, "data.packing.too_long=truncate")
    assert rules(found)[0] >= {"masked"} and found.plain()["masked"] == len(found.facts.train.lengths)
    some = looked([*long, *pairs(30)], "data.packing.too_long=truncate")
    assert "masked" in rules(some)[1] and some.ok and 0 < some.plain()["masked"] < len(some.facts.train.lengths)


def test_conversations_that_preparing_dropped_are_told(looked: Callable[..., Preflight]) -> None:
    found = looked([*pairs(), *({"prompt": f"and {n}?", "completion": " "} for n in range(3))])
    assert found.plain()["unusable"] == {"read/empty_turn": 3} and found.plain()["empty"] == 3
    assert rules(found) == (set(), {"unusable"})


def test_no_conversation_is_cut_in_two_by_the_split(looked: Callable[..., Preflight]) -> None:
    """Few documents of text are split by cutting the last one; half a conversation would be none."""
    found = looked(pairs(), "data.split.by=auto")
    assert found.plain()["unusable"] == {} and rules(found) == (set(), set())


def test_a_template_that_never_ends_an_answer_is_noticed(looked: Callable[..., Preflight]) -> None:
    found = looked(pairs(), f"data.chat.template={json.dumps(NO_END)}", "model.context_length=128")
    assert rules(found)[1] == {"without_end"} and found.plain()["without_end"] == found.plain()["rows"]


def test_thoughts_that_the_template_does_not_write_are_noticed(looked: Callable[..., Preflight]) -> None:
    """ChatML writes none: of such an answer the end alone is left."""

    def row(n: int) -> Row:
        thinks = {"role": "assistant", "content": "", "reasoning_content": f"so{n}"} if n < 7 else {}
        says = {"role": "assistant", "content": f"answer{n} of{n} mine{n}"}
        asks = {"role": "user", "content": f"what{n} is{n} it{n}?"}
        return {"messages": [asks, *([thinks] if thinks else []), says]}

    sets = ("data.chat.template=chatml", f"tokenizer.special_tokens={json.dumps(CHATML)}", "data.split.validation=0")
    found = looked([row(n) for n in range(40)], *sets)
    assert "bare_answers" in rules(found)[1] and found.facts.train.bare == 7
    plain = looked([row(n) for n in range(7, 40)], *sets)
    assert "bare_answers" not in rules(plain)[1] and plain.facts.train.bare == 0


def test_ends_that_are_spelled_out_are_noticed(looked: Callable[..., Preflight]) -> None:
    """As other tools want them; what the remedy for texts takes out is gone."""
    spelled = [{**row, "completion": row["completion"] + "<|endoftext|>"} for row in pairs(20)]
    found = looked([*spelled, *pairs()[20:]], "data.split.validation=0", "model.context_length=128")
    assert (found.facts.spelled.read, found.facts.spelled.documents) == (60, 20)
    assert found.facts.spelled.names == ("<|endoftext|>",) and "spelled_tokens" in rules(found)[1]
    assert "spelled_tokens" not in rules(looked(pairs(), "data.split.validation=0"))[1]
    texts = [{"text": f"Of soil {n} <|im_start|> and <eos> rain.<|endoftext|>"} for n in range(40)]
    said = [fault for fault in looked(texts, objective="causal_lm").warnings if fault.rule == "spelled_tokens"]
    remedy = said[0].remedy.removeprefix("data.clean: add ").partition(";")[0]
    mended = looked(texts, f"data.clean=[{remedy}]", objective="causal_lm")
    assert mended.facts.spelled.documents == 0 and "spelled_tokens" not in rules(mended)[1]


def test_a_template_that_writes_what_is_no_token_is_noticed(looked: Callable[..., Preflight]) -> None:
    template = NO_END.replace("{% endgeneration %}", "<|over|>{{ eos_token }}{{ pad_token }}{% endgeneration %}")
    found = looked(pairs(), f"data.chat.template={json.dumps(template)}", "model.context_length=128")
    assert rules(found) == (set(), {"template_tokens"})
    assert found.facts.vocabulary.not_special == ("<|over|>", "pad_token")


def test_copies_and_leaks_are_counted(looked: Callable[..., Preflight]) -> None:
    same = [{"prompt": "of all the questions ", "completion": "this one comes again and again in many rows"}] * 30
    alone = [
        "data.deduplicate=none",
        "data.decontaminate.validation=false",
        "data.split={validation: 0.3, by: document}",
    ]
    found = looked([*pairs(), *same], *alone, "model.context_length=128")
    keys = found.facts.train.keys
    copies = sum(1 for key in keys if (keys == key).sum() > 1)
    assert found.plain()["duplicates"] == copies - 1 > 0 and "duplicates" in rules(found)[1]


def test_validation_text_inside_training_text_is_found_where_preparing_did_not_look(
    looked: Callable[..., Preflight],
) -> None:
    fresh = [{"text": " ".join(f"w{n}x{k}" for k in range(20))} for n in range(40)]
    sets = ["data.decontaminate.validation=false", "data.split.by=document"]
    before = looked(fresh, *sets, objective="causal_lm")
    assert before.plain()["leaks"] == 0 and before.facts.leaks.looked == "in all training text"
    held = [row["text"] for row in fresh if row["text"] not in _training_texts()]
    assert len(held) == before.facts.validation.documents
    # A text that holds two of them; which side it is on follows from its own text alone.
    around = [{"text": f"before {n} {held[0]} between {held[1]} after"} for n in range(4)]
    found = looked([*fresh, *around], *sets, objective="causal_lm")
    assert found.plain()["leaks"] == 2 and found.plain()["shared"] == 0 and "leaks" in rules(found)[1]
    kept_apart = looked([*fresh, *around], "data.split.by=document", objective="causal_lm")
    assert kept_apart.plain()["leaks"] == 0 and kept_apart.plain()["leaks_taken_out"] > 0
    assert "leaks" not in rules(kept_apart)[1]


def _training_texts() -> set[str]:
    files = sorted(Path("work/datasets").glob("*/documents/train/*.parquet"))
    return {text for path in files for text in pq.read_table(path)["text"].to_pylist()}


def test_no_validation_is_a_warning_and_an_error_where_it_is_needed(looked: Callable[..., Preflight]) -> None:
    none = ["data.split.validation=0"]
    assert rules(looked(pairs(), *none)) == (set(), {"no_validation"})
    stops = ["train.early_stopping={patience: 2}", "evaluate.every=4", "train.final=best"]
    found = looked(pairs(), *stops)
    assert found.ok
    # Preparing refuses a split that is empty; it can become so when none of its conversations can be used.
    nothing = read_split(TokenStream([]), 260, set())
    errors, _ = judge(replace(found.facts, validation=nothing))
    assert [error.rule for error in errors] == ["no_validation"]
    assert errors[0].message.startswith("train.early_stopping and train.final: best need held-out text")


def test_a_metric_that_the_objective_does_not_have_is_an_error(looked: Callable[..., Preflight]) -> None:
    found = looked(pairs(), "train.early_stopping={metric: bits_per_byte}", "evaluate.every=4")
    assert rules(found)[0] == {"metric"}


def test_the_shape_of_a_run_is_judged(looked: Callable[..., Preflight]) -> None:
    found = looked(pairs(), "train.batch_tokens=8192", "train.schedule.warmup_steps=12")
    assert rules(found) == (set(), {"warmup", "batch", "by_heart"})
    rare = [{"prompt": f"{n}{'?' * 800}", "completion": "y"} for n in range(100, 160)]
    assert "few_trained" in rules(looked(rare, "model.context_length=1024", "train.batch_tokens=1024"))[1]


def test_a_text_that_is_read_again_and_again_is_noticed(looked: Callable[..., Preflight]) -> None:
    rows = [{"text": f"a text of {n} and more words than one"} for n in range(100)]

    def said(*sets: str) -> list[tuple[str, str]]:
        found = looked(rows, *sets, objective="causal_lm")
        return [(fault.message, fault.remedy) for fault in found.warnings if fault.rule == "by_heart"]

    assert said("train.epochs=20", "train.steps=null") == []
    ((message, remedy),) = said("train.epochs=21", "train.steps=null")
    assert message.startswith("the run reads its training text 21 times") and remedy.startswith("train.epochs: 20 or")
    assert "model.dropout" in remedy
    dropped = ["train.steps=null", "model.dropout=0.1"]
    assert said("train.epochs=100", *dropped) == [] and len(said("train.epochs=103", *dropped)) == 1
    ((message, remedy),) = said("train.steps=5000", "model.dropout=0.1", "train.early_stopping={metric: loss}")
    assert "unless train.early_stopping ends it before" in message and "model.dropout" not in remedy
    steps = int(remedy.removeprefix("train.steps: ").partition(" ")[0])
    assert said(f"train.steps={steps}", "model.dropout=0.1") == []
    assert said("train.steps=null", "train.hours=1") == []  # nobody knows how often


def test_no_recipe_that_ships_reads_its_text_so_often() -> None:
    """The text of those that are of one: tiny Shakespeare, 1,115,394 characters, a tenth of it held out."""
    for name in ("shakespeare-char", "shakespeare-char-cpu", "shakespeare-char-fast"):
        recipe = parse_yaml(shipped_recipe(name), name)
        often = recipe["train"]["steps"] * recipe["train"]["batch_tokens"] / (0.9 * 1_115_394)
        assert often < (MANY_NOISY_READINGS if recipe["model"].get("dropout") else MANY_READINGS), name
    for name in ("quickstart", "quickstart-chat"):  # which the clock ends
        assert "steps" not in parse_yaml(shipped_recipe(name), name)["train"]


def test_empty_documents_and_unknown_characters_are_counted(looked: Callable[..., Preflight]) -> None:
    rows = [{"text": f"a text of {n} and more words than one"} for n in range(200)] + [{"text": "\u4e00" * 9}]
    found = looked(rows, "tokenizer={kind: char}", "data.split={validation: 0.3, seed: 5}", objective="causal_lm")
    unknown = replace(found.facts, unknown=10_000)
    assert "unknown_characters" in {fault.rule for fault in judge(unknown)[1]}
    lengths = found.facts.train.lengths.copy()
    lengths[:3] = 1
    empty = replace(found.facts, train=replace(found.facts.train, lengths=lengths))
    assert "empty" in {fault.rule for fault in judge(empty)[1]} and empty.empty == 3


def test_characters_that_were_lost_are_noticed_from_one_in_a_thousand_on(looked: Callable[..., Preflight]) -> None:
    rows = [{"text": f"caf{mark} number {n} in the street of {n * 7}"} for n, mark in enumerate(["\ufffd", *"e" * 99])]
    few = looked([{"text": "x" * 20_000}, *rows], "data.split={by: tail, validation: 0.1}", objective="causal_lm")
    assert few.facts.spelled.replaced == 1 and "replaced_characters" not in rules(few)[1]
    many = looked([{"text": row["text"].replace("cafe", "caf\ufffd")} for row in rows], objective="causal_lm")
    assert many.facts.spelled.characters < sum(len(row["text"]) for row in rows)  # of the training side alone
    assert many.facts.spelled.replaced == many.facts.spelled.read and "replaced_characters" in rules(many)[1]


def test_new_tokens_of_which_nothing_is_learned_are_noticed(looked: Callable[..., Preflight], tmp_path: Path) -> None:
    folder = llama(tmp_path / "llama")
    sets = [f"model={{from: {folder}, context_length: 64}}", "tokenizer=" + json.dumps({"special_tokens": CHATML})]
    sets += ["data.chat.template=chatml", "adapter.rank=4", "model.context_length=128"]
    found = looked(pairs(), *sets)
    assert found.ok and rules(found)[1] == {"new_tokens"}
    assert found.facts.vocabulary.new_tokens == tuple(CHATML)
    (remedy,) = (fault.remedy for fault in found.warnings if fault.rule == "new_tokens")
    key, _, value = remedy.partition(": ")
    assert rules(looked(pairs(), *sets, f"{key}={value}")) == (set(), set()), "the remedy helps"
    assert rules(looked(pairs(), *[s for s in sets if not s.startswith("adapter")])) == (set(), set()), "all trains"


def test_a_vocabulary_smaller_than_the_tokenizers_is_an_error(looked: Callable[..., Preflight], tmp_path: Path) -> None:
    folder = llama(tmp_path / "llama", vocab_size=100)
    found = looked(pairs(), f"model={{from: {folder}, context_length: 64}}", "tokenizer={}")
    assert rules(found)[0] == {"ids"} and "of 100 rows" in found.errors[0].message
    beyond = replace(found.facts.vocabulary, rowless=0, largest=900)
    assert [fault.rule for fault in judge(replace(found.facts, vocabulary=beyond))[0]] == ["ids"]


def test_an_end_that_generation_does_not_know_is_noticed(looked: Callable[..., Preflight], tmp_path: Path) -> None:
    folder = llama(tmp_path / "llama")
    sets = [f"model={{from: {folder}, context_length: 64}}", "tokenizer={}"]
    for ends, expected in ((3, {"end_differs"}), ([3, 256], set()), (256, set())):
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
        assert rules(looked(pairs(), *sets)) == (set(), expected), ends


def test_parts_that_refuse_are_errors_with_their_own_words(looked: Callable[..., Preflight]) -> None:
    text = [{"text": f"a text of {n} and more"} for n in range(20)]
    found = looked(text, "model.context_length=4096", "train.batch_tokens=4096", objective="causal_lm")
    assert rules(found)[0] == {"rows"} and "one sample needs 4097" in found.errors[0].message
    frozen = looked(text, "train.freeze=['layers.*', embed_tokens, norm]", objective="causal_lm")
    assert rules(frozen)[0] == {"model"} and "leaves nothing to train" in frozen.errors[0].message


@pytest.mark.parametrize(
    ("rule", "sets"),
    [
        (
            "mixture",
            ["data.mixture={rows: {weight: 1, max_epochs: 1e-6}}", "data.sources=[{path: rows.jsonl, name: rows}]"],
        ),
        ("vocabulary", ["tokenizer={kind: char}", "model.vocab_size=5"]),
        ("memory", ["model.hidden_size=1048576"]),
    ],
)
def test_what_cannot_be_had_is_an_error(rule: str, sets: list[str], looked: Callable[..., Preflight]) -> None:
    text = [{"text": f"a text of {n} and more"} for n in range(60)]
    found = looked(text, *sets, objective="causal_lm")
    assert rules(found)[0] == {rule} and all(error.remedy for error in found.errors)


def test_a_validation_split_that_cannot_be_measured_is_an_error(
    looked: Callable[..., Preflight], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise DataError("of 9 documents none is left", "look")

    monkeypatch.setattr(gather, "held_out_pass", refuse)
    assert rules(looked(pairs()))[0] == {"validation"}


@pytest.mark.parametrize("name", ["adamw", "muon", "sgd"])
def test_memory_of_the_optimizer_is_what_it_then_takes(name: str, looked: Callable[..., Preflight]) -> None:
    found = looked(pairs(), f"train.optimizer.name={name}")
    recipe = found.facts.recipe
    config = recipe.model.model_copy(update={"vocab_size": found.facts.vocabulary.model})
    model, _ = starting_model(recipe, None, config, torch.device("cpu"), "fp32")
    optimizer = make_optimizer(recipe.train.optimizer, model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    held = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    assert found.facts.model is not None
    assert (
        found.facts.model.optimizer
        == sum(tensor.nbytes for tensor in held)
        == state_bytes(recipe.train.optimizer, model)
    )
    assert found.facts.model.weights == sum(parameter.nbytes for parameter in model.parameters())


@pytest.mark.parametrize("adapter", ["{rank: 4}", "{rank: 4, quantize: nf4}", "{rank: 2, modules_to_save: [norm]}"])
def test_memory_beside_an_adapter_is_what_is_then_held(
    adapter: str, looked: Callable[..., Preflight], tmp_path: Path
) -> None:
    folder = llama(tmp_path / "llama")
    sets = [f"model={{from: {folder}, context_length: 64}}", "tokenizer={}", f"adapter={adapter}"]
    found = looked(pairs(), *sets, "train.precision=bf16")
    base = find_base(found.facts.recipe.model_copy(update={"model": make_recipe_model(folder)}))
    assert base is not None and found.facts.model is not None
    recipe = with_base(found.facts.recipe, base)
    config = complete_model(recipe.model, base.tokenizer, grows=True)
    loaded = loaded_base(recipe, base, torch.device("cpu"))
    model, _ = starting_model(recipe, loaded, config, torch.device("cpu"), "bf16")
    book = book_of(model)
    kept = sum(parameter.nbytes for parameter in [*model.parameters(), *(book.base.values() if book else [])])
    packed = [m for layer in lora_layers(model).values() for m in layer.modules() if isinstance(m, NF4)]
    kept += sum(buffer.nbytes for matrix in packed for buffer in matrix.buffers())
    assert found.facts.model.weights == kept
    assert found.facts.model.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)


def make_recipe_model(folder: Path) -> Any:
    recipe = make_recipe(
        {
            "name": "x",
            "data": {"sources": [SourceConfig(path="-").model_dump(exclude_unset=True)]},
            "model": {"from": str(folder), "context_length": 64},
            "train": {"steps": 1, "batch_tokens": 64},
        }
    )
    return recipe.model


def test_every_rule_has_its_place_once() -> None:
    assert len({*ERRORS, *WARNINGS}) == len(ERRORS) + len(WARNINGS)
