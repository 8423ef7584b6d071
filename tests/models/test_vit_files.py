"""What load_vit reads: folders and checkpoints of trainings, heads of other sizes, nothing that a pickle would run."""

import argparse
import datetime
import json
import os
import pathlib
import sys
import types
import zipfile

import numpy as np
import pytest
import timm
import torch
from fixtures.hostile import Hostile
from safetensors.torch import save_file

from fvit.models.vit_files import load_vit

ARCH = "test_vit"  # timm's smallest: 160 pixels, patches of 16
SIZES = dict(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3)
X = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
SAME = dict(rtol=0, atol=1e-5)


def net(seed=1, name=ARCH, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return timm.create_model(name, **{"num_classes": 7, **changes}).eval()


def answers(backbone, x=X):
    cfg = backbone.pretrained_cfg
    mean, std = (torch.tensor(cfg[key])[:, None, None] for key in ("mean", "std"))
    return backbone((x - mean) / std)


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


# checkpoints ------------------------------------------------------------------------------------------------------
STATE = net().state_dict()
FORMS = {
    "state_dict": STATE,
    "timm": {"epoch": 3, "arch": ARCH, "state_dict": STATE, "optimizer": {"state": {}, "param_groups": []},
             "args": argparse.Namespace(model=ARCH, lr=0.1, img_size=None, mean=None, std=None), "version": 2},
    "EMA": {"state_dict": net(2).state_dict(), "state_dict_ema": STATE},
    "DDP": {"state_dict": prefixed(STATE, "module.")},
    "compiled": {"model": prefixed(STATE, "_orig_mod.module.")},
    "Lightning": {"pytorch-lightning_version": "2", "state_dict": {**prefixed(STATE, "model."),
                                                                   "criterion.weight": torch.ones(7)}},
    "LightningModule": {"state_dict": prefixed(STATE, "net."), "hyper_parameters": {"lr": 1e-3}},
    "bookkeeping": {"model": STATE, "args": {"out": pathlib.PurePosixPath("a")}, "best": np.float64(0.5),
                    "when": datetime.date(2024, 7, 1)},
    "half": {"model": {name: value.half() for name, value in STATE.items()}},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["last.ckpt", "model_best.pth.tar", "pytorch_model.bin"])
def test_checkpoints_of_trainings(tmp_path, form, name):
    torch.save(FORMS[form], tmp_path / name)
    vit = load_vit(ARCH, checkpoint=tmp_path / name)
    tolerance = dict(rtol=0, atol=2e-2) if form == "half" else SAME
    torch.testing.assert_close(vit(X), answers(net()), **tolerance)
    assert vit.num_classes == 7 and vit.name == ARCH and {p.dtype for p in vit.parameters()} == {torch.float32}
    assert (answers(net(2)) - answers(net())).abs().max() > 0.1


def test_old_files_and_safetensors_too(tmp_path):
    torch.save({"state_dict": STATE, "best": np.float64(1)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(STATE, tmp_path / "new.safetensors")
    for file in ("old.pth", "new.safetensors"):
        torch.testing.assert_close(load_vit(ARCH, checkpoint=str(tmp_path / file))(X), answers(net()), **SAME)


class AttributeDict(dict):
    """Lightning's form of a training's options."""


class Hidden:
    def __init__(self):
        self.a = [1]


@pytest.mark.parametrize("kind", [AttributeDict, Hidden])
def test_objects_of_a_library_that_is_not_here_are_passed_over(tmp_path, monkeypatch, kind):
    library = types.ModuleType("lightning_fabric")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "lightning_fabric", library)
        patch.setattr(kind, "__module__", "lightning_fabric")
        setattr(library, kind.__name__, kind)
        options = kind() if kind is Hidden else kind(lr=1e-3, more=kind(a=1))
        torch.save({"state_dict": prefixed(STATE, "model."), "hyper_parameters": options}, tmp_path / "last.ckpt")
    torch.testing.assert_close(load_vit(ARCH, checkpoint=tmp_path / "last.ckpt")(X), answers(net()), **SAME)


def test_a_checkpoint_that_says_its_architecture_and_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(FORMS["timm"], "model_best.pth.tar")
    vit = load_vit("model_best.pth.tar")
    torch.testing.assert_close(vit(X), answers(net()), **SAME)
    assert vit.name == "model_best"
    trained = net(img_size=64, global_pool="avg", class_token=False)
    options = argparse.Namespace(model=ARCH, img_size=64, gp="avg", mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6],
                                 model_kwargs={"class_token": False, "pretrained_cfg": "elsewhere"})
    torch.save({"arch": ARCH, "state_dict": trained.state_dict(), "args": options}, "other.pth.tar")
    vit, x = load_vit("./other.pth.tar"), X[:, :, :64, :64]
    trained.pretrained_cfg = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    torch.testing.assert_close(vit(x), answers(trained, x), **SAME)


@pytest.mark.parametrize("name", [None, ARCH])
def test_a_training_that_changed_nothing_but_its_normalisation_says_it(tmp_path, name):
    options = argparse.Namespace(model=ARCH, img_size=None, gp=None, mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])
    torch.save({"arch": ARCH, "state_dict": STATE, "args": options}, path := tmp_path / "a.pth.tar")
    vit = load_vit(path) if name is None else load_vit(name, checkpoint=path)
    assert vit.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert vit.std.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])


