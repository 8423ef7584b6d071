"""The one vocabulary of rows, tables, figures and text: codes, and how they are said. Metrics: docs/results.md."""

import re

import numpy as np
import pandas as pd

from fvit.base.checks import check_choice

DEFENCES = {  # what stands between image and map; a reader's own is a code as of OWN
    "none": "bare", "dds": "DDS", "noise_only": "noise only", "denoise_only": "denoise only", "blur": "blur, 1 pixel",
    "blur_narrow": "blur, 0.7 pixels", "wavelet": "wavelet", "cnn": "plain CNN", "noise_blur": "noise and blur",
    "noise_cnn": "noise and plain CNN", "dds_published": "DDS of sigma 8/255", "reference_chain": "reference chain",
    "vit_noise": "ViT trained on noise, smoothed", "vit_adversarial": "ViT trained on attacks",
    "constant_map": "constant map"}  # the last shows one map whatever comes
OWN = re.compile(r"[^/\\:]+\.py:[A-Za-z_]\w*")  # "mine.py:Mine"
AIMS = {  # what the image was changed for: from "prediction" on by attack
        "none": "clean", "fresh_noise": "fresh noise", "repeat": "same image, other batch", "other_image":
        "another image", "random_signs": "random signs", "prediction": "prediction", "explanation": "explanation",
        "explanation_free": "free explanation", "corner": "corner", "rollout": "rollout", "gradcam": "GradCAM",
        "partial_lrp": "partial LRP", "lrp": "LRP", "lrp_rollout": "LRP rollout", "vta": "VTA",
        "attribution_rollout": "attribution rollout", "attn_lrp": "AttnLRP"}
NO_ATTACK = ("none", "fresh_noise", "repeat", "other_image")  # aims that change no pixel
MADE_ON = {"": "no attack", "vit": "the bare model"} | {
    code: f"the model behind {said}" for code, said in DEFENCES.items() if code not in ("none", "constant_map")} | {
    "noise_only": "the model behind noise", "denoise_only": "the model behind the denoiser",
    "vit_noise": "the ViT trained on noise, smoothed", "vit_adversarial": "the ViT trained on attacks"}
ANOTHER = re.compile(r"vit:[^/\\]+")  # of `made_on`: "vit:NAME", another ViT
EXPLAINED = {"": "no class, or one that does not vary in the table", "fixed": "the class of the clean image",
             "re-predicted": "the class predicted under attack"}
CODES = {"defence": DEFENCES, "aim": AIMS, "made_on": MADE_ON, "explained": EXPLAINED}  # column -> what it may hold
KNOBS = {  # `variant` in rows of the plateau -> setting of the attack, and the rule of its steps if not the run's
    "steps": ("steps", ""), "draws": ("draws", ""), "restarts": ("restarts", ""), "steps, apgd": ("steps", "apgd"),
    "steps, constant": ("steps", "constant")}
CONTROL_MAPS = ("random_order", "uniform_map", "mask")  # values of `method` that no method made
BARE = ("none", "constant_map")  # defences that add no noise and have no model of their own
NO_LEVEL = (*BARE, "blur", "blur_narrow", "vit_adversarial")  # defences of which sigma says nothing
ONE_DRAW = ("denoise_only", "wavelet", "cnn")  # told sigma, and add no noise
TOP_SET = ("topk_overlap", "fidelity", "radius", "joint_radius", "plugin_radius", "shown_overlap", "proven_kept",
           "proven_lost", "relative_mass", "in_corner", "calls")  # metrics of a top set, of size k


def made_on_itself(rows) -> pd.Series:
    """Whether the attack that each row met was made on its own defence."""
    return rows["defence"].astype(object).replace(dict.fromkeys(BARE, "vit")) == rows["made_on"]


def condition(rows) -> pd.Series:
    """What each row met: "clean", "fresh noise", "random signs", "prediction, transferred", "explanation, adaptive" ...

    An attack is adaptive where it was made on the defence itself ("vit" for those of BARE), else transferred; one made
    on another ViT says on which: "explanation, from vit:NAME".
    """
    own, said, made_on = made_on_itself(rows), rows["aim"].map(AIMS), rows["made_on"].astype(str)
    how = pd.Series(np.where(own, ", adaptive", ", transferred"), rows.index)
    how = how.mask(made_on.map(lambda name: bool(ANOTHER.fullmatch(name))), ", from " + made_on)
    return said.where(made_on == "", said + how)


def said(defence: str) -> str:
    """A defence in words; a reader's own is its code."""
    return DEFENCES.get(defence, defence)


def method_said(method: str) -> str:
    """A method, or an order of pixels that no method made, in words; a mark behind it (†) stays."""
    name = method.rstrip("†")
    return AIMS.get(name, name.replace("_", " ")) + method[len(name):]


def check_word(word: str, column: str) -> str:
    """Return `word` if a row may hold it in `column`, one of CODES; defences and ViTs may be a reader's own."""
    known = {"defence": [OWN], "made_on": [OWN, ANOTHER]}.get(column, [])
    if any(form.fullmatch(word) for form in known):
        return word
    return check_choice(word, CODES[column], column)
