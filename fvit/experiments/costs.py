"""What an experiment will cost: its network calls, counted from the settings, and their time, from one call of each."""

import os
from collections import Counter
from dataclasses import replace

import torch

from fvit.base.timing import duration, take_turns
from fvit.experiments.attack_rows import attack_rows
from fvit.experiments.bench import AIMS, Bench
from fvit.experiments.controls import CONTROL_MAPS, all_controls
from fvit.explanations.methods import METHODS
from fvit.metrics.perturbation import TENTHS

# Images that one unit of a kind of work sends through a network: ViT forward, backward, denoiser forward, backward.
USES = {"predict": (1, 0, 0, 0),  # the ViT alone
        "explain": (1, 0, 0, 0),  # ... with the maps
        "attack": (1, 1, 0, 0),  # a gradient step
        "explain dds": (1, 0, 1, 0),  # a draw behind the denoiser
        "attack dds": (1, 1, 1, 1),
        "attack dds, recomputed": (2, 1, 2, 1)}  # where the draws of an image are more than a batch
NETWORKS = ("ViT forward", "ViT backward", "denoiser forward", "denoiser backward")
CURVES = 2 * len(TENTHS)  # predictions for a map: removal in either order


def attack_calls(bench: Bench, n: int, *, methods, attacks, radii, measures, changed=None) -> Counter:
    """Units of each kind in USES that `attack_rows` makes for a block of n images.

    changed   function (smoothing, attack, eps) -> images whose class that attack changes: they are explained once more.
              None takes all n, an upper bound
    """
    draws, found = 1 if bench.sigma == 0 else bench.n_samples, Counter()
    specific = [m for m in methods if METHODS[m].class_specific]

    def look(smoothing, images, twice=False):
        if smoothing == "none":
            found["explain"] += images
        else:
            found["explain dds"] += images * draws * (2 if twice else 1)

    def score(maps):
        found["predict"] += n * CURVES * len(maps) * ("perturbation" in measures)

    needed = [*methods, *(AIMS[aim] for aim, _ in attacks if AIMS[aim])]
    look("none", n)
    look("dds", n, twice=any(METHODS[m].class_specific for m in needed))  # first for the class, then for its maps
    look("dds", n)  # fresh noise
    for _ in range(3):
        score(methods)
    for aim, through in attacks:
        for eps in (eps for eps in radii if eps > 0):
            found += _steps(bench, n, through)
            for smoothing in ("none", "dds") if through == "vit" else ("dds",):
                look(smoothing, n)
                score(["rollout"] if aim == "rollout" else methods)
                if specific and aim != "rollout":
                    look(smoothing, n if changed is None else changed(smoothing, f"{aim} via {through}", eps))
                    score(specific)
    return found


def _steps(bench: Bench, n: int, through: str) -> Counter:
    if through == "vit":
        return Counter({"attack": n * bench.attack_steps})
    draws = 1 if bench.sigma == 0 else bench.attack_draws
    kind = "attack dds, recomputed" if draws > bench.eval_batch else "attack dds"
    return Counter({kind: n * draws * bench.attack_steps})


def control_calls(bench: Bench, n: int, *, radii, maps=CONTROL_MAPS, changed=None) -> Counter:
    """The same for `all_controls`, where nothing hangs on `changed`; its denoiser without noise counts as a draw."""
    attacked = sum(eps > 0 for eps in radii)
    return Counter({"predict": n * CURVES * len(maps), "explain": n, "explain dds": n * (1 + 2 * len(radii)),
                    "attack": n * attacked * bench.attack_steps, "attack dds": n * attacked * bench.attack_steps})


COUNTS = {attack_rows: attack_calls, all_controls: control_calls}


def network_images(units: Counter) -> dict[str, int]:
    """NETWORKS -> images, of units of each kind."""
    return {name: sum(n * USES[kind][at] for kind, n in units.items()) for at, name in enumerate(NETWORKS)}


def seconds_a_unit(bench: Bench, methods, kinds, n: int = 4) -> dict[str, float]:
    """Seconds of one unit of each kind, from a batch of n grey images of the right size after one to warm up."""
    device = next(bench.vit.parameters()).device
    x = torch.full((n, 3, *bench.vit.image_size), 0.5, device=device)
    ids = [str(i) for i in range(n)]
    clean, first = (bench.view("none", images, None, ["raw_attention"]) for images in (x, x[:1]))
    one = replace(bench, n_samples=1, attack_steps=1, attack_draws=1, eval_batch=n)
    long = replace(one, attack_draws=2 * n)  # more draws of an image than a batch: they are recomputed

    def predict():
        with torch.no_grad():
            return bench.vit(x)

    calls = {"predict": predict,
             "explain": lambda: one.view("none", x, ids, methods).probs,
             "attack": lambda: one.attack("prediction", "vit", x, ids, clean, 1 / 255),
             "explain dds": lambda: one.view("dds", x, ids, methods, clean.predicted).probs,
             "attack dds": lambda: one.attack("prediction", "dds", x, ids, clean, 1 / 255),
             "attack dds, recomputed": lambda: long.attack("prediction", "dds", x[:1], ids[:1], first, 1 / 255)}
    taken = take_turns({kind: calls[kind] for kind in kinds}, repeats=1).iloc[0]
    return {kind: taken[kind] / n / (2 if "recomputed" in kind else 1) for kind in kinds}


