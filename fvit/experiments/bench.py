"""A ViT bare and behind defences, at the sizes of a run: maps, predictions, attacks."""

import math
from dataclasses import dataclass, replace
from types import SimpleNamespace

import torch

from fvit.attacks import explanation_loss, prediction_loss, strongest
from fvit.base.checks import check_choice
from fvit.base.memory import in_memory
from fvit.experiments import defences, inputs
from fvit.explanations.methods import METHODS
from fvit.explanations.passes import explain_pass, forward_pass
from fvit.models.weight_files import network_digest
from fvit.smoothing import DDS

FREE = "explanation_free"  # the aim that need not hold the class
MOVED = {"prediction": None} | dict.fromkeys(("explanation", FREE, "corner"), "raw_attention") | {  # aim -> map
    name: name for name, row in METHODS.items() if row.differentiable and name != "raw_attention"}
OTHER = "vit:"  # made_on "vit:SOURCE": an attack made on another ViT, SOURCE as of `load_vit`


@dataclass
class View:
    """What one model says of B images: `probs` (B, C), and method -> (B, h, w)."""

    probs: torch.Tensor  # float64, on the CPU
    maps: dict[str, torch.Tensor]

    @property
    def predicted(self) -> torch.Tensor:
        return self.probs.argmax(1)


@dataclass(frozen=True)
class Bench:
    """A ViT bare ("none") and behind defences, at the sizes of a profile; their names are in `records.defence_names`.

    seed           evaluations of clean images draw from it; those of attacked ones from seed + 1, so that overlap is
                   never that of equal noise. Attacks draw from the streams "pgd" and "eot", which neither shares
    attack_draws   draws a step of an attack made through DDS (expectation over transformation)
    attack_rule, attack_restarts, attack_momentum   as of `strongest`; a momentum of 0 is that of the rule
    """

    vit: torch.nn.Module
    den: torch.nn.Module
    sigma: float
    n_samples: int
    k: int
    attack_steps: int
    attack_draws: int
    eval_batch: int = 64
    precision: str = "float32"
    seed: int = 0
    attack_rule: str = "constant"
    attack_restarts: int = 1
    attack_momentum: float = 0.0

    @property
    def settings(self) -> dict:
        """All that rows depend on besides code and images: sizes, and digests of networks; JSON values."""
        sizes = {name: value for name, value in vars(self).items() if name not in ("vit", "den")}
        return {**sizes, "networks": [network_digest(self.vit), network_digest(self.den)]}

    def smoother(self, seed: int | None = None, **changes) -> DDS:
        """The DDS; `changes` are arguments of `DDS` to be others, such as den=None, which is noise only."""
        return DDS(**{"vit": self.vit, **self._sizes(seed), **changes})

    def defence(self, name: str, seed: int | None = None) -> defences.Defence:
        """The defence of that name at these sizes, "none" excepted, which is the ViT itself."""
        return defences.build(name, vit=self.vit, **self._sizes(seed))

    def on_vit(self, made_on: str) -> "Bench":
        """The same with the ViT of "vit:SOURCE" in the place of this one: what is attacked so is met by this one.

        Raises what `load_vit` raises.
        """
        return replace(self, vit=inputs.vit(made_on.removeprefix(OTHER), str(next(self.vit.parameters()).device)))

    def levels(self, name: str) -> dict:
        """What the rows of a defence say in `sigma` and `n_samples`; nothing for "none"."""
        return {} if name == "none" else defences.levels(self.defence(name))

    def _sizes(self, seed):
        return {"den": self.den, "sigma": self.sigma, "n_samples": self.n_samples, "batch_size": self.eval_batch,
                "precision": self.precision, "seed": self.seed if seed is None else seed}

    def view(self, defence, x, ids, methods, target=None, seed=None) -> View:
        """Maps (B, h, w) of `methods` and probabilities (B, C).

        x        (B, 3, H, W) in [0, 1]; ids are the names of their streams
        target   (B,) fixes the class explained, None takes the predicted
        seed     of the draws, None takes the bench's
        """
        if defence == "none":
            sized, some = SimpleNamespace(batch_size=self.eval_batch), list(methods) or ["raw_attention"]
            return in_memory(lambda: self._bare(x, some, target, sized.batch_size), sized)
        made = self.defence(defence, seed)
        if not isinstance(made, DDS):
            return View(*defences.look(made, x, ids, methods, target))
        found = made(x, ids=ids, method=list(methods) or ["raw_attention"], target=target)
        return View(next(iter(found.values())).probs.cpu().double(), {m: found[m].heatmap for m in methods})

    def _bare(self, x, methods, target, batch) -> View:
        parts = []
        for start in range(0, len(x), batch):
            rows = slice(start, start + batch)
            with torch.no_grad():
                record = forward_pass(self.vit, x[rows], methods)
                classes = record.logits.argmax(1) if target is None else target[rows]
                maps = [explain_pass(record, m, classes) for m in methods]
                parts.append((record.logits.cpu().double().softmax(1), maps))
        probs, maps = zip(*parts, strict=True)
        return View(torch.cat(probs), dict(zip(methods, map(torch.cat, zip(*maps, strict=True)), strict=True)))

    def attack(self, aim, through, x, ids, clean: View, eps) -> torch.Tensor:
        """PGD (linf) on the prediction, or on the top-k of a map (MOVED), made on the ViT itself ("vit") or through the
        whole of a defence. `clean` is the view, by that model, of `x`; its class is explained by maps of a class, and
        held, but for the aim FREE, which moves maps farther, for holding the class costs an attack strength.
        The aim "corner" moves the top-k there (`corner`), the others away.

        Raises ValueError for a reader's own defence through which no gradient comes.
        """
        model = self.vit if through == "vit" else self.defence(through)
        method = MOVED[check_choice(aim, MOVED, "aim of an attack")]
        if method is None:
            loss = prediction_loss(model, clean.predicted, n_samples=self.attack_draws, ids=ids)
        else:
            heat = clean.maps[method]
            goal = corner(heat.shape[1:], self.k).expand(heat.shape) if aim == "corner" else None
            held = None if aim == FREE else clean.predicted
            loss = explanation_loss(model, heat, self.k, keep_class=held, method=method, goal=goal,
                                    n_samples=self.attack_draws, ids=ids, target=clean.predicted)
        if ":" in through and eps > 0:
            defences.check_gradient(through, loss, x)
        return self.ascend(loss, x, ids, eps, model)

    def ascend(self, loss, x, ids, eps, model) -> torch.Tensor:
        """The images within `eps` (linf) that increase `loss`, at these settings; `model` is what it is made on."""
        draws = model is not self.vit and defences.is_random(model)
        return strongest(loss, x, self.attack_restarts, eps, steps=self.attack_steps, seed=self.seed, ids=ids,
                         judgements=4 if draws else 1, rule=self.attack_rule, momentum=self.attack_momentum or None)


def corner(grid, k: int) -> torch.Tensor:
    """The square of tokens (h, w) in the top left corner that holds k of them, or as many as the grid has there."""
    side = math.isqrt(k - 1) + 1
    mask = torch.zeros(tuple(grid), dtype=torch.bool)
    mask[:side, :side] = True
    return mask
