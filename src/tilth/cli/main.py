"""The command line: each command reads its options, runs one job and shows what came of it.

Nothing heavy is imported before a command needs it, so that `--help` answers at once. What people read goes to
standard error while a job runs; results go to standard output, and with `--json` the last line there is one JSON
object.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from tilth.cli.export import export
from tilth.cli.faults import Commands, tell_fault, tell_misuse
from tilth.cli.looking import report, trace
from tilth.cli.options import (
    AdapterOption,
    CheckpointOption,
    ExecutorOption,
    Json,
    RecipePath,
    RunArgument,
    RunOption,
    Sets,
    Workers,
    Workspace,
    WrappedOption,
    which,
)
from tilth.cli.writing import chat, generate
from tilth.core.environment import let_threads_sleep
from tilth.core.errors import RecipeError, StorageError, TilthError, interrupted

app = typer.Typer(
    name="tilth",
    cls=Commands,
    help="From raw text to a language model that you can trust.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"tilth {installed('tilth')}")
        raise typer.Exit()


@app.command()
def quickstart(
    run: Annotated[Path, typer.Option(metavar="DIR", help="The run folder.")] = Path("runs/quickstart"),
    workspace: Workspace = Path("work"),
    workers: Workers = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="How long to train in all; more than before goes on.  [default: 2, or as before]"),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Train this many steps in all, instead of minutes.")] = None,
    with_chat: Annotated[
        bool,
        typer.Option("--chat", help="Then tune it on questions and answers, as long again, and talk with it."),
    ] = False,
) -> None:
    """Make a small model of the text that came with Python.

    It takes about three minutes, prepares, trains, measures and writes, and needs no network.
    """
    from tilth.cli.quickstart import run_quickstart
    from tilth.cli.quickstart_chat import run_quickstart_chat

    (run_quickstart_chat if with_chat else run_quickstart)(run, workspace, workers, minutes, steps)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to write the recipe.")] = Path("recipe.yaml"),
    template: Annotated[
        Literal["pretrain", "char", "mlm", "finetune", "lora", "instruct"],
        typer.Option(
            help="From scratch: pretrain (your own text), char (one id per character), mlm (masked words). From a "
            "checkpoint: finetune (all weights), lora (an adapter), instruct (an adapter that learns answers).",
        ),
    ] = "pretrain",
) -> None:
    """Write a commented recipe to start from."""
    from tilth.core.files import write_file
    from tilth.jobs.new_recipe import new_recipe, to_do

    if path.exists():
        raise RecipeError(f"{path} exists", "name another file: tilth init FILE")
    text, new = new_recipe(template, path), "" if path.parent.exists() else f" (the folder {path.parent} is new)"
    write_file(path, text.encode())
    print(f"wrote {path}{new}: {to_do(text, template)}\n  {shlex.join(['tilth', 'train', str(path)])}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors and tools."""
    from tilth.cli.output import results
    from tilth.jobs.recipe import Recipe

    with results():
        print(json.dumps(Recipe.model_json_schema(), indent=2))


@app.command()
def prepare(
    recipe: RecipePath,
    workspace: Workspace = Path("work"),
    workers: Workers = None,
    executor: ExecutorOption = "processes",
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every file with its hash; what was altered is made again.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Then remove intermediate results that no dataset refers to.")
    ] = False,
    prune_datasets: Annotated[
        bool, typer.Option("--prune-datasets", help="The same, and this recipe's older datasets before that.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Make nothing: try a sample, and say what the whole would give.")
    ] = False,
    sample: Annotated[
        str | None, typer.Option("--sample", metavar="SIZE", help="How much --dry-run tries.  [default: 32MB]")
    ] = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Take a recipe's sources to token shards.

    Read, clean, deduplicate, keep held-out text apart, split, tokenise.
    """
    if executor == "processes" and workers != 1 and not dry_run and recipe.is_file():
        from tilth.core.executors import warm_up

        warm_up("tilth.data.server", "tilth.data.plans.pipeline")  # in the background, while we import the same
    from tilth.jobs.recipe import load_recipe

    loaded = load_recipe(recipe, sets or ())  # a mistyped name is answered before what a job needs is imported
    from tilth.cli.output import print_json, results
    from tilth.cli.show import prepare_shown, print_dataset, say_mixture, tidy_shown
    from tilth.jobs.prepare import summary

    if dry_run:
        from tilth.cli.dry_run import forecast_shown, parse_size

        forecast = forecast_shown(loaded, workspace, workers, executor, parse_size(sample or "32MB"))
        with results():
            if as_json:
                print_json(forecast.plain())
        return
    if sample is not None:
        raise RecipeError("--sample is for --dry-run", "add --dry-run, or leave --sample out")
    dataset = prepare_shown(loaded, workspace, workers, executor, verify=verify)
    wanted: Any = "datasets" if prune_datasets else "tasks" if prune else None
    with results():
        print_dataset(dataset)
    say_mixture(loaded, dataset)
    again = [str(recipe), *(["--workspace", str(workspace)] if workspace != Path("work") else [])]
    again += [word for value in sets or () for word in ("--set", value)]
    tidied = tidy_shown(loaded, again, workspace, dataset, wanted)
    with results():
        if as_json:
            print_json(summary(dataset) | (tidied.summary() if wanted else {}))


@app.command()
def check(
    recipe: RecipePath,
    run: RunOption = None,
    workspace: Workspace = Path("work"),
    workers: Workers = None,
    fit: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Say which settings would fit into so much memory (24GiB).")
    ] = None,
    price: Annotated[
        float | None, typer.Option(metavar="PER_HOUR", help="Say what the run would cost.  [default: the recipe's]")
    ] = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Look at a run before it begins; trains nothing.

    Real rows, counts, leaks, what is wrong, and a forecast of memory and time.
    """
    from tilth.cli.check import check_shown

    asked = [*(sets or ()), *([] if price is None else [f"train.price_per_hour={price}"])]
    if not check_shown(recipe, asked, workspace, workers, as_json=as_json, fit=fit, run=run):
        raise typer.Exit(2)


