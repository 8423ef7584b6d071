"""Where networks run: an NVIDIA GPU ("cuda"), Apple's ("mps") or the CPU. What differs between them is here.

mps has no float64: what is counted in float64 is moved to the CPU first, everywhere. torch is imported late.
"""

import sys


def best() -> str:
    """"cuda" or "mps" where torch finds such a GPU, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def named() -> tuple[str, int | str]:
    """(name of the `best`, threads of the CPU where it is that, else "")."""
    import torch

    names = {"cuda": lambda: f"cuda, {torch.cuda.get_device_name()}", "mps": lambda: "mps", "cpu": lambda: "cpu"}
    return names[best()](), torch.get_num_threads() if best() == "cpu" else ""


def autocast(device: str, precision: str):
    """Context for network calls in "bfloat16", nothing for "float32"; ValueError for bfloat16 on mps, where no run of
    ours has tried it."""
    import torch

    if precision == "bfloat16" and device == "mps":
        raise ValueError("precision='bfloat16' on mps, where it is untried; take precision='float32'")
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")


def wait() -> None:
    """Until GPUs have done what they were given; does not import torch, nor start a GPU that nothing has used."""
    if torch := sys.modules.get("torch"):
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        elif best() == "mps":
            torch.mps.synchronize()


def free() -> None:
    """Give memory that torch keeps for later back to the GPU."""
    import torch

    if best() != "cpu":
        getattr(torch, best()).empty_cache()
