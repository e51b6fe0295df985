"""The last word of a command that fails: message and remedy on standard error, and for `--json` the same as one object.

Nothing heavy is imported: `main.py` needs this at once.
"""

from __future__ import annotations

import contextlib
import itertools
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import typer
import typer.core

from tilth.core.errors import BETWEEN_FAULTS, RecipeError, Stopped, TilthError
from tilth.core.words import bytes_of


def tell_fault(error: TilthError) -> None:
    """Message and remedy, its commands as they are typed here; as an object as well, for who asked for one."""
    from tilth.cli.show import command_name

    remedy = error.remedy.replace("`tilth ", f"`{command_name()} ")
    tell(f"tilth: {fault_text(error, remedy)}")
    if sys.argv[1:2] != ["check"] or isinstance(error, Stopped):  # check has told faults in an object of its own
        _error_object(error.message, remedy, error.exit_code)


def fault_text(error: TilthError, remedy: str) -> str:
    """Message and remedy with nothing in them that a terminal would obey: names and texts come from outside. Several
    lines are those of a recipe's faults alone (config.py: parse); any other end of a line is part of a name.
    """
    from tilth.cli.tables import printable

    first = error.__cause__ if isinstance(error.__cause__, TilthError) else error  # check makes one of any other
    lines = error.message.split(BETWEEN_FAULTS) if isinstance(first, RecipeError) else [error.message]
    return f"{BETWEEN_FAULTS.join(map(printable, lines))}\n  remedy: {printable(remedy)}"


_GOES_ON = ("--resume", "--continue", "--resume-from", "--resume-from-checkpoint", "--resume_from_checkpoint")


def tell_misuse(fault: typer.TyperException) -> None:
    """Of a command line that typer cannot read, and has said so: the object, for who asked for one."""
    from tilth.cli.show import command_name

    context = getattr(fault, "ctx", None)
    command = "" if context is None else context.command_path.removeprefix(context.find_root().info_name)
    remedy = f"see `{command_name()}{command} --help`"
    if getattr(fault, "option_name", None) in _GOES_ON and command.strip() == "train":
        remedy = "leave it out: the same command goes on where the run stopped"
        tell(f"  remedy: {remedy}")
    elif meant := _with_its_unit(fault, sys.argv) or _set_instead(fault, context, sys.argv):
        remedy = f"write {meant}"
        tell(f"  remedy: {remedy}")
    _error_object(fault.format_message(), remedy, fault.exit_code)


def _with_its_unit(fault: typer.TyperException, words: Sequence[str]) -> str:
    """`--fit 24GiB` for `--fit 24 GiB`; "" where no amount stands apart from its unit."""
    if "unexpected extra argument" not in fault.format_message():
        return ""
    for option, number, unit in zip(words, words[1:], words[2:], strict=False):
        if option.startswith("--") and number[:1].isdigit() and unit.isalpha() and bytes_of(f"{number}{unit}"):
            return f"{option} {number}{unit}"
    return ""


def _set_instead(fault: typer.TyperException, context: Any, words: Sequence[str]) -> str:
    """The `--set` that a command line seems to mean, of a command that takes it; "" for none."""
    if context is None or not any("--set" in option.opts for option in context.command.params):
        return ""
    if option := getattr(fault, "option_name", None):
        return _of_option(option, words)
    if "unexpected extra argument" not in fault.format_message():
        return ""
    if "--set" in words:
        return _meant(words)
    given = [word for before, word in itertools.pairwise(words) if "=" in word and not before.startswith("-")]
    return " ".join(f"--set {shlex.quote(_placed(word))}" for word in given if not word.startswith("-"))


def _placed(word: str) -> str:
    """`steps=5` as `train.steps=5`, if the recipe has one key that is called so."""
    from tilth.core.faults import place_of
    from tilth.jobs.recipe import Recipe

    key, _, value = word.partition("=")
    place = "" if "." in key else place_of(Recipe, key)
    return f"{place}={value}" if place else word


def _of_option(option: str, words: Sequence[str]) -> str:
    """`--steps 5`, or `--steps=5`, as the `--set` of the recipe's key that is called so."""
    from tilth.core.faults import place_of
    from tilth.jobs.recipe import Recipe

    place = place_of(Recipe, option.lstrip("-"))
    given = list(itertools.dropwhile(lambda word: word.partition("=")[0] != option, words))
    if not place or not given:
        return ""
    value = given[0].partition("=")[2] or next(iter(given[1:]), "--")
    return f"--set {shlex.quote(f'{place}={value}')}" if not value.startswith("--") else f"--set {place}=VALUE"


def _meant(words: Sequence[str]) -> str:
    """What a `--set` was to be of which the shell, or a space in the place of `=`, made several words; "" for none."""
    for place, word in enumerate(words):
        parts = list(itertools.takewhile(lambda part: not part.startswith("-"), words[place + 1 :]))
        if word != "--set" or len(parts) < 2:
            continue
        first, *rest = parts
        if "=" not in first:
            key = first.rstrip(":")
            return f"--set {shlex.quote(f'{key}={rest[0]}')}"
        value = first
        while rest and _is_open(value):
            value += f" {rest.pop(0)}"
        if value != first:
            return f"--set {shlex.quote(value)}"
        if others := [part for part in rest if "=" in part]:
            return " ".join(f"--set {shlex.quote(part)}" for part in (first, *others))
    return ""


def _is_open(value: str) -> bool:
    """Whether a bracket or a quotation mark is open."""
    return sum(value.count(c) for c in "[{(") > sum(value.count(c) for c in "]})") or value.count('"') % 2 == 1


class Commands(typer.core.TyperGroup):
    """All commands; what is wrong with an option is said without the name that pydantic gives to its errors, and an
    EOFError that nobody expected is a bug like any other: typer would call it "Aborted!" and say no more.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EOFError as error:
            raise RuntimeError(f"something ended too early: {error or 'EOFError'}") from error
        except typer.BadParameter as fault:
            fault.message = fault.message.removeprefix("Value error, ")
            raise


def _error_object(message: str, remedy: str, exit_code: int) -> None:
    from tilth.cli.output import print_json, results

    if "--json" in sys.argv:
        with contextlib.suppress(TilthError), results():  # it may be standard output itself that fails
            print_json({"error": {"message": message, "remedy": remedy, "exit_code": exit_code}})


def tell(text: str) -> None:
    """The last word, on standard error; when nobody reads it any more, the exit code still says it."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr)
