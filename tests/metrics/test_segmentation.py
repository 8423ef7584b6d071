"""Segmentation scores: the reference code's numbers, a slow reference, perfect, worst, tied and empty inputs."""


import numpy as np
import pandas as pd
import pytest
import torch
from oracles import golden

from fvit import segmentation_scores
from fvit.metrics.maps import to_pixels

pytestmark = pytest.mark.filterwarnings("error")
HALF = torch.tensor([[[1, 1], [0, 0]]], dtype=torch.int8)
CASES = pytest.mark.parametrize("case, labels", [("noignore", "labels"), ("ignore", "labels_ignore")])
TIES = 0.01  # of average precision: kernels round an interpolation as they like, which breaks the ties of its corners


@pytest.fixture(scope="module", name="golden")
def golden_scores():
    tensors, settings = golden.explanations()
    return tensors | {"values": settings["metric_values"]}


@CASES
def test_numbers_of_the_reference_code(golden, case, labels):
    scores = segmentation_scores(golden["seg/token_maps"][:, 0], golden[f"seg/{labels}"])
    theirs, pooled, summary = golden[f"seg/per_image_{case}"].numpy(), golden["values"][case], scores.summary()
    np.testing.assert_array_equal(scores.iloc[:, :6], theirs[:, :6])
    np.testing.assert_allclose(scores.average_precision, theirs[:, 6], rtol=0, atol=TIES)
    assert summary.pixel_accuracy == pytest.approx(pooled["pixAcc"], abs=1e-12)
    assert summary.mIoU == pytest.approx(pooled["mIoU"], abs=1e-12)
    assert summary.mAP == pytest.approx(pooled["mAP"], abs=TIES)
    if case == "noignore":
        assert summary.mF1 == pytest.approx(pooled["F1_per_image_mean_correct"], abs=1e-12)


@CASES
def test_their_pixel_maps_give_the_same(golden, case, labels):
    maps = torch.stack([golden[f"seg/norm_map_{i}"] for i in range(5)])
    scores = segmentation_scores(maps, golden[f"seg/{labels}"])
    np.testing.assert_allclose(scores.average_precision, golden[f"seg/per_image_{case}"][:, 6], atol=1e-6)
    assert scores.summary().mAP == pytest.approx(golden["values"][case]["mAP"], abs=1e-6)


def slow_scores(values, mask):
    """A row by loops over pixels and thresholds."""
    low, high = values.min(), values.max()
    scaled = [(v - low) / (high - low) for v in values.ravel()]
    mean = sum(scaled) / len(scaled)
    pixels = [(s, s > mean, m) for s, m in zip(scaled, mask.ravel(), strict=True) if m >= 0]
    inter = [sum(found == m == c for _, found, m in pixels) for c in (0, 1)]
    union = [sum(found == c or m == c for _, found, m in pixels) for c in (0, 1)]
    items = [(1 - s, m == 0) for s, _, m in pixels] + [(s, m == 1) for s, _, m in pixels]
    precision, before = 0, 0
    for threshold in sorted({s for s, _ in items}, reverse=True):
        taken = [truth for s, truth in items if s >= threshold]
        precision += (sum(taken) - before) / len(pixels) * sum(taken) / len(taken)
        before = sum(taken)
    right, wrong = inter[1], union[1] - inter[1]
    return sum(inter), len(pixels), *inter, *union, precision, 2 * right / (2 * right + wrong)


def test_against_the_slow_reference_with_ties_and_ignored_pixels():
    rng = np.random.default_rng(0)
    maps = rng.integers(-8, 9, (30, 6, 5)) / 16  # of few exact values: many ties
    maps[:, 0, :2] = -0.5, 0.5
    masks = rng.choice([-1, 0, 1], (30, 6, 5), p=[0.2, 0.5, 0.3]).astype(np.int8)
    scores = segmentation_scores(maps, masks)
    np.testing.assert_allclose(scores, [slow_scores(*pair) for pair in zip(maps, masks, strict=True)], atol=1e-12)


def test_perfect_and_worst():
    perfect, worst = (segmentation_scores(m, HALF) for m in (HALF.float(), -HALF.float()))
    assert perfect.iloc[0].tolist() == [4, 4, 2, 2, 2, 2, 1.0, 1.0]
    assert perfect.summary().to_dict() == {"pixel_accuracy": 1, "mIoU": 1, "mAP": 1, "mF1": 1, "n": 1}
    assert worst.iloc[0].tolist() == [0, 4, 0, 0, 4, 4, 0.5, 0.0]  # 1/2: the right half of the items comes last
    assert worst.summary().to_dict() == {"pixel_accuracy": 0, "mIoU": 0, "mAP": 0.5, "mF1": 0, "n": 1}


def test_a_perfect_map_of_half_the_rows_has_f1_one():  # docs/reference-code.md, fault 3: 1/2
    mask = torch.zeros(1, 32, 32, dtype=torch.int8)
    mask[:, :16] = 1
    assert segmentation_scores(mask, mask).f1.item() == 1


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -7.3, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_map_is_background_and_ties(value, dtype):
    mask = torch.zeros(1, 32, 32, dtype=torch.int8)
    mask[:, :8] = 1
    for shape in ((1, 7, 7), (1, 32, 32)):  # interpolation alone would leave specks of rounding
        row = segmentation_scores(torch.full(shape, value, dtype=dtype), mask).iloc[0]
        assert row.tolist() == [768, 1024, 768, 0, 1024, 256, 0.5, 0.0]


