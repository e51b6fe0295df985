"""The report of a run: what it says equals the records, it is whole HTML, and data cannot break out of it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.core.files import write_json, write_manifest
from tilth.core.rundir import CheckpointRecord, EvaluationRecord, Message, RunFolder, SampleRecord, StepRecord
from tilth.data.dataset import DATASET_VERSION
from tilth.jobs.pages import charts, page
from tilth.jobs.pages.report import write_report

VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}
RECIPE: dict[str, Any] = {
    "name": "little",
    "data": {"sources": [{"path": "texts/plays.txt", "url": None, "name": None, "builtin": None}]},
    "tokenizer": {"kind": "char"},
    "train": {"optimizer": {"name": "adamw", "lr": 0.001}, "schedule": {"name": "cosine"}, "final": "last", "seed": 7},
    "evaluate": {"metrics": ["loss", "perplexity", "bits_per_byte", "accuracy"]},
}
CONFIG = {"vocab_size": 67, "context_length": 64, "hidden_size": 128, "activation": "gelu", "position": "learned"}
PARAMETERS = 4 * (12 * 128 * 128 + 2 * 128) + 128 + (67 + 64) * 128  # layers, last norm, embeddings
DROPPED = {"clean/min_length": 17, "deduplicate/exact_duplicate": 204, "list/not_text": 3}
TRAIN = {"documents": 4501, "tokens": 8_123_456, "text_bytes": 8_000_000, "unknown_characters": 0}
VALIDATION = {"documents": 488, "tokens": 654_321, "text_bytes": 640_000, "unknown_characters": 9}
FACTS: dict[str, Any] = {"dataset_version": DATASET_VERSION, "fingerprint": "f" * 64, "vocab_size": 67} | {
    "documents": 4989,
    "read": {"documents": 5210, "text_bytes": 9_000_000},
    "rules": {"changed": {"clean/blank_lines": 321}, "dropped": DROPPED},
    "splits": {"train": TRAIN, "validation": VALIDATION},
}


class Page(HTMLParser):
    """A page taken apart: balance of tags, ids, links, text by element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "pre":
            self.texts.append(("pre", ""))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if "pre" in self.open:
            self.texts[-1] = ("pre", self.texts[-1][1] + data)
        elif self.open and self.open[-1] not in ("style", "script"):
            self.texts.append((self.open[-1], data))

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(data for _, data in self.texts))

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def figure(self, label: str) -> str:
        """The value under a label of the key figures."""
        words = [(tag, data) for tag, data in self.texts if tag in ("dt", "strong")]
        return words[words.index(("dt", label)) + 1][1]

    def pres(self) -> list[str]:
        return [data for tag, data in self.texts if tag == "pre"]


def step(n: int, **values: Any) -> StepRecord:
    made = StepRecord(n, n * 768, 4.0 / n**0.2, 1.0, 1e-3, 0.1, 1e-4, 15_000.0, None, 664_000_000, 0, 0, 11)
    return dataclasses.replace(made, **values)


def evaluation(n: int, loss: float, best: bool = True) -> EvaluationRecord:
    metrics = {"loss": loss, "perplexity": math.exp(loss), "bits_per_byte": loss / math.log(2), "accuracy": 0.4375}
    return EvaluationRecord(n, metrics, 1.5, best)


def make_run(folder: Path, events: list[Any], steps: list[StepRecord], recipe: dict[str, Any] | None = None) -> Path:
    run = RunFolder(folder / "run")
    run.path.mkdir()
    write_json(run.path / "recipe.json", recipe or RECIPE)
    write_json(run.path / "config.json", {"model_type": "tilth", **CONFIG})
    (folder / "dataset").mkdir()
    write_manifest(folder / "dataset", FACTS)
    write_json(run.path / "data.json", {"folder": str(folder / "dataset"), "fingerprint": FACTS["fingerprint"]})
    (run.path / "steps.jsonl").write_text("".join(json.dumps(dataclasses.asdict(s)) + "\n" for s in steps))
    for event in events:
        run.record(event)
    if steps:
        write_json(run.path / "result.json", {"step": steps[-1].step, "seconds": 161.659, "stopped_by": "steps"})
    return run.path


def page_of(run: Path, extra: dict[str, Any] | None = None) -> Page:
    page = Page(write_report(run, extra).read_text(encoding="utf-8"))
    assert page.faults == []
    return page


