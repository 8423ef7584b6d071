"""The tables of claims of the README and of notebook 00, made from the ledgers under results/ and from claims.toml.

`python tools/claims_tables.py` puts the README's anew, after a run whose results are to be committed.
"""

import html
from pathlib import Path

import pandas as pd

from fvit.base.files import write_atomic
from fvit.base.paths import NOTEBOOKS, ROOT
from fvit.records.claims import ROWS
from fvit.report.verdicts import load_claims, measured, verdicts

MARKS = "<!-- findings -->", "<!-- /findings -->"  # lines of the README between which `readme_table` stands


def readme_table(claims: pd.DataFrame | None = None) -> str:
    """"What we found" as a Markdown table: a line for each question of ROWS, with the number that decides it.

    claims   as of `load_claims`, which is the default; of the profiles that have a check, the largest decides
    """
    lines = ["| claim | on | threat | verdict | decided by | in |", "|---|---|---|---|---|---|"]
    for verdict in verdicts(load_claims() if claims is None else claims):
        said, link = verdict.why, ""
        if (check := verdict.check) is not None:
            said = f"{check['text']}: {measured(check)} ({check['claim']}, {check['profile']})"
            link = _link(check["notebook"])
        lines.append(f"| {verdict.row}: {_cell(ROWS[verdict.row]['text'])} | {verdict.data} | {verdict.threat} "
                     f"| **{verdict.status}** | {_cell(said)} | {link} |")
    return "\n".join(lines)


def claims_table() -> str:
    """The claims as a Markdown table, for notebook 00: id, claim, whose it is, and the notebooks that test it."""
    lines = ["| id | claim | of | tested in |", "|---|---|---|---|"]
    for row, said in ROWS.items():
        where = ", ".join(_link(number).replace("(notebooks/", "(") for number in said["notebooks"])
        lines.append(f"| {row} | {_cell(said['text'])} | {said['source']} | {where} |")
    return "\n".join(lines)


def update_readme(path: Path = ROOT / "README.md", claims: pd.DataFrame | None = None) -> Path:
    """Put `readme_table` between the marks of the README, after a run whose results are to be committed."""
    before, rest = path.read_text(encoding="utf-8").split(f"{MARKS[0]}\n")
    _, after = rest.split(MARKS[1])
    return write_atomic(path, f"{before}{MARKS[0]}\n{readme_table(claims)}\n{MARKS[1]}{after}")


def _cell(text):
    return html.escape(text, quote=False).replace("|", "\\|")


def _link(number):
    found = sorted(NOTEBOOKS.glob(f"{number}_*.ipynb")) if number else []
    return f"[{number}](notebooks/{found[0].name})" if found else number


if __name__ == "__main__":
    update_readme()
