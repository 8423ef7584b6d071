"""Tables of the figures of notebook 06, and the strips of two tokens."""

import numpy as np
import pandas as pd

from fvit.report import f06_radii


def test_the_triangle_is_drawn_at_multiples_of_a_sixtieth_with_both_points():
    i, j = np.meshgrid(np.arange(301), np.arange(301), indexing="ij")
    triangle = np.stack([i, j, 300 - i - j], -1)[i + j <= 300] / 300
    broken = triangle[:, 0] <= triangle[:, 1:].max(1)
    w, nearest = [0.5, 0.3, 0.2], [0.4, 0.4, 0.2]
    rows = f06_radii.simplex_rows(triangle, np.full(len(triangle), 12.0), broken, w, nearest, 0.05)
    grid = rows[rows.what == "grid"]
    assert len(grid) == 61 * 62 // 2 and (grid.divergence == 9).all()  # cut where the colours end
    np.testing.assert_array_equal(grid.broken, grid.token_1 <= grid[["token_2", "token_3"]].max(axis=1))
    points = rows.tail(2)[["token_1", "divergence", "what"]].to_numpy().tolist()
    assert points == [[0.5, 0.0, "w"], [0.4, 0.05, "nearest"]]


def test_strips_put_parts_end_to_end_and_name_them():
    df = pd.DataFrame([("before", "token 1", 0.25), ("before", "token 2", 0.15), ("after", "both", 0.3)],
                      columns=["strip", "part", "share"])
    ax = f06_radii.plot_strips(df).axes[0]
    places = [(bar.get_x(), bar.get_width()) for bar in ax.patches]
    np.testing.assert_allclose(places, [(0, 0.25), (0.25, 0.15), (0, 0.3)])
    assert {text.get_text() for text in ax.texts} == {"0.250", "0.150", "0.300", "token 1, token 2", "both"}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["before", "after"] and ax.yaxis_inverted()
