"""The code of docs/interop.md as it stands, with other people's tools, against the same quantities computed directly.

`make test-interop` runs it in an environment with those tools. Two images and two draws; where the denoiser would cost
minutes, `clf` is that of noise alone, which the code does not see.
"""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from oracles.maps import images, tiny_vit
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch.nn.functional import interpolate

import fvit
from fvit.attacks.dlr import dlr_loss
from fvit.base import rng
from fvit.base.paths import ROOT
from fvit.explanations.methods import METHODS
from fvit.explanations.passes import explain_with_logits

PAGE = (ROOT / "docs" / "interop.md").read_text(encoding="utf-8")
HEADS = re.findall(r"^## (.*)$", PAGE, re.M)
CODE = {head: re.findall(r"^```python\n(.*?)^```$", part, re.M | re.S)
        for head, part in zip(["", *HEADS], re.split(r"^## .*$", PAGE, flags=re.M), strict=True)}
EPS, STEP = 8 / 255, 2 / 255


@pytest.fixture(scope="module")
def scene():
    """What the first block of the page leaves, at two images and two draws."""
    names = {}
    [code] = CODE[""]
    exec(re.sub(r"\b(n|n_samples)=\d+", r"\1=2", code), names)
    return SimpleNamespace(**names)


@pytest.fixture(scope="module")
def cheap(scene):
    """The same with noise alone."""
    dds = fvit.DDS(scene.vit, None, sigma=0.1, n_samples=2)
    return SimpleNamespace(**vars(scene) | {"dds": dds, "clf": dds.as_classifier(fresh=False)})


def run(head, scene, **others):
    names = {**vars(scene), **others}
    for code in CODE[head]:
        exec(code, names)
    return SimpleNamespace(**names)


def by_hand(dds, x):
    """Log of the mean probability over two draws that all images share, by loops."""
    total = 0
    for draw in range(2):
        z = rng.normal(x.shape[1:], dds.seed, "eot", "shared", draw)
        x_hat = x + dds.sigma * z
        total = total + dds.vit(x_hat if dds.den is None else dds.den(x_hat, dds.sigma)).softmax(1)
    return (total / 2).log()


def slope(dds, x, y):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(by_hand(dds, x).gather(1, y[:, None]).sum(), x)[0]


def agree(got, want, rtol=1e-5):
    """Relative to the greatest value: gradients of an image are of one scale."""
    assert (torch.as_tensor(got) - want).abs().max() <= rtol * want.abs().max() and want.abs().max() > 0


def same_attack(x_adv, scene, steps, step_size):
    """Images and adversarial accuracy of `fvit.pgd` on the loss by hand; a gradient near 0 may round to either sign."""
    x, y = scene.x, scene.y
    want = fvit.pgd(lambda x, step: -by_hand(scene.dds, x).gather(1, y[:, None])[:, 0], x, EPS, steps=steps,
                    step_size=step_size, start="clean")
    x_adv = torch.as_tensor(x_adv)
    assert ((x_adv - want).abs() > 1e-6).float().mean() < 0.01
    assert (x_adv - x).abs().max() > 0.9 * min(EPS, steps * step_size)
    assert torch.equal(by_hand(scene.dds, x_adv).argmax(1), by_hand(scene.dds, want).argmax(1))


def test_each_tool_takes_three_lines_besides_its_imports():
    for head in HEADS[:-2]:
        lines = [line for code in CODE[head] for line in code.splitlines() if line and "import " not in line]
        assert 1 <= len(lines) <= 3, head
    assert HEADS[-2:] == ["Your own explanation", "Versions"]


def test_torchattacks(scene):
    same_attack(run("torchattacks", scene).x_adv, scene, 10, STEP)


def test_torchattacks_with_fresh_draws_is_expectation_over_transformation(scene):
    import torchattacks

    clf = scene.dds.as_classifier(fresh=True)
    x_adv = torchattacks.PGD(clf, eps=EPS, alpha=STEP, steps=3, random_start=False)(scene.x, scene.y)
    want = fvit.pgd(fvit.prediction_loss(scene.dds, scene.y, n_samples=2), scene.x, EPS, steps=3, step_size=STEP,
                    start="clean")
    assert ((x_adv - want).abs() > 1e-6).float().mean() < 0.01 and clf.calls == 3


