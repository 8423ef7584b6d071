"""The settings of a guided-diffusion model (ADM), in its own words, and the diffusers configurations they amount to.

Those of improved-diffusion, which came before and is the prior of published CIFAR-10 results, are fewer and other ones.
"""

import numpy as np

from fvit.base.checks import check_choice
from fvit.models.schedule import cosine_alphas_cumprod, linear_alphas_cumprod

PUBLISHED = {  # 256x256_diffusion_uncond.pt
    "image_size": 256, "num_channels": 256, "num_res_blocks": 2,
    "channel_mult": "", "attention_resolutions": "32,16,8",  # channel_mult "": that of the image size
    "num_heads": 4, "num_head_channels": 64, "num_heads_upsample": -1,  # num_heads: idle unless num_head_channels is -1
    "use_new_attention_order": False, "use_scale_shift_norm": True, "resblock_updown": True,
    "learn_sigma": True, "class_cond": False, "predict_xstart": False,
    "diffusion_steps": 1000, "noise_schedule": "linear", "rescale_timesteps": False}
IMPROVED = {  # what improved-diffusion leaves out, it means so; it halves and doubles by convolutions alone
    "image_size": 64, "num_channels": 128, "attention_resolutions": "16,8", "num_head_channels": -1,
    "resblock_updown": False, "learn_sigma": False}
IDLE = ("dropout", "use_checkpoint", "use_fp16", "use_kl", "rescale_learned_sigmas", "timestep_respacing",
        "sigma_small", "seed")
CHANNEL_MULT = {32: (1, 2, 2, 2), 64: (1, 2, 3, 4), 128: (1, 1, 2, 3, 4), 256: (1, 1, 2, 2, 4, 4),
                512: (0.5, 1, 1, 2, 2, 4, 4)}
SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}  # its name: diffusers'
GROUPS = 32  # of every GroupNorm


def complete(changes: dict | None = None, convolves: bool = False) -> dict:
    """All settings: PUBLISHED with `changes`, lists as tuples, and checked.

    changes     guided-diffusion's names and values, or improved-diffusion's; settings of training and sampling (IDLE)
                may stand among them. Heads given by num_heads alone are meant so: num_head_channels is then -1, as in
                guided-diffusion. Left out, rescale_timesteps is True where the file `convolves`, as in
                improved-diffusion, and False elsewhere; it matters with other than 1,000 diffusion_steps
    convolves   whether the file has convolutions between its levels: then, if resblock_updown is left out, what is left
                out is as in improved-diffusion (IMPROVED)

    Raises ValueError for an unknown name, a wrong value, or a model that no UNet2DModel can express.
    """
    changes = {name: value for name, value in (changes or {}).items() if name not in IDLE}
    for name, value in changes.items():
        kind = type(PUBLISHED[check_choice(name, PUBLISHED, "ADM setting")])
        if kind in (int, bool) and type(value) is not kind:
            raise ValueError(f"{name}={value!r} is {type(value).__name__}, wanted {kind.__name__}; correct the config")
    if "num_heads" in changes:
        changes = {"num_head_channels": -1, **changes}
    s = {**PUBLISHED, **(IMPROVED if convolves and "resblock_updown" not in changes else {}), **changes}
    if "rescale_timesteps" not in changes:
        s["rescale_timesteps"] = convolves and s["diffusion_steps"] != 1000  # at 1000 it changes nothing
    check_choice(s["noise_schedule"], SCHEDULES, "noise_schedule")
    s["channel_mult"] = _numbers(s["channel_mult"] or CHANNEL_MULT.get(s["image_size"], ()), "channel_mult")
    s["attention_resolutions"] = _numbers(s["attention_resolutions"], "attention_resolutions")
    _check(s)
    return s


def unet_config(s: dict) -> dict:
    """Arguments of the UNet2DModel that computes what the ADM of complete settings does."""
    plain, sampling = ("Resnet{}sampleBlock2D", "resnet") if s["resblock_updown"] else ("{}Block2D", "conv")
    blocks = ["Attn{}Block2D" if attn else plain for attn in _attends(s)]
    return dict(
        sample_size=s["image_size"], out_channels=6 if s["learn_sigma"] else 3, block_out_channels=_channels(s),
        flip_sin_to_cos=True, freq_shift=0,  # cosines before sines; frequencies 10000^(-i / half), i = 0 ... half - 1
        layers_per_block=s["num_res_blocks"], down_block_types=[name.format("Down") for name in blocks],
        up_block_types=[name.format("Up") for name in reversed(blocks)],
        downsample_type=sampling, upsample_type=sampling,
        resnet_time_scale_shift="scale_shift" if s["use_scale_shift_norm"] else "default",
        attention_head_dim=_head_dim(s), norm_eps=1e-5,
        norm_num_groups=GROUPS, attn_norm_num_groups=GROUPS,  # of the middle; not implied beside scale_shift
    )


