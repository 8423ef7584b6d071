"""Training, in a form of seconds: it resumes to the bit, writes what loads, and refuses what it cannot use."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from fixtures.resuming import assert_it_resumes

import fvit
from fvit import cli
from fvit.models.cnn import load_cnn
from fvit.models.weight_files import check_sums
from fvit.training.denoiser import SIGMA_RANGE
from fvit.training.loop import SHIPPED, learning_rate, train
from fvit.training.on_scenes import (
    CNNTask,
    DenoiserTask,
    Scenes,
    Teacher,
    TeacherTask,
    ViTTask,
    boxes,
    close_up,
    fade_in,
    vit_stage,
    vit_tokens,
)
from fvit.training.vit import read_teacher

SMALL = dict(batch=4, chapter=32, every=2, n_val=4)


@pytest.mark.parametrize("task", [TeacherTask, ViTTask, DenoiserTask, CNNTask])
def test_a_resumed_run_ends_with_the_bits_of_an_undisturbed_one(task, tmp_path):
    a = assert_it_resumes(task, tmp_path, 4, **SMALL)
    assert any((a[k] != a[k.replace("model.", "ema.")]).any() for k in a if k.startswith("model."))  # the mean lags


def test_what_is_written_loads_and_runs(tmp_path):
    x = fvit.load_images("scenes", "val", 2).x
    train(ViTTask, tmp_path / "vit", steps=2, **SMALL)
    vit = fvit.load_vit(str(tmp_path / "vit"))
    assert vit.grid == (16, 16)
    in_training = vit.backbone.head(vit_tokens(vit.backbone, x, (0, 0))[:, 0])  # its own forward pass, for windows
    torch.testing.assert_close(vit(x), in_training, atol=1e-4, rtol=1e-4)
    train(DenoiserTask, tmp_path / "denoiser", steps=2, **SMALL)
    den = fvit.load_denoiser(str(tmp_path / "denoiser"))
    assert den(x, 0.25).shape == x.shape and den.timestep(8 / 255) == 15
    train(CNNTask, tmp_path / "cnn", steps=2, **SMALL)
    cnn = load_cnn(tmp_path / "cnn")
    assert cnn(x, 0.25).shape == x.shape and cnn.has_level(8 / 255) and not cnn.has_level(0)
    for folder in ("vit", "denoiser", "cnn"):
        assert (tmp_path / folder / "training.png").read_bytes().startswith(b"\x89PNG")
        assert list(pd.read_csv(tmp_path / folder / "training_log.csv")["step"]) == [2]


def test_a_batch_depends_on_its_step_only():
    asked, fresh = Scenes(1, 4, 32), Scenes(1, 4, 32)
    for step in (0, 60):  # 60 is in the second chapter
        asked(step)
    assert all(torch.equal(a, b) for a, b in zip(asked(3), fresh(3), strict=True))
    assert not torch.equal(fresh(3)[0], fresh(4)[0])


def test_pairs_are_two_of_five_and_their_label_is_shared():
    y = Scenes(0, 30, 30)._chapter(0)[1]
    assert (y.sum(1) == 1).all() and (y.max(1).values == 0.5).sum() == 12


def test_boxes_by_hand():
    mask = torch.zeros(2, 6, 6, dtype=torch.bool)
    mask[0, 1:3, 2:6] = True
    mask[1, 4, 0] = True
    assert boxes(mask).tolist() == [[1, 3, 2, 6], [4, 5, 0, 1]]


@pytest.mark.parametrize("window", [32, 48])
def test_a_close_up_shows_the_whole_digit(window):
    data = fvit.load_images("scenes", "val", 12)
    mask = data.mask[:, None].float().expand(-1, 3, -1, -1).contiguous()
    seen = close_up(mask, boxes(data.mask.bool()), window, torch.Generator().manual_seed(0))
    border = torch.cat([seen[:, 0, [0, -1]].flatten(1), seen[:, 0, :, [0, -1]].flatten(1)], 1)
    assert seen.shape == (12, 3, window, window)
    assert (border > 0.9).float().mean() < 0.02 and (seen[:, 0].flatten(1).mean(1) > 0.03).all()


def test_the_curriculum_ends_with_whole_scenes():
    assert [vit_stage(p) for p in (0, 0.4, 0.7, 1)] == [8, 12, 16, 16]
    x, mask = torch.full((1, 3, 4, 4), 0.3), torch.eye(4, dtype=torch.bool)[None]
    assert torch.equal(fade_in(x, mask, 0.5), x)
    early = fade_in(x, mask, 0.0)[0, 0]
    assert early.diagonal().tolist() == pytest.approx([0.93] * 4) and early[0, 1] == pytest.approx(0.03)


def test_the_teacher_reads_scenes_and_says_where():
    """Most validation digits right, and the evidence for their class is strongest inside the digit's box."""
    data = fvit.load_images("scenes", "val", 100)
    logits, said = read_teacher(Teacher(), "scenes")(data.x)
    assert (logits.argmax(1) == data.y).float().mean() > 0.9
    evidence = said[torch.arange(100), :, -10:][torch.arange(100), :, data.y].unflatten(1, (16, 16))
    peak = evidence.flatten(1).argmax(1)
    top, bottom, left, right = boxes(data.mask.bool()).T
    row, column = peak // 16 * 4 + 2, peak % 16 * 4 + 2
    inside = (top - 4 <= row) & (row < bottom + 4) & (left - 4 <= column) & (column < right + 4)
    assert inside.float().mean() > 0.9


