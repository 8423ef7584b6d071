"""Tolerances: rounding and a token that turned agree, anything that a reader would call another number does not."""

import io
import json

import numpy as np
import pandas as pd
import pytest

from fvit.base import paths
from fvit.records import agreement
from fvit.records.claims import CLAIM_COLUMNS
from fvit.records.rows import SCHEMA, save_rows

FIGURES = sorted((paths.ROOT / "figures" / "laptop").glob("*.csv"))
DRAWN = pd.DataFrame({"method": ["vta", "lrp"], "eps": [4 / 255, 8 / 255], "mean": [0.5, 0.25], "low": [0.4, 0.125],
                      "high": [0.6, np.nan], "n": [200, 200], "rho": [0.123456, 1e-3], "seconds": [1.5, 2.0]})


def csv(table):
    return table.to_csv(index=False).encode()


def test_every_committed_figure_agrees_with_itself_to_rounding_and_not_with_another():
    """In the seventh digit as another processor writes it; settings off by 1 in 1000, or means by 0.3, are others."""
    for path in FIGURES:
        table = pd.read_csv(path, low_memory=False)
        numbers = [name for name in table if table[name].dtype.kind == "f" and table[name].abs().max() > 0]
        near, far = table.copy(), table.copy()
        near[numbers] *= 1 + 1e-6
        assert agreement.drawn_at_laptop(csv(near), path.read_bytes()) == [], path.name
        if numbers:
            measured = numbers[-1] in agreement.MEASURED
            far[numbers[-1]] = far[numbers[-1]] * 1.4 + 0.3 if measured else far[numbers[-1]] * 1.001
            assert agreement.drawn_at_laptop(csv(far), path.read_bytes()), path.name


def test_an_empty_column_of_words_is_not_any_words():
    full, empty = b"a,b\nx,1\ny,2\n", b"a,b\n,1\n,2\n"
    assert "column a, row 1" in agreement.drawn(empty, full)[0] and "column a, row 1" in agreement.drawn(full, empty)[0]


def test_few_images_do_not_make_everything_agree():
    few = DRAWN.assign(n=4)
    assert agreement.drawn(csv(few.assign(low=few["low"] + 0.14)), csv(few)) == []
    assert "column low" in agreement.drawn(csv(few.assign(low=few["low"] + 0.2)), csv(few))[0]


@pytest.mark.parametrize("column, change, wrong", [
    ("mean", 0.0201, ""), ("mean", 0.022, "column mean, row 1: 0.522, committed 0.5, tolerance 0.021"),
    ("low", -0.05, ""), ("low", -0.06, "column low, row 1"), ("rho", 1e-6, ""), ("rho", 3e-6, "column rho, row 1"),
    ("eps", 1e-4, "column eps, row 1"), ("n", 1, "column n, row 1: 201, committed 200; wanted equal"),
    ("mean", np.nan, "column mean, row 1: nan, committed 0.5"), ("seconds", 0.1, "column seconds, row 1"),
])
def test_each_column_has_its_tolerance(column, change, wrong):
    made = DRAWN.copy()
    made.loc[0, column] += change
    found = agreement.drawn_at_laptop(csv(made), csv(DRAWN))
    assert (found == []) if not wrong else (len(found) == 1 and found[0].startswith(wrong)), found
    assert not agreement.drawn(csv(made), csv(DRAWN)) or column != "seconds", "times are not compared elsewhere"


def test_a_mean_over_few_images_may_move_by_one_of_them():
    few, made = DRAWN.assign(n=8), DRAWN.assign(n=8)
    made.loc[0, ["mean", "low"]] = 0.5 + 1 / 8, 0.4 + 0.15
    assert agreement.drawn(csv(made), csv(few)) == []
    made.loc[0, "mean"] += 0.01
    assert len(agreement.drawn(csv(made), csv(few))) == 1 and len(agreement.drawn(csv(made), csv(DRAWN))) == 3


@pytest.mark.parametrize("made, said", [
    (DRAWN.iloc[:1], "1 rows of"), (DRAWN.rename(columns={"mean": "men"}), "2 rows of method, eps, men"),
    (DRAWN.assign(method=["vta", "gradcam"]), "column method, row 2: gradcam, committed lrp; wanted equal"),
])
def test_other_rows_columns_and_words_differ(made, said):
    [line] = agreement.drawn(csv(made), csv(DRAWN))
    assert line.startswith(said)


def panels(heat, image):
    lines = [" ".join(f"{n:.3g}" for n in line) for line in heat], ["#" + line.tobytes().hex() for line in image]
    kinds = {"map": lines[0], "rgb": lines[1]}
    return csv(pd.concat([pd.DataFrame({"panel": f"a {kind}", "kind": kind, "y": range(len(data)), "data": data})
                          for kind, data in kinds.items()]))


def test_pictures_are_compared_token_by_token_and_pixel_by_pixel():
    heat, image = np.linspace(0, 1, 100).reshape(10, 10), np.full((20, 60), 100, np.uint8)
    wanted = panels(heat, image)
    turned = image.copy()
    turned.flat[:24] += 16  # one pixel in fifty, by an attack's sign steps
    assert agreement.drawn(panels(heat + 0.04, turned + 2), wanted) == []
    assert len(agreement.drawn(panels(heat, turned + 3), wanted)) == 1
    turned.flat[24] += 16
    [line] = agreement.drawn(panels(heat, turned), wanted)
    assert line.startswith("panel a rgb, row 1: 116, committed 100, tolerance 2 (25 of 1200 beyond")
    heat[3, 4] += 0.06
    [line] = agreement.drawn(panels(heat, image), wanted)
    assert line.startswith("panel a map, row 4: ")


