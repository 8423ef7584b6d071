"""ADM checkpoints in diffusers: against the network written from its formulas, the original's outputs, its shapes."""

import json
import os
import pickle
import re

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, UNet2DModel
from fixtures.hostile import Hostile
from oracles import golden
from oracles.adm import Weights, adm

from fvit import cli
from fvit.models.adm import convert_adm, load_adm, sources, to_unet
from fvit.models.adm_settings import PUBLISHED, complete, schedule_config, unet_config
from fvit.models.diffusers_files import load_denoiser
from fvit.models.schedule import linear_alphas_cumprod

SMALL = dict(image_size=16, num_channels=32, channel_mult=[1, 2], num_res_blocks=1, attention_resolutions=[8],
             num_head_channels=16)
DRAWS = torch.Generator().manual_seed(0)
X = torch.randn(5, 3, 16, 16, generator=DRAWS)
T = torch.tensor([0, 1, 45, 700, 999])


def made(**changes):
    """Settings, a random state dict with them, and the oracle's answer to X, T."""
    settings = {**SMALL, **changes}
    weights = Weights()
    return settings, weights, adm(weights, X, T, **settings)


def saved(path, state, **changes):
    torch.save(dict(state), path, **changes)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A checkpoint's path, its settings and state dict."""
    settings, weights, _ = made()
    return saved(tmp_path_factory.mktemp("adm") / "small.pt", weights), settings, dict(weights)


# The same function ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("changes", [
    dict(),
    dict(num_res_blocks=2, learn_sigma=False),
    dict(channel_mult=[1, 1, 2, 2], attention_resolutions=[8, 2], num_head_channels=8),
    dict(channel_mult=[1, 3, 2], attention_resolutions=[16], num_head_channels=32),  # attention at the top
    dict(channel_mult=[1], attention_resolutions=[16], num_head_channels=8),
    dict(attention_resolutions=[3]),  # no level: only the middle attends
    dict(channel_mult=[1, 2, 2], attention_resolutions=[8, 4], num_heads=4, num_head_channels=-1),
    dict(attention_resolutions=[16, 8], num_heads=1, num_head_channels=-1),  # heads of 32 and of 64 channels
    dict(attention_resolutions=[16, 8], num_heads=5),  # channels win over heads
    dict(attention_resolutions=[16, 8], use_new_attention_order=True),
    dict(use_scale_shift_norm=False),
    dict(resblock_updown=False, attention_resolutions=[16], num_head_channels=32),
    dict(resblock_updown=False, use_scale_shift_norm=False, channel_mult=[1, 2, 1], num_res_blocks=2),
    dict(image_size=64, attention_resolutions=[32]),  # X is smaller than the model's own images
], ids=lambda changes: " ".join(f"{k}={v}" for k, v in changes.items()) or "as published")
def test_the_unet_is_adm(changes):
    settings, weights, expected = made(**changes)
    unet = to_unet(weights, complete(settings)).double()
    with torch.no_grad():
        torch.testing.assert_close(unet(X.double(), T).sample, expected, rtol=0, atol=1e-10)
    assert weights.asked == {name for name, _ in sources(unet).values()} and expected.std() > 0.1


def test_the_answer_depends_on_all_that_the_file_does_not_say():
    """Heads, order and time: settings that fit the same tensors give another function, so the test above can fail."""
    settings, weights, expected = made()
    for changes in (dict(num_head_channels=32), dict(use_new_attention_order=True)):
        unet = to_unet(weights, complete({**settings, **changes})).double()
        with torch.no_grad():
            assert (unet(X.double(), T).sample - expected).abs().max() > 1e-3
    assert (expected[0] - adm(weights, X[:1], T[1:2], **settings)[0]).abs().max() > 1e-3


def test_golden_outputs():
    path, settings, io = golden.adm()
    unet, schedule = load_adm(path, settings)
    with torch.no_grad():
        torch.testing.assert_close(unet(io["x"], io["t"]).sample, io["y"], rtol=0, atol=1e-5)
        double = unet.double()(io["x"].double(), io["t"]).sample
    torch.testing.assert_close(double, io["y"].double(), rtol=0, atol=5e-6)  # what is left is the original's rounding
    assert schedule["variance_type"] == "learned_range"


