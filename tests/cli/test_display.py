import io
import os
import re
import subprocess
import sys
import time
from itertools import pairwise
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from tilth.cli.display import Limits, TrainDisplay
from tilth.core.rundir import CheckpointRecord, EvaluationRecord, Event, Message, SampleRecord, StepRecord

HOSTILE = "[bold]x[/bold] \x1b[2J\x1b]0;title\x07 \x9b31m \r\u202e :smile: \ud800"
SHOWN = "[bold]x[/bold] \\x1b[2J\\x1b]0;title\\x07 \\x9b31m \\r\\u202e :smile: \\ud800"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
XTERM = {"TERM": "xterm-256color"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def step(number: int, **changes: Any) -> StepRecord:
    values: dict[str, Any] = {
        "step": number,
        "tokens": number * 768,
        "loss": 2.4198,
        "grad_norm": 1.37,
        "lr": 9.7e-4,
        "seconds": 0.5,
        "data_wait_seconds": 0.05,
        "tokens_per_second": 22477.4,
        "mfu": None,
        "memory_bytes": 465_268_736,
        "skipped": 0,
        "first_sample": 0,
        "last_sample": 11,
    }
    return StepRecord(**{**values, **changes})


def evaluation(number: int, loss: float, best: bool) -> EvaluationRecord:
    metrics = {"loss": loss, "perplexity": 10.05, "bits_per_byte": 3.3289, "accuracy": 0.318, "tokens": 99.0}
    return EvaluationRecord(number, metrics, 1.4, best)


class Watched:
    """A display over a string, with its clock."""

    def __init__(self, limits: Limits, plain: bool, width: int = 80, **options: Any) -> None:
        self.clock, self.out = Clock(), io.StringIO()
        self.console = Console(file=self.out, force_terminal=not plain, width=width, height=40, _environ=XTERM)
        self.show = TrainDisplay(limits, self.console, plain, clock=self.clock, **options)

    def feed(self, *events: Event, seconds: float = 0.0) -> None:
        for event in events:
            self.clock.now += seconds
            self.show(event)

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()

    def drawn(self) -> list[str]:
        """The live drawing as it is now."""
        drawing = self.show._screen._live.get_renderable()
        return [line.plain for line in drawing.__rich_console__(self.console, self.console.options)]


def final(limits: Limits, *events: Event, width: int = 80, seconds: float = 0.5) -> list[str]:
    """The drawing that a live display leaves."""
    watched = Watched(limits, plain=False, width=width)
    with watched.show:
        watched.feed(*events, seconds=seconds)
        watched.out.seek(0)
        watched.out.truncate()
    lines = [ESCAPE.sub("", line).strip("\r") for line in watched.lines]
    return [line for line in lines if line.strip()]


def figure(lines: list[str], label: str) -> str:
    """What stands behind a label, up to the next cell."""
    (found,) = [match for line in lines if (match := re.search(rf"(?:^|\s){label}\s+(.+?)(?:\s{{2,}}|$)", line))]
    return found[1]


def test_a_step_is_one_plain_line_complete_in_itself() -> None:
    watched = Watched(Limits(2000, None), plain=True, width=40)
    with watched.show:
        watched.feed(step(249), step(250), seconds=0.5)
    # 1750 steps of 0.5 s are left; a line is not broken at the console's width.
    assert watched.lines[1] == "step 250/2000 12.5%  loss 2.4198  lr 9.7e-04  grad 1.37  22,477 tok/s  eta 14:35"
    assert "\x1b" not in watched.out.getvalue()


def test_plain_lines_name_mfu_and_skipped_steps_where_there_are_any() -> None:
    watched = Watched(Limits(), plain=True)
    with watched.show:
        watched.feed(step(7, mfu=0.4123, skipped=2))
    assert "mfu 41.2%  skipped 2  eta unknown" in watched.lines[0] and watched.lines[0].startswith("step 7  loss")


def test_a_step_whose_gradient_overflowed_says_so_in_both_modes() -> None:
    overflowed = step(7, grad_norm=None, skipped=1)
    watched = Watched(Limits(), plain=True)
    with watched.show:
        watched.feed(overflowed)
    assert "grad overflow  22,477 tok/s  skipped 1" in watched.lines[0]
    assert figure(final(Limits(), overflowed), "grad norm") == "overflow"


def test_plain_step_lines_come_at_growing_intervals_and_end_with_the_last_step() -> None:
    watched = Watched(Limits(20_000), plain=True)
    with watched.show:
        watched.feed(*map(step, range(1, 15_001)), seconds=0.5)  # a little over two hours
    said = [int(line.split()[1].partition("/")[0]) for line in watched.lines]
    assert said[:5] == [1, 2, 3, 13, 23]  # every 5 seconds
    gaps = [(b - a) * 0.5 for a, b in pairwise(said[2:-1])]
    assert gaps == sorted(gaps) and max(gaps) == 60 and len(said) < 300
    assert said[-1] == 15_000 and said.count(15_000) == 1


def test_every_other_event_has_its_plain_line() -> None:
    watched = Watched(Limits(100), plain=True, metrics=("loss", "accuracy"))
    with watched.show:
        watched.feed(
            evaluation(50, 2.3074, best=True),
            evaluation(60, 2.5, best=False),
            SampleRecord(60, "\n", "To be\nor"),
            SampleRecord(60, "", "not"),
            CheckpointRecord(60, "run/checkpoints/step-00000060", 0.1),
            Message(0, "warning", "set aside\n  remedy: none"),
        )
    assert watched.lines == [
        "step 50  validation  loss 2.3074  accuracy 31.8%  best",
        "step 60  validation  loss 2.5000  accuracy 31.8%",
        "step 60  sample after '\\n':  To be\\nor",
        "step 60  sample  not",
        "step 60  checkpoint run/checkpoints/step-00000060",
        "step 0  warning: set aside remedy: none",
    ]


@pytest.mark.parametrize("plain", [True, False])
def test_hostile_text_is_shown_and_never_obeyed(plain: bool) -> None:
    watched = Watched(Limits(10), plain, width=200)
    events = [
        SampleRecord(1, HOSTILE, HOSTILE),
        Message(1, "warning\x1b[2J", HOSTILE),
        CheckpointRecord(1, HOSTILE, 0.1),
        step(1),
    ]
    with watched.show:
        watched.feed(*events)
    output = watched.out.getvalue()
    assert "\x1b[2J" not in output and "\x1b]" not in output and not set("\x07\x9b\u202e\ud800") & set(output)
    text = ESCAPE.sub("", output)
    assert text.count("[bold]x[/bold]") >= 3 - (not plain) and ":smile:" in text
    assert SHOWN in text and "warning\\x1b[2J:" in text


def test_the_live_display_shows_every_figure() -> None:
    lines = final(
        Limits(2000),
        *map(step, range(241, 250)),
        evaluation(249, 2.3074, best=True),
        evaluation(249, 2.4, best=False),
        CheckpointRecord(249, "x", 0.1),
        Message(249, "warning", "first"),
        Message(249, "info", "no warning"),
        Message(249, "warning", "second"),
        step(250, skipped=3, mfu=0.4123),
    )
    assert re.match(r"12\.5% +━+┈+ step 250 of 2,000$", lines[0])
    expected = {
        "loss": "2.4198",
        "tokens": "192,000",
        "elapsed": "0:08",
        "lr": "9.7e-04",
        "grad norm": "1.37",
        "skipped": "3 steps",
        "speed": "22,477 tok/s",
        "MFU": "41.2%",
        "data wait": "10.0%",
        "memory": "465 MB",
        "checkpoint": "step 249",
        "saved": "0:02 ago",
        "warnings": "2, above; the last at step 249",
    }
    assert {label: figure(lines, label) for label in expected} == expected
    assert any("2.4000  bits/byte 3.3289  step 249  best 2.3074  step 249" in line for line in lines)


def test_what_is_not_known_is_called_unknown() -> None:
    watched = Watched(Limits(), plain=False)
    with watched.show:
        watched.feed(step(1))
        lines = watched.drawn()
    assert lines[0] == "running    step 1, open-ended"
    assert figure(lines, "MFU") == "unknown" and figure(lines, "eta") == "unknown"
    assert figure(lines, "checkpoint") == "none yet" and not any("saved" in line for line in lines)


def test_the_eta_leaves_out_the_first_step_and_counts_down() -> None:
    watched = Watched(Limits(1010), plain=False)
    with watched.show:
        watched.feed(step(1001, seconds=60.0), seconds=60.0)  # resumed at 1000; the first step compiles
        assert figure(watched.drawn(), "eta") == "9:00"  # all there is to go by: 9 steps of 60 s
        watched.feed(step(1002), step(1003), step(1004), seconds=10.0)
        assert figure(watched.drawn(), "eta") == "1:00"  # 6 steps of 10 s
        watched.clock.now += 7
        assert figure(watched.drawn(), "eta") == "0:53"
        watched.clock.now += 500
        assert figure(watched.drawn(), "eta") == "0:00"
    assert figure(watched.drawn(), "eta") == "-"  # it is over
    elapsed = figure(watched.drawn(), "elapsed")
    watched.clock.now += 500
    assert elapsed == figure(watched.drawn(), "elapsed") == "9:57"  # 60 + 30 + 507


@pytest.mark.parametrize(
    ("limits", "share", "eta"),
    [
        (Limits(None, hours=1.0), "25.0%", "45:00"),
        (Limits(None, hours=1.0, seconds_before=900), "50.0%", "30:00"),
        (Limits(1000, hours=1.0), "25.0%", "45:00"),  # the clock comes first
        (Limits(100, hours=1.0), "90.0%", "1:40"),  # the steps do: 10 of them, 10 s each
    ],
)
def test_percent_and_eta_follow_the_limit_that_comes_first(limits: Limits, share: str, eta: str) -> None:
    watched = Watched(limits, plain=False)
    with watched.show:
        watched.clock.now += 77  # before training: it does not count
        watched.feed(*(step(n, seconds=10.0) for n in range(1, 91)), seconds=10.0)
        assert watched.drawn()[0].startswith(share) and figure(watched.drawn(), "eta") == eta


def test_the_sparkline_shows_recent_history_of_a_run_of_any_length() -> None:
    for steps in (30, 5000):
        lines = final(Limits(steps), *(step(n, loss=5.0 - n / steps) for n in range(1, steps + 1)), seconds=0.0)
        spark = lines[1].split()[-1]
        assert 20 <= len(spark) <= 40 and spark[0] == "█" and spark[-1] == "▁"
        assert list(spark) == sorted(spark, reverse=True)


def test_the_sparkline_reaches_back_over_half_of_a_long_run() -> None:
    falls_late = (step(n, loss=5.0 if n < 2700 else 1.0) for n in range(1, 5001))
    spark = final(Limits(5000), *falls_late, seconds=0.0)[1].split()[-1]
    assert spark[0] == "█" and 10 <= spark.count("▁") <= 39


def test_a_loss_that_is_no_number_does_not_spoil_the_mean() -> None:
    lines = final(Limits(9), step(1, loss=2.0), step(2, loss=float("nan")), step(3, loss=float("inf")), step(4, loss=4))
    assert figure(lines, "loss") == "3.0000"


@pytest.mark.parametrize("width", [20, 50, 80, 120])
def test_no_line_is_wider_than_the_console(width: int) -> None:
    watched = Watched(Limits(10**9), plain=False, width=width)
    wide = "日本語のテキスト" * 20
    with watched.show:
        watched.feed(
            step(123_456_789, tokens=10**14, tokens_per_second=1.5e8, mfu=0.5, skipped=10**6, grad_norm=1e30),
            evaluation(123_456_789, 1234.5, best=True),
            CheckpointRecord(123_456_789, wide, 0.1),
            Message(1, "warning", wide),
            SampleRecord(1, wide[:5], wide),
        )
    lines = re.split(r"[\r\n]", ESCAPE.sub("", watched.out.getvalue()))
    assert max(map(cell_len, lines)) <= width and max(map(cell_len, lines)) > width // 2
    assert max(map(cell_len, watched.drawn())) <= width
    if width == 50:  # nothing that matters is cut
        assert figure(final(Limits(2000), step(250), evaluation(250, 2.3, True), width=50), "best") == "2.3000"


def test_lines_stay_above_the_live_display_which_is_drawn_once_at_the_end() -> None:
    watched = Watched(Limits(10), plain=False)
    with watched.show:
        watched.feed(
            step(5), SampleRecord(5, "To be", "\nor not"), evaluation(5, 2.0, True), CheckpointRecord(5, "p", 0.1)
        )
    text = ESCAPE.sub("", watched.out.getvalue())
    assert "sample at step 5 after 'To be':\n\nor not\n" in text and "step 5  validation  loss 2.0000" in text
    assert text.rindex("sample at step 5") < text.rindex("elapsed") and "checkpoint p" not in text
    assert watched.out.getvalue().count("\x1b[?25l") == watched.out.getvalue().count("\x1b[?25h") == 1  # the cursor


def test_a_warning_stands_whole_above_and_the_panel_says_that_it_does() -> None:
    watched = Watched(Limits(20), plain=False, width=60)
    said = "the run ended within its warm-up, at step 18 of 20 steps; give fewer train.schedule.warmup_steps"
    with watched.show:
        watched.feed(step(18), Message(18, "warning", said))
    text = " ".join(ESCAPE.sub("", watched.out.getvalue()).split())
    assert f"step 18 warning: {said}" in text
    assert figure(watched.drawn(), "warnings") == "1, above; the last at step 18"


def test_without_unicode_the_drawing_is_ascii() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    console = Console(file=stream, force_terminal=True, width=80, _environ=XTERM)
    with TrainDisplay(Limits(10), console, plain=False) as show:
        for n in range(1, 6):
            show(step(n, loss=5.0 - n))
    assert b"####" in raw.getvalue() and b"#" in raw.getvalue().rpartition(b"loss")[2].partition(b"\n")[0]


@pytest.mark.parametrize("plain", [True, False])
def test_a_step_costs_microseconds(plain: bool) -> None:
    watched = Watched(Limits(10**6), plain)
    records = [step(n) for n in range(1, 1001)]
    costs = []
    with watched.show:
        for _ in range(5):
            started = time.perf_counter()
            watched.feed(*records)
            costs.append((time.perf_counter() - started) / len(records))
    assert min(costs) < 50e-6


@pytest.mark.parametrize(
    ("terminal", "environment", "live"),
    [
        (True, {}, True),
        (True, {"NO_COLOR": "1"}, True),  # a wish about colours alone
        (True, {"TERM": "dumb"}, False),
        (True, {"CI": "true"}, False),
        (False, {}, False),
    ],
)
def test_what_the_console_can_do_decides_how_it_is_shown(
    terminal: bool, environment: dict[str, str], live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=80, _environ={**XTERM, **environment})
    with TrainDisplay(Limits(10), console) as show:
        show(step(1))
    assert ("\x1b[?25l" in out.getvalue()) == live
    if "NO_COLOR" in environment:
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", out.getvalue())


def test_everything_goes_to_stderr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # colours in a file, perhaps; cursor movements never
    with TrainDisplay(Limits(10)) as show:
        show(step(1))
        print('{"a": 1}')
    out, err = capsys.readouterr()
    assert out == '{"a": 1}\n' and err.startswith("step 1/10") and "\x1b[?25l" not in err


class Gone(io.StringIO):
    """A terminal that was closed."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def test_a_run_outlives_its_terminal() -> None:
    console = Console(file=Gone(), force_terminal=False, width=80)
    with TrainDisplay(Limits(10), console, plain=True) as show:
        show(step(1))
        show(Message(1, "info", "still here"))
    with pytest.raises(OSError, match="Input/output"):  # which it was told each time
        console.file.write("")


def test_a_run_outlives_the_reader_of_its_pipe() -> None:
    script = (
        "import sys; from tilth.cli.display import TrainDisplay, Limits; from tilth.core.rundir import Message\n"
        "sys.stdin.readline()\n"
        "with TrainDisplay(Limits(10)) as show:\n"
        "    [show(Message(n, 'info', 'x' * 100)) for n in range(2000)]\n"
        "print('trained to the end')"
    )
    reader, writer = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=writer
    ) as process:
        os.close(writer)
        os.close(reader)
        out, _ = process.communicate(b"\n", timeout=60)
    assert out == b"trained to the end\n"


def test_no_heavy_library_is_loaded() -> None:
    script = "import sys, tilth.cli.display; print([m for m in ('torch', 'numpy', 'pyarrow') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout == b"[]\n"


def test_where_nothing_is_trained_no_drawing_is_left() -> None:
    watched = Watched(Limits(10), plain=False)
    with watched.show:
        watched.feed(Message(5, "info", "done: it ended"))
    assert watched.out.getvalue().rstrip().endswith("\x1b[2K"), "the drawing is wiped"
    assert "done: it ended" in watched.out.getvalue()
