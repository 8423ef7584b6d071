"""From rows to tables: scores pooled over images, each with its interval, and the pairs "none" against "dds"."""

import numpy as np
import pandas as pd

from fvit.base.rng import numpy_generator
from fvit.metrics.perturbation import TENTHS, curve_auc
from fvit.records.rows import REPREDICTED
from fvit.theory.intervals import interval_table, rate_interval

BY = ("method", "smoothing", "attack", "eps")
POOLED = ("mIoU", "mAP", "pixel_accuracy", "mF1")
NEEDED = ("labelled", "inter_bg", "inter_fg", "average_precision", "f1")
CONDITIONS = {  # name -> the attack in the rows of "none" and of "dds"; {aim} is that of the map measured
    "clean": ("none", "none"),
    "prediction, transferred": ("prediction via vit", "prediction via vit"),
    "explanation, transferred": ("{aim} via vit", "{aim} via vit"),
    "explanation, adaptive": ("{aim} via vit", "{aim} via dds"),
}
AIMED_AT = {"raw_attention": "explanation", "rollout": "rollout"}  # maps that have an attack of their own


def image_count(rows) -> str:
    """How many images the tidy rows hold, and at which radii fewer, for captions: "96 (64 of them at 2/255)"."""
    n_at = rows.groupby("eps").image_id.nunique()
    fewer = [f"{n} of them at {255 * eps:.0f}/255" for eps, n in n_at.items() if n < n_at.max()]
    return str(n_at.max()) + (f" ({', '.join(fewer)})" if fewer else "")


def segmentation_table(rows, groups=None, by=BY, suffix="", level=0.95, n_boot=2000, seed=0) -> pd.DataFrame:
    """Pooled segmentation scores and their bootstrap intervals, rebuilt from the rows of single images.

    rows      tidy rows of `attack_rows.attack_rows`, one for each combination of `by`, image and metric
    groups    {image_id: photograph}: whole photographs are resampled, and the ratios pooled anew in each resample;
              None: every image is its own
    suffix    of the metrics taken, such as experiments.REPREDICTED; combinations without it are left out
    returns   DataFrame in order of appearance: columns of `by`, metric (one of POOLED), mean, low, high, n.
              "mean" is the pooled score, as by `SegmentationScores.summary`; low and high are NaN from a single group

    A pixel is in the union of a class unless map and mask both put it in the other one: union = labelled - inter of
    the other class. Raises ValueError where rows of these metrics are missing, or an image occurs twice.
    """
    names = {name + suffix: name for name in NEEDED}
    found = rows[rows["metric"].isin(names)]
    if found.empty:
        raise ValueError(f"rows have no metric {', '.join(names)}; make them with the measure 'segmentation'")
    tables = []
    for key, part in found.groupby(list(by), sort=False):
        where = ", ".join(f"{name}={value}" for name, value in zip(by, key, strict=True))
        if part.duplicated(["image_id", "metric"]).any():
            raise ValueError(f"{where}: an image occurs twice, wanted one row of each metric; add to `by` what varies")
        wide = part.pivot(index="image_id", columns="metric", values="value").rename(columns=names)
        if missing := [name for name in NEEDED if name not in wide]:
            raise ValueError(f"{where}: no rows of {', '.join(missing)}, wanted {', '.join(NEEDED)}")
        tables.append(_pooled(wide, groups, level, n_boot, seed).assign(**dict(zip(by, key, strict=True))))
    return pd.concat(tables, ignore_index=True)[[*by, "metric", "mean", "low", "high", "n"]]


def _pooled(wide, groups, level, n_boot, seed):
    sums = wide.groupby(wide.index if groups is None else wide.index.map(groups)).sum()  # NaN counts as 0
    for name in ("average_precision", "f1"):
        at = wide[name].notna()
        sums[f"n_{name}"] = at.groupby(at.index if groups is None else at.index.map(groups)).sum()
    totals = {name: sums[name].to_numpy(dtype=np.float64) for name in sums}
    scores = _scores({name: values.sum() for name, values in totals.items()})
    picks = numpy_generator(seed, "bootstrap").integers(len(sums), size=(n_boot, len(sums)))  # as `mean_interval`
    resampled = _scores({name: values[picks].sum(axis=1) for name, values in totals.items()})
    tails = (1 - level) / 2, (1 + level) / 2
    limits = {name: np.nanquantile(resampled[name], tails) if len(sums) > 1 else (np.nan, np.nan) for name in POOLED}
    return pd.DataFrame([{"metric": name, "mean": scores[name], "low": limits[name][0], "high": limits[name][1],
                          "n": len(wide)} for name in POOLED])


def _scores(t):
    """Scores of sums over images, by name; numbers or arrays."""
    labelled = np.maximum(t["labelled"], 1)
    iou_bg = t["inter_bg"] / np.maximum(t["labelled"] - t["inter_fg"], 1)
    iou_fg = t["inter_fg"] / np.maximum(t["labelled"] - t["inter_bg"], 1)
    with np.errstate(invalid="ignore"):
        means = [t[name] / t[f"n_{name}"] for name in ("average_precision", "f1")]
    return {"pixel_accuracy": (t["inter_bg"] + t["inter_fg"]) / labelled, "mIoU": (iou_bg + iou_fg) / 2,
            "mAP": means[0], "mF1": means[1]}


def image_iou(rows) -> pd.DataFrame:
    """One row for each image and condition with metric "iou": the mean of its two IoU, so that images can be paired.

    `rows` as in `segmentation_table`. The mean over images is not the pooled mIoU, where large objects count for more.
    """
    found = rows[rows["metric"].isin(NEEDED[:3])]
    keys = [name for name in found if name not in ("metric", "value", "ci_low", "ci_high")]
    keys = [name for name in keys if found[name].notna().all()]
    wide = found.pivot(index=keys, columns="metric", values="value").reset_index()
    union_bg, union_fg = wide["labelled"] - wide["inter_fg"], wide["labelled"] - wide["inter_bg"]
    iou = (wide["inter_bg"] / union_bg.clip(lower=1) + wide["inter_fg"] / union_fg.clip(lower=1)) / 2
    return wide[keys].assign(metric="iou", value=iou)


def paired_conditions(rows, conditions=CONDITIONS) -> pd.DataFrame:
    """Rows with a column `condition` in the place of `attack`, so that "none" and "dds" can be compared in each.

    Under "explanation, adaptive" each side meets the attack made through itself: the bare ViT the one made on it, DDS
    the one made through DDS. Raw attention and rollout meet the attack aimed at them; other methods cannot be attacked
    directly and meet the one aimed at raw attention: transferred as regards the map, whatever it was made through.
    Rows of attacks that no condition names, such as fresh noise, are left out.
    """
    parts = []
    for method in rows["method"].unique():
        mine = rows[rows["method"] == method]
        for condition, attacks in conditions.items():
            for smoothing, attack in zip(("none", "dds"), attacks, strict=True):
                name = attack.format(aim=AIMED_AT.get(method, "explanation"))
                at = mine[(mine["smoothing"] == smoothing) & (mine["attack"] == name)]
                parts.append(at.assign(condition=condition))
    return pd.concat(parts, ignore_index=True).drop(columns="attack")


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
