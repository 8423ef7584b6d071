"""What can be explained and what is refused, precision, other rows than the class token's, threads and modes."""

import copy
import threading

import pytest
import timm
import torch
from oracles.maps import images, small_vit, tiny_vit
from torch import nn

import fvit
from fvit.explanations.methods import METHODS
from fvit.explanations.passes import explain, explain_with_logits, forward_pass, supports
from fvit.metrics.maps import normalise_map
from fvit.models.attention import capture_attention
from fvit.models.vit import ViT

X = images(3)
HALF = (0.5,) * 3
SIZES = dict(img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=3, num_classes=5)
CLASSES = torch.tensor([0, 3, 1])
AGNOSTIC = {name for name, row in METHODS.items() if not row.class_specific}
LRP = {"partial_lrp", "lrp", "attn_lrp", "lrp_rollout", "vta"}


def made(noise=0.3, **changes):
    return small_vit("vit_tiny_patch16_224", noise, **(SIZES | changes)).double()


def wrap(backbone):
    return ViT(backbone, HALF, HALF)


# what is refused -----------------------------------------------------------------------------------------------------
class LoRA(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base, self.low = base, nn.Linear(base.in_features, base.out_features)

    def forward(self, x):
        return self.base(x) + 0.1 * self.low(x)


def with_lora():
    net = timm.models.VisionTransformer(**SIZES)
    net.blocks[1].attn.qkv = LoRA(net.blocks[1].attn.qkv)
    return net


def with_mlp_head():
    net = timm.models.VisionTransformer(**SIZES)
    net.head = nn.Sequential(nn.Linear(24, 8), nn.GELU(), nn.Linear(8, 5))
    return net


@pytest.mark.parametrize(("make", "able", "reason"), [
    (lambda: timm.models.VisionTransformer(**SIZES), set(METHODS), None),
    (lambda: timm.models.VisionTransformer(**{**SIZES, "num_classes": 0}), AGNOSTIC, r"num_classes=0 \(no classifier"),
    (lambda: timm.models.VisionTransformer(**{**SIZES, "num_classes": 1}), AGNOSTIC, "num_classes=1 .*always 1"),
    (with_lora, set(METHODS) - LRP, r"nn\.Linear, blocks\.1\.attn\.qkv of VisionTransformer is a LoRA"),
    (with_mlp_head, set(METHODS) - LRP, r"nn\.Linear, head of VisionTransformer is a Sequential"),
    (lambda: timm.models.VisionTransformer(**SIZES, global_pool="map"), set(METHODS) - LRP, "has pool 'map'"),
])
def test_supports_says_what_explain_does(make, able, reason):
    vit = wrap(make().double())
    answers = supports(vit)
    assert {name for name, answer in answers.items() if answer is True} == able and list(answers) == list(METHODS)
    for method, answer in answers.items():
        if answer is True:
            heat = explain(vit, X, method, None if method in AGNOSTIC else CLASSES)
            torch.testing.assert_close(heat.sum((1, 2)), torch.ones(3, dtype=torch.float64))
        else:
            with pytest.raises(ValueError, match=reason) as caught:
                explain(vit, X, method)
            assert str(caught.value) == answer and "\n" not in answer


def test_a_hybrids_pixels_are_refused_by_its_stem():
    hybrid = timm.create_model("vit_tiny_r_s16_p8_224", img_size=64, embed_dim=24, depth=2, num_heads=3, num_classes=5)
    answers = supports(wrap(hybrid))
    assert {name for name, answer in answers.items() if answer is not True} == {"lrp", "attn_lrp"}
    assert "one convolution, got Conv2d in HybridEmbed" in answers["lrp"]


@pytest.mark.parametrize("n", [0, 1])
def test_whatever_needs_classes_names_their_number(n):
    vit, x, zeros = wrap(timm.models.VisionTransformer(**{**SIZES, "num_classes": n})), X.float(), torch.tensor([0] * 3)
    for call in (lambda: explain(vit, x, "raw_attention", target=0), lambda: fvit.DDS(vit, None, sigma=0.1),
                 lambda: fvit.prediction_loss(vit, zeros), lambda: fvit.perturbation_curve(vit, x, zeros, x[:, 0]),
                 lambda: fvit.explanation_loss(vit, x[:, 0, :4, :4], 2, keep_class=zeros)):
        with pytest.raises(ValueError, match=f"num_classes={n}"):
            call()


# other rows than the class token's -----------------------------------------------------------------------------------
POOLED = dict(global_pool="avg"), dict(global_pool="avg", pool_include_prefix=True), dict(
    global_pool="avg", class_token=False)


def product(matrices):
    """M_L ... M_1, later blocks on the left."""
    joint = torch.eye(matrices[0].shape[-1], dtype=matrices[0].dtype).expand_as(matrices[0])
    for matrix in matrices:
        joint = matrix @ joint
    return joint


@pytest.mark.parametrize("changes", POOLED)
@pytest.mark.parametrize("method", ["vta", "lrp_rollout", "attribution_rollout"])
def test_the_residual_paths_own_part_leaves_the_rows_of_patches(method, changes):
    """Against the whole product of C + I, minus that of the I alone, in float64 and with whole matrices."""
    vit = made(**changes)
    record = forward_pass(vit, X)
    found, start = record.relevance(CLASSES, "vta"), METHODS[method].settings({})["start_layer"]
    if method == "attribution_rollout":
        parts = []
        for layer in range(3):
            score = vit.backbone.forward_head(vit.backbone.norm(record.layers[vit.backbone.blocks[layer]][1]))
            score = score.gather(1, CLASSES[:, None]).sum()
            (grad,) = torch.autograd.grad(score, record.attention[layer], retain_graph=True)
            parts.append((record.attention[layer] * grad / 2).amax(1).detach())
    else:
        scale = record.gradient(CLASSES, 0) if method == "vta" else [1] * 3
        parts = [(found.attention(n) * scale[n]).clamp(min=0).mean(1) for n in range(3)]
    eye = torch.eye(parts[0].shape[-1], dtype=torch.float64).expand_as(parts[0])
    whole, alone = [part + eye for part in parts[start:]], [eye for _ in parts[start:]]
    if method == "attribution_rollout":
        alone = [one / m.sum(-1, keepdim=True) for one, m in zip(alone, whole, strict=True)]
        whole = [m / m.sum(-1, keepdim=True) for m in whole]
    rows = (product(whole) - product(alone))[:, vit.readers].mean(1)[:, -16:].unflatten(1, (4, 4))
    got = explain_with_logits(vit, X, method, CLASSES, raw=True)[0]
    torch.testing.assert_close(got, rows, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("changes", POOLED)
@pytest.mark.parametrize("method", ["vta", "lrp_rollout", "attribution_rollout"])
def test_maps_of_pooled_heads_tell_images_apart_also_in_float32(method, changes):
    """Of twelve images two may lie where LRP divides by what is near 0, and there float32 is off on some processor."""
    vit = made(0.05, **changes)
    many = torch.rand(12, *X.shape[1:], generator=torch.Generator().manual_seed(0), dtype=X.dtype)
    heat = explain(vit, many, method, 1)
    spread = heat.amax((1, 2)) - heat.amin((1, 2))
    assert (spread / heat.mean((1, 2)) > 0.1).all()
    assert (heat[0] - heat[1]).abs().max() > 1e-3
    single = explain(vit.float(), many.float(), method, 1).double()
    assert ((heat - single).abs().amax((1, 2)) / spread < 0.01).sum() >= 10


def test_an_attention_pool_shows_its_own_attention():
    """Its map is the one that multiplies its values: moving one patch's value moves the answer by its share."""
    vit = made(global_pool="map")
    pool, tokens = vit.backbone.attn_pool, []
    hook = pool.register_forward_hook(lambda module, args, out: tokens.append(args[0]))
    raw = explain(vit, X, "raw_attention", raw=True)
    hook.remove()
    q = (pool.q(pool.latent)[0, 0]).unflatten(0, (3, 8))  # (heads, d)
    k = pool.kv(tokens[0])[..., :24].unflatten(2, (3, 8))  # (B, 16, heads, d)
    shares = (torch.einsum("hd,bnhd->bhn", q, k) / 8**0.5).softmax(-1)
    torch.testing.assert_close(raw, shares.mean(1).unflatten(1, (4, 4)), rtol=0, atol=1e-12)
    with capture_attention(vit) as maps:
        vit(X)
    eye = torch.eye(17, dtype=torch.float64)
    joint = product([(attn.mean(1) + eye) / 2 for attn in maps[1:]])
    rows = (nn.functional.pad(shares.mean(1), (1, 0))[:, None] @ joint)[:, 0, 1:].unflatten(1, (4, 4))
    torch.testing.assert_close(explain(vit, X, "rollout", raw=True), rows, rtol=0, atol=1e-12)
    x = X[:1].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: explain(vit, x, "raw_attention"), x, fast_mode=True)


def test_without_a_pool_the_class_token_is_shown():
    vit = made(global_pool="", num_classes=0)
    with capture_attention(vit) as maps:
        assert vit(X).shape == (3, 17, 24)
    rows = maps[-1].mean(1)[:, 0, 1:].unflatten(1, (4, 4))
    torch.testing.assert_close(explain(vit, X, "raw_attention", raw=True), rows, rtol=0, atol=1e-14)


# precision -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_give_the_map_of_float64(method, dtype):
    vit, x = tiny_vit(dtype), X.to(dtype)
    heat = explain(vit, x, method, CLASSES)
    exact = explain(copy.deepcopy(vit).double(), x.double(), method, CLASSES)
    assert heat.dtype in (torch.float32, torch.float64) and next(vit.parameters()).dtype == dtype
    tolerance = dict(rtol=1e-6, atol=1e-9) if METHODS[method].class_specific else dict(rtol=0.1, atol=2e-3)
    torch.testing.assert_close(heat.double(), exact, **tolerance)


@pytest.mark.parametrize("method", METHODS)
def test_autocast_around_changes_no_relevance(method):
    vit, x = tiny_vit(), X.float()
    heat = explain(vit, x, method, CLASSES)
    with torch.autocast("cpu", torch.bfloat16):
        inside = explain(vit, x, method, CLASSES)
    tolerance = dict(rtol=1e-4, atol=1e-6) if METHODS[method].class_specific else dict(rtol=0.1, atol=2e-3)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, heat, **tolerance)


