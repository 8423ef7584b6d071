"""Each figure function draws every row of its table in its own panel, and names what it draws; its looks."""

from importlib import import_module
from itertools import product
from pkgutil import iter_modules
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

import fvit.report
from fvit.base import paths
from fvit.records.rows import load_rows
from fvit.report import f13_settings, f14_costs, panels, saving, style

MODULES = [import_module(f"fvit.report.{found.name}") for found in iter_modules(fvit.report.__path__)]
plots = SimpleNamespace(**{name.removeprefix("plot_"): function for module in MODULES
                           for name, function in vars(module).items() if name.startswith("plot_")})
SIGNS, CURVES = ["positive", "negative"], ["vta", "rollout", "random_order", "mask"]


def means(mean="mean", **columns) -> pd.DataFrame:
    """A row for each combination, its mean like no other's, with intervals, one of which has no width."""
    df = pd.DataFrame(product(*columns.values()), columns=list(columns))
    return df.assign(**{mean: np.linspace(0.213, 0.787, len(df)), "low": np.linspace(0.1, 0.787, len(df)), "high": 0.9})


def points(ax, axis) -> list[float]:
    """Coordinates of all markers with intervals."""
    return [value for c in ax.containers for value in getattr(c.lines[0], f"get_{axis}data")()]


def numbers(axes) -> set[float]:
    """All that lines and bars stand for."""
    lines = [np.ravel(data) for ax in axes for line in ax.lines for data in (line.get_xdata(), line.get_ydata())]
    bars = [[bar.get_width(), bar.get_height()] for ax in axes for bar in ax.patches]
    return {round(float(value), 9) for data in lines + bars for value in data}


def legend(of) -> list[str]:
    return [text.get_text() for text in of.get_texts()]


def ticks(ax, axis="x") -> list[str]:
    return [label.get_text() for label in getattr(ax, f"get_{axis}ticklabels")()]


def by_method(defences, **columns):
    return means(method=["vta", "lrp"], defence=defences, **columns)


