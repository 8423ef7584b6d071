"""Tidy rows of measurements: their schema, and the Parquet files that hold them."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd

from fvit.base.checks import as_integer, check_text
from fvit.base.files import write_atomic
from fvit.records.words import CODES, NO_ATTACK, NO_LEVEL, ONE_DRAW, TOP_SET, check_word

SCHEMA = {"run_id": "str", "profile": "str", "dataset": "str", "image_id": "str", "model": "str", "method": "str",
          "explained": "str", "defence": "str", "sigma": "float64", "n_samples": "Int64", "aim": "str",
          "made_on": "str", "eps": "float64", "norm": "str", "certificate": "str", "k": "Int64", "level": "float64",
          "variant": "str", "metric": "str", "value": "float64", "ci_low": "float64", "ci_high": "float64"}
KEY = [column for column in SCHEMA if column not in ("value", "ci_low", "ci_high")]  # what a row is about
MEND = "delete it and run again"


def conform(rows, **given) -> pd.DataFrame:
    """Rows with the columns, order and dtypes of SCHEMA.

    rows    DataFrame or records with columns of SCHEMA; missing text is "", `defence` and `aim` "none", numbers NaN
    given   column=value for the cells that rows leave missing, where the column says something: `sigma` and `n_samples`
            where noise is added or a level told, `eps` and `norm` where there is an attack, `k` where the metric is of
            a top set. Elsewhere these are 0, 1, 0, "" and missing

    Raises ValueError for unknown columns or words, and for values that do not fit a column's dtype.
    """
    try:
        table = pd.DataFrame(rows)
    except (ValueError, TypeError) as error:
        raise ValueError(f"rows are a {type(rows).__name__} that makes no table ({error}); give records") from None
    if unknown := [column for column in [*table, *given] if column not in SCHEMA]:
        raise ValueError(f"rows have unknown columns {unknown}, known: {', '.join(SCHEMA)}")
    table = pd.DataFrame({column: _typed(table.get(column), column, len(table)) for column in SCHEMA})
    for column, otherwise in {"defence": "none", "aim": "none", "metric": ""}.items():
        table[column] = table[column].replace("", given.get(column, otherwise))
    for column in CODES:
        for word in table[column].unique():
            check_word(word, column)
    told, attacked = ~table["defence"].isin(NO_LEVEL), ~table["aim"].isin(NO_ATTACK)
    says = {"sigma": (told, 0.0), "n_samples": (told & ~table["defence"].isin(ONE_DRAW), 1),
            "eps": (attacked, 0.0), "norm": (attacked, ""), "k": (table["metric"].isin(TOP_SET), None)}
    for column in {**given, **says}:
        missing = table[column].isna() | (table[column] == "")
        where, otherwise = says.get(column, (missing, None))
        for cells, value in ((missing & where, given.get(column)), (missing & ~where, otherwise)):
            table[column] = table[column] if value is None else table[column].mask(cells, value)
    return table


def _typed(values, column, n):
    kind = SCHEMA[column]
    values = pd.Series([None] * n if values is None else values.astype(object).to_numpy(), dtype=object)
    missing = values.isna()
    try:
        if kind == "str":
            texts = {text: _text(text) for text in values[~missing].unique()}
            return values.map(texts).where(~missing, "").astype(kind)
        return pd.to_numeric(values.mask(missing, float("nan"))).astype("float64").astype(kind)
    except (TypeError, ValueError, OverflowError) as error:  # a fraction that is to be a count among them
        raise ValueError(f"rows: column {column} is not {kind}: {error}") from None


def _text(value):
    if not isinstance(value, str) and as_integer(value) is None:
        raise TypeError("text or integers only: a float id changes its name on the way (7 becomes 7.0)")
    return check_text(str(value), "it") if str(value).strip() else str(value)


def save_rows(rows, path: Path | str, **given) -> Path:
    """Write `conform(rows, **given)` as a Parquet file, whole or not at all; the same rows give the same bytes.

    Raises ValueError as `conform` does, and where two rows are about the same thing: equal in KEY.
    """
    rows = conform(rows, **given)
    if (twice := rows.duplicated(KEY)).any():
        about = {name: cell for name, cell in rows.loc[twice.idxmax(), KEY].items() if pd.notna(cell) and cell != ""}
        raise ValueError(f"{twice.sum()} rows of {Path(path).name} are about what another is about, first {about}; "
                         "say in `variant`, `level` or `explained` what tells them apart")
    return write_atomic(path, _parquet(rows))


def _parquet(rows: pd.DataFrame) -> bytes:
    out = io.BytesIO()
    table = rows.copy()
    table.attrs["sha256"] = _digest(rows)  # Parquet's own checksums leave out its footer
    table.to_parquet(out, index=False, compression="zstd")
    return out.getvalue()


def load_rows(path: Path | str | io.BytesIO) -> pd.DataFrame:
    """The tidy rows of a Parquet file, with the columns and dtypes of SCHEMA; ValueError if it has others."""
    whole = path if isinstance(path, io.BytesIO) else io.BytesIO(Path(path).read_bytes())
    try:
        rows = pd.read_parquet(whole)
    except Exception as error:  # pyarrow's own classes, OSError without a path among them
        raise ValueError(f"{path} is no whole Parquet file ({type(error).__name__}); {MEND}") from error
    if list(rows) != list(SCHEMA):
        raise ValueError(f"{path} has columns {list(rows)}, wanted {list(SCHEMA)}; it is not a table of tidy rows")
    stated = rows.attrs.pop("sha256", None)
    try:
        rows = rows.astype(SCHEMA)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} has columns of other kinds ({error}); {MEND}") from error
    if stated not in (None, _digest(rows)):
        raise ValueError(f"{path} is damaged: its rows are not those that were written; {MEND}")
    return rows


def _digest(rows: pd.DataFrame) -> str:
    found = hashlib.sha256()
    for column, kind in SCHEMA.items():
        values = rows[column]
        found.update("\n".join(values).encode() if kind == "str" else
                     values.to_numpy("float64", na_value=np.nan).tobytes())
    return found.hexdigest()
