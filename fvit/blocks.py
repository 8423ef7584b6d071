"""Long experiments in blocks of images: the rows of a block are one file, so a stopped run goes on where it was."""

import ast
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fvit import profiles
from fvit.paths import PACKAGE, results_dir, write_atomic
from fvit.results import SCHEMA
from fvit.timing import Progress

# What finds and writes files, names sizes, takes times or halves a batch: no value of a row comes from it.
PLUMBING = {"paths", "profiles", "timing", "memory", "estimates"}


class UnfinishedError(RuntimeError):
    """This shard has done its blocks, and other shards have not done theirs yet."""


def run_blocks(work, n_images: int, size: int, *, name: str, settings: dict, code: list[str]) -> pd.DataFrame:
    """Tidy rows of `work(start, stop)` over blocks of images 0 ... n_images - 1, in their order.

    work       callable (start, stop) -> DataFrame with columns of results.SCHEMA, about those images alone. A
               `tasks.Task` goes to other machines as names; any other callable goes with all that it refers to
    size       images in a block; streams are named by image, so it changes rows by float32 rounding at most
    name       of the experiment, such as "07_scores"
    settings   all that the rows depend on besides code; JSON values. Those of a Bench or Task include its weights
    code       modules of fvit that compute the rows, such as ["controls"]: with what they import they are part of a
               block's name, so that rows of other code are never taken up

    At `laptop` everything is computed anew. Elsewhere a finished block is a Parquet file in
    results/<profile>/blocks/, written whole, and a rerun reads it. FVIT_SHARD="i/n" computes every n-th block only;
    raises UnfinishedError where blocks of other shards are missing then. The last one to end merges.
    FVIT_EXECUTOR="ray" computes the blocks on the workers of a Ray cluster (`extras.cluster`); the rows are the same.
    FVIT_DRY_RUN=DIR computes nothing: prints what is to do for the outputs in DIR, and returns a table without rows.
    """
    if n_images < 1 or size < 1:
        raise ValueError(f"n_images={n_images}, size={size}; wanted at least 1 of each")
    run = profiles.current or profiles.profile()
    spans = [(start, min(start + size, n_images)) for start in range(0, n_images, size)]
    compute, block = _executor(), Block(work, run.name, tuple(code), code_digest(code))
    if run.name == "laptop" and not os.environ.get("FVIT_DRY_RUN"):
        found = dict(compute(block, spans))
        return pd.concat([load_rows(io.BytesIO(found[span])) for span in spans], ignore_index=True)
    key = json.dumps([name, settings, block.digest], sort_keys=True)
    stem = f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    folder = results_dir(run.name, os.environ.get("FVIT_DRY_RUN")) / "blocks"
    paths = {(start, stop): folder / f"{stem}-{start:05d}-{stop:05d}.parquet" for start, stop in spans}
    shard, n_shards = _shard(os.environ.get("FVIT_SHARD") or "1/1")
    todo = [span for span in spans[shard - 1::n_shards] if not paths[span].exists()]
    if os.environ.get("FVIT_DRY_RUN"):
        return _say_what_is_to_do(work, name, spans, todo)
    progress = Progress(name, len(todo))
    for span, data in compute(block, todo):
        write_atomic(paths[span], data)
        progress.step()
    missing = [path.name for path in paths.values() if not path.exists()]
    if missing:
        raise UnfinishedError(f"shard {shard}/{n_shards} of {name} is done; {len(missing)} of {len(paths)} blocks are "
                              f"missing, first {missing[0]}; run the other shards, then this again: it merges them")
    return pd.concat([load_rows(path) for path in paths.values()], ignore_index=True)


@dataclass(frozen=True)
class Block:
    """The bytes of a block's file, wherever they are computed: `block(start, stop)`."""

    work: Callable
    profile: str
    code: tuple[str, ...]
    digest: str

    def __call__(self, start: int, stop: int) -> bytes:
        return _parquet(_conform(self.work(start, stop), self.profile))

    def has_same_code(self) -> bool:
        """Whether fvit on the machine where this is called computes what the machine that made the block would."""
        return code_digest(self.code) == self.digest


def _executor() -> Callable[[Block, list], Iterator]:
    """Function (block, spans) -> pairs (span, bytes of its file), as they are done; chosen by FVIT_EXECUTOR."""
    chosen = os.environ.get("FVIT_EXECUTOR") or "local"
    if chosen == "ray":
        from fvit.extras import cluster  # late: an optional extra

        cluster.check_installed()
        return cluster.compute
    if chosen != "local":
        raise ValueError(f"FVIT_EXECUTOR={chosen!r}, wanted local or ray")
    return lambda block, spans: ((span, block(*span)) for span in spans)


