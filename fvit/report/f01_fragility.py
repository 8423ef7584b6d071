"""Figures of notebook 01, how fragile attention is."""

from matplotlib.figure import Figure

from fvit.records.words import method_said
from fvit.report.panels import draw_panels
from fvit.report.style import COLOURS, NO_INFORMATION, label_ends, lines, panels_by, shade

BARE = {"color": COLOURS["none"], "marker": "o"}
OWN, TRANSFERRED = BARE | {"linestyle": "-"}, BARE | {"linestyle": "--", "markerfacecolor": "white"}
LOOKS = {  # (method shown, what the image was changed for) -> how its line is drawn: all are of the bare ViT
    "random_signs": {"color": "0.35", "linestyle": ":", "marker": "x"},
    "prediction": BARE | {"linestyle": "-.", "marker": "^"}, "explanation": OWN, "rollout": OWN}
SAID = {"random_signs": "random signs", "prediction": "prediction attack", "explanation": "explanation attack"}


def plot_over_images(df, k, about, against="clean") -> Figure:
    """A row for each image: pictures, and maps over the image, their top `k` outlined against the map `against`.

    df      rows of `panels.encode` of "image 0", then panels of image 0 such as "clean 0", then those of image 1 ...
    about   {panel: its title}, by default its name
    """
    kinds = df.drop_duplicates("panel").set_index("panel")["kind"]
    maps = {name: name.rpartition(" ")[2] for name in kinds.index[kinds == "map"]}  # panel -> number of its image
    return draw_panels(df, len(kinds) // len(set(maps.values())), titles=about, label="attention share", k=k,
                       overlay={name: f"image {number}" for name, number in maps.items()},
                       against={name: f"{against} {number}" for name, number in maps.items()})


def plot_overlap_by_eps(df, k) -> Figure:
    """Top-k overlap against the attack radius, a panel per method, lines with their last value beside them.

    df   method, aim, eps, mean, low, high; a row of aim NO_INFORMATION shades the panel of its method. The aim
         "explanation" is raw attention: for another method that is a transferred attack, and its own has its name
    """
    fig, panels = panels_by(df, "method", 4.4, 2.35, ncols=1, sharex=True)
    for ax, method, part in panels:
        for level in part[part["aim"] == NO_INFORMATION].itertuples():
            shade(ax, level.low, level.high, along="y", named=True)
        part = part[part["aim"] != NO_INFORMATION].assign(eps=255 * part["eps"])
        own = method == "raw_attention"
        others = {"explanation": "made for raw attention", method: f"made for {method_said(method)}"}
        said = SAID if own else SAID | others
        looks = LOOKS if own else LOOKS | {"explanation": TRANSFERRED}
        ends = lines(ax, part, "aim", "eps", look=lambda aim, looks=looks: looks.get(aim, {}),
                     shift=lambda x, place: x + 0.16 * place)  # bars beside each other
        last = {aim: f"{said.get(aim, aim)}  {y:.2f}" for aim, y, _ in ends}
        ax.set(ylim=(0, 1.03), xlim=(0, 1.07 * part["eps"].max()), title=method_said(method))
        label_ends(ax, ends, last.get)
    ax.set_xlabel("attack radius eps, in 1/255 (linf)")
    fig.supylabel(f"share of the clean top {k} that is kept", fontsize="medium")
    return fig
