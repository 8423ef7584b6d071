"""The gallery: verdicts from hand-made ledgers, tables for print, figures against the manifest."""

import hashlib
import json
import re
import shutil
import subprocess

import claims_tables
import pandas as pd
import pytest
from PIL import Image

from fvit.base import paths
from fvit.records import provenance
from fvit.records.claims import CHECKS, CLAIM_COLUMNS, ROWS
from fvit.records.ledger import upsert
from fvit.records.rows import save_rows
from fvit.report import findings, gallery, on_record, verdicts
from fvit.report.saving import MANIFEST_COLUMNS
from fvit.theory.intervals import mean_interval

HEAD = ",".join(MANIFEST_COLUMNS) + "\n"


def ledger(*rows):
    blank = dict.fromkeys(CLAIM_COLUMNS, "") | {"profile": "laptop", "value": "0.5", "bound": "0", "relation": ">"}
    return pd.DataFrame([blank | row for row in rows])


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """An output folder and a repository, both empty."""
    out, root = tmp_path / "out", tmp_path / "root"
    monkeypatch.setenv("FVIT_OUT", str(out))
    monkeypatch.setattr(on_record, "ROOT", root)
    return out, root


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_controls_stand_beside_their_row_with_interval_and_n(folders):
    root = folders[1]
    rows = pd.DataFrame({"image_id": list("xyz") * 2, "aim": ["random_signs"] * 3 + ["prediction"] * 3,
                         "value": [0.9, 1.0, 1.0, 0.1, 0.2, 0.3]}).assign(
        method="raw_attention", eps=8 / 255, profile="laptop")
    save_rows(pd.concat([rows, rows.assign(eps=4 / 255, value=0.0)]), root / "results/laptop/01_overlap.parquet")
    table = verdicts.control_table({"x": "moon", "y": "moon", "z": "coins"})
    [control] = table.itertuples(index=False)  # of the others no rows are there
    assert (control.row, control.profile, control.n) == ("P1", "laptop", 3) and control.mean == pytest.approx(2.9 / 3)
    assert (control.low, control.high) == (mean_interval([0.9, 1, 1], ["moon", "moon", "coins"])[1], 1)
    page = gallery.verdict_table(verdicts.verdicts(ledger({"claim": "X1.1"}), rows=["P1", "P3"]), controls=table)
    assert page.index("P1: 1 more checks") < page.index("random signs of the same size")
    assert page.count("<details>") == 1  # P3 has none
    save_rows(rows.assign(profile="study"), root / "results/study/01_overlap.parquet")
    assert verdicts.control_table(dict.fromkeys("xyz", "moon")).profile.tolist() == ["laptop"]  # no run made the others
    upsert(root / "results/study/runs.csv", dict.fromkeys(provenance.RUN_COLUMNS, "") | {
        "inputs": provenance.inputs_digest("scenes")}, key=("run_id",), columns=provenance.RUN_COLUMNS)
    assert verdicts.control_table(dict.fromkeys("xyz", "moon")).profile.tolist() == ["study"]


def test_every_control_that_stands_beside_a_claim_has_its_numbers_in_the_committed_rows():
    found = verdicts.control_table(dict.fromkeys([f"test-{a}-{b}" for a in range(9) for b in range(99)], "one"))
    named = {verdicts.CONTROLS[name]["text"] for head in ROWS.values() for name in head.get("controls", ())}
    assert set(found["control"]) == named


def test_times_come_with_the_run_that_took_them_in_words_and_the_output_folder_before_the_repository(folders):
    out, root = folders
    write(root / "results/study/runs.csv", "run_id,date,device,threads,load,rounds\nr,d,cpu,2,3,5\n")
    rows = pd.DataFrame({"metric": ["seconds"], "value": [0.5], "profile": "study", "run_id": "r"})
    save_rows(rows, root / "results/study/14_cost.parquet")
    found, when = on_record.find_timed("14_cost")
    assert found["value"].tolist() == [0.5] and when == "d, cpu, 2 threads, load 3, 5 rounds"
    assert on_record.find("results/study/runs.csv") == root / "results/study/runs.csv"
    write(out / "results/study/runs.csv", "new")
    assert on_record.find("results/study/runs.csv") == out / "results/study/runs.csv"


