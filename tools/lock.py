"""requirements.lock: one file for every platform and Python that fvit is for.

`make lock-check` asks the package index whether each can install it, from wheels alone. `make lock` writes it anew from
pyproject.toml before, keeping the versions it holds where they still fit; delete a line, or the file, for newer ones.
"""

import os
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from itertools import product
from pathlib import Path

from packaging.markers import Marker

from fvit.base.paths import ROOT

LOCK = ROOT / "requirements.lock"
EXTRAS = ("paper", "cluster", "dev")  # of pyproject.toml, that the lock holds
PLATFORMS = {  # what uv calls it, and what markers ask of it
    "x86_64-manylinux_2_28": {"sys_platform": "linux", "platform_machine": "x86_64"},
    "aarch64-manylinux_2_28": {"sys_platform": "linux", "platform_machine": "aarch64"},
    "aarch64-apple-darwin": {"sys_platform": "darwin", "platform_machine": "arm64"},
    "x86_64-pc-windows-msvc": {"sys_platform": "win32", "platform_machine": "AMD64", "os_name": "nt"}}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACOS = "14.0"  # the oldest that torch's wheel runs on
CUDA = "nvidia-", "cuda-", "triton"  # how packages begin that only torch's CUDA build asks for; see the Makefile
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)(?: *; *(.+))?$", re.MULTILINE)


def environment(platform: str, python: str) -> dict[str, str]:
    """What markers see there."""
    return {"os_name": "posix", "implementation_name": "cpython", "platform_python_implementation": "CPython",
            "python_version": python, "python_full_version": f"{python}.0", **PLATFORMS[platform]}


def pins(where: dict[str, str] | None = None, lock: Path = LOCK) -> dict[str, str]:
    """Package -> version that the lock installs in the environment `where`; None is this one."""
    lines = PIN.findall(lock.read_text(encoding="utf-8"))
    return {name: version for name, version, marker in lines if not marker or Marker(marker).evaluate(where)}


def here(lock: Path = LOCK) -> dict[str, str]:
    """Those of this environment; without the CUDA packages where torch is a build for CPUs (`make TORCH=cpu`)."""
    with_cuda = not metadata.version("torch").endswith("+cpu")
    return {name: version for name, version in pins(lock=lock).items() if with_cuda or not name.startswith(CUDA)}


def make() -> None:
    """Raises CalledProcessError, after uv's own words, where pyproject.toml cannot be satisfied."""
    extras = [part for extra in EXTRAS for part in ("--extra", extra)]
    subprocess.run([_uv(), "pip", "compile", "--quiet", "--universal", "--python-version", PYTHONS[0], "--no-annotate",
                    "--custom-compile-command", "make lock", *extras, "-o", LOCK, ROOT / "pyproject.toml"],
                   check=True, cwd=ROOT)


def check() -> list[str]:
    """Print a line for each platform and Python; returns uv's complaint of each that cannot install the lock."""
    bad = []
    with tempfile.TemporaryDirectory() as nowhere:
        for platform, python in product(PLATFORMS, PYTHONS):
            done = subprocess.run(
                [_uv(), "pip", "install", "--dry-run", "--only-binary", ":all:", "--python-platform", platform,
                 "--python-version", python, "--target", nowhere, "-r", LOCK], text=True, capture_output=True,
                env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS, "NO_COLOR": "1"})
            said = f"{len(pins(environment(platform, python)))} packages" if done.returncode == 0 else "FAILS"
            print(f"{platform:23} {python:5} {said}", flush=True)
            bad += [f"{platform}, Python {python}: {done.stderr.strip()}"] * (done.returncode != 0)
    return bad


def _uv() -> str:
    return str(Path(sys.executable).with_name("uv"))


if __name__ == "__main__":
    if "--make" in sys.argv:
        make()
    sys.exit("\n".join(check()) or 0)
