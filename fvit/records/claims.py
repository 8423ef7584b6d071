"""Claims: their words, from claims.toml, and their outcome, on record in a ledger."""

import html
import math
import operator
from dataclasses import dataclass

from fvit.base.checks import as_list, as_number, check_choice, check_text
from fvit.base.paths import PACKAGE, results_dir
from fvit.records import profiles
from fvit.records.ledger import upsert
from fvit.records.templates import check_used, fields, fill, read_words
from fvit.records.words import said
from fvit.theory.intervals import Interval

RELATIONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
LEAST_UNITS = 30  # independent photographs or images, below which a number decides nothing
OUTCOMES = ("HOLDS", "DOES NOT HOLD", "UNDECIDED")
WORDS = ("text", "source", "expected", "note")  # of a claim that a lesson tests
NOT_TESTED = "NOT TESTED"  # of a question: nothing is there to answer it
CLAIM_COLUMNS = ["claim", "profile", "notebook", "status", "text", "value", "ci_low", "ci_high", "n", "n_groups",
                 "relation", "bound", "source", "expected", "note"]
MEASURES, ATTACKS = ("map", "prediction"), ("transferred", "adaptive")
KEPT = {"map": "under a free explanation attack more of the top-k stays",
        "prediction": "more images are right before and after"}


def _asked(row: str, head: dict) -> dict:
    """A head as claims.toml has it; one with a pair of defences with its questions and checks written out."""
    if "pair" in head:
        one, other = map(said, head["pair"])
        parts = {f"{row}.{i}": part for i, part in enumerate(((m, t) for m in MEASURES for t in ATTACKS), 1)}
        head["questions"] = [{"data": data, "threat": threat, "check": check}
                             for data in head["data"] for check, (_, threat) in parts.items()]
        head["checks"] = {check: {"source": head["source"], "rows": ["12_defences"], "asks":
                                  f"{KEPT[of]} behind {one} than behind {other}" + ", each under its own attack" * (
                                      threat == "adaptive")} for check, (of, threat) in parts.items()}
    return head


HEADS = {row: _asked(row, head) for row, head in read_words(PACKAGE / "claims.toml").items()}  # "P1" -> its words
ROWS = {row: head for row, head in HEADS.items() if "questions" in head}  # those of the table
CHECKS = {check: words for head in HEADS.values() for check, words in head["checks"].items()}  # "P1.2" -> its words


class ClaimError(AssertionError):
    """A regression: a claim did not come out as it did before; it is on record all the same."""


def outcome(value: float, ci, relation: str, bound: float) -> str:
    """One of OUTCOMES: the relation holds for the whole interval `ci`, for none of it, or `bound` lies in it.

    ci   (low, high), or None for a value that is exact: then it decides
    """
    if all(RELATIONS[relation](v, bound) for v in ci or (value,)):
        return "HOLDS"
    return "UNDECIDED" if ci and ci[0] <= bound <= ci[1] else "DOES NOT HOLD"


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

    def __post_init__(self):
        who, (low, high) = f"claim {self.claim}", self.ci or (self.value, self.value)
        if math.isnan(self.value) or math.isnan(self.bound):
            raise ValueError(f"{who}: value {self.value}, bound {self.bound}; NaN decides nothing, wanted numbers")
        if not low <= high:
            raise ValueError(f"{who}: interval [{low}, {high}], wanted low <= high, no NaN; one image has no interval")

    @property
    def status(self) -> str:
        return outcome(self.value, self.ci, self.relation, self.bound)

    @property
    def measured(self) -> str:
        interval = f" [{self.ci[0]:.3g}, {self.ci[1]:.3g}]" if self.ci else ""
        size = f", n = {self.n}{f' on {self.n_groups} photographs' if self.n_groups else ''}" if self.n else ""
        return f"{self.value:.3g}{interval}{size}"

    def __repr__(self) -> str:
        short = f"{self.bound:.2f}"
        bound = short if float(short) == self.bound and abs(self.bound) < 1e4 else f"{self.bound:.4g}"
        return f"{self.status} {self.claim}  {self.text} ({self.relation} {bound})"

    def _repr_html_(self) -> str:
        note = f"<br>{html.escape(self.note)}" if self.note else ""
        return (f"<div><b>{self.status}</b> {html.escape(repr(self).removeprefix(f'{self.status} '))}: measured "
                f"<b>{html.escape(self.measured)}</b> <i>({html.escape(self.source)})</i>{note}</div>")


