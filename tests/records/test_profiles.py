"""Profiles: the sizes are the agreed ones, parameters of a notebook pass through, mistakes name the mend."""

import dataclasses

import pytest

from fvit.records import profiles
from fvit.records.profiles import profile


@pytest.fixture(autouse=True)
def leave_no_current(monkeypatch):
    monkeypatch.setattr(profiles, "current", None)


@pytest.mark.parametrize("name, sizes", [
    ("laptop", (16, 16, 25, 10, 4, 32, 0.25, "float32")),
    ("study", (128, 16, 25, 20, 4, 32, 0.25, "float32")),
    ("paper", (500, 64, 49, 40, 8, 32, 0.25, "bfloat16")),
])
def test_sizes_are_the_agreed_ones(name, sizes):
    cfg = profile(name)
    assert (cfg.n_images, cfg.n_samples, cfg.k, cfg.attack_steps, cfg.attack_draws, cfg.eval_batch) == sizes[:6]
    assert (cfg.sigma, cfg.precision) == sizes[6:]


def test_zero_and_empty_take_the_profiles_value():
    assert profile("study", n_samples=0, sigma=0.0, precision="", k=7) == dataclasses.replace(profile("study"), k=7)


def test_the_latest_profile_is_current_and_frozen():
    cfg = profile("study", notebook="03")
    assert profiles.current is cfg and cfg.notebook == "03"
    with pytest.raises(dataclasses.FrozenInstanceError):
        cfg.k = 3


def test_a_refused_profile_leaves_the_current_one():
    cfg = profile()
    with pytest.raises(ValueError):
        profile("study", k=-1)
    assert profiles.current is cfg


def test_override_leaves_the_profile_itself_alone():
    profile("laptop", n_images=3)
    assert profile("laptop").n_images == 16


def test_print_shows_every_size_on_one_line():
    text = str(profile("laptop", notebook="01", n_samples=8, sigma=0.1))
    assert text == ("profile laptop, notebook 01: n_images 16, n_samples 8, k 25, attack_steps 10, attack_draws 4, "
                    "eval_batch 32, sigma 0.1, precision float32")
    assert str(profile()).startswith("profile laptop: n_images")


@pytest.mark.parametrize("arguments, message", [
    ({"name": "labtop"}, "unknown profile 'labtop', known: laptop, study, paper; did you mean 'laptop'?"),
    ({"n_sample": 8}, "unknown override 'n_sample', known: n_images.*did you mean 'n_samples'?"),
    ({"n_samples": -8}, "n_samples=-8, wanted a positive integer, or 0 for the profile's value"),
    ({"n_samples": 8.5}, "n_samples=8.5, wanted a positive integer"),
    ({"n_samples": "8"}, "n_samples='8', wanted a positive integer"),
    ({"k": True}, "k=True, wanted a positive integer"),
    ({"sigma": float("nan")}, "sigma=nan, wanted a positive number"),
    ({"sigma": -0.25}, "sigma=-0.25, wanted a positive number"),
    ({"precision": "float16"}, "unknown precision 'float16', known: float32, bfloat16"),
])
def test_mistakes_name_the_mend(arguments, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        profile(**arguments)


def test_an_integer_sigma_becomes_a_float():
    assert isinstance(profile(sigma=1).sigma, float)
