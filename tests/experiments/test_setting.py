"""Experiments: the same rows as by hand, wherever they run; what is said of them; what names nothing is refused."""

import copy
import json
import pickle
from dataclasses import replace

import pandas as pd
import pytest

import fvit
from fvit.data.loading import load_images
from fvit.experiments import setting
from fvit.experiments.attack_rows import attack_rows
from fvit.experiments.bench import Bench
from fvit.experiments.controls import all_controls
from fvit.models.diffusers_files import load_denoiser
from fvit.models.vit_files import load_vit
from fvit.models.weight_files import network_digest
from fvit.records import profiles, provenance
from fvit.records.ledger import read_table, upsert
from fvit.records.rows import load_rows, save_rows

WHAT = {"methods": ["rollout"], "attacks": [], "radii": [8 / 255], "measures": ["segmentation"]}
SIZES = {"n_images": 2, "n_samples": 3, "attack_steps": 2, "attack_draws": 2}
RANDOM = {"source": "scenes", "pretrained": False}


@pytest.fixture(autouse=True)
def out(tmp_path, monkeypatch):
    """An empty output folder, and a repository without study rows."""
    monkeypatch.setenv("FVIT_OUT", str(tmp_path))
    monkeypatch.setattr(setting, "ROOT", tmp_path)
    monkeypatch.setattr(profiles, "current", None)
    return tmp_path


@pytest.fixture
def on():
    return fvit.experiment("09", "laptop", seed=1, **SIZES)


@pytest.fixture
def run(on):
    return on.run("09_scores", attack_rows, **WHAT)


def test_rows_are_those_by_hand_and_a_copy_by_pickle_gives_the_same(run):
    bench = Bench(load_vit("scenes"), load_denoiser("scenes"), 0.25, 3, 25, 2, 2, 32, "float32", 1)
    want = attack_rows(bench, load_images("scenes", "test", 1, start=5), **WHAT)
    pd.testing.assert_frame_equal(run(5, 6), want)
    sent = pickle.dumps(run)
    assert len(sent) < 2000  # names, no networks
    pd.testing.assert_frame_equal(pickle.loads(sent)(5, 6), want)


def test_the_first_images_alone_meet_attacks_through_defences_where_that_is_asked(on):
    what = WHAT | {"attacks": [["prediction", "vit"], ["prediction", "own"]], "measures": []}
    fewer = on.run("09_scores", attack_rows, n_images=3, n_adaptive=1, **what)
    whole = fewer(0, 3)  # the cut lies inside
    met = whole[whole.aim == "prediction"].groupby("made_on").image_id.nunique()
    assert met.to_dict() == {"vit": 3, "dds": 1}
    all_met = on.run("09_scores", attack_rows, **what)
    pd.testing.assert_frame_equal(fewer(0, 1), all_met(0, 1))
    assert set(fewer(1, 2).made_on) == {"", "vit"} and fewer.settings != all_met.settings
    assert "3 (1 of them under attacks made through a defence) test scenes" in fewer.shown().said
    with pytest.raises(ValueError, match="n_adaptive=1 for 10_fills, which takes no `attacks`"):
        on.run("10_fills", all_controls, n_adaptive=1)
    with pytest.raises(ValueError, match="n_adaptive=-1, wanted an integer >= 0"):
        on.run("09_scores", attack_rows, n_adaptive=-1, **what)


def test_settings_name_all_that_rows_depend_on(on, run):
    settings = json.loads(json.dumps(run.settings))
    assert settings["rows"] == "fvit.experiments.attack_rows.attack_rows" and settings["data"] == {"source": "scenes"}
    others = [replace(run, on=other) for other in (
        replace(on, seed=2), replace(on, sizes=replace(on.sizes, sigma=0.1)),
        replace(on, names=on.names | {"data": {"source": "scenes", "split": "val"}}),
        replace(on, names=on.names | {"vit": RANDOM}))]
    others += [replace(run, compute=all_controls), replace(run, what=WHAT | {"radii": [0.1]})]
    assert all(other.settings != settings for other in others)
    assert replace(run, on=replace(on, device="auto")).settings == settings and run.device == "cpu"


def test_a_readers_own_defence_is_named_in_the_settings_by_what_its_file_holds(on, run, tmp_path):
    """A block of another version is not taken up; one of another folder is."""
    def settings(folder, text):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "mine.py").write_text(f"def mine(vit): pass  # {text}")
        named = on.defences("none", f"{tmp_path / folder / 'mine.py'}:mine", "none")
        assert list(named) == ["none", "mine.py:mine"]
        return json.dumps(replace(run, what=WHAT | {"defences": list(named.values())}).settings)

    assert settings("a", "one") == settings("b", "one") != settings("a", "two")
    assert str(tmp_path) not in settings("a", "one")


