"""Named streams: equal by name, apart by name, whatever was drawn before."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from fvit.base import rng
from fvit.base.paths import ROOT


def test_the_seed_is_sha256_of_the_canonical_json():
    digest = hashlib.sha256(b'[0, "noise", "photo-3", 7]').digest()
    assert rng.stream_seed(0, "noise", "photo-3", 7) == int.from_bytes(digest[:8], "big")
    assert rng.stream_seed(0, "noise", "photo-3", np.int64(7)) == rng.stream_seed(0, "noise", "photo-3", 7)


def test_streams_do_not_depend_on_order_or_on_other_draws():
    first = rng.normal((3, 5, 5), 0, "noise", "a")
    rng.normal((100,), 0, "noise", "b")
    torch.manual_seed(1)
    torch.testing.assert_close(rng.normal((3, 5, 5), 0, "noise", "a"), first, rtol=0, atol=0)


@pytest.mark.parametrize("other", [(1, "noise", "a"), (0, "pgd", "a"), (0, "noise", "b"), (0, "noise"), (0, "noisea")])
def test_another_name_is_another_stream(other):
    assert not torch.equal(rng.normal((8,), 0, "noise", "a"), rng.normal((8,), *other))


def test_text_and_number_are_different_names():
    assert rng.stream_seed(0, "1") != rng.stream_seed(0, 1)


def test_float32_noise_is_the_float64_noise_rounded():
    wide = rng.normal((64,), 3, "noise", dtype=torch.float64)
    assert wide.dtype == torch.float64
    assert torch.equal(rng.normal((64,), 3, "noise"), wide.float())


def test_noise_is_standard_normal():
    draw = rng.normal((200_000,), 0, "moments", dtype=torch.float64)
    assert abs(draw.mean()) < 5 / 200_000**0.5  # five standard errors
    assert abs(draw.var() - 1) < 5 * (2 / 200_000) ** 0.5


def test_streams_keep_all_64_bits_of_their_seed(monkeypatch):
    draws = []
    for seed in (5, 5 + 2**32):  # torch's own CPU generator cannot tell these apart
        monkeypatch.setattr(rng, "stream_seed", lambda *_, seed=seed: seed)
        draws.append(rng.normal((8,), 0))
    assert not torch.equal(*draws)


def test_generator_lives_on_the_cpu_and_repeats():
    a, b = (torch.rand(4, generator=rng.generator(0, "pgd", "x")) for _ in range(2))
    assert torch.equal(a, b)
    assert rng.generator(0, "pgd", "x").device.type == "cpu"


@pytest.mark.parametrize(("args", "message"), [((0.5,), "seed 0.5 is a float"), ((0, 1.5), "purpose 1.5 is a float")])
def test_a_stream_has_a_clean_name(args, message):
    with pytest.raises(ValueError, match=message):
        rng.stream_seed(*args)


def test_numpy_streams_need_no_torch():
    code = "import sys, fvit.base.rng as rng; rng.numpy_generator(0, 'a').normal(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
