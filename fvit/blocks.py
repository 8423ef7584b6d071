"""Long experiments in blocks of images: the rows of a block are one file, so a stopped run goes on where it was."""

import ast
import hashlib
import io
import json
import os
import re
from pathlib import Path

import pandas as pd

from fvit import profiles
from fvit.paths import PACKAGE, results_dir, write_atomic
from fvit.results import SCHEMA


class UnfinishedError(RuntimeError):
    """This shard has done its blocks, and other shards have not done theirs yet."""


def run_blocks(work, n_images: int, size: int, *, name: str, settings: dict, code: list[str]) -> pd.DataFrame:
    """Tidy rows of `work(start, stop)` over blocks of images 0 ... n_images - 1, one after another, in their order.

    work       callable (start, stop) -> DataFrame with columns of results.SCHEMA, about those images alone
    size       images in a block; streams are named by image, so it changes rows by float32 rounding at most
    name       of the experiment, such as "07_scores"
    settings   all that the rows depend on besides code and weights; JSON values
    code       modules of fvit that compute the rows, such as ["experiments"]: with what they import, and the shipped
               weights, they are part of a block's name, so that rows of other code are never taken up

    At `laptop` everything is computed anew. Elsewhere a finished block is a Parquet file in
    results/<profile>/blocks/, written whole, and a rerun reads it. FVIT_SHARD="i/n" computes every n-th block only;
    raises UnfinishedError where blocks of other shards are missing then. The last one to end merges.
    """
    if n_images < 1 or size < 1:
        raise ValueError(f"n_images={n_images}, size={size}; wanted at least 1 of each")
    run = profiles.current or profiles.profile()
    spans = [(start, min(start + size, n_images)) for start in range(0, n_images, size)]
    if run.name == "laptop":
        return pd.concat([_conform(work(*span), run.name) for span in spans], ignore_index=True)
    key = json.dumps([name, settings, code_digest(code)], sort_keys=True)
    stem = f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    paths = [results_dir(run.name) / "blocks" / f"{stem}-{start:05d}-{stop:05d}.parquet" for start, stop in spans]
    shard, n_shards = _shard(os.environ.get("FVIT_SHARD") or "1/1")
    for number, (span, path) in enumerate(zip(spans, paths, strict=True)):
        if number % n_shards == shard - 1 and not path.exists():
            save_rows(_conform(work(*span), run.name), path)
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise UnfinishedError(f"shard {shard}/{n_shards} of {name} is done; {len(missing)} of {len(paths)} blocks are "
                              f"missing, first {missing[0]}; run the other shards, then this again: it merges them")
    return pd.concat([load_rows(path) for path in paths], ignore_index=True)


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    shard, n_shards = map(int, found.groups()) if found else (0, 0)
    if not 1 <= shard <= n_shards:
        raise ValueError(f"FVIT_SHARD={text!r}, wanted i/n with 1 <= i <= n, such as 1/4")
    return shard, n_shards


def save_rows(rows: pd.DataFrame, path: Path | str) -> Path:
    """Write tidy rows as a Parquet file, whole or not at all; the same rows give the same bytes."""
    out = io.BytesIO()
    table = rows.astype({column: "category" for column, kind in SCHEMA.items() if kind == "str"})
    table.attrs["sha256"] = _digest(rows)  # Parquet's own checksums leave out its footer
    table.to_parquet(out, index=False, compression="zstd")
    return write_atomic(path, out.getvalue())


def load_rows(path: Path | str) -> pd.DataFrame:
    """The tidy rows of a Parquet file, with the columns and dtypes of results.SCHEMA; ValueError if it has others."""
    data = Path(path).read_bytes()
    try:
        rows = pd.read_parquet(io.BytesIO(data))
    except Exception as error:  # pyarrow's own classes, OSError without a path among them
        mend = "delete it and run again"
        raise ValueError(f"{path} is no whole Parquet file ({type(error).__name__}); {mend}") from error
    if list(rows) != list(SCHEMA):
        raise ValueError(f"{path} has columns {list(rows)}, wanted {list(SCHEMA)}; it is not a table of tidy rows")
    stated, rows = rows.attrs.pop("sha256", None), rows.astype(SCHEMA)
    if stated not in (None, _digest(rows)):
        raise ValueError(f"{path} is damaged: its rows are not those that were written; delete it and run again")
    return rows


def _digest(rows: pd.DataFrame) -> str:
    return hashlib.sha256(rows.to_csv(index=False, lineterminator="\n").encode()).hexdigest()


def code_digest(modules: list[str], package: Path = PACKAGE) -> str:
    """sha256 over the sources of `modules`, of all modules of fvit that they import, and over the shipped weights."""
    found, todo = {}, list(modules)
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = (package / f"{name}.py").read_text(encoding="utf-8")
            todo += _imports(found[name], package)
    parts = [f"{name} {hashlib.sha256(found[name].encode()).hexdigest()}" for name in sorted(found)]
    weights = [path for path in package.rglob("*.safetensors") if not path.name.startswith("checkpoint")]
    parts += [f"{path.relative_to(package).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}"
              for path in sorted(weights)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _imports(source: str, package: Path) -> list[str]:
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, ["fvit" if node.level else "", node.module or ""]))
            full = [f"fvit.{alias.name}" for alias in node.names] if module == "fvit" else [module]
        else:
            full = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names.update(name.split(".")[1] for name in full if name.startswith("fvit."))
    return [name for name in names if (package / f"{name}.py").is_file()]


def _conform(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    unknown = [column for column in rows if column not in SCHEMA]
    if unknown:
        raise ValueError(f"rows have unknown columns {unknown}, known: {', '.join(SCHEMA)}")
    rows = rows.assign(profile=profile).reindex(columns=list(SCHEMA))
    text = [column for column, kind in SCHEMA.items() if kind == "str"]
    return rows.assign(**{column: rows[column].astype(object).fillna("") for column in text}).astype(SCHEMA)