@pytest.mark.parametrize("plot, df, column, by, words", [
    (plots.training, means("loss", step=[1, 2])[["step", "loss"]], "loss", None,
     ["optimiser step", "0.787", "loss"]),
    (lambda df: plots.overlap_by_eps(df, k=25),
     means(method=["raw_attention", "rollout"], aim=["prediction", "random_signs", "explanation"], eps=[0.1, 0.2]),
     "mean", "method", ["prediction attack  0.27", "random signs  0.37", "explanation attack  0.47",
                        "made for raw attention  0.79", "of the clean top 25", "1/255"]),
    (plots.smoothing_1d, means("value", curve=["f", "g"], x=[0, 1]), "value", None, ["f", "g"]),
    (plots.standard_error, means("scatter", image_id=["a", "b"], n_samples=[1, 4]).assign(
        standard_error=0.1), "scatter", None, ["one kind a scene", "scatter of one draw / root of n"]),
    (plots.certified_share, means("share", certificate=["votes", "renyi"], kind=["radius", "plugin"],
                                           radius=[0.1]), "share", None, ["renyi", "were the mean exact"]),
    (plots.certified_accuracy, means(certified=["top-k certified", "both"], radius=[0, 0.1]), "mean", None,
     ["top-k certified", "both", "l2 radius", "share of images"]),
    (plots.noise_densities, means("density", divergence=[0.25, 1], noise=["best", "Gaussian"],
                                           position=[0, 1]), "density", "divergence", ["best", "Gaussian"]),
    (plots.psnr, means(image=["noisy", "one shot", "4 steps"], sigma=[0.1, 0.5]).assign(
        minus=["", "", "", "", "one shot", "one shot"]), "mean", "minus", ["noisy", "one shot", "dB", "4 steps"]),
    (lambda df: plots.cascade(df, 7), means(
        method=["a", "b"], metric=["rank_correlation", "topk_overlap"], variant=["another scene", "trained", "+ head"]),
     "mean", "method", ["rank correlation", "top-7 overlap", "dotted: another scene, trained"]),
    (lambda df: plots.scores(df, "mIoU"), by_method(["none", "dds"], condition=[
        "explanation, transferred", "explanation, adaptive"]), "mean", None,
     ["mIoU", "bare", "DDS", "transferred attack", "adaptive attack"]),
    (lambda df: plots.overlap_by_method(df, 25), by_method(["none", "dds"], condition=["fresh noise", "x, adaptive"]),
     "mean", None, ["bare", "DDS", "of the clean top 25", "no attack, other noise"]),
    (lambda df: plots.class_explained(df, 25), by_method(
        ["none", "dds"], explained=["fixed", "re-predicted"]), "mean", None,
     ["bare, class fixed", "DDS, class predicted anew"]),
    (plots.accuracy, means("robust", threat=["transferred", "adaptive"], defence=["none", "dds"],
                                      eps=[8 / 255, 0]), "robust", "threat", ["bare", "DDS", "1/255"]),
    (plots.area_gain, means("difference", kind=["negative"], method=["vta", "lrp"], condition=[
        "clean", "transferred", "adaptive"]), "difference", None,
     ["negative test", "VTA", "DDS ranks worse", "no attack", "for DDS one made through it"]),
    (plots.holm, means("p", threat=["transferred", "adaptive"], method=["vta", "lrp"], kind=SIGNS, eps=[0.03]).assign(
        stands=lambda df: df["p"] < df["p"].quantile(0.2)), "p", "threat",
     ["VTA, positive test, attacked", "Holm's line", "p-value of DDS minus bare", "adaptive attack"]),
    (lambda df: plots.clean_curves(df, ["random_order", "mask"]), means(
        kind=SIGNS, method=CURVES, defence=["none"], removed=[0, 0.5, 1]), "mean", None,
     ["random order", "mask", "bare", "rollout"]),
    (lambda df: plots.attack_strength(df, 25), means(variant=["steps", "draws"], metric=["topk_overlap"],
                                                              level=[5, 10]), "mean", "variant",
     ["overlap", "top-25", "steps of the attack", "draws of the attack"]),
    (lambda df: plots.ablation(df, "n_samples", "draws", "share"), means(
        measure=["fresh noise", "adaptive attack"], n_samples=[1, 16]).assign(seconds=lambda df: df["n_samples"] / 100),
     "mean", None, ["other noise", "adaptive attack", "draws", "share", "0.01", "0.16", "seconds"]),
    (lambda df: plots.path(df, 25), means(measure=["fidelity", "transferred attack", "adaptive attack"],
                                          sigma=[0.1, 0.5]), "mean", None,
     ["sigma 0.1", "sigma 0.5", "fidelity", "stability", "transferred attack"]),
    (lambda df: plots.defences(df, 25), means(defence=["none", "dds"], condition=["fresh noise", "x, adaptive"]),
     "mean", None, ["bare", "DDS", "of the clean top 25", "adaptive attack"]),
    (lambda df: plots.plateau(df, 25), means(knob=["steps", "draws"], rule=["constant", "apgd"], level=[5, 10]).assign(
        base=5), "mean", "knob", ["top-25 overlap", "steps of the attack", "the rule: apgd", "of the attack as it is"]),
    (plots.method_costs, means("forwards", method=["vta", "lrp"]), "forwards", None, ["VTA", "LRP", "0.8"]),
])
def test_every_row_is_drawn_in_its_panel_and_named(plot, df, column, by, words):
    with plt.rc_context():
        style.set_theme()
        fig = plot(df)
        assert saving.png_bytes(fig).startswith(b"\x89PNG") and not plt.fignum_exists(fig.number)
    axes = [[ax] for ax in fig.axes if ax.axison] if by else [fig.axes]
    parts = [part for _, part in df.groupby(by, sort=False)] if by else [df]
    for panel, part in zip(axes, parts, strict=True):
        assert numbers(panel) & {*df[column].round(9)} == {*part[column].round(9)}
    said = [text.get_text() for text in fig.findobj(Text)]
    assert [word for word in words if not any(word in text for text in said)] == []
    if by in ("method", "threat"):
        assert [ax.get_title().replace(" ", "_").removesuffix("_attack") for [ax] in axes] == list(df[by].unique())