def test_ledgers_are_joined_a_run_of_one_notebook_hides_no_other_claim_and_none_is_an_error(folders):
    out, root = folders
    with pytest.raises(FileNotFoundError, match="fvit run all"):
        verdicts.load_claims()
    old = ledger({"claim": "P1.2", "status": "HOLDS"}, {"claim": "P1.10", "status": "HOLDS"})
    write(root / "results/laptop/claims.csv", old.to_csv(index=False))
    write(out / "results/laptop/claims.csv", ledger({"claim": "P1.2", "status": "UNDECIDED"}).to_csv(index=False))
    write(root / "results/study/claims.csv", ledger({"claim": "P1.1", "profile": "study"}).to_csv(index=False))
    assert verdicts.load_claims()[["claim", "profile", "status"]].to_numpy().tolist() == [
        ["P1.2", "laptop", "UNDECIDED"], ["P1.10", "laptop", "HOLDS"], ["P1.1", "study", ""]]


def test_a_run_of_one_notebook_hides_no_other_figure(folders):
    out, root = folders
    with pytest.raises(FileNotFoundError, match="fvit run all"):
        gallery.load_manifest()
    write(root / "figures/MANIFEST.csv", f"{HEAD}F01a,old,,01,laptop,study,,,0,cpu,\nF02a,old,,02,laptop,,,,0,cpu,\n")
    write(out / "figures/MANIFEST.csv", f"{HEAD}F02a,new,,02,laptop,,,,0,cpu,\n")
    found = gallery.load_manifest()
    assert list(found["rows"]) == ["study", "laptop"]  # "" is of an older fvit
    assert list(zip(found["figure"], found["title"], found["folder"], strict=True)) == [
        ("F01a", "old", root / "figures/laptop"), ("F02a", "new", out / "figures/laptop")]


def test_the_readme_table_has_a_cell_for_each_question_with_the_number_that_decides(folders):
    claims = ledger({"claim": "P3.6", "value": "0.1"},
                    {"claim": "P3.6", "text": "a < b | c", "value": "0.25", "ci_low": "0.2", "ci_high": "0.3",
                     "profile": "study"},
                    {"claim": "P3.8", "text": "other", "value": "-1"},
                    {"claim": "R2.3", "status": "HOLDS", "text": "a time", "value": ""})
    said = claims_tables.readme_table(verdicts.verdicts(claims))
    of_data, of_others, known = said.split("\n\n")
    asked = [(row, q) for row, head in ROWS.items() if "pair" not in head for q in head["questions"]]
    on_data = {(row, q["threat"], q["check"]) for row, q in asked if q["data"] in findings.DATA}
    assert len(of_data.splitlines()) == 2 + len(on_data)
    assert len(of_others.splitlines()) == 2 + sum(q["data"] not in findings.DATA for _, q in asked)
    line = {line.split(" | ")[0][2:5]: line for line in [*of_others.splitlines(), *of_data.splitlines()]}
    assert "| l2 | P3.6 a &lt; b \\| c | **HOLDS** 0.25 [0.20, 0.30] | [08](notebooks/08_" in said
    assert "; beside it P3.8 (other) " in said
    assert "| linf | P3.11 " in said and "no run" in said and "full text was not at hand" in known
    assert line["P3:"].split(" | ")[0].endswith("\u2020") and not line["P1:"].split(" | ")[0].endswith("\u2020")
    assert "R2.3 a time | **HOLDS** |" in line["R2:"]
    assert "| adaptive | P1.2 " in line["P1:"] and line["P1:"].count("**NOT TESTED**") == 2
    assert line["P1:"].split(" | ")[3:5] == ["**NOT TESTED**"] * 2, "a column for each data set"


def committed(name):
    """A file as committed, b"" if it is not: numbers of another machine's run are none of the README's."""
    if shutil.which("git") and (paths.ROOT / ".git").exists():
        return subprocess.run(["git", "show", f"HEAD:{name}"], cwd=paths.ROOT, capture_output=True).stdout
    return (paths.ROOT / name).read_bytes() if (paths.ROOT / name).exists() else b""


def test_the_readme_says_what_the_committed_results_say(folders):
    _, root = folders
    stems = {stem for words in CHECKS.values() for stem in words.get("rows", ())}
    for name in [f"results/{folder}/{file}" for folder in (*on_record.PROFILES, "cifar10", "natural")
                 for file in ("claims.csv", "runs.csv", *(f"{stem}.parquet" for stem in stems))]:
        if data := committed(name):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
    text = committed("README.md").decode()
    for name, part in claims_tables.readme_parts().items():
        first, last = claims_tables.MARKS[name]
        assert text.partition(f"{first}\n")[2].partition(f"\n{last}")[0] == part, (
            f"put {name} anew, by tools/claims_tables.py, into the commit that changes results/")