@pytest.fixture
def run(tmp_path: Path) -> Path:
    events = [
        Message(0, "info", "starting: bf16 on cpu, 12 rows at once"),
        evaluation(50, 2.5),
        SampleRecord(50, "ROMEO:", " tre & wo"),
        CheckpointRecord(50, "run/checkpoints/step-00000050", 0.03),
        evaluation(100, 1.9042449515653628),
        SampleRecord(100, "ROMEO:", "\nI would hath heard of"),
    ]
    return make_run(tmp_path, events, [step(n) for n in range(1, 101)])


def test_the_checker_of_balance_can_fail() -> None:
    assert Page("<div><p>x</div>").faults and Page("<div>").faults and not Page("<div><p>x</p></div>").faults


def test_figures_equal_the_records(run: Path) -> None:
    page = page_of(run)
    assert page.figure("Validation loss") == "1.904" and page.figure("Steps") == "100"
    assert page.figure("Perplexity") == f"{math.exp(1.9042449515653628):.4g}"
    assert page.figure("Bits per byte") == f"{1.9042449515653628 / math.log(2):.4g}"
    assert page.figure("Accuracy") == "43.8%"
    assert page.figure("Tokens") == f"{8_123_456 + 654_321:,}"
    assert page.figure("Tokens trained on") == f"{100 * 768:,}"
    assert page.figure("Documents") == f"{5210 - 17 - 204:,}"  # what `list` dropped was never read
    assert page.figure("Time") == "2 min 42 s"
    assert page.figure("Parameters") == f"{PARAMETERS:,}"
    headline = next(data for tag, data in page.texts if tag == "h1")
    assert "0.804 million parameters was trained on plays.txt for 2 min 42 s (100 steps)" in headline


def test_documents_settings_machine_and_commands_are_there(run: Path) -> None:
    page = page_of(run, {"environment": {"processor": "AMD EPYC", "features": [], "packages": {"torch": "2.13.0"}}})
    documents = "5,210 read|4,989 kept|min_length|exact_duplicate|321|204|8,123,456|8.00 MB"
    machine = "bf16 on cpu|AMD EPYC|torch 2.13.0|run/checkpoints/step-00000050|664 MB|learning rate 0.001"
    for said in (documents + "|" + machine).split("|"):
        assert said in page.text, said
    assert any("kind: char" in pre for pre in page.pres())
    assert f"tilth generate {run} --prompt ROMEO:" in page.pres()
    asked = ["tilth generate x --prompt 'def f('", "tilth chat x"]
    page = page_of(run, {"next_steps": asked, "parameters": 123_456_789})
    assert [pre for pre in page.pres() if pre.startswith("tilth")] == [*asked, f"tilth evaluate {run}"]
    assert page.figure("Parameters") == "123,456,789"


@pytest.mark.slow
def test_the_environment_is_taken_from_the_newest_checkpoint(run: Path) -> None:
    for name, processor in (("step-00000050", "Xeon A"), ("step-00000100", "Xeon B")):
        (run / "checkpoints" / name).mkdir(parents=True)
        state = {"identity": {"environment": {"processor": processor, "packages": {}}}}
        write_json(run / "checkpoints" / name / "state.json", state)
    assert "Xeon B" in page_of(run).text and "Xeon A" not in page_of(run).text
    (run / "checkpoints" / "step-00000100" / "state.json").write_text("{")
    assert "Xeon A" in page_of(run).text


def test_samples_are_as_written_and_nothing_comes_from_elsewhere(run: Path) -> None:
    page = page_of(run)
    assert [pre for pre in page.pres() if pre.startswith("ROMEO")] == [
        "ROMEO: tre & wo",
        "ROMEO:\nI would hath heard of",
    ]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in page.every("a"):
        assert (link["href"] or "").removeprefix("#") in ids
    for svg in page.every("svg"):
        assert svg["aria-label"] and svg["aria-describedby"] in ids
    html = (run / "report.html").read_text(encoding="utf-8")
    assert not [word for word in ("http", "://", "@import", "url(") if word in html]
    assert not any({"src", "srcset", "data"} & set(attributes) for _, attributes in page.tags)


HOSTILE = "</pre><script>alert(1)</script>{{ 7 * 7 }} <!-- https://evil.example/?a=b&c='\" \x1b[31m\u202e"


