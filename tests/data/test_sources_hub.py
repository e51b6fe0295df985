"""Data sets from a hub on loopback: once, verified, pinned, resumed; streamed; and what refusals say."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.hub_server import COMMIT, HubServer, running_hub
from tilth.core.config import parse
from tilth.core.errors import DataError, IntegrityError, RecipeError
from tilth.core.progress import Board
from tilth.data.document import Outcome
from tilth.data.sources import Listing, SourceConfig, hub_stream, list_inputs, read_input

pytestmark = pytest.mark.slow

OTHER = "f" * 40
CARD = b"""---
license: cc-by-4.0
configs:
- config_name: en
  default: true
  data_files:
  - {split: train, path: "data/train-*.parquet"}
  - {split: test, path: data/test.parquet}
- config_name: de
  data_files: de/*.jsonl
---
# A set
"""


def parquet(texts: list[str | None], rows_in_group: int = 1000) -> bytes:
    sink = io.BytesIO()
    table = pa.table({"text": texts, "image": [b"\x00\xff" * 500 + str(i).encode() for i in range(len(texts))]})
    pq.write_table(table, sink, row_group_size=rows_in_group, compression="none", use_dictionary=False)
    return sink.getvalue()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf-cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(hub_stream, "BACKOFF", 0.001)
    with running_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        server.files = {
            "README.md": CARD,
            ".gitattributes": b"*.parquet filter=lfs",
            "data/train-00000-of-00002.parquet": parquet([f"train {i}" for i in range(30)]),
            "data/train-00001-of-00002.parquet": parquet([f"more {i}" for i in range(20)]),
            "data/test.parquet": parquet(["held out"]),
            "de/a.jsonl": b'{"text": "eins"}\n{"text": "zwei"}\n',
        }
        yield server


def listed(folder: Path, hub: Any = "org/set", **more: Any) -> tuple[Listing, SourceConfig]:
    config = parse(SourceConfig, {"hub": hub, **more})
    return list_inputs(config, folder, folder / "downloads"), config


def read(folder: Path, hub: Any = "org/set", **more: Any) -> list[Outcome]:
    listing, config = listed(folder, hub, **more)
    return [outcome for item in listing for outcome in read_input(item, config)]


def texts(outcomes: list[Outcome]) -> dict[str, str]:
    return {o.document.locator: o.document.text for o in outcomes if o.document}


def licenses(outcomes: list[Outcome]) -> set[str | None]:
    return {o.document.license for o in outcomes if o.document}


@pytest.mark.parametrize("streaming", [False, True])
def test_the_licence_of_the_card_is_on_each_document(hub: HubServer, tmp_path: Path, streaming: bool) -> None:
    asked = {"dataset": "org/set", "streaming": streaming}
    assert licenses(read(tmp_path, asked)) == {"cc-by-4.0"}
    assert licenses(read(tmp_path, asked, license="CC0-1.0")) == {"CC0-1.0"}, "the recipe's comes first"
    listing, _ = listed(tmp_path, asked)
    assert {item.identity()["license"] for item in listing} == {"cc-by-4.0"}, "another one makes other documents"


def test_rows_are_documents_and_files_come_once(hub: HubServer, tmp_path: Path) -> None:
    got = texts(read(tmp_path))
    assert len(got) == 50
    assert got["org/set/data/train-00000-of-00002.parquet#row=1"] == "train 0"
    assert got["org/set/data/train-00001-of-00002.parquet#row=20"] == "more 19"
    asked = len(hub.seen)
    assert texts(read(tmp_path)) == got
    assert len(hub.seen) == asked  # the second time nothing was asked, not even which commit it is


def test_configuration_split_and_files(hub: HubServer, tmp_path: Path) -> None:
    assert list(texts(read(tmp_path, {"dataset": "org/set", "split": "test"})).values()) == ["held out"]
    assert list(texts(read(tmp_path, {"dataset": "org/set", "config": "de"})).values()) == ["eins", "zwei"]
    by_glob = texts(read(tmp_path, {"dataset": "org/set", "files": ["**/train-00001*"]}))
    assert len(by_glob) == 20
    with pytest.raises(DataError, match="no configuration 'fr'") as caught:
        read(tmp_path, {"dataset": "org/set", "config": "fr"})
    assert "en, de" in caught.value.remedy
    with pytest.raises(DataError, match="no split 'dev'") as caught:
        read(tmp_path, {"dataset": "org/set", "split": "dev"})
    assert "train, test" in caught.value.remedy
    with pytest.raises(DataError, match="no column 'body'; the columns are 'text'"):
        read(tmp_path, field="body")


