"""Blocks of images on the workers of a Ray cluster, actors of Ray Data that load their networks once: docs/ray.md."""

import importlib.util
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

PASSED_ON = ("FVIT_DATA", "HF_HUB_OFFLINE", "PYTHONHASHSEED")  # of the environment, to workers


def check_installed() -> None:
    """ImportError that names the extra, where Ray is missing."""
    if importlib.util.find_spec("ray") is None:
        raise ImportError("the executor ray needs Ray, which is not installed; install it by "
                          '`pip install "fvit[cluster]"`, or leave out --executor ray')


def compute(block, spans: list[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Pairs (span, block(*span)) as workers finish them, in any order.

    block   callable (start, stop) -> bytes with `work` and `has_same_code`: a `blocks.Block`; sent to each worker once

    Each worker computes with as many threads as this process, so float32 sums are the same on processors of one kind.
    A block whose worker or machine dies is given to another, however often. An exception in `block` ends the run:
    RuntimeError names images, machine and reason; what came before is kept.
    RAY_ADDRESS names a cluster; without it Ray starts on this machine alone, without dashboard and statistics.
    """
    if not spans:
        return
    with _session():
        import ray.data

        threads, resources = torch.get_num_threads(), ray.cluster_resources()
        on_gpus = resources.get("GPU", 0) >= 1 and getattr(block.work, "device", "auto") != "cpu"
        room = int(resources["GPU"] if on_gpus else resources.get("CPU", 1) // threads)
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        done = ray.data.from_items([{"start": start, "stop": stop} for start, stop in spans],
                                   override_num_blocks=len(spans)).map_batches(
            _Worker, fn_constructor_args=(ray.cloudpickle.dumps(block), threads), batch_size=1,
            compute=ray.data.ActorPoolStrategy(  # more actors as machines join, and no block waits behind another
                min_size=max(1, min(room, len(spans))), max_size=len(spans), max_tasks_in_flight_per_actor=1),
            **({"num_gpus": 1} if on_gpus else {"num_cpus": threads}))
        for row in done.iter_rows():
            if row["error"]:
                raise RuntimeError(f"images {row['start']} to {row['stop'] - 1}: {row['error']}")
            yield (row["start"], row["stop"]), row["file"]


class _Worker:
    """An actor: takes the block of one span at a time. What goes wrong comes back as text, not as a stack of traces.

    The work is unpacked at the first call: a constructor that fails, for want of a module, Ray would try for minutes.
    """

    def __init__(self, packed: bytes, threads: int):
        torch.set_num_threads(threads)
        self.packed, self.block = packed, None

    def __call__(self, batch: dict) -> dict:
        file, error = b"", ""
        try:
            self.block = self.block or _unpacked(self.packed)
            file = self.block(int(batch["start"][0]), int(batch["stop"][0]))
        except Exception as problem:
            error = f"{type(problem).__name__} on {platform.node()}: {problem}"
        return {**batch, "file": np.array([file], dtype=object), "error": [error]}


def _unpacked(packed: bytes):
    import ray.cloudpickle

    block = ray.cloudpickle.loads(packed)
    if not block.has_same_code():
        raise ValueError("another fvit is installed here; install on all machines what asks")
    return block


@contextmanager
def _session() -> Iterator:
    """Ray, started here if it does not run in this process yet, and then stopped at the end."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would call home
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else a warning of what Ray Data itself does
    import ray

    if ray.is_initialized():
        yield
        return
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
             runtime_env={"env_vars": passed_on})
    try:
        yield
    finally:
        ray.shutdown()
