"""Tidy rows: what `conform` fills and refuses, and what a Parquet file gives back."""

import io

import numpy as np
import pandas as pd
import pytest

from fvit.base import devices, files
from fvit.records import ledger, provenance, sources, words
from fvit.records.rows import KEY, SCHEMA, conform, load_rows, save_rows

ROW = {"run_id": "r", "profile": "laptop", "dataset": "scenes", "image_id": "test-0007", "model": "vit",
       "method": "rollout", "explained": "fixed", "defence": "dds", "sigma": 0.25, "n_samples": 16,
       "aim": "explanation", "made_on": "vit", "eps": 8 / 255, "norm": "linf", "certificate": "votes", "k": 25,
       "level": 0.3, "variant": "draws", "metric": "topk_overlap", "value": 1 / 3, "ci_low": 0.25, "ci_high": 0.75}


def test_rows_come_back_with_columns_dtypes_and_values(tmp_path):
    bare = {"image_id": "007", "method": "NA", "metric": "overlap, top 25", "value": 1}
    path = save_rows([ROW, bare], tmp_path / "rows.parquet")
    table = load_rows(path)
    assert table.dtypes.astype(str).to_dict() == SCHEMA and table.loc[0].to_dict() == ROW  # to the bit
    assert {key: table.loc[1, key] for key in bare} == bare  # "007" and "NA" are ids, not a number and not missing
    assert table.loc[1, ["k", "level", "ci_low"]].isna().all()
    said = {"defence": "none", "aim": "none", "sigma": 0, "n_samples": 1, "eps": 0, "norm": "", "dataset": ""}
    assert {key: table.loc[1, key] for key in said} == said
    pd.testing.assert_frame_equal(pd.read_parquet(path), table, check_exact=True)  # as a stranger reads it
    assert conform([ROW | {"image_id": np.int64(7)}, ROW | {"image_id": 8}])["image_id"].tolist() == ["7", "8"]


def test_what_is_given_fills_the_cells_to_which_it_belongs():
    rows = conform([{"defence": "none", "metric": "fidelity"}, {"defence": "dds", "metric": "right", "eps": 0.5,
                    "aim": "prediction", "made_on": "dds"}, {"defence": "denoise_only", "metric": "topk_overlap",
                    "aim": "fresh_noise", "sigma": 0.5}], profile="study", sigma=0.25, n_samples=16, k=25, norm="linf")
    assert rows.profile.tolist() == ["study"] * 3 and rows.sigma.tolist() == [0, 0.25, 0.5]
    assert rows.n_samples.tolist() == [1, 16, 1] and rows.eps.tolist() == [0, 0.5, 0]
    assert rows.norm.tolist() == ["", "linf", ""] and rows.k.isna().tolist() == [False, True, False]
    pd.testing.assert_frame_equal(conform(rows), rows)
    given = conform([{"image_id": "7"}], defence="dds", metric="fidelity", sigma=0.25, k=25)
    assert (given.defence[0], given.sigma[0], given.k[0]) == ("dds", 0.25, 25)


