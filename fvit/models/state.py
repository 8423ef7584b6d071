"""Change a shared module for the length of a call, and leave it as it was, however many threads do so at once."""

import threading
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from torch import nn

_GUARD = threading.Lock()
_CHANGED = WeakKeyDictionary()  # module -> {attribute: [its value as found, how many contexts hold another]}


@contextmanager
def held(modules, attribute: str, value):
    """Context in which `attribute` of each of `modules` is `value`; those without the attribute are left alone.

    What was found comes back when the last such context ends, of whatever thread: one that begins while another holds
    the module takes nothing of the other's for the owner's.
    """
    modules = [module for module in modules if hasattr(module, attribute)]
    with _GUARD:
        if not _CHANGED and all(getattr(module, attribute) == value for module in modules):
            modules = []  # nothing to change, nothing to bring back
        for module in modules:
            entry = _CHANGED.setdefault(module, {}).setdefault(attribute, [getattr(module, attribute), 0])
            entry[1] += 1
            setattr(module, attribute, value)
    try:
        yield
    finally:
        with _GUARD:
            for module in modules:
                entry = _CHANGED[module][attribute]
                entry[1] -= 1
                if entry[1] == 0:
                    setattr(module, attribute, _CHANGED[module].pop(attribute)[0])
                    if not _CHANGED[module]:
                        del _CHANGED[module]


@contextmanager
def evaluated(module: nn.Module, recompute: bool = True):
    """Context in which `module` computes as in evaluation mode, whatever mode its owner has set.

    recompute   whether gradient checkpointing may stay on: the backward pass computes blocks again, after this context
    """
    modules = list(module.modules())
    recompute = recompute and not any(m.training for m in modules)
    with held(modules, "training", False), held([] if recompute else modules, "grad_checkpointing", False):
        yield
