"""The Jinja2 that chat templates are written in, as Hugging Face has it.

    environment(today)      what compiles a template
    RefusedError            what a template raises by `raise_exception`

A sandbox without attributes of Python's, immutable data, loop controls, the `generation` block, `raise_exception`,
`strftime_now`, `tojson` that escapes no HTML. Nothing is random: no `lipsum`, no `random`.
"""

from __future__ import annotations

import datetime
import json
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tilth.tokenizer.marks import ANSWER, ANSWERED


class RefusedError(jinja2.TemplateError):
    """What a template raises by `raise_exception`."""


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}`: what stands in it is an answer."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Any) -> str:
        return f"{ANSWER}{caller()}{ANSWERED}"


class _Namespace(jinja2.utils.Namespace):
    """Jinja's namespace without names that begin with an underscore: assignment would reach Python's own attributes."""

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        for name in (given := dict(*args, **kwargs)):
            _check_name(name)
        super().__init__(given)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace has no place for {name!r}")


class _Dict:
    """`dict(…)` and nothing else of Python's class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)


def environment(today: datetime.date) -> ImmutableSandboxedEnvironment:
    """What compiles templates; `strftime_now` reads the date that is given."""
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    made.filters["tojson"] = _to_json
    del made.globals["lipsum"], made.filters["random"]
    made.globals |= {"raise_exception": _refuse, "dict": _Dict(), "namespace": _Namespace}
    made.globals["strftime_now"] = datetime.datetime.combine(today, datetime.time()).strftime
    return made


def _refuse(message: object) -> None:
    raise RefusedError(str(message)[:300])


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
