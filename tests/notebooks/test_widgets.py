"""Figures with handles: still ones where nobody can move them, and no network call when somebody does."""

import base64
import html
import io
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.display import DisplayObject
from matplotlib.figure import Figure
from PIL import Image
from scipy.special import logsumexp
from scipy.stats import norm

import fvit
from fvit.notebooks import runner, widgets
from fvit.theory import divergences, noise

HANDLES, START = {"a": [1, 2, 3], "b": ["x", "y"]}, {"a": 2, "b": "y"}


@pytest.fixture
def shown(monkeypatch):
    """What was displayed, in order."""
    shown = []
    monkeypatch.setattr(widgets, "display", shown.append)
    return shown


@pytest.fixture
def drawn():
    """A draw function, and the settings at which it ran."""
    seen = []

    def draw(**setting):
        seen.append(setting)
        return Figure(figsize=(1, 1)), f"a is {setting['a']} & b is {setting['b']}."

    return draw, seen


def forms(item):
    assert not isinstance(item, DisplayObject)
    return item._repr_mimebundle_()


def set_live(monkeypatch, said="1", session=None):
    monkeypatch.setenv("FVIT_WIDGETS", said)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    if session is not None:
        monkeypatch.setenv("JPY_SESSION_NAME", session)


@pytest.mark.parametrize("said, session, live", [
    ("", "/home/me/notebooks/02.ipynb", True), ("", None, False), ("", "", False),
    ("0", "/home/me/notebooks/02.ipynb", False), ("1", None, True)])
def test_live_is_a_notebook_of_a_jupyter_server_unless_the_variable_says_otherwise(monkeypatch, said, session, live):
    set_live(monkeypatch, said, session)
    assert widgets.live() is live
    set_live(monkeypatch, "yes", session)
    with pytest.raises(ValueError, match="unknown value of FVIT_WIDGETS 'yes', known: , 0, 1"):
        widgets.live()


def test_runs_and_tests_are_never_live_even_when_started_from_a_notebook(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "x.ipynb")
    assert not widgets.live()  # conftest.py
    monkeypatch.delenv("FVIT_WIDGETS")
    assert widgets.live()
    with runner.kernel_environment():
        assert not widgets.live()
    assert widgets.live()


def test_the_still_figure_is_the_start_alone_with_its_words_small_and_closed(shown, drawn):
    draw, seen = drawn
    widgets.explore(draw, HANDLES, START, "A thing")
    assert seen == [START] and len(shown) == 2
    picture, metadata = forms(shown[0])
    assert picture["text/plain"] == "A thing: a 2, b y" and picture["image/png"].startswith("iVBOR")
    assert metadata == {"image/png": {"alt": "a is 2 & b is y."}}
    caption, _ = forms(shown[1])
    assert caption["text/plain"] == "Caption of A thing" and "a is 2 &amp; b is y." in caption["text/html"]
    shown.clear()
    before = plt.get_fignums()
    widgets.explore_noise()
    data = forms(shown[0])[0]["image/png"]
    assert len(data) < 150_000 and Image.open(io.BytesIO(base64.b64decode(data))).width < 900
    assert plt.get_fignums() == before


def test_a_live_figure_follows_its_handles_and_draws_each_setting_once(monkeypatch, shown, drawn):
    set_live(monkeypatch)
    draw, seen = drawn
    widgets.explore(draw, HANDLES, START, "A thing")
    first, second, picture = shown[0].children
    assert [s.description for s in (first, second)] == ["a", "b"] and seen == [START]
    assert 'alt="a is 2 &amp; b is y."' in picture.value
    first.value = 3
    assert seen[-1] == {"a": 3, "b": "y"} and 'alt="a is 3 &amp; b is y."' in picture.value
    second.value = "x"
    first.value, second.value = 2, "y"
    count = len(seen)
    first.value = 3  # seen before
    assert len(seen) == count == len({tuple(s.items()) for s in seen}) and "a is 3 &amp; b is y." in picture.value


def test_only_a_known_start_is_computed_where_nothing_is_live(monkeypatch):
    with pytest.raises(ValueError, match="unknown a 7, known: 1, 2, 3"):
        widgets.reachable(HANDLES, START | {"a": 7})
    assert widgets.reachable(HANDLES, START) == {"a": [2], "b": ["y"]}
    set_live(monkeypatch)
    assert widgets.reachable(HANDLES, START) == HANDLES


def said(value):
    return html.unescape(re.search(r"<p>(.*)</p>", value).group(1))


