"""Defences behind one protocol, on tiny networks in float64: those of the vocabulary, and a reader's own file."""

import functools
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from oracles.attack_rows import bare_and_dds
from oracles.maps import images, tiny_vit

from fvit.base import rng
from fvit.base.paths import ROOT
from fvit.data.images import Images
from fvit.experiments import defences
from fvit.experiments.attack_rows import attack_rows
from fvit.experiments.bench import Bench
from fvit.experiments.controls import all_controls, no_information_rows, repeat_rows
from fvit.experiments.reference_chain import ReferenceChain
from fvit.explanations.passes import explain, explain_with_logits
from fvit.metrics.maps import topk_overlap
from fvit.models.cnn import PlainCNN
from fvit.models.filters import Blur, Wavelet
from fvit.records import words
from fvit.records.defence_names import KNOWN
from fvit.report.contrasts import values_by_defence, what_buys
from fvit.smoothing import DDS, add_noise

METHODS = ["raw_attention", "rollout", "gradcam", "vta"]
ATTACKS = [["prediction", "vit"], ["explanation", "vit"], ["prediction", "own"], ["explanation", "own"]]
ALL = [name for name in KNOWN if name != "none"]
IDS, EPS, SIGMA = ["a", "b", "c"], 0.1, 0.1


@pytest.fixture(scope="module")
def data():
    return Images(images(3), torch.tensor([0, 3, 1]), None, IDS, ["p", "q", "q"], tuple("01234"), "toys")


@pytest.fixture(scope="module")
def bench(vit, den):
    return Bench(vit, den, SIGMA, 2, 4, attack_steps=2, attack_draws=2, eval_batch=4, seed=5)


@pytest.fixture
def cnn(monkeypatch):
    net = PlainCNN(8, 3, 2, levels=(0.01, 0.5)).double()
    torch.nn.init.normal_(net.layers[-1].weight)
    monkeypatch.setattr(defences, "_own_cnn", lambda vit: net)
    monkeypatch.setitem(defences.NOISY, "noise_cnn", lambda vit: net)
    monkeypatch.setitem(defences.STILL, "cnn", lambda vit: net)
    return net


@pytest.fixture
def other(monkeypatch):
    """The ViT that was trained further, whichever."""
    net = tiny_vit(torch.float64, seed=1)
    monkeypatch.setattr(defences, "_own_vit", lambda vit, name: net)
    return net


@pytest.mark.parametrize("attacks", [[["prediction", "vit"], ["explanation", "dds"], ["rollout", "vit"]],
                                     [["prediction", "own"], ["explanation", "vit"]]])
def test_bare_and_dds_have_the_rows_they_always_had_in_their_order(bench, data, attacks):
    rows = attack_rows(bench, data, methods=METHODS, attacks=attacks, radii=[0, EPS], measures=["stability"])
    wanted = bare_and_dds(bench, data, METHODS, [(aim, "dds" if on == "own" else on) for aim, on in attacks], [EPS])
    columns = ["defence", "aim", "made_on", "eps", "method", "explained", "metric", "image_id"]
    assert rows[columns].to_numpy().tolist() == [list(row[:-1]) for row in wanted]
    np.testing.assert_allclose(rows.value, [row[-1] for row in wanted], rtol=1e-12, atol=1e-12)
    assert set(rows[rows.defence == "dds"].sigma) == {SIGMA} and set(rows[rows.defence == "dds"].n_samples) == {2}


def shown_by(name, vit, den, cnn, x):
    """What the ViT is shown of images x at draw 0, written out."""
    noisy = add_noise(x, SIGMA, 5, "dds", IDS, [0] * 3)
    return {"dds": lambda: den(noisy, SIGMA), "noise_only": lambda: noisy, "denoise_only": lambda: den(x, SIGMA),
            "blur": lambda: Blur(1.0)(x), "blur_narrow": lambda: Blur(0.7)(x), "wavelet": lambda: Wavelet()(x, SIGMA),
            "noise_blur": lambda: Blur(1.0)(noisy), "cnn": lambda: cnn(x, SIGMA),
            "noise_cnn": lambda: cnn(noisy, SIGMA),
            "dds_published": lambda: den(add_noise(x, 8 / 255, 5, "dds", IDS, [0] * 3), 8 / 255)}[name]()


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("reference_chain", *defences.OTHER_VITS)])
def test_each_shows_the_vit_what_it_says(bench, vit, den, cnn, data, name):
    maps, probs = bench.defence(name).maps(data.x, ids=IDS, method="raw_attention", target=None, purpose="dds",
                                           draws=[0])
    with torch.no_grad():
        heat, logits = explain_with_logits(vit, shown_by(name, vit, den, cnn, data.x), "raw_attention", None)
    torch.testing.assert_close(maps[:, 0], heat)
    torch.testing.assert_close(probs[:, 0], logits.softmax(1))


