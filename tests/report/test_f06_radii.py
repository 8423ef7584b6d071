"""The certified-accuracy curve, counted by hand from rows."""

import pandas as pd
import pytest
from scipy.stats import beta

from fvit.report.f06_radii import certified_accuracy

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
