"""What is disturbed, how, and what must be true afterwards."""

import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from fvit import cli
from fvit.base import paths
from fvit.notebooks import form
from fvit.records import claims, profiles, rows
from fvit.report import saving

TIMES = int(os.environ.get("FVIT_FAULTS") or 0)
long = pytest.mark.skipif(TIMES < 10, reason="needs torch or a kernel: in the full form, make test-faults")
SMALL = "--steps 4 --batch 4 --chapter 8 --every 2 --n-val 4 --precision float32 --device cpu".split()


# What is disturbed ------------------------------------------------------------------------------------------------

def write_everything(rounds: int = 3, who: str = "a") -> None:
    """A run in small: rows one by one, claims, and a figure with its four files, to FVIT_OUT."""
    profiles.profile("laptop", notebook="01")
    for number in range(rounds):
        row = {"image_id": f"{who}-{number}", "metric": "overlap", "value": number / 3}
        rows.save_rows([row], paths.results_dir("laptop") / f"01_{who}{number}.parquet")
        claims.claim(f"P1.{number + 1}{who}", number / 3, "<", 9, text="a third of it", source="ours", ci=(0, number))
    df = pd.DataFrame({"x": range(9), "y": [x / 7 for x in range(9)]})
    fig, ax = plt.subplots(figsize=(2, 1))
    ax.plot(df["x"], df["y"])
    words = {"title": "A line", "caption": "One line, n = 9.", "alt": "It rises from 0 to 1.1.", "source": "ours"}
    saving.save_figure(fig, "F01" if who == "a" else "F02", df, name="a_line", **words)


def notebook(folder: Path, code: str = "harm.write_everything()") -> Path:
    """A folder with the notebook 01, which runs `code`."""
    head = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nimport harm\n"
    cells = [nbformat.v4.new_markdown_cell("# A notebook of the fault suite"),
             nbformat.v4.new_code_cell("profile: str = 'laptop'  # size", metadata={"tags": ["parameters"]}),
             nbformat.v4.new_code_cell(head + code), nbformat.v4.new_code_cell("print(profile)")]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    folder.mkdir(parents=True)
    whole = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": form.KERNEL})
    nbformat.write(whole, folder / "01_writes.ipynb")
    return folder


# How ----------------------------------------------------------------------------------------------------------------

class Child:
    """A fork of this process, in a session of its own, that does `action`; imports and caches need no second start."""

    def __init__(self, action: Callable[[], int | None], **environment: str):
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8")
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._act(action, environment)
        self.handle, self.code = os.pidfd_open(self.pid), None

    def _act(self, action, environment):
        code = 70
        try:
            os.setsid()
            os.dup2(self.log.fileno(), 1)
            os.dup2(self.log.fileno(), 2)
            sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", buffering=1, encoding="utf-8") for n in (1, 2))
            os.environ.update(environment)
            code = action() or 0
        except (OSError, ValueError) as error:  # as the command does
            print(f"fvit: {error}", file=sys.stderr)
            code = 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def wait(self, seconds: float | None = None) -> int | None:
        """Exit code, negative for a signal; None if it goes on after `seconds`. Without them, it may not hang."""
        if self.code is None and select.select([self.handle], [], [], 300 if seconds is None else seconds)[0]:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self.handle)
        if self.code is None and seconds is None:
            self.kill()
            pytest.fail(f"hangs: {self.said}")
        return self.code

    def kill(self, after: float = 0) -> int:
        if self.wait(after) is None:
            os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    @property
    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()


def command(*arguments, folder: Path | None = None) -> Callable[[], int]:
    """The command `fvit ARGUMENTS`, with another folder of notebooks if given."""

    def act():
        if folder:
            paths.NOTEBOOKS = folder
        return cli.main(list(map(str, arguments)))

    return act


def at_line(number: int, then: Callable[[], bool], action: Callable) -> Callable:
    """`action`, and at its `number`-th line inside fvit `then`; again at the lines that follow until that is True."""

    def act():
        left, inside = number, str(paths.PACKAGE)

        def trace(frame, event, _):
            nonlocal left
            if not frame.f_code.co_filename.startswith(inside):
                return None
            if event == "line":
                left -= 1
                if left <= 0 and then():
                    sys.settrace(None)
            return trace

        sys.settrace(trace)
        try:
            return action()
        finally:
            sys.settrace(None)

    return act


