"""The page of a dataset: from the figures of data_report.py to shares, bars and marked differences.

render(figures, examples) -> bytes      the page; prose stands in data_report.html.jinja, its look in page.css
differences(before, after, most)        one text with what went and what came marked, long equal stretches cut short
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from tilth.data.leaks import exam_files, exam_words
from tilth.data.tasks.examples import CHARACTERS
from tilth.jobs.pages.leak_words import ALARMS, NAMES, PLANTED, why_missed
from tilth.jobs.pages.page import Page

# With every character escaped (six bytes at most) all of these together stay under two megabytes.
MOST_RULES = 60
MOST_GROUPS = 24
DROPPED_CHARACTERS = 600
CHANGED_CHARACTERS = 700
RECIPE_CHARACTERS = 20_000
LINE_CHARACTERS = 300
_AROUND = 70  # equal characters that stay beside a difference
_WORDS = re.compile(r"\n|[^\S\n]+|\w+|[^\w\s]")
# What a mark is put on must be seen: an end of line, a space at one, a character that has no width.
_SEEN = {ord("\n"): "↵\n", ord("\t"): "→\t", ord("\r"): "␍", 0xA0: "⍽", 0x200B: "·", 0xFEFF: "·", 0xAD: "·"}
_SEEN |= {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}

STEP_NAMES = {"exact": "exact duplicates", "near": "near-duplicates", "assign": "split"}
"""What steps are called that have no name in the recipe."""
UNKNOWN = "not stated"
"""The language of what does not say it."""

Examples = Mapping[tuple[str, str, str], Sequence[Mapping[str, Any]]]


class Span(NamedTuple):
    """A stretch of text: `same`, `gone`, `came` or `cut` (so many characters that are not shown)."""

    kind: str
    text: str


def render(figures: Mapping[str, Any], examples: Examples) -> bytes:
    """The page of a dataset, under two megabytes whatever the data."""
    flow, splits = figures["flow"], figures["splits"]
    total = {key: sum(split[key] for split in splits.values()) for key in ("documents", "tokens", "text_bytes")}
    sources = _bars(figures["sources"], total["tokens"])
    exams = exam_files.in_dataset({"decontamination": figures["leaks"]})
    view = {
        **figures,
        "name": figures["folder"].rstrip("/").rpartition("/")[2],
        "read": flow[0],
        "steps": _steps(flow),
        "total": total,
        "rules": _rules(figures["rules"], examples),
        "all_rules": len(figures["rules"]),
        "histogram": _histogram(figures["lengths"]["histogram"]),
        "source_bars": [{**own, "cut": own["documents"] > own["read"]["documents"]} for own in sources],
        "language_bars": _bars(figures["languages"], total["tokens"]),
        "code_bars": _bars(figures["code"], total["tokens"]),
        "split_bars": _bars(splits, total["tokens"]),
        "leak_bars": [_leaks(name, figures["leaks"][key]) for key, name in NAMES.items() if key in figures["leaks"]],
        "exam_notes": [*exam_files.faults(exams), *exam_words.passed_over(exams)],
        "near": _drops_near(figures["recipe"]["data"]),
        "commands": _commands(figures),
        "recipe": yaml.safe_dump(figures["recipe"], sort_keys=False, allow_unicode=True),
        "limits": {"line": LINE_CHARACTERS, "recipe": RECIPE_CHARACTERS, "groups": MOST_GROUPS, "rules": MOST_RULES},
    }
    return Page("data_report.html.jinja").render(view)


def _drops_near(data: Any) -> bool:
    """Whether the recipe's data section asks for it."""
    return isinstance(data, Mapping) and data.get("deduplicate", "none") not in ("none", "exact")


