"""Paired comparisons: closed forms, exact small cases, error rates under the null, power, and what is refused."""

import gc
import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fvit.theory.comparisons import _p_value, compare_pairs
from fvit.theory.intervals import mean_interval

pytestmark = pytest.mark.filterwarnings("error")
PHOTOGRAPHS = ["moon", "page", "coffee", "flower", "chelsea"]


@pytest.fixture(scope="module", autouse=True)
def few_objects_to_look_through():
    """statsmodels collects garbage at each call, which takes half a second where other tests have loaded much."""
    gc.freeze()
    yield
    gc.unfreeze()


def tidy(differences, groups, base=0.4, **columns):
    """Rows of both sides of one condition: images in the order of `differences`, second side = base + difference."""
    sides = {"none": np.full(len(differences), base), "dds": base + np.asarray(differences)}
    return pd.concat([
        pd.DataFrame({"image_id": [f"{g}-{i}" for i, g in enumerate(groups)], "photograph": groups, "defence": side,
                      "value": values, **columns}) for side, values in sides.items()
    ], ignore_index=True)


def compare(df, **options):
    return compare_pairs(df, **{"family": ["method"], "groups": "photograph", **options})


def test_closed_forms_for_one_condition():
    differences, groups = [0.1, 0.3, -0.1, 0.2, 0.0, 0.4, 0.3], ["a", "a", "b", "b", "c", "c", "c"]
    row = compare(tidy(differences, groups, method="vta")).iloc[0]
    means = [0.2, 0.05, 0.7 / 3]
    t = np.mean(means) / (np.std(means, ddof=1) / np.sqrt(3))
    assert row.p == pytest.approx(2 * stats.t.sf(t, 2)) and row.p_holm == row.p
    assert (row.difference, row.low, row.high) == pytest.approx(mean_interval(differences, groups))
    assert row.d_z == pytest.approx(np.mean(differences) / np.std(differences, ddof=1))
    assert row.share_greater == pytest.approx(5.5 / 7)  # five greater, one tie
    assert (row.n, row.n_groups, row.method) == (7, 3, "vta")
    row = compare(tidy(differences, groups, method="vta"), groups=None).iloc[0]  # images are their own groups
    assert row.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue) and row.n_groups == 7


def test_holm_by_hand():
    rng = np.random.default_rng(2)
    parts = [tidy(rng.normal(shift, 0.1, 20), PHOTOGRAPHS * 4, method=f"m{i}", attack=attack)
             for i, shift in enumerate([0.0, 0.1, 0.3]) for attack in ("pgd", None)]
    table = compare(pd.concat(parts), family=["method", "attack"])
    assert table.method.tolist() == ["m0", "m0", "m1", "m1", "m2", "m2"] and table.attack.isna().tolist() == [0, 1] * 3
    running = 0
    for rank, i in enumerate(np.argsort(table.p)):
        running = max(running, min(1, (6 - rank) * table.p[i]))
        assert table.p_holm[i] == pytest.approx(running)


@pytest.mark.parametrize("n_groups", [2, 5, 10])
def test_sign_flips_are_enumerated(n_groups):
    means = np.random.default_rng(3).normal(0.5, 1, n_groups)
    row = compare(tidy(np.repeat(means, 2), np.repeat(np.arange(n_groups), 2), method="vta"), test="sign_flip").iloc[0]
    flipped = [abs(np.dot(signs, means)) for signs in itertools.product([-1, 1], repeat=n_groups)]
    assert row.p == pytest.approx(np.mean(np.array(flipped) >= abs(means.sum()) - 1e-12))


def test_sign_flips_of_many_groups_are_drawn():
    differences = np.random.default_rng(4).normal(0.15, 0.5, 60)
    df = tidy(differences, np.arange(60), method="vta")
    drawn, by_t = (compare(df, test=test).p[0] for test in ("sign_flip", "t"))
    assert 0.001 < by_t < 0.2 and drawn == pytest.approx(by_t, rel=0.25)
    assert drawn == compare(df, test="sign_flip").p[0] != compare(df, test="sign_flip", seed=1).p[0]


