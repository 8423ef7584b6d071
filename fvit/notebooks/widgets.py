"""Figures with handles: in JupyterLab a moved handle draws anew; papermill, nbval and HTML get one still figure.

Live is a kernel that a Jupyter server started for a notebook: it sets JPY_SESSION_NAME. FVIT_WIDGETS=1 (another live
front end, VS Code say) or 0 overrules that; `fvit run`, `fvit refresh` and pytest set 0, for one may run them from Lab.
"""

import html
import math
import os
from base64 import b64encode
from functools import cache

import numpy as np
import pandas as pd
import torch
from IPython.display import display
from scipy import stats

from fvit.base.checks import check_choice
from fvit.explanations.passes import explain
from fvit.metrics.maps import top_k, topk_overlap
from fvit.report.f06_radii import plot_simplex, plot_strips
from fvit.report.f07_certified import plot_votes
from fvit.report.f08_noise import plot_noise_pair
from fvit.report.panels import draw_panels, encode
from fvit.report.saving import Shown, png_bytes
from fvit.smoothing import DDS, add_noise
from fvit.theory import divergences, noise, radii

DPI = 110
NOISES = {  # name: (family of noise.FAMILIES, its shape, scipy's density of scale 1)
    "Gaussian": ("gaussian", None, stats.norm()), "Laplace": ("laplace", None, stats.laplace()),
    "logistic": ("logistic", None, stats.logistic()), "Student t, 5": ("student", 5, stats.t(5)),
    "exponent 1.5": ("generalised_normal", 1.5, stats.gennorm(1.5)),
    "exponent 4": ("generalised_normal", 4, stats.gennorm(4)),
}


def live() -> bool:
    """Does a front end listen that can move handles? ValueError for an FVIT_WIDGETS other than 0, 1 or nothing."""
    said = check_choice(os.environ.get("FVIT_WIDGETS", ""), ("", "0", "1"), "value of FVIT_WIDGETS")
    return said == "1" or (said == "" and bool(os.environ.get("JPY_SESSION_NAME")))


def reachable(handles: dict, start: dict) -> dict:
    """{name: values} that will be drawn: all of them where a front end is live, else those of `start` alone.

    Raises ValueError if the start is no setting of the handles.
    """
    for name, values in handles.items():
        check_choice(start[name], values, name)
    return handles if live() else {name: [start[name]] for name in handles}


def explore(draw, handles: dict, start: dict, title: str) -> None:
    """Show `draw(**setting)` with a handle for each setting where a front end is live, else as it is at the start.

    draw      callable, name=value for each handle -> (Figure, a sentence that says what is seen, with its numbers);
              it runs at each setting once, when that is first reached, so networks should have run before
    handles   {name: values}
    """
    if live():
        display(with_handles(draw, handles, start))
        return
    figure, said = draw(**start)
    setting = ", ".join(f"{name} {value}" for name, value in start.items())
    picture = {"image/png": b64encode(png_bytes(figure, DPI)).decode()}
    display(Shown(f"{title}: {setting}", picture, {"image/png": {"alt": said}}))
    display(Shown(f"Caption of {title}", {"text/html": f"<p>{html.escape(said)} <i>In JupyterLab (`make lab`) this "
                                          "figure has handles.</i></p>"}))


def with_handles(draw, handles: dict, start: dict):
    """The widget: a slider for each handle, and below them the picture with its sentence, drawn once a setting."""
    from ipywidgets import HTML, SelectionSlider, VBox  # late: the still figure needs none of it

    @cache
    def frame(*values):
        figure, said = draw(**dict(zip(handles, values, strict=True)))
        data, words = b64encode(png_bytes(figure, DPI)).decode(), html.escape(said)
        return f'<img src="data:image/png;base64,{data}" alt="{words}" style="max-width:100%"><p>{words}</p>'

    sliders = [SelectionSlider(options=list(values), value=start[name], description=name, style={"description_width":
               "8em"}) for name, values in handles.items()]
    picture = HTML()

    def redraw(_=None):
        picture.value = frame(*(slider.value for slider in sliders))

    for slider in sliders:
        slider.observe(redraw, names="value")
    redraw()
    return VBox([*sliders, picture])


