"""Tables from rows: against the scores of the maps themselves, a bootstrap written out, `curve_auc`, and slow loops."""

import numpy as np
import pandas as pd
import pytest
import torch
from oracles.maps import images as pictures
from oracles.maps import tiny_denoiser, tiny_vit

from fvit import curve_auc, perturbation_curve, pgd, prediction_loss
from fvit.data.images import Images
from fvit.experiments.bench import Bench
from fvit.experiments.controls import all_controls, control_rows
from fvit.metrics.segmentation import segmentation_scores
from fvit.records.rows import conform
from fvit.records.words import CONTROL_MAPS
from fvit.report import tables
from fvit.report.tables import NEEDED, curve_rows, segmentation_table
from fvit.theory.intervals import group_interval, mean_interval, rate_interval

pytestmark = pytest.mark.filterwarnings("error")
IDS = [f"i{n}" for n in range(7)]
GROUPS = dict(zip(IDS, "aabbbcd", strict=True))
PHOTOGRAPH = {"a": "flower", "b": "moon", "c": "moon"}


def scores(seed=0, ignore=True):
    g = torch.Generator().manual_seed(seed)
    mask = (torch.rand(7, 8, 8, generator=g) < 0.2).to(torch.int8)
    if ignore:
        mask[:2, 0] = -1
    return segmentation_scores(torch.rand(7, 4, 4, generator=g) + 0.3 * mask[:, ::2, ::2], mask)


def tidy(table, **columns):
    return conform(pd.concat([pd.DataFrame({"image_id": IDS, "method": "vta", "explained": "fixed", **columns,
                                            "metric": name, "value": [*table[name]]}) for name in NEEDED]))


def as_series(table):
    return table.set_index("metric")


def test_pooled_scores_and_those_of_an_image_are_those_of_the_summary():
    bare, smooth = scores(0), scores(1, ignore=False)
    rows = pd.concat([tidy(bare), tidy(smooth, defence="dds").sample(frac=1, random_state=1)])  # in any order
    table = segmentation_table(rows, GROUPS)
    assert list(table["defence"]) == ["none"] * 4 + ["dds"] * 4 and (table["n"] == 7).all()
    for name, want in (("none", bare.summary()), ("dds", smooth.summary())):
        got = as_series(table[table["defence"] == name])["mean"]
        for score in tables.POOLED:
            assert got[score] == pytest.approx(want[score], abs=1e-12)
    mask = torch.zeros(7, 8, 8, dtype=torch.int8)
    mask[0, :4] = 1
    undefined = segmentation_scores(torch.cat([torch.rand(1, 8, 8), torch.ones(6, 8, 8)]), mask)
    mean_f1 = as_series(segmentation_table(tidy(undefined)))["mean"]["mF1"]
    assert undefined.f1.isna().sum() == 6 and mean_f1 == pytest.approx(undefined.summary().mF1, abs=1e-12)
    alone = tables.image_iou(tidy(bare)).set_index("image_id")["value"]
    for n, i in enumerate(IDS):
        assert alone[i] == pytest.approx(bare.iloc[[n]].summary().mIoU, abs=1e-12)


def test_the_interval_of_a_mean_is_that_of_mean_interval():
    per_image = scores()
    got = as_series(segmentation_table(tidy(per_image), GROUPS)).loc["mAP", ["mean", "low", "high"]]
    want = mean_interval(per_image.average_precision, groups=[GROUPS[i] for i in IDS])
    np.testing.assert_allclose(got.to_numpy(dtype=float), want, atol=1e-12)


def test_the_interval_of_a_ratio_leaves_out_whole_photographs_and_one_has_none():
    per_image = scores()
    without = [per_image.iloc[[n for n, i in enumerate(IDS) if GROUPS[i] != out]].summary().mIoU for out in "abcd"]
    rows = tidy(per_image).sample(frac=1, random_state=1)
    got = as_series(segmentation_table(rows, GROUPS)).loc["mIoU"]
    np.testing.assert_allclose([got["low"], got["high"]], group_interval(got["mean"], without), atol=1e-12)
    alone = segmentation_table(tidy(per_image), dict.fromkeys(IDS, "a"))
    assert alone[["low", "high"]].isna().all(axis=None) and alone["mean"].notna().all()


