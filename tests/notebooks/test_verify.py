"""Did I reproduce it? A repository of two figures, a table and claims, made again as elsewhere, by hand, or in part."""

import hashlib
import shutil
import subprocess

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest

import fvit
from fvit import cli
from fvit.base import paths
from fvit.notebooks import runner, verify
from fvit.records import ledger, profiles
from fvit.records.rows import save_rows
from fvit.report import saving

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="no git here: what is committed cannot be asked")


def make(number="01", off=0.0, value=0.5):
    """What notebook `number` writes: a figure, rows, a claim; all measured numbers are `off` by so much."""
    profiles.profile("laptop", notebook=number)
    table = pd.DataFrame({"eps": [0.1, 0.2], "mean": [0.9 + off, value + off], "n": 200})
    fig, ax = plt.subplots(figsize=(2, 1))
    ax.plot(table["eps"], table["mean"])
    fvit.save_figure(fig, f"F{number}a", table, name="overlap", title="Overlap", alt=f"It ends at {value + off:.2f}.",
                     caption="Means.", source="ours")
    save_rows([{"image_id": f"test-0-{i}", "metric": "right", "value": i % 2 + off} for i in range(4)],
              paths.results_dir("laptop") / f"{number}_rows.parquet")
    fvit.claim(f"X{number}.1", 0.25 + off, "<", 1, text="it is small", source="ours")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FVIT_OUT", str(root))
        patch.setattr(profiles, "current", None)
        patch.setattr(saving, "source_digest", lambda notebook: f"of {notebook}")  # it reads all weights
        fill(root)
    return root


@pytest.fixture
def repository(original, tmp_path, monkeypatch):
    root = shutil.copytree(original, tmp_path / "clone")
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setattr(paths, "NOTEBOOKS", root / "notebooks")
    monkeypatch.setattr(profiles, "current", None)
    monkeypatch.setattr(saving, "source_digest", lambda notebook: f"of {notebook}")
    monkeypatch.setenv("FVIT_OUT", str(root))
    return root


def fill(root):
    for number in ("01", "02"):
        make(number)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(
            'profile: str = "laptop"\nsize: int = 1', metadata={"tags": ["parameters"]}, id="c")])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        (root / "notebooks" / "words").mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, root / "notebooks" / f"{number}_measures.ipynb")
    (root / "fvit").mkdir()
    (root / "fvit" / "code.py").write_text("1\n")
    (root / ".gitignore").write_text(".*.lock\nresults/laptop/notebooks/\n")
    for words in ("init -q", "add -A", "-c user.name=a -c user.email=a@b commit -qm made"):
        subprocess.run(["git", *words.split()], cwd=root, check=True)


def dirty(root):
    said = subprocess.run(["git", "status", "--porcelain"], cwd=root, check=True, capture_output=True, text=True).stdout
    return sorted(line[3:] for line in said.splitlines())


def test_what_was_just_cloned_is_reproduced(repository, capsys):
    assert cli.main(["verify"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split() for line in said[1:4]] == [["figures", "2", "0", "0"], ["tables", "2", "0", "0"],
                                                    ["claims", "2", "0", "0"]]
    assert said[0].startswith("against commit ") and said[4] == "Reproduced; the committed files are kept"


def test_rounding_of_another_processor_leaves_the_tree_clean(repository, capsys):
    make("01", off=1e-6)
    sidecar = repository / "figures/laptop/F02a_overlap.json"
    sidecar.write_text(sidecar.read_text().replace('"python": "', '"python": "4'))  # with another Python
    (repository / "figures/laptop/F02a_overlap.png").write_bytes(b"as another matplotlib draws it")
    assert len(dirty(repository)) > 5
    assert cli.main(["verify"]) == 0
    assert [line.split()[1:] for line in capsys.readouterr().out.splitlines()[1:4]] == [
        ["1", "1", "0"], ["1", "1", "0"], ["1", "1", "0"]], "versions make no difference"
    assert dirty(repository) == []


@pytest.mark.parametrize("spoil, said, left", [
    (lambda root: change(root / "figures/laptop/F01a_overlap.csv", "0.2,0.5", "0.2,0.6"),
     "different: figures/laptop/F01a_overlap.csv: column mean, row 2: 0.6, committed 0.5, tolerance 0.02",
     ["figures/laptop/F01a_overlap.csv"]),
    (lambda root: change(root / "figures/laptop/F01a_overlap.json", "It ends", "It begins"),
     "different: figures/laptop/F01a_overlap.json: its alt: It begins", ["figures/laptop/F01a_overlap.json"]),
    (lambda root: (root / "figures/laptop/F01a_overlap.csv").write_bytes(b"\xff\x00"),
     "different: figures/laptop/F01a_overlap.csv: damaged (UnicodeDecodeError", ["figures/laptop/F01a_overlap.csv"]),
    (lambda root: (root / "results/laptop/01_rows.parquet").unlink(),
     "different: results/laptop/01_rows.parquet: not made", ["results/laptop/01_rows.parquet"]),
    (lambda root: change(root / "results/laptop/claims.csv", "0.25", "0.35", 1),
     "different: claim X01.1, value: 0.35, committed 0.25, tolerance 0.02", ["results/laptop/claims.csv"]),
])
def test_what_was_changed_by_hand_is_named_and_left_as_it_is(repository, capsys, spoil, said, left):
    make("02", off=1e-6)
    spoil(repository)
    for _ in range(2):  # said as often as asked
        assert cli.main(["verify"]) == 1
        out = capsys.readouterr().out
        assert said in out and f"Not reproduced; what differs is left in {repository}" in out
        assert out.count("different:") == 1 and dirty(repository) == left


def change(path, old, new, times=-1):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, times))


