"""Direct losses on the map of every method: slopes by central differences, the class fixed, what keeps a graph."""

import gc

import pytest
import torch
from oracles.maps import images, small_vit

from fvit.attacks import explanation_loss, pgd
from fvit.experiments.defences import Checked
from fvit.explanations import lrp, passes
from fvit.explanations.methods import METHODS
from fvit.explanations.own import register_method
from fvit.explanations.passes import explain, explain_with_logits
from fvit.smoothing import DDS

ATTACKED = [name for name, row in METHODS.items() if row.differentiable]
SPECIFIC = [name for name in ATTACKED if METHODS[name].class_specific]
X, Y = images(2), torch.tensor([0, 3])


def check_slopes(loss, x, directions=3, h=1e-8):
    """Central differences of fourth order along random directions. Steps are small, for poles of LRP are near."""
    at = x.clone().requires_grad_()
    grad = torch.autograd.grad(loss(at, 1).sum(), at)[0]
    g = torch.Generator().manual_seed(5)
    for _ in range(directions):
        v = torch.randn(x.shape, generator=g, dtype=torch.float64)
        with torch.no_grad():
            far, near = (loss(x + n * h * v, 1) - loss(x - n * h * v, 1) for n in (2, 1))
        slopes = (grad * v).sum((1, 2, 3))
        torch.testing.assert_close((8 * near - far) / (12 * h), slopes, rtol=1e-5, atol=0)


@pytest.mark.parametrize("method", ATTACKED)
def test_slopes_of_a_vit(vit, method):
    heat = explain(vit, X, method, Y)
    check_slopes(explanation_loss(vit, heat, 4, keep_class=Y, method=method, target=Y), X)
    check_slopes(explanation_loss(vit, heat, 4, method=method, target=Y, goal=torch.tensor([[0, 1], [14, 15]])), X, 1)


@pytest.mark.parametrize("method", ATTACKED)
def test_slopes_through_a_dds_whose_batches_are_computed_again(vit, den, method):
    heat, dds = explain(vit, X, method, Y), DDS(vit, den, 0.25, batch_size=3)
    check_slopes(explanation_loss(dds, heat, 4, method=method, n_samples=2, ids=["a", "b"], target=Y), X, 2)


class Halved:
    """A defence of one's own, without draws: the image at half its contrast."""

    def __init__(self, vit):
        self.vit = vit

    def maps(self, x, *, ids, method, target, purpose, draws):
        heat, logits = explain_with_logits(self.vit, x / 2 + 0.25, method, target)
        return heat[:, None], logits.softmax(1)[:, None]


@pytest.mark.parametrize("method", ["gradcam", "vta"])
def test_slopes_through_a_defence_of_ones_own(vit, method):
    heat, own = explain(vit, X, method, Y), Checked(Halved(vit), "mine.py:Halved", vit, 4)
    check_slopes(explanation_loss(own, heat, 4, keep_class=Y, method=method, target=Y), X, 1)


@pytest.mark.parametrize(("arch", "changes"), [
    ("deit_tiny_distilled_patch16_224", {}), ("vit_tiny_patch16_224", dict(global_pool="avg", qk_norm=True)),
    ("vit_small_patch14_reg4_dinov2", {}), ("vit_tiny_patch16_224", dict(global_pool="map")),
    ("swin_tiny_patch4_window7_224", dict(img_size=(32, 48), window_size=4, embed_dim=12, depths=(1, 2),
                                          num_heads=(3, 3), num_classes=4))])
def test_slopes_in_other_layouts_none_fused(arch, changes):
    """The attention pool and the earlier stages of Swin attend fused, where torch has a first derivative only."""
    vit = small_vit(arch, 0.3, **changes).double()
    x = images(2, size=16) if "swin" not in arch else images(2, size=48)[:, :, :32]
    able = [method for method, answer in passes.supports(vit).items() if answer is True and method in SPECIFIC]
    assert "gradcam" in able
    for method in able:
        loss = explanation_loss(vit, explain(vit, x, method, 1), 2, keep_class=1, method=method, target=1)
        check_slopes(loss, x, 1)
    pool = getattr(vit.backbone, "attn_pool", None)
    assert pool is None or pool.fused_attn


