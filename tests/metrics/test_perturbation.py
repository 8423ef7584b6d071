"""Perturbation curves: the reference code's hits, models whose answer is known, a slow reference; areas by hand."""


import numpy as np
import pytest
import torch
from oracles import golden
from oracles.maps import images, tiny_vit
from skimage.filters import gaussian

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


# fills and squares --------------------------------------------------------------------------------------------------
def filled(x, order, fill, **options):
    """The images that the model sees at 0, 10, ..., 100 %."""
    seen = []
    perturbation_curve(lambda z: seen.append(z.clone()) or z.new_zeros(len(z), 2), x, ZERO.expand(len(x)), order,
                       fill=fill, **options)
    return seen


def test_each_fill_by_its_values():
    x, order = images(2), -torch.arange(1024.0).view(1, 32, 32).expand(2, -1, -1)  # from the top, row by row
    kept = torch.arange(1024).view(32, 32) >= 512
    at_half = {fill: filled(x, order, fill)[5] for fill in ("black", "mean", "blur", "inpaint")}
    for seen in at_half.values():
        assert torch.equal(seen[:, :, kept], x[:, :, kept])  # what is left is left as it was
    gone = {fill: seen[:, :, ~kept] for fill, seen in at_half.items()}
    assert not gone["black"].any()
    torch.testing.assert_close(gone["mean"], x.mean((2, 3))[:, :, None].expand(-1, -1, 512))
    blurred = np.stack([[gaussian(channel, 4, mode="nearest", truncate=3) for channel in image] for image in x.numpy()])
    torch.testing.assert_close(gone["blur"], torch.from_numpy(blurred)[:, :, ~kept], atol=1e-6, rtol=0)
    inverted = filled(x, order, lambda x, removed: (1 - x) * removed)[5]  # a fill of one's own
    torch.testing.assert_close(inverted[:, :, ~kept], 1 - x[:, :, ~kept])


def test_what_is_inpainted_comes_from_what_is_left():
    x, order = images(2), -torch.arange(1024.0).view(1, 32, 32).expand(2, -1, -1)
    seen = filled(x, order, "inpaint")
    other = x.clone()
    other[:, :, :16] = 0.5  # rows that are removed at 50 %: they leave no trace
    torch.testing.assert_close(filled(other, order, "inpaint")[5], seen[5])
    for at in range(1, 10):
        left = torch.arange(1024).view(32, 32) >= int(102.4 * at)
        assert seen[at].amax() <= x[:, :, left].amax() + 1e-12 and seen[at].amin() >= x[:, :, left].amin() - 1e-12
    torch.testing.assert_close(seen[10], x.mean((2, 3), keepdim=True).expand_as(x))  # nothing is left to draw from
    flat = torch.full((1, 3, 32, 32), 0.3, dtype=torch.float64)
    hole = torch.zeros(1, 32, 32)
    hole[:, 10:20, 8:25] = 1
    torch.testing.assert_close(filled(flat, hole, "inpaint")[1], flat)
    ramp = torch.linspace(0, 1, 32, dtype=torch.float64).expand(1, 3, 32, 32)
    off = (filled(ramp, hole, "inpaint")[1] - ramp).abs()[0, 0, 10:16, 8:25]  # what 10 % remove of the hole
    assert off.max() < 0.15 and off.mean() < 0.06  # the ramp goes on, where its mean would be .27 off at the sides


def test_squares_go_whole_and_in_the_order_of_their_means():
    x, order = images(1), torch.zeros(1, 32, 32)
    order[:, 8:16, 24:32] = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) + 1  # four squares of 4 x 4
    order[:, 8:12, 24:28] += 1
    order[:, 20, 20] = 9  # the greatest pixel, of a square whose mean is 9 / 16
    seen = filled(x, order, "black", patch=4)
    gone = [{(r, c) for r, c in np.argwhere((seen[at][0, 0] == 0).numpy() & (x[0, 0] != 0).numpy())} for at in (1, 10)]
    assert len(gone[1]) == 1024 and len(gone[0]) == 6 * 16  # int(64 / 10) squares
    top = {(r, c) for r in range(8, 16) for c in range(24, 32)}
    assert top < gone[0] and {(r, c) for r in range(20, 24) for c in range(20, 24)} < gone[0]
    assert {(r, c) for r in range(4) for c in range(4)} < gone[0]  # the sixth: ties by the lowest index
    one = perturbation_curve(object_visible, white(1, 8, 8), ZERO, torch.rand(1, 8, 8), patch=1)
    assert one.shape == (1, 11)


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
    ({"fill": "grey"}, "unknown fill 'grey', known: black, blur, inpaint, mean"),
    ({"patch": 3}, r"patch=3 does not divide images of \(4, 4\) pixels"),
    ({"patch": 0}, "patch=0, wanted an integer >= 1"),
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