def test_autoattack(cheap):
    found = run("AutoAttack", cheap)
    assert (found.x_adv - cheap.x).abs().max() <= EPS + 1e-6
    assert found.x_adv.min() >= 0 and found.x_adv.max() <= 1
    assert torch.equal(found.y_adv, by_hand(cheap.dds, found.x_adv).argmax(1))
    own = fvit.pgd(lambda x, step: -by_hand(cheap.dds, x).gather(1, cheap.y[:, None])[:, 0], cheap.x, EPS)
    kept, kept_by_pgd = (by_hand(cheap.dds, x).argmax(1) == cheap.y for x in (found.x_adv, own))
    assert kept.sum() <= kept_by_pgd.sum()


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_apgd_is_that_of_autoattack(norm):
    """From one start, without draws: steps, momentum and the best of 40. Their code counts the first step as a rise
    where the loss is positive after it, and cross-entropy always is; it rises in that step here."""
    vit, x, y, eps = tiny_vit(torch.float64), images(4), torch.tensor([1, 3, 0, 2]), {"Linf": 0.05, "L2": 1.0}[norm]
    loss = fvit.prediction_loss(vit, y)
    start = fvit.pgd(loss, x, eps, norm.lower(), steps=0, seed=4)
    got = fvit.pgd(loss, x, eps, norm.lower(), 40, start=start, rule="apgd", judgements=1)
    attack = APGDAttack(vit, n_iter=40, norm=norm, eps=eps, device="cpu")
    attack.init_hyperparam(x)
    best, _, most, _ = attack.attack_single_run(x, y, x_init=start)
    torch.testing.assert_close(loss(got, 0), most, rtol=1e-6, atol=1e-6)
    assert ((got - best).abs() > 1e-6).double().mean() < 0.01  # pixels whose gradient is near 0


def test_dlr_losses_are_those_of_autoattack():
    vit, x, y = tiny_vit(torch.float64), images(6), torch.tensor([0, 1, 2, 3, 4, 0])
    target = (y + 1) % 5
    attack, targeted = (make(vit, eps=0.1, device="cpu") for make in (APGDAttack, APGDAttack_targeted))
    targeted.y_target = target
    torch.testing.assert_close(dlr_loss(vit, y)(x, 0), attack.dlr_loss(vit(x), y))
    torch.testing.assert_close(dlr_loss(vit, y, target)(x, 0), targeted.dlr_loss_targeted(vit(x), y))


def test_foolbox(cheap):
    found = run("foolbox", cheap)
    same_attack(found.x_adv, cheap, 10, EPS * 0.01 / 0.3)  # foolbox's own step
    assert torch.equal(found.moved, by_hand(cheap.dds, found.x_adv).argmax(1) != cheap.y)


def test_art(cheap):
    found = run("Adversarial Robustness Toolbox", cheap)
    same_attack(found.x_adv, cheap, 10, STEP)
    gradient = found.model.loss_gradient(cheap.x.numpy(), np.eye(10, dtype=np.float32)[cheap.y])
    agree(gradient, -slope(cheap.dds, cheap.x, cheap.y) / 2)  # of a mean over two images
    agree(found.model.predict(cheap.x.numpy()), by_hand(cheap.dds, cheap.x))


def test_captum(scene):
    torch.manual_seed(0)
    found = run("captum", scene)
    agree(found.slopes, slope(scene.dds, scene.x, scene.y).abs())

    def direct(x, target):
        heat = explain_with_logits(scene.vit, x[0], "vta", target)[0]
        return (interpolate(heat[:, None], x[0].shape[2:], mode="bilinear").repeat(1, 3, 1, 1) / 3,)

    from captum.metrics import sensitivity_max
    torch.manual_seed(0)
    torch.testing.assert_close(found.change, sensitivity_max(direct, scene.x, target=scene.y), rtol=1e-4, atol=0)
    assert found.change.min() > 0


