"""Functions as methods: what they get, what is made of what they give, and their names in METHODS."""

import pytest
import torch
from oracles.maps import images
from torch.nn.functional import avg_pool2d

import fvit
from fvit.base import rng
from fvit.experiments.bench import Bench
from fvit.explanations import methods
from fvit.explanations.methods import METHODS
from fvit.explanations.own import register_method

IDS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def x():
    return images(3)


@pytest.fixture(autouse=True)
def table():
    """METHODS as it was, after each test."""
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


def slopes(vit, x, target):
    """The size of each pixel's gradient, (B, H, W)."""
    x.requires_grad_()
    return torch.autograd.grad(vit(x).gather(1, target[:, None]).sum(), x)[0].abs().sum(1)


def brightness(vit, x):
    return avg_pool2d(x.mean(1, keepdim=True), 8)[:, 0]  # (B, 4, 4)


def slopes_by_hand(vit, x, target):
    """The same on the patches, summing to 1."""
    x = x.clone().requires_grad_()
    with torch.enable_grad():
        (grad,) = torch.autograd.grad(vit(x)[range(len(x)), target].sum(), x)
    heat = grad.abs().sum(1).unflatten(1, (4, 8)).unflatten(3, (4, 8)).sum((2, 4))
    return heat / heat.sum((1, 2), keepdim=True)


# explain -------------------------------------------------------------------------------------------------------------
def test_a_function_of_the_model_and_the_image(vit, x):
    want = slopes_by_hand(vit, x, vit(x).argmax(1))
    for context in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with context():
            torch.testing.assert_close(fvit.explain(vit, x, slopes), want, rtol=1e-9, atol=1e-12)
    target = torch.tensor([4, 0, 2])
    torch.testing.assert_close(fvit.explain(vit, x, slopes, target), slopes_by_hand(vit, x, target), rtol=1e-9, atol=0)
    assert fvit.explain(vit, x, slopes, raw=True).shape == (3, 32, 32)
    fvit.explain(vit, x, lambda vit, x: slopes(vit, x, torch.zeros(3, dtype=torch.long)))
    assert not x.requires_grad, "the caller's images are the caller's"


def test_negative_values_are_clamped_and_the_sum_is_one(vit, x):
    values = torch.tensor([-1.0, 3, 1, *[0] * 13]).expand(3, 16).unflatten(1, (4, 4))
    heat = fvit.explain(vit, x, lambda vit, x: values)
    assert heat[0].flatten()[:4].tolist() == [0, 0.75, 0.25, 0]
    assert torch.equal(fvit.explain(vit, x, lambda vit, x: values, raw=True), values)
    assert torch.equal(fvit.explain(vit, x, lambda vit, x: values.numpy().astype("int64")), heat)


def test_a_map_without_a_class_stays_differentiable(vit, x):
    at = x.clone().requires_grad_()
    heat = fvit.explain(vit, at, brightness)
    want = brightness(vit, at) / brightness(vit, at).sum((1, 2), keepdim=True)
    torch.testing.assert_close(heat, want)
    got, expected = (torch.autograd.grad(maps[:, 0, 0].sum(), at)[0] for maps in (heat, want))
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-15)
    register_method("brightness", brightness, differentiable=True)
    dark = fvit.pgd(fvit.explanation_loss(vit, heat.detach(), 1, method="brightness"), x, 0.1, steps=2, start="clean")
    top = heat.flatten(1).argmax(1)
    assert (fvit.explain(vit, dark, brightness).flatten(1)[range(3), top] < heat.flatten(1)[range(3), top]).all()


def test_a_function_of_the_record_sees_the_attention(vit, x):
    def mine(record, target):
        return record.read(record.attention[-1].mean(1))

    torch.testing.assert_close(fvit.explain(vit, x, mine), fvit.explain(vit, x, "raw_attention"), rtol=1e-9, atol=0)


def test_a_function_of_the_table_is_its_row(vit, x):
    assert torch.equal(fvit.explain(vit, x, methods.vta), fvit.explain(vit, x, "vta"))
    with pytest.raises(ValueError, match="start_layer=9 with 3 blocks"):
        fvit.explain(vit, x, methods.vta, start_layer=9)


class Callable:
    def __call__(self, vit, x, target):
        return slopes(vit, x, target)


@pytest.mark.parametrize("function", [
    lambda model, pictures, classes: slopes(model, pictures, classes), lambda *all: slopes(*all), Callable(),
    lambda vit, x, *, target: slopes(vit, x, target), lambda vit, x, scale=2, target=None: slopes(vit, x, target),
    lambda vit, x, target, **more: slopes(vit, x, target),
])
def test_the_class_arrives_however_it_is_called(vit, x, function):
    target = torch.tensor([4, 0, 2])
    want = slopes_by_hand(vit, x, target)
    torch.testing.assert_close(fvit.explain(vit, x, function, target), want, rtol=1e-9, atol=0)


def test_further_parameters_are_options(vit, x):
    def powered(vit, x, target, power=1):
        return slopes(vit, x, target) ** power

    register_method("powered", powered)
    plain, squared = fvit.explain(vit, x, "powered", raw=True), fvit.explain(vit, x, powered, raw=True, power=2)
    torch.testing.assert_close(squared, plain**2)
    with pytest.raises(ValueError, match="unknown option of powered 'rules', known: power"):
        fvit.explain(vit, x, "powered", rules="vta")