def report(bench: Bench, rows, what: dict, todo: list[tuple[int, int]]) -> str:
    """Lines that say how many images `rows` sends through each network for the blocks `todo`, and how long that takes.

    At most: as if each attack changed the class of each image. At least: as if none did.
    """
    sizes, count = [stop - start for start, stop in todo], COUNTS[rows]
    least = sum((count(bench, n, **what, changed=lambda *_: 0) for n in sizes), Counter())
    most = sum((count(bench, n, **what) for n in sizes), Counter())
    low, high = network_images(least), network_images(most)
    said = [f"{name} {low[name]:,}" + (f" to {high[name]:,}" if high[name] > low[name] else "") for name in NETWORKS]
    batch = bench.eval_batch if torch.cuda.is_available() else min(4, bench.eval_batch)
    each = seconds_a_unit(bench, what.get("methods", ["raw_attention"]), most, batch)
    times = [duration(sum(n * each[kind] for kind, n in units.items())) for units in (least, most)]
    return (f"  images through each network: {', '.join(said)}\n"
            f"  time for them in one process here ({_where(bench.vit)}): about {' to '.join(dict.fromkeys(times))}, "
            f"from one call of each kind with {batch} images; scores and files come on top")


def _where(vit) -> str:
    device = next(vit.parameters()).device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


# Notebook 09, which computes in its cells --------------------------------------------------------------------------
def say_calls(on, sizes, **what) -> None:
    """In a dry run, which ends with the cell that calls this: what the notebook loads, calls and takes; else nothing.

    on, sizes   a `Setting` and a profile       what   of `ablation_images`
    """
    if not os.environ.get("FVIT_DRY_RUN"):
        return
    vit, den = on.networks
    counts, each = ablation_images(sizes, **what), _seconds_an_image(vit, den, sizes.sigma)
    print(f"  loads: {', '.join(f'{name} {arguments}' for name, arguments in on.names.items())}; on {on.place}\n"
          f"  images through each network: {', '.join(f'{name} {n:,}' for name, n in counts.items())}\n"
          f"  time for them here ({_where(vit)}): about {duration(sum(n * each[name] for name, n in counts.items()))}, "
          "from one call of each; what the notebook times, and ViT-B/16, come on top")


def ablation_images(sizes, n: int, *, sigmas, draws, at_k, den_steps, n_chain, efforts, n_strength) -> dict[str, int]:
    """NETWORKS -> images that notebook 09 sends through them from its section 4 on, times taken apart.

    sizes      a profile; n images
    at_k       values of k that have an attack of their own
    n_chain    images of the comparison with `den_steps` calls of the denoiser
    efforts    (steps, draws, restarts) of each attack whose strength is compared, on `n_strength` images
    """
    found = Counter(dict.fromkeys(NETWORKS, 0))
    every, budget = sizes.n_samples, (sizes.attack_draws, sizes.attack_steps)

    def look(images, calls=1):
        found.update({"ViT forward": images, "denoiser forward": images * calls})

    def attack(images, draws, steps, calls=1):
        twice = 2 if draws > sizes.eval_batch else 1  # of an image, more than a batch: activations are computed again
        one = images * max(draws, 1) * steps
        found.update({"ViT forward": twice * one, "ViT backward": one, "denoiser forward": twice * one * calls,
                      "denoiser backward": one * calls})

    def defence(images, draws, calls=1):
        """One attack through it, and its maps: clean, by fresh noise, and under either attack."""
        attack(images, *budget, calls)
        look(4 * images * draws, calls)

    found["ViT forward"] += n  # the bare maps
    attack(n, 0, sizes.attack_steps, 0)  # transferred: on the ViT itself
    defence(n, max(draws))
    others = [sigma for sigma in sigmas if sigma != sizes.sigma]
    for _ in others:
        defence(n, every)
    look(n * every * (1 + len(others)))  # accuracy
    look(n * min(4, max(draws)))  # the first draws again
    for _ in at_k:
        attack(n, *budget)
        look(n * every)
    for calls in (1, den_steps):
        defence(n_chain, max(every // 2, 1), calls)
    defence(n, every, 0)  # noise only
    attack(n, 0, sizes.attack_steps)  # denoise only, a deterministic function
    look(4 * n)
    found["ViT forward"] += n
    look(n * every * (1 if sizes.precision == "float32" else 2))  # in bfloat16, and in float32 where there was none yet
    for steps, tried, restarts in efforts:
        for _ in range(restarts):
            attack(n_strength, tried, steps)
            look(n_strength * tried * 4)  # the judgements of `strongest`
        look(n_strength * every)
    return dict(found)


def _seconds_an_image(vit, den, sigma: float) -> dict[str, float]:
    """NETWORKS -> seconds, from one call of each on a grey image, after one to warm up."""
    x = torch.full((1, 3, *vit.image_size), 0.5, device=next(vit.parameters()).device)
    calls = {"ViT": vit, "denoiser": lambda v: den(v, sigma)}

    def forward(call):
        with torch.no_grad():
            return call(x)

    def both(call):
        v = x.clone().requires_grad_()
        call(v).sum().backward()

    taken = take_turns({(name, way): lambda way=way, call=call: way(call)
                        for name, call in calls.items() for way in (forward, both)}, repeats=1).iloc[0]
    return {f"{name} {direction}": max(taken[name, way] - (way is both) * taken[name, forward], 0)
            for name in calls for direction, way in (("forward", forward), ("backward", both))}
