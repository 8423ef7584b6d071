"""Training of a ViT beside a teacher: what is the same whatever the images are.

A ViT this small finds in hours what a convolutional teacher learns in minutes, so it learns from the labels by its
class token, and patch by patch from the teacher (in the manner of Li et al. 2022, "locality guidance").
"""

from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import Tensor, nn

from fvit.base import files, paths
from fvit.models.weight_files import check_sums, check_weights, weights_mend
from fvit.training.denoiser import as_json

MATCH_WEIGHT = 2.0  # of the teacher's say, against the label's


def vit_config(image_size: int, depth: int) -> dict:
    """timm's own "local-dir:" format: a plain 4x4 patch embedding, a class token, 128 channels."""
    return {
        "architecture": "vit_tiny_patch16_224", "num_classes": 10,
        "model_args": {"img_size": image_size, "patch_size": 4, "embed_dim": 128, "depth": depth, "num_heads": 4},
        "pretrained_cfg": {
            "num_classes": 10, "input_size": [3, image_size, image_size], "mean": [0.5] * 3, "std": [0.5] * 3,
            "interpolation": "bicubic", "crop_pct": 1.0, "first_conv": "patch_embed.proj", "classifier": "head"}}


def new_vit(config: dict) -> nn.Module:
    """The ViT of such a configuration, untrained: 1.0 M parameters at depth 5."""
    vit = timm.create_model(config["architecture"], num_classes=10, weight_init="jax", **config["model_args"])
    position = timm.layers.build_sincos2d_pos_embed(vit.patch_embed.grid_size, vit.embed_dim, temperature=30)
    with torch.no_grad():  # start from waves, in which "two patches to the right" is the same everywhere
        vit.pos_embed[0, 1:] = 0.4 * position
    return vit


def convolved(channels: int, width: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """A 3x3 convolution, normalised, then clamped at 0: what teachers are made of."""
    return nn.Sequential(nn.Conv2d(channels, width, 3, stride, dilation, dilation), nn.GroupNorm(4, width), nn.ReLU())


def final_tokens(vit: nn.Module, patches: Tensor) -> Tensor:
    """Tokens (B, 1 + n, dim) after the last block, of embedded patches (B, n, dim) and the class token."""
    first = (vit.cls_token + vit.pos_embed[:, :1]).expand(len(patches), -1, -1)
    return vit.norm(vit.blocks(torch.cat([first, patches], 1)))


def read_teacher(teacher: nn.Module, data: str) -> nn.Module:
    """`teacher` with the trained weights that ship with the package, frozen; FileNotFoundError if they are not there.

    teacher   .evidence is its last layer; teacher(x) -> logits (B, 10), and per patch what a ViT is to match
    """
    weights = paths.shipped(data, "teacher") / "model.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(f"no teacher at {weights}; train it first: `fvit train teacher --data {data}`")
    mend = weights_mend(weights.parent)
    check_sums(weights.parent, mend)
    teacher.load_state_dict(load_file(check_weights(weights, mend)))
    return teacher.eval().requires_grad_(False)


class Teaching:
    """What the loop needs to train a teacher; a subclass for a set of images gives `network`, and the rest."""

    name = "teacher"

    def __init__(self, seed: int):
        self.model = self.network().to(memory_format=torch.channels_last)
        self.lr, self.weight_decay, self.seed = 2e-3, 0.01, seed

    def save(self, weights: dict[str, Tensor], out: Path) -> None:
        weights = {k: v.contiguous() for k, v in weights.items()}
        files.write_summed(out, {"model.safetensors": save(weights, metadata={"format": "pt"})})


class Taught:
    """What the loop needs to train a ViT beside its teacher; a subclass for a set of images gives the rest.

    `config` as of `vit_config`, `load_teacher()`, frozen, and `examples()`, images (n, 3, H, W) on which the spread of
    what it says is measured.
    """

    name = "vit"

    def __init__(self, seed: int):
        self.seed = seed
        vit, self.teacher = new_vit(self.config), self.load_teacher()
        for block in vit.blocks:
            block.attn.fused_attn = False  # half the time of the fused kernel's backward in bfloat16 on a CPU
        matched = self.teacher.evidence.in_channels + self.teacher.evidence.out_channels
        self.model = nn.ModuleDict({"vit": vit, "match": nn.Linear(vit.embed_dim, matched)})
        self.lr, self.weight_decay = 1e-3, 0.05
        with torch.no_grad():  # every channel of the teacher counts the same
            said = self.teacher(self.examples())[1].flatten(0, 1)
        self.centre, self.spread = said.mean(0), said.std(0).clamp_min(1e-3)

    @torch.no_grad()
    def teach(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's logits (B, 10), and what the patches are to match (B, n patches, ...), centred and scaled."""
        logits, said = self.teacher.to(x.device)(x)
        return logits, (said.float() - self.centre.to(x.device)) / self.spread.to(x.device)

    def loss(self, model: nn.ModuleDict, tokens: Tensor, target: Tensor, wanted: Tensor) -> Tensor:
        """Of final tokens (B, 1 + n, dim), a distribution over classes (B, 10), and n patches' `wanted`."""
        of_teacher = (model["match"](tokens[:, 1:]).float() - wanted).square().mean()
        return F.cross_entropy(model["vit"].head(tokens[:, 0]).float(), target) + MATCH_WEIGHT * of_teacher

    def save(self, weights: dict[str, Tensor], out: Path) -> None:
        vit = {k.removeprefix("vit."): v.float().contiguous() for k, v in weights.items() if k.startswith("vit.")}
        files.write_summed(out, {"model.safetensors": save(vit, metadata={"format": "pt"}),
                                 "config.json": as_json(self.config)})
