"""What a run found, on disk: the ledger of claims, tidy rows of measurements, and the versions they came from."""

import html
import math
import operator
from dataclasses import dataclass

from fvit.base.checks import as_list, as_number, check_choice, check_text
from fvit.base.paths import results_dir
from fvit.records import profiles
from fvit.records.ledger import upsert
from fvit.theory.intervals import Interval

RELATIONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
CLAIM_COLUMNS = ["claim", "profile", "notebook", "status", "text", "value", "ci_low", "ci_high", "n", "n_groups",
                 "relation", "bound", "source", "expected", "note"]


class ClaimError(AssertionError):
    """A claim did not come out as expected; it is on record all the same."""


@dataclass(frozen=True)
class Claim:
    """One claim as decided. Its text is the same on every machine; the measured number stands in the HTML only."""

    claim: str
    text: str
    value: float
    ci: tuple[float, float] | None
    relation: str
    bound: float
    source: str
    expected: str
    note: str
    n: int | None = None
    n_groups: int | None = None

    @property
    def status(self) -> str:
        """PASS if value and, where given, the whole interval satisfy the relation; DIFFERS if that is not shown."""
        holds = RELATIONS[self.relation]
        return "PASS" if all(holds(v, self.bound) for v in (self.value, *(self.ci or ()))) else "DIFFERS"

    @property
    def measured(self) -> str:
        interval = f" [{self.ci[0]:.3g}, {self.ci[1]:.3g}]" if self.ci else ""
        undecided = bool(self.ci) and self.ci[0] <= self.bound <= self.ci[1]
        size = f", n = {self.n}{f' on {self.n_groups} photographs' if self.n_groups else ''}" if self.n else ""
        return f"{self.value:.3g}{interval}{size}{', the interval holds the bound: undecided' if undecided else ''}"

    def __repr__(self) -> str:
        return f"{self.status} {self.claim}  {self.text} ({self.relation} {_bound_text(self.bound)})"

    def _repr_html_(self) -> str:
        note = f"<br>{html.escape(self.note)}" if self.note else ""
        return (f"<div><b>{self.status}</b> {html.escape(repr(self).split(' ', 1)[1])}: measured "
                f"<b>{html.escape(self.measured)}</b> <i>({html.escape(self.source)})</i>{note}</div>")


@dataclass(frozen=True)
class Untested:
    """In the place of a claim's value where there is nothing to measure it on: the images have no masks, say."""

    why: str
    what: str = ""

    def __repr__(self) -> str:
        return f"NOT TESTED {self.what}{': ' * bool(self.what)}{self.why}"


def claim(claim_id, text, value, relation, bound, *, source, ci=None, expected="PASS", note="") -> Claim | Untested:
    """Test `value relation bound`, put the outcome on record in claims.csv of the current profile, and show it.

    value      a number, or an `intervals.Interval`, which brings its ci, n and n_groups along; `Untested` puts nothing
               on record and is shown with its reason: never at `laptop`, where every claim is tested
    ci         (low, high) of the value. A claim with an interval passes only if the whole interval satisfies the
               relation: a bound inside it would be a verdict by luck. DIFFERS then means "not shown".
    bound      from theory, or with a margin of several standard errors; the text says which
    expected   "DIFFERS" for a claim known not to hold; that it suddenly holds is then the surprise

    Raises ClaimError, after recording, if the outcome is not the expected one and the profile is `laptop`; elsewhere
    the run goes on. Raises ValueError for NaN, an unknown relation, or if no profile is set.
    """
    if profiles.current is None:
        raise ValueError(f"claim {claim_id} has no profile to be filed under; call cfg = fvit.profile('laptop') first")
    check_choice(relation, RELATIONS, "relation")
    check_choice(expected, ("PASS", "DIFFERS"), "expected verdict")
    for word, words in {"id": claim_id, "text": text, "source": source}.items():
        check_text(words, f"claim {claim_id!r} needs an id, a text and a source ('ours' is one): its {word}")
    note = "" if isinstance(note, str) and not note else check_text(note, f"note of claim {claim_id}")
    if isinstance(value, Untested):
        if profiles.current.name == "laptop":
            raise ClaimError(f"{claim_id} {text}: not tested, {value.why}; wanted a value, as all have at laptop")
        return Untested(value.why, f"{claim_id}  {text}")
    size = (value.n, value.n_groups) if isinstance(value, Interval) else (None, None)
    ci = value[1:] if isinstance(value, Interval) and ci is None else ci
    value = as_number(value[0] if isinstance(value, Interval) else value)
    if ci is not None:
        if len(as_list(ci) or ()) != 2:
            raise ValueError(f"claim {claim_id}: ci={ci!r}, wanted (low, high)")
        ci = tuple(map(as_number, as_list(ci)))
    outcome = Claim(claim_id, text, value, ci, relation, as_number(bound), source, expected, note, *size)
    _check_numbers(outcome)
    _record(outcome)
    if outcome.status != expected and profiles.current.name == "laptop":
        raise ClaimError(f"{outcome!r}: measured {outcome.measured}, wanted {expected}; mend what broke, or the claim")
    return outcome


def _check_numbers(outcome):
    who, (low, high) = f"claim {outcome.claim}", outcome.ci or (outcome.value, outcome.value)
    if math.isnan(outcome.value) or math.isnan(outcome.bound):
        raise ValueError(f"{who}: value {outcome.value}, bound {outcome.bound}; NaN decides nothing, wanted numbers")
    if not low <= high:
        raise ValueError(f"{who}: interval [{low}, {high}], wanted low <= high, no NaN; one image has no interval")


def _record(outcome):
    run, (low, high) = profiles.current, outcome.ci or ("", "")
    row = vars(outcome) | {"status": outcome.status, "ci_low": low, "ci_high": high}
    row |= {name: "" for name in ("n", "n_groups") if row[name] is None}
    row |= {"profile": run.name, "notebook": run.notebook}
    upsert(results_dir(run.name) / "claims.csv", row, key=("claim", "profile"), columns=CLAIM_COLUMNS)


def _bound_text(bound):
    return f"{bound:.2f}" if float(f"{bound:.2f}") == bound and abs(bound) < 1e4 else f"{bound:.4g}"
