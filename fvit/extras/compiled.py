"""The denoiser's network by torch.compile, where this machine can."""

import copy
import shutil

import torch


def compiled(den):
    """A copy of the denoiser whose network torch.compile makes when it is first called, sharing its weights.

    None, with one line that says why, where that cannot be: a CPU without a compiler, or a denoiser that is no network
    of its own. Each new shape of a batch compiles anew, which takes up to minutes.
    """
    network = getattr(den, "_modules", {}).get("network")
    if network is None:
        print(f"torch.compile: {type(den).__name__} has no network of its own to compile")
        return None
    if next(network.parameters()).device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++"))):
        print("torch.compile: no C++ compiler on this machine; install g++, or leave it")
        return None
    faster = copy.copy(den)
    faster._modules = {**den._modules, "network": torch.compile(network)}
    return faster
