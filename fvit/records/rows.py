"""Tidy rows of measurements: their schema, and the files that hold them."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd

from fvit.base.checks import as_integer, check_text
from fvit.base.files import alone, write_atomic
from fvit.records.ledger import MEND, _lines

SCHEMA = {"run_id": "str", "profile": "str", "dataset": "str", "image_id": "str", "model": "str", "method": "str",
          "smoothing": "str", "sigma": "float64", "n_samples": "Int64", "attack": "str", "eps": "float64",
          "norm": "str", "metric": "str", "value": "float64", "ci_low": "float64", "ci_high": "float64"}
MEASURED = ["value", "ci_low", "ci_high"]
KEY = [column for column in SCHEMA if column not in MEASURED]  # what a row is about


def append_rows(rows, path, *, replace=True) -> None:
    """Add tidy rows to the CSV at `path`; each call leaves a whole file, so a stopped run keeps what it has.

    rows      DataFrame or records with columns of SCHEMA; missing ones are filled with "" or NaN
    replace   a row about the same thing (equal in KEY: all but the measured columns) takes the place of the old one,
              and the file is sorted by KEY: a rerun with no change gives no diff. False keeps every row, in order.

    Measured numbers are written with six figures; sigma and eps exactly, so `rows.eps == 8 / 255` still finds them.
    Raises ValueError for unknown columns and values that do not fit a column's dtype.
    """
    try:
        table = pd.DataFrame(rows)
    except (ValueError, TypeError) as error:
        raise ValueError(f"rows are a {type(rows).__name__} that makes no table ({error}); give records") from None
    path, table = Path(path), _conform(table, "rows")
    with alone(path):
        if path.exists():
            table = pd.concat([read_rows(path), table], ignore_index=True)
        if replace:
            table = table.drop_duplicates(KEY, keep="last").sort_values(KEY, na_position="first", kind="stable")
        printed = table.astype({column: object for column in MEASURED})
        for column in MEASURED:
            printed[column] = [f"{v:.6g}" if v == v else "" for v in table[column]]
        write_atomic(path, printed.to_csv(index=False, lineterminator="\n"))


def read_rows(path) -> pd.DataFrame:
    """The tidy rows at `path`, with the columns and dtypes of SCHEMA; ValueError if the file has others."""
    # Not by pandas, which guesses: "NA" and "007" are ids like any other, and a line with a field too many is an error.
    header, *lines = _lines(path)
    if header != list(SCHEMA):
        raise ValueError(f"{path} has columns {header}, wanted {list(SCHEMA)}; if it is a table of tidy rows, {MEND}")
    try:
        return _conform(pd.DataFrame(lines, columns=header).replace("", None), path)
    except ValueError as error:
        raise ValueError(f"{error}; {MEND}") from None


def _conform(table, where):
    unknown = [column for column in table if column not in SCHEMA]
    if unknown:
        raise ValueError(f"{where}: unknown columns {unknown}, known: {', '.join(SCHEMA)}")
    return pd.DataFrame({column: _typed(table.get(column), column, len(table), where) for column in SCHEMA})


def _typed(values, column, n, where):
    dtype = SCHEMA[column]
    try:
        values = [None] * n if values is None else [None if pd.isna(value) else value for value in values]
        if dtype == "str":
            if any(not isinstance(value, str | None) and as_integer(value) is None for value in values):
                raise TypeError("text or integers only: a float id changes its name on the way (7 becomes 7.0)")
            texts = ["" if value is None else str(value) for value in values]
            return pd.Series([check_text(text, "it") if text.strip() else text for text in texts], dtype=dtype)
        numbers = pd.Series([np.nan if value is None else float(value) for value in values], dtype="float64")
        if dtype == "Int64" and numbers.abs().max() > 2**53:
            raise TypeError("no count, or one beyond 2**53")
        return numbers.astype(dtype)  # to Int64 only where no fraction is lost
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{where}: column {column} is not {dtype}: {error}") from None


def save_rows(rows: pd.DataFrame, path: Path | str) -> Path:
    """Write tidy rows as a Parquet file, whole or not at all; the same rows give the same bytes."""
    return write_atomic(path, _parquet(rows))


def _parquet(rows: pd.DataFrame) -> bytes:
    out = io.BytesIO()
    table = rows.astype({column: "category" for column, kind in SCHEMA.items() if kind == "str"})
    table.attrs["sha256"] = _digest(rows)  # Parquet's own checksums leave out its footer
    table.to_parquet(out, index=False, compression="zstd")
    return out.getvalue()


def load_rows(path: Path | str | io.BytesIO) -> pd.DataFrame:
    """The tidy rows of a Parquet file, with the columns and dtypes of results.SCHEMA; ValueError if it has others."""
    whole = path if isinstance(path, io.BytesIO) else io.BytesIO(Path(path).read_bytes())
    try:
        rows = pd.read_parquet(whole)
    except Exception as error:  # pyarrow's own classes, OSError without a path among them
        mend = "delete it and run again"
        raise ValueError(f"{path} is no whole Parquet file ({type(error).__name__}); {mend}") from error
    if list(rows) != list(SCHEMA):
        raise ValueError(f"{path} has columns {list(rows)}, wanted {list(SCHEMA)}; it is not a table of tidy rows")
    stated = rows.attrs.pop("sha256", None)
    try:
        rows = rows.astype(SCHEMA)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} has columns of other kinds ({error}); delete it and run again") from error
    if stated not in (None, _digest(rows)):
        raise ValueError(f"{path} is damaged: its rows are not those that were written; delete it and run again")
    return rows


def _digest(rows: pd.DataFrame) -> str:
    return hashlib.sha256(rows.to_csv(index=False, lineterminator="\n").encode()).hexdigest()


COLUMNS = ("run_id profile dataset image_id model method smoothing sigma n_samples attack eps norm metric value"
           " ci_low ci_high").split()  # of every results table
REPREDICTED = " (re-predicted)"  # suffix of a metric whose map explains the class predicted under attack
