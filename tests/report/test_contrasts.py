"""What each part of a defence buys, from rows whose answer is known; the band of no information."""

import re

import numpy as np
import pandas as pd
import pytest

from fvit.records.rows import conform
from fvit.report.contrasts import (
    as_said,
    at_every_radius,
    attacked_itself,
    no_information,
    said_of_holding,
    values_by_defence,
    what_buys,
    with_no_information,
)
from fvit.theory.intervals import mean_interval

IMAGES = {f"i{n}": f"photo{n % 3}" for n in range(6)}
KEPT = {"none": (0.2, 0.2), "denoise_only": (0.9, 0.5), "dds": (0.95, 0.8), "blur": (0.9, 0.7), "mine.py:Mine": (1, 1)}
HOLDS = {"none": (0, 0), "denoise_only": (1, 0), "dds": (1, 1), "blur": (1, 0), "mine.py:Mine": (1, 1)}


@pytest.fixture
def rows():
    """Attacks at 2/255 (kept whole) and at 8/255; the first image is wrong before any attack."""
    found = []
    for n, image_id in enumerate(IMAGES):
        for d, (transferred, adaptive) in KEPT.items():
            def add(value, metric, aim="none", made_on="", eps=0.0, method="", image_id=image_id, d=d):
                found.append({"image_id": image_id, "defence": d, "aim": aim, "made_on": made_on, "eps": eps,
                              "method": method, "metric": metric, "value": value,
                              "explained": "fixed" if method else ""})

            add(float(n > 0), "right")
            add(1 - 0.01 * n, "fidelity", method="raw_attention")
            add(0.99, "topk_overlap", "fresh_noise", method="raw_attention")
            own = "vit" if d == "none" else d
            for made_on, kept, holds in dict.fromkeys(
                    [("vit", transferred, HOLDS[d][0]), (own, adaptive, HOLDS[d][1])]):
                for eps in (2 / 255, 8 / 255):
                    value = 1.0 if eps < 0.01 else kept - 0.01 * n
                    add(value, "topk_overlap", "explanation_free", made_on, eps, "raw_attention")
                    add(value / 2, "topk_overlap", "explanation", made_on, eps, "raw_attention")
                    add(0.0, "topk_overlap", "explanation_free", made_on, eps, "vta")
                    add(1.0 if eps < 0.01 else float(holds), "right", "prediction", made_on, eps)
    table = conform(found, sigma=0.25, n_samples=4, norm="linf", k=5)
    return table.assign(photograph=table.image_id.map(IMAGES))


def test_each_number_is_that_of_its_defence_threat_and_measure_at_the_largest_radius(rows):
    values = values_by_defence(rows).groupby(["defence", "measure", "threat"]).value.mean()
    for d, (transferred, adaptive) in KEPT.items():
        assert values[d, "map", "none"] == pytest.approx(0.975)  # 0.01 n less, of n = 0 ... 5
        assert values[d, "map", "transferred"] == pytest.approx(transferred - 0.025)
        assert values[d, "map", "adaptive"] == pytest.approx(adaptive - 0.025)
        assert [values[d, "prediction", t] for t in ("none", "transferred", "adaptive")] == pytest.approx(
            [5 / 6, 5 / 6 * HOLDS[d][0], 5 / 6 * HOLDS[d][1]])  # right before and after
    assert len(values) == len(KEPT) * 6
    held = values_by_defence(rows, aim="explanation").groupby(["defence", "measure", "threat"]).value.mean()
    assert held["dds", "map", "adaptive"] == pytest.approx((KEPT["dds"][1] - 0.025) / 2)
    assert values_by_defence(rows, eps=2 / 255).query("threat == 'adaptive' and measure == 'map'").value.eq(1).all()


def test_what_holding_the_class_hides_is_said_where_rows_have_both_attacks(rows):
    weak = (rows.aim == "explanation") & (rows.defence == "blur") & (rows.made_on == "blur")
    some = rows.assign(value=rows.value.mask(weak, 0.95))  # 0.675 of the map is kept by its own free attack
    assert re.search(r"then free: blur, 1 pixel 0.95, then 0.6[78]$", said_of_holding(some))
    assert said_of_holding(rows).endswith("much the same")
    assert said_of_holding(rows[rows.aim != "explanation"]) == ""


def test_what_buys_is_the_paired_difference_with_its_interval_over_photographs(rows):
    values = values_by_defence(rows)
    noisy = values.assign(value=values.value + 0.01 * np.arange(len(values)) % 0.03)
    table = what_buys(noisy).set_index(["with", "without", "measure", "threat"])
    cells = noisy[(noisy.measure == "map") & (noisy.threat == "adaptive")].pivot(
        index=["image_id", "photograph"], columns="defence", values="value")
    difference = cells.dds - cells.blur
    wanted = mean_interval(difference, groups=difference.index.get_level_values("photograph"))
    row = table.loc[("dds", "blur", "map", "adaptive")]
    np.testing.assert_allclose(row[["difference", "low", "high"]].to_numpy(dtype=float), wanted)
    assert (row.n, row.n_groups) == (6, 3) and row.value_with - row.value_without == pytest.approx(row.difference)


