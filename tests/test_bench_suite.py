"""The benchmark suite: whose turn it is, what is left out and why, what is kept of other runs, and that peers do the
same work.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks import __main__ as program
from benchmarks import results
from benchmarks.bench import Bench, Metric, System
from benchmarks.harness import ROOT, Outcome, run
from benchmarks.nano import Model, rate
from benchmarks.suite import MEDIUM, SMALL, Settings, suite
from benchmarks.training import made_up, recipe

from tilth.core.files import read_json
from tilth.jobs.recipe import make_recipe
from tilth.model.config import ModelConfig, parameter_count
from tilth.model.transformer import build

ABOUT = results.about_run(1, quick=False, settings=[])


def steady(name: str, **more: Any) -> System:
    figures = more.pop("figures", {"speed": 1.0})
    return System(name, "tests.bench_systems:steady", {"name": name, "figures": figures}, **more)


def bench(*systems: System, **more: Any) -> Bench:
    metrics = {"speed": Metric("things/s"), "memory": Metric("MiB", higher_is_better=False)}
    return Bench("planted", "Planted.", metrics, systems, 1.0, **{"ours": systems[0].name, **more})


def played(folder: Path, which: Bench, repeats: int = 3) -> tuple[Outcome, list[str]]:
    said: list[str] = []
    outcome = run(which, repeats, folder, 3, said.append)
    return outcome, said


def order(folder: Path) -> list[str]:
    return (folder / "order.txt").read_text().split()


def test_systems_take_turns(tmp_path: Path) -> None:
    outcome, _ = played(tmp_path, bench(steady("a"), steady("b"), prepare="tests.bench_systems:prepare"))
    assert order(tmp_path) == ["prepared", "a", "b", "a", "b", "a", "b"]
    assert {name: len(turns) for name, turns in outcome.turns.items()} == {"a": 3, "b": 3}
    assert outcome.ready["b"]["kind"] == "b" and outcome.ready["b"]["warm_up_seconds"] >= 0
    assert not outcome.left_out and not outcome.failed


def test_a_paced_loop_does_its_warm_up_and_then_a_turns_steps(tmp_path: Path) -> None:
    paced = System("a", "tests.bench_systems:steps", {"name": "step", "warm": 2, "count": 3})
    outcome, _ = played(tmp_path, bench(paced, steady("b")), repeats=2)
    assert order(tmp_path) == [*["step"] * 5, "b", *["step"] * 3, "b", "over"]
    assert [turn["speed"] for turn in outcome.turns["a"]] == [1.0, 1.0]


def test_a_system_that_dies_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    dying = System("dying", "tests.bench_systems:dies")
    outcome, said = played(tmp_path, bench(steady("a"), dying, steady("c")))
    assert outcome.left_out == {"dying": "ended with 1: RuntimeError: the second turn was too much"}
    assert outcome.failed and any("dying is left out" in line for line in said)
    assert {name: len(turns) for name, turns in outcome.turns.items()} == {"a": 3, "c": 3}


def test_threads_are_as_asked(tmp_path: Path) -> None:
    outcome, _ = played(tmp_path, bench(System("a", "tests.bench_systems:threads"), steady("b")), repeats=1)
    assert outcome.turns["a"] == [{"speed": 3.0}]


def test_a_peer_that_is_not_here_is_told_with_its_remedy(tmp_path: Path) -> None:
    absent = steady("absent", needs=("no_such_module",), remedy="plant it")
    outcome, _ = played(tmp_path, bench(steady("a"), absent))
    assert outcome.left_out["absent"] == "no_such_module is not installed: plant it"
    assert "no peer" in outcome.left_out["a"] and not outcome.turns and not outcome.failed


def test_other_work_is_no_peer(tmp_path: Path) -> None:
    ours, same, other = (
        steady(name, figures={"speed": 1.0, "ids": ids}) for name, ids in (("a", "x"), ("b", "x"), ("c", "y"))
    )
    outcome, _ = played(tmp_path, bench(ours, same, other, agree="ids"), repeats=1)
    assert set(outcome.turns) == {"a", "b"} and "not the same work" in outcome.left_out["c"] and outcome.failed


def test_what_cannot_be_prepared_is_no_end(tmp_path: Path) -> None:
    broken = bench(steady("a"), steady("b"), prepare="tests.bench_systems:prepare", options={"broken": True})
    outcome, _ = played(tmp_path, broken)
    assert outcome.failed and set(outcome.left_out) == {"a", "b"} and "nothing to prepare" in outcome.left_out["a"]


def lines_of(ours: list[dict[str, float]], theirs: list[dict[str, float]], target: float) -> list[results.Line]:
    found = bench(steady("a"), steady("b", target=target), steady("c"))
    ready = {"ready": True, "warm_up_seconds": 1.0}
    return results.entries(
        found,
        Outcome({"a": ours, "b": theirs}, {"a": ready, "b": ready}, {"a": {}, "b": {"b": "1"}}, {"c": "it is away"}),
        ABOUT,
    )


def test_ratios_are_those_of_neighbouring_turns() -> None:
    # The machine was ten times slower in the second turn: the ratio of medians would say 4.
    ours = [{"speed": speed, "memory": 50.0} for speed in (40.0, 4.0, 42.0)]
    theirs = [{"speed": speed, "memory": 100.0} for speed in (20.0, 2.0, 10.0)]
    speed, memory = lines_of(ours, theirs, 2.1)[2:4]
    assert speed["ratio"] == {"median": 2.0, "min": 2.0, "max": 4.2} and speed["reached"] is False
    assert memory["ratio"]["median"] == 2.0 and memory["target"] is None  # half the memory is twice as good
    assert (speed["median"], speed["min"], speed["max"], speed["repeats"]) == (10.0, 2.0, 20.0, 3)
    assert lines_of(ours, theirs, 2.0)[2]["reached"] is True


def test_results_are_kept_bench_by_bench(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    first = lines_of([{"speed": 4.0}], [{"speed": 2.0}], 3.0)
    results.merge(path, "other", [{**line, "bench": "other"} for line in first])
    results.merge(path, "planted", first)
    again = results.merge(path, "planted", lines_of([{"speed": 9.0}], [{"speed": 2.0}], 3.0))
    assert read_json(path) == again
    assert [(line["bench"], line.get("median")) for line in again if line["system"] == "a"] == [
        ("other", 4.0),
        ("planted", 9.0),
    ]
    assert results.measured(again, ABOUT) == {"other", "planted"}
    assert results.measured(again, {**ABOUT, "source": "another"}) == set()


def test_every_line_is_a_figure() -> None:
    """What reads the list need not ask of each whether it is one; of what was left out the figures beside it tell."""
    committed = results.read(ROOT / "benchmarks" / "results.json")
    for line in (*committed, *lines_of([{"speed": 4.0}], [{"speed": 2.0}], 3.0)):
        assert line.keys() >= {"metric", "median", "min", "max", "unit", "repeats", "versions"}, line
    assert {line["system"]: line["without"] for line in lines_of([{"speed": 4.0}], [{"speed": 2.0}], 3.0)} == {
        system: {"c": "it is away"} for system in ("a", "b")
    }
    nothing = Outcome(left_out={"a": "it is away", "b": "it is away"})
    assert results.entries(bench(steady("a"), steady("b")), nothing, ABOUT) == []


def test_the_report_says_what_was_reached_and_what_is_missing() -> None:
    text = results.render(lines_of([{"speed": 4.0}], [{"speed": 2.0}], 3.0), [bench(steady("a"))])
    assert "| b | speed (things/s) | 2 | 2 to 2 | **2.00** (2.00 to 2.00) | 3, **not reached** | 1.0 s |" in text
    assert "c is left out: it is away." in text and ABOUT["machine"]["fingerprint"] in text and "b 1" in text


def test_quick_figures_do_not_take_the_place_of_real_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        program.main(["--quick"])
    assert stop.value.code == 2 and "--out" in capsys.readouterr().err


def test_all_benchmarks_are_listed_with_their_minutes(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == [found.name for found in suite(Settings())]
    assert 10 < sum(found.minutes for found in suite(Settings()) if not found.long) <= 45
    with pytest.raises(SystemExit, match="no benchmark 'train'"):
        program.main(["--only", "train"])


def test_a_long_one_is_run_when_it_is_named_alone() -> None:
    long = [found.name for found in suite(Settings()) if found.long]
    asked = {
        words: program.chosen(suite(Settings()), program.parser().parse_args(words.split()), ABOUT)
        for words in ("", f"--only {long[0]}")
    }
    assert not any(found.long for found in asked[""])
    assert [found.name for found in asked[f"--only {long[0]}"]] == long[:1]


def test_without_its_text_a_benchmark_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = program.parser().parse_args(["--only", "to-loss-1.886"])
    found = next(found for found in suite(Settings()) if found.name == "to-loss-1.886")
    assert "--text" in program.measure(found, given, 1).left_out["tilth"]


@pytest.mark.parametrize("shape", [MEDIUM, SMALL])
def test_tilth_and_nano_train_the_same_architecture(shape: dict[str, int]) -> None:
    options = {"shape": shape, "folder": "x", "rows": 2, "lr": 1e-3}
    config = make_recipe(recipe(options)).model.model_copy(update={"vocab_size": 65})
    nano = Model(shape["layers"], shape["heads"], shape["width"], shape["context"], 65)
    assert sum(parameter.numel() for parameter in nano.parameters()) == parameter_count(config)


def test_nano_computes_what_tilth_computes() -> None:
    shape = {"layers": 2, "heads": 2, "width": 16, "context": 8}
    made = make_recipe(recipe({"shape": shape, "folder": "x", "rows": 2, "lr": 1e-3})).model
    ours = build(made.model_copy(update={"vocab_size": 65}), 1)
    torch.manual_seed(2)
    nano = Model(2, 2, 16, 8, 65)
    with torch.no_grad():
        for target, source in zip(_in_order(ours, made), _nano_order(nano), strict=True):
            target.copy_(source)
    ids, targets = torch.randint(65, (3, 8)), torch.randint(65, (3, 8))
    torch.testing.assert_close(ours.logits(ours(ids)), nano(ids, targets)[0], rtol=1e-4, atol=1e-5)


def _in_order(model: torch.nn.Module, config: ModelConfig) -> list[torch.Tensor]:
    """tilth's parameters in the order of `_nano_order`."""
    found = dict(model.named_parameters())
    names = ["embed_tokens.weight", "embed_positions.weight"]
    for layer in range(config.num_hidden_layers):
        parts = ("input_layernorm", *(f"self_attn.{kind}_proj" for kind in "qkvo"), "post_attention_layernorm")
        names += [f"layers.{layer}.{part}.weight" for part in (*parts, "mlp.up_proj", "mlp.down_proj")]
    return [found[name] for name in (*names, "norm.weight")]


