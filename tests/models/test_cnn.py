"""The plain CNN: its size, what it computes, and the files it is read from."""

import json

import pytest
import torch
from safetensors.torch import save_file

import fvit
from fvit.models.cnn import SIZES, PlainCNN, load_cnn

SMALL = {"width": 8, "depth": 3, "factor": 2, "levels": [0.01, 0.5]}


def count(net):
    return sum(p.numel() for p in net.parameters())


def test_it_has_the_size_of_the_shipped_prior():
    assert count(PlainCNN(**SIZES)) == pytest.approx(count(fvit.load_denoiser("scenes")), rel=0.01)


def test_it_takes_sigma_times_the_noise_it_finds_away():
    net, x = PlainCNN(**SMALL).double(), torch.rand(2, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(net(x, 0.1), x)  # as training begins
    torch.nn.init.normal_(net.layers[-1].weight)
    noise = net.noise(x, torch.full((2,), 0.1))
    torch.testing.assert_close(net(x, 0.1), (x - 0.1 * noise).clamp(0, 1))
    assert noise.shape == x.shape and not torch.equal(noise, net.noise(x, torch.full((2,), 0.2)))  # it is told
    assert [net.has_level(s) for s in (0, 0.01, 0.5, 0.6)] == [False, True, True, False]
    with pytest.raises(ValueError, match=r"x_noisy is \(15, 16\), wanted multiples of 2"):
        net(x[:, :, 1:], 0.1)


def test_in_bfloat16_it_finds_nearly_the_same_noise():
    net, x = PlainCNN(**SMALL), torch.rand(2, 3, 16, 16)
    torch.nn.init.normal_(net.layers[-1].weight, std=0.1)
    full, net.precision = net(x, 0.1), "bfloat16"
    assert 0 < (net(x, 0.1) - full).abs().max() < 0.01 and net(x, 0.1).dtype == torch.float32


@pytest.fixture
def folder(tmp_path):
    save_file(PlainCNN(**SMALL).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    return tmp_path


def test_a_folder_is_read_frozen_and_what_is_wrong_with_it_is_said(folder):
    net = load_cnn(str(folder))
    assert not net.training and not any(p.requires_grad for p in net.parameters()) and net.levels == (0.01, 0.5)
    with pytest.raises(FileNotFoundError, match=r"no weights at .*nowhere/model\.safetensors"):
        load_cnn(folder / "nowhere")
    for wrong, message in (({"width": 9}, "does not fit"), ({"width": 10**9}, "claim a size"), ({"deep": 1}, "deep")):
        (folder / "config.json").write_text(json.dumps(SMALL | wrong))
        with pytest.raises(ValueError, match=message):
            load_cnn(folder)