def test_a_figure_made_anew_that_differs_keeps_its_own_row_of_the_manifest(repository):
    make("01", off=0.1)
    make("02", off=1e-6)
    report = verify.of_what_lies_there(repository)
    assert [counts[2] for counts in report.counts.values()] == [1, 1, 1]
    assert "figures/MANIFEST.csv" in dirty(repository) and not any("02" in name for name in dirty(repository))
    rows = {row["figure"]: row for row in ledger.read_table(repository / verify.MANIFEST)}
    for figure in ("F01a", "F02a"):
        data = (repository / f"figures/laptop/{figure}_overlap.csv").read_bytes()
        assert rows[figure]["csv_sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("edit", ["fvit/code.py", "notebooks/01_measures.ipynb"])
def test_who_edits_the_code_keeps_what_it_makes(repository, edit):
    path = repository / edit
    path.write_text(path.read_text().replace("1", "2"))
    make("01", off=1e-6)
    made = dirty(repository)
    report = verify.of_what_lies_there(repository)
    assert report.wrong == [] and not report.keeps and dirty(repository) == made


def test_outputs_that_jupyter_stores_are_no_edit(repository):
    path = repository / "notebooks" / "01_measures.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.cells[0].execution_count = 3
    nbformat.write(notebook, path)
    make("01", off=1e-6)
    assert verify.of_what_lies_there(repository).keeps
    assert dirty(repository) == ["notebooks/01_measures.ipynb"]


def test_another_folder_is_compared_and_left_as_it_was_made(repository, monkeypatch, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["verify", "--out", str(out)]) == 1 and "nothing was made in" in capsys.readouterr().err
    monkeypatch.setenv("FVIT_OUT", str(out))
    make("01", off=1e-6)
    make("06")
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    assert cli.main(["verify", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "figures                           0                 1          0" in said, "02 was not made, nor need it be"
    assert "not committed, so not compared: claim X06.1, 06_rows, F06a_overlap" in said
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before and dirty(repository) == []


def test_a_folder_without_git_is_compared_by_the_run_that_writes_to_it(repository, capsys):
    shutil.rmtree(repository / ".git")
    assert cli.main(["verify"]) == 1 and "is no git clone" in capsys.readouterr().err
    known, before = verify.committed(), verify.made(repository)
    make("01", off=1e-6)
    report = verify.after_run(before, known, ["01"], "laptop")
    assert report.wrong == [] and report.counts["figures"] == [0, 1, 0]
    assert not report.keeps, "without git nobody knows whether the code is edited"


def test_another_seed_and_a_claim_that_is_no_longer_made_are_named(repository, capsys):
    change(repository / verify.MANIFEST, ",0,cpu", ",1,cpu")
    assert cli.main(["verify"]) == 1 and "seed 1, committed 0" in capsys.readouterr().out
    known, before = verify.committed(), verify.made(repository)
    make("01")
    ledger = repository / "results/laptop/claims.csv"
    ledger.write_text("".join(line for line in ledger.read_text().splitlines(True) if not line.startswith("X01.1,")))
    report = verify.after_run(before, known, ["01"], "laptop")
    assert "claim X01.1: not made" in report.wrong


# After a run ------------------------------------------------------------------------------------------------------

@pytest.fixture
def writes(monkeypatch):
    """`fvit run` without kernels: `make` in their place, with what this holds."""
    how = {"off": 1e-6}

    def execute(source, parameters, *_):
        make(source.name[:2], **how)
        return nbformat.v4.new_notebook()

    monkeypatch.setattr(runner, "_execute", execute)
    return how


def test_a_run_says_whether_it_reproduced_its_notebooks(repository, writes, capsys):
    assert cli.main(["run", "01"]) == 0
    said = capsys.readouterr().out
    assert "figures                           0                 1          0" in said and "\nReproduced" in said
    assert dirty(repository) == []
    writes["value"] = 0.7
    assert cli.main(["run", "all"]) == 1
    assert capsys.readouterr().out.count("different: figures/laptop/") == 4  # two tables, two alt texts
    assert "figures/laptop/F01a_overlap.png" in dirty(repository)


def test_what_a_run_did_not_make_is_not_reproduced(repository, monkeypatch, capsys):
    monkeypatch.setattr(runner, "_execute", lambda *_: nbformat.v4.new_notebook())
    assert cli.main(["run", "02"]) == 1
    said = capsys.readouterr().out
    assert "different: figures/laptop/F02a_overlap.csv: not made" in said and "F01a" not in said


@pytest.mark.parametrize("arguments, said", [(["-p", "size=2"], "other parameters"), (["--shard", "1/2"], "")])
def test_other_parameters_and_shards_are_not_compared(repository, writes, capsys, arguments, said):
    assert cli.main(["run", "01", *arguments]) == 0
    told = capsys.readouterr()
    assert told.out == "" and said in told.err and dirty(repository)


def test_another_profile_has_nothing_committed_here(repository, writes, capsys):
    assert cli.main(["run", "01", "--profile", "study"]) == 0
    assert capsys.readouterr().out.startswith("nothing is committed of what was made in")
