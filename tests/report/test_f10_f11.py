"""What figures of notebooks 10 and 11 show that no other test looks at: the test on one image, Holm's line."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from fvit.report import contrasts, f10_ranking, f11_predictions, tables
from fvit.report.panels import encode


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_one_image_has_a_row_a_test_and_a_frame_where_the_vit_errs():
    pictures = {"image": np.full((3, 4, 4), 0.5), "map": np.eye(2)}
    about = [("positive", 0.2, "2", 0.9, True), ("positive", 0.5, "7", 0.6, False), ("negative", 0.2, "2", 0.8, True),
             ("negative", 0.5, "2", 0.7, True)]
    said = pd.DataFrame(about, columns=["test", "removed", "says", "probability", "right"])
    said["panel"] = said.test + " " + said.removed.astype(str)
    pictures |= dict.fromkeys(said.panel, pictures["image"])
    fig = f10_ranking.plot_test(encode(pictures).merge(said, how="left", on="panel"))
    assert [ax.get_title() for ax in fig.axes] == ["the image", "20 % gone:\n“2”, 0.90", "50 % gone:\n“7”, 0.60",
                                                   "its map", "20 % gone:\n“2”, 0.80", "50 % gone:\n“2”, 0.70"]
    assert [len(ax.patches) for ax in fig.axes] == [0, 0, 1, 0, 0, 0]
    assert [text.get_text() for ax in fig.axes for text in ax.texts] == ["positive test:\ngreatest first",
                                                                         "negative test:\nleast first"]


def test_holms_line_is_the_level_over_the_tests_not_yet_passed():
    df = pd.DataFrame({"threat": "adaptive", "method": ["a", "vta", "b"], "kind": "negative", "eps": [0, 0.03, 0.03],
                       "p": [0.3, 0.001, 0.04], "stands": [False, True, False]})
    (ax,) = f11_predictions.plot_holm(df).axes
    drawn = {line.get_label(): [*map(float, line.get_ydata())] for line in ax.lines}
    assert drawn["Holm's line"] == pytest.approx([0.05 / 3, 0.05 / 2, 0.05])
    assert drawn["stands"] == [0.001] and drawn["does not stand"] == [0.04, 0.3]
    assert [text.get_text() for text in ax.texts] == ["VTA, negative test, attacked"]


@pytest.fixture
def areas():
    """Of two images, bare and with DDS, each 1/8 higher than the one before in the order of these lines."""
    met = [("none", "none", "", 0), ("dds", "none", "", 0), ("none", "prediction", "vit", 8 / 255),
           ("dds", "prediction", "vit", 8 / 255), ("dds", "prediction", "dds", 8 / 255)]
    rows = [(image, image, "vta", *about, explained, kind, i / 8 + 0.01 * (image == "b") * (about[0] == "dds"))
            for i, about in enumerate(met) for image in "ab" for kind in tables.TESTS
            for explained in (["fixed"] if about[3] == 0 else ["fixed", "re-predicted"])]
    return pd.DataFrame(rows, columns=[*tables.CURVE, "value"])


def test_areas_are_paired_by_image_and_the_clean_ones_are_in_both_families(areas):
    fixed = areas[areas.explained == "fixed"]
    found = contrasts.compare_areas(fixed).set_index(["threat", "kind", "eps"]).difference
    assert found["transferred", "negative", 0] == found["adaptive", "negative", 0] == pytest.approx(0.13)
    assert found["transferred", "positive", 8 / 255] == pytest.approx(0.13)
    assert found["adaptive", "positive", 8 / 255] == pytest.approx(0.255)
    gains = contrasts.area_gains(fixed)
    assert sorted(gains.condition) == ["adaptive"] * 2 + ["clean"] * 2 + ["transferred"] * 2 and (gains.n == 2).all()
    expected = {"clean": 0.13, "transferred": 0.13, "adaptive": 0.255}
    assert gains.set_index("condition").difference.to_dict() == pytest.approx(expected)


def test_areas_by_class_have_the_clean_ones_in_both_classes(areas):
    found = tables.areas_by_class(areas, "vta")
    lines = ["bare, its own attack", "DDS, transferred attack", "DDS, adaptive attack"]
    assert list(found.index) == [f"{line}, class {which}" for which in ("fixed", "re-predicted") for line in lines]
    assert list(found) == ["positive, clean", "positive, 8/255", "negative, clean", "negative, 8/255"]
    np.testing.assert_allclose(found["negative, clean"], [0, 0.13, 0.13] * 2)
    np.testing.assert_allclose(found["positive, 8/255"], [0.25, 0.38, 0.505] * 2)
