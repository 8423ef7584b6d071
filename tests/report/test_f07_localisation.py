"""Figures of scores under attack draw every row of their table, in its order, with each side's look."""

import numpy as np
import pandas as pd
from report.test_f06_methods import points

from fvit.report import f07_localisation

SERIES = [("none", "explanation attack"), ("dds", "explanation attack, adaptive"), ("dds", "control: fresh noise")]


def rows(methods, radii):
    df = pd.DataFrame([dict(method=m, defence=d, condition=c, eps=eps / 255) for m in methods for d, c in SERIES
                       for eps in radii])
    mean = np.linspace(0.2, 0.9, len(df))
    return df.assign(mean=mean, low=mean - 0.1, high=mean + 0.1)


def test_scores_by_eps_have_a_panel_a_method_and_the_level_of_the_constant_map():
    df = rows(["vta", "lrp†"], [0, 8])
    level = pd.DataFrame([{"method": "vta", "defence": "constant_map", "condition": "", "eps": 0, "mean": 0.5}])
    fig = f07_localisation.plot_scores_by_eps(pd.concat([level, df]), "mIoU")
    assert [ax.get_title() for ax in fig.axes] == ["vta", "lrp†"]
    for ax, method in zip(fig.axes, ("vta", "lrp†"), strict=True):
        assert points(ax, "y").tolist() == df[df.method == method]["mean"].tolist()
    assert [line.get_ydata()[0] for line in fig.axes[0].lines if line.get_linestyle() == ":"] == [0.5]
    bare, adaptive, control = (bars.lines[0] for bars in fig.axes[0].containers)
    assert bare.get_markerfacecolor() == "white" and bare.get_color() != adaptive.get_color()
    assert control.get_color() == "0.45" and np.ptp([line.get_xdata()[1] for line in (bare, control)]) > 0.2
    assert [text.get_text() for text in fig.legends[0].get_texts()] == [
        "constant map", "bare: explanation attack", "DDS: explanation attack, adaptive", "DDS: control: fresh noise"]


def test_overlap_by_method_has_a_row_a_method_from_the_top():
    df = rows(["vta", "rollout"], [8])
    ax = f07_localisation.plot_overlap_by_method(df, 25).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["vta", "rollout"] and ax.yaxis_inverted()
    assert sorted(points(ax, "x")) == sorted(df["mean"]) and "top-25" in ax.get_xlabel()
    assert [round(y) for y in points(ax, "y")] == [0, 1] * 3  # the two methods of each series


def test_class_explained_has_a_panel_a_defence():
    df = pd.DataFrame([dict(method=m, defence=d, explained=e) for d in ("none", "dds")
                       for e in ("fixed", "re-predicted") for m in ("vta", "lrp")])
    df = df.assign(mean=np.linspace(0.1, 0.9, 8), low=0.1, high=0.95)
    fig = f07_localisation.plot_class_explained(df, 25)
    assert [ax.get_title() for ax in fig.axes] == ["bare", "DDS"]
    for ax, defence in zip(fig.axes, ("none", "dds"), strict=True):
        assert points(ax, "x").tolist() == df[df.defence == defence]["mean"].tolist()
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["class fixed", "class predicted anew"]
