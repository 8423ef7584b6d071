"""Perturbation curves: the reference code's hits, models whose answer is known, a slow reference; areas by hand."""


import numpy as np
import pytest
import torch
from oracles import golden
from oracles.maps import images, tiny_vit

from fvit import curve_auc, perturbation_curve
from fvit.models.vit import ViT

pytestmark = pytest.mark.filterwarnings("error")
KINDS = ("positive", "negative")
ZERO = torch.tensor([0])


@pytest.fixture(scope="module", name="golden")
def golden_hits():
    tensors, settings = golden.explanations()
    return ViT(golden.backbone().float(), (0.5,) * 3, (0.5,) * 3), tensors, settings["metric_values"]


@pytest.mark.parametrize("kind", KINDS)
def test_hits_of_the_reference_code(golden, kind):
    vit, tensors, values = golden
    hits = perturbation_curve(vit, tensors["pert/images01"], tensors["pert/target"], tensors["pert/vis"][:, 0], kind)
    short = kind[:3]
    assert torch.equal(hits[:, 1:10], tensors[f"pert/{short}/perturbations_hits"].T)
    assert torch.equal(hits[:, 0], tensors[f"pert/{short}/model_hits"])
    stated = values[f"pert_{short}"]
    assert curve_auc(hits, "mean_height").mean().item() == pytest.approx(stated["auc_refvit_trapz_unit_over_8"])


def white(n=1, height=4, width=5):
    return torch.ones(n, 3, height, width)


def pixels_left(x):
    """Logits by which class c is right while exactly c pixels of a white image are left: shares are read off."""
    left = x.mean(1).flatten(1).sum(1).round().long()
    return torch.nn.functional.one_hot(left, x[0, 0].numel() + 1).double()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("height, width", [(4, 5), (7, 3), (32, 32)])
