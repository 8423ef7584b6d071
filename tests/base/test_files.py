"""Output folders, and files written whole or not at all."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fvit.base import files, paths


def test_folders_are_found_from_the_package():
    assert (paths.ROOT / "pyproject.toml").is_file()
    assert paths.PACKAGE == paths.ROOT / "fvit"
    assert paths.WEIGHTS.parent == paths.PACKAGE
    assert paths.NOTEBOOKS.parent == paths.ROOT


def test_output_root_is_the_repository_unless_fvit_out_is_set(monkeypatch, tmp_path):
    monkeypatch.setenv("FVIT_OUT", str(tmp_path))
    assert paths.output_root() == tmp_path
    assert paths.figures_dir("study") == tmp_path / "figures" / "study"
    assert paths.results_dir("study") == tmp_path / "results" / "study"
    assert not list(tmp_path.iterdir()), "asking for a folder must not make it"
    monkeypatch.setenv("FVIT_OUT", "")
    assert paths.output_root() == paths.ROOT
    monkeypatch.delenv("FVIT_OUT")
    assert paths.output_root() == paths.ROOT


def test_without_a_clone_output_goes_below_the_current_folder_or_beside_the_copied_notebooks(monkeypatch, tmp_path):
    monkeypatch.delenv("FVIT_OUT")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "IS_CLONE", False)
    assert paths.output_root() == tmp_path / "fvit-out"
    assert paths.trained("cifar10", "vit") == tmp_path / "fvit-out" / "weights" / "cifar10-vit"
    copied = tmp_path / "course"
    (copied / "words").mkdir(parents=True)
    (copied / "SHA256SUMS").touch()
    (copied / "solutions").mkdir()
    for here in (copied, copied / "solutions"):  # where Jupyter starts the kernel of a notebook
        monkeypatch.chdir(here)
        assert paths._notebooks() == copied
    monkeypatch.setattr(paths, "NOTEBOOKS", copied)
    assert paths.output_root() == copied / "fvit-out"
    monkeypatch.setattr(paths, "IS_CLONE", True)  # a clone's own notebooks, copied, leave the clone as it is
    assert paths.output_root() == copied / "fvit-out"
    monkeypatch.chdir(tmp_path)
    assert paths._notebooks() == paths.ROOT / "notebooks"


def test_a_relative_output_root_becomes_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FVIT_OUT", "out")
    assert paths.output_root() == Path.cwd() / "out"


def test_under_pytest_nothing_is_written_to_the_repository():
    assert paths.ROOT not in paths.output_root().parents
    assert paths.output_root() != paths.ROOT


@pytest.mark.parametrize("data, stored", [("σ\r\nb\n", "σ\r\nb\n".encode()), (b"\x00\xff", b"\x00\xff"), ("", b"")])
def test_write_atomic_makes_the_folder_and_stores_the_bytes(tmp_path, data, stored):
    target = files.write_atomic(tmp_path / "a" / "b" / "file.csv", data)
    assert target.read_bytes() == stored
    assert [p.name for p in target.parent.iterdir()] == ["file.csv"]


def test_write_atomic_replaces_and_follows_the_umask(tmp_path):
    target = tmp_path / "file.csv"
    target.write_text("old, and longer than the new text")
    before = os.umask(0o022)
    try:
        files.write_atomic(target, "new")
    finally:
        os.umask(before)
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


@pytest.mark.parametrize("code, kind",
                         [(errno.EACCES, PermissionError), (errno.EROFS, OSError), (errno.ENOSPC, OSError)])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_file_and_names_the_mend(tmp_path, monkeypatch, code, kind, step):
    target = tmp_path / "file.csv"
    target.write_text("old")

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(paths.os, step, refuse)
    with pytest.raises(kind) as caught:
        files.write_atomic(target, "new")
    assert caught.value.errno == code
    for part in (str(tmp_path), os.strerror(code), "FVIT_OUT", "--out"):
        assert part in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file.csv"]
    assert target.read_text() == "old"


def test_a_writer_removes_what_killed_ones_left_and_nothing_else(tmp_path):
    left = [tmp_path / f".file.csv.{token}.tmp" for token in ("0123abcd", "deadbeef")]
    others = [tmp_path / name for name in (".other.csv.0123abcd.tmp", ".file.csv.tmp", "file.csv.0123abcd.tmp")]
    for path in left + others:
        path.write_text("half")
    with files.alone(tmp_path / "file.csv"):  # as who changes a file does
        files.write_atomic(tmp_path / "file.csv", "new")
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "file.csv"])


def test_sums_name_what_has_changed_and_a_stopped_write_leaves_none(tmp_path, monkeypatch):
    files.write_summed(tmp_path, {"a": b"1", "sub/b": "2"})
    done = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "a: OK\nsub/b: OK\n")
    assert files.changed(tmp_path) == []
    (tmp_path / "a").unlink()
    (tmp_path / "sub" / "b").write_text("3")
    assert files.changed(tmp_path) == [str(tmp_path / "a"), str(tmp_path / "sub" / "b")]

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_atomic", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_summed(tmp_path, {"a": b"1"})
    assert not (tmp_path / "SHA256SUMS").exists() and files.changed(tmp_path) == []


def test_an_error_without_a_number_is_raised_again_as_its_class(tmp_path, monkeypatch):
    def refuse(*_):
        raise TimeoutError("the disk sleeps")

    monkeypatch.setattr(paths.os, "replace", refuse)
    with pytest.raises(TimeoutError, match="the disk sleeps; set FVIT_OUT"):
        files.write_atomic(tmp_path / "file.csv", "new")


def test_an_interrupt_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(paths.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomic(tmp_path / "file.csv", "new")
    assert not list(tmp_path.iterdir())


def test_alone_lets_processes_in_one_by_one_and_leaves_nothing(tmp_path):
    """Each of three adds 1 to a number 200 times; were two inside at once, additions would be lost."""
    target = tmp_path / "new" / "number"
    code = ("import sys; from pathlib import Path; from fvit.base import files\n"
            "path = Path(sys.argv[1])\n"
            "for _ in range(200):\n"
            "    with files.alone(path):\n"
            "        old = int(path.read_text()) if path.exists() else 0\n"
            "        path.write_text(str(old + 1))")
    processes = [subprocess.Popen([sys.executable, "-c", code, str(target)], cwd=paths.ROOT) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert target.read_text() == "600"
    assert [p.name for p in target.parent.iterdir()] == ["number"]


def test_alone_is_left_by_an_error_and_names_a_folder_that_cannot_be_written(tmp_path):
    target = tmp_path / "file.csv"
    for _ in range(2):  # the second would wait for ever if the first still held it
        with pytest.raises(KeyboardInterrupt), files.alone(target):
            raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="set FVIT_OUT or pass --out"), files.alone(tmp_path / "file" / "claims.csv"):
        pass


def test_check_writable_leaves_nothing_and_refuses_a_file_as_folder(tmp_path):
    folder = files.check_writable(tmp_path / "new")
    assert folder.is_dir() and not list(folder.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="set FVIT_OUT or pass --out") as caught:
        files.check_writable(tmp_path / "file" / "figures")
    assert str(tmp_path / "file") in str(caught.value)