def test_quantus(cheap):
    def direct(model, inputs, targets):
        x, heat = torch.as_tensor(inputs).clamp(0, 1), 0
        for draw in range(2):
            z = rng.normal(x.shape[1:], 0, "dds", "shared", draw)
            heat = heat + explain_with_logits(cheap.vit, x + 0.1 * z, "raw_attention")[0].detach() / 2
        return interpolate(heat[:, None], x.shape[2:], mode="bilinear").numpy()

    np.random.seed(0)
    found = run("Quantus", cheap)
    np.random.seed(0)
    want = found.metric(cheap.clf, cheap.x.numpy(), cheap.y.numpy(), explain_func=direct)
    np.testing.assert_allclose(found.scores, want, rtol=1e-4)
    assert min(found.scores) > 0
    x, y, sparse = cheap.x.numpy(), cheap.y.numpy(), {"sparse": found.quantus.Sparseness(disable_warnings=True)}
    table = found.quantus.evaluate(sparse, {"my label": fvit.as_quantus("vta")}, cheap.vit, x, y, agg_func=np.array,
                                   explain_func_kwargs={})
    maps = interpolate(fvit.explain(cheap.vit, cheap.x, "vta", cheap.y)[:, None], (64, 64), mode="bilinear").flatten(1)
    steps, n = torch.arange(1, 4097, dtype=torch.float64), 4096
    by_hand = ((2 * steps - n - 1) * maps.double().sort(1).values).sum(1) / (n * maps.double().sum(1))  # Gini index
    np.testing.assert_allclose(table["my label"]["sparse"], by_hand, rtol=1e-3)


def test_grad_cam(scene):
    found = run("pytorch-grad-cam", scene)
    kept = {}

    def keep(module, args, out):
        kept["tokens"] = out

    hook = scene.vit.backbone.blocks[-1].norm1.register_forward_hook(keep)
    scores = scene.vit(scene.x.clone().requires_grad_()).gather(1, scene.y[:, None])
    hook.remove()
    (grad,) = torch.autograd.grad(scores.sum(), kept["tokens"])
    weights = grad[:, scene.vit.num_prefix_tokens:].mean(1, keepdim=True)
    heat = (kept["tokens"].detach() * weights).sum(2)[:, scene.vit.num_prefix_tokens:].clamp(min=0)
    heat = heat - heat.amin(1, keepdim=True)
    heat = (heat / (1e-7 + heat.amax(1, keepdim=True))).unflatten(1, scene.vit.grid)
    want = interpolate(heat[:, None], scene.x.shape[2:], mode="bilinear")[:, 0]
    want = want - want.amin((1, 2), keepdim=True)
    torch.testing.assert_close(torch.as_tensor(found.maps), want / (1e-7 + want.amax((1, 2), keepdim=True)), rtol=0,
                               atol=1e-4)
    agree(found.ClassifierOutputTarget(3)(scene.clf(scene.x)[0]).detach(), by_hand(scene.dds, scene.x)[0, 3].detach())


def test_lightning(cheap):
    out = run("Lightning", cheap).out
    assert len(out) == 1 and not cheap.dds.training
    heat, probs = cheap.dds(cheap.x, ids=cheap.data.ids)
    assert out[0].ids == cheap.data.ids
    torch.testing.assert_close(out[0].heatmap, heat)
    torch.testing.assert_close(out[0].probs, probs)


def test_an_explanation_of_ones_own(cheap):
    try:
        found = run("Your own explanation", cheap)
    finally:
        METHODS.pop("slope", None)
    x = cheap.x.clone().requires_grad_()
    logits = cheap.vit(x)
    (grad,) = torch.autograd.grad(logits.amax(1).sum(), x)
    want = torch.nn.functional.avg_pool2d(grad.abs().sum(1, keepdim=True), 64 // cheap.vit.grid[0])[:, 0]
    torch.testing.assert_close(found.heat, want / want.sum((1, 2), keepdim=True), rtol=1e-4, atol=1e-7)
    assert found.smoothed["slope"].rows().method.unique().tolist() == ["slope"]
