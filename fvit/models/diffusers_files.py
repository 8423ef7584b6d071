"""Denoisers from folders, hubs and objects of diffusers, and from .pt files of OpenAI's diffusion models."""

import re
from pathlib import Path

import torch
from diffusers import UNet2DModel

from fvit.base import paths
from fvit.base.checks import as_integer, as_number, check_source
from fvit.base.files import read_json
from fvit.models.denoiser import Denoiser, PixelUnshuffled, TimeScaled, _refuse_labels
from fvit.models.schedulers import schedule_of
from fvit.models.weight_files import as_path, check_call, check_fits, check_sums, find_weights, short, weights_mend

STEM = "diffusion_pytorch_model"  # of its files of weights
LATENTS = ("vae", "vqvae")  # parts of a pipeline whose UNet never sees pixels


def load_denoiser(source="scenes", config=None, scheduler=None) -> Denoiser:
    """Load a diffusion model as a Denoiser, in evaluation mode with frozen parameters.

    source      "scenes", "cifar10" or "photographs" (shipped) | a hub id | a folder in
                diffusers' form: config.json and diffusion_pytorch_model.safetensors (whole, sharded, or one variant
                such as .fp16), in unet/ or at the top, scheduler/scheduler_config.json, and, for a network wrapped in
                PixelUnshuffled or TimeScaled, fvit.json: {"pixel_unshuffle": 2} or {"timestep_scale": 0.25}
                | a checkpoint of OpenAI's guided-diffusion or improved-diffusion, .pt
                | a UNet2DModel or DDPMPipeline you have (wrapped, not copied: its parameters are frozen too)
    config      a dict or a JSON file: a scheduler's configuration, instead of the folder's; for a .pt what differs from
                the published model, in its code's words: {"num_channels": 128, ...}
    scheduler   the diffusers scheduler that the UNet was trained with, instead of a configuration

    What sigma means in timesteps is what the scheduler's own alphas_cumprod say; built from a configuration by its own
    class. Raises ValueError for a scheduler, named, that is no discrete variance-preserving diffusion, for a
    class-conditional or otherwise unfit model; FileNotFoundError or OSError where files are absent, truncated or cannot
    be downloaded; each names the mend.
    """
    if scheduler is not None and config is not None:
        raise ValueError("config and scheduler are both given, wanted one of them; they say the same thing")
    if not (config is None or isinstance(config, dict)):
        config = read_json(as_path(check_source(config, "config")), "config is a dict or a JSON file")
    schedule = config if scheduler is None else scheduler
    if hasattr(source, "unet") and hasattr(source, "scheduler"):
        _refuse_latents([name for name in LATENTS if getattr(source, name, None) is not None], type(source).__name__)
        source, schedule = source.unet, source.scheduler if schedule is None else schedule
    if isinstance(source, torch.nn.Module):
        return _from_module(source, schedule)
    path = paths.shipped(source, "denoiser") if check_source(source) in paths.PRIORS else as_path(source)
    if path.suffix in (".pt", ".pth") and not path.is_dir():
        from fvit.models.adm import read_adm  # late: only OpenAI's priors need it
        from fvit.models.adm_settings import alphas_cumprod, schedule_config, timestep_scale

        if scheduler is not None:
            raise ValueError(f"{path.name} states its schedule by the words of its config, not by a scheduler; leave "
                             "scheduler out")
        unet, settings = read_adm(path, config)
        kind = schedule_config(settings)["prediction_type"]
        return _assemble(unet, alphas_cumprod(settings), kind, scale=timestep_scale(settings))
    return _from_folder(path, source, schedule)


def _from_module(unet: torch.nn.Module, schedule) -> Denoiser:
    factor = unet.factor if isinstance(unet, PixelUnshuffled) else 1
    inner = unet.unet if isinstance(unet, PixelUnshuffled) else unet
    if not isinstance(inner, UNet2DModel):
        raise ValueError(f"the module is a {type(inner).__name__}, wanted an unconditional UNet2DModel over pixels; "
                         "another network x_t, t -> .sample becomes one by fvit.models.denoiser.Denoiser")
    _check_unet(dict(inner.config), factor, "the UNet")
    if schedule is None:
        raise ValueError("a UNet alone does not say its noise schedule; give the scheduler it was trained with, "
                         "scheduler=..., or its configuration, config=...")
    return _assemble(inner, *schedule_of(schedule), factor)


def _refuse_latents(found: list[str], what) -> None:
    if found:
        raise ValueError(f"{what} denoises the latents of its {found[0]}; choose a UNet2DModel over pixels")