def die() -> bool:
    os.kill(os.getpid(), signal.SIGKILL)
    return True


@cache
def lines_of(action: Callable) -> int:
    """Lines inside fvit that `action` runs through."""
    with tempfile.TemporaryDirectory() as folder:
        count = 0

        def counting():
            nonlocal count

            def one():
                nonlocal count
                count += 1
                return False

            at_line(0, one, action)()
            print(count)

        return int(succeeds(counting, FVIT_OUT=folder).split()[-1])


def damage(dice: random.Random, path: Path) -> str:
    """Cut `path` off at a random byte, or flip random bits in one to eight of its bytes; says what it did."""
    data = bytearray(path.read_bytes())
    if dice.random() < 0.4:
        end = dice.randrange(len(data))
        path.write_bytes(data[:end])
        return f"{path.name} cut off at {end} of {len(data)}"
    places = dice.sample(range(len(data)), min(len(data), dice.randint(1, 8)))
    for place in places:
        data[place] ^= dice.randint(1, 255)
    path.write_bytes(data)
    return f"{path.name} changed at {places}"


@contextmanager
def disk(folder: Path, size: str = "64m") -> Iterator[Callable[[str], bool]]:
    """A file system of its own in `folder`; yields a function that remounts it with other options, False if busy."""
    folder.mkdir(parents=True, exist_ok=True)
    if not mounting_allowed():
        pytest.skip("mounting a tmpfs is not allowed here")
    mount = ["mount", "-t", "tmpfs", "-o"]
    subprocess.run([*mount, f"size={size}", "tmpfs", str(folder)], check=True)

    def remount(options):
        return subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], capture_output=True).returncode == 0

    try:
        yield remount
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@cache
def mounting_allowed() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        done = shutil.which("mount") and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True).returncode
        return bool(done) and not subprocess.run(["umount", folder], check=True).returncode


def limit(kind: int, amount: int) -> None:
    resource.setrlimit(kind, (amount, resource.getrlimit(kind)[1]))


# What must be true ----------------------------------------------------------------------------------------------------

def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, hidden ones too; the lock of runs and the executed notebook's copy of ids apart."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if not name.startswith(".fvit-run")}


def succeeds(action: Callable[[], int | None], **environment: str) -> str:
    """Do it in a child that must end well; what it said."""
    child = Child(action, **environment)
    assert child.wait() == 0, child.said
    return child.said


def undisturbed(action: Callable[[], int | None]) -> dict[str, bytes]:
    """All that `action` writes to FVIT_OUT when nothing happens."""
    with tempfile.TemporaryDirectory() as folder:
        succeeds(action, FVIT_OUT=folder)
        return snapshot(Path(folder))


def timed(action: Callable[[], int | None]) -> tuple[dict[str, bytes], float]:
    """What is `undisturbed`, and the seconds it takes."""
    begun = time.monotonic()
    return undisturbed(action), time.monotonic() - begun


@cache
def written() -> dict[str, bytes]:
    return undisturbed(write_everything)


def finishes(action: Callable[[], int | None], out: Path, wanted: dict[str, bytes], why: object = "") -> None:
    """A rerun ends as an undisturbed run."""
    succeeds(action, FVIT_OUT=str(out))
    assert snapshot(out) == wanted, why


def check_whole(folder: Path, wanted: dict[str, bytes]) -> None:
    """Each visible file is one of `wanted`: to the bit, or for a table some of its lines, each of them whole."""
    for name, data in snapshot(folder).items():
        if not Path(name).name.startswith("."):
            assert name in wanted, f"{name} is not among the files of an undisturbed run"
            table = name.endswith(".csv") and not name.startswith("figures/laptop")
            lines = data.splitlines(keepends=True), wanted[name].splitlines(keepends=True)
            assert set(lines[0]) <= set(lines[1]) if table else data == wanted[name], f"{name} is half written"


def check_message(said: str, *words: str) -> None:
    """One line for a person: no traceback, and the words."""
    assert "Traceback" not in said and "fvit: " in said, said
    assert all(word in said for word in words), said