def test_random_weights_are_asked_of_an_architecture_and_not_of_a_file_of_weights(tmp_path):
    torch.save(FORMS["timm"], tmp_path / "a.pth.tar")
    with pytest.raises(ValueError, match=r"a\.pth\.tar holds weights and pretrained=False wants"):
        load_vit(tmp_path / "a.pth.tar", pretrained=False)
    timm.models.save_for_hf(net(), tmp_path / "folder")
    save_file(STATE, path := tmp_path / "folder" / "model.safetensors")
    random, trained = load_vit(path, pretrained=False), load_vit(path)
    torch.testing.assert_close(trained(X), answers(net()), **SAME)
    assert not torch.allclose(random(X), trained(X), atol=1e-3)
    torch.testing.assert_close(random(X), load_vit(tmp_path / "folder", pretrained=False)(X), **SAME)


def test_weights_that_are_absent_or_cut_off_are_named(tmp_path):
    timm.models.save_for_hf(net(), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"other\.safetensors"):
        load_vit(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        load_vit(tmp_path, checkpoint=tmp_path / "none.pth")
    save_file(STATE, tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-1000])
    with pytest.raises(OSError, match=r"cut\.safetensors"):
        load_vit(tmp_path / "cut.safetensors")


def test_the_head_says_how_many_classes(tmp_path):
    torch.save(STATE, tmp_path / "a.pth")
    assert load_vit(ARCH, checkpoint=tmp_path / "a.pth", num_classes=7).num_classes == 7
    with pytest.raises(ValueError, match=r"a\.pth has a head of 7 classes and num_classes=5; leave num_classes out"):
        load_vit(ARCH, checkpoint=tmp_path / "a.pth", num_classes=5)
    torch.save({name: value for name, value in STATE.items() if "head" not in name}, tmp_path / "body.pth")
    vit = load_vit(ARCH, checkpoint=tmp_path / "body.pth", num_classes=5)
    again = load_vit(ARCH, checkpoint=tmp_path / "body.pth", num_classes=5)
    assert vit(X).shape == (2, 5) and torch.equal(vit(X), again(X))
    assert torch.equal(vit.backbone.blocks[0].attn.qkv.weight, STATE["blocks.0.attn.qkv.weight"])


