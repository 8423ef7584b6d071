"""Each figure of costs draws what its table says."""

import numpy as np
import pandas as pd
import pytest
from report.test_panels import drawn, means

from fvit.report import f09_costs


def test_ablation_draws_each_measure_at_the_settings_that_were_run():
    df = means(sigma=[0.1, 0.5, 0.1, 0.5], measure=["fidelity", "fidelity", "accuracy", "accuracy"])
    ax = f09_costs.plot_ablation(df, "sigma", "sigma", "share").axes[0]
    assert set(df["mean"]) <= set(drawn(ax)) and list(ax.get_xticks()) == [0.1, 0.5]
    assert [text.get_text() for text in ax.get_legend().texts] == ["fidelity", "accuracy"]


def test_by_k_the_chance_line_is_k_over_tokens():
    df = means(k=[5, 100], measure=["a", "a"])
    ax = f09_costs.plot_ablation(df, "k", "k", "overlap", n_tokens=256).axes[0]
    chance = next(line for line in ax.lines if line.get_linestyle() == "--")
    np.testing.assert_allclose(chance.get_ydata()[[0, -1]], [5 / 256, 100 / 256])


def test_attack_strength_has_a_panel_a_knob():
    df = means(variant=["steps", "steps", "draws"], level=[5, 10, 4], metric=["topk_overlap"] * 3)
    fig = f09_costs.plot_attack_strength(df, 25)
    assert [ax.get_xlabel() for ax in fig.axes] == ["steps of the attack", "draws of the attack"]
    assert list(drawn(fig.axes[1])[:1]) == [pytest.approx(0.8)] and "top-25" in fig.axes[0].get_ylabel()


def test_method_costs_are_bars_of_their_length_with_the_number_beside():
    df = pd.DataFrame({"method": ["vta", "lrp"], "forwards": [6.31, 5.8]})
    ax = f09_costs.plot_method_costs(df).axes[0]
    assert [bar.get_width() for bar in ax.patches] == [6.31, 5.8]
    assert [text.get_text() for text in ax.texts] == ["6.3", "5.8"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["vta", "lrp"] and ax.yaxis_inverted()


def test_times_draw_the_line_through_the_origin_and_stack_the_parts():
    df = pd.DataFrame({"n_samples": [1, 4], "seconds": [0.03, 0.08]})
    parts = ["denoiser", "denoiser", "ViT", "ViT"]
    by_batch = pd.DataFrame({"batch": [16, 64] * 2, "part": parts, "milliseconds": [7, 8, 1, 2]})
    left, right = f09_costs.plot_times(df, by_batch).axes
    np.testing.assert_allclose([line.get_ydata() for line in left.lines], [[0.02, 0.08], [0.03, 0.08]])
    assert [(bar.get_y(), bar.get_height()) for bar in right.patches] == [(0, 7), (0, 8), (7, 1), (8, 2)]
    assert [label.get_text() for label in right.get_xticklabels()] == ["16", "64"]


def test_speedup_says_what_each_stage_multiplies():
    df = pd.DataFrame({"stage": ["chain", "one call", "batched"], "seconds": [9.0, 0.3, 0.15]})
    ax = f09_costs.plot_speedup(df).axes[0]
    assert [text.get_text() for text in ax.texts] == [
        "9 s", "0.3 s  (30 times faster)", "0.15 s  (2 times faster)"]
    assert [bar.get_width() for bar in ax.patches] == [9.0, 0.3, 0.15]


def test_the_frontier_names_the_draws_of_each_point():
    df = means(n_samples=[1, 16, 1, 16], seconds=[0.01, 0.16] * 2, measure=["fresh"] * 2 + ["adaptive"] * 2)
    ax = f09_costs.plot_frontier(df, 25).axes[0]
    assert {text.get_text() for text in ax.texts} == {"n = 1", "n = 16"} and set(df["mean"]) <= set(drawn(ax))