# Looks --------------------------------------------------------------------------------------------------------------


def test_the_simplex_draws_the_grid_and_names_its_points():
    rows = [(a / 4, b / 4, 1 - (a + b) / 4) for a in range(5) for b in range(5 - a)]
    df = pd.DataFrame(rows, columns=["token_1", "token_2", "token_3"]).assign(divergence=0.1, broken=False, what="grid")
    df.loc[len(df)] = [0.5, 0.3, 0.2, 0, False, "w"]
    df.loc[len(df)] = [0.4, 0.4, 0.2, 0.05, True, "nearest"]
    ax, bar = plots.simplex(df).axes
    places = {text.get_text(): text.xy for text in ax.texts}
    np.testing.assert_allclose(places["w"], (0.3 + 0.5 / 2, 0.5 * 3**0.5 / 2))
    assert {"nearest", "token 1", "token 2", "token 3"} < set(places) and "nats" in bar.get_ylabel()


def test_counterexamples_draw_top_groups_solid_and_radii_in_order():
    curve = pd.DataFrame({"example": "A", "kind": "curve", "rho": [0, 1, 0, 1], "tokens": ["1 to 2"] * 2 + ["3"] * 2,
                          "share": [0.4, 0.3, 0.2, 0.35], "top": [True, True, False, False]})
    radii = pd.DataFrame({"example": "A", "kind": "radius", "rho": [0.6, 0.5], "variable": ["pooled", "sharp"]})
    both = pd.concat([curve, radii, curve.assign(example="B"), radii.assign(example="B")], ignore_index=True)
    ax, other = plots.counterexamples(both).axes
    solid, dashed, *walls = ax.lines
    assert (solid.get_linestyle(), dashed.get_linestyle(), other.get_title()) == ("-", "--", "example B")
    assert (list(solid.get_ydata()), list(dashed.get_ydata())) == ([0.4, 0.3], [0.2, 0.35])
    assert [wall.get_xdata()[0] for wall in walls] == [0.5, 0.6]
    assert legend(ax.get_legend()) == ["sharp: 0.5000", "pooled: 0.6000"]
    assert {text.get_text() for text in ax.texts} == {"1 to 2", "3"}


def test_radii_are_a_staircase_to_nothing_a_dotted_plugin_and_panels_by_the_largest():
    df = pd.DataFrame({"profile": "flat", "certificate": ["sharp"] * 2 + ["renyi"] * 2, "overlap": [1, 0.5] * 2,
                       "rho": [0.1, 0.3, 0.05, 0.2]})
    sharp, renyi = plots.overlap_by_radius(df).axes[0].lines
    assert (list(sharp.get_xdata()), list(sharp.get_ydata())) == ([0, 0.1, 0.3, 0.3], [1, 1, 0.5, 0])
    assert sharp.get_drawstyle() == "steps-pre" and list(renyi.get_xdata()) == [0, 0.05, 0.2, 0.2]
    df = pd.DataFrame({"certificate": ["votes", "renyi", "renyi"], "kind": ["radius", "radius", "plugin"],
                       "radius": 0.1, "share": [0.9, 0.2, 0.4]})
    certified, plugin = plots.certified_share(df).axes
    assert not certified.get_legend() and {text.get_text() for text in certified.texts} == {"votes", "renyi"}
    renyi, votes = certified.lines
    (dotted,) = plugin.lines
    assert dotted.get_linestyle() == ":" and dotted.get_color() == renyi.get_color() != votes.get_color()
    df = pd.DataFrame({"certificate": ["cdf"] * 4 + ["votes"] * 4, "n_samples": [300, 300, 100, 100] * 2,
                       "overlap": [0.5, 1] * 4, "radius": [0.2, 0.1, 0.15, 0.05, 0.4, 0.3, 0.35, 0.25]})
    votes, cdf = plots.radius_by_draws(df).axes  # the farthest first
    assert [ax.get_title() for ax in (votes, cdf)] == ["votes", "cdf"]
    assert [list(line.get_ydata()) for line in cdf.lines] == [[0.15, 0.2], [0.05, 0.1]]
    assert [text.get_text() for text in votes.texts] == ["1", "overlap 0.5"] and ticks(cdf) == ["100", "300"]


