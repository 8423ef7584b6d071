"""`tools/bench.py` to its end on a small model; the radius that its loop certifies is no greater than ours."""

import os
import subprocess
import sys

import pytest
import torch

import fvit
from fvit.base.paths import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import bench


def test_each_part_ends_and_says_what_it_measured():
    command = [sys.executable, str(ROOT / "tools" / "bench.py"), "--small"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert [line for line in said if line.startswith("vit_tiny_patch16_224, batch 2") and "fvit vta" in line]
    assert [line for line in said if "times at equal draws" in line and "nan" not in line]
    assert [line for line in said if line.startswith("certificate of 100 + 8 draws in float32")]


def test_an_unknown_part_is_named():
    command = [sys.executable, str(ROOT / "tools" / "bench.py"), "draws"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 2 and "unknown draws; known: methods, dds, certificate" in done.stderr


@pytest.mark.parametrize("overlap", [0.2, 0.5])
def test_the_certificate_in_a_loop_is_ours_but_for_what_ours_saves(monkeypatch, overlap):
    """Ours pays for fewer tokens (Theorem 6, d), so its radius is at least that of the loop, from the same draws."""
    vit, den, x = fvit.load_vit("scenes"), fvit.load_denoiser("scenes"), fvit.load_images("scenes", "val", 1).x
    seen = {}
    explain = fvit.explain

    def kept(vit, x, method):
        seen[len(seen)] = heat = explain(vit, x, method)
        return heat

    monkeypatch.setattr(fvit, "explain", kept)
    loop = bench.loop_certificate(vit, den, x, 24, n_pilot=8, overlap=overlap, failure_prob=0.1)
    maps = torch.cat([*seen.values()]).flatten(1)[None]  # (1, 32, 256)
    from fvit.certification import certify_draws

    ours = 0.25 * float(certify_draws(maps[0, :8], maps[0, 8:], 25, [overlap], 0.1)[0])
    assert 0 <= loop <= ours + 1e-12 and loop > 0
