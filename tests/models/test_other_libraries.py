"""Models of transformers, torchvision and open_clip in timm's form: the numbers that they themselves give."""

import json

import pytest
import timm
import torch
import torchvision
from oracles import golden
from safetensors.torch import save_file
from torch import nn

from fvit.models import other_libraries
from fvit.models.vit_files import load_vit

TENSORS, TOLD = golden.transformers()
SAME = dict(rtol=0, atol=1e-5)
X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
HALVES = dict(mean=(0.5,) * 3, std=(0.25,) * 3)


def weights_of(name):
    prefix = f"{name}/weights/"
    return {key.removeprefix(prefix): value for key, value in TENSORS.items() if key.startswith(prefix)}


def saved(folder, name, processor=None, **changes):
    """A folder as transformers saves it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**TOLD["configs"][name], **changes}))
    save_file(weights_of(name), folder / "model.safetensors", metadata={"format": "pt"})
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def drawn(module, seed=0):
    """`module` with all its weights random: what initialisation leaves at zero would hide an error."""
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draws))
    return module


# transformers -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", TOLD["configs"])
def test_folders_of_transformers_give_its_numbers(tmp_path, name):
    vit = load_vit(saved(tmp_path, name), mean=(0.0,) * 3, std=(1.0,) * 3)
    torch.testing.assert_close(vit(TENSORS["x"]), TENSORS[f"{name}/y"], **SAME)
    assert vit.grid == (2, 2) and vit.num_classes == (5 if "Classification" in name else 0)
    assert TENSORS[f"{name}/y"].std() > 0.1


@pytest.mark.parametrize("name", TOLD["configs"])
def test_modules_name_their_weights_otherwise_than_folders(name):
    weights, inside = weights_of(name), TOLD["names"][name]
    saved_, module = (other_libraries.rename("transformers", state)
                      for state in (weights, {inside[key]: value for key, value in weights.items()}))
    assert set(saved_) == set(module) and all(torch.equal(saved_[key], module[key]) for key in saved_)


@pytest.mark.parametrize("processor, mean, std", [
    ({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]),
    ({"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "rescale_factor": 2 / 255}, [0.25] * 3, [0.125] * 3),
    ({"do_normalize": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, [0.0] * 3, [1.0] * 3),
])
def test_the_normalisation_is_the_image_processors(tmp_path, processor, mean, std):
    vit = load_vit(saved(tmp_path, "ViTForImageClassification", processor))
    assert vit.mean.flatten().tolist() == pytest.approx(mean) and vit.std.flatten().tolist() == pytest.approx(std)


@pytest.mark.parametrize("processor", [None, {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_rescale": False}])
def test_a_normalisation_that_nobody_states_is_asked_for(tmp_path, processor):
    with pytest.raises(ValueError, match="states no mean and std; give both"):
        load_vit(saved(tmp_path, "ViTForImageClassification", processor))


def test_heads_of_folders(tmp_path):
    folder = saved(tmp_path, "ViTForImageClassification")
    vit, again = (load_vit(folder, num_classes=7, **HALVES) for _ in range(2))
    assert vit(TENSORS["x"]).shape == (3, 7) and torch.equal(vit(TENSORS["x"]), again(TENSORS["x"]))
    whole = load_vit(folder, **HALVES)
    assert torch.equal(vit.backbone.blocks[1].mlp.fc2.weight, whole.backbone.blocks[1].mlp.fc2.weight)
    assert load_vit(folder, pretrained=False, **HALVES).num_classes == 5  # as id2label says


def test_other_forms_of_the_weights(tmp_path):
    folder = saved(tmp_path, "ViTForImageClassification")
    wanted, state = load_vit(folder, **HALVES)(TENSORS["x"]), weights_of("ViTForImageClassification")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    torch.testing.assert_close(load_vit(folder, **HALVES)(TENSORS["x"]), wanted, **SAME)
    names = sorted(state)
    parts = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for file, inside in parts.items():
        save_file({name: state[name] for name in inside}, folder / file)
    index = {"weight_map": {name: file for file, inside in parts.items() for name in inside}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "pytorch_model.bin").unlink()
    torch.testing.assert_close(load_vit(folder, **HALVES)(TENSORS["x"]), wanted, **SAME)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no weights at .*model-00002-of-00002\.safetensors"):
        load_vit(folder, **HALVES)


@pytest.mark.parametrize("changes, message", [
    (dict(architectures=["Dinov2ForImageClassification"]), "transformers' Dinov2ForImageClassification: transf"),
    (dict(architectures=None, model_type="swin"), "holds transformers' swin: .* timm's own of its kind"),
    (dict(hidden_act="mish"), "activation mish or SwiGLU, wanted one of gelu, "),
    (dict(num_hidden_layers=3), r"transformers' ViTForImageClassification in .* do not fit .*blocks\.2"),
    (dict(hidden_size=10**6), "claim a size of "),
    (dict(num_hidden_layers="x"), "has settings that describe no network"),
])
def test_folders_that_do_not_do(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load_vit(saved(tmp_path, "ViTForImageClassification", **changes), **HALVES)


def test_a_classifier_without_weights_is_no_backbone(tmp_path):
    folder = saved(tmp_path, "ViTForImageClassification")
    state = weights_of("ViTForImageClassification")
    save_file({name: value for name, value in state.items() if "classifier" not in name}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"has no weights of its classifier in model\.safetensors"):
        load_vit(folder, **HALVES)


@pytest.mark.parametrize("name", TOLD["configs"])
def test_modules_of_transformers(name):
    transformers = pytest.importorskip("transformers", reason="transformers is not in the lock; its folders are tested")
    config = {key: value for key, value in TOLD["configs"][name].items() if key != "transformers_version"}
    model = getattr(transformers, name)
    module = drawn(model(model.config_class(**config)))
    answer = module.eval()((X[:, :, :8, :8] - 0.5) / 0.25)
    wanted = answer.logits if hasattr(answer, "logits") else answer.last_hidden_state[:, 0]
    torch.testing.assert_close(load_vit(module, **HALVES)(X[:, :, :8, :8]), wanted, **SAME)


def test_a_hub_id_of_transformers_is_read_as_its_folder(tmp_path, monkeypatch):
    folder, asked = saved(tmp_path, "ViTForImageClassification", {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}), []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda filename, **where: str(folder / filename))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda **where: asked.append(where) or str(folder))
    vit = load_vit("hf-hub:some/model@main")
    assert torch.equal(vit(TENSORS["x"]), load_vit(folder)(TENSORS["x"])) and vit.name == "hf-hub:some/model@main"
    assert asked[0]["repo_id"] == "some/model" and asked[0]["revision"] == "main"


# torchvision ------------------------------------------------------------------------------------------------------
def of_torchvision(**changes):
    sizes = dict(image_size=16, patch_size=8, num_layers=2, num_heads=3, hidden_dim=24, mlp_dim=50, num_classes=5)
    return drawn(torchvision.models.VisionTransformer(**{**sizes, **changes})).eval()


@pytest.mark.parametrize("change", [
    lambda module: None,
    lambda module: setattr(module, "heads", nn.Linear(24, 7)),
    lambda module: setattr(module.heads, "head", nn.Linear(24, 7)),
    lambda module: setattr(module, "heads", nn.Sequential(nn.Dropout(0.5), nn.Linear(24, 7)).eval()),
    lambda module: module.double(),
], ids=["plain", "heads", "head", "dropout", "double"])
def test_torchvision(change):
    module = of_torchvision()
    change(module)
    vit = load_vit(module, **HALVES)
    weight = module.conv_proj.weight
    wanted = module((X.to(weight) - 0.5) / 0.25)
    torch.testing.assert_close(vit(X.to(weight)), wanted, rtol=0, atol=1e-12 if weight.dtype == torch.double else 1e-5)
    assert vit.num_classes == wanted.shape[1] and vit.grid == (2, 2)


def test_a_module_of_another_library_is_copied_and_stays_as_it_was():
    module = of_torchvision().train()
    vit = load_vit(module, **HALVES)
    assert all(part.training for part in module.modules()) and all(p.requires_grad for p in module.parameters())
    before = vit(X)
    nn.init.zeros_(module.conv_proj.weight)
    assert torch.equal(vit(X), before) and not vit.training


class Doubled(torchvision.models.VisionTransformer):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize("module, message", [
    (lambda: of_torchvision(representation_size=12), r"VisionTransformer has weights that do not fit .*;"),
    (lambda: drawn(Doubled(16, 8, 1, 3, 24, 50, num_classes=5)), r"answers otherwise than .*\(off by 0\.5\)"),
    (lambda: torchvision.models.resnet18(num_classes=2), "torchvision's ResNet: torchvision's models that have t"),
    (lambda: torchvision.models.SwinTransformer([4, 4], 12, [1, 1], [3, 3], [2, 2]), "torchvision's SwinTransformer"),
    (lambda: nn.Sequential(nn.Linear(2, 2)), "is no plain vision transformer"),
], ids=["mlp", "changed", "resnet", "swin", "nobody's"])
@pytest.mark.parametrize("known", [{}, HALVES], ids=["no mean", "mean"])
def test_modules_that_do_not_do_are_named_before_their_mean(module, message, known):
    with pytest.raises(ValueError, match=message):
        load_vit(module(), **known)


def test_modules_of_libraries_say_where_their_mean_is():
    with pytest.raises(ValueError, match=r"torchvision's VisionTransformer states no .*mean=\(\.485, \.456, \.406\)"):
        load_vit(of_torchvision())
    assert load_vit(of_torchvision(), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)).num_classes == 5


def test_a_state_dict_of_another_library_is_named(tmp_path):
    torch.save(of_torchvision().state_dict(), tmp_path / "theirs.pth")
    with pytest.raises(ValueError, match="its names are torchvision's: load it there and give load_vit"):
        load_vit("test_vit", checkpoint=tmp_path / "theirs.pth")


# open_clip --------------------------------------------------------------------------------------------------------
class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1, self.ln_2, self.attn = nn.LayerNorm(width), nn.LayerNorm(width), nn.MultiheadAttention(width, heads)
        self.mlp = nn.Sequential()
        for name, layer in (("c_fc", nn.Linear(width, 2 * width)), ("gelu", nn.GELU()),
                            ("c_proj", nn.Linear(2 * width, width))):
            self.mlp.add_module(name, layer)

    def forward(self, x):
        y = self.ln_1(x).transpose(0, 1)  # tokens first, as this attention wants them
        x = x + self.attn(y, y, y)[0].transpose(0, 1)
        return x + self.mlp(self.ln_2(x))


class VisionTransformer(nn.Module):
    """The image tower of open_clip, written from its formulas: names and order as there."""

    def __init__(self, pool="first", width=24, out=10):
        super().__init__()
        self.image_size, self.patch_size, self.pool = (16, 16), (8, 8), pool
        self.class_embedding, self.positional_embedding = nn.Parameter(torch.zeros(width)), nn.Parameter(
            torch.zeros(5, width))
        self.conv1 = nn.Conv2d(3, width, 8, 8, bias=False)
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(Block(width, 3) for _ in range(2))
        self.proj = nn.Parameter(torch.zeros(width, out))

    def forward(self, x):
        x = self.conv1(x).flatten(2).mT  # (B, N, width)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        x = self.ln_pre(x)
        for block in self.transformer.resblocks:
            x = block(x)
        x = self.ln_post(x)
        return (x[:, 0] if self.pool == "first" else x[:, 1:].mean(1)) @ self.proj


VisionTransformer.__module__ = "open_clip.transformer"


def test_the_image_tower_of_open_clip():
    module = drawn(VisionTransformer()).eval()
    vit = load_vit(module, **HALVES)
    torch.testing.assert_close(vit(X) @ module.proj, module((X - 0.5) / 0.25), **SAME)
    assert vit.num_classes == 0 and vit(X).std() > 0.1  # features: texts make its classes
    module.image_mean, module.image_std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)  # as open_clip notes with its weights
    assert load_vit(module).mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"open_clip's VisionTransformer answers otherwise than its weights"):
        load_vit(drawn(VisionTransformer(pool="mean")), **HALVES)


def test_open_clips_whole_models_and_folders_are_told_how(tmp_path):
    whole = VisionTransformer()
    whole.visual = nn.Identity()
    with pytest.raises(ValueError, match=r"give that alone: load_vit\(model\.visual, mean=\.\.\., std=\.\.\.\)"):
        load_vit(whole)
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is open_clip's: load it there and give .*\.visual, mean="):
        load_vit(tmp_path)


def test_timms_own_modules_are_none_of_these():
    assert other_libraries.from_module(timm.create_model("test_vit")) is None
