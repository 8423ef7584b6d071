"""Blocks on real Ray workers: the rows of one process and of shards, workers and drivers killed in mid-run."""

import os
import re
import signal
import subprocess
import sys
import types
from pathlib import Path

import pandas as pd
import pytest
import torch

import fvit
from fvit.base.paths import ROOT
from fvit.experiments import blocks, cluster
from fvit.experiments.attack_rows import attack_rows
from fvit.experiments.blocks import UnfinishedError, run_blocks
from fvit.records import profiles, provenance

pytest.importorskip("ray", reason='Ray is not installed: pip install "fvit[cluster]"')
N, SIZE = 8, 2


@pytest.fixture(scope="module", autouse=True)
def two_workers():
    """Ray on this machine with room for two workers; `cluster.compute` finds it running."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers need not import timm for a fake
    ray.init(num_cpus=2 * torch.get_num_threads(), include_dashboard=False, log_to_driver=False,
             object_store_memory=100 * 2**20, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("FVIT_OUT", str(tmp_path / "one"))
    for name in ("FVIT_SHARD", "FVIT_EXECUTOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(profiles, "current", None)


class Counted:
    """Rows of sines; leaves a file for each call that begins, and may end its process at the first call of a block."""

    def __init__(self, folder, killed_at=None, refused=None):
        self.folder, self.killed_at, self.refused = Path(folder), killed_at, refused
        self.folder.mkdir(exist_ok=True)

    def __call__(self, start, stop):
        calls = len(list(self.folder.glob(f"{start}-*")))
        (self.folder / f"{start}-{calls}-{os.getpid()}").touch()
        if start == self.killed_at and not calls:
            os.kill(os.getpid(), signal.SIGKILL)
        if start == self.refused:
            raise ValueError(f"image {start} cannot be read")
        x = torch.arange(start, stop, dtype=torch.float32)
        return pd.DataFrame({"image_id": [f"test-0-{i}" for i in range(start, stop)], "metric": "sine",
                             "value": (x / 3).sin().double().numpy()})

    def calls(self):
        return sorted(int(path.name.split("-")[0]) for path in self.folder.iterdir())


def run(work, n=N):
    return run_blocks(work, n, SIZE, name="10_scores", profile="study", settings={"radii": [8 / 255]})


def elsewhere(monkeypatch, tmp_path, name, executor="ray"):
    monkeypatch.setenv("FVIT_OUT", str(tmp_path / name))
    monkeypatch.setenv("FVIT_EXECUTOR", executor)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*.parquet")}


def sharded(monkeypatch, tmp_path, work, n=N):
    """The rows that three shards merge, in one folder, and the files of their blocks."""
    elsewhere(monkeypatch, tmp_path, "shards", "local")
    for shard in ("1/3", "2/3", "3/3"):
        monkeypatch.setenv("FVIT_SHARD", shard)
        try:
            rows = run(work, n)
        except UnfinishedError:
            assert shard != "3/3"
    monkeypatch.delenv("FVIT_SHARD")
    return rows


def test_one_process_two_workers_one_of_them_killed_and_three_shards_give_the_same_to_the_bit(monkeypatch, tmp_path):
    works = {name: Counted(tmp_path / f"{name}-calls", killed_at=4 if name == "ray" else None)
             for name in ("one", "ray", "shards")}
    alone = run(works["one"])
    elsewhere(monkeypatch, tmp_path, "ray")
    on_ray = run(works["ray"])
    of_shards = sharded(monkeypatch, tmp_path, works["shards"])
    for rows in (on_ray, of_shards):
        pd.testing.assert_frame_equal(rows, alone, check_exact=True)
    assert files(tmp_path / "one") == files(tmp_path / "ray") == files(tmp_path / "shards") != {}
    assert works["one"].calls() == works["shards"].calls() == [0, 2, 4, 6]
    assert works["ray"].calls().count(4) == 2 and set(works["ray"].calls()) == {0, 2, 4, 6}
    processes = {path.name.split("-")[2] for path in works["ray"].folder.iterdir()}
    assert str(os.getpid()) not in processes and len(processes) >= 2


def test_the_real_pipeline_does_too(monkeypatch, tmp_path):
    """Attacks through DDS on shipped networks, float32: threads and batches of the workers are those of one process."""
    on = fvit.experiment("09", "study", n_samples=2, attack_steps=1, attack_draws=2, eval_batch=4)
    work = on.run("09_scores", attack_rows, methods=["raw_attention", "vta"], attacks=[["explanation", "dds"]],
                  radii=[8 / 255], measures=["stability", "segmentation"])
    alone = run(work, n=4)
    elsewhere(monkeypatch, tmp_path, "ray")
    for rows in (run(work, n=4), sharded(monkeypatch, tmp_path, work, n=4)):
        pd.testing.assert_frame_equal(rows, alone, check_exact=True)
    assert files(tmp_path / "one") == files(tmp_path / "ray") == files(tmp_path / "shards")


def test_what_goes_wrong_on_a_worker_is_said_in_one_line_and_the_rest_is_kept(monkeypatch, tmp_path):
    elsewhere(monkeypatch, tmp_path, "ray")
    with pytest.raises(RuntimeError, match=r"^images 4 to 5: ValueError on \S+: image 4 cannot be read$"):
        run(Counted(tmp_path / "calls", refused=4))
    kept = {int(name.split("-")[-2]) for name in files(tmp_path / "ray")}
    monkeypatch.setenv("FVIT_EXECUTOR", "local")  # executors share what is finished
    mended = Counted(tmp_path / "again")
    assert len(run(mended)) == N and mended.calls() == sorted({0, 2, 4, 6} - kept) and 4 not in kept


def answer(packed):
    """(error, whether there is a file) of a worker, called in this process."""
    found = cluster._Worker(packed, torch.get_num_threads())({"start": [0], "stop": [2]})
    return found["error"][0], bool(found["file"][0])


def test_a_worker_with_another_fvit_or_without_a_module_says_so(tmp_path, monkeypatch):
    from ray import cloudpickle

    work, digest = Counted(tmp_path), provenance.code_digest()
    assert answer(cloudpickle.dumps(blocks.Block(work, "study", digest))) == ("", True)
    error, file = answer(cloudpickle.dumps(blocks.Block(work, "study", "of another")))
    assert re.match(r"ValueError on \S+: another fvit is installed here; install", error) and not file
    only_here = types.ModuleType("only_here")
    exec("class Work:\n    def __call__(self, start, stop): pass", only_here.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", only_here)
    packed = cloudpickle.dumps(blocks.Block(only_here.Work(), "study", digest))
    monkeypatch.delitem(sys.modules, "only_here")
    error, file = answer(packed)
    assert re.match(r"ModuleNotFoundError on \S+: No module named 'only_here'", error) and not file
    assert work.calls() == [0]


KILLED = """
import os, signal, sys
import ray.cloudpickle
from experiments import test_cluster
from experiments.test_cluster import Counted, run
from fvit.experiments import blocks
ray.cloudpickle.register_pickle_by_value(test_cluster)
write, left = blocks.write_atomic, [2]
def dying(path, data):
    write(path, data)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
blocks.write_atomic = dying
run(Counted(sys.argv[1]))
"""


def test_a_killed_driver_resumes_with_the_missing_blocks_alone(monkeypatch, tmp_path):
    """The driver that is killed has a Ray of its own, started by fvit."""
    want = run(Counted(tmp_path / "calm"))
    elsewhere(monkeypatch, tmp_path, "ray")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "first")], cwd=ROOT, capture_output=True,
                          env=dict(os.environ, PYTHONPATH=str(ROOT / "tests")), timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    finished = {int(name.split("-")[-2]) for name in files(tmp_path / "ray")}
    assert len(finished) == 2
    monkeypatch.setenv("FVIT_EXECUTOR", "local")
    work = Counted(tmp_path / "second")
    pd.testing.assert_frame_equal(run(work), want, check_exact=True)
    assert work.calls() == sorted({0, 2, 4, 6} - finished)