def test_the_commit_is_kept_and_stands_in_the_ledger(hub: HubServer, tmp_path: Path) -> None:
    before = texts(read(tmp_path))
    hub.commits["main"] = OTHER  # the branch moves on
    hub.commits[OTHER] = OTHER
    hub.files["data/train-00000-of-00002.parquet"] = parquet(["other"])
    assert texts(read(tmp_path)) == before
    listing, _ = listed(tmp_path)
    said = listing.skipped[0]
    assert (said.stage, said.rule, said.verdict, said.value) == ("list", "hub", "kept", COMMIT)
    assert "licence cc-by-4.0" in said.detail
    (tmp_path / "downloads" / "hub" / "org--set" / "revision-main.json").unlink()  # as the docs say: look again
    assert len(texts(read(tmp_path))) == 21
    assert listed(tmp_path)[0].skipped[0].value == OTHER


def test_an_altered_note_is_noticed(hub: HubServer, tmp_path: Path) -> None:
    read(tmp_path)
    note = tmp_path / "downloads" / "hub" / "org--set" / "revision-main.json"
    note.write_text(note.read_text().replace(COMMIT, OTHER))
    with pytest.raises(IntegrityError, match=r"revision-main\.json"):
        read(tmp_path)


def test_what_came_wrong_is_never_used(hub: HubServer, tmp_path: Path) -> None:
    hub.plan = ["well", "altered"]  # the card, then the first file
    with pytest.raises(DataError, match="not the file that the hub lists") as caught:
        read(tmp_path)
    assert ".parquet.wrong" in caught.value.remedy
    assert len(texts(read(tmp_path))) == 50


def test_a_damaged_file_is_fetched_again(hub: HubServer, tmp_path: Path) -> None:
    got = texts(read(tmp_path))
    (path,) = (tmp_path / "downloads").rglob("train-00001*.parquet")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    asked = len(hub.bytes_asked())
    assert texts(read(tmp_path)) == got
    assert len(hub.bytes_asked()) == asked + 1


def test_a_broken_download_goes_on_where_it_broke(hub: HubServer, tmp_path: Path) -> None:
    text = "".join(f'{{"text": "{i:0200d}"}}\n' for i in range(120_000)).encode()
    hub.files, hub.plan = {"train.jsonl": text}, ["drop", "drop"]
    (item,) = listed(tmp_path)[0]
    assert item.path.read_bytes() == text
    starts = [int((seen.range or "bytes=0-").removeprefix("bytes=").rstrip("-")) for seen in hub.bytes_asked()]
    assert len(starts) == 3 and 0 == starts[0] < starts[1] <= starts[2]  # the library keeps pieces of 10 MiB


