"""Odd arguments: every public function gives a right answer, or refuses in its own words; strange ones are refused.

Short in `make test`; `make test-properties` tries 20 times as many inputs and counts them. `oddities.py` makes them.
"""

import math
from functools import partial
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from fixtures.oddities import HUGE, REFUSED, STRANGE, has_nan, inputs, odd, outcome, tensors
from hypothesis import assume, example, given
from hypothesis import strategies as st
from oracles.maps import small_vit

import fvit
from fvit.base import rng
from fvit.base.checks import as_number
from fvit.models.denoiser import Denoiser
from fvit.models.schedule import linear_alphas_cumprod
from fvit.records import profiles
from fvit.records.claims import ClaimError

LOOPS = {"steps", "n_samples", "restarts", "judgements", "n", "n_images", "start", "seed_steps"}  # long work, rightly
TENSORS = {"x", "x_noisy", "map", "heat", "w", "p", "hits", "mask"}
THEIRS = {"vit", "den", "loss", "model", "explainer"}  # what a caller's own function raises is the caller's
X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
W = np.array([[0.4, 0.3, 0.2, 0.1], [0.7, 0.1, 0.1, 0.1]])


VIT = small_vit(depth=2)
DEN = Denoiser(lambda x_t, t: SimpleNamespace(sample=0.1 * x_t), linear_alphas_cumprod())
DDS = fvit.DDS(VIT, DEN, 0.25, n_samples=2)
HEAT = fvit.explain(VIT, X, "raw_attention")
HITS = torch.linspace(1, 0, 11).expand(2, 11)