@pytest.mark.parametrize("plot, by, x, names", [
    (plots.noise_by_divergence, "noise", "divergence", {"a", "b", "Gaussian"}),
    (plots.gap_by_dim, "divergence", "dim", {"divergence 1", "divergence 2", "Gaussian"}),
    (plots.max_norm, "quantity", "shape", {"a", "b"}),
])
def test_lines_over_the_gaussian(plot, by, x, names):
    df = means("relative", **{by: [1, 2] if by == "divergence" else ["a", "b"], x: [1, 4]})
    (ax,) = plot(df).axes
    first, second, one = ax.lines
    assert [*first.get_ydata(), *second.get_ydata()] == list(df["relative"])
    assert list(one.get_ydata()) == [1, 1] and first.get_linestyle() != second.get_linestyle()
    assert {text.get_text() for text in ax.texts} - {"no noise is here"} == names and ticks(ax) == ["1", "4"]


def test_noise_is_drawn_with_its_copy_and_log_ratio_and_on_a_log_axis():
    df = pd.DataFrame({"position": [0, 1], "density": [0.4, 0.1], "moved": [0.1, 0.4], "log_ratio": [1.4, -1.4]})
    left, right = plots.noise_pair(df).axes
    assert [list(line.get_ydata()) for line in left.lines] == [[0.4, 0.1], [0.1, 0.4]]
    assert list(right.lines[0].get_ydata()) == [1.4, -1.4] and "nats" in right.get_ylabel()
    (ax,) = plots.noise_densities(df.assign(divergence=0.25, noise="best")).axes
    assert (ax.get_title(), ax.get_yscale()) == ("divergence 0.25", "log")


def test_rows_of_dots_stand_in_the_order_of_the_table_or_as_asked_from_the_top():
    df = pd.DataFrame({"method": ["vta", "rollout", "gradcam"], "group": ["specific", "agnostic", "specific"],
                       "mean": [0.9, 0.5, 0.4], "low": [0.8, 0.5, 0.3], "high": [0.95, 0.5, 0.5]})
    (ax,) = plots.pointing(df).axes
    assert ticks(ax, "y") == ["VTA", "rollout", "GradCAM"] and ax.yaxis_inverted()
    assert dict(zip(points(ax, "y"), points(ax, "x"), strict=True)) == {0: 0.9, 2: 0.4, 1: 0.5}
    assert any(list(line.get_xdata()) == [0.5, 0.5] for line in ax.lines)  # chance
    assert set(legend(ax.get_legend())) == {"specific", "agnostic"}


def test_the_cascade_has_its_stages_in_order_and_the_level_of_another_scene():
    df = means(method=["a", "b"], metric=["rank_correlation", "topk_overlap"],
               variant=["another scene", "trained", "+ head", "+ block 1"])
    ax = plots.cascade(pd.concat([df[:8], df[:7:-1]]), 7).axes[1]
    assert ticks(ax) == ["trained", "+ head", "+ block 1"]
    assert points(ax, "y") == list(df["mean"][[13, 14, 15, 9, 10, 11]])
    assert [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == ":"] == list(df["mean"][[12, 8]])


