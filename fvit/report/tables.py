"""From tidy rows to tables: scores pooled over images, each with its interval, and the pairs "none" against "dds"."""

import numpy as np
import pandas as pd

from fvit.metrics.perturbation import TENTHS, curve_auc
from fvit.records.claims import ATTACKS
from fvit.records.words import AIMS, BARE, condition
from fvit.theory.intervals import Interval, group_interval, interval_table, mean_interval, rate_interval

MET = ["defence", "aim", "made_on", "eps"]  # what an image went through
BY = ["method", *MET, "explained"]
CURVE = ["image_id", "photograph", *BY, "kind"]  # what a curve is about; kind is "positive" or "negative"
WITH, WITHOUT = {"defence": "dds"}, {"defence": "none"}
TESTS = ("positive", "negative")  # of a map, by what goes first: its greatest or its least values
POOLED = ("mIoU", "mAP", "pixel_accuracy", "mF1")
NEEDED = ("labelled", "inter_bg", "inter_fg", "average_precision", "f1")
CONDITIONS = ("clean", "prediction, transferred", "explanation, transferred", "explanation, adaptive")
AIMED_AT = {"raw_attention": "explanation", "rollout": "rollout"}  # maps whose own attack stands under "explanation"


def gain(rows, after=WITH, before=WITHOUT, interval=mean_interval, **where) -> Interval:
    """Mean over images of the value after minus that before, and its interval clustered by photograph.

    rows                   tidy rows with a column photograph; several of an image, as of methods, are averaged first
    after, before, where   {column: cell} of the rows of either side, by default with DDS and without, and of both
    interval               `outcome_interval` where values are outcomes, 0 or 1, which may rarely differ
    """
    def side(cells):
        found = rows[np.logical_and.reduce([rows[column] == cell for column, cell in (where | cells).items()])]
        return found.groupby(["image_id", "photograph"], dropna=False)["value"].mean()

    difference = side(after) - side(before)  # NaN, which is refused, for an image that one side lacks
    return interval(difference, difference.index.get_level_values("photograph"))


def segmentation_table(rows, groups=None, by=BY, level=0.95) -> pd.DataFrame:
    """Pooled segmentation scores and their intervals (`group_interval`), rebuilt from the rows of single images.

    rows      tidy rows with the metrics NEEDED, one for each combination of `by`, image and metric
    groups    {image_id: photograph}: intervals are over photographs, the ratios pooled anew without each;
              None: every image is its own
    returns   DataFrame in order of appearance: columns of `by`, metric (one of POOLED), mean, low, high, n.
              "mean" is the pooled score, as by `SegmentationScores.summary`; low and high are NaN from a single group

    A pixel is in the union of a class unless map and mask both put it in the other one: union = labelled - inter of
    the other class. Raises ValueError where rows of these metrics are missing, or an image occurs twice.
    """
    found = rows[rows["metric"].isin(NEEDED)]
    if found.empty:
        raise ValueError(f"rows have no metric {', '.join(NEEDED)}; make them with the measure 'segmentation'")
    tables = []
    for key, part in found.groupby(list(by), sort=False):
        where = ", ".join(f"{name}={value}" for name, value in zip(by, key, strict=True))
        if part.duplicated(["image_id", "metric"]).any():
            raise ValueError(f"{where}: an image occurs twice, wanted one row of each metric; add to `by` what varies")
        wide = part.pivot(index="image_id", columns="metric", values="value")
        if missing := [name for name in NEEDED if name not in wide]:
            raise ValueError(f"{where}: no rows of {', '.join(missing)}, wanted {', '.join(NEEDED)}")
        tables.append(_pooled(wide, groups, level).assign(**dict(zip(by, key, strict=True))))
    return pd.concat(tables, ignore_index=True)[[*by, "metric", "mean", "low", "high", "n"]]


def _pooled(wide, groups, level):
    counted = wide.join(wide[["average_precision", "f1"]].notna().add_prefix("n_"))
    sums = counted.groupby(wide.index if groups is None else wide.index.map(groups)).sum()  # NaN counts as 0
    totals = {name: sums[name].to_numpy(dtype=np.float64) for name in sums}
    scores = _scores({name: values.sum() for name, values in totals.items()})
    without = _scores({name: values.sum() - values for name, values in totals.items()})
    limits = {name: group_interval(scores[name], without[name], level) for name in POOLED}
    return pd.DataFrame([{"metric": name, "mean": scores[name], "low": limits[name][0], "high": limits[name][1],
                          "n": len(wide)} for name in POOLED])


def _scores(t):
    """Scores of sums over images, by name; numbers or arrays."""
    with np.errstate(invalid="ignore"):
        means = [t[name] / t[f"n_{name}"] for name in ("average_precision", "f1")]
    return {"pixel_accuracy": (t["inter_bg"] + t["inter_fg"]) / np.maximum(t["labelled"], 1), "mIoU": _mean_iou(t),
            "mAP": means[0], "mF1": means[1]}