def _nano_order(model: Model) -> list[torch.Tensor]:
    found = [model.tokens.weight, model.places.weight]
    for layer in model.layers:
        q, k, v = layer.qkv.weight.chunk(3)
        found += [layer.norms[0].weight, q, k, v, layer.out.weight]
        found += [layer.norms[1].weight, layer.mlp[0].weight, layer.mlp[2].weight]
    return [*found, model.norm.weight]


def test_peft_may_hold_what_tilth_holds() -> None:
    """tilth's job holds frozen weights in the precision of the products: so must one of its peers."""
    found = {bench.name: bench.systems for bench in suite(Settings()) if bench.name.startswith("lora-")}
    for precision in ("fp32", "bf16"):
        peers = [system for system in found[f"lora-{precision}"] if system.options["side"] == "peft"]
        assert precision in [peer.options["held"] for peer in peers] and len({peer.name for peer in peers}) == len(
            peers
        )


def test_the_rate_of_nano_rises_and_falls_as_published() -> None:
    assert rate(0, 2000, 1e-3) == pytest.approx(1e-3 / 101)
    assert rate(100, 2000, 1e-3) == pytest.approx(1e-3)
    assert rate(1050, 2000, 1e-3) == pytest.approx((1e-3 + 1e-4) / 2)
    assert rate(5000, 2000, 1e-3) == pytest.approx(1e-4)


