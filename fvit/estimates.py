"""What an experiment will cost: its network calls, counted from the settings, and their time, from one call of each."""

from collections import Counter
from dataclasses import replace

import torch

from fvit.controls import CONTROL_MAPS, all_controls
from fvit.experiments import AIMS, Bench, attack_rows
from fvit.explanations import METHODS
from fvit.perturbation import TENTHS
from fvit.timing import duration, take_turns

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


def control_calls(bench: Bench, n: int, *, radii, changed=None) -> Counter:
    """The same for `all_controls`, where nothing hangs on `changed`; its denoiser without noise counts as a draw."""
    attacked = sum(eps > 0 for eps in radii)
    return Counter({"predict": n * CURVES * len(CONTROL_MAPS), "explain": n, "explain dds": n * (1 + 2 * len(radii)),
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
    wait = {kind: lambda call=calls[kind]: call().sum().item() for kind in kinds}  # a GPU is waited for
    taken = take_turns(wait, repeats=1).iloc[0]
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
    device = next(bench.vit.parameters()).device
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    return (f"  images through each network: {', '.join(said)}\n"
            f"  time for them in one process here ({where}): about {' to '.join(dict.fromkeys(times))}, "
            f"from one call of each kind with {batch} images; scores and files come on top")

