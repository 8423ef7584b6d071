"""Words of the notebooks' figures: they stand in notebooks/words/, and numbers fill them in."""

from dataclasses import asdict

import pandas as pd

from fvit.base.paths import NOTEBOOKS
from fvit.records.templates import check_used, fields, fill, read_words
from fvit.records.words import method_said
from fvit.records.words import said as defence_said
from fvit.report.saving import check_id, current_run, save_figure, show_figure

WORDS = ("title", "caption", "alt", "source")
SAID = {"defence": defence_said, "method": method_said}  # what is filled in under these names is a code


def figure(figure_id, fig, df, *, seed=0, device_kind="cpu", variant="", sizes=None, rows=None, **numbers) -> None:
    """Save and show a figure by `save_figure` and `show_figure`, its words from notebooks/words/, filled in.

    fig, df     as of `save_figure`
    variant     where the words have a key "alt_images" beside "alt", variant="images" takes it
    sizes       the Profile whose sizes are {k}, {sigma}, ... in the words, and whose rows are drawn, if not the current
    rows        the name of the profile whose rows are drawn, if it is another one than that of `sizes`
    numbers     what else the words ask for; {kept[bare]:.2f} asks for a dict or Series `kept` with that key. For
                each=, a DataFrame or list of dicts, every row fills in the template "each", and what comes of it,
                joined by "each_join" ("; " by default), stands for {each}; likewise for "each_rank" and so on.
                {method} and {defence} are said as in records.words

    Raises ValueError, naming figure and file, for words or numbers that lack, do not fit or are asked for by nothing.
    """
    path, run = NOTEBOOKS / "words" / f"{check_id(figure_id)[1:3]}.toml", sizes or current_run()
    words, where = _words(path, figure_id, variant), f"figure {figure_id} of {path.name}"
    values, used = asdict(run) | {"profile": run.name} | _said(numbers), fields(*(words[word] for word in WORDS))
    for name in [name for name in words if name.startswith("each") and name in numbers]:
        each = numbers[name]
        if isinstance(each, pd.DataFrame):
            each = (each.reset_index() if any(each.index.names) else each).to_dict("records")
        each = [_said(row) for row in each]
        used |= fields(words[name]) - {key for row in each for key in row}
        values[name] = words.get(f"{name}_join", "; ").join(fill(words[name], values | row, where) for row in each)
    check_used(numbers, used, where)
    said = {word: fill(words[word], values, f"{word} of {where}") for word in WORDS}
    save_figure(fig, figure_id, df, name=words["name"], **said, claim_ids=words.get("claim_ids", ()), seed=seed,
                device_kind=device_kind, rows=rows or run.name)
    show_figure(figure_id)


def _said(values):
    return {key: SAID[key](value) if key in SAID else value for key, value in values.items()}


def _words(path, figure_id, variant):
    """The words of one figure, with the phrases in them that its file has for all."""
    file = read_words(path)
    words = file.get(figure_id, {})
    if missing := sorted({"name", *WORDS} - set(words)):
        raise ValueError(f"{path} has no {', '.join(missing)} of {figure_id}; write it there, or call save_figure")
    words |= {word: words[f"{word}_{variant}"] for word in WORDS if f"{word}_{variant}" in words}
    for phrase, text in file.items():
        if isinstance(text, str):
            words = {key: said.replace(f"{{{phrase}}}", text) if isinstance(said, str) else said
                     for key, said in words.items()}
    return words
