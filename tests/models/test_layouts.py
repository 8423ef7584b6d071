"""A model is known by what it computes: the proof at loading, what it refuses, and timm's architectures by a dozen."""

import types

import make_models_table as table
import pytest
import timm
import torch
from oracles.maps import small_vit
from timm.models.vision_transformer import DiffParallelScalingBlock, ParallelScalingBlock, ParallelThingsBlock
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import nn

import fvit
from fvit.models.attention import capture_attention
from fvit.models.layouts import layer_output
from fvit.models.vit import ViT

HALF = (0.5,) * 3
SIZES = dict(img_size=16, patch_size=8, embed_dim=12, depth=2, num_heads=3, num_classes=4)
X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def net(**changes):
    return timm.models.VisionTransformer(**{**SIZES, **changes}).eval()


def wrap(backbone, **options):
    return ViT(backbone, HALF, HALF, **options)


DOZEN = ("beit_base_patch16_224", "deit_tiny_distilled_patch16_224", "eva02_tiny_patch14_336", "test_vit_relpos",
         "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "test_vit3", "vit_base_patch16_xp_224",
         "vit_pe_core_tiny_patch16_384", "vit_base_patch16_gap_224", "vit_small_patch16_dinov3",
         "vit_small_patch14_reg4_dinov2", "vit_base_patch16_rpn_224")


