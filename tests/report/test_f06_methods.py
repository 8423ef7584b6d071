"""Figures of methods draw every row of their table, in its order, and no more."""

import numpy as np
import pandas as pd
import pytest

from fvit.report import f06_methods


def points(ax, axis):
    """Coordinates of all markers with intervals."""
    return np.concatenate([getattr(c.lines[0], f"get_{axis}data")() for c in ax.containers])


def test_pointing_has_a_row_a_method_in_order_and_the_line_of_chance():
    df = pd.DataFrame({"method": ["vta", "rollout", "gradcam"], "group": ["specific", "agnostic", "specific"],
                       "mean": [0.9, 0.5, 0.4], "low": [0.8, 0.5, 0.3], "high": [0.95, 0.5, 0.5]})
    ax = f06_methods.plot_pointing(df).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["vta", "rollout", "gradcam"] and ax.yaxis_inverted()
    assert dict(zip(points(ax, "y"), points(ax, "x"), strict=True)) == {0: 0.9, 2: 0.4, 1: 0.5}
    assert any(list(line.get_xdata()) == [0.5, 0.5] for line in ax.lines)
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"specific", "agnostic"}


def test_cascade_has_a_panel_a_method_with_the_stages_in_order_and_the_level_of_another_scene():
    stages = ["another scene", "trained", "+ head", "+ block 1"]
    df = pd.DataFrame([{"method": m, "metric": metric, "variant": stage, "mean": (i + 10 * j + 5 * k) / 100}
                       for i, m in enumerate("ab") for j, metric in enumerate(["rank_correlation", "topk_overlap"])
                       for k, stage in enumerate(stages)]).assign(low=lambda d: d["mean"], high=lambda d: d["mean"])
    fig = f06_methods.plot_cascade(df, 7, ncols=3)
    axes, legend = fig.axes, [text.get_text() for text in fig.legends[0].get_texts()]
    assert legend == ["rank correlation", "top-7 overlap", "dotted: another scene, trained"]
    assert [ax.get_title() for ax in axes if ax.axison] == ["a", "b"]
    assert [label.get_text() for label in axes[1].get_xticklabels()] == stages[1:]
    assert points(axes[1], "y").tolist() == pytest.approx([0.06, 0.11, 0.16, 0.16, 0.21, 0.26])
    levels = [line.get_ydata()[0] for line in axes[1].lines if line.get_linestyle() == ":"]
    assert levels == pytest.approx([0.01, 0.11])
