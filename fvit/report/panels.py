"""Images and maps as rows, and figures of them drawn from those rows."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from fvit.base.checks import check_array
from fvit.report.style import WIDEST

HEAT = "rocket"


def encode(pictures: dict) -> pd.DataFrame:
    """The rows, one a line, of panel -> image (3, H, W) in [0, 1] or map (h, w), in their order."""
    return pd.concat([(encode_rgb if np.ndim(p) == 3 else encode_map)(name, p) for name, p in pictures.items()])


def encode_rgb(panel: str, image) -> pd.DataFrame:
    """Rows (panel, kind "rgb", y, data) of an image (3, H, W) in [0, 1]; data is "#" and the line's bytes in hex."""
    image = check_array(image, f"panel {panel!r}")
    if image.ndim != 3 or image.shape[0] != 3 or not (image.min() >= -1e-3 and image.max() <= 1 + 1e-3):
        raise ValueError(f"panel {panel!r}: shape {image.shape} in [{image.min():.3g}, {image.max():.3g}], "
                         "wanted one image (3, H, W) in [0, 1]")
    pixels = np.rint(image.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)  # (H, W, 3)
    return _lines(panel, "rgb", ["#" + line.tobytes().hex() for line in pixels])


def encode_map(panel: str, heat) -> pd.DataFrame:
    """Rows (panel, kind "map", y, data) of a map (h, w); data is the line's numbers, six figures each, so that
    no two of the tokens tie that did not."""
    heat = check_array(heat, f"panel {panel!r}")
    if heat.ndim != 2 or not np.isfinite(heat).all():
        raise ValueError(f"panel {panel!r}: shape {heat.shape}, wanted one finite map (h, w)")
    return _lines(panel, "map", [" ".join(f"{value:.6g}" for value in line) for line in heat])


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


def draw_panels(df, ncols, *, titles=None, overlay=None, against=None, k=0, own=(), label="share of the map"):
    """Figure of images and maps in a grid, `ncols` a row in order of appearance; the maps of one row share one scale.

    titles    {panel: title}, by default the panel's name
    overlay   {panel of a map: panel of an image}: the map lies on the grey image, seen through where it is near 0
    against   {panel of a map: panel of the map it is held against, or itself}: its `k` greatest tokens are outlined,
              as of `outline`, and the title says what share of the other's it keeps
    own       panels of maps with a scale of their own, below them: much smaller numbers, black on the row's scale
    label     what the colour scale counts, with its unit
    """
    panels = decode(df)
    names, titles, overlay, against = list(panels), titles or {}, overlay or {}, against or {}
    if strange := [name for name in [*titles, *overlay, *overlay.values(), *against, *against.values(), *own]
                   if name not in panels]:
        raise ValueError(f"titles, overlay, against or own name unknown panels {strange}, known: {', '.join(names)}")
    nrows, side = -(-len(names) // ncols), min(1.6, (WIDEST - 0.7) / ncols)  # inches; 0.7 for the colour scale
    size = (side * ncols + 0.7, (side + 0.34) * nrows + 0.5 * bool(own) + 0.3 * bool(against))
    fig, axes = plt.subplots(nrows, ncols, figsize=size, squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.set_axis_off()
    for row, first in zip(axes, range(0, len(names), ncols), strict=True):
        shown = names[first : first + ncols]
        scale = shared_scale([panels[name] for name in shown if panels[name].ndim == 2 and name not in own])
        for ax, name in zip(row, shown, strict=False):
            mine = shared_scale([panels[name]]) if name in own else scale
            draw_panel(ax, panels[name], mine, panels.get(overlay.get(name)))
            title = titles.get(name, name)
            if name in against:
                kept = outline(ax, panels[name], panels[against[name]], k)
                title += f"\nkeeps {kept:.2f}" * (against[name] != name)
            ax.set_title(title, fontsize="small")
            if name in own:
                bar = fig.colorbar(mine, cax=ax.inset_axes([0.1, -0.1, 0.8, 0.05]), orientation="horizontal")
                bar.set_label(label, fontsize="small")
        if scale:
            fig.colorbar(scale, ax=row, shrink=0.8).set_label(label, fontsize="small")
    if against:
        fig.legend(handles=outline_key(k), loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return fig


def decode(df) -> dict:
    """{panel: image or map} of rows with a column panel, in order of appearance."""
    return {name: decode_panel(rows) for name, rows in df.groupby("panel", sort=False)}


def draw_panel(ax, picture, scale, under=None):
    """An image, or a map in the colours of `scale`; the map on the grey image `under`, if there is one."""
    ax.set_axis_off()
    style = {"norm": scale.norm, "cmap": scale.cmap} if picture.ndim == 2 else {}
    if under is not None:
        ax.imshow(0.35 + 0.6 * under.mean(axis=2), cmap="gray", vmin=0, vmax=1, extent=(0, 1, 0, 1))
        style["alpha"] = 0.85 * np.sqrt(np.abs(picture) / scale.norm.vmax)
    ax.imshow(picture, extent=(0, 1, 0, 1), **style)


def outline(ax, heat, reference, k) -> float:
    """Outline in `ax` the `k` greatest tokens of a map: KEPT where they are those of `reference`, else NEW, and LOST
    where that has others. Returns the share kept; ties break by the lowest index.
    """
    mine, theirs = (top_set(values, k) for values in (heat, reference))
    for part, look in ((mine & theirs, KEPT), (theirs & ~mine, LOST), (mine & ~theirs, NEW)):
        fine = np.kron(np.pad(part, 1), np.ones((12, 12)))  # a twelfth of a token inside, so that no two lines meet
        inside = fine * np.prod([np.roll(fine, by, axis) for by in (1, -1) for axis in (0, 1)], axis=0)
        rows, columns = part.shape
        places = [np.arange(-11.5, 12 * n + 12) / (12 * n) for n in (columns, rows)]
        if part.any():
            for colour, more, dash in (("black", 0.9, "solid"), (look["color"], 0, look["linestyle"])):
                ax.contour(places[0], 1 - places[1], inside, [0.5], colors=[colour], linestyles=[dash],
                           linewidths=look["linewidth"] + more)
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    return (mine & theirs).sum() / k


KEPT = {"color": "white", "linewidth": 1.1, "linestyle": "solid"}
LOST = {"color": "#ffb000", "linewidth": 1.1, "linestyle": (0, (1, 1))}
NEW = {"color": "#56b4e9", "linewidth": 1.1, "linestyle": (0, (3.5, 1.5))}


def outline_key(k):
    """Handles of a legend of `outline`."""
    said = f"kept of the top {k}", "lost", "new"
    effect = [withStroke(linewidth=2.5, foreground="black")]
    return [Line2D([], [], **look, label=text, path_effects=effect) for look, text in zip((KEPT, LOST, NEW), said,
                                                                                         strict=True)]


def top_set(heat, k):
    """Where the `k` greatest values of a map are, of its shape; ties by the lowest index."""
    found = np.zeros(heat.size, dtype=bool)
    found[np.argsort(-heat, axis=None, kind="stable")[:k]] = True
    return found.reshape(heat.shape)


def shared_scale(maps):
    """From 0 in HEAT if the maps have one sign, symmetric in vlag if they have two; None without maps."""
    if not maps:
        return None
    low, high = min(m.min() for m in maps), max(m.max() for m in maps)
    top = max(abs(low), abs(high)) or 1.0
    return ScalarMappable(Normalize(-top, top) if low < 0 else Normalize(0, top), "vlag" if low < 0 else HEAT)