@pytest.mark.parametrize("name", DOZEN)
def test_each_method_is_right_or_refused_in_one_line(name):
    """Token order, rows, gradients and conservation, as docs/models.md's script tries them."""
    vit = table.wrapped(table.small(name))
    answers = table.judge(vit)
    assert answers["raw_attention"] is answers["gradcam"] is True
    text = table.table({table.layout(vit): (answers, [name])}, {})
    row = next(line for line in text.splitlines() if f"`{name}`" in line).rpartition("|")[0].rpartition("|")[0]
    page = (table.Path(table.__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
    assert row in page, "make docs/models.md anew: python tools/make_models_table.py"


@pytest.mark.parametrize("block", [None, ParallelScalingBlock])
def test_what_is_captured_is_what_multiplies_the_values(block):
    vit = wrap(net(**({} if block is None else dict(block_fn=block))).double())
    layers, seen = [getattr(b, "attn", b) for b in vit.backbone.blocks], []
    hooks = [layer.register_forward_hook(lambda m, args, out: seen.append((args[0], out))) for layer in layers]
    with capture_attention(vit) as maps:
        vit(X.double())
    for layer, attn, (x, out), hook in zip(layers, maps, seen, hooks, strict=True):
        torch.testing.assert_close(layer_output(layer, x, attn), out, rtol=0, atol=1e-12)
        assert (layer_output(layer, x, attn.roll(1, -1)) - out).abs().max() > 1e-6
        hook.remove()


def own_forward(layer, x, **options):
    """Attention whose values come from other tokens than its map says, as merged or shifted tokens do."""
    q, k, v = layer.qkv(x).unflatten(2, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)
    attn = layer.attn_drop((layer.scale * q @ k.mT).softmax(-1))
    return layer.proj((attn @ v.roll(1, 2)).transpose(1, 2).flatten(2))


def with_own_forward():
    made = net()
    made.blocks[1].attn.forward = types.MethodType(own_forward, made.blocks[1].attn)
    return made


def reads_another_token():
    made = net()
    made.pool = lambda x, *_: x[:, 2]
    return made


def reads_the_greatest():
    made = net(class_token=False, global_pool="avg", fc_norm=True)
    made.pool = lambda x, *_: x.amax(1)
    return made


def of_no_size():
    made = net()
    made.patch_embed.img_size = None
    return made


class Merging(timm.models.VisionTransformer):
    def _pos_embed(self, x):
        return super()._pos_embed(x)[:, :-1]


class OwnAttention(timm.layers.Attention):
    """As a patched class looks: what it computes is anyone's guess."""


@pytest.mark.parametrize(("make", "message"), [
    (with_own_forward, "attention times values is not what Attention of block 1 of VisionTransformer gives"),
    (reads_another_token, r"does not read tokens 0\.\.1 alike, as global_pool='token' says, but \[2\]"),
    (reads_the_greatest, r"does not read tokens 0\.\.4 alike, as global_pool='avg' says"),
    (lambda: Merging(**SIZES), r"attends by a map \(1, 3, 4, 4\), wanted \(1, heads, 5, 5\): 1 tokens before 2 x 2"),
    (lambda: net(attn_layer=OwnAttention), r"\.OwnAttention, whose attention we do not know"),
    (lambda: net(attn_layer="diff", embed_dim=24), r"DiffAttention, whose attention we do not know"),
    (lambda: net(block_fn=DiffParallelScalingBlock, embed_dim=24), "DiffParallelScalingBlock, whose attention"),
    (lambda: net(block_fn=ParallelThingsBlock), "ParallelThingsBlock, whose attention we do not know"),
    (lambda: net(global_pool="max"), "reads its tokens by global_pool='max', of which no row can be shown"),
    (lambda: net(global_pool="prr"), "global_pool='prr'"),
    (lambda: net(in_chans=1), "takes 1 channels, wanted 3, RGB; build it with in_chans=3"),
    (lambda: net(in_chans=4), "takes 4 channels"), (of_no_size, "states no image size"),
    (lambda: net().to("meta"), "lies on the device meta"),
    (lambda: VisionTransformerSAM(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, window_size=2),
     r"vision_transformer_sam\.Attention, whose attention we do not know"),
    (lambda: timm.models.Cait(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3), "TalkingHeadAttn"),
    (lambda: timm.models.ConVit(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3), "convit"),
    (lambda: nn.DataParallel(net()), "DataParallel is no plain vision transformer"),
])
def test_what_no_method_can_explain_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        wrap(make())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_proof_holds_in_other_precisions(dtype):
    assert wrap(net(reg_tokens=2).to(dtype))(X).dtype == dtype


def test_the_proof_leaves_no_trace():
    backbone = net(drop_path_rate=0.5).train()
    backbone.set_grad_checkpointing(True)
    backbone.blocks[0].attn.fused_attn = False
    before, state = {k: v.clone() for k, v in backbone.state_dict().items()}, torch.get_rng_state()
    with torch.no_grad():
        vit = wrap(backbone, freeze=False)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state) and backbone.grad_checkpointing
    assert all(m.training and not (m._forward_hooks or m._forward_pre_hooks) for m in backbone.modules())
    assert [block.attn.fused_attn for block in backbone.blocks] == [False, True]
    assert all(p.requires_grad and p.grad is None for p in vit.parameters())
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_freeze_false_leaves_the_callers_module_trainable():
    vit = wrap(net(), freeze=False)
    vit(X).sum().backward()
    assert all(p.grad is not None for p in vit.backbone.blocks.parameters())
    assert not any(p.requires_grad for p in wrap(net()).parameters())


def test_the_wrapper_stays_in_evaluation_mode_and_gives_the_owner_his_back():
    backbone = net(drop_path_rate=0.5, proj_drop_rate=0.5)
    vit = wrap(backbone)
    expected = vit(X)
    nn.ModuleDict({"vit": vit}).train()  # as a parent of Lightning's does
    assert not vit.training and not backbone.training
    backbone.train()
    for _ in range(2):
        torch.testing.assert_close(vit(X), expected)
        assert all(module.training for module in backbone.modules())
    for method in fvit.METHODS:
        assert torch.equal(fvit.explain(vit, X, method, 1), fvit.explain(vit, X, method, 1))
    backbone.set_grad_checkpointing(True)
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(vit(x)[:, 1].sum(), x)  # nothing is computed again with dropout
    (again,) = torch.autograd.grad(wrap(backbone.eval())(x)[:, 1].sum(), x)
    torch.testing.assert_close(gradient, again)


def test_the_number_of_classes_is_that_of_the_logits():
    backbone = net(num_classes=0)
    assert wrap(backbone).num_classes == 0 and wrap(net(num_classes=0, global_pool="")).num_classes == 0
    assert wrap(net(global_pool="")).num_classes == 0  # a row of logits for each token is no prediction
    backbone.head = nn.Sequential(nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 7))  # its num_classes still says 0
    assert wrap(backbone).num_classes == 7


def test_registers_and_pools_read_what_the_proof_finds():
    assert wrap(net(reg_tokens=2)).readers == slice(0, 1)
    assert wrap(net(reg_tokens=2, global_pool="avg")).readers == slice(3, None)
    assert wrap(net(global_pool="map", reg_tokens=2)).readers == slice(3, None)
    assert wrap(net(global_pool="map", pool_include_prefix=True)).readers == slice(0, None)
    assert wrap(net(global_pool="", num_classes=0)).readers == slice(0, 1)
    assert wrap(net(global_pool="", num_classes=0, class_token=False)).readers == slice(0, None)


def test_attention_of_a_known_class_is_captured_from_a_small_vit_too():
    vit = small_vit("eva02_tiny_patch14_224", 0.3)
    with capture_attention(vit) as maps:
        vit(X)
    torch.testing.assert_close(maps.stack().sum(-1), torch.ones(2, 3, 3, maps[0].shape[-1]))


def test_what_torch_compile_wraps_is_explained_as_the_model_itself():
    plain = net()
    compiled = wrap(torch.compile(plain))  # compiles nothing before it is called, and it never is
    assert compiled.backbone is plain and compiled.name == "VisionTransformer"