def test_curves_have_a_column_a_method_and_grey_controls_in_every_panel():
    df = means(method=CURVES, defence=["none"], kind=SIGNS, removed=[0, 0.5, 1])
    fig = plots.clean_curves(df, ["random_order", "mask"])
    assert [ax.get_title() for ax in fig.axes] == ["VTA", "rollout", "", ""]
    shown = [list(line.get_ydata()) for line in fig.axes[2].lines]  # negative, vta
    assert shown == [df[(df.method == m) & (df.kind == "negative")]["mean"].tolist()
                     for m in ("random_order", "mask", "vta")]
    assert len(fig.axes[2].collections) == 1  # controls have no band


def test_a_gain_in_area_has_the_sign_of_better_and_accuracies_begin_with_the_clean():
    df = pd.DataFrame({"kind": SIGNS, "method": "vta", "condition": "adaptive", "difference": [0.2, 0.1],
                       "low": [0.05, -0.1], "high": [0.3, 0.15]})  # the positive area grows, which is worse
    (ax,) = plots.area_gain(df).axes
    assert ticks(ax, "y") == [" ", "VTA", " ", "VTA"]  # a block of rows for each test, under its name
    assert [text.get_text() for text in ax.texts[:2]] == ["negative test", "positive test"]
    assert dict(zip(points(ax, "y"), points(ax, "x"), strict=True)) == {1: 0.1, 3: -0.2}
    bars = [segment[:, 0].tolist() for c in ax.containers for segment in c.lines[2][0].get_segments()]
    np.testing.assert_allclose(sorted(bars), [[-0.3, -0.05], [-0.1, 0.15]])
    assert any(list(line.get_xdata()) == [0, 0] for line in ax.lines)
    df = means("robust", threat=["adaptive"], defence=["none", "dds", "denoise_only"], eps=[8 / 255, 0])
    (ax,) = plots.accuracy(df).axes
    assert points(ax, "y") == list(df["robust"][[1, 0, 3, 2, 5, 4]])
    assert points(ax, "x")[1::2] == [7.88, 8, 8.12]
    assert {text.get_text() for text in ax.texts} == {"bare", "DDS", "denoise only"}


def test_the_path_has_likeness_on_one_axis_and_stability_on_the_other_and_shades_no_information():
    df = means(measure=["fidelity", "adaptive attack", "accuracy"], sigma=[0.5, 0.1])
    level = pd.DataFrame([{"measure": style.NO_INFORMATION, "low": 0.3, "high": 0.4}])
    (ax,) = plots.path(pd.concat([df, level]), 25).axes
    fidelity, adaptive, right = (part["mean"].tolist()[::-1] for _, part in df.groupby("measure", sort=False))
    (path,) = [c.lines[0] for c in ax.containers]
    assert [list(path.get_xdata()), list(path.get_ydata())] == [fidelity, adaptive]  # from the least sigma
    said = {text.get_text() for text in ax.texts}
    assert {f"sigma 0.1\nright {right[0]:.2f}", f"sigma 0.5\nright {right[1]:.2f}", "no information"} == said
    shaded = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    np.testing.assert_allclose(shaded.intervaly, (0.3, 0.4), atol=1e-6)


def test_rows_of_ablations_say_what_they_measure():
    rows = pd.DataFrame({"metric": ["topk_overlap"] * 3 + ["fidelity", "right"], "defence": "dds",
                         "aim": ["fresh_noise", "explanation", "explanation", "none", "none"],
                         "made_on": ["", "vit", "dds", "", ""]})
    assert f13_settings.measures(rows).tolist() == [
        "fresh noise", "transferred attack", "adaptive attack", "fidelity", "accuracy"]


