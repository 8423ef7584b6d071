"""The embedded data set: reproducible, disjoint by split, legible, and with masks that are exactly the digits."""

from collections import Counter

import numpy as np
import pytest
import torch

from fvit import load_images
from fvit.data import scenes
from fvit.data.photographs import names
from fvit.data.scenes import DIGITS, LUMA, MIN_CONTRAST, SIZE, SPLITS, _photograph_of, digits, scene, scene_batch


def test_a_scene_depends_on_split_seed_and_index_only():
    batch = load_images("scenes", "val", 6, start=2)
    for i in (3, 0, 5):  # another order, one at a time
        alone = load_images("scenes", "val", 1, start=2 + i)
        assert torch.equal(alone.x[0], batch.x[i]) and alone.ids == [batch.ids[i]]
    other = [load_images("scenes", split, 6, seed=seed, start=2).x for split, seed in (("test", 0), ("val", 1))]
    assert not any(torch.equal(batch.x, x) for x in other)


def test_shapes_ranges_and_labels():
    single, pairs = load_images("scenes", "test", 12), load_images("scenes", "pairs", 12)
    assert single.x.shape == pairs.x.shape == (12, 3, SIZE, SIZE) and single.x.dtype == torch.float32
    assert 0 <= single.x.min() and single.x.max() <= 1
    assert single.y.shape == (12,) and pairs.y.shape == (12, 2) and (pairs.y[:, 0] != pairs.y[:, 1]).all()
    assert single.mask.shape == (12, SIZE, SIZE) and pairs.mask.shape == (12, 2, SIZE, SIZE)
    assert single.mask.dtype == torch.int8 and set(single.mask.unique().tolist()) == {0, 1}
    assert len(set(single.ids)) == 12 and set(single.groups) <= set(names("test"))


def test_splits_share_no_digit():
    covered = [i for part in DIGITS.values() for i in range(*part.indices(1797))]
    assert sorted(covered) == list(range(1797))
    kept = sum(len(digits(s)[1]) for s in DIGITS)
    assert 0.98 * 1797 < kept < 1797  # ambiguous scans are left out, and they are few
    assert all(set(digits(s)[1]) == set(range(10)) for s in DIGITS)


@pytest.mark.parametrize("split", ["test", "pairs", "val", "train"])
def test_each_round_of_scenes_shows_every_photograph_once_in_an_order_of_its_own(split):
    known = names(SPLITS[split][0])
    shown = [_photograph_of(split, 0, i) for i in range(3 * len(known))]
    rounds = [shown[at : at + len(known)] for at in range(0, len(shown), len(known))]
    assert all(sorted(r) == sorted(known) for r in rounds) and rounds[0] != rounds[1] != rounds[2]
    assert shown[: len(known)] != [_photograph_of(split, 1, i) for i in range(len(known))]


def test_two_hundred_test_scenes_stand_on_forty_photographs_of_nearly_equal_weight():
    shown = Counter(_photograph_of("test", 0, i) for i in range(200))
    assert len(shown) >= 40 and max(shown.values()) - min(shown.values()) <= 1
    batch = load_images("scenes", "test", 3, start=40)  # from one round into the next
    assert batch.groups == [_photograph_of("test", 0, i) for i in (40, 41, 42)] == [scene("test", 0, i)[3] for i in (
        40, 41, 42)]


def _without_digit(split: str, index: int, monkeypatch) -> np.ndarray:
    with monkeypatch.context() as m:
        m.setattr("fvit.data.scenes._paint_digit", lambda g, pixels, alpha: pixels)
        return scene(split, 0, index)[0]


@pytest.mark.parametrize("index", range(4))
def test_mask_is_exactly_where_the_digit_was_painted(index, monkeypatch):
    pixels, _, masks, _ = scene("test", 0, index)
    bare = _without_digit("test", index, monkeypatch)
    alphas = []
    with monkeypatch.context() as m:
        m.setattr("fvit.data.scenes._paint_digit", lambda g, pixels, alpha: alphas.append(alpha) or pixels)
        scene("test", 0, index)
    assert np.array_equal(masks[0], alphas[0] > 0.5)
    changed = (pixels != bare).any(-1)
    assert changed[masks[0]].mean() > 0.99  # the digit's own pixels were painted


def test_pair_masks_are_apart_and_left_comes_first():
    for i in range(20):
        masks = scene("pairs", 0, i)[2]
        assert not (masks[0] & masks[1]).any()
        assert np.nonzero(masks[0])[1].mean() < np.nonzero(masks[1])[1].mean()


def test_digits_keep_off_the_border_and_have_a_sensible_size():
    share = []
    for i in range(60):
        mask = scene("test", 0, i)[2][0]
        share.append(mask.mean())
        assert not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
    assert 0.02 < min(share) and max(share) < 0.35


def test_contrast_holds_where_the_digit_lies():
    """A tenth of the rim may be weak, and the last resort (halo .9) may miss the mark: hardly ever."""
    from scipy import ndimage

    weak = 0
    for i in range(60):
        pixels, _, (mask,), _ = scene("test", 0, i)
        light = pixels @ LUMA / 255
        rim = ndimage.binary_dilation(mask, iterations=3) & ~ndimage.binary_dilation(mask)
        core = ndimage.binary_erosion(mask)
        weak += np.quantile(np.abs(light[rim] - np.median(light[core])), 0.25) < MIN_CONTRAST / 2
    assert weak <= 1


def test_colour_carries_no_class_information():
    """A nearest-class-mean rule on the digit's mean colour does no better than chance (10 %) within four errors."""
    x, y, masks, _ = scene_batch("test", 3, range(400))
    weight = masks[:, :1].float()
    colour = (x.float() * weight).sum((2, 3)) / weight.sum((2, 3))  # (B, 3)
    y, half = y[:, 0], 200
    means = torch.stack([colour[:half][y[:half] == c].mean(0) for c in range(10)])
    hits = torch.cdist(colour[half:], means).argmin(1) == y[half:]
    assert hits.float().mean() < 0.1 + 4 * (0.1 * 0.9 / half) ** 0.5


@pytest.mark.parametrize(("arguments", "words"), [
    (dict(split="tset"), "tset.*test.*pairs"), (dict(source="scene"), "scene.*scenes"),
    (dict(n=0), "n=0, wanted an integer >= 1"), (dict(start=-1), "start=-1"),
])
def test_bad_requests_say_what_is_known(arguments, words):
    with pytest.raises(ValueError, match=words):
        load_images(**({"source": "scenes", "split": "test", "n": 2} | arguments))


def test_an_id_names_its_photograph_without_an_image_being_made():
    for split in ("test", "pairs", "val"):
        few = load_images("scenes", split, 3, start=41, seed=2)
        assert [scenes.photograph_of(i) for i in few.ids] == few.groups
    with pytest.raises(ValueError, match="unknown split"):
        scenes.photograph_of("holiday-0-1")
