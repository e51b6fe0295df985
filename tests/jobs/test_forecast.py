"""`tilth prepare --dry-run` beside what `tilth prepare` then does."""

from __future__ import annotations

import errno
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.conftest import Cli
from tests.jobs.helpers import SMALL, WORDS, hashes, write_recipe, write_texts
from tilth.data.forecast import Estimate, Forecast, Terms
from tilth.jobs.dry_run import forecast_data
from tilth.jobs.prepare import prepare_data
from tilth.jobs.recipe import Recipe, load_recipe

pytestmark = pytest.mark.slow


def write_sources(folder: Path) -> list[dict[str, Any]]:
    """Files of texts and of code, and rows: with short ones, empty ones, and copies near and far."""
    draw = random.Random(11)

    def text(longest: int) -> str:
        return "\n".join(
            " ".join(draw.choices(WORDS, k=draw.randint(1, 12))) + " " * draw.randint(0, 1)
            for _ in range(draw.randint(1, longest))
        )

    (folder / "texts").mkdir()
    for n in range(300):
        (folder / "texts" / f"{n:03}.txt").write_text("" if n % 50 == 7 else text(4 if n % 3 else 60))
    for n in range(60):
        (folder / "texts" / f"code{n:02}.py").write_text(f"def f{n}():\n    return {text(9)!r}\n")
    rows = [text(8) for _ in range(3000)]
    for n in range(0, 3000, 40):
        rows[n] = rows[(n * 7 + 3) % 3000]
    lines = [json.dumps({"text": row}) if n % 97 else "{}" for n, row in enumerate(rows)]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    return [{"path": "texts"}, {"path": "rows.jsonl", "max_bad_rows": 0.5}]


def inside(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def actual(facts: dict[str, Any], forecast: Forecast) -> dict[str, tuple[Estimate, float]]:
    """What was foretold, with what came: the quantities that grow in line with the text."""
    dropped = facts["rules"]["dropped"]
    gone = sum(n for rule, n in dropped.items() if rule.split("/")[0] == "clean")
    pairs = {
        "read_documents": (forecast.quantities["read_documents"], facts["read"]["documents"]),
        "read_text_bytes": (forecast.quantities["read_text_bytes"], facts["read"]["text_bytes"]),
        "cleaned_documents": (forecast.quantities["cleaned_documents"], facts["read"]["documents"] - gone),
        "tokens": (forecast.quantities["tokens"], sum(split["tokens"] for split in facts["splits"].values())),
        "kept": (forecast.quantities["kept_documents"], facts["documents"]),
    }
    for verdict, rules in facts["rules"].items():
        for rule, n in rules.items():
            if rule in forecast.rules[verdict]:
                pairs[f"{verdict} {rule}"] = (forecast.rules[verdict][rule], n)
    return pairs


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe, dict[str, Any]]:
    """The folder of `write_sources`, the recipe, and the facts of what was made of it."""
    folder = tmp_path_factory.mktemp("sources")
    sources = write_sources(folder)
    recipe = load_recipe(write_recipe(folder / "r.yaml", "texts", data={"sources": sources}), SMALL)
    return folder, recipe, prepare_data(recipe, folder / "work", workers=1, root=folder).facts


def test_a_forecast_holds_what_then_comes(tmp_path: Path, prepared: tuple[Path, Recipe, dict[str, Any]]) -> None:
    folder, recipe, facts = prepared
    work = tmp_path / "work"
    forecasts = [
        forecast_data(recipe, work, workers=1, root=folder, terms=Terms(sample_bytes=150_000, seed=seed))
        for seed in range(2)
    ]
    assert not work.exists(), "nothing is left behind"
    outside = []
    for seed, forecast in enumerate(forecasts):
        sampled = sum(source["sampled_bytes"] for source in forecast.sources)
        assert 0.15 < sampled / sum(source["bytes"] for source in forecast.sources) < 0.6
        pairs = actual(facts, forecast)
        assert {"dropped clean/min_length", "dropped read/no_field", "changed clean/trailing_space"} <= pairs.keys()
        outside += [(seed, name, found, truth) for name, (found, truth) in pairs.items() if not inside(found, truth)]
        assert inside(forecast.growth["exact"].estimate, facts["rules"]["dropped"]["deduplicate/exact_duplicate"])
    assert len(outside) <= 0.1 * sum(len(actual(facts, forecast)) for forecast in forecasts), outside