@app.command()
def train(
    recipe: RecipePath,
    run: RunOption = None,
    workspace: Workspace = Path("work"),
    workers: Workers = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Prepare what is missing, train, evaluate; or go on.

    Stopped or killed, the same command goes on where it was.
    """
    from tilth.jobs.recipe import load_recipe

    loaded = load_recipe(recipe, sets or ())  # a mistyped name is answered before torch is imported
    from tilth.cli.output import print_json, results
    from tilth.cli.show import print_result, shown_training
    from tilth.jobs.whole_run import prepare_and_train

    folder = run or Path("runs") / loaded.name
    _, result = prepare_and_train(loaded, folder, workspace, workers, shown_training(loaded, folder))
    if not result:  # under torchrun only process 0 has one
        return
    with results():
        print_result(result)
        if as_json:
            print_json(result)


@app.command()
def evaluate(
    run: RunArgument,
    data: Annotated[
        str | None, typer.Option(metavar="FILE", help="Text to evaluate on (a file, folder or glob).")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="How to read FILE.  [default: by its suffix, or as the run's text]")
    ] = None,
    field: Annotated[
        str | None, typer.Option(help="Which key or column of FILE holds the text.  [default: as the run's text]")
    ] = None,
    separator: Annotated[
        str | None, typer.Option(metavar="CHAR", help="What stands between the cells of a CSV.  [default: the run's]")
    ] = None,
    pseudo_perplexity: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Of a masked model: hide N tokens, one at a time, as well."),
    ] = None,
    adapter: AdapterOption = None,
    checkpoint: CheckpointOption = "final",
    wrapped: WrappedOption = False,
    as_json: Json = False,
) -> None:
    """Measure a model by a full pass over held-out text.

    Loss, perplexity, bits per byte and accuracy.
    """
    from tilth.cli.output import print_json, results
    from tilth.cli.show import print_metrics, say_note
    from tilth.jobs.evaluate import evaluate_run

    asked = {"format": format_, "field": field, "separator": separator}
    reading = {key: value for key, value in asked.items() if value is not None}
    options: Any = {"adapter": adapter, "pseudo_tokens": pseudo_perplexity, "wrapped": wrapped or None}
    metrics = evaluate_run(run, data, which(checkpoint), say=say_note, reading=reading, **options).plain()
    with results():
        print_metrics(metrics)
        if as_json:
            print_json(metrics)


app.command()(generate)
app.command()(chat)


app.command()(trace)
app.command()(report)
app.command()(export)


def main() -> None:
    """The entry point: a user's fault prints message and remedy; anything else is a bug and shows its traceback."""
    gc.set_threshold(100_000)  # not after 700 objects: while modules are imported nothing becomes garbage
    from tilth.cli.output import ready_streams

    let_threads_sleep()
    ready_streams()
    # What is alive at the end goes with the process: the interpreter would look through all of it for circles first,
    # half a second where torch was imported.
    atexit.register(gc.freeze)
    try:
        with _signals_end_it():
            app()
    except TilthError as error:
        if not error.told:
            tell_fault(error)
        _leave(error.exit_code)
    except _Interrupted as signalled:
        # A launcher sends SIGTERM to the others as soon as one has failed: what ended them has been told by that one.
        if os.environ.get("RANK", "0") == "0":
            tell_fault(interrupted(str(signalled)))
        _leave(75)
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise
        tell_fault(
            StorageError(
                f"cannot write: {error.strerror}", "make room, or send the output elsewhere, then type the same command"
            )
        )
        _leave(StorageError.exit_code)
    except SystemExit as end:
        if not isinstance(end.code, (int, type(None))):
            raise
        if isinstance(end.__context__, typer.TyperException):
            tell_misuse(end.__context__)
        _leave(end.code or 0)


def _leave(code: int) -> NoReturn:
    """Ends the process. Of several that ended well, each at once: the threads of their group, torn down with the
    interpreter, now and then abort it after all work was done, and the launcher would call the run failed.
    """
    if code == 0 and os.environ.get("WORLD_SIZE", "1") != "1":
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


class _Interrupted(BaseException):
    """A signal that came where nothing waits for it. Not KeyboardInterrupt, which typer answers by itself."""


@contextlib.contextmanager
def _signals_end_it() -> Iterator[None]:
    """Ctrl-C and SIGTERM end any command in order, with exit code 75; training has handlers of its own. Further ones
    change nothing: who sends one sends several, and the last word is being said. One that comes where Python lets
    nothing out (`__del__`, callbacks of weak references) comes again a moment later.
    """

    def interrupt(number: int, frame: object) -> None:
        raise _Interrupted(signal.Signals(number).name)

    def ignored(what: sys.UnraisableHookArgs) -> None:
        if isinstance(what.exc_value, _Interrupted):
            number = signal.Signals[what.exc_value.args[0]]
            again = threading.Timer(0.05, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
        else:
            hook(what)

    hook, sys.unraisablehook = sys.unraisablehook, ignored
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        sys.unraisablehook = hook
        ends = isinstance(sys.exc_info()[1], (TilthError, _Interrupted))
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if ends else handler)
