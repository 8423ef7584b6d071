"""Each figure function draws what its table says: the points on the axes are the numbers of the rows."""

import numpy as np
import pandas as pd
import pytest

from fvit.report import f01_fragility, f02_averaging, f05_denoising
from fvit.theory.intervals import interval_table, mean_interval


def means(**columns) -> pd.DataFrame:
    """A table with means and intervals, one of which has no width."""
    df = pd.DataFrame(columns)
    return df.assign(mean=np.linspace(0.2, 0.8, len(df)), low=np.linspace(0.1, 0.8, len(df)), high=0.9)


def drawn(ax) -> np.ndarray:
    """All finite y values of the lines of an axes, sorted."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in ax.lines])
    return np.sort(values[np.isfinite(values)])


def test_overlap_by_eps_has_a_panel_a_method_and_all_means():
    df = means(method=["raw_attention"] * 4 + ["rollout"] * 2,
               aim=["prediction"] * 2 + ["random_signs"] * 2 + ["prediction"] * 2,
               eps=[0.1, 0.2, 0.1, 0.2, 0.1, 0.2])
    fig = f01_fragility.plot_overlap_by_eps(df, k=25)
    assert [ax.get_title() for ax in fig.axes] == ["raw_attention", "rollout"]
    assert "top-25" in fig.axes[0].get_ylabel() and "1/255" in fig.axes[0].get_xlabel()
    for ax, method in zip(fig.axes, ("raw_attention", "rollout"), strict=True):
        assert set(df[df.method == method]["mean"]) <= set(drawn(ax))
    assert {text.get_text() for text in fig.axes[0].texts} == {"prediction", "random signs"}


def test_psnr_draws_each_version_at_its_sigmas():
    df = means(image=["noisy", "noisy", "one shot", "one shot"], sigma=[0.1, 0.5, 0.1, 0.5])
    ax = f05_denoising.plot_psnr(df).axes[0]
    assert set(df["mean"]) <= set(drawn(ax)) and "dB" in ax.get_ylabel()
    assert {text.get_text() for text in ax.texts} == {"noisy", "one shot"}


def test_defences_have_a_row_each_in_the_order_asked_for():
    df = means(defence=["none", "dds", "none", "dds"], condition=["t", "t", "a", "a"])
    ax = f05_denoising.plot_defences(df, order=["dds", "none"], k=5).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["DDS", "bare"] and ax.yaxis_inverted()
    x = np.concatenate([np.asarray(line.get_xdata(), dtype=float) for line in ax.lines])
    assert set(df["mean"]) <= set(x)


def test_smoothing_1d_and_standard_error_draw_every_row():
    curve = pd.DataFrame({"x": [0, 1, 0, 1], "value": [0.0, 1, 0.4, 0.6], "curve": ["f", "f", "g", "g"]})
    assert drawn(f02_averaging.plot_smoothing_1d(curve).axes[0]).tolist() == [0, 0.4, 0.6, 1]
    errors = pd.DataFrame({"n_samples": [1, 4], "image_id": "a", "scatter": [2.0, 1.1], "standard_error": [2.0, 1.0]})
    assert drawn(f02_averaging.plot_standard_error(errors).axes[0]).tolist() == [1, 1.1, 2, 2]


def test_interval_table_is_mean_interval_group_by_group():
    g = np.random.default_rng(0)
    df = pd.DataFrame({"attack": ["b", "a"] * 20, "photograph": list("uvwx") * 10, "value": g.random(40)})
    table = interval_table(df, by=["attack"], groups="photograph")
    assert list(table["attack"]) == ["b", "a"] and list(table["n"]) == [20, 20]
    part = df[df.attack == "a"]
    expected = mean_interval(part["value"], groups=part["photograph"])
    assert tuple(table.iloc[1][["mean", "low", "high"]]) == pytest.approx(expected)
