"""Values and maps of the reference code and of independent solvers, in tests/golden/."""

import json
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "golden"


def theory(prefix: str) -> list[dict]:
    """The items of theory.json whose names begin so, at least one."""
    items = [item for item in _json("theory")["items"] if item["name"].startswith(prefix)]
    assert items, prefix
    return items


def explanations() -> tuple[dict, dict]:
    """Tensors of the reference code by name, and the settings they were made with."""
    from safetensors.torch import load_file  # late: tests of the theory need no torch

    settings = _json("explanations")
    return load_file(FOLDER / "explanations.safetensors"), settings


def attn_lrp() -> dict:
    """Relevance (2, 32, 32) of the first two images under each of the settings in oracles/attn_lrp.py."""
    from safetensors.torch import load_file

    return load_file(FOLDER / "attn_lrp.safetensors")


def adm() -> tuple:
    """A small guided-diffusion checkpoint's path and settings, and x, t -> y of its own code, in float32."""
    from safetensors.torch import load_file

    settings = _json("adm_small")
    return FOLDER / "adm_small.pt", settings, load_file(FOLDER / "adm_small_io.safetensors")


def adm_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of 256x256_diffusion_uncond.pt, in its order."""
    return {name: tuple(shape) for name, shape in _json("adm_256x256_uncond_shapes").items()}


def transformers() -> tuple[dict, dict]:
    """Tensors by name: x, and of each architecture weights and answer y; and their configurations and names."""
    from safetensors.torch import load_file

    return load_file(FOLDER / "transformers.safetensors"), _json("transformers")


def backbone():
    """The ViT that made those maps, float64; its images are normalised with mean and std 0.5."""
    import timm

    tensors, settings = explanations()
    config = settings["configs"]["A"]
    names = ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "num_classes", "mlp_ratio")
    net = timm.models.VisionTransformer(**{name: config[name] for name in names}).double()
    prefix = "A/weights/"
    net.load_state_dict({key[len(prefix):]: value for key, value in tensors.items() if key.startswith(prefix)})
    return net


def _json(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