def test_empty_full_and_ignored_masks():
    corner = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    empty, full = torch.zeros_like(HALF), torch.ones_like(HALF)
    assert segmentation_scores(corner, empty).iloc[0].tolist()[:6] == [3, 4, 3, 0, 4, 1]
    assert segmentation_scores(corner, full).iloc[0].tolist()[:6] == [1, 4, 0, 1, 3, 4]
    assert np.isnan(segmentation_scores(0 * corner, empty).f1.item())  # nothing there, nothing found
    assert segmentation_scores(0 * corner, empty).summary().mIoU == 0.5  # the class that does not occur counts 0

    nothing = segmentation_scores(corner, -full)
    assert nothing.iloc[0].tolist()[:6] == [0] * 6 and nothing.iloc[0, 6:].isna().all()
    assert nothing.summary()[:-1].isna().all() and nothing.summary().n == 1
    both = segmentation_scores(torch.cat([corner, HALF.float()]), torch.cat([-full, HALF])).summary()
    assert both.to_dict() == {"pixel_accuracy": 1, "mIoU": 1, "mAP": 1, "mF1": 1, "n": 2}


def test_an_ignored_pixel_counts_in_the_mean_only():
    mask = torch.tensor([[[1, 0, -1]]], dtype=torch.int8)
    assert segmentation_scores([[[1.0, 0.0, 0.0]]], mask).f1.item() == 1
    assert segmentation_scores([[[1.0, 0.0, 9.0]]], mask).f1.item() == 0  # mean 10/3: nothing labelled is above it


def test_scale_shift_batch_and_type_do_not_matter():
    g = torch.Generator().manual_seed(1)
    maps, masks = torch.rand(4, 4, 4, generator=g), torch.randint(-1, 2, (4, 16, 16), generator=g)
    scores = segmentation_scores(maps, masks.to(torch.int8))
    pd.testing.assert_frame_equal(segmentation_scores(8 * maps, masks), scores)
    pd.testing.assert_frame_equal(segmentation_scores(maps.numpy(), masks.numpy()), scores)
    one_by_one = [segmentation_scores(m[None], k[None]) for m, k in zip(maps, masks, strict=True)]
    pd.testing.assert_frame_equal(pd.concat(one_by_one, ignore_index=True), scores)
    assert segmentation_scores(maps.double() - 5, masks).iloc[:, :6].equals(scores.iloc[:, :6])
    integers = torch.randint(-3, 4, (2, 4, 4), generator=g)
    pd.testing.assert_frame_equal(segmentation_scores(integers, masks[:2]),
                                  segmentation_scores(integers.double(), masks[:2]))


def test_pooled_over_a_subset_and_pooled_is_not_the_mean():
    maps = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]])
    masks = torch.tensor([[[1, -1], [-1, -1]], [[1, 1], [1, 0]]], dtype=torch.int8)
    scores = segmentation_scores(maps, masks)
    assert scores.summary().pixel_accuracy == 3 / 5  # and not (1/1 + 2/4) / 2
    assert scores.summary().mIoU == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert scores[scores.labelled > 1].summary().pixel_accuracy == 2 / 4
    assert pd.concat([scores.head(1), scores.tail(1)]).summary().equals(scores.summary())


def test_bilinear_interpolation_by_hand():
    got = to_pixels([[[0.0, 1.0]]], (2, 4))
    torch.testing.assert_close(got, torch.tensor([[[0.0, 0.25, 0.75, 1.0]] * 2]), check_dtype=False)
    assert to_pixels(torch.ones(1, 2, 2, dtype=torch.float16), (4, 4)).dtype == torch.float32
    assert to_pixels(torch.ones(1, 2, 2, dtype=torch.float64), (4, 4)).dtype == torch.float64


@pytest.mark.parametrize("map, mask, message", [
    (torch.ones(1, 2, 2), torch.ones(1, 2, 2, 2), r"mask has shape \(1, 2, 2, 2\), wanted \(B, H, W\).*mask\[:, 0\]"),
    (torch.ones(1, 2, 2), torch.ones(2, 2), r"mask has shape \(2, 2\), wanted \(B, H, W\), one mask an image$"),
    (torch.ones(1, 2, 2), torch.full((1, 2, 2), 255), "mask has the value 255, wanted 1 object, 0 background"),
    (torch.ones(1, 2, 2), torch.full((1, 2, 2), torch.nan), "mask has the value nan"),
    (torch.ones(2, 2, 2), HALF, "2 maps and 1 masks, wanted one mask for each map"),
    (torch.ones(1, 3, 2), HALF, r"map is torch.float32 of shape \(1, 3, 2\), wanted real .* no more than \(2, 2\)"),
    (torch.ones(2, 2), HALF, r"shape \(2, 2\), wanted real \(B, h, w\)"),
    (torch.ones(1, 2, 2, dtype=torch.complex64), HALF, "map has dtype torch.complex64"),
    (torch.full((1, 2, 2), torch.nan), HALF, "map has NaN or infinite values, wanted finite ones"),
])  # fmt: skip
def test_errors(map, mask, message):
    with pytest.raises(ValueError, match=message):
        segmentation_scores(map, mask)
