"""Settings of every pytest run, of the tests and of the notebooks; notebook kernels inherit this environment."""

import atexit
import os
import shutil
import tempfile
from functools import partial

# Set before anything imports torch or matplotlib. Nothing a test or a notebook writes may reach figures/ or results/.
os.environ["FVIT_OUT"] = tempfile.mkdtemp(prefix="fvit-pytest-")  # one each for xdist's processes
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "agg"
os.environ["FVIT_WIDGETS"] = "0"  # still figures, also where pytest was started from a notebook
os.environ["PYTHONHASHSEED"] = "0"  # of the kernels; this process has its own already
os.environ["OMP_NUM_THREADS"] = os.environ.get("FVIT_THREADS") or "2"  # a fixed number: it changes float32 sums
atexit.register(shutil.rmtree, os.environ["FVIT_OUT"], ignore_errors=True)

# What nbval does not compare: numbers beside a claim (HTML), drawings, progress and warnings.
SKIPPED = ("text/html", "image/svg+xml", "application/pdf", "application/vnd.jupyter.widget-view+json", "stderr")


def pytest_collectstart(collector):
    if hasattr(collector, "skip_compare"):  # a notebook collected by nbval, and nothing else
        collector.skip_compare += SKIPPED
        _speak_through_files()


def _speak_through_files():
    """Kernels of nbval listen on sockets in FVIT_OUT: those started side by side would race for network ports.

    Not on Windows, which has no such sockets.
    """
    if os.name == "nt":
        return
    from jupyter_client.manager import KernelManager
    from nbval import kernel

    kernel.KernelManager = partial(KernelManager, transport="ipc", ip=os.path.join(os.environ["FVIT_OUT"], "kernel"))
