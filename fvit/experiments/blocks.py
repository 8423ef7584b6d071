"""Long experiments in blocks of images: the rows of a block are one file, so a stopped run goes on where it was."""

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from fvit.base.files import write_atomic
from fvit.base.paths import results_dir
from fvit.base.timing import Progress
from fvit.experiments import costs
from fvit.experiments.bench import Bench
from fvit.experiments.setting import SCENES, Setting
from fvit.records import profiles
from fvit.records.profiles import Profile
from fvit.records.provenance import code_digest
from fvit.records.rows import SCHEMA, _parquet, conform, load_rows


class UnfinishedError(RuntimeError):
    """This shard has done its blocks, and other shards have not done theirs yet."""


def run_blocks(work, n_images: int, size: int, *, name: str, settings: dict, code: list[str]) -> pd.DataFrame:
    """Tidy rows of `work(start, stop)` over blocks of images 0 ... n_images - 1, in their order.

    work       callable (start, stop) -> DataFrame with columns of rows.SCHEMA, about those images alone. A
               `blocks.Task` goes to other machines as names; any other callable goes with all that it refers to
    size       images in a block; streams are named by image, so it changes rows by float32 rounding at most
    name       of the experiment, such as "07_scores"
    settings   all that the rows depend on besides code; JSON values. Those of a Bench or Task include its weights
    code       modules of fvit that compute the rows, such as ["experiments.controls"]: with what they import they are
               part of a block's name, so that rows of other code are never taken up

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
        return _parquet(conform(self.work(start, stop), profile=self.profile))

    def has_same_code(self) -> bool:
        """Whether fvit on the machine where this is called computes what the machine that made the block would."""
        return code_digest(self.code) == self.digest


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


@dataclass(frozen=True)
class Task:
    """Rows of images start ... stop - 1 by `task(start, stop)`.

    rows    function of fvit, (bench, images, **what) -> DataFrame, such as `attack_rows.attack_rows`
    what    its arguments; JSON values
    sizes   a profile: sigma, draws, k, attack steps and draws, batch, precision
    on      the ViT, denoiser and images, and the device: by name

    Raises what the loaders raise, when it first needs them.
    """

    rows: Callable
    what: dict
    sizes: Profile
    seed: int = 0
    on: Setting = SCENES

    def __call__(self, start: int, stop: int) -> pd.DataFrame:
        return self.rows(self.bench, self.on.images(stop - start, start), **self.what)

    @property
    def bench(self) -> Bench:
        """The networks at these sizes."""
        names = "sigma n_samples k attack_steps attack_draws eval_batch precision".split()
        return Bench(*self.on.networks, **{name: getattr(self.sizes, name) for name in names}, seed=self.seed)

    @property
    def settings(self) -> dict:
        """All that the rows depend on besides code, for `blocks.run_blocks`."""
        return {"rows": f"{self.rows.__module__}.{self.rows.__qualname__}", "what": self.what, **self.on.names,
                "bench": self.bench.settings}

    @property
    def code(self) -> list[str]:
        """The modules of fvit that compute the rows, for `blocks.run_blocks`."""
        module = self.rows.__module__
        return ["experiments.setting", *([module.removeprefix("fvit.")] if module.startswith("fvit.") else [])]

    def report(self, todo: list[tuple[int, int]]) -> str:
        """What the blocks `todo` load, call and take, for `fvit run --dry-run`."""
        return (f"  loads: {', '.join(f'{name} {arguments}' for name, arguments in self.on.names.items())}; "
                f"on {self.on.place}\n" + costs.report(self.bench, self.rows, self.what, todo))
