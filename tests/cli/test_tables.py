import io
import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from tilth.cli.dataset_table import dataset_table
from tilth.cli.screen import show
from tilth.cli.tables import (
    METRICS,
    bar,
    bare_table,
    brief_count,
    count,
    duration,
    flat,
    grid,
    metrics_line,
    metrics_table,
    percent,
    plural,
    printable,
    result_table,
    scientific,
    size,
    sparkline,
)


def split(documents: int, tokens: int, text_bytes: int, unknown: int = 0) -> dict[str, int]:
    return {"documents": documents, "tokens": tokens, "text_bytes": text_bytes, "unknown_characters": unknown}


FACTS = {
    "vocab_size": 512,
    "documents": 1000,
    "read": {"documents": 1200, "text_bytes": 12_345_678},
    "rules": {
        "changed": {"clean/whitespace": 700},
        "dropped": {"clean/[bold]short": 50, "deduplicate/exact_duplicate": 150, "list/hidden": 3, "read/empty": 4},
    },
    "splits": {"train": split(900, 4_000_000, 10_000_000), "validation": split(100, 500_000, 1_000_000)},
}


def rendered(renderable: RenderableType, width: int = 80) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(renderable)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    return lines


def row(lines: list[str], start: str) -> list[str]:
    """The cells of the only line that starts so."""
    (line,) = [line for line in lines if line.strip().startswith(start)]
    return line.strip().removeprefix(start).split()


def test_numbers_are_written_one_way() -> None:
    assert [count(0), count(1234567)] == ["0", "1,234,567"]
    assert [size(512), size(999), size(12_345_678), size(999_999), size(5 * 10**15)] == [
        "512 B",
        "999 B",
        "12.3 MB",
        "1.00 MB",
        "5.00 PB",
    ]
    assert [duration(s) for s in (-1, 0, 58.9, 3723, 90000)] == ["0:00", "0:00", "0:58", "1:02:03", "1d 01:00:00"]
    assert scientific(0.00032) == "3.2e-04"
    assert [brief_count(n) for n in (9_999_999, 12_345_678, 4.56e9, 7.891e12)] == [
        "9,999,999",
        "12.3 M",
        "4.56 B",
        "7.89 T",
    ]
    assert [plural(1, "document"), plural(2000, "document")] == ["1 document", "2,000 documents"]


@given(st.integers(1, 10**6), st.data())
def test_percent_says_100_only_when_all_is_done(total: int, data: st.DataObject) -> None:
    done = data.draw(st.integers(0, total))
    assert (percent(done / total) == "100.0%") == (done == total)
    assert done == total or abs(float(percent(done / total)[:-1]) - 100 * done / total) <= 0.1
    assert percent(100 / 1500) == "6.7%" and percent(0.99999) == "99.9%"


@pytest.mark.slow
@given(st.text())
def test_printable_text_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    for shown in (printable(text), printable(text, lines=True).replace("\n", "")):
        assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
        assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
        shown.encode()


def test_what_is_harmless_stays_as_it_is() -> None:
    text = "[bold]naïve 日本\u3000語 \u00a0 می\u200cخواهم 👩\u200d🚀 \\n"
    assert printable(text) == text
    assert printable("a\tb\x1b[2J\x9b\r\n\ud800") == "a\\tb\\x1b[2J\\x9b\\r\\n\\ud800"
    assert printable("a\u2028\u2029\x85b") == "a\\u2028\\u2029\\x85b"
    assert printable("a\nb", lines=True) == "a\nb"
    assert flat("bad\n  remedy:\x07 x") == "bad remedy:\\x07 x"


@given(st.lists(st.floats(-1e9, 1e9), max_size=50), st.integers(0, 40), st.booleans())
def test_a_sparkline_is_monotone_in_its_values(values: list[float], width: int, ascii_only: bool) -> None:
    marks = "_.-=+*#" if ascii_only else "▁▂▃▄▅▆▇█"
    line = sparkline(values, width, ascii_only)
    shown = values[-width:] if width else []
    assert len(line) == len(shown)
    heights = [marks.index(mark) for mark in line]
    by_value = [height for _, height in sorted(zip(shown, heights, strict=True))]
    assert by_value == sorted(by_value)
    if len(set(shown)) > 1 and max(shown) - min(shown) > 1e-6:
        assert (min(heights), max(heights)) == (0, len(marks) - 1)


