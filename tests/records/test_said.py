"""Numbers that stand in prose and in no cell are those of the committed rows."""

from pathlib import Path

import pytest

from fvit.records.rows import load_rows
from fvit.records.words import said
from fvit.report import answers, contrasts

ROOT = Path(__file__).parents[2]


def values(name):
    return contrasts.values_by_defence(answers.with_photographs(load_rows(ROOT / "results" / f"{name}.parquet")))


@pytest.mark.parametrize("other, words", [
    ("blur", "0.08 [0.05, 0.12] more than the blur alone"), ("noise_cnn", "0.04 [0.02, 0.08] more than noise and CNN"),
    ("noise_blur", "0.00 [-0.02, 0.02] more than noise and blur")])
def test_what_dds_has_under_apgd_is_in_notebook_12(other, words):
    bought = contrasts.what_buys(values("study/12_apgd"), [("", "dds", other)])
    [row] = bought[(bought.measure == "map") & (bought.threat == "adaptive")].itertuples()
    assert words.startswith(f"{row.difference:.2f} [{row.low:.2f}, {row.high:.2f}] ") and row.n_groups == 42
    assert words in (ROOT / "notebooks" / "12_what_does_denoising_buy.ipynb").read_text(encoding="utf-8")


def test_the_table_of_natural_photographs_holds_the_means_of_their_rows():
    means = values("natural/12_defences").groupby(["defence", "measure", "threat"])["value"].mean()
    page = (ROOT / "docs" / "natural.md").read_text(encoding="utf-8")
    for defence, of in means.groupby("defence"):
        cells = [of[defence, measure, threat] for measure in ("map", "prediction")
                 for threat in ("none", "transferred", "adaptive")]
        assert f"| {said(defence)} | {' | '.join(f'{cell:.2f}' for cell in cells)} |" in page
