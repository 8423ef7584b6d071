"""What a run found, on disk: the ledger of claims, tidy rows of measurements, and the versions they came from."""

import csv
import html
import io
import math
import operator
import platform
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd

from fvit import profiles
from fvit.checks import as_integer, as_list, as_number, check_choice, check_text
from fvit.intervals import Interval
from fvit.paths import alone, results_dir, write_atomic

RELATIONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
CLAIM_COLUMNS = ["claim", "profile", "notebook", "status", "text", "value", "ci_low", "ci_high", "n", "n_groups",
                 "relation", "bound", "source", "expected", "note"]
SCHEMA = {"run_id": "str", "profile": "str", "dataset": "str", "image_id": "str", "model": "str", "method": "str",
          "smoothing": "str", "sigma": "float64", "n_samples": "Int64", "attack": "str", "eps": "float64",
          "norm": "str", "metric": "str", "value": "float64", "ci_low": "float64", "ci_high": "float64"}
MEND = "restore it by git, or delete it and run again"
MEASURED = ["value", "ci_low", "ci_high"]
KEY = [column for column in SCHEMA if column not in MEASURED]  # what a row is about


class ClaimError(AssertionError):
    """A claim did not come out as expected; it is on record all the same."""


@dataclass(frozen=True)
class Claim:
    """One claim as decided. Its text is the same on every machine; the measured number stands in the HTML only."""

    claim: str
    text: str
    value: float
    ci: tuple[float, float] | None
    relation: str
    bound: float
    source: str
    expected: str
    note: str
    n: int | None = None
    n_groups: int | None = None

    @property
    def status(self) -> str:
        """PASS if value and, where given, the whole interval satisfy the relation; DIFFERS if that is not shown."""
        holds = RELATIONS[self.relation]
        return "PASS" if all(holds(v, self.bound) for v in (self.value, *(self.ci or ()))) else "DIFFERS"

    @property
    def measured(self) -> str:
        interval = f" [{self.ci[0]:.3g}, {self.ci[1]:.3g}]" if self.ci else ""
        undecided = bool(self.ci) and self.ci[0] <= self.bound <= self.ci[1]
        size = f", n = {self.n}{f' on {self.n_groups} photographs' if self.n_groups else ''}" if self.n else ""
        return f"{self.value:.3g}{interval}{size}{', the interval holds the bound: undecided' if undecided else ''}"

    def __repr__(self) -> str:
        return f"{self.status} {self.claim}  {self.text} ({self.relation} {_bound_text(self.bound)})"

    def _repr_html_(self) -> str:
        note = f"<br>{html.escape(self.note)}" if self.note else ""
        return (f"<div><b>{self.status}</b> {html.escape(repr(self).split(' ', 1)[1])}: measured "
                f"<b>{html.escape(self.measured)}</b> <i>({html.escape(self.source)})</i>{note}</div>")


@dataclass(frozen=True)
class Untested:
    """In the place of a claim's value where there is nothing to measure it on: the images have no masks, say."""

    why: str
    what: str = ""

    def __repr__(self) -> str:
        return f"NOT TESTED {self.what}{': ' * bool(self.what)}{self.why}"