def test_another_vit_that_attacks_are_made_on_is_named_in_the_settings_by_what_it_computes_with(run):
    made = replace(run, what=WHAT | {"attacks": [["prediction", "vit:cifar10"]]}).settings["what"]
    assert made["others"] == [network_digest(load_vit("cifar10"))] and "others" not in run.settings["what"]


def test_the_attack_of_the_sizes_is_that_of_the_bench_and_a_run_has_a_number_of_images_of_its_own(on, out):
    sizes = profiles.profile("laptop", attack_rule="apgd", attack_restarts=3, attack_momentum=0.5)
    bench = replace(on, sizes=sizes).bench
    assert (bench.attack_rule, bench.attack_restarts, bench.attack_momentum) == ("apgd", 3, 0.5)
    one = on.run("09_scores", attack_rows, 16, 1, **WHAT)
    assert one.on.sizes == replace(on.sizes, n_images=1) and one.what == WHAT and on.sizes.n_images == 2
    run_id = on.log("14_cost", 3)
    [noted] = pd.read_csv(out / "results/laptop/runs.csv", dtype=str).to_dict("records")
    assert (noted["run_id"], noted["rounds"], noted["what"]) == (run_id, "3", "14_cost")


def test_rows_are_kept_and_saved_and_those_of_a_notebooks_cells_are_completed(on, run, out):
    rows = run.rows()
    assert list(rows.image_id.unique()) == ["test-0-0", "test-0-1"] and set(rows.profile) == {"laptop"}
    pd.testing.assert_frame_equal(load_rows(out / "results/laptop/09_scores.parquet"), rows)
    assert run.rows() is rows and run.shown().rows is rows
    rows = pd.DataFrame({"image_id": ["a", "b"], "photograph": ["p", "p"], "metric": "m", "value": [0.5, 1]})
    on.save("12_overlap", rows)
    saved = load_rows(out / "results/laptop/12_overlap.parquet")
    assert list(saved.value) == [0.5, 1]
    assert [set(saved[name]) for name in ("profile", "dataset", "model")] == [{"laptop"}, {"scenes"}, {"scenes"}]
    on.save("12_overlap", rows, dataset="scenes, val")
    assert set(load_rows(out / "results/laptop/12_overlap.parquet").dataset) == {"scenes, val"}
    with pytest.raises(ValueError, match=r"unknown columns \['colour'\]"):
        on.save("12_overlap", rows.assign(colour="red"))


def test_at_laptop_the_committed_study_rows_are_shown(on, run, out):
    own = run.shown()
    assert own.which == "laptop rows" and own.sizes is on.sizes and own.images.ids == ["test-0-0", "test-0-1"]
    rows = run.rows().assign(profile="study", eps=8 / 255)
    save_rows(pd.concat([rows, rows[rows.image_id == "test-0-1"].assign(eps=2 / 255)]),
              out / "results/study/09_scores.parquet")
    assert run.shown().which == "laptop rows"  # of whatever models: no run says so
    upsert(out / "results/study/runs.csv", dict.fromkeys(provenance.RUN_COLUMNS, "") | {
        "inputs": provenance.inputs_digest("scenes")}, key=("run_id",), columns=provenance.RUN_COLUMNS)
    shown = run.shown()
    assert set(shown.rows.profile) == {"study"} and shown.sizes is profiles.PROFILES["study"]
    assert shown.photograph == dict(zip(shown.images.ids, shown.images.groups, strict=True))
    assert shown.said == ("study rows: 2 (1 of them at 2/255) test scenes on 2 photographs, 16 draws, sigma 0.25; "
                          "PGD linf, 20 steps, 4 draws a step through DDS")
    assert (shown.which, shown.counted, shown.resampled) == ("study rows", "2 (1 of them at 2/255)",
                                                             "clustered by photograph")


def test_elsewhere_rows_of_another_notebook_are_shown_where_they_are_of_the_same(out):
    on = fvit.experiment("11", "study")
    run, tables = on.run("11_predictions", attack_rows, n_images=1, **WHAT), ("10_scores", "10_controls")
    assert on.on_record(tables) == (None, "")
    for n, name in enumerate(tables):
        rows = pd.DataFrame({"image_id": ["test-0-0"], "defence": ["none", "dds"][n], "metric": "right", "value": 1.0})
        save_rows(rows, out / f"results/study/{name}.parquet", dataset="scenes", run_id=on.run_id(name))
    shown = run.shown(of=tables)
    assert list(shown.rows.defence) == ["none", "dds"] and shown.images.ids == ["test-0-0"]
    assert shown.sizes == run.on.sizes and shown.which == "study rows"
    assert not (out / "results/study/11_predictions.parquet").exists()  # nothing was computed
    assert fvit.experiment("11", "study", n_images=3).on_record(tables)[1] == ""
    for other, why in ((fvit.experiment("11", "study", seed=1), "study rows on record are of the sizes of the profile"),
                       (fvit.experiment("11", "study", n_samples=3), "study rows on record are of the sizes"),
                       (replace(on, names=on.names | {"vit": RANDOM}), "study rows are of other models")):
        rows, said = other.on_record(tables)
        assert rows is None and said.startswith(why)


