"""Figures of perturbation tests draw every row of their table."""

import numpy as np
import pandas as pd
from report.test_f06_methods import points

from fvit.report import f08_ranking


def spread(df):
    mean = np.linspace(0.1, 0.9, len(df))
    return df.assign(mean=mean, low=mean - 0.05, high=mean + 0.05)


def test_clean_curves_have_a_column_a_method_and_grey_controls_in_every_panel():
    series = [("vta", "none"), ("vta", "dds"), ("rollout", "none"), ("random_order", "none"), ("mask", "none")]
    df = spread(pd.DataFrame([dict(method=m, defence=d, kind=kind, removed=r) for m, d in series
                              for kind in ("positive", "negative") for r in (0, 0.5, 1)]))
    fig = f08_ranking.plot_clean_curves(df, ["random_order", "mask"])
    assert [ax.get_title() for ax in fig.axes] == ["vta", "rollout", "", ""]
    shown = [list(line.get_ydata()) for line in fig.axes[2].lines]  # negative, vta
    wanted = [df[(df.method == m) & (df.defence == d) & (df.kind == "negative")]["mean"].tolist()
              for m, d in [*series[3:], *series[:2]]]
    assert shown == wanted and len(fig.axes[2].collections) == 2 and len(fig.axes[3].lines) == 3
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["random order", "mask", "bare", "DDS"]


def test_areas_by_radius_are_solid_for_the_class_fixed_and_dashed_for_the_other():
    df = spread(pd.DataFrame([dict(method="vta", line=line, explained=e, kind=kind, eps=eps)
                              for line in ("bare, its own attack", "DDS, adaptive attack")
                              for e in ("fixed", "re-predicted") for kind in ("positive", "negative")
                              for eps in (0, 8 / 255)]))
    fig = f08_ranking.plot_auc_by_radius(df, "mean height")
    for ax, kind in zip(fig.axes, ("positive", "negative"), strict=True):
        assert points(ax, "y").tolist() == df[df.kind == kind]["mean"].tolist()
        assert [bars.lines[0].get_linestyle() for bars in ax.containers] == ["-", "--"] * 2
        assert kind in ax.get_ylabel()
    assert [text.get_text() for text in fig.legends[0].get_texts()] == [
        "bare, its own attack", "DDS, adaptive attack", "bare, its own attack, class re-predicted",
        "DDS, adaptive attack, class re-predicted"]


def test_accuracy_has_a_panel_a_threat_and_bars_beside_each_other():
    df = pd.DataFrame([dict(threat=t, defence=d, eps=eps) for t in ("transferred", "adaptive")
                       for d in ("none", "dds", "denoise_only") for eps in (8 / 255, 0)])
    df = df.assign(robust=np.linspace(0.1, 0.9, 12), low=0.1, high=0.95)
    fig = f08_ranking.plot_accuracy(df)
    assert [ax.get_title() for ax in fig.axes] == ["transferred", "adaptive"]
    found = points(fig.axes[0], "y").reshape(3, 2)[:, ::-1]  # clean first
    assert found.ravel().tolist() == df["robust"][:6].tolist()
    assert points(fig.axes[0], "x").reshape(3, 2)[:, 1].tolist() == [7.88, 8, 8.12]
    assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == ["bare", "DDS", "denoise only"]
