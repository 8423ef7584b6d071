"""Tasks: the same rows as by hand, wherever they run; their network calls counted against hooks on real networks."""

import copy
import json
import pickle
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import timm
import torch
from fixtures.counting import count_images
from oracles.maps import _fill

from fvit.data.loading import load_images
from fvit.experiments import costs
from fvit.experiments.attack_rows import attack_rows
from fvit.experiments.bench import Bench
from fvit.experiments.blocks import Task
from fvit.experiments.controls import CONTROL_MAPS, all_controls
from fvit.experiments.costs import NETWORKS, USES, attack_calls, control_calls, network_images, seconds_a_unit
from fvit.experiments.setting import Setting
from fvit.models.denoiser import Denoiser
from fvit.models.diffusers_files import load_denoiser
from fvit.models.schedule import linear_alphas_cumprod
from fvit.models.vit import ViT, load_vit
from fvit.records import profiles

SIZES = replace(profiles.PROFILES["laptop"], n_samples=3, attack_steps=2, attack_draws=2, eval_batch=4)
WHAT = {"methods": ["raw_attention", "vta"], "attacks": [["prediction", "vit"], ["explanation", "dds"],
        ["rollout", "vit"]], "radii": [0.0, 8 / 255], "measures": ["stability", "perturbation"]}
VAL = Setting(data={"source": "scenes", "split": "val"})
FEW = {"methods": ["rollout"], "attacks": [], "radii": [], "measures": ["segmentation"]}


@pytest.fixture(scope="module")
def task():
    return Task(attack_rows, WHAT, SIZES, seed=1)


def test_rows_are_those_by_hand_and_a_copy_by_pickle_gives_the_same(task):
    bench = Bench(load_vit("scenes"), load_denoiser("scenes"), SIZES.sigma, 3, 25, 2, 2, 4, "float32", 1)
    small = replace(task, what=FEW)
    want = attack_rows(bench, load_images("scenes", "test", 1, start=5), **FEW)
    pd.testing.assert_frame_equal(small(5, 6), want)
    sent = pickle.dumps(small)
    assert len(sent) < 2000  # names, no networks
    pd.testing.assert_frame_equal(pickle.loads(sent)(5, 6), want)


def test_networks_are_loaded_once_for_all_tasks_of_a_process(task):
    assert replace(task, seed=2).bench.vit is task.bench.vit and copy.deepcopy(task).bench.den is task.bench.den
    assert replace(task, on=Setting({"source": "scenes", "pretrained": False})).bench.vit is not task.bench.vit


def test_settings_name_all_that_rows_depend_on(task):
    settings = json.loads(json.dumps(task.settings))
    assert settings["rows"] == "fvit.experiments.attack_rows.attack_rows" and settings["data"] == {"source": "scenes"}
    others = [replace(task, seed=2), replace(task, rows=all_controls), replace(task, what=WHAT | {"radii": [0.1]}),
              replace(task, sizes=replace(SIZES, sigma=0.1)), replace(task, on=VAL),
              replace(task, on=Setting({"source": "scenes", "pretrained": False}))]
    assert all(other.settings != task.settings for other in others)
    assert replace(task, on=Setting(device="auto")).settings == task.settings
    assert task.code == ["tasks", "experiments"] and replace(task, rows=all_controls).code == ["tasks", "controls"]


def test_splits_and_sources_are_passed_on(task):
    rows = replace(task, on=VAL, what=FEW)(0, 1)
    assert set(rows.image_id) == {"val-0-0"}
    with pytest.raises(ValueError, match="unknown image source 'imagenot'"):
        replace(task, on=Setting(data="imagenot"))(0, 1)


class OneConvolution(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x_t, t):
        return SimpleNamespace(sample=self.conv(x_t))


@pytest.fixture(scope="module")
def bench():
    """Networks of the scenes' size that take a millisecond: calls are counted, not judged."""
    net = timm.models.VisionTransformer(img_size=64, patch_size=16, embed_dim=24, depth=2, num_heads=3)
    net.reset_classifier(10)
    _fill(net, 0.25, 0)
    torch.manual_seed(0)
    den = Denoiser(OneConvolution().requires_grad_(False), linear_alphas_cumprod(1000, 1e-4, 0.02))
    return Bench(ViT(net, (0.5,) * 3, (0.5,) * 3, name="tiny"), den, 0.25, 3, 4, 2, 2, 4, "float32", 1)


def counted(bench, run):
    """NETWORKS -> images that pass while `run(bench)` runs, by hooks on copies of both networks."""
    found, networks = Counter(), copy.deepcopy((bench.vit, bench.den.network))
    den = copy.copy(bench.den)
    den._modules = {**den._modules, "network": networks[1]}
    count_images(found, ViT=networks[0], denoiser=networks[1])
    return run(replace(bench, vit=networks[0], den=den)), {name: found[name] for name in NETWORKS}


