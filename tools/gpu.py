"""What a machine with a GPU is asked, in eight minutes: `make gpu`, or `python tools/gpu.py [--out DIR] [PART ...]`.

Each part is a process of its own with a budget in seconds, writes as it goes, is stopped when its time is over, and is
said in one line. Nothing is fetched. What is not installed there travels beside it: docs/gpu.md. On a machine without a
GPU the same runs in a tiny form, which is a test of the script and of nothing else.
"""

import argparse
import copy
import csv
import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

PARTS = {"parity": 60, "throughput": 170, "races": 90, "rows": 80, "training": 90}  # seconds
TINY = {"parity": 600, "throughput": 600, "races": 600, "rows": 0, "training": 600}  # a busy machine's
PEAK = 989e12  # bfloat16 operations a second of an H100 or H200, dense, by its data sheet
RELEVANCE = ("partial_lrp", "lrp", "lrp_rollout", "vta")  # in float32 their own rounding is larger: docs/gpu.md
TOLERANCE = 1e-4  # of shares, probabilities and gradients over their largest; notebook 00


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default all")
    parser.add_argument("--out", type=Path, default=Path("results/gpu"))
    parser.add_argument("--one", choices=PARTS, help=argparse.SUPPRESS)  # in this process
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.one:
        return globals()[args.one](args.out)
    import torch

    tiny, ok = not torch.cuda.is_available(), True
    print(f"on {'no GPU, in a tiny form' if tiny else torch.cuda.get_device_name()}; torch {torch.__version__}")
    for part in args.parts or PARTS:
        budget, log, start = (TINY if tiny else PARTS)[part], args.out / f"{part}.log", time.monotonic()
        if budget == 0:
            print(f"{part}: left out without a GPU")
            continue
        with open(log, "w") as file:
            try:
                code = subprocess.run([sys.executable, __file__, "--one", part, "--out", str(args.out)], stdout=file,
                                      stderr=subprocess.STDOUT, timeout=budget).returncode
                said = "done" if code == 0 else f"failed ({code}), see {log}"
            except subprocess.TimeoutExpired:
                code, said = 0, f"stopped after its {budget} s; what it wrote is kept"
        last = ([line for line in log.read_text(errors="replace").splitlines() if line.strip()] or [""])[-1][-160:]
        print(f"{part}: {said} in {time.monotonic() - start:.0f} s: {last}", flush=True)
        ok &= code == 0
    return int(not ok)


def write(path: Path, row: dict) -> None:
    """Add a row to a CSV at once, so that a stop loses none, and print it."""
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)


# (a) -----------------------------------------------------------------------------------------------------------------
def numbers(device: str) -> dict:
    """What the public functions say of two scenes, float32 without TensorFloat-32; before any attack's sign step."""
    import torch

    import fvit
    from fvit.metrics.perturbation import perturbation_curve

    vit, den = fvit.load_vit("scenes").to(device), fvit.load_denoiser("scenes").to(device)
    data = fvit.load_images("scenes", "test", 2)
    x, ids = data.x.to(device), data.ids
    with torch.no_grad():
        found = {"vit": vit(x).softmax(1), "denoiser": den(x, 0.25)}
    target = torch.tensor([1, 2], device=device)
    exact = copy.deepcopy(vit).double()
    for method in fvit.METHODS:
        of, pixels = (exact, x.double()) if method in RELEVANCE else (vit, x)
        found[f"explain {method}" + ", float64" * (of is exact)] = fvit.explain(of, pixels, method, target).detach()
    for draws in ("independent", "antithetic"):
        dds = fvit.DDS(vit, den, sigma=0.25, n_samples=4, draws=draws)
        out = dds(x, ids=ids)
        found |= {f"DDS {draws}": out.heatmap, f"DDS {draws}, prediction": out.probs,
                  f"DDS {draws}, error": out.heatmap_se}
    heat, classes = found["DDS independent"], found["DDS independent, prediction"].argmax(1)
    for name, loss in (("explanation_loss", fvit.explanation_loss(dds, heat, k=25, n_samples=2, ids=ids)),
                       ("prediction_loss", fvit.prediction_loss(dds, classes, n_samples=2, ids=ids))):
        y = x.clone().requires_grad_()
        gradient = torch.autograd.grad(loss(y, 0).sum(), y)[0]
        found[name] = gradient / gradient.abs().max()
    found["perturbation"] = perturbation_curve(vit, x, data.y.to(device), heat, "positive", 4)
    radii = fvit.certify(fvit.DDS(vit, den, 0.25, n_samples=4), x[:1], 25, "0.4", 20, 0.1, ids=ids[:1])
    found["certified radius"] = torch.tensor(radii.radius.to_numpy())
    return {name: torch.as_tensor(value).detach().cpu().double() for name, value in found.items()}


