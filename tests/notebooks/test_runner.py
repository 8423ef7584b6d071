"""The guards around papermill. Fixtures are notebooks named by what comes of running them."""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import nbformat
import pytest

from fvit import cli
from fvit.base import paths
from fvit.notebooks import form, plan, runner

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A repository of two notebooks, the second of which fails, and an empty output folder."""
    folder = tmp_path / "notebooks {1}"  # braces, since papermill formats its paths
    folder.mkdir()
    shutil.copy(FIXTURES / "succeeds.ipynb", folder / "00_succeeds.ipynb")
    shutil.copy(FIXTURES / "fails.ipynb", folder / "01_fails.ipynb")
    monkeypatch.setattr(paths, "NOTEBOOKS", folder)
    monkeypatch.setenv("FVIT_OUT", str(tmp_path / "out"))
    return tmp_path


@pytest.fixture
def nothing_runs(monkeypatch):
    monkeypatch.setattr(runner.papermill, "execute_notebook", lambda *_, **__: pytest.fail("ran"))


def heed_interrupts():
    """A shell's background jobs ignore SIGINT, and so do their children, this test's process among them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def elsewhere(*arguments, after="", **options):
    """`fvit ARGUMENTS` on these notebooks, begun in a process of its own, with lines of Python around it."""
    code = ("import sys; from pathlib import Path; from fvit import cli; from fvit.base import paths\n"
            f"paths.NOTEBOOKS = Path({str(paths.NOTEBOOKS)!r})\n"
            f"code = cli.main({list(arguments)!r})\n{after}\nsys.exit(code)")
    return subprocess.Popen([sys.executable, "-c", code], cwd=paths.ROOT, stderr=subprocess.PIPE, text=True,
                            preexec_fn=heed_interrupts, **options)


def wait_for(process, ready):
    while not ready():
        assert process.poll() is None, f"ended by itself: {process.stderr.read()}"
        time.sleep(0.05)


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.stat().st_size)


# What to run ------------------------------------------------------------------------------------------------------

def test_notebooks_are_selected_by_number_and_an_unknown_one_lists_those_there_are(bench, monkeypatch):
    for names, wanted in ((["all"], "00 01"), (["1"], "01"), (["01", "0"], "00 01"), (["00", "all"], "00 01")):
        assert [path.name[:2] for path in plan.select(names)] == wanted.split()
    with pytest.raises(ValueError, match="no notebook '7'; known: all, 00, 01"):
        plan.select(["7"])
    monkeypatch.setattr(paths, "NOTEBOOKS", bench / "nowhere")
    with pytest.raises(ValueError, match="they come with fvit, so install it again"):
        plan.select(["all"])


@pytest.mark.parametrize("name, text, value", [
    ("seed", "3", 3), ("seed", "-1", -1), ("sigma", "0.5", 0.5), ("sigma", "1", 1.0), ("exact", "True", True),
    ("method", "lrp", "lrp"), ("method", "'a b'", "a b"), ("method", "1", "1"), ("method", "", ""),
    ("orders", "[3]", [3]),
])
def test_values_take_the_type_of_the_default(bench, name, text, value):
    [(_, parameters)] = plan.plan(["00"], given={name: text})
    assert repr(parameters) == repr({name: value})


def test_a_path_that_is_there_becomes_absolute_since_kernels_start_elsewhere(bench, monkeypatch):
    monkeypatch.chdir(bench)
    (bench / "out").mkdir()
    there = str(bench / "out")
    kept = {text: text for text in ("out", "no/such", r"no\such")}
    for text, value in ({"./out": there, "out/": there} | kept).items():
        assert plan.plan(["00"], given={"method": text})[0][1] == {"method": value}
    monkeypatch.setenv("FVIT_DATA", "data")
    monkeypatch.delenv("FVIT_EXECUTOR", raising=False)
    with runner.kernel_environment("study", executor="ray", address="head:6379"):
        assert os.environ["FVIT_DATA"] == str(bench / "data")
        assert (os.environ["FVIT_EXECUTOR"], os.environ["RAY_ADDRESS"]) == ("ray", "head:6379")
    assert os.environ["FVIT_DATA"] == "data" and "FVIT_EXECUTOR" not in os.environ, "the environment is put back"


