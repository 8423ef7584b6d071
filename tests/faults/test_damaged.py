"""Bytes flipped and files cut off, at random places: named by a message, or seen to change nothing."""

import importlib
import shutil

import harm
import nbformat
import numpy as np
import pandas as pd
import pytest
from harm import TIMES, Child, long

import fvit
from fvit.base import paths
from fvit.base.files import SUMS
from fvit.experiments import blocks
from fvit.notebooks import form
from fvit.records import profiles, rows
from fvit.report import saving

MEND = {"vit": "fvit train vit", "denoiser": "fvit train denoiser", "teacher": "fvit train teacher"}


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A copy of the shipped weights that may be damaged."""
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path / "fvit" / "weights")
    shutil.copytree(paths.PACKAGE / "weights", paths.WEIGHTS, ignore=shutil.ignore_patterns("checkpoint*"))
    return paths.WEIGHTS


def what_it_says(model):
    """Every parameter of a model, in one number per tensor: equal only if the weights are."""
    return {name: value.double().sum().item() for name, value in model.state_dict().items()}


@long
@pytest.mark.parametrize("what", MEND)
def test_shipped_models(what, dice, tally, weights):
    from fvit.training.on_scenes import Teacher
    from fvit.training.vit import read_teacher

    load = {"vit": fvit.load_vit, "denoiser": fvit.load_denoiser,
            "teacher": lambda: read_teacher(Teacher(), "scenes")}[what]
    wanted = what_it_says(load())
    files = [weights / what / line[66:] for line in (weights / what / SUMS).read_text().splitlines()]
    for _ in range(TIMES):
        path = dice.choice([*files, weights / what / SUMS])
        before = path.read_bytes()
        did = harm.damage(dice, path)
        try:
            same = what_it_says(load()) == wanted
            assert same and path.name == SUMS, f"{did}, and nobody says so"  # cut off, it vouches for fewer files
        except (OSError, ValueError) as error:
            assert str(path.name) in str(error) or path.name == SUMS, f"{did}: {error}"
            assert MEND[what] in str(error) and "git checkout" in str(error), f"{did}: {error}"
        path.write_bytes(before)
        assert what_it_says(load()) == wanted
        tally(f"damaged weights or settings of the {what}")


@long
def test_models_of_others(dice, tally, weights):
    """Without sums a flipped weight is another model; whatever comes, it is a model or a documented error."""
    (weights / "vit" / SUMS).unlink()
    x = fvit.load_images("scenes", "val", 1).x
    path = weights / "vit" / "model.safetensors"
    before = path.read_bytes()
    head = int.from_bytes(before[:8], "little") + 8
    for _ in range(TIMES):
        path.write_bytes(before)
        at = dice.randrange(head) if dice.random() < 0.7 else dice.randrange(len(before))
        damaged = bytearray(before)
        damaged[at] ^= dice.randint(1, 255)
        path.write_bytes(damaged if dice.random() < 0.7 else before[:at])
        try:
            assert fvit.load_vit(str(weights / "vit"))(x).shape == (1, 10)
        except (OSError, ValueError) as error:
            assert "model.safetensors" in str(error) and ";" in str(error)
        tally("damaged weights of another folder, without sums")


@long
def test_checkpoints(dice, tally, tmp_path):
    importlib.import_module("fvit.training.loop")
    train = harm.command("train", "teacher", "--out", tmp_path, *harm.SMALL)
    harm.succeeds(train)
    wanted, path = harm.snapshot(tmp_path), tmp_path / "checkpoint.safetensors"
    for number in range(TIMES):
        path.write_bytes(wanted[path.name])
        did = harm.damage(dice, path)
        child = Child(train)
        assert child.wait() == 2, f"{did}: {child.said}"
        harm.check_message(child.said, str(path), "delete it to start anew")
        path.unlink()
        if number < 3:  # from the start; the others only say so
            harm.finishes(train, tmp_path, wanted)
        tally("damaged checkpoint")


@pytest.mark.parametrize("name", ["results/laptop/claims.csv", "figures/MANIFEST.csv"])
def test_tables(name, dice, tally, tmp_path):
    """Plain text vouches for nothing: a changed letter is for git to see. But no row may be lost or mixed up."""
    harm.succeeds(harm.write_everything, FVIT_OUT=str(tmp_path))
    lines = harm.written()[name].splitlines()
    for _ in range(TIMES):
        did = harm.damage(dice, tmp_path / name)
        child = Child(harm.write_everything, FVIT_OUT=str(tmp_path))
        if child.wait():
            harm.check_message(child.said, str(tmp_path / name), "run again")
            (tmp_path / name).unlink()
            harm.finishes(harm.write_everything, tmp_path, harm.written(), did)
        assert set(lines) <= set((tmp_path / name).read_bytes().splitlines()), f"{did}: rows are lost"
        (tmp_path / name).write_bytes(harm.written()[name])
        tally("damaged table (CSV)")


def test_blocks(dice, tally, tmp_path, monkeypatch):
    monkeypatch.setenv("FVIT_OUT", str(tmp_path))
    profiles.profile("study")
    columns = {"image_id": [f"i{n}" for n in range(20)], "metric": "m", "eps": 8 / 255, "value": np.arange(20) / 7}

    def run():
        return blocks.run_blocks(lambda start, stop: pd.DataFrame(columns)[start:stop], 20, 10, name="09",
                                 profile="study", settings={})

    wanted = run()
    files = sorted(tmp_path.rglob("*.parquet"))
    before = {path: path.read_bytes() for path in files}
    for _ in range(5 * TIMES):
        path = dice.choice(files)
        did = harm.damage(dice, path)
        try:
            pd.testing.assert_frame_equal(run(), wanted, check_exact=True)
        except ValueError as error:
            assert str(path) in str(error) and "delete it and run again" in str(error), f"{did}: {error}"
            path.unlink()
            pd.testing.assert_frame_equal(run(), wanted, check_exact=True)
            assert path.read_bytes() == before[path]
        path.write_bytes(before[path])
        tally("damaged block (Parquet)")


def test_figures(dice, tally, tmp_path, monkeypatch, capsys):
    harm.succeeds(harm.write_everything, FVIT_OUT=str(tmp_path))
    monkeypatch.setenv("FVIT_OUT", str(tmp_path))
    profiles.profile("laptop")
    for _ in range(3 * TIMES):
        path = tmp_path / "figures/laptop" / dice.choice(["F01_a_line.png", "F01_a_line.json"])
        did = harm.damage(dice, path)
        try:
            saving.show_figure("F01")
            assert path.suffix == ".json", f"{did}, and it is shown"  # another letter in its words
        except ValueError as error:
            assert "figure F01" in str(error) and "`fvit run` the notebook" in str(error), f"{did}: {error}"
        path.write_bytes(harm.written()[f"figures/laptop/{path.name}"])
        saving.show_figure("F01")
        tally("damaged figure (PNG, JSON)")


@long
def test_photographs(dice, tally, tmp_path, monkeypatch):
    """Of the scenes' sources, in a copy of the folders where a wheel and fvit keep them."""
    from fvit.data import photographs

    read = photographs.photograph.__wrapped__  # past the cache
    whole = {name: read(name) for name in ("coffee", "camera", "chair")}
    copies = {row["name"]: tmp_path / row["file"] for row in photographs.table() if row["name"] in whole}
    for path in copies.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        package, _, inside = path.relative_to(tmp_path).as_posix().partition("/")
        path.write_bytes((photographs.files(package) / inside).read_bytes())
    monkeypatch.setattr(photographs, "files", lambda package: tmp_path / package)
    for _ in range(TIMES):
        name = dice.choice(list(whole))
        path = copies[name]
        before = path.read_bytes()
        did = harm.damage(dice, path)
        with pytest.raises(OSError, match=f"{path.name}.*reinstall") as caught:
            read(name)
            pytest.fail(f"{did}, and nobody says so")
        assert str(path) in str(caught.value)
        path.write_bytes(before)
        assert read(name).tobytes() == whole[name].tobytes()
        tally("damaged photograph")


