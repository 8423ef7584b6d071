"""Figures of notebook 09, does DDS localise better, and the tables that they are drawn from."""

import matplotlib.pyplot as plt
import pandas as pd

from fvit.records.words import method_said, said
from fvit.report.panels import draw_panels
from fvit.report.style import NO_INFORMATION, colour, dots, dumbbell_key, dumbbells, legend_below, one_panel

WIDTH = 5.6  # inches of a figure with a row a method: on the page its letters are larger than the text's
MAPS = {  # maps of F09c: name -> the image under it, the map against which it is held
    "bare, clean": ("image", "bare, clean"), "bare, attacked": ("attacked", "bare, clean"),
    "DDS, clean": ("image", "DDS, clean"), "DDS, transferred": ("attacked", "DDS, clean"),
    "DDS, adaptive": ("attacked DDS", "DDS, clean")}
ATTACKED = {"bare": ("none", "explanation, its own"), "dds": ("dds", "explanation, adaptive")}


# Tables -------------------------------------------------------------------------------------------------------------


def by_method(*tables, order, aimed_at, constant=None) -> pd.DataFrame:
    """The rows of a figure with a row a method, in that order; methods without a place in it are left out.

    tables     method, defence, condition, mean, low, high, as of `style.dumbbells`; what the bare ViT meets is its own
               attack, which stands in them twice, as transferred and as adaptive, and is kept once
    aimed_at   methods that meet an attack on their own map; all others get a †
    constant   {method: score of a constant map}, which gets rows of NO_INFORMATION
    """
    known = pd.DataFrame([{"method": method, "defence": "", "condition": NO_INFORMATION, "low": score, "high": score}
                          for method, score in (constant or {}).items()])
    found = pd.concat([*tables, known], ignore_index=True)
    bare, order = found["defence"] == "none", list(order)
    found = found[found["method"].isin(order) & ~(bare & (found["condition"] == "explanation, adaptive"))]
    own = {f"{aim}, transferred": f"{aim}, its own" for aim in ("prediction", "explanation")}
    found = found.assign(condition=found["condition"].mask(bare, found["condition"].replace(own)))
    found = found.sort_values("method", key=lambda names: names.map(order.index), kind="stable")
    return found.assign(method=found["method"].map(lambda name: name if name in aimed_at else f"{name}†"))


def said_of_overlap(df) -> dict:
    """What the words of F09b ask of its rows: each method's overlaps, and their range, bare and with DDS."""
    at = df[df["defence"] != ""].pivot(index="method", columns=["defence", "condition"], values="mean")
    ranges = {f"range_{word}": f"{at[met].min():.2f} to {at[met].max():.2f}" for word, met in ATTACKED.items()}
    return ranges | {"each": [{"method": method, "at": at.loc[method]} for method in dict.fromkeys(df["method"])]}


def least_gains(tests, level: float = 0.05) -> pd.DataFrame:
    """How many methods are shown to gain by DDS, and which gains least: a row for each measure and attack.

    tests     {measure: table of `comparisons.compare_pairs` over the family method, condition}
    level     at which a gain is shown: positive, and p below it after Holm's correction
    returns   DataFrame with index "measure, attack": shown (share of the methods), least (the method that gains
              least), difference, low, high (of that one)
    """
    rows, attacks = {}, dict.fromkeys(pd.concat(tests.values())["condition"])
    for measure, table in tests.items():
        for attack in attacks:
            part = table[table["condition"] == attack]
            least = part.loc[part["difference"].idxmin()]
            shown = (part["difference"] > 0) & (part["p_holm"] < level)
            rows[f"{measure}, {attack}"] = {"shown": shown.mean(), "least": least["method"],
                                            **least[["difference", "low", "high"]]}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("measure, attack")


# Figures ------------------------------------------------------------------------------------------------------------


