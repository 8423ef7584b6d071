"""Long experiments in blocks of images: the rows of a block are one file, so a stopped run goes on where it was."""

import hashlib
import io
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from fvit.base.files import write_atomic
from fvit.base.paths import results_dir
from fvit.base.timing import Progress, duration
from fvit.records.provenance import code_digest, stamp
from fvit.records.rows import SCHEMA, _parquet, conform, load_rows


class UnfinishedError(RuntimeError):
    """This shard has done its blocks, and other shards have not done theirs yet."""


def run_blocks(work, n_images: int, size: int, *, name: str, profile: str, settings: dict) -> pd.DataFrame:
    """Tidy rows of `work(start, stop)` over blocks of images 0 ... n_images - 1, in their order.

    work       callable (start, stop) -> DataFrame with columns of SCHEMA, about those images alone. It is sent to other
               machines with all that it refers to: a `runs.Run` refers to networks and images by name
    size       images in a block; streams are named by image, so it changes rows by float32 rounding at most
    name       of the experiment, such as "09_scores"
    settings   all that the rows depend on besides the code of fvit; JSON values. With a digest of that code they are
               part of a block's name, so that rows of other code are never taken up

    At `laptop` everything is computed anew. Elsewhere a finished block is a Parquet file in
    results/<profile>/blocks/, written whole, and a rerun reads it. FVIT_SHARD="i/n" computes every n-th block only;
    raises UnfinishedError where blocks of other shards are missing then. The last one to end merges.
    FVIT_EXECUTOR="ray" computes the blocks on the workers of a Ray cluster (`cluster`); the rows are the same.
    FVIT_DRY_RUN=DIR computes one image and says how long those that DIR lacks would take; the table has no rows.
    """
    if n_images < 1 or size < 1:
        raise ValueError(f"n_images={n_images}, size={size}; wanted at least 1 of each")
    spans = [(start, min(start + size, n_images)) for start in range(0, n_images, size)]
    shard, n_shards = _shard(os.environ.get("FVIT_SHARD") or "1/1")
    compute, dry = _executor(), os.environ.get("FVIT_DRY_RUN")
    block = Block(work, profile, code_digest())
    if profile == "laptop" and not dry:
        found = dict(compute(block, spans))
        return pd.concat([load_rows(io.BytesIO(found[span])) for span in spans], ignore_index=True)
    key = json.dumps([name, settings, block.digest], sort_keys=True)
    stem = f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    folder = results_dir(profile, dry) / "blocks"
    paths = {(start, stop): folder / f"{stem}-{start:05d}-{stop:05d}.parquet" for start, stop in spans}
    todo = [span for span in spans[shard - 1::n_shards] if not paths[span].exists()]
    if dry:
        print(f"{name}: {n_images} images in {len(spans)} blocks, {len(todo)} of them to do here")
        _say_how_long(work, todo)
        return pd.DataFrame(columns=list(SCHEMA)).astype(SCHEMA)
    progress = Progress(name, len(todo))
    for span, data in compute(block, todo):
        write_atomic(paths[span], data)
        progress.step()
    if missing := [path.name for path in paths.values() if not path.exists()]:
        raise UnfinishedError(f"shard {shard}/{n_shards} of {name} is done; {len(missing)} of {len(paths)} blocks are "
                              f"missing, first {missing[0]}; run the other shards, then this again: it merges them")
    return pd.concat([load_rows(path) for path in paths.values()], ignore_index=True)


@dataclass(frozen=True)
class Block:
    """The bytes of a block's file, wherever they are computed: `block(start, stop)`."""

    work: Callable
    profile: str
    digest: str

    def __call__(self, start: int, stop: int) -> bytes:
        return _parquet(conform(self.work(start, stop), profile=self.profile))

    def has_same_code(self) -> bool:
        """Whether fvit on the machine where this is called computes what the machine that made the block would."""
        return code_digest() == self.digest


def _executor() -> Callable[[Block, list], Iterator]:
    """Function (block, spans) -> pairs (span, bytes of its file), as they are done; chosen by FVIT_EXECUTOR."""
    chosen = os.environ.get("FVIT_EXECUTOR") or "local"
    if chosen == "ray":
        from fvit.experiments import cluster  # late: an optional extra

        cluster.check_installed()
        return cluster.compute
    if chosen != "local":
        raise ValueError(f"FVIT_EXECUTOR={chosen!r}, wanted local or ray")
    return lambda block, spans: ((span, block(*span)) for span in spans)


def _say_how_long(work, todo: list[tuple[int, int]]) -> None:
    """Compute the first image that is to do, and print what all of them take at that rate; where the first images meet
    attacks that the others do not (`runs.Run`), one of each."""
    images, cut = [n for span in todo for n in range(*span)], getattr(work, "n_adaptive", 0)
    parts = [part for part in ([n for n in images if n < cut], [n for n in images if n >= cut]) if part]
    each = []
    for part in parts:
        began = time.perf_counter()
        work(part[0], part[0] + 1)
        each.append(time.perf_counter() - began)
    if parts:
        whole = sum(seconds * len(part) for seconds, part in zip(each, parts, strict=True))
        took = " and ".join(f"{seconds:.1f} s" for seconds in each)
        print(f"  one image took {took} here ({stamp()['device']}), so {len(images)} take about {duration(whole)} in "
              "one process; several at a time may be faster")


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    shard, n_shards = map(int, found.groups()) if found else (0, 0)
    if not 1 <= shard <= n_shards:
        raise ValueError(f"FVIT_SHARD={text!r}, wanted i/n with 1 <= i <= n, such as 1/4")
    return shard, n_shards
