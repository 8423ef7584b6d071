"""Blocks: the same rows however they are cut, stopped, shared out or read back; never those of other code."""

import numpy as np
import pandas as pd
import pytest

from fvit.base.paths import PACKAGE
from fvit.experiments import blocks
from fvit.experiments.blocks import UnfinishedError, run_blocks
from fvit.records import provenance
from fvit.records.provenance import code_digest
from fvit.records.rows import SCHEMA

pytestmark = pytest.mark.filterwarnings("error")
N = 7


class Work:
    """Rows of squares, image by image; counts its calls and may be killed at one of them."""

    def __init__(self, killed_at=None):
        self.spans, self.killed_at = [], killed_at

    def __call__(self, start, stop):
        if len(self.spans) + 1 == self.killed_at:
            raise KeyboardInterrupt
        self.spans.append((start, stop))
        ids = np.arange(start, stop)
        return pd.DataFrame({"image_id": [f"test-0-{i}" for i in ids], "metric": "square", "value": ids**2 / 3,
                             "eps": 8 / 255, "n_samples": 16})


@pytest.fixture(autouse=True)
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("FVIT_OUT", str(tmp_path))
    monkeypatch.delenv("FVIT_SHARD", raising=False)
    return tmp_path / "results" / "study" / "blocks"


def run(work, size=3, n=N, profile="study", settings=None):
    return run_blocks(work, n, size, name="10_scores", profile=profile, settings=settings or {"radii": [8 / 255]})


@pytest.mark.parametrize("profile", ["laptop", "study"])
def test_rows_do_not_depend_on_the_size_of_a_block(profile, tmp_path):
    whole = run(Work(), size=N, profile=profile)
    assert list(whole) == list(SCHEMA) and whole.dtypes.astype(str).to_dict() == SCHEMA
    assert list(whole["value"]) == [i**2 / 3 for i in range(N)] and set(whole["profile"]) == {profile}
    for size in (1, 3, N + 1):
        pd.testing.assert_frame_equal(run(Work(), size=size, profile=profile), whole)
    again = Work()
    run(again, size=N, profile=profile)
    laptop = profile == "laptop"  # always computes and leaves no blocks
    assert bool(again.spans) == laptop and bool(list(tmp_path.rglob("*.parquet"))) != laptop


def test_a_second_run_computes_nothing_and_gives_the_same():
    first, again = run(Work()), Work()
    pd.testing.assert_frame_equal(run(again), first)
    assert again.spans == []
    run(again, n=12)  # more images are new blocks: of the last, which was not full, and all beyond
    assert again.spans == [(6, 9), (9, 12)]


def test_a_killed_run_resumes_where_it_was(study):
    killed, resumed = Work(killed_at=3), Work()
    with pytest.raises(KeyboardInterrupt):
        run(killed)
    assert len(list(study.iterdir())) == 2
    assert list(run(resumed)["value"]) == [i**2 / 3 for i in range(N)] and resumed.spans == [(6, 7)]


def test_other_settings_and_other_code_are_computed_anew_but_not_what_is_only_written_otherwise(monkeypatch):
    run(Work(), settings={"k": 25, "radii": [1, 2]})
    same, other, edited = Work(), Work(), Work()
    run(same, settings={"radii": (1, 2), "k": 25})
    run(other, settings={"radii": [1, 4], "k": 25})
    monkeypatch.setattr(blocks, "code_digest", lambda: "edited since")
    run(edited, settings={"k": 25, "radii": [1, 2]})
    assert [len(work.spans) for work in (same, other, edited)] == [0, 3, 3]


def test_two_shards_merge_to_the_rows_of_one_process(monkeypatch, tmp_path):
    whole = run(Work())
    monkeypatch.setenv("FVIT_OUT", str(tmp_path / "shards"))
    monkeypatch.setenv("FVIT_SHARD", "1/2")
    one, two = Work(), Work()
    with pytest.raises(UnfinishedError, match=r"shard 1/2 of 10_scores is done; 1 of 3 blocks are missing, first "
                                              r"10_scores-[0-9a-f]{12}-00003-00006\.parquet; run the other shards"):
        run(one)
    monkeypatch.setenv("FVIT_SHARD", "2/2")
    pd.testing.assert_frame_equal(run(two), whole)
    assert one.spans == [(0, 3), (6, 7)] and two.spans == [(3, 6)]
    files = [sorted((tmp_path / out).rglob("*-0*.parquet")) for out in ("results", "shards")]
    assert [p.name for p in files[0]] == [p.name for p in files[1]] and len(files[0]) == 3
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]


