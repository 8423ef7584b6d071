"""What decides a question: for each check of claims.toml that has rows, its number from them in a few lines."""

from functools import partial
from itertools import product

import numpy as np
import pandas as pd

from fvit.records.claims import ATTACKS, HEADS, MEASURES
from fvit.report import tables
from fvit.report.contrasts import paired_difference, values_by_defence
from fvit.report.on_record import most_draws
from fvit.theory.intervals import Interval, mean_interval, outcome_interval, rate_interval

RAW = {"method": "raw_attention"}
MEAN_MAP = ("sharp", "renyi")  # certificates of the mean map, which the paper is about


class NoRows(LookupError):
    """Rows lack what a question asks about: a defence, an attack, a metric."""


def answer(check: str, rows: pd.DataFrame) -> Interval:
    """The number that decides `check`, with its 95 % interval and the units it rests on.

    check   a key of ANSWERS, such as "P5.2"
    rows    tidy rows of one data set with a column photograph, as of `with_photographs`

    Raises NoRows where they do not hold what is asked; KeyError for another check.
    """
    found = ANSWERS[check](rows)
    if not isinstance(found, Interval):
        raise TypeError(f"{check} is answered by a {type(found).__name__}, wanted an Interval")
    return found


def with_photographs(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the photograph that each image is of; images of other data sets than the scenes are their own."""
    from fvit.data.scenes import photograph_of  # late: loads torch

    images, are_scenes = rows["image_id"].unique(), rows["dataset"].eq("scenes").all()
    of = {image: photograph_of(image) if are_scenes else image for image in images}
    return rows.assign(photograph=rows["image_id"].map(of))


def difference(rows, measure: str, threat: str, one="dds", other="none", method="raw_attention", level=0.95,
               aim="explanation_free"):
    """Mean over images of a defence's value minus another's (`values_by_defence`), under attacks at 8/255, of this aim
    on the map; intervals over photographs."""
    kept = rows["metric"].isin(["topk_overlap", "fidelity", "right"]) & rows["method"].isin([method, ""])
    values = values_by_defence(_some(rows[kept], f"of predictions or of {method}"), method, eps=8 / 255, aim=aim)
    values = values[(values["measure"] == measure) & (values["threat"] == threat)]
    sides = [_some(values[values["defence"] == side], f"of the {measure} behind {side}, threat {threat!r}")
             .set_index(["image_id", "photograph"])["value"] for side in (one, other)]
    about = f"{one} and {other}, {measure}, {threat}"
    found = paired_difference(*sides, about, threat == "adaptive").rename("value").reset_index()
    return _over_photographs(found, level, outcome_interval if measure == "prediction" else mean_interval)


def gain(measure: str, threat: str, one: str = "dds", other: str = "none"):
    return lambda rows, level=0.95: difference(rows, measure, threat, one, other, level=level)


def least_of(answers, rows) -> Interval:
    """The least of several means, with limits by which all of them hold, or one fails.

    low    the lowest of their lower ends: all hold if it is above the bound, which needs no correction (Berger 1982)
    high   the lowest of their upper ends, each at the level corrected for their number (Bonferroni)
    """
    usual = [found(rows) for found in answers]
    upper = min(found(rows, level=1 - 0.05 / len(usual))[2] for found in answers)
    one = min(usual, key=lambda interval: interval[0])
    return Interval(one[0], min(low for _, low, _ in usual), upper, one.n, one.n_groups)


def least(*answers):
    return lambda rows: least_of(answers, rows)


def least_method(threat: str):
    """What the explanation method gains whose top-k gains least from DDS."""
    def found(rows):
        from fvit.explanations.methods import METHODS  # late: loads torch

        if lacking := sorted({*METHODS} - {*rows["method"].unique()}):
            raise NoRows(f"no rows of the methods {', '.join(lacking)}, and the claim is of any")
        each = partial(difference, measure="map", threat=threat, aim="explanation")
        return least_of([partial(each, method=m) for m in METHODS], rows)

    return found


def overlap_at(eps_255: int):
    """Top-k overlap of bare raw attention under its own explanation attack."""
    where = RAW | {"defence": "none", "aim": "explanation", "made_on": "vit", "metric": "topk_overlap"}
    return lambda rows: _share(_over_photographs(_some(_where(rows[np.isclose(rows["eps"], eps_255 / 255)], where),
                                                       f"of an explanation attack at {eps_255}/255")))


def fidelity(rows):
    where = RAW | {"defence": "dds", "metric": "fidelity"}
    return _share(_over_photographs(_some(_where(rows, where), "of fidelity of DDS")))


def clean_iou(rows):
    rows = _where(rows, RAW | {"aim": "none"})
    return tables.gain(tables.image_iou(_some(rows[rows["metric"].isin(tables.NEEDED[:3])], "of segmentation")))


def clean_area(rows):
    rows = _some(_where(rows, {"aim": "none", "metric": "negative", "method": "vta"}), "of perturbation tests of vta")
    return _own(tables.gain(tables.auc_rows(rows, "mean_height")))


def kept_behind_dds(rows):
    """Top-k overlap of raw attention behind DDS under its own free explanation attack."""
    where = RAW | {"defence": "dds", "aim": "explanation_free", "made_on": "dds", "metric": "topk_overlap"}
    some = _where(rows[np.isclose(rows["eps"], 8 / 255)], where)
    return _share(_over_photographs(_some(some, "of a free explanation attack made through DDS")))


def robust(rows):
    """Share of images that are right behind DDS before and after its own attack, exact where each has a photograph."""
    values = values_by_defence(_some(rows[rows["metric"] == "right"], "of predictions"), eps=8 / 255)
    where = {"defence": "dds", "measure": "prediction", "threat": "adaptive"}
    values = _some(_where(values, where), "of predictions behind DDS under its own attack")
    if values["photograph"].is_unique:
        return rate_interval(int(values["value"].sum()), len(values))
    return _share(_over_photographs(values))


def certified(*certificates, above=()):
    """Share of photographs on whose first scene the best of the certificates has a radius above 0, or above that of
    `above` from the same draws: one scene a photograph, so that the exact interval is one of independent units."""
    def found(rows):
        rows = _some(_where(rows, {"metric": "radius", "level": 0.8}), "of certified radii, overlap 0.8")
        rows = rows[rows["n_samples"] == most_draws(rows)]
        first = rows.drop_duplicates("photograph")["image_id"]
        best = rows[rows["image_id"].isin(first)].assign(value=rows["value"].clip(lower=0)).pivot(
            index="image_id", columns="certificate", values="value")
        if lacking := {*certificates, *above} - {*best}:
            raise NoRows(f"no rows of the certificates {', '.join(sorted(lacking))}")
        bound = best[[*above]].max(axis=1) if above else 0
        return rate_interval(int((best[[*certificates]].max(axis=1) > bound).sum()), len(best))

    return found


def sharp_over_renyi(rows):
    rows = _some(_where(rows, {"metric": "plugin_radius", "level": 0.8}), "of plug-in radii, overlap 0.8")
    wide = rows.pivot(index=["image_id", "photograph"], columns="certificate", values="value")
    if lacking := {"sharp", "renyi"} - {*wide}:
        raise NoRows(f"no rows of the certificates {', '.join(sorted(lacking))}")
    return _over_photographs((wide["sharp"] / wide["renyi"]).rename("value").reset_index())


def _where(rows, cells):
    return rows[np.logical_and.reduce([rows[column] == cell for column, cell in cells.items()])]


def _some(rows, what):
    if len(rows):
        return rows
    raise NoRows(f"no rows {what}")


def _over_photographs(rows, level=0.95, interval=mean_interval):
    return _own(interval(rows["value"], rows["photograph"], level))


def _share(found):
    """An interval of a mean of shares, within [0, 1]."""
    return Interval(found[0], max(found[1], 0.0), min(found[2], 1.0), found.n, found.n_groups)


def _own(found):
    """An interval without a count of photographs where each image is one."""
    return Interval(*found, found.n) if found.n_groups == found.n else found


ANSWERS = {
    "P1.2": overlap_at(8), "P1.7": overlap_at(4), "P1.8": overlap_at(2), "P1.9": overlap_at(1),
    "P2.1": certified("votes"), "P2.5": certified(*MEAN_MAP),
    "P4.1": gain("prediction", "transferred"), "P4.2": gain("prediction", "adaptive"), "P4.8": robust,
    "P5.1": gain("map", "transferred"), "P5.2": gain("map", "adaptive"), "P5.21": kept_behind_dds,
    "P6.1": clean_iou, "P6.13": clean_area, "P6.14": fidelity, "P6.15": gain("prediction", "none"),
    "P7.6": least(gain("map", "transferred", "dds", "denoise_only"), gain("map", "transferred", "dds", "noise_only")),
    "P7.7": least(gain("map", "adaptive", "dds", "denoise_only"), gain("map", "adaptive", "dds", "noise_only")),
    "R1.5": least_method("transferred"), "R1.6": least_method("adaptive"),
    "O2.5": certified("votes", above=("renyi",)), "O2.6": sharp_over_renyi,
} | {check: gain(measure, threat, *head["pair"]) for head in HEADS.values() if "pair" in head  # what a part of DDS buys
     for check, (measure, threat) in zip(head["checks"], product(MEASURES, ATTACKS), strict=True)}
