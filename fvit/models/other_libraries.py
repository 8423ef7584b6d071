"""Vision transformers of transformers, torchvision and open_clip in timm's form, where that is one to one.

None of the three need be installed. Weights are copied by name; what answers for the mapping is that the two networks
give the same numbers: for a module, on an image each time it is loaded; for a folder, in the tests.
"""

import copy
import re
from functools import partial
from pathlib import Path

import torch
from timm.layers import LayerNorm
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from fvit.base.files import read_json
from fvit.models.weight_files import check_fits, read_weights, short

TRANSFORMERS = {  # architecture: default epsilon of its LayerNorms
    "ViTForImageClassification": 1e-12, "ViTModel": 1e-12, "DeiTForImageClassification": 1e-12, "DeiTModel": 1e-12,
    "DeiTForImageClassificationWithTeacher": 1e-12, "ViTMSNForImageClassification": 1e-6, "ViTMSNModel": 1e-6,
    "Dinov2Model": 1e-6, "Dinov2WithRegistersModel": 1e-6}
ACTIVATIONS = {"gelu": None, "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "quick_gelu": "quick_gelu",
               "relu": "relu", "silu": "silu", "swish": "silu"}  # transformers' name: timm's; None is the exact GELU
RENAMES = {  # patterns of names, in order, and what stands for them in timm; "" for what the answer does not read
    "transformers": [
        (r"^(vit|deit|dinov2|dinov2_with_registers)\.", ""), (r"^(encoder\.)?layers?\.(\d+)\.", r"blocks.\2."),
        (r"attention\.(attention\.query|q_proj)\.", "attn.q."), (r"attention\.(attention\.key|k_proj)\.", "attn.k."),
        (r"attention\.(attention\.value|v_proj)\.", "attn.v."),
        (r"attention\.(output\.dense|o_proj)\.", "attn.proj."), (r"intermediate\.dense\.", "mlp.fc1."),
        (r"\.output\.dense\.", ".mlp.fc2."), (r"layernorm_before\.", "norm1."), (r"layernorm_after\.", "norm2."),
        (r"layer_scale(\d)\.lambda1", r"ls\1.gamma"), (r"^layernorm\.", "norm."),
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^embeddings\.position_embeddings", "pos_embed"), (r"^embeddings\.cls_token", "cls_token"),
        (r"^embeddings\.(distillation_token|register_tokens)", "reg_token"),
        (r"^(cls_)?classifier\.", "head."), (r"^distillation_classifier\.", "head_dist."),
        (r"^(embeddings\.mask_token|pooler\.).*", "")],
    "torchvision": [
        (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."), (r"^encoder\.pos_embedding", "pos_embed"),
        (r"^class_token", "cls_token"), (r"^conv_proj\.(weight|bias)", r"patch_embed.proj.\1"),
        (r"^encoder\.ln\.", "norm."), (r"\.ln_(\d)\.", r".norm\1."), (r"self_attention\.in_proj_", "attn.qkv."),
        (r"self_attention\.out_proj\.", "attn.proj."), (r"mlp\.0\.", "mlp.fc1."), (r"mlp\.3\.", "mlp.fc2."),
        (r"^heads(\.(head|\d))?\.(weight|bias)", r"head.\3")],
    "open_clip": [
        (r"^transformer\.resblocks\.", "blocks."), (r"^class_embedding", "cls_token"),
        (r"^positional_embedding", "pos_embed"), (r"^conv1\.", "patch_embed.proj."), (r"^ln_pre\.", "norm_pre."),
        (r"^ln_post\.", "norm."), (r"\.ln_(\d)\.", r".norm\1."), (r"attn\.in_proj_", "attn.qkv."),
        (r"attn\.out_proj\.", "attn.proj."), (r"mlp\.c_fc\.", "mlp.fc1."), (r"mlp\.c_proj\.", "mlp.fc2."),
        (r"\.ls_(\d)\.gamma", r".ls\1.gamma"), (r"^proj$", "")]}
MARKS = {"transformers": "patch_embeddings.projection.weight", "torchvision": "conv_proj.weight",
         "open_clip": "transformer.resblocks.0.ln_1.weight"}  # how the name of one of its weights ends
NORMALISATIONS = {
    "transformers": "those of its image processor: mean=processor.image_mean, std=processor.image_std",
    "torchvision": "torchvision's own weights want mean=(.485, .456, .406), std=(.229, .224, .225)",
    "open_clip": "OpenAI's and LAION's weights want open_clip.OPENAI_DATASET_MEAN and OPENAI_DATASET_STD"}


def saved_by_transformers(config: dict) -> bool:
    """Whether a config.json is one of transformers, not of timm."""
    return "architecture" not in config and bool({"model_type", "architectures"} & set(config))


def from_folder(folder: Path, config: dict, files: list[Path], num_classes: int | None, mend: str) -> nn.Module:
    """timm's form of the model in a folder of transformers, `config` being its config.json.

    files   its weights; none for random ones

    Raises ValueError for an architecture that has none, settings that are none, or weights that do not fit.
    """
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else config.get("model_type")
    if name not in TRANSFORMERS:
        raise ValueError(f"{folder} holds transformers' {name}: {_told('transformers')}")
    what, classifies, state = f"transformers' {name} in {folder}", "ImageClassification" in name, {}
    if files:
        state = rename("transformers", read_weights(files, mend))
        classes = len(state.get("head.weight", ()))
        if classifies and not classes:
            raise ValueError(f"{what} has no weights of its classifier in {files[0].name}; {mend}")
        if num_classes not in (None, classes):  # a new head, as timm makes it
            state = {name: value for name, value in state.items() if not name.startswith("head")}
    else:
        classes = len(config.get("id2label") or (0, 1)) if classifies else 0
    described = partial(_build, name, config, classes if num_classes is None else num_classes, what)
    try:
        if files:
            check_fits(described, config, files, mend)
        backbone = described()
        mean, std = _normalisation(folder, mend)
    except (OSError, ValueError):
        raise
    except Exception as err:  # settings of wrong kinds
        raise ValueError(f"{what} has settings that describe no network ({short(err)}); {mend}") from err
    backbone.pretrained_cfg = {"mean": mean, "std": std}
    return _fill(backbone, state, what, mend) if files else backbone


def from_module(module: nn.Module, normalised: bool = True) -> nn.Module | None:
    """timm's form of a module of one of the three libraries, a copy of its precision; None for modules of others.

    normalised   whether its mean and std are known; where they are not and it does not say them, that is an error

    Raises ValueError, with the way round, where there is none, or where its answer is not the same on an image.
    """
    library, name = next(((part, kind.__name__) for kind in type(module).__mro__
                          if (part := kind.__module__.partition(".")[0]) in RENAMES), (None, ""))
    if library is None:
        return None
    what = f"{_of(library)} {name}"
    if inner := next((inner for inner in ("visual", "trunk", "timm_model") if hasattr(module, inner)), None):
        raise ValueError(f"{what} holds an image tower; give that alone: load_vit(model.{inner}, mean=..., std=...)")
    if name not in (TRANSFORMERS if library == "transformers" else ("VisionTransformer",)):
        raise ValueError(f"{what}: {_told(library)}")
    described = {"transformers": _of_transformers, "torchvision": _of_torchvision, "open_clip": _of_open_clip}[library]
    try:
        double = copy.deepcopy(module).cpu().double().eval()  # so that what differs is not rounding
        renamed = rename(library, double.state_dict())
        with torch.device("meta"):  # no random weights first
            backbone = described(double, renamed, what)
        backbone = _fill(backbone.to_empty(device="cpu"), renamed, what, _told(library)).eval()
        error = _difference(backbone, double)
    except (AttributeError, IndexError, RuntimeError, TypeError) as err:  # a part replaced by one of another kind
        raise ValueError(f"{what} is not as {library} builds it ({short(err)}); {_told(library)}") from err
    if not error <= 1e-5:  # transformers takes its softmax in float32
        raise ValueError(f"{what} answers otherwise than its weights do in timm's form (off by {error:.2g}): it was "
                         f"changed, or set to what that form lacks; {_told(library)}")
    if getattr(module, "image_mean", None) and getattr(module, "image_std", None):  # of open_clip
        backbone.pretrained_cfg = {"mean": module.image_mean, "std": module.image_std}
    elif not normalised:
        raise ValueError(f"{what} states no mean and std; give both, {NORMALISATIONS[library]}")
    return backbone.to(next(module.parameters()))


def library_of(state) -> str | None:
    """The library, of the three, whose names of weights these are."""
    return next((library for library, mark in MARKS.items() if any(name.endswith(mark) for name in state)), None)


def rename(library: str, state: dict) -> dict:
    """The weights by timm's names; what timm's form does not read is left out."""
    found = {}
    for theirs, value in state.items():
        name = theirs
        for pattern, ours in RENAMES[library]:
            name = re.sub(pattern, ours, name)
        if name in found:
            raise ValueError(f"{theirs} and another weight are both {name} in timm; {_told(library)}")
        if name:
            found[name] = value
    for name in [name for name in found if ".attn.q." in name]:
        found[name.replace(".q.", ".qkv.")] = torch.cat(
            [found.pop(name.replace(".q.", f".{one}.")) for one in "qkv" if name.replace(".q.", f".{one}.") in found])
    if "head_dist.weight" in found:
        found["dist_token"] = found.pop("reg_token")
    width = len(found["patch_embed.proj.weight"]) if "patch_embed.proj.weight" in found else 0
    for name in {"cls_token", "pos_embed"} & set(found):
        if width and found[name].numel() % width == 0:
            found[name] = found[name].reshape(1, -1, width)
    return found


def _build(name: str, config: dict, num_classes: int, what: str) -> nn.Module:
    """timm's form of transformers' architecture `name`, with random weights."""
    settings = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_act": "gelu",
                "layer_norm_eps": TRANSFORMERS[name], "image_size": 224, "patch_size": 16, "num_channels": 3,
                "qkv_bias": True, "mlp_ratio": 4, "intermediate_size": 3072, "num_register_tokens": 4, **config}
    dino = name.startswith("Dinov2")
    if settings["hidden_act"] not in ACTIVATIONS or settings.get("use_swiglu_ffn"):
        raise ValueError(f"{what} has the activation {settings['hidden_act']} or SwiGLU, wanted one of "
                         f"{', '.join(ACTIVATIONS)}; choose another model")
    hidden = settings["mlp_ratio"] * settings["hidden_size"] if dino else settings["intermediate_size"]
    registers = settings["num_register_tokens"] if "Registers" in name else int(name.startswith("DeiT"))
    with_teacher = name.endswith("WithTeacher")
    return _timm(
        VisionTransformerDistilled if with_teacher else VisionTransformer, hidden, settings["layer_norm_eps"],
        img_size=settings["image_size"], patch_size=settings["patch_size"], in_chans=settings["num_channels"],
        embed_dim=settings["hidden_size"], depth=settings["num_hidden_layers"],
        num_heads=settings["num_attention_heads"], qkv_bias=settings["qkv_bias"], num_classes=num_classes,
        act_layer=ACTIVATIONS[settings["hidden_act"]], init_values=1.0 if dino else None,
        reg_tokens=0 if with_teacher else registers, no_embed_class="Registers" in name)


