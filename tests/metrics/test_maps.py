"""Measures of two maps: perfect, worst, tied and constant inputs, references by sets and by scipy, values by hand."""

import numpy as np
import pytest
import torch
from scipy import stats

from fvit.metrics.maps import l2_change, rank_correlation, top_k, topk_overlap


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
    assert l2_change(a, b).tolist() == [5.0, 0.0]
    assert l2_change(a.numpy(), b.numpy()).tolist() == [5.0, 0.0]
    assert l2_change(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])).item() == pytest.approx(2**0.5)


@pytest.mark.parametrize("measure", [rank_correlation, l2_change])
def test_measures_of_two_maps_refuse(measure):
    with pytest.raises(ValueError, match=r"maps of shapes \(2, 4\) and \(2, 5\), wanted one shape"):
        measure(torch.ones(2, 4), torch.ones(2, 5))
    with pytest.raises(ValueError, match="maps hold NaN"):
        measure(torch.ones(2, 4), torch.full((2, 4), float("nan")))