def test_each_step_removes_its_share_of_pixels(kind, height, width):
    n, seen = height * width, []
    perturbation_curve(lambda x: seen.append(pixels_left(x)) or seen[-1], white(1, height, width), ZERO,
                       torch.rand(1, height, width), kind)
    assert [n - logits.argmax().item() for logits in seen] == [n * tenths // 10 for tenths in range(11)]


def object_visible(x):
    """Class 1 while more than half of the light of the object, the left half, is there."""
    light = x[..., : x.shape[-1] // 2].mean((1, 2, 3))
    return torch.stack([torch.full_like(light, 0.5), light], 1)


def test_a_map_that_knows_the_object_against_one_that_does_not():
    x, y = white(1, 10, 10), torch.tensor([1])
    knows = torch.zeros(1, 10, 10)
    knows[..., :5] = 1  # half of the object is gone at 25 %
    assert perturbation_curve(object_visible, x, y, knows, "positive").tolist() == [[1.0] * 3 + [0.0] * 8]
    assert perturbation_curve(object_visible, x, y, knows, "negative").tolist() == [[1.0] * 8 + [0.0] * 3]  # at 75 %
    assert perturbation_curve(object_visible, x, y, -knows, "positive").tolist() == [[1.0] * 8 + [0.0] * 3]
    coarse = torch.tensor([[[1.0, 0.0]]])
    assert perturbation_curve(object_visible, x, y, coarse).tolist() == [[1.0] * 3 + [0.0] * 8]


@pytest.mark.parametrize("kind", KINDS)
def test_ties_break_by_the_lowest_index(kind):
    seen = []
    perturbation_curve(lambda x: seen.append(x.clone()) or pixels_left(x), white(), ZERO, torch.zeros(1, 4, 5), kind)
    for tenths, x in enumerate(seen):
        assert torch.equal(x, (torch.arange(20) >= 2 * tenths).float().view(1, 1, 4, 5).expand(1, 3, 4, 5))


@pytest.mark.parametrize("kind", KINDS)
def test_against_a_slow_reference(kind):
    vit, x = tiny_vit(torch.float64), images(4)
    y = vit(x).argmax(1)
    maps = torch.randint(0, 40, (4, 32, 32), generator=torch.Generator().manual_seed(2)) / 7  # many ties
    expected = np.zeros((4, 11))
    for i in range(4):
        values = (-maps[i] if kind == "positive" else maps[i]).flatten().tolist()
        order = sorted(range(1024), key=lambda p, values=values: (values[p], p))
        for tenths in range(11):
            image = x[i].clone().flatten(1)
            image[:, order[: int(1024 * tenths / 10)]] = 0
            expected[i, tenths] = vit(image.view(1, 3, 32, 32)).argmax().item() == y[i]
    before = x.clone()
    got = perturbation_curve(vit, x, y, maps, kind)
    np.testing.assert_array_equal(got, expected)
    assert 0 < expected.mean() < 1 and got.dtype == torch.float64
    assert torch.equal(x, before)
    assert torch.equal(perturbation_curve(vit, x, y, maps, kind, batch_size=2), got)
    assert torch.equal(perturbation_curve(vit, x, y, maps.numpy(), kind), got)
    other = "negative" if kind == "positive" else "positive"
    assert torch.equal(perturbation_curve(vit, x, y, -maps, other), got)


def test_areas_by_hand():
    hits = np.array([[1] * 3 + [0] * 8, [1] * 11, [0] * 11, [1] + [0] * 9 + [1]], dtype=float)
    np.testing.assert_allclose(curve_auc(hits, "mean_height"), [1.5 / 8, 1, 0, 0])
    np.testing.assert_allclose(curve_auc(hits, "unit_interval"), [0.25, 1, 0, 0.1])
    line = np.linspace(1, 0, 11)
    square = line**2
    for convention, points in (("mean_height", slice(1, 10)), ("unit_interval", slice(None))):
        assert curve_auc(line, convention) == pytest.approx(0.5)
        expected = np.trapezoid(square[points], dx=1) / (len(square[points]) - 1)
        assert curve_auc(square, convention) == pytest.approx(expected)


def test_the_area_of_the_mean_is_the_mean_of_the_areas_and_keeps_its_kind():
    hits = torch.randint(0, 2, (50, 11), generator=torch.Generator().manual_seed(3))
    for convention in ("mean_height", "unit_interval"):
        areas = curve_auc(hits, convention)
        assert areas.shape == (50,) and areas.dtype == torch.float64
        torch.testing.assert_close(curve_auc(hits.double().mean(0), convention), areas.mean())
        assert isinstance(curve_auc(hits.numpy(), convention), np.ndarray)
        assert torch.equal(curve_auc(hits.bool(), convention), areas)


@pytest.mark.parametrize("changes, message", [
    ({"kind": "both"}, "unknown kind of perturbation 'both', known: positive, negative"),
    ({"y": torch.tensor([0, 1])}, r"y is torch.int64 of shape \(2,\), wanted class indices \(B,\) = \(1,\)"),
    ({"y": torch.tensor([-1])}, r"y has classes -1..-1, wanted 0 or more"),
    ({"y": torch.tensor([2])}, r"a Tensor of shape \(1, 2\) for 1 images with classes up to 2; wanted logits \(B, C\)"),
    ({"vit": lambda x: x.mean((1, 2, 3))}, r"a Tensor of shape \(1,\) for 1 images"),
    ({"map": torch.ones(2, 4, 4)}, "1 images and 2 maps"),
    ({"map": torch.ones(1, 5, 4)}, r"map is torch.float32 of shape \(1, 5, 4\)"),
    ({"map": torch.full((1, 4, 4), torch.nan)}, "map has NaN or infinite values"),
])  # fmt: skip
def test_perturbation_curve_refuses(changes, message):
    arguments = {"vit": object_visible, "x": white(1, 4, 4), "y": ZERO, "map": torch.ones(1, 4, 4)}
    with pytest.raises(ValueError, match=message):
        perturbation_curve(**{**arguments, **changes})


@pytest.mark.parametrize("hits, convention, message", [
    (torch.ones(3, 9), "mean_height", r"hits have shape \(3, 9\), wanted \(B, 11\) or \(11,\)"),
    (100 * torch.ones(3, 11), "unit_interval", r"NaN or outside \[0, 1\].*divide per cent"),
    (torch.full((11,), torch.nan), "unit_interval", r"NaN or outside \[0, 1\]"),
    (torch.ones(11), "auc", "unknown convention 'auc', known: mean_height, unit_interval"),
])  # fmt: skip
def test_curve_auc_refuses(hits, convention, message):
    with pytest.raises(ValueError, match=message):
        curve_auc(hits, convention)
