"""From a sample to the whole: intervals hold what they should, pieces cut nothing twice, duplicates grow."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tilth.core.config import parse
from tilth.data.extract import Extractors
from tilth.data.forecast import Terms
from tilth.data.forecast.estimate import READ, Stratum, grown, quotient, total
from tilth.data.forecast.groups import drawn_groups
from tilth.data.forecast.reckon import _longer
from tilth.data.forecast.units import Unit, by_kind, cut, draw, look
from tilth.data.sources import SourceConfig, read_input


def sampled(draws: np.random.Generator, share: float) -> tuple[Stratum, float]:
    """Files whose yield differs, a share of them in 16 groups; and what all of them give."""
    sizes = draws.lognormal(9, 1, 400).astype(int) + 1
    gives = sizes * draws.normal(1.2, 0.3, 400)
    chosen = draws.permutation(400)[: int(400 * share)]
    stratum = Stratum("s", int(sizes.sum()))
    for n in range(16):
        own = chosen[n::16]
        stratum.covered.append(int(sizes[own].sum()))
        stratum.groups.append({"text": float(gives[own].sum())})
    return stratum, float(gives.sum())


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    draws = np.random.default_rng(0)
    held, widths = 0, []
    for _ in range(400):
        stratum, truth = sampled(draws, 0.2)
        found = total([stratum], "text")
        held += found.low <= truth <= found.high
        widths.append((found.high - found.low) / truth)
    assert 0.92 <= held / 400 <= 0.99, "95 of 100, as nearly as 400 draws tell"
    assert np.median(widths) < 0.2, "and they say something"


def test_what_was_sampled_whole_is_known() -> None:
    stratum, truth = sampled(np.random.default_rng(1), 1.0)
    found = total([stratum], "text")
    assert found.low == pytest.approx(truth) == found.value == found.high


def test_documents_go_by_files_where_each_is_one() -> None:
    groups = [{READ: 10.0, "dropped": float(n == 0), "text": 100.0 * n} for n in range(8)]
    sizes = [10 * (n + 1) for n in range(8)]
    files = Stratum("s", 3000, sizes, groups, files=160, sampled=[10] * 8)
    assert total([files], READ, counts=True).value == total([files], READ, counts=True).high == 160
    dropped = total([files], "dropped", counts=True)
    assert dropped.value == 2 and dropped.low == 1 and 4 < dropped.high < 10
    assert total([files], "text").value == pytest.approx(2800 * 3000 / 360), "of bytes there are as many as files have"
    rows = Stratum("s", 3000, sizes, [{READ: 30.0}] * 8, files=160, sampled=[10] * 8)
    assert total([rows], READ, counts=True).value == pytest.approx(240 * 3000 / 360), "rows go by bytes"


def test_a_rate_has_error_bars_until_all_was_sampled() -> None:
    draws, held = np.random.default_rng(2), 0
    for _ in range(200):
        sizes = draws.lognormal(9, 1, 400).astype(int) + 1
        tokens = sizes * draws.normal(0.25, 0.05, 400)
        chosen = draws.permutation(400)
        for share, known in ((0.2, False), (1.0, True)):
            groups = [chosen[: int(400 * share)][n::16] for n in range(16)]
            counted = [{"tokens": float(tokens[own].sum()), "bytes": float(sizes[own].sum())} for own in groups]
            stratum = Stratum("s", int(sizes.sum()), [int(sizes[own].sum()) for own in groups], counted)
            found, truth = quotient([stratum], "tokens", "bytes"), tokens.sum() / sizes.sum()
            held += not known and found.low <= truth <= found.high
            assert not known or found.low == pytest.approx(truth) == found.high
    assert 0.9 <= held / 200 <= 0.99, "95 of 100, as nearly as 200 draws tell"


@pytest.mark.parametrize(("copies", "power"), [("beside", 1.0), ("anywhere", 2.0)])
def test_duplicates_are_foretold_by_how_they_grow(copies: str, power: float) -> None:
    """Copies beside their originals are found in any sample of neighbours; pairs that lie anywhere are not."""
    draw = random.Random(3)
    number, pairs = 40_000, 4_000
    groups: list[list[int]] = [[] for _ in range(64)]
    for text in range(number - pairs):
        groups[draw.randrange(64)].append(text)
    homes = {text: place for place, group in enumerate(groups) for text in group}
    for text in draw.sample(range(number - pairs), pairs):
        groups[homes[text] if copies == "beside" else draw.randrange(64)].append(text)

    def found(part: list[list[int]]) -> tuple[float, float]:
        texts = [text for group in part for text in group]
        return float(len(texts)), float(len(texts) - len(set(texts)))

    points = [found(groups[:4]), found(groups[:8]), found(groups[:16])]
    truth = found(groups)
    growth = grown(points, truth[0])
    assert growth.power == pytest.approx(power, abs=0.25)
    assert growth.estimate.low <= truth[1] <= growth.estimate.high
    assert growth.times == pytest.approx(4, abs=0.2)


def test_none_found_is_not_none_there() -> None:
    growth = grown([(100.0, 0.0), (200.0, 0.0), (400.0, 0.0)], 4000)
    assert growth.estimate.value == growth.estimate.low == 0 and growth.estimate.high == 300
    assert grown([(400.0, 7.0)], 400).estimate.high == 7, "all was looked at"


def test_what_takes_as_long_for_few_bytes_is_not_multiplied() -> None:
    fixed = _longer([(0.25, 2.0), (0.5, 2.0), (1.0, 2.0)], 25)
    assert fixed.value == 2 and fixed.low == 1.5 and fixed.high < 2 * 25 * 0.75
    grows = _longer([(0.25, 0.5), (0.5, 1.0), (1.0, 2.0)], 25)
    assert grows.value == pytest.approx(50) and 20 < grows.low < 38 and grows.high == pytest.approx(62.5)
    once = _longer([(1.0, 2.0)], 25)
    assert once.low == 1.5 and once.value == 50, "of what was timed once all may be starting"
    assert _longer([(0.5, 2.0), (1.0, 3.0)], 1).value == 3, "a sample of everything takes what it took"


def test_more_found_never_says_that_fewer_may_be_there() -> None:
    alone = [grown([(131.0, float(n))], 7109) for n in range(10)]
    highs = [growth.estimate.high for growth in alone]
    assert highs == sorted(highs) and highs[0] == 7109, "one is no more known by one than by none"
    assert not any(growth.fitted for growth in alone)
    few = grown([(100.0, 1.0), (200.0, 2.0), (400.0, 5.0)], 4000)
    some = grown([(100.0, 5.0), (200.0, 10.0), (400.0, 20.0)], 4000)
    many = grown([(1e4, 500.0), (2e4, 1000.0), (4e4, 2000.0)], 4e5)
    assert not few.fitted and few.estimate.high == pytest.approx((5 + 2 * 5**0.5) * 100)
    assert some.fitted and many.fitted and many.estimate.high == pytest.approx((2000 + 2 * 2000**0.5) * 10**1.5)
    assert 10**1.5 < some.estimate.high / (20 + 2 * 20**0.5) < 100, "few leave the power itself uncertain"
    sized = grown([(100.0, 5e3), (200.0, 1e4), (400.0, 2e4)], 4000, each=1e3, most=1e9)
    assert sized.estimate.high == pytest.approx(1e3 * some.estimate.high), "of bytes likewise"


def units_of(base: Path, budget: int, **source: Any) -> list[Unit]:
    return cut(look(parse(SourceConfig, source), base, base / "work"), budget)


def texts(unit: Unit, base: Path, **source: Any) -> list[str]:
    folder = base / "slices"
    folder.mkdir(exist_ok=True)
    config = parse(SourceConfig, source)
    item, _ = unit.make(folder)
    with Extractors(config.extract) as extractors:
        outcomes = read_input(item, config, extractors)
        return [outcome.document.text for outcome in outcomes if outcome.document is not None]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_the_pieces_of_a_file_hold_each_row_once(tmp_path: Path, kind: str) -> None:
    rows = [f"row {n} {'word ' * (n % 300)}é" for n in range(4000)]
    path = tmp_path / f"rows.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps({"text": row}, ensure_ascii=False) + "\n" for row in rows))
    else:
        pq.write_table(pa.table({"text": rows}), path, row_group_size=300)
    units = units_of(tmp_path, 800_000, path=path.name)
    assert len(units) > 8 and sum(unit.covered for unit in units) == pytest.approx(path.stat().st_size, rel=0.01)
    assert [text for unit in units for text in texts(unit, tmp_path, path=path.name)] == rows


def written_rows(path: Path, rows: list[str]) -> None:
    """A row each; CSV as Excel writes it, with cells that hold line ends and quotes."""
    lines = [json.dumps({"text": row}) + "\n" for row in rows]
    if path.suffix == ".csv":
        doubled = (row.replace('"', '""') for row in rows)
        lines = ["\ufeffsep=;\r\n", "id;text\r\n", *(f'{n};"{row}"\r\n' for n, row in enumerate(doubled))]
    data = "".join(lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl.gz"])
def test_what_is_read_from_its_front_is_read_as_far_as_the_sample_goes(tmp_path: Path, name: str) -> None:
    draw_from = random.Random(0)
    rows = [f'{n} "a"\n\n' + "".join(draw_from.choices("abcdefgh ", k=n * 977 % 2600)) for n in range(4000)]
    written_rows(tmp_path / name, rows)
    size = (tmp_path / name).stat().st_size
    for share, budget in ((1.0, size), (0.5, size // 2)):
        folder = tmp_path / f"{share}"
        (folder / "slices").mkdir(parents=True)
        units = units_of(tmp_path, budget, path=name)
        covered = [unit.make(folder / "slices")[1] for unit in units]
        found = [text for unit in units for text in texts(unit, folder, path=name)]
        assert len(units) == sum(map(bool, covered)) == 8, "so many groups can be compared"
        assert [row.strip() for row in rows[: len(found)]] == [text.strip() for text in found], "each once, in order"
        assert sum(covered) == pytest.approx(budget, rel=0.02 if share < 1 else 1e-4), "all that there is room for"
        assert len(found) / len(rows) == pytest.approx(sum(covered) / size, rel=0.03)
        assert not list(folder.rglob("*.tmp"))


def test_several_large_files_share_the_sample(tmp_path: Path) -> None:
    for n in range(12):
        written_rows(tmp_path / f"{n}.csv", [f"row {n} {row} " + "word " * 40 for row in range(5000)])
    for files in (3, 12):
        units = units_of(tmp_path, 2_000_000, path="[0-2].csv" if files == 3 else "*.csv")
        assert sum(unit.covered for unit in units) == pytest.approx(2_000_000 if files == 3 else 3_000_000, rel=0.01)
        found = look(parse(SourceConfig, {"path": "*.csv"}), tmp_path, tmp_path / "work")
    groups = drawn_groups([found], Terms(sample_bytes=2_000_000))
    drawn = [unit for group in groups for unit in group.units]
    assert len(groups) == len({unit.item.locator for unit in drawn}) == 8 and groups[0].whole == found.size


def test_a_front_that_has_no_border_is_one_part(tmp_path: Path) -> None:
    (tmp_path / "open.csv").write_text('text\n"a cell that no quote closes\n' + "some words\n" * 40_000)
    (tmp_path / "old.csv").write_text("text\r" + "some words\r" * 40_000)
    (tmp_path / "slices").mkdir()
    for name, parts in (("open.csv", 1), ("old.csv", 5)):
        units = units_of(tmp_path, 300_000, path=name)
        made = [unit.make(tmp_path / "slices") for unit in units]
        assert sum(1 for item, covered in made if item.size and covered) == parts
        assert sum(covered for _, covered in made) == pytest.approx(300_000, rel=0.01)


def test_what_cannot_be_cut_and_what_is_not_here_is_named(tmp_path: Path) -> None:
    (tmp_path / "big.json").write_text(json.dumps([{"text": "x" * 100}] * 9000))
    found = look(parse(SourceConfig, {"path": "big.json"}), tmp_path, tmp_path / "work")
    assert cut(found, 100_000) == [] and "cannot be cut" in found.missing[0] and found.size == 0
    far: list[dict[str, Any]] = [
        {"url": "http://127.0.0.1:9/a.txt", "sha256": "0" * 64},
        {"hub": {"dataset": "someone/something"}},
        {"crawl": {"urls": ["http://127.0.0.1:9/"], "contact": "a@b.example"}},
    ]
    for source in far:
        found = look(parse(SourceConfig, source), tmp_path, tmp_path / "work")
        assert found.missing and not found.inputs
    assert not (tmp_path / "work").exists(), "nothing was brought here"


def test_a_draw_depends_on_names_and_seed_and_has_small_and_large(tmp_path: Path) -> None:
    for n in range(100):
        (tmp_path / f"{n:03}.txt").write_text("x" * (10 * n + 1))
    (tmp_path / "a.md").write_text("y" * 100)
    units = units_of(tmp_path, 10**6, path=".")
    kinds = by_kind(units)
    assert sorted(len(kind) for kind in kinds) == [1, 100]
    one = draw(kinds[-1] if len(kinds[-1]) > 1 else kinds[0], 0.2, 5)
    again = draw(list(reversed(kinds[-1] if len(kinds[-1]) > 1 else kinds[0])), 0.2, 5)
    assert one == again and sum(map(len, one)) == 20 and len(one) == 8
    sizes = sorted(unit.covered for group in one for unit in group)
    assert sizes[0] < 60 and sizes[-1] > 900
