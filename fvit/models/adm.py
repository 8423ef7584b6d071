"""The paper's own prior: OpenAI's guided-diffusion checkpoints (ADM), tensor by tensor, as a diffusers UNet2DModel."""

import json
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from fvit.base.files import check_writable, write_atomic
from fvit.models.adm_settings import complete, schedule_config, timestep_scale, unet_config
from fvit.models.weight_files import MEND, check_tensors, read_pickled

PARTS = {  # of a res block and of an attention, by diffusers' name: ADM's
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
    "group_norm": "norm", **dict.fromkeys(("to_q", "to_k", "to_v"), "qkv"), "to_out.0": "proj_out"}


def load_adm(path, config: dict | None = None) -> tuple[UNet2DModel, dict]:
    """The UNet of a guided-diffusion checkpoint in float32, and the configuration of its diffusers scheduler.

    Arguments and errors are those of `read_adm`. Where timesteps are rescaled, neither says so.
    """
    unet, settings = read_adm(path, config)
    return unet, schedule_config(settings)


def read_adm(path, config: dict | None = None) -> tuple[UNet2DModel, dict]:
    """Read a checkpoint of guided-diffusion or improved-diffusion: its UNet in float32, and all its settings.

    path      a state dict as their code saves it (.pt), in half or full precision; nothing in it is run
    config    what differs from adm_settings.PUBLISHED, or IMPROVED, in their words. Heads, order of attention, noise
              schedule and rescaling leave no trace in the file: if they are stated wrongly, nothing can notice

    Raises ValueError for settings that a UNet2DModel cannot express, a pickle of more than tensors, and tensors of
    another model, naming the first that differs; FileNotFoundError or OSError for a file that is absent or truncated.
    Source: Dhariwal and Nichol 2021, Nichol and Dhariwal 2021, and the names and defaults of their code.
    """
    state = _read(Path(path))
    settings = complete(config, any(name.endswith(".op.weight") for name in state))
    if settings["rescale_timesteps"] and "rescale_timesteps" not in (config or {}) and "resblock_updown" in config:
        warnings.warn(f"diffusion_steps={settings['diffusion_steps']} and no rescale_timesteps in the config: taken as "
                      "True, as improved-diffusion means it; state it, guided-diffusion means False", stacklevel=2)
    return to_unet(state, settings, path), settings


def convert_adm(path, out, config: dict | None = None) -> Path:
    """Save such a checkpoint as a diffusers folder, a DDPMPipeline with unet/ and scheduler/; return it.

    `out` is never half written; `fvit.load_denoiser(out)` then has the bits of the checkpoint. Where timesteps are
    rescaled, fvit.json says so, which diffusers alone does not read.
    Raises ValueError if it exists, OSError if it cannot be written, and whatever `load_adm` raises.
    """
    out = Path(out).absolute()
    if out.exists():
        raise ValueError(f"{out} is there already, wanted a new folder; remove it or name another")
    unet, settings = read_adm(path, config)
    check_writable(out.parent)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as beside:
        whole = Path(beside) / out.name
        DDPMPipeline(unet, DDPMScheduler.from_config(schedule_config(settings))).save_pretrained(whole)
        if (scale := timestep_scale(settings)) != 1:
            write_atomic(whole / "fvit.json", json.dumps({"timestep_scale": scale}))
        os.replace(whole, out)
    return out