def plot_scores(df, score: str) -> plt.Figure:
    """A score of every method, a row each: what it is without an attack, and what attacks leave of it.

    df      method, defence, condition, mean, low, high, as of `style.dumbbells`; rows of NO_INFORMATION are the score
            of a constant map
    score   its name, with its unit
    """
    fig = _row_a_method(df, df["condition"] != NO_INFORMATION, 3, 3, no_information="what a constant map scores")
    fig.axes[0].set_xlabel(score)
    return fig


def plot_overlap_by_method(df, k: int) -> plt.Figure:
    """Top-k overlap with one's own clean map, a row per method: what of it each attack leaves.

    df   method, defence, condition, mean, low, high, as of `style.dumbbells`
    """
    fig = _row_a_method(df, ~df["condition"].isin([NO_INFORMATION, "fidelity"]), 2, 2)
    fig.axes[0].set(xlim=(-0.02, 1.03), xlabel=f"share of the clean top {k} that is kept")
    return fig


def _row_a_method(df, measured, marks, ncols, **words):
    """One panel of dumbbells; `measured` are the rows that have marks, at most `marks` of them for a defence."""
    sides = list(dict.fromkeys(df.loc[measured, "defence"]))
    ax = one_panel(WIDTH, (0.2 + 0.05 * marks * len(sides)) * df["method"].nunique() + 1.4)
    dumbbells(ax, df, "method", gap=0.62 / len(sides), apart=0.24 / len(sides), names=method_said)
    _rules(ax)
    lines = [plt.Line2D([], [], color=colour(side, sides), linewidth=4, label=said(side)) for side in sides]
    legend_below(ax.figure, ax, ncols=ncols, handles=[*lines, *dumbbell_key(df, **words)])
    return ax.figure


def _rules(ax):
    """Lines between the rows."""
    for y in range(len(ax.get_yticks()) - 1):
        ax.axhline(y + 0.5, color="0.8", linewidth=0.8, zorder=1)


def plot_maps(df, k: int) -> plt.Figure:
    """Images, and over them the MAPS with their top k outlined, four panels a row.

    df   rows of `panels.encode`; panels are named as MAPS and what is under them, and a number: "DDS, adaptive 0"
    """
    named = {panel: panel.rsplit(" ", 1) for panel in dict.fromkeys(df["panel"])}
    maps = {panel: [f"{other} {i}" for other in MAPS[name]] for panel, (name, i) in named.items() if name in MAPS}
    titles = {panel: name.replace(", ", ",\n").replace("attacked DDS", "attacked,\nthrough DDS")
              for panel, (name, _) in named.items()}
    return draw_panels(df, 4, label="attention share", titles=titles, k=k,
                       overlay={panel: image for panel, (image, _) in maps.items()},
                       against={panel: other for panel, (_, other) in maps.items()})


def plot_class_explained(df, k: int) -> plt.Figure:
    """Top-k overlap with the class fixed (full) and with the class predicted anew (hollow); a row per method.

    df   method, defence, explained ("fixed", then "re-predicted"), mean, low, high
    """
    methods, sides = list(dict.fromkeys(df["method"])), list(dict.fromkeys(df["defence"]))
    names = {"fixed": "class fixed", "re-predicted": "class predicted anew"}
    ax = one_panel(WIDTH, 0.5 * len(methods) + 1.4)

    def look(series):
        shade_of = colour(series[0], sides)
        return {"color": shade_of, "markerfacecolor": shade_of if series[1] == "fixed" else "white",
                "marker": "os"[sides.index(series[0]) % 2]}

    dots(ax, df, "method", methods, ["defence", "explained"], gap=0.17, look=look,
         names=lambda series: f"{said(series[0])}, {names[series[1]]}")
    ax.set_yticks(range(len(methods)), [method_said(method) for method in methods])
    _rules(ax)
    ax.grid(axis="y", visible=False)
    ax.set(xlim=(-0.02, 1.03), ylim=(len(methods) - 0.5, -0.5), xlabel=f"share of the clean top {k} that is kept")
    legend_below(ax.figure, ax)
    return ax.figure
