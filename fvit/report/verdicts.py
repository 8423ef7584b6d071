"""Verdicts on the paper's claims, from the ledgers of all notebooks, and the tables that say them."""

import html
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fvit.base.paths import ROOT, output_root
from fvit.records.claims import ROWS
from fvit.report.on_record import PROFILES, _joined, find_rows
from fvit.theory.intervals import mean_interval

STABILITY = [  # what a score of stability means nothing without
    ("a constant map (mean of the training set): overlap under any attack", "05_overlap", {
        "defence": "constant_map", "aim": "explanation"}),
    ("... and its overlap with the bare map (fidelity)", "05_overlap", {
        "defence": "constant_map", "metric": "fidelity"}),
    ("DDS met by fresh noise instead of an attack: the ceiling", "05_overlap", {
        "defence": "dds", "aim": "fresh_noise"}),
    ("DDS's clean map and the bare one (fidelity)", "05_overlap", {"defence": "dds", "metric": "fidelity"}),
]
CONTROLS = {  # row of the table of claims -> controls beside it: what, stem of the rows, columns that pick them
    "P1": [("random signs of the same size: overlap of raw attention", "01_overlap", {
        "method": "raw_attention", "aim": "random_signs", "eps": 8 / 255})],
    "P4": [("denoising without noise, attack made through it: right after it", "08_controls", {
        "made_on": "denoise_only", "eps": 8 / 255, "metric": "right"}),
           ("DDS met by fresh noise instead of an attack: right", "08_scores", {
        "aim": "fresh_noise", "metric": "right"})],
    "P5": STABILITY,
    "P6": [STABILITY[1], STABILITY[3]],
    "P7": STABILITY,
    "R1": [*STABILITY[:2], *((f"{method} with DDS met by fresh noise: the ceiling", "07_scores", {
        "aim": "fresh_noise", "metric": "topk_overlap", "method": method})
        for method in ("raw_attention", "vta", "lrp"))],
}


def load_claims() -> pd.DataFrame:
    """The ledgers of all profiles, one row for each claim and profile; text throughout, as written.

    Row by row: a run of some notebooks decides their claims anew, and the others stand as the repository has them.
    """
    tables = [_joined(f"results/{profile}/claims.csv", ["claim", "profile"]) for profile in PROFILES]
    tables = [table for table in tables if table is not None]
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

    @property
    def differing(self) -> list[str]:
        """Id, profile and text of each claim that did not pass."""
        found = self.claims[self.claims["status"] != "PASS"]
        return [f"{claim.claim}, {claim.profile}: {claim.text}" for claim in found.itertuples()]

    def __repr__(self) -> str:
        head = f"{self.row}  {self.status:<10} {ROWS[self.row]['text']} ({self.counts})"
        return "\n".join([head, *(f"      differs {line}" for line in self.differing)])


class Verdicts(list):
    """The table of claims: text with the verdicts alone, HTML with every number, interval and n behind them."""

    controls: pd.DataFrame | None = None  # as of `control_table`

    def __repr__(self) -> str:
        return "\n".join(map(repr, self))

    def _repr_html_(self) -> str:
        parts = []
        for verdict in self:
            lines = "".join(_claim_line(claim) for claim in verdict.claims.to_dict("records"))
            beside = [] if self.controls is None else self.controls[self.controls["row"] == verdict.row].itertuples()
            lines += "".join(f"<li><i>control</i> ({c.profile} rows): {html.escape(c.control)}: {_interval(c)}</li>"
                             for c in beside)
            parts.append(f"<h3>{verdict.row} {verdict.status}: {html.escape(ROWS[verdict.row]['text'])}</h3>"
                         f"<p>{verdict.counts}</p><ul>{lines}</ul>")
        return "".join(parts)


def verdicts(claims: pd.DataFrame, controls: pd.DataFrame | None = None) -> Verdicts:
    """A verdict for each of ROWS, from a table as of `load_claims`; `controls`, of `control_table`, stand beside."""
    prefix = claims["claim"].str.split(".").str[0]
    table = Verdicts(Verdict(row, claims[prefix == row]) for row in ROWS)
    table.controls = controls
    return table


def control_table(photograph: dict[str, str]) -> pd.DataFrame:
    """CONTROLS with their numbers: row, control, profile, mean, low, high, n; rows that no run has left are left out.

    photograph   image id -> photograph, by which the intervals are clustered
    """
    found = []
    for row, wanted in CONTROLS.items():
        for control, stem, picks in wanted:
            rows = find_rows(stem)
            if rows is None:
                continue
            for column, value in picks.items():
                rows = rows[np.isclose(rows[column], value) if column == "eps" else rows[column] == value]
            if len(rows):
                mean = mean_interval(rows["value"], groups=rows["image_id"].map(photograph))
                found.append([row, control, rows["profile"].iloc[0], *mean, mean.n])
    return pd.DataFrame(found, columns=["row", "control", "profile", "mean", "low", "high", "n"])


def _interval(c):
    return f"<b>{c.mean:.3g}</b> [{c.low:.3g}, {c.high:.3g}], n = {c.n}"


def _claim_line(claim):
    note = f" ({html.escape(claim['note'])})" if claim["note"] else ""
    return (f"<li><b>{claim['status']}</b> {claim['claim']} ({claim['profile']}, notebook {claim['notebook']}): "
            f"{html.escape(claim['text'])}: <b>{measured(claim)}</b>, asked for {html.escape(claim['relation'])} "
            f"{_short(claim['bound'])}; {html.escape(claim['source'])}{note}</li>")


def measured(claim):
    if not claim["value"]:
        return "a time, see the dated rows"
    interval = f" [{_short(claim['ci_low'])}, {_short(claim['ci_high'])}]" if claim["ci_low"] else ""
    groups = f" on {claim['n_groups']} photographs" if claim["n_groups"] else ""
    return _short(claim["value"]) + interval + (f", n = {claim['n']}{groups}" if claim["n"] else "")


def _short(number: str) -> str:
    return f"{float(number):.3g}"