@pytest.mark.parametrize("method", ["gradcam", "vta", "attribution_rollout"])
def test_the_class_explained_stays_whatever_is_predicted(vit, method):
    """Images that turn to another class on the way: the loss is that of the class given."""
    heat, wrong = explain(vit, X, method, Y), (vit(X).argmax(1) + 1) % 5
    for target in (Y, wrong):
        mass = explain(vit, X, method, target).flatten(1).gather(1, heat.flatten(1).topk(4).indices).sum(1)
        torch.testing.assert_close(explanation_loss(vit, heat, 4, method=method, target=target)(X, 0), -mass)
    dds = DDS(vit, None, 0.1, seed=2)
    maps = dds.maps(X, ids=["a", "b"], method=method, target=wrong, purpose="eot", draws=[2, 3])[0].mean(1)
    loss = explanation_loss(dds, heat, 4, method=method, n_samples=2, ids=["a", "b"], target=wrong)
    mass = maps.flatten(1).gather(1, heat.flatten(1).topk(4).indices).sum(1)
    torch.testing.assert_close(loss(X, 1), -mass)


@pytest.mark.parametrize("method", SPECIFIC)
def test_an_attack_on_its_own_map_moves_it_in_portions_as_at_once(vit, monkeypatch, method):
    x, y = images(3), torch.tensor([0, 3, 4])  # of other classes some GradCAM is 0 everywhere, and has no slope
    heat, found = explain(vit, x, method, y), []
    for size in (32, 2):
        monkeypatch.setattr("fvit.attacks.losses.VIT_BATCH", 8 * size)
        loss = explanation_loss(vit, heat, 4, method=method, target=y)
        found.append(pgd(loss, x, eps=0.02, steps=3, start="clean"))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-12)
    assert (loss(found[0], 0) - loss(x, 0)).mean() > 0.01  # maps of LRP have poles: an image may lose


def test_maps_of_a_class_are_taken_through_a_dds_an_eighth_of_the_images_at_once(vit, monkeypatch):
    x, y, found, sizes = images(4), torch.tensor([0, 3, 4, 1]), [], []
    heat, hook = explain(vit, x, "vta", y), vit.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    for batch_size in (64, 16):
        dds = DDS(vit, None, 0.1, batch_size=batch_size)
        loss = explanation_loss(dds, heat, 4, method="vta", n_samples=2, ids=["a", "b", "c", "d"], target=y)
        found.append(pgd(loss, x, eps=0.02, steps=1, ids=["a", "b", "c", "d"]))
        assert dds.batch_size == batch_size
    hook.remove()
    assert sizes == [8] + [2] * 4
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-12)


# a goal --------------------------------------------------------------------------------------------------------------
def test_a_goal_is_the_mass_on_its_tokens_as_a_mask_or_as_indices(vit):
    heat = explain(vit, X, "raw_attention")
    mask = torch.zeros(2, 4, 4)
    mask[0, :2, :2] = mask[1, 3] = 1
    indices = torch.tensor([[0, 1, 4, 5], [12, 13, 14, 15]])
    want = torch.stack([heat[0, :2, :2].sum(), heat[1, 3].sum()])
    for goal in (mask, mask.bool(), indices, indices.repeat(1, 2), indices.numpy()):
        torch.testing.assert_close(explanation_loss(vit, heat, 4, goal=goal)(X, 0), want, rtol=1e-9, atol=0)
    logits = vit(X)
    margin = torch.stack([one[y] - one[torch.arange(5) != y].max() for one, y in zip(logits, Y, strict=True)])
    held = explanation_loss(vit, heat, 4, keep_class=Y, goal=mask)(X, 0)
    torch.testing.assert_close(held, want - (1 - margin).clamp(min=0), rtol=1e-9, atol=0)
    callable_loss = explanation_loss(lambda x, step: explain(vit, x, "raw_attention"), heat, 4, goal=indices)
    torch.testing.assert_close(callable_loss(X, 0), want, rtol=1e-9, atol=0)


@pytest.mark.parametrize("model", ["vit", "dds"])
def test_an_attack_brings_mass_to_its_goal_image_by_image(vit, model):
    model = vit if model == "vit" else DDS(vit, None, 0.05, batch_size=2)
    heat, goal = explain(vit, X, "raw_attention"), torch.tensor([[0, 1], [14, 15]])
    loss = explanation_loss(model, heat, 2, goal=goal, ids=["a", "b"])
    x_adv = pgd(loss, X, eps=0.1, steps=5, ids=["a", "b"])
    assert (loss(x_adv, 99) > loss(X, 99) + 0.05).all()
    if model is vit:
        top = explain(vit, x_adv, "raw_attention").flatten(1).topk(2).indices
        assert all(set(goal[i].tolist()) & set(top[i].tolist()) for i in range(2))


