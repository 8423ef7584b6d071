"""Top-k overlap: perfect, worst and tied inputs, and a reference by sets."""

import numpy as np
import pytest
import torch

from fvit.metrics import top_k, topk_overlap


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


def test_against_sets():
    a, b = np.random.default_rng(0).integers(0, 6, (2, 20, 3, 5)).astype(float)  # few values: many ties
    for k in (1, 4, 14):
        reference = []
        for one, two in zip(a.reshape(20, -1), b.reshape(20, -1), strict=True):
            sets = [set(sorted(range(15), key=lambda i, m=m: (-m[i], i))[:k]) for m in (one, two)]
            reference.append(len(sets[0] & sets[1]) / k)
        got = topk_overlap(a, b, k)
        assert isinstance(got, np.ndarray) and got.dtype == np.float64
        np.testing.assert_array_equal(got, reference)
        assert torch.equal(
            topk_overlap(torch.tensor(a), torch.tensor(b), k), torch.tensor(reference, dtype=torch.float64)
        )


@pytest.mark.parametrize(
    ("a", "b", "k", "message"),
    [
        (torch.ones(2, 4), torch.ones(2, 5), 1, r"wanted one shape"),
        (torch.ones(4), torch.ones(4), 1, r"wanted one shape, \(B, h, w\) or \(B, n\)"),
        (torch.ones(2, 4), torch.ones(2, 4), 5, "k=5 with maps of 4 tokens"),
        (torch.ones(2, 4), torch.full((2, 4), float("nan")), 2, "NaN"),
    ],
)
def test_errors(a, b, k, message):
    with pytest.raises(ValueError, match=message):
        topk_overlap(a, b, k)
