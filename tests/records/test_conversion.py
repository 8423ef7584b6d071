"""Every old row is in the new tables, to the last digit: the old tables are rebuilt from the new ones and compared."""

import importlib.util

import numpy as np
import pandas as pd
import pytest

from fvit.base.paths import ROOT
from fvit.records.ledger import read_table
from fvit.records.rows import load_rows

spec = importlib.util.spec_from_file_location("convert_results", ROOT / "tools" / "convert_results.py")
convert = importlib.util.module_from_spec(spec)
spec.loader.exec_module(convert)
FILES = sorted(path for path in convert.OLD.rglob("*.*"))
KEY = [column for column in convert.OLD_SCHEMA if column not in ("value", "ci_low", "ci_high")]


def said(run):
    if run["commit"]:
        return f"commit {run['commit']}, {run['date']}"
    return f"{run['date']}, {run['device']}, {run['threads']} threads, load {run['load']}, {run['rounds']} rounds"


def run_ids(new, folder):
    path = ROOT / "results" / folder / "runs.csv"
    runs = {"": ""} | ({run["run_id"]: said(run) for run in read_table(path)} if path.exists() else {})
    return new.assign(run_id=new.run_id.map(runs))


def back_scores(new):
    smoothing = new.defence.replace({"denoise_only": "denoise"})
    through = new.made_on.replace({"denoise_only": "denoise"})
    attack = (new.aim + " via " + through).mask(new.aim == "fresh_noise", "fresh noise").mask(new.aim == "none", "none")
    percent = (100 * new.level).round().fillna(0).astype(int).astype(str)
    metric = new.metric.mask(new.level.notna(), new.metric + " " + percent)
    assert (new.explained.eq("") == new.method.isin(["", "random_order", "constant_map", "mask"])).all()
    return new.assign(smoothing=smoothing, attack=attack,
                      metric=metric + np.where(new.explained == "re-predicted", " (re-predicted)", ""),
                      method=new.method.replace({"random_order": "random order", "constant_map": "constant map"}))


def back_01(new):
    attack = new.aim.map({"random_signs": "random signs", "prediction": "on the prediction",
                          "explanation": "on the explanation"})
    assert (new.made_on == np.where(new.aim == "random_signs", "", "vit")).all()
    return new.assign(smoothing="none", attack=attack, sigma=np.nan, n_samples=pd.NA)


def twice(new):
    """Bare and constant map under the one attack: once as transferred, once as adaptive."""
    own = new.defence.replace({"none": "vit", "constant_map": "vit"})
    adaptive = (new.aim == "explanation") & ~new.defence.isin(["none", "constant_map"]) & (new.made_on == own)
    words = {"none": "none", "fresh_noise": "fresh noise", "explanation": "transferred attack"}
    attack = new.aim.map(words).mask(adaptive, "adaptive attack")
    assert (new.made_on.isin(["vit", *own.unique()]) == (new.aim == "explanation")).all()
    new = new.assign(attack=attack)
    again = new[(new.aim == "explanation") & new.defence.isin(["none", "constant_map"])]
    return pd.concat([new, again.assign(attack="adaptive attack")], ignore_index=True)


WORDS = {"none": "none", "dds": "DDS", "noise_only": "noise only", "denoise_only": "denoise only",
         "constant_map": "constant map"}


def back_05(new):
    new = twice(new)
    fidelity = new.metric == "fidelity"
    assert (fidelity == (new.attack == "none")).all()
    return new.assign(smoothing=new.defence.map(WORDS), attack=new.attack.mask(fidelity, "fidelity (clean, to bare)"),
                      metric="topk_overlap", sigma=0.25, n_samples=16, eps=8 / 255, norm="linf")


def back_03_certificates(new):
    kind = new.metric.map({"radius": "radius", "plugin_radius": "plugin"})
    metric = [f"{a}_{b}_{c:.2f}" for a, b, c in zip(kind, new.certificate, new.level, strict=True)]
    return new.assign(smoothing=new.defence, attack="", metric=metric, eps=np.nan)


def back_03_soundness(new):
    assert set(new.aim) == {"explanation"} and set(new.made_on) == {"dds"}
    return new.assign(smoothing=new.defence, attack=[f"adaptive, {level:g} radii" for level in new.level])


