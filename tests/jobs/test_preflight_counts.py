"""What a preflight counts, and of what: each document once, and nothing that is not known."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.small_preflight import NO_END, Row, small_preflight

pytestmark = pytest.mark.slow

Check = Callable[..., dict[str, Any]]
BERT = ["model={preset: bert-mini, num_hidden_layers: 1, hidden_size: 32, num_attention_heads: 2, context_length: 64}"]
MASK = [*BERT, "tokenizer.special_tokens=['<|mask|>']"]


def pairs(count: int = 60, words: int = 1, first: int = 0) -> list[Row]:
    """Rows that have no words in common; `words` make the answer as long."""
    numbers = range(first, first + count)
    return [
        {"prompt": f"what{n} is{n}? ", "completion": " ".join(f"answer{n}x{w}" for w in range(words))} for n in numbers
    ]


def texts(count: int = 60, words: int = 30) -> list[Row]:
    return [{"text": " ".join(f"word{n}x{w}" for w in range(words))} for n in range(count)]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """`check(rows, "key=value", …)`: what `tilth check --json` says of a small recipe for these rows."""
    monkeypatch.chdir(tmp_path)

    def made(rows: list[Row], *sets: str, objective: str = "sft") -> dict[str, Any]:
        return small_preflight(rows, *sets, objective=objective).plain()

    return made


def faults(said: dict[str, Any]) -> dict[str, dict[str, str]]:
    """By rule; a rule that speaks twice fails here."""
    found = [*said["errors"], *said["warnings"]]
    assert len({fault["rule"] for fault in found}) == len(found), found
    return {fault["rule"]: fault for fault in found}


def test_an_answer_without_an_end_that_is_cut_off_as_well_counts_once(check: Check) -> None:
    long, cut = pairs(30, words=20), "data.packing.too_long=truncate"
    said = check([*long, *pairs(30, first=30)], cut, f"data.chat.template={json.dumps(NO_END)}")
    fault = faults(said)["without_end"]
    assert 0 < said["truncated"] < said["without_end"] == said["rows"]
    assert f"{said['rows']} of {said['rows']} documents have an answer" in fault["message"]
    assert f"({said['truncated']} are cut off)" in fault["message"]
    written, roomier = fault["remedy"].split("; and ")
    assert written.startswith("data.chat.template: ") and roomier.startswith("data.packing.too_long: split or drop")
    said = check(long, cut)
    assert said["truncated"] == said["without_end"] == said["rows"]
    assert faults(said)["without_end"]["remedy"].startswith("data.packing.too_long: split or drop, or")


def test_of_a_mixture_they_are_told_apart_by_the_numbers_of_its_parts(check: Check) -> None:
    """A template that ends some answers, and two sources of which each has its own numbers."""
    half = NO_END.replace(
        "{% endgeneration %}", "{% if 'x19' not in m.content %}{{ eos_token }}{% endif %}{% endgeneration %}"
    )
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*pairs(9), *pairs(20, 20, 100)]))
    Path("b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*pairs(9, 20, 300), *pairs(20, 18, 400)]))
    sources = ", ".join(
        f"{{path: {n}.jsonl, name: {n}, map: {{prompt: prompt, completion: completion}}}}" for n in "ba"
    )
    said = check(
        pairs(1),
        f"data.sources=[{sources}]",
        f"data.chat.template={json.dumps(half)}",
        "data.packing.too_long=truncate",
        "data.mixture={a: {weight: 0.5, max_epochs: null}, b: {weight: 0.5, max_epochs: null}}",
        "data.split.validation=0",
    )
    assert (said["rows"], said["truncated"], said["without_end"]) == (58, 49, 49)


def test_what_no_row_tells_is_not_counted_as_nothing(check: Check) -> None:
    """Where a part refuses, its own numbers; null where it has none."""
    long, names = (
        [{"prompt": f"{n} " * 60, "completion": "yes"} for n in range(10, 40)],
        ("truncated", "split", "dropped"),
    )

    def counts(rows: list[Row], too_long: str, *sets: str) -> tuple[Any, ...]:
        said = check(rows, f"data.packing.too_long={too_long}", *sets)
        assert not said["ok"] and said["forecast"]["rows_per_step"] is None
        return said["rows"], tuple(said[name] for name in names), said["masked"], said["without_end"]

    every, ways, masked, endless = counts(long, "truncate")
    assert every and (ways, masked, endless) == ((every, 0, 0), every, None)
    assert counts(long, "drop") == (every, (0, 0, every), 0, 0)
    assert counts(long, "error") == (every, (0, 0, 0), None, 0)
    sources = "data.sources=[{path: rows.jsonl, name: a, map: {prompt: prompt, completion: completion}}]"
    mixed = (sources, "data.mixture={a: {weight: 1, max_epochs: 1e-6}}")
    assert counts(long, "truncate", *mixed)[1:] == ((None, 0, 0), None, None)
    said = check(texts(5), "model.context_length=4096", "train.batch_tokens=4096", objective="causal_lm")
    assert not said["ok"] and (said["truncated"], said["masked"], said["without_end"]) == (0, 0, 0), "windows"


def test_pairs_without_a_template_are_not_told_of_one(check: Check) -> None:
    """What is to be typed there can be typed, and helps."""
    long = [{"prompt": f"{n} " * 60, "completion": "yes"} for n in range(10, 40)]
    cut = "data.packing.too_long=truncate"
    said = check([*long, *pairs(30)], cut)
    remedy = (
        "model.context_length: more than 64; or data.packing.too_long: split or drop; or train.objective: causal_lm"
    )
    assert said["masked"] > 0 and faults(said)["masked"]["remedy"] == remedy
    roomy = ("model.context_length=256", "train.batch_tokens=1024")
    for sets in ((cut, *roomy), ("data.packing.too_long=split",), ("data.packing.too_long=drop",)):
        assert "masked" not in faults(check([*long, *pairs(30)], *sets))
    assert "masked" not in faults(check([*long, *pairs(30)], cut, "train.objective=causal_lm"))
    assert "without data.chat answers alone are" in faults(check(long, cut))["masked"]["remedy"]
    rare = [{"prompt": f"{n}{'?' * 800}", "completion": "y"} for n in range(100, 160)]
    roomy = ("model.context_length=1024", "train.batch_tokens=1024")
    assert faults(check(rare, *roomy))["few_trained"]["remedy"].startswith("train.objective: causal_lm, or data with")
    assert "few_trained" not in faults(check(rare, *roomy, "train.objective=causal_lm"))
    assert faults(check(rare, *roomy, "data.chat.template=chatml"))["few_trained"]["remedy"].startswith(
        "data.chat.train_on: all, or data"
    )
    rare_marks = (*MASK, "train.masking.mlm_probability=0.005")
    few = faults(check(texts(words=4), *rare_marks, objective="masked_lm"))["few_trained"]
    assert few["remedy"] == "train.masking.mlm_probability: 0.15"


def test_rows_that_are_mostly_empty_have_few_tokens_to_guess(check: Check) -> None:
    """Of the usual share, too: what is typed there helps."""
    roomy = (*MASK, "model.context_length=2048", "train.batch_tokens=2048", "data.split.validation=0")
    roomy += ("data.packing.too_long=truncate",)
    few = faults(check(texts(8, words=1), *roomy, objective="masked_lm"))["few_trained"]["remedy"]
    found = re.fullmatch(r"model\.context_length: (\d+) or less, of which .* is a multiple, or data\.sources.*", few)
    assert found is not None, few
    shorter = (*roomy, f"model.context_length={found[1]}", f"train.batch_tokens={found[1]}")
    assert "few_trained" not in faults(check(texts(8, words=1), *shorter, objective="masked_lm"))
    assert "few_trained" not in faults(check(texts(300), *roomy, objective="masked_lm"))
    rare = "train.masking.mlm_probability=0.1"
    both = faults(check(texts(8, words=1), *roomy, rare, objective="masked_lm"))["few_trained"]["remedy"]
    assert both == f"train.masking.mlm_probability: 0.15, and {few}"


def test_a_text_that_is_cut_off_has_no_answer_and_a_masked_model_needs_no_end(check: Check) -> None:
    cut = "data.packing.too_long=truncate"
    said = check(texts(), cut, objective="causal_lm")
    assert said["without_end"] == said["truncated"] == said["rows"]
    message = faults(said)["without_end"]["message"]
    assert message.startswith(f"{said['rows']} of {said['rows']} documents are texts whose end is cut off")
    said = check(texts(), cut, *MASK, objective="masked_lm")
    assert said["truncated"] == said["rows"] and said["without_end"] == 0 and "without_end" not in faults(said)


def test_a_masked_model_s_faults_are_told_once_and_its_tokens_estimated(check: Check) -> None:
    said = check(texts(words=8), *BERT, objective="masked_lm")
    assert [error["rule"] for error in said["errors"]] == ["mask_token"]
    few = faults(check(texts(words=8), *MASK, objective="masked_lm"))["small_validation"]
    assert few["message"].startswith("validation predicts about ")
    few = faults(check(texts(8, words=8), objective="causal_lm"))["small_validation"]
    assert few["message"].startswith("validation predicts ") and "about" not in few["message"]
