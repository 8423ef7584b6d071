"""Training of the two shipped models, on scenes made as they are needed.

A batch is a pure function of (seed, step), so a resumed run ends with the bits of an undisturbed one. The learning
rate is held and then falls over the last quarter.
Our own recipe; FEASIBILITY of the project's notes says what mattered on two CPU cores.
"""

import argparse
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import pandas as pd
import timm
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from fvit import paths, plots, rng, scenes, schedule
from fvit.checks import check_sums, check_weights, weights_mend
from fvit.images import Images

VIT_CONFIG = {  # timm's own "local-dir:" format
    "architecture": "vit_tiny_patch16_224",
    "num_classes": 10,
    "model_args": {"img_size": 64, "patch_size": 4, "embed_dim": 128, "depth": 5, "num_heads": 4},
    "pretrained_cfg": {
        "num_classes": 10, "input_size": [3, 64, 64], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic", "crop_pct": 1.0, "first_conv": "patch_embed.proj", "classifier": "head",
    },
}
UNET_CONFIG = {  # diffusers' UNet2DModel on 2x2 blocks of pixels taken as channels
    "sample_size": 32, "in_channels": 12, "out_channels": 12, "layers_per_block": 1, "norm_num_groups": 16,
    "block_out_channels": [48, 96, 128], "attention_head_dim": 32,
    "down_block_types": ["DownBlock2D"] * 3, "up_block_types": ["UpBlock2D"] * 3,
}
SCHEDULER_CONFIG = {
    "_class_name": "DDPMScheduler", "num_train_timesteps": 1000, "beta_schedule": "linear",
    "beta_start": 1e-4, "beta_end": 0.02, "prediction_type": "epsilon", "clip_sample": False,
}
SIGMA_RANGE = (0.008, 0.55)  # noise the denoiser is trained on, [0, 1] units
VAL_SIGMAS = (8 / 255, 0.1, 0.25, 0.5)
CHAPTER, REUSE = 4096, 6  # scenes drawn at once, and how often each is seen, every time recoloured
PAIR_SHARE = 0.25
MATCH_WEIGHT = 2.0  # of the teacher's say, against the label's


def new_vit() -> nn.Module:
    """The scenes ViT, untrained: plain 4x4 patch embedding, 256 patches and a class token, 1.0 M parameters."""
    vit = timm.create_model(VIT_CONFIG["architecture"], num_classes=10, weight_init="jax", **VIT_CONFIG["model_args"])
    position = timm.layers.build_sincos2d_pos_embed(vit.patch_embed.grid_size, vit.embed_dim, temperature=30)
    with torch.no_grad():  # start from waves, in which "two patches to the right" is the same everywhere
        vit.pos_embed[0, 1:] = 0.4 * position
    return vit


def load_teacher() -> nn.Module:
    """The trained teacher that ships with the package, frozen; FileNotFoundError if it is not there."""
    weights = paths.WEIGHTS / "teacher" / "model.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(f"no teacher at {weights}; train it first: `fvit train teacher`")
    mend = weights_mend(weights.parent, paths.WEIGHTS, "fvit train teacher")
    check_sums(weights.parent, mend)
    teacher = Teacher()
    teacher.load_state_dict(load_file(check_weights(weights, mend)))
    return teacher.eval().requires_grad_(False)


def new_unet() -> nn.Module:
    """The scenes denoiser's network, untrained: a diffusers UNet2DModel of 3.3 M parameters."""
    from diffusers import UNet2DModel

    return UNet2DModel(**UNET_CONFIG)