@pytest.mark.parametrize("name", defences.OTHER_VITS)
def test_another_vit_stands_in_the_place_of_the_shipped_one(bench, other, data, name):
    maps, probs = bench.defence(name).maps(data.x, ids=IDS, method="vta", target=data.y, purpose="dds", draws=[0, 1])
    for draw in (0, 1):  # Cohen's is smoothed, the adversarially trained one stands bare
        seen = add_noise(data.x, SIGMA * (name == "vit_noise"), 5, "dds", IDS, [draw] * 3)
        torch.testing.assert_close(probs[:, draw], other(seen).softmax(1))
        with torch.enable_grad():
            torch.testing.assert_close(maps[:, draw], explain_with_logits(other, seen, "vta", data.y)[0].detach())


def test_the_rows_of_each_say_its_noise_its_draws_and_whose_attack_is_its_own(bench, cnn, other, data):
    names = [name for name in ALL if name != "reference_chain"]
    rows = attack_rows(bench, data, methods=["raw_attention"], attacks=[["explanation", "vit"], ["explanation", "own"]],
                       radii=[EPS], measures=["stability"], defences=["none", *names])
    said = {d: (sigma, n) for d, sigma, n in rows[["defence", "sigma", "n_samples"]].drop_duplicates().to_numpy()}
    noisy = {"dds": SIGMA, "noise_only": SIGMA, "noise_blur": SIGMA, "noise_cnn": SIGMA, "dds_published": 8 / 255,
             "vit_noise": SIGMA}
    still = {"none": 0, "blur": 0, "blur_narrow": 0, "denoise_only": SIGMA, "wavelet": SIGMA, "cnn": SIGMA,
             "vit_adversarial": 0}
    assert said == {d: (s, 2) for d, s in noisy.items()} | {d: (s, 1) for d, s in still.items()}
    assert set(rows[rows.aim == "fresh_noise"].defence) == set(noisy)
    met = rows[rows.aim == "explanation"].assign(condition=words.condition(rows))
    assert met.groupby("defence").condition.agg(set).to_dict() == {
        "none": {"explanation, adaptive"}, **{d: {"explanation, adaptive", "explanation, transferred"} for d in names}}
    assert (met[met.condition == "explanation, adaptive"].made_on.replace("vit", "none")
            == met[met.condition == "explanation, adaptive"].defence).all()


@pytest.mark.parametrize("name", ["blur", "wavelet", "noise_blur"])
def test_an_attack_through_a_defence_lowers_what_that_defence_says(bench, data, name):
    """The gradient goes through blur and wavelets: below the clean image, and below where the attack began."""
    clean = bench.view(name, data.x, IDS, [])
    began, made = (b.attack("prediction", name, data.x, IDS, clean, EPS) for b in (replace(bench, attack_steps=0),
                                                                                  replace(bench, attack_steps=4)))
    before, start, end = (bench.view(name, x, IDS, []).probs.gather(1, clean.predicted[:, None])
                          for x in (data.x, began, made))
    assert (end < before).all() and (end < start).all()


# the reference chain ------------------------------------------------------------------------------------------------
TOLD = [round(i * 999 / 249) for i in range(45)][::-1]


def chain_loop(den, x, ids, draw, purpose, seed, told):
    """As notebook 03 writes it, one image at a time."""
    ac_of, found = den.alphas_cumprod, []
    for image, image_id in zip(x, ids, strict=True):
        z = rng.normal(image.shape, seed, purpose, image_id, draw, dtype=x.dtype)
        u = 2 * (image + 4 / 255 * z)[None] - 1
        for step, t in enumerate(told):
            ac, after = ac_of[t], ac_of[told[step + 1]] if step + 1 < len(told) else 1.0
            eps_hat = den.network(u, torch.full((1,), t)).sample
            clean = ((u - (1 - ac) ** 0.5 * eps_hat) / ac**0.5).clamp(-1, 1)
            beta = 1 - ac / after
            mean = (after**0.5 * beta * clean + (1 - beta) ** 0.5 * (1 - after) * u) / (1 - ac)
            noise = rng.normal(image.shape, seed, f"{purpose} chain", image_id, draw, step, dtype=x.dtype)
            u = mean + (beta * (1 - after) / (1 - ac)) ** 0.5 * noise
        found.append((u.clamp(-1, 1) + 1) / 2)
    return torch.cat(found)


