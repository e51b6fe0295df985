"""How far long work is, in words."""

from __future__ import annotations

import io
import re
import struct
import time
from pathlib import Path

from rich.console import Console

from tests.cli.test_display import Clock
from tests.cli.test_prepare_display import done, parts
from tilth.cli.prepare_display import PrepareDisplay
from tilth.cli.progress_lines import meter_line
from tilth.core import progress
from tilth.core.progress import Meter


def test_a_download_tells_rate_and_time_to_go() -> None:
    meter = Meter("downloading", "http://a/b\x1b", total=30 * 10**6, before=10 * 10**6, done=16 * 10**6, started=100.0)
    expected = "downloading    http://a/b\\x1b: 16.0 MB of 30.0 MB, 2.00 MB/s, 0:03, 0:07 to go"
    assert meter_line(meter, 103.0) == expected  # what was there before says nothing about the rate
    meter.done, meter.ended = meter.total, 110.0
    assert meter_line(meter, 999.0) == "downloading    http://a/b\\x1b: 30.0 MB, 2.00 MB/s, 0:10"


def test_trouble_is_told_before_anything_has_come_and_only_while_it_lasts() -> None:
    meter = Meter("asking", "a.org", "request", total=9, started=0.0)
    assert not meter.tells
    meter.trouble = "3 attempts in a row failed, at last: it answers 500"
    assert meter.tells
    assert meter_line(meter, 5.0) == (
        "asking         a.org: 0 of 9 requests, 0:05; 3 attempts in a row failed, at last: it answers 500"
    )
    meter.ended = 6.0
    assert not meter.tells and "failed" not in meter_line(meter, 6.0)


def test_pages_have_a_total_only_where_it_is_known() -> None:
    meter = Meter("crawling", "a.org", "page", done=6, size=12_000, started=0.0)
    assert meter_line(meter, 4.0) == "crawling       a.org: 6 pages, 12.0 kB, 1.5 pages/s, 0:04"
    meter.total = 1200
    assert meter_line(meter, 4.0).endswith("6 of 1,200 pages, 12.0 kB, 1.5 pages/s, 0:04, 13:16 to go")
    meter.done = 0  # no page yet, and no guess
    assert "to go" not in meter_line(meter, 4.0) and "/s" not in meter_line(meter, 4.0)


def file_counts(workspace: Path, name: str, *counts: int) -> None:
    (workspace / progress.FOLDER / name).write_bytes(struct.pack("<qqq", *counts))


def test_tasks_under_way_count_before_any_has_ended(tmp_path: Path) -> None:
    clock, console = Clock(), Console(file=io.StringIO(), force_terminal=True, width=80)

    def now() -> list[str]:
        return [line.plain for line in show.__rich_console__(console, console.options)]

    with PrepareDisplay(console, plain=False, clock=clock) as show, show.board.watching(tmp_path):
        progress.plan({"collect": 1})
        file_counts(tmp_path, "collect-1-1", 25 * 10**6, 100 * 10**6, 1)
        clock.now += 10
        assert now() == ["reading        0/1 25%, 2.50 MB/s, 0:10, 0:30 to go"]
        (tmp_path / progress.FOLDER / "collect-1-1").unlink()
        show(done("collect", parts=parts(10**8)), 1, 1)
        progress.plan({"clean": 4, "digest": 4})  # four chains of two
        file_counts(tmp_path, "clean-1-1", 50, 100, 2)
        file_counts(tmp_path, "clean-2-2", 50, 0, 2)  # it does not know how much there is
        clock.now += 2
        assert now()[1:] == ["cleaning       0/8 12%, 50 B/s, 0:02, 0:14 to go"]
        show(done("clean", stage="strip"), 1, 4)
        show(done("digest", text_bytes=2 * 10**6), 1, 4)
        clock.now += 2
        assert now()[1:] == ["cleaning       2/8 38%, 2.00 MB, 500 kB/s, 0:04, 0:06 to go"]


def test_where_nothing_can_be_drawn_long_work_is_told_from_time_to_time(tmp_path: Path) -> None:
    out = io.StringIO()
    base = time.monotonic()
    clock = Clock()
    clock.now = base
    with PrepareDisplay(Console(file=out, width=80), plain=True, clock=clock) as show, show.board.watching(tmp_path):
        with progress.measured("downloading", "b.txt", total=4000) as meter:
            meter.started = base
            meter.add(1000)
            show.tick()
            assert out.getvalue() == ""
            clock.now = base + 30
            show.tick()
            clock.now = base + 31
            show.tick()  # it was told a second ago
            meter.add(3000)
        meter.ended = base + 40
        clock.now = base + 41
        show.tick()
        show.tick()  # what is over is told once
        file_counts(tmp_path, "collect-1-1", 10**6, 2 * 10**6, 1)
        progress.plan({"collect": 1})
        clock.now = base + 60
        show.tick()
    assert out.getvalue().splitlines() == [
        "downloading    b.txt: 1.00 kB of 4.00 kB, 33 B/s, 0:30, 1:30 to go",
        "downloading    b.txt: 4.00 kB, 100 B/s, 0:40",
        "reading        0/1 50%, 50.0 kB/s, 0:20, 0:20 to go",
    ]


def test_the_display_looks_by_itself_where_nothing_can_be_drawn() -> None:
    out = io.StringIO()
    with PrepareDisplay(Console(file=out, width=80), plain=True) as show:
        meter = Meter("downloading", "b.txt", done=7, started=time.monotonic() - 60)
        meter.ended = time.monotonic()
        show.board.meters.append(meter)
        for _ in range(500):
            if out.getvalue():
                break
            time.sleep(0.01)
        assert re.fullmatch(r"downloading    b.txt: 7 B, 0 B/s, 1:00\n", out.getvalue())