def _mean_iou(t):
    return sum(t[one] / np.maximum(t["labelled"] - t[other], 1) for one, other in (NEEDED[1:3], NEEDED[2:0:-1])) / 2


def image_iou(rows) -> pd.DataFrame:
    """One row for each image and condition with metric "iou": the mean of its two IoU, so that images can be paired.

    `rows` as in `segmentation_table`. The mean over images is not the pooled mIoU, where large objects count for more.
    """
    found = rows[rows["metric"].isin(NEEDED[:3])]
    keys = [name for name in found.dropna(axis=1) if name not in ("metric", "value", "ci_low", "ci_high")]
    wide = found.pivot(index=keys, columns="metric", values="value").reset_index()
    return wide[keys].assign(metric="iou", value=_mean_iou(wide))


def conditions(rows) -> pd.DataFrame:
    """The rows with a column `condition`, the words of `words.condition`.

    An attack on "none" or "constant_map" is in twice: what is transferred to the others is their own.
    """
    rows = rows.reset_index(drop=True)
    own = rows[rows["defence"].isin(BARE) & (rows["made_on"] == "vit")]
    found = [own.assign(condition=own["aim"].map(AIMS) + ", transferred"), rows.assign(condition=condition(rows))]
    return pd.concat(found).sort_index(kind="stable", ignore_index=True)


def stability(rows) -> pd.DataFrame:
    """Rows of one map under one attack on it, by `condition`: "fresh noise", "transferred", "adaptive", "fidelity"."""
    met, aims = conditions(rows), ("explanation", "explanation_free")
    if {*aims} <= {*rows["aim"]}:
        raise ValueError(f"rows are of two attacks, {' and '.join(aims)}; select those of one aim")
    said = [AIMS[aim] for aim in aims]
    threat = met["condition"].replace({f"{aim}, {threat}": threat for aim in said for threat in ATTACKS})
    return met.assign(condition=threat.mask(met["metric"] == "fidelity", "fidelity"))


def aimed_at_own(rows) -> pd.DataFrame:
    """The rows without attacks on another method's map: rollout keeps those aimed at rollout, now called "explanation",
    and not those aimed at raw attention, which the methods without an entry in AIMED_AT keep."""
    own = rows["method"].map(AIMED_AT).fillna("explanation")
    met = rows[~rows["aim"].isin(AIMED_AT.values()) | (rows["aim"] == own)]
    return met.replace({"aim": {"rollout": "explanation"}})


def paired_conditions(rows) -> pd.DataFrame:
    """The rows under CONDITIONS, named in a column `condition`, so that "none" and "dds" can be compared in each.

    Under "explanation, adaptive" each side meets the attack made through itself: the bare ViT the one made on it, DDS
    the one made through DDS. Raw attention and rollout meet the attack aimed at them; other methods meet the one
    aimed at raw attention: transferred as regards the map, whatever it was made through. (An attack on their own map
    has their name for an aim, see `contrasts.attacked_itself`.)
    Rows of other conditions, such as fresh noise, are left out.
    """
    met = conditions(aimed_at_own(rows))
    return pd.concat([met[(met["method"] == method) & (met["condition"] == name)]
                      for method in rows["method"].unique() for name in CONDITIONS], ignore_index=True)


def by_threat(rows) -> pd.DataFrame:
    """Clean rows and those under attacks on the prediction, by `threat`: "transferred", then "adaptive".

    Clean rows are in both, as are attacks on the bare ViT, whose own the transferred attack is.
    """
    met = conditions(rows)
    parts = [met[met["condition"].isin(["clean", f"prediction, {threat}"])].assign(threat=threat)
             for threat in ("transferred", "adaptive")]
    return pd.concat(parts, ignore_index=True).drop(columns="condition")


def curve_rows(rows) -> pd.DataFrame:
    """Hits of perturbation tests, one row for each image, condition, kind, class and share removed.

    rows      tidy rows; those with metric "positive" or "negative" are taken
    returns   DataFrame CURVE (photograph where rows have it), removed (0 ... 1), value (0 or 1)

    Raises ValueError if there are none, or if a curve lacks a step or has one twice.
    """
    hits = rows[rows["metric"].isin(["positive", "negative"])].rename(columns={"metric": "kind", "level": "removed"})
    if hits.empty:
        raise ValueError('no perturbation tests; wanted metric "positive" or "negative", of the measure "perturbation"')
    about = [column for column in CURVE if column in hits]
    whole = hits.groupby(about, sort=False)["removed"].agg(["size", "nunique"]) == len(TENTHS)
    if not whole.all(axis=None):
        raise ValueError(f"the curve of {whole.index[~whole.all(axis=1)][0]} has steps missing or twice, wanted "
                         f"{len(TENTHS)} of one run; select the rows of one run")
    return hits[[*about, "removed", "value"]].reset_index(drop=True)


