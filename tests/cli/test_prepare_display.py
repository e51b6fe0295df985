"""What is shown of data preparation: a line for each stretch, counted once, on a terminal and elsewhere."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console

from tests.cli.test_display import ESCAPE, XTERM, Clock
from tilth.cli import prepare_display
from tilth.cli.prepare_display import PrepareDisplay
from tilth.core.tasks import Done, Task

NUMBERS = itertools.count()


def done(kind: str, reused: bool = False, **facts: Any) -> Done:
    task = Task(kind, dict, {}, [])
    return Done(
        task, Path(f"{kind}-{next(NUMBERS)}"), {"kind": kind, "rules": {"changed": {}, "dropped": {}}, **facts}, reused
    )


def parts(*sizes: int) -> list[dict[str, Any]]:
    return [{"file": "p", "documents": 10, "text_bytes": size} for size in sizes]


def prepared(show: Callable[[Done, int, int], None], clock: Clock, reused: bool = False) -> None:
    """What data preparation reports: two groups of files, three parts, and so on."""
    half = {"documents": 9, "text_bytes": 900_000, "tokens": 300_000}
    rules = {"changed": {"clean/x": 9}, "dropped": {"clean/short": 4, "clean/long": 1}}
    stages = [
        [done("collect", reused, parts=parts(10**6, 2 * 10**6)), done("collect", reused, parts=parts(10**6))],
        [done("clean", reused, stage="strip", rules=rules) for _ in range(3)],
        [done("digest", reused, documents=8, text_bytes=800_000) for _ in range(3)],
        [done("exact", documents=2, text_bytes=5, rules={"dropped": {"deduplicate/exact_duplicate": 2}}, parts=["a"])],
        [done("tokenizer", kind_of_tokenizer="bpe", vocab_size=8192)],
        [done("encode", train=half, validation={"documents": 1, "text_bytes": 100_000, "tokens": 30_000})],
    ]
    for tasks in stages:
        for finished, task in enumerate(tasks, 1):
            clock.now += 1
            show(task, finished, len(tasks))


def test_preparation_is_one_plain_line_a_stage() -> None:
    clock, out = Clock(), io.StringIO()
    with PrepareDisplay(Console(file=out, width=40), plain=True, clock=clock) as show:
        prepared(show, clock)
    assert out.getvalue().splitlines() == [
        "reading        30 documents, 4.00 MB, 2.00 MB/s, 0:02",
        "cleaning       24 documents, 2.40 MB, 15 dropped, 400 kB/s, 0:06",
        "deduplicating  2 documents dropped, 0:01",
        "tokenizer      bpe, 8,192 ids, 0:01",
        "encoding       10 documents, 1.00 MB, 330,000 tokens, 1.00 MB/s, 0:01",
    ]


def test_a_task_that_is_looked_at_again_counts_once() -> None:
    clock, out = Clock(), io.StringIO()
    found = [done("encode", True, train={"documents": 1, "text_bytes": 10, "tokens": 3}) for _ in range(3)]
    with PrepareDisplay(Console(file=out, width=80), plain=True, clock=clock) as show:
        show(found[0], 1, 3)
        assert not show.made_something
        for number, one in enumerate([found[0], found[1], replace(found[2], reused=False)], 1):
            clock.now += 1
            show(one, number, 3)
        assert show.made_something
    assert out.getvalue().splitlines() == [
        "encoding       3 documents, 30 B, 9 tokens, 3 B/s, 0:03 (2 of 3 done before)"
    ]


def test_what_was_done_before_is_said_so_and_has_no_rate() -> None:
    clock, out = Clock(), io.StringIO()
    with PrepareDisplay(Console(file=out, width=80), plain=True, clock=clock) as show:
        prepared(show, clock, reused=True)
        show(done("digest", True, documents=1, text_bytes=10**6), 1, 2)
        clock.now += 2
        show(done("digest", False, documents=1, text_bytes=10**6), 2, 2)
    lines = out.getvalue().splitlines()
    assert lines[0] == "reading        30 documents, 4.00 MB, 0:02 (done before)"
    assert lines[1].endswith("15 dropped, 0:06 (done before)") and "before" not in lines[2]
    assert lines[5] == "cleaning       2 documents, 2.00 MB, 500 kB/s, 0:02 (1 of 2 done before)"


def test_preparation_on_a_terminal_shows_the_stage_that_runs() -> None:
    clock, out = Clock(), io.StringIO()
    console = Console(file=out, force_terminal=True, width=50, _environ=XTERM)

    def now() -> list[str]:
        return [line.plain for line in show.__rich_console__(console, console.options)]

    with PrepareDisplay(console, plain=False, clock=clock) as show:
        clock.now += 3
        assert now() == ["reading        0:03"]
        show(done("collect", parts=parts(10**6)), 1, 4)
        assert now() == ["reading        1/4 10 documents, 1.00 MB, 333 kB/s, 0:03, 0:09 to go"]
        show(done("collect", parts=parts(10**6)), 4, 4)
        clock.now += 5
        assert now() == ["reading        20 documents, 2.00 MB, 667 kB/s, 0:03", "next           0:05"]
        show(done("digest", documents=7), 1, 1)
        assert now()[-1] == "next           0:00"
    assert len(now()) == 2  # nothing runs any more
    lines = re.split(r"[\r\n]", ESCAPE.sub("", out.getvalue()))
    assert max(map(cell_len, lines)) <= 50 and any("7 documents" in line for line in lines)


def test_every_stage_of_the_pipeline_has_a_plain_name() -> None:
    from tilth.data.plans import compare_plan
    from tilth.data.tasks import cleaning, items, leaks, shared

    assert {
        *cleaning.VERSIONS,
        *items.VERSIONS,
        *leaks.VERSIONS,
        *shared.VERSIONS,
        "collect",
        *compare_plan.VERSIONS,
        "tokenizer",
        "encode",
    } == prepare_display._LINE_OF.keys()


def test_long_preparation_tells_how_far_it_is_where_nothing_can_be_drawn() -> None:
    clock, out = Clock(), io.StringIO()
    with PrepareDisplay(Console(file=out, width=80), plain=True, clock=clock) as show:
        for finished in range(1, 5):
            clock.now += 20
            show(done("collect", parts=parts(10**6)), finished, 10)
    assert out.getvalue().splitlines() == [
        "reading        2/10 20 documents, 2.00 MB, 50.0 kB/s, 0:40, 2:40 to go",
        "reading        4/10 40 documents, 4.00 MB, 50.0 kB/s, 1:20, 2:00 to go",
        "reading        4/10 40 documents, 4.00 MB, 50.0 kB/s, 1:20, 2:00 to go",
    ]


def test_documents_are_counted_once_however_many_stages_they_go_through() -> None:
    read = prepare_display._facts({"rules": {"dropped": {"read/no_field": 30, "read/bad_rows": 1}}})
    assert read["dropped"] == 30, "the file is no further document"
    sizes = {"documents": 7, "text_bytes": 700, "rules": {"dropped": {"clean/strip": 1}}}
    stage, digests = prepare_display._facts({"stage": "strip", **sizes}), prepare_display._facts(sizes)
    assert (stage["documents"], stage["text_bytes"], stage["dropped"]) == (0, 0, 1)
    assert (digests["documents"], digests["text_bytes"]) == (7, 700)