@pytest.fixture(autouse=True)
def out(tmp_path, monkeypatch):
    monkeypatch.setenv("FVIT_OUT", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # "" and ".." are folders too
    monkeypatch.setattr(profiles, "current", profiles.PROFILES["laptop"])


def brightness(x, step):
    return x.sum((1, 2, 3))


def capture(vit, blocks):
    with fvit.capture_attention(vit, blocks) as attn:
        VIT(X)
    return list(attn.check())


def own_map(vit, x):
    return x.mean(1)


def register(name, **options):
    """The map of an own method, which is forgotten again."""
    known = dict(fvit.METHODS)
    try:
        fvit.register_method(name, **options)
        return fvit.explain(VIT, X, own_map)
    finally:
        fvit.METHODS.clear()
        fvit.METHODS.update(known)


def figure(fig="a figure", save="save_figure", **options):
    fig = plt.figure(figsize=(0.5, 0.5)) if isinstance(fig, str) and fig == "a figure" else fig
    try:
        return getattr(fvit, save)(fig=fig, **options)
    finally:
        plt.close("all")


WORDS = {"title": "A title", "caption": "Mean, n = 2.", "alt": "It falls.", "source": "ours"}
CALLS = {  # name: (function, good arguments); each in turn becomes odd
    "vit": (lambda x: VIT(x), {"x": X}),
    "load_vit": (lambda source, **o: fvit.load_vit(source, **o), {
        "source": VIT.backbone, "pretrained": False, "mean": (0.5,) * 3, "std": (0.5,) * 3, "checkpoint": None,
        "num_classes": None, "freeze": True}),
    "load_denoiser": (fvit.load_denoiser, {"source": "scenes", "config": None, "scheduler": None}),
    "denoise": (DEN, {"x_noisy": X, "sigma": 0.25, "steps": 2}), "timestep": (DEN.timestep, {"sigma": 0.25}),
    "load_images": (fvit.load_images, {"source": "scenes", "split": "test", "n": 1, "seed": 0, "start": 0, "root": None,
                                       "size": None, "objects": None}),
    "capture_attention": (capture, {"vit": VIT, "blocks": [1]}),
    "explain": (fvit.explain, {"vit": VIT, "x": X, "method": "vta", "target": [0, 1], "raw": False, "rules": "vta",
                               "start_layer": 1}),
    "DDS": (lambda **o: fvit.DDS(**o)(X), {"vit": VIT, "den": DEN, "sigma": 0.25, "n_samples": 2, "seed": 0,
                                           "batch_size": 3, "aggregate": "mean", "precision": None}),
    "dds": (DDS, {"x": X, "ids": ["a", "b"], "method": "rollout", "target": [0, 1], "keep_samples": True, "k": 2,
                  "start_layer": 0}),
    "dds.maps": (DDS.maps, {"x": X, "ids": ["a", "b"], "method": "rollout", "target": [0, 1], "draws": [0, 5]}),
    "as_classifier": (lambda x, **o: DDS.as_classifier(**o)(x), {"x": X, "n_samples": 2, "fresh": False}),
    "heatmap_at": (lambda size: DDS(X).heatmap_at(size), {"size": (16, 16)}),
    "as_quantus": (lambda model, inputs, targets, **o: fvit.as_quantus(**o)(model, inputs, targets), {
        "model": VIT, "inputs": X.numpy(), "targets": [0, 1], "method": "vta", "rules": "orig"}),
    "as_captum": (lambda inputs, target, **o: fvit.as_captum(**o).attribute(inputs, target), {
        "model": VIT, "inputs": X, "target": [0, 1], "method": "vta", "start_layer": 0}),
    "register_method": (register, {"name": "mine", "function": own_map, "class_specific": False,
                                   "differentiable": True, "summary": "mine", "replace": False}),
    "pgd": (fvit.pgd, {"loss": brightness, "x": X, "eps": 0.1, "norm": "l2", "steps": 1, "step_size": 0.1,
                       "start": "random", "seed": 0, "ids": None, "rule": "apgd", "momentum": 0.5, "judgements": 1}),
    "strongest": (fvit.strongest, {"loss": brightness, "x": X, "restarts": 1, "eps": 0.1, "norm": "linf", "steps": 1,
                                   "step_size": None, "seed": 0, "ids": None, "judgements": 1, "rule": "apgd",
                                   "momentum": None}),
    "prediction_loss": (lambda x, step, **o: fvit.prediction_loss(**o)(x, step), {
        "model": DDS, "y": [0, 1], "n_samples": 1, "ids": ["a", "b"], "x": X, "step": 0}),
    "explanation_loss": (lambda x, **o: fvit.explanation_loss(**o)(x, 0), {
        "explainer": VIT, "heat": HEAT, "k": 2, "keep_class": [0, 1], "method": "rollout", "n_samples": 1, "ids": None,
        "x": X, "target": [0, 1], "goal": [[0, 1], [2, 3]]}),
    "explanation_loss of a class": (lambda x, **o: fvit.explanation_loss(**o)(x, 0), {
        "explainer": DDS, "heat": HEAT, "k": 2, "method": "gradcam", "target": [0, 1], "goal": HEAT > 0.1, "x": X}),
    "topk_overlap": (fvit.topk_overlap, {"a": HEAT, "b": HEAT, "k": 2}),
    "renyi_divergence": (fvit.renyi_divergence, {"p": W, "q": W[::-1], "order": 2}),
    "segmentation_scores": (fvit.segmentation_scores, {"map": HEAT, "mask": (X[:, 0] > 0.5).long()}),
    "perturbation_curve": (fvit.perturbation_curve, {"vit": VIT, "x": X, "y": [0, 1], "map": HEAT, "kind": "negative",
                                                     "batch_size": 2}),
    "curve_auc": (fvit.curve_auc, {"hits": HITS, "convention": "mean_height"}),
    "breaking_divergence": (fvit.breaking_divergence, {"w": W, "k": 2, "beta": "1/2", "order": 2,
                                                       "direction": "attacked_to_clean"}),
    "required_sigma": (fvit.required_sigma, {"w": W, "k": 2, "beta": 0.5, "radius": 0.1, "order": 2, "gamma": 0.1,
                                             "norm": "linf", "dim": 768}),
    "certified_radius": (fvit.certified_radius, {"w": W, "k": 2, "beta": 0.5, "sigma": 0.25, "norm": 3, "dim": 768,
                                                 "certificate": "renyi", "order": None}),
    "certify": (fvit.certify, {"dds": DDS, "x": X, "k": 2, "beta": ["0.5", 1], "n_samples": 3, "failure_prob": 0.1,
                               "ids": None, "method": "rollout", "target": None, "certificate": ["votes", "cdf"]}),
    "profile": (lambda name, notebook, **o: fvit.profile(name, notebook=notebook, **o), {
        "name": "laptop", "notebook": "01", "sigma": 0.1, "n_images": 4, "k": 2, "precision": "float32"}),
    "claim": (fvit.claim, {"claim_id": "P1.2", "value": 0.1, "relation": "<", "bound": 0.5, "ci": (0, 0.2), "eps": 8}),
    "claim of one's own": (fvit.claim, {
        "claim_id": "X1", "value": 0.1, "relation": "<", "bound": 0.5, "text": "it is small", "source": "ours",
        "ci": (0.0, 0.2), "expected": "HOLDS", "note": ""}),
    "figure": (partial(figure, save="figure"), {
        "fig": "a figure", "figure_id": "F08b", "df": pd.DataFrame({"x": [1.0]}), "seed": 0, "device_kind": "cpu",
        "variant": "", "order": 2.0}),
    "save_figure": (figure, {"fig": "a figure", "figure_id": "F06", "df": pd.DataFrame({"x": [1.0]}), "name": "tiny",
                             **WORDS, "claim_ids": ["P1.1"], "seed": 0, "device_kind": "cpu"}),
    "show_figure": (fvit.show_figure, {"figure_id": "F06", "profile": "laptop"}),
    "rng.numpy_generator": (lambda *stream: rng.numpy_generator(*stream).random(), {"seed": 0, "a": "noise", "b": 3}),
    "rng.generator": (lambda *stream: torch.rand(1, generator=rng.generator(*stream)), {"seed": 0, "a": "noise"}),
    "rng.normal": (lambda seed: rng.normal((2, 2), seed), {"seed": 0}),
}
PLACES = [(name, argument) for name, (_, good) in CALLS.items() for argument in good]
SOURCES = ("load_vit", "load_denoiser", "load_images", "show_figure")  # whose refusal may be that a file is not there


def calling(name, arguments):
    function, _ = CALLS[name]
    return partial(function, *arguments.values()) if "generator" in name else partial(function, **arguments)


def called(name, arguments):
    refusals = (ValueError, OSError) if name in SOURCES else (ValueError,)
    refusals += (ClaimError,) if name.startswith("claim") else ()  # 0.1 < 0 is false, and says so
    return outcome(calling(name, arguments), refusals=refusals)


@pytest.mark.parametrize("name", CALLS)
def test_good_arguments_are_answered(name):
    """Or the next test would test nothing."""
    if name == "show_figure":
        called("save_figure", CALLS["save_figure"][1])
    answer = called(name, CALLS[name][1])
    assert answer is not REFUSED and not has_nan(answer)


@inputs(150)
@given(st.sampled_from(PLACES), odd())
def test_one_odd_argument(place, value):
    name, argument = place
    assume(not (argument in LOOPS and isinstance(value, int | float | np.number) and value > 20))
    assume(not (argument in THEIRS and isinstance(value, torch.nn.Identity)))
    assume(not (argument == "method" and callable(value)))  # a function of the caller's, as THEIRS
    assume(place != ("DDS", "n_samples") or as_number(value) != 1)  # of one draw no standard error is known: NaN
    answer = called(name, CALLS[name][1] | {argument: value})
    assert answer is REFUSED or not has_nan(answer), "a silent NaN"


@inputs(40)
@given(st.sampled_from(PLACES), st.sampled_from(STRANGE))
def test_one_strange_argument(place, make):
    """What nobody passes ends in somebody's error, or is answered: never in a silent NaN."""
    name, argument = place
    assume(not (argument in LOOPS and isinstance(make(), int)))
    try:
        answer = calling(name, CALLS[name][1] | {argument: make()})()
    except Exception:
        return
    assert not has_nan(answer), "a silent NaN"


@inputs(20)
@given(st.sampled_from([place for place in PLACES if place[1] in TENSORS]), tensors())
def test_one_odd_tensor(place, value):
    name, argument = place
    answer = called(name, CALLS[name][1] | {argument: value})
    assert answer is REFUSED or not has_nan(answer), "a silent NaN"


@inputs(10)
@given(st.sampled_from([p for p in PLACES if p[1] in ("x", "x_noisy") and p[0] not in ("pgd", "strongest", "denoise")]),
       st.sampled_from(HUGE), st.sampled_from([torch.float32, torch.float64]))
def test_huge_images_of_another_size_are_refused_unread(place, shape, dtype):
    """They are views of a single number: to read them all would take minutes, to copy them terabytes."""
    name, argument = place
    huge = torch.full((1,) * len(shape), 0.5, dtype=dtype).expand(shape)
    assert called(name, CALLS[name][1] | {argument: huge}) is REFUSED


# right answers -------------------------------------------------------------------------------------------------------
SMALL = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])


