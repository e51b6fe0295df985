"""Memory, time and cost of a run, said before it and compared after it."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.jobs.conftest import Cli, call
from tests.jobs.helpers import SMALL, write_recipe, write_texts
from tilth.cli.tables import against
from tilth.core.errors import RecipeError
from tilth.core.words import against_forecast
from tilth.jobs.forecasting import paper_run
from tilth.jobs.forecasting.fit import fits, most_rows, parse_bytes
from tilth.jobs.forecasting.forecast_run import memory_forecast
from tilth.jobs.recipe import Recipe, make_recipe
from tilth.training.footprint import Desk

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return lambda *words, **options: call(tmp_path, *words, **options)


def recipe(**train: object) -> Recipe:
    shape = {"preset": "llama-tiny", "num_hidden_layers": 2, "hidden_size": 64, "context_length": 64}
    made = make_recipe(
        {
            "name": "r",
            "data": {"sources": [{"path": "x.txt"}], "split": {"validation": 0}},
            "model": shape,
            "tokenizer": {"kind": "byte"},
            "train": {"steps": 4, "batch_tokens": 1024, "precision": "fp32", "schedule": {"name": "constant"}, **train},
        }
    )
    return made.model_copy(update={"model": made.model.model_copy(update={"vocab_size": 300})})


def test_the_parts_are_the_whole_and_checkpointing_and_fewer_rows_take_less() -> None:
    plain, full = recipe(), recipe(activation_checkpointing="full")
    whole = memory_forecast(plain, plain.model, 16, CPU)
    assert whole.total == sum(whole.parts.values()) and whole.when == "step"
    assert memory_forecast(full, full.model, 16, CPU).total < whole.total
    assert memory_forecast(plain, plain.model, 2, CPU).parts["activations"] < whole.parts["activations"] / 7
    assert whole.parts["allocator"] < 0.5 * (whole.parts["activations"] + whole.parts["working"])
    evaluated = plain.model_copy(
        update={
            "data": plain.data.model_copy(update={"split": plain.data.split.model_copy(update={"validation": 0.1})}),
            "evaluate": plain.evaluate.model_copy(update={"batch_tokens": 1 << 14}),
        }
    )
    full_pass = memory_forecast(evaluated, evaluated.model, 2, CPU)
    assert full_pass.when == "evaluation" and not full_pass.parts["allocator"], "equal blocks are used again"
    large = evaluated.evaluate.model_copy(update={"batch_tokens": 1 << 17})
    mixed = memory_forecast(evaluated.model_copy(update={"evaluate": large}), evaluated.model, 2, CPU)
    assert mixed.parts["allocator"] > 0.1 * mixed.parts["activations"], "what small ones left stays beside large ones"


def test_a_run_says_its_forecast_and_at_the_end_what_was(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts")
    write_recipe(tmp_path / "r.yaml", "texts")
    sets = [*SMALL, "train.price_per_hour=3.6e6"]
    checked = cli("check", "r.yaml", "--json", sets=sets).json()["forecast"]["run"]
    said = cli("train", "r.yaml", "--json", sets=sets)
    found = said.json()["forecast"]
    assert "forecast: " in said.err and "against forecast" in said.out
    assert found["memory"] == sum(found["parts"].values())
    process = found["parts"]["process"] - checked["parts"]["process"]
    assert process >= 0 and checked["memory"] == found["memory"] - process, "a run knows what its process holds"
    assert (checked["micro_batch_open"], found["micro_batch_open"]) == (True, False)
    assert found["seconds"] == pytest.approx(12 * found["step_seconds"], abs=0.06)
    assert found["cost"] == pytest.approx(1000 * 12 * found["step_seconds"], rel=0.01), "a thousand a second"
    assert found["actual"]["step_seconds"] > 0 and found["actual"]["memory"] > 100 << 20
    again = cli("train", "r.yaml", "--json", sets=sets).json()
    assert again["forecast"] == found, "typed again it tells what was, for nothing was left to do"
    kept = json.loads((tmp_path / "runs" / "small" / "result.json").read_text())
    assert kept["forecast"] == found
    report = (tmp_path / "runs" / "small" / "report.html").read_text()
    assert re.search(r"at the most, (\d+% (above|below)|[\d.]+ times) the forecast of \d+ MB|as was forecast", report)


def test_what_was_is_above_or_below_the_forecast_and_never_the_other_way_round() -> None:
    assert against_forecast(835, 678, "678 MB") == "23% above the forecast of 678 MB"
    assert against_forecast(0.45, 0.6, "0.6 s") == "25% below the forecast of 0.6 s"
    assert against_forecast(6000, 1500, "1,500 MB") == "4.0 times the forecast of 1,500 MB"
    assert against_forecast(1000, 1001, "1 GB") == "as was forecast"
    actual = {"memory": 835_297_280, "step_seconds": 0.4481, "cost": None}
    said = against({"memory": 678_160_558, "step_seconds": 0.6828, "cost": None, "actual": actual})
    assert said == "memory 835 MB, 23% above the forecast of 678 MB; a step 0.448 s, 34% below the forecast of 0.683 s"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell what came before from what came then")
def test_what_the_process_held_before_is_no_part_of_the_peak_and_what_it_holds_is_forecast(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts")
    write_recipe(tmp_path / "r.yaml", "texts")
    script = f"""