def explore_smoothing(vit, den, x, image_id, *, sigmas=(0.1, 0.25, 0.5), n_samples=(1, 4, 16, 32),
                      ks=(5, 25, 100), start=(0.25, 16, 25), seed=0) -> None:
    """One image under smoothing, with handles for sigma, the number of draws and k. For notebooks 02 and 03.

    den     None: noise only
    x       (1, 3, H, W) in [0, 1]
    All draws are made beforehand, twice as many as the largest n_samples: the figure says what two runs have in common.
    """
    start = dict(zip(("sigma", "n_samples", "k"), start, strict=True))
    handles = {"sigma": list(sigmas), "n_samples": list(n_samples), "k": list(ks)}
    drawn = reachable(handles, start)
    most, noisy, seen, maps = 2 * max(drawn["n_samples"]), {}, {}, {}
    with torch.no_grad():
        bare = explain(vit, x, "raw_attention")
        for sigma in drawn["sigma"]:
            noisy[sigma] = add_noise(x, sigma, seed, "dds", [image_id], 0)
            seen[sigma] = den(noisy[sigma], sigma) if den else None
            dds = DDS(vit, den, sigma=sigma, n_samples=most, seed=seed)
            maps[sigma] = dds(x, ids=[image_id], keep_samples=True).samples.double()  # (1, draws, h, w)

    def draw(sigma, n_samples, k):
        mean, again = maps[sigma][:, :n_samples].mean(1), maps[sigma][:, n_samples : 2 * n_samples].mean(1)
        shares = [topk_overlap(mean, other, k).item() for other in (again, bare)]
        top = torch.zeros_like(mean).flatten(1).scatter_(1, top_k(mean, k), 1).view_as(mean)
        lit = torch.nn.functional.interpolate(top[:, None], size=x.shape[-2:]).to(x)
        pictures = {"image": x[0], f"+ noise {sigma}": noisy[sigma][0].clamp(0, 1)}
        pictures |= {"denoised": seen[sigma][0]} if den else {}
        pictures |= {f"mean of {n_samples}": mean[0], f"its top {k}": x[0] * (0.2 + 0.8 * lit[0])}
        said = (f"sigma {sigma}, {n_samples} draws: two runs share {shares[0]:.2f} of their top {k}; "
                f"with bare attention this one shares {shares[1]:.2f} (random maps {k / mean[0].numel():.2f}).")
        return draw_panels(encode(pictures), ncols=len(pictures), label="attention share"), said

    explore(draw, handles, start, "Smoothing of one image")


def explore_simplex(start=(0.5, 0.6)) -> None:
    """The nearest broken map of three tokens, with handles for w: token 1, and token 2's share of the rest.

    Order 2, k = 1. For notebook 06.
    """
    handles = {"token 1": [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8], "2 of the rest": [0.5, 0.6, 0.7, 0.8, 0.9]}
    i, j = np.meshgrid(np.arange(61), np.arange(61), indexing="ij")
    triangle = np.stack([i, j, 60 - i - j], -1)[i + j <= 60] / 60  # every map with entries in steps of 1/60

    def draw(**setting):
        first, share = setting.values()
        w = np.array([first, share * (1 - first), (1 - share) * (1 - first)])
        level = math.sqrt((w[0] ** 2 + w[1] ** 2) / 2)
        nearest = np.array([level, level, w[2]]) / (2 * level + w[2])
        least = divergences.breaking_divergence(w, k=1, beta="1", order=2)
        apart = divergences.renyi_divergence(np.broadcast_to(w, triangle.shape), triangle, 2)
        rows = pd.DataFrame(np.vstack([triangle, w, nearest]), columns=["token_1", "token_2", "token_3"]).assign(
            divergence=[*np.minimum(apart, 9), 0, least], what=["grid"] * len(triangle) + ["w", "nearest"])
        w, nearest = (", ".join(f"{v:.2f}" for v in point) for point in (w, nearest))
        said = (f"w = ({w}): the nearest map whose top token is another is ({nearest}), at divergence {least:.3f}; "
                f"so the top token is safe up to a shift of {math.sqrt(least):.2f} sigma (section 4).")
        return plot_simplex(rows), said

    explore(draw, handles, dict(zip(handles, start, strict=True)), "Three tokens")


