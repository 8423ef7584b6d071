"""Tables of earlier runs, found under results/."""

from pathlib import Path

import pandas as pd

from fvit.base.paths import ROOT, output_root
from fvit.records import ledger, profiles, provenance
from fvit.records.rows import load_rows

PROFILES = [*profiles.PROFILES]  # the largest last


def find(name: str) -> Path:
    """The file `name` of the current output folder, or where that has none the repository's own."""
    path = output_root() / name
    return path if path.exists() else ROOT / name


def joined(names: list[str], key: list[str]) -> pd.DataFrame:
    """The repository's tables `names` with the output folder's rows in the place of those of equal key, sorted by it.

    A column `root` says which of the two folders a row is of. Raises FileNotFoundError if neither has any of them.
    """
    found = [pd.DataFrame(ledger.read_table(root / name)).assign(root=root)
             for root in dict.fromkeys([ROOT, output_root()]) for name in names if (root / name).exists()]
    if not found:
        raise FileNotFoundError(f"no {names[0]} under {output_root()} or {ROOT}; run `fvit run all` first")
    table = pd.concat(found, ignore_index=True).drop_duplicates(key, keep="last")
    return table.loc[sorted(table.index, key=lambda i: ledger.natural(table.loc[i, key]))].reset_index(drop=True)


def find_rows(stem: str, folders=PROFILES[::-1], stale: bool = False) -> pd.DataFrame | None:
    """The tidy rows results/<folder>/<stem>.parquet of the first folder that has them; None if none has.

    folders   profiles, the largest first, or a folder of rows of another data set: ["cifar10"]
    stale     whether rows of other models or images than ship now (`outdated`) count; else they are passed over
    """
    paths = {folder: find(f"results/{folder}/{stem}.parquet") for folder in folders}
    found = ((folder, load_rows(path)) for folder, path in paths.items() if path.exists())
    return next((rows for folder, rows in found if stale or not outdated(rows, folder)), None)


def outdated(rows: pd.DataFrame, folder: str) -> str:
    """Why the rows of results/<folder>/ are none of the images and models that ship now; "" if they are.

    Those of `laptop` are made anew by the run that reads them, those of `paper` are of models that do not ship.
    """
    if folder in ("laptop", "paper"):
        return ""
    used = runs_of(rows, folder)
    if None in used:
        return f"its {folder} rows do not say which run made them"
    data = "scenes" if folder == "study" else folder
    if any(run.get("inputs") != provenance.inputs_digest(data, defences=set(rows["defence"])) for run in used):
        return f"its {folder} rows, of {runs_said(used)}, are of other models or images than ship now"
    return ""


def runs_of(rows: pd.DataFrame, folder: str) -> list[dict | None]:
    """The runs that made the rows of results/<folder>/, as of runs.csv there; None for one that is not in it."""
    try:
        runs = joined([f"results/{folder}/runs.csv"], ["run_id"]).fillna("").to_dict("records")
    except FileNotFoundError:
        runs = []
    by_id = {run["run_id"]: run for run in runs}
    return [by_id.get(run_id) for run_id in dict.fromkeys(rows["run_id"])]


def runs_said(runs) -> str:
    """Runs in words: "2026-11-24 (06b2ab2) and 2026-11-25 (e81464e)"."""
    return " and ".join(f"{run['date']}" + f" ({run['commit']})" * bool(run["commit"]) for run in runs)


def find_timed(stem: str, folders=PROFILES[::-1]) -> tuple[pd.DataFrame, str]:
    """`find_rows` of times, and the run that took them in words: "2026-11-24, cpu, 2 threads, load 2, 3 rounds"."""
    rows = find_rows(stem, folders, stale=True)  # a machine's times hang on no weight
    [(profile, run_id)] = set(zip(rows["profile"], rows["run_id"], strict=True))
    return rows, provenance.run_said(find(f"results/{profile}/runs.csv"), run_id)
