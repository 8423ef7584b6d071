"""Tables of notebook 08: areas as `curve_auc` has them, threats told apart, robust accuracy; controls by slow loops."""

import numpy as np
import pandas as pd
import pytest
import torch
from oracles.maps import images as pictures
from oracles.maps import tiny_denoiser, tiny_vit

from fvit import curve_auc, perturbation_curve, pgd, prediction_loss
from fvit.data.images import Images
from fvit.experiments.attack_rows import attack_rows
from fvit.experiments.bench import Bench
from fvit.experiments.controls import CONTROL_MAPS, DENOISE, control_rows, denoise_only_rows
from fvit.records.rows import REPREDICTED, SCHEMA
from fvit.report.tables import accuracy_table, auc_rows, by_threat, curve_rows, curve_table, perturbation_table
from fvit.theory.intervals import rate_interval

pytestmark = pytest.mark.filterwarnings("error")
PHOTOGRAPH = {"a": "flower", "b": "moon", "c": "moon"}
CONVENTIONS = ("mean_height", "unit_interval")


def curve(image, hits, kind="positive", suffix="", **condition):
    labels = {"method": "vta", "smoothing": "none", "attack": "none", "eps": 0.0} | condition
    return pd.DataFrame([{"image_id": image, **labels, "metric": f"{kind} {10 * t}{suffix}", "value": float(hit)}
                         for t, hit in enumerate(hits)])


def some_rows(seed=0):
    g = np.random.default_rng(seed)
    hits = {(i, kind, suffix): g.integers(0, 2, 11) for i in PHOTOGRAPH for kind in ("positive", "negative")
            for suffix in ("", REPREDICTED)}
    return pd.concat([curve(*key[:1], h, *key[1:]) for key, h in hits.items()]), hits


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_areas_are_those_of_curve_auc_whatever_the_order_of_the_rows(convention):
    rows, hits = some_rows()
    other = pd.DataFrame({"image_id": ["a"], "method": "vta", "smoothing": "none", "attack": "none", "eps": 0.0,
                          "metric": ["fidelity"], "value": [0.3]})
    shuffled = pd.concat([rows, other]).sample(frac=1, random_state=0)
    for given in (rows, shuffled):
        found = auc_rows(given, convention).set_index(["image_id", "kind", "explained"])
        assert len(found) == len(hits) and set(found["convention"]) == {convention}
        for (image, kind, suffix), h in hits.items():
            area = found.loc[(image, kind, "re-predicted" if suffix else "fixed"), "value"]
            assert area == pytest.approx(float(curve_auc(h.astype(float), convention)), abs=1e-12)


def test_the_mean_area_is_the_area_of_the_mean_curve():
    rows, hits = some_rows(1)
    table = perturbation_table(rows, "mean_height", PHOTOGRAPH)
    fixed = table[(table["kind"] == "negative") & (table["explained"] == "fixed")].iloc[0]
    mean = np.mean([h for (_, kind, suffix), h in hits.items() if kind == "negative" and not suffix], axis=0)
    assert fixed["mean"] == pytest.approx(float(curve_auc(mean, "mean_height"))) and fixed["n"] == 3
    line = curve_table(rows, PHOTOGRAPH).query("kind == 'negative' and explained == 'fixed'")
    assert list(line["removed"]) == [t / 10 for t in range(11)]
    np.testing.assert_allclose(line["mean"], mean)


def test_a_curve_with_a_step_missing_or_twice_and_no_curve_are_refused():
    rows, _ = some_rows()
    for bad in (rows.iloc[1:], pd.concat([rows, rows.iloc[:1]])):
        with pytest.raises(ValueError, match=r"the curve of \('a', .*\) has steps missing or twice, wanted 11"):
            curve_rows(bad)
    with pytest.raises(ValueError, match="no rows of perturbation tests"):
        curve_rows(rows.assign(metric="right"))
    with pytest.raises(ValueError, match="convention"):
        auc_rows(rows, "trapezoid")


def right(smoothing, attack, hits, eps=0.1):
    return pd.DataFrame({"image_id": list("abcd"), "method": "", "smoothing": smoothing, "attack": attack,
                         "eps": 0 if attack == "none" else eps, "metric": "right", "value": np.array(hits, float)})


