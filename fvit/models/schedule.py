"""From the noise we add, sigma in [0, 1] pixel units, to the timestep of a diffusion model, and back (float64)."""

import numpy as np

from fvit.base.checks import as_integer, as_number, check_array


def linear_alphas_cumprod(n_steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> np.ndarray:
    """Cumulative product of 1 - beta, betas evenly spaced, (n_steps,) float64. Source: Ho et al. 2020."""
    return np.cumprod(1 - np.linspace(beta_start, beta_end, n_steps))


def cosine_alphas_cumprod(n_steps: int = 1000) -> np.ndarray:
    """Cumulative product of 1 - beta, (n_steps,) float64: a squared cosine, betas at most 0.999.

    Source: Nichol and Dhariwal 2021.
    """
    level = np.cos((np.arange(n_steps + 1) / n_steps + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.cumprod(np.maximum(level[1:] / level[:-1], 0.001))


def sigma_to_timestep(sigma: float, alphas_cumprod) -> int:
    """Timestep whose forward process has the noise-to-signal ratio of `sigma`.

    sigma            noise std for images in [0, 1]; doubled here for the [-1, 1] range
    alphas_cumprod   (T,) decreasing, prod of (1 - beta)
    returns          index t minimising |log sigma_t - log 2 sigma|, 0 <= t < T, where sigma_t = sqrt((1 - ac) / ac)

    Raises ValueError if sigma lies outside the schedule.
    Source: Hu et al. 2024; Carlini et al. 2023, who round up, where we take the nearest. Taught in notebook 03.
    """
    levels = _levels(alphas_cumprod)
    if not in_schedule(sigma, alphas_cumprod):
        raise ValueError(f"sigma={sigma} is outside [{levels[0]:.4g}, {levels[-1]:.4g}]; is x in [0, 1]?")
    with np.errstate(divide="ignore"):  # a schedule may start at level 0 or end at level inf: never the nearest
        return int(np.argmin(np.abs(np.log(levels) - np.log(as_number(sigma)))))


def timestep_to_sigma(t: int, alphas_cumprod) -> float:
    """Noise std in [0, 1] pixel units of timestep `t`: sqrt((1 - ac_t) / ac_t) / 2. ValueError unless 0 <= t < T."""
    levels = _levels(alphas_cumprod)
    if as_integer(t) not in range(len(levels)):
        raise ValueError(f"t={t} is outside the schedule, wanted 0 <= t <= {len(levels) - 1}")
    return float(levels[as_integer(t)])


def in_schedule(sigma: float, alphas_cumprod) -> bool:
    """True where the schedule has a level for `sigma`: between its first and its last, up to rounding."""
    levels, sigma = _levels(alphas_cumprod), as_number(sigma)
    return bool(0 < sigma < np.inf and levels[0] * (1 - 1e-9) <= sigma <= levels[-1] * (1 + 1e-9))


def _levels(alphas_cumprod) -> np.ndarray:
    ac = check_array(alphas_cumprod, "alphas_cumprod")
    if ac.ndim != 1 or len(ac) == 0 or not (np.all(np.diff(ac) < 0) and ac[0] <= 1 and ac[-1] >= 0):
        raise ValueError(f"alphas_cumprod of shape {ac.shape} is no schedule, wanted (T,) decreasing within [0, 1]; "
                         "give the cumulative product of 1 - beta, not beta itself")
    with np.errstate(divide="ignore"):
        return np.sqrt((1 - ac) / ac) / 2  # halved: the network works in [-1, 1], sigma in [0, 1]
