"""Rows of attacks on a method's own map, and of those that move the top-k to a corner, in float64 by direct calls."""

from types import SimpleNamespace

import pytest
import torch
from oracles.maps import images, tiny_vit

from fvit.attacks import explanation_loss, pgd
from fvit.experiments.attack_rows import attack_rows
from fvit.experiments.bench import MOVED, Bench, corner
from fvit.explanations.passes import explain
from fvit.metrics.maps import top_k, topk_overlap
from fvit.records.words import AIMS, NO_ATTACK, condition
from fvit.smoothing import DDS

EPS, SIGMA, N, K, IDS = 0.1, 0.05, 2, 4, ["a", "b", "c"]
AIMED = {"gradcam": "gradcam", "vta": "vta", "corner": "raw_attention"}


@pytest.fixture(scope="module")
def vit():
    vit = tiny_vit(torch.float64)
    for block in vit.backbone.blocks:
        block.attn.fused_attn = False
    return vit


@pytest.fixture(scope="module")
def data():
    return SimpleNamespace(x=images(3), y=torch.tensor([0, 3, 1]), mask=None, ids=IDS, name="toys")


@pytest.fixture(scope="module")
def bench(vit):
    return Bench(vit, lambda x, sigma: x, SIGMA, N, K, attack_steps=3, attack_draws=2, eval_batch=4, precision=None,
                 seed=5)


@pytest.fixture(scope="module")
def rows(bench, data):
    attacks = [[aim, on] for aim in AIMED for on in ("vit", "dds")]
    return attack_rows(bench, data, methods=["raw_attention", "gradcam"], attacks=attacks, radii=[EPS],
                       measures=["stability", "corner"])


def smoother(vit, seed):
    return DDS(vit, lambda x, sigma: x, sigma=SIGMA, n_samples=N, seed=seed, batch_size=4)


def shown(vit, through, x, method, target, seed):
    if through == "dds":
        return smoother(vit, seed)(x, ids=IDS, method=method, target=target).heatmap
    return explain(vit, x, method, target)


@pytest.mark.parametrize("through", ["vit", "dds"])
@pytest.mark.parametrize("aim", AIMED)
def test_a_map_is_attacked_itself_and_measured_on_itself(vit, rows, data, aim, through):
    method = AIMED[aim]
    model = vit if through == "vit" else smoother(vit, 5)
    y = vit(data.x).argmax(1) if through == "vit" else model(data.x, ids=IDS).probs.argmax(1)
    heat = shown(vit, through, data.x, method, y, 5)
    goal = torch.tensor([[0, 1, 4, 5]] * 3) if aim == "corner" else None
    loss = explanation_loss(model, heat, K, keep_class=y, method=method, n_samples=2, ids=IDS, target=y, goal=goal)
    x_adv = pgd(loss, data.x, eps=EPS, steps=3, seed=5, ids=IDS)
    met = rows[(rows.aim == aim) & (rows.made_on == through) & (rows.explained == "fixed")]
    assert set(met.method) == {method} and set(met.defence) == ({"none", "dds"} if through == "vit" else {"dds"})
    own = met[met.defence == ("none" if through == "vit" else "dds")]
    after = shown(vit, through, x_adv, method, y, 6)
    want = {"topk_overlap": topk_overlap(heat, after, K), "in_corner": torch.tensor(
        [sum(n in (0, 1, 4, 5) for n in top) / K for top in top_k(after, K).tolist()])}
    for metric, values in want.items():
        found = own[own.metric == metric]
        assert list(found.image_id) == IDS and set(found.k) == {K}
        torch.testing.assert_close(torch.tensor(found.value.to_numpy()), values.double(), rtol=0, atol=0)


def test_the_corner_is_where_it_is_said_and_the_top_k_goes_there(rows):
    assert corner((4, 4), 4).nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert corner((4, 4), 5).sum() == corner((4, 4), 9).sum() == 9 and corner((2, 8), 9).sum() == 6
    assert corner((16, 16), 25).sum() == 25 and corner((4, 4), 1).sum() == 1
    share = rows[(rows.metric == "in_corner") & (rows.method == "raw_attention") & (rows.defence == "none")]
    share = share.groupby("aim").value.mean()
    assert share["corner"] > share["none"] + 0.2


def test_every_aim_has_a_word_and_every_word_of_an_attack_an_aim(rows):
    assert set(MOVED) == set(AIMS) - set(NO_ATTACK) - {"random_signs"}
    assert {"VTA, adaptive", "VTA, transferred", "corner, adaptive"} <= set(condition(rows))
