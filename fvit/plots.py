"""Figures: drawn from tables only, saved with their data, shown from what was saved. No model is ever seen here.

First what all figures share, then one function per figure: (df, ax=None) -> Figure.
"""

import hashlib
import html
import io
import json
import re
from base64 import b64encode
from dataclasses import asdict
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import display
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from PIL import Image

from fvit import profiles
from fvit.checks import as_list, check_array, check_choice, check_seed, check_text, read_json
from fvit.paths import NOTEBOOKS, PACKAGE, figures_dir, output_root, write_atomic
from fvit.results import upsert, versions

DPI, INLINE_WIDTH = 200, 900  # of a saved PNG; pixels of the widest shown in a notebook
WIDEST = 9.1  # inches of a figure; shown at INLINE_WIDTH, letters of 8 points ("small") still are 8 on the page
SUFFIXES = (".csv", ".png", ".pdf", ".json")
MARKERS = "osD^vX"  # varied with the colour, so that a grey print can be read
MANIFEST_COLUMNS = ["figure", "title", "source", "notebook", "profile", "csv_sha256", "source_sha256", "seed",
                    "device_kind", "claim_ids"]


def set_theme() -> None:
    """One look for all figures, in matplotlib's own font so that it does not hang on the machine's."""
    sns.set_theme(context="paper", style="whitegrid", palette="colorblind", font="DejaVu Sans")
    plt.rcParams.update({"pdf.fonttype": 42, "svg.hashsalt": "fvit", "image.cmap": "mako"})


def save_figure(fig, figure_id, df, *, name, title, caption, alt, source,
                claim_ids=(), seed=0, device_kind="cpu") -> Path:
    """Write F03_name.{csv,json,png,pdf} to the current profile's figures, then the row of MANIFEST.csv; close `fig`.

    df         exactly the rows drawn; floats are written with six figures
    caption    names the interval and n; alt says what is seen, with its numbers
    source     paper and year, or "ours"; claim_ids the claims it is evidence for
    returns    path of the png

    Nothing is written before all is drawn, each file whole or not at all, the manifest last; then files of the same
    figure under an earlier name are gone. With unchanged input no byte changes.
    Raises ValueError for missing words, an empty table, a malformed id or name, or if no profile is set.
    """
    run, words = _current(), {"title": title, "caption": caption, "alt": alt, "source": source}
    good = isinstance(name, str) and len(name) < 100 and re.fullmatch("[a-z0-9]+(_[a-z0-9]+)*", name)
    if not _is_id(figure_id) or not good:
        raise ValueError(f"figure {figure_id!r} named {name!r}, wanted an id such as 'F03' and a name in snake_case")
    if missing := [word for word, text in words.items() if not (isinstance(text, str) and text.strip())]:
        raise ValueError(f"figure {figure_id} has no {' and no '.join(missing)}; say in words what a reader should see")
    if not isinstance(fig, Figure):
        raise ValueError(f"figure {figure_id} is a {type(fig).__name__}, wanted a matplotlib Figure")
    if not isinstance(df, pd.DataFrame) or df.empty:
        raise ValueError(f"figure {figure_id} comes with an empty table, wanted the rows that are drawn")
    if as_list(claim_ids) is None:
        raise ValueError(f"claim_ids={claim_ids!r}, wanted a list of ids")
    claim_ids = as_list(claim_ids)
    table = df.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    for word, text in (words | {"device": device_kind, "table": table[:1000]}).items():
        check_text(text, f"{word} of figure {figure_id}")
    for text in [*df.columns, *claim_ids]:
        check_text(text, f"column or claim of figure {figure_id}")
    seed, table = check_seed(seed), table.encode()
    sidecar = {**words, "figure": figure_id, "notebook": run.notebook, "profile": run.name, "parameters": asdict(run),
               "versions": versions(), "columns": list(df.columns), "n_rows": len(df)}
    pictures = {".png": png_bytes(fig), ".pdf": _render(fig, "pdf", CreationDate=None)}  # no clock: byte-stable
    plt.close(fig)  # else the notebook shows it a second time, beside the saved one
    folder = figures_dir(run.name)
    texts = {".csv": table, ".json": json.dumps(sidecar, sort_keys=True, indent=1, ensure_ascii=False) + "\n"}
    for suffix, data in (texts | pictures).items():
        write_atomic(folder / f"{figure_id}_{name}{suffix}", data)
    for old in folder.glob(f"{figure_id}_*.*"):
        if old.stem != f"{figure_id}_{name}" and old.suffix in SUFFIXES:
            old.unlink()
    row = {**sidecar, "csv_sha256": hashlib.sha256(table).hexdigest(), "source_sha256": source_digest(run.notebook),
           "seed": seed, "device_kind": device_kind, "claim_ids": " ".join(claim_ids)}
    upsert(output_root() / "figures" / "MANIFEST.csv", row, key=("figure", "profile"), columns=MANIFEST_COLUMNS)
    return folder / f"{figure_id}_{name}.png"