def test_learning_rate_rises_holds_and_falls_to_zero():
    rates = [learning_rate(s, 4000, 1.0) for s in (0, 199, 2999, 3500, 3999)]
    assert rates == pytest.approx([1 / 200, 1, 1, 0.5, 1 / 1000])


def test_a_broken_checkpoint_names_itself_and_the_mend(tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors.*delete it"):
        train(ViTTask, tmp_path, steps=2, **SMALL)


def test_a_changed_byte_is_seen_in_the_checkpoint_and_in_the_weights(tmp_path):
    train(TeacherTask, tmp_path, steps=2, **SMALL)
    for name in ("checkpoint.safetensors", "model.safetensors"):
        data = bytearray((tmp_path / name).read_bytes())
        data[-100] ^= 1
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=r"not those that were written.*delete it to start anew"):
        train(TeacherTask, tmp_path, steps=4, **SMALL)
    with pytest.raises(OSError, match=r"model\.safetensors is not what SHA256SUMS beside it says.*copy it again"):
        check_sums(tmp_path, "copy it again")
    (tmp_path / "SHA256SUMS").unlink()
    check_sums(tmp_path, "")  # others come without sums


def test_the_command_refuses_senseless_numbers(tmp_path, capsys):
    assert cli.main(["train", "vit", "--out", str(tmp_path), "--steps", "0"]) == 2
    assert "--steps 0" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_plain_cnn_meets_the_images_the_levels_and_the_noise_of_the_denoiser():
    """The loss of an estimate of no noise is the same for both, to rounding."""
    x, losses = torch.rand(4, 3, 64, 64), {}
    for task in (DenoiserTask(3), CNNTask(3)):
        nothing = torch.nn.Module()
        nothing.forward = lambda x_t, t: SimpleNamespace(sample=torch.zeros_like(x_t))
        nothing.noise = lambda x_noisy, sigma: torch.zeros_like(x_noisy)
        losses[task.name] = [loss.item() for step in (0, 7)
                             for loss in task.losses(nothing, (x,), step, 0, torch.device("cpu"))]
        assert isinstance(task.batches(4, 32), Scenes)
    assert losses["cnn"] == pytest.approx(losses["denoiser"], rel=1e-6)


def test_the_plain_cnn_is_trained_by_its_command_as_long_as_the_denoiser(tmp_path):
    assert all(models["cnn"] == models["denoiser"] for models in SHIPPED.values())
    small = ["--steps", "2", "--batch", "2", "--chapter", "8", "--n-val", "2", "--every", "2", "--precision", "float32"]
    assert cli.main(["train", "cnn", "--out", str(tmp_path), *small]) == 0
    assert load_cnn(tmp_path).levels == SIGMA_RANGE