def test_the_questions_that_rows_can_answer_are_answered_and_the_verdict_turns_with_a_number(rows):
    table = what_buys(values_by_defence(rows))
    assert set(zip(table["with"], table["without"], strict=True)) == {
        ("dds", "denoise_only"), ("denoise_only", "none"), ("dds", "blur")}
    assert set(table.measure) == {"map", "prediction"} and len(table) == 3 * 2 * 3
    bought = table[(table["without"] == "denoise_only") & (table.threat == "adaptive")].set_index("measure").difference
    assert bought["map"] == pytest.approx(0.3) and bought["prediction"] == pytest.approx(5 / 6)
    own = what_buys(values_by_defence(rows), [("mine over DDS", "mine.py:Mine", "dds")])
    assert own.set_index(["measure", "threat"]).difference["map", "adaptive"] == pytest.approx(0.2)
    assert as_said(own)["with"].tolist() == ["mine.py:Mine"] * 6 and set(as_said(own)["without"]) == {"DDS"}
    worse = rows.assign(value=rows.value.mask((rows.defence == "dds") & (rows.made_on == "dds"), 0.0))
    turned = what_buys(values_by_defence(worse), [("noise", "dds", "denoise_only")])
    assert turned.set_index(["measure", "threat"]).difference["map", "adaptive"] < 0


def test_images_that_met_fewer_attacks_are_paired_with_their_own_and_lone_ones_refused(rows):
    values = values_by_defence(rows)
    of = {d: values.defence == d for d in ("dds", "blur")}
    fewer = values[~(of["dds"] & values.image_id.isin(["i0", "i1"]) & (values.threat == "adaptive"))]
    table = what_buys(fewer, [("", "dds", "blur")]).query("measure == 'map'").set_index("threat")
    assert table.n.to_dict() == {"none": 6, "transferred": 6, "adaptive": 4}
    assert table.difference.adaptive == pytest.approx(0.1)
    assert table.value_without.adaptive == pytest.approx(0.7 - 0.01 * 3.5)  # of the last four
    clean = fewer[~(of["dds"] & (fewer.image_id == "i0") & (fewer.threat == "none"))]  # no attack is a reason there
    without = fewer[(fewer.defence != "blur") | (fewer.image_id != "i5")]
    for spoilt in (without, clean, pd.concat([values, values[of["dds"]]])):
        with pytest.raises(ValueError, match=r"dds and \w+, map, \w+: .*complete the run"):
            what_buys(spoilt)
    with pytest.raises(ValueError, match="no rows of 'raw_attention' or of predictions"):
        values_by_defence(rows[rows.metric == "l2_change"])


def levels():
    about = {"image_id": list(IMAGES), "method": "raw_attention", "explained": "fixed"}
    other = pd.DataFrame(about | {"aim": "other_image", "metric": "topk_overlap", "value": [0.3, 0.32] * 3})
    constant = pd.DataFrame(about | {"defence": "constant_map", "metric": "fidelity", "value": [0.4, 0.46] * 3})
    table = conform(pd.concat([other, constant]), k=5)
    return table.assign(photograph=table.image_id.map(IMAGES))


def test_the_band_goes_from_what_unrelated_maps_share_to_what_a_constant_map_does():
    low, high = no_information(levels())
    assert 0.28 < low <= 0.31 and 0.43 <= high < 0.48
    with pytest.raises(ValueError, match=r"no rows of 'vta' with aim 'other_image'.*no_information_rows"):
        no_information(levels(), "vta")


def test_a_figure_s_table_gets_the_level_as_a_row_of_each_method():
    table = pd.DataFrame({"method": ["raw_attention"], "condition": ["clean"], "mean": [0.9], "low": 0.8, "high": 1.0})
    rows = levels()
    both = pd.concat([rows, rows.assign(method="vta", value=rows.value / 2)])
    found = with_no_information(table, both, methods=("raw_attention", "vta"))
    assert list(found.columns) == list(table.columns) and found.iloc[0].equals(table.iloc[0])
    assert found[1:].method.tolist() == ["raw_attention", "vta"] and set(found.condition[1:]) == {"no information"}
    for method, low, high in found[1:][["method", "low", "high"]].itertuples(index=False):
        assert (low, high) == no_information(both, method)


def test_lines_join_the_images_that_met_every_attack_at_every_radius():
    rows = pd.DataFrame([{"image_id": name, "defence": defence, "aim": aim, "made_on": "vit", "eps": eps}
                         for defence in ("none", "dds") for name, radii in (("a", (0, 4, 8)), ("b", (0, 8)))
                         for eps in radii for aim in ("prediction",)])
    assert set(at_every_radius(rows).image_id) == {"a"} and len(at_every_radius(rows)) == 6
    assert at_every_radius(rows[rows.eps != 4]).image_id.nunique() == 2


def test_a_map_attacked_itself_is_paired_with_the_attack_on_raw_attention():
    left = {("vta", "explanation"): [0.5, 0.7, 0.9], ("vta", "vta"): [0.2, 0.5, 0.5], ("lrp", "explanation"): [0.4] * 3}
    about = {"defence": "none", "made_on": "vit", "eps": 8 / 255, "metric": "topk_overlap"}
    rows = pd.DataFrame([about | {"method": method, "aim": aim, "explained": explained, "value": value + extra,
                                  "image_id": f"i{n}", "photograph": f"p{n}"}
                         for (method, aim), values in left.items() for n, value in enumerate(values)
                         for explained, extra in (("fixed", 0), ("re-predicted", 5))])
    table = attacked_itself(rows)
    assert list(table.method) == ["vta"]  # no attack aims at the other's own map
    row = table.iloc[0]
    assert (row.transferred, row.own, row.n, row.n_groups) == (pytest.approx(0.7), pytest.approx(0.4), 3, 3)
    assert tuple(row[["difference", "low", "high"]]) == pytest.approx(tuple(mean_interval([-0.3, -0.2, -0.4])))