def test_both_classes_stand_beside_their_difference_in_its_own_colours():
    left, right = np.eye(4), np.eye(4)[::-1]
    pictures = {"scene": np.full((3, 8, 8), 0.5), "mask 0": np.eye(8), "mask 1": np.eye(8)[::-1], "vta 0": left,
                "vta 1": right, "rollout 0": left, "rollout 1": left}
    fig = plots.both_classes(panels.encode(pictures), (7, 1), {"vta": 0.9, "rollout": 0.5}, 2)
    said = [[text.get_text() for text in ax.texts] for ax in fig.axes if ax.texts]
    assert said == [["VTA\nkeeps 0.00\npointing 0.90"], ["the scene"], ["rollout\nkeeps 1.00\npointing 0.50"]]
    maps = [ax for ax in fig.axes if len(ax.images) == 2]  # over the grey scene
    assert [ax.get_title() for ax in maps] == ["why 7?", "why 1?", "difference", "", "", ""]
    for ax, wanted in zip(maps, [left, right, left - right, left, left, 0 * left], strict=True):
        np.testing.assert_allclose(ax.images[1].get_array(), wanted)
    assert {(ax.images[1].norm.vmin, ax.images[1].norm.vmax) for ax in maps[2::3]} == {(-1, 1)}  # one scale for both
    assert legend(fig.legends[0]) == ["kept of the top 2", "lost", "new", "outline of the 7", "outline of the 1"]


def test_the_plane_has_its_three_regions_in_its_own_units_and_names_them():
    discs = {n: np.hypot(*np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n))) for n in (80, 40)}
    rows = panels.encode({"decision": (discs[80] < 0.9) * 1.0, "average": 1 - discs[40] / discs[40].max(),
                          "promised": (discs[40] < 0.3) * 1.0})
    ax, bar = plots.smoothing_2d(rows, width=2, radius=0.25).axes
    reach = [np.abs(part.get_paths()[0].vertices).max() for part in ax.collections[1:]]
    np.testing.assert_allclose(reach, [0.9, 0.707, 0.3], atol=0.06)
    names = {text.get_text(): text.xy for text in ax.texts}
    assert list(names) == ["the decision", "its average: more than half\nof the noise says inside",
                           "certified to stay inside", "", "a step"]
    np.testing.assert_allclose([np.hypot(*place) for place in [*names.values()][:3]], [0.9, 0.707, 0.3], atol=0.06)
    arrow = next(text for text in ax.texts if text.get_text() == "")
    assert np.hypot(*(arrow.xy - np.array(arrow.xyann))) == pytest.approx(0.25) and "inside" in bar.get_ylabel()


def test_maps_lie_over_their_own_image_and_are_held_against_the_map_that_is_named():
    maps = {"bare": np.eye(4), "mean of 2": np.eye(4)[::-1]}
    image = np.linspace(0, 1, 3 * 8 * 8).reshape(3, 8, 8)
    pictures = {f"image {i}": image ** (i + 1) for i in range(2)}
    rows = panels.encode({name: pictures.get(name, maps.get(name[:-2])) for i in range(2) for name in (
        f"image {i}", f"bare {i}", f"mean of 2 {i}")})
    fig = plots.over_images(rows, 4, about={"bare 0": "bare"}, against="bare")
    shown = [ax for ax in fig.axes if ax.get_title()]
    assert [ax.get_title() for ax in shown] == ["image 0", "bare", "mean of 2 0\nkeeps 0.00", "image 1", "bare 1",
                                                "mean of 2 1\nkeeps 0.00"]
    below = [ax.images[0].get_array() for ax in shown]
    assert not np.allclose(below[1], below[4]) and np.allclose(below[1], below[2])