def test_paths_of_sources_become_absolute_in_a_dict_and_without_a_slash_too(bench, monkeypatch):
    of_sources(paths.NOTEBOOKS / "02_loads.ipynb")
    monkeypatch.setenv("HOME", str(bench))
    monkeypatch.chdir(bench)
    for name in ("my_prior", "cifar10"):
        (bench / name).mkdir()

    def planned(**given):
        return plan.plan(["02"], "paper", {"vit": "scenes", "den": "scenes", "data": "scenes"} | given)[0][1]

    for source in ("./my_prior", "my_prior", "~/my_prior"):
        assert planned(den=repr({"source": source, "size": 32}))["den"] == repr(
            {"source": str(bench / "my_prior"), "size": 32})
        assert planned(den=source)["den"] == str(bench / "my_prior")
    assert planned(data=repr({"source": "scenes", "root": "my_prior"}))["data"] == repr(
        {"source": "scenes", "root": str(bench / "my_prior")})
    assert planned(vit="cifar10")["vit"] == "cifar10"  # ships with fvit
    with pytest.raises(FileNotFoundError, match=r"no denoiser den='.*/other'; did|no denoiser den='.*/other'; wanted"):
        planned(den="~/other")


@pytest.mark.parametrize("arguments, message", [
    (["-p", "n_images=2"], r"'n_images' is unknown to 02_loads\.ipynb"),
    (["--profile", "papr"], r"unknown profile 'papr', known: laptop, study, natural, paper; did you mean 'paper'\?"),
    (["--profile", "natural"], r"natural is of notebooks 01, 03, 07, 09, 10, 11, 12; leave out 02_loads\.ipynb, or"),
    (["-p", "vit=cifar10"], "vit='cifar10' at laptop, whose figures and claims are about the scenes"),
    (["--profile", "paper", "-p", "vit=vit_bse_patch16_224"], r"did you mean 'vit_base_patch16_224'\?"),
    (["--profile", "paper", "-p", "den=cifar10"], r"where is imagenet-seg\? Give root=, or set FVIT_DATA"),
    (["--profile", "paper", "-p", "den=./nowhere"], r"no denoiser den='\./nowhere'"),
])
def test_what_is_wrong_is_refused_in_three_seconds_and_before_torch(bench, arguments, message):
    of_sources(paths.NOTEBOOKS / "02_loads.ipynb")
    start, environment = time.monotonic(), {k: v for k, v in os.environ.items() if k != "FVIT_DATA"}
    process = elsewhere("run", "02", *arguments, env=environment,
                        after="assert not {'torch', 'papermill'} & set(sys.modules)")
    _, said = process.communicate()
    assert process.returncode in (1, 2) and re.search(message, said), said
    assert time.monotonic() - start < 3 and not (bench / "out").exists()


@pytest.mark.parametrize("name, text", [
    ("seed", "abc"), ("seed", "1.0"), ("seed", "True"), ("seed", ""), ("seed", "1 +"), ("sigma", "big"),
    ("sigma", "True"), ("sigma", "1e999"), ("exact", "1"), ("exact", "true"), ("orders", "1"),
])
def test_a_value_of_another_type_is_refused(bench, name, text):
    with pytest.raises(ValueError, match=rf"-p {name}=.*: wanted a value of type \w+, written like {name}="):
        plan.plan(["00"], given={name: text})


def test_a_parameter_must_be_known_to_every_notebook_or_with_all_to_one_and_the_profile_is_to_each(bench):
    for names, given, message in [
        (["00"], {"sede": "1"}, r"'sede' is unknown to 00_succeeds\.ipynb; did you mean 'seed'\?.*: exact"),
        (["00", "01"], {"width": "5"}, r"'width' is unknown to 00_succeeds\.ipynb"),
        (["all"], {"depth": "5"}, r"'depth' is unknown to 00_succeeds\.ipynb, 01_fails\.ipynb"),
        (["all"], {"profile": "study"}, "--profile NAME"),
    ]:
        with pytest.raises(ValueError, match=message):
            plan.plan(names, given=given)
    assert [parameters for _, parameters in plan.plan(["all"], given={"width": "5"})] == [{}, {"width": 5}]
    assert [parameters for _, parameters in plan.plan(["all"], "study")] == [{"profile": "study"}] * 2


# Running ----------------------------------------------------------------------------------------------------------