def _timm(kind, hidden: int, eps: float, **settings) -> nn.Module:
    ratio = (hidden + 0.5) / settings["embed_dim"]  # timm rounds width * ratio down
    backbone = kind(mlp_ratio=ratio, norm_layer=partial(LayerNorm, eps=eps), **settings)
    backbone.pretrained_cfg = {}
    return backbone


def _of_transformers(module, state: dict, what: str) -> nn.Module:
    return _build(what.rpartition(" ")[2], module.config.to_dict(), len(state.get("head.weight", ())), what)


def _of_torchvision(module, state: dict, what: str) -> nn.Module:
    blocks = module.encoder.layers
    return _timm(
        VisionTransformer, module.mlp_dim, module.encoder.ln.eps, img_size=module.image_size,
        patch_size=module.patch_size, embed_dim=module.hidden_dim, depth=len(blocks),
        num_heads=blocks[0].self_attention.num_heads, num_classes=len(state.get("head.weight", ())))


def _of_open_clip(module, state: dict, what: str) -> nn.Module:
    first, exact = module.transformer.resblocks[0], {"QuickGELU": "quick_gelu"}
    return _timm(
        VisionTransformer, first.mlp.c_fc.out_features, module.ln_post.eps, img_size=module.image_size,
        patch_size=module.patch_size, embed_dim=module.conv1.out_channels, depth=len(module.transformer.resblocks),
        num_heads=first.attn.num_heads, num_classes=0, act_layer=exact.get(type(first.mlp.gelu).__name__),
        pre_norm=True, init_values=1.0 if "blocks.0.ls1.gamma" in state else None)