def _steps(flow: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each step with what it took, and its share of what was read."""
    steps, before = [], flow[0]
    for step in flow:
        steps.append(
            {
                **step,
                "name": STEP_NAMES.get(step["name"], step["name"]),
                "gone": before["documents"] - step["documents"],
                "gone_bytes": before["text_bytes"] - step["text_bytes"],
                "share": _share(step["documents"], flow[0]["documents"]),
                "lost": _share(max(0, before["documents"] - step["documents"]), flow[0]["documents"]),
                "bytes_share": _share(step["text_bytes"], flow[0]["text_bytes"]),
                "lost_bytes": _share(max(0, before["text_bytes"] - step["text_bytes"]), flow[0]["text_bytes"]),
            }
        )
        before = step
    return steps


def _share(part: float, whole: float) -> float:
    """For a bar: 1 at most, as pieces of documents may outnumber what was read."""
    return min(1.0, part / whole) if whole else 0.0


def _rules(rules: Sequence[Mapping[str, Any]], examples: Examples) -> list[dict[str, Any]]:
    """The rules that did the most, in the order of the stages, each with its examples."""
    most = sorted(range(len(rules)), key=lambda n: -(rules[n]["dropped"] + rules[n]["changed"]))[:MOST_RULES]
    shown = []
    for rule in (rules[n] for n in sorted(most)):
        found = [e for v in ("dropped", "changed") for e in examples.get((rule["stage"], rule["rule"], v), ())]
        shown.append({**rule, "examples": [_example(example) for example in found]})
    return shown


def _example(example: Mapping[str, Any]) -> dict[str, Any]:
    before, after = example["before"], example["after"]
    if after is None:
        spans = [Span("same", before[:DROPPED_CHARACTERS])]
        spans += [Span("cut", str(left))] if (left := example["characters"] - DROPPED_CHARACTERS) > 0 else []
    else:
        spans = differences(before, after, CHANGED_CHARACTERS)
    return {**example, "spans": spans}


def differences(before: str, after: str, most: int) -> list[Span]:
    """What went and what came, word by word, between what is the same, in the first `most` characters of both.

    White space inside a difference is made visible.
    """
    old, new = _WORDS.findall(before[:most]), _WORDS.findall(after[:most])
    changes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    cut_short = min(most, CHARACTERS) <= max(len(before), len(after))
    if cut_short and len(changes) > 2 and changes[-1][0] != "equal":
        changes.pop()  # the two ends are of different places of the text
    spans: list[Span] = []
    for kind, a, b, c, d in changes:
        if kind == "equal":
            spans += _shortened("".join(old[a:b]), first=a == 0, last=b == len(old))
        else:
            marked = (("gone", "".join(old[a:b])), ("came", "".join(new[c:d])))
            spans += [Span(name, _visible(text)) for name, text in marked if text]
    return spans


def _shortened(text: str, *, first: bool, last: bool) -> list[Span]:
    head, tail = (0 if first else _AROUND), (0 if last else _AROUND)
    left = len(text) - head - tail
    if left <= _AROUND:
        return [Span("same", text)]
    ends = (Span("same", text[:head]), Span("cut", str(left)), Span("same", text[len(text) - tail :]))
    return [span for span in ends if span.text]


def _visible(text: str) -> str:
    return re.sub(r" (?=\n|$)|^ +", lambda found: "·" * len(found[0]), text).translate(_SEEN)


def _leaks(name: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """What was planted and found, as bars; what is found beside that, as words."""
    pairs = [(said, *own["caught"][kind]) for kind, said in PLANTED.items() if kind in own["caught"]]
    bars = [{"name": said, "planted": planted, "found": n, "share": _share(n, planted)} for said, planted, n in pairs]
    alarms = [(said, *own["false_alarms"][kind]) for kind, said in ALARMS.items()]
    said = {"bars": bars, "alarms": alarms, "missed": why_missed(own)}
    return {"name": name, "items": own["items"], "too_short": own["too_short"], **said}


def _histogram(bins: Sequence[Mapping[str, int]]) -> list[dict[str, Any]]:
    most = max((own["documents"] for own in bins), default=1)
    return [{**own, "share": own["documents"] / most, "to": 2 * own["from"] - 1} for own in bins]


def _bars(groups: Mapping[str, Mapping[str, Any]], total: int) -> list[dict[str, Any]]:
    """The largest groups by tokens; a bar each, as a share of the total of tokens."""
    named = [{**own, "name": name, "share": _share(own["tokens"], total)} for name, own in groups.items()]
    return named[:MOST_GROUPS]


def _commands(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How to ask more, with a document of this dataset where one is known."""
    folder = shlex.quote(figures["folder"])
    largest = figures["clusters"]["largest"]
    name = shlex.quote(largest[0]["locator"]) if largest and largest[0]["locator"].isprintable() else "LOCATOR"
    return [
        (f"tilth trace {folder} --doc {name}", "What became of a document: name it by its path, its URL or its id."),
        ("tilth trace RUN --doc LOCATOR", "The same, with the steps of a training run that saw it."),
        ("tilth trace RUN --step N", "Which documents a step of a run saw."),
        (f"tilth report {folder} --json", "The figures of this page, for programs."),
    ]