@pytest.mark.parametrize("spoil, message", [
    (lambda rows: rows[rows["metric"] == "none of these"], "no metric labelled.*measure 'segmentation'"),
    (lambda rows: rows[rows["metric"] != "inter_bg"], "method=vta.*no rows of inter_bg"),
    (lambda rows: pd.concat([rows, rows.iloc[:1]]), "an image occurs twice"),
])
def test_rows_that_do_not_fit_are_refused(spoil, message):
    with pytest.raises(ValueError, match=message):
        segmentation_table(spoil(tidy(scores())))


ATTACKS = [(aim, made_on) for aim in ("prediction", "explanation", "rollout") for made_on in ("vit", "dds")]


def test_each_side_of_a_pair_meets_the_attack_that_the_condition_names():
    met = [(d, *a) for d in ("none", "dds") for a in [("none", ""), ("fresh_noise", ""), *ATTACKS]
           if (d, a[1]) != ("none", "dds")]
    rows = pd.DataFrame([{"method": m, "defence": d, "aim": aim, "made_on": on, "value": f"{m} {d} {aim} {on}"}
                         for m in ("raw_attention", "rollout", "vta") for d, aim, on in met])
    paired = tables.paired_conditions(rows)
    assert list(dict.fromkeys(paired.condition)) == ["clean", "prediction, transferred", "explanation, transferred",
                                                     "explanation, adaptive"]
    paired = paired.set_index(["method", "defence", "condition"])["value"]
    assert paired["raw_attention", "none", "explanation, adaptive"] == "raw_attention none explanation vit"
    assert paired["raw_attention", "dds", "explanation, adaptive"] == "raw_attention dds explanation dds"
    assert paired["rollout", "dds", "explanation, transferred"] == "rollout dds rollout vit"
    assert paired["rollout", "dds", "explanation, adaptive"] == "rollout dds rollout dds"
    assert paired["vta", "dds", "explanation, adaptive"] == "vta dds explanation dds"
    assert paired["vta", "dds", "prediction, transferred"] == "vta dds prediction vit"
    assert len(paired) == 3 * 2 * 4


def test_threats_are_told_apart_and_what_has_no_model_of_its_own_is_under_either():
    made = [("none", "none", ""), ("none", "prediction", "vit"), ("dds", "none", ""), ("dds", "fresh_noise", ""),
            ("dds", "prediction", "vit"), ("dds", "prediction", "dds"), ("denoise_only", "prediction", "vit"),
            ("denoise_only", "prediction", "denoise_only"), ("dds", "explanation", "dds")]
    found = tables.by_threat(pd.DataFrame(made, columns=["defence", "aim", "made_on"]))
    met = {t: [*part[["defence", "aim", "made_on"]].itertuples(index=False, name=None)]
           for t, part in found.groupby("threat")}
    assert met == {"transferred": [made[n] for n in (0, 1, 2, 4, 6)], "adaptive": [made[n] for n in (0, 1, 2, 5, 7)]}
    made = [("dds", "explanation", "vit"), ("constant_map", "explanation", "vit"), ("dds", "random_signs", "")]
    found = tables.conditions(pd.DataFrame(made, columns=["defence", "aim", "made_on"], index=[5, 5, 2]))
    assert [*zip(found.defence, found.condition, strict=True)] == [
        ("dds", "explanation, transferred"), ("constant_map", "explanation, transferred"),
        ("constant_map", "explanation, adaptive"), ("dds", "random signs")]


def test_stability_says_what_was_met_in_a_word_and_the_bare_vit_s_own_attack_is_both():
    rows = pd.DataFrame([(defence, aim, made_on, metric) for defence, own in (("none", "vit"), ("dds", "dds"))
                         for aim, made_on, metric in dict.fromkeys([
                             ("fresh_noise", "", "topk_overlap"), ("explanation", "vit", "topk_overlap"),
                             ("explanation", own, "topk_overlap"), ("none", "", "fidelity")])],
                        columns=["defence", "aim", "made_on", "metric"])
    met = tables.stability(rows)
    assert [(row.defence, row.condition) for row in met.itertuples()] == [
        ("none", "fresh noise"), ("none", "transferred"), ("none", "adaptive"), ("none", "fidelity"),
        ("dds", "fresh noise"), ("dds", "transferred"), ("dds", "adaptive"), ("dds", "fidelity")]