@st.composite
def images(draw, dtypes=SMALL):
    """Good images in every dtype and memory layout."""
    n, seed, dtype = draw(st.integers(1, 3)), draw(st.integers(0, 99)), draw(dtypes)
    x = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(seed)).to(dtype)
    form = draw(st.sampled_from([lambda x: x, lambda x: x.mT, lambda x: x.contiguous(memory_format=torch.channels_last),
                                 lambda x: x[:1].expand(x.shape), lambda x: torch.zeros_like(x), lambda x: x.flip(3),
                                 lambda x: torch.ones_like(x), lambda x: x.round()]))
    return form(x)


METHODS = st.sampled_from(list(fvit.METHODS))


@inputs(8)
@given(images(), METHODS, st.integers(0, 1), st.sampled_from(["vta", "ours", "orig"]), st.data())
def test_explain_sums_to_one_whatever_the_layout(x, method, start_layer, rules, data):
    options = {"start_layer": 0 if method == "lrp" else start_layer}
    options |= {"rules": rules} if "rules" in fvit.METHODS[method].options else {}
    target = data.draw(st.sampled_from([None, 0, [1] * len(x), torch.full((len(x),), 3, dtype=torch.uint8)]))
    heat = outcome(fvit.explain, VIT, x, method, target, **options)
    assert heat.shape == (len(x), 2, 2) and (heat >= 0).all()
    torch.testing.assert_close(heat.sum((1, 2)), torch.ones(len(x)), rtol=0, atol=1e-5)
    again = outcome(fvit.explain, VIT, x.contiguous().float(), method, target, **options)
    torch.testing.assert_close(heat, again, rtol=1e-3, atol=1e-3)


