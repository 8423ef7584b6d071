"""Rows of the plateau against attacks written out: one setting turned at a time, the class held."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from oracles.maps import images

from fvit.attacks import explanation_loss, strongest
from fvit.experiments.bench import Bench
from fvit.experiments.plateau import plateau_rows
from fvit.metrics.maps import topk_overlap
from fvit.records.rows import KEY
from fvit.smoothing import DDS

IDS, EPS, K, SIGMA = ["a", "b"], 0.05, 4, 0.1
TURNED = {("steps", 2): (2, 2, 1, "constant"), ("steps", 4): (4, 2, 1, "constant"), ("draws", 1): (2, 1, 1, "constant"),
          ("draws", 2): (2, 2, 1, "constant"), ("restarts", 1): (2, 2, 1, "constant"),
          ("restarts", 2): (2, 2, 2, "constant"), ("steps, apgd", 2): (2, 2, 1, "apgd"),
          ("steps, apgd", 4): (4, 2, 1, "apgd")}  # variant, level -> steps, draws, restarts, rule


@pytest.fixture(scope="module")
def data():
    return SimpleNamespace(x=images(2), y=torch.tensor([0, 1]), ids=IDS, name="toys")


@pytest.fixture(scope="module")
def bench(vit, den):
    return Bench(vit, den, SIGMA, 3, K, attack_steps=2, attack_draws=2, eval_batch=8, precision=None, seed=5)


def test_each_row_is_the_attack_at_its_settings_and_the_benchs_own_stand_in_every_panel(vit, den, data, bench):
    rows = plateau_rows(bench, data, steps=[4], draws=[1], restarts=[2], eps=EPS)
    assert [*rows.groupby(["variant", "level"], sort=False).groups] == list(TURNED)
    dds, other = (DDS(vit, den, SIGMA, 3, seed, batch_size=8) for seed in (5, 6))
    heat, _ = dds(data.x, ids=IDS)
    order = heat.flatten(1).topk(K).indices
    seen = {}
    for (variant, level), (steps, draws, restarts, rule) in TURNED.items():
        loss = explanation_loss(dds, heat, K, n_samples=draws, ids=IDS)
        x_adv = strongest(loss, data.x, restarts, EPS, steps=steps, seed=5, ids=IDS, rule=rule)
        after = other(x_adv, ids=IDS).heatmap
        want = {"topk_overlap": topk_overlap(heat, after, K), "relative_mass":
                after.flatten(1).gather(1, order).sum(1) / heat.flatten(1).gather(1, order).sum(1)}
        for metric, values in want.items():
            at = rows[(rows.variant == variant) & (rows.level == level) & (rows.metric == metric)]
            assert list(at.image_id) == IDS
            torch.testing.assert_close(torch.tensor(at.value.to_numpy()), values.double(), rtol=1e-9, atol=1e-12)
        seen[variant, level] = want["relative_mass"]
    turned = [at for at, setting in TURNED.items() if setting != (2, 2, 1, "constant") and at != ("restarts", 2)]
    assert not any(torch.equal(seen["steps", 2], seen[at]) for at in turned)  # of restarts the first may win
    assert not rows.duplicated(KEY).any() and set(rows.k[rows.metric == "topk_overlap"]) == {K}
    assert set(zip(rows.aim, rows.made_on, rows.defence, rows.method, strict=True)) == {
        ("explanation_free", "dds", "dds", "raw_attention")}


def test_a_setting_is_computed_once_and_the_bare_vit_and_the_other_rule_have_their_names(bench, data, monkeypatch):
    made, attack = [], Bench.attack
    monkeypatch.setattr(Bench, "attack", lambda self, *what: made.append(self) or attack(self, *what))
    rows = plateau_rows(replace(bench, attack_rule="apgd"), data, [2], [1, 2], [1], EPS, "none")
    assert len(made) == 3 and set(rows.variant) == {"steps", "draws", "restarts", "steps, constant"}
    assert set(rows.made_on) == {"vit"} and set(rows.defence) == {"none"}
    with pytest.raises(ValueError, match="steps=0"):
        plateau_rows(bench, data, steps=[0])
