"""Defences held against each other: what each part of DDS buys, and the level below which a map keeps nothing."""

from itertools import product

import numpy as np
import pandas as pd

from fvit.records.claims import ATTACKS, MEASURES
from fvit.records.words import made_on_itself, said
from fvit.report.style import NO_INFORMATION
from fvit.report.tables import auc_rows, by_threat, gain
from fvit.theory.comparisons import compare_pairs
from fvit.theory.intervals import interval_table, mean_interval, outcome_interval

QUESTIONS = (  # what is asked, the defence that has it, the same without it
    ("noise, before the denoiser", "dds", "denoise_only"), ("noise alone", "noise_only", "none"),
    ("the denoiser, behind noise", "dds", "noise_only"), ("the denoiser alone", "denoise_only", "none"),
    ("the prior over a blur, behind noise", "dds", "noise_blur"), ("DDS over a blur alone", "dds", "blur"),
    ("DDS over wavelets", "dds", "wavelet"), ("the prior over a plain CNN, behind noise", "dds", "noise_cnn"),
    ("the prior over a plain CNN, alone", "denoise_only", "cnn"), ("a wider sigma than 8/255", "dds", "dds_published"))
AXIS = tuple(dict.fromkeys(side for _, *pair in QUESTIONS for side in pair))  # the defences asked about
THREATS = ("none", *ATTACKS)
COLUMNS = ["question", "with", "without", "measure", "threat", "value_with", "value_without", "difference", "low",
           "high", "n", "n_groups"]


def values_by_defence(rows, method: str = "raw_attention", eps: float | None = None,
                      aim: str = "explanation_free") -> pd.DataFrame:
    """One number for each image, defence, measure and threat, so that defences can be paired on the same images.

    rows      tidy rows of `attack_rows` with a column photograph
    method    the map that is measured
    eps       radius of the attacks, None: the largest
    aim       of the attack on the map. "explanation" holds the class, and for rollout stands for "rollout"
    returns   DataFrame image_id, photograph, defence, measure ("map" or "prediction"), threat, value in [0, 1]:
              of the map the top-k overlap with one's own clean map, with no attack the fidelity to the bare map;
              of the prediction 1 where it is right before and after. The bare ViT's own attack is both threats

    Raises ValueError where rows have neither, or attacks on maps and none of this aim.
    """
    made = {"explanation", "explanation_free"} & {*rows["aim"]}
    if aim not in made and made:
        raise ValueError(f"rows have attacks of aim {', '.join(sorted(made))}, and aim={aim!r} is asked for")
    largest = rows["eps"].max() if eps is None else eps
    strong, own = rows["eps"].sub(largest).abs() < 1e-9, made_on_itself(rows)
    threat = np.select([strong & own, strong & (rows["made_on"] == "vit")], ["adaptive", "transferred"], "")
    aim = "rollout" if (method, aim) == ("rollout", "explanation") else aim
    fixed = (rows["method"] == method) & (rows["explained"] != "re-predicted")
    about = rows[["image_id", "photograph", "defence", "value"]].assign(threat=threat)
    maps = [about[fixed & (rows["metric"] == "fidelity")].assign(threat="none"),
            about[fixed & (rows["metric"] == "topk_overlap") & (rows["aim"] == aim) & (threat != "")]]
    right = (rows["metric"] == "right") & (rows["method"] == "")
    clean = about[right & (rows["aim"] == "none")].assign(threat="none")
    after = about[right & (rows["aim"] == "prediction") & (threat != "")]
    before = clean.set_index(["defence", "image_id"])["value"]
    after = after.assign(value=after["value"] * before.reindex(pd.MultiIndex.from_frame(
        after[["defence", "image_id"]])).to_numpy())
    found = pd.concat([*(part.assign(measure="map") for part in maps),
                       *(part.assign(measure="prediction") for part in (clean, after))])
    bare = found[(found["defence"] == "none") & (found["threat"] == "adaptive")]
    found = pd.concat([found, bare.assign(threat="transferred")], ignore_index=True)
    if found.empty:
        raise ValueError(f"no rows of {method!r} or of predictions to compare defences on; wanted metrics fidelity, "
                         "topk_overlap or right, as of attack_rows")
    return found[["image_id", "photograph", "defence", "measure", "threat", "value"]]


