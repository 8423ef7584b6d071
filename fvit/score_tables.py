"""Rows of `attack_rows` as tables of notebook 08: perturbation curves, their areas, and accuracy under attack."""

import numpy as np
import pandas as pd

from fvit.experiments import REPREDICTED
from fvit.intervals import interval_table, rate_interval
from fvit.perturbation import TENTHS, curve_auc

CONDITION = ["method", "smoothing", "attack", "eps"]
OWN = {"none": "vit", "dds": "dds", "denoise": "denoise"}  # through what the adaptive attack on a smoothing is made
CLASSES = ("fixed", "re-predicted")  # the class that a map made under attack explains


def curve_rows(rows) -> pd.DataFrame:
    """Hits of perturbation tests, one row for each image, condition, kind, class and share removed.

    rows      tidy rows; those with metrics such as "positive 30" are taken, with REPREDICTED or without
    returns   DataFrame image_id, CONDITION, kind ("positive" or "negative"), explained (one of CLASSES), removed
              (0 ... 1), value (0 or 1)

    Raises ValueError if there are none, or if a curve lacks a step or has one twice.
    """
    suffix = REPREDICTED.replace("(", r"\(").replace(")", r"\)")
    rows = rows.reset_index(drop=True)
    parts = rows["metric"].str.extract(rf"^(positive|negative) (\d+)({suffix})?$")
    parts = parts[parts[0].notna()]
    if parts.empty:
        raise ValueError('no rows of perturbation tests; wanted metrics such as "positive 30", measure "perturbation"')
    hits = rows.loc[parts.index, ["image_id", *CONDITION, "value"]].assign(
        kind=parts[0], explained=np.where(parts[2].isna(), *CLASSES), removed=parts[1].astype(float) / 100)
    curves = hits.groupby(["image_id", *CONDITION, "kind", "explained"], sort=False)["removed"]
    whole = curves.agg(["size", "nunique"]) == len(TENTHS)
    if not whole.all(axis=None):
        raise ValueError(f"the curve of {whole.index[~whole.all(axis=1)][0]} has steps missing or twice, wanted "
                         f"{len(TENTHS)} of one run; select the rows of one run")
    return hits.reset_index(drop=True)


def auc_rows(rows, convention: str) -> pd.DataFrame:
    """Area under every curve of `curve_rows`, by a convention of `curve_auc`: "mean_height" or "unit_interval".

    returns   DataFrame image_id, CONDITION, kind, explained, value (in [0, 1]), convention
    """
    keys = ["image_id", *CONDITION, "kind", "explained"]
    hits = curve_rows(rows)
    wide = hits.pivot(index=keys, columns="removed", values="value")
    areas = wide.assign(value=curve_auc(wide.to_numpy(copy=True), convention))["value"]
    order = pd.MultiIndex.from_frame(hits[keys].drop_duplicates())  # of appearance, which pivot has sorted away
    return areas.reindex(order).reset_index().assign(convention=convention)


def perturbation_table(rows, convention: str, groups: dict) -> pd.DataFrame:
    """Mean areas with intervals clustered by photograph, one row for each condition, kind and class explained.

    groups    image id -> photograph
    returns   DataFrame CONDITION, kind, explained, convention, mean, low, high, n
    """
    areas = auc_rows(rows, convention)
    areas["photograph"] = areas["image_id"].map(groups)
    return interval_table(areas, [*CONDITION, "kind", "explained", "convention"], groups="photograph")


def curve_table(rows, groups: dict) -> pd.DataFrame:
    """Mean curves with intervals clustered by photograph: CONDITION, kind, explained, removed, mean, low, high, n."""
    hits = curve_rows(rows)
    hits["photograph"] = hits["image_id"].map(groups)
    return interval_table(hits, [*CONDITION, "kind", "explained", "removed"], groups="photograph")


def accuracy_table(rows) -> pd.DataFrame:
    """Accuracy on clean and attacked images, and robust accuracy, which is what Clopper and Pearson's intervals are of.

    rows      tidy rows with metric "right" and method ""; attack "none" holds the clean predictions
    returns   DataFrame smoothing, attack, eps, right (share right on the image shown), robust (share right on the
              clean image *and* on this one), low, high (95 %, of robust), n. Attack "none" has robust = right

    Images are counted as independent. Raises ValueError if there are no such rows, or images without a clean twin.
    """
    right = rows[(rows["metric"] == "right") & (rows["method"] == "")]
    if right.empty:
        raise ValueError('no predictions; wanted rows with metric "right" and method ""')
    clean = right[right["attack"] == "none"].set_index(["smoothing", "image_id"])["value"]
    found = []
    for (smoothing, attack, eps), part in right.groupby(["smoothing", "attack", "eps"], sort=False):
        after = part.set_index("image_id")["value"]
        before = clean.loc[smoothing].reindex(after.index) if smoothing in clean.index else after * np.nan
        if before.isna().any() or after.index.has_duplicates:
            raise ValueError(f"{smoothing}, {attack}: images occur twice or have no prediction under attack 'none'")
        both = int(((before == 1) & (after == 1)).sum())
        found.append([smoothing, attack, eps, after.mean(), *rate_interval(both, len(after)), len(after)])
    return pd.DataFrame(found, columns=["smoothing", "attack", "eps", "right", "robust", "low", "high", "n"])


def by_threat(rows) -> pd.DataFrame:
    """The rows twice, by what the attack knows: column `threat` is "transferred" or "adaptive".

    Clean rows are in both, as are attacks on the bare ViT, whose own the transferred attack is. Rows need smoothing
    and attack, named as by `attack_rows`; fresh noise and other attacks are left out.
    """
    clean, own = rows["attack"] == "none", rows["attack"] == "prediction via " + rows["smoothing"].map(OWN)
    transferred = clean | (rows["attack"] == "prediction via vit")
    return pd.concat([rows[transferred].assign(threat="transferred"), rows[clean | own].assign(threat="adaptive")],
                     ignore_index=True)