def test_the_oracle_agrees_with_the_original():
    path, settings, io = golden.adm()
    weights = Weights(torch.load(path, weights_only=True))
    known = {name: settings[name] for name in settings if name not in ("seed", "class_cond")}
    known["attention_resolutions"] = [int(side) for side in settings["attention_resolutions"].split(",")]
    torch.testing.assert_close(adm(weights, io["x"], io["t"], **known), io["y"].double(), rtol=0, atol=5e-6)
    assert weights.asked == set(weights)


def test_the_published_model_maps_one_to_one():
    """On the meta device: 552.8 M parameters by name and shape, none left over, in neither direction."""
    shapes = golden.adm_shapes()
    before = torch.get_rng_state()
    unet = to_unet({name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, complete())
    assert torch.equal(torch.get_rng_state(), before)
    wanted = sources(unet)
    assert set(wanted) == set(unet.state_dict())
    assert list(dict(wanted.values()).items()) == list(shapes.items())
    assert sum(p.numel() for p in unet.parameters()) == sum(map(np.prod, shapes.values())) == 552_814_086


# As a denoiser ----------------------------------------------------------------------------------------------------
def test_load_denoiser(small, tmp_path):
    path, settings, state = small
    den = load_denoiser(path, config=settings)
    assert isinstance(den.network, UNet2DModel) and den.learned_variance and den.prediction_type == "epsilon"
    assert not den.training and not any(p.requires_grad or p.dtype != torch.float32 for p in den.parameters())
    np.testing.assert_array_equal(den.alphas_cumprod, linear_alphas_cumprod())
    (tmp_path / "settings.json").write_text(json.dumps({**settings, "use_fp16": True, "dropout": 0.1, "seed": 0}))
    again = load_denoiser(str(path), config=tmp_path / "settings.json")
    x, sigma = 0.5 + 0.2 * X[:2], 0.25
    assert torch.equal(again(x, sigma), den(x, sigma))

    # x_hat = u - sigma_t * eps in [-1, 1] units, by the oracle and by hand
    t = den.timestep(sigma)
    ac = linear_alphas_cumprod()[t]
    u = 2 * x.double() - 1
    answer = adm(Weights(state), ac**0.5 * u, torch.tensor([t, t]), **settings)
    expected = ((u - ((1 - ac) / ac) ** 0.5 * answer[:, :3] + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(den(x, sigma).double(), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(den.double()(x.double(), sigma), expected, rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match=r"wanted multiples of 2; resize"):
        den(X[:, :, :15].double(), sigma)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision_on_disk_is_single_in_memory(small, tmp_path, dtype):
    _, settings, state = small
    stored = {name: value.to(dtype) for name, value in state.items()}
    unet, _ = load_adm(saved(tmp_path / "half.pt", stored), settings)
    expected = to_unet({name: value.float() for name, value in stored.items()}, complete(settings))
    assert all(p.dtype == torch.float32 for p in unet.parameters())
    assert all(torch.equal(a, b) for a, b in zip(unet.parameters(), expected.parameters(), strict=True))


# As a folder ------------------------------------------------------------------------------------------------------
def test_convert_keeps_the_bits(small, tmp_path, capsys):
    path, settings, _ = small
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    out = tmp_path / "new" / "folder"
    assert cli.main(["convert-adm", str(path), str(out), "--config", str(tmp_path / "settings.json")]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert os.listdir(out.parent) == ["folder"], "nothing temporary is left"
    assert (out / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert (out / "scheduler" / "scheduler_config.json").is_file() and not list(out.rglob("*.bin"))

    den, direct = load_denoiser(out), load_denoiser(path, config=settings)
    a, b = den.network.state_dict(), direct.network.state_dict()
    assert list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)
    np.testing.assert_array_equal(den.alphas_cumprod, direct.alphas_cumprod)
    torch.testing.assert_close(den(X, 0.25), direct(X, 0.25), rtol=0, atol=1e-5)  # equal weights, laid out apart
    assert den.learned_variance and den.multiple == direct.multiple
    pipeline = DDPMPipeline.from_pretrained(out, low_cpu_mem_usage=False)  # diffusers alone reads it, and samples
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(0)).images
    assert images.shape == (1, 16, 16, 3) and np.isfinite(images).all()


def test_convert_writes_all_or_nothing(small, tmp_path, monkeypatch, capsys):
    path, settings, _ = small
    out = tmp_path / "out"

    def halfway(self, folder, **_):
        os.makedirs(folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(DDPMPipeline, "save_pretrained", halfway)
        with pytest.raises(KeyboardInterrupt):
            convert_adm(path, out, settings)
    assert os.listdir(tmp_path) == []
    out.mkdir()
    assert cli.main(["convert-adm", str(path), str(out)]) == 2
    assert "is there already, wanted a new folder; remove it or name another" in capsys.readouterr().err
    assert cli.main(["convert-adm", str(path), str(tmp_path / "b"), "--config", str(tmp_path / "none.json")]) == 1
    assert "no none.json at" in capsys.readouterr().err
    assert cli.main(["convert-adm", str(path), str(tmp_path / "b")]) == 2
    assert "time_embed.0.weight is of shape (128, 32), wanted shape (1024, 256)" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["out"] and os.listdir(out) == []


# improved-diffusion -----------------------------------------------------------------------------------------------
WORDS = dict(image_size=32, num_channels=32, num_res_blocks=3, learn_sigma=True, dropout=0.3, diffusion_steps=4000,
             noise_schedule="cosine")  # of its CIFAR-10 model, but for the width
MEANT = dict(image_size=32, num_channels=32, num_res_blocks=3, channel_mult=[1, 2, 2, 2], attention_resolutions=[16, 8],
             num_heads=4, resblock_updown=False)


@pytest.mark.parametrize("told, words, new_order", [
    (0.25, {}, False),
    (0.25, {"rescale_timesteps": True, "num_heads": 4, "use_scale_shift_norm": True}, False),
    (1, {"rescale_timesteps": False}, False),
    (0.25, {"use_new_attention_order": True, "rescale_timesteps": True}, True),
])
def test_the_prior_of_cifar10(tmp_path, told, words, new_order):
    """4,000 cosine steps; its network is told t * 1000 / 4000 unless the config says otherwise."""
    weights, sigma, x = Weights(), 0.25, torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    adm(weights, x, torch.tensor([0, 1]), **MEANT)
    path = saved(tmp_path / "cifar10_uncond.pt", weights)
    den = load_denoiser(path, config={**WORDS, **words})

    f = np.cos((np.arange(4001) / 4000 + 0.008) / 1.008 * np.pi / 2) ** 2  # Nichol and Dhariwal 2021
    ac = np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], 0.999))
    np.testing.assert_allclose(den.alphas_cumprod, ac, rtol=1e-10)
    t = int(np.abs(np.log((1 - ac) / ac) / 2 - np.log(2 * sigma)).argmin())
    assert den.timestep(sigma) == t > 1000 and den.learned_variance

    u = 2 * x.double() - 1
    times = torch.full((2,), told * t, dtype=torch.float64)
    answer = adm(weights, ac[t] ** 0.5 * u, times, **MEANT, use_new_attention_order=new_order)
    wanted = ((u - ((1 - ac[t]) / ac[t]) ** 0.5 * answer[:, :3] + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(den(x, sigma).double(), wanted, rtol=0, atol=1e-4)
    assert told == 1 or (adm(weights, ac[t] ** 0.5 * u, times * 4, **MEANT) - answer).abs().max() > 1e-3

    out = convert_adm(path, tmp_path / "folder", {**WORDS, **words})
    torch.testing.assert_close(load_denoiser(out)(x, sigma), den(x, sigma), rtol=0, atol=1e-4)
    assert (out / "fvit.json").exists() == (told != 1)


def test_rescaling_that_is_left_out_among_words_of_guided_diffusion_is_said(tmp_path):
    settings, weights, _ = made(resblock_updown=False)
    path = saved(tmp_path / "mine.pt", weights)
    with pytest.warns(UserWarning, match=r"=4000 and no rescale_timesteps .*guided-diffusion means False"):
        den = load_denoiser(path, config={**settings, "diffusion_steps": 4000})
    told = []
    den.network.unet.time_proj.register_forward_hook(lambda module, args, _: told.append(args[0].tolist()))
    den.network(X[:1], torch.tensor([10]))
    assert told == [[2.5]]


# Files that will not do -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("changes", "name", "got", "wanted"), [
    (dict(num_channels=64), "time_embed.0.weight", "of shape (128, 32)", "shape (256, 64)"),
    (dict(learn_sigma=False), "out.2.weight", "of shape (6, 32, 3, 3)", "shape (3, 32, 3, 3)"),
    (dict(use_scale_shift_norm=False), "input_blocks.1.0.emb_layers.1.weight", "of shape (64, 128)", "shape (32, 128)"),
    (dict(attention_resolutions=[16, 8]), "input_blocks.1.1.norm.weight", "absent", "shape (32,)"),
    (dict(attention_resolutions=[3]), "output_blocks.1.1.in_layers.0.weight", "absent", "shape (64,)"),
    (dict(num_res_blocks=2), "input_blocks.3.0.in_layers.2.weight", "of shape (64, 32, 3, 3)", "shape (32, 32, 3, 3)"),
    (dict(channel_mult=[1, 3]), "input_blocks.3.0.in_layers.2.weight", "of shape (64, 32, 3, 3)",
     "shape (96, 32, 3, 3)"),
    (dict(resblock_updown=False), "input_blocks.2.0.op.weight", "absent", "shape (32, 32, 3, 3)"),
])
def test_the_first_mismatch_is_named(small, changes, name, got, wanted):
    path, settings, _ = small
    said = re.escape(f"small.pt: {name} is {got}, wanted {wanted} by the settings num_channels=")
    with pytest.raises(ValueError, match=said + ".*; give the file's own by config=, .*; if they are right, copy the"):
        load_adm(path, {**settings, **changes})


def test_one_wrong_tensor_is_named(small, tmp_path):
    _, settings, state = small
    name = "output_blocks.1.0.skip_connection.weight"
    for state_now, message in [
        ({k: v for k, v in state.items() if k != name}, rf"{name} is absent, wanted shape \(64, 96, 1, 1\)"),
        ({**state, name: state[name].mT[:1]}, rf"{name} is of shape \(1, 96, 1, 1\), wanted shape \(64, 96, 1, 1\)"),
        ({**state, "ema.step": torch.ones(1)}, r"ema\.step is of shape \(1,\), wanted no such tensor"),
        ({**state, "label_emb.weight": torch.ones(1000, 128)}, r"is class-conditional .*choose an unconditional model"),
    ]:
        with pytest.raises(ValueError, match=message):
            load_denoiser(saved(tmp_path / "wrong.pt", state_now), config=settings)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused(small, tmp_path, zipped):
    _, settings, state = small
    made_by_it = tmp_path / "made_by_the_pickle"
    state = {**state, "extra": Hostile(made_by_it)}
    path = saved(tmp_path / "hostile.pt", state, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"hostile\.pt is refused and nothing in it was run: .*its publisher") as info:
        load_denoiser(path, config=settings)
    assert not made_by_it.exists()
    assert "io.open" in str(info.value)
    assert "weights_only" not in str(info.value) and info.value.__suppress_context__, "torch advises to load it anyway"
    pickle.loads(pickle.dumps(Hostile(made_by_it)))
    assert made_by_it.exists(), "it was not hostile at all"


def test_broken_files(small, tmp_path):
    path, settings, state = small
    whole, old = path.read_bytes(), saved(tmp_path / "old.pt", state, _use_new_zipfile_serialization=False).read_bytes()
    assert load_adm(tmp_path / "old.pt", settings)
    broken = tmp_path / "broken.pt"
    for content in (b"", whole[:-100], whole[:5000], old[:-100], old[:50], b"<html>", pickle.dumps({}, protocol=2)):
        broken.write_bytes(content)
        with pytest.raises(OSError, match=r"broken\.pt is truncated or no checkpoint \(\w+\); copy the file again"):
            load_denoiser(broken, config=settings)
    for content, what in [([torch.ones(1)], "a list"), ({}, "a dict"), ({"step": 3, "w": torch.ones(1)}, "a dict of")]:
        torch.save(content, broken)
        with pytest.raises(ValueError, match=rf"broken\.pt holds {what}.*, wanted a state dict, tensors by name; save"):
            load_denoiser(broken, config=settings)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*256x256_diffusion_uncond\.pt of OpenAI's guided"):
        load_denoiser("256x256_diffusion_uncond.pt")


# Settings ---------------------------------------------------------------------------------------------------------
def test_settings():
    assert complete() == complete({}) == complete(PUBLISHED)
    assert complete()["channel_mult"] == (1, 1, 2, 2, 4, 4) and complete()["attention_resolutions"] == (32, 16, 8)
    assert complete(dict(image_size=64))["channel_mult"] == (1, 2, 3, 4)
    assert complete(dict(channel_mult="1,2"))["channel_mult"] == complete(dict(channel_mult=[1, 2]))["channel_mult"]
    assert complete(dict(attention_resolutions=8))["attention_resolutions"] == (8,)
    assert complete(dict(num_heads=2))["num_head_channels"] == -1, "heads alone mean heads, as in guided-diffusion"
    assert complete(dict(num_heads=2, num_head_channels=64))["num_head_channels"] == 64


def test_schedules():
    """Linear betas from 0.0001 to 0.02 over 1,000 steps, in proportion over others; squared cosines (Nichol 2021)."""
    config = schedule_config(complete(dict(diffusion_steps=4000)))
    assert (config["beta_start"], config["beta_end"]) == pytest.approx((2.5e-5, 5e-3))
    config = schedule_config(complete(dict(noise_schedule="cosine", predict_xstart=True, learn_sigma=False)))
    assert (config["prediction_type"], config["variance_type"]) == ("sample", "fixed_large")


def test_a_cosine_schedule(small):
    path, settings, _ = small
    den = load_denoiser(path, config={**settings, "noise_schedule": "cosine", "predict_xstart": True})
    level = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(den.alphas_cumprod[:-1], (level / level[0])[1:-1], rtol=2e-4)
    assert den.prediction_type == "sample"


@pytest.mark.parametrize(("changes", "message"), [
    (dict(num_chanels=64), r"unknown ADM setting 'num_chanels', known: .*; did you mean 'num_channels'\?"),
    (dict(num_channels="64"), r"num_channels='64' is str, wanted int"),
    (dict(learn_sigma=1), r"learn_sigma=1 is int, wanted bool"),
    (dict(num_res_blocks=0), r"num_res_blocks=0, wanted at least 1"),
    (dict(channel_mult="1,x"), r"channel_mult='1,x', wanted numbers such as '32,16,8'"),
    (dict(attention_resolutions=[0]), r"attention_resolutions=\[0\], wanted numbers above 0"),
    (dict(image_size=100), r"no channel_mult, .*customary at image_size=100 \(only at 32, 64, 128, 256, 512\)"),
    (dict(image_size=512), r"channel_mult begins with 0\.5, wanted 1: the time embedding .*choose another model"),
    (dict(num_channels=48), r"levels of \[48, 48, 96, 96, 192, 192\] channels, wanted multiples of 32"),
    (dict(num_heads=4), r"num_heads=4, num_head_channels=-1 with attention over \[512, 1024\] channels: .* one width"),
    (dict(num_head_channels=96), r"num_head_channels=96 with attention over \[512, 1024\]"),
    (dict(num_head_channels=0), r"num_head_channels=0 with"),
    (dict(num_heads=1, num_heads_upsample=2), r"num_heads_upsample=2 beside num_heads=1: .*choose another model"),
    (dict(class_cond=True), r"class_cond=True: a denoiser must not be told the class; choose an unconditional model"),
    (dict(noise_schedule="sqrt"), r"unknown noise_schedule 'sqrt', known: linear, cosine"),
])
def test_settings_that_do_not_do(changes, message):
    with pytest.raises(ValueError, match=message):
        unet_config(complete(changes))