def test_a_falling_loss_falls_from_the_highest_to_the_lowest_bar() -> None:
    assert sparkline([8, 7, 6, 5, 4, 3, 2, 1], 8) == "█▇▆▅▄▃▂▁"
    assert sparkline([5, 5], 8) == "▁▁" and sparkline([], 8) == ""


def test_a_bar_is_filled_by_the_share() -> None:
    assert bar(0.25, 8, ascii_only=True).plain == "##------"
    assert bar(1.0, 8, ascii_only=True).plain == "########" and bar(0.0, 4).plain == "┈┈┈┈"


@pytest.mark.parametrize(("width", "columns"), [(80, 3), (50, 2), (30, 1), (10, 1), (200, 3)])
def test_a_grid_uses_the_width(width: int, columns: int) -> None:
    lines = list(grid([(f"label{n}", "1") for n in range(6)], width))
    assert len(lines) == 6 // columns and all(len(line) <= width for line in lines)


def test_the_dataset_table_accounts_for_every_document() -> None:
    lines = rendered(dataset_table(FACTS))
    assert row(lines, "read") == ["1,200", "12.3", "MB"]
    assert row(lines, "changed by clean/whitespace") == ["700"]
    assert row(lines, "dropped by clean/[bold]short") == ["50"]
    assert row(lines, "kept") == ["1,000", "11.0", "MB"]  # 1200 - 50 - 150: what was not read is not taken off
    assert row(lines, "left out by list/hidden") == ["3"] and row(lines, "left out by read/empty") == ["4"]
    assert row(lines, "train") == ["900", "4,000,000", "10.0", "MB", "2.50"]
    assert "cut in two" not in "\n".join(lines) and "unknown" not in "\n".join(lines)
    order = [line.split()[0] for line in lines if line and line.split()[0] in ("left", "read", "dropped", "kept")]
    assert order == ["left", "left", "read", "dropped", "dropped", "kept"]


def test_the_dataset_table_adds_up_where_documents_were_cut_into_pieces() -> None:
    left = {"read": 1200, "short": 1150, "cut": 1171, "exact": 1021}
    flow = [{"stage": "clean", "name": name, "documents": n, "text_bytes": 1} for name, n in left.items()]
    lines = rendered(dataset_table({**FACTS, "documents": 1021, "flow": flow}))
    assert row(lines, "+ pieces by") == ["clean/cut", "21"] and row(lines, "kept")[0] == "1,021"


def test_the_dataset_table_explains_a_cut_document_and_unknown_characters() -> None:
    splits = {"train": split(1, 90, 90, unknown=2), "validation": split(1, 0, 0)}
    facts = {**FACTS, "documents": 1, "read": {"documents": 1, "text_bytes": 90}, "splits": splits}
    facts["rules"] = {"changed": {}, "dropped": {}}
    text = "\n".join(rendered(dataset_table(facts), 50))
    assert "1 document cut in two" in text and "2 characters unknown" in text


def test_the_dataset_table_says_what_the_tokenizer_did_not_learn_from() -> None:
    splits = {"train": {"documents": 9, "tokens": 500, "text_bytes": 400_000_000, "unknown_characters": 0}}
    facts = {**FACTS, "splits": splits}
    training = {
        "stopped_at_limit": 1,
        "bytes_read": 100_000_000,
        "long_pretokens": 2,
        "long_bytes": 5000,
        "surrogates": 1,
    }
    text = " ".join("\n".join(rendered(dataset_table(facts, training), 200)).split())
    assert "learned from the first 100 MB of 400 MB of training text, 25.0% (tokenizer.train_bytes)" in text
    assert "did not learn from 2 overlong words (5.00 kB)" in text and "did not learn from 1 lone surrogate" in text
    learned_all = {"stopped_at_limit": 0, "bytes_read": 400_000_000, "long_pretokens": 0, "long_bytes": 0}
    assert "learn" not in "".join(rendered(dataset_table(facts, learned_all)))