@pytest.mark.parametrize("denoised", [False, True])
def test_moving_a_handle_of_the_smoothing_calls_no_network(monkeypatch, shown, denoised):
    set_live(monkeypatch)
    vit, data = fvit.load_vit("scenes"), fvit.load_images("scenes", n=1)
    den = (lambda x, sigma: x.clamp(0, 1)) if denoised else None
    calls = []
    vit.register_forward_hook(lambda *_: calls.append(1))
    widgets.explore_smoothing(vit, den, data.x, data.ids[0], sigmas=(0.1, 0.25), n_samples=(1, 2), ks=(5, 256),
                              start=(0.1, 2, 5))
    sigma, n_samples, k, picture = shown[0].children
    count, texts = len(calls), {said(picture.value)}
    for handle in (sigma, n_samples, k):
        for value in [v for _, v in handle._options_full]:
            handle.value = value
            texts.add(said(picture.value))
    assert len(calls) == count > 0 and len(texts) == 4
    assert "share 1.00 of their top 256" in said(picture.value)  # every token is in the top 256 of 256


def test_smoothing_says_the_overlaps_of_two_runs_and_of_the_bare_map(shown):
    vit, data = fvit.load_vit("scenes"), fvit.load_images("scenes", n=1)
    widgets.explore_smoothing(vit, None, data.x, data.ids[0], n_samples=(3,), start=(0.25, 3, 25), seed=4)
    draws = fvit.DDS(vit, None, sigma=0.25, n_samples=6, seed=4)(data.x, data.ids, keep_samples=True).samples.double()
    mean, again = draws[:, :3].mean(1), draws[:, 3:].mean(1)
    bare = fvit.explain(vit, data.x, "raw_attention")
    wanted = [f"{fvit.topk_overlap(mean, other, 25).item():.2f}" for other in (again, bare)]
    words = forms(shown[0])[1]["image/png"]["alt"]
    assert re.findall(r"shares? ([\d.]+)", words) == wanted


def test_the_triangle_breaks_at_the_least_divergence_of_a_search(monkeypatch, shown):
    set_live(monkeypatch)
    widgets.explore_simplex()
    first, share, picture = shown[0].children
    for one, rest in ((0.5, 0.9), (0.8, 0.5), (0.65, 0.7)):
        first.value, share.value = one, rest
        w = [one, rest * (1 - one), (1 - rest) * (1 - one)]
        t = np.linspace(0.001, 0.499, 100_001)  # maps whose first two tokens are equal
        searched = divergences.renyi_divergence(np.broadcast_to(w, (len(t), 3)), np.stack([t, t, 1 - 2 * t], 1), 2)
        assert f"divergence {searched.min():.3f}" in said(picture.value)
        assert f"({w[0]:.2f}, {w[1]:.2f}, {w[2]:.2f})" in said(picture.value)


def test_one_of_two_tokens_keeps_the_better_of_two_bounds(monkeypatch, shown):
    set_live(monkeypatch)
    widgets.explore_strips()
    shift, first, picture = shown[0].children
    for rho, one, by in ((1.0, 0.25, "the two"), (0.2, 0.25, "token 1 alone"), (0.2, 0.2, "the two")):
        shift.value, first.value = rho, one
        alone, both = (norm.cdf(norm.ppf(mass) - rho) for mass in (one, 0.4))
        kept = re.search(r"one of the two keeps at least ([\d.]+), by (.+)\.", said(picture.value)).groups()
        assert kept == (f"{max(alone, both / 2):.3f}", by)


def test_the_pair_of_votes_that_decides_moves_outwards_as_less_is_asked(monkeypatch, shown):
    set_live(monkeypatch)
    widgets.explore_votes()
    (overlap, picture), radii = shown[0].children, []
    for value, a, b in ((1.0, 0.6, 0.35), (0.6, 0.9, 0.12), (0.2, 0.99, 0.03)):
        overlap.value = value
        words = said(picture.value)
        assert f"a vote of {a:.2f} or more" in words and f"one has {b:.2f} or less" in words
        radii.append(float(re.search(r"([\d.]+) sigma", words).group(1)))
        assert radii[-1] == pytest.approx((norm.ppf(a) - norm.ppf(b)) / 2, abs=0.005)
    assert sum(widgets.VOTES) == pytest.approx(5) and radii == sorted(radii)


def test_the_noise_families_are_those_whose_variance_is_said(monkeypatch, shown):
    set_live(monkeypatch)
    z = np.linspace(-40, 41, 200_001)
    for family, shape, density in widgets.NOISES.values():
        assert density.var() == pytest.approx(noise.noise_variance(family, 1.0, shape), rel=1e-12)
        summed = logsumexp(2 * density.logpdf(z) - density.logpdf(z - 1)) + np.log(z[1] - z[0])  # order 2
        assert summed == pytest.approx(noise.shifted_divergence(family, 1, 2, shape=shape), rel=1e-3)
    widgets.explore_noise()
    name, divergence, picture = shown[0].children
    name.value, divergence.value = "Gaussian", 4
    assert "divergence 4 at order 2: its variance is 1.00 times the Gaussian's" in said(picture.value)
    name.value = "logistic"
    assert f"variance is {noise.relative_variance('logistic', 4, 2):.2f} times" in said(picture.value)