@pytest.mark.parametrize("content, message", [
    ({"optimizer": {}}, "holds a dict of other things than tensors, wanted a state dict"),
    ([STATE], "holds a list, wanted a state dict"),
    ({**prefixed(STATE, "model."), **prefixed(STATE, "ema_model.")}, "holds the network 2 times, under 'ema_m"),
    ({**prefixed({n: v for n, v in STATE.items() if "head" not in n}, "vit."), "classifier.weight": torch.ones(2, 64)},
     r"has no head, but 1 weights beside the network, classifier\.weight first"),
    ({n: v for n, v in STATE.items() if n != "norm.weight"}, r"does not fit timm's test_vit .*norm\.weight"),
    ({**STATE, "extra": torch.ones(1)}, r"does not fit timm's test_vit .*Unexpected .*extra"),
    ({**STATE, "pos_embed": torch.ones(1, 5, 64)}, r"does not fit timm's test_vit .*pos_embed"),
])
def test_checkpoints_that_do_not_do(tmp_path, content, message):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=message):
        load_vit(ARCH, checkpoint=tmp_path / "a.pth")


@pytest.mark.parametrize("stated, message", [
    ({}, r"a\.pth holds weights but not the architecture; name it: load_vit\('vit_base_patch16_224', checkpoint='"),
    ({"arch": "visiontransformer"}, "says its architecture is 'visiontransformer', which is none of timm's; name it"),
    ({"arch": "hf-hub:some/model"}, "says its architecture is 'hf-hub:some/model', which is none"),
    ({"arch": 3}, "holds weights but not the architecture"),
])
def test_architectures_that_are_not_stated(tmp_path, stated, message):
    torch.save({"state_dict": STATE, **stated}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=message):
        load_vit(tmp_path / "a.pth")


