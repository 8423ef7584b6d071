"""Measures of two maps: perfect, worst, tied and constant inputs, references by sets and by scipy, values by hand."""

import numpy as np
import pytest
import torch
from oracles.maps import images
from scipy import stats

from fvit.base import rng
from fvit.metrics.maps import l2_change, max_sensitivity, rank_correlation, top_k, topk_overlap


def test_perfect_worst_and_half():
    a = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])
    assert topk_overlap(a, a, k=2).tolist() == [1.0]
    assert topk_overlap(a, -a, k=2).tolist() == [0.0]
    assert topk_overlap(a, torch.tensor([[[4.0, 1.0], [2.0, 3.0]]]), k=2).tolist() == [0.5]
    assert topk_overlap(a, -a, k=4).tolist() == [1.0]


def test_ties_break_by_the_lowest_index():
    assert top_k(torch.zeros(1, 2, 3), k=4).tolist() == [[0, 1, 2, 3]]
    assert top_k(torch.tensor([[1.0, 2.0, 2.0, 1.0, 2.0]]), k=4).tolist() == [[1, 2, 4, 0]]
    assert topk_overlap(torch.zeros(1, 1000), torch.ones(1, 1000), k=25).tolist() == [1.0]


@pytest.mark.parametrize(("a", "b", "k", "message"), [
    (torch.ones(2, 4), torch.ones(2, 5), 1, r"wanted one shape"),
    (torch.ones(4), torch.ones(4), 1, r"wanted one shape, \(B, h, w\) or \(B, n\)"),
    (torch.ones(2, 4), torch.ones(2, 4), 5, "k=5 with maps of 4 tokens"),
    (torch.ones(2, 4), torch.full((2, 4), float("nan")), 2, "NaN"),
])
def test_errors(a, b, k, message):
    with pytest.raises(ValueError, match=message):
        topk_overlap(a, b, k)


def test_rank_correlation_against_scipy():
    a, b = np.random.default_rng(1).integers(0, 9, (2, 12, 4, 5)).astype(float)  # ties
    theirs = [stats.spearmanr(one.ravel(), two.ravel()).statistic for one, two in zip(a, b, strict=True)]
    got = rank_correlation(a, b)
    assert isinstance(got, np.ndarray)
    np.testing.assert_allclose(got, theirs, atol=1e-12)
    np.testing.assert_allclose(rank_correlation(torch.tensor(a), torch.tensor(b)).numpy(), theirs, atol=1e-12)


@pytest.mark.filterwarnings("error")
def test_rank_correlation_sees_order_only_and_none_in_a_constant():
    a = torch.rand(3, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rank_correlation(a, a.exp()), torch.ones(3).double())
    torch.testing.assert_close(rank_correlation(a, -a), -torch.ones(3).double())
    constant = a.clone()
    constant[1] = 0.3
    assert rank_correlation(a, constant).isnan().tolist() == [False, True, False]
    assert rank_correlation(constant[1:2], a[1:2]).isnan().all() and rank_correlation(a[:, :1], a[:, :1]).isnan().all()


def test_l2_change_by_hand():
    a, b = torch.zeros(2, 2, 2), torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert l2_change(a, b).tolist() == pytest.approx([5.0, 0.0])
    assert l2_change(a.numpy(), b.numpy()).tolist() == pytest.approx([5.0, 0.0])
    assert l2_change(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])).item() == pytest.approx(2**0.5)


def test_max_sensitivity_of_a_linear_map_is_that_of_its_worst_draw():
    x, ids = images(3, size=4), ["a", "b", "c"]

    def red(x):
        return x[:, 0]

    got = max_sensitivity(red, x, eps=0.1, n_samples=5, seed=7, ids=ids)
    for i, name in enumerate(ids):
        draws = [rng.numpy_generator(7, "sensitivity", name, d).uniform(-0.1, 0.1, (3, 4, 4))[0] for d in range(5)]
        assert got[i].item() == pytest.approx(max(np.sqrt((d**2).sum()) for d in draws))
    torch.testing.assert_close(max_sensitivity(red, x[[2, 0]], eps=0.1, n_samples=5, seed=7, ids=["c", "a"]),
                               got[[2, 0]])
    assert (max_sensitivity(red, x, eps=0.1, n_samples=20, seed=7, ids=ids) >= got - 1e-12).all()
    assert (got <= 0.1 * 4).all() and max_sensitivity(red, x, eps=0).tolist() == [0, 0, 0]
    assert max_sensitivity(lambda x: torch.ones(len(x), 2, 2), x).tolist() == [0, 0, 0]  # a constant map is stable
    assert max_sensitivity(red, torch.zeros(1, 3, 4, 4), eps=1.0).item() <= 4  # clipped to [0, 1]


@pytest.mark.parametrize("changes, message", [
    ({"eps": -0.1}, "eps=-0.1, wanted a number in "), ({"eps": 8}, "eps=8, wanted a number in "),
    ({"n_samples": 0}, "n_samples=0, wanted an integer >= 1"),
    ({"ids": ["a", "b"]}, "got 2 ids for 1 images"),
])
def test_max_sensitivity_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        max_sensitivity(**{"explainer": lambda x: x[:, 0], "x": torch.ones(1, 3, 4, 4), **changes})


@pytest.mark.parametrize("measure", [rank_correlation, l2_change])
def test_measures_of_two_maps_refuse(measure):
    with pytest.raises(ValueError, match=r"maps of shapes \(2, 4\) and \(2, 5\), wanted one shape"):
        measure(torch.ones(2, 4), torch.ones(2, 5))
    with pytest.raises(ValueError, match="maps hold NaN"):
        measure(torch.ones(2, 4), torch.full((2, 4), float("nan")))