def test_the_level_of_no_information_is_shaded_at_each_k():
    levels = pd.DataFrame({"k": [5, 100], "measure": "no information", "low": [0.1, 0.4], "high": [0.2, 0.6]})
    df = pd.concat([means(k=[5, 100], measure=["adaptive attack"]), levels])
    (ax,) = plots.ablation(df, "k", "k", "overlap").axes
    [band] = [area for area in ax.collections if area.get_label() == "no information"]
    assert {(5, 0.1), (5, 0.2), (100, 0.4), (100, 0.6)} <= set(map(tuple, band.get_paths()[0].vertices))
    assert list(ax.get_xticks()) == [5, 100]
    assert [drawn.get_label() for drawn in ax.containers] == ["adaptive attack"]


def test_times_are_bars_with_their_numbers_factors_and_parts():
    (ax,) = plots.method_costs(pd.DataFrame({"method": ["vta", "lrp"], "forwards": [6.31, 5.8]})).axes
    assert [bar.get_width() for bar in ax.patches] == [6.31, 5.8] and ax.yaxis_inverted()
    assert [text.get_text() for text in ax.texts] == ["6.3", "5.8"] and ticks(ax, "y") == ["VTA", "LRP"]
    df = pd.DataFrame({"stage": ["chain", "one call", "batched"], "seconds": [9.0, 0.3, 0.15]})
    (ax,) = plots.speedup(df).axes
    assert [text.get_text() for text in ax.texts] == ["9 s", "0.3 s  (30 times faster)", "0.15 s  (2 times faster)"]
    assert [bar.get_width() for bar in ax.patches] == [9.0, 0.3, 0.15]
    df = pd.DataFrame({"n_samples": [1, 4], "seconds": [0.03, 0.08]})
    by_batch = pd.DataFrame({"batch": [16, 64] * 2, "part": ["denoiser"] * 2 + ["ViT"] * 2,
                             "milliseconds": [7, 8, 1, 2]})
    left, right = plots.times(df, by_batch).axes
    np.testing.assert_allclose([line.get_ydata() for line in left.lines], [[0.02, 0.08], [0.03, 0.08]])
    assert [(bar.get_y(), bar.get_height()) for bar in right.patches] == [(0, 7), (0, 8), (7, 1), (8, 2)]
    assert ticks(right) == ["16", "64"]


def test_rows_of_times_come_apart_by_what_they_time():
    """Of the committed rows: each is in one table, in the order that is asked for."""
    cost = load_rows(paths.ROOT / "results" / "study" / "14_cost.parquet")
    of = f14_costs.timed(cost, ("vta", "unknown", "raw_attention", "lrp", "gradcam"))
    assert of.stages["stage"].tolist() == [*f14_costs.STAGES] and of.stages["seconds"].is_monotonic_decreasing
    assert of.methods["method"].tolist() == ["vta", "raw_attention", "lrp", "gradcam"]
    assert set(of.on_b.index) == {"vta", "lrp"} and of.batch == 8 and of.draws["n_samples"].tolist() == [1, 4, 16, 64]
    assert 0 < of.forward < of.draws["seconds"][0] and set(of.parts["part"]) == {"denoiser", "ViT with attention"}
    assert of.dds.index.tolist() == [8, 16, 32, 64] and (of.dds > of.parts.groupby("batch").milliseconds.max()).all()
    of = f14_costs.timed(cost)
    assert sum(map(len, (of.stages, of.methods, of.on_b, of.draws, of.parts, of.dds))) + 1 == len(cost)


def test_the_line_of_interest_is_in_the_colour_of_dds_and_the_other_is_grey():
    df = means(variant=["steps"], metric=["relative_mass", "topk_overlap"], level=[5, 10])
    (ax,) = plots.attack_strength(df, 25).axes
    assert [c.lines[0].get_color() for c in ax.containers] == ["0.45", style.COLOURS["dds"]]
    df = means(knob=["steps"], rule=["constant", "apgd"], level=[5, 10]).assign(base=5)
    (ax,) = plots.plateau(df, 25).axes
    assert [c.lines[0].get_color() for c in ax.containers] == [style.COLOURS["dds"], "0.45"]


# What all share -------------------------------------------------------------------------------------------------------


