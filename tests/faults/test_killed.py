"""SIGKILL at random moments, of what writes results, of `fvit run` and of `fvit train`; and two at work at once."""

import functools
import importlib
import os
import signal

import harm
import pytest
from harm import TIMES, Child, long

from fvit.base import files, paths


def test_writing_is_killed_at_a_random_line(dice, tally, tmp_path):
    lines = harm.lines_of(harm.write_everything)
    for number in range(2 * TIMES):
        out, at = tmp_path / str(number), dice.randint(1, lines)
        killed = Child(harm.at_line(at, harm.die, harm.write_everything), FVIT_OUT=str(out))
        assert killed.wait() == -signal.SIGKILL, killed.said
        harm.check_whole(out, harm.written())
        harm.finishes(harm.write_everything, out, harm.written(), f"killed at line {at} of {lines}")
        tally("SIGKILL of result writing, at a line")


def test_writing_is_killed_at_a_random_time(dice, tally, tmp_path):
    """In the same folder again and again, so that a run meets what several killed ones have left."""
    wanted, lasts = harm.timed(harm.write_everything)
    for _ in range(2 * TIMES):
        Child(harm.write_everything, FVIT_OUT=str(tmp_path)).kill(dice.uniform(0, lasts))
        harm.check_whole(tmp_path, wanted)
        tally("SIGKILL of result writing, at a time")
    harm.finishes(harm.write_everything, tmp_path, wanted)


def test_two_write_at_once_and_one_is_killed(dice, tally, tmp_path):
    first, second = (functools.partial(harm.write_everything, 6, who) for who in "ab")
    both = harm.undisturbed(lambda: first() or second())
    lines = harm.lines_of(second)
    for number in range(TIMES):
        out = tmp_path / str(number)
        lives = Child(first, FVIT_OUT=str(out))
        killed = Child(harm.at_line(dice.randint(1, lines), harm.die, second), FVIT_OUT=str(out))
        assert killed.wait() == -signal.SIGKILL, killed.said
        assert lives.wait() == 0, lives.said
        harm.check_whole(out, both)
        harm.finishes(second, out, both)
        tally("two write to one folder at once, one is killed")


def test_two_runs_on_one_folder_at_once(dice, tally, tmp_path):
    """The kernel is stood in for, so that the second comes at every moment of the first: it waits or is refused."""
    from fvit.notebooks import runner

    def run():
        runner._execute = lambda source, *_, **__: harm.write_everything() or runner.nbformat.read(source, 4)
        return harm.command("run", "01", folder=folder)()

    folder = harm.notebook(tmp_path / "notebooks")
    wanted, lasts = harm.timed(run)
    for number in range(TIMES):
        out = tmp_path / str(number)
        first = Child(run, FVIT_OUT=str(out))
        first.wait(dice.uniform(0, lasts))
        second = Child(run, FVIT_OUT=str(out))
        codes = [first.wait(), second.wait()]
        assert 0 in codes and set(codes) <= {0, 1}, first.said + second.said
        for child in (first, second):
            if child.code:
                harm.check_message(child.said, "another run (process ", "wait for it to end, or choose another folder")
        assert harm.snapshot(out) == wanted
        tally("two `fvit run` on one folder at once")


@long
@pytest.mark.parametrize("jobs", [1, 2])
def test_run_is_killed(jobs, dice, tally, tmp_path):
    """With a kernel, and with two notebooks side by side; the rerun starts while what was orphaned may yet live."""
    folder = harm.notebook(tmp_path / "notebooks")
    if jobs == 2:
        other = (folder / "01_writes.ipynb").read_text().replace("write_everything()", "write_everything(who='b')")
        (folder / "02_writes.ipynb").write_text(other)
    run = harm.command("run", "all", "--jobs", jobs, folder=folder)
    wanted, lasts = harm.timed(run)
    for number in range(TIMES):
        out = tmp_path / str(number)
        killed = Child(run, FVIT_OUT=str(out))
        killed.kill(dice.uniform(0, lasts))
        harm.check_whole(out, wanted)
        harm.finishes(run, out, wanted)
        assert not alive(killed.pid), "what the killed run has started is still at work"
        tally(f"SIGKILL of `fvit run --jobs {jobs}`")


def alive(session: int) -> list[str]:
    """Processes of a session that have not ended; kernels are sessions of their own, and found by their parent's id."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                state, _, _, of = open(f"/proc/{entry}/stat").read().rpartition(")")[2].split()[:4]
                environment = open(f"/proc/{entry}/environ").read()
            except OSError:
                continue  # ended meanwhile
            if state != "Z" and (int(of) == session or f"JPY_PARENT_PID={session}\0" in environment):
                found.append(entry)
    return found


@long
@pytest.mark.parametrize("what", ["teacher", "vit", "denoiser"])
def test_training_is_killed(what, dice, tally, tmp_path):
    from safetensors.torch import load_file

    importlib.import_module("fvit.training.loop")  # before the fork, which threads do not live through

    def training(folder):
        return harm.command("train", what, "--out", folder, *harm.SMALL)

    wanted, lasts = harm.timed(lambda: training(paths.output_root())())
    for number in range(TIMES if what == "teacher" else TIMES // 2):
        out = tmp_path / str(number)
        Child(training(out)).kill(dice.uniform(0, lasts))
        assert files.changed(out) == [] and all(load_file(path) for path in out.rglob("*.safetensors"))
        assert set(name for name in harm.snapshot(out) if "/." not in f"/{name}") <= set(wanted)
        harm.finishes(training(out), out, wanted)
        tally("SIGKILL of `fvit train`")