def test_the_level_of_no_information_is_of_many_scenes_however_few_are_attacked(on):
    rows = on.no_information(["raw_attention"])
    assert rows.image_id.nunique() == 32 and on.sizes.n_images == 2
    data = on.images(32)
    assert rows.set_index("image_id").photograph.to_dict() == dict(zip(data.ids, data.groups, strict=True))
    assert set(zip(rows.defence, rows.aim, strict=True)) == {("none", "other_image"), ("constant_map", "none")}
    own = on.no_information(["rollout"], on.images(6))
    assert own.image_id.nunique() == 6 and set(own.method) == {"rollout"}


def test_a_dry_run_computes_one_image_and_says_what_is_loaded(run, out, monkeypatch, capsys):
    monkeypatch.setenv("FVIT_DRY_RUN", str(out / "none"))
    assert len(run.rows()) == 0 and not list(out.rglob("*.parquet"))
    blocks, one, loads = capsys.readouterr().out.splitlines()
    assert blocks == "09_scores: 2 images in 1 blocks, 1 of them to do here" and "so 2 take about" in one
    assert loads == ("  loads: vit {'source': 'scenes'}, den {'source': 'scenes'}, data {'source': 'scenes'}; on cpu")


def test_networks_are_loaded_once_and_dds_has_these_sizes_and_takes_others(on):
    assert replace(on, seed=2).bench.vit is on.bench.vit and copy.deepcopy(on).networks[1] is on.networks[1]
    random = replace(on, names=on.names | {"vit": RANDOM})
    assert random.networks[0] is not on.networks[0] and random.networks[1] is on.networks[1]
    dds, other = on.dds(), on.dds(7, n_samples=5, den=None)
    assert (dds.sigma, dds.n_samples, dds.seed, dds.batch_size, dds.vit) == (0.25, 3, 1, 32, on.networks[0])
    assert (other.n_samples, other.seed, other.den) == (5, 7, None)


@pytest.mark.parametrize("profile", ["laptop", "study"])
def test_laptop_and_study_are_the_scenes(profile):
    on = fvit.experiment("09", profile, "scenes", "", "scenes")
    assert on == fvit.experiment("09", profile) and on.sizes == profiles.current and on.sizes.k == 25
    assert on.is_scenes and on.has_masks and on.unit == "scenes" and on.place == "cpu"
    assert on.count(5, ["a", "b", "a"]) == "5 test scenes on 2 photographs"
    assert on.kind("validation") == "validation scenes" and on.clusters(["a", "a"]) == "clustered by photograph"
    assert on.validation(1).ids == ["val-0-0"] and on.unseen(2).ids[0].startswith("train")
    assert on.images(1, start=2).ids == ["test-0-2"]
    with pytest.raises(ValueError, match=rf"data='imagenet' at {profile}, .*--profile paper -p n_images=16"):
        fvit.experiment("09", profile, data="imagenet")


def test_a_notebook_that_stays_with_the_scenes_does_at_paper_too_and_a_loaded_network_is_refused(on):
    stays = fvit.experiment("04", "paper", published="scenes", k=9)
    assert stays.is_scenes and stays.device == "cpu" and stays.sizes.k == 9
    assert fvit.experiment("04", "paper", published="scenes").sizes.k == 49
    assert fvit.experiment("09", "paper", "scenes", "scenes", "scenes").device == "auto"
    with pytest.raises(ValueError, match=r"vit is a ViT, wanted a source, .*run the cell of the parameters again"):
        fvit.experiment("09", "paper", on.networks[0])


def test_beyond_laptop_rows_name_a_run_that_says_when_by_what_code_and_on_which_models(out, run):
    assert set(run.rows()["run_id"]) == {""} and not list(out.rglob("runs.csv"))
    on = fvit.experiment("09", "study", seed=1, **SIZES)
    made = on.run("09_scores", attack_rows, **WHAT).rows()
    [noted] = read_table(out / "results/study/runs.csv")
    assert set(made["run_id"]) == {noted["run_id"]} and noted["what"] == "09_scores"
    assert noted["inputs"] == provenance.inputs_digest("scenes")
    on.save("12_overlap", made.assign(run_id=""), run_id="mine")
    assert set(load_rows(out / "results/study/12_overlap.parquet")["run_id"]) == {"mine"}
    random = replace(on, names=on.names | {"vit": RANDOM})
    random.save("01_overlap", made.assign(run_id=""))
    inputs = {line["what"]: line["inputs"] for line in read_table(out / "results/study/runs.csv")}
    assert inputs["09_scores"] == noted["inputs"] != inputs["01_overlap"]
