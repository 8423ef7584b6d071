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
    """"What we found" as a Markdown table: a line for each question but those of the parts, with its number."""
    lines, last = ["| claim | on | verdict | decided by | in |", "|---|---|---|---|---|"], ""
    for verdict in (verdict for verdict in table if "pair" not in ROWS[verdict.row]):
        head, said = ROWS[verdict.row], f"{verdict.why}: {verdict.measured}" if verdict.measured else verdict.why
        claim = f"{verdict.row}: {_cell(head['text'])}"
        claim += f" *(known {_cell(head['known'])})*" if "known" in head else ""
        said += "".join(f"; beside: {part.asks}: {part.measured}, {part.status}" for part in verdict.beside
                        if part.found is not None) + f" ({verdict.made})" * bool(verdict.made)
        lines.append(f"| {claim if verdict.row != last else ''} | {verdict.on} | **{verdict.status}** | {_cell(said)} "
                     f"| {_link(verdict.notebook)} |")
        last = verdict.row
    return "\n".join(lines)


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