# what keeps a graph --------------------------------------------------------------------------------------------------
def tensors_with_a_graph():
    gc.collect()
    return {id(one) for one in gc.get_objects() if type(one) is torch.Tensor and one.grad_fn is not None}


def test_plain_explanations_keep_no_graph_and_make_none_of_second_derivatives(vit, monkeypatch):
    asked, relevant, kept, before = [], [], [], tensors_with_a_graph()
    grad, divide = torch.autograd.grad, lrp.divide
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **o: asked.append(o.get("create_graph")) or grad(*a, **o))
    monkeypatch.setattr(lrp, "divide", lambda a, b: relevant.append(torch.is_grad_enabled()) or divide(a, b))
    for method in SPECIFIC:
        dds = DDS(vit, None, 0.1, n_samples=1)
        kept += [explain(vit, X, method, Y), dds(X, ids=["a", "b"], method=method).heatmap,
                 dds.maps(X, ids=["a", "b"], method=method, target=Y, draws=[0])[0]]
        with torch.no_grad():
            kept.append(explain(vit, X.clone().requires_grad_(), method, Y))
    assert asked and relevant and not any(asked) and not any(relevant)
    assert not any(heat.requires_grad for heat in kept) and tensors_with_a_graph() <= before
    explain(vit, X.clone().requires_grad_(), "vta", Y)
    assert any(asked) and any(relevant)  # so that the above can fail


@pytest.mark.parametrize("method", SPECIFIC)
def test_a_map_that_is_differentiated_has_the_values_of_one_that_is_not(vit, method):
    torch.testing.assert_close(explain(vit, X.clone().requires_grad_(), method, Y), explain(vit, X, method, Y),
                               rtol=1e-9, atol=1e-12)


# of one's own, and refusals ------------------------------------------------------------------------------------------
def squared(vit, x, target, again=True):
    """(d logit / d pixel)^2, whose slope is a second derivative, if `again` says so."""
    x = x if x.requires_grad else x.requires_grad_()
    (grad,) = torch.autograd.grad(vit(x).gather(1, target[:, None]).sum(), x, create_graph=again)
    return grad.square().sum(1)


@pytest.fixture
def own():
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


def test_a_class_specific_function_of_ones_own_is_attacked_if_it_says_so(vit, own):
    register_method("squared", squared, differentiable=True)
    heat = explain(vit, X, "squared", Y)
    assert not heat.requires_grad and all(block.attn.fused_attn for block in vit.backbone.blocks)
    check_slopes(explanation_loss(vit, heat, 4, method="squared", target=Y), X, 1)
    register_method("first", lambda vit, x, target: squared(vit, x, target, False), differentiable=True)
    loss = explanation_loss(vit, heat, 4, keep_class=Y, method="first", target=Y)
    with pytest.raises(ValueError, match=r"maps have no gradient in x.*create_graph=True"):
        pgd(loss, X)


@pytest.mark.parametrize(("given", "message"), [
    (dict(method="gradcam"), r"'gradcam' explains a class: give target \(B,\)"),
    (dict(method="vta", target=torch.tensor([0, 5])), r"target has classes 0\.\.5, wanted 0\.\.4"),
    (dict(method="vta", target=torch.arange(3)), r"target is .*wanted class indices \(B,\) = \(2,\)"),
    (dict(goal=torch.tensor([[0, 16], [1, 2]])), r"goal has tokens 0\.\.16, wanted 0\.\.15"),
    (dict(goal=torch.tensor([0, 1])), r"wanted a mask of 0 and 1 \(2, 4, 4\), or indices of tokens \(2, m\)"),
    (dict(goal=torch.full((2, 4, 4), 0.5)), r"goal is torch\.float32 .*wanted a mask of 0 and 1"),
    (dict(goal=torch.tensor([[0.0], [1.0]])), r"goal is torch\.float32 .*or indices"),
    (dict(goal=torch.eye(4)[:2, :, None].expand(2, 4, 4) * torch.tensor([1.0, 0])[:, None, None]),
     "goal of image 1 has no token"),
])
def test_refusals(vit, given, message):
    with pytest.raises(ValueError, match=message):
        explanation_loss(vit, torch.rand(2, 4, 4), 4, **given)
    with pytest.raises(ValueError, match="target needs a ViT or a DDS"):
        explanation_loss(lambda x, step: x[:, 0], torch.rand(2, 4, 4), 4, target=Y)