def parity(out: Path) -> int:
    import torch

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    other, here = "cuda" if torch.cuda.is_available() else "cpu", numbers("cpu")
    there = numbers(other) if other != "cpu" else here
    worst = {name: (there[name] - value).abs().max().item() for name, value in here.items()}
    path = out / "parity.csv"
    path.unlink(missing_ok=True)
    for name, apart in worst.items():
        write(path, {"what": name, "device": other, "largest difference": f"{apart:.2g}", "tolerance": TOLERANCE})
    over = [name for name, apart in worst.items() if not apart < TOLERANCE]
    print(f"{len(worst)} quantities, {other} against cpu, largest {max(worst.values()):.2g}; over {TOLERANCE}: {over}")
    return int(bool(over))


# (b) -----------------------------------------------------------------------------------------------------------------
def networks(device: str):
    """(ViT-B/16 at 224 pixels, the full ADM, its pixels a side), random weights; without a GPU tiny ones."""
    import timm
    import torch
    from diffusers import UNet2DModel

    import fvit
    from fvit.models.adm_settings import PUBLISHED, alphas_cumprod, complete, unet_config
    from fvit.models.denoiser import Denoiser

    small = device == "cpu"
    changes = {"image_size": 32, "num_channels": 64, "num_res_blocks": 1, "channel_mult": "1,1",
               "attention_resolutions": "16"} if small else {}
    settings = complete(PUBLISHED | changes)
    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet2DModel(**unet_config(settings)).eval().requires_grad_(False)
        size = {"img_size": 32, "embed_dim": 48, "depth": 2, "num_heads": 2} if small else {}
        backbone = timm.create_model("vit_base_patch16_224", num_classes=10 if small else 1000, **size)
    vit = fvit.load_vit(backbone.to(device), mean=(0.5,) * 3, std=(0.5,) * 3)
    prior = Denoiser(unet, alphas_cumprod(settings), "epsilon", learned_variance=True,
                     multiple=2 ** (len(settings["channel_mult"]) - 1)).eval()
    return vit, prior, settings["image_size"]


