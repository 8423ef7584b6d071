"""Attention maps of a formula: those of docs/theory.md, and what noise does to them."""

import numpy as np
import pytest
from oracles import theory as oracle

from fvit.theory import model_maps


@pytest.mark.parametrize("shape", ["logit .3", "logit 2", "zipf", "object"])
def test_profiles_are_those_of_the_theory_from_the_largest_token_to_the_least(shape):
    w = model_maps.attention_profile(shape, 64, 10)
    np.testing.assert_allclose(w, oracle.profile(shape, 64, 10), rtol=1e-12)
    assert (np.diff(w) <= 0).all() and w.sum() == pytest.approx(1)
    if shape == "object":
        assert w[:10].sum() == pytest.approx(0.85, abs=0.01)


def test_a_shape_that_is_unknown_is_refused():
    with pytest.raises(ValueError, match="shape 'flat', wanted 'logit s' with a number s, 'zipf' or 'object'"):
        model_maps.attention_profile("flat", 64, 10)


def test_simulated_maps_hover_around_the_profile_by_the_noise_of_their_logarithm():
    maps = model_maps.simulated_attention("logit 1", 0.5, 0, n=30, k=5, draws=4000)
    np.testing.assert_allclose(maps.sum(1), 1)
    logs = np.log(maps[:, 0] / maps[:, 1])  # the normalisation cancels: a difference of two normals
    w = model_maps.attention_profile("logit 1", 30, 5)
    assert logs.mean() == pytest.approx(np.log(w[0] / w[1]), abs=5 * 0.5 * 2**0.5 / 4000**0.5)
    assert logs.std() == pytest.approx(0.5 * 2**0.5, rel=0.05)
    still = model_maps.simulated_attention("logit 1", 0.0, 0, n=30, k=5, draws=2)
    np.testing.assert_allclose(still, [w, w])
