"""Deep Lake data sets that its own library made."""

from __future__ import annotations

import importlib.util
import os
import socketserver
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tilth.core.config import parse
from tilth.core.errors import DataError, RecipeError
from tilth.data.document import Outcome
from tilth.data.sources import Listing, SourceConfig, deeplake, list_inputs, read_input

needs_deeplake = pytest.mark.skipif(importlib.util.find_spec("deeplake") is None, reason="needs the extra deeplake")

# In a process of its own, like the export: what it starts (threads, reports) shall not reach the other tests.
MAKE = """
import sys, deeplake, numpy
types = deeplake.types
data = deeplake.create(sys.argv[1])
for name, kind in (("text", types.Text()), ("n", types.Int32()), ("d", types.Dict()), ("v", types.Embedding(4))):
    data.add_column(name, kind)
rows = int(sys.argv[2])
data.append({
    "text": [f"text {i} ü" for i in range(rows)],
    "n": list(range(rows)),
    "d": [{"a": i} for i in range(rows)],
    "v": numpy.zeros((rows, 4), dtype=numpy.float32),
})
data.append([{"text": None, "n": -1, "d": {}, "v": numpy.zeros(4, dtype=numpy.float32)}])
data.commit("made")
"""


def make(folder: Path, rows: int) -> None:
    subprocess.run([sys.executable, "-c", MAKE, str(folder), str(rows)], env=deeplake._environment(), check=True)


def listed(folder: Path, name: str = "lake", **more: Any) -> tuple[Listing, SourceConfig]:
    config = parse(SourceConfig, {"deeplake": name, **more})
    return list_inputs(config, folder, folder / "downloads"), config


def read(folder: Path, name: str = "lake", **more: Any) -> list[Outcome]:
    listing, config = listed(folder, name, **more)
    return [outcome for item in listing for outcome in read_input(item, config)]


def texts(outcomes: list[Outcome]) -> dict[str, str]:
    return {o.document.locator: o.document.text for o in outcomes if o.document}


@pytest.mark.slow
@needs_deeplake
def test_rows_are_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "lake", 700)
    outcomes = read(tmp_path)
    assert texts(outcomes) == {f"lake#row={i + 1}": f"text {i} ü" for i in range(700)}
    assert [(v.rule, v.verdict) for o in outcomes for v in o.verdicts] == [("empty", "dropped")]
    assert texts(read(tmp_path, template="{n}: {text} {d}"))["lake#row=4"] == '3: text 3 ü {"a":3}'
    with pytest.raises(DataError, match=r"no column 'body'; the columns are 'text' \(text.*'n' \(int32\)"):
        read(tmp_path, field="body")
    with pytest.raises(DataError, match=r"'v' holds embedding"):
        read(tmp_path, field="v")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert len(texts(read(tmp_path))) == 700  # what was exported needs the library no more
    with pytest.raises(RecipeError, match="needs the package deeplake") as caught:
        read(tmp_path, field="n")
    assert "pip install 'tilth[deeplake]'" in caught.value.remedy


@pytest.mark.slow
@needs_deeplake
def test_a_changed_data_set_is_exported_again_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    make(tmp_path / "lake", 3)
    before = listed(tmp_path)[0].inputs
    assert listed(tmp_path)[0].inputs == before
    make(tmp_path / "other", 4)
    (tmp_path / "lake").rename(tmp_path / "old")
    (tmp_path / "other").rename(tmp_path / "lake")
    assert len(texts(read(tmp_path))) == 4
    assert listed(tmp_path)[0].inputs != before
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no Deep Lake data set"):
        read(tmp_path, "empty")
    assert not list((tmp_path / "downloads" / "deeplake").glob(".*.tmp"))


@pytest.mark.slow
@needs_deeplake
def test_nothing_leaves_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library reports by HTTPS, through the proxy: what a proxy that does listen is asked for is what it wants."""
    asked: list[bytes] = []

    class Proxy(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked.append(self.request.recv(200))

    make(tmp_path / "lake", 3)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("ACTIVELOOP_TOKEN", "secret")
        assert len(texts(read(tmp_path))) == 3
        ours = list(asked)
        command = [sys.executable, "-P", str(deeplake._PROGRAM), str(tmp_path / "lake"), str(tmp_path / "x"), "text"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        server.shutdown()
    assert not ours
    assert any(b"CONNECT" in request for request in asked)  # without our care it does report
    assert not [key for key in deeplake._environment() if "TOKEN" in key]
    assert all(value != os.environ["https_proxy"] for value in deeplake._environment().values())


def test_what_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        read(tmp_path, "nothing")
    for address in ("al://org/set", "s3://bucket/set", " "):
        with pytest.raises(RecipeError, match="is no folder"):
            parse(SourceConfig, {"deeplake": address})
