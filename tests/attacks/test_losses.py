"""Losses by value and slope, against loops; what an attack draws; images in portions."""

from functools import partial

import pytest
import torch
from oracles.maps import class_token_attention, dds_loop, images, tiny_vit

from fvit import smoothing
from fvit.attacks import explanation_loss, losses, pgd, prediction_loss, strongest
from fvit.explanations import methods, passes
from fvit.smoothing import DDS


def test_prediction_loss_of_a_vit_is_cross_entropy(vit):
    x, y = images(3), torch.tensor([0, 4, 2])
    want = -vit(x).log_softmax(1)[torch.arange(3), y]
    torch.testing.assert_close(prediction_loss(vit, y)(x, 0), want)


def test_losses_of_a_dds_average_fresh_draws_before_the_log(vit, den):
    x, y, ids = images(2), torch.tensor([0, 4]), ["a", "b"]
    heat, dds = class_token_attention(vit, x), DDS(vit, den, 0.25, n_samples=99, seed=3)
    tops = heat.flatten(1).topk(4).indices
    for step in (0, 2):
        maps, probs = dds_loop(vit, den, x, ids, 0.25, range(3 * step, 3 * step + 3), seed=3, purpose="eot")
        mean = probs.mean(1)
        got = prediction_loss(dds, y, n_samples=3, ids=ids)(x, step)
        torch.testing.assert_close(got, -mean[[0, 1], y].log(), rtol=1e-8, atol=1e-12)
        mass = maps.mean(1).flatten(1).gather(1, tops).sum(1)
        got = explanation_loss(dds, heat, 4, n_samples=3, ids=ids)(x, step)
        torch.testing.assert_close(got, -mass, rtol=1e-8, atol=1e-12)
        held = explanation_loss(dds, heat, 4, keep_class=y, n_samples=3, ids=ids)(x, step)
        margin = torch.stack([(p[c] / p[torch.arange(5) != c].max()).log() for p, c in zip(mean, y, strict=True)])
        torch.testing.assert_close(held, -mass - (1 - margin).clamp(min=0), rtol=1e-8, atol=1e-12)


def test_attacks_draw_afresh_at_each_step_and_never_what_evaluations_draw(monkeypatch, vit):
    seen, normal = [], smoothing.rng.normal
    spy = lambda shape, *key, **kw: seen.append(key) or normal(shape, *key, **kw)  # noqa: E731
    monkeypatch.setattr(smoothing.rng, "normal", spy)
    x, y, dds = images(2), torch.tensor([0, 1]), DDS(vit, None, 0.25, n_samples=16)
    pgd(prediction_loss(dds, y), x, steps=3)
    pgd(explanation_loss(dds, class_token_attention(vit, x), 4, n_samples=2), x, steps=2)
    assert seen[:24] == [(0, "eot", str(i), 4 * step + j) for step in range(3) for i in range(2) for j in range(4)]
    assert len(seen) == 24 + 2 * 2 * 2
    attack = set(seen)
    seen.clear()
    dds(x)
    assert len(set(seen)) == 32 and not attack & set(seen)
    z = {key: normal((3, 32, 32), *key) for key in attack | set(seen)}
    assert len({v.flatten()[0].item() for v in z.values()}) == len(z)


def test_explanation_loss_of_a_vit_and_of_a_callable(vit):
    x = images(2)
    heat = torch.zeros(2, 4, 4, dtype=torch.float64)
    heat[0, 1, 1], heat[1, 3, 3] = 2, 1  # top-3 with ties: the single token, then the lowest indices
    attn = class_token_attention(vit, x).flatten(1)
    want = -torch.stack([attn[0, [5, 0, 1]].sum(), attn[1, [15, 0, 1]].sum()])
    torch.testing.assert_close(explanation_loss(vit, heat, 3)(x, 0), want, rtol=1e-8, atol=1e-12)
    steps = []

    def explainer(x, step):
        steps.append(step)
        return class_token_attention(vit, x)

    torch.testing.assert_close(explanation_loss(explainer, heat, 3)(x, 7), want, rtol=1e-8, atol=1e-12)
    assert steps == [7]
    rolled = passes.explain(vit, x, "rollout").flatten(1)
    got = explanation_loss(vit, heat, 3, method="rollout")(x, 0)
    torch.testing.assert_close(got[0], -rolled[0, [5, 0, 1]].sum())


def test_keep_class_of_a_vit_is_a_hinge_on_the_margin(vit):
    x = images(2)
    heat, logits = class_token_attention(vit, x), vit(x)
    plain = explanation_loss(vit, heat, 4)(x, 0)
    best, second = logits.topk(2).values.T
    for y, margin in ((logits.argmax(1), best - second), (logits.argmin(1), logits.amin(1) - best)):
        want = plain - (1 - margin).clamp(min=0)
        torch.testing.assert_close(explanation_loss(vit, heat, 4, keep_class=y)(x, 0), want)
    sure = explanation_loss(_scaled(vit, 1e3), heat, 4, keep_class=logits.argmax(1))(x, 0)
    torch.testing.assert_close(sure, plain)  # a wide margin costs nothing


def _scaled(vit, factor):
    scaled = tiny_vit(torch.float64)
    scaled.backbone.head.weight.mul_(factor)
    return scaled