def test_the_reference_chain_is_that_of_notebook_03_and_its_gradient_that_of_all_its_steps(vit, den):
    chain = ReferenceChain(vit, den, n_samples=2, seed=3, batch_size=1)  # the second pair is computed again
    assert chain.told == TOLD and len(TOLD) == 45
    x, chain.told = images(1).requires_grad_(), TOLD[-5:]
    maps, probs = chain.maps(x, ids=["a"], purpose="eot", draws=[1, 4])
    for n, draw in enumerate([1, 4]):
        seen = chain_loop(den, x, ["a"], draw, "eot", 3, TOLD[-5:])
        torch.testing.assert_close(maps[:, n], explain(vit, seen, "raw_attention"))
        torch.testing.assert_close(probs[:, n], vit(seen).softmax(1))
        mine, theirs = (torch.autograd.grad(v[:, 0, 0].sum(), x, retain_graph=True)[0]
                        for v in (maps[:, n], explain(vit, seen, "raw_attention")))
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-10)
    assert defences.levels(chain) == {"sigma": 4 / 255, "n_samples": 2}
    with pytest.raises(ValueError, match="needs a denoiser of 1000 steps that estimates epsilon"):
        ReferenceChain(vit, Blur(1.0))


# a reader's own -----------------------------------------------------------------------------------------------------
MINE = '''
import torch
import fvit
from fvit.explanations.passes import explain_with_logits


class Mine:
    """The ViT sees means of three by three pixels."""

    def __init__(self, vit):
        self.vit = vit

    def maps(self, x, *, method, target, **_):
        x = torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1)
        heat, logits = explain_with_logits(self.vit, x, method or "raw_attention", target)
        return heat[:, None], logits.softmax(1)[:, None]


def short(vit):
    """The same, in two lines."""
    return fvit.DDS(vit, lambda x, sigma: torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1), sigma=0)


class Half(fvit.DDS):
    def __init__(self, sigma, **given):
        super().__init__(sigma=sigma / 2, **given)


class Wrong(Mine):
    def __init__(self, vit, wrong=None):
        self.vit = vit

    def maps(self, x, **asked):
        heat, probs = super().maps(x, **asked)
        return self.spoil(heat, probs)


class Flat(Wrong):
    spoil = staticmethod(lambda heat, probs: (heat[:, 0], probs))


class Logits(Wrong):
    spoil = staticmethod(lambda heat, probs: (heat, probs.log()))


class Alone(Wrong):
    spoil = staticmethod(lambda heat, probs: heat)


class Stopped(Wrong):
    spoil = staticmethod(lambda heat, probs: (heat.detach(), probs))


class Rounded(Mine):
    def maps(self, x, **asked):
        return super().maps((8 * x).round() / 8, **asked)


class Asks:
    def __init__(self, vit, width):
        pass


class Nothing:
    pass
'''


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return lambda name: f"{tmp_path / 'mine.py'}:{name}"


def test_a_readers_own_class_has_the_rows_of_the_same_written_as_a_dds(bench, data, mine):
    """Maps, predictions, both attacks, re-predicted classes: by its own protocol, and through DDS."""
    made = functools.partial(attack_rows, bench, data, methods=METHODS, attacks=ATTACKS, radii=[EPS],
                             measures=["stability"])
    rows = {name: made(defences=["none", mine(name)]) for name in ("Mine", "short")}
    same = rows["Mine"].replace("mine.py:Mine", "mine.py:short")
    assert set(same.defence) == {"none", "mine.py:short"} and set(same.made_on) == {"", "vit", "mine.py:short"}
    pd.testing.assert_frame_equal(same, rows["short"], rtol=1e-9)
    adaptive = rows["Mine"][words.condition(rows["Mine"]) == "prediction, adaptive"]
    assert set(adaptive.made_on) == {"mine.py:Mine", "vit"} and set(rows["Mine"].sigma) == {0.0}