@pytest.mark.slow
def test_quick_runs_measure_tilth_and_a_peer(tmp_path: Path) -> None:
    """The real systems: the command for one benchmark, and a training one without what takes long to load or to
    compile.
    """
    assert program.main(["--quick", "--only", "bpe-training", "--threads", "1", "--out", str(tmp_path)]) == 0
    lines = json.loads((tmp_path / "results.json").read_text())
    assert {"tilth", "tokenizers"} <= {line["system"] for line in lines if line.get("median", 0) > 0}
    assert "these figures say nothing" in (tmp_path / "RESULTS.md").read_text()
    (tmp_path / "text.txt").write_text(made_up(20_000))  # of a million, most of the time would go into preparing it
    training = suite(Settings(quick=True, text=str(tmp_path / "text.txt")))[0]
    plain, nano = (one for one in training.systems if one.name in ("tilth, not compiled", "nanoGPT (written anew)"))
    ours = dataclasses.replace(plain, name="tilth")  # what is compared with a peer has that name
    (tmp_path / "work").mkdir()
    outcome, _ = played(tmp_path / "work", dataclasses.replace(training, systems=(ours, nano)), repeats=2)
    assert len(outcome.turns[ours.name]) == 2 and all(turn["speed"] > 0 for turn in outcome.turns[ours.name])
    assert len(outcome.turns[nano.name]) == 2 and all(turn["speed"] > 0 for turn in outcome.turns[nano.name])
