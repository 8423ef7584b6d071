"""Figures: four files and a manifest row, byte-stable, written last to first; pictures as rows; the committed ones."""

import csv
import hashlib
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from PIL import Image

from fvit.base import paths
from fvit.records import profiles
from fvit.records.provenance import source_digest
from fvit.report import f05_sanity, f10_ranking, saving, style
from fvit.report.panels import decode_panel, draw_panels, encode, encode_map, encode_rgb
from fvit.report.saving import save_figure, show_figure

DF = pd.DataFrame({"eps": [0.0, 1 / 3], "overlap": [1.0, 0.41]})
WORDS = {"name": "topk_overlap", "title": "Overlap & attack", "caption": "Mean, 95 % bootstrap over n = 24 images.",
         "alt": "Overlap falls, 0.41 < 1 <script>.", "source": "Hu et al. 2024"}


@pytest.fixture(autouse=True)
def laptop(tmp_path, monkeypatch):
    monkeypatch.setenv("FVIT_OUT", str(tmp_path))
    monkeypatch.setattr(profiles, "current", None)
    profiles.profile("laptop", notebook="01")


def save(figure_id="F06", df=DF, **changes):
    fig, ax = plt.subplots(figsize=(3, 2))
    ax.plot(df["eps"], df["overlap"])
    return save_figure(fig, figure_id, df, **WORDS | changes)