def test_data_cannot_break_out(tmp_path: Path) -> None:
    recipe = {**RECIPE, "name": HOSTILE, "data": {"sources": [{"url": HOSTILE, "name": HOSTILE}]}}
    events = [Message(1, "warning", HOSTILE), SampleRecord(1, HOSTILE, HOSTILE), CheckpointRecord(1, HOSTILE, 0.1)]
    run = make_run(tmp_path, [*events, evaluation(1, 2.0)], [step(1)], recipe)
    page = page_of(run, {"next_steps": [HOSTILE], "environment": {HOSTILE: HOSTILE, "packages": {HOSTILE: HOSTILE}}})
    html = (run / "report.html").read_text(encoding="utf-8")
    assert len(page.every("script")) == 1 and "alert(1)</script>" not in html
    assert "://" not in html and "\x1b" not in html
    shown = HOSTILE.replace("\x1b", "\u241b")
    assert shown * 2 in page.pres()  # prompt and text, as they were, but for the control character
    assert HOSTILE.split()[1] in page.text


def test_a_run_of_one_step_or_none_without_validation_samples_or_data(tmp_path: Path) -> None:
    run = make_run(tmp_path, [], [step(1)])
    shutil.rmtree(tmp_path / "dataset")
    page = page_of(run)
    assert page.figure("Training loss") == "4"
    assert page.figure("Documents") == "unknown"
    assert "The dataset is gone" in page.text and f"no dataset at {tmp_path / 'dataset'}" in page.text
    assert "No sample was written" in page.text and "No validation was made" in page.text
    assert [a for a in page.every("path") if (a["d"] or "").endswith("h0") and a.get("data-name")]  # seen as a dot
    (run / "steps.jsonl").unlink()
    (run / "result.json").unlink()
    page = page_of(run)
    assert "has been in training on plays.txt" in page.text and "No step has been recorded" in page.text


def test_another_dataset_in_its_place_is_not_described(run: Path) -> None:
    write_json(run / "data.json", {**json.loads((run / "data.json").read_text()), "fingerprint": "0" * 64})
    assert "is not the dataset that" in page_of(run).text and "5,210" not in page_of(run).text


def test_a_result_that_the_run_has_outgrown_is_not_its_end(run: Path) -> None:
    assert "Training ended because the number of steps" in page_of(run).text
    RunFolder(run).record(step(101))
    page = page_of(run)
    assert "The run has not ended" in page.text
    assert page.figure("Time") == "10.1 s"  # of 101 steps, and not of the old result


def test_the_best_weights_are_described_where_they_are_kept(tmp_path: Path) -> None:
    recipe = {**RECIPE, "train": {**RECIPE["train"], "final": "best"}}
    events = [evaluation(1, 2.25), evaluation(2, 3.5, best=False)]
    page = page_of(make_run(tmp_path, events, [step(1), step(2)], recipe))
    assert page.figure("Validation loss") == "2.25" and "figures of step 1" in page.text
    (tmp_path / "last").mkdir()
    page = page_of(make_run(tmp_path / "last", events, [step(1), step(2)]))
    assert page.figure("Validation loss") == "3.5"
    assert "validation loss was lowest at step 1, 2.25; at the end it is 3.5" in page.text


@pytest.mark.parametrize(("xz", "said"), [(2.5, "needs 10% more"), (3.0, "needs 8% less"), (2.747, "need the same")])
def test_the_compressor_is_drawn_beside_the_model(run: Path, xz: float, said: str) -> None:
    page = page_of(run, {"xz_bits_per_byte": xz})
    assert said in page.text
    model = 1.9042449515653628 / math.log(2)
    bars = [(a["style"] or "").removeprefix("--share:") for a in page.every("i")]
    assert not page_of(run, {"xz_bits_per_byte": None}).every("i")
    assert [float(bar) for bar in bars] == pytest.approx([model / max(model, xz), xz / max(model, xz)], abs=1e-4)


def test_values_that_are_no_numbers_are_left_out_and_counted(tmp_path: Path) -> None:
    skipped = step(4, grad_norm=None, skipped=1)  # fp16: the gradient overflowed
    steps = [step(1), step(2, loss=math.nan, grad_norm=math.inf), step(3), skipped]
    html = write_report(make_run(tmp_path, [], steps)).read_text(encoding="utf-8")
    assert html.count("1 value left out") == 1 and html.count("2 values left out") == 1
    assert not re.search(r'd="[^"]*(nan|inf)', html)