def test_arguments_that_do_not_go_together(tmp_path):
    torch.save(STATE, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"source=a\.pth and checkpoint=a\.pth are both weights"):
        load_vit(tmp_path / "a.pth", checkpoint=tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a module of yours gets its weights by module\.load_state_dict"):
        load_vit(net(), checkpoint=tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"module has 7 classes and num_classes=5; .*reset_classifier\(5\)"):
        load_vit(net(), num_classes=5)
    for wrong in (-1, 2.5, True, "5"):
        with pytest.raises(ValueError, match=r"num_classes=.* wanted a whole number of classes"):
            load_vit(ARCH, num_classes=wrong, pretrained=False)
    with pytest.raises(ValueError, match="freeze='no', wanted True or False"):
        load_vit(ARCH, freeze="no", pretrained=False)


# nothing is run ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["a.pth", "a.bin", "a.ckpt", "a.pth.tar", "a.tar"])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, name, zipped):
    ran, path = tmp_path / "ran", tmp_path / name
    content = {"arch": ARCH, "state_dict": STATE, "extra": Hostile(ran)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    for call in (lambda: load_vit(path), lambda: load_vit(ARCH, checkpoint=path)):
        with pytest.raises(ValueError, match=r"is refused and nothing in it was run: .*wants io\.open") as info:
            call()
        assert not ran.exists() and "weights_only" not in str(info.value) and "add_safe_globals" not in str(info.value)


def test_a_whole_module_is_refused_with_the_mend(tmp_path):
    torch.save(net(), tmp_path / "whole.pth")
    with pytest.raises(ValueError, match=r"wants timm\.models\..*; .*save the weights alone: torch\.save\("):
        load_vit(ARCH, checkpoint=tmp_path / "whole.pth")


def test_a_compressed_file_is_not_unpacked(tmp_path):
    torch.save({"a": torch.zeros(10**6)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(
            tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    with pytest.raises(ValueError, match=r"bomb\.pth is compressed, which torch\.save never does"):
        load_vit(ARCH, checkpoint=tmp_path / "bomb.pth")


def test_broken_files(tmp_path):
    torch.save(STATE, tmp_path / "a.pth")
    whole = (tmp_path / "a.pth").read_bytes()
    for content in (b"", b"<html>", whole[:-100], whole[:5000]):
        (tmp_path / "a.pth").write_bytes(content)
        with pytest.raises(OSError, match=r"a\.pth is truncated or no checkpoint \(\w+\); copy the file again"):
            load_vit(ARCH, checkpoint=tmp_path / "a.pth")
    with pytest.raises(FileNotFoundError, match=r"no weights at .*none\.pth"):
        load_vit(ARCH, checkpoint=tmp_path / "none.pth")


# folders ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("safe", [False, True, "both"])
def test_folders_of_timm(tmp_path, safe, monkeypatch):
    backbone, x = net(name="vit_tiny_patch16_224", **SIZES), X[:, :, :32, :32]
    monkeypatch.setenv("HOME", str(tmp_path))
    timm.models.save_for_hf(backbone, tmp_path / "my models" / "mine", model_args=SIZES, safe_serialization=safe)
    for source in (tmp_path / "my models" / "mine", "~/my models/mine"):
        torch.testing.assert_close(load_vit(source)(x), answers(backbone, x), **SAME)
    torch.save({"model": net(2, "vit_tiny_patch16_224", num_classes=3, **SIZES).state_dict()}, tmp_path / "later.pth")
    tuned = load_vit("~/my models/mine", checkpoint="~/later.pth")
    torch.testing.assert_close(tuned(x), answers(net(2, "vit_tiny_patch16_224", num_classes=3, **SIZES), x), **SAME)


def test_a_new_head_on_pretrained_weights(tmp_path):
    backbone, x = net(name="vit_tiny_patch16_224", **SIZES), X[:, :, :32, :32]
    timm.models.save_for_hf(backbone, tmp_path, model_args=SIZES)
    vit, again = load_vit(tmp_path, num_classes=4), load_vit(tmp_path, num_classes=4)
    assert vit(x).shape == (2, 4) and torch.equal(vit(x), again(x))
    same = {name: value for name, value in vit.backbone.state_dict().items() if "head" not in name}
    assert all(torch.equal(value, backbone.state_dict()[name]) for name, value in same.items())
    assert load_vit(tmp_path, num_classes=7)(x).equal(load_vit(tmp_path)(x))
    assert load_vit("scenes", num_classes=3).num_classes == 3
    assert load_vit(ARCH, pretrained=False, num_classes=3).num_classes == 3


def test_folders_with_names_that_are_no_unicode(tmp_path):
    folder = os.fsencode(tmp_path) + b"/mod\xe8le"  # Latin-1
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system has no names but Unicode ones")
    backbone, x = net(name="vit_tiny_patch16_224", **SIZES), X[:, :, :32, :32]
    timm.models.save_for_hf(backbone, tmp_path / "mine", model_args=SIZES)
    for name in ("config.json", "pytorch_model.bin"):
        os.rename(os.fsencode(tmp_path / "mine" / name), folder + b"/" + name.encode())
    vit = load_vit(os.fsdecode(folder))
    torch.testing.assert_close(vit(x), answers(backbone, x), **SAME)
    assert vit.name.encode() == rb"mod\udce8le", "a name that a table can hold"


# what stays the caller's ------------------------------------------------------------------------------------------
def test_freeze():
    module = net()
    module.cls_token.requires_grad_(False)
    vit = load_vit(module, freeze=False)
    assert [name for name, p in vit.backbone.named_parameters() if not p.requires_grad] == ["cls_token"]
    vit(X).sum().backward()
    assert module.head.weight.grad.abs().sum() > 0
    load_vit(module)
    assert not any(p.requires_grad for p in module.parameters())


def test_the_default_dtype_and_the_random_stream_are_the_callers():
    single = load_vit("scenes")
    random = load_vit(ARCH, pretrained=False)
    torch.set_default_dtype(torch.float64)
    try:
        before = torch.get_rng_state()
        double, same = load_vit("scenes"), load_vit(ARCH, pretrained=False)
        assert torch.get_default_dtype() == torch.float64 and torch.equal(before, torch.get_rng_state())
    finally:
        torch.set_default_dtype(torch.float32)
    x = X[:, :, :64, :64]
    torch.testing.assert_close(double(x), single(x), **SAME)
    assert {p.dtype for p in double.parameters()} == {torch.float32}
    assert all(torch.equal(a, b) for a, b in zip(random.parameters(), same.parameters(), strict=True))


def test_wrong_json_is_said_to_be_that(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architecture": ARCH, "model_args": [1]}))
    torch.save(STATE, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"config\.json does not describe a timm model"):
        load_vit(tmp_path)
