"""Profiles: the sizes are the agreed ones, parameters of a notebook pass through, mistakes name the mend."""

import dataclasses

import pytest

from fvit.attacks.ascent import RULES
from fvit.records import profiles
from fvit.records.profiles import profile


@pytest.fixture(autouse=True)
def leave_no_current(monkeypatch):
    monkeypatch.setattr(profiles, "current", None)


@pytest.mark.parametrize("name, sizes", [
    ("laptop", "n_images 16, n_samples 16, k 25, attack_steps 10, attack_draws 4, eval_batch 32, sigma 0.25"),
    ("study", "n_images 128, n_samples 16, k 25, attack_steps 20, attack_draws 4, eval_batch 32, sigma 0.25"),
    ("natural", "n_images 32, n_samples 16, k 25, attack_steps 20, attack_draws 4, eval_batch 16, sigma 0.25"),
    ("paper", "n_images 500, n_samples 64, k 49, attack_steps 40, attack_draws 8, eval_batch 32, sigma 0.25"),
])
def test_sizes_are_the_agreed_ones_said_on_one_line(name, sizes):
    precision = "bfloat16" if name in ("natural", "paper") else "float32"
    assert str(profile(name)) == f"profile {name}: {sizes}, precision {precision}"
    assert str(profile(name, notebook="01")).startswith(f"profile {name}, notebook 01: n_images")


def test_zero_and_empty_take_the_profiles_value_and_an_override_leaves_the_profile_alone():
    assert profile("study", n_samples=0, sigma=0.0, precision="", k=7) == dataclasses.replace(profile("study"), k=7)
    assert profile("study").k == 25 and isinstance(profile(sigma=1).sigma, float)


def test_the_latest_profile_that_is_not_refused_is_current_and_frozen():
    cfg = profile("study", notebook="06")
    with pytest.raises(ValueError):
        profile("laptop", k=-1)
    assert profiles.current is cfg and cfg.notebook == "06"
    with pytest.raises(dataclasses.FrozenInstanceError):
        cfg.k = 3


def test_settings_of_the_attack_are_said_where_they_are_unusual():
    assert profile("study").attack == "PGD linf, 20 steps, 4 draws a step through DDS"
    cfg = profile("study", attack_rule="apgd", attack_restarts=3, attack_momentum=0.5)
    assert cfg.attack == "APGD linf, 20 steps, momentum 0.5, 4 draws a step through DDS, the strongest of 3 runs"
    assert str(cfg).endswith("precision float32, attack_rule apgd, attack_restarts 3, attack_momentum 0.5")
    assert profiles.CHOICES["attack_rule"] == RULES


@pytest.mark.parametrize("arguments, message", [
    ({"name": "labtop"}, "unknown profile 'labtop', known: laptop, study, natural, paper; did you mean 'laptop'?"),
    ({"n_sample": 8}, "unknown override 'n_sample', known: n_images.*did you mean 'n_samples'?"),
    ({"n_samples": -8}, "n_samples=-8, wanted a positive integer, or 0 for the profile's value"),
    ({"n_samples": 8.5}, "n_samples=8.5, wanted a positive integer"),
    ({"n_samples": "8"}, "n_samples='8', wanted a positive integer"),
    ({"k": True}, "k=True, wanted a positive integer"),
    ({"sigma": float("nan")}, "sigma=nan, wanted a positive number"),
    ({"sigma": -0.25}, "sigma=-0.25, wanted a positive number"),
    ({"sigma": 64}, "sigma=64, wanted at most 5, the noise std for images in"),
    ({"attack_rule": "adpg"}, "unknown attack_rule 'adpg', known: constant, apgd; did you mean 'apgd'?"),
    ({"attack_restarts": -1}, "attack_restarts=-1, wanted a positive integer"),
    ({"attack_momentum": 1.0}, r"attack_momentum=1\.0, wanted a number in \[0, 1\)"),
    ({"precision": "float16"}, "unknown precision 'float16', known: float32, bfloat16"),
])
def test_mistakes_name_the_mend(arguments, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        profile(**arguments)
