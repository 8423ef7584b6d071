"""Figures, drawn from tables only: first what all of them share, then one function per figure, (df, ax=None) -> Figure.

Saving and showing them is in figures.py. No model is ever seen here.
"""


import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import LogLocator

from fvit.checks import check_array

WIDEST = 9.1  # inches of a figure; at figures.INLINE_WIDTH letters of 8 points ("small") still are 8 on the page
MARKERS = "osD^vX"  # varied with the colour, so that a grey print can be read


def set_theme() -> None:
    """One look for all figures, in matplotlib's own font so that it does not hang on the machine's."""
    sns.set_theme(context="paper", style="whitegrid", palette="colorblind", font="DejaVu Sans")
    plt.rcParams.update({"pdf.fonttype": 42, "svg.hashsalt": "fvit", "image.cmap": "mako"})


# Pictures travel as rows too: one row per image line, so a figure of images is drawn from its CSV like any other.


def encode_rgb(panel: str, image) -> pd.DataFrame:
    """Rows (panel, kind "rgb", y, data) of an image (3, H, W) in [0, 1]; data is "#" and the line's bytes in hex."""
    image = check_array(image, f"panel {panel!r}")
    if image.ndim != 3 or image.shape[0] != 3 or not (image.min() >= -1e-3 and image.max() <= 1 + 1e-3):
        raise ValueError(f"panel {panel!r}: shape {image.shape} in [{image.min():.3g}, {image.max():.3g}], "
                         "wanted one image (3, H, W) in [0, 1]")
    pixels = np.rint(image.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)  # (H, W, 3)
    return _lines(panel, "rgb", ["#" + line.tobytes().hex() for line in pixels])


def encode_map(panel: str, heat) -> pd.DataFrame:
    """Rows (panel, kind "map", y, data) of a map (h, w); data is the line's numbers, three figures each."""
    heat = check_array(heat, f"panel {panel!r}")
    if heat.ndim != 2 or not np.isfinite(heat).all():
        raise ValueError(f"panel {panel!r}: shape {heat.shape}, wanted one finite map (h, w)")
    return _lines(panel, "map", [" ".join(f"{value:.3g}" for value in line) for line in heat])


def _lines(panel, kind, data):
    return pd.DataFrame({"panel": panel, "kind": kind, "y": range(len(data)), "data": data})


def decode_panel(rows: pd.DataFrame) -> np.ndarray:
    """The image (H, W, 3) in [0, 1] or map (h, w) that the rows of one panel hold."""
    rows = rows.sort_values("y")
    if rows["kind"].nunique() != 1 or list(rows["y"]) != list(range(len(rows))):
        name = rows["panel"].iloc[0]
        raise ValueError(f"panel {name!r}: wanted one kind and lines y = 0, 1, ... once each; is the name used twice?")
    if rows["kind"].iloc[0] == "map":
        return np.array([[float(value) for value in str(line).split()] for line in rows["data"]])
    lines = [np.frombuffer(bytes.fromhex(line[1:]), dtype=np.uint8) for line in rows["data"]]
    return np.stack(lines).reshape(len(lines), -1, 3) / 255


