"""The ledger of a dataset as a database to ask: DuckDB over its Parquet files, read only, without a network.

    with open_ledger(dataset) as ledger:
        ledger.find("notes/a.md")            the ids that an id, URL or locator names
        ledger.verdicts(ids)                 every verdict on documents, in order
        ledger.identity(doc_id)              source, locator and sizes
        ledger.nearest("notes/b.md")         locators like it

Views: `ledger` (with `place`, the order of stages), `documents` (id, locator …, with split, part and row; the text is
there, and not touched unless asked for), `indexed` (every document that came through `clean:`), `examples`, `clusters`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from tilth.core.files import require_utf8
from tilth.data.dataset import Dataset
from tilth.data.document import make_doc_id
from tilth.data.naming import beginnings, told_by
from tilth.data.tasks.dedup import CLUSTERS_SCHEMA
from tilth.data.tasks.examples import EXAMPLES_SCHEMA

MEMORY = "1GB"
NEAREST = 5
_TRIED = 200  # of which details may name none that can be typed
_PIECE = re.compile(r"#characters=(\d+)-(\d*)$")
_REST_OF_A_PIECE = r"^\d+-\d*(#characters=\d+-\d*)*"
_ID = re.compile(r"[0-9a-f]{32}")

# The stage is the file's name up to its last dash, the number says in which order its tasks ran.
_LEDGER = """
    CREATE VIEW ledger AS
    SELECT doc_id, stage, rule, verdict, value, detail, file_row_number AS row,
           regexp_extract(filename, '([^/]*)-[0-9]+[.]parquet$', 1) AS phase,
           regexp_extract(filename, '-([0-9]+)[.]parquet$', 1)::BIGINT AS task
    FROM ledger_files
"""
_DOCUMENTS = """
    CREATE VIEW documents AS
    SELECT doc_id, text, source, locator, license, meta, file_row_number AS row,
           regexp_extract(filename, '([^/]*)/part-[0-9]+[.]parquet$', 1) AS split,
           regexp_extract(filename, '-([0-9]+)[.]parquet$', 1)::BIGINT AS part
    FROM documents_files
"""
_INDEXED = """
    CREATE VIEW indexed AS
    SELECT doc_id, source::VARCHAR AS source, locator, "group", part_of, characters, text_bytes,
           file_row_number AS row,
           regexp_extract(filename, '-([0-9]+)[.]parquet$', 1)::BIGINT AS part
    FROM index_files
