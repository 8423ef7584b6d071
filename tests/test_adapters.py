"""Maps as Quantus and captum ask for them; with these tools themselves: tests/interop."""

import numpy as np
import pytest
import torch
from oracles.maps import dds_loop, images, tiny_denoiser, tiny_vit
from torch.nn.functional import interpolate

import fvit
from fvit.explanations.passes import explain_with_logits


@pytest.fixture(scope="module")
def vit():
    return tiny_vit()


@pytest.fixture(scope="module")
def x():
    return images(3, torch.float32)


def at_pixels(heat):
    return interpolate(heat[:, None].detach(), (32, 32), mode="bilinear", align_corners=False)  # (B, 1, 32, 32)


def test_quantus_gets_arrays(vit, x):
    found = fvit.as_quantus("vta")(model=vit, inputs=x.numpy(), targets=np.array([4, 0, 2]))
    assert isinstance(found, np.ndarray) and found.shape == (3, 1, 32, 32)
    want = at_pixels(fvit.explain(vit, x, "vta", torch.tensor([4, 0, 2])))
    np.testing.assert_allclose(found, want.numpy(), rtol=1e-5)
    predicted = fvit.as_quantus("vta")(vit, x.numpy())
    np.testing.assert_allclose(predicted, at_pixels(fvit.explain(vit, x, "vta")).numpy(), rtol=1e-5)
    labelled = fvit.as_quantus("vta")(vit, x.double().numpy(), method="my label", device="cpu")  # as Quantus calls
    np.testing.assert_allclose(labelled, predicted, rtol=1e-5)
    assert fvit.as_quantus("vta").__name__ == "vta" and labelled.dtype == np.float32


def test_captum_gets_the_shape_of_the_images(vit, x):
    found = fvit.as_captum(vit, "gradcam").attribute(x, target=2)
    want = at_pixels(fvit.explain(vit, x, "gradcam", 2))
    assert found.shape == x.shape and not found.requires_grad and found.is_contiguous()
    torch.testing.assert_close(found.sum(1, keepdim=True), want)
    assert torch.equal(found[:, 0], found[:, 2])
    (one,) = fvit.as_captum(vit, "gradcam").attribute((x,), [2, 2, 2])
    assert torch.equal(one, found)


def test_options_reach_the_method(vit, x):
    want = at_pixels(fvit.explain(vit, x, "vta", rules="orig", start_layer=0))
    options = {"rules": "orig", "start_layer": 0}
    for made, called in ((options, {}), ({"rules": "vta"}, options)):
        np.testing.assert_allclose(fvit.as_quantus("vta", **made)(vit, x.numpy(), **called), want.numpy(), rtol=1e-5)
        torch.testing.assert_close(fvit.as_captum(vit, "vta", **made).attribute(x, **called).sum(1, True), want)
    signed = fvit.as_captum(vit, "lrp", raw=True).attribute(x)
    torch.testing.assert_close(signed.sum(1), fvit.explain(vit, x, "lrp", raw=True), rtol=1e-4, atol=1e-6)


def test_a_function_is_a_method_here_too(vit, x):
    def mine(vit, x):
        return x.mean(1)

    want = at_pixels(fvit.explain(vit, x, mine))
    torch.testing.assert_close(fvit.as_captum(vit, mine).attribute(x).sum(1, True), want)
    assert fvit.as_quantus(mine).__name__ == "mine"


def test_behind_a_dds_all_images_meet_the_same_noise():
    vit, den, x = tiny_vit(torch.float64), tiny_denoiser(torch.float64), images(2)
    dds = fvit.DDS(vit, den, 0.25, n_samples=3)
    maps, _ = dds_loop(vit, den, x, ["shared"] * 2, 0.25, range(3))
    want = at_pixels(maps.mean(1))
    for model in (dds, dds.as_classifier(fresh=False)):
        found = fvit.as_quantus("raw_attention")(model, x[[1, 0, 1]].numpy(), np.zeros(3, dtype=int))
        np.testing.assert_allclose(found, want[[1, 0, 1]].numpy(), rtol=1e-9)
        torch.testing.assert_close(fvit.as_captum(model, "raw_attention").attribute(x).sum(1, True), want)


def test_perturbed_images_are_taken_and_normalised_ones_are_not(vit, x):
    far, scaled = x - 0.3, 2 * x - 1
    want = at_pixels(explain_with_logits(vit, far, "vta")[0])
    assert far.min() < -0.05
    torch.testing.assert_close(fvit.as_captum(vit, "vta").attribute(far).sum(1, True), want)
    dds = fvit.DDS(vit, None, 0.1, n_samples=2)
    clamped = fvit.as_captum(dds, "vta").attribute(far.clamp(0, 1))
    torch.testing.assert_close(fvit.as_captum(dds, "vta").attribute(far), clamped)
    for bad, message in ((scaled, r"looks like \[-1, 1\]"), (255 * x, r"looks like \[0, 255\]"), (x / 0, "NaN or inf")):
        with pytest.raises(ValueError, match=message):
            fvit.as_captum(vit, "vta").attribute(bad)
        with pytest.raises(ValueError, match=message):
            fvit.as_quantus("vta")(vit, bad.numpy(), None)


def test_explain_names_what_takes_perturbed_images(vit, x):
    with pytest.raises(ValueError, match=r"they leave it a little, .*x.clamp\(0, 1\); fvit.as_captum and as_quantus"):
        fvit.explain(vit, x - 0.22)


@pytest.mark.parametrize("call, message", [
    (lambda vit, x: fvit.as_quantus("vtb"), "unknown method 'vtb'.*did you mean 'vta'"),
    (lambda vit, x: fvit.as_captum(vit, 3), "unknown method 3"),
    (lambda vit, x: fvit.as_quantus("vta", rule="orig")(vit, x.numpy()), "unknown option of vta 'rule'"),
    (lambda vit, x: fvit.as_captum(vit, "vta").attribute(x, baselines=0), "unknown option of vta 'baselines'"),
    (lambda vit, x: fvit.as_captum(vit, "vta").attribute(x, 9), r"classes 9..9, wanted 0..4"),
    (lambda vit, x: fvit.as_captum(vit.backbone, "vta").attribute(x), "wanted a ViT of fvit.load_vit"),
    (lambda vit, x: fvit.as_quantus("vta")(vit, x[0].numpy()), r"a single image becomes inputs\[None\]"),
])
def test_what_does_not_fit_is_refused(vit, x, call, message):
    with pytest.raises(ValueError, match=message):
        call(vit, x)
