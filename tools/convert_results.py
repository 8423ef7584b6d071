"""Once: every committed table of results, tools/old_results, in the schema of fvit.records.rows; then this goes.

    python tools/convert_results.py

tests/records/test_conversion.py rebuilds the old tables from the new ones.
"""

import csv
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from fvit.base.files import write_atomic
from fvit.base.paths import ROOT
from fvit.records.ledger import read_table, upsert
from fvit.records.provenance import RUN_COLUMNS
from fvit.records.rows import save_rows
from fvit.records.words import TOP_SET

OLD, OLD_FIGURE = ROOT / "tools" / "old_results", ROOT / "tools" / "old_figures" / "F05e_overlap_under_attack.csv"
OLD_SCHEMA = {"run_id": "str", "profile": "str", "dataset": "str", "image_id": "str", "model": "str", "method": "str",
              "smoothing": "str", "sigma": "float64", "n_samples": "Int64", "attack": "str", "eps": "float64",
              "norm": "str", "metric": "str", "value": "float64", "ci_low": "float64", "ci_high": "float64"}
NAMED = {"none": "none", "dds": "dds", "DDS": "dds", "noise only": "noise_only", "denoise only": "denoise_only",
         "denoise": "denoise_only", "constant map": "constant_map"}
K = {"laptop": 25, "study": 25, "cifar10": 6}  # of the profiles; a tenth of cifar10's 64 tokens


