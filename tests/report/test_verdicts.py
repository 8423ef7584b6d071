"""Verdicts: each question turns with the numbers of its rows, says what it lacks, and is put on record."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from fvit.explanations.methods import METHODS
from fvit.metrics.perturbation import TENTHS
from fvit.records import profiles, provenance
from fvit.records.claims import CHECKS, CLAIM_COLUMNS, NOT_TESTED, ROWS
from fvit.records.ledger import read_table, upsert
from fvit.records.rows import conform, save_rows
from fvit.report import answers, findings, on_record, verdicts
from fvit.theory.intervals import Interval

QUESTIONS = [(row, q["data"], q["threat"], q["check"]) for row, head in ROWS.items() for q in head["questions"]]
OF_ROWS = sorted({check for *_, check in QUESTIONS if "rows" in CHECKS[check]} | {
    check for head in ROWS.values() for q in head["questions"] for check in q.get("beside", ())
    if "rows" in CHECKS[check]})
DEFENCES = ("none", "dds", "denoise_only", "noise_only", "noise_blur", "noise_cnn", "blur")


def ledger(*rows):
    blank = dict.fromkeys(CLAIM_COLUMNS, "") | {"profile": "laptop", "value": "0.5", "bound": "0", "relation": ">"}
    return pd.DataFrame([blank | row for row in rows], columns=CLAIM_COLUMNS)


@cache
def table(holds: bool, n: int = 40) -> pd.DataFrame:
    """Rows in which every claim holds, or none does: DDS keeps 0.9 and all others 0.4, or the other way round."""
    wobble, other = 0.04 * np.sin(np.arange(n)), 0.04 * np.cos(np.arange(n))  # so that no interval is a point
    better, worse = (wobble + 0.9, other + 0.4) if holds else (wobble + 0.4, other + 0.9)
    right, wrong = (np.arange(n) % 9 > 0).astype(float), (np.arange(n) % 7 == 0).astype(float)
    frames, ids = [], [f"test-0-{i}" for i in range(n)]

    def put(value, **about):
        frames.append(pd.DataFrame({"image_id": ids, "value": value, **about}))

    for defence in DEFENCES:
        ours, own = defence == "dds", "vit" if defence == "none" else defence
        kept, good = (better, holds) if ours else (worse, not holds)
        put(1.0 if holds or not ours else 0.0, defence=defence, metric="right", aim="none")
        for made_on in {"vit", own}:
            attacked = {"defence": defence, "made_on": made_on, "eps": 8 / 255}
            put(right if good else wrong, metric="right", aim="prediction", **attacked)
            for method in METHODS if defence in ("none", "dds") else ("raw_attention",):
                aims = {"rollout": ["rollout"], "raw_attention": ["explanation", "explanation_free"]}
                for aim in aims.get(method, ["explanation"]):
                    put(kept, metric="topk_overlap", method=method, aim=aim, **attacked)
        put(0.95 + wobble / 10 if holds else 0.5 + wobble, defence=defence, metric="fidelity", method="raw_attention")
    for eps in (4, 2, 1):
        put(worse, metric="topk_overlap", method="raw_attention", aim="explanation", made_on="vit", eps=eps / 255)
    for defence in ("none", "dds"):
        loss = 0 if holds or defence == "none" else 300
        about = {"defence": defence, "method": "raw_attention", "aim": "none"}
        put(4096, metric="labelled", **about)
        put(3000 + 10 * np.arange(n) - loss, metric="inter_bg", **about)
        put(400 - loss + np.arange(n), metric="inter_fg", **about)
        for share in TENTHS:
            put(float(not loss), defence=defence, method="vta", metric="negative", level=share / 10)
    for certificate, radius in {"votes": 0.3, "sharp": 0.1, "renyi": 0.1}.items():
        put(radius if holds else -1, metric="radius", certificate=certificate, level=0.8, n_samples=300, defence="dds")
        plugin = {"sharp": 0.2 if holds else 0.05}.get(certificate, 0.1)
        put(plugin + wobble / 10, metric="plugin_radius", certificate=certificate, level=0.8, defence="dds")
    return conform(pd.concat(frames), dataset="scenes", k=25, n_samples=1, sigma=0.25)


@pytest.fixture
def on_file(monkeypatch):
    """Gives what the tables of all data sets hold."""
    def hold(rows):
        monkeypatch.setattr(verdicts, "rows_of", lambda data, stem: (
            answers.with_photographs(rows), f"{stem} of today", ""))
    return hold


@pytest.mark.parametrize("check", OF_ROWS)
def test_each_question_of_rows_turns_with_their_numbers_and_decides_nothing_on_few_photographs(check, on_file):
    ruled_out = "UNDECIDED" if check == "P6.15" else "HOLDS"  # that 1 in 20 predictions is lost, where 40 were kept
    for holds, n, status in ((True, 40, ruled_out), (False, 40, "DOES NOT HOLD"), (True, 29, "UNDECIDED")):
        on_file(table(holds, n))
        found = verdicts._verdict(check.split(".")[0], "scenes", "none", check, ledger(), {})
        assert found.status == status, (found, found.measured)
        assert found.units == n and ("29 independent units, wanted 30" in repr(found)) == (n == 29)


def test_of_several_tables_that_with_most_images_answers_and_of_equal_ones_the_first(monkeypatch):
    sizes = {"12_overlap": 32, "12_defences": 40}
    monkeypatch.setattr(verdicts, "rows_of", lambda data, stem: (
        answers.with_photographs(table(True, sizes[stem])), f"{stem} of today", ""))
    assert CHECKS["P5.2"]["rows"] == ["12_defences", "12_overlap"]
    for n, made in ((40, "12_defences of today"), (32, "12_defences of today"), (31, "12_overlap of today")):
        sizes["12_defences"] = n
        found = verdicts._verdict("P5", "natural", "adaptive", "P5.2", ledger(), {})
        assert (found.units, found.made) == (max(n, 32), made)


@pytest.mark.parametrize("check", sorted({check for *_, check in QUESTIONS} - {*OF_ROWS}))
def test_each_computed_question_turns_with_its_number(check):
    line = {"claim": check, "bound": "0.4"}
    [row] = {row for row, *_, of in QUESTIONS if of == check}
    of = {value: verdicts.verdicts(ledger(line | {"value": value}), rows=[row]) for value in ("0.5", "0.3")}
    assert [next(v for v in table if v.check == check).status for table in of.values()] == ["HOLDS", "DOES NOT HOLD"]


def test_every_deciding_check_has_its_few_lines_and_one_place(on_file):
    assert set(answers.ANSWERS) == {check for check, words in CHECKS.items() if "rows" in words} == {*OF_ROWS}
    assert len(set(QUESTIONS)) == len(QUESTIONS)
    asked = [(row, data, threat) for row, data, threat, _ in QUESTIONS if "pair" not in ROWS[row]]
    assert len(set(asked)) == len(asked)  # one check each; of a part of DDS one for the map and one for the prediction


def test_the_claim_on_both_halves_takes_the_smaller_difference_and_the_one_on_any_method_the_worst_method():
    rows = answers.with_photographs(table(True))
    one = (rows["defence"] == "noise_only") & (rows["metric"] == "topk_overlap")
    closer = rows.assign(value=rows["value"].mask(one, rows["value"] + 0.45))
    assert answers.answer("P7.7", rows)[0] == pytest.approx(0.5, abs=0.01) and answers.answer("P7.7", closer)[0] < 0.06
    worst = (rows["method"] == "lrp") & (rows["defence"] == "dds")
    less = rows.assign(value=rows["value"].mask(worst, rows["value"] - 0.3))
    assert answers.answer("R1.6", rows)[0] == pytest.approx(0.5, abs=0.01)
    assert answers.answer("R1.6", less)[0] == pytest.approx(0.2, abs=0.01)
    with pytest.raises(answers.NoRows, match="no rows of the methods lrp, and the claim is of any"):
        answers.answer("R1.5", rows[rows["method"] != "lrp"])


def test_what_is_kept_behind_dds_is_under_its_own_attack():
    rows = answers.with_photographs(table(True))
    transferred = (rows["made_on"] == "vit") & (rows["metric"] == "topk_overlap")
    less = rows.assign(value=rows["value"].mask(transferred, rows["value"] / 2))
    assert answers.answer("P5.21", rows) == answers.answer("P5.21", less)


@pytest.mark.parametrize("check", [check for check in OF_ROWS if check[:2] in ("P1", "P5", "P7", "R1", "O4", "O8")])
def test_maps_are_judged_under_the_attack_that_the_words_name(check):
    rows, asks = answers.with_photographs(table(True)), CHECKS[check]["asks"]
    on_maps = (rows["metric"] == "topk_overlap") & (rows["method"] == "raw_attention")
    free, held = on_maps & (rows["aim"] == "explanation_free"), on_maps & (rows["aim"] == "explanation")
    before, moved = answers.answer(check, rows), rows["value"] * 0.5
    with_free, with_held = (answers.answer(check, rows.assign(value=rows["value"].mask(part, moved)))
                            for part in (free, held))
    assert (with_free == before) == ("free" not in asks)
    assert "right before and after" in asks or (with_held == before) == ("free" in asks)


def test_rates_of_certificates_count_one_scene_a_photograph_exactly():
    rows = answers.with_photographs(table(True, 60))  # 42 photographs, then 18 of them again
    found = answers.answer("P2.1", rows)
    assert (found[0], found.n, found.n_groups) == (1, 42, None) and found[1] == pytest.approx(0.025 ** (1 / 42))


@pytest.mark.parametrize(("changed", "status"), [
    ({}, "HOLDS"), ({"ci_low": "0.05"}, "UNDECIDED"), ({"bound": "0.7"}, "DOES NOT HOLD"),
    ({"n_groups": "29"}, "UNDECIDED"), ({"n_groups": "", "n": "30"}, "HOLDS"),
    ({"n_groups": "", "n": "29"}, "UNDECIDED"),
    ({"claim": "P3.7"}, NOT_TESTED), ({"ci_low": "", "ci_high": "", "n": "", "n_groups": ""}, "HOLDS"),
    ({"status": "DOES NOT HOLD"}, "HOLDS"), ({"value": "", "status": "DOES NOT HOLD"}, "DOES NOT HOLD"),
])
def test_one_check_of_the_ledger_decides_by_its_numbers_and_others_never_vote(changed, status):
    line = {"claim": "P3.6", "ci_low": "0.4", "ci_high": "0.6", "n": "200", "n_groups": "40", "bound": "0.1"}
    others = {"claim": "P3.1", "status": "HOLDS"}, {"claim": "P3.9", "status": "DOES NOT HOLD"}
    assert verdicts.verdicts(ledger(line | changed, *others), rows=["P3"]).of("P3.6", "l2").status == status


def test_the_largest_profile_of_the_ledger_decides():
    lines = {"claim": "P3.6"}, {"claim": "P3.6", "profile": "study", "bound": "0.7"}
    found = verdicts.verdicts(ledger(*lines), rows=["P3"]).of("P3.6", "l2")
    assert (found.status, found.made) == ("DOES NOT HOLD", "study")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    out, root = tmp_path / "out", tmp_path / "root"
    monkeypatch.setenv("FVIT_OUT", str(out))
    monkeypatch.setattr(on_record, "ROOT", root)
    return root


def test_rows_decide_only_if_they_say_which_run_made_them_and_that_run_was_of_what_ships_now(folders):
    def status():
        return verdicts.verdicts(ledger(), rows=["P5"]).of("P5.2")

    path, runs = folders / "results/study/12_defences.parquet", folders / "results/study/runs.csv"
    assert "12_defences: no rows of scenes are on record" in status().lacks and status().status == NOT_TESTED
    save_rows(table(True).drop_duplicates(["image_id", "method", "defence", "aim", "made_on", "metric", "eps", "level",
                                           "certificate"]), path)
    assert "12_defences: its study rows do not say which run made them" in status().lacks
    save_rows(pd.read_parquet(path), path, run_id="r")
    run = dict.fromkeys(provenance.RUN_COLUMNS, "") | {"run_id": "r", "date": "2026-11-30", "commit": "abc1234"}
    upsert(runs, run | {"inputs": "of before"}, key=("run_id",), columns=provenance.RUN_COLUMNS)
    assert "2026-11-30 (abc1234), are of other models or images than ship now" in status().lacks
    ships = provenance.inputs_digest("scenes", defences=set(pd.read_parquet(path).defence))
    upsert(runs, run | {"inputs": ships}, key=("run_id",), columns=provenance.RUN_COLUMNS)
    assert (status().status, status().made) == ("HOLDS", "12_defences, study rows of 2026-11-30 (abc1234)")


def test_verdicts_are_put_on_record_as_they_read_and_a_rerun_changes_no_byte(on_file, tmp_path, monkeypatch):
    monkeypatch.setenv("FVIT_OUT", str(tmp_path))
    monkeypatch.setattr(profiles, "current", None)
    profiles.profile("laptop", notebook="15")
    on_file(table(True, 29))
    claims, path = ledger({"claim": "P3.6", "text": "computed"}), tmp_path / "results/laptop/claims.csv"
    found = verdicts.verdicts(claims, rows=["P3", "P5"]).record()
    before = path.read_bytes()
    verdicts.verdicts(claims, rows=["P3", "P5"]).record()
    assert path.read_bytes() == before
    of = {line["claim"]: line for line in read_table(path)}
    assert [of[v.id]["status"] for v in found] == ["HOLDS", NOT_TESTED, *["UNDECIDED"] * 6]
    line = of["P5 scenes adaptive, P5.2"]
    assert (line["n"], line["source"], line["expected"]) == ("29", "12_defences of today", "")
    assert "29 independent units, wanted 30" in line["note"] and float(line["ci_low"]) < float(line["value"])
    assert of["P3 linf none, P3.11"]["value"] == "" and "no run of it is on record" in of["P3 linf none, P3.11"]["note"]


def test_text_holds_verdicts_and_html_a_row_a_question_with_its_interval_against_its_bound(on_file):
    on_file(table(True))
    line = {"claim": "P5.3", "status": "DOES NOT HOLD", "text": "other < than"}
    found = verdicts.verdicts(ledger(line), rows=["P5"])
    said = repr(found).splitlines()
    assert len(said) == 6 and said[1].startswith("P5  HOLDS         scenes, adaptive: P5.2 ") and "0.5" not in said[1]
    page = found._repr_html_()
    assert page.count("<tr><td>") == 6 and page.count(ROWS["P5"]["text"]) == 1 and page.count("<svg") == 6
    assert "n = 40" in page and 'bound 0"' in page and "12_defences of today" in page
    assert page.index("other &lt; than") > page.index("which decide nothing") > page.index("</table>")


def test_the_opening_and_the_sentence_of_parts_read_by_outcome(on_file):
    def said(holds):
        on_file(table(holds))
        return verdicts.verdicts(ledger())

    good, bad = said(True), said(False)
    assert "DDS keeps more of the top-k than bare attention, by +0.50" in findings.opening(good)
    assert "40 images" in findings.opening(good)
    assert "DDS keeps no more of the top-k than bare attention (-0.50" in findings.opening(bad)
    assert "noise before the denoiser buys +0.50" in findings.what_buys(good)
    assert "noise before the denoiser buys nothing (-0.50" in findings.what_buys(bad)
    assert findings.what_buys_table(good).count(" HOLDS") == 56
    assert "| blur, 1 pixel | CIFAR-10 | +0.50" in findings.what_buys_table(good)
    on_file(table(True, 29))
    few = verdicts.verdicts(ledger())
    assert "is not shown" in findings.what_buys(few) and "UNDECIDED on 29 units" in findings.opening(few)
    nothing = verdicts.Verdicts([verdicts.Verdict("P5", "scenes", "adaptive", "P5.2", "", lacks="no rows")])
    assert findings.opening(nothing).endswith("not tested on the images and models that ship now: P5.")
    assert "is not tested" in findings.what_buys(nothing)


@pytest.mark.parametrize("check, interval, said", [
    ("P5.2", (0.04, 0.0049, 0.09), "+0.040 [0.005, 0.090]"),  # an end that is not the bound is not printed as it
    ("P5.2", (0.04, 0.0, 0.09), "+0.04 [0.00, 0.09]"), ("P5.2", (0.04, 0.01, 0.09), "+0.04 [0.01, 0.09]"),
    ("P5.21", (0.4, 0.3, 0.5), "0.40 [0.30, 0.50]"),
    ("P3.8", (1.72, float("nan"), float("nan")), "1.72 (asked for > 0)")])
def test_a_number_is_printed_so_that_its_verdict_can_be_read(check, interval, said):
    assert findings.number(verdicts.Verdict("P", "scenes", "none", check, "", Interval(*interval, 40, 40))) == said