@inputs(8)
@given(images(), st.sampled_from(["linf", "l2"]), st.floats(0, 1), st.integers(0, 3),
       st.sampled_from(["random", "clean"]))
def test_pgd_stays_in_the_ball_and_in_the_cube(x, norm, eps, steps, start):
    x_adv = outcome(fvit.pgd, brightness, x, eps=eps, norm=norm, steps=steps, start=start)
    assert x_adv.dtype == x.dtype and 0 <= x_adv.min() and x_adv.max() <= 1
    delta = (x_adv.double() - x.double()).flatten(1)
    rounding = torch.finfo(x.dtype).eps * (1 if norm == "linf" else 768**0.5)
    assert delta.norm(dim=1, p=math.inf if norm == "linf" else 2).max() <= eps * (1 + 1e-2) + rounding


def exact_top(row, k):
    """The k greatest, ties to the lowest index: by sorting pairs."""
    return set(sorted(range(len(row)), key=lambda i: (-float(row[i]), i))[:k])


@inputs(15)
@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0, -1.0, math.inf, -math.inf]), min_size=8, max_size=8),
                max_size=3),
       st.integers(1, 4), st.sampled_from([np.float16, np.float32, np.float64, np.int32, np.uint8, bool]))
def test_topk_overlap_is_that_of_sets(rows, k, dtype):
    rows = np.array([[v if np.isfinite(v) or np.dtype(dtype).kind == "f" else 3 for v in row] for row in rows])
    rows = np.abs(rows.reshape(-1, 8)).astype(dtype)
    a, b = rows[:, :4], rows[:, 4:][:, ::-1]
    got = outcome(fvit.topk_overlap, a, b, k)
    want = [len(exact_top(list(p), k) & exact_top(list(q), k)) / k for p, q in zip(a, b, strict=True)]
    assert got.dtype == np.float64 and got.tolist() == want == outcome(fvit.topk_overlap, b, a, k).tolist()
    assert outcome(fvit.topk_overlap, a, a, k).tolist() == [1.0] * len(a)


