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
from fvit.report import f09_localisation, panels, saving, style


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
        f"Under attack the bare ViT keeps {kept['none', 'explanation, adaptive']:.2f} of its top 4 tokens; DDS keeps "
        f"{kept['dds', 'explanation, transferred']:.2f}, and {kept['dds', 'explanation, adaptive']:.2f} where "
        "the attack knows DDS")
    twice = table.defence.eq("none") & table.condition.str.contains("transferred")  # its own, too
    drawn = table[(table.condition != "fidelity") & ~twice]
    assert sorted(x for x, *_ in markers(ax)) == pytest.approx(sorted(drawn["mean"]), abs=1e-9)
    assert ticks(ax, "y") == ["bare", "blur, 1 pixel", "DDS"]
    written = table[(table.condition != "fresh noise") & ~twice]["mean"]  # beside the row, or beside its mark
    assert {f"{value:.2f}" for value in written} < {text.get_text() for text in ax.texts}
    shaded = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    np.testing.assert_allclose(shaded.intervalx, (0.3, 0.4), atol=1e-6)


def test_defences_stand_in_the_order_asked_for_and_others_are_left_out():
    (ax,) = plots.defences(means(defence=["none", "dds", "blur"], condition=["x, adaptive"]), 5, ["dds", "none"]).axes
    assert ticks(ax, "y") == ["DDS", "bare"] and ax.yaxis_inverted() and len(markers(ax)) == 2


def bought():
    """Rows as of `contrasts.what_buys`."""
    sides = {"question": ["noise, before the denoiser", "the prior over a plain CNN, behind noise", "mine over DDS"],
             "with": ["dds", "dds", "mine.py:Mine"], "without": ["denoise_only", "noise_cnn", "dds"]}
    df = means("difference", question=sides["question"], measure=["map", "prediction"],
               threat=["none", "transferred", "adaptive"])
    return df.assign(**{side: df.question.map(dict(zip(sides["question"], sides[side], strict=True)))
                        for side in ("with", "without")})


def test_what_a_part_buys_stands_about_a_zero_line_a_panel_a_measure_and_nothing_without_an_attack():
    df = bought()
    fig = plots.parts(df)
    assert [ax.get_title().partition(":")[0] for ax in fig.axes] == ["the map", "the prediction"]
    assert ticks(fig.axes[0], "y") == ["noise, before the denoiser\nDDS minus denoise only",
                                       "the prior over a plain CNN, behind noise\nDDS minus noise and plain CNN",
                                       "mine over DDS\nmine.py:Mine minus DDS"]
    for ax, measure in zip(fig.axes, ("map", "prediction"), strict=True):
        own = df[(df.measure == measure) & (df.threat != "none")]
        faces = {"white": "transferred", "0.25": "adaptive"}
        drawn = [(float(x), faces[c.lines[0].get_markerfacecolor()]) for c in ax.containers
                 for x in c.lines[0].get_xdata()]
        assert sorted(drawn) == sorted(zip(own.difference, own.threat, strict=True))
        assert list(ax.lines[0].get_xdata()) == [0, 0] and ax.yaxis_inverted()
    assert legend(fig.legends[0]) == ["transferred attack", "adaptive attack, made on what it meets"]


