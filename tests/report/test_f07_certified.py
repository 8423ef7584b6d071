"""The certified-accuracy curve, counted by hand from rows; names beside curves, and the votes that decide."""

import pandas as pd
import pytest
from scipy.stats import beta

from fvit.report import f07_certified
from fvit.report.f07_certified import certified_accuracy

ON = {"a": "sea", "b": "sea", "c": "hill", "d": "wood", "e": "moor"}  # image -> photograph
VALUES = {  # b is the second of its photograph and does not count; of c the prediction is wrong; d abstains on the map
    "right": [1, 1, 0, 1, 1], "label_radius": [0.3, 0.9, 0.9, 0.2, -1], "radius": [0.2, 0.9, 0.4, -1, 0.1],
    "joint_radius": [0.2, 0.9, 0.4, -1, -1]}


def rows():
    return pd.DataFrame([{"image_id": i, "metric": metric, "value": v}
                         for metric, values in VALUES.items() for i, v in zip(ON, values, strict=True)])


def test_each_photograph_counts_once_and_a_wrong_prediction_never():
    found = certified_accuracy(rows(), ON, [0, 0.1, 0.2, 0.3])
    shares = found.pivot(index="certified", columns="radius", values="mean")
    assert shares.loc["prediction right and certified"].tolist() == [0.5, 0.5, 0.25, 0]  # a and d; a; a up to 0.3
    assert shares.loc["top-k certified"].tolist() == [0.75, 0.5, 0.25, 0.25]
    assert shares.loc["both"].tolist() == [0.25, 0.25, 0, 0]  # a; a radius holds for every smaller one
    assert (found["n"] == 4).all()
    of_one = found[(found["certified"] == "both") & (found["radius"] == 0)].iloc[0]
    assert (of_one["low"], of_one["high"]) == pytest.approx((beta.ppf(0.025, 1, 4), beta.ppf(0.975, 2, 3)))


def test_an_image_without_all_its_rows_is_refused():
    with pytest.raises(ValueError, match="an image lacks a row of radius, label_radius, joint_radius or right"):
        certified_accuracy(rows().iloc[:-1], ON, [0])


def test_names_of_curves_stand_right_of_the_curves_they_would_cover():
    radius = [0.0, 0.02, 0.04, 0.3, 0.5]
    shares = {"votes": [1, 1, 1, 0.8, 0], "sharp": [1, 1, 0.3, 0, 0], "renyi": [1, 0.4, 0, 0, 0]}
    df = pd.concat([pd.DataFrame({"certificate": name, "kind": "plugin", "radius": radius, "share": share})
                    for name, share in shares.items()])
    (ax,) = f07_certified.plot_certified_share(df).axes
    places = {text.get_text(): (text.xy, text.xyann) for text in ax.texts}
    (at, level), (name, height) = places["renyi"]
    assert at == 0.02 and name > 0.04 and level == height  # past the curve of "sharp", which it would cover
    assert [places[n][1][1] for n in ("renyi", "sharp", "votes")] == sorted(places[n][1][1] for n in shares)


def test_certificates_that_reach_no_image_are_named_apart():
    df = pd.DataFrame({"certificate": ["votes"] * 2 + ["sharp"] * 2, "kind": "radius", "radius": [0, 0.1] * 2,
                       "share": [1, 0.5, 0, 0]})
    (ax,) = f07_certified.plot_certified_share(df).axes
    assert {text.get_text() for text in ax.texts} == {"votes", "no image: sharp"}


def test_the_votes_that_decide_are_the_hatched_bars():
    df = pd.DataFrame({"place": [1, 2, 3, 4], "vote": [0.9, 0.7, 0.3, 0.1], "top": [True, True, False, False],
                       "decides": [False, True, True, False]})
    ax = f07_certified.plot_votes(df).axes[0]
    assert [bar.get_height() for bar in ax.patches] == [0.9, 0.7, 0.3, 0.1]
    assert [bool(bar.get_hatch()) for bar in ax.patches] == [False, True, True, False]
    assert [text.get_text() for text in ax.texts] == ["0.90", "0.70", "0.30", "0.10", "the shown set", "outside"]
