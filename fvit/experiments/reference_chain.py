"""The denoising of the reference code as a defence: a chain of steps that is told too much noise."""

import copy
from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

from fvit.base import rng
from fvit.smoothing import DDS


class ReferenceChain(DDS):
    """Denoising as the reference code does it: noise of 4/255, and a chain of random steps that is told some twenty
    times that (docs/reference-code.md, fault 1; notebook 03). Its steps' noise has streams of its own.

    den   a Denoiser of epsilon with 1000 steps; its schedule is taken for the linear one of the reference code

    Its prior stays in float32. An attack goes through all 45 calls: each is computed again on the way back, so that
    memory holds one at a time.
    """

    def __init__(self, vit, den, n_samples=16, seed=0, batch_size=None, precision=None, draws="independent", **_):
        if len(getattr(den, "alphas_cumprod", ())) != 1000 or getattr(den, "prediction_type", "") != "epsilon":
            raise ValueError("the reference chain needs a denoiser of 1000 steps that estimates epsilon, and this one "
                             "is another; leave 'reference_chain' out")
        super().__init__(vit, _unwalked, 4 / 255, n_samples, seed, batch_size, precision=precision, draws=draws)
        self.prior = den.eval() if isinstance(den, torch.nn.Module) else den
        width = 2 * self.sigma  # in [-1, 1]
        steps = round(1 + 999 / 0.0199 * (1 - 1 / (1 + width**2) - 1e-4))
        self.told = [round(i * 999 / 249) for i in range(steps)][::-1]

    def _step(self, x, chunk, names, target, purpose, *more, **options):
        mine = copy.copy(self)  # a chain of these pairs: where it is computed again, it meets the same noise
        mine.den = partial(self._walk, ids=chunk[1], draws=chunk[2], purpose=f"{purpose} chain")
        return DDS._step(mine, x, chunk, names, target, purpose, *more, **options)

    def _walk(self, x_noisy, sigma, ids, draws, purpose):
        levels = [float(self.prior.alphas_cumprod[t]) for t in self.told] + [1.0]
        u = 2 * x_noisy - 1
        for step, (t, ac, ac_next) in enumerate(zip(self.told, levels, levels[1:], strict=False)):
            z = [rng.normal(u.shape[1:], self.seed, purpose, *pair, step, dtype=u.dtype)
                 for pair in zip(ids, draws, strict=True)]
            call = partial(self._one, t=t, ac=ac, ac_next=ac_next, z=torch.stack(z).to(u))
            u = checkpoint(call, u, use_reentrant=False) if u.requires_grad and torch.is_grad_enabled() else call(u)
        return (u.clamp(-1, 1) + 1) / 2

    def _one(self, u, t, ac, ac_next, z):
        """A step of Ho et al. 2020 from t to the next, of cumulative alphas ac and ac_next; z standard normal."""
        times = torch.full((len(u),), t, device=u.device)
        own = next((p.dtype for p in self.prior.parameters()), u.dtype)
        eps_hat = self.prior.network(u.to(own), times).sample[:, :3].to(u.dtype)  # without a learned variance
        clean = ((u - (1 - ac) ** 0.5 * eps_hat) / ac**0.5).clamp(-1, 1)
        beta = 1 - ac / ac_next
        mean = (ac_next**0.5 * beta * clean + (1 - beta) ** 0.5 * (1 - ac_next) * u) / (1 - ac)
        return mean + (beta * (1 - ac_next) / (1 - ac)) ** 0.5 * z


def _unwalked(x_noisy, sigma):
    raise RuntimeError("a reference chain walks in _step, which knows images and draws")
