"""What is left of documents that passages are cut out of: sentences that stay apart, and code that parses."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import textwrap
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.data.document import Document, make_doc_id
from tilth.data.leaks import cutting, decontaminate
from tilth.data.leaks.cutting import edges, without


def document_of(text: str, code: str | None = None) -> Document:
    return Document(make_doc_id("s", "1"), text, "s", "1", None, {"code": code} if code else {})


def cut(text: str, passage: str, margin: int = 0, code: str | None = None) -> str:
    document = document_of(text, code)
    at = text.index(passage)
    lows, highs = edges(document, np.array([at]), np.array([at + len(passage)]), margin)
    return without(text, [(int(lows[0]), int(highs[0]))])


def test_two_halves_of_a_text_are_paragraphs_and_words_stay_whole() -> None:
    text = "They sang the whole night through, and nobody heard the morning come to them."
    assert cut(text, "night through, and") == "They sang the whole\n\nnobody heard the morning come to them."
    assert cut(text, "ight throu", 6) == "They sang the\n\nnobody heard the morning come to them."
    assert cut(text, "They", 2) == "the whole night through, and nobody heard the morning come to them."
    assert cut("one\ntwo\nthree\nfour\n", "two\n") == "one\nthree\nfour\n", "where lines go, nothing comes between"
    wordless = "x" * 200
    assert cut(f"a {wordless} b", wordless[50:]).split()[0] == "a"


@given(st.text("ab \n\t\u3000é", max_size=60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 9))
def test_edges_go_to_white_space_on_both_sides(text: str, start: int, length: int, margin: int) -> None:
    start = min(start, len(text))
    end = min(start + length, len(text))
    document = document_of(text)
    [low], [high] = (array.tolist() for array in edges(document, np.array([start]), np.array([end]), margin))
    assert low <= max(0, start - margin) and high >= min(len(text), end + margin)
    for border in (low, high):
        edge = text[max(0, border - 1) : border + 1]
        inside = len(edge) == 2 and not any(letter.isspace() for letter in edge)
        near = text[max(0, border - 40) : border + 40]
        assert not inside or max(map(len, near.split())) >= 40
    assert not set(without(text, [(low, high)]).split()) - set(text.split())


CODE = '''"""What the module does,
and more of it at the margin.
"""
import os

# about the class
@decorated
class A:
    """Text (with a bracket
at the margin."""

    def first(self):
        return {"a": 1,
"b": 2}

# a comment in between

    def second(self): ...

if os.name == "nt":
    SEP = "\\\\"
else:
    SEP = "/"
TABLE = (
    "x"  # (
)
def last(): return TABLE
'''


@pytest.mark.parametrize(
    ("passage", "begins", "ends"),
    [
        ("at the margin.\n", '"""What', "import os"),
        ("a bracket", "# about", "if os.name"),
        ("second", "# about", "if os.name"),
        ('SEP = "/"', "if os.name", "TABLE"),
        ('"x"', "TABLE =", "def last"),
        ("last", "def last", ""),
    ],
)
def test_blocks_of_a_source_file_go_whole(passage: str, begins: str, ends: str) -> None:
    end = CODE.index(ends, CODE.index(passage)) if ends else len(CODE)
    assert cut(CODE, passage, 200, "python") == CODE[: CODE.index(begins)] + CODE[end:]


@pytest.mark.parametrize("module", [cutting, decontaminate, json, inspect, ast, textwrap])
def test_what_is_left_of_a_module_still_parses(module: ModuleType) -> None:
    text = inspect.getsource(module)
    document = document_of(text, "python")
    places = np.arange(0, len(text) - 100, max(1, len(text) // 40))
    for low, high in {*zip(*(array.tolist() for array in edges(document, places, places + 100, 200)), strict=True)}:
        left = without(text, [(low, high)])
        ast.parse(left.replace("from __future__ import annotations", ""))
        assert high > low and len(left) == len(text) - (high - low)


def test_in_other_languages_a_block_begins_after_a_blank_line_where_no_bracket_is_open() -> None:
    first = "#include <a.h>\n\n// what it does (\n"
    second = "int f(char *s)\n{\n    if (*s == '{') {\n\n        return \"}\";\n    }\n\n    return 0;\n}\n\n"
    third = "static int g;\nint h() { return g; }\n"
    text = first + second + third
    assert cut(text, "return 0", 200, "c") == "#include <a.h>\n\n" + third
    assert cut(text, "static int", 200, "c") == first + second
    ruby = "module A\n  def b\n    1\n  end\n\n  def c\n    2\n  end\nend\n\nputs A.b\n"
    assert cut(ruby, "def c", 0, "ruby") == "puts A.b\n"
    assert cut("f(a {\n\nb\n\nc\n", "b", 0, "java") == "", "what is never closed goes on to the end"


@given(st.lists(st.sampled_from(['"', "'", '"""', "(", ")", "\\", "\n", "#", "/*", "*/", "//", " ", "a", "\n\n"])))
def test_blocks_of_any_text_are_in_order_and_begin_lines(pieces: list[str]) -> None:
    text = "".join(pieces)
    for indented in (True, False):
        blocks = list(cutting._blocks(text, indented=indented))
        assert blocks[0] == 0 and all(a < b for a, b in itertools.pairwise(blocks))
        assert all(text[at - 1] == "\n" and not text[at].isspace() for at in blocks[1:])