def read_old(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path).astype(OLD_SCHEMA)
    with open(path, newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    table = pd.DataFrame(lines, columns=header)
    for column, kind in OLD_SCHEMA.items():
        if kind != "str":
            table[column] = pd.Series([float(v) if v else np.nan for v in table[column]], dtype="float64").astype(kind)
    return table.astype(OLD_SCHEMA)


def attacks_via(old):
    """aim and made_on of "prediction via vit", "fresh noise", "none"."""
    found = old.attack.str.extract(r"^(\w+) via (\w+)$").fillna("")
    plain = old.attack.map({"none": "none", "fresh noise": "fresh_noise"})
    return {"aim": found[0].where(found[0] != "", plain), "made_on": found[1].replace("denoise", "denoise_only")}


def scores(old, k):
    """07_scores, 08_scores, 08_controls."""
    parts = old.metric.str.extract(r"^(positive|negative|[a-z0-9_]+?)(?: (\d+))?( \(re-predicted\))?$")
    assert parts[0].notna().all()
    methods = old.method.replace({"random order": "random_order", "constant map": "constant_map"})
    of_map = ~methods.isin(["", "random_order", "constant_map", "mask"])
    return old.assign(
        run_id=old.run_id.str.replace(r"^commit (\w+), .*$", r"\1", regex=True), method=methods, metric=parts[0],
        level=parts[1].astype(float) / 100, defence=old.smoothing.map(NAMED), **attacks_via(old),
        explained=np.where(of_map, np.where(parts[2].isna(), "fixed", "re-predicted"), ""),
        k=np.where(parts[0].isin(TOP_SET), k, np.nan))


def clean_where_nothing_is_attacked(new):
    """No radius and norm without an attack, no noise without a defence that adds it: as rows of 07 and 08 have it."""
    bare, attacked = new.defence.isin(["none", "constant_map"]), ~new.aim.isin(["none", "fresh_noise"])
    return new.assign(sigma=new.sigma.mask(bare, 0.0), n_samples=new.n_samples.mask(
        bare | (new.defence == "denoise_only"), 1), eps=new.eps.where(attacked, 0.0),
        norm=new.norm.where(attacked | new.metric.isin(["radius", "plugin_radius"]), ""))


def overlap_01(old, k):
    aims = {"random signs": ("random_signs", ""), "on the prediction": ("prediction", "vit"),
            "on the explanation": ("explanation", "vit")}
    return clean_where_nothing_is_attacked(old.assign(
        defence=old.smoothing.map(NAMED), k=k, aim=[aims[a][0] for a in old.attack],
        made_on=[aims[a][1] for a in old.attack]))


def named_attacks(old, defence):
    """aim, made_on and metric of "transferred attack", "adaptive attack", "fresh noise", "fidelity", "none"."""
    own = defence.replace({"none": "vit", "constant_map": "vit"})
    aim = old.attack.map(lambda a: "explanation" if a.endswith("attack") else "fresh_noise" if a == "fresh noise"
                         else "none")
    made_on = own.where(old.attack == "adaptive attack", np.where(old.attack == "transferred attack", "vit", ""))
    metric = old.metric.mask(old.attack.str.startswith("fidelity"), "fidelity")
    return {"aim": aim, "made_on": made_on, "metric": metric}


def once(new, old):
    """Bare and constant map: the adaptive attack is the transferred one, and its rows said everything twice."""
    twice = new.defence.isin(["none", "constant_map"]) & (old.attack == "adaptive attack")
    return clean_where_nothing_is_attacked(new[~twice])


def overlap_05(old, k):
    defence = old.smoothing.map(NAMED)
    return once(old.assign(defence=defence, k=k, **named_attacks(old, defence)), old)


def certificates_03(old, k):
    parts = old.metric.str.extract(r"^(radius|plugin)_([a-z]+)_([\d.]+)$")
    return clean_where_nothing_is_attacked(old.assign(
        defence=old.smoothing, aim="none", k=k, certificate=parts[1], level=parts[2].astype(float),
        metric=parts[0].map({"radius": "radius", "plugin": "plugin_radius"})))


def soundness_03(old, k):
    times = old.attack.str.extract(r"^adaptive, ([\d.]+) radii$")[0].astype(float)
    return old.assign(defence=old.smoothing, aim="explanation", made_on="dds", k=k, certificate="votes", level=times)


def pointing_06(old, k):
    return clean_where_nothing_is_attacked(old.assign(defence=old.smoothing, aim="none"))


def randomisation_06(old, k):
    parts = old.model.str.extract(r"^(\w+), forgot (.*)$")
    return clean_where_nothing_is_attacked(old.assign(
        defence=old.smoothing, aim="none", model=parts[0], variant=parts[1],
        k=np.where(old.metric == "topk_overlap", k, np.nan)))


def ablations_09(old, k):
    kind = old.smoothing.str.extract(r"^(dds), (\w+) calls?$")
    defence = kind[0].fillna(old.smoothing.map(NAMED))
    attacked = named_attacks(old, defence)
    at_k = old.metric.str.extract(r"^topk_overlap at k (\d+)$")[0].astype(float)
    effort = old.metric.str.extract(r"^(overlap|mass, relative to clean), (\w+) (\d+)$")
    metric = attacked["metric"].mask(at_k.notna(), "topk_overlap").mask(old.attack == "fidelity", "fidelity")
    metric = metric.mask(effort[0] == "overlap", "topk_overlap").replace("accuracy", "right")
    metric = metric.mask(effort[0] == "mass, relative to clean", "relative_mass")
    calls, knob = kind[1].replace("one", "1").astype(float), effort[2].astype(float)
    halves = old.smoothing.isin(["DDS", "none", "noise only", "denoise only"])
    n = old.n_samples.astype(float)
    cases = [effort[1].notna(), at_k.notna(), calls.notna(), halves, n != 16]
    variant = np.select(cases, [effort[1].fillna(""), "k", "calls", "halves", "n_samples"], "sigma")
    level = np.select(cases, [knob, at_k, calls, np.nan, n], old.sigma)
    of_top = metric.isin(TOP_SET)
    new = old.assign(dataset="scenes", defence=defence, metric=metric, aim=attacked["aim"], variant=variant,
                     made_on=attacked["made_on"], level=level, k=at_k.where(at_k.notna(), np.where(of_top, k, np.nan)),
                     method=old.method.mask(metric == "right", ""))
    return once(new, old)


def cost_09(old, k):
    parts = old.metric.str.extract(
        r"^(milliseconds|seconds|forwards)(?: of a draw| of an image)?(?: at batch (\d+))?(, stage)?$")
    timed = {"forward": ("", "forward"), "denoiser": ("", "denoiser"), "DDS": ("raw_attention", "DDS"),
             "ViT with attention": ("raw_attention", "ViT with attention")}
    stage = parts[2].notna()
    return clean_where_nothing_is_attacked(old.assign(
        run_id=old.run_id.str.extract(r"^([\d-]+), ")[0], aim="none", metric=parts[0], level=parts[1].astype(float),
        defence=old.smoothing.mask(stage, "dds"), method=[timed.get(m, (m, ""))[0] for m in old.method],
        variant=old.smoothing.where(stage, [timed.get(m, (m, ""))[1] for m in old.method])))


TABLES = {"01_overlap": overlap_01, "03_certificates": certificates_03, "03_soundness": soundness_03,
          "05_overlap": overlap_05, "06_pointing": pointing_06, "06_randomisation": randomisation_06,
          "07_scores": scores, "08_scores": scores, "08_controls": scores, "09_ablations": ablations_09,
          "09_cost": cost_09}


def runs(olds) -> list[dict]:
    """The rows of runs.csv, from what `run_id` held."""
    made = {}
    for stem, old in olds.items():
        for text in old.run_id.unique():
            if found := re.fullmatch(r"commit (\w+), ([\d-]+)", text):
                made.setdefault(found[1], {"run_id": found[1], "date": found[2], "commit": found[1], "what": []})
                made[found[1]]["what"].append(stem)
            elif found := re.fullmatch(r"([\d-]+), (cpu), (\d+) threads, load (\d+), (\d+) rounds", text):
                names = "run_id", "device", "threads", "load", "rounds"
                made[found[1]] = dict(zip(names, found.groups(), strict=True), date=found[1], what=[stem])
            else:
                assert text == "", text
    return [dict.fromkeys(RUN_COLUMNS, "") | run | {"what": ", ".join(run["what"])} for run in made.values()]


def figure() -> None:
    """F05e of study: smoothing is defence, by its codes; its manifest and sidecar follow."""
    lines = list(csv.reader(io.StringIO(OLD_FIGURE.read_text(encoding="utf-8"))))
    assert lines[0][0] == "smoothing"
    out = io.StringIO()
    renamed = [["defence", *lines[0][1:]], *([NAMED[a], *b] for a, *b in lines[1:])]
    csv.writer(out, lineterminator="\n").writerows(renamed)
    path = ROOT / "figures" / "study" / OLD_FIGURE.name
    write_atomic(path, out.getvalue())
    sidecar = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    sidecar["columns"] = ["defence", *lines[0][1:]]
    write_atomic(path.with_suffix(".json"), json.dumps(sidecar, sort_keys=True, indent=1, ensure_ascii=False) + "\n")
    manifest = ROOT / "figures" / "MANIFEST.csv"
    rows = read_table(manifest)
    [row] = [row for row in rows if (row["figure"], row["profile"]) == ("F05e", "study")]
    row["csv_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    upsert(manifest, row, key=("figure", "profile"), columns=list(row))


def main() -> None:
    for folder in K:
        olds = {path.stem: read_old(path) for path in sorted((OLD / folder).iterdir())}
        for stem, old in olds.items():
            new = TABLES[stem](old, K[folder]).drop(columns=["smoothing", "attack"])
            save_rows(new, ROOT / "results" / folder / f"{stem}.parquet")
            print(f"{folder}/{stem}: {len(old)} rows, {len(new)} now")
        for run in runs(olds):
            upsert(ROOT / "results" / folder / "runs.csv", run, key=("run_id",), columns=RUN_COLUMNS)
    figure()


if __name__ == "__main__":
    main()