def photographed(rows):
    return rows.assign(photograph=rows["image_id"].map(PHOTOGRAPH))


def some_curves(seed=0):
    g = np.random.default_rng(seed)
    hits = {(i, kind, explained): g.integers(0, 2, 11) for i in PHOTOGRAPH for kind in ("positive", "negative")
            for explained in ("fixed", "re-predicted")}
    rows = conform([{"image_id": i, "method": "vta", "explained": explained, "metric": kind, "level": t / 10,
                     "value": hit} for (i, kind, explained), h in hits.items() for t, hit in enumerate(h)])
    return photographed(rows), hits


@pytest.mark.parametrize("convention", ["mean_height", "unit_interval"])
def test_areas_are_those_of_curve_auc_whatever_the_order_of_the_rows(convention):
    rows, hits = some_curves()
    other = conform([{"image_id": "a", "method": "vta", "metric": "fidelity", "value": 0.3}])
    for given in (rows, pd.concat([rows, other]).sample(frac=1, random_state=0)):
        found = tables.auc_rows(given, convention).set_index(["image_id", "kind", "explained"])
        assert len(found) == len(hits) and set(found["convention"]) == {convention}
        for key, h in hits.items():
            assert found.loc[key, "value"] == pytest.approx(float(curve_auc(h.astype(float), convention)), abs=1e-12)


def test_the_mean_curve():
    rows, hits = some_curves(1)
    line = tables.curve_table(rows).query("kind == 'negative' and explained == 'fixed'")
    assert list(line["removed"]) == [t / 10 for t in range(11)] and line["n"].eq(3).all()
    np.testing.assert_allclose(line["mean"], np.mean([hits[i, "negative", "fixed"] for i in PHOTOGRAPH], axis=0))


def test_a_curve_with_a_step_missing_or_twice_and_no_curve_are_refused():
    rows, _ = some_curves()
    for bad in (rows.iloc[1:], pd.concat([rows, rows.iloc[:1]])):
        with pytest.raises(ValueError, match=r"the curve of \('a', .*\) has steps missing or twice, wanted 11"):
            curve_rows(bad)
    with pytest.raises(ValueError, match="no perturbation tests"):
        curve_rows(rows.assign(metric="right"))
    with pytest.raises(ValueError, match="convention"):
        tables.auc_rows(rows, "trapezoid")


def test_a_gain_is_paired_by_image_and_averages_what_an_image_has_several_of():
    sides = [("none", "clean", [0.1, 0.2, 0.3, 0.9, 0.8, 0.7]), ("dds", "clean", [0.5, 0.7, 0.3, 0.1, 0.2, 0.3]),
             ("dds", "attacked", [1.0] * 6)]
    rows = photographed(pd.concat([pd.DataFrame({"image_id": list("abcabc"), "defence": d, "condition": c, "value": v,
                                                 "method": ["vta"] * 3 + ["lrp"] * 3}) for d, c, v in sides]))
    found = tables.gain(rows.sample(frac=1, random_state=0), method="vta", condition="clean")
    assert found == pytest.approx(mean_interval([0.4, 0.5, 0.0], [*PHOTOGRAPH.values()])) and found.n_groups == 2
    assert tables.gain(rows, condition="clean")[0] == pytest.approx(-0.15)  # of the two methods: -0.2, -0.05, -0.2
    attacked, clean = {"condition": "attacked"}, {"condition": "clean"}
    assert tables.gain(rows, attacked, clean, defence="dds", method="lrp")[0] == pytest.approx(0.8)
    with pytest.raises(ValueError, match="1 of 3 values are NaN"):
        tables.gain(rows.iloc[1:], method="vta", condition="clean")


