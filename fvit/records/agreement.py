"""Does a table that was made agree with the committed one? Column by column, each within its stated tolerance.

On one machine a rerun gives the same bytes. Another processor adds float32 numbers in another order, which changes last
digits; LRP divides by what may be near 0, and a step of an attack that hangs on a last digit goes another way, so a
token or an image turns here and there. docs/results.md says what was measured.
"""

import io
import json
import re
from itertools import chain

import numpy as np
import pandas as pd

from fvit.records.claims import CLAIM_COLUMNS
from fvit.records.rows import KEY, load_rows

RELATIVE = 1e-3  # of a measured number besides: three figures, the most that text and claims show
PRINTED = 1e-5  # relative, of every other number with a fraction: settings and theory, six digits written
MEAN, END = (0.02, 1), (0.05, 2)  # of a mean over images, and of an end of its interval: absolute, or images of the n
MOST = 0.15  # that images of a small n may make of it
MEASURED = {**dict.fromkeys(("mean", "right", "robust"), MEAN), **dict.fromkeys(("low", "high"), END),
            **dict.fromkeys(("scatter", "standard_error"), (0, 0))}  # columns of figures
CLAIMED = {"value": MEAN, "ci_low": END, "ci_high": END}  # of a ledger; verdict and words are equal
SAID = 0.05  # of a number with a fraction in captions and alt texts, or one in its last digit
HEAT = 0.05  # of a map's tokens, in shares of its greatest
PIXEL, PIXELS = 2, 0.98  # levels of 255 by which so many of an image's pixels may differ; others an attack turned
ROW, ROWS, POOLED = 0.05, 0.95, 0.02  # of tidy rows, in shares of a metric's greatest value: how near so many of its
# values must be, and their mean. The others are tokens, pixels or images that turned
TIMES = ("seconds", "milliseconds", "forwards")  # not compared where they were measured anew, at study and paper

Wrong = list[str]  # what differs, in words, the worst of each column; empty where two tables agree


def drawn(made: bytes, wanted: bytes, but: tuple[str, ...] = TIMES) -> Wrong:
    """CSV of a figure, but for columns of times."""
    made, wanted = (pd.read_csv(io.BytesIO(data), low_memory=False) for data in (made, wanted))
    if list(made) != list(wanted) or len(made) != len(wanted):
        return [f"{len(made)} rows of {', '.join(made)}; committed {len(wanted)} of {', '.join(wanted)}"]
    if {"panel", "kind", "y", "data"} <= set(wanted):
        but = (*but, "data")
        found = [_panel(name, made.loc[rows.index], rows) for name, rows in wanted.groupby("panel", sort=False)]
    else:
        found = []
    return [*chain(*found, *(_column(name, made[name], wanted[name], wanted.get("n"))
                             for name in wanted if name not in but))]


def drawn_at_laptop(made: bytes, wanted: bytes) -> Wrong:
    """CSV of a figure with all its columns: the times that are drawn there are those of committed rows."""
    return drawn(made, wanted, but=())


def _column(name: str, made: pd.Series, wanted: pd.Series, n: pd.Series | None = None) -> Wrong:
    kinds = {made.dtype.kind, wanted.dtype.kind}
    if "f" in kinds and kinds <= set("fiu"):  # an empty column is of numbers too: beside text it is not equal
        a, b = (column.to_numpy("float64", na_value=np.nan) for column in (made, wanted))
        allowed = _near(MEASURED[name], b, n) if name in MEASURED else PRINTED * np.abs(b) + 1e-9
        return _worst(f"column {name}", a, b, allowed)
    made, wanted = (column.astype(object).where(column.notna(), "") for column in (made, wanted))
    other = made.to_numpy() != wanted.to_numpy()
    return [f"column {name}, row {(at := other.argmax()) + 1}: {made.iloc[at]!s:.40}, committed "
            f"{wanted.iloc[at]!s:.40}; wanted equal"] if other.any() else []


def _near(tolerance: tuple[float, int], wanted: np.ndarray, n=None) -> np.ndarray:
    """Tolerance of measured numbers, which are of `n` images each where that is known."""
    absolute, images = tolerance
    of_n = np.minimum(images / np.maximum(np.asarray(n, dtype=float), 1), MOST) if n is not None else 0
    return np.fmax(absolute, of_n) + RELATIVE * np.abs(wanted) + 1e-9


