"""Notebooks run by papermill, with a guard it lacks: it writes as it goes, here one is in its place only when whole."""

import multiprocessing.connection
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import nbformat
import papermill
from filelock import FileLock, Timeout
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from fvit.base import paths
from fvit.base.files import check_writable, write_atomic
from fvit.notebooks import form, verify
from fvit.notebooks.plan import GALLERY, NotebookError, Plan, known_parameters, loaded, select
from fvit.records import sources

BLOCKS = ("on.run(", ".rows()")  # cells up to which a dry run goes
CELL_TIMEOUT = {"laptop": 900}  # seconds; other profiles have cells that run for hours


class ShardDone(NotebookError):
    """A notebook that stopped because its shard is done and others are not: no failure."""


def run(todo: Plan, profile: str = "laptop", out: Path | str | None = None, shard: str | None = None,
        cell_timeout: int | None = None, jobs: int = 1, executor: str | None = None,
        address: str | None = None) -> verify.Report | None:
    """Execute a plan, one notebook after another or `jobs` at once, and keep the executed notebooks.

    out            folder for figures and results; None takes FVIT_OUT, else the repository root
    shard          "i/n", handed to the kernels as FVIT_SHARD; shards may share `out`, and the last to end merges there
    cell_timeout   seconds a cell may take; None takes that of the profile, 0 sets no limit
    jobs           notebooks at once, each in a process of its own, from the last on, since the later ones take longer;
                   the gallery follows alone, for it shows the others' figures
    executor       "local" or "ray", handed on as FVIT_EXECUTOR; `address` of the Ray cluster as RAY_ADDRESS

    Writes <out>/results/<profile>/notebooks/NN_name.ipynb, or NN_name.failed.ipynb with what ran before the error.
    Returns what was made against what is committed; None for other parameters, for a shard, and for other notebooks.
    Raises NotebookError at the first notebook that fails; OSError if out cannot be written to or another run uses it.
    """
    timeout = CELL_TIMEOUT.get(profile) if cell_timeout is None else cell_timeout
    with kernel_environment(profile, out, shard, executor, address), lock(paths.output_root(), shard):
        check_writable(paths.figures_dir(profile))
        kept = check_writable(paths.results_dir(profile) / "notebooks")
        numbers = [source.name[:2] for source, _ in todo if (paths.ROOT / "notebooks" / source.name).is_file()]
        changed = shard or any(set(parameters) - {"profile"} for _, parameters in todo)
        known = None if changed or not numbers else verify.committed()
        before = verify.made(paths.output_root())
        if jobs > 1:
            _side_by_side([task for task in todo if not task[0].name.startswith(GALLERY)], jobs, timeout, kept)
            todo = [task for task in todo if task[0].name.startswith(GALLERY)]
        for source, parameters in todo:
            _run_one(source, parameters, timeout, kept)
        return known and verify.after_run(before, known, numbers, profile)


def _run_one(source: Path, parameters: dict, timeout: int | None, kept: Path, through_files: bool = False) -> None:
    try:
        write_atomic(kept / source.name, form.text(_execute(source, parameters, timeout, kept, through_files)))
    except ShardDone as done:
        print(done, file=sys.stderr, flush=True)


def _side_by_side(todo: Plan, jobs: int, timeout: int | None, kept: Path) -> None:
    """`run` of several notebooks at once; when one fails, or at an interrupt, those at work are interrupted too."""
    fresh = multiprocessing.get_context("spawn")
    waiting, working = list(todo), {}
    try:
        while waiting or working:
            while waiting and len(working) < jobs:
                receiver, sender = fresh.Pipe(duplex=False)
                source, parameters = waiting.pop()
                working[receiver] = fresh.Process(target=_work, name=source.name,
                                                  args=(sender, source, parameters, timeout, kept))
                working[receiver].start()
                sender.close()  # the process has its own; when that is closed, here is an end of file
            for receiver in multiprocessing.connection.wait(list(working)):
                process = working.pop(receiver)
                with receiver, suppress(EOFError):
                    raise NotebookError(receiver.recv())
                process.join()
                if process.exitcode:
                    raise NotebookError(f"{process.name} failed: its process ended with code {process.exitcode}")
    finally:
        for process in working.values():
            process.terminate()
        for process in working.values():
            process.join()


