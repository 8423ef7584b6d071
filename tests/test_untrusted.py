"""Files and command lines that nobody has vouched for: read right or refused, never run, never outside their folder."""

import io
import json
import pickle
import resource
import struct
import sys

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
import timm
import torch
from diffusers import DDPMScheduler, UNet2DModel
from fixtures.hostile import Hostile
from fixtures.oddities import REFUSED, TEXTS, has_nan, inputs, is_ours, outcome
from hypothesis import example, given
from hypothesis import strategies as st

import fvit
from fvit import cli
from fvit.base import files, paths
from fvit.notebooks import form, plan, runner
from fvit.notebooks.form import KERNEL
from fvit.notebooks.plan import select
from fvit.records import profiles, rows

SIZES = dict(img_size=16, patch_size=8, embed_dim=12, depth=1, num_heads=3)
SOURCES = (ValueError, OSError)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with a tiny ViT, vit/, and a tiny denoiser, den/, in their libraries' own forms."""
    folder = tmp_path_factory.mktemp("models")
    net = timm.create_model("vit_tiny_patch16_224", **SIZES, num_classes=4)
    timm.models.save_for_hf(net, folder / "vit", model_args=SIZES, safe_serialization=True)
    UNet2DModel(sample_size=16, block_out_channels=(4, 4), layers_per_block=1, norm_num_groups=2, add_attention=False,
                down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2
                ).save_pretrained(folder / "den/unet")
    DDPMScheduler(prediction_type="sample").save_pretrained(folder / "den/scheduler")
    (folder / "den/fvit.json").write_text('{"pixel_unshuffle": 1}')
    return folder


