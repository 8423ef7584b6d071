"""Loading a ViT: the same bits from every source, normalisation inside, and an error that names the mend."""

import json

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from fvit.base import paths
from fvit.models import vit_files
from fvit.models.vit_files import load_vit

SIZES = dict(img_size=16, patch_size=8, embed_dim=12, depth=2, num_heads=3, num_classes=4)
X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
ROUNDING = dict(rtol=0, atol=1e-5)  # of float32 through a ViT, logits of size 0.1: gradients may choose other kernels


def tiny_backbone(name="vit_tiny_patch16_224", seed=0, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return timm.create_model(name, pretrained=False, **{**SIZES, **changes}).eval()


@pytest.fixture
def folder(tmp_path):
    """A tiny ViT in timm's own form, with a normalisation of its own."""
    backbone = tiny_backbone()
    backbone.pretrained_cfg = {**backbone.pretrained_cfg, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    args = {key: value for key, value in SIZES.items() if key != "num_classes"}
    timm.models.save_for_hf(backbone, tmp_path / "mine", model_args=args, safe_serialization=True)
    return tmp_path / "mine", backbone


def by_hand(backbone, x, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)):
    return backbone((x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None])


def test_a_folder_gives_the_same_bits(folder):
    path, backbone = folder
    vit = load_vit(path)
    want = backbone.state_dict()
    assert all(torch.equal(value, want[name]) for name, value in vit.backbone.state_dict().items())
    torch.testing.assert_close(vit(X), by_hand(backbone, X), **ROUNDING)
    assert torch.equal(load_vit(str(path))(X), vit(X))
    assert torch.equal(load_vit(path / "model.safetensors")(X), vit(X))
    assert (vit.grid, vit.num_classes, vit.num_prefix_tokens, vit.name) == ((2, 2), 4, 1, "mine")


def test_a_module_is_wrapped_with_its_own_or_the_given_normalisation(folder):
    backbone = folder[1]
    torch.testing.assert_close(load_vit(backbone)(X), by_hand(backbone, X), **ROUNDING)
    given = load_vit(backbone, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    torch.testing.assert_close(given(X), backbone((X - 0.5) / 0.5), **ROUNDING)


def test_a_timm_name_with_random_weights():
    vit = load_vit("test_vit", pretrained=False)
    assert vit.name == "test_vit" and vit.grid == (10, 10) and vit.num_classes == 1000
    assert vit.mean.flatten().tolist() == [0.5, 0.5, 0.5]  # as timm states for these weights, not ImageNet's


def test_images_of_another_size_are_refused(folder):
    with pytest.raises(ValueError, match=r"images of \(24, 24\) pixels, .* wants \(16, 16\); resize"):
        load_vit(folder[0])(torch.zeros(1, 3, 24, 24))


def test_frozen_in_evaluation_mode_and_differentiable_in_the_image(folder):
    vit = load_vit(folder[0])
    assert not vit.training and not any(p.requires_grad for p in vit.parameters())
    x = X.clone().requires_grad_()
    vit(x).sum().backward()
    assert x.grad.abs().amax() > 0


def test_float64(folder):
    vit = load_vit(folder[0])
    single = vit(X)
    assert vit(X.double()).dtype == torch.float32
    double = vit.double()(X.double())
    assert double.dtype == vit(X).dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=0, atol=1e-5)
    assert not torch.equal(double.float().double(), double)  # really computed in double


@pytest.mark.parametrize(("source", "message"), [
    ("scene", r"unknown model 'scene'; did you mean 'scenes'"),
    ("vit_base_patch16_223", r"did you mean .*'vit_base_patch16_224'"),
    ("test_vit.r160_in1", r"unknown weights .*did you mean 'test_vit\.r160_in1k'"),
    ("test_resnet", "ResNet is no plain vision transformer"),
])
def test_names_that_do_not_do(source, message):
    with pytest.raises(ValueError, match=message):
        load_vit(source, pretrained=False)


@pytest.mark.parametrize(
    "module",
    [
        lambda: timm.models.VisionTransformer(**SIZES, class_token=False, global_pool="avg"),
        lambda: timm.models.SwinTransformer(img_size=32, window_size=4, embed_dim=12, depths=(1,), num_heads=(3,),
                                            num_classes=5),
    ],
    ids=["pooled", "swin"],
)
def test_models_without_a_class_token_load(module):
    vit = load_vit(module(), mean=(0.5,) * 3, std=(0.5,) * 3)
    assert vit(torch.zeros(2, 3, *vit.image_size)).shape == (2, vit.num_classes)


def test_a_download_that_fails_says_what_to_do(monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(vit_files.timm, "create_model", offline)
    with pytest.raises(OSError, match=r"weights of test_vit .*no route.*pretrained=False"):
        load_vit("test_vit")


def test_paths_that_do_not_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder somewhere/else; .*'hf-hub:somewhere/else'"):
        load_vit("somewhere/else")
    with pytest.raises(FileNotFoundError, match=r"no config\.json in .*save_for_hf"):
        load_vit(tmp_path)
    save_file({"a": torch.ones(1)}, tmp_path / "only.safetensors")
    with pytest.raises(ValueError, match=r"not the architecture; name it: load_vit\('vit_base.*', checkpoint="):
        load_vit(tmp_path / "only.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no weights at .*old\.pth; copy the file again"):
        load_vit(tmp_path / "old.pth")


def test_truncated_weights_name_file_and_mend(folder):
    weights = folder[0] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(OSError, match=r"model\.safetensors is truncated .*copy the file again"):
        load_vit(folder[0])


def test_truncated_shipped_weights_are_restored_or_retrained(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path)
    folder[0].rename(tmp_path / "vit")
    assert load_vit().name == "scenes"
    (tmp_path / "vit" / "model.safetensors").write_bytes(b"")
    with pytest.raises(OSError, match=r"git checkout .*`fvit train vit`"):
        load_vit("scenes")


def test_weights_of_another_model_do_not_load_in_part(folder):
    path = folder[0] / "model.safetensors"
    state = load_file(path)
    del state["norm.weight"]
    save_file(state, path)
    with pytest.raises(ValueError, match=r"does not fit the model in .*norm\.weight"):
        load_vit(folder[0])


@pytest.mark.parametrize(("text", "said"), [
    ("{", "is not JSON"), (json.dumps({"architecture": "vit_no"}), "does not describe a timm model")])
def test_a_broken_config_is_named(folder, text, said):
    (folder[0] / "config.json").write_text(text)
    with pytest.raises(ValueError, match=rf"config\.json {said}"):
        load_vit(folder[0])


def test_settings_that_fit_the_weights_and_are_no_network_are_named(folder):
    config = folder[0] / "config.json"
    settings = json.loads(config.read_text())
    settings["model_args"]["num_heads"] = -1
    config.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"config\.json, .* describes no network that works \(RuntimeError: .+\); "):
        load_vit(folder[0])


@pytest.mark.parametrize("changes", [dict(mean=None), dict(std=None), dict(mean=(0.5,)), dict(std=0.5)])
def test_the_normalisation_has_three_channels_each(changes):
    module = timm.models.VisionTransformer(**SIZES)  # built by hand: states nothing
    with pytest.raises(ValueError, match=r"states no mean and std; give both|wanted three finite numbers"):
        load_vit(module, **{"mean": (0.5,) * 3, "std": (0.5,) * 3, **changes})


def test_the_shipped_model():
    vit = load_vit()
    assert vit.name == "scenes" and vit.num_classes == 10 and vit.grid == (16, 16)
    assert vit(torch.rand(1, 3, 64, 64)).shape == (1, 10)
