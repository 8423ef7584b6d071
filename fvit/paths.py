"""Folders found from this file, never from the current folder, and the one way a file is written or changed."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
WEIGHTS = PACKAGE / "weights"
NOTEBOOKS = ROOT / "notebooks"


def output_root() -> Path:
    """Folder that receives figures and results: the environment variable FVIT_OUT, else the repository root."""
    return Path(os.environ.get("FVIT_OUT") or ROOT).expanduser().absolute()


def figures_dir(profile: str) -> Path:
    """Figures of one profile; the folder is made by the first file written to it."""
    return output_root() / "figures" / profile


def results_dir(profile: str, root: Path | str | None = None) -> Path:
    """Tables of one profile under `root` (default `output_root`); made by the first file written to it."""
    return Path(root or output_root()) / "results" / profile


def write_atomic(path: Path | str, data: bytes | str) -> Path:
    """Write a whole file or nothing: a reader, or a run that is stopped, never sees half of it.

    path       its folder is made where needed
    data       bytes, or text that is stored as UTF-8 with its line ends unchanged
    returns    path

    Raises OSError (PermissionError where it was one) naming the folder and the mend; no temporary file is left.
    """
    path = Path(path)
    # Beside the target, since os.replace is atomic on one file system only; not by tempfile, whose files are private
    # (mode 0600) whatever the umask says.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(data.encode("utf-8") if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise _with_mend(error, path) from error
    except BaseException:
        _remove(temporary)
        raise
    return path


@contextmanager
def alone(path: Path | str) -> Iterator:
    """Wait until no other process is here for the same path: for a file that is read, changed and written again.

    The lock is a file beside `path`, gone at the end; the system frees that of a process that was killed.
    Raises OSError as `write_atomic` does.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            file = open(beside, "a")
            fcntl.flock(file, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(beside), os.fstat(file.fileno())):
                    break
            file.close()  # who was here before has removed it while we waited: what we hold is no lock any more
    except OSError as error:
        raise _with_mend(error, path) from error
    with file:
        try:
            yield
        finally:
            _remove(beside)


def check_writable(folder: Path | str) -> Path:
    """The folder, made where needed; raises the OSError of `write_atomic` if no file can be written to it."""
    _remove(write_atomic(Path(folder) / ".fvit-write-test", b""))
    return Path(folder)


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        pass  # never there, or its folder is not one; the error being reported says more


def _with_mend(error: OSError, path: Path) -> OSError:
    message = (f"cannot write {path.name} to folder {path.parent}: {error.strerror or error}; "
               "set FVIT_OUT or pass --out to a folder you can write to")
    return type(error)(error.errno, message) if error.errno else type(error)(message)
