"""The committed tables keep to the schema and the vocabulary, and docs/results.md says what they are."""

import contextlib
import io
import json
import re

import pandas as pd
import pytest

from fvit.base.paths import NOTEBOOKS, PACKAGE, ROOT
from fvit.records.ledger import read_table
from fvit.records.rows import SCHEMA, load_rows
from fvit.records.words import BARE, CODES, CONTROL_MAPS, DEFENCES, NO_ATTACK, TOP_SET, check_word

PATHS = sorted((ROOT / "results").rglob("*.parquet"))
FIGURES = sorted((ROOT / "figures").rglob("*.csv"))
DOC = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
METRICS = re.findall(r"^\| `(\w+)` \| ", DOC.partition("## Metrics")[2].partition("\n## ")[0], re.MULTILINE)
PARSED = re.compile(r"\.str\.(extract|match|fullmatch|contains|replace|startswith|endswith|removeprefix|removesuffix)\b"
                    r"|\.(metric|attack|defence|run_id|variant)\b[^=\n]*\.(removeprefix|removesuffix|split)\(")


@pytest.fixture(scope="module")
def tables():
    return {path.relative_to(ROOT / "results").with_suffix("").as_posix(): load_rows(path) for path in PATHS}


def test_metrics_are_few_and_each_is_in_the_document(tables):
    found = {metric for rows in tables.values() for metric in rows["metric"].unique()}
    assert found <= set(METRICS) and 20 <= len(found) <= 30
    assert all(re.fullmatch(r"[a-z]+\d?(_[a-z]+)*", metric) for metric in METRICS)  # f1 and l2 are names, 30 % is none


def test_rows_are_said_in_the_words_of_the_vocabulary_alone(tables):
    for name, rows in tables.items():
        assert all(check_word(word, column) == word for column in CODES for word in rows[column].unique()), name
        attacked, changed = rows["made_on"] != "", ~rows["aim"].isin(NO_ATTACK)
        assert (attacked == (changed & (rows["aim"] != "random_signs"))).all(), name
        assert ((rows["eps"] > 0) == changed).all() and (rows.loc[rows["defence"].isin(BARE), "sigma"] == 0).all(), name
        assert (rows["k"].notna() == rows["metric"].isin(TOP_SET)).all(), name
        assert (rows["level"].notna() | ~rows["metric"].isin(["positive", "negative", "radius"])).all(), name
        assert not rows.loc[rows["method"].isin(["", *CONTROL_MAPS]), "explained"].any(), name


def test_the_tables_of_figures_name_defences_alike():
    found = {path: pd.read_csv(path, dtype=str, keep_default_na=False) for path in FIGURES}
    assert [path for path, table in found.items() if "smoothing" in table] == []  # the old name of the column
    assert all(set(table["defence"]) <= {*DEFENCES, ""} for table in found.values() if "defence" in table)


def code(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")


@pytest.mark.parametrize("paths", [PACKAGE.rglob("*.py"), NOTEBOOKS.rglob("*.ipynb")], ids=["package", "notebooks"])
def test_no_code_parses_a_column(paths):
    assert PARSED.search('rows.metric.str.extract("x")') and PARSED.search('on_b.metric.vta.removeprefix("at ")')
    found = [(path.name, line) for path in paths for line in code(path).splitlines() if PARSED.search(line)]
    assert found == []


def test_every_run_that_rows_name_is_known(tables):
    for name, rows in tables.items():
        path = ROOT / "results" / name.split("/")[0] / "runs.csv"
        known = {run["run_id"] for run in read_table(path)} if path.exists() else set()
        assert set(rows["run_id"]) - {""} <= known, name


def test_the_document_names_every_column_and_code():
    assert [column for column in SCHEMA if f"\n| `{column}` | " not in DOC] == []
    said = [(code, text) for known in CODES.values() for code, text in known.items()]
    assert [code for code, text in said if f"\n| {f'`{code}`' if code else '(empty)'} | {text} |" not in DOC] == []


def test_the_document_lists_every_table_with_its_rows_and_metrics(tables):
    for stem in {path.stem for path in PATHS}:
        mine = {folder: tables[f"{folder}/{stem}"] for folder in ("laptop", "study", "paper", "cifar10", "natural")
                if f"{folder}/{stem}" in tables}
        metrics = {metric for rows in mine.values() for metric in rows["metric"]}
        line = (f"| `{stem}` | {stem[:2]} | {', '.join(f'{folder} {len(rows):,}' for folder, rows in mine.items())} | "
                f"{', '.join(metric for metric in METRICS if metric in metrics)} | ")
        assert f"\n{line}" in DOC, f"docs/results.md wants: {line}"


def test_the_example_runs_as_it_stands_and_gives_its_number(monkeypatch):
    [example] = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    assert "fvit" not in example and len(example.splitlines()) <= 10
    monkeypatch.chdir(ROOT)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(example, "docs/results.md", "exec"), {})
    assert said.getvalue() == "0.517 on 42 images\n" and "0.517 on 42 images" in DOC
    [claim] = [row for row in read_table(ROOT / "results/study/claims.csv") if row["claim"] == "P5.2"]
    assert f"{float(claim['value']):.3f}" == "0.517"
