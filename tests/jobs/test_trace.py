"""What `tilth trace` answers, against brute force: a replay of the loader, and documents streamed through all edits.

For the replay each document is a run of a character of its own, so that a token says which document it is of.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.jobs.conftest import Cli
from tests.jobs.helpers import WORDS
from tilth.core.config import parse
from tilth.core.errors import DataError, IntegrityError, RecipeError
from tilth.core.files import write_json
from tilth.core.rundir import RunFolder, StepRecord
from tilth.data.batches.batch import IGNORE
from tilth.data.batches.loader import Loader
from tilth.data.batches.mixture import Mixture
from tilth.data.batches.packing import PackingConfig
from tilth.data.batches.sampling import make_sampler
from tilth.data.config import DataConfig
from tilth.data.dataset import Dataset
from tilth.data.document import make_doc_id
from tilth.data.ledger import Ledger, open_ledger
from tilth.data.lineage import follow
from tilth.data.plans.pipeline import prepare
from tilth.data.plans.workshop import Workshop
from tilth.data.shards import TokenStream
from tilth.data.tasks.parts import Part
from tilth.jobs import trace
from tilth.jobs.locate import locate_data
from tilth.jobs.mixing import training_tokens
from tilth.jobs.recipe import make_recipe
from tilth.jobs.trace import trace_document, trace_documents, trace_step
from tilth.tokenizer import TokenizerConfig

pytestmark = pytest.mark.slow

CONTEXT, ROWS, SEED = 16, 3, 7


def made(base: Path, tokenizer: str = "byte", **data: Any) -> Dataset:
    config = parse(DataConfig, {"shard_bytes": 65536, **data}, "data")
    return prepare(config, parse(TokenizerConfig, {"kind": tokenizer}), "small", base, Workshop(base / "work"))


def character(number: int) -> str:
    return chr(0x4E00 + number)


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    """Three sources, of which each is a part; the split by tail goes through a document."""
    base = tmp_path_factory.mktemp("marked")
    for number in range(40):
        folder = base / f"source-{number // 15}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number:02d}.txt").write_text(character(number) * (1 + number * 37 % 90))
    sources = [{"path": f"source-{n}"} for n in range(3)]
    return base, made(base, "char", sources=sources, clean="none", split={"validation": 0.2, "by": "tail"})


OpenedOnce = Callable[[Dataset], None]


@pytest.fixture
def opened_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenedOnce]:
    """Lets all answers of a test come from one opened ledger: to open it takes longer than to read it."""
    with contextlib.ExitStack() as stack:

        def open_now(dataset: Dataset) -> None:
            ledger = stack.enter_context(open_ledger(dataset))
            monkeypatch.setattr(trace, "open_ledger", lambda _: contextlib.nullcontext(ledger))

        yield open_now


MIXTURE = {"source-1": {"weight": 0.6, "max_epochs": None}, "source-2": {"weight": 0.0}}


def replay(
    dataset: Dataset,
    run: Path,
    steps: int,
    same_windows: bool = False,
    mixture: dict[str, Any] | None = None,
    packed: bool = False,
) -> dict[int, Counter[str]]:
    """For each step how many tokens of each character it predicts, an end-of-text counted with what it ends; a run
    folder with the records of these steps is written besides.
    """
    stream, end = dataset.stream("train"), dataset.tokenizer.end_of_text
    rows = stream.tokens // CONTEXT if same_windows else ROWS
    recipe: dict[str, Any] = {
        "name": "small",
        "data": dict(dataset.facts["recipe"]["data"]),
        "model": {"context_length": CONTEXT},
        "train": {"seed": SEED, "steps": max(1, steps), "batch_tokens": "all" if same_windows else CONTEXT * rows},
    }
    if same_windows:
        recipe["train"]["optimizer"] = {"name": "gd"}
    tokens: TokenStream | Mixture = stream
    packing = PackingConfig(too_long="split") if packed else None
    if packing is not None:
        recipe["data"]["packing"] = {"too_long": "split"}
    if mixture is not None:
        recipe["data"]["mixture"] = mixture
        tokens = training_tokens(make_recipe(recipe), dataset)
    sampler = make_sampler(tokens, CONTEXT, SEED, same_windows=same_windows, packing=packing, opening=packed)
    loader = Loader(sampler, rows)
    folder, seen = RunFolder(run), dict[int, Counter[str]]()
    folder.path.mkdir()
    write_json(run / "recipe.json", recipe)
    write_json(run / "data.json", {"folder": str(dataset.folder), "fingerprint": dataset.fingerprint})
    for step in range(1, steps + 1):
        batch = loader.next()
        owners = np.where(batch.labels == end, batch.input_ids, batch.labels)[batch.labels != IGNORE]
        seen[step] = Counter(dataset.tokenizer.decode(owners.tolist()))
        first, last = int(batch.sample_ids[0]), int(batch.sample_ids[-1])
        folder.record(StepRecord(step, 0, 1.5, 1.0, 0.1, 0.1, 0.0, 1.0, None, 0, 0, first, last))
    loader.close()
    return seen


@pytest.mark.parametrize(
    ("steps", "same_windows", "mixture", "packed"),
    [
        (0, False, None, False),
        (1, False, None, False),
        (90, False, None, False),
        (5, True, None, False),
        (90, False, MIXTURE, False),
        (90, False, None, True),
        pytest.param(90, False, MIXTURE, True, marks=pytest.mark.slow),
    ],
)
def test_steps_and_documents_are_those_of_a_replay(
    marked: tuple[Path, Dataset],
    opened_once: OpenedOnce,
    tmp_path: Path,
    steps: int,
    same_windows: bool,
    mixture: dict[str, Any] | None,
    packed: bool,
) -> None:
    _, dataset = marked
    opened_once(dataset)
    run = tmp_path / "run"
    seen = replay(dataset, run, steps, same_windows, mixture, packed)
    epochs: dict[int, set[int]] = {}
    for number in range(0, 40, 1 if steps == 90 else 7):
        traced = trace_document(dataset, f"source-{number // 15}/{number:02d}.txt", run)
        found = {step["step"]: step["tokens"] for step in traced["run"]["steps"]}
        assert found == {step: own[character(number)] for step, own in seen.items() if own[character(number)]}
        for step in traced["run"]["steps"]:
            assert step["tokens"] == sum(window["tokens"] for window in step["windows"])
            epochs.setdefault(step["step"], set()).update(window["epoch"] for window in step["windows"])
    for step, own in [*seen.items()][::9]:
        traced = trace_step(dataset, run, step)
        numbers = (int(row["locator"].split("/")[1][:2]) for row in traced["documents"])
        assert {character(n): row["tokens"] for n, row in zip(numbers, traced["documents"], strict=True)} == own
        assert sum(row["share"] for row in traced["documents"]) == pytest.approx(1)
        if mixture is None:  # whose rings have epochs of their own
            assert epochs.get(step, {1}) <= {*traced["epochs"]} and (step > 1 or traced["epochs"] == [1])


def test_token_offsets_hold_the_document(marked: tuple[Path, Dataset], opened_once: OpenedOnce) -> None:
    base, dataset = marked
    opened_once(dataset)
    pieces = 0
    for path in sorted(base.glob("source-*/*.txt")):
        traced = trace_document(dataset, path.relative_to(base).as_posix())
        text = ""
        for span in traced["splits"]:
            first, stop = span["in_stream"]
            ids = dataset.stream(span["split"]).read(first, stop - first)
            assert ids[-1] == dataset.tokenizer.end_of_text and span["tokens"] == len(ids)
            text += dataset.tokenizer.decode(ids[:-1].tolist())
        # A character of a held-out document alone is unknown to the tokenizer.
        assert text.replace("<|unk|>", path.read_text()[0]) == path.read_text()
        if traced["pieces"]:
            pieces += 1
            beginning, piece = traced["pieces"]  # the beginning keeps the document's name
            own = {key: traced["document"][key] for key in ("doc_id", "locator")}
            assert beginning == {**own, "fate": "kept in train"}
            assert piece["fate"] == "kept in validation" and [s["split"] for s in traced["splits"]] == [
                "train",
                "validation",
            ]
            back = trace_document(dataset, piece["locator"])
            assert back["part_of"] == [
                {"doc_id": traced["document"]["doc_id"], "locator": traced["document"]["locator"]}
            ]
            assert back["splits"] == [traced["splits"][1]]
    assert pieces == 2, "in two of three sources the border goes through a document, in one between two"


def prose(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words)) + ".\n"


CLEAN = [
    {"trailing_space": {}},
    {"min_length": {"characters": 40}},
    {"cut": {"characters": 400, "min_characters": 100}},
    {"strip": {}},
    {"cut": {"characters": 250, "min_characters": 50}},
    {"min_length": {"characters": 120}},
]


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    """Documents that are changed, dropped, and cut into pieces of pieces, some of which are dropped; and duplicates."""
    base, draw = tmp_path_factory.mktemp("cleaned"), random.Random(3)
    (base / "texts").mkdir()
    for number in range(60):
        text = "".join(prose(draw, 9).replace(" rain", " rain  \n") for _ in range(draw.choice((0, 1, 3, 12, 30))))
        (base / "texts" / f"{number:02d}.txt").write_text(text or "short")
    long = "".join(prose(draw, 12) for _ in range(3))
    (base / "texts" / "copy-1.txt").write_text(long)
    (base / "texts" / "copy-2.txt").write_text(long)
    (base / "texts" / "near.txt").write_text(long + "And more.\n")
    (base / "texts" / ".hidden.txt").write_text("not seen")
    (base / "texts" / "empty.txt").write_text("")
    near = {"threshold": 0.6}
    return base, made(base, sources=[{"path": "texts"}], clean=CLEAN, deduplicate=near, split={"validation": 0.1})


def streamed(dataset: Dataset, tasks: Path) -> list[dict[str, str]]:
    """The texts of all documents after reading and after each stage, by id: as the pipeline itself streams them."""
    [origin] = dataset.origins
    task, name = origin["collected"]
    folders = tuple(tasks / stage for stage in origin["stages"])
    parts = (Part(tasks / task, name, folders[:n]) for n in range(len(folders) + 1))
    return [{document.doc_id: document.text for document in part.documents()} for part in parts]


def test_texts_are_followed_through_drops_and_cuts(cleaned: tuple[Path, Dataset]) -> None:
    base, dataset = cleaned
    tasks = base / "work" / "tasks"
    after, [origin] = streamed(dataset, tasks), dataset.origins
    ids = {doc_id for texts in after for doc_id in texts}
    assert len(after[0]) < len(ids)
    followed = 0
    with open_ledger(dataset) as ledger:
        named = [ledger.identity(doc_id) for doc_id in sorted(ids)[::3]]
    for about in named:
        trail = _trail(about["source"], about["locator"])
        for change in follow(tasks, origin, trail):
            before_ids = [n for n in trail if n in after[change.stage]]
            assert change.before == after[change.stage][before_ids[-1]]
            if change.after is not None and change.doc_id in after[change.stage + 1]:
                assert change.after == after[change.stage + 1][change.doc_id]
            else:
                assert change.doc_id not in after[change.stage + 1]
            followed += 1
    assert followed > 60


def _trail(source: str, locator: str) -> list[str]:
    steps = locator.split("#characters=")
    return [make_doc_id(source, "#characters=".join(steps[: n + 1])) for n in range(len(steps))]


def test_every_row_of_the_ledger_is_told_of_its_document(
    cleaned: tuple[Path, Dataset], opened_once: OpenedOnce
) -> None:
    _, dataset = cleaned
    opened_once(dataset)
    rows = [row for file in sorted((dataset.folder / "ledger").iterdir()) for row in pq.read_table(file).to_pylist()]
    told = {doc_id: trace_document(dataset, doc_id) for doc_id in sorted({row["doc_id"] for row in rows})[::5]}
    for row in (row for row in rows if row["doc_id"] in told):
        own = [verdict for verdict in told[row["doc_id"]]["verdicts"] if verdict["doc_id"] == row["doc_id"]]
        assert row in [{key: verdict[key] for key in row} for verdict in own]
        if row["verdict"] == "dropped":
            assert told[row["doc_id"]]["fate"] == f"dropped by {row['stage']}/{row['rule']}"
    kept = [document for split in ("train", "validation") for document in _documents(dataset, split)]
    assert all(trace_document(dataset, d["doc_id"])["fate"].startswith("kept in ") for d in kept[:10])
    assert not {d["doc_id"] for d in kept} & {row["doc_id"] for row in rows if row["verdict"] == "dropped"}


def _documents(dataset: Dataset, split: str) -> list[dict[str, str]]:
    files = sorted((dataset.folder / "documents" / split).iterdir())
    return [row for file in files for row in pq.read_table(file, columns=["doc_id", "locator"]).to_pylist()]


def test_a_piece_leads_to_its_whole_and_back(cleaned: tuple[Path, Dataset]) -> None:
    _, dataset = cleaned
    with open_ledger(dataset) as ledger:
        [row] = ledger.rows("SELECT detail FROM ledger WHERE rule = 'cut' AND task = 2 ORDER BY value DESC LIMIT 1")
    whole = trace_document(dataset, row["detail"])
    assert whole["fate"] == "cut into pieces" and whole["splits"]
    nested = [piece for piece in whole["pieces"] if piece["locator"].count("#characters=") == 2]
    assert nested
    for piece in nested:
        traced = trace_document(dataset, piece["doc_id"])
        outer, inner = traced["part_of"]
        assert outer["locator"] == row["detail"] and inner["locator"].count("#characters=") == 1
        assert [v["rule"] for v in traced["verdicts"] if v["rule"] == "cut"] == ["cut", "cut"]
        assert piece["fate"] == traced["fate"]


def test_duplicates_name_each_other(cleaned: tuple[Path, Dataset]) -> None:
    _, dataset = cleaned
    first, second, near = (trace_document(dataset, f"texts/{n}.txt") for n in ("copy-1", "copy-2", "near"))
    assert second["duplicates"]["went_for"]["locator"] == "texts/copy-1.txt"
    assert second["duplicates"]["went_for"]["similarity"] is None
    assert [row["locator"] for row in first["duplicates"]["stays_for"]] == ["texts/copy-2.txt"]
    [gone] = near["duplicates"]["stays_for"]
    assert gone["locator"] == "texts/copy-1.txt" and 0.6 <= gone["similarity"] < 1
    assert first["duplicates"]["went_for"]["locator"] == "texts/near.txt" and first["fate"].endswith("near_duplicate")


def test_what_was_never_a_document_is_told_too(cleaned: tuple[Path, Dataset]) -> None:
    _, dataset = cleaned
    hidden, empty = (trace_document(dataset, f"texts/{name}") for name in (".hidden.txt", "empty.txt"))
    assert hidden["fate"] == "dropped by list/hidden" and empty["fate"] == "dropped by read/empty"
    assert hidden["document"]["locator"] == "texts/.hidden.txt" and hidden["document"]["source"] == "texts"


def test_a_document_that_has_its_place_is_kept_whatever_is_said_of_another_of_its_name() -> None:
    dropped = [{"verdict": "dropped", "stage": "read", "rule": "revisit"}]
    ledger = create_autospec(Ledger, instance=True)
    ledger.verdicts.return_value, ledger.placed.return_value = dropped, [{"split": "train"}]
    assert trace._fate(ledger, "id") == "kept in train"
    ledger.placed.return_value = []
    assert trace._fate(ledger, "id") == "dropped by read/revisit"


def test_an_unknown_name_gets_the_nearest_ones(cleaned: tuple[Path, Dataset]) -> None:
    _, dataset = cleaned
    with pytest.raises(DataError, match=r"did you mean texts/near\.txt"):
        trace_document(dataset, "near.txt")
    with pytest.raises(DataError, match=r"texts/\.hidden\.txt"):
        trace_document(dataset, "texts/hiden.txt")


def test_every_name_that_is_meant_can_be_typed(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("A text that is read.\n")
    (tmp_path / "texts" / "books.csv").write_text("title,summary\nA,Book\n")
    rows = ", ".join(json.dumps({"text": f"What stands in row {n}."}) for n in range(9))
    (tmp_path / "texts" / "bad.json").write_text(f"[{rows} {rows}]")
    dataset = made(tmp_path, sources=[{"path": "texts"}], split={"validation": 0}, clean="none")
    with open_ledger(dataset) as ledger:
        for name, meant in [("books.csv", "texts/books.csv"), ("texts/bad.json#row=10", "texts/bad.json")]:
            near = ledger.nearest(name)
            assert meant in near and near == list(dict.fromkeys(near))
            assert all(ledger.find(one) for one in near), near
    assert trace_document(dataset, "texts/books.csv")["fate"] == "dropped by read/other_schema"


def test_one_locator_in_two_sources_asks_which(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "x.txt").write_text("A text that two sources have.\n" * 3)
    sources = [{"path": "texts", "name": name} for name in ("a", "b")]
    dataset = made(tmp_path, sources=sources, split={"validation": 0})
    with pytest.raises(RecipeError, match="2 documents are called"):
        trace_document(dataset, "texts/x.txt")
    assert [one["document"]["source"] for one in trace_documents(dataset, "texts/x.txt")] == ["a", "b"]


def test_without_the_tasks_examples_show_the_texts(cleaned: tuple[Path, Dataset], tmp_path: Path) -> None:
    _, dataset = cleaned
    moved = tmp_path / "[odd] *name?" / "data'set"
    shutil.copytree(dataset.folder, moved)
    alone, _ = locate_data(moved, tmp_path)
    with open_ledger(alone) as ledger:
        [example] = ledger.rows("SELECT * FROM examples WHERE rule = 'min_length' ORDER BY doc_id LIMIT 1")
    traced = trace_document(alone, example["doc_id"])
    assert traced["texts_from"] == "examples"
    [dropped] = [v for v in traced["verdicts"] if v["verdict"] == "dropped"]
    assert dropped["before"] == example["before"] and dropped["after"] is None


def test_a_folder_of_texts_is_not_taken_for_the_dataset_of_its_name(
    cleaned: tuple[Path, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, dataset = cleaned
    name, workspace = dataset.folder.name.rpartition("-")[0], dataset.folder.parents[1]
    monkeypatch.chdir(tmp_path)
    for texts in (Path(name), Path("other")):
        texts.mkdir()
        for file in ("a.txt", "data.json", "manifest.json"):
            (texts / file).write_text("[]")
    assert locate_data(name, workspace) == locate_data(dataset.folder.name, workspace) == (dataset, None)
    with pytest.raises(RecipeError, match=r"other is neither a dataset's folder nor a run's") as raised:
        locate_data("other", workspace)
    assert "again" not in raised.value.remedy
    shutil.copytree(dataset.folder, "copy-0123456789ab")
    Path("copy-0123456789ab/manifest.json").unlink()
    with pytest.raises(IntegrityError, match=r"copy-0123456789ab/manifest.json is missing"):
        locate_data("copy-0123456789ab", workspace)


def test_the_database_reads_the_dataset_and_nothing_else(cleaned: tuple[Path, Dataset], tmp_path: Path) -> None:
    import duckdb

    _, dataset = cleaned
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    with open_ledger(dataset) as ledger:
        for query in (
            f"SELECT * FROM '{tmp_path / 'secret.csv'}'",
            f"COPY (SELECT 1) TO '{tmp_path / 'out.csv'}'",
            "INSTALL httpfs",
            "LOAD httpfs",
            "SET enable_external_access = true",
        ):
            with pytest.raises(duckdb.Error):
                ledger.rows(query)
    assert not (tmp_path / "out.csv").exists()


def test_the_command(cli: Cli, trained: Path) -> None:
    step = cli("trace", "runs/small", "--step", 3, "--json").json()
    document = step["documents"][0]
    assert step["epochs"] == [1] and "epoch 1, loss" in cli("trace", "runs/small", "--step", 3).out
    traced = cli("trace", "runs/small", "--doc", document["locator"], "--json").json()
    assert {"step": 3, "tokens": document["tokens"]} in [
        {key: own[key] for key in ("step", "tokens")} for own in traced["run"]["steps"]
    ]
    assert cli("trace", "small", "--doc", document["doc_id"], "--json").json()["run"] is None
    cli("trace", "runs/small", "--doc", "texts/0000.tx").expect_fault(3, "texts/0000.tx", "did you mean texts/0000.txt")
    cli("trace", "runs/small").expect_fault(2, "--doc", "--step")
    cli("trace", "small", "--step", 3).expect_fault(2, "no run")
    cli("trace", "runs/small", "--step", 99).expect_fault(2, "no step 99", "1 to 12")
    cli("trace", "smal", "--doc", "x").expect_fault(2, "did you mean small?")
    said = cli("trace", "runs/small", "--doc", "texts/copy.txt").out
    assert "texts/0000.txt" in said and "the same to the letter" in said
    (trained / "runs/small/data.json").write_text(
        json.dumps({**json.loads((trained / "runs/small/data.json").read_text()), "fingerprint": "0"})
    )
    cli("trace", "runs/small", "--step", 3).expect_fault(3, "is not the dataset that")
