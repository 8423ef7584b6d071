"""Each figure of radii draws what its table says."""

import numpy as np
import pandas as pd

from fvit.report import f03_radii


def test_the_simplex_draws_the_grid_and_names_its_points():
    rows = [(a / 4, b / 4, 1 - (a + b) / 4) for a in range(5) for b in range(5 - a)]
    df = pd.DataFrame(rows, columns=["token_1", "token_2", "token_3"]).assign(divergence=0.1, broken=False, what="grid")
    df.loc[len(df)] = [0.5, 0.3, 0.2, 0, False, "w"]
    df.loc[len(df)] = [0.4, 0.4, 0.2, 0.05, True, "nearest"]
    ax, bar = f03_radii.plot_simplex(df).axes
    points = {text.get_text(): text.xy for text in ax.texts}
    np.testing.assert_allclose(points["w"], (0.3 + 0.5 / 2, 0.5 * 3**0.5 / 2))
    assert {"nearest", "token 1", "token 2", "token 3"} < set(points) and "nats" in bar.get_ylabel()


def test_counterexamples_draw_top_groups_solid_and_radii_in_order():
    curve = pd.DataFrame({"example": "A", "kind": "curve", "rho": [0, 1, 0, 1], "tokens": ["1 to 2"] * 2 + ["3"] * 2,
                          "share": [0.4, 0.3, 0.2, 0.35], "top": [True, True, False, False]})
    radii = pd.DataFrame({"example": "A", "kind": "radius", "rho": [0.6, 0.5], "variable": ["pooled", "sharp"]})
    both = pd.concat([curve, radii, curve.assign(example="B"), radii.assign(example="B")], ignore_index=True)
    fig = f03_radii.plot_counterexamples(both)
    assert [ax.get_title() for ax in fig.axes] == ["example A", "example B"]
    solid, dashed, *walls = fig.axes[0].lines
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    assert (list(solid.get_ydata()), list(dashed.get_ydata())) == ([0.4, 0.3], [0.2, 0.35])
    assert [wall.get_xdata()[0] for wall in walls] == [0.5, 0.6]
    assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == ["sharp: 0.5000", "pooled: 0.6000"]
    assert {text.get_text() for text in fig.axes[0].texts} == {"1 to 2", "3"}


def test_overlap_is_a_staircase_that_ends_at_nothing():
    df = pd.DataFrame({"profile": "flat", "certificate": ["sharp"] * 2 + ["renyi"] * 2, "overlap": [1, 0.5] * 2,
                       "rho": [0.1, 0.3, 0.05, 0.2]})
    (ax,) = f03_radii.plot_overlap_by_radius(df).axes
    sharp, renyi = ax.lines
    assert (list(sharp.get_xdata()), list(sharp.get_ydata())) == ([0, 0.1, 0.3, 0.3], [1, 1, 0.5, 0])
    assert sharp.get_drawstyle() == "steps-pre" and list(renyi.get_xdata()) == [0, 0.05, 0.2, 0.2]


def test_certified_share_dots_what_is_no_guarantee_in_its_certificate_s_colour():
    df = pd.DataFrame({"certificate": ["votes", "renyi", "renyi"], "kind": ["radius", "radius", "plugin"],
                       "radius": 0.1, "share": [0.9, 0.2, 0.4]})
    (ax,) = f03_radii.plot_certified_share(df).axes
    votes, renyi, plugin = ax.lines
    assert [line.get_ydata()[0] for line in ax.lines] == [0.9, 0.2, 0.4]
    assert plugin.get_linestyle() == ":" and plugin.get_color() == renyi.get_color() != votes.get_color()
    named = [text.get_text() for text in ax.get_legend().get_texts()]
    assert named == ["votes", "renyi", "renyi, exact mean (no guarantee)"]


def test_radius_by_draws_has_the_largest_certificate_first_and_draws_ascending():
    df = pd.DataFrame({"certificate": ["cdf"] * 4 + ["votes"] * 4, "n_samples": [300, 300, 100, 100] * 2,
                       "overlap": [0.5, 1] * 4, "radius": [0.2, 0.1, 0.15, 0.05, 0.4, 0.3, 0.35, 0.25]})
    fig = f03_radii.plot_radius_by_draws(df)
    assert [ax.get_title() for ax in fig.axes] == ["votes", "cdf"] and fig.axes[0].xaxis_inverted()
    assert [list(line.get_ydata()) for line in fig.axes[0].lines] == [[0.35, 0.25], [0.4, 0.3]]
    assert [text.get_text() for text in fig.axes[1].get_legend().get_texts()] == ["100 draws", "300 draws"]