@pytest.mark.slow
def test_a_huge_run_is_quick_and_small(tmp_path: Path) -> None:
    steps = [step(n, grad_norm=777.0 if n == 61_803 else 1 + n % 7 / 10) for n in range(1, 100_001)]
    long, events = '"' * 5000, list[Any]([Message(100_000, "warning", "<" * 5000)] * 100)
    for n in range(500, 100_001, 500):
        events += [evaluation(n, 2.0), CheckpointRecord(n, long, 0.1)]
        events += [SampleRecord(n, long, long), SampleRecord(n, "second", long)]
    run = make_run(tmp_path, events, steps, {**RECIPE, "notes": ['"' * 50] * 5000})
    started = time.process_time()
    size = write_report(run).stat().st_size
    assert time.process_time() - started < 5 and size < 1_000_000
    page = page_of(run)
    assert "12 of 400 samples are shown" in page.text and "3,500 more characters, not shown" in page.text
    paths = [a["d"] or "" for a in page.every("path") if "data-name" in a]
    assert len(paths) == 8 and all(100 < d.count(" ") <= 600 for d in paths)
    assert sum(pre.startswith("second") for pre in page.pres()) == 6  # of six steps, each with both prompts
    assert "highest 777 (step 61,803)" in page.text


@pytest.mark.slow
def test_torch_is_not_needed() -> None:
    code = "import sys, tilth.jobs.pages.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1) | st.lists(st.floats(-1e6, 1e6), min_size=40, max_size=400)


@given(VALUES, st.integers(6, 50))
def test_thinning_keeps_ends_and_extremes(values: list[float], most: int) -> None:
    points = [(float(n), value) for n, value in enumerate(values)]
    kept = charts.thin(points, most)
    assert len(kept) <= most and set(kept) <= set(points)
    assert kept == sorted(kept) and kept[0] == points[0] and kept[-1] == points[-1]
    assert min(v for _, v in kept) == min(values) and max(v for _, v in kept) == max(values)


@given(st.lists(st.floats(-100, 100) | st.just(math.nan), min_size=1, max_size=40), st.integers(2, 30))
def test_smoothing_is_the_weighted_mean(values: list[float], window: int) -> None:
    seen, expected = list[float](), list[float]()
    for value in values:
        seen += [] if math.isnan(value) else [value]
        weights = [(1 - 2 / (window + 1)) ** age for age in reversed(range(len(seen)))]
        expected.append(float(np.dot(weights, seen)) / sum(weights) if seen else math.nan)
    assert charts.smooth(values, window) == pytest.approx(expected, abs=1e-6, nan_ok=True)


@given(VALUES)
def test_axes_hold_all_values_and_say_where_they_are(values: list[float]) -> None:
    low, high = min(values), max(values)
    axis = charts.linear_axis(low, high, 5)
    room = 1e-6 * (abs(low) + abs(high)) + 1e-300
    assert axis.low <= low + room and high - room <= axis.high and axis.low < axis.high
    assert 2 <= len(axis.ticks) <= 8
    assert axis.ticks[0].percent == 0 and axis.ticks[-1].percent == pytest.approx(100)
    assert len({tick.label for tick in axis.ticks}) == len(axis.ticks)


def test_ticks_and_points_stand_where_their_values_lie() -> None:
    def labels(low: float, high: float) -> str:
        return " ".join(tick.label for tick in charts.linear_axis(low, high, 5).ticks)

    assert labels(0, 0.001) == "0.0000 0.0002 0.0004 0.0006 0.0008 0.0010"
    assert labels(0, 3e-5) == "0 1e-5 2e-5 3e-5"
    assert labels(0, 27_000) == "0 10k 20k 30k"
    assert labels(1.8, 4.2) == "1.5 2.0 2.5 3.0 3.5 4.0 4.5"
    assert labels(2.0, 2.0) == "1.8 1.9 2.0 2.1 2.2"
    assert [t.label for t in charts.log_axis(0.4, 300).ticks] == ["0.1", "1", "10", "100", "1000"]
    chart = charts.line_chart("k", "T", "u", [charts.Line("a", "smooth", [(0, 0.0), (50, 10.0), (100, 5.0)])])
    assert chart is not None
    assert chart.lines[0].path == "M0.0 1000.0L500.0 0.0L1000.0 500.0"
    assert chart.description == "a: 0 at step 0, 5 at step 100; lowest 0 (step 0), highest 10 (step 50)."


def test_numbers_are_written_for_people() -> None:
    times = [page.duration(seconds) for seconds in (41.23, 59.97, 161.659, 11_111)]
    assert times == ["41.2 s", "1 min 00 s", "2 min 42 s", "3 h 05 min"]
    words = [page.rough(value) for value in (4321, 804_352, 124_439_808, 7e9)]
    assert words == ["4,321", "0.804 million", "124 million", "7 billion"]
    numbers = [charts.number(value) for value in (1.90424, 27_220.1, 1e-5, math.nan)]
    assert numbers == ["1.904", "27,220", "1e-05", "not a number"]
    assert [page.size(value) for value in (512, 1_003_854, 664_000_000)] == ["512 B", "1.00 MB", "664 MB"]
