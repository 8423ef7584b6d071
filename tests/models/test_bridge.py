"""A ViT and a prior of different sizes: the resize as a matrix, the noise it leaves, and the radii that carry over."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from oracles.maps import images, tiny_denoiser, tiny_vit
from scipy.stats import norm

import fvit
from fvit import smoothing
from fvit.base import rng
from fvit.explanations.methods import METHODS
from fvit.explanations.passes import explain
from fvit.models.bridge import (
    ResizedDenoiser,
    ResizedViT,
    connect,
    noise_gain,
    operator_norm,
    radius_before,
    resize,
    resize_matrix,
    told_gain,
)
from fvit.smoothing import DDS, add_noise

SIZES = [(7, 10), (10, 7), ((6, 9), (9, 5)), (8, 3), (5, 5), ((5, 8), (5, 6))]
IDS = ["a", "b", "c"]


def pair(size):
    return (size, size) if isinstance(size, int) else size


def explicit(before, after):
    """The resize as one matrix (pixels after, pixels before): a column for the image of each single pixel."""
    before = pair(before)
    impulses = torch.eye(math.prod(before), dtype=torch.float64).unflatten(1, before)[:, None].expand(-1, 3, -1, -1)
    return resize(impulses.contiguous(), after)[:, 1].flatten(1).T.numpy()


# the resize ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_norms_and_gains_against_the_explicit_matrix(before, after):
    matrix = explicit(before, after)
    sides = [resize_matrix(*s) for s in zip(pair(before), pair(after), strict=True)]
    np.testing.assert_allclose(np.kron(*sides), matrix, rtol=0, atol=1e-12)  # separable
    assert operator_norm(before, after) == pytest.approx(np.linalg.svd(matrix, compute_uv=False)[0], rel=1e-10)
    assert noise_gain(before, after) == pytest.approx(np.sqrt(np.diag(matrix @ matrix.T).mean()), rel=1e-10)
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=0, atol=1e-12)
    assert matrix.min() > -1e-15  # so values stay in their range, and no linf length grows


def test_the_sizes_of_the_paper():
    """Noise shrinks to 0.665 from 224 to 256 (docs/reference-code.md, fault 2). A constant image shows
    ||U|| >= 256 / 224."""
    assert noise_gain(224, 256) == pytest.approx(0.665, abs=5e-4)
    assert 256 / 224 < operator_norm(224, 256) < 1.15
    assert noise_gain(224, 256) < told_gain(224, 256) < operator_norm(224, 256)
    assert noise_gain(224, 64) == pytest.approx(0.191, abs=5e-4)


def test_the_matrix_of_doubling_by_hand():
    quarter = np.array([[4, 0, 0], [3, 1, 0], [1, 3, 0], [0, 3, 1], [0, 1, 3], [0, 0, 4]]) / 4
    np.testing.assert_allclose(resize_matrix(3, 6), quarter, rtol=0, atol=1e-15)


def test_equal_sizes_change_no_bit():
    x, vit, den = images(2, torch.float32), tiny_vit(), tiny_denoiser()
    assert resize(x, 32) is x and operator_norm(32, 32) == noise_gain(32, 32) == told_gain(32, 32) == 1.0
    plain = DDS(vit, den, 0.25, n_samples=2)(x, IDS[:2])
    for noise_at in ("vit", "prior"):
        out = DDS(*connect(vit, den, 32, noise_at), 0.25, n_samples=2)(x, IDS[:2])
        assert torch.equal(out.heatmap, plain.heatmap) and torch.equal(out.probs, plain.probs)


@pytest.mark.parametrize(("before", "after"), [(16, 22), (16, 9)])
def test_linear_and_constant_images_stay(before, after):
    a, b = images(2, size=before), images(2, size=before, seed=1)
    apart = 2 * resize(a, after) - 3 * resize(b, after)
    torch.testing.assert_close(resize(2 * a - 3 * b, after), apart, rtol=0, atol=1e-13)
    constant = torch.full((1, 3, before, before), 0.3, dtype=torch.float64)
    torch.testing.assert_close(resize(constant, after), torch.full((1, 3, after, after), 0.3, dtype=torch.float64))
    bridge = ResizedDenoiser(lambda x, sigma: x, after, before)
    torch.testing.assert_close(bridge(constant, 0.1), constant)
    assert torch.autograd.gradcheck(lambda x: bridge(x, 0.1), a[:1].requires_grad_(), fast_mode=True)


# noise at the ViT's size ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [48, 20])
def test_noise_is_added_once_and_the_prior_meets_what_the_algebra_says(size):
    met = []

    def den(x_noisy, sigma):
        met.append((x_noisy, sigma))
        return x_noisy.clamp(0, 1)

    x, sigma = torch.full((4, 3, 32, 32), 0.5), 0.05
    _, bridge = connect(tiny_vit(), den, size)
    bridge(add_noise(x, sigma, 0, "dds", None, 0), sigma)
    [(seen, told)] = met
    rms = (seen - 0.5).square().mean().sqrt().item()
    side = resize_matrix(32, size)
    spread = math.sqrt(2 / 12) * ((side @ side.T) ** 2).sum()  # std of the mean over 12 planes of their sum of squares
    error = spread / (2 * size**2 * noise_gain(32, size) ** 2)  # relative, of the root mean square
    assert abs(rms / sigma / noise_gain(32, size) - 1) < 4 * error
    assert told == pytest.approx(sigma * told_gain(32, size), rel=1e-12)


def test_levels_and_timesteps_are_those_of_the_told_noise():
    den = tiny_denoiser()
    _, bridge = connect(tiny_vit(), den, 16)
    level = 0.25 * told_gain(32, 16)
    assert bridge.timestep(0.25) == den.timestep(level) < den.timestep(0.25)
    assert bridge.has_level(0.25) and not bridge.has_level(0) and not bridge.has_level(1e6)
    assert den.has_level(0.008) and not bridge.has_level(0.008)  # too faint once averaged
    with pytest.raises(ValueError, match="outside the denoiser's schedule"):
        DDS(tiny_vit(), bridge, sigma=0.008)
    assert ResizedDenoiser(lambda x, sigma: x, 16, 32).has_level(0)  # a callable takes any
    _, steps = connect(tiny_vit(), lambda x, sigma, steps: x / steps, 16)
    torch.testing.assert_close(steps(torch.ones(1, 3, 32, 32), 0.1, steps=2), torch.full((1, 3, 32, 32), 0.5))


def test_the_told_level_is_the_better_one():
    """On the shipped denoiser at the paper's ratio, 224 : 256 = 56 : 64; at equal sizes the level is sigma itself."""
    den, data = fvit.load_denoiser("scenes"), fvit.load_images("scenes", "val", 4)
    _, bridge = connect(SimpleNamespace(image_size=(56, 56)), den, 64)
    x = resize(data.x, 56)
    x_noisy = add_noise(x, 0.25, 0, "dds", data.ids, 0)

    def error(gain):
        bridge.gain = gain
        with torch.no_grad():
            return (bridge(x_noisy, 0.25) - x).square().mean().item()

    told = error(told_gain(56, 64))
    assert told < 0.9 * error(noise_gain(56, 64)) and told < 1.02 * error(operator_norm(56, 64))


