"""`tilth evaluate` reads as training does: answers alone, hidden tokens, beside an adapter; figures of a run's end."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import tilth
from tests.jobs.chatting import WORDS, base_folder, in_chatml, question
from tests.jobs.chatting import trained as run_on_answers
from tests.jobs.conftest import Cli
from tests.model.families import quiet
from tilth.core.errors import RecipeError
from tilth.data.batches.masking import MaskingConfig, make_masker
from tilth.data.batches.pseudo import drawn_places
from tilth.jobs.evaluate import evaluate_run
from tilth.jobs.export import export_model
from tilth.jobs.runs import dataset_of

pytestmark = pytest.mark.slow

MASKED: dict[str, Any] = {
    "model": {
        "from": None,
        "preset": "bert-mini",
        "num_hidden_layers": 1,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "context_length": 32,
    },
    "tokenizer": {"kind": "bpe", "vocab_size": 300, "special_tokens": ["<|mask|>"]},
    "train": {"objective": "masked_lm", "steps": 12, "batch_tokens": 256},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder(tmp_path_factory.mktemp("base"))


def masked_run(folder: Path, **sections: Any) -> dict[str, Any]:
    text = "\n\n".join(f"The {a} waits for the {b}, and the {b} for the {a}." for a in WORDS for b in WORDS)
    (folder / "plain.txt").write_text(text)
    data = {"sources": [{"path": str(folder / "plain.txt")}], **sections.pop("data", {})}
    train = {**MASKED["train"], **sections.pop("train", {})}
    return run_on_answers(folder, folder, "masked", **{**MASKED, "train": train, "data": data}, **sections)


def same(metrics: tilth.Metrics, result: dict[str, Any]) -> None:
    """The figures of the end of training, which stand in result.json."""
    end = json.loads((Path(result["run"]) / "result.json").read_text())["validation"]
    assert metrics.plain().keys() == end.keys() and metrics.tokens == end["tokens"]
    for name, value in end.items():
        assert metrics.plain()[name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize(
    "sections",
    [{}, in_chatml(), {"adapter": {"rank": 4}, **in_chatml()}, in_chatml({"packing": {"too_long": "split"}})],
    ids=["completions", "chat", "adapter", "split"],
)
def test_answers_alone_are_measured(base: Path, tmp_path: Path, sections: dict[str, Any]) -> None:
    train = {"steps": 4, "batch_tokens": 192}
    result = run_on_answers(tmp_path, base, train=train, **sections)
    metrics = tilth.evaluate(result["run"])
    same(metrics, result)
    assert metrics.bits_per_byte is None
    stream = dataset_of(Path(result["run"])).stream("validation")
    assert metrics.tokens == stream.trained(np.arange(stream.tokens)).sum() < stream.tokens
    if "adapter" in sections:
        before = tilth.evaluate(result["run"], adapter="none")
        assert before.loss > metrics.loss and before.tokens == metrics.tokens


def test_further_conversations_are_read_as_the_run_read_its_own(base: Path, tmp_path: Path, cli: Cli) -> None:
    """Also for a copy of the model, away from its run; what cannot be used is told."""
    clean = [{"replace": {"rules": [{"name": "names", "pattern": "^Ada .*", "replacement": ""}]}}]
    result = run_on_answers(tmp_path, base, train={"steps": 4}, **in_chatml({"clean": clean}))
    rows = [{"prompt": question(word), "completion": f"The {word} waits."} for word in ("rain", "sun")]
    bad = [{"prompt": "And?", "completion": "Ada waits."}]
    (tmp_path / "more.jsonl").write_text("\n".join(json.dumps(row) for row in rows + bad))
    shutil.copytree(Path(result["run"]) / "final", tmp_path / "copy")
    said: list[str] = []
    metrics = evaluate_run(result["run"], tmp_path / "more.jsonl", say=said.append)
    assert evaluate_run(tmp_path / "copy", tmp_path / "more.jsonl") == metrics
    assert f"{tmp_path / 'more.jsonl'}: dropped by encode/text_changed: 1" in said
    model = tilth.load(result["run"])
    assert model.chat is not None
    with model.chat_encoder() as encoder:
        losses = []
        for row in rows:
            turns = [("user", row["prompt"]), ("assistant", row["completion"])]
            [one] = encoder.encode([{"messages": [{"role": role, "content": text} for role, text in turns]}])
            scores = torch.tensor(model.logits(one.ids.tolist()[:-1])).log_softmax(-1)  # type: ignore[union-attr]
            ids = torch.tensor(one.ids.astype(np.int64)[1:])  # type: ignore[union-attr]
            losses += (-scores[torch.arange(len(ids)), ids])[torch.tensor(one.trained[1:])].tolist()  # type: ignore[union-attr]
    assert metrics.tokens == len(losses) and metrics.loss == pytest.approx(np.mean(losses), rel=1e-5)
    printed = cli("evaluate", "copy", "--data", "more.jsonl", "--json")
    assert printed.json() == pytest.approx(metrics.plain())
    (tmp_path / "none.jsonl").write_text(json.dumps(bad[0]))
    cli("evaluate", "copy", "--data", "none.jsonl").expect_fault(
        3, "none.jsonl holds no text to evaluate", "dropped by encode/text_changed: 1"
    )


@pytest.mark.parametrize(
    "sections", [{}, {"data": {"packing": {"too_long": "split"}}, "train": {"masking": {"whole_word_mask": True}}}]
)
def test_hidden_tokens_are_the_same_ones_as_in_training(tmp_path: Path, sections: dict[str, Any]) -> None:
    result = masked_run(tmp_path, **sections)
    metrics = tilth.evaluate(result["run"])
    same(metrics, result)
    assert metrics.bits_per_byte is None and metrics == tilth.evaluate(result["run"])
    plain = tmp_path / "plain.txt"
    said: list[str] = []
    found = evaluate_run(Path(result["run"]) / "final", plain, say=said.append)
    assert found.tokens > metrics.tokens and found == evaluate_run(result["run"], plain)


def test_the_pseudo_perplexity_is_that_of_a_loop_over_tokens(tmp_path: Path, cli: Cli) -> None:
    """By transformers' BertForMaskedLM, one token at a time, in the windows of the text."""
    result = masked_run(tmp_path)
    run, out = Path(result["run"]), export_model(result["run"], tmp_path / "out").folder
    stream, tokenizer = dataset_of(run).stream("validation"), tilth.load(run).tokenizer
    masker = make_masker(MaskingConfig(), tokenizer, 0)
    with quiet():
        theirs = transformers.AutoModelForMaskedLM.from_pretrained(out).eval()
    ids, losses = stream.read(0, stream.tokens), list[float]()
    for place in range(stream.tokens):
        window = torch.tensor(ids[place // 32 * 32 : place // 32 * 32 + 32].astype(np.int64))[None]
        if not masker.special[ids[place]]:
            token, window[0, place % 32] = int(ids[place]), masker.mask_token
            with torch.no_grad():
                losses.append(-float(theirs(window).logits[0, place % 32].log_softmax(-1)[token]))
    assert 20 < len(losses) < stream.tokens
    whole = evaluate_run(run, pseudo_tokens=10_000)
    assert whole.pseudo_tokens == len(losses)
    assert whole.pseudo_perplexity == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)
    assert whole.loss == tilth.evaluate(run).loss
    printed = cli("evaluate", run, "--pseudo-perplexity", 9, "--json")
    assert printed.json()["pseudo_tokens"] == 9
    assert f"pseudo-perplexity: of 9 tokens, drawn from {stream.tokens} less the special ones" in printed.err
    places = drawn_places(stream, masker.special, 9)
    all_places = np.flatnonzero(~masker.special[ids])
    expected = np.mean([losses[int(np.searchsorted(all_places, place))] for place in places])
    assert printed.json()["pseudo_perplexity"] == pytest.approx(math.exp(expected), rel=1e-4)
    assert len(set(places.tolist())) == 9 and (np.diff(places) > 0).all()


def test_other_models_have_no_pseudo_perplexity(trained: Path) -> None:
    with pytest.raises(RecipeError, match="pseudo-perplexity is of masked language models"):
        evaluate_run(trained / "runs" / "small", pseudo_tokens=5)