def _work(sender: Connection, source: Path, parameters: dict, timeout: int | None, kept: Path) -> None:
    """One notebook, in a process of its own, which sends the message of what failed; it ends with its parent."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    with sender:
        try:
            _run_one(source, parameters, timeout, kept, through_files=True)
        except (NotebookError, OSError) as error:
            sender.send(str(error))
        except KeyboardInterrupt:
            sys.exit(1)


def dry_run(todo: Plan, profile: str = "laptop", out: Path | str | None = None, shard: str | None = None) -> None:
    """Print what `run` would do: parameters and sizes of each notebook, what it loads, and how long its blocks take.

    A notebook that computes in blocks is executed up to them, with a folder that is thrown away and without the hub:
    of each experiment one image is computed, and multiplied by those that are still to do. Others compute in their
    cells, and are not executed. Raises NotebookError where a cell fails, as in the run.
    """
    with kernel_environment(profile, out, shard), tempfile.TemporaryDirectory(prefix="fvit-dry-run-") as folder:
        os.environ.update(FVIT_DRY_RUN=os.environ["FVIT_OUT"], FVIT_OUT=folder, HF_HUB_OFFLINE="1")
        for source, parameters in todo:
            defaults = {name: default for name, (_, default) in known_parameters(source).items()}
            given = {name: repr(value) for name, value in parameters.items()}
            print(f"{source.name}, profile {profile}")
            print("  parameters: " + ", ".join(f"{name} {value}" for name, value in (defaults | given).items()))
            start = form.first_cells(source, BLOCKS)
            if not start.cells:
                print(f"  loads: {sources.said(loaded(source, parameters)) or 'what ships with fvit'}\n"
                      "  computes in its cells: there is no block to measure")
                continue
            path = write_atomic(Path(folder) / source.name, form.text(start))
            try:
                print("".join(_printed(_execute(path, parameters, None, Path(folder)))), end="")
            except NotebookError as error:  # without the path of a file that is gone with the folder
                raise NotebookError(str(error).partition("\n  what ran so far")[0]) from error


def _printed(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """What the cells that show the profile, or run blocks, have printed."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = output.get("text", "") if output.get("name") == "stdout" else ""
            if any(mark in cell.source for mark in BLOCKS):
                yield text
            elif text.startswith("profile "):
                yield f"  {text}"


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()  # killed: its lock is free, and a rerun must not find us at work
    os.kill(os.getpid(), signal.SIGTERM)


def refresh(names: Iterable[str] = ("all",)) -> None:
    """Execute notebooks with their defaults and put each over its source, once it is whole and has no problems.

    With a lesson goes its solution. Figures and results are written too. Done again, it changes no byte.
    Raises NotebookError at the first notebook that fails; its source is left as it was.
    """
    selected = select(names)
    if paths.NOTEBOOKS == paths.ROOT / "notebooks" and not paths.IS_CLONE:
        raise ValueError(f"{paths.NOTEBOOKS} came with fvit and stays as it is; copy them out by `fvit notebooks DIR`, "
                         "and refresh there")
    selected += [path for one in selected for path in paths.NOTEBOOKS.glob(f"solutions/{one.name[:2]}_*.ipynb")]
    with kernel_environment("laptop"), lock(paths.output_root()):
        kept = check_writable(paths.results_dir("laptop") / "notebooks")
        for source in selected:
            executed = _execute(source, None, CELL_TIMEOUT["laptop"], kept)
            if found := form.problems(executed):
                raise NotebookError(f"{source.name} is left as it was:\n  " + "\n  ".join(found))
            write_atomic(source, form.text(executed))


