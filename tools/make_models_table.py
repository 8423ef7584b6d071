"""Write the table of docs/models.md: which of timm's vision transformers each method can explain, every claim tried.

    python tools/make_models_table.py [docs/models.md]

Each architecture is built small, with random weights in float64, and loaded, which proves its attention. Those of one
layout make one row: of the TRIED smallest each method is either right or refused in one line (`judge`), the others give
the same answers; anything else stops the script. Minutes on one core.
"""

import re
import sys
from pathlib import Path

import timm
import torch
from timm.models.vision_transformer_hybrid import HybridEmbed
from torch import nn

import fvit
from fvit.explanations.methods import METHODS
from fvit.explanations.passes import explain_with_logits, forward_pass
from fvit.models.layouts import attention_layer, check_outline
from fvit.models.vit import ViT

FAMILIES = ("beit", "deit", "eva", "swin_transformer", "swin_transformer_v2", "vision_transformer", "vitamin",
            "vision_transformer_hybrid", "vision_transformer_relpos")
OTHERS = ("cait", "coat", "convit", "crossvit", "davit", "deepseek_vit", "edgenext", "efficientformer",
          "efficientformer_v2", "efficientvit_mit", "efficientvit_msra", "fastvit", "focalnet", "gcvit", "gemma4_vit",
          "hiera", "hieradet_sam2", "iformer", "levit", "maxxvit", "mobilevit", "mvitv2", "naflexvit", "nest",
          "nextvit", "pit", "pvt_v2", "qwen3_vit", "repvit", "swin_transformer_v2_cr", "tiny_vit", "tnt", "twins",
          "vision_transformer_sam", "visformer", "volo", "xcit")
TRIED = 3
START, END = "<!-- made by tools/make_models_table.py -->", "<!-- end -->"


