"""CSV tables with one row a key: claims and figures on record."""

import csv
import io
import re
from pathlib import Path

from fvit.base.files import alone, write_atomic

MEND = "restore it by git, or delete it and run again"


def upsert(path, row: dict, *, key, columns) -> None:
    """Add `row` to the CSV at `path`, or replace the row of the same key; sorted by key (P1.2 before P1.10), atomic.

    Notebooks that run side by side may do so at once: each waits for its turn.
    """
    path, out = Path(path), io.StringIO()
    new = {column: f"{row[column]:.6g}" if isinstance(row[column], float) else str(row[column]) for column in columns}
    with alone(path):
        old = read_table(path) if path.exists() else []
        if old and not set(key) <= set(old[0]) <= set(columns):
            raise ValueError(f"{path} has columns {list(old[0])}, wanted {list(columns)}; {MEND}")
        table = {tuple(r[k] for k in key): r for r in [*old, new]}
        writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table[k] for k in sorted(table, key=natural))
        write_atomic(path, out.getvalue())


def natural(key):
    """Sort key of several texts, by the numbers in them: P1.2 before P1.10."""
    parts = [re.split("([0-9]+)", text) for text in key]
    return [[(len(p.lstrip("0")), p.lstrip("0")) if at % 2 else p for at, p in enumerate(part)] for part in parts]


def read_table(path) -> list[dict[str, str]]:
    """The rows of a CSV that was written here, as text; ValueError if it is damaged, as far as plain text shows it."""
    try:
        return rows_of(Path(path).read_text(encoding="utf-8"), path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); {MEND}") from error


def rows_of(text: str, path) -> list[dict[str, str]]:
    """`read_table` of the text of the file at `path`."""
    try:
        header, *lines = [*csv.reader(io.StringIO(text, newline=""), strict=True)] or [[]]
    except csv.Error as error:
        raise ValueError(f"{path} is damaged ({error}); {MEND}") from error
    for number, line in enumerate(lines, 1):
        if len(line) != len(header):
            raise ValueError(f"{path}: row {number} has {len(line)} fields, wanted {len(header)}; remove it, run again")
    if text[-1:] not in ("", "\n"):
        raise ValueError(f"{path} is cut off in its last row; remove it, run again")
    return [dict(zip(header, line, strict=True)) for line in lines]
