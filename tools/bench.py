"""fvit beside other people's tools, in one run: `make bench`, or `python tools/bench.py [--small] [PART ...]`.

methods       explanations in forward passes of the same model at the same batch: ours, and those of LXT (AttnLRP),
              pytorch-grad-cam and captum, where they are installed and have the method
dds           a DDS of the shipped models against the reference code's loop, in our rewriting, at equal draws; what of
              it is algorithm, batches, precision; and what pairs of draws save at the error of independent ones
certificate   a certificate by 400 calls against a loop of one image, one draw at a time

All calls of a part take turns, and the numbers are medians over rounds. Rows go to results/study/14_peers.parquet with
the device's name in runs.csv, where all parts ran; --small is for the test of this script, and writes none.
"""

import argparse
import copy
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import torch
from scipy.stats import beta, norm

import fvit
from fvit.base import rng, timing
from fvit.base.devices import named
from fvit.experiments.reference_chain import ReferenceChain
from fvit.smoothing import add_noise

PARTS = ("methods", "dds", "certificate")
OURS = ("gradcam", "vta", "attribution_rollout", "lrp", "attn_lrp")
SIGMA, K = 0.25, 25


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="a small ViT, few draws, one round, no rows")
    args = parser.parse_args()
    if unknown := {*args.parts} - {*PARTS}:
        parser.error(f"unknown {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    rounds, on = 1 if args.small else args.rounds, fvit.experiment("14", "study", n_images=4)
    print(*named(), f"{rounds} rounds")
    rows = pd.concat([globals()[part](on, rounds, args.small) for part in args.parts or PARTS], ignore_index=True)
    if not (args.small or args.parts):  # the table is of one run
        on.save("14_peers", rows, run_id=on.log("14_peers", rounds), image_id="")
    return 0


# explanations --------------------------------------------------------------------------------------------------------
def methods(on, rounds, small) -> pd.DataFrame:
    found = []
    for name in ("vit_tiny_patch16_224",) if small else ("vit_small_patch16_224", "vit_base_patch16_224"):
        vit = fvit.load_vit(name, pretrained=False, mean=(0.5,) * 3, std=(0.5,) * 3).to(on.place)
        for batch in (1, 2) if small else (1, 8):
            x = torch.rand(batch, 3, *vit.image_size, generator=rng.generator(0, "bench")).to(on.place)
            y = torch.zeros(batch, dtype=torch.long, device=on.place)
            calls = {("", "forward"): partial(_forward, vit, x)}
            calls |= {("fvit", method): partial(fvit.explain, vit, x, method, y) for method in OURS} | _peers(vit, x, y)
            times = timing.take_turns(calls, rounds, warmup=int(not small))
            ratios = times.div(times["", "forward"], axis=0).median().drop(("", "forward"))
            found += [{"model": name, "method": method, "variant": tool, "level": batch, "metric": "forwards",
                       "value": value} for (tool, method), value in ratios.items()]
            print(f"{name}, batch {batch}, in forwards:",
                  ", ".join(f"{tool} {method} {value:.2f}" for (tool, method), value in ratios.items()), flush=True)
    return pd.DataFrame(found)


@torch.no_grad()
def _forward(vit, x):
    return vit(x)


def _peers(vit, x, y) -> dict:
    """{(tool, method): call}, of the tools that are installed."""
    found = {}
    if find_spec("lxt") and find_spec("zennit"):
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        from oracles.attn_lrp import patched

        net, rules = patched(vit.backbone, 0.05, 0.25)

        def attn_lrp():
            images = ((x - 0.5) / 0.5).requires_grad_()
            with rules.context(net) as hooked:
                hooked(images).gather(1, y[:, None]).sum().backward()
            return (images * images.grad).sum(1)

        found["lxt", "attn_lrp"] = attn_lrp
    if find_spec("pytorch_grad_cam"):
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        own = copy.deepcopy(vit)  # on which its hooks stay
        cam = GradCAM(own, [own.backbone.blocks[-1].norm1],
                      lambda tokens: tokens[:, vit.num_prefix_tokens:].unflatten(1, vit.grid).movedim(3, 1))
        found["pytorch-grad-cam", "gradcam"] = lambda: cam(x.clone().requires_grad_(),
                                                           [ClassifierOutputTarget(int(c)) for c in y])
    if find_spec("captum"):
        from captum.attr import Saliency

        found["captum", "saliency"] = lambda: Saliency(vit).attribute(x.clone().requires_grad_(), target=y)
    return found


# draws ---------------------------------------------------------------------------------------------------------------
def dds(on, rounds, small) -> pd.DataFrame:
    vit, den = on.networks
    n = 4 if small else 8
    images = on.validation(2 if small else -(-64 // n))  # as many as fill two batches of 32
    one, like = images.x[:1], {"n_samples": n, "sigma": SIGMA}
    calls = {"reference loop": (1, partial(ReferenceChain(vit, den, n_samples=n, batch_size=1), one, ["a"]))}
    for stage, given in {"one call a draw": {"batch_size": 1}, "in batches of 32": {"batch_size": 32},
                         "in bfloat16": {"batch_size": 32, "precision": "bfloat16"}}.items():
        x, ids = (one, images.ids[:1]) if given["batch_size"] == 1 else (images.x, images.ids)
        calls[stage] = len(x), partial(fvit.DDS(vit, den, **like, **given), x, ids)
    times = timing.take_turns({stage: call for stage, (_, call) in calls.items()}, rounds)
    times = times / [count for count, _ in calls.values()]
    errors = {stage: fvit.DDS(vit, den, SIGMA, n, draws=draws)(images.x, images.ids).heatmap_se.square().mean().sqrt()
              for stage, draws in (("in batches of 32", "independent"), ("in pairs", "antithetic"))}
    seconds, fewer = times.median(), float((errors["in pairs"] / errors["in batches of 32"]) ** 2)
    whole = (times["reference loop"] / times["in bfloat16"]).median()
    print(f"{n} draws, seconds of an image:", ", ".join(f"{stage} {value:.4f}" for stage, value in seconds.items()))
    print(f"against the reference loop {whole:.0f} times at equal draws; pairs have {fewer:.2f} of the variance of as "
          "many independent draws")
    shared = {"defence": "dds", "method": "raw_attention", "n_samples": n}
    found = [{"variant": stage, "metric": "seconds", "value": value} for stage, value in seconds.items()]
    found += [{"variant": stage, "metric": "heatmap_se", "value": float(error)} for stage, error in errors.items()]
    return pd.DataFrame(found).assign(**shared)


# certificates --------------------------------------------------------------------------------------------------------
def certificate(on, rounds, small) -> pd.DataFrame:
    vit, den = on.networks
    x, n = on.validation(1).x, 8 if small else 300
    ours = {precision: fvit.DDS(vit, den, SIGMA, 16, batch_size=32, precision=precision)
            for precision in ("float32", "bfloat16")}
    calls = {"loop": partial(loop_certificate, vit, den, x, n)} | {
        name: partial(fvit.certify, smoother, x, K, 0.8, n, 1e-3, ["a"]) for name, smoother in ours.items()}
    times = timing.take_turns(calls, rounds, warmup=int(not small))
    for name in ours:
        print(f"certificate of 100 + {n} draws in {name}: {times[name].median():.2f} s an image, the loop "
              f"{(times.loop / times[name]).median():.1f} times that")
    return pd.DataFrame([{"variant": name, "metric": "seconds", "value": value, "n_samples": n, "certificate": "votes",
                          "defence": "dds", "method": "raw_attention"}
                         for name, value in times.median().items()])


@torch.no_grad()
def loop_certificate(vit, den, x, n, n_pilot=100, overlap=0.8, failure_prob=1e-3) -> float:
    """The l2 radius of one image's top-k by votes, as one writes it first: a draw at a time, a bound for each token."""
    votes = []
    for draw in range(n_pilot + n):
        noisy = add_noise(x, SIGMA, 0, "loop", ["a"], draw)
        heat = fvit.explain(vit, den(noisy, SIGMA), "raw_attention").flatten()
        votes.append(torch.zeros_like(heat).scatter(0, heat.topk(K).indices, 1))
    shown = torch.stack(votes[:n_pilot]).mean(0).topk(K).indices
    share, level = torch.stack(votes[n_pilot:]).sum(0).double().numpy(), failure_prob / len(votes[0])
    inside = torch.zeros(len(share), dtype=torch.bool)
    inside[shown] = True
    low = beta.ppf(level, share, n - share + 1)[inside]
    high = beta.ppf(1 - level, share + 1, n - share)[~inside]
    lost = K - round(overlap * K) + 1  # so many must leave: until then the lost-th least stays above the outsiders' one
    below, above = norm.ppf(sorted(low)[lost - 1]), norm.ppf(sorted(high)[-lost])
    return max(0.0, SIGMA * float(below - above) / 2)


if __name__ == "__main__":
    sys.exit(main())