def test_a_lost_class_gives_a_finite_loss_and_gradient():
    class Hopeless:
        sigma, batch_size = 0.0, 4

        def __call__(self, x):
            raise AssertionError("a loss draws maps")

        def maps(self, x, **kwargs):
            return None, (x.sum((1, 2, 3))[:, None, None] * torch.tensor([1.0, 0.0])).softmax(2)

    x = torch.full((1, 3, 32, 32), 0.9)
    x_adv = pgd(prediction_loss(Hopeless(), torch.tensor([1])), x, 0.01)
    assert x_adv.isfinite().all()


@pytest.mark.parametrize("batch_size", [64, 3])
@pytest.mark.parametrize("kind", ["prediction", "raw_attention", "rollout"])
def test_gradients_through_the_dds_are_its_slopes(vit, den, kind, batch_size):
    """Central differences along a random direction, through ViT, attention, denoiser and (at 3) recomputed batches."""
    x, y, dds = images(2), torch.tensor([0, 3]), DDS(vit, den, 0.25, batch_size=batch_size)
    heat = class_token_attention(vit, x)
    loss = (prediction_loss(dds, y, n_samples=2) if kind == "prediction"
            else explanation_loss(dds, heat, 4, keep_class=y, method=kind, n_samples=2))
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    at = x.clone().requires_grad_()
    values = loss(at, 1)
    slopes = (torch.autograd.grad(values.sum(), at)[0] * v).sum((1, 2, 3))
    with torch.no_grad():
        h = 1e-6
        differences = (loss(x + h * v, 1) - loss(x - h * v, 1)) / (2 * h)
    torch.testing.assert_close(slopes, differences, rtol=1e-4, atol=1e-7)
    assert slopes.abs().min() > 1e-5


@pytest.mark.parametrize("attack", [pgd, partial(strongest, restarts=2)])
@pytest.mark.parametrize("kind", ["prediction", "raw_attention"])
def test_images_in_portions_are_attacked_as_all_at_once(vit, den, kind, attack):
    """Three images of two draws each in batches of four draws, two images, and of one draw, less than an image's."""
    x, y, ids = images(3), torch.tensor([0, 3, 1]), ["c", "a", "b"]
    heat, found = class_token_attention(vit, x), []
    for batch_size in (64, 4, 1):
        dds = DDS(vit, den, 0.25, batch_size=batch_size)
        loss = (prediction_loss(dds, y, n_samples=2, ids=ids) if kind == "prediction"
                else explanation_loss(dds, heat, 4, keep_class=y, n_samples=2, ids=ids))
        found.append(attack(loss, x, eps=0.03, steps=2, ids=ids))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["prediction", "raw_attention", "rollout"])
def test_a_bare_vit_is_attacked_in_portions_too(vit, monkeypatch, kind):
    x, y, found, passed = images(5), torch.tensor([0, 3, 1, 2, 0]), [], []
    heat = class_token_attention(vit, x)
    handle = vit.register_forward_pre_hook(lambda _, args: passed.append(len(args[0])))
    for batch in (32, 2):
        monkeypatch.setattr(losses, "VIT_BATCH", batch)
        loss = (prediction_loss(vit, y) if kind == "prediction"
                else explanation_loss(vit, heat, 4, keep_class=y, method=kind))
        found.append(pgd(loss, x, eps=0.03, steps=2))
    handle.remove()
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-12)
    assert max(passed[-6:]) == 2
    assert pgd(explanation_loss(vit, heat, 4, keep_class=3), x).shape == x.shape  # one class for all
    with pytest.raises(ValueError, match="heat holds 4 maps and x 5 images"):
        pgd(explanation_loss(vit, heat[:4], 4), x)
    with pytest.raises(ValueError, match=r"keep_class is .* of shape \(6,\), wanted class indices \(B,\) = \(5,\)"):
        explanation_loss(vit, heat, 4, keep_class=torch.arange(6))


def test_where_memory_runs_out_a_bare_vit_is_attacked_and_judged_in_halves(vit, capsys):
    x, sizes = images(4), []

    def small(_, args):
        sizes.append(len(args[0]))
        if len(args[0]) > 2:
            raise RuntimeError("CUDA out of memory")

    heat = class_token_attention(vit, x)
    want = strongest(explanation_loss(vit, heat, 4), x, restarts=2, eps=0.03, steps=1)
    handle = vit.register_forward_pre_hook(small)
    found = strongest(explanation_loss(vit, heat, 4), x, restarts=2, eps=0.03, steps=1)
    handle.remove()
    torch.testing.assert_close(found, want, rtol=0, atol=1e-12)
    assert sizes[0] == 4 and set(sizes[1:]) == {2}
    assert capsys.readouterr().err == "memory ran out; on with 2 images at a time\n"


def test_losses_refuse_what_they_cannot_do(monkeypatch, vit):
    heat = torch.rand(2, 4, 4)
    row = methods.Method(lambda record, target: None, True, False, "for a test")
    monkeypatch.setitem(losses.METHODS, "vta_like", row)
    with pytest.raises(ValueError, match=r"attack it by transfer: make x_adv with raw_attention, .*, then"):
        explanation_loss(vit, heat, 4, method="vta_like")
    with pytest.raises(ValueError, match=r"unknown method 'rolout'.*did you mean 'rollout'"):
        explanation_loss(vit, heat, 4, method="rolout")
    with pytest.raises(ValueError, match="k=17 with maps of 16 tokens"):
        explanation_loss(vit, heat, 17)
    with pytest.raises(ValueError, match="keep_class needs a ViT or a DDS"):
        explanation_loss(lambda x, step: heat, heat, 4, keep_class=torch.tensor([0, 1]))