def test_a_run_keeps_the_executed_notebook_and_leaves_the_source(bench, capsys):
    source = paths.NOTEBOOKS / "00_succeeds.ipynb"
    before, out = source.read_bytes(), bench / "elsewhere"
    assert cli.main(["run", "00", "-p", "seed=5", "--out", str(out), "--shard", "1/2"]) == 0
    assert files(out) == ["results/laptop/notebooks/00_succeeds.ipynb", "seed.txt"]
    assert (out / "seed.txt").read_text() == "5\n"
    executed = nbformat.read(out / "results/laptop/notebooks/00_succeeds.ipynb", 4)
    texts = [output.text for cell in executed.cells for output in cell.get("outputs", [])]
    threads = os.environ["OMP_NUM_THREADS"]
    assert texts == ["laptop 5 0.25 rollout False [1, 2]\n", f"notebooks {{1}} {threads} agg 1/2\n"]
    assert form.text(executed) == form.text(form.strip(executed))
    assert source.read_bytes() == before
    assert "00_succeeds.ipynb  " in capsys.readouterr().err
    assert os.environ["FVIT_OUT"] == str(bench / "out"), "the caller's environment is put back"
    assert "FVIT_SHARD" not in os.environ


def test_notebooks_run_side_by_side(bench, capsys):
    """Both have begun before either may end: each waits for the file of the other. The gallery finds them done."""
    for name, other in [("00", "02"), ("02", "00")]:
        meeting(name, f"(root / '{name}').touch()\nwhile not (root / '{other}').exists(): time.sleep(0.01)")
    meeting("15", "assert len(list(root.glob('results/laptop/notebooks/0*.ipynb'))) == 2")
    assert cli.main(["run", "00", "02", "15", "--jobs", "3", "--cell-timeout", "300"]) == 0
    assert capsys.readouterr().out == ""
    names = ["00_meets.ipynb", "02_meets.ipynb", "15_meets.ipynb"]
    assert files(bench / "out") == [f"results/laptop/notebooks/{name}" for name in names]