@pytest.mark.parametrize("change, message", [
    ({"overlap": 0.5}, r"rows have unknown columns \['overlap'\], known: run_id, profile"),
    ({"value": "high"}, "rows: column value is not float64: Unable to parse string .high"),
    ({"n_samples": 16.5}, "rows: column n_samples is not Int64"),
    ({"image_id": 7.0}, "rows: column image_id is not str: text or integers only"),
    ({"image_id": "a\0b"}, "rows: column image_id is not str: it is .*wanted no NUL"),
    ({"defence": "DDS"}, "unknown defence 'DDS', known: none, dds, noise_only"),
    ({"made_on": "denoise"}, "unknown made_on 'denoise', known: "),
])
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        save_rows([ROW | change], tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match="rows are a str that makes no table"):
        conform("rows.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("column", KEY)
def test_each_key_column_tells_rows_apart_and_equal_ones_are_refused(tmp_path, column):
    other = {"defence": "none", "aim": "rollout", "made_on": "dds", "explained": "re-predicted"}.get(
        column, "other" if SCHEMA[column] == "str" else 32)
    save_rows([ROW, ROW | {column: other}], tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=r"1 rows of twice\.parquet are about what another is .*'test-0007"):
        save_rows([ROW, ROW | {"value": 0.5}], tmp_path / "twice.parquet")


def test_the_same_rows_give_the_same_bytes_and_a_stopped_write_keeps_the_table(tmp_path, monkeypatch):
    path = save_rows([ROW | {"value": None}], tmp_path / "rows.parquet")
    before = path.read_bytes()
    assert save_rows(load_rows(path), path).read_bytes() == before

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        save_rows([ROW], path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_damaged_file_is_named_with_its_mend(tmp_path):
    path = save_rows([ROW], tmp_path / "rows.parquet")
    whole = path.read_bytes()
    table = pd.read_parquet(io.BytesIO(whole))
    spoilt = {r"is no whole Parquet file \(\w+\)": lambda: path.write_bytes(whole[:-20]),
              "has columns of other kinds": lambda: table.assign(value="wide").to_parquet(path, index=False),
              "is damaged: its rows are not those that were written":
              lambda: table.assign(value=0.25).to_parquet(path, index=False)}
    for message, spoil in spoilt.items():
        spoil()
        with pytest.raises(ValueError, match=rf"rows\.parquet {message}.*; delete it and run again"):
            load_rows(path)
    table.drop(columns="k").to_parquet(path, index=False)
    with pytest.raises(ValueError, match=r"has columns \['run_id'.*, wanted \['run_id'.*not a table of tidy rows"):
        load_rows(path)
    table.attrs.clear()
    table.to_parquet(path, index=False)  # of an earlier version, without a digest
    pd.testing.assert_frame_equal(load_rows(path), conform([ROW]))


def test_conditions_in_words():
    met = [("none", "none", ""), ("dds", "fresh_noise", ""), ("none", "random_signs", ""),
           ("none", "explanation", "vit"), ("dds", "explanation", "vit"), ("dds", "rollout", "dds"),
           ("denoise_only", "prediction", "denoise_only")]
    rows = pd.DataFrame(met, columns=["defence", "aim", "made_on"], index=range(3, 10))
    assert words.condition(rows).tolist() == ["clean", "fresh noise", "random signs", "explanation, adaptive",
                                             "explanation, transferred", "rollout, adaptive", "prediction, adaptive"]


def test_a_run_is_noted_once_and_said_in_words(tmp_path, monkeypatch):
    path = tmp_path / "runs.csv"
    monkeypatch.setattr(devices, "named", lambda: ("cpu", 2))
    monkeypatch.setattr(provenance.os, "getloadavg", lambda: (1.6, 0, 0))
    for rounds in (5, 3):
        run_id = provenance.log_run(path, "14_cost", rounds)
    [run] = ledger.read_table(path)  # the second on that day takes the place of the first
    assert run_id == " ".join(filter(None, (run["date"], run["commit"], "14_cost"))) and run["rounds"] == "3"
    assert provenance.run_said(ledger.read_table(path), run_id) == f"{run['date']}, cpu, 2 threads, load 2, 3 rounds"
    monkeypatch.setattr(devices, "named", lambda: ("cuda, H100", ""))
    other = provenance.log_run(path, "09_scores", inputs=provenance.inputs_digest("scenes"))
    assert provenance.run_said(ledger.read_table(path), other) == f"{run['date']}, cuda, H100, load 2"
    assert [run["what"] for run in ledger.read_table(path)] == ["09_scores", "14_cost"]
    with pytest.raises(KeyError):
        provenance.run_said(ledger.read_table(path), "never")


def test_the_digest_of_inputs_changes_with_images_and_models_and_with_nothing_else(tmp_path, monkeypatch):
    def digest(**files):
        for name, data in files.items():
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "model.safetensors").write_bytes(data)
            (tmp_path / name / "checkpoint.safetensors").write_bytes(data * 2)  # of a training, and of no matter
        return provenance.inputs_digest("scenes")

    monkeypatch.setattr(provenance, "shipped", lambda data, what: tmp_path / what)
    monkeypatch.setattr(provenance, "PHOTOGRAPHS", tmp_path / "photographs.csv")
    provenance.PHOTOGRAPHS.write_text("a")
    first = digest(vit=b"v", denoiser=b"d", teacher=b"t")
    assert digest(teacher=b"other") == first != digest(vit=b"other") and digest(vit=b"v") == first
    assert digest(denoiser=b"other") != first and digest(denoiser=b"d") == first
    (tmp_path / "vit" / "checkpoint.safetensors").unlink()
    assert provenance.inputs_digest("scenes") == first == provenance.inputs_digest("scenes", "scenes", "scenes")
    assert len({first, *(provenance.inputs_digest(*names) for names in (
        ("cifar10",), ("scenes", "vit_tiny"), ("scenes", "scenes", "other/prior")))}) == 4
    provenance.PHOTOGRAPHS.write_text("b")
    assert provenance.inputs_digest("scenes") != first


def test_rows_of_photographs_are_of_their_classifier_their_prior_and_the_plain_cnn_beside_it(tmp_path, monkeypatch):
    def put(data, what, text):
        (tmp_path / f"{data}-{what}").mkdir(exist_ok=True)
        (tmp_path / f"{data}-{what}" / "model.safetensors").write_bytes(text)

    monkeypatch.setattr(provenance, "shipped", lambda data, what: tmp_path / f"{data}-{what}")
    names = [("caltech101", "vit"), ("photographs", "denoiser"), ("photographs", "cnn")]
    for name in names:
        put(*name, b"first")
    asked = sources.chosen("natural")
    for codes, matter in ((["none", "dds"], names[:2]), (["none", "dds", "noise_cnn"], names)):
        inputs = provenance.inputs_digest(repr(asked["data"]), asked["vit"]["source"], asked["den"]["source"], codes)
        rows = pd.DataFrame({"run_id": "r", "defence": codes})
        runs = [{"run_id": "r", "date": "2026-11-27", "commit": "", "inputs": inputs}]
        assert provenance.outdated(rows, "natural", runs) == ""
        for name in names:
            put(*name, b"second")
            assert bool(provenance.outdated(rows, "natural", runs)) == (name in matter)
            put(*name, b"first")