def _from_folder(folder: Path, source, schedule) -> Denoiser:
    mend = weights_mend(folder)
    if not folder.is_dir():
        if folder.exists():
            raise ValueError(f"{folder} is a file, wanted a guided-diffusion .pt, or the folder of a diffusers model "
                             "(config.json and safetensors)")
        if source in paths.PRIORS or folder.is_absolute() or len(folder.parts) != 2:
            raise FileNotFoundError(f"no folder {folder} with a diffusers model; {mend}")
        folder = _download(str(source))
    check_sums(folder, mend)
    top = folder / "unet" if (folder / "unet").is_dir() else folder
    ours = read_json(folder / "fvit.json", mend) if (folder / "fvit.json").exists() else {}
    factor, scale = ours.get("pixel_unshuffle", 1), as_number(ours.get("timestep_scale", 1))
    if not 0 < scale <= 1000:
        raise ValueError(f"{folder} states timestep_scale {ours['timestep_scale']!r}, wanted a number above 0; {mend}")
    _check_unet(read_json(top / "config.json", mend), factor, folder)
    _refuse_latents([name for name in LATENTS if (folder / name).is_dir()], folder)
    found = schedule_of(_schedule_config(folder, mend) if schedule is None else schedule)
    return _assemble(_read_unet(top, mend), *found, factor, scale)


def _assemble(unet: UNet2DModel, alphas_cumprod, prediction_type: str, factor: int = 1, scale: float = 1) -> Denoiser:
    network = unet if scale == 1 else TimeScaled(unet, scale)
    network = (PixelUnshuffled(network, factor) if factor > 1 else network).eval().requires_grad_(False)
    return Denoiser(network, alphas_cumprod, prediction_type,
                    learned_variance=unet.config.out_channels == 2 * unet.config.in_channels,
                    multiple=factor * 2 ** (len(unet.config.down_block_types) - 1)).eval()


def _read_unet(top: Path, mend: str) -> UNet2DModel:
    pickled = " (only as .bin, a pickle, which is not read? save it again by diffusers' save_pretrained)"
    files = find_weights(top, STEM, mend + pickled)
    marks = re.match(rf"{STEM}(?:\.([^.]+?))?(?:-\d+-of-\d+)?\.safetensors", files[0].name)
    try:
        settings = read_json(top / "config.json", mend)
        check_fits(lambda: UNet2DModel.from_config(settings), settings, files, mend)
        unet, info = UNet2DModel.from_pretrained(  # low_cpu_mem_usage would warn where accelerate is absent
            top, torch_dtype=torch.float32, output_loading_info=True, local_files_only=True, use_safetensors=True,
            low_cpu_mem_usage=False, variant=marks and marks[1])
    except Exception as err:  # configuration errors and shapes that do not fit: several classes inside diffusers
        raise ValueError(f"{files[0]} does not fit {top / 'config.json'} ({short(err)}); {mend}") from err
    if lacks := info["missing_keys"]:  # diffusers only warns, and leaves them random
        raise ValueError(f"{files[0]} lacks {len(lacks)} tensors, {lacks[0]} first; {mend}")
    check_call(lambda: _answer_blank(unet.eval()), f"{top / 'config.json'} beside its weights", mend)
    return unet


def _answer_blank(unet: UNet2DModel) -> None:
    side = 2 ** len(unet.config.down_block_types)  # two pixels a side where it is coarsest
    blank = torch.zeros(1, unet.config.in_channels, side, side, dtype=torch.float32)
    answer = unet(blank, torch.zeros(1, dtype=torch.long)).sample
    if answer.shape[2:] != (side, side) or not answer.isfinite().all():
        raise ValueError(f"{side}x{side} pixels become {answer.shape[3]}x{answer.shape[2]}, or no finite numbers")


def _check_unet(config: dict, factor: int, what) -> None:
    """ValueError unless the UNet maps an image and a timestep to an image, or to an image and a variance."""
    if config.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise ValueError(f"{what} holds a {config['_class_name']}, wanted an unconditional UNet2DModel over pixels")
    _refuse_labels(config)
    if config.get("time_embedding_type") == "fourier":
        raise ValueError(f"{what} is told a continuous noise level (fourier); choose a model with discrete timesteps")
    if (as_integer(factor) or 0) < 1:
        raise ValueError(f"{what} states pixel_unshuffle {factor!r}, wanted an integer >= 1")
    n = 3 * factor**2
    got = config.get("in_channels", 3), config.get("out_channels", 3)
    if got not in ((n, n), (n, 2 * n)):
        raise ValueError(f"{what} maps {got[0]} channels to {got[1]}, wanted {n} to {n} or {2 * n}")


def _schedule_config(folder: Path, mend: str) -> dict:
    for path in (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json"):
        if path.is_file():
            return read_json(path, mend)
    raise FileNotFoundError(f"no scheduler/scheduler_config.json in {folder}; give config={{'beta_schedule': ...}} or "
                            f"{mend}")


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[
            "*config.json", f"*{STEM}.safetensors", f"*{STEM}.safetensors.index.json", f"*{STEM}-*.safetensors"]))
    except Exception as err:  # network errors come in many classes
        raise OSError(f"there is no folder {name}, and as a hub id it cannot be downloaded ({type(err).__name__}); "
                      "check the name, or load it once with a network") from err
