"""Denoisers from folders and hubs of diffusers, and from .pt files of guided-diffusion."""

from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel

from fvit.base import paths
from fvit.base.checks import as_integer, check_source
from fvit.base.files import read_json
from fvit.models.denoiser import Denoiser, PixelUnshuffled, _refuse_labels
from fvit.models.schedule import linear_alphas_cumprod
from fvit.models.weight_files import check_call, check_fits, check_sums, check_weights, short, weights_mend


def load_denoiser(source="scenes", config=None) -> Denoiser:
    """Load a diffusion model as a Denoiser, in evaluation mode with frozen parameters.

    source   "scenes" or "cifar10" (shipped) | a hub id | a folder in diffusers' form: config.json and
             diffusion_pytorch_model.safetensors, in unet/ or at the top, scheduler/scheduler_config.json,
             and, for a network wrapped in PixelUnshuffled, fvit.json: {"pixel_unshuffle": 2}
             | a checkpoint of OpenAI's guided-diffusion, .pt
    config   a dict or a JSON file: the scheduler's configuration, for a folder without one; for a .pt what differs from
             the published 256x256 unconditional model, in guided-diffusion's words: {"num_channels": 128, ...}

    Raises ValueError for a class-conditional or otherwise unfit model, FileNotFoundError or OSError where files are
    absent, truncated or cannot be downloaded; each names the mend.
    """
    check_source(source)
    if not (config is None or isinstance(config, dict)):
        config = read_json(check_source(config, "config"), "config is a dict or a JSON file")
    if Path(source).suffix in (".pt", ".pth") and not Path(source).is_dir():
        from fvit.models.adm import load_adm  # late: only the paper's prior needs it

        return _assemble(*load_adm(source, config))
    folder = paths.shipped(source, "denoiser") if source in paths.SHIPPED else Path(source)
    mend = weights_mend(folder)
    if not folder.is_dir():
        if folder.exists():
            raise ValueError(f"{folder} is a file, wanted a guided-diffusion .pt, or the folder of a diffusers model "
                             "(config.json and safetensors)")
        if source in paths.SHIPPED or folder.is_absolute() or len(folder.parts) != 2:
            raise FileNotFoundError(f"no folder {folder} with a diffusers model; {mend}")
        folder = _download(str(source))
    check_sums(folder, mend)
    top = folder / "unet" if (folder / "unet").is_dir() else folder
    factor = read_json(folder / "fvit.json", mend).get("pixel_unshuffle", 1) if (folder / "fvit.json").exists() else 1
    _check_unet(read_json(top / "config.json", mend), factor, folder)
    schedule = _schedule_config(folder, mend) if config is None else config
    return _assemble(_read_unet(top, mend), schedule, factor)


def _assemble(unet: UNet2DModel, schedule: dict, factor: int = 1) -> Denoiser:
    network = (PixelUnshuffled(unet, factor) if factor > 1 else unet).eval().requires_grad_(False)
    return Denoiser(network, _alphas_cumprod(schedule), schedule.get("prediction_type", "epsilon"),
                    learned_variance=unet.config.out_channels == 2 * unet.config.in_channels,
                    multiple=factor * 2 ** (len(unet.config.down_block_types) - 1)).eval()


def _read_unet(top: Path, mend: str) -> UNet2DModel:
    pickled = " (only as .bin, a pickle, which is not read? save it again by diffusers' save_pretrained)"
    weights = check_weights(top / "diffusion_pytorch_model.safetensors", mend + pickled)
    try:
        settings = read_json(top / "config.json", mend)
        check_fits(lambda: UNet2DModel.from_config(settings), settings, weights, mend)
        unet, info = UNet2DModel.from_pretrained(  # low_cpu_mem_usage would warn where accelerate is absent
            top, torch_dtype=torch.float32, output_loading_info=True, local_files_only=True, use_safetensors=True,
            low_cpu_mem_usage=False)
    except Exception as err:  # configuration errors and shapes that do not fit: several classes inside diffusers
        raise ValueError(f"{weights} does not fit {top / 'config.json'} ({short(err)}); {mend}") from err
    if lacks := info["missing_keys"]:  # diffusers only warns, and leaves them random
        raise ValueError(f"{weights} lacks {len(lacks)} tensors, {lacks[0]} first; {mend}")
    check_call(lambda: _answer_blank(unet.eval()), f"{top / 'config.json'} beside its weights", mend)
    return unet


