"""Capturing attention: right, of every block, and without a trace left behind."""

import pytest
import timm
import torch
from oracles.maps import small_vit
from torch import nn

from fvit.models.attention import capture_attention

X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def n_hooks(vit):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in vit.modules())


def flags(vit):
    return [block.attn.fused_attn for block in vit.backbone.blocks]


def slow_attention(vit, x):
    """softmax(q k^T / sqrt(d)) block by block, head by head, query by query."""
    tokens = []
    handles = [b.attn.register_forward_pre_hook(lambda m, args: tokens.append(args[0])) for b in vit.backbone.blocks]
    vit(x)
    for handle in handles:
        handle.remove()
    out = []
    for block, inputs in zip(vit.backbone.blocks, tokens, strict=True):
        n_heads, size = block.attn.num_heads, block.attn.head_dim
        q, k, _ = block.attn.qkv(inputs).reshape(*inputs.shape[:2], 3, n_heads, size).unbind(2)  # (B, N, heads, d)
        rows = [
            [(k[:, :, h] @ q[:, i, h, :, None])[..., 0].div(size**0.5).softmax(-1) for i in range(q.shape[1])]
            for h in range(n_heads)
        ]
        out.append(torch.stack([torch.stack(head, 1) for head in rows], 1))  # (B, heads, N, N)
    return torch.stack(out, 1)


def test_maps_are_those_of_the_formula():
    vit = small_vit().double()
    with capture_attention(vit) as attn:
        vit(X.double())
    assert attn.stack().shape == (2, 3, 3, 5, 5)
    torch.testing.assert_close(attn.stack(), slow_attention(vit, X.double()), rtol=0, atol=1e-12)


def test_logits_agree_with_the_fused_kernel():
    vit = small_vit()
    assert all(flags(vit))
    fused = vit(X)
    with capture_attention(vit):
        assert not any(flags(vit))
        torch.testing.assert_close(vit(X), fused, rtol=0, atol=1e-5)
    assert torch.equal(vit(X), fused)


def test_nothing_is_left_behind():
    vit = small_vit()
    vit.backbone.blocks[1].attn.fused_attn = False  # someone else's choice is kept
    mine = vit.backbone.blocks[0].attn.attn_drop.register_forward_hook(lambda *_: None)  # and someone else's hook
    before = n_hooks(vit), flags(vit)
    assert before == (1, [True, False, True])
    for _ in range(2):
        with capture_attention(vit):
            vit(X)
            assert n_hooks(vit) == 1 + 4
    assert (n_hooks(vit), flags(vit)) == before
    with pytest.raises(KeyError), capture_attention(vit):
        raise KeyError("in the middle")
    assert (n_hooks(vit), flags(vit)) == before
    mine.remove()


def test_each_pass_replaces_the_maps():
    vit = small_vit()
    with capture_attention(vit) as attn:
        vit(X)
        first = attn.stack()
        vit(1 - X)
        assert len(attn) == 3 and not torch.equal(attn.stack(), first)
        vit(X)
    assert torch.equal(attn.stack(), first)


def test_blocks_that_are_not_read_stay_fused():
    vit = small_vit()
    with capture_attention(vit) as every:
        vit(X)
    with capture_attention(vit, [2]) as last:
        assert flags(vit) == [True, True, False] and n_hooks(vit) == 1 + 1
        vit(X)
    assert last[:2] == [None, None] and len(last.check()) == 3
    torch.testing.assert_close(last[2], every[2], rtol=0, atol=1e-6)
    with pytest.raises(RuntimeError, match="captured 1 attention maps of 3 blocks"):
        last.stack()


@pytest.mark.parametrize("blocks", [[3], [-1], [0, 7]])
def test_a_block_that_is_none_is_refused(blocks):
    with pytest.raises(ValueError, match=r"3 blocks, wanted indices 0\.\.2"), capture_attention(small_vit(), blocks):
        pass


def test_contexts_nest():
    vit = small_vit()
    with capture_attention(vit) as outer:
        with capture_attention(vit) as inner:
            vit(X)
        vit(1 - X)
    assert len(outer) == len(inner) == 3 and not torch.equal(outer.stack(), inner.stack())
    assert all(flags(vit)) and n_hooks(vit) == 0


def test_gradients_flow_through_the_maps():
    vit = small_vit().double()

    def attended(x):
        with capture_attention(vit) as attn:
            vit(x)
        return attn.stack()[:, :, :, 0, 1]

    assert torch.autograd.gradcheck(attended, X[:1].double().requires_grad_(), fast_mode=True)


def test_a_missing_map_is_an_error():
    vit = small_vit()
    with capture_attention(vit) as attn:
        pass
    with pytest.raises(RuntimeError, match=r"captured 0 attention maps of 3 blocks; run vit\(x\)"):
        attn.stack()
    with capture_attention(vit) as attn:
        vit.backbone.blocks[1].attn.fused_attn = True  # as if the switch had no effect
        vit(X)
    with pytest.raises(RuntimeError, match="captured 2 attention maps of 3 blocks"):
        attn.stack()


def test_what_is_no_attention_is_caught():
    vit = small_vit()
    vit.backbone.blocks[1].attn.attn_drop = nn.Hardtanh(0, 0.1)
    with pytest.raises(RuntimeError, match=r"rows sum to .*, wanted 1; what changes the softmax"):
        with capture_attention(vit):
            vit(X)


@pytest.mark.parametrize(("name", "changes", "n_tokens"), [
    ("deit_tiny_distilled_patch16_224", {}, 6), ("vit_tiny_patch16_224", dict(reg_tokens=4), 9),
    ("vit_tiny_patch16_224", dict(global_pool="avg", no_embed_class=True), 5),
])
def test_other_layouts_of_prefix_tokens(name, changes, n_tokens):
    vit = small_vit(name, **changes)
    with capture_attention(vit) as attn:
        vit(X)
    assert attn.stack().shape == (2, 3, 3, n_tokens, n_tokens)
    assert n_tokens == vit.num_prefix_tokens + vit.grid[0] * vit.grid[1]


def test_swin_gives_the_windows_of_its_last_stage():
    sizes = dict(img_size=32, window_size=2, embed_dim=12, depths=(1, 3), num_heads=(3, 3), num_classes=4)
    model = timm.models.SwinTransformer(**sizes).eval()
    with capture_attention(model) as attn:
        model(torch.rand(2, 3, 32, 32))
    assert attn.stack().shape == (2 * 4, 3, 3, 4, 4)  # 4 x 4 tokens in four windows
    assert (attn.stack().sum(-1) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("model", [nn.Linear(2, 2), timm.models.ResNet(timm.models.resnet.BasicBlock, (1, 1, 1, 1))])
def test_models_without_blocks_of_attention(model):
    with pytest.raises(ValueError, match="has no blocks whose attention we can capture; choose a timm ViT"):
        with capture_attention(model):
            pass
