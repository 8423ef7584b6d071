"""The paper's setting in small: notebooks 03 and 09 to 14 on data sets, a ViT and a prior that are given by name."""

import os
import pickle
import random
import shutil
import signal

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from experiments import paper
from fixtures import dataset_files

import fvit
from fvit.base import timing
from fvit.experiments.attack_rows import attack_rows
from fvit.models.denoiser import compiled
from fvit.records import profiles
from fvit.records.rows import load_rows
from fvit.report import captions

VIT = {"source": "vit_tiny_patch16_224", "pretrained": False}
FEW = {"n_images": 2, "n_samples": 2, "attack_steps": 1, "attack_draws": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A prior, ImageNet-Segmentation with three images, and class folders with six of ImageNet's classes."""
    folder = tmp_path_factory.mktemp("paper")
    (folder / "imagenet-seg").mkdir()
    dataset_files.gtsegs(folder / "imagenet-seg" / "gtsegs_ijcv.mat")
    dataset_files.class_folders(folder / "imagenet", ["n01440764", "n01443537", "n02123045"], size=(20, 30))
    return folder


@pytest.fixture(scope="module")
def den(folder):
    return paper.prior(folder / "adm.pt", 16)


@pytest.fixture(scope="module")
def vit(folder):
    return paper.small_vit(folder / "vit")


@pytest.fixture(autouse=True)
def out(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("FVIT_OUT", str(tmp_path))
    monkeypatch.setenv("FVIT_DATA", str(folder))
    monkeypatch.setattr(profiles, "current", None)
    return tmp_path


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """Figure id -> its caption; pictures are looked at elsewhere, and take the longest."""
    found = {}

    def save(fig, number, df, *, caption, alt, **_):
        assert len(df) and alt and not plt.close(fig)
        found[number] = caption

    monkeypatch.setattr(captions, "save_figure", save)
    monkeypatch.setattr(captions, "show_figure", lambda number: found[number])
    return found


def claims(out):
    assert [path.parent.name for path in out.rglob("claims.csv")] == ["paper"]
    return set(pd.read_csv(out / "results" / "paper" / "claims.csv").claim)


def test_03_takes_them_from_its_section_4_on(out, vit, den, drawn):
    names = paper.execute("03", profile="paper", vit=repr(vit), den=repr(den), n_images=2, n_samples=2)
    assert names["image"].name == "imagenet" and len(names["image"]) == 1 and names["cfg"].k == 2
    assert claims(out) == {f"{kind}.{n}" for kind, most in {"M5": 4, "O3": 3}.items() for n in range(1, most + 1)}
    assert "2 test scenes; bars" in drawn["F03b"] and drawn["F03d"].startswith("2 of 2 draws at sigma 0.25: noisy")


def test_12_takes_other_images_and_networks_in_all_its_sections(out, vit, den, drawn):
    names = paper.execute("12", profile="paper", vit=repr(vit), den=repr(den), data="imagenet", **FEW)
    rows = load_rows(out / "results" / "paper" / "12_overlap.parquet")
    assert set(rows.dataset) == {"imagenet"} and set(rows.model) == {"vit"} and names["cfg"].k == 2
    met = rows.groupby(["defence", "aim", "made_on", "metric"]).image_id.nunique()
    assert met.eq(2).all() and met.groupby("defence").size().to_dict() == {
        "none": 3, "constant_map": 3, "blur": 4, "denoise_only": 4, "noise_only": 4, "dds": 4}
    assert len(names["training"]) == 4 and not set(names["training"].ids) & set(names["images"].ids)
    halves, between = (load_rows(out / f"results/paper/12_{name}.parquet") for name in ("halves", "defences"))
    assert set(halves.defence) == {"none", "denoise_only", "noise_only", "dds"}
    assert set(between.defence) == {"none", "dds"}
    assert claims(out) == {*(f"P5.{n}" for n in range(1, 6)), *(f"P7.{n}" for n in range(1, 6))}
    assert "over 2 images of imagenet, a free explanation attack of linf 8/255" in drawn["F12a"]
    assert drawn["F12a"].endswith("intervals over images.")
    assert "paper rows, free explanation attacks, 2 images of imagenet" in drawn["F12b"]
    assert "paper rows: 2 images of imagenet" in drawn["F12c"]


def test_09_on_images_with_masks(out, vit, den, drawn):
    names = paper.execute("09", profile="paper", vit=repr(vit), den=repr(den), radii_255=[8], methods=["rollout"],
                          **FEW)
    rows = load_rows(out / "results" / "paper" / "09_scores.parquet")
    assert set(rows.dataset) == {"imagenet-seg"} and set(rows.model) == {"vit"} and names["cfg"].k == 2
    assert rows.image_id.nunique() == 2 and set(rows.method) == {"", "rollout", "raw_attention", "vta"}
    assert claims(out) >= {"P5.6", "P5.9", "P6.2", "R1.1"} and "R1.3" not in claims(out)  # lrp was not run
    assert list(drawn) == ["F09a", "F09b", "F09c", "F09d"]
    assert "paper rows: 2 images of imagenet-seg, 2 draws" in drawn["F09a"] and "intervals over images" in drawn["F09a"]


def test_09_on_images_without_masks_shows_stability_and_says_so(out, vit, den, drawn, capsys):
    names = paper.execute("09", profile="paper", vit=repr(vit), den=repr(den), data="imagenet", radii_255=[8],
                          methods=["rollout"], **FEW)
    said = capsys.readouterr().out
    assert said.count("images of imagenet: segmentation needs masks, and these images have none") == 1
    assert claims(out) >= {"R1.1", "R1.2", "P5.10"} and not claims(out) & {"P5.6", "P5.9", "P6.1", "P6.2", "M7.3"}
    assert list(drawn) == ["F09b", "F09c", "F09d"]
    assert repr(fvit.claim("P5.6", names["no_masks"], ">", 0, text="a gain", source="ours")) == (
        "NOT TESTED P5.6  a gain: segmentation needs masks, and these images have none")


def test_10_on_images_without_masks(out, vit, den, drawn):
    names = paper.execute("10", profile="paper", vit=repr(vit), den=repr(den), eps_255=[8], methods=["vta"], **FEW)
    assert names["images"].name == "imagenet" and len(names["shown"].photograph) == 2
    assert claims(out) >= {"M8.1", "P5.18", "P6.10"} and not claims(out) & {"M8.2", "P4.1"}
    controls = load_rows(out / "results" / "paper" / "10_controls.parquet")
    assert set(controls.method) == {"", "random_order", "uniform_map"}
    assert drawn["F10a"].startswith("A picture of ") and "Share of images still right" in drawn["F10b"]


def test_11_makes_its_own_predictions_where_none_are_on_record_and_says_that_areas_lack(out, vit, den, drawn, capsys):
    names = paper.execute("11", profile="paper", vit=repr(vit), den=repr(den), eps_255=[8], **FEW)
    rows = load_rows(out / "results" / "paper" / "11_predictions.parquet")
    assert set(rows.dataset) == {"imagenet"} and set(rows.defence) == {"none", "dds", "denoise_only"}
    assert claims(out) == {f"P4.{n}" for n in range(1, 8)} and list(drawn) == ["F11a"]
    assert names["shown"].rows is names["few_rows"] and "run it first" in capsys.readouterr().out


def test_13_runs_without_the_times_of_14(out, vit, den, monkeypatch):
    monkeypatch.setattr(timing, "take_turns", lambda calls, *_, **__: pd.DataFrame([dict.fromkeys(calls, 1.0)]))
    names = paper.execute("13", profile="paper", vit=repr(vit), den=repr(den), draws=[1, 3], sizes=[1, 400],
                          sigmas=[0.1], steps_tried=[2], **FEW)
    assert claims(out) == {f"A9.{n}" for n in (1, 2, 3, 4, 5, 6, 8)}
    rows = load_rows(out / "results/paper/13_ablations.parquet")
    assert set(rows.dataset) == {"imagenet"} and set(rows.k.dropna()) == {1, 2} and names["cfg"].k == 2
    assert set(rows.variant) == {"sigma", "n_samples", "k", "calls", "steps", "draws", "restarts"}
    assert load_rows(out / "results/paper/13_plateau.parquet").image_id.nunique() == 2
    assert names["when"] == "in this run" and names["seconds"].eq(0.5).all()  # of two images in one second


def test_14_runs(out, vit, den, monkeypatch, capsys):
    load = fvit.load_vit
    monkeypatch.setattr(fvit, "load_vit", lambda name, **o: load(name.replace("base", "tiny"), **o), raising=False)
    monkeypatch.setattr(timing, "take_turns", lambda calls, *_, **__: pd.DataFrame([dict.fromkeys(calls, 1.0)]))
    names = paper.execute("14", profile="paper", vit=repr(vit), den=repr(den), draws=[1, 3], loop_draws=32,
                          vit_b_batch=1, n_images=2)
    assert claims(out) == {"A9.7", "A9.9"} | {f"R2.{n}" for n in range(1, 9)}
    assert names["when"].endswith(", 5 rounds") and load_rows(out / "results/paper/14_cost.parquet").value.eq(1).any()
    assert "torch.compile: ResizedDenoiser has no network of its own to compile" in capsys.readouterr().out


# Killed and run again ------------------------------------------------------------------------------------------------

def in_a_child(work, out, killed_at=None):
    """Blocks of one image in a fork of this process, which ends with SIGKILL at its call number `killed_at` of the ViT.

    Returns whether it was killed, and its calls of the ViT.
    """
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            torch.set_num_threads(1)  # the other threads did not come along
            os.environ["FVIT_OUT"] = str(out)
            left = [None] * (killed_at or 10**6)

            def call(*_):
                os.write(sender, b".")
                left.pop()
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)

            work.on.networks[0].register_forward_hook(call)
            work.rows()
            code = 0
        finally:
            os._exit(code)
    os.close(sender)
    with open(receiver, "rb") as pipe:
        calls = len(pipe.read())
    status = os.waitpid(pid, 0)[1]
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.WIFSIGNALED(status), calls


def test_killed_at_three_random_moments_and_run_again_the_rows_are_the_same(tmp_path, vit, den):
    """Each process makes the random ViT and prior anew, and they are the same."""
    n = 4
    on = fvit.experiment("09", "paper", vit, den, k=2, precision="float32", **FEW | {"n_images": n})
    work = on.run("09_scores", attack_rows, block=1, methods=["vta"], attacks=[["explanation", "dds"]],
                  radii=[8 / 255], measures=["stability"])
    killed, whole = in_a_child(work, tmp_path / "calm")
    assert not killed and whole % n == 0
    seed, done = random.randrange(10**6), 0
    draws = random.Random(seed)
    for _ in range(3):
        moment = draws.randint(1, whole - done * whole // n)
        assert in_a_child(work, tmp_path / "killed", moment) == (True, moment), seed
        done = len(list((tmp_path / "killed").rglob("blocks/*.parquet")))
        if done == n:
            break
    assert in_a_child(work, tmp_path / "killed") == (False, (n - done) * whole // n), seed
    calm, again = ({path.name: path.read_bytes() for path in sorted((tmp_path / name).rglob("*.parquet"))}
                   for name in ("calm", "killed"))
    assert calm == again and len(calm) == n + 1, seed
    rows = load_rows(tmp_path / "killed/results/paper/09_scores.parquet")
    keys = [name for name in rows if name not in ("value", "ci_low", "ci_high")]
    assert rows.image_id.nunique() == n and not rows.duplicated(keys).any()


# What is named and loaded --------------------------------------------------------------------------------------------

def test_random_networks_are_the_same_in_every_process_and_leave_the_callers_stream(den):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, two = fvit.load_vit(**VIT), fvit.load_vit(**VIT)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    for other in (two, fvit.load_vit(**VIT)):
        pairs = list(zip(one.parameters(), other.parameters(), strict=True))
        assert all(torch.equal(p, q) for p, q in pairs) and any(p.std() > 0 for p, _ in pairs)


def test_a_prior_of_another_size_is_behind_the_bridge_and_images_have_the_size_of_the_vit(vit, den):
    on = fvit.experiment("03", "paper", vit, den)
    _, bridge = on.networks
    assert (bridge.size, bridge.before) == ((16, 16), (32, 32)) and on.networks[1] is bridge
    assert on.images(2).x.shape == (2, 3, 32, 32) and on.images(1, start=1).ids == on.images(2).ids[1:]
    larger = fvit.experiment("03", "paper", vit, den, {"source": "imagenet", "size": 40})
    assert larger.images(1).x.shape[2:] == (40, 40)
    x = on.images(1).x
    at_prior = fvit.experiment("03", "paper", vit, den | {"noise_at": "prior"})
    assert at_prior.networks[0].image_size == (16, 16) and at_prior.images(1).x.shape[2:] == (16, 16)
    assert bridge.alphas_cumprod is bridge.den.alphas_cumprod
    assert bridge.network(2 * x - 1, torch.tensor([5])).sample.shape == (1, 6, 32, 32)
    assert pickle.loads(pickle.dumps(on)) == on


def test_paper_has_what_was_published_and_takes_anything_else(vit, den, capsys):
    on = fvit.experiment("09", "paper", repr(vit), repr(den), published="imagenet-seg")
    assert on.names["vit"] == vit and on.dataset == "imagenet-seg" and on.has_masks and on.sizes.k == 2
    on = fvit.experiment("10", "paper", vit, den, n_images=4)
    assert on.sizes.k == 2 and not on.has_masks and on.unit == "images"
    assert on.count(5, "abcde") == "5 images of imagenet" and on.clusters("ab") == "over images"
    assert on.clusters(["a", "a"]) == "clustered by group of images" and on.validation(2).ids == on.images(2).ids
    assert on.unseen(9).ids == on.unseen(9, after=4).ids == on.images(6).ids[4:]
    assert on.unseen(4, after=6).ids == on.images(4).ids
    assert capsys.readouterr().out.startswith("all 6 images are evaluated: a constant map is the mean over 4 of them")
    assert fvit.experiment("10", "paper", VIT, den).sizes.k == 49  # 196 tokens, as ViT-B/16 has
    assert fvit.experiment("10", "paper", vit, den, k=7).sizes.k == 7


def test_whether_there_are_masks_does_not_hang_on_one_broken_image(tmp_path, vit, den):
    dataset_files.class_folders(tmp_path / "some", ["a", "b"])
    on = fvit.experiment("09", "paper", vit, den, str(tmp_path / "some"))
    first = tmp_path / "some" / on.images(1).ids[0]
    first.write_bytes(first.read_bytes()[:40])
    with pytest.warns(UserWarning, match=f"skipped {first.parent.name}/{first.name} of some"):
        assert not on.has_masks
    assert on.kind() == "images of some"


def test_a_compiled_denoiser_shares_its_weights_and_without_a_compiler_says_so(monkeypatch, capsys):
    den = fvit.load_denoiser("scenes")
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/g++" if name == "g++" else None)
    faster = compiled(den)
    assert faster.network is not den.network and faster.timestep(0.25) == den.timestep(0.25)
    assert {p.data_ptr() for p in faster.parameters()} == {p.data_ptr() for p in den.parameters()}
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert compiled(den) is None
    assert capsys.readouterr().out == "torch.compile: no C++ compiler on this machine; install g++, or leave it\n"
