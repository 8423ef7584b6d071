"""What figures share: panels, lines, rows of dots, labels that do not overlap."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from report.test_plots import means

from fvit.report import style


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


def test_more_lines_than_markers_are_all_drawn():
    df = means(by=list("abcdefghijk"), x=[1])
    ax = style.one_panel(2, 2)
    assert len(style.lines(ax, df, "by", "x")) == len(ax.containers) == 11


def test_dots_leave_out_rows_that_are_not_asked_for():
    df = means(method=["a", "b", "c"], by=["one"])
    ax = style.one_panel(2, 2)
    style.dots(ax, df, "method", ["c", "a"], "by")
    (bars,) = ax.containers
    assert dict(zip(bars.lines[0].get_ydata(), bars.lines[0].get_xdata(), strict=True)) == {
        0: df["mean"][2], 1: df["mean"][0]}


def test_rounding_makes_no_interval_negative():
    found = style.errors(pd.DataFrame({"mean": [0.5], "low": [0.5 + 1e-12], "high": [0.6]}))
    np.testing.assert_allclose(found, [[0], [0.1]])


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