def test_what_overflows_is_an_error_and_no_map():
    vit = tiny_vit()
    vit.backbone.head.weight.data *= 1e30
    for parameter in vit.backbone.blocks[-1].attn.parameters():
        parameter.data *= 1e5
    vit.backbone.blocks[-1].attn.qkv.weight.data[:48] = 0
    for raw in (True, False):
        with pytest.raises(ValueError, match=r"vta is NaN or infinite in torch\.float32 for images .*vit\.double\(\)"):
            explain(vit, X.float(), "vta", 1, raw=raw)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="NaN or infinite values"):
            normalise_map(torch.tensor([[[1.0, bad]]]))


# threads and modes ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("other", ["explain", "predict"])
def test_another_thread_meets_its_own_maps_and_leaves_ours(other):
    vit, results = tiny_vit(), []
    expected, theirs = (explain(vit, X[i : i + 1].float(), "rollout") for i in (0, 1))

    def run():
        results.append(explain(vit, X[1:2].float(), "rollout") if other == "explain" else vit(X[1:2].float()))

    with capture_attention(vit) as maps:
        vit(X[:1].float())
        mine = maps.stack()
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert torch.equal(maps.stack(), mine)  # theirs went by unseen
        torch.testing.assert_close(explain(vit, X[:1].float(), "rollout"), expected)
    assert len(results) == 1
    if other == "explain":
        torch.testing.assert_close(results[0], theirs)
    assert all(block.attn.fused_attn for block in vit.backbone.blocks)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in vit.modules())


