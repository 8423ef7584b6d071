"""Blur and wavelets against scikit-image, and their gradients, float64."""

import numpy as np
import pytest
import torch
from skimage.filters import gaussian

from fvit.models.filters import Blur, Told, Wavelet

Y, X = np.mgrid[:16, :17]
IMAGE = np.stack([0.5 + 0.4 * np.sin(X / 2 + c) * np.cos(Y / 3) + 0.05 * ((3 * X + 5 * Y + c) % 7 - 3) / 3
                  for c in range(3)])
BY_SKIMAGE = [  # denoise_wavelet(IMAGE, sigma=0.05, channel_axis=0)[0, ::5, ::4], scikit-image 0.26.0, PyWavelets 1.8.0
    [0.50633322, 0.85570898, 0.17427712, 0.41430967, 0.92426657],
    [0.50760972, 0.50094425, 0.47947258, 0.48660299, 0.48359477],
    [0.49366678, 0.21211254, 0.79422347, 0.55521401, 0.08298582],
    [0.50572225, 0.58906272, 0.40966938, 0.50263672, 0.60744735]]


@pytest.mark.parametrize("width", [0.7, 1.0, 3.0])
def test_a_blur_is_that_of_scikit_image(width):
    found = Blur(width)(torch.from_numpy(IMAGE)[None], 0.25)[0]
    np.testing.assert_allclose(found, gaussian(IMAGE, width, channel_axis=0, mode="nearest"), atol=1e-12)


def test_wavelets_are_those_of_scikit_image():
    found = Wavelet()(torch.from_numpy(IMAGE)[None], 0.05)[0].numpy()
    np.testing.assert_allclose(found[0, ::5, ::4], BY_SKIMAGE, atol=1e-7)
    assert np.abs(found - IMAGE).max() > 0.05


@pytest.mark.parametrize("shape", [(64, 64), (33, 64), (16, 8)])
def test_wavelets_are_those_of_scikit_image_at_other_sizes(shape):
    pytest.importorskip("pywt", reason="PyWavelets, which scikit-image's wavelets need, is not installed")
    from skimage.restoration import denoise_wavelet

    image = np.random.default_rng(0).uniform(size=(3, *shape)) * 0.4 + 0.3
    wanted = denoise_wavelet(image, sigma=0.1, channel_axis=0)
    np.testing.assert_allclose(Wavelet()(torch.from_numpy(image)[None], 0.1)[0], wanted, atol=1e-12)


def test_wavelets_keep_what_is_flat_and_take_noise_away():
    flat = torch.full((2, 3, 32, 32), 0.4, dtype=torch.float64)
    torch.testing.assert_close(Wavelet()(flat, 0.1), flat)
    noise = 0.1 * torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert (Wavelet()(flat + noise, 0.1) - flat).std() < 0.03


@pytest.mark.parametrize("den", [Blur(1.0), Wavelet(), Told(Wavelet(), 0.05)], ids=["blur", "wavelet", "told"])
def test_gradients_agree_with_differences(den):
    x = torch.from_numpy(IMAGE[:, :8, :9].copy())[None].requires_grad_()
    assert torch.autograd.gradcheck(lambda v: den(v, 0.05), x, eps=1e-7, atol=1e-5, fast_mode=True)


def test_what_is_told_does_not_hang_on_the_noise():
    x = torch.from_numpy(IMAGE)[None]
    assert torch.equal(Told(Wavelet(), 0.05)(x, 0.3), Wavelet()(x, 0.05))


def test_widths_and_images_that_are_none_are_refused():
    for width in (0, -1, float("nan"), "wide"):
        with pytest.raises(ValueError, match=r"width=.*, wanted a number in \(0, 100\], the std of the blur in pixels"):
            Blur(width)
    with pytest.raises(ValueError, match="NaN or infinite"):
        Blur(1.0)(torch.full((1, 3, 8, 8), float("nan")), 0.1)