def claim(claim_id, text, value, relation, bound, *, source, ci=None, expected="PASS", note="") -> Claim | Untested:
    """Test `value relation bound`, put the outcome on record in claims.csv of the current profile, and show it.

    value      a number, or an `intervals.Interval`, which brings its ci, n and n_groups along; `Untested` puts nothing
               on record and is shown with its reason: never at `laptop`, where every claim is tested
    ci         (low, high) of the value. A claim with an interval passes only if the whole interval satisfies the
               relation: a bound inside it would be a verdict by luck. DIFFERS then means "not shown".
    bound      from theory, or with a margin of several standard errors; the text says which
    expected   "DIFFERS" for a claim known not to hold; that it suddenly holds is then the surprise

    Raises ClaimError, after recording, if the outcome is not the expected one and the profile is `laptop`; elsewhere
    the run goes on. Raises ValueError for NaN, an unknown relation, or if no profile is set.
    """
    if profiles.current is None:
        raise ValueError(f"claim {claim_id} has no profile to be filed under; call cfg = fvit.profile('laptop') first")
    check_choice(relation, RELATIONS, "relation")
    check_choice(expected, ("PASS", "DIFFERS"), "expected verdict")
    for word, words in {"id": claim_id, "text": text, "source": source}.items():
        check_text(words, f"claim {claim_id!r} needs an id, a text and a source ('ours' is one): its {word}")
    note = "" if isinstance(note, str) and not note else check_text(note, f"note of claim {claim_id}")
    if isinstance(value, Untested):
        if profiles.current.name == "laptop":
            raise ClaimError(f"{claim_id} {text}: not tested, {value.why}; wanted a value, as all have at laptop")
        return Untested(value.why, f"{claim_id}  {text}")
    size = (value.n, value.n_groups) if isinstance(value, Interval) else (None, None)
    ci = value[1:] if isinstance(value, Interval) and ci is None else ci
    value = as_number(value[0] if isinstance(value, Interval) else value)
    if ci is not None:
        if len(as_list(ci) or ()) != 2:
            raise ValueError(f"claim {claim_id}: ci={ci!r}, wanted (low, high)")
        ci = tuple(map(as_number, as_list(ci)))
    outcome = Claim(claim_id, text, value, ci, relation, as_number(bound), source, expected, note, *size)
    _check_numbers(outcome)
    _record(outcome)
    if outcome.status != expected and profiles.current.name == "laptop":
        raise ClaimError(f"{outcome!r}: measured {outcome.measured}, wanted {expected}; mend what broke, or the claim")
    return outcome


def _check_numbers(outcome):
    who, (low, high) = f"claim {outcome.claim}", outcome.ci or (outcome.value, outcome.value)
    if math.isnan(outcome.value) or math.isnan(outcome.bound):
        raise ValueError(f"{who}: value {outcome.value}, bound {outcome.bound}; NaN decides nothing, wanted numbers")
    if not low <= high:
        raise ValueError(f"{who}: interval [{low}, {high}], wanted low <= high, no NaN; one image has no interval")


def _record(outcome):
    run, (low, high) = profiles.current, outcome.ci or ("", "")
    row = vars(outcome) | {"status": outcome.status, "ci_low": low, "ci_high": high}
    row |= {name: "" for name in ("n", "n_groups") if row[name] is None}
    row |= {"profile": run.name, "notebook": run.notebook}
    upsert(results_dir(run.name) / "claims.csv", row, key=("claim", "profile"), columns=CLAIM_COLUMNS)


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


def _bound_text(bound):
    return f"{bound:.2f}" if float(f"{bound:.2f}") == bound and abs(bound) < 1e4 else f"{bound:.4g}"


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


def read_table(path) -> list[dict[str, str]]:
    """The rows of a CSV that was written here, as text; ValueError if it is damaged, as far as plain text shows it."""
    header, *lines = _lines(path)
    return [dict(zip(header, line, strict=True)) for line in lines]


def _lines(path):
    try:
        text = Path(path).read_text(encoding="utf-8")
        header, *lines = [*csv.reader(io.StringIO(text, newline=""), strict=True)] or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged ({error}); {MEND}") from error
    for number, line in enumerate(lines, 1):
        if len(line) != len(header):
            raise ValueError(f"{path}: row {number} has {len(line)} fields, wanted {len(header)}; remove it, run again")
    if text[-1:] not in ("", "\n"):
        raise ValueError(f"{path} is cut off in its last row; remove it, run again")
    return [header, *lines]


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


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on; imports none of them."""
    found = {"python": platform.python_version()}
    for package in ("fvit", "torch", "timm", "diffusers", "numpy", "pandas", "matplotlib"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


class Stamp(dict):
    """Versions and device; prints one per line."""

    def __repr__(self) -> str:
        return "\n".join(f"{name:<11}{version}" for name, version in self.items())


def stamp() -> Stamp:
    """Versions and device of this run, for the last cell of a notebook (tag `nbval-ignore-output`)."""
    import torch  # late: tables and figures are read where no torch is

    cuda = torch.cuda.is_available()
    device = f"cuda, {torch.cuda.get_device_name()}" if cuda else f"cpu, {torch.get_num_threads()} threads"
    return Stamp(versions() | {"device": device})