class Scenes:
    """Batches of training scenes; batch `step` depends on (seed, step) only, whatever was asked before."""

    def __init__(self, seed: int, batch: int, chapter: int = CHAPTER, pairs: bool = True):
        self.seed, self.batch, self.chapter, self.pairs = seed, batch, max(chapter, batch), pairs
        self._held: tuple | None = None

    def _chapter(self, number: int) -> tuple:
        """x (n, 3, 64, 64) uint8, label distribution (n, 10), mask (n, 64, 64); one digit's box (n, 4), class (n,)."""
        if self._held is None or self._held[0] != number:
            parts = []
            n_pairs = round(PAIR_SHARE * self.chapter)
            for split, n in (("train", self.chapter - n_pairs), ("train_pairs", n_pairs)):
                x, y, masks, _ = scenes.scene_batch(split, self.seed, range(number * n, (number + 1) * n))
                parts.append((x, F.one_hot(y, 10).float().mean(1), masks.any(1), boxes(masks[:, 0]), y[:, 0]))
            self._held = (number, *(torch.cat(p) for p in zip(*parts, strict=True)))
        return self._held[1:]

    def __call__(self, step: int) -> tuple[Tensor, ...]:
        steps = self.chapter * REUSE // self.batch  # a chapter's steps
        g = rng.generator(self.seed, "batch", step)
        x, y, mask, box, first = self._chapter(step // steps)
        pick = torch.randperm(len(x), generator=g)[: self.batch]
        x = x[pick].float() / 255
        channels = torch.stack([torch.randperm(3, generator=g) for _ in pick])  # colour carries no class
        x = torch.gather(x, 1, channels[:, :, None, None].expand_as(x))
        negative = torch.rand(len(x), 1, 1, 1, generator=g) < 0.3
        return torch.where(negative, 1 - x, x), y[pick], mask[pick], box[pick], first[pick]


def boxes(masks: Tensor) -> Tensor:
    """Bounding boxes (B, 4) = top, bottom, left, right (ends exclusive) of masks (B, H, W)."""
    rows, columns = masks.any(2).int(), masks.any(1).int()
    size = masks.shape[1]
    return torch.stack(
        [rows.argmax(1), size - rows.flip(1).argmax(1), columns.argmax(1), size - columns.flip(1).argmax(1)], 1
    )


def fade_in(x: Tensor, mask: Tensor, progress: float) -> Tensor:
    """Scenes that come up over their masks during the first third of a run, from white digits on black.

    Tints and polarity hide the strokes from a new network, whose loss otherwise stays on its plateau for 30,000 images.
    """
    share = min(1.0, 0.1 + 3 * progress)
    return share * x + (1 - share) * mask[:, None].float()


def _json(config: dict) -> str:
    return json.dumps(config, indent=2) + "\n"


# the ViT ------------------------------------------------------------------------------------------------------------
def vit_stage(progress: float) -> int:
    """Side in patches of the window seen at this share of the run: close-ups first, an easy-to-hard curriculum."""
    return 8 if progress < 0.3 else 12 if progress < 0.6 else 16


def close_up(x: Tensor, box: Tensor, window: int, g: torch.Generator) -> Tensor:
    """Square windows of `window` pixels around the boxed digits, resized where the digit would not fit."""
    top, bottom, left, right = box.float().unbind(1)
    side = torch.clamp(torch.maximum(bottom - top, right - left) + 4 + 6 * torch.rand(len(x), generator=g), min=window)
    side = side if window > 32 else torch.maximum(bottom - top, right - left) + 2 + 8 * torch.rand(len(x), generator=g)
    slack = side[:, None] - torch.stack([right - left, bottom - top], 1)
    centre = torch.stack([left + right, top + bottom], 1) / 2 + slack * (torch.rand(len(x), 2, generator=g) - 0.5)
    size = x.shape[-1]
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side / size
    theta[:, :, 2] = 2 * centre / size - 1
    grid = F.affine_grid(theta, [len(x), 3, window, window], align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def vit_tokens(vit: nn.Module, x: Tensor, corner: tuple[int, int]) -> Tensor:
    """Final tokens (B, 1 + n, dim) of images that fill a window of the patch grid whose corner is given."""
    tokens = vit.patch_embed.proj(2 * x - 1)  # (B, dim, g, g)
    g, grid = tokens.shape[-1], vit.patch_embed.grid_size[0]
    position = vit.pos_embed[:, 1:].unflatten(1, (grid, grid))
    position = position[:, corner[0] : corner[0] + g, corner[1] : corner[1] + g].flatten(1, 2)
    tokens = tokens.flatten(2).transpose(1, 2) + position
    tokens = torch.cat([(vit.cls_token + vit.pos_embed[:, :1]).expand(len(x), -1, -1), tokens], 1)
    return vit.norm(vit.blocks(tokens))


class Teacher(nn.Module):
    """A small convolutional network that says for each patch how much it speaks for each class.

    From the scenes' labels it learns in minutes what a ViT of this size finds in hours; the ViT then learns from both.
    """

    def __init__(self, width: int = 48):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width // 2, 3, 2, 1), nn.GroupNorm(4, width // 2), nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, 2, 1), nn.GroupNorm(4, width), nn.ReLU(),
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, 1, d, d), nn.GroupNorm(4, width), nn.ReLU(),
                nn.Conv2d(width, width, 3, 1, d, d), nn.GroupNorm(4, width),
            )
            for d in (1, 2, 2)
        )
        self.evidence = nn.Conv2d(width, 10, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, 10), the smooth maximum over patches; and what the ViT is to match, (B, n patches, width + 10)."""
        features = self.stem(2 * x - 1)
        for block in self.blocks:
            features = F.relu(features + block(features))
        evidence = self.evidence(features)
        return evidence.float().flatten(2).logsumexp(2), torch.cat([features, evidence], 1).flatten(2).transpose(1, 2)


class TeacherTask:
    """What the loop needs to train the teacher: cross-entropy on whole scenes."""

    name = "teacher"

    def __init__(self, seed: int):
        self.model = Teacher().to(memory_format=torch.channels_last)
        self.lr, self.weight_decay = 2e-3, 0.01

    def losses(self, model, batch: tuple, step: int, progress: float, device: torch.device) -> Iterator[Tensor]:
        """The batch's mean loss, in one part."""
        x, y = fade_in(batch[0], batch[2], progress), batch[1]
        yield F.cross_entropy(model(x.to(device))[0], y.to(device))

    def validate(self, model: nn.Module, n: int, device: torch.device) -> dict[str, float]:
        return accuracies(lambda x: model(x.to(device))[0], n)

    def save(self, weights: dict[str, Tensor], out: Path) -> None:
        weights = {k: v.contiguous() for k, v in weights.items()}
        paths.write_summed(out, {"model.safetensors": save(weights, metadata={"format": "pt"})})


