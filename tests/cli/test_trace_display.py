"""What `tilth trace` and `tilth report` show, and the list of commands: nothing is cut, each number says of what."""

from __future__ import annotations

import pytest
import typer.testing

from tests.cli.test_tables import rendered
from tilth.cli.main import app
from tilth.cli.trace_display import _figure, _flow, _lengths, _rules
from tilth.jobs.pages.data_report import QUANTILES


@pytest.mark.parametrize(
    ("stage", "rule", "value", "said"),
    [
        ("clean", "blank_lines", "27", "27 lines"),
        ("clean", "strip", "1", "1 character"),
        ("clean", "language/en", "0.65", "figure 0.65"),
        ("read", "invalid_utf8", "2000", "2,000 characters"),
        ("deduplicate", "near_duplicate", "0.91", "similarity 0.91"),
        ("deduplicate", "exact_duplicate", "a1b2", "a1b2"),
    ],
)
def test_the_number_of_a_verdict_says_of_what(stage: str, rule: str, value: str, said: str) -> None:
    assert _figure({"stage": stage, "rule": rule, "value": value}) == said


def test_lengths_stand_whole_in_80_columns() -> None:
    lines = rendered(_lengths({"quantiles": {str(share): 10**9 for share in QUANTILES}}), 80)
    assert sum("1,000,000,000" in line for line in lines) == len(QUANTILES) and "half below" in "\n".join(lines)


def test_what_nothing_was_done_to_is_told_in_a_few_lines() -> None:
    steps = {"read": (20, 753), "strip": (20, 753), "min_length": (18, 700), "exact": (18, 700), "near": (18, 700)}
    flow = [{"name": name, "documents": n, "text_bytes": text} for name, (n, text) in steps.items()]
    lines = rendered(_flow(flow))
    assert lines[2:4] == ["read               20  753 B", "min_length         18  700 B  -2"]
    assert lines[4:] == ["as much as before after: strip, exact duplicates, near-duplicates"]
    assert rendered(_rules([])) == ["No rule changed or dropped anything."]


def test_the_list_of_commands_is_not_cut_at_80_columns() -> None:
    said = typer.testing.CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).output
    assert "Commands:" in said and "..." not in said.partition("Commands:")[2]
