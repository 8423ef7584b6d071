"""AttnLRP against its authors' package, rules by loops, gradients of a surrogate, and what is conserved."""

import pytest
import timm
import torch
from oracles import golden
from oracles.attn_lrp import SETTINGS, TARGET
from oracles.maps import images, small_vit
from torch import nn

from fvit.explanations import attn_lrp
from fvit.explanations.passes import explain
from fvit.models.vit import ViT

SIZES = dict(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=5)
LAYOUTS = {
    "class token": ("vit_tiny_patch16_224", {}), "distilled": ("deit_tiny_distilled_patch16_224", {}),
    "registers, layer scale": ("vit_small_patch14_reg4_dinov2", dict(mlp_ratio=2)),
    "pooled, class token, its own norm": ("vit_tiny_patch16_224", dict(global_pool="avg")),
    "norms of q, k and the output": ("vit_tiny_patch16_224", dict(qk_norm=True, scale_attn_norm=True)),
    "norm before the blocks, no positions": ("vit_tiny_patch16_224", dict(pre_norm=True, pos_embed="none")),
}
X, CLASSES = images(2), torch.tensor([0, 3])


def made(layout):
    name, changes = LAYOUTS[layout]
    return small_vit(name, 0.3, **(SIZES | changes)).double()


@pytest.mark.parametrize("setting", SETTINGS)
def test_golden_relevance_of_the_published_package(setting):
    vit = ViT(golden.backbone(), (0.5,) * 3, (0.5,) * 3)
    x, (gamma, conv_gamma) = (golden.explanations()[0]["A/input"][:2] + 1) / 2, SETTINGS[setting]
    got = explain(vit, x, "attn_lrp", torch.tensor(TARGET), raw=True, gamma=gamma, conv_gamma=conv_gamma)
    want = golden.attn_lrp()[setting]
    assert ((got - want).flatten(1).norm(dim=1) <= 1e-7 * want.flatten(1).norm(dim=1)).all()  # its epsilons are 1e-10
    if setting == "recipe":
        assert torch.equal(explain(vit, x, "attn_lrp", torch.tensor(TARGET), raw=True), got)  # the defaults


# rules ---------------------------------------------------------------------------------------------------------------
def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_gamma(weight, bias, x, relevance, gamma):
    """Products one by one: those of the output's sign count (1 + gamma)-fold, so does such a bias."""
    found = torch.zeros_like(x)
    for row in range(len(x)):
        for j in range(len(weight)):
            terms = [*(weight[j] * x[row]).tolist(), bias[j].item()]
            sign = 1 if sum(terms) > 0 else -1
            counted = [term * (1 + gamma * (term * sign > 0)) for term in terms]
            found[row] += torch.tensor(counted[:-1], dtype=x.dtype) * relevance[row, j] / sum(counted)
    return found


@pytest.mark.parametrize("gamma", [0.0, 0.05, 10.0])
@pytest.mark.parametrize("biased", [True, False])
def test_the_gamma_rule_by_loops(gamma, biased):
    weight, x, slope = random(5, 7), random(4, 7, seed=1), random(4, 5, seed=2)
    bias = random(5, seed=3) if biased else torch.zeros(5, dtype=torch.float64)
    out = x @ weight.T + bias
    got = x * attn_lrp.weighted(weight, bias if biased else None, x, out, slope, gamma)
    torch.testing.assert_close(got, slow_gamma(weight, bias, x, slope * out, gamma), rtol=1e-9, atol=1e-12)
    if not biased:
        torch.testing.assert_close(got.sum(1), (slope * out).sum(1))


def test_an_output_of_zero_has_no_relevance_and_no_nan():
    weight, x = random(3, 4), torch.zeros(2, 4, dtype=torch.float64)
    got = attn_lrp.weighted(weight, None, x, x @ weight.T, torch.ones(2, 3, dtype=torch.float64), 0.25)
    assert not got.any()
    assert not attn_lrp.activated(x, x, x + 1).any()


def test_softmax_is_taylors_of_each_output_and_says_what_its_bias_keeps():
    """s_j(z) is about s_j + sum_i (d s_j / d z_i) z_i: shares z_i (R_i - s_i sum R), R = s c the relevance of the s."""
    z, slope = random(3, 6), random(3, 6, seed=1)
    s = z.softmax(-1)
    got = z * attn_lrp.softmax(s, slope)
    relevance = s * slope
    torch.testing.assert_close(got, z * (relevance - s * relevance.sum(-1, keepdim=True)))
    jacobian = torch.stack([torch.autograd.functional.jacobian(lambda v: v.softmax(-1), row) for row in z])
    torch.testing.assert_close(got, z * torch.einsum("bji,bj->bi", jacobian, slope))


def test_products_give_each_operand_half():
    a, b, slope = random(2, 3, 4), random(2, 4, 5, seed=1), random(2, 3, 5, seed=2)
    of_a, of_b = attn_lrp.product(a, b, slope)
    half = (a @ b * slope).sum((1, 2)) / 2
    torch.testing.assert_close((a * of_a).sum((1, 2)), half)
    torch.testing.assert_close((b * of_b).sum((1, 2)), half)


