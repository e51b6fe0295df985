"""Sources that are not what they were, or cannot be what the recipe wants: told before hours go into them."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from tests.data.web_site import Site, serving
from tests.jobs.conftest import Cli
from tests.jobs.helpers import SMALL, write_recipe, write_texts

pytestmark = pytest.mark.slow


def test_files_that_are_gone_since_the_last_preparation_are_told_once(tmp_path: Path, cli: Cli) -> None:
    for name in ("texts", "others"):
        write_texts(tmp_path / name, documents=8)
    write_recipe(tmp_path / "r.yaml", "texts")
    both = [*SMALL, 'data.sources=[{"path": "texts"}, {"path": "others/*.txt"}]']
    assert "gone" not in cli("prepare", "r.yaml", sets=both).err
    lost = sorted((tmp_path / "texts").iterdir())[:5]
    for path in (*lost, tmp_path / "others" / "0002.txt"):
        path.unlink()
    said = cli("prepare", "r.yaml", sets=both)
    first = ", ".join(f"texts/{path.name}" for path in lost[:3])
    told = "that were there when this data was last prepared are gone"
    assert f"source texts: 5 files {told}: {first} and 2 more\n" in said.err
    assert "1 file that was there when this data was last prepared is gone: others/0002.txt\n" in said.err
    assert "gone" not in cli("prepare", "r.yaml", sets=both).err


def test_one_object_with_its_rows_inside_is_told_with_the_key(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"articles": [{"text": "a"}], "count": 1}))
    write_recipe(tmp_path / "r.yaml", "a.json")
    said = cli("prepare", "r.yaml")
    said.expect_fault(3, "no document is left after reading a.json", "write `records: articles`")
    assert "1 of 1 rows cannot be used: no 'text' (a.json#row=1); the file is one object" in said.err
    assert "check that the files hold text" not in said.err


def test_where_a_source_is_gone_what_was_made_before_is_named(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts", documents=15)
    write_recipe(tmp_path / "r.yaml", "texts")
    folder = cli("prepare", "r.yaml", "--json", sets=SMALL).json()["folder"]
    (tmp_path / "texts").rename(tmp_path / "elsewhere")
    cli("prepare", "r.yaml", sets=SMALL).expect_fault(
        3, "what was made of it on", f"is in {folder}, and can be trained"
    )
    changed = [*SMALL, "data.clean=none"]
    cli("prepare", "r.yaml", sets=changed).expect_fault(
        3, f"the last dataset of this name, of other settings, is in {folder}"
    )


def test_where_an_address_is_gone_what_was_made_before_is_named(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts", documents=15)
    text = "\n\n".join(path.read_text() for path in sorted((tmp_path / "texts").iterdir())).encode()
    with serving(Site()) as site:
        site.pages["/a.txt"] = 200, {}, text
        source = {"url": f"{site.url}/a.txt", "sha256": hashlib.sha256(text).hexdigest(), "document": "paragraph"}
        sets = [*SMALL, f"data.sources=[{json.dumps(source)}]"]
        write_recipe(tmp_path / "r.yaml", "texts")
        folder = cli("prepare", "r.yaml", "--json", sets=sets).json()["folder"]
        del site.pages["/a.txt"]
        for path in (tmp_path / "work" / "downloads").iterdir():
            path.unlink()
        said = cli("prepare", "r.yaml", sets=sets)
        said.expect_fault(3, "a.txt: the server answers 404", "what was made of it on", f"is in {folder}, and can be")
        said = cli("prepare", "r.yaml", sets=[*sets, "data.clean=none"])
        said.expect_fault(3, "a.txt: the server answers 404", f"of other settings, is in {folder}")


def test_a_text_that_is_cut_off_is_read_to_there_as_its_remedy_says(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts")
    texts = [path.read_text() for path in sorted((tmp_path / "texts").iterdir())]
    for name, text in (("a", "\n".join(texts)), ("b", "".join(texts))):
        packed = gzip.compress(text.encode())
        (tmp_path / f"{name}.txt.gz").write_bytes(packed[: len(packed) // 2])
    write_recipe(tmp_path / "r.yaml", "a.txt.gz")
    all_may = [*SMALL, "data.sources.0.max_bad_rows=1"]
    kept = "`max_bad_rows: 1` with `document: paragraph` goes on with what came before the damage"
    cli("prepare", "r.yaml", sets=SMALL).expect_fault(3, "a.txt.gz: its gzip data is cut off", kept)
    smaller = "; `document: paragraph` keeps what came before the damage"
    fault = cli("prepare", "r.yaml", sets=all_may).expect_fault(
        3, "no document is left after reading a.txt.gz", smaller
    )
    assert "check that the files hold text" not in fault
    said = cli("prepare", "r.yaml", "--json", sets=[*all_may, "data.sources.0.document=paragraph"])
    assert said.json()["documents"] > 20
    sets = [*all_may, "data.sources.0.document=paragraph", "data.sources.0.path=b.txt.gz"]  # it has no blank line
    cli("prepare", "r.yaml", sets=sets).expect_fault(3, "; `document: line` keeps what came before the damage")
    assert cli("prepare", "r.yaml", "--json", sets=[*sets, "data.sources.0.document=line"]).json()["documents"] > 20
