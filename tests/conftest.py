"""Tiny networks in float64 for all tests; a file that wants others defines its own by the same name."""

import pytest


@pytest.fixture(scope="module")
def vit():
    import torch  # late: most tests load no network
    from oracles.maps import tiny_vit

    return tiny_vit(torch.float64)


@pytest.fixture(scope="module")
def den():
    import torch
    from oracles.maps import tiny_denoiser

    return tiny_denoiser(torch.float64)