@pytest.mark.parametrize("name, said, message", [
    *(("FVIT_SHARD", shard, f"FVIT_SHARD='{shard}', wanted i/n with 1 <= i <= n, such as 1/4")
      for shard in ("0/2", "3/2", "2", "a/b", "1/0")),
    *(("FVIT_EXECUTOR", executor, f"FVIT_EXECUTOR='{executor}', wanted local or ray") for executor in ("slurm", "Ray")),
])
def test_what_is_set_wrongly_is_refused_before_any_work(monkeypatch, name, said, message):
    work = Work()
    for n, size in ((0, 3), (3, 0)):
        with pytest.raises(ValueError, match=f"n_images={n}, size={size}; wanted at least 1 of each"):
            run(work, n=n, size=size)
    monkeypatch.setenv(name, said)
    with pytest.raises(ValueError, match=message):
        run(work)
    assert work.spans == []


@pytest.fixture
def package(tmp_path):
    sources = {"base/rng": '"""What it is."""\nfrom fvit import explain, side\n', "smoothing": "def g():\n    pass\n",
               "report/style": "import numpy\n", "cli": "import fvit\n"}
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def test_the_digest_follows_the_code_of_packages_that_compute_rows_not_comments_docstrings_and_layout(package):
    before, path = code_digest(package), package / "base/rng.py"
    text = path.read_text()
    reworded = text.replace("What it is.", "In other words.").replace("explain, side", "(explain,\n side)")
    path.write_text("# a note\n" + reworded)
    assert code_digest(package) == before
    path.write_text(text + '"no docstring"')
    assert code_digest(package) != before
    path.write_text(text)
    for name, counts in {"base/rng": True, "smoothing": True, "report/style": False, "cli": False}.items():
        before, path = code_digest(package), package / f"{name}.py"
        path.write_text(path.read_text() + "\nedited = 1")
        assert (code_digest(package) != before) == counts, name


def test_every_package_counts_or_says_why_not():
    """What shows or runs rows, trains networks, starts a command or hands maps to other tools computes none."""
    packages = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in PACKAGE.rglob("*.py")}
    assert packages - set(provenance.COMPUTES) == {
        "report", "notebooks", "training", "adapters", "cli", "__main__", "__init__"}


def test_progress_is_said_on_stderr_for_each_block_but_not_at_laptop(capfd):
    run(Work())
    said = capfd.readouterr()
    assert said.out == "" and [line.split(",")[0] for line in said.err.splitlines()] == [
        f"10_scores: block {n} of 3" for n in (1, 2, 3)]
    run(Work())
    run(Work(), profile="laptop")
    assert capfd.readouterr() == ("", "")


def test_a_dry_run_computes_one_image_says_how_long_the_rest_takes_and_writes_nothing(monkeypatch, tmp_path, study,
                                                                                      capfd):
    run(Work(), n=6)
    before = sorted(study.iterdir())
    monkeypatch.setenv("FVIT_OUT", str(tmp_path / "thrown away"))
    monkeypatch.setenv("FVIT_DRY_RUN", str(tmp_path))
    clock = iter([1.0, 31.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    work = Work()
    capfd.readouterr()
    rows = run(work, n=10)
    blocks, one = capfd.readouterr().out.splitlines()
    assert blocks == "10_scores: 10 images in 4 blocks, 2 of them to do here"
    assert one.startswith("  one image took 30.0 s here (c") and "so 4 take about 2 min in one process" in one
    assert len(rows) == 0 and list(rows) == list(SCHEMA) and work.spans == [(6, 7)]
    assert sorted(study.iterdir()) == before and not (tmp_path / "thrown away").exists()
    run(work, n=6)
    assert capfd.readouterr().out == "10_scores: 6 images in 2 blocks, 0 of them to do here\n"
    assert work.spans == [(6, 7)]
    clock, work.n_adaptive = iter([0.0, 60.0, 70.0, 80.0]), 8  # images 6 and 7 meet attacks that the others do not
    run(work, n=10)
    assert "one image took 60.0 s and 10.0 s here" in (said := capfd.readouterr().out) and "4 take about 2 min" in said
    assert work.spans == [(6, 7), (6, 7), (8, 9)]