def explore_strips(start=(1.0, 0.25)) -> None:
    """What two tokens of 0.40 together keep for certain after a shift, with handles for it and for token 1's part.

    For notebook 06.
    """
    handles = {"shift / sigma": [0.1, 0.2, 0.5, 1.0, 1.5], "token 1": [0.2, 0.25, 0.3, 0.35]}

    def draw(**setting):
        rho, first = setting.values()
        alone, both = stats.norm.cdf(stats.norm.ppf([first, 0.4]) - rho)
        rows = [("before", "token 1", first), ("before", "token 2", 0.4 - first),
                ("after: token 1 has at least", "token 1", alone), ("after: the two have at least", "both", both),
                *[("so the greater has half", "half of both", both / 2)] * 2]
        said = (f"After a shift of {rho:g} sigma token 1 keeps at least {alone:.3f}, the two together at least "
                f"{both:.3f}, so the greater of them half of that, {both / 2:.3f}: one of the two keeps at least "
                f"{max(alone, both / 2):.3f}, by {'token 1 alone' if alone > both / 2 else 'the two'}.")
        return plot_strips(pd.DataFrame(rows, columns=["strip", "part", "share"])), said

    explore(draw, handles, dict(zip(handles, start, strict=True)), "Two tokens that cannot both sink")


VOTES = (0.99, 0.95, 0.90, 0.78, 0.60, 0.35, 0.22, 0.12, 0.06, 0.03)  # of ten tokens, of which five are shown


def explore_votes(start=0.6) -> None:
    """Votes in order and the two that decide, with a handle for the overlap to keep. For notebook 07."""
    k = 5

    def draw(overlap):
        lost = divergences.tokens_to_break(k, f"{overlap:g}")
        inside, outside = k - lost + 1, k + lost  # places of the two that decide
        a, b = VOTES[inside - 1], VOTES[outside - 1]
        rho = radii.coordinate_rho(VOTES[inside - 1 : k], VOTES[k:outside])
        place = np.arange(1, len(VOTES) + 1)
        rows = pd.DataFrame({"place": place, "vote": VOTES, "top": place <= k, "decides": np.isin(
            place, [inside, outside])})
        said = (f"Overlap {overlap:g}: it is lost with {lost} of the {k} tokens. Of any {lost} in the set one has a "
                f"vote of {a:.2f} or more, of any {lost} outside one has {b:.2f} or less: the radius is "
                f"{rho:.2f} sigma.")
        return plot_votes(rows), said

    explore(draw, {"overlap": [1.0, 0.8, 0.6, 0.4, 0.2]}, {"overlap": start}, "Votes that decide")


def explore_noise(start=("Laplace", 1), order=2.0) -> None:
    """A noise and its copy moved by the radius, with handles for family and divergence. For notebook 08."""
    handles = {"noise": list(NOISES), "divergence": [0.1, 0.25, 0.5, 1, 2, 4]}

    def draw(**setting):
        family, shape, density = NOISES[setting["noise"]]
        scale = noise.calibrated_scale(family, setting["divergence"], order, shape=shape)
        ratio = noise.noise_variance(family, scale, shape) / noise.gaussian_variance(order, setting["divergence"])
        z = np.linspace(-4, 5, 361)
        still, moved = (density.logpdf((z - shift) / scale) - math.log(scale) for shift in (0, 1))
        rows = pd.DataFrame({"position": z, "density": np.exp(still), "moved": np.exp(moved), "log_ratio":
                             still - moved})
        said = (f"{setting['noise']} noise scaled to divergence {setting['divergence']} at order {order:g}: "
                f"its variance is {ratio:.2f} times the Gaussian's.")
        return plot_noise_pair(rows), said

    explore(draw, handles, dict(zip(handles, start, strict=True)), "Noise of equal divergence")