def test_the_metrics_table_explains_each_metric_to_a_newcomer() -> None:
    metrics = {
        "loss": 1.90424,
        "perplexity": 6.7143,
        "bits_per_byte": math.nan,
        "accuracy": 0.43629,
        "tokens": 111541.0,
        "pseudo_perplexity": 5327.13,
        "pseudo_tokens": 20,
    }
    lines = rendered(metrics_table(metrics), 200)
    assert row(lines, "loss")[0] == "1.9042" and row(lines, "perplexity")[0] == "6.71"
    assert row(lines, "bits/byte")[0] == "unknown" and row(lines, "accuracy")[0] == "43.6%"
    assert row(lines, "tokens")[0] == "111,541"
    assert row(lines, "pseudo-perplexity")[0] == "5,327.13" and row(lines, "of tokens")[0] == "20"
    assert all(METRICS[name][1] in "\n".join(lines) for name in metrics)
    chosen = "\n".join(rendered(metrics_table(metrics, ["accuracy", "loss", "absent"]), 50))
    assert chosen.index("accuracy") < chosen.index("loss") and "perplexity" not in chosen and "absent" not in chosen
    assert metrics_line(metrics, ["accuracy", "loss", "absent"]) == "accuracy 43.6%  loss 1.9042"


def test_every_metric_of_an_evaluation_has_an_explanation() -> None:
    from dataclasses import fields

    from tilth.evaluation.metrics import Metrics

    assert {field.name for field in fields(Metrics)} == METRICS.keys()


def test_the_result_table_says_how_the_run_ended() -> None:
    result = {
        "run": "runs/[red]x\x1b[2J",
        "step": 2000,
        "tokens": 1536000,
        "train_loss": 1.80521,
        "validation_loss": None,
        "seconds": 161.659,
        "stopped_by": "early_stopping",
        "checkpoint": "runs/x/checkpoints/step-00002000",
        "process": 1,
    }
    lines = rendered(result_table(result))
    assert row(lines, "run folder") == ["runs/[red]x\\x1b[2J"]
    assert row(lines, "steps done") == ["2,000"] and row(lines, "tokens seen") == ["1,536,000"]
    assert row(lines, "training loss") == ["1.8052"] and row(lines, "time") == ["2:41"]
    assert "no longer improved" in " ".join(row(lines, "ended because"))
    assert not [line for line in lines if "validation loss" in line or "process" in line]
    assert "step-00002000" in "".join(line.strip() for line in rendered(result_table(result), 40))


def raw(renderable: RenderableType, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(renderable)
    return out.getvalue().splitlines()


def test_no_line_of_a_table_ends_with_blanks() -> None:
    for table in (
        dataset_table(FACTS),
        metrics_table({"loss": 1.0, "tokens": 7}),
        result_table({"run": "runs/x", "step": 1}),
    ):
        assert not [line for line in raw(table, 80) if line != line.rstrip()]


def test_title_and_notes_are_as_wide_as_the_screen_and_what_is_to_be_pasted_stays_whole() -> None:
    pasted = '{path: "d/*.srt", format: text}'
    table = bare_table(
        "a title of some words", ("n", "right"), notes=[f"text is read from such by a pattern: {pasted}"]
    )
    table.add_row("1")
    assert raw(table, 80) == ["a title of some words", "n", "1", f"text is read from such by a pattern: {pasted}"]
    assert raw(table, 50)[-2:] == ["text is read from such by a pattern:", pasted]
    files = ["d/a.srt", "d/b.srt", "d/c.xyz"]
    rules = {"changed": {}, "dropped": {"list/unknown_suffix": 3}}
    lines = rendered(dataset_table({**FACTS, "rules": rules, "passed_over": {"list/unknown_suffix": files}}), 60)
    assert row(lines, "read") and any(pasted in line for line in lines)


def test_off_a_terminal_nothing_is_broken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    show(metrics_table({"perplexity": 7.0}))
    assert METRICS["perplexity"][1] in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "60")
    show(metrics_table({"perplexity": 7.0}))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60