def test_the_recipe_holds_as_it_stands(bench, data, tmp_path):
    """CONTRIBUTING, Add a defence: both forms have the rows of the same, written as a pooled image."""
    recipe = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("### Add a defence")[2]
    (tmp_path / "mine.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", recipe, re.DOTALL)[:2]))
    free = [["explanation_free", "vit"], ["explanation_free", "own"]]
    rows = attack_rows(bench, data, methods=["raw_attention"], attacks=free, radii=[EPS], measures=["stability"],
                       defences=["none", "dds", *(f"{tmp_path / 'mine.py'}:{name}" for name in ("Mine", "Plain"))])
    mine, plain = (rows[rows.defence == f"mine.py:{name}"].reset_index(drop=True) for name in ("Mine", "Plain"))
    pd.testing.assert_frame_equal(mine, plain.replace("mine.py:Plain", "mine.py:Mine"), rtol=1e-9)
    seen = torch.nn.functional.avg_pool2d(data.x, 3, stride=1, padding=1)
    kept = topk_overlap(*(explain(bench.vit, x, "raw_attention") for x in (data.x, seen)), bench.k)
    assert mine[mine.metric == "fidelity"].value.tolist() == kept.tolist()
    table = what_buys(values_by_defence(rows.assign(photograph=rows.image_id)), [("mine", "mine.py:Mine", "dds")])
    assert table[["measure", "threat", "n"]].to_numpy().tolist() == [
        ["map", "none", 3], ["map", "transferred", 3], ["map", "adaptive", 3], ["prediction", "none", 3]]


def test_somebody_elses_denoiser_is_a_defence_and_says_where_its_weights_come_from(bench, data, tmp_path, monkeypatch):
    """On random weights in the form of the published ones."""
    name, g = f"{ROOT / 'tools' / 'ffdnet.py'}:ffdnet", torch.Generator().manual_seed(0)
    monkeypatch.setenv("FFDNET", str(tmp_path / "ffdnet_color.pth"))
    with pytest.raises(FileNotFoundError, match=r"no .*ffdnet_color.pth; get ffdnet_color.pth from the authors' KAIR"):
        bench.defence(name)
    sizes, state = [13, 8, 8, 12], {}
    for n, (a, b) in enumerate(pairwise(sizes)):
        state |= {f"model.{2 * n}.weight": torch.randn(b, a, 3, 3, generator=g) / 20,
                  f"model.{2 * n}.bias": torch.randn(b, generator=g) / 20 + 0.2}
    torch.save(state, tmp_path / "ffdnet_color.pth")
    den = bench.defence(name).den
    layers = [*state.values()]
    values = F.pixel_unshuffle(data.x.float(), 2)
    values = torch.cat([values, torch.full_like(values[:, :1], SIGMA)], 1)
    for n in range(3):
        values = F.conv2d(values if n == 0 else values.relu(), layers[2 * n], layers[2 * n + 1], padding=1)
    torch.testing.assert_close(den(data.x, SIGMA), F.pixel_shuffle(values, 2).clamp(0, 1).to(data.x.dtype))
    assert den.has_level(0.29) and not den.has_level(0.3)
    rows = attack_rows(bench, data, methods=["raw_attention"], attacks=[["explanation", "own"]], radii=[EPS],
                       measures=["stability"], defences=["none", name])
    assert set(rows[rows.made_on != ""].defence) == {"ffdnet.py:ffdnet"} and set(rows.sigma) == {0, SIGMA}


def test_a_constructor_is_given_what_it_asks_for(bench, mine):
    half = bench.defence(mine("Half"), seed=9)
    assert isinstance(half, DDS) and (half.sigma, half.n_samples, half.seed, half.batch_size) == (SIGMA / 2, 2, 9, 4)
    assert defences.levels(half) == {"sigma": SIGMA / 2, "n_samples": 2} and defences.is_random(half)
    assert not defences.is_random(bench.defence(mine("Mine")))