def throughput(out: Path) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    import fvit
    from fvit.base import devices, timing
    from fvit.models.bridge import connect

    device = devices.best()
    small = device == "cpu"
    vit, prior, pixels = networks(device)
    vit, den = connect(vit, prior, size=pixels)
    x = torch.rand(1, 3, *vit.image_size, device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        vit(den(x, 0.25))
    operations, path = counter.get_total_flops(), out / "throughput.csv"
    path.unlink(missing_ok=True)

    def settings(precision):
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        return "bfloat16" if precision == "bfloat16" else "float32"

    def measure(what, call, images, precision, batch, calls):
        if not small:
            torch.cuda.reset_peak_memory_stats()
        try:
            seconds = timing.take_turns({"it": call}, 1 if small else 3).it.median()
        except torch.OutOfMemoryError:
            devices.free()
            return
        rate = calls * operations / seconds
        write(path, {"what": what, "device": devices.named()[0], "precision": precision, "batch": batch,
                     "images": images, "seconds an image": f"{seconds / images:.4g}",
                     "of the bf16 peak": f"{rate / PEAK:.3f}",
                     "peak GB": "" if small else f"{torch.cuda.max_memory_allocated() / 1e9:.1f}"})

    n = 2 if small else 64
    for precision in ("bfloat16", "float32") if small else ("bfloat16", "tf32", "float32"):
        for batch in (2,) if small else (1, 4, 16, 64):
            dds = fvit.DDS(vit, den, 0.25, n_samples=n, batch_size=batch, precision=settings(precision))
            measure(f"DDS of {n} draws", partial(dds, x, ids=["a"]), 1, precision, batch, calls=n)
        some, draws = x.expand(1 if small else 4, -1, -1, -1), 2 if small else 4
        ids = [str(i) for i in range(len(some))]
        classes = torch.zeros(len(some), dtype=torch.long, device=device)
        loss = fvit.prediction_loss(dds, classes, n_samples=draws, ids=ids)

        def step(loss=loss, some=some, ids=ids):
            return fvit.pgd(loss, some, eps=8 / 255, steps=1, ids=ids)

        measure(f"attack step, {draws} draws", step, len(some), precision, batch, calls=3 * draws * len(some))
    return 0


def races(out: Path) -> int:
    """Notebook 14's races on these networks: the stages from the reference loop to ours, in turns; VTA and full LRP in
    forward passes. All in float32 without TensorFloat-32, but for the stage in bfloat16."""
    import torch

    import fvit
    from fvit.base import devices, timing
    from fvit.experiments.reference_chain import ReferenceChain

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    device = devices.best()
    small, path = device == "cpu", out / "races.csv"
    path.unlink(missing_ok=True)
    vit, prior, _ = networks(device)  # the ADM at the pixels of the ViT, for both sides
    n, images = (1, 2) if small else (2, 32)  # draws; images that fill batches
    many = torch.rand(images, 3, *vit.image_size, device=device)
    dds = partial(fvit.DDS, vit, prior, 0.25, n_samples=n)
    stages = {"reference loop": (many[:1], ReferenceChain(vit, prior, n_samples=n, batch_size=1)),
              "one call a draw": (many[:1], dds(batch_size=1, precision="float32")),
              "in batches of 32": (many, dds(batch_size=32, precision="float32")),
              "in bfloat16": (many, dds(batch_size=32, precision="bfloat16"))}
    calls = {what: partial(call, x, ids=[str(i) for i in range(len(x))]) for what, (x, call) in stages.items()}
    raced = timing.take_turns(calls, 1 if small else 2) / [len(x) for x, _ in stages.values()]  # seconds of an image
    ratios = raced.rdiv(raced["reference loop"], axis=0).median()
    for what in stages:
        write(path, {"what": what, "device": devices.named()[0], "batch": 1 if len(stages[what][0]) == 1 else 32,
                     "draws": n, "seconds an image": f"{raced[what].median():.4g}", "ratio": f"{ratios[what]:.4g}"})
    x = many[:8]
    calls = {"forward": lambda: vit(x)} | {m: partial(fvit.explain, vit, x, m) for m in ("vta", "lrp")}
    with torch.no_grad():
        passes = timing.take_turns(calls, 1 if small else 10)
    for what, ratio in passes.div(passes.forward, axis=0).median().items():
        write(path, {"what": what, "device": devices.named()[0], "batch": len(x), "draws": "",
                     "seconds an image": f"{passes[what].median() / len(x):.4g}", "ratio": f"{ratio:.4g}"})
    return 0


# (c), (d) ------------------------------------------------------------------------------------------------------------
def rows(out: Path) -> int:
    """Rows of `natural`, headline first; blocks that are there are taken up."""
    if find_spec("papermill") is None:
        print("papermill is not installed here, and notebooks are run by it")
        return 1
    for number in ("12", "10", "11", "09", "07", "03", "01"):
        command = [sys.executable, "-m", "fvit", "run", number, "--profile", "natural", "--out", str(out)]
        subprocess.run(command, check=True)
    return 0


def training(out: Path) -> int:
    """The prior for photographs, as far as it gets; without a GPU two steps of that of the scenes."""
    import torch

    what = "--data photographs --device cuda --batch 32 --steps 6000 --every 250"
    if not torch.cuda.is_available():
        what = "--steps 2 --batch 2 --chapter 8 --every 2 --n-val 2 --precision float32"
    command = [sys.executable, "-m", "fvit", "train", "denoiser", *what.split(), "--out", str(out / "denoiser")]
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())
