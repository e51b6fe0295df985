"""Rates of this machine: kept, measured anew when they must be, and what follows from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import torch

from tilth.core.environment import cache_folder
from tilth.jobs.forecasting.watch import misjudged
from tilth.training import calibration
from tilth.training.calibration import Calibration, along, calibrated, doubt, is_kept
from tilth.training.meter import Kind

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def test_a_curve_is_read_between_its_points_and_beyond_them() -> None:
    curve = [(100.0, 1.0), (10_000.0, 10.0)]
    assert along(curve, 100) == 1 and along(curve, 10_000) == 10
    assert along(curve, 1_000) == pytest.approx(10**0.5), "a line between logarithms"
    assert along(curve, 1) == 1, "a call takes no less than the smallest that was measured"
    assert along(curve, 20_000) == 20 and along(curve, 0) == 0


def test_seconds_are_those_of_all_calls_in_their_own_precision() -> None:
    curves = {"product/float32": [(10.0, 2.0)], "product/bfloat16": [(10.0, 1.0)], "pass/float32": [(8.0, 0.5)]}
    rates = Calibration("2026-01-01", "k", curves, 0.25)
    work = Counter({Kind("product", "bfloat16", 10, 99): 3, Kind("product", "float16", 20, 99): 1})
    assert rates.seconds(work) == 3 * 1.0 + 4.0, "what was not measured counts as fp32"
    assert rates.seconds(Counter({Kind("pass", "int64", 0, 8): 2})) == 1.0


def test_it_is_measured_once_and_again_for_other_threads_or_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured: list[str] = []

    def measure(device: torch.device, key: str) -> Calibration:
        measured.append(key)
        return Calibration("2026-01-01", key, {"pass/float32": [(8.0, 0.5)]}, 1e-6)

    monkeypatch.setattr(calibration, "measure", measure)
    first = calibrated(CPU)
    assert calibrated(CPU) == first and len(measured) == 1
    (file,) = cache_folder().iterdir()
    file.write_text(file.read_text().replace("0.5", "0.1"))
    assert calibrated(CPU) == first and len(measured) == 2
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert calibrated(CPU).key != first.key and len(measured) == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert not is_kept(CPU), "two processes share the cores: the rates of one alone say nothing"
    beside = calibrated(CPU)
    assert is_kept(CPU) and len(measured) == 4 and beside.key not in {first.key, measured[2]}
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    for nowhere in (str(file), str(tmp_path / ("n" * 300))):  # nothing can be kept; it cannot even be looked for
        monkeypatch.setenv("XDG_CACHE_HOME", nowhere)
        assert calibrated(CPU).curves == first.curves and not is_kept(CPU)
        doubt(CPU)


def test_what_a_run_belied_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = calibrated(CPU)
    assert any(cache_folder().glob("calibration-*.json"))
    said = {"step_seconds": kept.call}
    for actual, wrong in ((kept.call * 3, True), (kept.call / 3, True), (kept.call * 1.5, False)):
        for seconds in (1.0, 60.0):
            taken = {**said, "actual": {"step_seconds": actual, "seconds": seconds}}
            assert misjudged(taken) == (wrong and seconds > 20), "a run of a second says nothing"
    doubt(CPU)
    assert not any(cache_folder().glob("calibration-*.json"))
    doubt(CPU)  # nothing is left to forget


def test_a_real_measurement_has_every_kind_and_more_takes_longer() -> None:
    rates = calibrated(CPU)
    assert date.fromisoformat(rates.made) <= date.today()
    kinds = {name.partition("/")[0] for name in rates.curves}
    assert kinds == {"product", "attention", "pass", "slow", "update"}
    few, many = (rates.seconds(Counter({Kind("product", "float32", 10**power, 0): 1})) for power in (6, 11))
    assert 0 < few < many


def test_what_takes_long_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """As products in bf16 do where they are emulated: hundreds of them in turns took minutes."""
    clock, done = [0.0], Counter[str]()
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: clock[0])

    def work(name: str, seconds: float) -> Callable[[], None]:
        def one() -> None:
            clock[0] += seconds
            done[name] += 1

        return one

    assert calibration._best(CPU, [work("long", 5.0)] * 300) == 5.0 and done["long"] == 2
    assert calibration._best(CPU, [work("half", 0.5)] * 300) == 0.5 and done["half"] <= 4
    assert calibration._best(CPU, [work("some", 0.01)] * 300) == pytest.approx(0.01) and done["some"] <= 127
    assert calibration._best(CPU, [work("short", 1e-6)] * 8) == pytest.approx(1e-6) and done["short"] > 10_000
    cold, warm = work("cold", 1.2), work("warm", 0.001)
    assert calibration._best(CPU, [lambda: warm() if done["cold"] else cold()] * 50) == pytest.approx(0.001)
    assert done["warm"] > 50 * calibration.REPEATS, "all that is to be out of the cache, in each turn"
