"""Rows of attacks against direct calls, in float64 on tiny models: every measure, class, stream of draws and name."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import timm
import torch
from oracles.maps import images, small_vit, tiny_vit

from fvit.attacks import explanation_loss, pgd, prediction_loss, strongest
from fvit.base import rng
from fvit.experiments.attack_rows import attack_rows
from fvit.experiments.bench import Bench
from fvit.explanations.passes import explain
from fvit.metrics.maps import l2_change, rank_correlation, topk_overlap
from fvit.metrics.perturbation import perturbation_curve
from fvit.metrics.segmentation import SEGMENTATION, segmentation_scores
from fvit.models.vit_files import load_vit
from fvit.models.weight_files import network_digest
from fvit.records.rows import KEY, SCHEMA
from fvit.records.words import condition
from fvit.smoothing import DDS
from fvit.theory.divergences import renyi_divergence

METHODS = ["raw_attention", "rollout", "gradcam", "vta"]
SPECIFIC = METHODS[2:]
ATTACKS = [["prediction", "vit"], ["explanation", "vit"], ["prediction", "dds"], ["explanation", "dds"],
           ["rollout", "vit"], ["rollout", "dds"]]
EPS, SIGMA, N, K = 0.2, 0.05, 2, 4
TIES = 0.01  # of average precision: rounding breaks the ties of interpolated maps, see `segmentation_scores`
IDS = ["a", "b", "c"]


def identity(x_noisy, sigma):
    return x_noisy


@pytest.fixture(scope="module")
def vit():
    vit = tiny_vit(torch.float64)
    for block in vit.backbone.blocks:  # rankings of ties hang on the last bit: one rounding, whichever blocks are read
        block.attn.fused_attn = False
    return vit


@pytest.fixture(scope="module")
def data():
    g = torch.Generator().manual_seed(3)
    mask = (torch.rand(3, 32, 32, generator=g) < 0.3).to(torch.int8)
    return SimpleNamespace(x=images(3), y=torch.tensor([0, 3, 1]), mask=mask, ids=IDS, name="toys")


@pytest.fixture(scope="module")
def bench(vit):
    return Bench(vit, identity, SIGMA, N, K, attack_steps=3, attack_draws=2, eval_batch=4, precision=None, seed=5)


@pytest.fixture(scope="module")
def rows(bench, data):
    return attack_rows(bench, data, methods=METHODS, attacks=ATTACKS, radii=[0, EPS],
                       measures=["stability", "segmentation", "perturbation"])


def pick(rows, defence, attack, method, metric, explained="fixed", level=None):
    """Values in the order of IDS; `attack` is (aim, made_on)."""
    wanted = {"defence": defence, "aim": attack[0], "made_on": attack[1], "method": method, "metric": metric,
              "explained": explained if method else ""} | ({} if level is None else {"level": level})
    at = rows[(rows[list(wanted)] == wanted).all(axis=1)]
    assert list(at.image_id) == IDS, f"{defence}, {attack}, {method}, {metric}: {len(at)} rows"
    return torch.tensor(at.value.to_numpy())


def smoother(vit, seed):
    return DDS(vit, identity, sigma=SIGMA, n_samples=N, seed=seed, batch_size=4)


def probs_of(vit, smoothing, x, seed):
    if smoothing == "dds":
        return smoother(vit, seed)(x, ids=IDS).probs
    with torch.no_grad():
        return vit(x).softmax(1)


def map_of(vit, smoothing, x, method, target, seed):
    if smoothing == "dds":
        return smoother(vit, seed)(x, ids=IDS, method=method, target=target).heatmap
    return explain(vit, x, method, target).detach()


def attacked(vit, data, aim, through):
    """The attack, written out: on the ViT, or through a DDS whose draws are those of "eot"."""
    smoothing = "none" if through == "vit" else "dds"
    model = vit if through == "vit" else smoother(vit, 5)
    y = probs_of(vit, smoothing, data.x, 5).argmax(1)
    if aim == "prediction":
        loss = prediction_loss(model, y, n_samples=2, ids=IDS)
    else:
        method = {"explanation": "raw_attention", "rollout": "rollout"}[aim]
        heat = map_of(vit, smoothing, data.x, method, y, 5)
        loss = explanation_loss(model, heat, K, keep_class=y, method=method, n_samples=2, ids=IDS)
    return pgd(loss, data.x, eps=EPS, steps=3, seed=5, ids=IDS)


CONDITIONS = [("none", aim, "vit") for aim in ("prediction", "explanation")] + [
    ("dds", aim, through) for aim in ("prediction", "explanation") for through in ("vit", "dds")]


@pytest.fixture(scope="module", params=CONDITIONS, ids=" ".join)
def seen(vit, data, request):
    """Smoothing, (aim, through), attacked image, class probabilities before and after, by direct calls."""
    smoothing, *name = request.param
    x_adv = attacked(vit, data, *name)
    return smoothing, name, x_adv, probs_of(vit, smoothing, data.x, 5), probs_of(vit, smoothing, x_adv, 6)


def test_predictions_by_direct_calls(rows, data, seen):
    smoothing, name, _, before, after = seen
    assert torch.equal(pick(rows, smoothing, name, "", "predicted"), after.argmax(1).double())
    assert torch.equal(pick(rows, smoothing, name, "", "right"), (after.argmax(1) == data.y).double())
    assert torch.equal(pick(rows, smoothing, name, "", "class_kept"), (after.argmax(1) == before.argmax(1)).double())
    torch.testing.assert_close(pick(rows, smoothing, name, "", "renyi_divergence"),
                               torch.as_tensor(renyi_divergence(before, after, 2)), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_maps_of_the_class_fixed_and_predicted_anew(vit, rows, data, seen, method):
    smoothing, name, x_adv, before, after = seen
    clean = map_of(vit, smoothing, data.x, method, before.argmax(1), 5)
    classes = {"fixed": before.argmax(1)} | ({"re-predicted": after.argmax(1)} if method in SPECIFIC else {})
    for explained, target in classes.items():
        heat = map_of(vit, smoothing, x_adv, method, target, 6)
        want = {"topk_overlap": topk_overlap(clean, heat, K), "rank_correlation": rank_correlation(clean, heat),
                "l2_change": l2_change(clean, heat)}
        scores = segmentation_scores(heat, data.mask)
        want |= {metric: torch.tensor(scores[metric].to_numpy(dtype=float)) for metric in SEGMENTATION}
        curve = perturbation_curve(vit, data.x, data.y, heat, "positive")  # of the clean image
        for metric, values in (want | {"positive": curve[:, 3]}).items():
            found = pick(rows, smoothing, name, method, metric, explained, 0.3 if metric == "positive" else None)
            torch.testing.assert_close(found, values.double(), rtol=1e-4, equal_nan=True,
                                       atol=TIES if metric == "average_precision" else 1e-6)


def test_the_class_changes_somewhere_so_that_fixed_and_predicted_anew_differ(rows):
    """Else the test above could not tell the two apart."""
    made = "none", ("prediction", "vit")
    kept = pick(rows, *made, "", "class_kept") == 1
    fixed, anew = (pick(rows, *made, "vta", "l2_change", explained) for explained in ("fixed", "re-predicted"))
    assert not kept.all() and torch.equal(fixed[kept], anew[kept]) and (fixed[~kept] != anew[~kept]).all()


def test_clean_rows_and_fidelity(vit, rows, data):
    for smoothing in ("none", "dds"):
        target = probs_of(vit, smoothing, data.x, 5).argmax(1)
        bare = probs_of(vit, "none", data.x, 5).argmax(1)
        for method in METHODS:
            own = map_of(vit, smoothing, data.x, method, target, 5)
            want = topk_overlap(map_of(vit, "none", data.x, method, bare, 5), own, K)
            assert torch.equal(pick(rows, smoothing, ("none", ""), method, "fidelity"), want)
            scores = segmentation_scores(own, data.mask)
            for metric, within in (("average_precision", TIES), ("f1", 1e-9)):
                torch.testing.assert_close(pick(rows, smoothing, ("none", ""), method, metric), torch.tensor(
                    scores[metric].to_numpy()), rtol=1e-7, atol=within, equal_nan=True)
    assert (rows[(rows.metric == "fidelity") & (rows.defence == "none")].value == 1).all()


def test_fresh_noise_is_the_clean_image_with_other_draws(vit, rows, data):
    target = probs_of(vit, "dds", data.x, 5).argmax(1)
    for method in METHODS:
        first, other = (map_of(vit, "dds", data.x, method, target, seed) for seed in (5, 6))
        assert not torch.equal(first, other)
        torch.testing.assert_close(pick(rows, "dds", ("fresh_noise", ""), method, "l2_change"), l2_change(first, other))
    assert set(rows[rows.aim == "fresh_noise"].defence) == {"dds"}


def test_no_attack_uses_a_draw_that_an_evaluation_uses_and_one_on_the_vit_uses_none(bench, data, monkeypatch):
    """Streams are named by seed, purpose, image and draw."""
    used = {}
    normal = rng.normal

    def noted(shape, seed, purpose, *item, **options):
        used.setdefault(phase, set()).add((seed, purpose, *item))
        return normal(shape, seed, purpose, *item, **options)

    monkeypatch.setattr("fvit.base.rng.normal", noted)
    phase = "evaluation"
    clean = bench.view("dds", data.x, IDS, METHODS)
    bench.view("dds", data.x, IDS, METHODS, clean.predicted, bench.seed + 1)
    phase = "attack"
    for aim in ("prediction", "explanation", "rollout"):
        bench.attack(aim, "dds", data.x, IDS, clean, EPS)
    assert len(used["evaluation"]) == 2 * len(IDS) * N and len(used["attack"]) == 3 * 2 * len(IDS)
    assert not used["evaluation"] & used["attack"]
    clean = bench.view("none", data.x, IDS, METHODS)
    monkeypatch.setattr("fvit.base.rng.normal", None)  # would raise
    assert (bench.attack("prediction", "vit", data.x, IDS, clean, EPS) - data.x).abs().max() <= EPS + 1e-12


def test_which_models_and_methods_meet_which_attack(rows):
    met = rows[(rows.eps > 0) & (rows.metric == "topk_overlap")].groupby(["aim", "made_on", "defence"]).method.agg(list)
    assert set(met.index) == {(aim, *pair) for aim in ("prediction", "explanation", "rollout")
                              for pair in (("vit", "none"), ("vit", "dds"), ("dds", "dds"))}
    for (aim, _, _), methods in met.items():
        assert list(dict.fromkeys(methods)) == (["rollout"] if aim == "rollout" else METHODS)


def test_radius_zero_is_the_clean_image_and_no_attack_and_rollout_need_not_be_asked_for(bench, data):
    asked = dict(methods=["raw_attention"], measures=["stability"])
    rows = attack_rows(bench, data, attacks=ATTACKS, radii=[0], **asked)
    assert set(rows.aim) == {"none", "fresh_noise"} and (rows.eps == 0).all() and (rows.norm == "").all()
    clean = bench.view("dds", data.x, IDS, ["raw_attention"])
    assert torch.equal(bench.attack("explanation", "dds", data.x, IDS, clean, 0.0), data.x)
    rows = attack_rows(bench, data, attacks=[["rollout", "vit"]], radii=[EPS], **asked)
    assert set(rows[rows.aim == "rollout"].method) == {"", "rollout"}


def test_a_free_explanation_attack_pays_no_penalty_for_the_class(bench, vit, data):
    clean = bench.view("dds", data.x, IDS, ["raw_attention"])
    loss = explanation_loss(smoother(vit, 5), clean.maps["raw_attention"], K, n_samples=2, ids=IDS)
    free = pgd(loss, data.x, eps=EPS, steps=3, seed=5, ids=IDS)  # no penalty for the class
    assert torch.equal(bench.attack("explanation_free", "dds", data.x, IDS, clean, EPS), free)
    assert not torch.equal(bench.attack("explanation", "dds", data.x, IDS, clean, EPS), free)


def test_columns_say_what_was_run(rows):
    assert rows.dtypes.astype(str).to_dict() == SCHEMA and not rows.duplicated(KEY).any()
    assert set(rows.dataset) == {"toys"} and set(rows.model) == {"tiny"}
    dds = rows.defence == "dds"
    assert (rows[dds].sigma == SIGMA).all() and (rows[dds].n_samples == N).all()
    assert (rows[~dds].sigma == 0).all() and (rows[~dds].n_samples == 1).all()
    assert (rows[rows.eps > 0].norm == "linf").all() and set(rows[rows.eps > 0].eps) == {EPS}
    assert set(rows.metric[rows.k == K]) == {"topk_overlap", "fidelity"} == set(rows.metric[rows.k.notna()])
    assert set(rows.metric[rows.level.notna()]) == {"positive", "negative"}
    assert set(rows[rows.explained == "re-predicted"].method) == set(SPECIFIC)
    assert (rows.explained.eq("") == rows.method.eq("")).all()
    clean = rows[rows.aim == "none"]
    assert not clean.metric.isin(["topk_overlap", "class_kept"]).any() and (clean.eps == 0).all()


def test_blocks_of_images_give_the_rows_of_all_at_once(bench, data, rows):
    parts = []
    for start, stop in ((0, 2), (2, 3)):
        part = {name: getattr(data, name)[start:stop] for name in ("x", "y", "mask", "ids")}
        parts.append(attack_rows(bench, SimpleNamespace(**part, name="toys"), methods=METHODS, radii=[EPS],
                                 attacks=ATTACKS[:4], measures=["stability"]))
    keys = ["image_id", "method", "explained", "defence", "aim", "made_on", "eps", "metric"]
    rows = rows[rows.level.isna()]
    got = pd.concat(parts).set_index(keys).value
    pd.testing.assert_series_equal(got.sort_index(), rows.set_index(keys).value.loc[got.index].sort_index(), rtol=1e-6)


@pytest.mark.parametrize("through, judgements", [("vit", 1), ("dds", 4)])
def test_rule_restarts_and_momentum_reach_the_attack(bench, vit, data, through, judgements):
    """Judged once where nothing draws, by four where it does."""
    how = replace(bench, attack_rule="apgd", attack_restarts=2, attack_momentum=0.5)
    clean = bench.view("none" if through == "vit" else through, data.x, IDS, METHODS)
    loss = prediction_loss(vit if through == "vit" else smoother(vit, 5), clean.predicted, n_samples=2, ids=IDS)
    want = strongest(loss, data.x, 2, EPS, steps=3, seed=5, ids=IDS, judgements=judgements, rule="apgd", momentum=0.5)
    assert torch.equal(how.attack("prediction", through, data.x, IDS, clean, EPS), want)
    assert (want - bench.attack("prediction", through, data.x, IDS, clean, EPS)).abs().max() > 0.01


@pytest.fixture
def other(tmp_path):
    """A folder with another tiny ViT, for images of the same size, of other classes and another grid."""
    net = small_vit(noise=0.3, img_size=32, patch_size=16, num_classes=7)
    timm.models.save_for_hf(net.backbone, tmp_path / "elsewhere", safe_serialization=True)
    return f"vit:{tmp_path / 'elsewhere'}"


def test_attacks_made_on_another_vit_move_what_that_one_shows_and_are_met_by_all(vit, data, other):
    toys = SimpleNamespace(**vars(data) | {"x": data.x.float()})
    bench = Bench(copy.deepcopy(vit).float(), identity, SIGMA, N, K, attack_steps=3, attack_draws=2, precision=None)
    rows = attack_rows(bench, toys, methods=["raw_attention"], attacks=[["prediction", other], ["explanation", other]],
                       radii=[EPS], measures=["stability"])
    attacked = rows[rows.eps > 0]
    assert set(attacked.made_on) == {"vit:elsewhere"} and set(attacked.defence) == {"none", "dds"}
    assert set(condition(attacked)) == {"prediction, from vit:elsewhere", "explanation, from vit:elsewhere"}
    net = load_vit(other.removeprefix("vit:"))
    with torch.no_grad():
        y, heat = net(toys.x).argmax(1), explain(net, toys.x, "raw_attention")
    loss = explanation_loss(net, heat, K, keep_class=y, ids=IDS)
    x_adv = pgd(loss, toys.x, EPS, steps=3, ids=IDS)
    for defence in ("none", "dds"):
        clean, after = (bench.view(defence, x, IDS, ["raw_attention"], seed=seed).maps["raw_attention"]
                        for x, seed in ((toys.x, 0), (x_adv, 1)))
        found = pick(rows, defence, ("explanation", "vit:elsewhere"), "raw_attention", "topk_overlap", "fixed")
        assert torch.equal(found, topk_overlap(clean, after, K).double())
    x_adv = pgd(prediction_loss(net, y, ids=IDS), toys.x, EPS, steps=3, ids=IDS)
    right = bench.view("none", x_adv, IDS, []).predicted == toys.y
    assert torch.equal(pick(rows, "none", ("prediction", "vit:elsewhere"), "", "right"), right.double())


def test_another_vit_that_is_the_same_or_of_the_same_name_is_refused(bench, vit, data, other, monkeypatch):
    given = dict(methods=[], radii=[EPS], measures=[])
    with monkeypatch.context() as patch:
        patch.setattr("fvit.experiments.inputs.vit", lambda source, place: vit)
        with pytest.raises(ValueError, match=r"made_on='vit:tiny' is the ViT itself.*; use 'vit'"):
            attack_rows(bench, data, attacks=[["prediction", "vit:tiny"]], **given)
    with pytest.raises(ValueError, match="would both be vit:elsewhere in the rows"):
        attack_rows(bench, data, attacks=[["prediction", other], ["prediction", other + "/."]], **given)
    with pytest.raises((ValueError, FileNotFoundError), match="nowhere"):
        attack_rows(bench, data, attacks=[["prediction", "vit:nowhere"]], **given)


@pytest.mark.parametrize("changes, message", [
    ({"measures": ["stabilty"]}, "unknown measure 'stabilty'.*did you mean 'stability'"),
    ({"methods": ["vtaa"]}, "unknown method 'vtaa'.*did you mean 'vta'"),
    ({"attacks": [["prediction", "ddss"]]}, "unknown model that an attack is made on 'ddss', known: vit, dds; did you"),
])
def test_unknown_names_are_refused(bench, data, changes, message):
    given = dict(methods=["raw_attention"], attacks=[["prediction", "vit"]], radii=[EPS], measures=["stability"])
    with pytest.raises(ValueError, match=message):
        attack_rows(bench, data, **given | changes)
    with pytest.raises(ValueError, match=r"unknown aim of an attack 'vtaa', known: prediction, .*did you mean 'vta'"):
        bench.attack("vtaa", "vit", data.x, IDS, None, EPS)
    with pytest.raises(ValueError, match=r"unknown defence 'noise', known: none, dds, .* or FILE\.py:NAME"):
        bench.view("noise", data.x, IDS, METHODS)


@pytest.mark.parametrize("change", [
    lambda net: net.backbone.blocks[1].mlp.fc1.weight[0, 0].add_(1e-3), lambda net: net.mean.add_(1e-3),
    lambda net: net.float(), lambda net: setattr(net, "prediction_type", "sample"),
    lambda net: setattr(net, "alphas_cumprod", [0.9])])
def test_the_digest_of_a_network_in_the_settings_is_of_all_that_it_computes_with(bench, vit, change):
    assert bench.settings == {"sigma": SIGMA, "n_samples": N, "k": K, "attack_steps": 3, "attack_draws": 2,
                              "eval_batch": 4, "precision": None, "seed": 5, "attack_rule": "constant",
                              "attack_restarts": 1, "attack_momentum": 0.0,
                              "networks": [network_digest(vit), ""]}  # a function has no weights
    edited = copy.deepcopy(vit)
    assert network_digest(edited) == network_digest(vit)
    with torch.no_grad():
        change(edited)
    assert network_digest(edited) != network_digest(vit)
