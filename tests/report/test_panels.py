"""Maps over their images: the top tokens kept, lost and new, which are those of the metric."""

import matplotlib.colors as mcolors
import numpy as np
import torch

from fvit.metrics.maps import top_k
from fvit.report.panels import KEPT, LOST, NEW, decode_panel, draw_panels, encode, encode_map, top_set


def spans(ax, look):
    """The outlines of one look as sets of (x from, x to, y from, y to) in tokens, y from the bottom."""
    found = [part for part in ax.collections if mcolors.same_color(part.get_edgecolor()[0], look["color"])]
    loops = [loop for part in found for path in part.get_paths() for loop in path.to_polygons(closed_only=False)]
    return {tuple(round(4 * end(loop[:, axis])) for axis in (0, 1) for end in (np.min, np.max)) for loop in loops}


def test_tokens_that_a_map_keeps_loses_and_finds_are_outlined_in_three_lines_and_the_share_is_said():
    clean, after = np.zeros((4, 4)), np.zeros((4, 4))
    clean[0, :2], after[0, 0], after[3, 3] = (0.5, 0.4), 0.5, 0.4  # one stays, one is lost, one is new
    rows = encode({"image": np.full((3, 4, 4), 0.5), "clean": clean, "after": after})
    over = {"clean": "image", "after": "image"}
    fig = draw_panels(rows, 3, overlay=over, against={"clean": "clean", "after": "clean"}, k=2)
    _, first, second = fig.axes[:3]
    assert [ax.get_title() for ax in (first, second)] == ["clean", "after\nkeeps 0.50"]
    assert [spans(first, look) for look in (KEPT, LOST, NEW)] == [{(0, 2, 3, 4)}, set(), set()]
    assert [spans(second, look) for look in (KEPT, LOST, NEW)] == [{(0, 1, 3, 4)}, {(1, 2, 3, 4)}, {(3, 4, 0, 1)}]
    assert len({str(look["linestyle"]) for look in (KEPT, LOST, NEW)}) == 3  # not by colour alone
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["kept of the top 2", "lost", "new"]


def test_what_is_outlined_is_the_top_set_of_the_metric_also_from_what_is_on_record():
    heat = np.random.default_rng(0).dirichlet(np.ones(256), 40).reshape(40, 16, 16)
    heat[0, :2] = heat[0, 5, 5]  # ties: the lowest index
    for one in heat:
        known = decode_panel(encode_map("a", one))
        wanted = np.zeros(256, dtype=bool)
        wanted[top_k(torch.tensor(one)[None], 25)[0]] = True
        assert (top_set(known, 25).ravel() == wanted).all()
