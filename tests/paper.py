"""The paper's setting in small: real JPEGs or tiny files in real formats, a random ViT, a random ADM checkpoint."""

import zlib
from pathlib import Path

import nbformat
import torch
from diffusers import UNet2DModel

from fvit.extras.adm import sources
from fvit.extras.adm_settings import complete, unet_config
from fvit.paths import NOTEBOOKS

ADM = {"num_channels": 32, "channel_mult": [1, 1], "num_res_blocks": 1, "attention_resolutions": "3", "image_size": 32,
       "num_head_channels": 16}


def adm_checkpoint(path: Path, **changes) -> dict:
    """Write a small guided-diffusion checkpoint with random weights, always the same; its settings by what differs."""
    settings = {**ADM, **changes}
    with torch.device("meta"):
        wanted = sources(UNet2DModel(**unet_config(complete(settings))))
    state = {}
    for name, shape in dict(wanted.values()).items():
        draws = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        spread = 0.1 if len(shape) == 1 else torch.Size(shape[1:]).numel() ** -0.5
        state[name] = spread * torch.randn(shape, generator=draws)
    torch.save(state, path)
    return settings


def prior(path: Path, size: int, **changes) -> dict:
    """The `den` of a setting: such a checkpoint behind the bridge, at `size` pixels."""
    return {"source": str(path), "config": adm_checkpoint(path, **changes), "size": size}


def execute(number: str, **parameters) -> dict:
    """Run the code cells of a notebook in this process, as papermill would, and return its names."""
    [path] = NOTEBOOKS.glob(f"{number}_*.ipynb")
    names = {"__name__": "__main__"}
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{path.stem}, {cell.source[:40]!r}", "exec"), names)
            if "parameters" in cell.metadata.get("tags", []):
                assert parameters.keys() <= names.keys(), parameters.keys() - names.keys()
                names.update({name: repr(value) if isinstance(value, dict) else value
                              for name, value in parameters.items()})
    return names
