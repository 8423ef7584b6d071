"""Other images under old positions are noticed once; the same ones, attacked ones and named ones never."""

import warnings

import pytest
import torch

import fvit
from fvit.base.positions import Positions
from fvit.models.vit_files import load_vit

X = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SAID = "other images than before came without ids.*ids=ids"


def words(*calls) -> list[str]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for call in calls:
            call()
    return [str(w.message) for w in said]


def seen(*batches) -> int:
    positions = Positions()
    return len(words(*[lambda x=x: positions.see(x) for x in batches]))


def test_other_images_are_noticed_once():
    assert seen(X[:2], X[2:]) == 1 and seen(X[:2], X[2:], X[1:3], X[2:]) == 1
    assert seen(X[:1], X) == 0  # of a longer batch the first is the same
    assert seen(X[:1], X, X[[0, 1, 3]]) == 1  # and the later ones are remembered too


def test_the_same_images_and_attacked_ones_are_no_others():
    g = torch.Generator().manual_seed(1)
    linf = (X + torch.empty_like(X).uniform_(-0.25, 0.25, generator=g)).clamp(0, 1)
    z = torch.randn(X.shape, generator=g)
    l2 = (X + 2 * z / z.flatten(1).norm(dim=1).view(-1, 1, 1, 1)).clamp(0, 1)
    patch = X.clone()
    patch[..., :6, :6] = 1
    assert seen(X, X, X.double(), linf, l2, patch, X[:2]) == 0


def test_what_is_remembered_is_a_copy():
    x = X.clone()
    positions = Positions()
    positions.see(x)
    x.copy_(X.flip(0))
    with pytest.warns(UserWarning, match=SAID):
        positions.see(x)


@pytest.fixture(scope="module")
def vit():
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    return load_vit(VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=5),
                    mean=(0.5,) * 3, std=(0.5,) * 3)


def test_a_dds_says_so_in_all_its_calls_and_not_where_images_have_names(vit):
    y = torch.tensor([0, 1])

    def dds(sigma=0.25):
        return fvit.DDS(vit, None, sigma=sigma, n_samples=2)

    def with_names():
        one = dds()
        one(X[:2], ids=["a", "b"]), one(X[2:], ids=["c", "d"]), one.maps(X[1:3], ids=["b", "c"])

    def attacked():
        one = dds()
        for start in (0, 2):  # the losses name positions themselves: streams of attacks are no evaluation
            fvit.pgd(fvit.prediction_loss(one, y, n_samples=1), X[start : start + 2], steps=1)
        clean = one(X[:2])
        loss = fvit.explanation_loss(one, clean.heatmap, 4, n_samples=1)
        one(fvit.pgd(loss, X[:2], steps=2)), one.maps(X[:2])

    def loop(call):
        one = dds()
        return lambda: [call(one, X[start : start + 2]) for start in (0, 2)]

    assert words(with_names, attacked) == []
    still = dds(0.0)
    assert words(loop(lambda one, x: still(x))) == []  # no noise, nothing to share
    for call in (lambda one, x: one(x), lambda one, x: one.maps(x),
                 lambda one, x: fvit.certify(one, x, 4, 0.5, 2, 0.1)):
        assert len(words(loop(call))) == 1
    with pytest.warns(UserWarning, match=SAID):
        loop(lambda one, x: one(x))()


def test_what_the_warning_is_about(vit):
    """Under one position two images meet equal noise; under their names they do not."""
    dds = fvit.DDS(vit, lambda x_noisy, sigma: kept.append(x_noisy) or x_noisy, sigma=0.25, n_samples=1)
    kept = []
    with pytest.warns(UserWarning, match=SAID):
        dds(X[:1]), dds(X[1:2])
    torch.testing.assert_close(kept[0] - X[:1], kept[1] - X[1:2], rtol=0, atol=1e-6)
    dds(X[:1], ids=["a"]), dds(X[1:2], ids=["b"])
    assert (kept[2] - X[:1] - (kept[3] - X[1:2])).abs().max() > 0.1