def test_panels_stand_in_order_of_appearance_and_no_figure_is_too_wide():
    df = pd.DataFrame({"method": ["b", "a", "b", "c"], "x": range(4)})
    fig, panels = style.panels_by(df, "method", 4, 2)
    assert [(ax.get_title(), value, list(part["x"])) for ax, value, part in panels] == [
        ("b", "b", [0, 2]), ("a", "a", [1]), ("c", "c", [3])]
    assert fig.get_size_inches().tolist() == [style.WIDEST, 2]
    fig, panels = style.panels_by(df, "method", 2, 2, ncols=2, extra=(0.5, 1))
    assert fig.get_size_inches().tolist() == [4.5, 5] and [ax.axison for ax in fig.axes] == [True, True, True, False]
    assert panels[0][0].get_shared_y_axes().joined(panels[0][0], panels[2][0])


def test_lines_vary_colour_marker_and_dash_and_give_their_ends():
    df = means(aim=list("ab"), x=[1, 2])
    ax = style.one_panel(2, 2)
    ends = style.lines(ax, df, "aim", "x", dashes=("-", "--"), names=str.upper, shift=lambda x, place: x + place)
    assert [(value, y) for value, y, _ in ends] == [("a", df["mean"][1]), ("b", df["mean"][3])]
    drawn = [bars.lines[0] for bars in ax.containers]
    assert [line.get_xdata().tolist() for line in drawn] == [[0.5, 1.5], [1.5, 2.5]]
    assert [line.get_linestyle() for line in drawn] == ["-", "--"] and len({line.get_marker() for line in drawn}) == 2
    assert [line.get_color() for line in drawn] == [end[2] for end in ends]
    assert ax.get_legend_handles_labels()[1] == ["A", "B"]


@pytest.mark.parametrize(("y", "intervals", "bars", "bands"), [
    ("mean", "bars", 1, 0), ("mean", "band", 0, 1), ("mean", "", 0, 0), ("value", "bars", 0, 0)])
def test_intervals_are_bars_a_band_or_none(y, intervals, bars, bands):
    ax = style.one_panel(2, 2)
    style.lines(ax, means(by=["a"], x=[1, 2]).assign(value=1), "by", "x", y, intervals=intervals)
    assert (len(ax.containers), len(ax.collections) - bars) == (bars, bands)


def test_dots_leave_out_what_is_not_asked_for_and_more_lines_than_markers_are_all_drawn():
    df = means(method=["a", "b", "c"], by=["one"])
    df.loc[0, "low"] = df.loc[0, "mean"] + 1e-12  # rounding makes no interval negative
    ax = style.one_panel(2, 2)
    style.dots(ax, df, "method", ["c", "a"], "by")
    assert dict(zip(points(ax, "y"), points(ax, "x"), strict=True)) == {0: df["mean"][2], 1: df["mean"][0]}
    assert len(style.lines(ax, means(by=list("abcdefghijk"), x=[1]), "by", "x")) == 11


def test_labels_stand_apart_ticks_are_what_was_run_and_the_legend_names_what_is_added():
    ax = style.one_panel(2, 2)
    ax.set(ylim=(0, 1), xscale="log")
    style.label_ends(ax, [("low", 0.5, "k"), ("high", 0.51, "k"), ("top", 0.9, "k")], str.upper)
    places = {text.get_text(): text.xy[1] for text in ax.texts}
    assert places == pytest.approx({"LOW": 0.5, "HIGH": 0.56, "TOP": 0.9})
    style.ticks_at(ax, [64, 1, 4, 1], ".1f")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1.0", "4.0", "64.0"]
    assert not len(ax.get_xticks(minor=True))
    ax.plot([1, 2], label="a line")
    style.legend_below(ax.figure, ax, also=[plt.Line2D([], [], label="more")])
    assert [text.get_text() for text in ax.figure.legends[0].get_texts()] == ["a line", "more"]