def test_precision_is_set_on_a_copy():
    den = tiny_denoiser()
    vit, bridge = connect(tiny_vit(), den, 48)
    dds = DDS(vit, bridge, precision="bfloat16", n_samples=1)
    assert dds.den.precision == dds.den.den.precision == "bfloat16"
    assert bridge.precision == den.precision == "float32" and dds.den.den.network is den.network
    assert DDS(vit, plain := ResizedDenoiser(copy.copy, 48, 32), precision="bfloat16").den is plain  # it has none


def test_through_the_bridge_step_by_step():
    """Noise at the ViT's size, up, a call at the told level, down; and noise at the prior's size, a call, down."""
    vit, den, x = tiny_vit(torch.float64), tiny_denoiser(torch.float64), images(1)
    z = rng.normal((3, 32, 32), 0, "dds", "a", 0, dtype=x.dtype)
    x_hat = resize(den(resize(x + 0.25 * z, 48), 0.25 * told_gain(32, 48)), 32)
    out = DDS(*connect(vit, den, 48), 0.25, n_samples=1)(x, ["a"])
    torch.testing.assert_close(out.probs, vit(x_hat).softmax(1), rtol=1e-9, atol=1e-12)
    up = resize(x, 48)
    x_hat = resize(den(up + 0.25 * rng.normal((3, 48, 48), 0, "dds", "a", 0, dtype=x.dtype), 0.25), 32)
    out = DDS(*connect(vit, den, 48, "prior"), 0.25, n_samples=1)(up, ["a"])
    torch.testing.assert_close(out.probs, vit(x_hat).softmax(1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_explains_a_resized_vit(method):
    vit, x = tiny_vit(torch.float64), images(2, size=48)
    wrapped = ResizedViT(vit, 48)
    torch.testing.assert_close(explain(wrapped, x, method), explain(vit, resize(x, 32), method), rtol=0, atol=1e-12)
    assert wrapped.grid == vit.grid and wrapped.num_classes == 5 and wrapped.image_size == (48, 48)


# certificates --------------------------------------------------------------------------------------------------------
def certified(a, b, mean, noise, sigma):
    """sigma Phi^-1(p) of the classifier 1[<a, u> > b] at u = mean + sigma * noise @ z, as certificates have it."""
    p = norm.cdf((a @ mean - b) / (sigma * np.linalg.norm(a @ noise)))
    return sigma * norm.ppf(p)


@pytest.mark.parametrize(("before", "after"), [(6, 8), (8, 5)])
def test_radii_against_half_spaces(before, after):
    """The classifier 1[<a, u> > b] of the prior's images u: its radius and the distance to its boundary are known.

    noise at "vit": sigma Phi^-1(p) is the distance of x to the boundary, to the last digit, with sigma itself.
    noise at "prior": sigma Phi^-1(p) is the distance of U x; over ||U|| it never exceeds that of x, and reaches it when
    a is the top singular vector, so no smaller divisor would do.
    """
    matrix, sigma = explicit(before, after), 0.3
    x = np.random.default_rng(0).uniform(size=before**2)
    top = np.linalg.svd(matrix)[0][:, 0]
    for a in (np.random.default_rng(1).standard_normal(after**2), top):
        b = a @ matrix @ x - 0.1
        distance = 0.1 / np.linalg.norm(a @ matrix)  # of x to the boundary <a, U x> = b
        assert certified(a, b, matrix @ x, matrix, sigma) == pytest.approx(distance, rel=1e-9)
        at_prior = certified(a, b, matrix @ x, np.eye(after**2), sigma)
        assert at_prior == pytest.approx(0.1 / np.linalg.norm(a), rel=1e-9)
        carried = radius_before(at_prior, before, after)
        assert carried <= distance * (1 + 1e-9)
        assert (carried == pytest.approx(distance, rel=1e-9)) == (a is top)
    assert radius_before(np.array([-1.0, 0.0, 0.3]), before, after).tolist() == pytest.approx(
        [-1, 0, 0.3 / operator_norm(before, after)])


def test_certify_speaks_of_the_images_it_is_given(monkeypatch):
    """Rows through either bridge carry the DDS's own sigma; noise has the size of the images given."""
    shapes = []
    draw = rng.normal
    monkeypatch.setattr(smoothing.rng, "normal", lambda shape, *stream, **kind: shapes.append(tuple(shape))
                        or draw(shape, *stream, **kind))
    for noise_at, size in (("vit", 32), ("prior", 48)):
        shapes.clear()
        dds = DDS(*connect(tiny_vit(), tiny_denoiser(), 48, noise_at), 0.25, n_samples=2)
        rows = fvit.certify(dds, images(1, torch.float32, size=size), k=4, beta="0.5", n_samples=20, failure_prob=0.01)
        assert set(shapes) == {(3, size, size)} and len(shapes) == 22
        assert rows.sigma.tolist() == [0.25] and rows.radius.dtype == float


# requests that cannot be met -----------------------------------------------------------------------------------------
def test_wrong_sizes_are_named():
    vit, den = tiny_vit(), tiny_denoiser()
    with pytest.raises(ValueError, match=r"x_noisy has images of \(48, 48\) .*model wants \(32, 32\); resize"):
        connect(vit, den, 64)[1](torch.zeros(1, 3, 48, 48), 0.25)
    with pytest.raises(ValueError, match=r"the model wants \(48, 48\); resize them"):
        connect(vit, den, 48, "prior")[0](torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="unknown noise_at 'both', known: vit, prior"):
        connect(vit, den, 48, "both")
    for size in (0, 2.5, (3,), (4, "5")):
        with pytest.raises(ValueError, match="wanted pixels a side, or"):
            connect(vit, den, size)
