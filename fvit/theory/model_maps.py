"""Attention maps made up of a formula, to try certificates on where no network is needed."""

import numpy as np
from scipy.special import ndtri

from fvit.base.rng import numpy_generator


def attention_profile(shape: str, n: int, k: int) -> np.ndarray:
    """A map (n,) of sum 1, from the largest token to the least.

    shape   "logit s": a softmax of s times n normal quantiles, the flatter the smaller s; "zipf": 1/rank; "object":
            some 85 % on the first k tokens, evenly but for a little unrest

    Source: ours (docs/theory.md, section 2.3). Taught in notebook 06.
    """
    z = ndtri(1 - (np.arange(1, n + 1) - 0.5) / n)
    if shape == "object":
        w = np.where(np.arange(n) < k, 0.8 / k, 0.2 / (n - k)) * np.exp(0.2 * z)
    elif shape == "zipf":
        w = 1 / np.arange(1, n + 1)
    elif shape.startswith("logit "):
        w = np.exp(float(shape.removeprefix("logit ")) * z)
    else:
        raise ValueError(f"shape {shape!r}, wanted 'logit s' with a number s, 'zipf' or 'object'")
    return w / w.sum()


def simulated_attention(shape: str, eta: float, seed: int, n: int = 196, k: int = 20, draws: int = 2000) -> np.ndarray:
    """Maps (draws, n) of sum 1, as behind noise: the softmax of a profile's logarithm and of normal noise of std eta.

    seed   root seed; each shape and eta has a stream of its own

    Source: ours (docs/theory.md, section 2.4). Taught in notebook 07.
    """
    g = numpy_generator(seed, "attention", shape, str(eta))
    logits = np.log(attention_profile(shape, n, k)) + eta * g.standard_normal((draws, n))
    maps = np.exp(logits - logits.max(1, keepdims=True))
    return maps / maps.sum(1, keepdims=True)