def test_side_by_side_a_failure_stops_the_other(bench, capsys):
    shutil.copy(FIXTURES / "never_ends.ipynb", paths.NOTEBOOKS / "02_never_ends.ipynb")
    meeting("06", "while not (root / 'begun').exists(): time.sleep(0.01)\nraise ValueError('seen it begin')")
    meeting("01", "raise SystemError('it is not begun any more')")
    assert cli.main(["run", "01", "02", "06", "--jobs", "2", "--cell-timeout", "300"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("fvit: 06_meets.ipynb failed in cell [2]") and "ValueError: seen it begin" in said
    assert files(bench / "out") == ["results/laptop/notebooks/06_meets.failed.ipynb"]


def meeting(number, code):
    """Notebook `number`_meets, in place of what has that number, runs `code` with root, the output folder."""
    for path in paths.NOTEBOOKS.glob(f"{number}_*"):
        path.unlink()
    notebook = nbformat.read(FIXTURES / "succeeds.ipynb", 4)
    head = "import os, time\nfrom pathlib import Path\n\nroot = Path(os.environ['FVIT_OUT'])\n"
    del notebook.cells[3:]
    notebook.cells[2].source = head + code
    nbformat.write(notebook, paths.NOTEBOOKS / f"{number}_meets.ipynb")


def test_a_failing_notebook_says_where_and_keeps_what_ran(bench, capsys):
    kept = bench / "out/results/laptop/notebooks"
    kept.mkdir(parents=True)
    (kept / "01_fails.ipynb").write_text("of an earlier run")
    assert cli.main(["run", "1"]) == 1
    assert "failed in cell [3], which" in capsys.readouterr().err
    assert cli.main(["run", "1", "-p", "width=7"]) == 1  # papermill adds a cell, which the reader does not have
    said = capsys.readouterr().err
    for words in ("01_fails.ipynb failed in cell [3], which begins `raise ValueError",
                  "ValueError: the third cell stops", str(kept / "01_fails.failed.ipynb")):
        assert words in said and "Traceback" not in said
    assert (kept / "01_fails.ipynb").read_text() == "of an earlier run"
    outputs = [o for cell in nbformat.read(kept / "01_fails.failed.ipynb", 4).cells for o in cell.get("outputs", [])]
    assert [o.get("text", o.get("ename")) for o in outputs] == ["7\n", "ValueError"]


def test_a_cell_that_takes_too_long_is_stopped(bench, capsys):
    shutil.copy(FIXTURES / "never_ends.ipynb", paths.NOTEBOOKS / "02_never_ends.ipynb")
    assert cli.main(["run", "2", "--cell-timeout", "1"]) == 1
    assert "allow more by --cell-timeout" in capsys.readouterr().err


@pytest.mark.parametrize("error, reason", [
    (runner.DeadKernelError("Kernel died"), "want of memory"), (RuntimeError("no reply in 300 s"), "no reply in 300 s"),
])
def test_a_kernel_that_dies_or_does_not_start_is_named(bench, monkeypatch, capsys, error, reason):
    monkeypatch.setattr(runner.papermill, "execute_notebook", Mock(side_effect=error))
    assert cli.main(["run", "00"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("fvit: 00_succeeds.ipynb failed: ") and reason in said


@pytest.mark.parametrize("arguments", [
    ["run", "7"], ["run", "00", "-p", "sede=1"], ["run", "00", "-p", "seed"], ["run", "00", "-p", "=1"],
    ["run", "00", "-p", "seed=1", "-p", "seed=2"], ["run", "00", "--profile", "huge"], ["run", "00", "--shard", "3/2"],
    ["run", "00", "--shard", "0/2"], ["run", "00", "--shard", "half"], ["run", "00", "--cell-timeout", "-1"],
    ["run", "00", "--jobs", "0"], ["run", "00", "--jobs", "two"], ["run", "00", "--executor", "slurm"],
    ["run", "00", "--address", "head:6379"], ["run", "00", "--dry-run", "--shard", "3/2"],
    ["run", "--nonsense"], ["walk"], [],
])
def test_wrong_arguments_exit_with_2_before_anything_runs(bench, nothing_runs, capsys, arguments):
    with pytest.raises(SystemExit, match="2"):  # argparse's own, or ours
        sys.exit(cli.main(arguments))
    assert capsys.readouterr().err.strip() and not (bench / "out").exists()


def test_a_folder_that_cannot_be_written_is_named_before_anything_runs(bench, nothing_runs, capsys):
    (bench / "file").write_text("")
    (bench / "out").mkdir()
    (bench / "out" / "figures").write_text("a file where the folder of figures should be")
    for arguments, folder in [(["--out", str(bench / "file")], "file"), ([], "out/figures/laptop")]:
        assert cli.main(["run", "00", *arguments]) == 1
        assert re.search(f"{bench / folder}.*set FVIT_OUT or pass --out to a folder", capsys.readouterr().err)


def test_two_runs_on_one_folder_are_refused_but_shards_share_it(bench, capsys):
    refused = f"another run (process {os.getpid()}) writes to {bench / 'out'}"
    with runner.lock(bench / "out"):
        assert cli.main(["run", "00"]) == 1 and refused in capsys.readouterr().err
    with runner.lock(bench / "out", "1/2"), runner.lock(bench / "out", "2/2"):
        assert (bench / "out" / ".fvit-run-1-of-2.lock").exists()
        assert cli.main(["run", "00", "--shard", "1/2"]) == 1 and refused in capsys.readouterr().err


def test_a_shard_that_has_done_its_part_is_no_failure_and_its_progress_is_seen(bench, capfd):
    said = "shard 1/2 of 10_scores is done; 1 of 3 blocks are missing"
    meeting("00", "import sys\nfrom fvit.experiments.blocks import UnfinishedError\n"
                  f"print('block 1 of 3', file=sys.stderr)\nraise UnfinishedError({said!r})")
    assert cli.main(["run", "00", "--shard", "1/2"]) == 0
    shown = capfd.readouterr().err
    assert f"00_meets.ipynb: {said}" in shown and "\nblock 1 of 3" in f"\n{shown}"
    assert files(bench / "out") == [], "neither an executed notebook nor a failed one"


def test_without_ray_nothing_starts_and_the_extra_is_named(bench, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["run", "00", "--executor", "ray"]) == 2
    assert 'install it by `pip install "fvit[cluster]"`, or leave out --executor ray' in capsys.readouterr().err


BLOCKS = """import fvit
from fvit.experiments.attack_rows import attack_rows
on = fvit.experiment('00', profile, n_images=5, n_samples=1)
print(on.sizes)
run = on.run('00_rows', attack_rows, block=2, methods=['rollout'], attacks=[], radii=[], measures=['segmentation'])
assert len(run.rows()) == 0 and os.environ['HF_HUB_OFFLINE'] == '1'"""


def test_a_dry_run_measures_one_image_of_the_blocks_leaves_nothing_and_shows_what_would_fail(bench, capsys):
    meeting("00", BLOCKS)
    notebook = nbformat.read(paths.NOTEBOOKS / "00_meets.ipynb", 4)
    notebook.cells.append(nbformat.v4.new_code_cell("raise AssertionError('beyond the blocks')"))
    nbformat.write(notebook, paths.NOTEBOOKS / "00_meets.ipynb")
    of_sources(paths.NOTEBOOKS / "02_loads.ipynb")
    assert cli.main(["run", "00", "01", "02", "--profile", "study", "--dry-run"]) == 0
    said = capsys.readouterr().out.splitlines()
    scenes = "  loads: vit {'source': 'scenes'}, den {'source': 'scenes'}, data {'source': 'scenes'}"
    assert said[4].startswith("  one image took ") and "so 5 take about" in said.pop(4)
    assert said == [
        "00_meets.ipynb, profile study",
        "  parameters: profile 'study', seed 0, sigma 0.25, method \"rollout\", exact False, orders [1, 2]",
        "profile study, notebook 00: n_images 5, n_samples 1, k 25, attack_steps 20, attack_draws 4, eval_batch 32, "
        "sigma 0.25, precision float32", "00_rows: 5 images in 3 blocks, 3 of them to do here", f"{scenes}; on cpu",
        "01_fails.ipynb, profile study", "  parameters: profile 'study', width 3",
        "  loads: what ships with fvit", "  computes in its cells: there is no block to measure",
        "02_loads.ipynb, profile study", "  parameters: profile 'study', vit \"\", den \"\", data \"\"",
        scenes, "  computes in its cells: there is no block to measure"]
    assert not (bench / "out").exists()
    meeting("00", "raise FileNotFoundError('no folder vit_large')\non.run('00_rows', work).rows()")
    assert cli.main(["run", "00", "--dry-run"]) == 1 and "FileNotFoundError: no folder vit" in capsys.readouterr().err


def of_sources(path):
    """A notebook that takes a ViT, a denoiser and images by name."""
    notebook = nbformat.read(FIXTURES / "succeeds.ipynb", 4)
    del notebook.cells[3:]
    names = "".join(f'{name}: str = ""  # a source\n' for name in ("vit", "den", "data"))
    notebook.cells[1].source = f'profile: str = "laptop"  # size of the run\n{names}'
    notebook.cells[2].source = 'on = fvit.experiment("02", profile, vit, den, data, published="imagenet-seg")'
    nbformat.write(notebook, path)


def test_the_lock_of_a_killed_run_stops_nobody(bench):
    code = ("import os, signal; from pathlib import Path; from fvit.notebooks import runner\n"
            f"with runner.lock(Path({str(bench)!r})): os.kill(os.getpid(), signal.SIGKILL)")
    killed = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT)
    assert killed.returncode == -signal.SIGKILL
    left = bench / ".fvit-run.process.lock"
    assert left.read_text().strip(), "the dead process has left its id"
    with runner.lock(bench):
        assert left.read_text() == f"{os.getpid()}\n"
    assert not left.exists()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupted_run_leaves_no_half_written_file(bench, jobs):
    shutil.copy(FIXTURES / "never_ends.ipynb", paths.NOTEBOOKS / "02_never_ends.ipynb")
    temporary = bench / "tmp"
    temporary.mkdir()
    process = elsewhere("run", "2", "--jobs", jobs, env=os.environ | {"TMPDIR": str(temporary)})
    wait_for(process, (bench / "out" / "begun").exists)  # the endless cell has started
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 1
    assert "\nfvit: interrupted" in f"\n{said}", said  # asyncio may add what it thinks of a kernel that is gone
    assert files(bench / "out") == []
    assert not list((bench / "out").rglob("*.tmp"))
    assert not list(temporary.glob("fvit-run-*"))


def test_the_notebooks_at_work_end_with_a_run_that_is_killed(bench):
    """Else they go on without its lock, beside the next run."""
    meeting("01", "(root / 'begun').write_text(str(os.getppid()))\nwhile True: time.sleep(0.1)")
    process, begun = elsewhere("run", "1", "--jobs", "2"), bench / "out" / "begun"
    wait_for(process, lambda: begun.exists() and begun.read_text())
    worker = os.pidfd_open(int(begun.read_text()))
    process.kill()
    process.wait()
    ended, _, _ = select.select([worker], [], [], 60)
    os.close(worker)
    assert ended, "the worker goes on"


def test_a_batch_systems_stop_is_an_interrupt_too(bench, monkeypatch, capsys):
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(runner, "run", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert cli.main(["run", "00"]) == 1
    assert "interrupted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == handler


# Refreshing, and the form that is kept ----------------------------------------------------------------------------

def test_refresh_changes_no_byte_the_second_time(bench, monkeypatch):
    source = paths.NOTEBOOKS / "00_succeeds.ipynb"
    monkeypatch.setenv("FVIT_THREADS", "1")
    once, twice = [source.read_bytes() for _ in range(2) if cli.main(["refresh", "00"]) == 0]
    assert b"laptop 0 0.25 rollout False [1, 2]" in once and b"notebooks {1} 1 agg None" in once and twice == once
    assert form.problems(nbformat.read(source, 4)) == []


def test_refresh_never_writes_where_packages_are(bench, monkeypatch, nothing_runs, capsys):
    monkeypatch.setattr(paths, "ROOT", bench)
    (bench / "notebooks").symlink_to(paths.NOTEBOOKS)
    monkeypatch.setattr(paths, "NOTEBOOKS", bench / "notebooks")
    monkeypatch.setattr(paths, "IS_CLONE", False)
    assert cli.main(["refresh", "00"]) == 2
    assert "came with fvit and stays as it is; copy them out by `fvit notebooks DIR`" in capsys.readouterr().err


def test_refresh_leaves_a_notebook_that_fails_or_has_problems(bench, capsys):
    failing, wrong = paths.NOTEBOOKS / "01_fails.ipynb", paths.NOTEBOOKS / "00_succeeds.ipynb"
    wrong.write_text(wrong.read_text().replace('"parameters"', '"paramaters"'))
    before = failing.read_bytes(), wrong.read_bytes()
    assert cli.main(["refresh", "01"]) == 1
    assert cli.main(["refresh", "00"]) == 1
    assert "00_succeeds.ipynb is left as it was" in capsys.readouterr().err
    assert (failing.read_bytes(), wrong.read_bytes()) == before


def test_strip_drops_what_changes_and_keeps_the_rest():
    notebook = nbformat.read(FIXTURES / "succeeds.ipynb", 4)
    clean = form.text(form.strip(notebook))
    notebook.metadata["papermill"] = {"start_time": "now"}
    notebook.metadata["widgets"] = {}
    notebook.metadata["language_info"]["version"] = "3.11.7"
    notebook.metadata["kernelspec"]["display_name"] = "my env"
    notebook.cells[0].metadata.update(papermill={"duration": 1}, execution={"iopub": "now"}, tags=[])
    assert form.text(form.strip(notebook)) == clean
    assert "papermill" in notebook.metadata, "the notebook passed in is not changed"
    kept = nbformat.reads(clean, 4)
    assert [(c.id, c.source) for c in kept.cells] == [(c.id, c.source) for c in notebook.cells]
    assert kept.cells[1].metadata.tags == ["parameters"]


# The command ------------------------------------------------------------------------------------------------------

def test_info_names_versions_and_folders(bench, capsys):
    assert cli.main(["info"]) == 0
    said = capsys.readouterr().out
    for word in ("fvit", "python", "torch", "timm", "diffusers", "device", str(paths.WEIGHTS), str(paths.NOTEBOOKS),
                 str(bench / "out" / "figures")):
        assert word in said


@pytest.mark.parametrize("arguments", ["", "run", "verify", "notebooks", "refresh", "train", "train vit",
                                       "convert-adm", "info"])
def test_help_everywhere(arguments, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main([*arguments.split(), "--help"])
    assert "usage: fvit" in capsys.readouterr().out


def test_train_hands_its_arguments_on_and_python_dash_m_is_the_same_command(monkeypatch):
    from fvit.training import loop

    monkeypatch.setattr(loop, "main", lambda args: 1 if args.what == "denoiser" and args.seed == 3 else 0)
    assert [cli.main(["train", what, "--seed", "3"]) for what in ("denoiser", "vit")] == [1, 0]
    done = subprocess.run([sys.executable, "-m", "fvit", "--version"], cwd=paths.ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[0]) == (0, "fvit")
