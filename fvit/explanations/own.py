"""Methods of one's own: a function where a method is wanted, and its name in METHODS."""

import functools
import inspect
from contextlib import nullcontext

import torch

from fvit.base.checks import check_choice, check_flag, check_text
from fvit.explanations.methods import METHODS, Method
from fvit.models.attention import capture_attention

FORMS = "wanted f(vit, x, target), f(vit, x), or f(record, target) as METHODS has; other parameters need defaults"


def register_method(name: str, function, class_specific=None, differentiable=False, summary="", replace=False) -> None:
    """Put `function` into METHODS, so that `name` is a method in `explain`, `DDS`, `certify`, tables and notebooks.

    function         f(vit, x, target) or f(vit, x) -> map (B, h, w) on the patches, or (B, H, W) of pixels, finite;
                     f(record, target) gets the attention of the pass too, as the functions of METHODS do. Further
                     parameters, with defaults, are the method's options
    class_specific   whether the map depends on the target; by default it does if the function takes one
    differentiable   whether an attack may differentiate through the map: of a class-specific one, gradients inside it
                     are taken with create_graph=True
    summary          one line on what it shows
    replace          True: `name` may be that of an earlier registration, though none that fvit has itself

    It lasts as long as the process. Raises ValueError for a name that is taken, and a function of other parameters.
    """
    own = getattr(METHODS.get(check_text(name, "name")), "own", False)
    if name in METHODS and not (check_flag(replace, "replace") and own):
        mend = "choose another, or replace=True" if own else "choose another"
        raise ValueError(f"the name {name!r} is taken, known: {', '.join(METHODS)}; {mend}")
    if not _is_function(function):
        raise ValueError(f"function is a {type(function).__name__}, {FORMS}")
    specific = class_specific if class_specific is None else check_flag(class_specific, "class_specific")
    METHODS[name] = _row(function, specific, check_flag(differentiable, "differentiable"), summary)


def method_row(method) -> Method:
    """The row of METHODS of a name or of a function in it, or one made for a function; ValueError if there is none."""
    if not _is_function(method):
        return METHODS[check_choice(method, METHODS, "method")]
    return next((row for row in METHODS.values() if row.function is method), None) or _row(method)


def method_name(method) -> str:
    """How rows and messages call a method: its name in METHODS, or that of the function."""
    return method if isinstance(method, str) else getattr(method, "__name__", type(method).__name__)


def _is_function(method) -> bool:
    return callable(method) and not isinstance(method, type)


def _row(function, class_specific=None, differentiable=False, summary="") -> Method:
    name = method_name(function)
    try:
        given = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of some built-in functions
        raise ValueError(f"the parameters of {name} cannot be read; {FORMS}") from None
    starred = any(p.kind is p.VAR_POSITIONAL for p in given)
    given = [p for p in given if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    recorded = bool(given) and given[0].name == "record"
    before, rest = given[:2 - recorded], given[2 - recorded:]
    third = [p for p in rest if p.name == "target"] or [p for p in rest[:1] if p.default is p.empty]
    options = [p.replace(kind=p.KEYWORD_ONLY) for p in rest if p not in third]
    if (len(before) < 2 - recorded and not starred) or any(p.default is p.empty for p in options):
        raise ValueError(f"{name} takes ({', '.join(p.name for p in given)}), {FORMS}")
    takes, by_name = bool(third) or starred, [p.name for p in third if p.kind is p.KEYWORD_ONLY or p is not rest[0]]
    if class_specific and not takes:
        raise ValueError(f"{name} takes no target, so its map cannot be that of a class; {FORMS}")
    specific = takes if class_specific is None else class_specific

    @functools.wraps(function)
    def run(record, target, **options):
        tracked = torch.is_grad_enabled() and (not specific or (differentiable and record.attached))
        unfused = capture_attention(record.vit) if tracked and specific else nullcontext()  # for second derivatives
        with torch.inference_mode(False), torch.enable_grad(), unfused:  # of gradients too, and in a DDS
            follow = tracked and record.x.requires_grad  # else a copy: the function may ask it for gradients
            of = (record,) if recorded else (record.vit, record.x if follow else record.x.detach().clone())
            aim = (target,) if takes and not by_name else ()
            values = function(*of, *aim, **dict.fromkeys(by_name, target), **options)
        return _checked(values if tracked or not hasattr(values, "detach") else values.detach(), name, record)

    record_and_target = [inspect.Parameter(p, inspect.Parameter.POSITIONAL_OR_KEYWORD) for p in ("record", "target")]
    run.__signature__ = inspect.Signature([*record_and_target, *options])
    return Method(run, specific, differentiable, summary, reads=None if recorded else lambda start_layer, depth: [],
                  own=True)


def _checked(values, name, record) -> torch.Tensor:
    """What a function gave, if it is a finite map for each image."""
    grid, pixels = tuple(record.vit.grid), tuple(record.x.shape[2:])
    fine = [size for size in (grid, pixels) if all(side % cells == 0 for side, cells in zip(size, grid, strict=True))]
    shape = tuple(getattr(values, "shape", ()))
    if shape not in [(len(record.x), *size) for size in fine]:
        wanted = " or ".join(str((len(record.x), *size)) for size in fine)
        raise ValueError(f"{name} gave a {type(values).__name__} of shape {shape}, wanted one map an image, {wanted}")
    values = torch.as_tensor(values)
    values = (values if values.is_floating_point() else values.float()).to(record.x.device)
    if not values.isfinite().all():
        raise ValueError(f"{name} gave NaN or infinite values, wanted finite ones")
    return values
