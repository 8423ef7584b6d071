"""Dumbbells from the transferred to the adaptive attack, and the headline: marks, colours, words that do not touch."""

import io
import re
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from report.test_plots import SIGNS, by_method, legend, means, plots, ticks

from fvit.records import words
from fvit.report import panels, saving, style


def dumbbells(df, **options):
    ax = style.one_panel(3, 3)
    style.dumbbells(ax, df, "method", **options)
    return ax


def markers(ax):
    """(x, y, marker, face, colour) of every marker with an interval or a tick."""
    return [(float(c.lines[0].get_xdata()[0]), round(float(c.lines[0].get_ydata()[0]), 3), c.lines[0].get_marker(),
             c.lines[0].get_markerfacecolor(), c.lines[0].get_color()) for c in ax.containers]


def test_dumbbells_join_what_each_attack_leaves_in_the_colour_of_the_defence_a_row_a_method():
    df = by_method(["none", "dds"], condition=["clean", "explanation, transferred", "explanation, adaptive"])
    ax = dumbbells(df, gap=0.4, apart=0.2)
    assert ticks(ax, "y") == ["vta", "lrp"] and ax.yaxis_inverted()
    bare, dds = style.COLOURS["none"], style.COLOURS["dds"]
    value = list(df["mean"])
    assert markers(ax)[:6] == [
        (value[0], -0.4, "|", bare, bare), (value[1], -0.2, "o", "white", bare), (value[2], 0.0, "o", bare, bare),
        (value[3], 0.0, "|", dds, dds), (value[4], 0.2, "o", "white", dds), (value[5], 0.4, "o", dds, dds)]
    joined = [list(line.get_xdata()) for line in ax.lines if line.get_linewidth() == 3]
    assert joined == [value[:3], value[3:6], value[6:9], value[9:]]


def test_what_is_a_defence_s_own_attack_is_adaptive_fresh_noise_a_tick_and_no_information_a_shade():
    df = pd.DataFrame({"method": "vta", "defence": ["none", "dds", ""], "mean": [0.3, 0.9, np.nan], "low": 0.25,
                       "condition": ["explanation, its own", "fresh noise", style.NO_INFORMATION], "high": 0.45})
    ax = dumbbells(df)
    assert [(x, marker) for x, _, marker, *_ in markers(ax)] == [(0.3, "o"), (0.9, "|")]
    (level,) = ax.collections[:1]
    assert level.get_paths()[0].get_extents().intervalx.tolist() == [0.25, 0.45]
    assert [handle.get_label() for handle in style.dumbbell_key(df, adaptive="its own")] == [
        "no attack, other noise (the ceiling)", "its own", "no information: what unrelated images share"]
    ax = dumbbells(df.assign(low=0.4, high=0.4)[2:])
    assert [list(line.get_xdata()) for line in ax.lines if line.get_linestyle() == ":"] == [[0.4, 0.4]]


def test_defences_keep_their_colours_and_a_reader_s_own_are_told_apart():
    assert style.colour("dds") == style.COLOURS["dds"] and len(set(style.COLOURS.values())) == len(style.COLOURS)
    assert set(style.COLOURS) >= set(words.DEFENCES)
    mine = ["dds", "a.py:A", "b.py:B"]
    assert style.colour("a.py:A", mine) == style.OTHERS[0] and style.colour("b.py:B", mine) == style.OTHERS[1]


def headline():
    """Rows as of `plot_headline`: a clean map on the left column, one that keeps half of its top 4, and means."""
    image, clean, half = np.full((3, 8, 8), 0.5), np.zeros((4, 4)), np.zeros((4, 4))
    clean[:, 0], half[:2, 0], half[:2, 3] = 0.25, 0.25, 0.25
    pictures = dict.fromkeys(["clean image", "attacked image", "image attacked through DDS"], image)
    pictures |= {"bare, clean": clean, "dds, clean": clean, "bare, attacked": half, "dds, transferred": clean,
                 "dds, adaptive": half}
    table = means(defence=["none", "blur", "dds"], condition=[
        "fresh noise", "explanation, transferred", "explanation, adaptive", "fidelity"])
    level = pd.DataFrame([{"defence": "", "condition": style.NO_INFORMATION, "low": 0.3, "high": 0.4}])
    return pd.concat([panels.encode(pictures), table, level], ignore_index=True), table