def schedule_config(s: dict) -> dict:
    """Configuration of the DDPMScheduler with the betas of complete settings."""
    stretch = 1000 / s["diffusion_steps"]
    return dict(num_train_timesteps=s["diffusion_steps"], beta_schedule=SCHEDULES[s["noise_schedule"]],
                beta_start=stretch * 1e-4, beta_end=stretch * 0.02,
                prediction_type="sample" if s["predict_xstart"] else "epsilon",
                variance_type="learned_range" if s["learn_sigma"] else "fixed_large")


def alphas_cumprod(s: dict) -> np.ndarray:
    """The same betas' products, (diffusion_steps,) float64, of which a DDPMScheduler keeps float32."""
    if s["noise_schedule"] == "cosine":
        return cosine_alphas_cumprod(s["diffusion_steps"])
    config = schedule_config(s)
    return linear_alphas_cumprod(s["diffusion_steps"], config["beta_start"], config["beta_end"])


def timestep_scale(s: dict) -> float:
    """What the network is told for t is this times t."""
    return 1000 / s["diffusion_steps"] if s["rescale_timesteps"] else 1.0


def _channels(s: dict) -> list[int]:
    return [int(mult * s["num_channels"]) for mult in s["channel_mult"]]


def _attends(s: dict) -> list[bool]:
    """Whether each level has attention; ADM, too, passes over a resolution that no level has."""
    factors = [s["image_size"] // side for side in s["attention_resolutions"]]
    return [2**level in factors for level in range(len(s["channel_mult"]))]


def _head_dim(s: dict) -> int | None:
    """Channels of a head: diffusers has one number for all levels, or None for one head over all channels."""
    width = _channels(s)
    widths = sorted({width[-1], *(w for w, attn in zip(width, _attends(s), strict=True) if attn)})  # the middle attends
    if s["num_head_channels"] == -1 and s["num_heads"] == 1:
        return None
    dims = {w / s["num_heads"] if s["num_head_channels"] == -1 else s["num_head_channels"] for w in widths}
    if len(dims) > 1 or any(dim < 1 or dim % 1 or w % dim for w in widths for dim in dims):
        heads = f"num_heads={s['num_heads']}, num_head_channels={s['num_head_channels']}"
        raise ValueError(f"{heads} with attention over {widths} channels: a UNet2DModel has heads of one width at all "
                         "levels, which divides their channels; correct the config, or choose a model with "
                         "num_head_channels")
    return int(dims.pop())


def _check(s: dict) -> None:
    """ValueError for settings that are no model, or none that a UNet2DModel can express."""
    few = [name for name in "image_size num_channels num_res_blocks num_heads diffusion_steps".split() if s[name] < 1]
    first = next(iter(s["channel_mult"]), None)
    for wrong, message in (
        (s["class_cond"], "class_cond=True: a denoiser must not be told the class; choose an unconditional model, such "
                          "as 256x256_diffusion_uncond.pt"),
        (few, f"{', '.join(f'{name}={s[name]}' for name in few)}, wanted at least 1; correct the config"),
        (first is None, f"no channel_mult, and none is customary at image_size={s['image_size']} (only at "
                        f"{', '.join(map(str, CHANNEL_MULT))}); state it, e.g. '1,2,2'"),
        (first != 1, f"channel_mult begins with {first}, wanted 1: the time embedding of a UNet2DModel is as wide as "
                     "its first level; choose another model"),
        (any(width % GROUPS for width in _channels(s)),
         f"levels of {_channels(s)} channels, wanted multiples of {GROUPS}; correct num_channels"),
        (s["num_head_channels"] == -1 and s["num_heads_upsample"] not in (-1, s["num_heads"]),
         f"num_heads_upsample={s['num_heads_upsample']} beside num_heads={s['num_heads']}: a UNet2DModel has the same "
         "heads on its way up; choose another model"),
    ):
        if wrong:
            raise ValueError(message)


def _numbers(value, name: str) -> tuple:
    """Numbers from "32,16,8", from a list of them, or from one."""
    items = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    try:
        numbers = tuple(float(item) for item in items)
    except (TypeError, ValueError):
        raise ValueError(f"{name}={value!r}, wanted numbers such as '32,16,8' or [32, 16, 8]") from None
    if any(number <= 0 for number in numbers):
        raise ValueError(f"{name}={value!r}, wanted numbers above 0; correct the config")
    return tuple(int(number) if number == int(number) else number for number in numbers)