@pytest.mark.parametrize("plot, df", [
    (lambda df: plots.headline(df, 4), headline()[0]),
    (lambda df: plots.scores(df, "mIoU"), by_method(["none", "dds"], condition=["clean", "explanation, adaptive"])),
    (lambda df: plots.path(df, 25), means(measure=["fidelity", "adaptive attack", "accuracy"], sigma=[
        0.1, 0.25, 0.5])),
    (plots.parts, bought()),
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
             if re.search("[A-Za-z]", text.get_text()) and text.get_visible()}  # not the numbers at ticks, drawn or not
    touching = [pair for pair in combinations(boxes, 2) if all(
        min(getattr(boxes[one], f"{axis}1") for one in pair) - max(getattr(boxes[one], f"{axis}0") for one in pair) > 1
        for axis in "xy")]
    shown = min(9.1 * 120, saving.INLINE_WIDTH) / 96 / 9.1  # of an inch on the page, at least
    letters = [text.get_fontsize() for text in fig.findobj(Text) if text.get_text() in boxes]
    assert min(letters) * shown >= 8
    beyond = [text for text, box in boxes.items() if box.x0 < -1 or box.x1 > fig.bbox.x1 + 1]
    assert len(boxes) > 5 and (touching, beyond) == ([], [])


def test_scores_are_one_panel_a_row_a_method_from_clean_to_adaptive_and_the_level_of_the_constant_map():
    df = by_method(["none", "dds"], condition=["clean", "explanation, transferred", "explanation, adaptive"])
    drawn = f09_localisation.by_method(df, order=["lrp", "vta"], aimed_at=["vta"], constant={"vta": 0.5})
    (ax,) = (fig := plots.scores(drawn, "mIoU")).axes
    assert ticks(ax, "y") == ["LRP†", "VTA"]
    twice = (df.defence == "none") & (df.condition == "explanation, adaptive")  # the bare ViT's own is the transferred
    assert sorted(x for x, *_ in markers(ax)) == sorted(df["mean"][~twice])
    bare = [x for x, _, marker, face, _ in markers(ax) if (marker, face) == ("o", style.COLOURS["none"])]
    assert bare == list(df["mean"][(df.defence == "none") & (df.condition == "explanation, transferred")])[::-1]
    assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"] == [0.5]
    assert "what a constant map scores" in legend(fig.legends[0])


def test_the_least_gain_is_that_of_the_method_that_gains_least_and_is_shown_after_holm():
    table = pd.DataFrame({"method": ["a", "b"] * 2, "condition": ["x", "x", "y", "y"], "low": 0.0, "high": 0.5,
                          "difference": [0.2, 0.1, -0.1, 0.3], "p_holm": [0.01, 0.06, 0.01, 0.01]})
    found = f09_localisation.least_gains({"IoU": table, "top-k": table[::-1]})
    assert list(found.index) == ["IoU, x", "IoU, y", "top-k, x", "top-k, y"]
    assert list(found.shown) == [0.5] * 4 and list(found.least) == ["b", "a"] * 2
    assert list(found.difference) == [0.1, -0.1] * 2


def test_words_of_the_overlap_name_the_range_under_what_was_made_on_each():
    df = pd.DataFrame({"method": ["a", "b"] * 3, "defence": ["none"] * 2 + ["dds"] * 4, "condition": [
        "explanation, its own"] * 2 + ["explanation, adaptive"] * 2 + ["fresh noise"] * 2,
        "mean": [0.4, 0.2, 0.7, 0.8, 0.9, 0.95]})
    said = f09_localisation.said_of_overlap(df)
    assert (said["range_bare"], said["range_dds"]) == ("0.20 to 0.40", "0.70 to 0.80")
    assert [(row["method"], row["at"]["dds"]["fresh noise"]) for row in said["each"]] == [("a", 0.9), ("b", 0.95)]


def test_maps_lie_on_the_image_that_they_are_of_and_are_held_against_the_clean_one_of_their_defence():
    image, clean, moved = np.full((3, 8, 8), 0.5), np.zeros((4, 4)), np.zeros((4, 4))
    clean[:, 0], moved[:2, 0], moved[:2, 3] = 0.25, 0.25, 0.25
    pictures = dict.fromkeys(["image 0", "attacked 0", "attacked DDS 0"], image)
    pictures |= {f"{name} 0": clean if "clean" in name else moved for name in f09_localisation.MAPS}
    fig = plots.maps(panels.encode(pictures), 4)
    titles = [ax.get_title() for ax in fig.axes if ax.get_title()]
    assert titles == ["image", "attacked", "attacked,\nthrough DDS", "bare,\nclean", "bare,\nattacked\nkeeps 0.50",
                      "DDS,\nclean", "DDS,\ntransferred\nkeeps 0.50", "DDS,\nadaptive\nkeeps 0.50"]
    plt.close(fig)