def said_of_holding(rows) -> str:
    """What defences keep of their map under their own attack where it holds the class, and where it is free, in words:
    those that keep 0.05 more of the former. "" where rows lack one of the two aims."""
    aims = ("explanation", "explanation_free")
    if not {*aims} <= {*rows["aim"]}:
        return ""
    values = pd.concat([values_by_defence(rows, aim=aim).assign(aim=aim) for aim in aims])
    values = values[(values["measure"] == "map") & (values["threat"] == "adaptive")]
    means = values.groupby(["defence", "aim"])["value"].mean().unstack()[[*aims]]
    parts = [f"{said(d)} {held:.2f}, then {free:.2f}" for d, held, free in means.itertuples() if held > free + 0.05]
    return f"kept under one's own attack with the class held, then free: {'; '.join(parts) or 'much the same'}"


def paired_difference(one, other, about: str, fewer: bool = False) -> pd.Series:
    """One side minus the other, Series by image and photograph; ValueError unless both have each image once.

    fewer   whether one side may have some of the other's images alone, as where a costlier attack is met by the first
            images only: the difference is over those
    """
    few, many = sorted((one, other), key=len)
    fits = few.index.isin(many.index).all() and (fewer or len(few) == len(many)) and len(few)
    if one.index.has_duplicates or other.index.has_duplicates or not fits:
        raise ValueError(f"{about}: {len(one)} and {len(other)} values, wanted one of each image on both sides; "
                         "complete the run")
    return (one - other)[few.index]


def what_buys(values, questions=QUESTIONS, groups: bool = True) -> pd.DataFrame:
    """What noise, denoising and the prior buy: for each of QUESTIONS, measure and threat the mean difference of two
    defences over the same images, with its 95 % interval.

    values      of `values_by_defence`
    questions   triples (question, with it, without it); those of which `values` lack a defence are left out
    groups      intervals are over photographs; False: every image is its own
    returns     DataFrame COLUMNS, in the order of questions, MEASURES and THREATS

    Raises ValueError as `paired_difference`, over whose images the values of the two sides are, too.
    """
    found = []
    for question, one, other in questions:
        for measure in MEASURES:
            for threat in THREATS:
                cells = values[(values["measure"] == measure) & (values["threat"] == threat)]
                sides = [cells[cells["defence"] == side].set_index(["image_id", "photograph"])["value"]
                         for side in (one, other)]
                if any(side.empty for side in sides):
                    continue
                difference = paired_difference(*sides, f"{one} and {other}, {measure}, {threat}", threat == "adaptive")
                sides = [side[difference.index] for side in sides]
                photographs = difference.index.get_level_values("photograph")
                of = outcome_interval if measure == "prediction" else mean_interval
                interval = of(difference, groups=photographs if groups else None)
                found.append([question, one, other, measure, threat, sides[0].mean(), sides[1].mean(), *interval,
                              interval.n, interval.n_groups or interval.n])
    return pd.DataFrame(found, columns=COLUMNS)


def attacked_itself(rows) -> pd.DataFrame:
    """What the explanation attack on raw attention and a method's own attack leave of its top-k.

    rows      of `attack_rows` with a column photograph, at one radius, behind one defence, with the aim "explanation"
              and aims of the methods' own names
    returns   DataFrame method, transferred, own (mean overlaps), difference (own minus transferred, by image), low,
              high (its 95 % interval over photographs), n, n_groups
    """
    rows = rows[(rows["metric"] == "topk_overlap") & (rows["explained"] != "re-predicted")]
    found = []
    for method in [m for m in dict.fromkeys(rows["method"]) if m in set(rows["aim"])]:
        part = rows[rows["method"] == method].groupby("aim")["value"].mean()
        interval = gain(rows, {"aim": method}, {"aim": "explanation"}, method=method)
        found.append([method, part["explanation"], part[method], *interval, interval.n, interval.n_groups])
    return pd.DataFrame(found, columns=["method", "transferred", "own", "difference", "low", "high", "n", "n_groups"])


