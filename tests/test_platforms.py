"""fvit where it was never run: on Windows, as far as that can be pretended (`fixtures/windows.py`)."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures import windows

from fvit.base import files, paths

BINARY = {".png", ".pdf", ".parquet", ".safetensors"}
RESERVED = {"con", "prn", "aux", "nul", *(f"{name}{n}" for name in ("com", "lpt") for n in range(10))}


def unfit(names) -> list[str]:
    """Those that Windows cannot name, that are too long beside a folder of 100 letters, or one but for their case."""
    names = [*names]
    bad = [name for name in names for part in Path(name).parts
           if set(part) & set('<>:"|?*\\') or part[-1] in ". " or part.split(".")[0].lower() in RESERVED]
    lower = [name.lower() for name in names]
    return bad + [name for name in names if len(name) > 150 or lower.count(name.lower()) > 1]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are seen in /proc")
def test_fvit_works_without_what_posix_alone_has(tmp_path):
    done = subprocess.run([sys.executable, windows.__file__], env=os.environ | {"FVIT_OUT": str(tmp_path)},
                          cwd=paths.ROOT, capture_output=True, text=True)
    assert done.stdout.endswith("done\n"), done.stderr
    made = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*") if path.is_file()}
    assert {name for name, path in made.items() if path.suffix not in BINARY and b"\r" in path.read_bytes()} == set()
    assert {name for name in made if name.endswith((".lock", ".tmp"))} <= {".fvit-run.lock"}
    assert {name for name in made if name.startswith("figures/study/")} == {
        f"figures/study/F02z_parts{suffix}" for suffix in (".png", ".pdf", ".csv", ".json")}
    assert (tmp_path / "sums" / "b.txt").read_bytes() == "\u03c3\n".encode()
    with open(made["results/study/claims.csv"], encoding="utf-8", newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == ["\u03c3 \u2265 0"]
    assert unfit(made) == []


def test_names_that_are_committed_fit_windows():
    found = [path.relative_to(paths.ROOT).as_posix() for folder in ("fvit", "notebooks", "figures", "results", "tests")
             for path in (paths.ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    assert len(found) > 300 and unfit(found) == []
    bad = ["a:b", "c/aux.txt", "d.", "Fig/a", "fig/A", "e" * 151]
    assert unfit([*bad, "a/b.txt"]) == bad


def refused(monkeypatch, number, times):
    """Let os.replace fail so often with this number of Windows; returns how long was waited."""
    waited, real = [], os.replace

    def replace(*arguments):
        if len(waited) < times:
            error = PermissionError(13, "Access is denied")
            error.winerror = number
            raise error
        return real(*arguments)

    monkeypatch.setattr(files.os, "replace", replace)
    monkeypatch.setattr(files.time, "sleep", waited.append)
    return waited


def test_a_file_that_a_scanner_has_open_is_replaced_a_little_later(tmp_path, monkeypatch):
    files.write_atomic(tmp_path / "a.csv", "old")
    waited = refused(monkeypatch, 32, 3)
    files.write_atomic(tmp_path / "a.csv", "new")
    assert waited == [0.05, 0.1, 0.2] and (tmp_path / "a.csv").read_text() == "new"


@pytest.mark.parametrize("number, seconds, mend", [(32, 1.55, "close what has it open, or set FVIT_OUT"),
                                                   (None, 0, "; set FVIT_OUT")])
def test_one_that_stays_open_is_named_with_the_mend_and_nothing_is_left(tmp_path, monkeypatch, number, seconds, mend):
    files.write_atomic(tmp_path / "a.csv", "old")
    waited = refused(monkeypatch, number, 99)
    with pytest.raises(PermissionError, match=f"cannot write a.csv to folder .*{mend}"):
        files.write_atomic(tmp_path / "a.csv", "new")
    assert sum(waited) == pytest.approx(seconds)
    assert (tmp_path / "a.csv").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
