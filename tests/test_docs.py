"""What the documents say is so: links lead somewhere, commands exist with their options, examples run, recipes load.

The checkers are tried on planted faults as well: one that finds nothing would pass for a good document.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tests.jobs.bases import write_base
from tests.jobs.conftest import call
from tests.jobs.helpers import environment, write_texts
from tests.recipe_reference import reference
from tilth.cli.main import app
from tilth.core.config import load_yaml
from tilth.core.errors import RecipeError
from tilth.data.sources.origins import ORIGINS
from tilth.data.stages import PRESETS, STAGES
from tilth.jobs.recipe import load_recipe, load_shipped, make_recipe, shipped_recipes
from tilth.model.families import family_of
from tilth.tokenizer.chat_files import ChatFormat, write_chat
from tilth.tokenizer.templates import built_in

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
TRACKED = ("*.md", "*.txt", "*.toml", "Makefile", ".gitignore", ".gitattributes", ".ci/*", "docs/**/*", "recipes/*")
SOURCES = ("src/**/*.py", "src/**/*.yaml", "src/**/*.jinja", "tests/**/*.py")

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(tilth\s[^`]+)`")
_PLACE = re.compile(r"`([\w/]+\.py):\s([\w.]+)`")
_IN_COMMENT = re.compile(r"#.*?(?:`|\s{2,})(tilth [^`\n]+)")
# Places of one machine, and addresses that packages come from there: spelt apart, so that this file has none.
_MACHINE = re.compile(
    r"(?<![\w.])/(?:work/\w|root\b|tmp/|opt/)|find-links|index-url|://[^/\s]*pyp" + "i|file:///(?!etc)"
)


def anchors(text: str) -> set[str]:
    """The names that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path, text: str) -> list[str]:
    """Links that lead to no file, or to no heading of it; addresses in the network are left alone."""
    broken = []
    for link in _LINK.findall(_FENCE.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, heading = link.partition("#")
        target = document.parent / name if name else document
        found = target == document or target.exists()
        if found and heading:
            found = heading in anchors(text if target == document else target.read_text("utf-8"))
        if not found:
            broken.append(link)
    return broken


def commands_in(text: str) -> Iterator[str]:
    """Every `tilth …` of a document: lines of its code blocks (continued ones joined), and inline code."""
    for language, block in _FENCE.findall(text):
        if language in ("", "sh", "console", "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = re.sub(r"^\s*\$?\s*|\s{2,}#.*$|^\s*torchrun .*-m (?=tilth )", "", line)
                if words.startswith("tilth "):
                    yield words
    yield from (" ".join(words.split()) for words in _INLINE.findall(_FENCE.sub("", text)))


@functools.cache
def _commands() -> dict[str, Any]:
    return typer.main.get_command(app).commands  # type: ignore[attr-defined, no-any-return]


def command_fault(words: str) -> str:
    """Why a command line as a document shows it is none; empty when it is one."""
    if re.fullmatch(r"tilth (\w+\|)+\w+", words):
        return next((fault for name in words[6:].split("|") if (fault := command_fault(f"tilth {name} --help"))), "")
    name, *arguments = shlex.split(re.sub(r"[\[\]…]", " ", words))[1:]
    if name in ("--help", "--version"):
        return ""
    command = _commands().get(name)
    if command is None:
        return f"{words!r}: there is no command {name!r}"
    known = {word: parameter for parameter in command.params for word in parameter.opts if word.startswith("--")}
    if not arguments or "--help" in arguments:
        return ""
    if set(arguments) <= known.keys():  # only named, as in `tilth prepare --json`
        return ""
    try:
        command.make_context(name, [re.sub(r"^(N|SECONDS)$", "1", word) for word in arguments])
    except Exception as error:  # whatever the parser calls it: the document is wrong
        return f"{words!r}: {error}"
    return ""


def missing_places(text: str) -> list[str]:
    """Of the places that a document names as `file.py: name`, those that are not in the source."""
    missing = []
    for file, name in _PLACE.findall(text):
        paths = [path for path in (ROOT / "src").rglob("*.py") if f"/{path.as_posix()}".endswith(f"/{file}")]
        sources = [path.read_text("utf-8") for path in paths]
        parts = [rf"(?:def|class) {part}\b|^\s*{part}(?:: .*)? = " for part in name.split(".")]
        if not any(all(re.search(part, source, re.MULTILINE) for part in parts) for source in sources):
            missing.append(f"{file}: {name}")
    return missing


def test_every_place_in_the_code_that_is_named_exists() -> None:
    texts = {path.name: path.read_text("utf-8") for path in DOCUMENTS}
    assert sum(len(_PLACE.findall(text)) for text in texts.values()) > 20, "they are not where this test looks"
    assert not {name: missing for name, text in texts.items() if (missing := missing_places(text))}
    planted = "`core/nothing.py: f` `core/files.py: none_such` `files.py: FolderLock.nothing` `core/disk.py: disk`"
    assert len(missing_places(planted)) == 3


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(document: Path) -> None:
    assert broken_links(document, document.read_text("utf-8")) == []


def test_a_broken_link_is_found() -> None:
    text = "# A title, plain\n[a](README.md) [b](#a-title-plain) [c](https://example.org/x) [d](no.md) [e](#none)"
    assert broken_links(ROOT / "x.md", text + " [f](docs/nothing.md#x)") == ["no.md", "#none", "docs/nothing.md#x"]


def test_every_command_that_is_shown_exists() -> None:
    shown = [words for document in DOCUMENTS for words in commands_in(document.read_text("utf-8"))]
    shown += [words for path in RECIPES for words in _IN_COMMENT.findall(path.read_text("utf-8"))]
    names = {words.split()[1] for words in shown}
    assert {"init", "train", "evaluate", "generate", "quickstart"} <= names, (
        "the commands are not where this test looks"
    )
    assert [fault for words in sorted({*shown}) if (fault := command_fault(words))] == []


@pytest.mark.parametrize(
    "words",
    [
        "tilth dance RUN",
        "tilth train r.yaml --sat a=1",
        "tilth train --run x",
        "tilth generate RUN --top-k many",
        "tilth train r.yaml one-too-many",
        "tilth init|dance",
    ],
)
def test_a_command_that_does_not_exist_is_found(words: str) -> None:
    assert command_fault(words)
    assert list(commands_in(f"```sh\n$ {words}   # so it goes\n```\nor `{words}`")) == [words, words]


def test_the_makefile_has_every_target_that_is_shown() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    shown = {name for path in DOCUMENTS for name in re.findall(r"(?:`|^)make ([a-z-]+)", path.read_text("utf-8"), re.M)}
    assert {"quickstart", "test", "check"} <= shown <= targets


@pytest.mark.slow
def test_the_python_example_of_the_readme_runs(tmp_path: Path) -> None:
    blocks = [code for name, code in _FENCE.findall((ROOT / "README.md").read_text("utf-8")) if name == "python"]
    assert len(blocks) == 1
    recipe = load_yaml(ROOT / "recipes" / "my-text.yaml")
    recipe["tokenizer"] = {"kind": "byte"}
    recipe["model"] = {"preset": "llama-tiny", "num_hidden_layers": 1, "hidden_size": 32, "context_length": 16}
    recipe["train"] |= {"batch_tokens": 256, "precision": "fp32", "device": "cpu"}
    recipe["sample"]["max_new_tokens"] = 8
    (tmp_path / "my-text.yaml").write_text(json.dumps(recipe))
    texts = sorted(write_texts(tmp_path / "texts", documents=10).iterdir())
    (tmp_path / "my-text.txt").write_text("\n".join(path.read_text() for path in texts))
    words = [sys.executable, "-W", "error", "-c", blocks[0]]
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "bits_per_byte=" in done.stdout
    assert (tmp_path / "runs" / "from-python" / "final" / "model.safetensors").is_file()
    assert not (tmp_path / "runs" / "my-text").exists(), "the run of the command `tilth train my-text.yaml`"
    assert re.search(r"^preparing  collect: 1 of 1$", done.stderr, re.M)
    assert re.search(r"^step 0  info: starting: .*$", done.stderr, re.M)
    assert re.search(r"^step 1/\d+  loss [\d.]+  lr [\d.e-]+  [\d,]+ tokens/s  eta ", done.stderr, re.M)


def test_the_recipe_of_the_readme_is_valid(tmp_path: Path) -> None:
    blocks = [code for name, code in _FENCE.findall((ROOT / "README.md").read_text("utf-8")) if name == "yaml"]
    assert blocks
    for number, block in enumerate(blocks):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        load_recipe(path)


def test_every_shipped_recipe_loads() -> None:
    assert {"my-text", "quickstart", "shakespeare-char", "shakespeare-char-cpu"} <= set(shipped_recipes())
    assert shipped_recipes() == sorted(path.stem for path in RECIPES)
    for name in shipped_recipes():
        assert load_shipped(name).name == name


GUIDE = ROOT / "docs" / "finetuning.md"


def guide_blocks(language: str) -> list[str]:
    """The code blocks of the guide to fine-tuning in a language."""
    return [code for name, code in _FENCE.findall(GUIDE.read_text("utf-8")) if name == language]


def printed_by(code: str, folder: Path) -> str:
    """What a script prints in a folder, with names of its own; that one runs as a process, README.md's shows."""
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        exec(compile(code, "script", "exec"), {"__name__": "__main__"})
    return printed.getvalue()


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A recipe with parts of another put in, section by section."""
    both = {key: merged(one[key], other[key]) for key in one.keys() & other.keys() if isinstance(one[key], dict)
            and isinstance(other[key], dict)}  # fmt: skip
    return {**one, **other, **both}


@pytest.mark.parametrize("name", ["quickstart", "my-text", "mlm"])
def test_what_a_newcomer_trains_first_goes_out_to_transformers(name: str) -> None:
    config = load_shipped(name).model.model_copy(update={"vocab_size": 4096})
    assert "For" in family_of(config).architecture


def test_the_recipes_of_the_guide_to_fine_tuning_are_valid(tmp_path: Path) -> None:
    """The first is whole; the others are parts that take the place of the same keys in it."""
    for number, block in enumerate(guide_blocks("yaml")):
        (tmp_path / f"{number:02}.yaml").write_text(block)
    whole, *parts = map(load_yaml, sorted(tmp_path.iterdir()))
    assert make_recipe(whole).train.objective == "sft" and len(parts) >= 6
    for part in parts:
        recipe = merged(whole, part)
        assert recipe != whole
        make_recipe(recipe)
    with pytest.raises(RecipeError):
        make_recipe(merged(whole, {"adapter": {"rnak": 4}}))


def test_the_messages_that_the_guide_explains_are_those_of_the_source() -> None:
    table = GUIDE.read_text("utf-8").split("## What it says, and what to do")[1]
    quoted = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    assert len(quoted) > 10
    assert [words for words in quoted if words not in source] == []


@pytest.mark.slow
def test_the_way_of_the_guide_to_fine_tuning_can_be_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first recipe and the commands below it, in order, with a small base in the place of the hub's."""
    write_base(tmp_path / "base", "llama")
    write_chat(tmp_path / "base", ChatFormat(built_in("chatml")), [])
    rows = ({"question": f"who {n}?", "answer": f"soil {n}"} for n in range(40))
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = (
        guide_blocks("yaml")[0].replace("Qwen/Qwen3-0.6B", "base").replace("context_length: 1024", "context_length: 32")
    )
    assert recipe.count("base") == 1
    (tmp_path / "answers.yaml").write_text(recipe.replace("32768", "256"))
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    commands = list(commands_in(f"```sh\n{guide_blocks('sh')[0]}```"))
    assert len(commands) == 8 and {"check", "train", "chat", "export"} <= {words.split()[1] for words in commands}
    for words in commands:
        said = call(tmp_path, *shlex.split(words)[1:])
        assert said.code == 0, (words, said.err)
    assert {"merged", "adapter"} <= {path.name for path in tmp_path.iterdir()}
    said_by = printed_by(guide_blocks("python")[0], tmp_path)
    assert "[[soil " in said_by and "best held-out loss" in said_by


def shrunk(path: Path, **sections: dict[str, Any]) -> None:
    """Makes a recipe a small one."""
    path.write_text(json.dumps(merged(load_yaml(path), sections)))


@pytest.mark.slow
def test_from_a_text_of_ones_own_to_answers_that_transformers_gives_too(tmp_path: Path) -> None:
    """The second way of the guide: two shipped recipes one after the other, and what each command says of the model."""
    fast = {"precision": "fp32", "device": "cpu", "batch_tokens": 512, "steps": 20}
    small = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "context_length": 64}
    texts = sorted(write_texts(tmp_path / "texts", documents=20).iterdir())
    (tmp_path / "my-text.txt").write_text("\n".join(path.read_text() for path in texts))
    (tmp_path / "instruct").mkdir()
    rows = ({"prompt": f"who is {n}?\n", "completion": f"soil {n % 7} of rain"} for n in range(60))
    (tmp_path / "instruct" / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found: dict[str, dict[str, Any]] = {}
    for words in commands_in(f"```sh\n{guide_blocks('sh')[1]}```"):
        name, *arguments = shlex.split(words)[1:]
        said = call(tmp_path, name, *arguments, *(["--json"] if name == "evaluate" else []))
        assert said.code == 0, (words, said.err)
        if name == "init" and "instruct" not in arguments:
            shrunk(tmp_path / arguments[0], train=fast, model=small, tokenizer={"vocab_size": 300})
        elif name == "init":
            shrunk(tmp_path / arguments[0], train=fast, model={"context_length": 64})
        elif name == "evaluate":
            found["base" if "none" in arguments else "tuned"] = said.json()
    assert found["tuned"]["loss"] < found["base"]["loss"]
    assert printed_by(guide_blocks("python")[1], tmp_path).count("the same: ") == 1


def shipped(name: str) -> dict[str, Any]:
    return load_shipped(name).plain()


def test_the_shakespeare_recipes_have_the_settings_of_nanogpt() -> None:
    """nanoGPT's config/train_shakespeare_char.py, and the CPU variant of its README."""
    shapes = {"shakespeare-char": (6, 6, 384, 256, 0.2), "shakespeare-char-cpu": (4, 4, 128, 64, 0.0)}
    batches = {"shakespeare-char": (64 * 256, 5000), "shakespeare-char-cpu": (12 * 64, 1600)}
    for name, shape in shapes.items():
        recipe = shipped(name)
        model, train = recipe["model"], recipe["train"]
        keys = ("num_hidden_layers", "num_attention_heads", "hidden_size", "context_length", "dropout")
        assert tuple(model[key] for key in keys) == shape
        assert (train["batch_tokens"], train["steps"]) == batches[name]
        assert (model["bias"], model["position"], train["optimizer"]["beta2"]) == (False, "learned", 0.99)
        assert (train["schedule"]["warmup_steps"], train["schedule"]["final"]) == (100, 0.1)
        assert train["optimizer"]["lr"] == (3e-3 if name.endswith("cpu") else 1e-3), (
            "what differs is said in the recipe"
        )
        assert (recipe["data"]["split"]["validation"], recipe["data"]["split"]["by"]) == (0.1, "tail")


def test_quickstart_ends_by_the_clock_and_needs_no_network() -> None:
    recipe = shipped("quickstart")
    assert [source["builtin"] for source in recipe["data"]["sources"]] == ["python_docs"]
    assert recipe["train"]["hours"] * 3600 < 121 and recipe["train"]["steps"] is None


def test_the_guide_to_data_names_every_stage_and_every_origin() -> None:
    guide = (ROOT / "docs" / "data.md").read_text("utf-8")
    named = set(re.findall(r"`(\w+)[:`]", guide))
    assert not {*STAGES, *PRESETS, *ORIGINS} - named
    assert not {"gopher", "nothing"} & named, "the pattern finds anything"


def test_the_reference_has_every_key_of_a_recipe_and_no_other() -> None:
    page = (ROOT / "docs" / "recipe.md").read_text()
    assert page == reference(), "make reference"
    assert [line for line in page.splitlines() if line.endswith("|  |")] == [], "each key has a word of its meaning"
    for key in ("`nesterov`", "`patience`", "## `data.sources[].crawl`", "`max_pages`"):
        assert key in page


def test_no_file_names_a_machine() -> None:
    files = sorted({path for pattern in (*TRACKED, *SOURCES) for path in ROOT.glob(pattern) if path.is_file()})
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:  # what someone keeps beside it is theirs
        files = [path for path in files if path.relative_to(ROOT).as_posix() in listed.stdout.splitlines()]
    assert len(files) > 100, "the files are not where this test looks"
    named = {
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if path != Path(__file__) and _MACHINE.search(line)
    }
    assert not named


@pytest.mark.parametrize(
    "line",
    ["see /work/main/x", "(/root/.cache)", "open('/tmp/a')", "--find-links x", "https://files.pyp" + "i.org/simple"],
)
def test_a_place_on_a_machine_is_found(line: str) -> None:
    assert _MACHINE.search(line)
    assert not _MACHINE.search("runs/ work/ a/tmp/b `--workspace work/x` file:///etc/passwd")


def test_every_constraint_is_one_version() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 30
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)] == []


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE))
    names = {name.lower() for name in pinned}
    assert {re.split(r"[<>=!\[]", need)[0].lower() for need in wanted} <= names
    assert pinned["torch"] == "2.13.0" and "setuptools" in pinned
