"""What is left of documents that passages are cut out of: sentences that stay apart, and code that parses."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import textwrap
import time
from types import ModuleType

import numpy as np
import pytest
from hypothesis import example, given
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


HEADER = r"""#ifndef LIST_H
#define LIST_H

#include <stddef.h>
#include "z.h"

#ifdef __cplusplus
extern "C" {
#endif

// what it is

struct list { int first; };

int length(struct list *l);
#define BOTH(a) \
f((a), \
  g(
#ifdef LONG
int sum(long a) {
#else
int sum(int a) {
#endif
    return a;
}

#ifdef __cplusplus
}
#endif
#endif /* LIST_H */
"""


def conditions(text: str) -> int:
    depth = 0
    for line in text.splitlines():
        depth += line.startswith("#if") - line.startswith("#endif")
        assert depth >= 0
    return depth


@pytest.mark.parametrize("extern", [True, False])
def test_what_is_left_of_a_header_keeps_its_guard_and_its_includes(extern: bool) -> None:
    plus = ('#ifdef __cplusplus\nextern "C" {\n#endif\n\n', "#ifdef __cplusplus\n}\n#endif\n")
    header = HEADER if extern else HEADER.replace(plus[0], "").replace(plus[1], "")
    for at in range(len(header) - 9):
        place = np.array([at])
        low, high = (int(array[0]) for array in edges(document_of(header, "c"), place, place + 9, 0))
        left = without(header, [(low, high)])
        assert high > low and left.startswith("#ifndef LIST_H\n") and left.endswith("#endif /* LIST_H */\n")
        assert conditions(left) == 0, left
    assert cut(header, "int first", 0, "c").count("#include") == 2
    if not extern:
        assert cut(header, "int first", 0, "c") == header.replace("struct list { int first; };\n\n", "")
        assert "f((a)" not in cut(header, "define BOTH", 0, "c") and "  g(" not in cut(header, "define BOTH", 0, "c")


@pytest.mark.parametrize(
    ("code", "whole"),
    [
        ("javascript", "const q = `\nquery A { x\n\nMIDDLE ${a} it's (\n\n`;\n"),
        ("go", "const q = `C:\\`\nconst usage = `Usage (\n\nMIDDLE\n`\n"),
        ("julia", '"""\n    f(x)\n\nCompute MIDDLE (\n\nof x.\n"""\nfunction f(x)\n  x\nend\n'),
        ("kotlin", 'val a = """\nit\'s\n\nMIDDLE {\n\n"""\n'),
        ("shell", "cat > conf <<EOF | sort\nfirst (\n\nMIDDLE part\n\nEOF\n"),
        ("shell", "cat << 'E' <<-F\nfirst (\n\nE\nmore\n\nMIDDLE part {\n\n\tF\n"),
        ("ruby", "s = f(<<~SQL, 1)\n  it's\n\nMIDDLE\n\n  SQL\n"),
        ("php", "$x = <<<'EOT'\nit's\n\nMIDDLE {\n\nEOT;\n"),
        ("ruby", "=begin\nabc (\n\nMIDDLE def\n\n=end\n"),
        ("perl", "=head1 NAME\n\ndon't (\n\nMIDDLE def\n\n=cut\n"),
        ("shell", "cat <<\\EOF\n$(\n\nMIDDLE part\n\nEOF\n"),
        ("perl", "print <<'!END!', 1;\nit's\n\nMIDDLE {\n\n!END!\n"),
        ("rust", 'const A: &str = r#"\n"(\n\nMIDDLE\n\n"#;\n'),
        ("c++", 'auto a = R"x(\n)" (\n\nMIDDLE\n\n)x";\n'),
        ("c#", 'var a = @"C:\\""(\n\nMIDDLE\n\n";\n'),
        ("sql", "CREATE FUNCTION f() RETURNS int AS $f$\nit's (\n\nMIDDLE\n\n$f$ LANGUAGE sql;\n"),
        ("lua", "a = [=[\n]] (\n\nMIDDLE\n\n]=]\n"),
        ("lua", "--[[ don't (\n\nMIDDLE\n\n]]\n"),
        ("powershell", '$a = @"\nit\'s (\n\nMIDDLE\n\n"@\n'),
        ("powershell", "<# don't (\n\nMIDDLE\n\n#>\n"),
    ],
)
def test_strings_and_comments_over_several_lines_go_whole(code: str, whole: str) -> None:
    text = f"first = 1\n\n{whole}\nlast = 2\n\nclass << self\n"
    assert cut(text, "MIDDLE", 0, code) == "first = 1\n\nlast = 2\n\nclass << self\n"
    if code != "julia" and not whole.startswith("--"):
        unclosed = text[: text.index("MIDDLE") + 7] + "\n\nmore\n\nlast"
        assert cut(unclosed, "last", 0, code) == "first = 1\n\n", "what is never closed goes on to the end"


@pytest.mark.parametrize(
    ("code", "whole"),
    [
        ("shell", 'usage="Usage: $0 \\"X\\" (\n\nMIDDLE\n\nit\'s"\n'),
        ("shell", "awk '\n{ print \"\n\nMIDDLE\n\n}'\n"),
        ("shell", "a=$'it\\'s (\n\nMIDDLE\n\n'\n"),
        ("perl", 'print "Usage: (\n\nMIDDLE\n\n";\n'),
        ("ruby", 'puts "Usage: (\n\nMIDDLE\n\n"\n'),
        ("rust", "fn f<'a>(c: &'a str) {}\nconst A: &str = \"it's (\n\nMIDDLE\n\n\";\n"),
        ("tcl", 'puts "it\'s {\n\nMIDDLE\n\n"\n'),
        ("r", "cat('(\n\nMIDDLE\n\n\"')\n"),
        ("sql", "INSERT INTO a VALUES (1, 'it''s (\n\nMIDDLE\n\n');\n"),
    ],
)
def test_strings_in_plain_quotes_go_whole_where_they_may_go_over_lines(code: str, whole: str) -> None:
    text = f"first = 1\n\n{whole}\nlast = 2\n"
    assert cut(text, "MIDDLE", 0, code) == "first = 1\n\nlast = 2\n"
    assert cut(text, "last", 0, code) == f"first = 1\n\n{whole}\n"


def test_a_comment_that_begins_on_the_line_of_a_directive_goes_with_it() -> None:
    defined = ["#define ONE 1 /* don't (\n * MIDDLE\n */ + \\\n 2 // {\n", '#define GLOB "/*" /* {\n\nMIDDLE */\n']
    for whole in defined:
        text = f"int first;\n\n{whole}int last;\n"
        assert cut(text, "MIDDLE", 0, "c") == "int first;\n\nint last;\n"
        assert cut(text, "last", 0, "c") == f"int first;\n\n{whole}"
    open_ended = "int first;\n\n#define A /* (\nint last;\n"
    assert cut(open_ended, "define", 0, "c") == "int first;\n\nint last;\n", "it is never closed"


@pytest.mark.parametrize("code", ["shell", "python", "javascript", "c", "rust", "sql"])
@pytest.mark.parametrize("unit", ['\\"', "\\'", '"\\', "#define a /*\n", '#define "\\', "$a$", 'r#"', "<<'a'\n", "[=["])
def test_the_time_is_in_proportion_to_the_text(code: str, unit: str) -> None:
    began = time.process_time()
    assert len(list(cutting._blocks(unit * (100_000 // len(unit)), code))) > 0
    assert time.process_time() - began < 3


def test_a_path_with_a_star_begins_no_comment() -> None:
    text = "".join(f"cp -r src{n}/* out/part{n}\n\n" for n in range(1000))
    left = text.replace("cp -r src500/* out/part500\n\n", "")
    assert cut(text + "a */ b\n", "part500", 0, "shell") == left + "a */ b\n"
    assert cut(text, "part500", 0, "c") == left, "none is ever closed"


def test_white_space_between_cuts_and_at_the_ends_of_a_document_goes_with_them() -> None:
    text = "\n" * 400 + "one" + " \n" * 400 + "two" + "\u3000" * 400
    for code in (None, "python", "c"):
        starts = np.array([text.index("one"), text.index("two")])
        lows, highs = edges(document_of(text, code), starts, starts + 3, 0)
        assert (highs - lows).sum() == len(text) and lows[0] == 0 and highs[0] == lows[1]


PIECES = ['"', "'", '"""', "(", ")", "\\", "\n", "#", "/*", "*/", "//", " ", "a", "\n\n", "`", "<<a", "#if x\n"]


@given(st.lists(st.sampled_from(PIECES)))
@example(["#if x\n", "\n", " ", '"'])
def test_blocks_of_any_text_are_in_order_and_begin_lines(pieces: list[str]) -> None:
    text = "".join(pieces)
    for code in ("python", "c", "shell", "ruby", "javascript", "kotlin"):
        blocks = [place for place, _ in cutting._blocks(text, code)]
        assert blocks[0] == 0 and all(a < b for a, b in itertools.pairwise(blocks))
        assert all(text[at - 1] == "\n" for at in blocks[1:])
        odd = [at for at in blocks[1:] if text[at].isspace() and not text[at:].lstrip(" ").startswith("#if")]
        above = [text[:at].rstrip().rpartition("\n")[2].strip() for at in odd]
        assert all(line.startswith("#if") for line in above), "what follows a directive is a block, indented or not"
