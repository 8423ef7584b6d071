"""The gallery of notebook 10: tables for print, and every figure on record."""

import base64
import hashlib
import html
import json

import pandas as pd

from fvit.records.words import AIMS, DEFENCES
from fvit.report.on_record import joined
from fvit.report.saving import resized


def cells(table: pd.DataFrame, index, columns) -> pd.DataFrame:
    """A table for print from rows with mean, low, high: "0.81 [0.77, 0.85]" in each cell, "" where nothing was run.

    Defences and aims are said as by `records.words`.
    The space within the interval does not break: in a narrow window it stands whole below the mean.
    """
    said = [f"{m:.2f}" if low != low else f"{m:.2f} [{low:.2f},\N{NO-BREAK SPACE}{high:.2f}]"
            for m, low, high in table[["mean", "low", "high"]].itertuples(index=False)]
    table = table.assign(cell=said).replace({"defence": DEFENCES, "aim": AIMS})
    wide = table.pivot(index=index, columns=columns, values="cell")
    return wide.fillna("").sort_index(axis=1)  # one head for all columns that share it


def load_manifest() -> pd.DataFrame:
    """Every figure on record, in order of its number, with the folder of its files; joined as by `load_claims`."""
    table = joined(["figures/MANIFEST.csv"], ["figure", "profile"])
    if "rows" not in table:  # of an older fvit
        table["rows"] = ""
    table["rows"] = table["rows"].replace("", None).fillna(table["profile"])
    return table.assign(folder=[row.root / "figures" / row.profile for row in table.itertuples()])


def wrong_digests(manifest: pd.DataFrame) -> list[str]:
    """Figures whose CSV is not the one of the manifest, or is not there."""
    found = {f"{row.profile} {row.figure}": (_file(row, "csv"), row.csv_sha256) for row in manifest.itertuples()}
    return [figure for figure, (path, digest) in found.items()
            if path is None or hashlib.sha256(path.read_bytes()).hexdigest() != digest]


class Figures:
    """All figures as thumbnails with title, caption and claims; as text, their numbers, names and whose rows they show.

    A figure that two profiles drew from the same table stands here once.
    """

    def __init__(self, manifest: pd.DataFrame, width: int = 420):
        self.manifest, self.width = manifest.drop_duplicates(["figure", "csv_sha256"]), width

    def __repr__(self) -> str:
        return "\n".join(f"{row.figure}  {_name(row)} ({row.rows} rows)" for row in self.manifest.itertuples())

    def _repr_html_(self) -> str:
        return "".join(self._figure(row) for row in self.manifest.itertuples())

    def _figure(self, row):
        png, sidecar = _file(row, "png"), _file(row, "json")
        if png is None or sidecar is None:
            return f"<p>{row.figure}: its files are missing; run notebook {row.notebook}</p>"
        said = {key: html.escape(str(value)) for key, value in json.loads(sidecar.read_text(encoding="utf-8")).items()}
        picture = base64.b64encode(resized(png, self.width, colours=128)).decode()
        return (f'<h3>{row.figure} {html.escape(row.title)}</h3><a href="../figures/{row.profile}/{png.name}">'
                f'<img width="{self.width}" alt="{said["alt"]}" src="data:image/png;base64,{picture}"></a>'
                f"<p>{said['caption']} <i>Rows: {row.rows}; notebook {row.notebook}; claims "
                f"{html.escape(row.claim_ids) or 'none'}.</i></p>")


def _name(row):
    """A figure's name in words: titles have numbers, which another machine may round otherwise."""
    path = _file(row, "json")
    return path.stem.partition("_")[2].replace("_", " ") if path else row.title


def _file(row, suffix):
    return next(iter(sorted(row.folder.glob(f"{row.figure}_*.{suffix}"))), None)
