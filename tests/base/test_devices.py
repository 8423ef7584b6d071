"""Where networks run; and everything public on a device without float64, against the CPU (`fixtures/mps.py`)."""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from fixtures.mps import mps

import fvit
from fvit import metrics
from fvit.base import devices
from fvit.experiments import attack_rows, controls
from fvit.explanations import sanity
from fvit.models.bridge import connect

NEAR = {"rtol": 1e-5, "atol": 1e-6}  # the same kernels run: only what is summed in float64 elsewhere could differ


@pytest.fixture(scope="module")
def here():
    """(vit, den, images) of two scenes, on the CPU."""
    return fvit.load_vit("scenes"), fvit.load_denoiser("scenes"), fvit.load_images("scenes", n=2)


def two_maps(data):
    rng = np.random.default_rng(0)
    maps = [torch.from_numpy(rng.random((len(data.y), 16, 16), np.float32)) for _ in range(2)]
    return [(m / m.sum((1, 2), keepdim=True)).to(data.x.device) for m in maps]


def smoothed(vit, den, **options):
    return fvit.DDS(vit, den, sigma=0.25, n_samples=2, **options)


def every(out):
    return [getattr(out, name) for name in ("heatmap", "heatmap_se", "probs", "probs_se", "target")]


def attacked(vit, den, data):
    dds = smoothed(vit, den)
    heat = dds(data.x, ids=data.ids).heatmap
    loss = fvit.explanation_loss(dds, heat, 25, n_samples=1, ids=data.ids, keep_class=data.y)
    return fvit.pgd(loss, data.x, steps=1, norm="l2", eps=0.5, ids=data.ids)


CALLS = {
    **{f"explain {m}": lambda vit, den, data, a, b, m=m: fvit.explain(vit, data.x, m, data.y) for m in fvit.METHODS},
    "DDS": lambda vit, den, data, a, b: every(smoothed(vit, den)(data.x, ids=data.ids, method="vta")),
    "votes, samples kept": lambda vit, den, data, a, b: smoothed(vit, den, aggregate="votes")(
        data.x, ids=data.ids, k=25, keep_samples=True).samples,
    "rows": lambda vit, den, data, a, b: smoothed(vit, None)(data.x, ids=data.ids).rows()["value"].tolist(),
    "classifier": lambda vit, den, data, a, b: smoothed(vit, den).as_classifier(n_samples=2, fresh=False)(data.x),
    "heatmap_at": lambda vit, den, data, a, b: smoothed(vit, den)(data.x, ids=data.ids).heatmap_at((64, 64)),
    "captum": lambda vit, den, data, a, b: fvit.as_captum(vit, "rollout").attribute(data.x),
    "a function": lambda vit, den, data, a, b: fvit.explain(vit, data.x, lambda vit, x, target: x[:, 0, ::4, ::4]),
    "behind a resize": lambda vit, den, data, a, b: smoothed(*connect(vit, den, 56))(data.x, ids=data.ids).probs,
    "pgd on a ViT": lambda vit, den, data, a, b: fvit.pgd(fvit.prediction_loss(vit, data.y), data.x, steps=1),
    "pgd through DDS": lambda vit, den, data, a, b: attacked(vit, den, data),
    "strongest": lambda vit, den, data, a, b: fvit.strongest(
        fvit.prediction_loss(vit, data.y), data.x, restarts=2, steps=1, judgements=1),
    "topk_overlap": lambda vit, den, data, a, b: fvit.topk_overlap(a, b, 25),
    "rank_correlation": lambda vit, den, data, a, b: metrics.rank_correlation(a, b),
    "l2_change": lambda vit, den, data, a, b: metrics.l2_change(a, b),
    "max_sensitivity": lambda vit, den, data, a, b: metrics.max_sensitivity(
        lambda x: fvit.explain(vit, x, "rollout"), data.x, n_samples=1),
    "renyi_divergence": lambda vit, den, data, a, b: fvit.renyi_divergence(a, b, 2),
    "breaking_divergence": lambda vit, den, data, a, b: fvit.breaking_divergence(a, 25, "0.8", 2),
    "certified_radius": lambda vit, den, data, a, b: fvit.certified_radius(a.flatten(1), 25, "0.8", 0.25),
    "certify": lambda vit, den, data, a, b: fvit.certify(
        smoothed(vit, den), data.x[:1], k=25, beta="0.8", n_samples=20, failure_prob=0.05)["radius"].tolist(),
    "segmentation_scores": lambda vit, den, data, a, b: fvit.segmentation_scores(a, data.mask).to_numpy(),
    "perturbation": lambda vit, den, data, a, b: fvit.curve_auc(
        fvit.perturbation_curve(vit, data.x, data.y, a), "mean_height"),
    "curve_auc": lambda vit, den, data, a, b: fvit.curve_auc(a.flatten(1)[:, :11], "unit_interval"),
    "pointing": lambda vit, den, data, a, b: sanity.pointing(
        torch.stack([a, b], 1), torch.stack([data.mask, 1 - data.mask.clamp(min=0)], 1)),
    "randomised": lambda vit, den, data, a, b: fvit.explain(sanity.randomised(vit, 2), data.x, "rollout"),
}