def no_information(rows, method: str = "raw_attention") -> tuple[float, float]:
    """(low, high) of the overlap that maps have for nothing, from `controls.no_information_rows` with a column
    photograph: from the lower end of the interval of what maps of unrelated images share, to the upper end of what a
    constant map does. An overlap in it, or below, keeps nothing of the image.

    Raises ValueError without such rows.
    """
    own = rows[rows["method"] == method]
    parts = [own[(own["aim"] == "other_image") & (own["defence"] == "none")],
             own[(own["defence"] == "constant_map") & (own["metric"] == "fidelity")]]
    if any(part.empty for part in parts):
        raise ValueError(f"no rows of {method!r} with aim 'other_image' and with defence 'constant_map', wanted those "
                         "of fvit.experiments.controls.no_information_rows")
    table = interval_table(pd.concat(parts), by=["defence"], groups="photograph")
    shared = table["defence"] == "none"  # a pair of images counts in the means of both, which halves their spread
    table.loc[shared, "low"] -= table.loc[shared, "mean"] - table.loc[shared, "low"]
    low, high = table[["mean", "low"]].min().min(), table[["mean", "high"]].max().max()  # of one group: the means
    return float(low), float(high)


def with_no_information(table, rows, column: str = "condition", methods=("raw_attention",)) -> pd.DataFrame:
    """A figure's table and, for each of the methods, the level of `no_information` of `rows` as a row: `column` is
    style.NO_INFORMATION, defence "", low and high the ends of the level. Figures shade what such rows say.
    """
    levels = [dict(zip(("low", "high"), no_information(rows, method), strict=True)) | {"method": method, "defence": ""}
              for method in methods]
    levels = pd.DataFrame(levels).assign(**{column: NO_INFORMATION})
    return pd.concat([table, levels[[name for name in levels if name in table]]], ignore_index=True)


def at_every_radius(rows) -> pd.DataFrame:
    """The rows of the images that met every attack at every radius, so that a line joins what is of the same images."""
    met = rows[["image_id", "defence", "aim", "made_on", "eps"]].drop_duplicates().groupby("image_id").size()
    return rows[rows["image_id"].isin(met.index[met == met.max()])]


def as_said(table) -> pd.DataFrame:
    """A table of `what_buys` with its defences in words."""
    return table.assign(**{"with": table["with"].map(said), "without": table["without"].map(said)})


def told_apart(rows) -> pd.DataFrame:
    """Whether the perturbation test tells good maps from bad ones, by fill and square: the paired difference of their
    areas (mean height), of a sign that is positive where the test is right, with its 95 % interval over photographs.

    rows      of `controls.fill_rows`, with a column photograph
    returns   DataFrame variant, kind, good, bad, difference, low, high, n, n_groups
    """
    found = []
    for variant, part in rows.groupby("variant", sort=False):
        areas = auc_rows(part, "mean_height")
        for kind, good, bad in product(("positive", "negative"), ("mask", "occlusion"),
                                       ("random_order", "inverted_mask")):
            better = gain(areas, {"method": good}, {"method": bad}, kind=kind)
            value, low, high = better if kind == "negative" else (-better[0], -better[2], -better[1])
            found.append([variant, kind, good, bad, value, low, high, better.n, better.n_groups])
    return pd.DataFrame(found, columns=["variant", "kind", "good", "bad", "difference", "low", "high", "n", "n_groups"])


def compare_areas(areas) -> pd.DataFrame:
    """DDS minus bare for the area of every map, paired by image, tested on the means of the photographs, and corrected
    by Holm's method: one family for each threat.

    areas     of `tables.auc_rows`, the class held
    returns   DataFrame method, kind, eps, threat ("transferred", "adaptive") and the columns of `compare_pairs`. Clean
              areas are in both families, as is the attack on the bare ViT, for its side
    """
    return pd.concat([compare_pairs(part, ["method", "kind", "eps"], groups="photograph").assign(threat=threat)
                      for threat, part in by_threat(areas).groupby("threat", sort=False)], ignore_index=True)


def area_gains(areas) -> pd.DataFrame:
    """What DDS adds to the area of every map, image by image, without an attack and at the largest radius: DataFrame
    kind, method, condition ("clean", "transferred", "adaptive"), eps, difference, low, high, n, n_groups.

    areas   as of `compare_areas`
    """
    found = compare_areas(areas[areas["eps"].isin([0, areas["eps"].max()])])
    found["condition"] = found["threat"].where(found["eps"] > 0, "clean")
    return found.drop_duplicates(["kind", "method", "condition"], ignore_index=True)[
        ["kind", "method", "condition", "eps", "difference", "low", "high", "n", "n_groups"]]