"""


@contextmanager
def open_ledger(dataset: Dataset) -> Iterator[Ledger]:
    """The database of a dataset, which may read its folder and nothing else; IntegrityError when a byte of its files is
    not what was written.
    """
    require_utf8(folder := dataset.folder.resolve())
    connection = duckdb.connect(
        config={
            "memory_limit": MEMORY,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "temp_directory": "",  # nothing that is asked here outgrows memory
        }
    )
    try:
        connection.execute("SET allowed_directories = ?", [[str(folder)]])
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield Ledger(dataset, connection)
    finally:
        connection.close()


class Ledger:
    """What is asked of a dataset; see `open_ledger`."""

    def __init__(self, dataset: Dataset, connection: duckdb.DuckDBPyConnection) -> None:
        self.dataset, self._connection = dataset, connection
        for name in ("ledger", "documents", "index"):
            self._view(f"{name}_files", name)
        self._view("examples", "examples", EXAMPLES_SCHEMA)
        self._view("clusters", "clusters", CLUSTERS_SCHEMA)
        for view in (_LEDGER, _DOCUMENTS, _INDEXED):
            connection.execute(view)
        order = list(dict.fromkeys(step["stage"] for step in dataset.facts["flow"]))
        self._phases = {name: number for number, name in enumerate(order)}

    def _view(self, name: str, kind: str, schema: pa.Schema = None) -> None:
        """Files of the dataset as one table; where there may be none, `schema` says what they would hold."""
        # A file's name could be read as a pattern; one that is there is taken as it is.
        folder = self.dataset.folder
        files = [str(folder.resolve() / path.relative_to(folder)) for path in self.dataset.files(kind)]
        if not files:
            columns = ", ".join(f"NULL AS {column}" for column in schema.names)
            self._connection.execute(f"CREATE VIEW {name} AS SELECT {columns} WHERE false")
            return
        self._connection.read_parquet(files, file_row_number=True, filename=True).create_view(name)

    def rows(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[dict[str, Any]]:
        """The rows that a query gives, by the names of its columns."""
        result = self._connection.execute(query, parameters)
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def find(self, name: str) -> list[str]:
        """The ids of the documents that are called so: by id, or by a locator (path or URL), in any source; by the
        address of a page also those that WARC files have of it.
        """
        named = [name] if _ID.fullmatch(name) else [make_doc_id(source, name) for source in self.sources]
        if "!" in name and (known := self._known(named)):  # the place of one page, and not of another that ends so
            return known
        return self._known([*named, *(self._at_address(name) if "://" in name else [])])

    def _known(self, doc_ids: Sequence[str]) -> list[str]:
        rows = self.rows(
            "SELECT doc_id FROM indexed WHERE doc_id IN ? UNION SELECT doc_id FROM documents WHERE doc_id IN ? "
            "UNION SELECT doc_id FROM ledger WHERE doc_id IN ?",
            [doc_ids] * 3,
        )
        return sorted(row["doc_id"] for row in rows)

    def _at_address(self, url: str) -> list[str]:
        """The ids of the pages of an address: those whose locator has the file before it, or a date behind it."""
        ends = [f"!{url}", f"!{url} ", f"{url} "]
        at = "ends_with({0}, ?) OR contains({0}, ?) OR starts_with({0}, ?)"
        rows = self.rows(
            f"SELECT doc_id FROM indexed WHERE {at.format('locator')} UNION "
            f"SELECT doc_id FROM documents WHERE {at.format('locator')} UNION "
            f"SELECT doc_id FROM ledger WHERE {at.format('detail')} OR contains(detail, ?)",
            [*ends * 3, f"!{url}: "],
        )
        page = re.compile(rf"(.*!)?{re.escape(url)}( .*)?", re.DOTALL)
        known = ((row["doc_id"], self.identity(row["doc_id"])["locator"]) for row in rows)
        return [doc_id for doc_id, locator in known if locator and page.fullmatch(locator)]

    @property
    def sources(self) -> list[str]:
        """The names of the sources."""
        return list(self.dataset.facts["sources"])

    def nearest(self, name: str) -> list[str]:
        """Locators that are like `name`: those that hold its last part first, then by similarity of spelling.

        All are such as `find` knows: of what a detail says, only the beginning whose hash the id is.
        """
        last = name.rstrip("/").rpartition("/")[2] or name
        rows = self.rows(
            f"""
            WITH known AS (
                SELECT locator AS near, locator, NULL AS doc_id FROM indexed UNION
                SELECT locator, locator, NULL FROM documents UNION
                SELECT CASE WHEN phase IN ('clean', 'shared_lines') THEN detail
                       ELSE regexp_replace(detail, ': .*', '', 's') END, detail, doc_id
                FROM ledger WHERE detail <> '' AND
                (phase IN ('read', 'clean', 'shared_lines') OR phase = 'decontaminate' AND verdict = 'dropped')
            )
            SELECT locator, doc_id FROM known ORDER BY contains(lower(near), lower(?)) DESC,
            jaro_winkler_similarity(lower(near), lower(?)) DESC, near, locator, doc_id LIMIT {_TRIED}
            """,
            [last, name],
        )
        told = (
            told_by(row["locator"], row["doc_id"], self.sources) if row["doc_id"] else row["locator"] for row in rows
        )
        return list(itertools.islice(dict.fromkeys(filter(None, told)), NEAREST))

    def verdicts(self, doc_ids: Iterable[str]) -> list[dict[str, Any]]:
        """Every verdict on some documents, in the order in which they were given."""
        rows = self.rows("SELECT * FROM ledger WHERE doc_id IN ?", [list(doc_ids)])
        last = len(self._phases)
        return sorted(rows, key=lambda row: (self._phases.get(row["phase"], last), row["task"], row["row"]))

    def identity(self, doc_id: str) -> dict[str, Any]:
        """Source, locator, sizes, part and row of a document; None what is not known, as of one that was dropped early.

        The ledger alone names a locator in its details, and no source: the pair whose hash is the id is the right one.
        """
        found = self.rows("SELECT * FROM indexed WHERE doc_id = ?", [doc_id])
        if found:
            return found[0]
        unknown = dict.fromkeys(("group", "part_of", "characters", "text_bytes", "row", "part"))
        split = self.rows("SELECT doc_id, source, locator FROM documents WHERE doc_id = ?", [doc_id])
        if split:
            return {**unknown, **split[0]}
        for row in self.verdicts([doc_id]):
            for locator in beginnings(row["detail"]):
                for source in self.sources:
                    if make_doc_id(source, locator) == doc_id:
                        return {**unknown, "doc_id": doc_id, "source": source, "locator": locator}
        return {**unknown, "doc_id": doc_id, "source": None, "locator": None}

    def locators(self, doc_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Source and locator of documents that came through `clean:` or into a split."""
        wanted = list(doc_ids)
        rows = self.rows(
            "SELECT doc_id, source, locator FROM documents WHERE doc_id IN ? UNION ALL "
            "SELECT doc_id, source, locator FROM indexed WHERE doc_id IN ?",
            [wanted, wanted],
        )
        return {row["doc_id"]: row for row in rows}

    def placed(self, doc_ids: Iterable[str]) -> list[dict[str, Any]]:
        """Where documents stand in the splits: split, part and row."""
        rows = self.rows(
            "SELECT doc_id, locator, license, meta, split, part, row FROM documents WHERE doc_id IN ?", [list(doc_ids)]
        )
        order = list(self.dataset.facts["splits"])
        return sorted(rows, key=lambda row: (order.index(row["split"]), row["part"], row["row"]))

    def pieces(self, source: str, locator: str) -> list[dict[str, Any]]:
        """What a document was cut into, by a stage or by the split: id and locator, in the order of the text.

        Of a piece that no later file knows, a stage's detail begins with the locator, and names no source.
        """
        start = f"{locator}#characters="
        rows = self.rows(
            "SELECT DISTINCT doc_id, locator FROM (SELECT doc_id, source, locator FROM indexed UNION ALL "
            "SELECT doc_id, source, locator FROM documents UNION ALL "
            "SELECT doc_id, $source, $start || regexp_extract(substr(detail, length($start) + 1), $rest) "
            "FROM ledger WHERE starts_with(detail, $start)) WHERE source = $source AND starts_with(locator, $start)",
            {"source": source, "start": start, "rest": _REST_OF_A_PIECE},
        )
        own = [row for row in rows if make_doc_id(source, row["locator"]) == row["doc_id"]]
        return sorted(own, key=lambda row: [int(n) for n in re.findall(r"#characters=(\d+)", row["locator"])])

    def gone_for(self, doc_id: str) -> list[dict[str, Any]]:
        """The duplicates that a document stays for: id, rule and similarity (None: the same to the letter)."""
        return self.rows(
            "SELECT doc_id, rule, CASE WHEN detail = ? THEN value::DOUBLE END AS similarity FROM ledger "
            "WHERE phase = 'deduplicate' AND (value = ? OR detail = ?) ORDER BY similarity DESC NULLS FIRST, doc_id",
            [doc_id] * 3,
        )

    def examples(self, doc_ids: Iterable[str]) -> list[dict[str, Any]]:
        """Texts before and after, where the documents are among those that were kept as examples."""
        return self.rows(
            "SELECT doc_id, stage, rule, verdict, before, after, characters FROM examples WHERE doc_id IN ?",
            [list(doc_ids)],
        )


def cut_from(source: str | None, locator: str | None) -> dict[str, list[int]]:
    """Of the documents that one was cut from, the outermost first: the id, and which characters of it (where they
    begin, and where they end: not given where that is the end of the text).
    """
    found: list[tuple[str, list[int]]] = []
    while source is not None and locator is not None and (piece := _PIECE.search(locator)):
        locator = locator[: piece.start()]
        found.insert(0, (make_doc_id(source, locator), [int(place) for place in piece.groups() if place]))
    return dict(found)
