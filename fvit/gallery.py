"""What all notebooks found, from files only: verdicts on the paper's claims, tables for print, figures by number."""

import base64
import hashlib
import html
import io
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image

from fvit.paths import ROOT, output_root

ROWS = {  # the claims, by the prefix of the ids of the `fvit.claim` lines that decide them
    "P1": "The attention of a ViT is fragile: slight perturbations move its focal points",
    "P2": "A ViT with DDS is a faithful ViT once sigma is large enough, l2 and l_inf",
    "P3": "Gaussian noise is nearly optimal, l2 and l_inf",
    "P4": "Predictions with DDS are more robust against attack, transferred and adaptive",
    "P5": "... and so are explanations, transferred and adaptive",
    "P6": "... while the explainability of attention stays (clean scores)",
    "P7": "Both parts matter: without noise or without the denoiser it is worse",
    "R1": "DDS makes any explanation method more robust",
    "R2": "DDS costs many times a forward pass; what ours costs",
    "O1": "(ours) the fully pooled closed form over-claims",
    "O2": "(ours) sharp and vote certificates reach several times the Renyi radius",
    "O3": "(ours) the reference code tells its denoiser a t some thirty times too late",
}
PROFILES = ("laptop", "study", "paper")


def find(name: str) -> Path:
    """The file `name` of the current output folder, or where that has none the repository's own."""
    path = output_root() / name
    return path if path.exists() else ROOT / name


def load_claims() -> pd.DataFrame:
    """The ledgers of all profiles, one row for each claim and profile; text throughout, as written."""
    found = [find(f"results/{profile}/claims.csv") for profile in PROFILES]
    tables = [pd.read_csv(path, dtype=str, keep_default_na=False) for path in found if path.exists()]
    if not tables:
        raise FileNotFoundError(f"no claims.csv under {output_root()} or {ROOT}; run `fvit run all` first")
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class Verdict:
    """PASS if every claim whose id begins with the row's passed, at every profile that ran; DIFFERS if one did not."""

    row: str
    claims: pd.DataFrame

    @property
    def status(self) -> str:
        if self.claims.empty:
            return "NOT TESTED"
        return "PASS" if (self.claims["status"] == "PASS").all() else "DIFFERS"

    @property
    def counts(self) -> str:
        n = self.claims["status"].value_counts()
        return ", ".join(f"{n[status]} {status}" for status in ("PASS", "DIFFERS") if status in n) or "no run"

    def __repr__(self) -> str:
        return f"{self.row}  {self.status:<10} {ROWS[self.row]} ({self.counts})"


class Verdicts(list):
    """The table of claims: text with the verdicts alone, HTML with every number, interval and n behind them."""

    def __repr__(self) -> str:
        return "\n".join(map(repr, self))

    def _repr_html_(self) -> str:
        parts = []
        for verdict in self:
            lines = "".join(_claim_line(claim) for claim in verdict.claims.to_dict("records"))
            parts.append(f"<h4>{verdict.row} {verdict.status}: {html.escape(ROWS[verdict.row])}</h4>"
                         f"<p>{verdict.counts}</p><ul>{lines}</ul>")
        return "".join(parts)


def verdicts(claims: pd.DataFrame) -> Verdicts:
    """A verdict for each of ROWS, from a table as of `load_claims`."""
    prefix = claims["claim"].str.split(".").str[0]
    return Verdicts(Verdict(row, claims[prefix == row]) for row in ROWS)


def _claim_line(claim):
    measured = f"{_short(claim['value'])}" if claim["value"] else "a time, see the dated rows"
    if claim["ci_low"]:
        measured += f" [{_short(claim['ci_low'])}, {_short(claim['ci_high'])}]"
    note = f" ({html.escape(claim['note'])})" if claim["note"] else ""
    return (f"<li><b>{claim['status']}</b> {claim['claim']} ({claim['profile']}, notebook {claim['notebook']}): "
            f"{html.escape(claim['text'])}: <b>{measured}</b>, asked for {html.escape(claim['relation'])} "
            f"{_short(claim['bound'])}; {html.escape(claim['source'])}{note}</li>")


def _short(number: str) -> str:
    return f"{float(number):.3g}"


def cells(table: pd.DataFrame, index, columns) -> pd.DataFrame:
    """A table for print from rows with mean, low, high: "0.81 [0.77, 0.85]" in each cell, "" where nothing was run."""
    said = [f"{m:.2f}" if low != low else f"{m:.2f} [{low:.2f}, {high:.2f}]"
            for m, low, high in table[["mean", "low", "high"]].itertuples(index=False)]
    return table.assign(cell=said).pivot(index=index, columns=columns, values="cell").fillna("")


# Figures -----------------------------------------------------------------------------------------------------------


def load_manifest() -> pd.DataFrame:
    """Every figure on record, in order of its number, with the folder of its files."""
    path = find("figures/MANIFEST.csv")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return table.assign(folder=[path.parent / profile for profile in table["profile"]])


def wrong_digests(manifest: pd.DataFrame) -> list[str]:
    """Figures whose CSV is not the one of the manifest, or is not there."""
    wrong = []
    for row in manifest.itertuples():
        path = _file(row, "csv")
        if path is None or hashlib.sha256(path.read_bytes()).hexdigest() != row.csv_sha256:
            wrong.append(f"{row.profile} {row.figure}")
    return wrong


class Figures:
    """All figures as thumbnails with title, caption and claims; as text, their numbers and titles."""

    def __init__(self, manifest: pd.DataFrame, width: int = 420):
        self.manifest, self.width = manifest, width

    def __repr__(self) -> str:
        return "\n".join(f"{row.figure}  {row.title} ({row.profile})" for row in self.manifest.itertuples())

    def _repr_html_(self) -> str:
        return "".join(self._figure(row) for row in self.manifest.itertuples())

    def _figure(self, row):
        png, sidecar = _file(row, "png"), _file(row, "json")
        if png is None or sidecar is None:
            return f"<p>{row.figure}: its files are missing; run notebook {row.notebook}</p>"
        said = {key: html.escape(str(value)) for key, value in json.loads(sidecar.read_text(encoding="utf-8")).items()}
        picture = base64.b64encode(_thumbnail(png, self.width)).decode()
        link = f"../figures/{row.profile}/{png.name}"
        decides = html.escape(row.claim_ids) or "none"
        return (f'<h4>{row.figure} {html.escape(row.title)}</h4><a href="{link}"><img width="{self.width}" '
                f'alt="{said["alt"]}" src="data:image/png;base64,{picture}"></a><p>{said["caption"]} '
                f"<i>Rows: {row.profile}; notebook {row.notebook}; claims {decides}.</i></p>")


def _file(row, suffix):
    return next(iter(sorted(row.folder.glob(f"{row.figure}_*.{suffix}"))), None)


def _thumbnail(path, width):
    out = io.BytesIO()
    with Image.open(path) as image:
        image = image.convert("RGB").resize((width, round(image.height * width / image.width)), Image.LANCZOS)
        image.quantize(128).save(out, "PNG", optimize=True)
    return out.getvalue()
