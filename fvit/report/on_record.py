"""Tables of earlier runs, found under results/."""

from pathlib import Path

import pandas as pd

from fvit.base.paths import ROOT, output_root
from fvit.records import ledger, profiles, provenance
from fvit.records.rows import load_rows

PROFILES = [name for name in profiles.PROFILES if name != "natural"]  # of the scenes (or at `paper`); the largest last


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

    folders   profiles, the largest first, or a folder of rows of another data set: ["cifar10"], ["natural"]
    stale     whether rows of other models or images than ship now (`outdated`) count; else they are passed over
    """
    paths = {folder: find(f"results/{folder}/{stem}.parquet") for folder in folders}
    found = ((folder, load_rows(path)) for folder, path in paths.items() if path.exists())
    return next((rows for folder, rows in found if stale or not outdated(rows, folder)), None)


def outdated(rows: pd.DataFrame, folder: str) -> str:
    """`provenance.outdated` of the rows of results/<folder>/."""
    return provenance.outdated(rows, folder, runs(folder))


def runs(folder: str) -> list[dict]:
    """The runs on record in results/<folder>/runs.csv."""
    try:
        return joined([f"results/{folder}/runs.csv"], ["run_id"]).fillna("").to_dict("records")
    except FileNotFoundError:
        return []


def most_draws(radii) -> int:
    """The greatest `n_samples` that all scenes have."""
    n_images = radii.groupby("n_samples")["image_id"].nunique()
    return n_images[n_images == n_images.max()].index.max()


def find_timed(stem: str, folders=PROFILES[::-1]) -> tuple[pd.DataFrame, str]:
    """`find_rows` of times, and the run that took them in words: "2026-11-24, cpu, 2 threads, load 2, 3 rounds"."""
    rows = find_rows(stem, folders, stale=True)  # a machine's times hang on no weight
    [(profile, run_id)] = set(zip(rows["profile"], rows["run_id"], strict=True))
    return rows, provenance.run_said(runs(profile), run_id)
