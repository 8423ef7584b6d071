"""The ledger of claims, and provenance."""

import ast
import csv
import json
import re
from string import Formatter

import numpy as np
import pytest

from fvit.base import paths
from fvit.records import claims, profiles, provenance, templates
from fvit.records.claims import ClaimError, claim
from fvit.records.ledger import read_table, upsert
from fvit.theory.intervals import Interval

NO = "DOES NOT HOLD"


@pytest.fixture(autouse=True)
def laptop(tmp_path, monkeypatch):
    monkeypatch.setenv("FVIT_OUT", str(tmp_path))
    monkeypatch.setattr(profiles, "current", None)
    profiles.profile("laptop", notebook="01")


def ledger(profile="laptop"):
    with open(paths.results_dir(profile) / "claims.csv", newline="", encoding="utf-8") as file:
        return {row["claim"]: row for row in csv.DictReader(file)}


def pass_claim(**changes):
    arguments = {"value": 0.41234567, "relation": "<", "bound": 0.8, "source": "Hu et al. 2024"} | changes
    return claim("P1.2", text="PGD at 8/255 moves raw attention", **arguments)


def test_the_text_holds_no_measured_number_and_page_and_row_hold_them_all():
    outcome = pass_claim(ci=(0.35, 0.47), note="few photographs, so wide")
    assert repr(outcome) == "HOLDS P1.2  PGD at 8/255 moves raw attention (< 0.80)"
    page = outcome._repr_html_()
    assert "0.412 [0.35, 0.47]" in page and "Hu et al. 2024" in page and "(&lt; 0.80)" in page
    assert ledger()["P1.2"] == {
        "claim": "P1.2", "profile": "laptop", "notebook": "01", "status": "HOLDS",
        "text": "PGD at 8/255 moves raw attention", "value": "0.412346", "ci_low": "0.35", "ci_high": "0.47",
        "n": "", "n_groups": "", "relation": "<", "bound": "0.8", "source": "Hu et al. 2024", "expected": "HOLDS",
        "note": "few photographs, so wide",
    }


def test_an_interval_brings_its_n_along():
    outcome = pass_claim(value=Interval(0.41, 0.35, 0.47, 64, 5))
    assert "0.41 [0.35, 0.47], n = 64 on 5 photographs" in outcome._repr_html_() and "64" not in repr(outcome)
    columns = "value", "ci_low", "ci_high", "n", "n_groups"
    assert [ledger()["P1.2"][c] for c in columns] == ["0.41", "0.35", "0.47", "64", "5"]
    with pytest.raises(ClaimError, match="UNDECIDED"):  # the whole interval decides
        pass_claim(value=Interval(0.41, 0.35, 0.87, 64))
    assert (ledger()["P1.2"]["n"], ledger()["P1.2"]["n_groups"]) == ("64", "")


@pytest.mark.parametrize("relation, below, equal, above", [
    ("<", "HOLDS", NO, NO), ("<=", "HOLDS", "HOLDS", NO), (">", NO, NO, "HOLDS"), (">=", NO, "HOLDS", "HOLDS"),
])
def test_every_relation(relation, below, equal, above):
    profiles.profile("study")  # where a false claim does not raise
    assert [pass_claim(value=v, relation=relation).status for v in (0.7, 0.8, 0.9)] == [below, equal, above]


@pytest.mark.parametrize("ci, status", [
    ((0.6, 0.79), "HOLDS"), ((0.6, 0.81), "UNDECIDED"), ((0.7, 0.8), "UNDECIDED"), ((0.82, 0.9), NO),
])
def test_a_claim_with_an_interval_needs_all_of_it(ci, status):
    profiles.profile("study")
    found = pass_claim(value=0.7 if ci[0] < 0.8 else 0.85, ci=ci)
    assert found.status == status and repr(found).startswith(f"{status} P1.2")
    assert found._repr_html_().startswith(f"<div><b>{status}</b> P1.2")


