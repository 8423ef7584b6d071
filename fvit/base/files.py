"""The one way a file is read, written or changed: whole files or none, sums beside weights, locks."""

import glob
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

SUMS = "SHA256SUMS"
BUSY = (5, 32, 33, 1224)  # Windows' numbers for: denied, open elsewhere, locked, mapped
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)  # s, until whoever looks at a new file (an indexer, a virus scanner) is done


def write_atomic(path: Path | str, data: bytes | str) -> Path:
    """Write a whole file or nothing: a reader, or a run that is stopped, never sees half of it.

    data   bytes, or text that is stored as UTF-8 with its line ends unchanged; the folder is made where needed

    Raises OSError (PermissionError where it was one) naming the folder and the mend; no temporary file is left, and
    that of a writer who was killed is removed by the next.
    """
    path, data = Path(path), data.encode("utf-8") if isinstance(data, str) else data
    # Beside the target, since os.replace is atomic on one file system only; not by tempfile, whose files are private
    # (mode 0600) whatever the umask says.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with alone(path):
        try:
            for left in path.parent.glob(f".{glob.escape(path.name)}.????????.tmp"):  # nobody else is at work here
                left.unlink(missing_ok=True)
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _replace(temporary, path)
        except BaseException as error:
            _remove(temporary)
            if isinstance(error, OSError):
                raise _with_mend(error, path) from error
            raise
    return path


def write_summed(folder: Path | str, files: dict[str, bytes | str]) -> None:
    """`write_atomic` of several files {name: data}, and SHA256SUMS over them, in the form of `sha256sum -c`.

    The sums go first and come last: a run that is stopped between leaves files without sums, never with wrong ones.
    """
    sums = Path(folder) / SUMS
    try:
        sums.unlink(missing_ok=True)
    except OSError as error:
        raise _with_mend(error, sums) from error
    for name, data in files.items():
        write_atomic(sums.parent / name, data)
    write_atomic(sums, "".join(f"{_sha256(sums.parent / name)}  {name}\n" for name in sorted(files)))


def changed(folder: Path | str) -> list[str]:
    """Files that SHA256SUMS in `folder` does not describe, or no more; none where there are no sums."""
    sums = Path(folder) / SUMS
    lines = sums.read_text(encoding="utf-8", errors="replace").splitlines() if sums.is_file() else []
    pairs = [(line[:64], sums.parent / line[66:]) for line in lines]
    return [str(path) for digest, path in pairs if not path.is_file() or _sha256(path) != digest]


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def alone(path: Path | str) -> Iterator:
    """Wait until no other process is here for the same path: for a file that is read, changed and written again.

    The lock is a file beside `path`, gone at the end; the system frees that of a process that was killed.
    Raises OSError as `write_atomic` does.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.lock")
    lock = FileLock(beside, is_singleton=True)  # which a thread that holds it enters again
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise _with_mend(error, path) from error
    try:
        yield
    finally:
        last = lock.lock_counter == 1
        gone = last and _remove(beside)  # while it is held: who waits for it sees that, and makes another
        lock.release()
        if last and not gone:  # Windows keeps open files, so there it goes now, unless somebody has it already
            _remove(beside)


def check_writable(folder: Path | str) -> Path:
    """The folder, made where needed; raises the OSError of `write_atomic` if no file can be written to it."""
    _remove(write_atomic(Path(folder) / ".fvit-write-test", b""))
    return Path(folder)


def remove(path: Path) -> None:
    """Delete a file; the OSError of `write_atomic` where that is refused."""
    try:
        path.unlink()
    except OSError as error:
        raise _with_mend(error, path) from error


def _remove(path: Path) -> bool:
    with suppress(OSError):  # never there, or its folder is not one; the error being reported says more
        path.unlink()
        return True
    return False


def _replace(temporary: Path, path: Path) -> None:
    for pause in (*PAUSES, None):
        try:
            return os.replace(temporary, path)
        except OSError as error:
            if pause is None or getattr(error, "winerror", None) not in BUSY:
                raise
        time.sleep(pause)


def _with_mend(error: OSError, path: Path) -> OSError:
    busy = "close what has it open, or " if getattr(error, "winerror", None) in BUSY else ""
    message = (f"cannot write {path.name} to folder {path.parent}: {error.strerror or error}; "
               f"{busy}set FVIT_OUT or pass --out to a folder you can write to")
    return type(error)(error.errno, message) if error.errno else type(error)(message)


def read_json(path, mend: str):
    """The object in a JSON file; FileNotFoundError or ValueError, both with the `mend`, if it is absent or none."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no {path.name} at {path}; {mend}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as err:
        raise ValueError(f"{path} is not JSON ({err}); {mend}") from err
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, wanted an object {{...}}; {mend}")
    return found
