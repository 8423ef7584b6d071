"""Verdicts on the paper's claims, from the ledgers of all notebooks, and the tables that say them."""

import html
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fvit.base.paths import PACKAGE
from fvit.records.claims import ROWS, outcome
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


LEAST_UNITS = 30  # independent photographs or images, below which a mean decides nothing


@dataclass(frozen=True)
class Verdict:
    """The answer to a question: a claim of ROWS, on some data, under some threat; one check on record decides it."""

    row: str
    data: str
    threat: str
    check: dict | None = None  # the check's line in the ledger of the largest profile that has it
    others: pd.DataFrame | None = None  # lines of the row's other checks, which decide nothing
    controls: pd.DataFrame | None = None  # those of the row, as of `control_table`

    @property
    def units(self) -> int | None:
        """Independent units that the check rests on; None for what is computed and not sampled."""
        said = self.check and (self.check["n_groups"] or self.check["n"])
        return int(said) if said else None

    @property
    def status(self) -> str:
        """One of `claims.OUTCOMES`, anew from the numbers on record; UNDECIDED below LEAST_UNITS; or NOT TESTED."""
        if self.check is None:
            return "NOT TESTED"
        if self.units is not None and self.units < LEAST_UNITS:
            return "UNDECIDED"
        return recomputed(self.check)

    @property
    def asked(self) -> str:
        return f"{ROWS[self.row]['text']} ({self.data}{'' if self.threat == 'none' else f', {self.threat}'})"

    @property
    def why(self) -> str:
        """The check and its number; for few units, how many."""
        if self.check is None:
            return "no run of it is on record"
        few = self.units is not None and self.units < LEAST_UNITS
        few = f"; {self.units} independent units, wanted {LEAST_UNITS}" if few else ""
        return f"{self.check['claim']} {self.check['text']}{few}"

    def __repr__(self) -> str:
        return f"{self.row:<3} {self.status:<13} {self.asked}: {self.why}"


def recomputed(line: dict) -> str:
    """The outcome of a ledger's line, from its value, interval, relation and bound."""
    if not line["value"]:  # a time, which is of one machine
        return line["status"]
    ci = (float(line["ci_low"]), float(line["ci_high"])) if line["ci_low"] else None
    return outcome(float(line["value"]), ci, line["relation"], float(line["bound"]))


class Verdicts(list):
    """The table of claims, a line a question: text without measured numbers, HTML with all, their controls beside."""

    def __repr__(self) -> str:
        return "\n".join(map(repr, self))

    def _repr_html_(self) -> str:
        parts = []
        for row, said in ROWS.items():
            asked = [verdict for verdict in self if verdict.row == row]
            parts += [f"<h3>{row}: {html.escape(said['text'])}</h3>", *map(_question, asked)]
            if asked:
                lines = [_check_line(line) for line in asked[0].others.to_dict("records")]
                lines += [f"<li><i>control</i> ({c.profile} rows): {html.escape(c.control)}: <b>{c.mean:.3g}</b> "
                          f"[{c.low:.3g}, {c.high:.3g}], n = {c.n}</li>"
                          for c in (() if asked[0].controls is None else asked[0].controls.itertuples())]
                parts.append(f"<details><summary>{len(lines)} more checks and controls, which decide nothing</summary>"
                             f"<ul>{''.join(lines)}</ul></details>")
        return "".join(parts)


def verdicts(claims: pd.DataFrame, controls: pd.DataFrame | None = None) -> Verdicts:
    """A verdict for each question of ROWS, from a table as of `load_claims`; `controls`, of `control_table`, beside."""
    found = []
    for row, said in ROWS.items():
        lines = claims[claims["claim"].str.split(".").str[0] == row]
        deciding = {question["check"] for question in said["questions"]}
        for question in said["questions"]:
            own = lines[lines["claim"] == question["check"]].to_dict("records")
            found.append(Verdict(row, question["data"], question["threat"], own[-1] if own else None,
                                 lines[~lines["claim"].isin(deciding)],
                                 None if controls is None else controls[controls["row"] == row]))
    return Verdicts(found)


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


def _question(verdict) -> str:
    drawn = "" if verdict.check is None else f" {_drawn(verdict.check)} {measured(verdict.check)}"
    where = verdict.data + ("" if verdict.threat == "none" else f", {verdict.threat}")
    return f"<p><b>{verdict.status}</b> {html.escape(where)}: {html.escape(verdict.why)}{drawn}</p>"


def _drawn(line, width=160, height=14) -> str:
    """The interval as a bar with a dot for the value, against its bound, a rule; "" where there is no interval."""
    if not line["ci_low"]:
        return ""
    low, value, high, bound = (float(line[name]) for name in ("ci_low", "value", "ci_high", "bound"))
    first, last = min(low, bound), max(high, bound)
    at = [f"{5 + (width - 10) * (v - first) / ((last - first) or 1):.1f}" for v in (low, value, high, bound)]
    said = f"{_short(line['value'])}, interval {_short(line['ci_low'])} to {_short(line['ci_high'])}, bound {bound:.3g}"
    return (f'<svg width="{width}" height="{height}" role="img" aria-label="{said}" stroke="currentColor">'
            f'<line x1="{at[0]}" x2="{at[2]}" y1="7" y2="7" stroke-width="2"/><circle cx="{at[1]}" cy="7" r="3"/>'
            f'<line x1="{at[3]}" x2="{at[3]}" y1="0" y2="14" stroke-dasharray="2"/></svg>')


def _check_line(line):
    note = f" ({html.escape(line['note'])})" if line["note"] else ""
    return (f"<li><b>{line['status']}</b> {line['claim']} ({line['profile']}, notebook {line['notebook']}): "
            f"{html.escape(line['text'])}: <b>{measured(line)}</b>, asked for {html.escape(line['relation'])} "
            f"{_short(line['bound'])}; {html.escape(line['source'])}{note}</li>")


def measured(claim):
    if not claim["value"]:
        return "a time, see the dated rows"
    interval = f" [{_short(claim['ci_low'])}, {_short(claim['ci_high'])}]" if claim["ci_low"] else ""
    groups = f" on {claim['n_groups']} photographs" if claim["n_groups"] else ""
    return _short(claim["value"]) + interval + (f", n = {claim['n']}{groups}" if claim["n"] else "")


def _short(number: str) -> str:
    return f"{float(number):.3g}"
