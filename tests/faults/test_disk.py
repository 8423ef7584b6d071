"""A disk that fills up or turns read-only at a random moment."""

import errno
import importlib
import os
import resource
import signal

import harm
import pytest
from harm import TIMES, Child, long

from fvit.base import files

MEND = "set FVIT_OUT or pass --out to a folder you can write to"


def survives(out, action, error):
    """In `action` the disk fails; it says what is wrong, names the mend and leaves no half file."""
    child = Child(action, FVIT_OUT=str(out))
    assert child.wait() == 1, child.said
    harm.check_message(child.said, os.strerror(error), MEND)
    harm.check_whole(out, harm.written())
    assert not list(out.rglob(".*.tmp"))


def test_a_full_disk(dice, tally, tmp_path):
    needed = sum(map(len, harm.written().values())) // 1024
    with harm.disk(tmp_path / "disk") as remount:
        for number in range(TIMES):
            out = tmp_path / "disk" / str(number)
            used = sum(path.stat().st_blocks // 2 for path in (tmp_path / "disk").rglob("*"))
            assert remount(f"size={used + dice.randint(4, needed) // 4 * 4}k")
            survives(out, harm.write_everything, errno.ENOSPC)
            assert remount("size=64m")
            harm.finishes(harm.write_everything, out, harm.written())
            tally("full disk")


def test_a_disk_that_takes_no_more_of_a_file(dice, tally, tmp_path):
    """The same without a mount: the system stops a write at a random byte, as a quota does."""
    largest = max(map(len, harm.written().values()))

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        harm.limit(resource.RLIMIT_FSIZE, most)
        try:
            return harm.write_everything()
        finally:  # what it says of it goes to a file too
            harm.limit(resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE)[1])

    for number in range(TIMES):
        out, most = tmp_path / str(number), dice.randrange(largest)
        survives(out, limited, errno.EFBIG)
        harm.finishes(harm.write_everything, out, harm.written())
        tally("a write stopped at a byte, result writing")


def test_a_folder_turns_read_only(dice, tally, tmp_path):
    lines = harm.lines_of(harm.write_everything)
    for number in range(TIMES):
        with harm.disk(tmp_path / str(number)) as remount:
            out, at = tmp_path / str(number) / "out", dice.randint(1, lines * 3 // 4)
            survives(out, harm.at_line(at, lambda: remount("ro"), harm.write_everything), errno.EROFS)
            assert remount("rw")
            harm.finishes(harm.write_everything, out, harm.written())
            tally("read-only folder")


@long
@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_run_and_training_say_so(fault, dice, tally, tmp_path):
    """The commands, whose output folder is full or read-only from the start."""
    importlib.import_module("fvit.training.loop")  # before the fork
    folder = harm.notebook(tmp_path / "notebooks")
    for command, *more in (("run", "01"), ("train", "teacher", *harm.SMALL)):
        with harm.disk(tmp_path / command) as remount:
            out = tmp_path / command / "out"
            assert remount("ro" if fault == "read-only" else f"size={4 * dice.randint(2, 6)}k")
            act = harm.command(command, *more, "--out", out, folder=folder)
            child = Child(act)
            assert child.wait() == 1, child.said
            number = errno.EROFS if fault == "read-only" else errno.ENOSPC
            harm.check_message(child.said, os.strerror(number), MEND)
            assert remount("rw,size=64m")
            assert files.changed(out) == [] and not list(out.rglob(".*.tmp"))
            harm.succeeds(act)
            tally("full disk" if fault == "full" else "read-only folder")
