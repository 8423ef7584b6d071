"""Verdicts on the paper's claims, from the ledgers of all notebooks, and the tables that say them."""

import html
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fvit.base.paths import PACKAGE
from fvit.records.claims import ROWS
from fvit.records.templates import read_words
from fvit.report.on_record import PROFILES, find_rows, joined
from fvit.theory.intervals import mean_interval

CONTROLS = read_words(PACKAGE / "controls.toml")  # what a number beside a claim means nothing without


def load_claims() -> pd.DataFrame:
    """The ledgers of all profiles, one row for each claim and profile; text throughout, as written.

    Row by row: a run of some notebooks decides their claims anew, and the others stand as the repository has them.
    """
    claims = joined([f"results/{profile}/claims.csv" for profile in PROFILES], ["claim", "profile"])
    return claims.sort_values("profile", key=lambda c: c.map(PROFILES.index), kind="stable", ignore_index=True)


@dataclass(frozen=True)
class Verdict:
    """PASS if every claim whose id begins with the row's passed, at every profile that ran; DIFFERS if one did not."""

    row: str
    claims: pd.DataFrame
    controls: pd.DataFrame | None = None  # those of the row, as of `control_table`

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

    def __repr__(self) -> str:
        return "\n".join(map(repr, self))

    def _repr_html_(self) -> str:
        parts = []
        for verdict in self:
            lines = "".join(_claim_line(claim) for claim in verdict.claims.to_dict("records"))
            lines += "".join(f"<li><i>control</i> ({c.profile} rows): {html.escape(c.control)}: <b>{c.mean:.3g}</b> "
                             f"[{c.low:.3g}, {c.high:.3g}], n = {c.n}</li>"
                             for c in (() if verdict.controls is None else verdict.controls.itertuples()))
            parts.append(f"<h3>{verdict.row} {verdict.status}: {html.escape(ROWS[verdict.row]['text'])}</h3>"
                         f"<p>{verdict.counts}</p><ul>{lines}</ul>")
        return "".join(parts)


def verdicts(claims: pd.DataFrame, controls: pd.DataFrame | None = None) -> Verdicts:
    """A verdict for each of ROWS, from a table as of `load_claims`; `controls`, of `control_table`, stand beside."""
    prefix = claims["claim"].str.split(".").str[0]
    return Verdicts(Verdict(row, claims[prefix == row], None if controls is None else controls[controls["row"] == row])
                    for row in ROWS)


def control_table(photograph: dict[str, str]) -> pd.DataFrame:
    """CONTROLS of ROWS with their numbers: row, control, profile, mean, low, high, n; only what a run has left.

    photograph   image id -> photograph, by which the intervals are clustered
    """
    found = []
    for row, control in [(row, CONTROLS[name]) for row, said in ROWS.items() for name in said.get("controls", ())]:
        rows = find_rows(control["rows"])
        for column, value in control["where"].items() if rows is not None else ():
            rows = rows[np.isclose(rows[column], value) if column == "eps" else rows[column] == value]
        if rows is not None and len(rows):
            mean = mean_interval(rows["value"], groups=rows["image_id"].map(photograph))
            found.append([row, control["text"], rows["profile"].iloc[0], *mean, mean.n])
    return pd.DataFrame(found, columns=["row", "control", "profile", "mean", "low", "high", "n"])


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
