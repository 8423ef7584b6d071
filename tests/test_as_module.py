"""A DDS as other code takes it: an nn.Module, a pair of map and prediction, a classifier with gradients."""

import copy

import pytest
import torch
from oracles.maps import dds_loop, images, tiny_denoiser, tiny_vit
from torch import nn
from torch.nn.functional import interpolate

from fvit.attacks import prediction_loss
from fvit.smoothing import DDS

IDS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def vit():
    return tiny_vit()


@pytest.fixture(scope="module")
def x():
    return images(3, torch.float32)


@pytest.fixture(scope="module")
def exact():
    """A small DDS in float64 and three images."""
    return DDS(tiny_vit(torch.float64), tiny_denoiser(torch.float64), 0.25, n_samples=3, batch_size=4), images(3)


class Dropping(nn.Module):
    """A denoiser as modules come: in training mode, where it would draw at each call."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x_noisy, sigma):
        return self.drop(x_noisy)


# a module ------------------------------------------------------------------------------------------------------------
def test_its_repr_says_what_it_is(vit):
    assert repr(DDS(vit, None, 0.1, n_samples=3)) == (
        "DDS(vit=tiny, den=None, sigma=0.1, n_samples=3, seed=0, batch_size=32, aggregate=mean, precision=None)")
    said = repr(DDS(vit, tiny_denoiser(), aggregate="votes", precision="bfloat16"))
    assert "den=Denoiser" in said and "aggregate=votes" in said and "precision=bfloat16" in said


@pytest.mark.parametrize("den", [None, tiny_denoiser(), lambda x, sigma: x])
def test_its_weights_are_those_of_its_networks(vit, den):
    dds = DDS(vit, den)
    wanted = {f"vit.{name}" for name in vit.state_dict()}
    wanted |= {f"den.{name}" for name in den.state_dict()} if isinstance(den, nn.Module) else set()
    assert set(dds.state_dict()) == wanted
    assert not any(p.requires_grad for p in dds.parameters())
    dds.load_state_dict(dds.state_dict())


def test_moved_to_float64_it_is_the_dds_of_float64(exact):
    dds, x = exact
    moved = DDS(tiny_vit(), tiny_denoiser(), 0.25, n_samples=3).to(torch.float64)(x, IDS)
    torch.testing.assert_close(moved.heatmap, dds(x, IDS).heatmap, rtol=1e-9, atol=1e-12)


def test_a_copy_is_independent_and_says_the_same(vit, x):
    dds = DDS(vit, tiny_denoiser(), 0.25, n_samples=2)
    other = copy.deepcopy(dds)
    torch.testing.assert_close(other(x, IDS).heatmap, dds(x, IDS).heatmap)
    before = dds(x, IDS).probs
    with torch.no_grad():
        other.vit.backbone.head.bias += 9 * torch.arange(5)
    assert torch.equal(dds(x, IDS).probs, before) and not torch.allclose(other(x, IDS).probs, before)


def test_training_mode_around_it_changes_nothing(vit, x):
    want = DDS(vit, lambda x_noisy, sigma: x_noisy, 0.25, n_samples=2)(x, IDS).probs
    parent = nn.Sequential(DDS(vit, Dropping(), 0.25, n_samples=2))
    torch.testing.assert_close(parent[0](x, IDS).probs, want)
    parent.train()
    assert parent.training and not any(module.training for module in parent[0].modules())
    torch.testing.assert_close(parent[0](x, IDS).probs, want)


def test_a_network_set_to_train_on_its_own_is_refused(vit, x):
    dds = DDS(vit, Dropping(), 0.25, n_samples=2)
    clf = dds.as_classifier()
    dds.den.train()
    for call in (dds, dds.maps, clf):
        with pytest.raises(ValueError, match="in training mode, which may change the answer"):
            call(x)
    dds.eval()(x)


def test_hooks_see_what_it_gives(vit, x):
    dds, seen = DDS(vit, None, 0.25, n_samples=2), []
    dds.register_forward_hook(lambda module, args, out: seen.append(out))
    assert dds(x, IDS) is seen[0]


# what it gives -------------------------------------------------------------------------------------------------------
def test_map_and_prediction_unpack(vit, x):
    out = DDS(vit, None, 0.25, n_samples=2)(x, IDS)
    heat, probs = out
    assert heat is out.heatmap and probs is out.probs


def test_the_map_at_pixels_is_interpolated(vit, x):
    out = DDS(vit, None, 0.25, n_samples=2)(x, IDS)
    want = interpolate(out.heatmap[:, None], (32, 48), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(out.heatmap_at((32, 48)), want)
    torch.testing.assert_close(out.heatmap_at(64).sum((1, 2)), torch.full((3,), 256.0))  # (64 / 4)^2 times 1
    assert torch.equal(out.heatmap_at((4, 4)), out.heatmap)
    for size in (3, (32, 0), "32"):
        with pytest.raises(ValueError, match=r"wanted real \(B, h, w\)|wanted pixels a side"):
            out.heatmap_at(size)


# a classifier --------------------------------------------------------------------------------------------------------
def test_fixed_draws_are_one_set_for_all_images_and_calls(exact):
    dds, x = exact
    clf = dds.as_classifier(fresh=False)
    _, probs = dds_loop(dds.vit, dds.den, x, ["shared"] * 3, 0.25, range(3), purpose="eot")
    torch.testing.assert_close(clf(x), probs.mean(1).log(), rtol=1e-9, atol=1e-12)
    for pick in ([2, 0], [1], [0, 1, 2]):
        torch.testing.assert_close(clf(x[pick]), probs.mean(1).log()[pick], rtol=1e-9, atol=1e-12)
    assert probs.std(1).max() > 1e-3  # the draws differ
    torch.testing.assert_close(clf(x).exp().sum(1), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("fresh", [True, False])
def test_the_gradient_is_the_slope(exact, fresh):
    dds, x = exact
    clf, x = dds.as_classifier(2, fresh), x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(clf(x)[:, 1].sum(), x)
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)

    def moved(h):
        clf.calls = 0
        return clf(x.detach() + h * v)[:, 1].sum()

    slope = (moved(1e-5) - moved(-1e-5)) / 2e-5
    assert (grad * v).sum().item() == pytest.approx(slope.item(), rel=1e-6) and abs(slope) > 1e-2


def test_fresh_draws_are_those_of_an_attack_step_by_step(exact):
    dds, x = exact
    y, clf = torch.tensor([0, 3, 1]), dds.as_classifier(n_samples=2)
    loss, seen = prediction_loss(dds, y, n_samples=2), []
    for step in range(3):
        at = x.clone().requires_grad_()
        seen.append(-clf(at).gather(1, y[:, None])[:, 0])
        torch.testing.assert_close(seen[-1], loss(at, step), rtol=1e-12, atol=0)
        (got,), (want,) = (torch.autograd.grad(value.sum(), at) for value in (seen[-1], loss(at, step)))
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(seen[0], seen[1]) and clf.calls == 3
    clf.calls = 0
    torch.testing.assert_close(-clf(x).gather(1, y[:, None])[:, 0], seen[0].detach(), rtol=1e-12, atol=0)
    first = []
    for _ in range(2):
        clf.calls = 0
        first.append(clf(x))
    assert torch.equal(*first)


def test_attacks_and_evaluations_share_no_draw(exact):
    dds, x = exact
    shown = dds(x, ids=["shared", "1", "2"]).probs[0].log()  # of the streams "dds"
    assert not torch.allclose(dds.as_classifier(fresh=False)(x)[0], shown, rtol=1e-3)


def test_a_probability_that_underflows_has_a_finite_logarithm(x):
    vit = tiny_vit()
    with torch.no_grad():
        vit.backbone.head.bias[0] = 1e4
    x = x.clone().requires_grad_()
    logs = DDS(vit, None, 0.1, n_samples=2).as_classifier()(x)
    assert logs.isfinite().all() and logs[0, 1] < -80
    assert torch.autograd.grad(logs[:, 1].sum(), x)[0].isfinite().all()


@pytest.mark.parametrize("change, message", [
    (lambda x: x.numpy(), "x is a ndarray, wanted a tensor"),
    (lambda x: (255 * x).byte(), r"for bytes x.float\(\) / 255"),
    (lambda x: 255 * x, r"looks like \[0, 255\]"), (lambda x: 2 * x - 1, r"looks like \[-1, 1\]"),
    (lambda x: x[0], r"a single image becomes x\[None\]"), (lambda x: x[..., :16], "the model wants"),
    (lambda x: x * float("nan"), "NaN or infinite"), (lambda x: 3, "x is a int"),
])
@pytest.mark.parametrize("fresh", [True, False])
def test_other_images_are_refused_with_their_mend(vit, x, change, message, fresh):
    clf = DDS(vit, None, n_samples=2).as_classifier(fresh=fresh)
    with pytest.raises(ValueError, match=message):
        clf(change(x))
    assert clf.calls == 0


def test_rounding_beyond_the_range_is_taken(vit, x):
    clf = DDS(vit, None, n_samples=2).as_classifier(fresh=False)
    torch.testing.assert_close(clf(x * 0 + 1 + 1e-7), clf(x * 0 + 1))


@pytest.mark.parametrize("arguments", [{"n_samples": 0}, {"n_samples": 1.5}, {"fresh": "no"}])
def test_odd_settings_are_refused(vit, arguments):
    with pytest.raises(ValueError, match=r"n_samples=|fresh="):
        DDS(vit, None).as_classifier(**arguments)
