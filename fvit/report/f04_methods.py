"""Figure of notebook 04, which explanation."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D

from fvit.records.words import method_said
from fvit.report.panels import decode, draw_panel, outline, outline_key, shared_scale
from fvit.report.style import WIDEST


def plot_both_classes(df, digits, pointing, k) -> plt.Figure:
    """The two maps of every method over the scene, and their difference: a row each, in two blocks; last, the scene.

    df         rows of `panels.encode`: "scene"; masks "mask 0", "mask 1" of the digits; "METHOD 0", "METHOD 1"
    digits     the two digits asked about
    pointing   {method: what is said of it}, a number; the `k` greatest tokens are outlined, those of the second map
               held against those of the first
    A method's two maps share a scale, all differences another: red where the first map is greater, blue the second.
    """
    pictures = decode(df)
    masks, scene = [pictures["mask 0"], pictures["mask 1"]], pictures["scene"]
    maps = {name: [pictures[f"{name} {i}"] for i in (0, 1)] for name in pointing}
    most = max(np.abs(one - other).max() for one, other in maps.values()) or 1.0
    signed = ScalarMappable(Normalize(-most, most), "coolwarm")
    nrows = len(maps) // 2 + 1
    fig, axes = plt.subplots(nrows, 8, figsize=(WIDEST, 1.13 * nrows + 0.6), layout="constrained", squeeze=False,
                             gridspec_kw={"width_ratios": [1.15, 1, 1, 1] * 2})
    fig.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for ax in axes.flat:
        ax.set_axis_off()
    slots = [row[4 * block : 4 * block + 4] for block in (0, 1) for row in axes]
    for place, (name, (one, other)), (said, *shown) in zip(range(len(maps)), maps.items(), slots, strict=False):
        of_both = shared_scale([one, other])
        for ax, heat, scale in zip(shown, (one, other, one - other), (of_both, of_both, signed), strict=True):
            draw_panel(ax, heat, scale, scene)
        kept = [outline(ax, heat, one, k) for ax, heat in zip(shown, (one, other), strict=False)][1]
        _outline_digits(shown[2], masks)
        said.text(1, 0.5, f"{method_said(name)}\nkeeps {kept:.2f}\npointing {pointing[name]:.2f}", ha="right",
                  va="center", fontsize="small", linespacing=1.4)
        if place % nrows == 0:
            for ax, title in zip(shown, (*(f"why {digit}?" for digit in digits), "difference"), strict=True):
                ax.set_title(title, fontsize="small")
    said, first, _, last = slots[len(maps)]
    said.text(1, 0.5, "the scene", ha="right", va="center", fontsize="small")
    draw_panel(first, scene, None)
    last.set_in_layout(False)
    bar = fig.colorbar(signed, cax=last.inset_axes([-0.65, 0.6, 1.5, 0.1]), orientation="horizontal")
    bar.set_label(f"why {digits[0]} minus why {digits[1]},\nshare of the map", fontsize="small")
    key = [Line2D([], [], color="black", linewidth=1, linestyle=dash, label=f"outline of the {digit}")
           for digit, dash in zip(digits, DASHES, strict=True)]
    fig.legend(handles=outline_key(k) + key, loc="outside lower center", ncols=5, frameon=False, fontsize="small")
    return fig


DASHES = "solid", (0, (2, 1.5))


def _outline_digits(ax, masks):
    for mask, dash in zip(masks, DASHES, strict=True):
        rows, columns = ((np.arange(n) + 0.5) / n for n in mask.shape)
        ax.contour(columns, 1 - rows, mask, [0.5], colors=["black"], linewidths=[0.9], linestyles=[dash])