def contents(folder):
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def manifest_rows(root):
    with open(root / "figures" / "MANIFEST.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def problems(root):
    """What is wrong with the figures under `root`, in words: the test that the committed ones must pass."""
    for row in manifest_rows(root):
        stems = {path.stem for path in (root / "figures" / row["profile"]).glob(f"{row['figure']}_*.*")}
        if len(stems) != 1:
            yield f"{row['figure']} {row['profile']}: names {sorted(stems)}, wanted one"
            continue
        base = root / "figures" / row["profile"] / stems.pop()
        if missing := [suffix for suffix in saving.SUFFIXES if not base.with_suffix(suffix).is_file()]:
            yield f"{base.name} {row['profile']}: no {missing}"
            continue
        said = json.loads(base.with_suffix(".json").read_text(encoding="utf-8"))
        if not (said["alt"].strip() and said["caption"].strip()):
            yield f"{base.name} {row['profile']}: no alt text or caption"
        if any(said[key] != row[key] for key in ("figure", "profile", "title", "source", "notebook")):
            yield f"{base.name} {row['profile']}: sidecar and manifest disagree"
        if hashlib.sha256(base.with_suffix(".csv").read_bytes()).hexdigest() != row["csv_sha256"]:
            yield f"{base.name} {row['profile']}: the CSV is not the one of the manifest"
    listed = {(row["figure"], row["profile"]) for row in manifest_rows(root)}
    for path in (root / "figures").glob("*/F*_*.*"):
        if (path.name.split("_")[0], path.parent.name) not in listed:
            yield f"{path.name} {path.parent.name}: not in the manifest"


def test_committed_figures_are_whole():
    assert len(manifest_rows(paths.ROOT)) >= 12
    assert list(problems(paths.ROOT)) == []


def test_four_files_a_manifest_row_and_a_sidecar_that_says_what_a_reader_needs(tmp_path):
    png = save(claim_ids=("P1.2", "P5.1"), seed=7, device_kind="cuda")
    assert plt.get_fignums() == [], "it would be shown twice"
    assert png == tmp_path / "figures" / "laptop" / "F06_topk_overlap.png"
    assert {path.name for path in png.parent.iterdir()} == {f"F06_topk_overlap{suffix}" for suffix in saving.SUFFIXES}
    table = png.with_suffix(".csv").read_bytes()
    assert table == b"eps,overlap\n0,1\n0.333333,0.41\n"
    (row,) = manifest_rows(tmp_path)
    assert list(row) == saving.MANIFEST_COLUMNS
    assert row == {
        "figure": "F06", "title": "Overlap & attack", "source": "Hu et al. 2024", "notebook": "01", "profile": "laptop",
        "rows": "laptop", "csv_sha256": hashlib.sha256(table).hexdigest(), "source_sha256": source_digest("01"),
        "seed": "7", "device_kind": "cuda", "claim_ids": "P1.2 P5.1",
    }
    assert round(Image.open(png).info["dpi"][0]) == 200
    pdf = png.with_suffix(".pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and b"/CreationDate" not in pdf
    assert list(problems(tmp_path)) == []
    said = json.loads(png.with_suffix(".json").read_text(encoding="utf-8"))
    assert list(said) == sorted(said)
    assert all(said[key] == WORDS[key] for key in ("alt", "caption", "title", "source"))
    assert said["parameters"]["n_images"] == profiles.PROFILES["laptop"].n_images
    assert said["versions"]["numpy"] == np.__version__
    assert (said["columns"], said["n_rows"], said["figure"], said["notebook"]) == (["eps", "overlap"], 2, "F06", "01")


SCRIPT = """
import pandas as pd, matplotlib.pyplot as plt
from fvit.report import saving, style
from fvit.records import profiles
profiles.profile("laptop", notebook="01")
style.set_theme()
fig, ax = plt.subplots()
ax.plot([0, 1], label="σ = 0.25, $x^2$")
ax.legend()
saving.save_figure(fig, "F06", pd.DataFrame({"x": [0.1, 1]}), name="n", title="t", caption="c", alt="a", source="ours")
"""


def test_no_byte_changes_between_processes(tmp_path):
    with plt.rc_context():
        exec(SCRIPT, {})
    here = contents(tmp_path)
    environment = os.environ | {"FVIT_OUT": str(tmp_path / "there"), "PYTHONHASHSEED": "2", "MPLBACKEND": "agg"}
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=paths.ROOT, env=environment, check=True)
    assert len(here) == 5 and contents(tmp_path / "there") == here


OWN = [{"image.origin": "lower"}, {"font.size": 20, "lines.linewidth": 6}, {"image.interpolation": "bicubic"},
       {"savefig.facecolor": "black"}, {"text.usetex": True}, {"axes.formatter.use_locale": True, "axes.grid": False}]


@pytest.mark.parametrize("own", OWN, ids=lambda own: ", ".join(own))
def test_a_matplotlibrc_of_ones_own_changes_no_figure(own):
    sky = np.zeros((3, 16, 16))
    sky[2, :8] = 1  # blue above, black below

    def drawn(settings):
        with plt.rc_context(settings):
            style.set_theme()
            return saving.png_bytes(draw_panels(encode({"image": sky, "map": np.eye(16)}), 2), dpi=50)

    ours = drawn({})
    assert drawn(own) == ours
    pixels = np.asarray(Image.open(io.BytesIO(ours)).convert("RGB")).astype(int)
    blue = np.nonzero((pixels[..., 2] > 200) & (pixels[..., 0] < 60))[0]
    black = np.nonzero((pixels.sum(2) < 40).sum(1) > 20)[0]
    assert blue.mean() < black.mean(), "the sky lies below the ground"


def test_a_rerun_changes_no_byte_and_profiles_do_not_mix(tmp_path):
    save("F10"), save("F06")
    before = contents(tmp_path)
    save("F06"), save("F10")
    assert contents(tmp_path) == before
    profiles.profile("study")
    save("F06", df=DF.iloc[:1])
    after = contents(tmp_path)
    assert {name: after[name] for name in before if "MANIFEST" not in name} == {
        name: data for name, data in before.items() if "MANIFEST" not in name}
    assert [(row["figure"], row["profile"]) for row in manifest_rows(tmp_path)] == [
        ("F06", "laptop"), ("F06", "study"), ("F10", "laptop")]


@pytest.mark.parametrize("writes", range(5))
def test_stopped_anywhere_it_leaves_whole_files_and_the_next_run_completes(tmp_path, monkeypatch, writes):
    save(name="old_name")
    whole, replace, count = contents(tmp_path), os.replace, iter(range(9))

    def stop_at(source, target):
        if next(count) == writes:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(paths.os, "replace", stop_at)
    with pytest.raises(KeyboardInterrupt):
        save(df=DF.iloc[:1])
    monkeypatch.undo()
    monkeypatch.setenv("FVIT_OUT", str(tmp_path))
    profiles.profile("laptop", notebook="01")
    left = contents(tmp_path)
    assert left["figures/MANIFEST.csv"] == whole["figures/MANIFEST.csv"]  # last of all
    new = {name for name in left if "F06_topk_overlap" in name}
    assert len(new) == writes and len(set(left)) == len(new) + (5 if writes < 4 else 1)  # the old go after the new
    save(df=DF.iloc[:1])
    assert list(problems(tmp_path)) == [] and new <= set(contents(tmp_path))
    assert all(contents(tmp_path)[name] == left[name] for name in new)  # what was left was whole


def test_a_read_only_folder_and_a_missing_profile_name_the_mend(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("FVIT_OUT", str(tmp_path / "file"))
    with pytest.raises(OSError, match="set FVIT_OUT or pass --out"):
        save()
    monkeypatch.setattr(profiles, "current", None)
    with pytest.raises(ValueError, match=r"call cfg = fvit\.profile\('laptop'\) first"):
        save()


@pytest.mark.parametrize("changes, message", [
    ({"alt": " "}, "figure F06 has no alt; say in words"),
    ({"caption": "", "source": ""}, "figure F06 has no caption and no source"),
    ({"figure_id": "3"}, "figure '3', wanted an id such as 'F06'"),
    ({"name": "Top K"}, "figure F06 is named 'Top K', wanted a name in snake_case"),
    ({"df": DF.iloc[:0]}, "figure F06 comes with an empty table"),
])
def test_save_figure_refuses_and_leaves_nothing(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        save(**changes)
    with pytest.raises(ValueError):
        save_figure(plt.figure("no").suptitle("$\\nonsense$").figure, "F06", DF, **WORDS)  # fails when it is drawn
    assert contents(tmp_path) == {}


def reword(path, old, new):
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


@pytest.mark.parametrize("damage, message", [
    (lambda base: base.with_suffix(".csv").write_text("eps,overlap\n0,0\n"), "the CSV is not the one of the manifest"),
    (lambda base: base.with_suffix(".pdf").unlink(), r"no \['.pdf'\]"),
    (lambda base: reword(base.with_suffix(".json"), WORDS["alt"], " "), "no alt text"),
    (lambda base: reword(base.with_suffix(".json"), WORDS["title"], "Another"), "sidecar and manifest disagree"),
    (lambda base: shutil.copy(base.with_suffix(".csv"), base.with_name("F06_other.csv")), "wanted one"),
    (lambda base: shutil.copy(base.with_suffix(".csv"), base.with_name("F14_stray.csv")), "not in the manifest"),
])
def test_the_check_of_committed_figures_can_fail(tmp_path, damage, message):
    damage(save().with_suffix(""))
    (found,) = problems(tmp_path)
    assert re.search(message, found)


# The digest of sources ----------------------------------------------------------------------------------------------


def notebook(source="x = 1", output="1"):
    cells = [{"cell_type": "markdown", "source": [f"prose {output}"]},
             {"cell_type": "code", "source": source.splitlines(keepends=True), "outputs": [output]}]
    return json.dumps({"cells": cells})


@pytest.fixture
def sources(tmp_path):
    files = {"fvit/a.py": "a = 1\n", "fvit/extras/b.py": "b\n", "fvit/weights/vit/m.safetensors": "w",
             "fvit/notes.md": "n", "notebooks/01_x.ipynb": notebook(), "notebooks/02_y.ipynb": notebook(),
             "notebooks/words/01.toml": "", "notebooks/words/02.toml": ""}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    return tmp_path


@pytest.mark.parametrize("name, text, counts", [
    ("fvit/a.py", "a = 2\n", True), ("fvit/extras/b.py", "c\n", True),
    ("fvit/weights/vit/m.safetensors", "v", True), ("notebooks/01_x.ipynb", notebook(source="x = 2"), True),
    ("notebooks/01_x.ipynb", notebook(output="2"), False),  # prose and outputs
    ("notebooks/words/01.toml", "[F01a]", True), ("notebooks/words/02.toml", "[F02a]", False),
    ("fvit/a.py", "a = 1\r\n", False),  # line ends of another system
    ("notebooks/02_y.ipynb", notebook(source="x = 2"), False), ("fvit/notes.md", "m", False),
    ("fvit/weights/vit/checkpoint.safetensors", "c", False),  # ignored by git: only where training ran
])
def test_the_source_digest_covers_code_notebook_and_weights(sources, name, text, counts):
    def digest(number="01"):
        return source_digest(number, sources / "fvit", sources / "notebooks")

    before = digest()
    assert digest("") == digest("09") != before  # of no notebook
    (sources / name).write_bytes(text.encode())
    assert (digest() != before) == counts


# Showing ------------------------------------------------------------------------------------------------------------


def shown(monkeypatch, *arguments):
    outputs = []
    monkeypatch.setattr(saving, "display", outputs.append)
    show_figure(*arguments)
    return [(repr(output), *output._repr_mimebundle_()) for output in outputs]


def test_show_figure_shows_the_saved_file_of_the_profile_and_compares_only_its_name(monkeypatch):
    png = save()
    (text, picture, metadata), (caption_text, caption, _) = shown(monkeypatch, "F06")
    assert text == picture["text/plain"] == "Figure F06: topk overlap"
    assert caption_text == caption["text/plain"] == "Caption of figure F06"  # numbers may differ elsewhere: HTML only
    assert set(picture) == {"text/plain", "image/png"} and set(caption) == {"text/plain", "text/html"}
    assert saving.b64encode(png.read_bytes()).decode() == picture["image/png"]  # narrow enough to be shown as it is
    inches = Image.open(png).width / 200
    assert metadata == {"image/png": {"alt": WORDS["alt"], "width": round(120 * inches)}}  # letters of one size
    profiles.profile("study")
    assert shown(monkeypatch, "F06", "laptop")[0][0] == text
    with pytest.raises(FileNotFoundError, match=r"no figure F06 in .*study; save it, or `fvit run`"):
        show_figure("F06")
    assert "<b>F06. Overlap &amp; attack.</b>" in caption["text/html"] and WORDS["caption"] in caption["text/html"]
    assert html.escape(WORDS["alt"]) in caption["text/html"]


def test_a_wide_smooth_figure_is_shown_smaller(monkeypatch):
    fig, ax = plt.subplots(figsize=(9, 2))
    ax.imshow(np.random.default_rng(0).random((400, 1800)), aspect="auto")
    png = save_figure(fig, "F06", DF, **WORDS)
    (_, picture, metadata), _ = shown(monkeypatch, "F06")
    assert metadata["image/png"]["width"] == 900
    inline = saving._inline_png(png)
    assert saving.b64encode(inline).decode() == picture["image/png"]
    assert Image.open(io.BytesIO(inline)).width == 900 < Image.open(png).width
    assert len(inline) < png.stat().st_size and inline == saving._inline_png(png)


@pytest.mark.parametrize("suffix", [".png", ".json"])
def test_a_damaged_figure_is_not_shown(suffix):
    path = save().with_suffix(suffix)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1 if suffix == ".png" else 255  # in the pixels; in JSON no text any more
    for damaged in (whole[:-20], flipped, b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"figure F06 in .* is damaged .*`fvit run` the notebook that saves it"):
            show_figure("F06")


# Pictures as rows ---------------------------------------------------------------------------------------------------


def test_pictures_survive_the_csv(tmp_path):
    rng = np.random.default_rng(0)
    image, heat = np.rint(rng.random((3, 5, 7)) * 255) / 255, rng.normal(size=(4, 6))
    black, one = np.zeros((3, 2, 2)), np.array([[0.5], [0.25]])
    rows = encode({"black": black, "image": image, "heat": heat, "one": one})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    for back in (rows, pd.read_csv(tmp_path / "rows.csv").sample(frac=1, random_state=0)):
        panels = {name: decode_panel(lines) for name, lines in back.groupby("panel")}
        np.testing.assert_allclose(panels["image"], image.transpose(1, 2, 0), atol=1e-12)
        np.testing.assert_allclose(panels["heat"], heat, rtol=5e-3)
        assert panels["black"].tolist() == np.zeros((2, 2, 3)).tolist() and panels["one"].tolist() == one.tolist()


@pytest.mark.parametrize("encode, array, message", [
    (encode_rgb, np.zeros((5, 7, 3)), r"panel 'p': shape \(5, 7, 3\) .* wanted one image \(3, H, W\)"),
    (encode_rgb, np.full((3, 2, 2), 255.0), r"in \[255, 255\], wanted one image .* in \[0, 1\]"),
    (encode_rgb, np.full((3, 2, 2), np.nan), r"in \[nan, nan\]"),
    (encode_map, np.zeros((1, 2, 2)), r"shape \(1, 2, 2\), wanted one finite map \(h, w\)"),
    (encode_map, np.full((2, 2), np.inf), "wanted one finite map"),
])
def test_encoding_refuses(encode, array, message):
    with pytest.raises(ValueError, match=message):
        encode("p", array)


def panels(fig):
    return [[image for image in ax.images] for ax in fig.axes if ax.get_label() != "<colorbar>"]


def test_draw_panels_shares_one_scale_a_row():
    rows = encode({"image": np.full((3, 4, 4), 0.5), "a": [[0.1, 0.2]], "b": [[0.4, 0.0]], "c": [[-1.0, 0.5]],
                   "d": [[2.0, 0.5]]})
    fig = draw_panels(rows, 3, titles={"a": "clean"}, overlay={"b": "image"})
    drawn = panels(fig)
    assert [len(images) for images in drawn] == [1, 1, 2, 1, 1, 0]  # the overlay lies on its grey image
    a, (grey, b), c, d = drawn[1][0], drawn[2], drawn[3][0], drawn[4][0]
    assert [m.norm.vmin for m in (a, b)] == [0, 0] and [m.norm.vmax for m in (a, b)] == [0.4, 0.4]
    assert (c.norm.vmin, c.norm.vmax, d.norm.vmin, d.norm.vmax) == (-2, 2, -2, 2)
    assert (a.cmap.name, c.cmap.name, grey.cmap.name) == ("rocket", "vlag", "gray")
    assert a.get_array().tolist() == [[0.1, 0.2]] and b.get_alpha().tolist() == pytest.approx(np.array([[0.85, 0]]))
    assert [ax.get_title() for ax in fig.axes[:5]] == ["image", "clean", "b", "c", "d"]


def test_a_panel_may_have_a_scale_of_its_own():
    rows = encode({"a": [[0.1, 0.2]], "error": [[0.001, 0.003]]})
    a, error = (images[0] for images in panels(draw_panels(rows, 2, own=["error"]))[:2])
    assert (a.norm.vmax, error.norm.vmax) == (0.2, 0.003)
    fig = draw_panels(rows, 2, own=["error"], label="share")
    assert [bar.get_xlabel() for bar in fig.axes[1].child_axes] == ["share"] and not fig.axes[0].child_axes


REDRAWN = {  # the widest figures, by which function each is drawn from the CSV beside it
    "F05b": lambda df: f05_sanity.plot_cascade(df, 25),
    "F09c": lambda df: draw_panels(df, 4, label="attention share"),
    "F10b": lambda df: f10_ranking.plot_clean_curves(
        df, ["random_order", "uniform_map", "mask"])}


@pytest.mark.parametrize("figure_id", REDRAWN)
def test_letters_of_the_widest_figures_have_8_points_on_the_page(figure_id, tmp_path):
    """As a notebook shows them, at most INLINE_WIDTH pixels wide; 96 pixels are an inch of the page."""
    [path] = (paths.ROOT / "figures" / "laptop").glob(f"{figure_id}_*.csv")
    with plt.rc_context():
        style.set_theme()
        fig = REDRAWN[figure_id](pd.read_csv(path))
        (tmp_path / "it.png").write_bytes(saving.png_bytes(fig))
    shown = saving._shown_width(tmp_path / "it.png") / 96 / (Image.open(tmp_path / "it.png").width / saving.DPI)
    letters = [text for text in fig.findobj(Text) if text.get_text().strip() and text.get_visible()]
    assert len(letters) > 20 and min(text.get_fontsize() for text in letters) * shown >= 8


@pytest.mark.parametrize("rows", [None, "study"])
def test_a_figure_says_whose_rows_it_draws(tmp_path, rows):
    sidecar = json.loads(save(rows=rows).with_suffix(".json").read_text(encoding="utf-8"))
    (row,) = manifest_rows(tmp_path)
    assert row["rows"] == sidecar["rows"] == (rows or "laptop") and row["profile"] == sidecar["profile"] == "laptop"
    with pytest.raises(ValueError, match="unknown rows 'weekly', known: laptop, study, natural, paper"):
        save(rows="weekly")


def test_draw_panels_refuses_unknown_panels_and_names_used_twice():
    rows = encode_map("a", np.zeros((2, 2)))
    for options in ({"titles": {"b": "title"}}, {"own": ["b"]}, {"against": {"a": "b"}}):
        with pytest.raises(ValueError, match=r"unknown panels \['b'\], known: a"):
            draw_panels(rows, 1, **options)
    with pytest.raises(ValueError, match=r"panel 'a': wanted one kind and lines y = 0, 1, .*name used twice"):
        draw_panels(pd.concat([rows, rows]), 1)


def test_the_theme_is_the_agreed_one():
    with plt.rc_context():
        style.set_theme()
        assert plt.rcParams["pdf.fonttype"] == 42 and plt.rcParams["font.family"] == ["DejaVu Sans"]
        assert plt.rcParams["image.cmap"] == "mako"
        assert plt.rcParams["axes.prop_cycle"].by_key()["color"][0] in ("#0173b2", (0x01 / 255, 0x73 / 255, 0xB2 / 255))
