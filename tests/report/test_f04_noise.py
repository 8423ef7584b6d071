"""Each figure of noises draws what its table says."""

import numpy as np
import pandas as pd
import pytest

from fvit.report import f04_noise


def named(ax):
    return {text.get_text() for text in ax.texts}


@pytest.mark.parametrize("plot, by, x, names", [
    (f04_noise.plot_noise_by_divergence, "noise", "divergence", {"a", "b", "Gaussian"}),
    (f04_noise.plot_gap_by_dim, "divergence", "dim", {"divergence 1", "divergence 2", "Gaussian"}),
    (f04_noise.plot_max_norm, "quantity", "shape", {"a", "b"}),
])
def test_lines_over_the_gaussian(plot, by, x, names):
    values = [1, 2] if by == "divergence" else ["a", "b"]
    df = pd.DataFrame({by: np.repeat(values, 2), x: [1, 4] * 2, "relative": [0.9, 0.5, 1.2, 2.0]})
    (ax,) = plot(df).axes
    first, second, one = ax.lines
    assert (list(first.get_ydata()), list(second.get_ydata())) == ([0.9, 0.5], [1.2, 2.0])
    assert list(one.get_ydata()) == [1, 1] and first.get_linestyle() != second.get_linestyle()
    assert named(ax) == names and [label.get_text() for label in ax.get_xticklabels()] == ["1", "4"]


def test_densities_have_a_panel_a_divergence_and_a_log_axis():
    noises = ["best", "best", "Gaussian", "Gaussian", "best", "best"]
    df = pd.DataFrame({"divergence": [0.25] * 4 + [1] * 2, "noise": noises,
                       "position": [0, 1] * 3, "density": [0.4, 0.1, 0.3, 0.2, 0.5, 0.05]})
    fig = f04_noise.plot_noise_densities(df)
    assert [ax.get_title() for ax in fig.axes] == ["divergence 0.25", "divergence 1"]
    assert [list(line.get_ydata()) for line in fig.axes[0].lines] == [[0.4, 0.1], [0.3, 0.2]]
    assert fig.axes[0].get_yscale() == "log"


def test_the_pair_of_noises_and_their_log_ratio():
    df = pd.DataFrame({"position": [0, 1], "density": [0.4, 0.1], "moved": [0.1, 0.4], "log_ratio": [1.4, -1.4]})
    left, right = f04_noise.plot_noise_pair(df).axes
    assert [list(line.get_ydata()) for line in left.lines] == [[0.4, 0.1], [0.1, 0.4]]
    assert list(right.lines[0].get_ydata()) == [1.4, -1.4] and "nats" in right.get_ylabel()