@pytest.fixture(autouse=True)
def out(tmp_path, monkeypatch):
    monkeypatch.setenv("FVIT_OUT", str(tmp_path / "out"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(profiles, "current", profiles.PROFILES["laptop"])


def copied(folder, target):
    for path in folder.rglob("*"):
        if path.is_file():
            files.write_atomic(target / path.relative_to(folder), path.read_bytes())
    return target


# nothing is run ------------------------------------------------------------------------------------------------------
NAMES = ["model.safetensors", "diffusion_pytorch_model.safetensors", "pytorch_model.bin", "diffusion_pytorch_model.bin",
         "model.pt", "model.pth", "model.bin", "model.ckpt", "model", "config.json", "fvit.json"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_no_pickle_is_run_whatever_its_name(models, tmp_path, name, form):
    ran, folder = tmp_path / "ran", tmp_path / "it"
    content = io.BytesIO()
    (pickle.dump if form == "pickle" else torch.save)({"a": Hostile(ran)}, content)
    for whole in ("vit", "den", "den/unet"):
        target = copied(models / whole, folder / whole)
        for weights in target.rglob("*.safetensors"):
            weights.unlink()  # so that nothing else is there to be read
        (target / name).write_bytes(content.getvalue())
        for source in (target, str(target / name), f"local-dir:{target}"):
            assert outcome(fvit.load_vit, source, refusals=SOURCES) is REFUSED
            assert outcome(fvit.load_denoiser, source, refusals=SOURCES) is REFUSED
    assert not ran.exists(), "the pickle was run"
    pickle.loads(pickle.dumps(Hostile(ran)))
    assert ran.exists(), "it was not hostile at all"


def test_a_configuration_cannot_send_for_another_file(models, tmp_path):
    """timm's own configurations may name a file of weights, and its arguments a checkpoint."""
    ran, evil = tmp_path / "ran", tmp_path / "evil.pt"
    torch.save({"a": Hostile(ran)}, evil)
    folder = copied(models / "vit", tmp_path / "vit")
    plain = json.loads((folder / "config.json").read_text())
    for more in ({"file": str(evil)}, {"url": evil.as_uri()}, {"custom_load": True, "file": str(evil)}):
        (folder / "config.json").write_text(json.dumps(plain | {"pretrained_cfg": plain["pretrained_cfg"] | more}))
        assert outcome(fvit.load_vit, folder, refusals=SOURCES) is not REFUSED  # the weights beside it
    for key in ("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        args = plain["model_args"] | {key: str(evil)}
        (folder / "config.json").write_text(json.dumps(plain | {"model_args": args}))
        outcome(fvit.load_vit, folder, refusals=SOURCES)
    assert not ran.exists()


# nor unpacked --------------------------------------------------------------------------------------------------------
def grown(call):
    """MiB by which the most memory ever taken by this process grew."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert outcome(call, refusals=SOURCES) is REFUSED
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def header(tensors, length=None):
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


BOMBS = {
    "shape": header({"a": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}),
    "few bytes": header({"a": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4]}}) + b"1234",
    "overflow": header({"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}}) + b"1234",
    "header": header({}, 2**60),
    "overlap": header({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
                       "b": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}) + b"1234",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_weights_that_claim_terabytes(models, tmp_path, bomb):
    for kind, load in (("vit", fvit.load_vit), ("den", fvit.load_denoiser)):
        folder = copied(models / kind, tmp_path / kind)
        next(folder.rglob("*.safetensors")).write_bytes(BOMBS[bomb])
        assert grown(lambda: load(folder)) < 200  # noqa: B023


@pytest.mark.parametrize("kind, file, claim", [
    ("vit", "config.json", {"model_args": SIZES | {"embed_dim": 3 * 10**4}}),
    ("vit", "config.json", {"model_args": SIZES | {"depth": 10**9}}),
    ("vit", "config.json", {"model_args": SIZES | {"img_size": 10**6}}),
    ("vit", "config.json", {"model_args": SIZES | {"num_classes": 3 * 10**5}}),
    ("den", "unet/config.json", {"block_out_channels": [10**4, 3 * 10**4]}),
    ("den", "unet/config.json", {"layers_per_block": 10**9}),
    ("den", "scheduler/scheduler_config.json", {"num_train_timesteps": 10**12}),
    ("den", "fvit.json", {"pixel_unshuffle": 10**12}),
])
def test_configurations_that_claim_terabytes(models, tmp_path, kind, file, claim):
    folder = copied(models / kind, tmp_path / kind)
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | claim))
    assert grown(lambda: (fvit.load_vit if kind == "vit" else fvit.load_denoiser)(folder)) < 200


def test_a_checkpoint_of_views_that_claims_terabytes(tmp_path):
    state = {"time_embed.0.weight": torch.zeros(1).expand(10**6, 10**7), "out.2.bias": torch.zeros(1).expand(10**13)}
    torch.save(state, tmp_path / "bomb.pt")
    assert (tmp_path / "bomb.pt").stat().st_size < 10_000
    small = {"image_size": 64, "num_channels": 32, "num_res_blocks": 1}
    assert grown(lambda: fvit.load_denoiser(tmp_path / "bomb.pt", config=small)) < 400  # what was asked for


# nor outside ---------------------------------------------------------------------------------------------------------
ESCAPES = ["../../x", "../x", "..", "a/..", "./../x/y", "/etc/passwd", "~root/x", "a\\..\\x", "..%2fx", "x\0/../y",
           "../" * 99]


@pytest.mark.parametrize("name", ESCAPES)
def test_names_do_not_leave_their_folder(tmp_path, name):
    for source in (f"hf-hub:{name}", f"hf_hub:{name}", f"local-dir:{name}", f"vit_tiny_patch16_224.{name}"):
        assert outcome(fvit.load_vit, source, refusals=SOURCES) is REFUSED
    for call in (fvit.load_denoiser, fvit.load_images):
        assert outcome(call, name, refusals=SOURCES) is REFUSED
    assert outcome(fvit.profile, name) is outcome(fvit.profile, "laptop", notebook=name) is REFUSED
    assert outcome(fvit.show_figure, name) is outcome(fvit.show_figure, "F06", profile=name) is REFUSED
    for names in (dict(figure_id=name, name="good"), dict(figure_id="F06", name=name)):
        words = dict(title="a", caption="b", alt="c", source="ours")
        assert outcome(fvit.save_figure, plt.figure(), df=pd.DataFrame({"x": [1]}), **names, **words) is REFUSED
    assert outcome(select, [name]) is REFUSED
    assert not list(tmp_path.rglob("*"))
    plt.close("all")


# files that are parsed -----------------------------------------------------------------------------------------------
@st.composite
def damage(draw):
    """A way to damage bytes: cut, overwrite, insert, double, swap."""
    kind = draw(st.sampled_from("cut write insert double swap".split()))
    at, to = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    piece = draw(st.one_of(st.binary(max_size=6), st.sampled_from(
        [b"\xff", b"\0", b'"', b"'", b",", b"\r", b"\n\n", b"{", b"]", b"-1", b"1e999", b"null", b"NaN", "é".encode(),
         b"1" * 5000,
         b"[" * 5000])))

    def damaged(data):
        i, j = sorted((int(at * len(data)), int(to * len(data))))
        return {"cut": data[:i] + data[j:], "write": data[:i] + piece + data[i + len(piece):],
                "insert": data[:i] + piece + data[i:], "double": data[:j] + data[i:],
                "swap": data[j:] + data[i:j] + data[:i]}[kind]

    return damaged


ODD_JSON = st.one_of(st.none(), st.booleans(), st.integers(-3, 10**6), st.floats(), st.text(max_size=4), st.just([]),
                     st.just({}),
                     st.lists(st.integers(0, 64), max_size=3), st.just(10**12), st.sampled_from(TEXTS[:-1]))
FILES = [("vit", "config.json"), ("vit", "model.safetensors"), ("den", "unet/config.json"), ("den", "fvit.json"),
         ("den", "unet/diffusion_pytorch_model.safetensors"), ("den", "scheduler/scheduler_config.json")]
X = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def used(kind, folder):
    """What the model in `folder` says of an image; whatever was damaged, it says numbers or refuses."""
    if kind == "vit":
        vit = outcome(fvit.load_vit, folder, refusals=SOURCES)
        return vit if vit is REFUSED or vit.image_size != (16, 16) else outcome(fvit.explain, vit, X, "raw_attention")
    den = outcome(fvit.load_denoiser, folder, refusals=SOURCES)
    return den if den is REFUSED else outcome(den, X, 0.25)


@inputs(12)
@given(st.sampled_from(FILES), damage())
def test_damaged_models(models, tmp_path_factory, file, damaged):
    kind, name = file
    folder = copied(models / kind, tmp_path_factory.mktemp("damaged"))
    data = damaged((folder / name).read_bytes())
    (folder / name).write_bytes(data)
    answer = used(kind, folder)
    assert answer is REFUSED or name.endswith("safetensors") or not has_nan(answer)  # weights may well hold NaN


@inputs(15)
@given(st.sampled_from([file for file in FILES if file[1].endswith("json")]), ODD_JSON, st.data())
def test_odd_settings_of_models(models, tmp_path_factory, file, value, data):
    kind, name = file
    folder = copied(models / kind, tmp_path_factory.mktemp("odd"))
    settings = json.loads((folder / name).read_text())
    inside = data.draw(st.sampled_from([settings, *(v for v in settings.values() if isinstance(v, dict) and v)]))
    inside[data.draw(st.sampled_from(sorted(inside)))] = value
    (folder / name).write_text(json.dumps(settings))
    answer = used(kind, folder)
    assert answer is REFUSED or not has_nan(answer)


ROW = {"run_id": "r", "profile": "laptop", "dataset": "scenes", "image_id": "test-0-1", "n_samples": 3, "metric": "iou",
       "value": 0.25, "eps": 8 / 255}


def tables(folder):
    """Every table that is read again, whole: path and what reads it."""
    rows.save_rows([ROW, ROW | {"image_id": "007"}], folder / "rows.parquet")
    fvit.claim("P1.1", 0.1, "<", 0.5, text="it is small", source="ours")
    fvit.claim("P1.2", 0.1, "<", 0.5, text='with "marks", and\nlines', source="ours")
    ledger = paths.results_dir("laptop") / "claims.csv"
    words = dict(title="a", caption="b", alt="c", source="ours")

    def save(_=None):
        return fvit.save_figure(plt.figure(figsize=(0.2, 0.2)), "F06", pd.DataFrame({"x": [1]}), name="good", **words)

    sidecar = save().with_suffix(".json")
    return [(folder / "rows.parquet", rows.load_rows),
            (ledger, lambda p: fvit.claim("P1.3", 0.1, "<", 0.5, text="new", source="ours")),
            (paths.output_root() / "figures" / "MANIFEST.csv", save), (sidecar, lambda p: fvit.show_figure("F06"))]


@inputs(12)
@given(st.integers(0, 3), damage())
@example(1, lambda data: data + b"P9,laptop\n")  # a short line
@example(1, lambda data: data.replace(b"claim", b"Claim", 1))
@example(1, lambda data: data + b'"' + b"x" * 200_000 + b'"\n')  # beyond the field limit of Python's csv
def test_damaged_tables(tmp_path_factory, which, damaged):
    folder = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FVIT_OUT", str(folder / "out"))
        path, read = tables(folder)[which]
        before = damaged(path.read_bytes())
        path.write_bytes(before)
        answer = outcome(read, path, refusals=SOURCES)
    plt.close("all")
    assert answer is not REFUSED or path.read_bytes() == before, "refused, and changed all the same"
    assert not list(folder.rglob("*.tmp")) and not list(folder.rglob("*.lock"))


@inputs(6)
@given(st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=30),
       st.floats(allow_nan=False, allow_infinity=False))
def test_what_a_claim_says_is_read_again(tmp_path_factory, claim_id, text, value):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FVIT_OUT", str(tmp_path_factory.mktemp("claims")))
        for number in (value, 0.5):  # twice: the first is read and written again
            answer = outcome(fvit.claim, claim_id, number, "<=", sys.float_info.max, text=text, source="ours")
            outcome(fvit.claim, "P2.10", 0.1, "<", 0.5, text="another", source="ours")
        table = pd.read_csv(paths.results_dir("laptop") / "claims.csv", keep_default_na=False, dtype=str,
                            lineterminator="\n",
                            encoding="utf-8")
    assert answer is REFUSED or (claim_id, text) in set(zip(table.claim, table.text, strict=True))


CELL = "profile: str = 'laptop'\nn: int = 3  # draws\nsigma: float = 0.25\nnames: list = ['a']\n"
LITERALS = st.one_of(st.sampled_from([*TEXTS[:-1], "3", "0.5", "[1]", "{'a': 1}", "1_0", "None", "True", "1e999",
                                      "-1", "__import__('os')",
                                      "(" * 500, "[" * 99999, "9" * 5000, "'" * 3]), st.text(max_size=6))


@inputs(20)
@given(st.sampled_from("profile n sigma names other".split()), LITERALS)
def test_values_on_the_command_line(name, text):
    """A value has the type that the notebook states, or the run does not start; nothing is evaluated but literals."""
    with pytest.MonkeyPatch.context() as patch:
        known = {"n": ("int", "3"), "sigma": ("float", "0.25"), "names": ("list", "['a']"), "s": ("str", "''")}
        patch.setattr(plan, "select", lambda names: [paths.NOTEBOOKS / "00_x.ipynb"])
        patch.setattr(plan, "known_parameters", lambda path: known)
        patch.setattr(form, "check_whole", lambda path: None)
        planned = outcome(plan.plan, ["00"], "laptop", {name: text})
        said = outcome(plan.plan, ["00"], "laptop", {"s": text})
    assert said[0][1] == {"s": said[0][1]["s"]} and isinstance(said[0][1]["s"], str)
    if planned is not REFUSED:
        value = planned[0][1][name]
        assert type(value).__name__ == known[name][0] and not has_nan(value)


@inputs(8)
@given(st.lists(st.sampled_from([*TEXTS[:-1], "run", "00", "all", "--profile", "laptop", "-p", "n=1", "--out",
                                 "--shard", "1/2", "2/1",
                                 "--jobs", "0", "--cell-timeout", "-1", "refresh", "9" * 5000]), max_size=5))
@example(["run", ""])
@example(["run", "00", "--out", ""])
@example(["run", "00", "--out", "a\0b"])
@example(["run", "00", "--shard", "9" * 5000 + "/1"])
def test_command_lines(arguments):
    """Exit code 0, 1 or 2 and a line for the reader, whatever is typed."""
    started = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_execute", lambda source, *_: started.append(source) or nbformat.v4.new_notebook())
        patch.setattr(runner, "write_atomic", lambda *_: None)
        patch.setattr(sys, "stderr", io.StringIO())
        patch.setattr(sys, "stdout", io.StringIO())
        try:
            code = cli.main(["run", *arguments] if arguments and arguments[0] not in ("run", "refresh") else arguments)
        except SystemExit as exit:  # argparse's own
            code = exit.code
    assert code in (0, 1, 2) and (code == 0) <= all(arguments), (code, arguments)
    assert not paths.ROOT.joinpath("a").exists()


NOTEBOOK = nbformat.writes(nbformat.v4.new_notebook(
    cells=[nbformat.v4.new_code_cell(CELL, metadata={"tags": ["parameters"]})],
    metadata={"kernelspec": KERNEL, "language_info": {"name": "python"}})).encode()


@inputs(6)
@given(damage())
@example(lambda data: b"")
@example(lambda data: b"[]")
@example(lambda data: data.replace(b'"kernelspec"', b'"k"'))
@example(lambda data: data.replace(b"0.25", b"__import__('os')"))
@example(lambda data: b"[" * 99999)
def test_damaged_notebooks(tmp_path_factory, damaged):
    path = tmp_path_factory.mktemp("notebooks") / "00_{odd} é.ipynb"
    path.write_bytes(damaged(NOTEBOOK))
    known = outcome(plan.known_parameters, path)
    assert known is REFUSED or all(isinstance(text, str) for pair in known.values() for text in pair)


def test_refusals_are_told_from_others_errors():
    """What `outcome` rests on: our words are ours, those of a library are not."""
    ragged = [[1], [1, 2]]
    for call, ours in (
        (lambda: fvit.profile("x"), True), (lambda: int("x"), False), (lambda: np.array(ragged), False)
    ):
        with pytest.raises(ValueError) as info:
            call()
        assert is_ours(info.value) is ours