def _fill(backbone: nn.Module, state: dict, what: str, mend: str) -> nn.Module:
    """`backbone` with these weights, in float64 if they are; a head that is not among them stays random."""
    if {value.dtype for value in state.values()} == {torch.float64}:
        backbone.double()
    if backbone.no_embed_class and "pos_embed" in state:  # timm adds nothing to the class token: it is in there
        first, state["pos_embed"] = state["pos_embed"][:, :1], state["pos_embed"][:, 1:]
        state["cls_token"] = state["cls_token"] + first
    own = {name: value for name, value in backbone.state_dict().items() if name.startswith("head")}
    try:
        backbone.load_state_dict({**(own if "head.weight" not in state else {}), **state})
    except RuntimeError as err:
        raise ValueError(f"{what} has weights that do not fit its settings ({short(err)}); {mend}") from err
    return backbone


def _difference(backbone: nn.Module, module: nn.Module) -> float:
    """The largest difference between the answers of both to an image, as a part of the largest answer or of 1."""
    x = torch.randn(1, 3, *backbone.patch_embed.img_size, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        wanted, got = module(x), backbone(x)
        if hasattr(wanted, "last_hidden_state"):
            wanted = wanted.last_hidden_state[:, 0]
        wanted = getattr(wanted, "logits", wanted)
        wanted = wanted[0] if isinstance(wanted, tuple) else wanted
        if getattr(module, "proj", None) is not None:  # of open_clip, onto the space shared with texts
            got = got @ module.proj
        return (got - wanted).abs().max().item() / max(1, wanted.abs().max().item())


def _normalisation(folder: Path, mend: str) -> tuple:
    """Mean and std for images in [0, 1] by the image processor's settings in a folder, or None and None."""
    path = folder / "preprocessor_config.json"
    found = read_json(path, mend) if path.is_file() else {"do_rescale": False}
    mean, std = found.get("image_mean"), found.get("image_std")
    if not found.get("do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    if not (found.get("do_rescale", True) and mean and std) or found.get("rescale_offset"):
        return None, None
    by = 255 * found.get("rescale_factor", 1 / 255)  # what the processor makes of 1
    return [value / by for value in mean], [value / by for value in std]


def _told(library: str) -> str:
    mapped = ("ViT, DeiT and ViTMSN, with or without a classifier, and Dinov2 without" if library == "transformers" else
              "a plain VisionTransformer with one linear head" if library == "torchvision" else
              "the image tower VisionTransformer that reads its class token")
    return (f"{_of(library)} models that have timm's form are {mapped}; for another give timm's own of its kind, whose "
            "names timm.list_models('*vit*') lists")


def _of(library: str) -> str:
    return library + ("'" if library.endswith("s") else "'s")