def auc_rows(rows, convention: str) -> pd.DataFrame:
    """Area in [0, 1] under every curve of `curve_rows`, by a convention of `curve_auc`: CURVE, value, convention."""
    hits = curve_rows(rows)
    about = list(hits.columns[:-2])
    wide = hits.pivot(index=about, columns="removed", values="value")
    areas = wide.assign(value=curve_auc(wide.to_numpy(copy=True), convention))["value"]
    order = pd.MultiIndex.from_frame(hits[about].drop_duplicates())  # of appearance, which pivot has sorted away
    return areas.reindex(order).reset_index().assign(convention=convention)


def curve_table(rows) -> pd.DataFrame:
    """Mean curves of `curve_rows` with their intervals: BY, kind, removed, mean, low, high, n. Values are 0 or 1, so an
    interval is exact where every image has a photograph of its own (`rate_interval`), else clustered by photograph.
    """
    hits = curve_rows(rows)
    table = interval_table(hits, [*CURVE[2:], "removed"], groups="photograph")
    if hits["photograph"].nunique() == hits["image_id"].nunique():
        exact = [rate_interval(round(line.mean * line.n), line.n) for line in table.itertuples()]
        table["low"], table["high"] = [found[1] for found in exact], [found[2] for found in exact]
    return table.assign(low=table["low"].clip(0, 1), high=table["high"].clip(0, 1))


def robust_rows(rows) -> pd.DataFrame:
    """Predictions of single images: `right` is 1 where this one is right, `value` where that on the clean image is too.

    rows   tidy rows with metric "right" and method ""; aim "none" holds the clean predictions

    Raises ValueError if there are no such rows, or images without a clean twin.
    """
    found = rows[(rows["metric"] == "right") & (rows["method"] == "")]
    if found.empty:
        raise ValueError('no predictions; wanted rows with metric "right" and method ""')
    clean = found.loc[found["aim"] == "none", ["defence", "image_id", "value"]]
    found = found.rename(columns={"value": "right"}).merge(clean, how="left", on=["defence", "image_id"])
    if (bad := found["value"].isna() | found.duplicated([*MET, "image_id"])).any():
        defence, aim = found.loc[bad.idxmax(), ["defence", "aim"]]
        raise ValueError(f"{defence}, {aim}: images occur twice or have no prediction of aim 'none'")
    return found.assign(value=found["right"] * found["value"])


def accuracy_table(rows) -> pd.DataFrame:
    """Accuracy on clean and attacked images, and robust accuracy, which is what Clopper and Pearson's intervals are of.

    rows      as of `robust_rows`
    returns   DataFrame MET, right (share right on the image shown), robust (share right on the clean image *and* on
              this one), low, high (95 %, of robust), n. Aim "none" has robust = right

    Images are counted as independent.
    """
    found = [[*met, part["right"].mean(), *rate_interval(int(part["value"].sum()), len(part)), len(part)]
             for met, part in robust_rows(rows).groupby(MET, sort=False)]
    return pd.DataFrame(found, columns=[*MET, "right", "robust", "low", "high", "n"])


def areas_by_class(areas, method: str) -> pd.DataFrame:
    """Mean areas of a method's maps, clean and at the largest radius, with the class held and with it predicted anew.

    areas     of `auc_rows`
    returns   DataFrame with columns "positive, clean", "positive, 8/255", "negative, clean" and "negative, 8/255", and
              lines "bare, its own attack, class fixed" to "DDS, adaptive attack, class re-predicted"
    """
    met = by_threat(areas[areas["method"] == method])
    met = met[(met["defence"] == "dds") | ((met["defence"] == "none") & (met["threat"] == "transferred"))]  # its own
    if (met["explained"] == "re-predicted").any():  # without an attack the two classes are one
        met = pd.concat([met, met[met["aim"] == "none"].assign(explained="re-predicted")])
    largest = met["eps"].max()
    far = f"{255 * largest:.0f}/255"
    met = met[met["eps"].isin([0, largest])]
    line = np.where(met["defence"] == "none", "bare, its own attack", "DDS, " + met["threat"] + " attack")
    met = met.assign(line=line + ", class " + met["explained"],
                     column=met["kind"] + np.where(met["eps"] > 0, f", {far}", ", clean"))
    lines = sorted(dict.fromkeys(met["line"]), key=lambda said: said.endswith("re-predicted"))
    columns = [f"{kind}, {at}" for kind in TESTS for at in ("clean", far)]
    return met.groupby(["line", "column"])["value"].mean().unstack().loc[lines, columns]
