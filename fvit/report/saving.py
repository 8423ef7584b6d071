"""Figures on record: saved with the rows drawn, their words and a line of the manifest; shown from what was saved."""

import hashlib
import html
import io
import json
import re
from base64 import b64encode
from dataclasses import asdict
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from fvit.base.checks import as_list, check_choice, check_seed, check_text
from fvit.base.files import read_json, remove, write_atomic
from fvit.base.paths import figures_dir, output_root
from fvit.records import profiles
from fvit.records.ledger import upsert
from fvit.records.provenance import commit, source_digest, versions

DPI, INLINE_WIDTH = 200, 900  # of a saved PNG; pixels of the widest shown in a notebook
SUFFIXES = (".csv", ".png", ".pdf", ".json")
MANIFEST_COLUMNS = ["figure", "title", "source", "notebook", "profile", "rows", "csv_sha256", "source_sha256", "seed",
                    "device_kind", "claim_ids"]


def save_figure(fig, figure_id, df, *, name, title, caption, alt, source,
                claim_ids=(), seed=0, device_kind="cpu", rows=None) -> Path:
    """Write F06_name.{csv,json,png,pdf} to the current profile's figures, then the row of MANIFEST.csv; close `fig`.

    df         exactly the rows drawn; floats are written with six figures
    caption    names the interval and n; alt says what is seen, with its numbers
    source     paper and year, or "ours"; claim_ids the claims it is evidence for
    rows       the profile whose rows are drawn, if not the current one: a laptop run may show those of study
    returns    path of the png

    Nothing is written before all is drawn, each file whole or not at all, the manifest last; then files of the same
    figure under an earlier name are gone. With unchanged input no byte changes.
    Raises ValueError for missing words, an empty table, a malformed id or name, or if no profile is set.
    """
    run, words = current_run(), {"title": title, "caption": caption, "alt": alt, "source": source}
    check_id(figure_id)
    rows = run.name if rows is None else check_choice(rows, profiles.PROFILES, "rows")
    if not (isinstance(name, str) and len(name) < 100 and re.fullmatch("[a-z0-9]+(_[a-z0-9]+)*", name)):
        raise ValueError(f"figure {figure_id} is named {name!r}, wanted a name in snake_case")
    if missing := [word for word, text in words.items() if not (isinstance(text, str) and text.strip())]:
        raise ValueError(f"figure {figure_id} has no {' and no '.join(missing)}; say in words what a reader should see")
    if not isinstance(fig, Figure):
        raise ValueError(f"figure {figure_id} is a {type(fig).__name__}, wanted a matplotlib Figure")
    if not isinstance(df, pd.DataFrame) or df.empty:
        raise ValueError(f"figure {figure_id} comes with an empty table, wanted the rows that are drawn")
    if (ids := as_list(claim_ids)) is None:
        raise ValueError(f"claim_ids={claim_ids!r}, wanted a list of ids")
    table = df.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    for word, text in (words | {"device": device_kind, "table": table[:1000]}).items():
        check_text(text, f"{word} of figure {figure_id}")
    for text in [*df.columns, *ids]:
        check_text(text, f"column or claim of figure {figure_id}")
    seed, table = check_seed(seed), table.encode()
    sidecar = {**words, "figure": figure_id, "notebook": run.notebook, "profile": run.name, "rows": rows,
               "parameters": asdict(run),
               "versions": versions(), "columns": list(df.columns), "n_rows": len(df)}
    if run.name != "laptop":  # whose figures are made anew with every commit, which cannot name itself
        sidecar["commit"] = commit()
    pictures = {".png": png_bytes(fig), ".pdf": _render(fig, "pdf", CreationDate=None)}  # no clock: byte-stable
    folder = figures_dir(run.name)
    texts = {".csv": table, ".json": json.dumps(sidecar, sort_keys=True, indent=1, ensure_ascii=False) + "\n"}
    for suffix, data in (texts | pictures).items():
        write_atomic(folder / f"{figure_id}_{name}{suffix}", data)
    for old in folder.glob(f"{figure_id}_*.*"):
        if old.stem != f"{figure_id}_{name}" and old.suffix in SUFFIXES:
            remove(old)
    row = {**sidecar, "csv_sha256": hashlib.sha256(table).hexdigest(), "source_sha256": source_digest(run.notebook),
           "seed": seed, "device_kind": device_kind, "claim_ids": " ".join(ids)}
    upsert(output_root() / "figures" / "MANIFEST.csv", row, key=("figure", "profile"), columns=MANIFEST_COLUMNS)
    return folder / f"{figure_id}_{name}.png"


def check_id(figure_id) -> str:
    if not (isinstance(figure_id, str) and re.fullmatch("F[0-9]{2}[a-z]?", figure_id)):
        raise ValueError(f"figure {figure_id!r}, wanted an id such as 'F06'")
    return figure_id


def current_run() -> profiles.Profile:
    if profiles.current is None:
        raise ValueError("no profile is set, so figures have no folder; call cfg = fvit.profile('laptop') first")
    return profiles.current


def png_bytes(fig, dpi=DPI) -> bytes:
    """`fig` as a PNG; it is closed, else the notebook would show it beside what is made of it."""
    plt.close(fig)
    return _render(fig, "png", dpi)


def _render(fig, form, dpi=DPI, **stamps):
    out = io.BytesIO()
    with plt.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "fvit"}):  # also for a figure drawn without the theme
        fig.savefig(out, format=form, dpi=dpi, bbox_inches="tight", metadata=stamps)
    return out.getvalue()


class Shown:
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
    and nbconvert drops the alt text of a PNG (so it stands below as well). Only ids and names are plain text: titles
    have numbers, which another machine may round otherwise.
    Raises FileNotFoundError if the figure was not saved.
    """
    check_id(figure_id)
    folder = figures_dir(current_run().name if profile is None else check_choice(profile, profiles.PROFILES, "profile"))
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
    caption = (f"<p><b>{figure_id}. {html.escape(said['title'])}.</b> {words['caption']} ({words['source']})<br>"
               f"<i>{words['alt']}</i></p>")
    display(Shown(f"Figure {figure_id}: {found[0].stem.partition('_')[2].replace('_', ' ')}", {"image/png": picture},
                   {"image/png": {"alt": said["alt"], "width": _shown_width(png)}}))
    display(Shown(f"Caption of figure {figure_id}", {"text/html": caption}))


def _shown_width(path):
    """Width on the page in CSS pixels: 120 an inch, so that letters have one size in all figures but the widest."""
    with Image.open(path) as picture:
        return min(round(picture.width * 120 / DPI), INLINE_WIDTH)


def _inline_png(path):
    """The saved PNG, or its copy INLINE_WIDTH pixels wide where that is smaller, so that notebooks stay small.

    No palette, which would band colour scales; coarse pixels compress better as they are than resampled.
    """
    Image.open(path).verify()  # its checksums, which Pillow passes over while it decodes
    whole, shrunk = path.read_bytes(), resized(path, INLINE_WIDTH)
    with Image.open(path) as picture:
        return min(whole, shrunk, key=len) if picture.width > INLINE_WIDTH else whole


def resized(path, width, colours=None) -> bytes:
    """The picture at `path` as a PNG of another width; in a palette of so many colours, if given."""
    out = io.BytesIO()
    with Image.open(path) as image:
        height = round(image.height * width / image.width)
        picture = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    (picture.quantize(colours) if colours else picture).save(out, format="png", optimize=True)
    return out.getvalue()