@pytest.fixture(scope="module")
def there(here):
    """The same, with networks and pixels on mps."""
    vit, den, data = here
    with mps():
        return copy.deepcopy(vit).to("mps"), copy.deepcopy(den).to("mps"), replace(data, x=data.x.to("mps"))


def run(call, networks_and_data):
    found = CALLS[call](*networks_and_data, *two_maps(networks_and_data[2]))
    several = found if isinstance(found, list) else [found]
    return [value.detach().cpu() if isinstance(value, torch.Tensor) else value for value in several]


@pytest.mark.parametrize("call", CALLS)
def test_on_mps_as_on_the_cpu(call, here, there):
    wanted = run(call, here)
    with mps():
        found = run(call, there)
    torch.testing.assert_close(found, wanted, **NEAR)


def test_an_experiment_on_mps_gives_the_rows_of_the_cpu():
    sizes = {"n_images": 1, "n_samples": 2, "attack_steps": 1, "attack_draws": 1, "eval_batch": 2}
    on = fvit.experiment("09", **sizes)
    wanted = rows(on)
    with mps():
        found = rows(replace(on, device="auto"))
    assert len(found) > 50
    pd.testing.assert_frame_equal(found, wanted, rtol=1e-5, atol=1e-6)


def rows(on):
    images = on.images()
    asked = {"methods": ["raw_attention", "gradcam"], "attacks": [("explanation", "vit")], "radii": [8 / 255],
             "measures": ["stability", "segmentation"]}
    return pd.concat([attack_rows.attack_rows(on.bench, images, **asked),
                      controls.all_controls(on.bench, images, [8 / 255], ("random_order",))], ignore_index=True)


def test_the_stand_in_refuses_what_mps_refuses():
    with mps():
        there, x = torch.ones(2, 3).to("mps"), torch.ones(2, 3)
        assert there.device.type == "mps" and there[:, 0].sum().item() == 2 and torch.ones(1, device="mps").is_leaf
        for refused in (there.double, there.numpy, lambda: there.to(torch.float64), lambda: there + x,
                        lambda: torch.zeros(2, dtype=torch.float64).to("mps"), lambda: there.sum(dtype=torch.float64)):
            with pytest.raises((TypeError, RuntimeError), match=r"MPS|mps"):
                refused()
        assert (there.cpu().double() + x).sum().item() == 12 and type(there.cpu()) is torch.Tensor


@pytest.mark.parametrize("cuda, apple, best", [(True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_best_device_is_chosen_in_one_place(monkeypatch, cuda, apple, best):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H100")
    threads = torch.get_num_threads()
    assert devices.best() == best
    assert devices.named() == {"cuda": ("cuda, H100", ""), "mps": ("mps", ""), "cpu": ("cpu", threads)}[best]
    assert replace(fvit.experiment("09"), device="auto").place == best


def test_bfloat16_is_refused_on_mps_and_paper_does_without(here, there):
    with mps():
        den = copy.copy(there[1])
        den.precision = "bfloat16"
        with pytest.raises(ValueError, match=r"precision='bfloat16' on mps.*take precision='float32'"):
            den(there[2].x, 0.25)
        assert fvit.experiment("09", "paper", "scenes", "scenes", "scenes").sizes.precision == "float32"
    assert fvit.experiment("09", "paper", "scenes", "scenes", "scenes").sizes.precision == "bfloat16"


@pytest.mark.parametrize("best", ["cuda", "mps"])
def test_a_gpu_is_waited_for_and_its_memory_freed(monkeypatch, best):
    done = []
    monkeypatch.setattr(devices, "best", lambda: best)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: best == "cuda")
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(getattr(torch, best), name, lambda name=name: done.append(name))
    devices.wait()
    devices.free()
    assert done == ["synchronize", "empty_cache"]
