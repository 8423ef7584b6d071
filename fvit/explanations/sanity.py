"""Sanity checks of explanations: does a map point at the class it explains, and does it depend on what was learnt?"""

import copy

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

from fvit.base.rng import numpy_generator, stream_seed
from fvit.explanations.methods import METHODS
from fvit.explanations.own import method_name
from fvit.explanations.passes import explain_pass, forward_pass
from fvit.models.layouts import attention_blocks


def maps_by_class(vit, x, classes, methods=None, batch: int = 16) -> dict[str, torch.Tensor]:
    """{method: heatmaps (B, n, h, w)}: an image's maps for each of its `classes` (B, n), from shared forward passes.

    methods   as of `explain`, default all of METHODS; batch: images whose passes are in memory at once
    """
    methods, parts = list(METHODS if methods is None else methods), []  # of each batch, a map for each method
    for images, asked in zip(x.split(batch), classes.split(batch), strict=True):
        record = forward_pass(vit, images, methods)
        parts.append([torch.stack([explain_pass(record, method, target).detach() for target in asked.T], 1)
                      for method in methods])
    return {method_name(method): torch.cat(maps) for method, *maps in zip(methods, *parts, strict=True)}


def pointing(maps, mask) -> torch.Tensor:
    """Share of the digits' mass that each class's map puts on its own digit, mean over the two classes, per scene.

    maps      (B, 2, h, w) non-negative: the map for the class of object 0, then that of object 1
    mask      (B, 2, H, W): 1 where an object is; H and W are multiples of h and w
    returns   (B,) float64 in [0, 1]: 1 if each map lies on its own object alone, 0 if on the other alone

    With masses s(map, object) it is the mean of s(0, 0) / (s(0, 0) + s(0, 1)) and s(1, 1) / (s(1, 1) + s(1, 0)). Maps
    that do not depend on the class have exactly 1/2 whatever they show, since their two shares add up to 1; a map with
    nothing on either object counts 1/2. Only the maps' relative values count.
    Raises ValueError for other shapes, negative or non-finite maps. Our own statistic. Taught in notebook 05.
    """
    maps, mask = torch.as_tensor(maps).detach().cpu().double(), torch.as_tensor(mask).cpu()
    fits = maps.ndim == mask.ndim == 4 and maps.shape[:2] == mask.shape[:2] and maps.shape[1] == 2
    if not (fits and all(big % small == 0 for big, small in zip(mask.shape[2:], maps.shape[2:], strict=True))):
        wanted = "(B, 2, h, w) and (B, 2, H, W) with H, W multiples of h, w: two classes, two objects"
        raise ValueError(f"maps are {tuple(maps.shape)} and masks {tuple(mask.shape)}, wanted {wanted}")
    if not (maps.isfinite().all() and (maps >= 0).all()):
        raise ValueError("maps have negative or non-finite values, wanted a mass; take fvit.explain without raw=True")
    objects = adaptive_avg_pool2d((mask == 1).to(maps), maps.shape[2:])  # share of each patch that the object covers
    mass = torch.einsum("bchw,bohw->bco", maps, objects)  # (B, class, object)
    own, both = mass.diagonal(dim1=1, dim2=2), mass.sum(2)
    half = torch.full_like(own, 0.5)
    return torch.where(both > 0, own / both.where(both > 0, 1), half).mean(1)


def cascade(vit: nn.Module) -> dict[str, list[str]]:
    """Layers in the order in which they lose what they learnt, the head first: {stage: names of its parameters}.

    Stages are "head" (with the final norm), "block L" ... "block 1", and "embedding" (patches, positions, class token).
    """
    names, depth = [name for name, _ in vit.named_parameters()], len(attention_blocks(vit))
    stages = {"head": [n for n in names if n.split(".")[1] in ("head", "head_dist", "norm", "fc_norm")]}
    for number in reversed(range(depth)):
        stages[f"block {number + 1}"] = [n for n in names if n.startswith(f"backbone.blocks.{number}.")]
    known = {n for stage in stages.values() for n in stage}
    return stages | {"embedding": [n for n in names if n not in known]}


def randomised(vit: nn.Module, n_stages: int, seed: int = 0, network: str = "") -> nn.Module:
    """Copy of `vit` whose first `n_stages` stages of `cascade` have forgotten: each tensor's entries are permuted.

    A permutation keeps the number, size and spread of the weights and destroys their arrangement. Each parameter has a
    stream of its own, so a stage that is random has the same weights however many stages follow. Each name of a
    `network` gives others.
    Raises ValueError unless 0 <= n_stages <= len(cascade(vit)). Source: Adebayo et al. 2018, cascading randomisation,
    who draw new weights; that we permute the old ones is ours. Taught in notebook 05.
    """
    stages = list(cascade(vit).values())
    if n_stages not in range(len(stages) + 1):
        raise ValueError(f"n_stages={n_stages}, wanted 0 <= n_stages <= {len(stages)}, the stages of cascade(vit)")
    changed, seed = copy.deepcopy(vit), stream_seed(seed, "network", network) if network else seed
    parameters = dict(changed.named_parameters())
    for name in (name for stage in stages[:n_stages] for name in stage):
        weights = parameters[name].data
        order = torch.from_numpy(numpy_generator(seed, "randomise", name).permutation(weights.numel()))
        weights.copy_(weights.flatten()[order.to(weights.device)].view_as(weights))
    return changed


def edges(x: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Edge strength of images (B, 3, H, W) on a grid, (B, h, w), sums to 1: a map that reads no model at all.

    Mean over channels and over each patch's pixels of the modulus of the differences to the right and lower neighbour.
    A control, in the manner of Adebayo et al. 2018: what explains the photograph explains no model.
    """
    across = nn.functional.pad(x.diff(dim=3).abs(), (0, 1))
    down = nn.functional.pad(x.diff(dim=2).abs(), (0, 0, 0, 1))
    strength = adaptive_avg_pool2d((across + down).mean(1, keepdim=True), grid)[:, 0] + 1e-12
    return strength / strength.sum((1, 2), keepdim=True)