@cache
def validation_scenes(split: str, n: int) -> Images:
    """The first n scenes of a validation split; choices are made on these and never on test scenes."""
    return scenes.load_scenes(split, n)


@torch.no_grad()
def accuracies(logits_of: Callable[[Tensor], Tensor], n: int) -> dict[str, float]:
    """Share of n validation scenes, and of n pair scenes, whose digits are the most likely classes."""
    right = {}
    for name, split in (("accuracy", "val"), ("pairs_both_in_top2", "val_pairs")):
        data = validation_scenes(split, n)
        classes = data.y.view(n, -1).sort(1).values
        top = torch.cat([logits_of(x).float().cpu() for x in data.x.split(64)]).topk(classes.shape[1]).indices
        right[name] = (top.sort(1).values == classes).all(1).double().mean().item()
    return right


class ViTTask:
    """What the loop needs to train the ViT: cross-entropy of the class token, and patch by patch the teacher's say."""

    name = "vit"

    def __init__(self, seed: int):
        vit, self.teacher = new_vit(), load_teacher()
        for block in vit.blocks:
            block.attn.fused_attn = False  # half the time of the fused kernel's backward in bfloat16 on a CPU
        matched = self.teacher.evidence.in_channels + self.teacher.evidence.out_channels
        self.model = nn.ModuleDict({"vit": vit, "match": nn.Linear(vit.embed_dim, matched)})
        self.lr, self.weight_decay, self.seed = 1e-3, 0.05, seed
        with torch.no_grad():  # every channel of the teacher counts the same
            said = self.teacher(scenes.scene_batch("train", seed, range(64))[0].float() / 255)[1].flatten(0, 1)
        self.centre, self.spread = said.mean(0), said.std(0).clamp_min(1e-3)

    def losses(self, model, batch: tuple, step: int, progress: float, device: torch.device) -> Iterator[Tensor]:
        """The batch's mean loss in parts: the attention of 16 images fits a processor's cache, that of 64 does not."""
        x, y, mask, box, first = batch
        x = fade_in(x, mask, progress)
        g, side = rng.generator(self.seed, "window", step), vit_stage(progress)
        if side < 16:
            x, y = close_up(x, box, 4 * side, g), F.one_hot(first, 10).float()
        corner = torch.randint(0, 17 - side, (2,), generator=g).tolist()
        size, teacher = 16 if device.type == "cpu" else len(x), self.teacher.to(device)
        centre, spread = self.centre.to(device), self.spread.to(device)
        for x_part, y_part in zip(x.to(device).split(size), y.to(device).split(size), strict=True):
            with torch.no_grad():
                wanted = (teacher(x_part)[1].float() - centre) / spread
            tokens = vit_tokens(model["vit"], x_part, corner)
            of_teacher = (model["match"](tokens[:, 1:]).float() - wanted).square().mean()
            of_label = F.cross_entropy(model["vit"].head(tokens[:, 0]).float(), y_part)
            yield (of_label + MATCH_WEIGHT * of_teacher) * len(x_part) / len(x)

    def validate(self, model: nn.Module, n: int, device: torch.device) -> dict[str, float]:
        vit = model["vit"]
        return accuracies(lambda x: vit.head(vit_tokens(vit, x.to(device), (0, 0))[:, 0]), n)

    def save(self, weights: dict[str, Tensor], out: Path) -> None:
        vit = {k.removeprefix("vit."): v.float().contiguous() for k, v in weights.items() if k.startswith("vit.")}
        paths.write_summed(out, {"model.safetensors": save(vit, metadata={"format": "pt"}),
                                 "config.json": _json(VIT_CONFIG)})


