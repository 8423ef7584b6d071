"""Figures of notebook 01, how fragile attention is."""

from fvit.records.words import AIMS
from fvit.report.style import COLOURS, NO_INFORMATION, label_ends, lines, panels_by, shade

LOOKS = {  # aim -> how its line is drawn: all are of the bare ViT
    "random_signs": {"color": "0.45", "linestyle": ":", "marker": "x"},
    "prediction": {"color": COLOURS["none"], "linestyle": "--", "marker": "o", "markerfacecolor": "white"},
    "explanation": {"color": COLOURS["none"], "linestyle": "-", "marker": "o"}}


def plot_overlap_by_eps(df, k):
    """Top-k overlap against the attack radius, a panel per method.

    df   method, aim, eps, mean, low, high; a row of aim NO_INFORMATION shades the panel of its method
    """
    fig, panels = panels_by(df, "method", 3.4, 2.9, ylabel=f"share of the clean top {k} that is kept")
    for ax, method, part in panels:
        for level in part[part["aim"] == NO_INFORMATION].itertuples():
            shade(ax, level.low, level.high, along="y", named=True)
        part = part[part["aim"] != NO_INFORMATION]
        ends = lines(ax, part.assign(eps=255 * part["eps"]), "aim", "eps", look=lambda aim: LOOKS.get(aim, {}))
        ax.set(xlabel="attack radius eps, in 1/255 (linf)", ylim=(0, 1.03), xlim=(0, None),
               title=method.replace("_", " "))
        label_ends(ax, ends, lambda aim: AIMS[aim] if aim == "random_signs" else f"{AIMS[aim]} attack")
    return fig