def _execute(source: Path, parameters: dict | None, timeout: int | None, kept: Path,
             through_files: bool = False) -> nbformat.NotebookNode:
    """The executed notebook, stripped; if a cell fails, what ran so far is left in folder `kept`.

    through_files   speak with the kernel through files: several that start at once would race for network ports
    """
    failed = kept / f"{source.stem}.failed.ipynb"
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fvit-run-") as folder:
        temporary = Path(folder) / source.name
        files = {"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}}
        config = Config(files if through_files and os.name != "nt" else {})  # Windows has no such sockets
        try:
            papermill.execute_notebook(
                form.escape(source), form.escape(temporary), parameters, kernel_name="python3",
                cwd=source.parent,  # as under JupyterLab and nbval
                progress_bar=False, stderr_file=sys.stderr,  # what long runs say of their progress
                start_timeout=300, execution_timeout=timeout, coalesce_streams=True,
                config=config,
                extra_arguments=["--IPKernelApp.log_level=ERROR"])  # else each start warns of TCP without encryption
        except (PapermillExecutionError, CellTimeoutError, RuntimeError) as error:  # Runtime: the kernel itself
            if getattr(error, "ename", "") == "UnfinishedError":
                raise ShardDone(f"{source.name}: {error.evalue}") from error
            ran = form.strip(nbformat.read(temporary, 4)) if temporary.is_file() else nbformat.v4.new_notebook()
            message = f"{source.name} failed{_reason(error, ran)}"
            if ran.cells:
                write_atomic(failed, form.text(ran))
                message += f"\n  what ran so far: {failed}"
            raise NotebookError(message) from error
        executed = form.strip(nbformat.read(temporary, 4))
    failed.unlink(missing_ok=True)
    print(f"{source.name}  {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    return executed


def _reason(error: Exception, ran: nbformat.NotebookNode) -> str:
    if isinstance(error, PapermillExecutionError):
        injected = [cell.execution_count for cell in ran.cells if cell.get("id") == "injected-parameters"]
        number = error.exec_count - sum(count < error.exec_count for count in injected)  # of the reader's own cell
        line = next((s for s in error.source.splitlines() if s.strip() and not s.lstrip().startswith("#")), "")
        return f" in cell [{number}], which begins `{line.strip()}`:\n  {error.ename}: {error.evalue}"
    if isinstance(error, DeadKernelError):
        return ": its kernel died, most often for want of memory; close other programs or take smaller sizes"
    mend = "\n  allow more by --cell-timeout SECONDS, or 0 for no limit" if isinstance(error, CellTimeoutError) else ""
    return f": {(str(error).strip() or type(error).__name__).splitlines()[0]}{mend}"


@contextmanager
def kernel_environment(profile: str = "laptop", out: Path | str | None = None, shard: str | None = None,
                       executor: str | None = None, address: str | None = None) -> Iterator:
    """The environment that kernels inherit; put back on leaving. ValueError if shard is not "i/n", 1 <= i <= n."""
    match = re.fullmatch(r"(\d+)/(\d+)", "1/1" if shard is None else shard)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"shard {shard!r} is not i/n with 1 <= i <= n, like 1/4")
    before = dict(os.environ)
    if out is not None:
        os.environ["FVIT_OUT"] = str(out)
    os.environ["FVIT_OUT"] = str(paths.output_root())  # absolute: a kernel starts in another folder
    if os.environ.get("FVIT_DATA"):
        os.environ["FVIT_DATA"] = str(Path(os.environ["FVIT_DATA"]).expanduser().absolute())
    os.environ.update(MPLBACKEND="agg", PYTHONHASHSEED="0", JUPYTER_PREFER_ENV_PATH="1")  # python3 is this Python
    os.environ["FVIT_WIDGETS"] = "0"  # still figures, also where the run was started from a notebook
    os.environ["OMP_NUM_THREADS"] = os.environ.get("FVIT_THREADS") or "2"  # a fixed number: it changes float32 sums
    if profile != "paper":  # whose models come from the hub
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    given = {"FVIT_SHARD": shard, "FVIT_EXECUTOR": executor, "RAY_ADDRESS": address}
    os.environ.update({name: value for name, value in given.items() if value is not None})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def lock(folder: Path, shard: str | None = None) -> Iterator:
    """One run at a time on an output folder, or one of each shard: BlockingIOError names the process at work there.

    The system frees the lock of a process that has ended, however it ended, so a file left behind stops nobody.
    """
    path = check_writable(folder) / f".fvit-run{f'-{shard}'.replace('/', '-of-') if shard else ''}.lock"
    says = path.with_suffix(".process.lock")  # beside it, since on Windows nobody else can read a file that is locked
    held = FileLock(path)
    try:
        held.acquire(blocking=False)
    except Timeout:
        who = says.read_text().strip() if says.is_file() else ""
        raise BlockingIOError(f"another run (process {who or 'unknown'}) writes to {folder}; "
                              "wait for it to end, or choose another folder by --out") from None
    try:
        says.write_text(f"{os.getpid()}\n")
        yield
    finally:
        says.unlink(missing_ok=True)
        held.release()