def test_a_false_claim_raises_at_laptop_and_is_on_record_first():
    with pytest.raises(ClaimError, match=r"DOES NOT HOLD P1\.2 .*measured 0\.9, expected HOLDS; mend what broke"):
        pass_claim(value=0.9)
    assert issubclass(ClaimError, AssertionError)
    assert ledger()["P1.2"]["status"] == NO


@pytest.mark.parametrize("profile", ["study", "paper"])
def test_elsewhere_a_false_claim_is_recorded_and_the_run_goes_on(profile):
    profiles.profile(profile, notebook="09")
    assert repr(pass_claim(value=0.9)).startswith("DOES NOT HOLD P1.2  ")
    row = ledger(profile)["P1.2"]
    assert (row["status"], row["expected"], row["notebook"]) == (NO, "HOLDS", "09")
    assert not (paths.results_dir("laptop") / "claims.csv").exists()


def test_a_claim_known_not_to_hold_fails_when_it_suddenly_holds():
    outcome = pass_claim(value=0.9, expected=NO)
    assert repr(outcome) == "DOES NOT HOLD P1.2  PGD at 8/255 moves raw attention (< 0.80)"
    with pytest.raises(ClaimError, match=r"measured 0\.5, expected DOES NOT HOLD"):
        pass_claim(value=0.5, expected=NO)
    assert (ledger()["P1.2"]["status"], ledger()["P1.2"]["expected"]) == ("HOLDS", NO)


def test_a_rerun_changes_no_byte_and_order_does_not_matter():
    path, written = paths.results_dir("laptop") / "claims.csv", []
    for order in (("P1.10", "P1.2", "O1"), ("O1", "P1.2", "P1.10")):
        for claim_id in order:
            claim(claim_id, 1.0, ">", 0, text="text, with a comma\nand a line", source="ours")
        written.append(path.read_bytes())
    assert written[0] == written[1] and list(ledger()) == ["O1", "P1.2", "P1.10"]


@pytest.mark.parametrize("bound, text", [
    (0.8, "0.80"), (30, "30.00"), (34.5, "34.50"), (0.005, "0.005"), (0.123456, "0.1235"), (20000, "2e+04"),
    (float("inf"), "inf"),
])
def test_the_bound_is_printed_short_but_never_as_another_number(bound, text):
    assert repr(pass_claim(value=-1.0, bound=bound)).endswith(f"(< {text})")


@pytest.mark.parametrize("changes, message", [
    ({"value": float("nan")}, "claim P1.2: value nan, bound 0.8; NaN decides nothing"),
    ({"bound": float("nan")}, "bound nan"),
    ({"ci": (float("nan"), float("nan"))}, r"interval \[nan, nan\].*one image has no interval"),
    ({"ci": (0.5, 0.3)}, r"interval \[0.5, 0.3\], wanted low <= high"),
    ({"relation": "=="}, "unknown relation '==', known: <, <=, >, >="),
    ({"expected": "FAIL"}, "unknown expected outcome 'FAIL', known: HOLDS, DOES NOT HOLD, UNDECIDED"),
    ({"source": ""}, "source of claim P1.2 is '', wanted words"),
    ({"eps": 8}, "claim P1.2 has no place for eps=; it asks for nothing"),
])
def test_claim_refuses_and_without_a_profile_says_what_to_call(monkeypatch, changes, message):
    with pytest.raises(ValueError, match=message):
        pass_claim(**changes)
    assert not (paths.results_dir("laptop") / "claims.csv").exists()
    monkeypatch.setattr(profiles, "current", None)
    with pytest.raises(ValueError, match=r"call cfg = fvit\.profile\('laptop'\) first"):
        pass_claim()


# Words of claims ----------------------------------------------------------------------------------------------------


