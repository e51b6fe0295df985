"""A program of its own: columns of a Deep Lake data set to a Parquet file.

    python deeplake_export.py FOLDER FILE COLUMN…

Run by deeplake.py, never imported by tilth: the library is 128 MB of native code that sends reports of itself over the
network, so it runs where a crash ends only this process, and where the network is out of its reach. What it has to say
is one line of JSON: {"rows": n}, or {"fault": …, "columns": {name: type}}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

_ROWS = 256
_NUMBERS = {
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64", "bool"),
}


def main(folder: str, file: str, columns: list[str]) -> dict[str, Any]:
    """Exports; returns what is to be said."""
    import deeplake  # type: ignore[import-not-found, unused-ignore]

    try:
        data = deeplake.open_read_only(folder)
    except Exception as error:  # its errors have no common base
        return {"fault": f"it is no Deep Lake data set that can be read: {error}"}
    known = {column.name: str(column.dtype) for column in data.schema.columns}
    if missing := [name for name in columns if name not in known]:
        return {"fault": f"it has no column {missing[0]!r}", "columns": known}
    if other := [name for name in columns if _kind(known[name]) is None]:
        return {"fault": f"its column {other[0]!r} holds {known[other[0]]}, no text, number or dict", "columns": known}
    return {"rows": _write(data, file, {name: known[name] for name in columns})}


def _write(data: Any, file: str, columns: dict[str, str]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, getattr(pa, _kind(kind) or "")()) for name, kind in columns.items()])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for start in range(0, len(data), _ROWS):
            cells = {name: list(_cells(data[name][start : start + _ROWS], columns[name])) for name in columns}
            writer.write_table(pa.table(cells, schema=schema))
    return len(data)


def _kind(dtype: str) -> str | None:
    """Arrow's name for a type of Deep Lake; None for vectors, pictures and the like."""
    if dtype.startswith("text") or dtype == "dict":
        return "large_string"
    if dtype == "bool":
        return "bool_"
    return dtype if dtype in _NUMBERS else None


def _cells(values: Any, dtype: str) -> Iterator[Any]:
    for value in values.tolist() if hasattr(values, "tolist") else values:
        yield str(value) if dtype == "dict" and value is not None else value  # a dict's text is its JSON


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], sys.argv[3:])))
