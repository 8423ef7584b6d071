"""AttnLRP by its authors' package, on a timm ViT: lxt's own functions in the place of the layers, zennit's gamma rule.

`python tests/oracles/attn_lrp.py`, run where both are installed, writes tests/golden/attn_lrp.safetensors.
"""

import copy
import importlib.util
import sys
import types
import warnings
from pathlib import Path

import torch
from torch import nn


def relevance(backbone, x, target, gamma, conv_gamma):
    """Relevance (B, H, W) of images x (B, 3, H, W), normalised already, to the logit of each one's target."""
    net, rules = patched(backbone, gamma, conv_gamma)
    x = x.clone().requires_grad_()
    with rules.context(net) as hooked:
        hooked(x).gather(1, target[:, None]).sum().backward()
    return (x * x.grad).sum(1).detach()


def patched(backbone, gamma, conv_gamma):
    """(a copy with lxt's functions in the place of its layers, zennit's rules for it)."""
    _without_language_models()
    from lxt.efficient.patches import layer_norm_forward, non_linear_forward, wrap_attention_forward
    from lxt.efficient.zennit_patches import monkey_patch_zennit
    from zennit.composites import NameMapComposite
    from zennit.rules import Gamma

    with warnings.catch_warnings(action="ignore"):  # of a second time in one process
        monkey_patch_zennit(verbose=False)
    net = copy.deepcopy(backbone).requires_grad_(False).eval()
    for module in net.modules():
        if isinstance(module, nn.LayerNorm):
            module.forward = types.MethodType(layer_norm_forward, module)
        elif isinstance(module, nn.GELU):
            module.original_forward = module.forward
            module.forward = types.MethodType(non_linear_forward, module)
    core = wrap_attention_forward(lambda module, q, k, v: (q @ k.mT * module.scale).softmax(-1) @ v)

    def attend(self, x, **_):
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(self.norm(core(self, self.q_norm(q), self.k_norm(k), v).transpose(1, 2).flatten(2)))

    for block in net.blocks:
        block.attn.forward = types.MethodType(attend, block.attn)
    dense = ["head"] + [f"blocks.{n}.mlp.{part}" for n in range(len(net.blocks)) for part in ("fc1", "fc2")]
    return net, NameMapComposite([(dense, Gamma(gamma, stabilizer=1e-12)),
                                  (["patch_embed.proj"], Gamma(conv_gamma, stabilizer=1e-12))])


def _without_language_models():
    """lxt.efficient as a package of its modules, whose __init__ would import models of an older transformers."""
    package = types.ModuleType("lxt.efficient")
    package.__path__ = [str(Path(importlib.util.find_spec("lxt").origin).parent / "efficient")]
    sys.modules.setdefault("lxt.efficient", package)


SETTINGS = {"recipe": (0.05, 0.25), "epsilon": (0.0, 0.0), "large": (1.0, 100.0)}  # name -> gamma, conv_gamma
TARGET = [1, 4]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from oracles import golden
    from safetensors.torch import save_file

    images = golden.explanations()[0]["A/input"][:2]
    found = {name: relevance(golden.backbone(), images, torch.tensor(TARGET), *gammas)
             for name, gammas in SETTINGS.items()}
    save_file(found, golden.FOLDER / "attn_lrp.safetensors")
