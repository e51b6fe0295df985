"""One source full of what bad input can be: each thing is handled, counted and named, the good text comes through, and
nothing is written outside the workspace. What comes over a network is met in tests/data/test_web_crawl.py and
test_sources_url.py."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.pdfs import make_pdf
from tests.jobs.conftest import Cli
from tests.jobs.helpers import SMALL, hashes, write_recipe
from tests.jobs.test_pipeline import ledger_of, texts_of
from tilth.data.sources import archives, streams
from tilth.jobs.prepare import prepare_data
from tilth.jobs.recipe import load_recipe

GOOD = "This is an honest text with quite enough words in it to stay, number {}.\n"
BOMB = 20 << 20


def add(archive: tarfile.TarFile, name: str, text: str = "", **more: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(text)
    for key, value in more.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(text.encode()))


def write_hostile(folder: Path) -> None:
    folder.mkdir()
    for n in range(200):
        (folder / f"good{n:03d}.txt").write_text(GOOD.format(n))
    packed = gzip.compress(GOOD.format("packed").encode() * 100)
    (folder / "cut.txt.gz").write_bytes(packed[:60])
    (folder / "bomb.txt.gz").write_bytes(gzip.compress(b"a" * BOMB))
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("inside.txt", b"a" * BOMB)
    with zipfile.ZipFile(folder / "out.zip", "w") as zipped:
        zipped.writestr("../../out.txt", GOOD.format("out"))
        zipped.writestr("good.txt", GOOD.format("zip"))
    with tarfile.open(folder / "links.tar", "w") as tar:
        add(tar, "../../out.txt", GOOD.format("out"))
        add(tar, "/out.txt", GOOD.format("out"))
        add(tar, "link.txt", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "good.txt", GOOD.format("tar"))
    (folder / "latin.txt").write_bytes(("caf\xe9 and more words " * 5).encode("latin-1"))
    (folder / "bytes.txt").write_bytes(bytes(range(256)) * 40)
    (folder / "cut.pdf").write_bytes(make_pdf(["text " * 50] * 9)[:700])
    (folder / "no.pdf").write_bytes(b"no PDF at all")
    (folder / "deep.html").write_text("<html><body>" + "<div>" * 100_000 + GOOD + "</div>" * 100_000)
    (folder / "line.txt").write_text("a line without end " * 150_000)
    (folder / "rows.jsonl").write_text(json.dumps({"text": GOOD.format("row")}) + '\n[\n{"other": 1}\n')
    table = pa.table({"text": [GOOD.format("parquet")]})
    pq.write_table(table, folder / "good.parquet")
    (folder / "cut.parquet").write_bytes((folder / "good.parquet").read_bytes()[:300])
    pq.write_table(pa.table({"body": ["text"]}), folder / "other.parquet")
    (folder / "folder").symlink_to("/etc")
    (folder / "passwd.txt").symlink_to("/etc/passwd")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of it, of which tests take what they need."""
    folder = tmp_path_factory.mktemp("hostile") / "all"
    write_hostile(folder)
    return folder


EXPECTED = {
    "list/leaves_folder": ["passwd.txt"],
    "list/linked_folder": ["folder"],
    "read/bomb": ["bomb.txt.gz", "bomb.zip"],
    "read/damaged": ["cut.parquet", "cut.txt.gz"],
    "read/unsafe_name": ["links.tar!../../out.txt", "links.tar!/out.txt", "out.zip!../../out.txt"],
    "read/link": ["links.tar!link.txt"],
    "read/broken": ["cut.pdf", "no.pdf"],
    "read/too_deep": ["deep.html"],
    "read/not_json": ["rows.jsonl:2"],
    "read/no_field": ["rows.jsonl:3"],
    "read/other_schema": ["other.parquet"],
}