@st.composite
def rows(draw, n=1):
    size = draw(st.integers(3, 6))
    out = np.array([draw(st.lists(st.sampled_from([0.0, 5e-324, 1e-300, 1e-9, 0.1, 0.25, 1.0, 3.0, 1e6]), min_size=size,
                                  max_size=size)) for _ in range(n)])
    out[:, 0] += 0.5
    return out / out.sum(1, keepdims=True)


ORDERS = st.sampled_from([1e-320, 1e-9, 0.1, 0.5, 1 - 1e-12, 1, 1 + 1e-12, 2, 7.5, 1e3, 1e8, 1e308, math.inf])


@inputs(20)
@given(rows(2), ORDERS, ORDERS)
@example(np.array([[1.0, 0, 0], [1 / 7, 0, 6 / 7]]), 1e308, math.inf)  # order * log(p / q) is beyond the largest float
def test_renyi_divergence_is_a_divergence_and_grows_with_the_order(w, low, high):
    low, high = sorted([low, high])
    p, q = w[:1], w[1:]
    a, b = (outcome(fvit.renyi_divergence, p, q, order)[0] for order in (low, high))
    assert 0 <= a <= b * (1 + 1e-9) + 1e-9
    assert outcome(fvit.renyi_divergence, p, p, high)[0] <= 1e-12


@inputs(8)
@given(st.sampled_from([("f2", -4), ("f2", 15), ("f4", -120), ("f4", 127), ("f8", -1000), ("f8", 1023)]),
       st.integers(0, 99), st.booleans())
def test_segmentation_knows_no_unit(scale, seed, coarse):
    """Powers of 2, so that nothing is rounded; the range of the largest is infinite."""
    g = np.random.default_rng(seed)
    maps = g.integers(-4, 5, (2, 4, 4) if coarse else (2, 8, 8)) / 4
    mask = g.integers(-1, 2, (2, 8, 8))
    mask[:, 0, :2] = [0, 1]  # both are there
    a = outcome(fvit.segmentation_scores, (maps * 2.0 ** scale[1]).astype(scale[0]), mask)
    b = outcome(fvit.segmentation_scores, maps.astype(scale[0]), mask)
    pd.testing.assert_frame_equal(a, b)
    assert not has_nan(a) and ((a.average_precision >= 0) & (a.average_precision <= 1)).all()


@inputs(5)
@given(st.integers(0, 5), st.sampled_from([0.02, 0.1, 0.5, 2.0]), st.integers(1, 5), images())
def test_the_denoiser_stays_in_the_cube_and_the_timestep_grows(seed, sigma, steps, x):
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    answer = outcome(DEN, x.float() + sigma * z, sigma, steps)
    assert answer.shape == x.shape and 0 <= answer.min() and answer.max() <= 1
    assert outcome(DEN.timestep, sigma) <= outcome(DEN.timestep, sigma * 1.5)