from pathlib import Path
import tilth
held, gone = bytearray(b"x" * (256 << 20)), bytearray(b"x" * (512 << 20))
del gone
tilth.train(tilth.load_recipe("r.yaml", {SMALL!r}), Path("run"))
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)
    found = json.loads((tmp_path / "run" / "result.json").read_text())["forecast"]
    assert found["parts"]["process"] > 512 << 20, "with what is held"
    assert abs(found["actual"]["memory"] / found["memory"] - 1) < 0.1


def test_memory_is_of_this_sitting_and_time_by_the_speed_of_those_before(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts")
    write_recipe(tmp_path / "r.yaml", "texts")
    run = tmp_path / "runs" / "small"
    cli("train", "r.yaml", sets=SMALL)
    lines = [json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines()]
    lines[3]["memory_bytes"] = 1 << 50  # by another process, with a forecast of its own
    (run / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = cli("train", "r.yaml", "--json", sets=[*SMALL, "train.steps=14"])
    longer, own = said.json(), statistics.median(line["seconds"] for line in lines)
    assert "s a step at the run's own speed, " in said.err and re.search(r"[\d.]+ s left", said.err)
    assert longer["forecast"]["step_seconds"] == pytest.approx(own, rel=1e-3)
    assert longer["forecast"]["seconds"] == pytest.approx(2 * own, abs=0.06), "of the two steps that were left"
    found = longer["forecast"]
    assert longer["step"] == 14 and abs(found["actual"]["memory"] / found["memory"] - 1) < 0.2


def test_check_says_what_would_fit_and_what_it_costs(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts")
    write_recipe(tmp_path / "r.yaml", "texts")
    said = cli("check", "r.yaml", "--fit", "600MiB", "--price", "2.5", "--json", sets=SMALL)
    ways = said.json()["fits"]
    assert [(way["trains"], way["activation_checkpointing"]) for way in ways] == [
        ("full", "none"),
        ("full", "full"),
        ("lora", "none"),
        ("lora", "full"),
    ]
    assert all(way["memory"] <= 600 << 20 and way["or_more"] == (way["micro_batch"] == 4096) for way in ways)
    assert ways[0]["micro_batch"] < ways[1]["micro_batch"]
    assert "what would fit, 4 of 4: lora, activation_checkpointing full" in said.err
    assert "what would fit" in said.out and said.json()["forecast"]["run"]["cost"] is not None
    cli("check", "r.yaml", "--fit", "much", sets=SMALL).expect_fault(2, "no amount of memory", "24GiB")


def test_what_keeps_layers_plain_decides_which_footprint_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plain, compiled = recipe(), recipe(compile=True)
    of_plain, of_compiled = (memory_forecast(one, one.model, 4, CPU) for one in (plain, compiled))
    assert of_plain.parts["activations"] > of_compiled.parts["activations"]
    assert of_plain.parts["process"] < of_compiled.parts["process"]
    monkeypatch.setattr(paper_run, "stays_plain", lambda *_: "other code says so")
    assert memory_forecast(compiled, compiled.model, 4, CPU) == of_plain


def test_the_most_that_fit_are_found_and_one_more_does_not() -> None:
    tiny = recipe()
    room = 470 << 20
    for fit in fits(tiny, tiny.model, CPU, room, "fp32")[:1]:
        assert fit.memory <= room and fit.micro_batch > 1
        more = memory_forecast(tiny, tiny.model, fit.micro_batch + 1, CPU, rows=2 * fit.micro_batch + 2)
        assert more.total > room


def test_a_large_evaluation_takes_no_rows_from_a_step_and_what_it_may_read_is_told() -> None:
    tiny, room = recipe(), 470 << 20
    plain = tiny.model_copy(
        update={"data": tiny.data.model_copy(update={"split": tiny.data.split.model_copy(update={"validation": 0.1})})}
    )
    large = plain.model_copy(update={"evaluate": plain.evaluate.model_copy(update={"batch_tokens": 1 << 20})})
    [own, other] = (fits(one, one.model, CPU, room, "fp32")[0] for one in (plain, large))
    assert other.micro_batch == own.micro_batch > 1 and other.memory == own.memory <= room
    assert other.evaluate_tokens == other.micro_batch * large.model.context_length
    smaller = plain.evaluate.model_copy(update={"batch_tokens": other.evaluate_tokens})
    found = large.model_copy(update={"evaluate": smaller})
    taken = memory_forecast(found, found.model, other.micro_batch, CPU, rows=2 * other.micro_batch).total
    assert taken <= room < memory_forecast(large, large.model, 1, CPU, rows=2).total


def test_an_evaluation_that_should_take_more_memory_than_there_is_names_what_helps_it(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_texts(tmp_path / "texts", documents=60)
    write_recipe(tmp_path / "r.yaml", "texts")
    sets = [*SMALL, "train.micro_batch=1", "data.split.validation=0.6", "model.intermediate_size=8192"]
    large = [*sets, "evaluate.batch_tokens=1000000"]
    found = cli("check", "r.yaml", "--json", sets=large).json()["forecast"]["run"]
    assert found["when"] == "evaluation"
    monkeypatch.setattr("tilth.jobs.forecasting.room.room_of", lambda device: int(0.98 * found["memory"]))
    said = cli("check", "r.yaml", "--json", sets=large).json()["warnings"]
    [warning] = [fault for fault in said if fault["rule"] == "memory"]
    assert "an evaluation should take " in warning["message"] and "batch_tokens 1,000,000" in warning["message"]
    assert warning["remedy"].startswith("evaluate.batch_tokens: 16, ") and "micro_batch" not in warning["remedy"]
    helped = cli("check", "r.yaml", "--json", sets=[*sets, "evaluate.batch_tokens=16"]).json()
    assert not any(fault["rule"] == "memory" for fault in [*helped["warnings"], *helped["errors"]])


@pytest.mark.parametrize("bend", [1.0, 0.7, 1.4])
def test_rows_are_searched_in_few_questions(bend: float) -> None:
    asked: list[int] = []

    def size(rows: int) -> int:
        asked.append(rows)
        return 1000 + int(10 * rows**bend)

    for room in (1009, 1010, 1500, 20_000):
        asked.clear()
        most = most_rows(room, size)
        assert most == 0 if room < 1010 else (size(most) <= room and (most == 4096 or size(most + 1) > room))
        assert len(set(asked)) < 12


@pytest.mark.parametrize("room", [700, 4290, 25_000, 2_500_000])
def test_straight_sizes_below_which_an_evaluation_lies_take_four_questions(room: int) -> None:
    asked: list[int] = []

    def size(rows: int) -> int:
        asked.append(rows)
        return max(678, 591 + 46 * rows)

    most = most_rows(room, size)
    assert size(most) <= room and (most == 4096 or size(most + 1) > room)
    assert len(set(asked)) <= 4 and max(asked) <= most + 16, "many rows take long"


def test_more_rows_on_the_same_desk_take_what_they_take_on_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    desk, tiny = Desk(), recipe()
    for rows in (4, 16, 4):
        with_it = memory_forecast(tiny, tiny.model, rows, CPU, rows=2 * rows, desk=desk)
        shutil.rmtree(tmp_path / "none")
        assert with_it == memory_forecast(tiny, tiny.model, rows, CPU, rows=2 * rows)


def test_amounts_of_memory() -> None:
    assert parse_bytes("24GiB") == 24 << 30 and parse_bytes("24 GB") == 24 * 10**9
    assert parse_bytes("1.5M") == 1_500_000 and parse_bytes("2000000B") == 2_000_000
    for wrong in ("", "GB", "-3G", "0", "3 PB", "24i", "0GiB"):
        with pytest.raises(RecipeError, match="no amount of memory"):
            parse_bytes(wrong)
    with pytest.raises(RecipeError, match="does not say of what") as bare:
        parse_bytes("24")
    assert "24GiB" in bare.value.remedy
    with pytest.raises(RecipeError, match="24 bytes: nothing can be trained in so little"):
        parse_bytes("24B")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems account for memory otherwise")
@pytest.mark.parametrize("name", ["large", "compiled"])
def test_the_peak_is_within_a_tenth(tmp_path: Path, name: str) -> None:
    benchmark = Path(__file__).parents[2] / "benchmarks" / "forecast.py"
    command = [sys.executable, str(benchmark), "--only", name, "--folder", str(tmp_path)]
    subprocess.run([*command, "--json", str(tmp_path / "found.json")], check=True, timeout=240)
    (found,) = json.loads((tmp_path / "found.json").read_text())
    assert abs(found["memory"] / found["actual"]["memory"] - 1) < 0.1


def test_a_run_of_known_shapes_starts_without_torchs_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_texts(tmp_path / "texts")
    write_recipe(tmp_path / "r.yaml", "texts")
    words = ["tilth", "train", "r.yaml", *(word for pair in SMALL for word in ("--set", pair)), "--run"]
    told = "atexit.register(lambda: print('torch._dynamo' in sys.modules))"
    script = f"import atexit, sys; sys.argv = {{}}; {told}\nfrom tilth.cli.main import main\nmain()"
    loaded, process = [], []
    for name in ("first", "second"):
        words_of_run = [sys.executable, "-c", script.format([*words, name])]
        done = subprocess.run(words_of_run, cwd=tmp_path, capture_output=True, text=True, check=True)
        loaded.append(done.stdout.splitlines()[-1])
        process.append(json.loads((tmp_path / name / "result.json").read_text())["forecast"]["parts"]["process"])
    assert loaded == ["True", "False"] and process[1] < process[0]