@pytest.mark.parametrize("method", METHODS)
def test_many_threads_at_once_have_each_its_own_map(method):
    vit, got = tiny_vit(), {}
    expected = [explain(vit, x[None].float(), method, 1) for x in X]

    def run(i):
        got[i] = [explain(vit, X[i : i + 1].float(), method, 1) for _ in range(5)]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, want in enumerate(expected):
        for heat in got[i]:
            torch.testing.assert_close(heat, want, rtol=1e-3, atol=1e-5)
    assert all(block.attn.fused_attn for block in vit.backbone.blocks)


@pytest.mark.parametrize("method", METHODS)
def test_gradient_checkpointing_changes_no_map(method):
    vit = tiny_vit(torch.float64)
    expected = explain(vit, X, method, 1)
    vit.backbone.set_grad_checkpointing(True)
    torch.testing.assert_close(explain(vit, X, method, 1), expected, rtol=0, atol=1e-12)
    assert vit.backbone.grad_checkpointing
    if METHODS[method].differentiable:
        x = X.clone().requires_grad_()
        (grad,) = torch.autograd.grad(explain(vit, x, method)[:, 0, 0].sum(), x)
        vit.backbone.set_grad_checkpointing(False)
        (plain,) = torch.autograd.grad(explain(vit, x, method)[:, 0, 0].sum(), x)
        torch.testing.assert_close(grad, plain)