def test_the_headline_says_in_words_and_marks_what_its_rows_say():
    df, table = headline()
    fig = plots.headline(pd.read_csv(io.StringIO(df.to_csv(index=False))), 4)  # from what is on record alone
    *maps, ax = [ax for part in fig.subfigs for ax in part.axes]
    assert [title.get_title().split("\n")[1] for title in maps] == [
        "the top 4 tokens", "keeps 0.50", "keeps 1.00", "keeps 0.50"]
    kept = table.set_index(["defence", "condition"])["mean"]
    assert fig.get_suptitle() == (
        f"Under attack the bare ViT keeps {kept['none', 'explanation, adaptive']:.0%} of its top 4 tokens; DDS keeps "
        f"{kept['dds', 'explanation, transferred']:.0%}, and {kept['dds', 'explanation, adaptive']:.0%} where "
        "the attack knows DDS")
    twice = table.defence.eq("none") & table.condition.str.contains("transferred")  # its own, too
    drawn = table[(table.condition != "fidelity") & ~twice]
    assert sorted(x for x, *_ in markers(ax)) == pytest.approx(sorted(drawn["mean"]), abs=1e-9)
    assert ticks(ax, "y") == ["bare", "blur, 1 pixel", "DDS"]
    fidelity = table[table.condition == "fidelity"]["mean"]
    assert {f"{value:.2f}" for value in fidelity} < {text.get_text() for text in ax.texts}
    shaded = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    np.testing.assert_allclose(shaded.intervalx, (0.3, 0.4), atol=1e-6)


def test_defences_stand_in_the_order_asked_for_and_others_are_left_out():
    (ax,) = plots.defences(means(defence=["none", "dds", "blur"], condition=["x, adaptive"]), 5, ["dds", "none"]).axes
    assert ticks(ax, "y") == ["DDS", "bare"] and ax.yaxis_inverted() and len(markers(ax)) == 2


@pytest.mark.parametrize("plot, df", [
    (lambda df: plots.headline(df, 4), headline()[0]),
    (lambda df: plots.scores(df, "mIoU"), by_method(["none", "dds"], condition=["clean", "explanation, adaptive"])),
    (lambda df: plots.path(df, 25), means(measure=["fidelity", "adaptive attack", "accuracy"], sigma=[
        0.1, 0.25, 0.5])),
    (plots.area_gain, means("difference", kind=SIGNS, method=["vta", "attribution_rollout"], condition=["clean"])),
])
def test_no_words_lie_upon_each_other_or_beyond_the_edge_and_twice_drawn_is_drawn_alike(plot, df):
    with plt.rc_context():
        style.set_theme()
        fig = plot(df)
        fig.canvas.draw()
        again = [saving.png_bytes(plot(df)) for _ in range(2)]
    assert again[0] == again[1]
    boxes = {text.get_text(): Text.get_window_extent(text) for text in fig.findobj(Text)
             if re.search("[a-z]", text.get_text()) and text.get_visible()}  # not the numbers at ticks, drawn or not
    touching = [pair for pair in combinations(boxes, 2) if all(
        min(getattr(boxes[one], f"{axis}1") for one in pair) - max(getattr(boxes[one], f"{axis}0") for one in pair) > 1
        for axis in "xy")]
    shown = min(9.1 * 120, saving.INLINE_WIDTH) / 96 / 9.1  # of an inch on the page, at least
    letters = [text.get_fontsize() for text in fig.findobj(Text) if text.get_text() in boxes]
    assert min(letters) * shown >= 8
    beyond = [text for text, box in boxes.items() if box.x0 < -1 or box.x1 > fig.bbox.x1 + 1]
    assert len(boxes) > 5 and (touching, beyond) == ([], [])


def test_scores_have_a_panel_an_aim_and_the_level_of_the_constant_map_and_methods_in_one_order():
    df = by_method(["none", "dds"], condition=["clean", "explanation, adaptive", "prediction, transferred"])
    level = pd.DataFrame([{"method": "vta", "defence": "", "condition": style.NO_INFORMATION, "low": 0.5, "high": 0.5}])
    fig = plots.scores(pd.concat([df, level]), "mIoU")
    assert [ax.get_title() for ax in fig.axes] == ["attack on the explanation", "attack on the prediction"]
    assert [sorted(x for x, *_ in markers(ax)) for ax in fig.axes] == [
        sorted(df.loc[df.condition.isin(["clean", shown]), "mean"])
        for shown in ("explanation, adaptive", "prediction, transferred")]
    assert [line.get_xdata()[0] for line in fig.axes[0].lines if line.get_linestyle() == ":"] == [0.5]
    assert "what a constant map scores" in legend(fig.legends[0])