def test_a_sample_of_everything_is_what_then_comes(
    tmp_path: Path, prepared: tuple[Path, Recipe, dict[str, Any]]
) -> None:
    folder, recipe, facts = prepared
    forecast = forecast_data(recipe, tmp_path / "work", workers=1, root=folder)
    for name, (found, truth) in actual(facts, forecast).items():
        slack = 0.02 * truth if name in ("tokens",) else 1e-6
        assert found.value == pytest.approx(truth, abs=slack), name
    assert set(facts["rules"]["dropped"]) - {"deduplicate/exact_duplicate"} <= set(forecast.rules["dropped"])
    assert forecast.growth["exact"].estimate.value == facts["rules"]["dropped"]["deduplicate/exact_duplicate"]


def test_what_is_read_and_dropped_and_cut_adds_up(tmp_path: Path, cli: Cli) -> None:
    draw = random.Random(4)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(20, 400))) for _ in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    cuts = [{"cut": {"characters": 800, "min_characters": 100}}, {"min_length": {"characters": 230}}]
    data = {"sources": [{"path": "rows.jsonl"}], "clean": [*cuts, {"cut": {"characters": 400}}]}
    path = write_recipe(tmp_path / "r.yaml", "", data=data)
    said = cli("prepare", path, "--dry-run", "--workers", 1, "--json", sets=SMALL).json()
    facts = prepare_data(load_recipe(path, SMALL), tmp_path / "work", workers=1, root=tmp_path).facts
    left = [step["documents"] for step in facts["flow"]][:4]
    pieces, dropped = said["pieces"]["clean/cut"]["value"], said["rules"]["dropped"]["clean/min_length"]["value"]
    assert pieces == left[1] - left[0] + left[3] - left[2] > 40 and dropped == left[1] - left[2] > 0
    assert said["read_documents"]["value"] - dropped + pieces == said["cleaned_documents"]["value"] == left[3]
    assert "+ pieces by clean/cut" in cli("prepare", path, "--dry-run", "--workers", 1, sets=SMALL).out


@pytest.mark.parametrize("size", [1_000_000, 120_000])
def test_a_single_file_is_one_document_and_is_known_where_it_fits_the_sample(tmp_path: Path, size: int) -> None:
    """Larger than what a piece of a sample is, and smaller than the sample; else it is said that it was cut."""
    draw = random.Random(3)
    text = "\n".join(" ".join(draw.choices(WORDS, k=10)) for _ in range(8000))[:300_000]
    (tmp_path / "one.txt").write_text(text)
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", "one.txt"), SMALL)
    terms = Terms(sample_bytes=size)
    forecast = forecast_data(recipe, tmp_path / "work", workers=1, root=tmp_path, terms=terms)
    if size < len(text):
        assert any("1 file of one document each had to be cut" in note for note in forecast.notes)
        return
    facts = prepare_data(recipe, tmp_path / "work", workers=1, root=tmp_path).facts
    assert not any("had to be cut" in note for note in forecast.notes) and facts["documents"] == 1
    for name, (found, truth) in actual(facts, forecast).items():
        assert found.low == found.value == found.high == truth, name