# the denoiser -------------------------------------------------------------------------------------------------------
class DenoiserTask:
    """What the loop needs to train the denoiser: noise prediction, noise levels log-uniform over the range in use."""

    name = "denoiser"

    def __init__(self, seed: int):
        self.model = new_unet().to(memory_format=torch.channels_last)
        self.lr, self.weight_decay, self.seed = 1e-3, 0.0, seed
        self.alphas_cumprod = schedule.linear_alphas_cumprod()

    def _noised(self, x: Tensor, sigma: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x_t in [-1, 1] as 2x2 blocks, t, the noise drawn and the cumulative alpha, all (B, ...)."""
        t = torch.tensor([schedule.sigma_to_timestep(float(s), self.alphas_cumprod) for s in sigma])
        ac = torch.tensor(self.alphas_cumprod, dtype=torch.float32)[t][:, None, None, None]
        noise = torch.randn(x.shape, generator=g)
        x_t = ac.sqrt() * (2 * x - 1) + (1 - ac).sqrt() * noise
        return *(F.pixel_unshuffle(v, 2).contiguous(memory_format=torch.channels_last) for v in (x_t, noise)), t, ac

    def losses(self, model, batch: tuple, step: int, progress: float, device: torch.device) -> Iterator[Tensor]:
        """The batch's mean loss, in one part."""
        x, g = batch[0], rng.generator(self.seed, "noise", step)
        low, high = torch.tensor(SIGMA_RANGE).log()
        sigma = (low + (high - low) * torch.rand(len(x), generator=g)).exp()
        x_t, noise, t, _ = self._noised(x, sigma, g)
        error = model(x_t.to(device), t.to(device)).sample.float() - noise.to(device)
        weight = (sigma / 0.1).sqrt().to(device)  # equal share of decibels, not of noise energy
        yield (weight * error.square().mean((1, 2, 3))).mean()

    @torch.no_grad()
    def validate(self, model: nn.Module, n: int, device: torch.device) -> dict[str, float]:
        x = validation_scenes("val", min(n, 64)).x
        psnr = {}
        for sigma in VAL_SIGMAS:
            x_t, _, t, ac = self._noised(x, torch.full((len(x),), sigma), rng.generator(0, "psnr", f"{sigma:.4f}"))
            eps = model(x_t.to(device), t.to(device)).sample.float().cpu()
            x_hat = ((x_t - (1 - ac).sqrt() * eps) / ac.sqrt()).clamp(-1, 1)
            mse = (F.pixel_shuffle(x_hat, 2) / 2 + 0.5 - x).square().mean((1, 2, 3))
            psnr[f"psnr_{sigma:.3g}"] = (-10 * mse.log10()).mean().item()
        return psnr

    def save(self, weights: dict[str, Tensor], out: Path) -> None:
        half = {k: v.half().contiguous() for k, v in weights.items()}
        unet = {"_class_name": "UNet2DModel", **UNET_CONFIG}
        paths.write_summed(out, {
            "unet/diffusion_pytorch_model.safetensors": save(half, metadata={"format": "pt"}),
            "unet/config.json": _json(unet),
            "scheduler/scheduler_config.json": _json(SCHEDULER_CONFIG),
            "fvit.json": _json({"pixel_unshuffle": 2}),
        })


# the loop -----------------------------------------------------------------------------------------------------------
def learning_rate(step: int, steps: int, peak: float, warm_up: int = 200) -> float:
    """Linear warm-up, a plateau, and a linear fall over the last quarter of the run."""
    return peak * min(1, (step + 1) / warm_up, (steps - step) / (0.25 * steps))


def _state(model: nn.Module, ema: dict, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything a resumed run needs besides its log, as plain tensors."""
    state = {f"model.{k}": v for k, v in model.state_dict().items()} | {f"ema.{k}": v for k, v in ema.items()}
    for name, p in model.named_parameters():
        for key, value in optimiser.state[p].items():
            state[f"adam.{key}.{name}"] = value
    return {k: v.detach().cpu().contiguous() for k, v in state.items()}


def _restore(checkpoint: Path, model: nn.Module, ema: dict, optimiser: torch.optim.Optimizer) -> list[dict]:
    """Take everything up from a checkpoint and return its log; ValueError if it is not whole or not of this model."""
    try:
        state = load_file(checkpoint)
        with safe_open(checkpoint, "pt") as file:
            digest, _, log = file.metadata()["fvit"].partition(" ")
        if digest != _digest(state, log):
            raise ValueError("its bytes are not those that were written")
        model.load_state_dict({k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")})
        for k in ema:
            ema[k].copy_(state[f"ema.{k}"])
        for name, p in model.named_parameters():
            keys = ("step", "exp_avg", "exp_avg_sq")
            optimiser.state[p] = {k: state[f"adam.{k}.{name}"].to("cpu" if k == "step" else p.device) for k in keys}
        return json.loads(log)
    except (SafetensorError, KeyError, TypeError, RuntimeError, ValueError) as err:
        raise ValueError(f"{checkpoint} is not a checkpoint of this model ({err}); delete it to start anew") from err


def _checkpoint(state: dict[str, Tensor], log: list[dict]) -> bytes:
    """The log travels inside, so that it is of the same step to the bit; training_log.csv is never read."""
    text = json.dumps(log)
    return save(state, metadata={"fvit": f"{_digest(state, text)} {text}"})  # one entry: several come in any order


def _digest(state: dict[str, Tensor], log: str) -> str:
    digest = hashlib.sha256(log.encode())
    for name in sorted(state):
        digest.update(f"{name} {state[name].dtype} {tuple(state[name].shape)}".encode())
        digest.update(state[name].numpy().tobytes())
    return digest.hexdigest()


def train(task_class: type, out: Path, *, steps: int, batch: int, seed: int = 0, chapter: int = CHAPTER,
          every: int = 200, n_val: int = 512, device: str = "cpu", precision: str = "bfloat16",
          stop_at: int | None = None) -> pd.DataFrame:
    """Train one of the shipped models into folder `out`; resumes from its checkpoint.

    every    steps between validation, log row, checkpoint and export of the averaged weights
    stop_at  stop after this step as if interrupted (tests)
    returns  the log, one row per validation: step, loss, the task's metrics

    Writes the weights, `training_log.csv` and `training.png` into `out`. Raises ValueError for a broken checkpoint.
    """
    with torch.random.fork_rng(devices=[]):  # initial weights can only be drawn from the global stream
        torch.manual_seed(rng.stream_seed(seed, "init", task_class.name) % 2**63)
        task, where = task_class(seed), torch.device(device)
    model = task.model.to(where).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=task.lr, weight_decay=task.weight_decay, betas=(0.9, 0.99))
    ema = {k: v.detach().clone() for k, v in model.state_dict().items()}
    data, log, step = Scenes(seed, batch, chapter), [], 0
    checkpoint, log_file = out / "checkpoint.safetensors", out / "training_log.csv"
    if checkpoint.exists():
        log = _restore(checkpoint, model, ema, optimiser)
        step = log[-1]["step"]
    autocast = partial(torch.autocast, where.type, torch.bfloat16, enabled=precision == "bfloat16")
    begun, begun_step, running = time.monotonic(), step, []
    while step < min(steps, stop_at or steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, task.lr)
        optimiser.zero_grad()
        total = 0.0
        with autocast():
            parts = task.losses(model, data(step), step, step / steps, where)
            while (part := next(parts, None)) is not None:
                part.backward()
                total += part.item()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        decay = min(0.998, 1 - 1 / (step / 10 + 1))
        torch._foreach_lerp_(
            list(ema.values()),
            [v.to(e.dtype) for v, e in zip(model.state_dict().values(), ema.values(), strict=True)],
            1 - decay,
        )
        running.append(total)
        if step % every == 0 or step == steps:
            averaged = {k: v.clone() for k, v in ema.items()}
            current = {k: v.clone() for k, v in model.state_dict().items()}
            model.load_state_dict(averaged)
            row = {"step": step, "loss": sum(running) / len(running), **task.validate(model.eval(), n_val, where)}
            model.load_state_dict(current)
            model.train()
            log.append(row)
            running = []
            paths.write_atomic(log_file, pd.DataFrame(log).to_csv(index=False, float_format="%.5g"))
            task.save({k: v.cpu() for k, v in averaged.items()}, out)
            paths.write_atomic(checkpoint, _checkpoint(_state(model, ema, optimiser), log))
            left = (time.monotonic() - begun) / (step - begun_step) * (steps - step)
            shown = "  ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "step")
            print(f"{task.name} {step}/{steps}  {shown}  {left / 60:.0f} min left", file=sys.stderr, flush=True)
    frame = pd.DataFrame(log)
    if step == steps:
        paths.write_atomic(
            out / "training.png", plots.png_bytes(plots.plot_training(frame, title=f"Training the {task.name}"))
        )
    return frame


TASKS = {"teacher": TeacherTask, "vit": ViTTask, "denoiser": DenoiserTask}
BUDGET = {"teacher": (3000, 32), "vit": (5000, 32), "denoiser": (1880, 32)}  # steps and batch of the shipped weights


def add_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """Options of `fvit train WHAT`; the defaults are those of the shipped weights."""
    steps, batch = BUDGET[what]
    parser.add_argument("--out", type=Path, default=paths.WEIGHTS / what, help="folder for weights, log and figure")
    parser.add_argument(
        "--steps", type=int, default=steps, help="optimiser steps in all; schedules are shares of it"
    )
    parser.add_argument("--batch", type=int, default=batch, help="scenes a step")
    parser.add_argument("--seed", type=int, default=0, help="root of the initial weights, the scenes and the noise")
    parser.add_argument("--every", type=int, default=200, help="steps between validations and checkpoints")
    parser.add_argument("--chapter", type=int, default=CHAPTER, help="scenes drawn at once")
    parser.add_argument("--n-val", type=int, default=512, help="validation scenes")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.set_defaults(what=what)


def main(args: argparse.Namespace) -> int:
    """Run `fvit train` with parsed arguments; 0 on success."""
    names = ("steps", "batch", "seed", "chapter", "every", "n_val")
    wrong = [f"--{n.replace('_', '-')} {getattr(args, n)}" for n in names if getattr(args, n) < (n != "seed")]
    if wrong:
        raise ValueError(f"got {', '.join(wrong)}: want a whole number of at least 1 (0 for the seed)")
    sizes = {n: getattr(args, n) for n in names}
    try:
        train(TASKS[args.what], args.out, device=args.device, precision=args.precision, **sizes)
    except (MemoryError, RuntimeError) as err:
        if isinstance(err, RuntimeError) and not re.search("allocate memory|out of memory", str(err)):
            raise
        mend = "close other programs, or take a smaller --batch, --chapter or --n-val; a rerun resumes"
        raise OSError(f"out of memory while training the {args.what}; {mend}") from err
    return 0