def _is_id(figure_id):
    return isinstance(figure_id, str) and re.fullmatch("F[0-9]{2}[a-z]?", figure_id)


def _current():
    if profiles.current is None:
        raise ValueError("no profile is set, so figures have no folder; call cfg = fvit.profile('laptop') first")
    return profiles.current


def png_bytes(fig) -> bytes:
    """`fig` as a PNG of 200 dpi."""
    return _render(fig, "png")


def _render(fig, form, **stamps):
    out = io.BytesIO()
    with plt.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "fvit"}):  # also for a figure drawn without the theme
        fig.savefig(out, format=form, dpi=DPI, bbox_inches="tight", metadata=stamps)
    return out.getvalue()


def source_digest(notebook: str = "", package: Path = PACKAGE, notebooks: Path = NOTEBOOKS) -> str:
    """sha256 over all that a figure is made by: fvit's code, the code cells of notebook `01_*`, the shipped weights.

    Prose and outputs do not count, nor do line ends, nor checkpoints of a training: git ignores them, so another
    clone has none. A digest of sources, since a commit cannot name itself.
    """
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*") if path.is_file()}
    parts = {name: path.read_text(encoding="utf-8").encode() for name, path in files.items() if path.suffix == ".py"}
    weights = {name: path for name, path in files.items() if path.suffix == ".safetensors"}
    parts |= {name: path.read_bytes() for name, path in weights.items() if not path.name.startswith("checkpoint")}
    for path in sorted(notebooks.glob(f"{notebook}_*.ipynb"))[:1] if notebook else ():
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        parts[path.name] = json.dumps(code).encode()
    lines = [f"{name} {hashlib.sha256(parts[name]).hexdigest()}" for name in sorted(parts)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class _Shown:
    """Something with one text that is the same everywhere, and richer forms that need not be."""

    def __init__(self, text, forms, metadata=None):
        self.text, self.forms, self.metadata = text, forms, metadata or {}

    def __repr__(self):
        return self.text

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/plain": self.text, **self.forms}, self.metadata


def show_figure(figure_id: str, profile: str | None = None) -> None:
    """Show the saved figure, then its caption and alt sentence; `profile` is another one than the current, if given.

    Two outputs, a picture and a caption: every viewer draws a PNG output, while git hosts drop pictures inside HTML
    and nbconvert drops the alt text of a PNG (so it stands below as well). Only ids and titles are plain text.
    Raises FileNotFoundError if the figure was not saved.
    """
    if not _is_id(figure_id):
        raise ValueError(f"figure {figure_id!r}, wanted an id such as 'F03'")
    folder = figures_dir(_current().name if profile is None else check_choice(profile, profiles.PROFILES, "profile"))
    found = sorted(folder.glob(f"{figure_id}_*.json"))
    if not found:
        raise FileNotFoundError(f"no figure {figure_id} in {folder}; save it, or `fvit run` the notebook that does")
    try:
        said = read_json(found[0], "save the figure again")
        if not all(isinstance(said.get(word), str) for word in ("title", "caption", "alt", "source")):
            raise ValueError(f"{found[0]} lacks a title, caption, alt or source in words; save the figure again")
        png = found[0].with_suffix(".png")
        picture = b64encode(_inline_png(png)).decode()
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all three
        raise ValueError(f"figure {figure_id} in {folder} is damaged ({type(error).__name__}: {error}); "
                         "`fvit run` the notebook that saves it") from error
    words = {key: html.escape(said[key]) for key in ("caption", "alt", "source")}
    caption = f"<p><b>{figure_id}.</b> {words['caption']} ({words['source']})<br><i>{words['alt']}</i></p>"
    display(_Shown(f"Figure {figure_id}: {said['title']}", {"image/png": picture},
                   {"image/png": {"alt": said["alt"], "width": _shown_width(png)}}))
    display(_Shown(f"Caption of figure {figure_id}", {"text/html": caption}))


def _shown_width(path):
    """Width on the page in CSS pixels: 120 an inch, so that letters have one size in all figures but the widest."""
    with Image.open(path) as picture:
        return min(round(picture.width * 120 / DPI), INLINE_WIDTH)


def _inline_png(path, width=INLINE_WIDTH):
    """The saved PNG, or its copy `width` pixels wide where that is smaller, so that notebooks stay small.

    No palette, which would band colour scales; coarse pixels compress better as they are than resampled.
    """
    Image.open(path).verify()  # its checksums, which Pillow passes over while it decodes
    picture, out = Image.open(path).convert("RGB"), io.BytesIO()
    height = round(picture.height * width / picture.width)
    picture.resize((width, height), Image.Resampling.LANCZOS).save(out, format="png", optimize=True)
    return min(Path(path).read_bytes(), out.getvalue(), key=len) if picture.width > width else Path(path).read_bytes()


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