def test_offline_with_the_note_and_without(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got = texts(read(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.seen)
    assert texts(read(tmp_path)) == got
    with pytest.raises(DataError, match="HF_HUB_OFFLINE") as caught:
        read(tmp_path / "elsewhere")
    assert "unset HF_HUB_OFFLINE" in caught.value.remedy
    assert len(hub.seen) == asked


def test_the_hub_s_own_cache_is_used(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub.snapshot_download("org/set", repo_type="dataset", endpoint=hub.address)
    asked = len(hub.bytes_asked())
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert len(texts(read(tmp_path))) == 50
    assert len(hub.bytes_asked()) == asked
    assert not list((tmp_path / "downloads").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("refusal", "message", "remedy"),
    [
        ((403, "GatedRepo"), "gated", "ask for access"),
        ((401, ""), "not there, or not for you", "hf auth login"),
        ((404, "RepoNotFound"), "not there, or not for you", "check the name"),
        ((404, "RevisionNotFound"), "no such revision", "revision"),
        ((418, ""), "answers 418", "try again later"),
    ],
)
def test_refusals_say_what_to_do(
    hub: HubServer, tmp_path: Path, refusal: tuple[int, str], message: str, remedy: str
) -> None:
    hub.refuse = refusal
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path)
    assert remedy in caught.value.remedy and "org/set" in caught.value.message


def test_a_hub_that_is_not_there(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_hub() as gone:
        address = gone.address
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(DataError, match=r"cannot be reached.*refused"):
        read(tmp_path)


def test_a_login_is_used_and_never_written(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    hub.login = "hf_secretsecretsecret"
    listing, config = listed(tmp_path)
    outcomes = [o for item in listing for o in read_input(item, config)]
    assert len(texts(outcomes)) == 50
    written = b"".join(path.read_bytes() for path in (tmp_path / "downloads").rglob("*") if path.is_file())
    assert b"hf_secret" not in written and "hf_secret" not in repr((listing, config, outcomes))
    monkeypatch.setenv("HF_TOKEN", "hf_anotheranother")
    with pytest.raises(DataError) as caught:
        read(tmp_path / "elsewhere")
    assert "hf_another" not in str(caught.value)


@pytest.mark.parametrize("name", ["../../etc/x.parquet", "/etc/x.parquet", "a/../../x.parquet", "a\\..\\x.parquet"])
def test_a_name_that_leads_elsewhere_is_refused(hub: HubServer, tmp_path: Path, name: str) -> None:
    hub.files[name] = b"x"
    with pytest.raises(DataError, match="would lie elsewhere"):
        read(tmp_path)


def test_code_is_refused_and_a_way_shown(hub: HubServer, tmp_path: Path) -> None:
    hub.files = {"set.py": b"raise SystemExit", "raw.jsonl": b'{"text": "x"}\n'}
    with pytest.raises(DataError, match="runs no code from elsewhere") as caught:
        read(tmp_path)
    assert "revision: refs/convert/parquet" in caught.value.remedy
    assert list(texts(read(tmp_path, {"dataset": "org/set", "files": ["raw.jsonl"]})).values()) == ["x"]


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", None)
    with pytest.raises(RecipeError, match="needs the package huggingface_hub") as caught:
        read(tmp_path)
    assert caught.value.remedy == "pip install 'tilth[hub]'"


def test_streaming_gives_the_same_documents_and_keeps_no_file(hub: HubServer, tmp_path: Path) -> None:
    whole = texts(read(tmp_path / "a"))
    asked = len(hub.bytes_asked())
    streamed = texts(read(tmp_path / "b", {"dataset": "org/set", "streaming": True}))
    assert streamed == whole and list(streamed) == list(whole)
    assert all(seen.range for seen in hub.bytes_asked()[asked:] if seen.path.endswith("parquet"))
    assert not list((tmp_path / "b").rglob("*.parquet"))


def test_streaming_asks_for_the_wanted_column_only(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_stream, "PIECE", 4096)
    data = parquet([f"text {i}" for i in range(3000)], rows_in_group=500)
    hub.files = {"train.parquet": data}
    assert len(texts(read(tmp_path, {"dataset": "org/set", "streaming": True}))) == 3000
    spans = [seen.range.removeprefix("bytes=").split("-") for seen in hub.bytes_asked() if seen.range]
    moved = sum(int(last) - int(first) + 1 for first, last in spans)
    assert moved < len(data) / 5, f"{moved} of {len(data)} bytes"


def test_streaming_goes_on_after_broken_connections(hub: HubServer, tmp_path: Path) -> None:
    whole = texts(read(tmp_path / "a"))
    listing, config = listed(tmp_path / "b", {"dataset": "org/set", "streaming": True})
    hub.plan = ["drop", "503", "drop", "well", "drop"]
    assert texts([o for item in listing for o in read_input(item, config)]) == whole
    assert not hub.plan


@pytest.mark.parametrize(("what", "message"), [("no ranges", "sends no ranges"), ("shift", "asked for bytes")])
def test_streaming_takes_nothing_but_what_it_asked_for(hub: HubServer, tmp_path: Path, what: str, message: str) -> None:
    listing, config = listed(tmp_path, {"dataset": "org/set", "streaming": True})
    hub.plan = [what]
    with pytest.raises(DataError, match=message):
        list(read_input(listing.inputs[0], config))


def test_streaming_needs_parquet(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="streaming reads Parquet") as caught:
        read(tmp_path, {"dataset": "org/set", "config": "de", "streaming": True})
    assert "refs/convert/parquet" in caught.value.remedy


@pytest.mark.parametrize(
    ("hub_keys", "message"),
    [
        ({}, "one of `dataset` and `folder`"),
        ({"dataset": "org/set", "folder": "x"}, "one of `dataset` and `folder`"),
        ({"dataset": "a/b/c"}, "no data set's name"),
        ({"dataset": "../x"}, "no data set's name"),
        ({"dataset": "org/set", "revision": "../main"}, "no branch, tag or commit"),
        ({"dataset": "org/set", "files": ["*"], "split": "train"}, "config and split"),
        ({"folder": "x", "streaming": True}, "for a data set on the hub"),
        ({"dataset": "org/set", "token": "hf_x"}, "unknown key"),
    ],
)
def test_recipes_that_cannot_be_meant(hub_keys: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse(SourceConfig, {"hub": hub_keys})


def save_to_disk(folder: Path, texts: list[list[str]]) -> None:
    """What `datasets.Dataset.save_to_disk` writes (compared with that of version 5.2.0)."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{len(texts):05d}.arrow" for i in range(len(texts))]
    for name, column in zip(names, texts, strict=True):
        table = pa.table({"n": list(range(len(column))), "text": column})
        with pa.ipc.new_stream(str(folder / name), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": n} for n in names], "_split": None}))
    (folder / "dataset_info.json").write_text(json.dumps({"license": "mit", "features": {}}))


def test_a_folder_saved_by_datasets(tmp_path: Path) -> None:
    save_to_disk(tmp_path / "mine", [["a", "b", "c"], ["d"]])
    got = texts(read(tmp_path, {"folder": "mine"}))
    assert got == {
        **{f"mine/data-00000-of-00002.arrow#row={i + 1}": text for i, text in enumerate("abc")},
        "mine/data-00001-of-00002.arrow#row=1": "d",
    }
    assert "licence mit" in listed(tmp_path, {"folder": "mine"})[0].skipped[0].detail
    assert licenses(read(tmp_path, {"folder": "mine"})) == {"mit"}
    (tmp_path / "mine" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match="not whole"):
        read(tmp_path, {"folder": "mine"})


def test_a_saved_dictionary_of_splits(tmp_path: Path) -> None:
    save_to_disk(tmp_path / "mine" / "train", [["a"]])
    save_to_disk(tmp_path / "mine" / "dev", [["b"]])
    (tmp_path / "mine" / "dataset_dict.json").write_text('{"splits": ["train", "dev"]}')
    assert texts(read(tmp_path, {"folder": "mine"})) == {"mine/train/data-00000-of-00001.arrow#row=1": "a"}
    assert list(texts(read(tmp_path, {"folder": "mine", "split": "dev"})).values()) == ["b"]
    with pytest.raises(DataError, match="no split 'test'"):
        read(tmp_path, {"folder": "mine", "split": "test"})
    (tmp_path / "mine" / "dataset_dict.json").write_text('{"splits": ["../../etc"]}')
    with pytest.raises(Exception, match="leads out of"):
        read(tmp_path, {"folder": "mine", "split": "../../etc"})


def test_a_folder_laid_out_like_the_hub(tmp_path: Path) -> None:
    (tmp_path / "set" / "en").mkdir(parents=True)
    (tmp_path / "set" / "README.md").write_bytes(CARD.replace(b"data/train-*", b"en/*"))
    (tmp_path / "set" / "en" / "x.parquet").write_bytes(parquet(["one", None]))
    outcomes = read(tmp_path, {"folder": "set"})
    assert texts(outcomes) == {"set/en/x.parquet#row=1": "one"} and licenses(outcomes) == {"cc-by-4.0"}
    assert [(v.rule, v.value) for o in outcomes for v in o.verdicts] == [("empty", "0")]
    with pytest.raises(DataError, match="there is no folder"):
        read(tmp_path, {"folder": "sets"})


def test_a_folder_saved_by_the_real_library(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict({"text": ["a", "bü"], "n": [1, 2]})
    datasets.DatasetDict({"train": made}).save_to_disk(str(tmp_path / "real"))
    assert list(texts(read(tmp_path, {"folder": "real"})).values()) == ["a", "bü"]


def test_what_comes_from_the_hub_is_counted(hub: HubServer, tmp_path: Path) -> None:
    size = sum(len(data) for name, data in hub.files.items() if "train-" in name)
    board = Board()
    with board.watching(tmp_path / "work"):
        listed(tmp_path)
        listed(tmp_path)
    fresh, again = board.meters
    assert (fresh.done, fresh.before, fresh.total) == (size, 0, size)
    assert (again.done, again.before) == (size, size)  # nothing was sent