def draw_panels(df, ncols, *, titles=None, overlay=None, own=(), label="share of the map") -> plt.Figure:
    """Images and maps in a grid, `ncols` a row in order of appearance; the maps of one row share one scale.

    titles    {panel: title}, by default the panel's name
    overlay   {panel of a map: panel of an image}: the map lies on the grey image, seen through where it is near 0
    own       panels of maps with a scale of their own, below them: much smaller numbers, black on the row's scale
    label     what the colour scale counts, with its unit
    """
    panels = {name: decode_panel(rows) for name, rows in df.groupby("panel", sort=False)}
    names, titles, overlay = list(panels), titles or {}, overlay or {}
    if strange := [name for name in [*titles, *overlay, *overlay.values(), *own] if name not in panels]:
        raise ValueError(f"titles, overlay or own name unknown panels {strange}, known: {', '.join(names)}")
    nrows, side = -(-len(names) // ncols), min(1.5, (WIDEST - 0.7) / ncols)  # inches; 0.7 for the colour scale
    size = (side * ncols + 0.7, (side + 0.2) * nrows + 0.5 * bool(own))
    fig, axes = plt.subplots(nrows, ncols, figsize=size, squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.set_axis_off()
    for row, first in zip(axes, range(0, len(names), ncols), strict=True):
        shown = names[first : first + ncols]
        scale = _shared_scale([panels[name] for name in shown if panels[name].ndim == 2 and name not in own])
        for ax, name in zip(row, shown, strict=False):
            mine = _shared_scale([panels[name]]) if name in own else scale
            style = {"norm": mine.norm, "cmap": mine.cmap} if panels[name].ndim == 2 else {}
            if name in overlay:
                ax.imshow(panels[overlay[name]].mean(axis=2), cmap="gray", vmin=0, vmax=1, extent=(0, 1, 0, 1))
                style["alpha"] = 0.15 + 0.75 * np.abs(panels[name]) / mine.norm.vmax
            ax.imshow(panels[name], extent=(0, 1, 0, 1), **style)
            ax.set_title(titles.get(name, name), fontsize="small")
            if name in own:
                bar = fig.colorbar(mine, cax=ax.inset_axes([0.1, -0.1, 0.8, 0.05]), orientation="horizontal")
                bar.set_label(label, fontsize="small")
        if scale:
            fig.colorbar(scale, ax=row, shrink=0.8).set_label(label, fontsize="small")
    return fig


def _shared_scale(maps):
    """From 0 in mako if the maps have one sign, symmetric in vlag if they have two; None without maps."""
    if not maps:
        return None
    low, high = min(m.min() for m in maps), max(m.max() for m in maps)
    top = max(abs(low), abs(high)) or 1.0
    return ScalarMappable(Normalize(-top, top) if low < 0 else Normalize(0, top), "vlag" if low < 0 else "mako")


# One function per figure: (df, ...) -> Figure ----------------------------------------------------------------------


def plot_training(df, title="Training") -> plt.Figure:
    """Every column of a training log against the step, one small panel each, the last value written at its point."""
    columns = [column for column in df if column != "step"]
    width = 2.6 * len(columns)
    fig, axes = plt.subplots(1, len(columns), figsize=(width, 2.2), squeeze=False, layout="constrained")
    for ax, column in zip(axes.flat, columns, strict=True):
        ax.plot(df["step"], df[column], marker=".")
        ax.annotate(f"{df[column].iloc[-1]:.3g}", (df["step"].iloc[-1], df[column].iloc[-1]),
                    xytext=(-2, 4), textcoords="offset points", ha="right")
        ax.set(xlabel="optimiser step", title=column)
    fig.suptitle(title)
    return fig


def _axes(ax, size):
    return ax or plt.subplots(figsize=size, layout="constrained")[1]


def _errors(df):
    """Lengths of the bars below and above the means; rounding must not make one negative."""
    return np.maximum(np.stack([df["mean"] - df["low"], df["high"] - df["mean"]]), 0)


def _points(ax, df, x, **style):
    """Means with their intervals; df has columns mean, low, high."""
    ax.errorbar(x, df["mean"], yerr=_errors(df), capsize=2, linewidth=1.2, **style)


def _label_ends(ax, ends):
    """Direct labels (text, y, colour) beside the right ends of lines, moved apart where they would overlap."""
    low, high = ax.get_ylim()
    gap, last = (high - low) * 0.06, -np.inf
    for text, y, colour in sorted(ends, key=lambda end: end[1]):
        last = max(y, last + gap)
        ax.annotate(text, (1, last), xycoords=ax.get_yaxis_transform(), xytext=(4, 0), textcoords="offset points",
                    color=colour, va="center", fontsize="small")


def plot_overlap_by_eps(df, k, ax=None):
    """Top-k overlap against the attack radius, a panel per method; df: method, attack, eps, mean, low, high."""
    methods = list(dict.fromkeys(df["method"]))
    size = (3.4 * len(methods), 2.7)
    fig, axes = plt.subplots(1, len(methods), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for ax, method in zip(axes[0], methods, strict=True):
        ends = []
        attacks = df[df["method"] == method].groupby("attack", sort=False)
        for (attack, part), marker, colour in zip(attacks, MARKERS, sns.color_palette(), strict=False):
            _points(ax, part, part["eps"] * 255, marker=marker, color=colour, markersize=4)
            ends.append((attack, part["mean"].iloc[-1], colour))
        ax.set(xlabel="attack radius eps, in 1/255 (linf)", title=method, ylim=(0, 1.03))
        _label_ends(ax, ends)
    axes[0, 0].set_ylabel(f"top-{k} overlap, clean to attacked")
    return fig


def plot_smoothing_1d(df, ax=None):
    """A function and its averages; df: x, value, curve."""
    ax = _axes(ax, (4.6, 2.6))
    styles = zip(["-", "--", "-.", ":"], ["0.6", *sns.color_palette()], strict=False)
    for (curve, part), (style, colour) in zip(df.groupby("curve", sort=False), styles, strict=False):
        ax.plot(part["x"], part["value"], style, color=colour, label=curve, linewidth=1.4)
    ax.set(xlabel="x", ylabel="value and its average")
    ax.legend(frameon=False, loc="upper left")
    return ax.figure


def plot_standard_error(df, ax=None):
    """Scatter of means against the number of draws, with the standard error as lines; a colour and marker per image.

    df   n_samples, image_id, scatter, standard_error
    """
    ax = _axes(ax, (3.6, 2.6))
    ax.set_yscale("log")
    for (image, part), marker in zip(df.groupby("image_id", sort=False), MARKERS, strict=False):
        points = ax.plot(part["n_samples"], part["scatter"], marker, markersize=4, label=image)
        ax.plot(part["n_samples"], part["standard_error"], "-", color=points[0].get_color(), linewidth=1)
    n = sorted(df["n_samples"].unique())
    ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}")
    ax.set(xscale="log", xlabel="draws n", ylabel="scatter of the mean (attention share)")
    ax.set_xticks(n, [str(v) for v in n])
    ax.minorticks_off()
    ax.legend(frameon=False, fontsize="x-small", title="scene")
    return ax.figure


def plot_psnr(df, ax=None):
    """PSNR against the noise width, a line per image version; df: image, sigma, mean, low, high."""
    ax = _axes(ax, (4.2, 2.8))
    ends = []
    images = df.groupby("image", sort=False)
    for (image, part), marker, colour in zip(images, MARKERS, sns.color_palette(), strict=False):
        _points(ax, part, part["sigma"], marker=marker, color=colour, markersize=4)
        ends.append((image, part["mean"].iloc[-1], colour))
    ax.set(xscale="log", xlabel="noise std sigma, [0, 1] units", ylabel="PSNR to the clean image (dB)")
    levels = sorted(df["sigma"].unique())
    ax.set_xticks(levels, [f"{s:.2g}" for s in levels])
    ax.minorticks_off()
    _label_ends(ax, ends)
    return ax.figure


def plot_smoothings(df, order, k, ax=None):
    """Top-k overlap by smoothing (rows) and attack (markers); df: smoothing, attack, mean, low, high."""
    ax = _axes(ax, (5.4, 0.55 * len(order) + 1.2))
    attacks = list(dict.fromkeys(df["attack"]))
    for i, (attack, marker, colour) in enumerate(zip(attacks, MARKERS, sns.color_palette(), strict=False)):
        part = df[df["attack"] == attack].set_index("smoothing").reindex(order)
        y = np.arange(len(order)) + 0.16 * (i - (len(attacks) - 1) / 2)
        style = {"color": colour, "markersize": 5, "capsize": 2, "linewidth": 1}
        ax.errorbar(part["mean"], y, xerr=_errors(part), fmt=marker, label=attack, **style)
    ax.set_yticks(range(len(order)), order)
    ax.invert_yaxis()
    ax.set(xlim=(-0.02, 1.03), xlabel=f"top-{k} overlap")
    ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.45, -0.22), ncols=2)
    return ax.figure