def test_five_photographs_decide_by_t_and_never_by_signs():
    effect = np.repeat([0.30, 0.35, 0.28, 0.33, 0.31], 8)
    df = tidy(effect, np.repeat(PHOTOGRAPHS, 8), method="vta")
    assert compare(df).p[0] < 1e-3 and compare(df, test="sign_flip").p[0] == pytest.approx(1 / 16)
    assert stats.wilcoxon([0.30, 0.35, 0.28, 0.33, 0.31]).pvalue == pytest.approx(1 / 16)


@pytest.mark.parametrize("differences, groups, p", [
    ([0.0] * 6, [*"aabbcc"], 1),  # no difference at all
    ([0.25] * 6, [*"aabbcc"], 1 / 4),  # no spread to judge by: 2 of 8 signs
    ([0.1, 0.3] * 3, [*"aabbcc"], 1 / 4),  # spread of images, none of groups but by rounding
    ([0.1, 0.2, 0.3], [*"aaa"], 1),  # one photograph shows nothing
    ([0.3], ["a"], 1),
])
@pytest.mark.parametrize("test", ["t", "sign_flip"])
def test_without_spread(differences, groups, p, test):
    row = compare(tidy(differences, groups, method="vta"), test=test).iloc[0]
    assert row.p == pytest.approx(p) == pytest.approx(row.p_holm)
    assert np.isnan(row.low) == np.isnan(row.high) == (len(set(groups)) == 1)
    assert np.isnan(row.d_z) == (len(set(differences)) == 1)