@pytest.mark.parametrize("batch, n", [(1, 3), (4, 3), (64, 2)])  # with draws recomputed in the attack and without
@pytest.mark.parametrize("methods", [["raw_attention", "vta"], ["rollout"]])
def test_calls_are_counted_exactly(bench, batch, n, methods):
    bench, what = replace(bench, eval_batch=batch), WHAT | {"methods": methods}
    rows, found = counted(bench, lambda b: attack_rows(b, load_images(n=n), **what))
    rows["attack"] = rows.aim + " via " + rows.made_on
    kept = rows[rows.metric == "class_kept"].groupby(["defence", "attack", "eps"]).value
    changed = (1 - kept.mean()).mul(n).round().astype(int).to_dict()
    units = attack_calls(bench, n, **what, changed=lambda *key: changed[key])
    assert network_images(units) == found
    most, least = attack_calls(bench, n, **what), attack_calls(bench, n, **what, changed=lambda *_: 0)
    assert all(network_images(least)[name] <= found[name] <= network_images(most)[name] for name in NETWORKS)
    assert ("attack dds, recomputed" in units) == (batch == 1)


def test_calls_of_the_controls_are_counted_exactly(bench):
    radii = [0.0, 8 / 255]
    _, found = counted(bench, lambda b: all_controls(b, load_images(n=2), radii))
    assert network_images(control_calls(bench, 2, radii=radii)) == found
    without, maps = replace(load_images(n=2), mask=None), CONTROL_MAPS[:2]
    rows, found = counted(bench, lambda b: all_controls(b, without, radii, maps))
    assert network_images(control_calls(bench, 2, radii=radii, maps=maps)) == found
    assert set(rows.method) == {*maps, ""}


def test_units_are_timed_as_what_they_are_called(bench):
    """One unit of a kind on n images makes n times the calls that USES says, warm-up and other kinds apart."""
    for kind, uses in USES.items():
        draws = 2 if "recomputed" in kind else 1
        _, found = counted(bench, lambda b, kind=kind: seconds_a_unit(b, ["vta"], [kind], n=2))
        preparation = Counter({"ViT forward": 3})  # of two images, and of the first
        want = {name: 2 * 2 * draws * n + preparation[name] for name, n in zip(NETWORKS, uses, strict=True)}
        assert found == want, kind


def test_the_report_says_what_is_loaded_called_and_taken(task, monkeypatch):
    kinds = []

    def known(bench, methods, wanted, n):
        kinds.extend(wanted)
        return dict.fromkeys(wanted, 0.5)

    monkeypatch.setattr(costs, "seconds_a_unit", known)
    text = replace(task, what=WHAT | {"attacks": [["prediction", "vit"]], "measures": []}).report([(0, 2), (2, 3)])
    # by hand, three images: bare 1 + 1 + a second look, DDS 3 (2 + 1 + 1 + a second look), PGD 2 steps
    assert text.splitlines()[0] == ("  loads: vit {'source': 'scenes'}, den {'source': 'scenes'}, "
                                    "data {'source': 'scenes'}; on cpu")
    assert "ViT forward 48 to 60, ViT backward 6, denoiser forward 36 to 45, denoiser backward 0" in text
    assert "about 24 s to 30 s, from one call of each kind with 4 images" in text
    assert set(kinds) == {"explain", "explain dds", "attack"}  # what is not called is not timed


def test_what_a_notebook_says_of_its_calls_is_said_in_a_dry_run_alone(task, monkeypatch, capsys):
    what = dict(n=2, sigmas=[0.25], draws=[1, 2], at_k=[], den_steps=1, n_chain=1, efforts=[(1, 1, 1)], n_strength=1)
    monkeypatch.setattr(costs, "_seconds_an_image", lambda *_: dict.fromkeys(NETWORKS, 0.5))
    costs.say_calls(task.on, SIZES, **what)
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("FVIT_DRY_RUN", "1")
    costs.say_calls(task.on, SIZES, **what)
    loads, images, time = capsys.readouterr().out.splitlines()
    assert loads == "  loads: vit {'source': 'scenes'}, den {'source': 'scenes'}, data {'source': 'scenes'}; on cpu"
    n = costs.ablation_images(SIZES, **what)
    assert images == "  images through each network: " + ", ".join(f"{name} {n[name]:,}" for name in NETWORKS)
    assert f"about {costs.duration(sum(n.values()) / 2)}, from one call of each; what" in time


def test_seconds_of_each_network_are_those_of_one_call(bench):
    found = costs._seconds_an_image(bench.vit, bench.den, 0.25)
    assert list(found) == list(NETWORKS) and all(0 <= seconds < 10 for seconds in found.values())
    assert found["ViT forward"] > 0 < found["denoiser forward"]
