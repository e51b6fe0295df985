"""Which files a source has, and what is said of those that it leaves out."""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from tilth.core.config import parse
from tilth.core.errors import DataError
from tilth.data.document import make_doc_id
from tilth.data.sources import Listing, SourceConfig, list_inputs
from tilth.data.sources.matching import matching


def listed(base: Path, **data: Any) -> Listing:
    return list_inputs(parse(SourceConfig, data), base, base / "downloads")


def write(path: Path, text: str = "some text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def rules(listing: Listing) -> dict[str, str]:
    return {verdict.detail.partition(":")[0]: verdict.rule for verdict in listing.skipped}


def test_one_file(tmp_path: Path) -> None:
    path = write(tmp_path / "data" / "a.txt", "hello")
    (item,) = listed(tmp_path, path="data/a.txt")
    assert (item.source, item.kind, item.locator, item.size) == ("data/a.txt", "text", "data/a.txt", 5)
    assert item.sha256 == hashlib.sha256(b"hello").hexdigest()
    assert item.path == path


def test_identity_holds_no_machine(tmp_path: Path) -> None:
    for machine in ("one", "two"):
        write(tmp_path / machine / "web" / "sub" / "a.md")
    for name in ("web", "web/sub/a.md", "web/**/*.md"):
        first, second = (listed(tmp_path / machine, path=name).inputs[0] for machine in ("one", "two"))
        assert first.identity() == second.identity()
        assert first.path != second.path
    first, second = (listed(tmp_path, path=str(tmp_path / machine / "web")).inputs[0] for machine in ("one", "two"))
    assert first.identity() == second.identity()
    assert first.locator == "sub/a.md"
    assert str(tmp_path) not in str(first.identity())


def test_folder_is_read_with_all_under_it_in_sorted_order(tmp_path: Path) -> None:
    names = ["b.txt", "a/z.md", "a/y.jsonl.gz", "c.py", "A.TXT", "t.tsv.zst", "n.ndjson", "r.rst", "l.jsonlines"]
    for name in names:
        write(tmp_path / "data" / name)
    listing = listed(tmp_path, path="data")
    assert [item.locator for item in listing] == sorted(f"data/{name}" for name in names)
    assert {item.locator: item.kind for item in listing}["data/a/y.jsonl.gz"] == "jsonl"
    assert {item.locator: item.kind for item in listing}["data/A.TXT"] == "text"
    assert listing.skipped == ()


def test_every_file_left_out_has_a_verdict(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside.txt")
    data = tmp_path / "data"
    write(data / "in.txt")
    write(data / ".hidden.txt")
    write(data / ".git" / "config.txt")
    write(data / "image.png")
    write(data / "README")
    (data / "inside.txt").symlink_to("in.txt")
    (data / "leaves.txt").symlink_to(outside)
    (data / "broken.txt").symlink_to("nowhere")
    (data / "ring").symlink_to(data)
    os.mkfifo(data / "pipe.txt")
    listing = listed(tmp_path, path="data")
    assert [item.locator for item in listing] == ["data/in.txt", "data/inside.txt"]
    assert rules(listing) == {
        "data/.hidden.txt": "hidden",
        "data/.git": "hidden",
        "data/image.png": "unknown_suffix",
        "data/README": "unknown_suffix",
        "data/leaves.txt": "leaves_folder",
        "data/broken.txt": "no_file",
        "data/ring": "linked_folder",
        "data/pipe.txt": "no_file",
    }
    assert {(verdict.stage, verdict.verdict) for verdict in listing.skipped} == {("list", "dropped")}
    assert make_doc_id("data", "data/README") in {verdict.doc_id for verdict in listing.skipped}


def test_folder_with_a_format_takes_that_format_only(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl")
    write(tmp_path / "data" / "b.csv")
    write(tmp_path / "data" / "part_00")  # no suffix that says otherwise
    write(tmp_path / "data" / "c.dump.gz")
    listing = listed(tmp_path, path="data", format="jsonl")
    taken = {item.locator: item.kind for item in listing}
    assert taken == {"data/a.jsonl": "jsonl", "data/c.dump.gz": "jsonl", "data/part_00": "jsonl"}
    assert rules(listing) == {"data/b.csv": "other_format"}


def test_glob_goes_through_folders(tmp_path: Path) -> None:
    for name in ("a.txt", "x/b.txt", "x/y/c.txt", "x/d.md", ".h/e.txt", "x/.f.txt"):
        write(tmp_path / "data" / name)
    listing = listed(tmp_path, path="data/**/*.txt")
    assert [item.locator for item in listing] == ["data/a.txt", "data/x/b.txt", "data/x/y/c.txt"]
    assert rules(listing) == {"data/.h/e.txt": "hidden", "data/x/.f.txt": "hidden"}
    assert listing.inputs[0].source == "data/**/*.txt"


PATTERNS = [
    "*",
    "**",
    "**/*",
    "**/*.txt",
    "**/**/b*",
    "*/**/*",
    "[ab]/*.txt",
    "x/*",
    ".*",
    "**/.*/*",
    "?/.h/*.txt",
    "*/b/..",
]


def test_glob_matches_what_the_standard_library_does(tmp_path: Path) -> None:
    names = ["a", "b", ".h", "b.txt", ".f.txt"]
    for depth in (1, 2, 3):
        for parts in itertools.product(names[:3], repeat=depth):
            for name in names[3:]:
                write(tmp_path.joinpath(*parts, name))
    for pattern in PATTERNS:
        found = matching(tmp_path, Path(pattern).parts).visible
        for hidden, own in ((True, set(found)), (False, {path for path, seen in found.items() if seen})):
            expected = glob.glob(pattern, root_dir=tmp_path, recursive=True, include_hidden=hidden)  # noqa: PTH207
            assert own - {tmp_path} == {tmp_path / match for match in expected} - {tmp_path}, (pattern, hidden)


def test_glob_follows_no_link_out_of_its_folder_nor_round_in_a_ring(tmp_path: Path) -> None:
    for name in ("gl/a.txt", "gl/sub/b.txt", "out/o.txt"):
        write(tmp_path / name)
    gl = tmp_path / "gl"
    (gl / "in.txt").symlink_to("a.txt")
    (gl / "leaves.txt").symlink_to(tmp_path / "out" / "o.txt")
    (gl / "broken.txt").symlink_to("nowhere")
    for ring in ("ring", "sub/back"):  # two of them: glob would never end
        (gl / ring).symlink_to(gl)
    (gl / "linked").symlink_to(tmp_path / "out")
    files = {"gl/leaves.txt": "leaves_folder", "gl/broken.txt": "no_file"}
    linked = dict.fromkeys(["gl/ring", "gl/sub/back", "gl/linked"], "linked_folder")
    for pattern in ("gl/**/*.txt", "gl/**"):
        listing = listed(tmp_path, path=pattern)
        assert [item.locator for item in listing] == ["gl/a.txt", "gl/in.txt", "gl/sub/b.txt"]
        assert rules(listing) == {**files, **linked}
    listing = listed(tmp_path, path="gl/*.txt")
    assert [item.locator for item in listing] == ["gl/a.txt", "gl/in.txt"] and rules(listing) == files
    listing = listed(tmp_path, path="gl/*/*.txt")  # who writes a part for it goes into a link that stays inside
    assert [item.locator for item in listing] == ["gl/ring/a.txt", "gl/ring/in.txt", "gl/sub/b.txt"]
    assert rules(listing)["gl/linked"] == "leaves_folder"
    assert [item.locator for item in listed(tmp_path, path="gl/linked/*.txt")] == ["gl/linked/o.txt"]


@pytest.mark.parametrize("pattern", ["data/**/*.txt", "data/*/*.txt", "data/**"])
def test_glob_goes_on_where_a_link_cannot_be_followed(tmp_path: Path, pattern: str) -> None:
    write(tmp_path / "data" / "x" / "b.txt")
    for ring in ("ring", "x/ring", "x/ring.txt"):
        (tmp_path / "data" / ring).symlink_to(Path(ring).name)
    listing = listed(tmp_path, path=pattern)
    assert [item.locator for item in listing] == ["data/x/b.txt"]
    assert rules(listing)["data/x/ring.txt"] == "no_file"
    assert ("data/ring" in rules(listing)) == (pattern == "data/**")


def test_glob_goes_on_where_a_link_leads_into_a_folder_that_must_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "data" / "a.txt")
    write(tmp_path / "data" / "x" / "b.txt")
    closed = tmp_path / "data" / "closed.txt"
    closed.symlink_to("a.txt")
    stat = os.stat

    def refused(path: Any, *given: Any, **named: Any) -> os.stat_result:
        if str(path) == str(closed) and named.get("follow_symlinks", True):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *given, **named)

    monkeypatch.setattr(os, "stat", refused)  # who tests as root may read every folder
    listing = listed(tmp_path, path="data/**/*.txt")
    assert [item.locator for item in listing] == ["data/a.txt", "data/x/b.txt"]
    assert rules(listing) == {"data/closed.txt": "no_file"}


def test_a_link_that_a_part_of_the_pattern_goes_into_is_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "data" / "x" / "y" / "a.txt")
    (tmp_path / "data" / "link").symlink_to("x")
    (tmp_path / "data" / "x" / "y" / "other").symlink_to(tmp_path / "data" / "x")
    listing = listed(tmp_path, path="data/**/*/y/*.txt")
    assert [item.locator for item in listing] == ["data/link/y/a.txt", "data/x/y/a.txt", "data/x/y/other/y/a.txt"]
    assert rules(listing) == {}
    assert rules(listed(tmp_path, path="data/**/*.txt")) == {
        "data/link": "linked_folder",
        "data/x/y/other": "linked_folder",
    }