@pytest.mark.slow
def test_a_source_of_all_that_is_bad(tmp_path: Path, hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BOMB_BYTES", BOMB // 2)
    monkeypatch.setattr(archives, "_ENTRY_BOMB", BOMB // 2)
    shutil.copytree(hostile, tmp_path / "texts", symlinks=True)
    write_recipe(tmp_path / "r.yaml", "texts", data={"split": {"validation": 0.1, "by": "tail"}})
    sets = [*SMALL, 'data.sources=[{"path": "texts", "max_bad_rows": 1}]']
    before = hashes(tmp_path)
    dataset = prepare_data(load_recipe(tmp_path / "r.yaml", sets), tmp_path / "work", 1, root=tmp_path)
    rows = [row for row in ledger_of(dataset) if row["verdict"] == "dropped"]
    dropped: dict[str, list[str]] = {}
    for row in rows:
        dropped.setdefault(f"{row['stage']}/{row['rule']}", []).append(row["detail"])
    assert {rule: len(details) for rule, details in dropped.items()} == dataset.facts["rules"]["dropped"]
    assert not [row for row in rows if str(tmp_path) in row["detail"]], "the ledger names no path of a machine"
    for rule, names in EXPECTED.items():
        assert len(dropped[rule]) == len(names), rule
        for name in names:
            assert any(detail.startswith(f"texts/{name}") for detail in dropped[rule]), (rule, name)
    texts = {text for split in dataset.facts["splits"] for text in texts_of(dataset, split)}
    assert texts > {GOOD.format(n) for n in [*range(199), "zip", "tar", "row", "parquet"]}
    after = hashes(tmp_path)
    assert {name for name in after if not name.startswith("work/")} == set(before), "nothing is written elsewhere"


def some_of(hostile: Path, folder: Path, *names: str) -> None:
    (folder / "texts").mkdir()
    for name in names:
        shutil.copy(hostile / name, folder / "texts" / name)
    data = {"split": {"by": "tail"}, "decontaminate": {"validation": False}}  # they are all alike
    write_recipe(folder / "r.yaml", "texts", data=data)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        *((name, "max_bad_rows:") for name in ("cut.txt.gz", "cut.parquet", "other.parquet")),
        *((name, "get these files again, or take them away") for name in ("cut.pdf", "deep.html")),  # all or nothing
    ],
)
def test_where_nothing_can_be_read_the_run_stops_and_says_what_lets_it_pass(
    tmp_path: Path, hostile: Path, cli: Cli, name: str, remedy: str
) -> None:
    some_of(hostile, tmp_path, name)
    cli("prepare", "r.yaml", sets=SMALL).expect_fault(3, f"texts/{name}", remedy)


@pytest.mark.slow
def test_a_damaged_file_among_others_is_named_and_counted_and_the_run_goes_on(
    tmp_path: Path, hostile: Path, cli: Cli
) -> None:
    good = [f"good{n:03d}.txt" for n in range(197)]
    some_of(hostile, tmp_path, "cut.txt.gz", *good)
    said = cli("prepare", "r.yaml", "--json", sets=SMALL)
    assert said.json()["dropped"] == {"read/damaged": 1} and said.json()["documents"] == len(good)
    assert "1 of its 198 files cannot be used, or not whole: texts/cut.txt.gz: its gzip data is cut off" in said.err
    (tmp_path / "texts" / "cut.txt.gz").rename(tmp_path / "cut.txt.gz")
    shutil.copy(hostile / "cut.pdf", tmp_path / "texts" / "cut.pdf")
    said = cli("prepare", "r.yaml", "--json", sets=SMALL)
    assert said.json()["dropped"] == {"read/broken": 1} and said.json()["documents"] == len(good)
    assert "1 of its 198 files cannot be used, or not whole: texts/cut.pdf: " in said.err
    (tmp_path / "cut.txt.gz").rename(tmp_path / "texts" / "cut.txt.gz")
    (tmp_path / "texts" / "cut.pdf").unlink()
    for name in ("cut.parquet", *(f"again{n}.parquet" for n in range(4))):
        (tmp_path / "texts" / name).write_bytes((hostile / "cut.parquet").read_bytes())
    beyond = cli("prepare", "r.yaml", sets=SMALL).expect_fault(
        3, "texts: 6 of its 203 files", "texts/again0.parquet, row 1: it is"
    )
    assert "max_bad_rows" in beyond
    more = cli("prepare", "r.yaml", "--json", sets=[*SMALL, "data.sources=[{path: texts, max_bad_rows: 0.03}]"])
    assert more.json()["dropped"] == {"read/damaged": 6}
    more = cli("prepare", "r.yaml", "--json", sets=[*SMALL, "data.sources=[{path: texts, exclude: ['again*']}]"])
    assert more.json()["dropped"] == {"list/excluded": 4, "read/damaged": 2}