def back_06(new):
    model = new.model.mask(new.variant != "", new.model + ", forgot " + new.variant)
    return new.assign(smoothing="none", attack="none", sigma=np.nan, n_samples=pd.NA, eps=np.nan, model=model)


def back_09(new):
    new = twice(new)
    number = new.level.fillna(0).astype(int).astype(str)
    effort, fidelity = new.variant.isin(["steps", "draws", "restarts"]), new.metric == "fidelity"
    metric = new.metric.mask(fidelity, "topk_overlap").replace("right", "accuracy")
    metric = metric.mask(new.variant == "k", "topk_overlap at k " + new.k.astype(str))
    metric = metric.mask(effort, new.metric.map({"topk_overlap": "overlap", "relative_mass": "mass, relative to clean"})
                         + ", " + new.variant + " " + number)
    smoothing = new.defence.mask(new.variant == "halves", new.defence.map(WORDS)).mask(
        new.variant == "calls", "dds, " + number.replace("1", "one") + np.where(number == "1", " call", " calls"))
    for variant in ("sigma", "n_samples", "k"):
        assert (new.level == new[variant].astype(float))[new.variant == variant].all()
    halves = new.variant == "halves"
    assert (new.method == np.where(metric == "accuracy", "", "raw_attention")).all()
    return new.assign(smoothing=smoothing, metric=metric, attack=new.attack.mask(fidelity, "fidelity"),
                      sigma=new.sigma.mask(halves, 0.25), n_samples=new.n_samples.mask(halves, 16), eps=8 / 255,
                      norm="linf", dataset="scenes, val", method="raw_attention")


def back_cost(new):
    batch = " at batch " + new.level.fillna(0).astype(int).astype(str)
    stage = (new.metric == "seconds") & ~new.variant.isin(["", "forward"])
    words = {"seconds": "seconds of an image", "milliseconds": "milliseconds of a draw", "forwards": "forwards"}
    metric = new.metric.map(words) + batch.where(new.level.notna(), "") + np.where(stage, ", stage", "")
    return new.assign(smoothing=new.defence.mask(stage, new.variant), metric=metric, attack="", eps=np.nan, sigma=0.25,
                      method=new.method.mask(~stage & (new.variant != ""), new.variant))


BACK = {"01_overlap": back_01, "03_certificates": back_03_certificates, "03_soundness": back_03_soundness,
        "05_overlap": back_05, "06_pointing": back_06, "06_randomisation": back_06, "07_scores": back_scores,
        "08_scores": back_scores, "08_controls": back_scores, "09_ablations": back_09, "09_cost": back_cost}


def by_key(table):
    return table.sort_values(KEY, na_position="first", kind="stable").reset_index(drop=True)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_old_table_is_rebuilt_from_the_new_one(path):
    old = convert.read_old(path)
    assert not old.duplicated(KEY).any()
    new = run_ids(load_rows(ROOT / "results" / path.parent.name / f"{path.stem}.parquet"), path.parent.name)
    rebuilt = BACK[path.stem](new)[list(convert.OLD_SCHEMA)].astype(convert.OLD_SCHEMA)
    pd.testing.assert_frame_equal(by_key(rebuilt), by_key(old), check_exact=True)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_k_is_what_the_values_are_shares_of(path):
    new = load_rows(ROOT / "results" / path.parent.name / f"{path.stem}.parquet")
    shares = new[new.metric.isin(["topk_overlap", "fidelity", "shown_overlap"])]
    counts = shares.value * shares.k.astype(float)
    assert (counts - counts.round()).abs().max() < 1e-4 or shares.empty


def test_every_table_of_the_repository_is_converted():
    new = {f"{path.parent.name}/{path.stem}" for path in (ROOT / "results").rglob("*.parquet")}
    assert new == {f"{path.parent.name}/{path.stem}" for path in FILES} and len(FILES) == 23


def test_the_figure_of_study_has_another_name_for_a_column_and_codes_in_it():
    old = pd.read_csv(convert.OLD_FIGURE, dtype=str, keep_default_na=False)
    new = pd.read_csv(ROOT / "figures" / "study" / convert.OLD_FIGURE.name, dtype=str, keep_default_na=False)
    back = new.assign(defence=new.defence.map(WORDS)).rename(columns={"defence": "smoothing"})
    pd.testing.assert_frame_equal(back, old)