def test_glob_takes_what_it_matches_in_the_format_that_is_given(tmp_path: Path) -> None:
    write(tmp_path / "a.log")
    write(tmp_path / "b.log")
    assert [item.kind for item in listed(tmp_path, path="*.log", format="text")] == ["text", "text"]
    with pytest.raises(DataError, match=r"a\.log: its suffix is \.log"):
        listed(tmp_path, path="*.log")


def test_brackets_in_names_are_no_globs(tmp_path: Path) -> None:
    base = tmp_path / "run [1]"
    write(base / "a[1].txt")
    write(base / "b.txt")
    assert [item.locator for item in listed(base, path="a[1].txt")] == ["a[1].txt"]
    assert [item.locator for item in listed(base, path="*.txt")] == ["a[1].txt", "b.txt"]


def test_a_file_name_that_is_not_utf8_can_be_listed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with open(os.fsencode(tmp_path / "data") + b"/\xff.txt", "wb") as file:  # noqa: PTH123 - the name is bytes
        file.write(b"text")
    (item,) = listed(tmp_path, path="data")
    assert item.locator == "data/\\xff.txt"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.txt", "there is nothing at"),
        ("*.txt", "matches no file"),
        ("empty", "holds no file that can be read"),
        ("pictures", r"passed over: pictures/a\.png: its suffix is \.png"),
        ("other/a.xyz", r"the suffix of .*a\.xyz is not known"),
        ("pictures/noname", "the suffix of .*noname is not known"),
    ],
)
def test_nothing_to_read_is_an_error_with_place_and_remedy(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "pictures" / "a.png")
    write(tmp_path / "other" / "a.xyz")
    write(tmp_path / "pictures" / "noname")
    with pytest.raises(DataError, match=message) as caught:
        listed(tmp_path, path=path)
    assert str(tmp_path) in caught.value.message
    assert path in caught.value.remedy or ".jsonl" in caught.value.remedy
    assert "no file" not in message or '{path: "d/*.srt", format: text}' in caught.value.remedy
    write(tmp_path / "logs" / "deep" / "b.log")
    for folder in ("logs", str(tmp_path / "logs")):
        for path in (folder, f"{folder}/**/*.log"):
            with pytest.raises(DataError, match="no file that can be read") as caught:
                listed(tmp_path, path=path)
            assert f'{{path: "{folder}/deep/*.log", format: text}}' in caught.value.remedy


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("data/my-txt.txt", "`path: data/my-text.txt`?"),
        ("dat", "`path: data`?"),
        ("data/a,c.txt", "`path: 'data/a,b.txt'`?"),
        ("data/other.csv", ""),
        ("nowhere/my-txt.txt", ""),
    ],
)
def test_of_a_path_that_is_not_there_a_near_one_is_named(tmp_path: Path, path: str, meant: str) -> None:
    write(tmp_path / "data" / "my-text.txt")
    write(tmp_path / "data" / "a,b.txt")
    with pytest.raises(DataError, match="there is nothing at") as caught:
        listed(tmp_path, path=path)
    assert caught.value.remedy == (
        f"{f'did you mean {meant}' if meant else f'check `path: {path}`;'} relative paths start from {tmp_path}"
    )


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.txt")

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("tilth.data.sources.paths.file_hash", refuse)  # root may read everything, tests often are
    with pytest.raises(DataError, match=r"cannot read .*a\.txt: Permission denied"):
        listed(tmp_path, path="a.txt")


