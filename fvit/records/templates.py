"""Words that stand in TOML files, as templates of `str.format`, and the numbers that fill them in."""

import tomllib
from pathlib import Path
from string import Formatter


def read_words(path: Path) -> dict:
    """The tables of a TOML file; ValueError if it is damaged."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of TOML or of UTF-8
        raise ValueError(f"{path} is damaged ({error}); restore it by git") from error


def fields(*templates: str) -> set[str]:
    """Names that templates ask for: {at[bare]:.2f} asks for `at`."""
    found = {field for template in templates for _, field, _, _ in Formatter().parse(template) if field is not None}
    return {field.split("[")[0].split(".")[0] for field in found}


def fill(template: str, values: dict, where: str) -> str:
    """The template with `values` in their places; ValueError, beginning with `where`, if one lacks or does not fit."""
    if lacking := sorted(fields(template) - set(values)):
        raise ValueError(f"{where} needs {', '.join(f'{name}=' for name in lacking)} for {template!r}")
    try:
        return template.format_map(values)
    except Exception as error:  # what the values themselves raise, too
        raise ValueError(f"{where}: the values given do not fit {template!r} ({error!r})") from error


def check_used(given, used: set[str], where: str) -> None:
    """ValueError if a name of `given` is in no template: a misspelt one, or words that have changed."""
    if idle := sorted(set(given) - used):
        raise ValueError(f"{where} has no place for {', '.join(f'{name}=' for name in idle)}; it asks for "
                         f"{', '.join(sorted(used)) or 'nothing'}")
