"""Verdicts on the claims: each question answered from the rows of its data, and the table that says so."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fvit.base.paths import PACKAGE
from fvit.records.claims import CHECKS, LEAST_UNITS, NOT_TESTED, ROWS, outcome, put_on_record
from fvit.records.provenance import runs_of, runs_said
from fvit.records.templates import read_words
from fvit.report.answers import NoRows, answer, with_photographs
from fvit.report.gallery import verdict_table
from fvit.report.on_record import PROFILES, find_rows, joined, outdated, runs
from fvit.theory.intervals import Interval, mean_interval

CONTROLS = read_words(PACKAGE / "controls.toml")  # what a number beside a claim means nothing without


def load_claims() -> pd.DataFrame:
    """The ledgers of all profiles, one row for each claim and profile; text throughout, as written.

    Row by row: a run of some notebooks decides their claims anew, and the others stand as the repository has them.
    """
    claims = joined([f"results/{profile}/claims.csv" for profile in PROFILES], ["claim", "profile"])
    return claims.sort_values("profile", key=lambda c: c.map(PROFILES.index), kind="stable", ignore_index=True)


@dataclass(frozen=True)
class Verdict:
    """The answer to a question: a claim of ROWS, on some data, under some threat; one check decides it."""

    row: str
    data: str
    threat: str
    check: str
    asks: str  # what is compared with what
    found: Interval | None = None  # the number that decides; None: nothing answers the question
    relation: str = ">"
    bound: float = 0.0
    made: str = ""  # which rows it is of, and which code of which day made them; of a ledger's line the profile
    lacks: str = ""  # why nothing answers it
    decided: str = ""  # of a time, which is of one machine and not in the ledger: what was decided then
    notebook: str = ""  # that tests it
    beside: tuple["Verdict", ...] = ()  # other checks, printed with it, which decide nothing

    @property
    def units(self) -> int | None:
        """Independent units that the number rests on; None for what is computed and not sampled."""
        return None if self.found is None else self.found.n_groups or self.found.n

    @property
    def status(self) -> str:
        """One of `claims.OUTCOMES`; UNDECIDED on fewer than LEAST_UNITS; NOT TESTED where there is no number."""
        if self.found is None:
            return self.decided or NOT_TESTED
        if self.units is not None and self.units < LEAST_UNITS:
            return "UNDECIDED"
        value, low, high = self.found
        return outcome(value, None if low != low else (low, high), self.relation, self.bound)

    @property
    def id(self) -> str:
        """Its name in the ledger: "P5 cifar10 adaptive, P5.2"."""
        return f"{self.row} {self.data} {self.threat}, {self.check}"

    @property
    def on(self) -> str:
        """Data and threat in words: "scenes, adaptive"."""
        return self.data + ("" if self.threat == "none" else f", {self.threat}")

    @property
    def why(self) -> str:
        """What is compared; for few units, how many; for no answer, what lacks."""
        few = self.units is not None and self.units < LEAST_UNITS
        return (f"{self.check} {self.asks}" + f"; {self.units} independent units, wanted {LEAST_UNITS}" * few
                + f"; {self.lacks}" * bool(self.lacks))

    @property
    def measured(self) -> str:
        """The number with interval and size: "0.467 [0.444, 0.488], n = 200 on 42 photographs"."""
        if self.found is None:
            return "a time, see the dated rows" if self.decided else ""
        (value, low, high), n = self.found, self.found.n
        interval = "" if low != low else f" [{low:.3g}, {high:.3g}]"
        groups = f" on {self.found.n_groups} photographs" if self.found.n_groups else ""
        return f"{value:.3g}{interval}" + (f", n = {n}{groups}" if n else "")

    def __repr__(self) -> str:
        return f"{self.row:<3} {self.status:<13} {self.on}: {self.why}"


class Verdicts(list):
    """The table of claims, a line a question: text without measured numbers; HTML with all, and all else beside."""

    def __init__(self, found=(), claims=None, controls=None):
        super().__init__(found)
        self.claims, self.controls = claims, controls

    def of(self, check: str, data: str = "scenes") -> Verdict | None:
        """The verdict that a check decides, or that stands beside one; None if it is not in the table."""
        every = [part for verdict in self for part in (verdict, *verdict.beside)]
        return next((v for v in every if (v.check, v.data) == (check, data)), None)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self))

    def _repr_html_(self) -> str:
        return verdict_table(self, self.claims, self.controls)

    def record(self) -> "Verdicts":
        """Put every verdict into the ledger of the current profile; returns them."""
        for v in self:
            put_on_record(v.id, v.status, v.asks, v.found, v.relation, v.bound, v.made or v.lacks, v.why)
        return self


def verdicts(claims: pd.DataFrame, controls: pd.DataFrame | None = None, rows=tuple(ROWS)) -> Verdicts:
    """A verdict for each question of ROWS, anew from the rows on record, or where none are asked for from the ledger.

    claims     a table as of `load_claims`: computed numbers (theorems, times), of which the largest profile decides,
               and the checks that decide nothing
    controls   as of `control_table`, shown beside
    rows       which claims, by their names in ROWS
    """
    known, found = {}, []
    for row in rows:
        for question in ROWS[row]["questions"]:
            data, threat = question["data"], question["threat"]
            asked, *others = ((row, data, threat, check) for check in (question["check"], *question.get("beside", ())))
            beside = tuple(_verdict(*about, claims, known) for about in others)
            found.append(_verdict(*asked, claims, known, beside))
    return Verdicts(found, claims, controls)


def _verdict(row, data, threat, check, claims, known, beside=()) -> Verdict:
    words = CHECKS[check]
    about = dict(row=row, data=data, threat=threat, check=check, beside=beside,
                 notebook=words.get("notebook", ROWS[row]["notebooks"][0]))
    if "rows" in words:
        found, made, lacks = _from_rows(check, data, known)
        return Verdict(asks=words["asks"], found=found, relation=words.get("relation", ">"), made=made, lacks=lacks,
                       bound=float(words.get("bound", 0)), **about)
    lines = claims[claims["claim"] == check].to_dict("records")
    if not lines:
        return Verdict(asks=words["text"], lacks="no run of it is on record", **about)
    line, number = lines[-1], None
    if line["value"]:
        ends = [float(line[end]) if line[end] else np.nan for end in ("ci_low", "ci_high")]
        number = Interval(float(line["value"]), *ends, *(int(line[n]) if line[n] else None for n in ("n", "n_groups")))
    return Verdict(asks=line["text"], found=number, relation=line["relation"], bound=float(line["bound"]),
                   made=line["profile"], decided="" if line["value"] else line["status"], **about)


def _from_rows(check, data, known):
    """(number, rows and run in words, what lacks) of a check from that of its tables that answers it with most images,
    the first of those.

    known   (data, table) -> rows and run in words; filled here, so that each table is read once
    """
    lacks, found = [], []
    for stem in CHECKS[check]["rows"]:
        if (data, stem) not in known:
            known[data, stem] = rows_of(data, stem)
        rows, made, missing = known[data, stem]
        if missing:
            lacks.append(missing)
            continue
        try:
            found.append((answer(check, rows), made, ""))
        except NoRows as error:
            lacks.append(f"{stem}: {error}")
    return max(found, key=lambda answered: answered[0].n or 0, default=(None, "", "; ".join(lacks)))


def rows_of(data: str, stem: str) -> tuple[pd.DataFrame | None, str, str]:
    """(rows with photographs, table and run in words, what lacks) of a data set's table. No rows, and the reason, where
    they do not say which run made them, or where that run was of other models or images than ship now.
    """
    folder = "study" if data == "scenes" else data
    rows = find_rows(stem, [folder], stale=True)
    if rows is None:
        return None, "", f"{stem}: no rows of {data} are on record"
    if why := outdated(rows, folder):
        return None, "", f"{stem}: {why}"
    return with_photographs(rows), f"{stem}, {folder} rows of {runs_said(runs_of(rows, runs(folder)))}", ""


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
            shares = np.clip(mean, 0, 1)  # all controls are shares
            found.append([row, control["text"], rows["profile"].iloc[0], *shares, mean.n])
    return pd.DataFrame(found, columns=["row", "control", "profile", "mean", "low", "high", "n"])
