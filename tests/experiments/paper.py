"""The paper's setting in small, and runs of it that are killed.

    python tests/experiments/paper.py OUT [FOLDER [N]]

runs notebook 09 at `paper` on N of the JPEGs in FOLDER (default 5 of $FVIT_DATA/imagenet256), by a ViT-B/16 and an
ADM with random weights: undisturbed, and in a second folder killed with SIGKILL at three random moments and run again;
then compares. `make test-paper` does it in a folder that is thrown away.
"""

import os
import random
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import nbformat
import pandas as pd
import psutil
import timm
import torch
from diffusers import UNet2DModel

from fvit.base.paths import NOTEBOOKS, ROOT
from fvit.models.adm import sources
from fvit.models.adm_settings import complete, unet_config
from fvit.records.rows import load_rows

SMALL_ADM = {"image_size": 16, "num_channels": 32, "channel_mult": [1], "num_res_blocks": 1,
             "attention_resolutions": "3", "num_head_channels": 16}  # attention in the middle alone


def prior(path: Path, size: int, **changes) -> dict:
    """Write a small guided-diffusion checkpoint, its weights random and always the same.

    size      pixels it works at, behind the bridge
    returns   the `den` of a setting
    """
    settings = {**SMALL_ADM, **changes}
    with torch.device("meta"):
        wanted = sources(UNet2DModel(**unet_config(complete(settings))))
    state = {}
    for name, shape in dict(wanted.values()).items():
        draws = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        spread = 0.1 if len(shape) == 1 else torch.Size(shape[1:]).numel() ** -0.5
        state[name] = spread * torch.randn(shape, generator=draws)
    torch.save(state, path)
    return {"source": str(path), "config": settings, "size": size}


def small_vit(folder: Path) -> dict:
    """Write a ViT of 32 pixels, 4x4 patches and ImageNet's 1,000 classes, in timm's form; the `vit` of a setting."""
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
    net = timm.create_model("vit_tiny_patch16_224", **sizes)
    timm.models.save_for_hf(net, folder, model_args=sizes, safe_serialization=True)
    return {"source": str(folder), "pretrained": False}  # random weights all the same: those of load_vit


def execute(number: str, before=lambda source: None, **parameters) -> dict:
    """Run the code cells of a notebook in this process, with parameters as papermill sets them; return its names.

    before   called with the source of each cell before it runs
    """
    [path] = NOTEBOOKS.glob(f"{number}_*.ipynb")
    names = {"__name__": "__main__"}
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code":
            before(cell.source)
            exec(compile(cell.source, f"{path.stem}: {cell.source.splitlines()[0]}", "exec"), names)
            if "parameters" in cell.metadata.get("tags", []):
                assert parameters.keys() <= names.keys(), f"unknown: {parameters.keys() - names.keys()}"
                names.update(parameters)
    return names


# By hand -------------------------------------------------------------------------------------------------------------

def run(out: Path, arguments: list[str], killed_after: float | None = None) -> int:
    """Exit code of `fvit run` into `out`; after so many seconds it and its kernel are killed, which gives -9."""
    process = subprocess.Popen([Path(sys.executable).parent / "fvit", "run", "09", "--out", str(out), *arguments],
                               cwd=ROOT, start_new_session=True)
    try:
        return process.wait(killed_after)
    except subprocess.TimeoutExpired:
        tree = [process, *psutil.Process(process.pid).children(recursive=True)]
        for one in tree:
            os.kill(one.pid, signal.SIGKILL)
        return process.wait()


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "results" / "paper").rglob("*.parquet"))}


def main(out: Path, data: Path, n_images: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    den = prior(out / "adm.pt", 256, image_size=256, channel_mult=[1, 1, 1, 1])
    given = {"vit": {"source": "vit_base_patch16_224", "pretrained": False}, "den": den, "data": str(data),
             "n_images": n_images, "block": 1, "n_samples": 2, "attack_steps": 1, "attack_draws": 1, "radii_255": [8],
             "methods": ["raw_attention"]}
    arguments = ["--profile", "paper", *(word for item in given.items() for word in ("-p", "{}={}".format(*item)))]
    start = time.monotonic()
    assert run(out / "calm", arguments) == 0
    taken, seed = time.monotonic() - start, random.randrange(10**6)
    print(f"undisturbed: {taken:.0f} s, seed of the moments {seed}", flush=True)
    draws = random.Random(seed)
    for number in range(3):
        after = draws.uniform(0.1, 0.3) * taken
        code = run(out / "killed", arguments, after)
        print(f"kill {number + 1} after {after:.0f} s: exit {code}, {len(files(out / 'killed'))} blocks", flush=True)
        assert code == -signal.SIGKILL
    assert run(out / "killed", arguments) == 0
    calm, killed = files(out / "calm"), files(out / "killed")
    assert calm == killed and len(calm) == n_images + 1, "other files"
    [rows] = [load_rows(path) for path in (out / "killed").rglob("09_scores.parquet")]
    assert rows.image_id.nunique() == n_images
    keys = [name for name in rows if name not in ("value", "ci_low", "ci_high")]
    assert not rows.duplicated(keys).any() and rows.groupby("image_id").size().nunique() == 1
    pd.testing.assert_frame_equal(rows, load_rows(next((out / "calm").rglob("09_scores.parquet"))), check_exact=True)
    print(f"the same {len(rows)} rows of {n_images} images to the bit, none lost, none twice")


if __name__ == "__main__":
    where = Path(os.environ.get("FVIT_DATA") or "$FVIT_DATA") / "imagenet256"
    out, data, n = [*sys.argv[1:], *[None, where, 5][len(sys.argv) - 1:]]
    main(Path(out).absolute(), Path(data).absolute(), int(n))