def test_the_words_of_a_claim_come_from_claims_toml_filled_in():
    outcome = claim("P1.2", 0.3, "<", 0.75, eps=8)
    assert repr(outcome) == ("HOLDS P1.2  an explanation attack at 8/255, with a penalty for losing the class, moves "
                             "the top-k (< 0.75)")
    assert (outcome.source, outcome.expected, outcome.note) == ("Hu et al. 2024", "HOLDS", "")
    outcome = claim("P3.9", 0.76, ">", 0.95, exponent=5.0, dim=100)
    assert outcome.expected == NO and outcome.note == "exponent 5, dimension 100"
    assert claim("P1.2", 0.3, "<", 0.75, eps=8, note="wide").note == "wide"


@pytest.mark.parametrize("claim_id, changes, message", [
    ("X9.9", {}, "claim X9.9 is not in claims.toml: write it there, or give it a text and a source here"),
    ("X9.9", {"text": "mine"}, "give it a source here"),
    ("P1.2", {}, "claim P1.2 needs eps= for 'an explanation attack at {eps}/255"),
    ("P1.2", {"eps": 8, "which": "study"}, "claim P1.2 has no place for which=; it asks for eps"),
    ("P3.9", {"dim": 9, "exponent": "five"}, "claim P3.9: the values given do not fit 'exponent {exponent:g}"),
])
def test_words_that_lack_or_do_not_fit_are_refused(claim_id, changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        claim(claim_id, 0.5, "<", 1, **changes)


def test_claims_toml_is_whole():
    ids = [claim_id for head, said in claims.HEADS.items() for claim_id in said["checks"]]
    assert len(ids) == len(set(ids)) == len(claims.CHECKS)
    for head, said in claims.HEADS.items():
        assert set(said) - {"questions", "controls", "known", "pair", "data"} == {
            "text", "source", "notebooks", "checks"} and said["checks"]
        for question in said.get("questions", ()):
            assert set(question) - {"beside"} == {"data", "threat", "check"}
            assert question["threat"] in ("none", "transferred", "adaptive")
            assert {question["check"], *question.get("beside", ())} <= set(said["checks"])
        assert all(sorted(paths.NOTEBOOKS.glob(f"{number}_*.ipynb")) for number in said["notebooks"])
        assert all(claim_id.split(".")[0] == head for claim_id in said["checks"])
    for said in claims.CHECKS.values():
        words, decides = {"text", "source", "expected", "note", "notebook"}, {"asks", "rows", "relation", "bound"}
        assert "source" in said and set(said) <= words | decides
        assert "text" in said or {"asks", "rows"} <= set(said)
        assert said.get("relation", ">") in claims.RELATIONS and ("rows" in said) == ("asks" in said)
        assert said.get("expected", NO) in claims.OUTCOMES[1:]  # HOLDS is what is expected without a word


def calls(function: str):
    """(notebook, positional arguments, {keyword: node}) of each call of fvit.<function> in the notebooks."""
    for path in sorted(paths.NOTEBOOKS.glob("[01]*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            tree = ast.parse("".join(cell["source"])) if cell["cell_type"] == "code" else ast.parse("")
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == f"fvit.{function}":
                    yield path.name[:2], node.args, {keyword.arg: keyword.value for keyword in node.keywords}


def test_notebooks_use_every_claim_once_and_state_none_themselves():
    found = {args[0].value: (number, args, keywords) for number, args, keywords in calls("claim")}
    assert sorted(found) == sorted(check for check, said in claims.CHECKS.items() if "text" in said)
    for claim_id, (number, args, keywords) in found.items():
        said = claims.CHECKS[claim_id]
        assert len(args) == 4 and number in claims.HEADS[claim_id.split(".")[0]]["notebooks"], claim_id
        if "rows" in said:  # a lesson asks of its rows what the verdict asks of all
            assert (args[2].value, ast.literal_eval(args[3])) == (said.get("relation", ">"), said.get("bound", 0))
        wanted, given = templates.fields(said["text"], said.get("note", "")), set(keywords) - {"ci"}
        assert given == wanted or (None in given and given - {None} < wanted), claim_id  # None: **several


@pytest.mark.parametrize("profile", ["laptop", "study"])
def test_the_committed_ledgers_say_what_claims_toml_says(profile):
    for row in read_table(paths.ROOT / "results" / profile / "claims.csv"):
        if not row["expected"]:  # a verdict
            check = row["claim"].rpartition(", ")[2]
            assert row["note"].startswith(f"{check} {row['text']}")
            assert row["text"] == claims.CHECKS[check].get("asks", row["text"])
            continue
        said = claims.CHECKS[row["claim"]]
        for word in ("text", "source", "note"):
            assert pattern(said.get(word, "")).fullmatch(row[word]), (row["claim"], word)
        assert row["expected"] == said.get("expected", "HOLDS")


def pattern(template):
    """A template as a regular expression: any words in the place of a number."""
    return re.compile("".join(re.escape(text) + ".+" * (field is not None)
                              for text, field, _, _ in Formatter().parse(template)))


def test_upsert_reads_a_table_of_older_columns(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("id,gone\nb,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="gone"):  # never drop what someone wrote
        upsert(path, {"id": "a", "new": 0.1}, key=("id",), columns=["id", "new"])
    path.write_text("id\nb\n", encoding="utf-8")
    upsert(path, {"id": "a", "new": 1 / 3}, key=("id",), columns=["id", "new"])
    assert path.read_text(encoding="utf-8") == "id,new\na,0.333333\nb,\n"


@pytest.mark.parametrize("damaged, said", [
    (b"claim,profile,text\nP1.1,laptop", "row 1 has 2 fields, wanted 3; remove it, run again"),
    (b"claim,profile,text\nP1.1,laptop,a te", "is cut off in its last row; remove it, run again"),
    (b"claim,profile,text\nP1.1,laptop,\xff\n", "is damaged .*restore it by git, or delete it and run again"),
    (b'claim,profile,text\nP1.1,laptop,"\n', "is damaged .*restore it by git"),
    (b"klaim,profile,text\nP1.1,laptop,a\n", r"has columns \['klaim', .*restore it by git"),
])
def test_a_damaged_table_is_named_and_left_as_it_is(tmp_path, damaged, said):
    path = tmp_path / "claims.csv"
    path.write_bytes(damaged)
    row = {"claim": "P1.2", "profile": "laptop", "text": "b"}
    with pytest.raises(ValueError, match=rf"claims\.csv:? {said}"):
        upsert(path, row, key=("claim", "profile"), columns=list(row))
    assert path.read_bytes() == damaged


# Provenance ---------------------------------------------------------------------------------------------------------


def test_stamp_prints_versions_and_device():
    shown = provenance.stamp()
    lines = dict(line.split(maxsplit=1) for line in repr(shown).splitlines())
    assert lines == dict(shown)
    assert {"python", "fvit", "torch", "timm", "diffusers", "numpy", "device"} <= set(lines)
    assert lines["numpy"] == np.__version__ and lines["device"].startswith(("cpu", "cuda"))


def test_a_claim_that_cannot_be_tested_is_shown_with_the_reason_and_not_recorded():
    profiles.profile("paper")
    outcome = pass_claim(value=claims.Untested("these images have no masks"))
    assert repr(outcome) == "NOT TESTED P1.2  PGD at 8/255 moves raw attention: these images have no masks"
    assert repr(claims.Untested("no masks")) == "NOT TESTED no masks"
    assert not (paths.results_dir("paper") / "claims.csv").exists()
    profiles.profile("laptop")
    with pytest.raises(ClaimError, match=r"P1\.2 PGD.*: not tested, no masks; wanted a value, as all have at laptop"):
        pass_claim(value=claims.Untested("no masks"))