def test_notebooks(dice, tally, tmp_path):
    """A damaged notebook is refused before anything runs, or is a notebook all the same, whose code says more."""
    folder = harm.notebook(tmp_path / "notebooks", "print(1)")
    path = folder / "01_writes.ipynb"
    before, ran = path.read_bytes(), 0
    for _ in range(5 * TIMES):
        did = harm.damage(dice, path)
        run = harm.command("run", "01", folder=folder) if ran < TIMES - 8 else lambda: form.check_whole(path)
        child = Child(run)
        if child.wait() and "failed" not in child.said:
            harm.check_message(child.said, "01_writes.ipynb is no ", "notebook", "restore it by git")
        else:
            assert "Traceback" not in child.said, f"{did}: {child.said}"
            ran += "failed" in child.said or ".ipynb  " in child.said
        path.write_bytes(before)
        tally("damaged notebook")
    nbformat.validate(nbformat.read(path, 4))
    if TIMES >= 10:
        harm.succeeds(harm.command("run", "01", folder=folder))


def test_rows_that_a_stopped_run_left(dice, tally, tmp_path):
    """load_rows on a table cut off at any byte: the error."""
    four = [{"image_id": f"i{n}", "metric": "m", "value": n / 7} for n in range(4)]
    path = rows.save_rows(four, tmp_path / "a.parquet")
    before = path.read_bytes()
    for end in dice.sample(range(len(before)), 10 * TIMES):
        path.write_bytes(before[:end])
        with pytest.raises(ValueError, match=str(path)):
            rows.load_rows(path)
        tally("table cut off at a byte")