def test_words_agree_but_for_numbers_with_a_fraction_and_say_nothing_of_versions():
    said = {"alt": "0.41 of 16 images, 2.50 dB", "n_rows": 3, "parameters": {"k": 25}, "versions": {"python": "3.11"}}

    def wrong(**changes):
        return agreement.words(*(json.dumps(one).encode() for one in (said | changes, said)))

    assert wrong(alt="0.45 of 16 images, 2.51 dB", versions={"python": "3.13"}, commit="abc") == []
    assert agreement.same_words(*(json.dumps(said | {"versions": v}).encode() for v in ({}, {"a": 1})))
    for changes in ({"alt": "0.47 of 16 images, 2.50 dB"}, {"alt": "0.41 of 17 images, 2.50 dB"}, {"n_rows": 4},
                    {"alt": "0.41 of 16 scenes, 2.50 dB"}, {"parameters": {"k": 24}}, {"caption": "new"}):
        assert len(wrong(**changes)) == 1, changes


def test_claims_are_decided_alike_and_near():
    row = dict.fromkeys(CLAIM_COLUMNS, "") | {"claim": "P1.1", "profile": "study", "status": "PASS", "value": "0.5",
                                              "ci_low": "0.4", "ci_high": "0.6", "n": "200", "text": "at 8/255"}
    assert agreement.claims(row | {"value": "0.51", "ci_low": "0.36"}, row) == []
    for column, value in {"value": "0.53", "status": "DIFFERS", "n": "199", "text": "at 4/255", "ci_low": ""}.items():
        [line] = agreement.claims(row | {column: value}, row)
        assert line.startswith(f"claim P1.1, {column}: {value}")
    timed = row | {"claim": "R2.1", "text": "so long (2026-11-24)"}
    assert agreement.claims(timed | {"value": "5", "text": "so long (2027-01-01)"}, timed) == []
    assert agreement.claims(timed | {"status": "DIFFERS"}, timed)
    assert agreement.claims(timed | {"profile": "laptop", "value": "5"}, timed | {"profile": "laptop"})


def rows_file(tmp_path, values, **columns):
    table = pd.DataFrame({"image_id": [f"test-0-{i}" for i in range(len(values))], "metric": "topk_overlap", "k": 25,
                          "value": values} | columns)
    return save_rows(table, tmp_path / "rows.parquet").read_bytes()


def test_rows_are_near_in_95_of_100_and_in_their_mean(tmp_path):
    values = np.linspace(0, 1, 100)
    wanted = rows_file(tmp_path, values)
    assert agreement.rows(rows_file(tmp_path, np.clip(values + 0.01, 0, 1)), wanted) == []
    turned = values.copy()
    turned[:5] += 0.3
    assert agreement.rows(rows_file(tmp_path, turned), wanted) == []
    turned[5] += 0.3
    [line] = agreement.rows(rows_file(tmp_path, turned), wanted)
    assert line.startswith("topk_overlap, value, row ") and "6 of 100 beyond, wanted at most 5%" in line
    [line] = agreement.rows(rows_file(tmp_path, values + 0.03), wanted)
    assert line.startswith("topk_overlap, mean of value")
    assert agreement.rows(rows_file(tmp_path, values, run_id="2027-01-01"), wanted) == []
    for other in (rows_file(tmp_path, values[:99]), rows_file(tmp_path, values, k=24)):
        assert len(agreement.rows(other, wanted)) == 1
    assert agreement.rows(rows_file(tmp_path, values * 2, metric="seconds"),
                          rows_file(tmp_path, values, metric="seconds")) == []


def test_missing_words_and_numbers_of_committed_tables_agree_with_themselves(tmp_path):
    for path in sorted((paths.ROOT / "results" / "laptop").glob("*.parquet")):
        table = pd.read_parquet(path)
        table["value"] *= 1 + 1e-7
        assert agreement.rows(save_rows(table, tmp_path / path.name).read_bytes(), path.read_bytes()) == [], path.name
        assert list(table) == list(SCHEMA)


def test_what_is_no_table_is_an_error_that_the_report_catches():
    for data in (b"", b"\xff", b"[]"):
        with pytest.raises(ValueError):
            agreement.words(data, b"{}")
    with pytest.raises(ValueError):
        agreement.drawn(b"", csv(DRAWN))
    with pytest.raises(ValueError):
        agreement.rows(b"PAR1", io.BytesIO().getvalue())


def test_the_document_states_these_tolerances():
    doc = (paths.ROOT / "docs" / "results.md").read_text(encoding="utf-8").partition("## Did I reproduce it?")[2]
    (mean, images), (end, two) = agreement.MEAN, agreement.END
    most = f"of the `n`, {agreement.MOST} at most; and {agreement.RELATIVE} of"
    stated = [f"| `mean`, `right`, `robust` | {mean}, or one image {most}",
              f"| `low`, `high` | {end}, or two images {most}",
              f"| `scatter`, `standard_error` | {agreement.RELATIVE} of",
              f"settings, theory | {agreement.PRINTED:.5f} of", f"| `data` of a map | {agreement.HEAT} of",
              f"| {agreement.PIXEL} of 255 levels, in {100 * agreement.PIXELS:.0f} of 100 bytes",
              f"fraction | {agreement.SAID}, or one in the last digit", f"rows; their mean, {agreement.POOLED} of it",
              f"{agreement.ROW} of the metric's greatest value, in {100 * agreement.ROWS:.0f} of 100 rows"]
    assert (images, two) == (1, 2) and [line for line in stated if line not in doc] == []
    assert all(f"`{name}`" in doc for name in (*agreement.MEASURED, *agreement.CLAIMED, *agreement.TIMES))