@dataclass(frozen=True)
class Untested:
    """In the place of a claim's value where there is nothing to measure it on: the images have no masks, say."""

    why: str
    what: str = ""

    def __repr__(self) -> str:
        return f"NOT TESTED {self.what}{': ' * bool(self.what)}{self.why}"


def claim(claim_id, value, relation, bound, *, text=None, source=None, ci=None, expected=None, note=None,
          **fill_in) -> Claim | Untested:
    """Test `value relation bound`, put the outcome on record in claims.csv of the current profile, and show it.

    claim_id   one of claims.toml, which holds its text, source, expected verdict and note; or your own, with a text
               and a source ("ours" is one)
    value      a number, or an `intervals.Interval`, which brings its ci, n and n_groups along; `Untested` puts nothing
               on record and is shown with its reason: never at `laptop`, where every claim is tested
    ci         (low, high) of the value; the claim is UNDECIDED where the bound lies between them, see `outcome`
    bound      from theory, or with a margin of several standard errors; the text says which
    expected   one of OUTCOMES, default "HOLDS": what came out before. Another is a regression of the code, no verdict
    fill_in    what the text and the note of claims.toml leave open: eps=8 where they say {eps}

    Raises ClaimError, after recording, if the outcome is not the expected one and the profile is `laptop`; elsewhere
    the run goes on. Raises ValueError for words that lack or do not fit, NaN, an unknown relation, or no profile set.
    """
    if profiles.current is None:
        raise ValueError(f"claim {claim_id} has no profile to be filed under; call cfg = fvit.profile('laptop') first")
    check_choice(relation, RELATIONS, "relation")
    given = {"text": text, "source": source, "expected": expected, "note": note}
    text, source, expected, note = _words(claim_id, {k: v for k, v in given.items() if v is not None}, fill_in)
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
    found = Claim(claim_id, text, value, ci, relation, as_number(bound), source, expected, note, *size)
    run, (low, high) = profiles.current, ci or ("", "")
    row = vars(found) | {"status": found.status, "ci_low": low, "ci_high": high}
    row |= {name: "" for name in ("n", "n_groups") if row[name] is None}
    row |= {"profile": run.name, "notebook": run.notebook}
    upsert(results_dir(run.name) / "claims.csv", row, key=("claim", "profile"), columns=CLAIM_COLUMNS)
    if found.status != expected and profiles.current.name == "laptop":
        raise ClaimError(f"{found!r}: measured {found.measured}, expected {expected}; mend what broke, or the claim")
    return found


def put_on_record(claim_id: str, status: str, text: str, found: Interval | None, relation: str, bound: float,
                  source: str, note: str) -> None:
    """File a verdict in claims.csv of the current profile, as `claim` files a claim. It has no `expected`: what came
    out before is of no matter to it. `found` is None where there is no number.
    """
    run, numbers = profiles.current, dict.fromkeys(("value", "ci_low", "ci_high", "n", "n_groups"), "")
    if found is not None:
        numbers = dict(zip(numbers, (*map(float, found), found.n, found.n_groups), strict=True))
    row = {"claim": claim_id, "profile": run.name, "notebook": run.notebook, "status": status, "text": text,
           **{name: "" if v is None or v != v else v for name, v in numbers.items()}, "relation": relation,
           "bound": float(bound), "source": source, "expected": "", "note": note}
    upsert(results_dir(run.name) / "claims.csv", row, key=("claim", "profile"), columns=CLAIM_COLUMNS)


def _words(claim_id, given, fill_in):
    """Text, source, expected outcome and note: those given, else those of claims.toml, filled in."""
    who = f"claim {check_text(claim_id, 'id of a claim')}"
    kept = {key: words for key, words in CHECKS.get(claim_id, {}).items() if key in WORDS and key not in given}
    if lacking := [key for key in ("text", "source") if key not in kept | given]:
        raise ValueError(f"{who} is not in claims.toml: write it there, or give it a {' and a '.join(lacking)} here")
    check_used(fill_in, fields(*kept.values()), who)
    words = {"expected": "HOLDS", "note": ""} | {key: fill(said, fill_in, who) for key, said in kept.items()} | given
    check_choice(words["expected"], OUTCOMES, "expected outcome")
    for key in ("text", "source", "note"):
        if not (key == "note" and isinstance(words[key], str) and not words[key]):
            check_text(words[key], f"{key} of {who}")
    return [words[key] for key in WORDS]