def test_norms_and_activations_hand_on_all_but_a_bias():
    x, slope = random(3, 8), random(3, 8, seed=1)
    layers = [nn.LayerNorm(8), timm.layers.RmsNorm(8), nn.RMSNorm(8), nn.LayerNorm(8, elementwise_affine=False)]
    for layer in (layer.double() for layer in layers):
        if layer.weight is not None:
            nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(2))
        got = attn_lrp.normalised(layer, x, slope)
        torch.testing.assert_close((x * got).sum(1), (layer(x) * slope).sum(1))
    assert attn_lrp.normalised(nn.Identity(), x, slope) is slope
    act = nn.GELU()
    torch.testing.assert_close(x * attn_lrp.activated(x, act(x), slope), act(x) * slope)


# the pass ------------------------------------------------------------------------------------------------------------
def surrogate_gradient(vit, x, target):
    """Input times gradient of a ViT whose norms' deviations and activations' slopes are constants and whose products
    count half; the forward pass written out, other than ours in every step."""
    net = vit.backbone
    x = ((x - 0.5) / 0.5).requires_grad_()

    def norm(layer, v):
        if isinstance(layer, nn.Identity):
            return v
        centred = v - v.mean(-1, keepdim=True)
        y = centred / (centred.square().mean(-1, keepdim=True) + layer.eps).sqrt().detach()
        return y * layer.weight + layer.bias

    def half(v):
        return v / 2 + (v / 2).detach()

    tokens = net._pos_embed(net.patch_embed.proj(x).flatten(2).mT)
    tokens = norm(net.norm_pre, tokens)
    for block in net.blocks:
        attn = block.attn
        q, k, v = attn.qkv(norm(block.norm1, tokens)).unflatten(2, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        scores = half(norm(attn.q_norm, q) @ norm(attn.k_norm, k).mT) * attn.scale
        mixed = half(scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        tokens = tokens + block.ls1(attn.proj(norm(attn.norm, mixed)))
        hidden = block.mlp.fc1(norm(block.norm2, tokens))
        tokens = tokens + block.ls2(block.mlp.fc2(hidden * (nn.functional.gelu(hidden) / hidden).detach()))
    tokens = norm(net.norm, tokens)
    if hasattr(net, "head_dist"):
        logits = (net.head(tokens[:, 0]) + net.head_dist(tokens[:, 1])) / 2
    else:
        logits = net.head(norm(net.fc_norm, tokens[:, vit.readers].mean(1)))
    torch.testing.assert_close(logits, vit((x / 2 + 0.5).detach()), rtol=1e-9, atol=1e-9)
    (grad,) = torch.autograd.grad(logits.gather(1, target[:, None]).sum(), x)
    return (x * grad).sum(1).detach()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_gamma_it_is_the_gradient_of_a_surrogate(layout):
    vit = made(layout)
    got = explain(vit, X, "attn_lrp", CLASSES, raw=True, gamma=0, conv_gamma=0)
    torch.testing.assert_close(got, surrogate_gradient(vit, X, CLASSES), rtol=1e-8, atol=1e-10)
    alone = torch.cat([explain(vit, X[i : i + 1], "attn_lrp", CLASSES[i], raw=True) for i in range(2)])
    torch.testing.assert_close(alone, explain(vit, X, "attn_lrp", CLASSES, raw=True), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.05])
def test_a_net_without_biases_and_attention_hands_the_whole_logit_to_the_pixels(gamma):
    """Biases, class token, positions and the softmax keep relevance; here they have none."""
    vit = made("pooled, class token, its own norm")
    net = vit.backbone
    for name, parameter in net.named_parameters():
        if name.endswith("bias") or name in ("cls_token", "pos_embed"):
            parameter.data.zero_()
    for block in net.blocks:
        block.attn.qkv.weight.data.zero_()
    got = explain(vit, X, "attn_lrp", CLASSES, raw=True, gamma=gamma, conv_gamma=gamma).sum((1, 2))
    torch.testing.assert_close(got, vit(X).gather(1, CLASSES[:, None])[:, 0], rtol=1e-9, atol=1e-12)


def test_float32_agrees_with_float64_for_no_denominator_is_small():
    vit = made("class token")
    want = explain(vit, X, "attn_lrp", CLASSES, raw=True)
    got = explain(vit.float(), X.float(), "attn_lrp", CLASSES, raw=True)
    assert ((got - want).flatten(1).norm(dim=1) <= 1e-4 * want.flatten(1).norm(dim=1)).all()


@pytest.mark.parametrize(("changes", "options", "message"), [
    ({}, dict(gamma=-1), r"gamma=-1, wanted a number in \[0, inf\)"),
    ({}, dict(conv_gamma="x"), r"conv_gamma=x, wanted a number in \[0, inf\)"),
    (dict(norm_layer=timm.layers.SimpleNorm), {}, "rules for LayerNorm and RmsNorm, norm of .* is a SimpleNorm"),
    (dict(mlp_layer=timm.layers.SwiGLU), {}, "Block, Attention, SwiGLU"),
])
def test_what_has_no_rule_is_refused(changes, options, message):
    vit = ViT(timm.models.VisionTransformer(**SIZES, **changes), (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(ValueError, match=message):
        explain(vit, X.float(), "attn_lrp", **options)
