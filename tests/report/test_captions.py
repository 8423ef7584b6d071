"""Words of the notebooks' figures: every template filled with numbers of the kinds it states, refused without them."""

import json
import re

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from records.test_claims import calls, pattern

import fvit
from fvit.base import paths
from fvit.records import claims, profiles
from fvit.records.templates import read_words
from fvit.report import captions

FILES = sorted((paths.NOTEBOOKS / "words").glob("*.toml"))
FIGURES = {name: (path, said) for path in FILES for name, said in read_words(path).items() if name[0] == "F"}
DF = pd.DataFrame({"x": [0.5]})


class Number(float):
    """Also a mapping, of any depth, that gives itself."""

    def __getitem__(self, key):
        return self


KINDS = {"text": "some words", "count": 3, "number": 0.25, "numbers": Number(0.25)}


def stated(comments: str) -> dict:
    """name -> a value of its kind, from comments such as "# n (count): images" and "# each (rows): k (count)"."""
    found = {}
    for name, kind, meaning in re.findall(r"^# (\w+) \((\w+)\): (.*(?:\n#   .*)*)", comments, re.M):
        columns = re.findall(r"([\w ]+) \((text|count|numbers?)\)", meaning.replace("\n#  ", ""))
        found[name] = [{c.strip(): KINDS[k] for c, k in columns}] * 2 if kind == "rows" else KINDS[kind]
    return found


def numbers_of(figure_id: str) -> dict:
    """What the comments in the figure's table ask for, and what those above all tables ask for in its phrases."""
    path, _ = FIGURES[figure_id]
    head, *tables = re.split(r"^\[(F\w+)\]$", path.read_text(encoding="utf-8"), flags=re.M)
    own = stated(dict(zip(tables[::2], tables[1::2], strict=True))[figure_id])
    words = " ".join(text for text in captions._words(path, figure_id, "").values() if isinstance(text, str))
    return {name: value for name, value in stated(head).items() if re.search(rf"{{{name}[}}:]", words)} | own


@pytest.fixture(autouse=True)
def laptop(tmp_path, monkeypatch):
    monkeypatch.setenv("FVIT_OUT", str(tmp_path))
    monkeypatch.setattr(profiles, "current", None)
    yield
    plt.close("all")


@pytest.fixture
def saved(monkeypatch):
    """The words that would be saved, instead of files."""
    found = {}
    monkeypatch.setattr(captions, "save_figure", lambda fig, figure_id, df, **words: found.update({figure_id: words}))
    monkeypatch.setattr(captions, "show_figure", lambda figure_id: None)
    return found


@pytest.mark.parametrize("figure_id", FIGURES)
def test_words_are_whole_and_ask_for_the_numbers_they_state(figure_id, saved):
    path, said = FIGURES[figure_id]
    profiles.profile("laptop", notebook=path.stem)
    numbers = numbers_of(figure_id)
    variants = {key.split("_")[1] for key in said if key.split("_")[0] in captions.WORDS and "_" in key}
    for variant in {"", *variants}:
        fvit.figure(figure_id, "a figure", DF, variant=variant, **numbers)  # a number too many or too few is refused
        words = saved[figure_id]
        assert all(words[word].strip() and not re.search(r"[{}\n]|  ", words[word]) for word in captions.WORDS)
    for name in numbers:
        with pytest.raises(ValueError, match=rf"figure {figure_id} of {path.name} needs .*{name}="):
            fvit.figure(figure_id, "a figure", DF, **{k: v for k, v in numbers.items() if k != name})
    assert re.fullmatch("[a-z0-9]+(_[a-z0-9]+)*", said["name"]) and figure_id[1:3] == path.stem
    assert set(said.get("claim_ids", [])) <= set(claims.CHECKS)
    assert {key for key in said if key.startswith("each") and not key.endswith("_join")} == {
        name for name, value in numbers.items() if isinstance(value, list)}


@pytest.mark.parametrize("path", sorted((paths.ROOT / "figures").glob("*/F*.json")), ids=lambda path: path.stem)
def test_committed_figures_say_what_their_words_say(path):
    sidecar = json.loads(path.read_text(encoding="utf-8"))
    file, _ = FIGURES[sidecar["figure"]]
    found = [captions._words(file, sidecar["figure"], variant) for variant in ("", "images")]
    for word in captions.WORDS:
        assert any(pattern(words[word]).fullmatch(sidecar[word]) for words in found), word
    assert path.stem == f"{sidecar['figure']}_{found[0]['name']}"


