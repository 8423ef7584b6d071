"""`tools/gpu.py` to its end in its tiny form, so that it runs on the day that a GPU is at hand."""

import csv
import os
import subprocess
import sys

import pytest
import torch

from fvit.base.paths import ROOT

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here: run `make gpu` itself")


def run(*arguments, **environment):
    command = [sys.executable, str(ROOT / "tools" / "gpu.py"), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FVIT_THREADS": "1"} | environment
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_each_part_ends_and_says_so_in_a_line(tmp_path):
    done = run("--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("on no GPU, in a tiny form") and len(lines) == 6
    for line, part in zip(lines[1:], ("parity", "throughput", "races", "rows", "training"), strict=True):
        assert line.startswith("rows: left out" if part == "rows" else f"{part}: done in ")
    parity = table(tmp_path / "parity.csv")
    assert len(parity) > 15 and {row["device"] for row in parity} == {"cpu"}
    assert {row["precision"] for row in table(tmp_path / "throughput.csv")} == {"bfloat16", "float32"}
    races = {row["what"]: float(row["ratio"]) for row in table(tmp_path / "races.csv")}
    assert races["reference loop"] == races["forward"] == 1 and len(races) == 7
    assert (tmp_path / "denoiser" / "unet" / "config.json").is_file()


def test_a_part_that_fails_is_named_with_its_log(tmp_path):
    (tmp_path / "denoiser").write_text("in the way")
    done = run("--out", tmp_path, "training")
    assert done.returncode == 1 and f"training: failed (1), see {tmp_path / 'training.log'}" in done.stdout
