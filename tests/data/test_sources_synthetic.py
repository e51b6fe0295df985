"""Text from a model: asked once, kept, fixed; and an endpoint that refuses, stalls, babbles and breaks off."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from email.utils import formatdate
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.chat_server import ChatServer, running_endpoint
from tilth.core.config import parse
from tilth.core.errors import DataError, IntegrityError, RecipeError, StorageError
from tilth.core.files import disk
from tilth.core.progress import Board
from tilth.data.document import Outcome, documents_table
from tilth.data.sources import Listing, SourceConfig, list_inputs, read_input
from tilth.data.sources.synthetic import asking
from tilth.data.sources.synthetic import pacer as pacer_module
from tilth.data.sources.synthetic.pacer import Pacer
from tilth.data.sources.synthetic.prompts import Seed, prompts

pytestmark = pytest.mark.slow

TOPICS = ["tides", "moss", "rye"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(asking, "BACKOFF", 0.0005)
    with running_endpoint() as running:
        yield running


def entry(server: ChatServer, **keys: Any) -> dict[str, Any]:
    base = {"base_url": server.address, "model": "m", "prompt": "Write about {topic}.", "topics": TOPICS, "requests": 6}
    return {"synthetic": {key: value for key, value in {**base, **keys}.items() if value is not None}}


def listed(server: ChatServer, folder: Path, **keys: Any) -> tuple[Listing, SourceConfig]:
    config = parse(SourceConfig, entry(server, **keys))
    return list_inputs(config, folder, folder / "downloads"), config


def read(server: ChatServer, folder: Path, **keys: Any) -> list[Outcome]:
    listing, config = listed(server, folder, **keys)
    return [outcome for item in listing for outcome in read_input(item, config)]


def texts(outcomes: list[Outcome]) -> list[str]:
    return [o.document.text for o in outcomes if o.document]


def said(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    return [(v.rule, v.verdict) for o in outcomes for v in o.verdicts]


def record(folder: Path) -> list[dict[str, Any]]:
    (path,) = (folder / "downloads" / "synthetic").glob("*/requests.jsonl")
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_answers_are_documents_with_their_provenance(server: ChatServer, tmp_path: Path) -> None:
    outcomes = read(server, tmp_path, concurrency=3)
    assert texts(outcomes) == [f"About: Write about {topic}." for topic in TOPICS * 2]
    assert len({seen.body["seed"] for seen in server.seen}) == 6
    documents = [o.document for o in outcomes if o.document]
    assert documents[4].source == "synthetic/m" and documents[4].locator.endswith("#request=5")
    provenance = documents[4].meta["provenance"]
    assert provenance.pop("time").startswith("20") and len(provenance.pop("prompt")) == 16
    assert provenance == {
        "request": 5,
        "endpoint": server.address[7:-3],
        "asked_model": "m",
        "model": "m-2026",
        "seed": "moss",
        "finish_reason": "stop",
        "usage": [10, 20],
    }
    assert documents_table(documents).num_rows == 6


def test_afterwards_nothing_is_asked_and_no_endpoint_needed(server: ChatServer, tmp_path: Path) -> None:
    listing, config = listed(server, tmp_path)
    before = [o for item in listing for o in read_input(item, config)]
    asked = len(server.seen)
    with running_endpoint() as other:
        other.plan = ["500"] * 100
    again, _ = listed(server, tmp_path, cost_cap=1e-9, price={"input": 1.0, "output": 1.0}, api_key_env="NOT_SET")
    assert again.inputs == listing.inputs and len(server.seen) == asked
    assert [o for item in again for o in read_input(item, config)] == before
    assert "60 tokens sent, 120 received" in listing.skipped[0].detail


def test_more_requests_ask_only_for_what_is_new(server: ChatServer, tmp_path: Path) -> None:
    first = read(server, tmp_path, requests=4)
    second = read(server, tmp_path, requests=7)
    assert second[:4] == first and len(second) == 7 and len(server.seen) == 7
    assert read(server, tmp_path, requests=2) == first[:2] and len(server.seen) == 7
    assert len(read(server, tmp_path, requests=7, temperature=0.5)) == 7
    assert len(server.seen) == 14  # another temperature is another question


def test_requests_about_documents(server: ChatServer, tmp_path: Path) -> None:
    (tmp_path / "seeds.jsonl").write_text('{"text": "long text one"}\n{"text": "two {x}"}\n')
    keys = {"topics": None, "prompt": "{number}/{round}: {document}", "system": "Be short."}
    seeds = {"path": "seeds.jsonl", "characters": 9}
    outcomes = read(server, tmp_path, documents=seeds, requests=3, concurrency=1, **keys)
    assert [seen.asked for seen in server.seen] == ["1/1: long text", "2/1: two {x}", "3/2: long text"]
    assert server.seen[0].body["messages"][0] == {"role": "system", "content": "Be short."}
    groups = [o.document.group for o in outcomes if o.document]
    assert groups[0] == groups[2] != groups[1]
    (tmp_path / "seeds.jsonl").write_text('{"text": "other"}\n')
    assert texts(read(server, tmp_path, documents=seeds, requests=1, **keys)) == ["About: 1/1: other"]
    (tmp_path / "seeds.csv").write_text("n|text\n1|a, b\n")
    cells = {"path": "seeds.csv", "separator": "|"}
    assert texts(read(server, tmp_path, documents=cells, requests=1, **keys)) == ["About: 1/1: a, b"]
    (tmp_path / "none.jsonl").write_text('{"text": ""}\n')
    with pytest.raises(DataError, match="has no seed"):
        read(server, tmp_path, documents={"path": "none.jsonl"}, requests=1, **keys)


@pytest.mark.parametrize(
    ("finish", "content", "expected"),
    [
        ("content_filter", "I can", [("refused", "dropped")]),
        ("length", "cut of", [("cut_off", "changed")]),
        ("stop", "", [("empty", "dropped")]),
        ("stop", "fine", []),
    ],
)
def test_bad_answers_are_counted_by_rule(
    server: ChatServer, tmp_path: Path, finish: str, content: str, expected: list[tuple[str, str]]
) -> None:
    server.finish, server.write = finish, lambda body: content
    assert said(read(server, tmp_path, requests=1)) == expected


def test_failures_are_tried_again(server: ChatServer, tmp_path: Path) -> None:
    server.plan = ["500", "drop", "garbage", "well", "half", "503", 'garbage {"choices": []}', "large 5000", "429"]
    outcomes = read(server, tmp_path, concurrency=1, max_response_bytes=4000)
    assert texts(outcomes) == [f"About: Write about {topic}." for topic in TOPICS * 2]
    assert len(server.seen) == 6 + 8
    failed = [event["why"] for event in record(tmp_path) if event["event"] == "failed"]
    assert len(failed) == 8 and failed[0].startswith("it answers 500") and "4000 bytes" in failed[6]
    # What may have been paid for is counted at its bound, what was refused is not.
    assert [event["used"] for event in record(tmp_path) if event["event"] == "failed"].count([0, 0]) == 3


def test_a_slow_answer_ends_at_its_deadline(server: ChatServer, tmp_path: Path) -> None:
    server.plan = ["trickle"]
    start = time.monotonic()
    assert len(texts(read(server, tmp_path, requests=1, deadline=0.3))) == 1
    assert time.monotonic() - start < 8  # all of it takes twelve seconds
    assert record(tmp_path)[1]["why"] == "no answer within 0.3 s"


def test_a_retry_after_that_is_no_date_is_as_none(server: ChatServer, tmp_path: Path) -> None:
    server.plan = ["retry 429 Mon, 01 Jan 9999999999999999999999 00:00:00 GMT"]
    assert len(texts(read(server, tmp_path))) == 6


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_holds_for_all(server: ChatServer, tmp_path: Path, form: str) -> None:
    start = time.time()
    after = "1" if form == "seconds" else formatdate(int(start) + 2, usegmt=True)
    server.plan = [f"retry 429 {after}"]
    assert len(texts(read(server, tmp_path, concurrency=1))) == 6
    assert time.time() >= (start + 1 if form == "seconds" else int(start) + 2)
    assert server.seen[1].asked == server.seen[0].asked and len(server.seen) == 7


def test_too_long_a_wait_stops_the_run(server: ChatServer, tmp_path: Path) -> None:
    server.plan = ["well", "retry 503 3600"]
    with pytest.raises(DataError, match="asks to wait 3600 seconds") as caught:
        read(server, tmp_path, concurrency=1)
    assert "kept" in caught.value.remedy
    assert len(texts(read(server, tmp_path, concurrency=1))) == 6
    assert len(server.seen) == 7


def test_what_stays_without_an_answer(server: ChatServer, tmp_path: Path) -> None:
    server.plan = ["well", *["500 broken"] * asking.ATTEMPTS]
    with pytest.raises(DataError, match=r"1 of 6 requests .* have no answer; .*broken") as caught:
        read(server, tmp_path, concurrency=1)
    assert "max_missing" in caught.value.remedy
    outcomes = read(server, tmp_path / "b", max_missing=0.5, concurrency=1)
    assert len(texts(outcomes)) == 6
    server.plan = ["well", *["500"] * asking.ATTEMPTS]
    outcomes = read(server, tmp_path / "c", max_missing=0.5, concurrency=1)
    assert len(texts(outcomes)) == 5 and said(outcomes) == [("no_answer", "dropped")]
    assert len(texts(read(server, tmp_path, concurrency=1))) == 6  # and the first one goes on, too


def test_an_endpoint_that_only_fails_is_given_up(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "ATTEMPTS", 2)
    monkeypatch.setattr(asking, "BACKOFF", 0.0001)
    server.plan = ["500"] * 10_000
    with pytest.raises(DataError, match="20 requests in a row failed"):
        read(server, tmp_path, requests=1000)
    assert len(server.seen) < 60


@pytest.mark.parametrize(
    ("plan", "message", "remedy"),
    [
        ("403 no", "answers 403: no", "what the key may do"),
        ("404 no model", "answers 404", "model: m"),
        ("402", "answers 402", "no credit"),
        ('429 {"error": {"code": "insufficient_quota"}}', "insufficient_quota", "no credit"),
        ("moved http://169.254.169.254/x", "answers 302 to http://169.254.169.254/x", "base_url"),
    ],
)
def test_what_no_attempt_can_help_stops_at_once(
    server: ChatServer, tmp_path: Path, plan: str, message: str, remedy: str
) -> None:
    server.plan = [plan] * 20
    with pytest.raises(DataError, match=message) as caught:
        read(server, tmp_path, concurrency=1)
    assert remedy in caught.value.remedy and len(server.seen) == 1


def test_a_request_that_is_rejected_is_a_verdict_but_not_when_all_are(server: ChatServer, tmp_path: Path) -> None:
    server.plan = ["well", "400 bad words"]
    outcomes = read(server, tmp_path, concurrency=1)
    assert len(texts(outcomes)) == 5 and said(outcomes) == [("rejected", "dropped")]
    assert "bad words" in outcomes[1].verdicts[0].detail
    server.plan = ["400 unknown parameter"] * 100
    asked = len(server.seen)
    with pytest.raises(DataError, match=r"refuses each request; the last \(400\): unknown parameter"):
        read(server, tmp_path / "b", requests=50, concurrency=1)
    assert len(server.seen) == asked + 5


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-verysecret")
    server.key = "sk-verysecret"
    listing, config = listed(server, tmp_path, api_key_env="MY_KEY")
    outcomes = [o for item in listing for o in read_input(item, config)]
    assert len(texts(outcomes)) == 6 and server.seen[0].login == "Bearer sk-verysecret"
    written = b"".join(path.read_bytes() for path in (tmp_path / "downloads").rglob("*") if path.is_file())
    assert b"sk-very" not in written and "sk-very" not in repr((listing, config, outcomes))
    monkeypatch.setenv("MY_KEY", "sk-another")
    with pytest.raises(DataError, match=r"answers 401: wrong key Bearer \*\*\*") as caught:
        read(server, tmp_path / "b", api_key_env="MY_KEY")
    assert "sk-another" not in str(caught.value) and "MY_KEY" in caught.value.remedy
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(RecipeError, match="MY_KEY holds no key"):
        read(server, tmp_path / "b", api_key_env="MY_KEY")
    with pytest.raises(RecipeError) as refused:
        parse(SourceConfig, entry(server, api_key_env="sk-verysecret"))
    assert "name of an environment variable" in str(refused.value)


def test_no_more_are_under_way_than_may_be(server: ChatServer, tmp_path: Path) -> None:
    server.delay = 0.03
    read(server, tmp_path, requests=20, concurrency=5)
    assert 2 <= server.most_under_way <= 5


@pytest.mark.parametrize("limit", [{"requests_per_minute": 5}, {"tokens_per_minute": 6000}])
def test_rates_are_kept(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: dict[str, int]
) -> None:
    monkeypatch.setattr(asking, "MINUTE", 0.4)
    start = time.monotonic()
    read(server, tmp_path, requests=12, concurrency=8, max_tokens=1000, **limit)
    assert len(server.seen) == 12 and time.monotonic() - start > 0.8  # five in each 0.4 s, at most


@given(st.lists(st.integers(1, 12), min_size=1, max_size=40), st.integers(1, 10))
def test_no_span_of_time_takes_more_than_its_limit(amounts: list[int], limit: int) -> None:
    now, admitted = 0.0, list[tuple[float, int]]()

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def take_all() -> None:
        pacer = Pacer(limit, lambda: now, 60.0)
        for amount in amounts:
            await pacer.take(amount)
            admitted.append((now, amount))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pacer_module, "sleep", sleep)
        asyncio.run(take_all())
    for start, first in admitted:
        together = [amount for at, amount in admitted if start <= at < start + 60]
        assert sum(together) <= limit or (first > limit and len(together) == 1)


def test_the_cost_cap_is_kept_to_the_token(server: ChatServer, tmp_path: Path) -> None:
    price = {"input": 1000.0, "output": 2000.0}  # a request costs 10 * 0.001 + 20 * 0.002 = 0.05
    keys = {"max_tokens": 20, "price": price, "requests": 50, "concurrency": 4}
    with pytest.raises(DataError, match="the cost cap of the synthetic source is reached") as caught:
        read(server, tmp_path, cost_cap=1.0, **keys)
    wanted = parse(SourceConfig, entry(server, **keys)).synthetic
    assert wanted is not None
    bounds = [asking.bound_of(p, wanted) for p in prompts(wanted, lambda: [Seed(t, t) for t in TOPICS])]
    least, *_, most = sorted(Fraction(b.input, 1000) + Fraction(b.output, 500) for b in bounds)
    answers = len(server.seen)
    assert answers * Fraction(5, 100) + most > 1 >= (answers - 1) * Fraction(5, 100) + least
    assert f"spent {answers * 0.05:g} ({answers * 10} tokens sent x 1000 + {answers * 20} received x 2000" in str(
        caught.value
    )
    assert f"what is there ({answers})" in caught.value.remedy
    with pytest.raises(DataError, match="cost cap"):
        read(server, tmp_path, cost_cap=1.0, **keys)
    assert len(server.seen) == answers  # what was spent before counts
    assert len(texts(read(server, tmp_path, cost_cap=1.0, **{**keys, "requests": answers}))) == answers
    assert len(texts(read(server, tmp_path, cost_cap=50.0, **keys))) == 50
    assert len(server.seen) == 50


def test_at_the_cost_cap_answers_behind_a_gap_are_told(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "ATTEMPTS", 1)
    server.plan = ["well", "500 broken"]
    keys = {"price": {"input": 1000.0, "output": 2000.0}, "max_tokens": 20, "requests": 50, "concurrency": 1}
    with pytest.raises(DataError, match="cost cap") as caught:
        read(server, tmp_path, cost_cap=1.0, **keys)
    answers = len(server.seen) - 1
    behind = f"request 2 has no answer, and {answers - 1} of the {answers} answered ones are behind it"
    assert f"what is there (1: {behind})" in caught.value.remedy
    with pytest.raises(DataError, match="cost cap") as caught:
        read(server, tmp_path, cost_cap=1.1, **keys)
    assert re.search(r"what is there \(\d+\)$", caught.value.remedy), "the gap is filled first"


def test_an_answer_that_hides_its_usage_counts_at_its_bound(server: ChatServer, tmp_path: Path) -> None:
    server.usage = None
    listing, _ = listed(server, tmp_path, requests=2, max_tokens=7)
    sent = sum(event["bound"][0] for event in record(tmp_path) if event["event"] == "sent")
    assert f"{sent} tokens sent, 14 received" in listing.skipped[0].detail


def test_a_damaged_record_is_noticed_and_a_torn_line_is_not_damage(server: ChatServer, tmp_path: Path) -> None:
    read(server, tmp_path, requests=4)
    (path,) = (tmp_path / "downloads" / "synthetic").glob("*/requests.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event": "answer", "num')
    assert len(texts(read(server, tmp_path, requests=5))) == 5 and len(server.seen) == 5
    assert path.read_bytes().startswith(whole) and all(json.loads(line) for line in path.read_bytes().splitlines())
    path.write_bytes(whole[:50] + b"#" + whole[51:])
    with pytest.raises(IntegrityError, match=r"requests\.jsonl, line 1"):
        read(server, tmp_path, requests=6)


def test_the_disk_s_errors_are_its_own(server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "append", full)
        with pytest.raises(StorageError, match="No space left"):
            read(server, tmp_path)
    assert not server.seen  # nothing is asked that could not be kept
    assert len(texts(read(server, tmp_path))) == 6


CHILD = """
import json, sys
from pathlib import Path
from tilth.core.config import parse
from tilth.data.sources import SourceConfig, list_inputs
folder = Path(sys.argv[1])
list_inputs(parse(SourceConfig, json.loads(sys.argv[2])), folder, folder / "downloads")
"""


def times_asked(server: ChatServer) -> Counter[int]:
    return Counter(int(seen.asked.partition(":")[0]) for seen in list(server.seen))


def answered(folder: Path) -> set[int]:
    """The requests whose answer lies on disk, counted from 1."""
    lines = (folder / "downloads" / "synthetic").glob("*/requests.jsonl")
    events = [json.loads(line) for path in lines for line in path.read_bytes().split(b"\n")[:-1]]
    return {event["number"] + 1 for event in events if event["event"] == "answer"}


def test_killed_at_any_moment_it_asks_nothing_twice(server: ChatServer, tmp_path: Path) -> None:
    requests, concurrency, server.delay = 60, 4, 0.01
    keys = {"requests": requests, "concurrency": concurrency, "prompt": "{number}: {topic}"}
    command = [sys.executable, "-c", CHILD, str(tmp_path), json.dumps(entry(server, **keys))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    kills, kept = 0, Counter[int]()  # of what was answered when the last process died: how often it was asked
    for goal in (1, 9, 10, 30, 47, 59):
        child = subprocess.Popen(command, env=environment)
        last = time.monotonic() + 30
        while len(server.seen) < goal + kills * concurrency and child.poll() is None and time.monotonic() < last:
            time.sleep(0.001)
        child.send_signal(signal.SIGKILL)
        kills += child.wait() == -signal.SIGKILL
        counts, there = times_asked(server), answered(tmp_path)
        assert kept.keys() <= there
        assert all(counts[number] == times for number, times in kept.items())
        kept = Counter({number: counts[number] for number in there})
    assert kills >= 4 and len(kept) > 40
    assert texts(read(server, tmp_path, **keys)) == [f"About: {n + 1}: {TOPICS[n % 3]}" for n in range(requests)]
    counts = times_asked(server)
    assert all(counts[number] == times for number, times in kept.items())
    assert len(server.seen) <= requests + kills * concurrency  # only what was under way may be asked again


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"base_url": "ftp://x/v1"}, "not an http or https address"),
        ({"base_url": "http://user:pw@x/v1"}, "carries a user"),
        ({"base_url": "http://x/v1?api-key=3"}, "carries a user, a key or a query"),
        ({"topics": None}, "one of `topics` and `documents`"),
        ({"documents": {"path": "x"}}, "one of `topics` and `documents`"),
        ({"prompt": "Write."}, r"does not say \{topic\}"),
        ({"prompt": "{topic} {document}"}, r"there is no \{document\} here"),
        ({"prompt": "{topic.__class__}"}, r"\{topic.__class__\} is not known"),
        ({"prompt": "{topic!r}"}, "is not known"),
        ({"prompt": "{topic:>1000000000}"}, "is not known"),
        ({"prompt": "{topic} {"}, "braces"),
        ({"extra": {"model": "x"}}, "cannot stand in `extra`"),
        ({"cost_cap": 1.0}, "it needs prices"),
        ({"api_key": "sk-x"}, "unknown key"),
    ],
)
def test_recipes_that_cannot_be_meant(server: ChatServer, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse(SourceConfig, entry(server, **keys))


def test_without_the_library(server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(RecipeError, match="needs httpx2") as caught:
        read(server, tmp_path)
    assert caught.value.remedy == "pip install 'tilth[synthetic]'"


def test_in_a_notebook_whose_loop_is_running(server: ChatServer, tmp_path: Path) -> None:
    async def cell() -> int:
        return len(texts(read(server, tmp_path)))

    assert asyncio.run(cell()) == 6


def test_requests_are_counted_and_answers_of_before_are_not_fresh(server: ChatServer, tmp_path: Path) -> None:
    board = Board()
    with board.watching(tmp_path / "work"):
        listed(server, tmp_path, requests=2)
        listed(server, tmp_path, requests=5)
        listed(server, tmp_path, requests=5)  # it is here: nothing is measured
    first, second = board.meters
    assert (first.unit, first.done, first.before, first.total) == ("request", 2, 0, 2)
    assert (second.done, second.before, second.total) == (5, 2, 5) and second.size > 0