# a DDS ---------------------------------------------------------------------------------------------------------------
def test_a_dds_smooths_it(vit, x):
    dds = fvit.DDS(vit, None, 0.1, n_samples=3, batch_size=4)
    out = dds(x, IDS, [slopes, brightness, "raw_attention"])
    for i, name in enumerate(IDS):
        draws = torch.stack([x[i] + 0.1 * rng.normal(x.shape[1:], 0, "dds", name, d, dtype=x.dtype) for d in range(3)])
        target = vit(draws).softmax(1).mean(0).argmax()
        torch.testing.assert_close(out[slopes].heatmap[i], slopes_by_hand(vit, draws, [target] * 3).mean(0))
        dark = brightness(vit, draws).clamp(min=0)
        torch.testing.assert_close(out[brightness].heatmap[i], (dark / dark.sum((1, 2), keepdim=True)).mean(0))
    assert not out[brightness].heatmap.requires_grad
    assert out[slopes].rows().method.unique().tolist() == ["slopes"]
    torch.testing.assert_close(out["raw_attention"].heatmap, dds(x, IDS).heatmap)


def test_an_attack_sees_the_slope_of_an_own_map(vit, x):
    at = x.clone().requires_grad_()
    maps, _ = fvit.DDS(vit, None, 0.1, batch_size=2).maps(at, ids=IDS, method=brightness, draws=range(2))
    (grad,) = torch.autograd.grad(maps[0, :, 0, 0].sum(), at)
    assert grad[0, :, :8, :8].abs().min() > 0 and not grad[1:].any()


# names ---------------------------------------------------------------------------------------------------------------
def test_a_name_works_wherever_a_method_has_one(vit, x):
    register_method("mine", slopes, class_specific=True)
    want = slopes_by_hand(vit, x, torch.tensor([1, 1, 1]))
    torch.testing.assert_close(fvit.explain(vit, x, "mine", 1), want, rtol=1e-9, atol=0)
    assert "mine" in fvit.METHODS and fvit.METHODS["mine"].class_specific
    dds = fvit.DDS(vit, None, 0.1, n_samples=4)
    torch.testing.assert_close(dds(x, IDS, "mine").heatmap, dds(x, IDS, slopes).heatmap)
    assert dds(x, IDS, "mine").rows().method.unique().tolist() == ["mine"]
    for method, name in (("mine", "mine"), (slopes, "slopes")):
        rows = fvit.certify(dds, x[:1], 4, "0.5", 20, 0.1, method=method, target=1)
        assert rows.method.unique().tolist() == [name]
        with pytest.raises(ValueError, match="explains a class: give target"):
            fvit.certify(dds, x[:1], 4, "0.5", 20, 0.1, method=method)
    bench = Bench(vit, None, 0.1, n_samples=2, k=4, attack_steps=1, attack_draws=1)
    torch.testing.assert_close(bench.view("none", x, IDS, ["mine"], torch.ones(3).long()).maps["mine"], want)
    with pytest.raises(ValueError, match=r"unknown method 'min', .*did you mean 'mine'"):
        fvit.explain(vit, x, "min")


def test_a_taken_name_is_refused(vit, x):
    register_method("mine", slopes)
    for name in ("mine", "vta"):
        with pytest.raises(ValueError, match=f"the name '{name}' is taken, known: raw_attention, .*choose another"):
            register_method(name, brightness)
    assert METHODS["vta"].function is methods.vta
    register_method("mine", brightness, replace=True)
    assert not METHODS["mine"].class_specific
    with pytest.raises(ValueError, match="the name 'vta' is taken"):
        register_method("vta", brightness, replace=True)


# refusals ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name, function, options, message", [
    ("", slopes, {}, "name is '', wanted words"), (3, slopes, {}, "name is 3, wanted words"),
    ("mine", "vta", {}, r"function is a str, wanted f\(vit, x, target\)"),
    ("mine", int, {}, "function is a type, wanted"), ("mine", lambda vit: 0, {}, r"<lambda> takes \(vit\), wanted"),
    ("mine", lambda vit, x, target, radius: 0, {}, r"takes \(vit, x, target, radius\), wanted"),
    ("mine", brightness, {"class_specific": True}, "brightness takes no target"),
    ("mine", slopes, {"class_specific": "yes"}, "class_specific='yes', wanted True or False"),
])
def test_what_cannot_be_a_method_is_refused(name, function, options, message):
    before = dict(METHODS)
    with pytest.raises(ValueError, match=message):
        register_method(name, function, **options)
    assert before == METHODS


@pytest.mark.parametrize("given, message", [
    (None, r"gave a NoneType of shape \(\), wanted one map an image, \(3, 4, 4\) or \(3, 32, 32\)"),
    (torch.ones(3, 16), r"gave a Tensor of shape \(3, 16\)"), (torch.ones(4, 4), r"gave a Tensor of shape \(4, 4\)"),
    (torch.ones(3, 1, 4, 4), r"gave a Tensor of shape \(3, 1, 4, 4\)"),
    (torch.ones(3, 8, 8), r"gave a Tensor of shape \(3, 8, 8\)"),
    (torch.full((3, 4, 4), float("nan")), "gave NaN or infinite values"),
    (torch.full((3, 4, 4), float("inf")), "gave NaN or infinite values"),
])
def test_what_is_no_map_is_refused(vit, x, given, message):
    def mine(vit, x):
        return given

    for call in (lambda: fvit.explain(vit, x, mine), lambda: fvit.DDS(vit, None, 0.0)(x, method=mine)):
        with pytest.raises(ValueError, match=f"mine {message}"):
            call()
