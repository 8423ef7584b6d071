"""Images and maps as rows, and figures of them drawn from those rows."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from fvit.base.checks import check_array
from fvit.report.style import WIDEST


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