def _worst(what: str, made: np.ndarray, wanted: np.ndarray, allowed: np.ndarray | float, share: float = 1) -> Wrong:
    """What lies farthest outside, if fewer than `share` of the numbers lie inside; NaN agrees with NaN alone."""
    if not made.size:
        return []
    with np.errstate(invalid="ignore"):
        off = np.abs(made - wanted) / np.maximum(allowed, np.finfo(float).tiny)
    off[(made == wanted) | (np.isnan(made) & np.isnan(wanted))] = 0
    off[np.isnan(off)] = np.inf
    if (off <= 1).mean() >= share:
        return []
    at = off.argmax()
    tolerance = np.broadcast_to(allowed, off.shape).flat[at]
    beyond = f" ({(off > 1).sum()} of {off.size} beyond, wanted at most {1 - share:.0%})" if share < 1 else ""
    return [f"{what}, row {np.unravel_index(at, off.shape)[0] + 1}: {made.flat[at]:.6g}, committed "
            f"{wanted.flat[at]:.6g}, tolerance {tolerance:.2g}{beyond}"]


def _panel(name: str, made: pd.DataFrame, wanted: pd.DataFrame) -> Wrong:
    """Lines of a picture: "#" and bytes in hex, or the numbers of a map."""
    rgb, what = str(wanted["data"].iloc[0]).startswith("#"), f"panel {name}"
    try:
        a, b = (np.array([list(bytes.fromhex(line[1:])) if rgb else [float(n) for n in line.split()]
                          for line in table["data"].astype(str)], dtype=float) for table in (made, wanted))
    except ValueError as error:
        return [f"{what}: is no picture ({error})"]
    if a.shape != b.shape:
        return [f"{what}: {a.shape} numbers, committed {b.shape}"]
    return _worst(what, a, b, PIXEL, PIXELS) if rgb else _worst(what, a, b, HEAT * np.abs(b).max() + 1e-12)


def words(made: bytes, wanted: bytes) -> Wrong:
    """Sidecar of a figure: its words and sizes; not the versions and the commit that drew it."""
    a, b = map(_said, (made, wanted))
    return [*chain(*(_text(f"its {key}", a.get(key, ""), b.get(key, "")) for key in {**b, **a}))]


def same_words(made: bytes, wanted: bytes) -> bool:
    """Whether two sidecars say the same; False for other files."""
    try:
        return _said(made) == _said(wanted)
    except ValueError:
        return False


def _said(data: bytes) -> dict:
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError(f"holds a {type(found).__name__}, wanted the words of a figure")
    return {key: said for key, said in found.items() if key not in ("versions", "commit")}


def _text(what: str, made, wanted) -> Wrong:
    """Equal but for numbers with a fraction."""
    pattern = r"-?\d+\.\d+(?:e[+-]?\d+)?"
    a, b = (text if isinstance(text, str) else json.dumps(text, sort_keys=True) for text in (made, wanted))
    if re.split(pattern, a) != re.split(pattern, b):
        return [f"{what}: {a:.80}, committed {b:.80}; wanted the same words"]
    numbers = re.findall(pattern, b)
    last = np.array([10.0 ** -len(n.partition("e")[0].partition(".")[2]) for n in numbers])
    x, y = (np.array(n, dtype=float) for n in (re.findall(pattern, a), numbers))
    return _worst(what, x, y, np.maximum(SAID, 1.01 * last) + RELATIVE * np.abs(y))


def claims(made: dict, wanted: dict) -> Wrong:
    """A row of a ledger. Claims about times (R2), measured anew at study, agree if they are decided alike."""
    timed = wanted["claim"].startswith("R2.") and wanted["profile"] != "laptop"
    found = []
    for column in CLAIM_COLUMNS:
        a, b = made.get(column, ""), wanted.get(column, "")
        if a == b or (timed and column in ("text", *CLAIMED)):
            continue
        if column in CLAIMED and a and b:
            n = [float(wanted["n"])] if wanted["n"] else None
            found += _worst(column, np.array([float(a)]), y := np.array([float(b)]), _near(CLAIMED[column], y, n))
        else:
            found += _text(column, a, b)
    return [f"claim {wanted['claim']}, {line.replace(', row 1', '')}" for line in found]


def rows(made: bytes, wanted: bytes) -> Wrong:
    """Parquet of tidy rows: what they are about is equal, and the values of each metric are near."""
    a, b = (load_rows(io.BytesIO(data)) for data in (made, wanted))
    if len(a) != len(b):
        return [f"{len(a)} rows, committed {len(b)}"]
    found = [*chain(*(_column(name, a[name], b[name]) for name in KEY if name != "run_id"))]
    for metric, part in b[~b["metric"].isin(TIMES)].groupby("metric") if not found else ():
        for name in ("value", "ci_low", "ci_high"):
            x, y = a.loc[part.index, name].to_numpy(), part[name].to_numpy()
            scale = np.nanmax(np.abs(y), initial=0)
            found += _worst(f"{metric}, {name}", x, y, ROW * scale, ROWS)
            means = [np.array([np.nanmean(n)]) for n in (x, y) if np.isfinite(n).any()]
            found += _worst(f"{metric}, mean of {name}", *means, POOLED * scale) if len(means) == 2 else []
    return found
