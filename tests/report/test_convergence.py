"""Whether an attack is at its plateau, from rows whose answer is known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fvit.report.convergence import COLUMNS, at_plateau, plateau_table
from fvit.theory.intervals import mean_interval

SIZES = SimpleNamespace(attack_steps=20, attack_draws=4, attack_restarts=1, attack_rule="constant")
LEVELS = {"steps": [10, 20, 30, 40, 200], "steps, apgd": [10, 20, 40], "draws": [4, 16], "restarts": [1, 2]}
IMAGES = {f"i{n:02}": f"photo{n % 32}" for n in range(36)}


def rows(falls=()):
    """Images keep .5 to .8; each setting of `falls` takes so much from a level on."""
    found = []
    for variant, levels in LEVELS.items():
        for level in levels:
            for n, image_id in enumerate(IMAGES):
                value = 0.5 + 0.008 * n + 0.001 * ((n * level) % 3) - sum(
                    less for knob, least, less in falls if knob == variant and level >= least)
                found.append({"image_id": image_id, "variant": variant, "level": float(level), "value": value,
                              "metric": "topk_overlap"})
    table = pd.DataFrame(found)
    other = table.assign(metric="relative_mass", value=0.1)
    return pd.concat([table, other]).assign(photograph=lambda t: t.image_id.map(IMAGES))


def test_means_and_changes_are_those_of_the_images_and_paired_with_half_the_level():
    given = rows([("steps", 40, 0.2)])
    table = plateau_table(given, SIZES)
    assert list(table) == COLUMNS and list(table.knob + " " + table.rule) == [
        *["steps constant"] * 5, *["steps apgd"] * 3, *["draws constant"] * 2, *["restarts constant"] * 2]
    steps = table[(table.knob == "steps") & (table.rule == "constant")].set_index("level")
    assert steps.half.fillna(0).to_dict() == {10: 0, 20: 10, 30: 10, 40: 20, 200: 40} and set(steps.base) == {20}
    cells = given[(given.metric == "topk_overlap") & (given.variant == "steps")].pivot(
        index="image_id", columns="level", values="value")
    photographs = [IMAGES[i] for i in cells.index]
    for level in (10, 20, 40):
        assert tuple(steps.loc[level, ["mean", "low", "high"]]) == pytest.approx(
            mean_interval(cells[level], groups=photographs))
    assert tuple(steps.loc[40, ["change", "change_low", "change_high"]]) == pytest.approx(
        mean_interval(cells[40] - cells[20], groups=photographs))
    assert steps.change[40] == pytest.approx(-0.2, abs=0.002) and np.isnan(steps.change[10])
    assert set(steps.n) == {36} and set(steps.n_groups) == {32}


def test_a_change_is_settled_below_half_the_width_of_the_interval_and_not_above():
    half = (lambda low, high: (high - low) / 2)(*plateau_table(rows(), SIZES).loc[1, ["low", "high"]])
    for falls, settled in ((0.0, True), (0.8 * half, True), (1.2 * half, False)):
        table = plateau_table(rows([("steps", 40, falls), ("draws", 16, falls)]), SIZES)
        verdict = at_plateau(table).set_index(["knob", "rule"])
        assert list(verdict.level) == [40, 40, 16, 2]  # each the headline's doubled
        assert verdict.settled.to_dict() == {("steps", "constant"): settled, ("steps", "apgd"): True,
                                             ("draws", "constant"): settled, ("restarts", "constant"): True}
    rising = plateau_table(rows([("restarts", 2, -2 * half)]), SIZES)
    assert not at_plateau(rising).set_index("knob").settled["restarts"]  # a change is one in either direction


def test_of_few_photographs_nothing_is_settled_and_missing_rows_are_refused():
    few = rows()
    assert at_plateau(plateau_table(few[few.photograph != "photo7"], SIZES)).settled.all()  # 31
    for n in (29, 2):
        few = few[few.photograph.isin([f"photo{i}" for i in range(n)])]
        assert at_plateau(plateau_table(few, SIZES)).settled.isna().all()
    one = rows().assign(photograph="p")
    assert not at_plateau(plateau_table(one, SIZES)).settled.any()
    with pytest.raises(ValueError, match="no rows of 'l2_change' with a setting"):
        plateau_table(one, SIZES, metric="l2_change")
    with pytest.raises(ValueError, match=r"draws: some images lack a level of \[4\.0, 16\.0\]; complete the run"):
        plateau_table(one[~((one.variant == "draws") & (one.level == 16) & (one.image_id == "i03"))], SIZES)
