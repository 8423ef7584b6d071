"""Numbers that stand in prose and in no cell are those of the committed rows."""

from pathlib import Path

import pytest

from fvit.records.rows import load_rows
from fvit.records.words import said
from fvit.report import answers, contrasts
from fvit.theory.intervals import mean_interval

ROOT = Path(__file__).parents[2]


def values(name):
    return contrasts.values_by_defence(answers.with_photographs(load_rows(ROOT / "results" / f"{name}.parquet")))


def lead(name, other):
    """What DDS keeps of its map beyond another defence, each under its own attack: a row of `what_buys`."""
    bought = contrasts.what_buys(values(name), [("", "dds", other)])
    [row] = bought[(bought.measure == "map") & (bought.threat == "adaptive")].itertuples()
    return row


@pytest.mark.parametrize("other, words", [
    ("blur", "0.08 [0.05, 0.12] more than the blur alone"), ("noise_cnn", "0.04 [0.02, 0.08] more than noise and CNN"),
    ("noise_blur", "0.00 [-0.02, 0.02] more than noise and blur")])
def test_what_dds_has_under_apgd_is_in_notebook_12(other, words):
    row = lead("study/12_apgd", other)
    assert words.startswith(f"{row.difference:.2f} [{row.low:.2f}, {row.high:.2f}] ") and row.n_groups == 42
    assert words in (ROOT / "notebooks" / "12_what_does_denoising_buy.ipynb").read_text(encoding="utf-8")


@pytest.mark.parametrize("name, threats", [
    ("12_defences", ("none", "transferred", "adaptive")), ("12_radius_2", ("transferred", "adaptive"))])
def test_the_tables_of_natural_photographs_hold_the_means_of_their_rows(name, threats):
    means = values(f"natural/{name}").groupby(["defence", "measure", "threat"])["value"].mean()
    page = (ROOT / "docs" / "natural.md").read_text(encoding="utf-8")
    for defence, of in means.groupby("defence"):
        cells = [of[defence, measure, threat] for measure in ("map", "prediction") for threat in threats]
        assert f"| {said(defence)} | {' | '.join(f'{cell:.2f}' for cell in cells)} |" in page


@pytest.mark.parametrize("other, words", [
    ("none", "0.63 [0.56, 0.69] more than bare attention"), ("noise_blur", "-0.00 [-0.05, 0.05])"),
    ("blur", "0.41 [0.34, 0.48] less")])
def test_what_dds_has_at_a_quarter_of_the_radius_is_on_the_page(other, words):
    row = lead("natural/12_radius_2", other)
    assert words.startswith(f"{row.difference:.2f} [{row.low:.2f}, {row.high:.2f}]") and row.n_groups == 20
    assert words in (ROOT / "docs" / "natural.md").read_text(encoding="utf-8").replace("\n", " ")


@pytest.mark.parametrize("page", ["README.md", "docs/natural.md", "notebooks/12_what_does_denoising_buy.ipynb"])
def test_what_dds_keeps_there_is_said_alike(page):
    rows = values("natural/12_radius_2").query("defence == 'dds' and measure == 'map' and threat == 'adaptive'")
    mean, low, high = mean_interval(rows["value"], groups=rows["photograph"])
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    assert len(rows) == 20 and f"keeps {mean:.2f} [{low:.2f}, {high:.2f}] of " in text


def test_at_8_255_every_defence_keeps_less_of_a_photograph_than_maps_have_for_nothing():
    rows = values("natural/12_defences").query("measure == 'map' and threat == 'adaptive'")
    shared = load_rows(ROOT / "results" / "natural" / "12_no_information.parquet")
    low, _ = contrasts.no_information(answers.with_photographs(shared))
    assert rows.groupby("defence")["value"].mean().max() < low
    assert "On Caltech-101, at 8/255, both sides" in (ROOT / "README.md").read_text(encoding="utf-8")