def _say_what_is_to_do(work, name: str, spans: list, todo: list) -> pd.DataFrame:
    print(f"{name}: {spans[-1][1]} images in {len(spans)} blocks, {len(todo)} of them to do here")
    if todo:
        print(work.report(todo) if hasattr(work, "report") else "  no tasks.Task, so it cannot say what it calls")
    return pd.DataFrame(columns=list(SCHEMA)).astype(SCHEMA)


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    shard, n_shards = map(int, found.groups()) if found else (0, 0)
    if not 1 <= shard <= n_shards:
        raise ValueError(f"FVIT_SHARD={text!r}, wanted i/n with 1 <= i <= n, such as 1/4")
    return shard, n_shards


def save_rows(rows: pd.DataFrame, path: Path | str) -> Path:
    """Write tidy rows as a Parquet file, whole or not at all; the same rows give the same bytes."""
    return write_atomic(path, _parquet(rows))


def _parquet(rows: pd.DataFrame) -> bytes:
    out = io.BytesIO()
    table = rows.astype({column: "category" for column, kind in SCHEMA.items() if kind == "str"})
    table.attrs["sha256"] = _digest(rows)  # Parquet's own checksums leave out its footer
    table.to_parquet(out, index=False, compression="zstd")
    return out.getvalue()


def load_rows(path: Path | str | io.BytesIO) -> pd.DataFrame:
    """The tidy rows of a Parquet file, with the columns and dtypes of results.SCHEMA; ValueError if it has others."""
    whole = path if isinstance(path, io.BytesIO) else io.BytesIO(Path(path).read_bytes())
    try:
        rows = pd.read_parquet(whole)
    except Exception as error:  # pyarrow's own classes, OSError without a path among them
        mend = "delete it and run again"
        raise ValueError(f"{path} is no whole Parquet file ({type(error).__name__}); {mend}") from error
    if list(rows) != list(SCHEMA):
        raise ValueError(f"{path} has columns {list(rows)}, wanted {list(SCHEMA)}; it is not a table of tidy rows")
    stated = rows.attrs.pop("sha256", None)
    try:
        rows = rows.astype(SCHEMA)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} has columns of other kinds ({error}); delete it and run again") from error
    if stated not in (None, _digest(rows)):
        raise ValueError(f"{path} is damaged: its rows are not those that were written; delete it and run again")
    return rows


def _digest(rows: pd.DataFrame) -> str:
    return hashlib.sha256(rows.to_csv(index=False, lineterminator="\n").encode()).hexdigest()


def code_digest(modules: Iterable[str], package: Path = PACKAGE) -> str:
    """sha256 over what the sources of `modules`, and of all modules of fvit that they import, do.

    Comments, docstrings and layout do not count, nor does PLUMBING. Weights are named by the settings (`Bench`).
    """
    parts = [f"{name} {hashlib.sha256(_bare(text).encode()).hexdigest()}"
             for name, text in sorted(imported_code(modules, package).items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def imported_code(modules: Iterable[str], package: Path = PACKAGE) -> dict[str, str]:
    """name -> source of `modules` and of all modules of fvit that they import, directly or not, but PLUMBING."""
    found, todo = {}, list(modules)
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = _file(name, package).read_text(encoding="utf-8")
            todo += [other for other in _imports(found[name], package) if other not in PLUMBING]
    return found


def _file(name: str, package: Path) -> Path:
    return package / f"{name.replace('.', '/')}.py"


def _bare(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
    return ast.unparse(tree)


def _imports(source: str, package: Path) -> set[str]:
    """Modules of fvit, such as "rng" or "extras.adm", that a source imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, ["fvit" if node.level else "", node.module or ""]))
            names.update([module, *(f"{module}.{alias.name}" for alias in node.names)])  # an alias may be a module
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    inside = {name.removeprefix("fvit.") for name in names if name.startswith("fvit.")}
    return {name for name in inside if _file(name, package).is_file()}


def _conform(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    unknown = [column for column in rows if column not in SCHEMA]
    if unknown:
        raise ValueError(f"rows have unknown columns {unknown}, known: {', '.join(SCHEMA)}")
    rows = rows.assign(profile=profile).reindex(columns=list(SCHEMA))
    text = [column for column, kind in SCHEMA.items() if kind == "str"]
    return rows.assign(**{column: rows[column].astype(object).fillna("") for column in text}).astype(SCHEMA)
