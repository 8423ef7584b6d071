"""Tables of earlier runs, found under results/."""

from pathlib import Path

import pandas as pd

from fvit.base.paths import ROOT, output_root
from fvit.records import ledger, provenance
from fvit.records.ledger import natural
from fvit.records.rows import load_rows

PROFILES = ("laptop", "study", "paper")


def find(name: str) -> Path:
    """The file `name` of the current output folder, or where that has none the repository's own."""
    path = output_root() / name
    return path if path.exists() else ROOT / name


def _joined(name, key):
    """The repository's table `name` with the output folder's rows in the place of those of equal key; None if no file.

    A column `root` says which of the two folders a row is of.
    """
    roots = [root for root in dict.fromkeys([ROOT, output_root()]) if (root / name).exists()]
    if not roots:
        return None
    tables = [pd.DataFrame(ledger.read_table(root / name)).assign(root=root) for root in roots]
    table = pd.concat(tables, ignore_index=True).drop_duplicates(key, keep="last")
    order = sorted(table.index, key=lambda i: natural(table.loc[i, key]))
    return table.loc[order].reset_index(drop=True)


def find_rows(stem: str, folders=PROFILES[::-1]) -> pd.DataFrame | None:
    """The tidy rows results/<folder>/<stem>.parquet of the first folder that has them; None if none has.

    folders   profiles, the largest first, or a folder of rows of another data set: ["cifar10"]
    """
    paths = [find(f"results/{folder}/{stem}.parquet") for folder in folders]
    return next((load_rows(path) for path in paths if path.exists()), None)


def find_timed(stem: str, folders=PROFILES[::-1]) -> tuple[pd.DataFrame, str]:
    """`find_rows` of times, and the run that took them in words: "2026-11-24, cpu, 2 threads, load 2, 3 rounds"."""
    rows = find_rows(stem, folders)
    [(profile, run_id)] = set(zip(rows["profile"], rows["run_id"], strict=True))
    return rows, provenance.run_said(find(f"results/{profile}/runs.csv"), run_id)