def test_the_bytes_of_copies_are_counted_not_their_number(tmp_path: Path) -> None:
    """Few long texts many times each, and many short ones once: half of the documents are nearly all of the text."""
    draw = random.Random(5)
    long, short = ([" ".join(draw.choices(WORDS, k=size)) for _ in range(n)] for size, n in ((900, 40), (20, 300)))
    texts = [f"{n} {text}" for n, text in enumerate(long)] * 9 + [f"{n} {text}" for n, text in enumerate(short, 40)]
    draw.shuffle(texts)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    data = {"sources": [{"path": "rows.jsonl"}], "deduplicate": "exact", "decontaminate": {"validation": False}}
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", "x", data=data), ["tokenizer={kind: byte}"])
    whole, part = (
        forecast_data(recipe, tmp_path / "work", workers=1, root=tmp_path, terms=Terms(sample_bytes=size)).quantities
        for size in (32_000_000, 600_000)
    )
    facts = prepare_data(recipe, tmp_path / "work", workers=1, root=tmp_path).facts
    for name, truth in (
        ("kept_text_bytes", sum(split["text_bytes"] for split in facts["splits"].values())),
        ("tokens", sum(split["tokens"] for split in facts["splits"].values())),
    ):
        assert whole[name].value == pytest.approx(truth, rel=1e-4), "all was sampled: the trial itself has the figure"
        assert part[name].low < truth < part[name].high and part[name].value == pytest.approx(truth, rel=0.3)


