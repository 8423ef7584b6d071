"""Frozen run sizes: `laptop` in minutes on two CPU cores, `study` in hours there, `natural` and `paper` on a GPU."""

import math
import re
from dataclasses import MISSING, dataclass, fields, replace

from fvit.base.checks import as_integer, as_number, check_choice, check_number, check_sigma
from fvit.records import parameters


@dataclass(frozen=True)
class Profile:
    """Sizes of one run; `print` shows them on one line."""

    name: str
    notebook: str  # number of the notebook that runs, "01"; "" outside notebooks
    n_images: int  # images evaluated
    n_samples: int  # Monte Carlo draws of a DDS
    k: int  # size of the top set
    attack_steps: int  # gradient steps of PGD
    attack_draws: int  # draws a step of an adaptive attack (expectation over transformation)
    eval_batch: int  # images, or images times draws, in one forward pass
    sigma: float  # noise std for images in [0, 1]
    precision: str  # of networks behind noise, as of `DDS`
    attack_rule: str = "constant"  # of the steps, or "apgd"
    attack_restarts: int = 1  # runs of an attack, of which the strongest counts
    attack_momentum: float = 0.0  # share of a step that is the step before; 0 is that of the rule

    def __str__(self) -> str:
        shown = [key for key in SIZES if getattr(self, key) != USUAL.get(key)]
        sizes = ", ".join(f"{key} {getattr(self, key)}" for key in shown)
        return f"profile {self.name}{', notebook ' * bool(self.notebook)}{self.notebook}: {sizes}"

    @property
    def attack(self) -> str:
        """The attack in words, as captions have it: "PGD linf, 20 steps, 4 draws a step through DDS"."""
        rule = "APGD" if self.attack_rule == "apgd" else "PGD"
        runs = f", the strongest of {self.attack_restarts} runs" * (self.attack_restarts > 1)
        momentum = f", momentum {self.attack_momentum:g}" * (self.attack_momentum > 0)
        return (f"{rule} linf, {self.attack_steps} steps{momentum}, {self.attack_draws} draws a step through DDS{runs}")


SIZES = [field.name for field in fields(Profile) if field.name not in ("name", "notebook")]
USUAL = {field.name: field.default for field in fields(Profile) if field.default is not MISSING}  # said where unusual
CHOICES = {"precision": ("float32", "bfloat16"), "attack_rule": ("constant", "apgd")}
PROFILES = {
    "laptop": Profile("laptop", "", 16, 16, 25, 10, 4, 32, 0.25, "float32"),
    "study": Profile("study", "", 128, 16, 25, 20, 4, 32, 0.25, "float32"),
    "natural": Profile("natural", "", 32, 16, 25, 20, 4, 16, 0.25, "bfloat16"),
    "paper": Profile("paper", "", 500, 64, 49, 40, 8, 32, 0.25, "bfloat16"),  # k: a quarter of the 196 tokens
}
ON_PHOTOGRAPHS = {"vit": "caltech101", "den": "photographs",  # what `natural` works on
                  "data": {"source": "caltech101", "split": "outlined"}}
current: Profile | None = None  # the latest one asked for; claims and figures are filed under it


def profile(name: str = "laptop", *, notebook: str = "", **overrides) -> Profile:
    """The sizes of profile `name`, with some of them replaced; the result becomes `profiles.current`.

    notebook    number of the notebook that runs, such as "01"
    overrides   field=value; 0, 0.0 and "" mean "take the profile's value", so a notebook can pass its parameters on

    Raises ValueError for an unknown profile or field, and for a value of the wrong type or range; also for parameters
    that papermill gave the notebook in another type (`parameters.check_given`).
    """
    global current
    parameters.check_given()
    check_choice(name, PROFILES, "profile")
    if not (isinstance(notebook, str) and re.fullmatch(r"(\d\d)?", notebook)):
        raise ValueError(f"notebook={notebook!r}, wanted its number, such as '01', or '' outside of notebooks")
    for key in overrides:
        check_choice(key, SIZES, "override")
    given = {key: _checked(key, value) for key, value in overrides.items()
             if as_number(value) != 0 and not (isinstance(value, str) and value == "")}
    current = replace(PROFILES[name], notebook=notebook, **given)
    return current


def _checked(key, value):
    wanted = type(getattr(PROFILES["laptop"], key))
    if wanted is str:
        return check_choice(value, CHOICES[key], key)
    if wanted is int and not (as_integer(value) or 0) > 0:
        raise ValueError(f"{key}={value!r}, wanted a positive integer, or 0 for the profile's value")
    if wanted is float and not 0 < as_number(value) < math.inf:
        raise ValueError(f"{key}={value!r}, wanted a positive number, or 0 for the profile's value")
    if key == "attack_momentum":
        return check_number(value, key, "[0, 1)")
    return as_integer(value) if wanted is int else check_sigma(value, key)