def test_notebooks_draw_every_figure_once_by_its_words():
    found = {args[0].value: keywords for _, args, keywords in calls("figure")}
    assert sorted(found) == sorted(FIGURES) and not list(calls("save_figure"))
    for figure_id, keywords in found.items():
        numbers = set(keywords) - {"seed", "device_kind", "variant", "sizes", "rows"}
        wanted = set(numbers_of(figure_id))
        assert numbers == wanted or (None in keywords and numbers - {None} <= wanted), figure_id  # None: **more


def test_a_figure_is_saved_and_shown_with_its_words_filled_in(tmp_path, capsys):
    profiles.profile("laptop", notebook="14", sigma=0.1)
    rows = pd.DataFrame({"defence": ["none", "denoise_only", "noise_only", "dds"], "adaptive": [0.331, 0.5, 0.3, 0.85],
                         "fidelity": [1, 0.9, 0.6, 0.95]}).set_index("defence")
    setting = dict(n=8, images="validation scenes", eps=8, clusters="clustered by photograph", n_groups=4)
    fvit.figure("F12b", plt.figure(figsize=(1, 1)), DF, seed=3, each=rows.loc[["none", "dds"]], at=rows.T, **setting)
    said = json.loads((tmp_path / "figures/laptop/F12b_halves_of_dds.json").read_text(encoding="utf-8"))
    assert said["alt"] == ("Overlap under the adaptive attack, and fidelity: bare 0.33 and 1.00; DDS 0.85 and 0.95.")
    assert said["caption"] == (
        "Share of the clean top 25 kept at sigma 0.1, 16 samples; laptop rows, free explanation attacks, 8 validation "
        "scenes, linf 8/255, 10 steps, 4 draws a step; 95 % intervals clustered by photograph (4). Marks as in F12a; "
        "shaded: no information.")
    assert said["title"] == "Attacked itself, DDS keeps 0.85, denoising alone 0.50, noise alone 0.30"
    assert (tmp_path / "figures/MANIFEST.csv").read_text().splitlines()[1].endswith(",3,cpu,P7.3 P7.4 P7.5")
    assert "F12b" in capsys.readouterr().out


def test_sizes_are_those_of_the_rows_shown_and_keys_reach_into_tables(saved):
    profiles.profile("laptop", notebook="09")
    at = pd.Series([0.61, 0.59, 0.91, 0.89], pd.MultiIndex.from_product([["vta"], ["none", "dds"],
                                                                        ["fixed", "re-predicted"]]))
    fvit.figure("F09d", None, DF, sizes=profiles.PROFILES["paper"], eps=8, said="rows", clusters="over images", at=at)
    assert saved["F09d"]["caption"].startswith("Top-49 overlap under the prediction attack at 8/255")
    assert saved["F09d"]["rows"] == "paper"
    assert saved["F09d"]["alt"] == ("Bare VTA keeps 0.61 with the class fixed and 0.59 with the class predicted anew; "
                                    "with DDS 0.91 and 0.89.")


@pytest.mark.parametrize("figure_id, numbers, message", [
    ("F08b", {"order": 2, "k": 5}, "figure F08b of 08.toml has no place for k=; it asks for order"),
    ("F08b", {"order": "two"}, "caption of figure F08b of 08.toml: the values given do not fit 'Density with"),
    ("F14b", {"vit": "it", "when": "now", "batch": 8, "vta": 1, "lrp": 2,
              "at": dict.fromkeys(["vta", "lrp", "raw_attention"], 1), "each": [{"method": "vta"}]},
     "figure F14b of 14.toml needs forwards= for '{method} {forwards:.1f}'"),
    ("F08z", {}, r"08.toml has no alt, caption, name, source, title of F08z; write it there, or call save_figure"),
    ("F4", {}, "figure 'F4', wanted an id such as 'F06'"),
])
def test_what_lacks_or_does_not_fit_is_named_with_figure_and_file(tmp_path, figure_id, numbers, message):
    profiles.profile("laptop", notebook="08")
    with pytest.raises(ValueError, match=re.escape(message)):
        fvit.figure(figure_id, plt.figure(figsize=(1, 1)), DF, **numbers)
    assert not list(tmp_path.rglob("*.*"))


def test_damaged_words_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(captions, "NOTEBOOKS", tmp_path)
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "08.toml").write_text("[F08b\n")
    profiles.profile("laptop", notebook="08")
    with pytest.raises(ValueError, match=r"08\.toml is damaged .*; restore it by git"):
        fvit.figure("F08b", None, DF, order=2)