@pytest.mark.parametrize("name, aim, message", [
    ("Asks", "", r"mine\.py:Asks asks for width, known: vit, den, sigma, .*give it a default"),
    ("Nothing", "", "mine.py:Nothing makes a Nothing without a method `maps`; wanted one as of"),
    ("Flat", "", r"mine\.py:Flat gives maps of shape \(3, 4, 4\) for 3 images, wanted \(B, n, h, w\) = \(3, n, 4, 4\)"),
    ("Logits", "", "mine.py:Logits gives probabilities that are no shares: .* softmax"),
    ("Alone", "", "mine.py:Alone gives a Tensor, wanted a pair: maps and probabilities"),
    ("Stopped", "explanation", "mine.py:Stopped gives maps without a gradient in x, so no attack .* leave out detach"),
    ("Rounded", "prediction", "mine.py:Rounded gives answers whose gradient in x is 0 everywhere, so no attack"),
    ("Rounded", "explanation", "mine.py:Rounded gives answers whose gradient in x is 0 everywhere, so no attack"),
])
def test_what_no_row_may_come_from_is_refused_in_one_line(bench, data, mine, name, aim, message):
    with pytest.raises(ValueError, match=message) as caught:
        attack_rows(bench, data, methods=["raw_attention"], attacks=[[aim, "own"]] if aim else [], radii=[EPS],
                    measures=[], defences=["none", mine(name)])
    assert "\n" not in str(caught.value)


def test_a_file_that_was_edited_is_read_again(bench, mine, tmp_path):
    assert bench.defence(mine("Half")).sigma == SIGMA / 2
    (tmp_path / "mine.py").write_text(MINE.replace("sigma / 2", "sigma / 4"))
    assert bench.defence(mine("Half")).sigma == SIGMA / 4


def test_the_bare_vit_is_no_defence_to_build_and_a_cnn_that_was_not_trained_is_named(bench):
    with pytest.raises(ValueError, match="defence 'none' is the bare ViT"):
        bench.defence("none")
    with pytest.raises(FileNotFoundError, match="no plain CNN was trained on the images of the ViT 'tiny'"):
        bench.defence("cnn")
    with pytest.raises(FileNotFoundError, match="no vit_noise was trained from the ViT 'tiny'; train one, and smooth"):
        bench.defence("vit_noise")


# controls -----------------------------------------------------------------------------------------------------------
def test_the_level_of_no_information_by_hand(bench, data):
    rows = no_information_rows(bench, data, ["raw_attention"], defences=["none", "blur"])
    for name in ("none", "blur"):
        maps = bench.view(name, data.x, IDS, ["raw_attention"]).maps["raw_attention"].flatten(1)
        top = [set(m.argsort(descending=True, stable=True)[:4].tolist()) for m in maps]
        kept = [[len(top[i] & top[j]) / 4 for j in others] for i, others in enumerate([(1, 2), (0,), (0,)])]
        found = rows[(rows.defence == name) & (rows.aim == "other_image")]
        assert found.image_id.tolist() == IDS and set(found.k) == {4} and set(found.eps) == {0.0}
        assert found.value.tolist() == pytest.approx([sum(k) / len(k) for k in kept])
        if name == "none":
            level = [maps[[1, 2]].mean(0), maps[0], maps[0]]
            tops = [set(m.argsort(descending=True, stable=True)[:4].tolist()) for m in level]
            constant = rows[(rows.defence == "constant_map") & (rows.metric == "fidelity")]
            assert constant.value.tolist() == pytest.approx([len(a & b) / 4 for a, b in zip(top, tops, strict=True)])
    with pytest.raises(ValueError, match="all 3 images are of one group, 'p'"):
        no_information_rows(bench, replace(data, groups=["p"] * 3), ["raw_attention"])


def test_maps_repeat_in_another_batch_with_the_same_draws_and_a_map_that_does_not_is_seen(bench, data, monkeypatch):
    rows = repeat_rows(bench, data, ["raw_attention", "vta"], defences=["none", "dds"])
    assert set(rows.aim) == {"repeat"} and (rows.value == 1).all() and len(rows) == 2 * 2 * 3
    assert set(rows.made_on) == {""} and (rows.eps == 0).all()
    view = Bench.view

    def by_batch(self, *given):
        seen = view(self, *given)
        if self.eval_batch == 1:
            seen.maps["vta"] = seen.maps["vta"].flip(1)
        return seen

    monkeypatch.setattr(Bench, "view", by_batch)
    rows = repeat_rows(bench, data, ["raw_attention", "vta"]).groupby("method").value.mean()
    assert rows["raw_attention"] == 1 > rows["vta"]


def test_controls_ask_other_defences_too(bench, data):
    rows = all_controls(bench, data, [EPS], maps=["random_order"], defences=["denoise_only", "blur"])
    right = rows[rows.metric == "right"].groupby(["defence", "made_on"], sort=False).size()
    assert right.to_dict() == {(d, on): 3 for d in ("denoise_only", "blur") for on in ("", "vit", d)}
    assert set(rows.metric) == {"right", "positive", "negative"}
