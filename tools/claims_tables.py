"""What the README and notebook 00 say of the claims, made from results/ and from claims.toml.

`python tools/claims_tables.py` puts the README's anew, after a run whose results are to be committed.
"""

import html
from pathlib import Path

from fvit.base.files import write_atomic
from fvit.base.paths import NOTEBOOKS, ROOT
from fvit.records.claims import ROWS
from fvit.report import findings
from fvit.report.verdicts import Verdicts, load_claims, rows_of, verdicts

PARTS = ("opening", "findings", "buys", "certified")  # of the README, each between its marks
MARKS = {name: (f"<!-- {name} -->", f"<!-- /{name} -->") for name in PARTS}


def readme_parts(table: Verdicts | None = None) -> dict[str, str]:
    """What stands between MARKS: the first numbers, the table of claims, and what each part of DDS buys.

    table   as of `verdicts`, which is the default, from the rows on record
    """
    table = verdicts(load_claims()) if table is None else table
    return {"opening": findings.opening(table), "findings": readme_table(table),
            "buys": f"{findings.what_buys(table)}\n\n{findings.what_buys_table(table)}",
            "certified": findings.certified(rows_of("scenes", "07_certificates")[0])}


def readme_table(table: Verdicts) -> str:
    """"What we found" as Markdown: a line for each claim, threat and check, a column for each data set; then a line for
    each question of a theorem, a machine or a code. Those of the parts of DDS are left to `findings.what_buys_table`.
    """
    asked = [verdict for verdict in table if "pair" not in ROWS[verdict.row]]
    columns = [data for data in findings.DATA if any(verdict.data == data for verdict in asked)]
    heads = ["claim", "attack", "decided by", *(findings.DATA[data] for data in columns), "in"]
    lines, others, last, marks = [_line(heads), "|---" * len(heads) + "|"], [], "", {}
    for v in asked:
        known = ROWS[v.row].get("known")
        marks |= {known: "\u2020\u2021"[len(marks)]} if known and known not in marks else {}
        claim = f"{v.row}: {_cell(ROWS[v.row]['text'])}" + (f" {marks[known]}" if known else "")
        if v.data not in findings.DATA:
            others.append(_line([claim, v.data, _cell(v.why), _outcome(v) + _beside(v), _link(v.notebook)]))
            continue
        same = [w for w in asked if (w.row, w.threat, w.check) == (v.row, v.threat, v.check)]
        if v is same[0]:
            cells = [next((_outcome(w) for w in same if w.data == data), "") for data in columns]
            lines.append(_line([claim if v.row != last else "", v.threat, _cell(f"{v.check} {v.asks}"), *cells,
                                _link(v.notebook)]))
            last = v.row
    heads = ["claim", "of", "decided by", "verdict", "in"]
    lines += ["", _line(heads), "|---" * len(heads) + "|", *others] * bool(others)
    return "\n".join([*lines, "", *(f"{mark} Known {text}." for text, mark in marks.items())])


def _outcome(verdict) -> str:
    """Status in bold, number, and where they are few how many units: "**HOLDS** +0.57 [0.49, 0.64]"."""
    if verdict.found is None:
        return f"**{verdict.status}**"
    return f"**{verdict.status}** {findings.number(verdict)}{findings.few(verdict)}"


def _beside(verdict) -> str:
    """"; beside it P3.9 (what it asks) DOES NOT HOLD 0.76", of a question of a theorem."""
    beside = ", ".join(f"{other.check} ({_cell(other.asks)}) {other.status} {findings.number(other)}"
                       for other in verdict.beside if other.found is not None)
    return f"; beside it {beside}" if beside else ""


def _line(cells) -> str:
    return f"| {' | '.join(cells)} |"


def claims_table() -> str:
    """The claims as a Markdown table, for notebook 00: id, claim, whose it is, and the notebooks that test it."""
    lines = ["| id | claim | of | tested in |", "|---|---|---|---|"]
    for row, said in ROWS.items():
        where = ", ".join(_link(number).replace("(notebooks/", "(") for number in said["notebooks"])
        lines.append(f"| {row} | {_cell(said['text'])} | {said['source']} | {where} |")
    return "\n".join(lines)


def update_readme(path: Path = ROOT / "README.md", table: Verdicts | None = None) -> Path:
    """Put `readme_parts` between the marks of the README, after a run whose results are to be committed."""
    text = path.read_text(encoding="utf-8")
    for name, part in readme_parts(table).items():
        before, rest = text.split(f"{MARKS[name][0]}\n")
        text = f"{before}{MARKS[name][0]}\n{part}\n{MARKS[name][1]}{rest.split(MARKS[name][1])[1]}"
    return write_atomic(path, text)


def _cell(text):
    return html.escape(text, quote=False).replace("|", "\\|")


def _link(number):
    found = sorted(NOTEBOOKS.glob(f"{number}_*.ipynb")) if number else []
    return f"[{number}](notebooks/{found[0].name})" if found else number


if __name__ == "__main__":
    update_readme()