def test_the_table_of_claims_is_in_notebook_00_and_has_a_row_for_each_with_links_that_are_there():
    [path] = paths.NOTEBOOKS.glob("00_*.ipynb")
    prose = ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    assert any(claims_tables.claims_table() in text for text in prose), "put in what claims_tables.claims_table() gives"
    head, _, *rows = claims_tables.claims_table().splitlines()
    assert head.count("|") == 5 and [row.split(" | ")[0].removeprefix("| ") for row in rows] == list(ROWS)
    for row in rows:
        links = re.findall(r"\]\((.*?)\)", row)
        assert links and all((paths.NOTEBOOKS / link).is_file() for link in links)


def test_updating_the_readme_changes_nothing_but_what_stands_between_marks(tmp_path, folders):
    path, table = tmp_path / "README.md", verdicts.verdicts(ledger({"claim": "P3.6", "status": "HOLDS"}), rows=["P3"])
    marks = claims_tables.MARKS
    path.write_text("before\n" + "".join(f"{a}\nold\n{b}\nafter {name}\n" for name, (a, b) in marks.items()))
    claims_tables.update_readme(path, table)
    once, parts = path.read_text(), claims_tables.readme_parts(table)
    assert once == "before\n" + "".join(f"{a}\n{parts[name]}\n{b}\nafter {name}\n" for name, (a, b) in marks.items())
    assert claims_tables.update_readme(path, table).read_text() == once


def test_cells_say_mean_interval_and_words_and_leave_blank_what_was_not_run():
    table = pd.DataFrame({"m": ["a", "a", "b"], "s": ["x", "y", "x"], "mean": [0.5, 1, 0.25],
                          "low": [0.4, float("nan"), 0.2], "high": [0.6, float("nan"), 0.3]})
    printed = gallery.cells(table, "m", "s")
    assert printed.loc["a", "x"] == "0.50 [0.40,\N{NO-BREAK SPACE}0.60]"
    assert printed.loc["a", "y"] == "1.00" and printed.loc["b", "y"] == ""
    table = pd.DataFrame({"defence": [*"xyxy"], "s": [*"uuvv"], "aim": "none", "mean": 0.5, "low": 0.4, "high": 0.6})
    printed = gallery.cells(table.replace({"x": "none", "y": "dds"}), ["aim"], ["defence", "s"])
    assert list(printed.index) == ["clean"] and list(printed) == [  # those that share a head stand together
        ("DDS", "u"), ("DDS", "v"), ("bare", "u"), ("bare", "v")]


def test_figures_are_those_of_the_manifest(folders):
    out, _ = folders
    write(out / "figures/laptop/F01a_x.csv", "a\n1\n")
    write(out / "figures/laptop/F01a_x.json", json.dumps({"alt": "A <b>", "caption": "C"}))
    Image.new("RGB", (600, 300), "white").save(out / "figures/laptop/F01a_x.png")
    digest = hashlib.sha256(b"a\n1\n").hexdigest()
    write(out / "figures/MANIFEST.csv", f"{HEAD}F01a,T,ours,01,laptop,study,{digest},,0,cpu,P1.1\n"
                                        f"F02a,U,ours,02,laptop,laptop,{digest},,0,cpu,\n")
    manifest = gallery.load_manifest()
    assert gallery.wrong_digests(manifest) == ["laptop F02a"]  # its files are missing
    write(out / "figures/laptop/F01a_x.csv", "a\n2\n")
    assert gallery.wrong_digests(manifest) == ["laptop F01a", "laptop F02a"]
    shown = gallery.Figures(manifest)
    assert repr(shown) == "F01a  x (study rows)\nF02a  U (laptop rows)"
    assert "Rows: study; notebook 01" in shown._repr_html_()
    twice = pd.concat([manifest, manifest.assign(profile="study")], ignore_index=True)  # drawn alike by another profile
    assert repr(gallery.Figures(twice)) == repr(shown)
    assert "A &lt;b&gt;" in shown._repr_html_() and "run notebook 02" in shown._repr_html_()
