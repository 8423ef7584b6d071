"""Sigma to timestep and back, against values worked out by hand."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from fvit.models.schedule import in_schedule, linear_alphas_cumprod, sigma_to_timestep, timestep_to_sigma

LINEAR = linear_alphas_cumprod()


def test_the_linear_schedule_is_the_published_one():
    assert LINEAR.shape == (1000,) and LINEAR.dtype == np.float64
    assert LINEAR[0] == 1 - 1e-4
    assert LINEAR[1] == pytest.approx((1 - 1e-4) * (1 - 1e-4 - 0.0199 / 999), rel=1e-14)
    theirs = DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02).alphas_cumprod
    np.testing.assert_allclose(LINEAR, theirs.double().numpy(), rtol=1e-4)  # theirs is a float32 product


@pytest.mark.parametrize(("pixels", "t"), [(2, 1), (4, 5), (5, 8), (7, 12), (8, 15), (16, 34), (32, 73)])
def test_pixel_sigmas_on_the_linear_schedule(pixels, t):
    """The unit trap: 8/255 read as a number in the [-1, 1] range is half as much noise, 4/255: t = 5, not 15."""
    assert sigma_to_timestep(pixels / 255, LINEAR) == t


@pytest.mark.parametrize("alphas_cumprod", [LINEAR, linear_alphas_cumprod(50, 1e-3, 0.3)])
def test_round_trip_over_all_timesteps(alphas_cumprod):
    for t in range(len(alphas_cumprod)):
        assert sigma_to_timestep(timestep_to_sigma(t, alphas_cumprod), alphas_cumprod) == t


def test_by_hand():
    """ac = 4/5, 1/2, 1/5 have noise to signal 1/2, 1, 2 in [-1, 1] units, so 1/4, 1/2, 1 in pixel units."""
    ac = [0.8, 0.5, 0.2]
    assert [timestep_to_sigma(t, ac) for t in range(3)] == pytest.approx([0.25, 0.5, 1.0], rel=1e-15)
    between = 0.5 * math.sqrt(2)  # the geometric mean of 1/2 and 1 parts them, as distance is taken in the logarithm
    assert sigma_to_timestep(between * 0.999, ac) == 1
    assert sigma_to_timestep(between * 1.001, ac) == 2
    assert sigma_to_timestep(0.5, torch.tensor(ac, dtype=torch.float64)) == 1


@pytest.mark.parametrize("sigma", [0, -0.1, 0.001, 100, float("nan"), float("inf")])
def test_outside_the_schedule(sigma):
    assert not in_schedule(sigma, LINEAR)
    with pytest.raises(ValueError, match=r"is outside \[0\.005, 78\.\d*\]; is x in \[0, 1\]\?"):
        sigma_to_timestep(sigma, LINEAR)


def test_the_ends_belong_to_the_schedule():
    assert in_schedule(timestep_to_sigma(0, LINEAR), LINEAR) and in_schedule(timestep_to_sigma(999, LINEAR), LINEAR)
    for t in (-1, 1000):
        with pytest.raises(ValueError, match=f"t={t} is outside the schedule, wanted 0 <= t <= 999"):
            timestep_to_sigma(t, LINEAR)


def test_a_schedule_that_ends_in_pure_noise():
    assert sigma_to_timestep(5.0, [0.8, 0.5, 0.0]) == 1  # infinite noise is never the nearest


def test_betas_are_not_a_schedule():
    with pytest.raises(ValueError, match="cumulative product of 1 - beta"):
        sigma_to_timestep(0.1, np.linspace(1e-4, 0.02, 1000))
