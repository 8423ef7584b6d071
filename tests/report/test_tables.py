"""Tables from rows: against the scores of the maps themselves, a bootstrap written out, and names that do not fit."""

import numpy as np
import pandas as pd
import pytest
import torch

from fvit.base.rng import numpy_generator
from fvit.metrics.segmentation import segmentation_scores
from fvit.report.tables import NEEDED, POOLED, image_count, image_iou, paired_conditions, segmentation_table
from fvit.theory.intervals import mean_interval

pytestmark = pytest.mark.filterwarnings("error")
IDS = [f"i{n}" for n in range(7)]
GROUPS = dict(zip(IDS, "aabbbcd", strict=True))


def scores(seed=0, ignore=True):
    g = torch.Generator().manual_seed(seed)
    mask = (torch.rand(7, 8, 8, generator=g) < 0.2).to(torch.int8)
    if ignore:
        mask[:2, 0] = -1
    return segmentation_scores(torch.rand(7, 4, 4, generator=g) + 0.3 * mask[:, ::2, ::2], mask)


def tidy(table, suffix="", **columns):
    shared = {"method": "vta", "smoothing": "none", "attack": "none", "eps": 0.0} | columns
    return pd.concat([pd.DataFrame({**shared, "image_id": IDS, "metric": f"{name}{suffix}", "value": [*table[name]]})
                      for name in NEEDED])


def as_series(table):
    return table.set_index("metric")


def test_captions_say_at_which_radii_there_are_fewer_images():
    full = pd.DataFrame({"image_id": list("abc") * 2, "eps": [0.0] * 3 + [8 / 255] * 3})
    assert image_count(pd.concat([full, full])) == "3"  # several rows of an image are one image
    less = pd.DataFrame({"image_id": list("ab"), "eps": 2 / 255})
    assert image_count(pd.concat([full, less])) == "3 (2 of them at 2/255)"
    less = pd.concat([less, less.assign(eps=4 / 255)])
    assert image_count(pd.concat([full, less])) == "3 (2 of them at 2/255, 2 of them at 4/255)"


def test_pooled_scores_are_those_of_the_summary():
    bare, smooth = scores(0), scores(1, ignore=False)
    table = segmentation_table(pd.concat([tidy(bare), tidy(smooth, smoothing="dds")]), GROUPS)
    assert list(table["smoothing"]) == ["none"] * 4 + ["dds"] * 4
    for name, want in (("none", bare.summary()), ("dds", smooth.summary())):
        got = as_series(table[table["smoothing"] == name])["mean"]
        for metric in POOLED:
            assert got[metric] == pytest.approx(want[metric], abs=1e-12)
    assert (table["n"] == 7).all()


def test_the_order_of_rows_and_images_does_not_matter():
    rows = tidy(scores())
    shuffled = rows.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(segmentation_table(rows, GROUPS), segmentation_table(shuffled, GROUPS))


def test_the_interval_of_a_mean_is_that_of_mean_interval():
    per_image = scores()
    got = as_series(segmentation_table(tidy(per_image), GROUPS)).loc["mAP", ["mean", "low", "high"]]
    want = mean_interval(per_image.average_precision, groups=[GROUPS[i] for i in IDS])
    np.testing.assert_allclose(got.to_numpy(dtype=float), want, atol=1e-12)


def test_the_interval_of_a_ratio_resamples_whole_photographs():
    per_image, picks = scores(), numpy_generator(0, "bootstrap").integers(4, size=(2000, 4))
    members = [[n for n, i in enumerate(IDS) if GROUPS[i] == photograph] for photograph in "abcd"]
    pooled = [per_image.iloc[[n for p in pick for n in members[p]]].summary().mIoU for pick in picks[:200]]
    got = as_series(segmentation_table(tidy(per_image), GROUPS, n_boot=200)).loc["mIoU"]
    few = numpy_generator(0, "bootstrap").integers(4, size=(200, 4))
    assert (few == picks[:200]).all()
    np.testing.assert_allclose([got["low"], got["high"]], np.quantile(pooled, [0.025, 0.975]), atol=1e-12)


def test_one_photograph_has_no_interval():
    table = segmentation_table(tidy(scores()), dict.fromkeys(IDS, "a"))
    assert table[["low", "high"]].isna().all(axis=None) and table["mean"].notna().all()


def test_undefined_f1_is_left_out_as_in_the_summary():
    mask = torch.zeros(7, 8, 8, dtype=torch.int8)
    mask[0, :4] = 1
    per_image = segmentation_scores(torch.cat([torch.rand(1, 8, 8), torch.ones(6, 8, 8)]), mask)
    assert per_image.f1.isna().sum() == 6
    got = as_series(segmentation_table(tidy(per_image)))["mean"]
    assert got["mF1"] == pytest.approx(per_image.summary().mF1, abs=1e-12)


def test_a_suffix_selects_its_metrics_alone():
    first, second = scores(0), scores(1)
    table = segmentation_table(pd.concat([tidy(first), tidy(second, " (again)", method="lrp")]), suffix=" (again)")
    assert set(table["method"]) == {"lrp"}
    assert as_series(table).loc["mAP", "mean"] == pytest.approx(second.summary().mAP)


def test_iou_of_an_image_is_the_summary_of_that_image_alone():
    per_image = scores()
    got = image_iou(tidy(per_image)).set_index("image_id")["value"]
    for n, i in enumerate(IDS):
        assert got[i] == pytest.approx(per_image.iloc[[n]].summary().mIoU, abs=1e-12)


@pytest.mark.parametrize("spoil, message", [
    (lambda rows: rows[rows["metric"] == "none of these"], "no metric labelled.*measure 'segmentation'"),
    (lambda rows: rows[rows["metric"] != "inter_bg"], "method=vta.*no rows of inter_bg"),
    (lambda rows: pd.concat([rows, rows.iloc[:1]]), "an image occurs twice"),
])
def test_rows_that_do_not_fit_are_refused(spoil, message):
    with pytest.raises(ValueError, match=message):
        segmentation_table(spoil(tidy(scores())))


def test_each_side_of_a_pair_meets_the_attack_that_the_condition_names():
    attacks = ["none", "fresh noise", *(f"{a} via {t}" for a in ("prediction", "explanation", "rollout")
                                        for t in ("vit", "dds"))]
    rows = pd.DataFrame([{"method": m, "smoothing": s, "attack": a, "value": f"{m} {s} {a}"}
                         for m in ("raw_attention", "rollout", "vta") for s in ("none", "dds") for a in attacks])
    paired = paired_conditions(rows).set_index(["method", "smoothing", "condition"])["value"]
    assert paired["raw_attention", "none", "explanation, adaptive"] == "raw_attention none explanation via vit"
    assert paired["raw_attention", "dds", "explanation, adaptive"] == "raw_attention dds explanation via dds"
    assert paired["rollout", "dds", "explanation, transferred"] == "rollout dds rollout via vit"
    assert paired["rollout", "dds", "explanation, adaptive"] == "rollout dds rollout via dds"
    assert paired["vta", "dds", "explanation, adaptive"] == "vta dds explanation via dds"
    assert paired["vta", "dds", "prediction, transferred"] == "vta dds prediction via vit"
    assert len(paired) == 3 * 2 * 4 and not paired.str.contains("fresh").any()
