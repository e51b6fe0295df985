"""The embedded default: all of it, the same everywhere, and nothing of this machine."""

from __future__ import annotations

import ast
import json
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from tilth.core.errors import DataError
from tilth.data.document import Document, Outcome, documents_table
from tilth.data.sources import SourceConfig, list_inputs, read_input
from tilth.data.sources.docstrings import reference
from tilth.data.sources.python_docs import list_modules

pytestmark = pytest.mark.slow

CONFIG = SourceConfig(builtin="python_docs")


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return [o for item in list_inputs(CONFIG, Path(), Path()) for o in read_input(item, CONFIG)]


@pytest.fixture(scope="module")
def documents(outcomes: list[Outcome]) -> dict[str, Document]:
    return {o.document.locator: o.document for o in outcomes if o.document}


@pytest.mark.slow
def test_it_is_a_corpus(outcomes: list[Outcome], documents: dict[str, Document]) -> None:
    size = Counter[str]()
    for locator, document in documents.items():
        size[locator.partition(":")[0]] += len(document.text.encode())
    assert set(size) == {"topic", "doc", "source"}
    assert size["topic"] > 300_000 and size["doc"] > 1_000_000 and size["source"] > 6_000_000
    assert len(documents) == sum(o.document is not None for o in outcomes)  # no locator twice
    assert documents_table(documents.values()).num_rows == len(documents)
    assert {document.license for document in documents.values()} == {"PSF-2.0"}
    assert {document.source for document in documents.values()} == {"python_docs"}


def test_well_known_places(documents: dict[str, Document]) -> None:
    assert "iterate over the elements of a sequence" in " ".join(documents["topic:for"].text.split())
    assert documents["source:textwrap.py"].text == Path(textwrap.__file__).read_text(encoding="utf-8")
    assert documents["source:textwrap.py"].meta["code"] == "python"
    assert "code" not in documents["doc:textwrap"].meta, "its page is prose"
    page = documents["doc:textwrap"].text
    assert page.startswith("textwrap\n========\n\nText wrapping and filling.")
    assert "\ndedent(text)\n    Remove any common leading whitespace from every line in `text`." in page
    assert "\nTextWrapper.wrap(text)\n" in page
    assert "source:json/decoder.py" in documents and "doc:json.decoder" in documents and "doc:json" in documents


def test_what_is_left_out(documents: dict[str, Document]) -> None:
    parts = {part for locator in documents for part in locator.partition(":")[2].split("/")[:-1]}
    assert not parts & {"test", "tests", "idle_test", "site-packages", "__pycache__", "encodings"}
    assert not any("_sysconfigdata" in locator or "sitecustomize" in locator for locator in documents)
    assert "source:pydoc_data/topics.py" not in documents  # its texts are in as topics


def test_nothing_names_this_machine(documents: dict[str, Document]) -> None:
    prefix = sys.base_prefix
    for item in list_inputs(CONFIG, Path(), Path()):
        assert prefix not in json.dumps(item.identity())
    assert not any(prefix in locator for locator in documents)
    if len(prefix) > len("/usr/local"):  # /usr is in many a comment
        assert not any(prefix in document.text for document in documents.values())


def library(folder: Path) -> Path:
    files = {
        "pydoc_data/topics.py": "topics = {'b': 'about b', 'a': 'about a'}\n",
        "plain.py": "x = 1\n",
        "said.py": '"""Says."""\ndef f(a, /, b=1, *, c): "It is f."\ndef _g(): "hidden"\n',
        "pack/__init__.py": "",
        "pack/latin.py": "# -*- coding: latin-1 -*-\n# é\n",
        "broken.py": "def (:\n",
        "pack/test/test_it.py": "x = 1\n",
        "site-packages/other.py": "x = 1\n",
        "config-3-x/config.py": "x = 1\n",
        "_sysconfigdata_here.py": "x = 1\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="latin-1" if "latin" in name else "utf-8")
    (folder / "undecodable.py").write_bytes(b"# \xff\xfe no coding\n")
    (folder / "linked.py").symlink_to(__file__)
    return folder


def test_a_small_library_is_read_to_the_letter(tmp_path: Path) -> None:
    found = [(i, o) for i in list_modules("docs", library(tmp_path)) for o in read_input(i, CONFIG)]
    texts = {o.document.locator: o.document.text for _, o in found if o.document}
    assert list(texts.items()) == [
        ("topic:a", "about a"),
        ("topic:b", "about b"),
        ("source:pack/latin.py", "# -*- coding: latin-1 -*-\n# é\n"),
        ("source:plain.py", "x = 1\n"),
        ("doc:said", "said\n====\n\nSays.\n\nf(a, /, b=1, *, c)\n    It is f.\n"),
        ("source:said.py", '"""Says."""\ndef f(a, /, b=1, *, c): "It is f."\ndef _g(): "hidden"\n'),
    ]
    dropped = {i.locator: o.verdicts[0].rule for i, o in found if o.document is None}
    assert dropped == {
        "module:broken.py": "unparsable",
        "module:pack/__init__.py": "empty",
        "module:undecodable.py": "unparsable",
    }


def test_it_is_the_same_wherever_python_lies(tmp_path: Path) -> None:
    first, second = (list_modules("docs", library(tmp_path / place)) for place in ("a", "b"))
    assert [i.identity() for i in first] == [i.identity() for i in second]
    ids = [[o.document.doc_id for i in items for o in read_input(i, CONFIG) if o.document] for items in (first, second)]
    assert ids[0] == ids[1]


def test_a_python_without_sources_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sources of its standard library"):
        list_modules("docs", tmp_path)


def test_a_library_that_changes_under_way_is_an_error(tmp_path: Path) -> None:
    library(tmp_path)
    item = next(i for i in list_modules("docs", tmp_path) if i.locator == "module:plain.py")
    item.path.write_text("x = 2\n")
    with pytest.raises(DataError, match="changed while it was used"):
        list(read_input(item, CONFIG))


def test_signatures() -> None:
    source = '''
"""Top."""
class A(B, C):
    """A class."""
    @property
    def p(self): "A property."
    @staticmethod
    def s(x): "Static."
    @classmethod
    def c(cls, x=(1, 2)): "Class."
    async def m(self, /, *args: int, k: str = "a, b") -> None: "Method."
    def undocumented(self): pass
class D:
    def __init__(self, n, *, m): pass
    def only(self): "Member."
class E: pass
if True:
    def branch(): "In a branch."
try:
    def tried(): "In a try."
finally:
    pass
'''
    page = reference("mod", ast.parse(source))
    heads = [line for line in page.splitlines() if line and not line.startswith(" ")]
    assert heads == [
        "mod",
        "===",
        "Top.",
        "class A(B, C)",
        "A.p",
        "A.s(x)",
        "A.c(x=(1, 2))",
        "async A.m(*args: int, k: str='a, b') -> None",
        "class D(n, *, m)",
        "D.only()",
        "branch()",
        "tried()",
    ]
    assert reference("mod", ast.parse("def f(): pass")) == ""
