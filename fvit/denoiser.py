"""A diffusion model as a denoiser: noisy image in [0, 1] units in, clean image out, by closed form."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import nn
from torch.nn import functional as F

from fvit import paths
from fvit.checks import (
    as_integer,
    check_choice,
    check_fits,
    check_noisy,
    check_source,
    check_sums,
    check_weights,
    read_json,
    weights_mend,
)
from fvit.schedule import in_schedule, linear_alphas_cumprod, sigma_to_timestep, timestep_to_sigma

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")


class Denoiser(nn.Module):
    """Denoise x + sigma * noise: `den(x_noisy, sigma)`, images (B, 3, H, W) in [0, 1] units, one network call.

    network           called network(x_t, t) with x_t in the [-1, 1] range and t (B,) int64; answers with `.sample`
    alphas_cumprod    (T,) decreasing, prod of (1 - beta); kept in float64
    prediction_type   what `.sample` estimates: "epsilon", "sample" or "v_prediction"
    learned_variance  the network emits twice the channels; the second half is dropped
    precision         "float32": the network's own precision, or "bfloat16": its calls run under autocast
    multiple          image sides must be multiples of it, as the network halves them repeatedly
    """

    def __init__(
        self,
        network,
        alphas_cumprod,
        prediction_type: str = "epsilon",
        learned_variance: bool = False,
        precision: str = "float32",
        multiple: int = 1,
    ):
        super().__init__()
        self.network = network
        self.alphas_cumprod = np.asarray(alphas_cumprod, dtype=np.float64)
        self.prediction_type = check_choice(prediction_type, PREDICTION_TYPES, "prediction_type")
        self.learned_variance = learned_variance
        self.precision = precision
        self.multiple = multiple
        _refuse_labels(getattr(network, "config", {}))

    @property
    def precision(self) -> str:
        return self._precision

    @precision.setter
    def precision(self, value: str) -> None:
        self._precision = check_choice(value, ("float32", "bfloat16"), "precision")

    @property
    def dtype(self) -> torch.dtype:
        """Precision the network computes in."""
        own = next((p.dtype for p in self.parameters()), torch.get_default_dtype())
        return torch.bfloat16 if self.precision == "bfloat16" else own

    def timestep(self, sigma: float) -> int:
        """Index nearest in log noise level to 2 * sigma in [-1, 1] units; ValueError outside the schedule."""
        return sigma_to_timestep(sigma, self.alphas_cumprod)

    def has_level(self, sigma: float) -> bool:
        """True where the schedule has a level for `sigma`; it has none for sigma = 0."""
        return in_schedule(sigma, self.alphas_cumprod)

    def forward(self, x_noisy: torch.Tensor, sigma: float, steps: int = 1) -> torch.Tensor:
        """Clean images (B, 3, H, W), clamped to [0, 1], differentiable in `x_noisy`.

        x_noisy   x + sigma * noise, (B, 3, H, W); x in [0, 1]
        steps     1: the estimate of x from one network call; n: the deterministic chain (DDIM, eta = 0) over
                  n timesteps evenly spaced from `timestep(sigma)` down

        float32 out, or float64 if both the images and the network are. Raises ValueError for a wrong shape, a sigma
        outside the schedule, or more steps than there are timesteps.
        Source: Carlini et al. 2023 (one shot), Song et al. 2021 (DDIM). Taught in notebook 05.
        """
        check_noisy(x_noisy, "x_noisy")
        if any(side % self.multiple for side in x_noisy.shape[-2:]):
            raise ValueError(
                f"x_noisy is {tuple(x_noisy.shape[-2:])}, wanted sides that {self.multiple} divides; resize"
            )
        start = self.timestep(sigma)
        steps, given = as_integer(steps), steps
        if steps not in range(1, start + 2):
            raise ValueError(f"steps={given} at sigma={sigma}, which is t={start}; wanted 1 <= steps <= {start + 1}")
        timesteps = np.linspace(start, -1, steps + 1).round().astype(int)[:-1]  # -1 stands for the clean image
        levels = [2 * timestep_to_sigma(t, self.alphas_cumprod) for t in timesteps] + [0.0]  # in [-1, 1] units
        u = 2 * x_noisy - 1  # x_t / sqrt(ac): signal plus `level` times noise
        for t, level, next_level in zip(timesteps, levels[:-1], levels[1:], strict=True):
            x_hat = self._estimate(u, int(t), level)
            u = x_hat + next_level / level * (u - x_hat)  # the same noise, less of it; at level 0 just x_hat
        out = (
            torch.float64
            if x_noisy.dtype == torch.float64 and self._network_dtype(u) == torch.float64
            else torch.float32
        )
        return ((u + 1) / 2).clamp(0, 1).to(out)

    def _estimate(self, u: torch.Tensor, t: int, level: float) -> torch.Tensor:
        """E[x | x_t] in [-1, 1] units from u = x_t / sqrt(ac). Note: unclipped, unlike DDPMScheduler's."""
        scale = float(self.alphas_cumprod[t]) ** 0.5
        output = self._call(scale * u, t).to(u.dtype)
        if self.prediction_type == "epsilon":
            return u - level * output
        if self.prediction_type == "sample":
            return output
        return scale**2 * u - scale * level * output  # v = sqrt(ac) noise - sqrt(1 - ac) x

    def _call(self, x_t: torch.Tensor, t: int) -> torch.Tensor:
        x_t = x_t.to(self._network_dtype(x_t))
        times = torch.full((len(x_t),), t, dtype=torch.long, device=x_t.device)
        if self.precision == "bfloat16":
            x_t = x_t.contiguous(memory_format=torch.channels_last)  # what bf16 convolutions want
        with torch.autocast(x_t.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            output = self.network(x_t, times).sample
        wanted = x_t.shape[1] * (2 if self.learned_variance else 1)
        if output.shape[1] != wanted:
            raise ValueError(
                f"the network answers with {output.shape[1]} channels, wanted {wanted}; "
                f"set learned_variance={not self.learned_variance} if it emits a variance or none"
            )
        return output.chunk(2, dim=1)[0] if self.learned_variance else output

    def _network_dtype(self, x: torch.Tensor) -> torch.dtype:
        return next((p.dtype for p in self.parameters()), x.dtype)  # a function without parameters follows its input


class PixelUnshuffled(nn.Module):
    """A UNet that works on factor x factor blocks of pixels folded into channels: same call, a smaller grid, faster."""

    def __init__(self, unet: nn.Module, factor: int):
        super().__init__()
        self.unet, self.factor = unet, factor

    def forward(self, x_t: torch.Tensor, t) -> SimpleNamespace:
        folded = self.unet(F.pixel_unshuffle(x_t, self.factor), t).sample  # (B, 3 * factor**2, H / factor, W / factor)
        return SimpleNamespace(sample=F.pixel_shuffle(folded, self.factor))


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
        from fvit.extras.adm import load_adm  # late: only the paper's prior needs it

        return _assemble(*load_adm(source, config))
    folder = paths.shipped(source, "denoiser") if source in paths.SHIPPED else Path(source)
    mend = weights_mend(folder, paths.WEIGHTS)
    if not folder.is_dir():
        if folder.exists():
            raise ValueError(
                f"{folder} is a file, wanted a guided-diffusion .pt, or the folder of a diffusers model "
                "(config.json and safetensors)"
            )
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
    return Denoiser(
        (PixelUnshuffled(unet, factor) if factor > 1 else unet).eval().requires_grad_(False),
        _alphas_cumprod(schedule),
        schedule.get("prediction_type", "epsilon"),
        learned_variance=unet.config.out_channels == 2 * unet.config.in_channels,
        multiple=factor * 2 ** (len(unet.config.down_block_types) - 1),
    ).eval()


def _read_unet(top: Path, mend: str) -> UNet2DModel:
    pickled = " (only as .bin, a pickle, which is not read? save it again by diffusers' save_pretrained)"
    weights = check_weights(top / "diffusion_pytorch_model.safetensors", mend + pickled)
    try:
        settings = read_json(top / "config.json", mend)
        check_fits(lambda: UNet2DModel.from_config(settings), settings, weights, mend)
        unet, info = UNet2DModel.from_pretrained(
            top,
            use_safetensors=True,  # never a pickle
            low_cpu_mem_usage=False,  # else a warning where accelerate is absent
            local_files_only=True,
            torch_dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as err:  # configuration errors and shapes that do not fit: several classes inside diffusers
        raise ValueError(f"{weights} does not fit {top / 'config.json'} ({type(err).__name__}: {err}); {mend}") from err
    if info["missing_keys"]:  # diffusers only warns, and leaves them random
        raise ValueError(
            f"{weights} lacks {len(info['missing_keys'])} tensors, {info['missing_keys'][0]} first; {mend}"
        )
    _check_call(unet.eval(), top / "config.json", mend)
    return unet


def _check_call(unet: UNet2DModel, config: Path, mend: str) -> None:
    """ValueError unless the network answers a small blank image: settings that fit the weights may yet be none."""
    try:
        side = 2 ** len(unet.config.down_block_types)  # two pixels a side where it is coarsest
        with torch.no_grad():
            answer = unet(torch.zeros(1, unet.config.in_channels, side, side), torch.zeros(1, dtype=torch.long)).sample
        if answer.shape[2:] != (side, side) or not answer.isfinite().all():
            raise ValueError(f"{side}x{side} pixels become {answer.shape[3]}x{answer.shape[2]}, or no finite numbers")
    except Exception as err:  # whatever its layers say to a setting of another kind
        raise ValueError(f"{config} and its weights are no network that works ({type(err).__name__}: {err}); {mend}"
                         ) from err


def _check_unet(config: dict, factor: int, folder: Path) -> None:
    """ValueError unless the UNet maps an image and a timestep to an image, or to an image and a variance."""
    if config.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise ValueError(f"{folder} holds a {config['_class_name']}, wanted an unconditional UNet2DModel over pixels")
    _refuse_labels(config)
    for name in ("vae", "vqvae"):
        if (folder / name).is_dir():
            raise ValueError(f"{folder} denoises the latents of its {name}; choose a UNet2DModel over pixels")
    if config.get("time_embedding_type") == "fourier":
        raise ValueError(f"{folder} is told a continuous noise level (fourier); choose a model with discrete timesteps")
    if (as_integer(factor) or 0) < 1:
        raise ValueError(f"{folder} states pixel_unshuffle {factor!r}, wanted an integer >= 1")
    channels = 3 * factor**2
    got = config.get("in_channels", 3), config.get("out_channels", 3)
    if got not in ((channels, channels), (channels, 2 * channels)):
        raise ValueError(
            f"{folder} maps {got[0]} channels to {got[1]}, wanted {channels} to {channels} or {2 * channels}"
        )


def _refuse_labels(config) -> None:
    if config.get("class_embed_type") is not None or config.get("num_class_embeds") is not None:
        raise ValueError(
            "the diffusion model is class-conditional, but a denoiser must not be told the class; "
            "choose an unconditional model"
        )


def _schedule_config(folder: Path, mend: str) -> dict:
    for path in (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json"):
        if path.is_file():
            return read_json(path, mend)
    raise FileNotFoundError(
        f"no scheduler/scheduler_config.json in {folder}; give config={{'beta_schedule': ...}} or {mend}"
    )


def _alphas_cumprod(config: dict) -> np.ndarray:
    # DDPMScheduler passes over what it does not know: a continuous schedule would come out as its default betas. A file
    # (with _class_name) states its betas; a dict written by hand may leave them to the defaults.
    keys = ["beta_schedule", "trained_betas"]
    if "_class_name" not in config:
        keys += ["num_train_timesteps", "prediction_type"]
    if all(config.get(key) is None for key in keys):
        raise ValueError(
            f"the scheduler's configuration ({config.get('_class_name') or ', '.join(config)}) has no betas; "
            f"wanted a discrete schedule, with {' or '.join(keys)}; choose a model of DDPM's kind"
        )
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
        raise OSError(
            f"there is no folder {name}, and as a hub id it cannot be downloaded ({type(err).__name__}); "
            "check the name, or load it once with a network"
        ) from err