def test_text_of_evaluation_files_and_of_what_is_held_out_is_foretold(tmp_path: Path) -> None:
    """From a sample that holds all, and from one that holds part of it."""
    draw = random.Random(7)

    def words(number: int) -> str:
        return " ".join(draw.choices(WORDS, k=number))

    items, quoted = [words(60) for _ in range(12)], [words(80) for _ in range(60)]
    texts = [words(120) for _ in range(900)]
    for n in range(0, 900, 10):  # an evaluation item stands in one of ten, one of few long passages in one of three
        texts[n] += " " + items[n // 10 % 12]
    for n in range(1, 900, 3):
        texts[n] += " " + quoted[n // 3 % 60]
    draw.shuffle(texts)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "exam.txt").write_text("\n\n".join(items))
    against = {"path": "exam.txt", "document": "paragraph"}
    wanted = {"against": [against], "action": "drop", "most_of_training": 1.0}
    data = {"sources": [{"path": "rows.jsonl"}], "decontaminate": wanted, "split": {"validation": 0.1}}
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", "x", data=data), ["tokenizer={kind: byte}"])
    whole, part = (
        forecast_data(recipe, tmp_path / "work", workers=1, root=tmp_path, terms=Terms(sample_bytes=size))
        for size in (32_000_000, 260_000)
    )
    facts = prepare_data(recipe, tmp_path / "work", workers=1, root=tmp_path).facts
    dropped = facts["rules"]["dropped"]
    assert dropped["decontaminate/evaluation_item"] == 90 and dropped["decontaminate/held_out_text"] > 50
    for forecast in (whole, part):
        found = forecast.rules["dropped"]["decontaminate/evaluation_item"]
        held_out = forecast.growth["decontaminate/held_out_text"].estimate
        assert inside(found, 90) and inside(held_out, dropped["decontaminate/held_out_text"])
        assert inside(forecast.quantities["kept_documents"], facts["documents"])
        if forecast is whole:
            assert (found.value, held_out.value) == (90, dropped["decontaminate/held_out_text"]) and not forecast.notes


def test_files_are_counted_and_what_is_cut_out_of_them_is_no_text(tmp_path: Path) -> None:
    """Each file is a document, few are most of the text, and passages of held-out ones stand in training ones."""
    draw = random.Random(5)
    quoted = [" ".join(draw.choices(WORDS, k=80)) for _ in range(60)]
    (tmp_path / "texts").mkdir()
    for n in range(300):
        words = " ".join(draw.choices(WORDS, k=min(8_000, int(90 * draw.paretovariate(0.8)))))
        (tmp_path / "texts" / f"{n}.txt").write_text(f"{words}\n\n{quoted[n % 60]}\n")
    size = sum(path.stat().st_size for path in (tmp_path / "texts").iterdir())
    data = {"sources": [{"path": "texts"}], "split": {"validation": 0.1}}
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", "x", data=data), ["tokenizer={kind: byte}"])
    forecasts = [
        forecast_data(recipe, tmp_path / "work", workers=1, root=tmp_path, terms=Terms(sample_bytes=sample))
        for sample in (size // 3, 2 * size)
    ]
    facts = prepare_data(recipe, tmp_path / "work", workers=1, root=tmp_path).facts
    assert facts["rules"]["changed"]["decontaminate/held_out_text"] > 20
    part, whole = (forecast.quantities for forecast in forecasts)
    assert part["read_documents"].value == part["read_documents"].high == 300 and inside(part["read_documents"], 300)
    splits = facts["splits"].values()
    assert whole["kept_documents"] == Estimate(*[facts["documents"]] * 3)
    text, tokens = (sum(split[name] for split in splits) for name in ("text_bytes", "tokens"))
    assert whole["kept_text_bytes"] == Estimate(text, text, text) and inside(part["kept_text_bytes"], text)
    assert whole["tokens"].value == pytest.approx(tokens, rel=1e-6)


def test_files_that_are_lost_are_told_before(tmp_path: Path, cli: Cli) -> None:
    """As preparing tells of them: a few by name, too many as the error that they are."""
    (tmp_path / "rows").mkdir()
    for n in range(3):
        rows = [json.dumps({"text": f"{n} and {row}, with some words"}) for row in range(40)]
        (tmp_path / "rows" / f"{n}.jsonl").write_text("\n".join(rows))
    (tmp_path / "rows" / "bad.csv").write_text("title,body\na,b\n")
    write_recipe(tmp_path / "r.yaml", "rows")
    said = cli("prepare", "r.yaml", "--dry-run", "--workers", "1", sets=SMALL)
    assert said.code == 0 and "rows: 1 of its 4 files cannot be used, or not whole: rows/bad.csv" in said.err
    for n in range(3):
        (tmp_path / "rows" / f"{n}.jsonl").unlink()
    remedy = "name the column that holds the text"
    cli("prepare", "r.yaml", "--dry-run", "--workers", "1", sets=SMALL).expect_fault(3, "no column 'text'", remedy)


def test_what_is_lost_of_a_piece_is_not_taken_for_the_file(tmp_path: Path, cli: Cli) -> None:
    """Preparing goes through: a piece of a CSV ends within quotes, and bad rows stand side by side."""
    (tmp_path / "rows").mkdir()
    tall = "\n".join(["some words in a line of a cell"] * 100)
    (tmp_path / "rows" / "tall.csv").write_text("text,id\n" + "".join(f'"{tall} {n}",{n}\n' for n in range(200)))
    rows = [json.dumps({"text": f"{n} and some words more"}) for n in range(9000)]
    rows[4000:4080] = [row[:-2] for row in rows[4000:4080]]
    (tmp_path / "rows" / "bad.jsonl").write_text("\n".join(rows))
    limits = {"tall.csv": 0, "bad.jsonl": 0.01}
    sources = [{"path": f"rows/{name}", "max_bad_rows": limit} for name, limit in limits.items()]
    data = {"sources": sources, "clean": "none", "decontaminate": {"validation": False}}  # it is of reading alone
    write_recipe(tmp_path / "r.yaml", "x", data=data)
    said = cli("prepare", "r.yaml", "--dry-run", "--sample", "900kB", "--workers", "1", sets=SMALL)
    assert said.code == 0 and "that is a piece of the file, and preparing goes by all of it" in said.err
    assert "quote" not in said.err
    assert cli("prepare", "r.yaml", "--workers", "1", sets=SMALL).code == 0


def test_a_lost_file_of_which_a_piece_was_sampled_is_called_by_its_name(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "rows").mkdir()
    for n in range(4):
        rows = [
            json.dumps({"body" if n == 2 else "text": f"{n} and {row} and some words"})
            for row in range(6000 if n == 2 else 200)
        ]
        (tmp_path / "rows" / f"{n}.jsonl").write_text("\n".join(rows))
    write_recipe(tmp_path / "r.yaml", "rows")
    said = cli("prepare", "r.yaml", "--dry-run", "--sample", "900kB", "--workers", "1", sets=SMALL)
    assert "rows: 1 of its 4 files cannot be used, or not whole: rows/2.jsonl" in said.err
    assert "`exclude: [2.jsonl]`" in said.err


def test_the_beginning_of_a_csv_is_cut_as_the_recipe_says(tmp_path: Path, cli: Cli) -> None:
    rows = "".join(f"{n};rain, sun and {n * n} more words of the field\r\n" for n in range(9000))
    (tmp_path / "a.csv").write_text(f"id;text\r\n{rows}")
    write_recipe(tmp_path / "r.yaml", "x", data={"sources": [{"path": "a.csv", "separator": ";"}]})
    said = cli("prepare", "r.yaml", "--dry-run", "--sample", "100kB", "--workers", "1", "--json", sets=SMALL)
    assert said.json()["read_documents"]["low"] <= 9000 <= said.json()["read_documents"]["high"]


def test_the_command_shows_it_and_touches_nothing(trained: Path, cli: Cli) -> None:
    before = hashes(trained)
    said = cli("prepare", "r.yaml", "--dry-run", "--sample", "100kB", "--workers", "1", "--json", sets=SMALL)
    assert said.json()["tokens"]["low"] <= said.json()["tokens"]["value"] <= said.json()["tokens"]["high"]
    assert {
        "sources",
        "workers",
        "read_documents",
        "kept_documents",
        "seconds",
        "disk_bytes",
        "rules",
        "duplicates",
    } <= (said.json().keys())
    assert said.err.startswith("a sample of 100 kB goes through every step, in parts; nothing is kept of it\n")
    lines = [line for line in said.err.splitlines() if "reading  " in line or "cleaning  " in line]
    assert lines and all(line.startswith("trial: ") for line in lines)
    assert "documents kept" in said.out and "tokens" in said.out and "sampled of" in said.err
    assert hashes(trained) == before
    cli("prepare", "r.yaml", "--sample", "1MB", sets=SMALL).expect_fault(2, "--sample is for --dry-run")
    cli("prepare", "r.yaml", "--dry-run", "--sample", "1 apple", sets=SMALL).expect_fault(2, "'1 apple' is no size")
    cli("prepare", "r.yaml", "--dry-run", "--sample", "9", sets=SMALL).expect_fault(2, "too little")
    far = [*SMALL, "data.sources=[{hub: {dataset: someone/something}}]"]
    cli("prepare", "r.yaml", "--dry-run", sets=far).expect_fault(3, "nothing of a data set on the hub is downloaded")


def test_the_documentation_of_python(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", "x", data={"sources": [{"builtin": "python_docs"}]}), SMALL)
    forecast = forecast_data(recipe, tmp_path / "work", workers=1, terms=Terms(sample_bytes=1_200_000))
    facts = prepare_data(recipe, tmp_path / "work", workers=1).facts
    pairs = actual(facts, forecast)
    outside = [name for name, (found, truth) in pairs.items() if not inside(found, truth)]
    assert len(outside) <= 0.1 * len(pairs), outside
    disk = sum(path.stat().st_size for path in (tmp_path / "work" / "tasks").rglob("*") if path.is_file())
    assert forecast.quantities["disk_bytes"].low * 0.9 < disk < forecast.quantities["disk_bytes"].high * 1.1


def test_what_a_sample_cannot_tell_is_left_out_and_said(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", documents=40)
    write_recipe(tmp_path / "r.yaml", "texts")
    asked = ["data.shared_lines={}", "data.decontaminate.against=[{hub: {dataset: someone/something}}]"]
    forecast = forecast_data(load_recipe(tmp_path / "r.yaml", [*SMALL, *asked]), tmp_path / "work", 1, tmp_path)
    said = [note for note in forecast.notes if "cannot be told from a sample" in note]
    assert len(said) == 2 and "(data.decontaminate.against.0)" in "".join(said)
    assert forecast.quantities["tokens"].value > 0
    quiet = load_recipe(tmp_path / "r.yaml", [*SMALL, "data.decontaminate.validation=false"])
    assert not any("cannot be told" in note for note in forecast_data(quiet, tmp_path / "work", 1, tmp_path).notes)


SPECIAL = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
BYTES = {"kind": "byte", "special_tokens": SPECIAL}


def write_chats(path: Path, count: int) -> None:
    draw = random.Random(3)
    rows = []
    for n in range(count):
        asked, said = (" ".join(draw.choices(WORDS, k=draw.randint(5, 20))) for _ in range(2))
        ends_early = n % 8 == 3  # no answer at the end: there is nothing to train on
        first = {"role": "system", "content": "Answer."}
        messages = [first, {"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        rows.append(json.dumps({"messages": messages[:2] if ends_early else messages}))
    path.write_text("\n".join(rows))


def chats(template: str | None) -> dict[str, Any]:
    said = {"chat": {"template": template}} if template else {}
    return {"sources": [{"path": "chats.jsonl", "map": {"messages": "messages"}}], "clean": "none", **said}


@pytest.mark.parametrize("template", ["llama3", "chatml"])
def test_conversations_are_foretold_by_their_template(tmp_path: Path, template: str) -> None:
    write_chats(tmp_path / "chats.jsonl", 160)
    recipe = load_recipe(
        write_recipe(tmp_path / "r.yaml", "", data=chats(template), train={"objective": "sft"}, tokenizer=BYTES)
    )
    forecast = forecast_data(recipe, tmp_path / "work", workers=1, root=tmp_path)
    facts = prepare_data(recipe, tmp_path / "work", workers=1, root=tmp_path).facts
    assert facts["documents"] < 160
    kept, tokens = forecast.quantities["kept_documents"], forecast.quantities["tokens"]
    assert kept.value == facts["documents"] and inside(kept, facts["documents"])
    assert tokens.value == sum(split["tokens"] for split in facts["splits"].values())


def test_what_preparing_will_refuse_is_refused_before(tmp_path: Path, cli: Cli) -> None:
    write_chats(tmp_path / "chats.jsonl", 100)
    write_recipe(tmp_path / "r.yaml", "", data=chats(None), train={"objective": "sft"}, tokenizer=BYTES)
    write_chats(tmp_path / "one.jsonl", 1)
    data = {**chats("chatml"), "sources": [{"path": "one.jsonl", "map": {"messages": "messages"}}]}
    write_recipe(tmp_path / "few.yaml", "", data=data, train={"objective": "sft"}, tokenizer=BYTES)
    for options in ([], ["--dry-run"]):
        cli("prepare", "r.yaml", *options).expect_fault(3, "encode/needs_template dropped", "data.chat")
        cli("prepare", "few.yaml", *options).expect_fault(3, "and 0 validation documents", "data.split.validation")


def test_bad_rows_that_the_sample_did_not_meet_may_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    for n in range(2):
        (tmp_path / "texts" / f"{n}.txt").write_text("")
    rows = [json.dumps({"text": f"{n} " + " ".join(WORDS[n % 7 :])}) for n in range(4000)]
    (tmp_path / "rows.jsonl").write_text("\n".join([*rows, json.dumps({"text": ""})]))
    sources = [{"path": "texts"}, {"path": "rows.jsonl", "max_bad_rows": 0.5}]
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", "texts", data={"sources": sources}), SMALL)
    empty = forecast_data(recipe, tmp_path / "w", 1, terms=Terms(sample_bytes=100_000)).rules["dropped"]["read/empty"]
    assert inside(empty, 3) and empty.low == 2 and empty.high > 3


def test_a_forecast_where_nothing_can_be_written_names_the_option(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_texts(tmp_path / "texts", documents=3)
    write_recipe(tmp_path / "r.yaml", "texts")
    mkdir = os.mkdir

    def refuse(path: Path, *given: int) -> None:
        if Path(path) == Path("work"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        mkdir(path, *given)

    monkeypatch.setattr(os, "mkdir", refuse)  # root may write everywhere
    said = cli("prepare", "r.yaml", "--dry-run").expect_fault(3, "cannot write work: Permission denied", "--workspace")
    assert "what was finished is kept" not in said