LAWS = {  # of one photograph's own effect, symmetric about 0
    "normal": lambda rng, size: rng.normal(size=size), "heavy": lambda rng, size: rng.standard_t(2, size),
    "unequal": lambda rng, size: rng.normal(size=size) * [0.1, 0.1, 0.3, 1.0, 5.0],
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("test, level", [("t", 0.05), ("sign_flip", 0.2)])  # below 3/16 five photographs find nothing
def test_family_wise_error_under_the_null(law, test, level):
    rng, n, wrong = np.random.default_rng(5), 300, 0
    for _ in range(n):
        shared = LAWS[law](rng, 5)  # what one photograph does to all methods
        p = [_p_value(shared + LAWS[law](rng, 5), test, 0) for _ in range(3)]
        wrong += 3 * min(p) <= level  # Holm's first step, by hand: statsmodels collects garbage at each call
    assert stats.binomtest(wrong, n, level, alternative="greater").pvalue > 1e-3, wrong


def test_a_test_of_images_would_be_wrong():
    rng, n = np.random.default_rng(6), 300
    values = rng.normal(size=(n, 5, 1)) + rng.normal(size=(n, 5, 8))  # (repetitions, photographs, images)
    of_images = sum(_p_value(v.ravel(), "t", 0) <= 0.05 for v in values)
    wilcoxon = sum(stats.wilcoxon(v.ravel()).pvalue <= 0.05 for v in values)
    of_photographs = sum(_p_value(v.mean(1), "t", 0) <= 0.05 for v in values)
    assert min(of_images, wilcoxon) > 0.3 * n
    assert stats.binomtest(of_photographs, n, 0.05).pvalue > 1e-3  # exact for normal laws: neither more nor less


def test_a_clear_effect_is_found_in_its_place():
    rng, found, n = np.random.default_rng(7), np.zeros(4), 10
    for _ in range(n):
        own, noise = np.tile(0.05 * rng.normal(size=(4, 5)), 8), 0.2 * rng.normal(size=(4, 40))
        shifts = np.array([[0], [0], [0.5], [-0.5]])  # power above 0.999 each: non-central t
        parts = [tidy(d, PHOTOGRAPHS * 8, method=m) for m, d in zip("abcd", shifts + own + noise, strict=True)]
        table = compare(pd.concat(parts))
        found += (table.p_holm <= 0.05) * np.sign(table.difference)
    assert (abs(found[:2]) <= 2).all() and found[2] >= n - 1 and found[3] <= 1 - n


def test_seeds_are_averaged_within_an_image_and_a_blank_side_is_matched():
    rng = np.random.default_rng(8)
    noise, n = rng.normal(size=(3, 2, 10)), 10  # noise seed, attack seed, image
    none = rng.normal(size=(2, n))
    shared = {"image_id": range(n), "photograph": PHOTOGRAPHS * 2, "method": "vta"}
    rows = [pd.DataFrame({**shared, "defence": "none", "attack_seed": a, "value": none[a]}) for a in range(2)]
    rows += [pd.DataFrame({**shared, "defence": "dds", "noise_seed": s, "attack_seed": a, "value": noise[s, a]})
             for s in range(3) for a in range(2)]
    table = compare(pd.concat(rows), seeds=["noise_seed", "attack_seed"])
    single = compare(tidy(noise.mean((0, 1)) - none.mean(0), PHOTOGRAPHS * 2, method="vta"))
    numbers = ["difference", "p", "d_z", "share_greater", "n", "n_groups", "low", "high"]
    np.testing.assert_allclose(table[numbers].to_numpy(), single[numbers].to_numpy())


def test_equal_values_stay_ties_after_averaging_over_seeds():
    parts = [tidy([0.0] * 4, [*"aabb"], base=0.1, method="vta", noise_seed=s) for s in range(3)]
    df = pd.concat(parts)
    df = df[(df.defence == "dds") | (df.noise_seed == 0)]  # 0.1 against (0.1 + 0.1 + 0.1) / 3, which rounds
    df["noise_seed"] = df.noise_seed.where(df.defence == "dds")
    row = compare(df, seeds=["noise_seed"]).iloc[0]
    assert (row.difference, row.share_greater, row.p) == (0, 0.5, 1)


def test_order_of_rows_and_other_rows_do_not_matter():
    rng = np.random.default_rng(10)
    df = pd.concat([tidy(rng.normal(size=20), PHOTOGRAPHS * 4, method=m) for m in "ab"])
    table = compare(df)
    shuffled = compare(df.sample(frac=1, random_state=1)).sort_values("method", ignore_index=True)
    pd.testing.assert_frame_equal(shuffled, table)
    other = df[df.defence == "none"].assign(defence="noise", value=9.0)
    pd.testing.assert_frame_equal(compare(pd.concat([df, other])), table)
    back = compare(df, pair=("dds", "none"))
    for column, mirrored in {"difference": -table.difference, "d_z": -table.d_z, "p": table.p}.items():
        np.testing.assert_allclose(back[column], mirrored)


GOOD = tidy([0.1, 0.2, 0.3, 0.1], [*"aabb"], method="vta", seed=0)


@pytest.mark.parametrize("df, options, message", [
    (GOOD, {"family": ["methods"]}, "no columns methods, the table has image_id, photograph, defence, value, method"),
    (GOOD, {"groups": "photo"}, "no columns photo"),
    (GOOD, {"family": []}, r"family=\[\], pair=\('none', 'dds'\), wanted at least one column"),
    (GOOD, {"pair": ("dds", "dds")}, "wanted at least one column and two different values"),
    (GOOD, {"test": "wilcoxon"}, "unknown test 'wilcoxon', known: t, sign_flip"),
    (GOOD, {"pair": ("off", "on")}, r"no rows with defence in \('off', 'on'\), the table has none, dds"),
    (GOOD, {"pair": ("none", "on")}, "method=vta, defence=on: no rows, wanted both sides of every pair"),
    (GOOD.iloc[1:], {}, "method=vta: 1 images have only one of none and dds, the first a-0; wanted the same images"),
    (GOOD.assign(value=np.nan), {}, "defence=none: 4 of 4 values are NaN or infinite, the first of image a-0; mend"),
    (GOOD.assign(photograph=list("aabbaabc")), {}, "image b-3 has none or several values of photograph, wanted one"),
    (GOOD.assign(photograph=None), {}, "image a-0 has none or several values of photograph"),
    (pd.concat([GOOD, GOOD.assign(seed=1)]), {}, r"image a-0 occurs twice, .* what varies \(seed\) in family"),
    (pd.concat([GOOD, GOOD]), {}, r"name what varies \(nothing\)"),
    (pd.concat([GOOD, GOOD.iloc[:1].assign(seed=1)]), {"seeds": ["seed"]}, "some images have more seeds than others"),
    (GOOD.assign(seed=[0] * 4 + [1] * 4), {"seeds": ["seed"]}, "seed differs between images or sides, wanted the same"),
    (GOOD.assign(seed=[0, 0, 0, 1] * 2), {"seeds": ["seed"]}, "seed differs between images or sides"),
    (GOOD, {"level": 95}, "level=95, wanted a number in"),
])  # fmt: skip
def test_what_is_refused(df, options, message):
    with pytest.raises(ValueError, match=message):
        compare(df, **options)