def test_robust_accuracy_counts_what_is_right_before_and_after():
    rows = pd.concat([right("none", "none", [1, 1, 0, 1]), right("none", "prediction via vit", [1, 0, 1, 0])])
    table = accuracy_table(rows.sample(frac=1, random_state=1)).set_index("attack")
    assert tuple(table.loc["none", ["right", "robust"]]) == (0.75, 0.75)
    assert table.loc["prediction via vit", "right"] == 0.5
    assert tuple(table.loc["prediction via vit", ["robust", "low", "high"]]) == rate_interval(1, 4)


@pytest.mark.parametrize("rows, message", [
    (right("none", "prediction via vit", [1, 0, 1, 0]), "have no prediction under attack 'none'"),
    (pd.concat([right("none", "none", [1] * 4)] * 2), "images occur twice"),
    (right("none", "none", [1] * 4).assign(metric="class_kept"), "no predictions"),
])
def test_predictions_without_a_clean_twin_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        accuracy_table(rows)


def test_threats_are_told_apart():
    made = [("none", "none"), ("none", "prediction via vit"), ("dds", "none"), ("dds", "fresh noise"),
            ("dds", "prediction via vit"), ("dds", "prediction via dds"), ("denoise", "prediction via vit"),
            ("denoise", "prediction via denoise"), ("dds", "explanation via dds")]
    found = by_threat(pd.DataFrame(made, columns=["smoothing", "attack"]))
    pairs = {t: set(zip(part["smoothing"], part["attack"], strict=True)) for t, part in found.groupby("threat")}
    clean = {("none", "none"), ("dds", "none"), ("none", "prediction via vit")}
    assert pairs["transferred"] == clean | {("dds", "prediction via vit"), ("denoise", "prediction via vit")}
    assert pairs["adaptive"] == clean | {("dds", "prediction via dds"), ("denoise", "prediction via denoise")}


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
    assert set(rows["method"]) == set(CONTROL_MAPS) and set(rows) <= set(SCHEMA)
    inside = (scene.mask == 1).double()
    for method, pixel_map in (("mask", inside), ("constant map", torch.ones(3, 32, 32))):
        for kind in ("positive", "negative"):
            hits = perturbation_curve(bench.vit, scene.x, scene.y, pixel_map, kind)
            found = curve_rows(rows)
            wide = found[(found["method"] == method) & (found["kind"] == kind)]
            wide = wide.pivot(index="image_id", columns="removed", values="value")
            assert wide.to_numpy().tolist() == hits.tolist()


def test_the_random_order_is_named_by_the_image(bench, scene):
    swapped = Images(scene.x.flip(0), scene.y.flip(0), scene.mask.flip(0), scene.ids[::-1], scene.groups[::-1],
                     scene.class_names)
    keys = ["image_id", "method", "metric"]
    one, two = (control_rows(bench, s).set_index(keys)["value"].sort_index() for s in (scene, swapped))
    pd.testing.assert_series_equal(one, two)


def test_denoise_only_is_the_vit_behind_the_denoiser(bench, scene):
    rows = denoise_only_rows(bench, scene, [0.05])
    assert set(rows["smoothing"]) == {DENOISE} and set(rows["metric"]) == {"right"}

    def model(x):
        return bench.vit(bench.den(x, 0.25))

    with torch.no_grad():
        found, bare = model(scene.x).argmax(1), bench.vit(scene.x).argmax(1)
    options = {"eps": 0.05, "steps": 2, "seed": 0, "ids": scene.ids}
    shown = {"none": scene.x, "prediction via vit": pgd(prediction_loss(bench.vit, bare), scene.x, **options),
             "prediction via denoise": pgd(prediction_loss(model, found), scene.x, **options)}
    for attack, x in shown.items():
        with torch.no_grad():
            hits = (model(x).argmax(1) == scene.y).double()
        assert rows.loc[rows["attack"] == attack, "value"].tolist() == hits.tolist()


def test_tables_take_the_rows_of_the_experiment(bench, scene):
    rows = attack_rows(bench, scene, methods=["raw_attention", "gradcam"], attacks=[("prediction", "vit")],
                       radii=[0.05], measures=["perturbation"])
    both = pd.concat([rows, control_rows(bench, scene)])
    table = perturbation_table(both, "mean_height", PHOTOGRAPH)
    assert set(table.loc[table["explained"] == "re-predicted", "method"]) == {"gradcam"}
    assert table["n"].eq(3).all() and set(accuracy_table(rows)["smoothing"]) == {"none", "dds"}