def test_links_in_a_ring_and_pipes_are_passed_over_in_a_folder_and_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.txt")
    (tmp_path / "data" / "ring.txt").symlink_to("ring.txt")
    os.mkfifo(tmp_path / "data" / "pipe.txt")
    listing = listed(tmp_path, path="data")
    assert [item.locator for item in listing] == ["data/a.txt"]
    assert rules(listing) == {"data/ring.txt": "no_file", "data/pipe.txt": "no_file"}
    with pytest.raises(DataError, match="is a pipe, a socket or a device") as refused:
        listed(tmp_path, path="data/pipe.txt")
    assert "save it to a file" in refused.value.remedy


@pytest.mark.parametrize(
    ("name", "keys", "said"),
    [
        ("a.txt", {"map": {"prompt": "q", "completion": "a"}}, "`map:` would do nothing: {path} is read as text"),
        ("a.md", {"template": "{a}", "records": "x"}, "`template:` and `records:` would do nothing"),
        ("a.jsonl", {"document": "line"}, "`document:` would do nothing: {path} is read as jsonl"),
        ("a.csv", {"extract": {"max_bytes": 10}}, "`extract:` would do nothing"),
        ("a.txt", {"format": "csv", "document": "line"}, "`document:` would do nothing: {path} is read as csv"),
    ],
)
def test_a_key_that_says_nothing_of_a_file_named_alone_is_refused(
    tmp_path: Path, name: str, keys: dict[str, Any], said: str
) -> None:
    path = write(tmp_path / "data" / name)
    with pytest.raises(DataError) as caught:
        listed(tmp_path, path=f"data/{name}", **keys)
    assert said.format(path=path) in caught.value.message and "leave" in caught.value.remedy
    assert len(listed(tmp_path, path="data", **{**keys, "format": "auto"})) == 1  # in a folder, for others in it