def right(aim, hits):
    return conform(pd.DataFrame({"image_id": list("abcd"), "aim": aim, "metric": "right", "value": hits}), eps=0.1,
                   made_on="" if aim == "none" else "vit")


def test_robust_accuracy_counts_what_is_right_before_and_after():
    rows = pd.concat([right("none", [1, 1, 0, 1]), right("prediction", [1, 0, 1, 0])])
    table = tables.accuracy_table(rows.sample(frac=1, random_state=1)).set_index("aim")
    assert tuple(table.loc["none", ["right", "robust"]]) == (0.75, 0.75)
    assert tuple(table.loc["prediction", ["right", "robust", "low", "high"]]) == (0.5, *rate_interval(1, 4))


@pytest.mark.parametrize("rows, message", [
    (right("prediction", [1, 0, 1, 0]), "none, prediction: images occur twice or have no prediction of aim 'none'"),
    (pd.concat([right("none", [1] * 4)] * 2), "images occur twice"),
    (right("none", [1] * 4).assign(metric="class_kept"), "no predictions"),
])
def test_predictions_without_a_clean_twin_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        tables.accuracy_table(rows)


@pytest.fixture(scope="module")
def scene():
    x = pictures(3, torch.float32)
    mask = torch.zeros(3, 32, 32, dtype=torch.int8)
    mask[:, 8:20, 4:16], mask[:, 20:24] = 1, -1
    return Images(x=x, y=torch.tensor([0, 1, 2]), mask=mask, ids=list(PHOTOGRAPH), groups=list(PHOTOGRAPH.values()),
                  class_names=tuple("01234"))


@pytest.fixture(scope="module")
def bench():
    return Bench(tiny_vit(), tiny_denoiser(), 0.25, n_samples=2, k=5, attack_steps=2, attack_draws=1, eval_batch=2)


def test_controls_rank_as_they_say(bench, scene):
    rows = control_rows(bench, scene)
    assert set(rows["method"]) == set(CONTROL_MAPS) and set(rows["explained"]) == {""}
    inside, found = (scene.mask == 1).double(), curve_rows(rows)
    for method, pixel_map in (("mask", inside), ("uniform_map", torch.ones(3, 32, 32))):
        for kind in ("positive", "negative"):
            wide = found[(found["method"] == method) & (found["kind"] == kind)]
            wide = wide.pivot(index="image_id", columns="removed", values="value")
            assert wide.to_numpy().tolist() == perturbation_curve(bench.vit, scene.x, scene.y, pixel_map, kind).tolist()


def test_the_random_order_is_named_by_the_image(bench, scene):
    swapped = Images(scene.x.flip(0), scene.y.flip(0), scene.mask.flip(0), scene.ids[::-1], scene.groups[::-1],
                     scene.class_names)
    keys = ["image_id", "method", "metric", "level"]
    one, two = (control_rows(bench, s).set_index(keys)["value"].sort_index() for s in (scene, swapped))
    pd.testing.assert_series_equal(one, two)


def test_denoise_only_is_the_vit_behind_the_denoiser(bench, scene):
    rows = all_controls(bench, scene, [0.05])
    rows = rows[rows["defence"] == "denoise_only"]
    said = rows[["defence", "metric", "method", "sigma", "n_samples"]].drop_duplicates().to_numpy().tolist()
    assert said == [["denoise_only", "right", "", 0.25, 1]]

    def model(x):
        return bench.vit(bench.den(x, 0.25))

    with torch.no_grad():
        found, bare = model(scene.x).argmax(1), bench.vit(scene.x).argmax(1)
    options = {"eps": 0.05, "steps": 2, "seed": 0, "ids": scene.ids}
    shown = {"": scene.x, "vit": pgd(prediction_loss(bench.vit, bare), scene.x, **options),
             "denoise_only": pgd(prediction_loss(model, found), scene.x, **options)}
    for made_on, x in shown.items():
        with torch.no_grad():
            hits = (model(x).argmax(1) == scene.y).double()
        assert rows.loc[rows["made_on"] == made_on, "value"].tolist() == hits.tolist()