def to_unet(state: dict[str, torch.Tensor], settings: dict, path="the file") -> UNet2DModel:
    """The UNet2DModel, in float32, that computes what ADM does with these tensors (by ADM's names).

    Raises ValueError for a class-conditional model, or naming the first tensor that does not fit the settings.
    """
    if "label_emb.weight" in state:
        raise ValueError(f"{path} is class-conditional (it holds label_emb.weight), but a denoiser must not be told "
                         "the class; choose an unconditional model, such as 256x256_diffusion_uncond.pt")
    with torch.device("meta"):  # no memory, no random numbers
        unet = UNet2DModel(**unet_config(settings))
    wanted = sources(unet)
    _compare(state, dict(wanted.values()), settings, path)
    filled = {}
    for name, tensor in unet.state_dict().items():
        value = state[wanted[name][0]].float()
        if match := re.fullmatch(r"(.+)\.to_([qkv])\.\w+", name):
            # Rows of qkv: q, k, v of the first head, then of the next (legacy); or all heads' q, then k, then v (new).
            runs = 1 if settings["use_new_attention_order"] else unet.get_submodule(match[1]).heads
            value = value.unflatten(0, (runs, 3, -1))[:, "qkv".index(match[2])].clone()
        filled[name] = value.reshape(tensor.shape)  # a Conv1d over single tokens is a Linear
    unet.load_state_dict(filled, assign=True)
    return unet.eval()


def sources(unet: UNet2DModel) -> dict[str, tuple[str, tuple[int, ...]]]:
    """For each tensor of the UNet, in ADM's order: name and shape of the ADM tensor it comes from."""
    found = {}
    for theirs, ours in _modules(unet):
        for name, tensor in unet.get_submodule(ours).state_dict().items():
            part, _, kind = name.rpartition(".")
            part, shape = PARTS.get(part, part), tuple(tensor.shape)
            if part == "qkv":
                shape = (3 * shape[0], *shape[1:])
            if part in ("qkv", "proj_out") and kind == "weight":
                shape += (1,)
            found[f"{ours}.{name}"] = ".".join(filter(None, (theirs, part, kind))), shape
    return found


def _modules(unet: UNet2DModel) -> Iterator[tuple[str, str]]:
    """ADM's and diffusers' names of all that has weights, in ADM's order; ADM numbers its blocks across the levels."""
    op, conv, own = (".op", ".conv", ".conv") if unet.config.downsample_type == "conv" else ("", "", "")

    def layers(theirs, ours, blocks, number):
        for level, block in enumerate(blocks):
            parts = [part for part in ("resnets", "attentions") if hasattr(block, part)]
            for layer in range(len(block.resnets)):
                for place, part in enumerate(parts):
                    yield f"{theirs}.{number}.{place}", f"{ours}.{level}.{part}.{layer}"
                number += 1
            if getattr(block, "downsamplers", None):
                yield f"{theirs}.{number}.0{op}", f"{ours}.{level}.downsamplers.0{own}"
                number += 1
            if getattr(block, "upsamplers", None):  # in the number of the level's last layer
                yield f"{theirs}.{number - 1}.{len(parts)}{conv}", f"{ours}.{level}.upsamplers.0{own}"

    yield from {"time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2"}.items()
    yield "input_blocks.0.0", "conv_in"
    yield from layers("input_blocks", "down_blocks", unet.down_blocks, 1)
    middle = ("resnets.0", "attentions.0", "resnets.1")
    yield from ((f"middle_block.{n}", f"mid_block.{part}") for n, part in enumerate(middle))
    yield from layers("output_blocks", "up_blocks", unet.up_blocks, 0)
    yield from {"out.0": "conv_norm_out", "out.2": "conv_out"}.items()


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; the paper's is 256x256_diffusion_uncond.pt of OpenAI's "
                                "guided-diffusion, whose README says where to get it")
    return check_tensors(read_pickled(path, MEND), path)


def _compare(state: dict, wanted: dict[str, tuple[int, ...]], settings: dict, path) -> None:
    """ValueError for the first tensor, in ADM's order, that is absent or of another shape, or the first left over."""
    for name in [*wanted, *state]:
        got = f"of shape {tuple(state[name].shape)}" if name in state else "absent"
        want = f"shape {wanted[name]}" if name in wanted else "no such tensor"
        if got != f"of {want}":
            shaping = "num_channels channel_mult num_res_blocks attention_resolutions learn_sigma use_scale_shift_norm"
            stated = ", ".join(f"{key}={settings[key]}" for key in shaping.split())
            raise ValueError(f"{path}: {name} is {got}, wanted {want} by the settings {stated}; give the file's own by "
                             f"config=, or --config FILE; if they are right, {MEND}")