def _answer_blank(unet: UNet2DModel) -> None:
    side = 2 ** len(unet.config.down_block_types)  # two pixels a side where it is coarsest
    answer = unet(torch.zeros(1, unet.config.in_channels, side, side), torch.zeros(1, dtype=torch.long)).sample
    if answer.shape[2:] != (side, side) or not answer.isfinite().all():
        raise ValueError(f"{side}x{side} pixels become {answer.shape[3]}x{answer.shape[2]}, or no finite numbers")


def _check_unet(config: dict, factor: int, folder: Path) -> None:
    """ValueError unless the UNet maps an image and a timestep to an image, or to an image and a variance."""
    if config.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise ValueError(f"{folder} holds a {config['_class_name']}, wanted an unconditional UNet2DModel over pixels")
    _refuse_labels(config)
    if latents := [name for name in ("vae", "vqvae") if (folder / name).is_dir()]:
        raise ValueError(f"{folder} denoises the latents of its {latents[0]}; choose a UNet2DModel over pixels")
    if config.get("time_embedding_type") == "fourier":
        raise ValueError(f"{folder} is told a continuous noise level (fourier); choose a model with discrete timesteps")
    if (as_integer(factor) or 0) < 1:
        raise ValueError(f"{folder} states pixel_unshuffle {factor!r}, wanted an integer >= 1")
    n = 3 * factor**2
    got = config.get("in_channels", 3), config.get("out_channels", 3)
    if got not in ((n, n), (n, 2 * n)):
        raise ValueError(f"{folder} maps {got[0]} channels to {got[1]}, wanted {n} to {n} or {2 * n}")


def _schedule_config(folder: Path, mend: str) -> dict:
    for path in (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json"):
        if path.is_file():
            return read_json(path, mend)
    raise FileNotFoundError(f"no scheduler/scheduler_config.json in {folder}; give config={{'beta_schedule': ...}} or "
                            f"{mend}")


def _alphas_cumprod(config: dict) -> np.ndarray:
    # DDPMScheduler passes over what it does not know: a continuous schedule would come out as its default betas. A file
    # (with _class_name) states its betas; a dict written by hand may leave them to the defaults.
    by_hand = ["num_train_timesteps", "prediction_type"]
    keys = ["beta_schedule", "trained_betas", *(by_hand if "_class_name" not in config else [])]
    if all(config.get(key) is None for key in keys):
        raise ValueError(f"the scheduler's configuration ({config.get('_class_name') or ', '.join(config)}) has no "
                         f"betas; wanted a discrete schedule, with {' or '.join(keys)}; choose a model of DDPM's kind")
    n_steps = config.get("num_train_timesteps", 1000)
    if not 1 <= (as_integer(n_steps) or 0) <= 10**6:
        raise ValueError(f"num_train_timesteps={n_steps!r}, wanted an integer from 1 to a million; 1000 is usual")
    try:
        scheduler = DDPMScheduler.from_config(config)
        c = scheduler.config
        if c.beta_schedule == "linear" and c.trained_betas is None and not c.rescale_betas_zero_snr:
            return linear_alphas_cumprod(c.num_train_timesteps, c.beta_start, c.beta_end)  # diffusers' are float32
        return scheduler.alphas_cumprod.double().numpy()
    except Exception as err:  # what diffusers does not know, or cannot compute with: several classes
        raise ValueError(f"the scheduler is not of DDPM's kind ({err}); choose another model") from err


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*config.json", "*diffusion_pytorch_model.safetensors"]))
    except Exception as err:  # network errors come in many classes
        raise OSError(f"there is no folder {name}, and as a hub id it cannot be downloaded ({type(err).__name__}); "
                      "check the name, or load it once with a network") from err
