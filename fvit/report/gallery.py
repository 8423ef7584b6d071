"""The gallery of notebook 15: verdicts and tables for print, and every figure on record."""

import base64
import hashlib
import html
import json

import pandas as pd

from fvit.records.claims import ROWS
from fvit.records.words import AIMS, DEFENCES
from fvit.report.on_record import joined
from fvit.report.saving import resized


def cells(table: pd.DataFrame, index, columns) -> pd.DataFrame:
    """A table for print from rows with mean, low, high of shares: "0.81 [0.77, 0.85]" in each cell, intervals within
    [0, 1], "" where nothing was run.

    Defences and aims are said as by `records.words`.
    The space within the interval does not break: in a narrow window it stands whole below the mean.
    """
    shares = table[["mean", "low", "high"]].clip(0, 1)
    said = [f"{m:.2f}" if low != low else f"{m:.2f} [{low:.2f},\N{NO-BREAK SPACE}{high:.2f}]"
            for m, low, high in shares.itertuples(index=False)]
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


def verdict_table(verdicts, claims=None, controls=None) -> str:
    """HTML of `verdicts.Verdicts`: a row a question, its interval drawn against its bound; below, folded in, what
    decides nothing: the checks of lessons (`claims`) and the controls."""
    heads = "".join(f"<th>{head}</th>" for head in ("claim", "on", "verdict", "interval, bound", "measured"))
    lines = [_line(v, first=at == 0 or verdicts[at - 1].row != v.row) for at, v in enumerate(verdicts)]
    rows, deciding = dict.fromkeys(v.row for v in verdicts), {part.check for v in verdicts for part in (v, *v.beside)}
    return (f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
            + "".join(_others(row, deciding, claims, controls) for row in rows))


def _line(verdict, first) -> str:
    claim, known = "", ROWS[verdict.row].get("known")
    if first:
        claim = f"<b>{verdict.row}</b> {html.escape(ROWS[verdict.row]['text'])}"
        claim += f" <i>({html.escape(known)})</i>" if known else ""
    beside = "".join(f"<br><small>beside, {part.status}: {html.escape(part.why)} {part.measured}</small>"
                     for part in verdict.beside)
    cells = (claim, html.escape(verdict.on), f"<b>{verdict.status}</b>", _drawn(verdict),
             f"{html.escape(verdict.why)}{': ' * bool(verdict.measured)}<b>{verdict.measured}</b>, asked for "
             f"{html.escape(verdict.relation)} {verdict.bound:.3g} <i>{html.escape(verdict.made)}</i>{beside}")
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _others(row, deciding, claims, controls) -> str:
    found = []
    if claims is not None:
        mine = claims[claims["claim"].str.split(".").str[0].eq(row) & ~claims["claim"].isin(deciding)]
        found += [_check_line(line) for line in mine.to_dict("records")]
    if controls is not None:
        found += [f"<li><i>control</i> ({c.profile} rows): {html.escape(c.control)}: <b>{c.mean:.3g}</b> "
                  f"[{c.low:.3g}, {c.high:.3g}], n = {c.n}</li>" for c in controls[controls["row"] == row].itertuples()]
    return (f"<details><summary>{row}: {len(found)} more checks and controls, which decide nothing</summary>"
            f"<ul>{''.join(found)}</ul></details>") if found else ""


def _drawn(verdict, width=160, height=14) -> str:
    """The interval as a bar with a dot for the value, against its bound, a rule; "" where there is no number."""
    if verdict.found is None:
        return ""
    value, low, high = verdict.found
    low, high = (value, value) if low != low else (low, high)
    first, last = min(low, verdict.bound), max(high, verdict.bound)
    at = [f"{5 + (width - 10) * (v - first) / ((last - first) or 1):.1f}" for v in (low, value, high, verdict.bound)]
    said = f"{value:.3g}, interval {low:.3g} to {high:.3g}, bound {verdict.bound:.3g}"
    return (f'<svg width="{width}" height="{height}" role="img" aria-label="{said}" stroke="currentColor">'
            f'<line x1="{at[0]}" x2="{at[2]}" y1="7" y2="7" stroke-width="2"/><circle cx="{at[1]}" cy="7" r="3"/>'
            f'<line x1="{at[3]}" x2="{at[3]}" y1="0" y2="14" stroke-dasharray="2"/></svg>')


def _check_line(line):
    note = f" ({html.escape(line['note'])})" if line["note"] else ""
    return (f"<li><b>{line['status']}</b> {line['claim']} ({line['profile']}, notebook {line['notebook']}): "
            f"{html.escape(line['text'])}: <b>{measured(line)}</b>, asked for {html.escape(line['relation'])} "
            f"{_short(line['bound'])}; {html.escape(line['source'])}{note}</li>")


def measured(claim):
    """The number of a ledger's line with interval and size."""
    if not claim["value"]:
        return "a time, see the dated rows"
    interval = f" [{_short(claim['ci_low'])}, {_short(claim['ci_high'])}]" if claim["ci_low"] else ""
    groups = f" on {claim['n_groups']} photographs" if claim["n_groups"] else ""
    return _short(claim["value"]) + interval + (f", n = {claim['n']}{groups}" if claim["n"] else "")


def _short(number: str) -> str:
    return f"{float(number):.3g}"