def small(name: str) -> nn.Module:
    """timm's architecture `name` with its own layers and layout, but few and narrow ones, random, in float64."""
    sizes = dict(num_classes=4, pretrained=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name.startswith("swin"):
            net = timm.create_model(name, img_size=64, window_size=4, embed_dim=12, depths=(1, 2), num_heads=(3, 3),
                                    **sizes)
        elif name.startswith("vitamin") or "_mci" in name:  # whose stem says how wide it is
            net = timm.create_model(name, img_size=(64, 96), depth=2, **sizes)
        else:
            patch = int((re.search(r"patch(\d+)", name) or [0, "32"])[1])
            more = dict(attn_pool_num_heads=3) if "_pe_" in name else {}
            more |= dict(num_kv_heads=(3, 1)) if "sapiens2" in name else {}  # of each block
            net = timm.create_model(name, img_size=(2 * patch, 3 * patch), embed_dim=48, depth=2, num_heads=3,
                                    **sizes, **more)
        stem = isinstance(net.patch_embed, HybridEmbed)  # of many convolutions, which noise would spread over the image
        for name, parameter in net.named_parameters():  # attention far from uniform, heads that are not zero
            if not (stem and name.startswith("patch_embed")):
                parameter.data += 0.2 * torch.randn(parameter.shape)
    return net.double().eval()


def wrapped(net: nn.Module) -> ViT:
    return ViT(net, (0.5,) * 3, (0.5,) * 3)


def layout(vit: ViT) -> tuple:
    """What tells one row of the table from another: the stem, the kind of block, what is read."""
    net, block = vit.backbone, (vit.backbone.layers[-1] if vit.windowed else vit.backbone).blocks[-1]
    parts = [type(part).__name__ for part in (block, attention_layer(block), getattr(block, "mlp", None)) if part]
    prefix = vit.num_prefix_tokens
    row = {"token": "class token", "avg": "patches, mean", "map": "the pool's own attention"}[net.global_pool]
    if vit.windowed or hasattr(net, "head_dist"):
        row = "windows, mean" if vit.windowed else "class and distillation token, mean"
    elif prefix and vit.readers == slice(0, None) and net.global_pool == "avg":
        row = "all tokens, mean"
    return type(net).__name__, type(net.patch_embed).__name__, " · ".join(dict.fromkeys(parts)), row


def images(vit: ViT, n: int = 2) -> torch.Tensor:
    return torch.rand(n, 3, *vit.image_size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def judge(vit: ViT) -> dict:
    """`fvit.supports(vit)`, if every answer holds: AssertionError where a map is wrong or a refusal is long."""
    answers, x = fvit.supports(vit), images(vit)
    if not vit.windowed:
        check_order(vit, x[:1])
    for method, answer in answers.items():
        if answer is not True:
            assert "\n" not in answer, answer
            try:
                fvit.explain(vit, x, method, 1)
            except ValueError as err:
                assert str(err) == answer, (method, str(err), answer)
                continue
            raise AssertionError(f"{method} is refused by supports and not by explain")
        heat = fvit.explain(vit, x, method, 1)
        assert heat.shape == (2, *vit.grid) and torch.allclose(heat.sum((1, 2)), heat.new_ones(2)), method
        assert fvit.explain(vit, x[1:], method, 1).sub(heat[1:]).abs().max() < 1e-7, method
        if method != "gradcam":  # which may be uniform where nothing speaks for the class
            assert (heat[0] - heat[1]).abs().max() > 1e-5, f"{method} has one map for two images"
            assert heat.amax() - heat.amin() > 1e-3 / heat[0].numel(), f"{method} has a uniform map"
    check_rows(vit, x, answers)
    if answers["gradcam"] is True:
        check_gradient(vit, x[:1])
    if answers["vta"] is True:
        relevance = forward_pass(vit, x).relevance(torch.tensor([1, 2]), "vta")
        relevance.tokens()
        assert (torch.stack(relevance.totals) - 1).abs().max() < 1e-4, "relevance is not conserved"
    return answers


def check_order(vit: ViT, x) -> None:
    """Another content of one patch moves the token that stands for it most, of all that enter the first block.

    Behind a stem of several convolutions, whose fields overlap, that or one beside it.
    """
    seen, (h, w), (height, width) = [], vit.grid, vit.image_size
    hook = vit.backbone.blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    vit(x)
    for row, column in {(0, w - 1), (h - 1, 0), (h // 2, w // 2)}:
        other = x.clone()
        other[..., height * row // h : height * (row + 1) // h, width * column // w : width * (column + 1) // w] = 0
        vit(other)
        moved = (seen[-1] - seen[0]).norm(dim=2)[0]
        found = divmod(moved.argmax().item() - vit.num_prefix_tokens, w)
        away = max(abs(found[0] - row), abs(found[1] - column))
        assert away <= isinstance(vit.backbone.patch_embed, HybridEmbed), f"patch {row}, {column} is token {found}"
        assert not moved[: vit.num_prefix_tokens].any(), "a token before the patches moves with the image"
    hook.remove()


def check_rows(vit: ViT, x, answers) -> None:
    """Raw attention and rollout, again: token by token, from the captured maps and what the head reads of them."""
    with fvit.capture_attention(vit) as maps, torch.no_grad():
        vit(x)
    if vit.windowed:
        return
    n = maps[-1].shape[-1]
    shares = torch.zeros(len(x), n, dtype=x.dtype)
    shares[:, vit.readers] = 1 / len(range(n)[vit.readers])
    if maps.pool is not None:
        shares[:, n - maps.pool.shape[-1] :] = maps.pool[:, :, 0].mean(1)
    raw, joint = shares if maps.pool is not None else (shares[:, None] @ maps[-1].mean(1))[:, 0], torch.eye(n).to(x)
    for attn in maps[1:]:
        joint = (attn.mean(1) + torch.eye(n).to(x)) / 2 @ joint
    for method, row in (("raw_attention", raw), ("rollout", (shares[:, None] @ joint)[:, 0])):
        if answers[method] is True:
            got = explain_with_logits(vit, x, method, raw=True)[0].flatten(1)
            assert torch.allclose(got, row[:, vit.num_prefix_tokens :], rtol=0, atol=1e-12), method


def check_gradient(vit: ViT, x, h: float = 1e-5) -> None:
    """d logit / d attention of the last block, at its greatest entries, is the change of the logit as they change."""
    target = torch.tensor([1])
    record = forward_pass(vit, x, ["gradcam"])
    (gradient,) = record.gradient(target, len(record.attention) - 1)
    layer = attention_layer((vit.backbone.layers[-1] if vit.windowed else vit.backbone).blocks[-1])
    for index in gradient.abs().flatten().topk(3).indices.tolist():
        logits = []
        for step in (h, -h):
            def changed(module, args, out, step=step, index=index):
                return out + step * nn.functional.one_hot(torch.tensor(index), out.numel()).view_as(out)
            hook = layer.attn_drop.register_forward_hook(changed)
            with fvit.capture_attention(vit, [len(record.attention) - 1]), torch.no_grad():
                logits.append(vit(x)[0, 1].item())
            hook.remove()
        slope = (logits[0] - logits[1]) / (2 * h)
        assert abs(slope - gradient.flatten()[index]) <= 1e-4 * abs(slope) + 1e-9, "another gradient"


def sweep(names) -> tuple[dict, dict]:
    """{layout: (answers, architectures)} of those that load, and {reason: architectures} of those that do not."""
    rows, refused = {}, {}
    for name in sorted(names, key=_size):
        try:
            vit = wrapped(small(name))
        except ValueError as err:
            assert "\n" not in str(err), err
            refused.setdefault(_short(err), []).append(name)
            continue
        try:
            key = layout(vit)
            answers = judge(vit) if len(rows.get(key, ((), ()))[1]) < TRIED else fvit.supports(vit)
        except Exception as err:
            err.add_note(f"of {name}")
            raise
        same = [answer is True for answer in rows.setdefault(key, (answers, []))[0].values()]
        assert same == [answer is True for answer in answers.values()], f"{name} has other answers than {key}"
        rows[key][1].append(name)
    return rows, refused


def _size(name: str) -> int:
    """Small ones first: some stems say how wide their network is, whatever is asked of it."""
    return next((n for n, size in enumerate(("test", "tiny", "small", "base")) if size in name), 4)


def outlines(names) -> dict:
    """{reason: architectures} of other families, whose outline alone is refused: built without weights."""
    refused = {}
    for name in names:
        with torch.device("meta"):
            net = timm.create_model(name, pretrained=False)
        try:
            check_outline(net)
        except ValueError as err:
            assert "\n" not in str(err) and "device meta" not in str(err), (name, err)
            refused.setdefault(_short(err), []).append(name)
        else:
            raise AssertionError(f"{name} has a layout that this table does not try; add its family to FAMILIES")
    return refused


def table(rows: dict, refused: dict) -> str:
    """The lines between START and END of docs/models.md."""
    lines = [f"Tried with timm {timm.__version__}: {sum(len(names) for _, names in rows.values())} architectures in "
             f"{len(rows)} layouts can be explained, {sum(map(len, refused.values()))} are refused.", "",
             f"| class | stem | block | row read | {' | '.join(METHODS)} | architectures |",
             "|---" * (5 + len(METHODS)) + "|"]
    for (net, stem, block, row), (answers, names) in sorted(rows.items()):
        cells = ["yes" if answer is True else "-" for answer in answers.values()]
        lines.append(f"| {net} | {stem} | {block} | {row} | {' | '.join(cells)} | {_named(names)} |")
    lines += ["", "Refused when loaded:", "", "| reason | architectures |", "|---|---|"]
    lines += [f"| {reason} | {_named(names, 6)} |" for reason, names in sorted(refused.items())]
    return "\n".join(lines)


def _named(names, most=3):
    names = sorted(names, key=lambda name: (len(name), name))
    return ", ".join(f"`{name}`" for name in names[:most]) + (f" and {len(names) - most} more" if names[most:] else "")


def _short(err):
    return re.sub(r"^\w+ |; choose .*", "", str(err))  # without the class, which the architectures share


def main(path: Path) -> None:
    rows, refused = sweep(name for module in FAMILIES for name in timm.list_models(module=module))
    for reason, names in outlines(name for module in OTHERS for name in timm.list_models(module=module)).items():
        refused.setdefault(reason, []).extend(names)
    text = path.read_text(encoding="utf-8")
    before, _, after = text.partition(START)
    path.write_text(f"{before}{START}\n{table(rows, refused)}\n{END}{after.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs" / "models.md"))
