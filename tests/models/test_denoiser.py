"""Denoising where the answer is known: a Gaussian prior, diffusers' own arithmetic, folders read back bit by bit."""

import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    ScoreSdeVeScheduler,
    UNet2DModel,
)
from safetensors.torch import save_file

from fvit.base import paths
from fvit.models.denoiser import Denoiser, PixelUnshuffled
from fvit.models.diffusers_files import load_denoiser
from fvit.models.schedule import linear_alphas_cumprod, sigma_to_timestep, timestep_to_sigma

LINEAR = linear_alphas_cumprod()
MEAN, SPREAD = 0.45, 0.1  # the Gaussian prior of every pixel, in [0, 1] units
X = 0.5 + 0.1 * torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
ROUNDING = dict(rtol=0, atol=1e-5)  # of float32 through a UNet, answers of size 1: gradients may choose other kernels


def gaussian_network(prediction_type="epsilon", alphas_cumprod=LINEAR, told=None):
    """The best possible network where each pixel is N(MEAN, SPREAD^2): it answers with a conditional expectation."""
    mean, variance = 2 * MEAN - 1, (2 * SPREAD) ** 2  # in [-1, 1] units

    def network(x_t, t):
        if told is not None:
            told.append(t.tolist())
        ac = torch.as_tensor(alphas_cumprod)[t][:, None, None, None]
        surplus = (x_t - ac.sqrt() * mean) / (ac * variance + 1 - ac)
        noise, clean = (1 - ac).sqrt() * surplus, mean + ac.sqrt() * variance * surplus
        answers = dict(epsilon=noise, sample=clean, v_prediction=ac.sqrt() * noise - (1 - ac).sqrt() * clean)
        return SimpleNamespace(sample=answers[prediction_type])

    return network


def tiny_unet(channels=3, seed=0, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        blocks = dict(down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"))
        return UNet2DModel(
            sample_size=8,
            in_channels=channels,
            out_channels=channels,
            layers_per_block=1,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            **{**blocks, **changes},
        ).eval()


def save(unet, folder, unshuffle=None, unet_folder="unet", **schedule):
    unet.save_pretrained(folder / unet_folder)
    DDPMScheduler(**schedule).save_pretrained(folder / "scheduler")
    if unshuffle:
        (folder / "fvit.json").write_text(json.dumps({"pixel_unshuffle": unshuffle}))
    return folder


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("t", [0, 15, 120, 400])
def test_one_shot_is_the_posterior_mean(prediction_type, t):
    """For x ~ N(m, s^2) and x_noisy = x + sigma z: E[x | x_noisy] = m + s^2 / (s^2 + sigma^2) (x_noisy - m)."""
    sigma = timestep_to_sigma(t, LINEAR)
    posterior = MEAN + SPREAD**2 / (SPREAD**2 + sigma**2) * (X - MEAN)
    got = Denoiser(gaussian_network(prediction_type), LINEAR, prediction_type)(X, sigma)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, posterior, rtol=0, atol=1e-10)


def test_many_steps_follow_the_probability_flow():
    """du/ds = s (u - m) / (v + s^2) has the solution (u - m) / sqrt(v + s^2) = const: at s = 0 the noisy spread has
    shrunk to that of the prior. The chain is its Euler method: halving the step halves the error (our derivation)."""
    fine = linear_alphas_cumprod(8000, 1e-4 / 8, 0.02 / 8)
    sigma = timestep_to_sigma(sigma_to_timestep(0.25, fine), fine)
    exact = MEAN + SPREAD / math.hypot(SPREAD, sigma) * (X - MEAN)
    den = Denoiser(gaussian_network(alphas_cumprod=fine), fine)
    one, fifty, hundred, many = ((den(X, sigma, steps=n) - exact).abs().max().item() for n in (1, 50, 100, 800))
    assert 1.8 < fifty / hundred < 2.2
    assert many < 2e-4 < one / 100  # one shot answers another question: the mean, not the end of a path


def test_the_chain_by_hand():
    """ac = 4/5, 1/2, 1/5 have levels 1/2, 1, 2. A network that always says 'the noise is 0.1' takes 0.1 * 2 away."""
    told = []

    def network(x_t, t):
        told.append((t[0].item(), x_t[0, 0, 0, 0].item()))
        return SimpleNamespace(sample=torch.full_like(x_t, 0.1))

    den = Denoiser(network, [0.8, 0.5, 0.2])
    x_noisy = torch.full((1, 3, 2, 2), 0.6, dtype=torch.float64)
    torch.testing.assert_close(den(x_noisy, 1.0, steps=3), torch.full_like(x_noisy, 0.5))  # (0.2 - 2 * 0.1 + 1) / 2
    levels, scales = (2, 1, 0.5), (0.2**0.5, 0.5**0.5, 0.8**0.5)
    expected = [scale * 0.1 * level for scale, level in zip(scales, levels, strict=True)]  # x_t on its way to 0
    assert [t for t, _ in told] == [2, 1, 0] and [x for _, x in told] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("steps", "times"), [(1, [15]), (2, [15, 7]), (4, [15, 11, 7, 3]), (16, list(range(15, -1, -1)))]
)
def test_timesteps_are_evenly_spaced_from_sigma_down(steps, times):
    told = []
    Denoiser(gaussian_network(told=told), LINEAR)(X, 8 / 255, steps=steps)
    assert told == [[t, t] for t in times]


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("sigma", [8 / 255, 0.1, 0.25, 0.5])
def test_agrees_with_diffusers(prediction_type, sigma):
    """The closed form is DDPMScheduler's pred_original_sample with clipping off."""
    scheduler = DDPMScheduler(prediction_type=prediction_type, clip_sample=False)
    unet = tiny_unet()
    den = Denoiser(unet, scheduler.alphas_cumprod, prediction_type)
    with torch.no_grad():
        t = den.timestep(sigma)
        x_t = scheduler.alphas_cumprod[t].sqrt() * (2 * X.float() - 1)
        theirs = scheduler.step(unet(x_t, t).sample, t, x_t, generator=torch.Generator()).pred_original_sample
        torch.testing.assert_close(den(X.float(), sigma), ((theirs + 1) / 2).clamp(0, 1), rtol=0, atol=2e-6)


@pytest.mark.parametrize("steps", [1, 3])
def test_gradients_reach_the_image(steps):
    den = Denoiser(tiny_unet().double(), LINEAR).requires_grad_(False)
    assert torch.autograd.gradcheck(lambda x: den(x, 0.1, steps=steps), X[:1].clone().requires_grad_(), fast_mode=True)


def test_levels():
    den = Denoiser(gaussian_network(), LINEAR)
    assert den.timestep(8 / 255) == 15
    assert den.has_level(8 / 255) and not den.has_level(0) and not den.has_level(100)
    with pytest.raises(ValueError, match=r"sigma=0 is outside .*is x in \[0, 1\]\?"):
        den(X, 0)


def test_learned_variance_takes_the_first_half():
    plain = gaussian_network()

    def network(x_t, t):
        return SimpleNamespace(sample=torch.cat([plain(x_t, t).sample, torch.full_like(x_t, 99)], 1))

    expected = Denoiser(plain, LINEAR)(X, 0.25)
    torch.testing.assert_close(Denoiser(network, LINEAR, learned_variance=True)(X, 0.25), expected, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="answers with 6 channels, wanted 3; set learned_variance=True"):
        Denoiser(network, LINEAR)(X, 0.25)
    with pytest.raises(ValueError, match="answers with 3 channels, wanted 6; set learned_variance=False"):
        Denoiser(plain, LINEAR, learned_variance=True)(X, 0.25)


def test_precisions():
    den = Denoiser(tiny_unet(), LINEAR).requires_grad_(False)
    single = den(X.float(), 0.25)
    assert single.dtype == den(X, 0.25).dtype == torch.float32
    den.precision = "bfloat16"
    half = den(X.float(), 0.25)
    assert half.dtype == torch.float32
    assert 0 < (half - single).abs().max() < 0.02  # really another precision, nearly the same image
    x = X.float().requires_grad_()
    den(x, 0.25).sum().backward()
    assert x.grad.abs().amax() > 0
    den.precision = "float32"
    assert torch.equal(den(X.float(), 0.25), single)
    double = den.double()(X, 0.25)
    assert double.dtype == torch.float64 and den(X.float(), 0.25).dtype == torch.float32
    torch.testing.assert_close(double.float(), single, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"unknown precision 'float16', known: float32, bfloat16"):
        den.precision = "float16"


def assert_same_weights(got, want):
    """To the bit, by name; what two networks of these weights answer is the same to rounding, frozen or not."""
    got, want = got.state_dict(), want.state_dict()
    assert list(got) == list(want) and all(torch.equal(got[name], want[name]) for name in want)


@pytest.mark.parametrize("at", ["unet", "."])
def test_a_folder_gives_the_same_bits(tmp_path, at):
    unet = tiny_unet()
    den = load_denoiser(save(unet, tmp_path, unet_folder=at))
    x, t = X.float(), torch.tensor([15, 15])
    assert_same_weights(den.network, unet)
    torch.testing.assert_close(den.network(x, t).sample, unet(x, t).sample, **ROUNDING)
    np.testing.assert_array_equal(den.alphas_cumprod, LINEAR)  # float64, not diffusers' float32 product
    assert isinstance(den.network, UNet2DModel) and den.prediction_type == "epsilon" and not den.learned_variance
    assert not den.training and not any(p.requires_grad for p in den.parameters())
    assert torch.equal(load_denoiser(str(tmp_path))(x, 0.25), den(x, 0.25))


def test_half_precision_on_disk_is_single_in_memory(tmp_path):
    unet = tiny_unet().half()
    den = load_denoiser(save(unet, tmp_path))
    assert next(den.parameters()).dtype == torch.float32
    assert_same_weights(den.network, unet.float())


@pytest.mark.parametrize("save_as", [dict(variant="fp16"), dict(max_shard_size="4KB"),
                                     dict(variant="fp16", max_shard_size="4KB")], ids=["variant", "shards", "both"])
@pytest.mark.parametrize("at", ["unet", "."])
def test_variants_and_shards(tmp_path, save_as, at):
    unet = tiny_unet().half()
    unet.save_pretrained(tmp_path / at, **save_as)
    DDPMScheduler().save_pretrained(tmp_path / "scheduler")
    assert (len(list((tmp_path / at).glob("*.safetensors"))) > 1) == ("max_shard_size" in save_as)
    assert not (tmp_path / at / "diffusion_pytorch_model.safetensors").exists()
    assert_same_weights(load_denoiser(tmp_path).network, unet.float())


def test_a_missing_shard_and_two_variants_are_named(tmp_path):
    tiny_unet().save_pretrained(tmp_path, max_shard_size="4KB")
    DDPMScheduler().save_pretrained(tmp_path)
    shard = sorted(tmp_path.glob("*.safetensors"))[-1]
    shard.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"no weights at .*{shard.name}; copy the file again"):
        load_denoiser(tmp_path)
    index = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"conv_in.bias": "../elsewhere"}}))
    with pytest.raises(ValueError, match=r"index\.json names no files beside it"):
        load_denoiser(tmp_path)
    index.unlink()
    for number, shard in enumerate(sorted(tmp_path.glob("*-of-*"))[:2]):
        shard.rename(tmp_path / f"diffusion_pytorch_model.v{number}.safetensors")
    with pytest.raises(ValueError, match=r"holds .*\.v0\.safetensors, .*\.v1\.safetensors; rename the one to take"):
        load_denoiser(tmp_path)


def test_objects_of_diffusers():
    """A UNet and the scheduler it was trained with, or a pipeline of both."""
    unet, scheduler = tiny_unet(), LCMScheduler(prediction_type="v_prediction")
    den = load_denoiser(unet, scheduler=scheduler)
    assert den.network is unet and not unet.training and den.multiple == 2
    np.testing.assert_allclose(den.alphas_cumprod, scheduler.alphas_cumprod.double().numpy(), rtol=1e-6)
    own = scheduler.alphas_cumprod.double().numpy()
    assert den.timestep(0.25) == np.abs(np.log((1 - own) / own) / 2 - np.log(0.5)).argmin() == 169
    wanted = Denoiser(tiny_unet(), own, "v_prediction")(X.float(), 0.25)
    for other in (load_denoiser(unet, config=dict(scheduler.config)), load_denoiser(DDPMPipeline(unet, scheduler)),
                  load_denoiser(DDPMPipeline(unet, DDPMScheduler()), scheduler=scheduler)):
        torch.testing.assert_close(other(X.float(), 0.25), wanted, **ROUNDING)
    folded = load_denoiser(PixelUnshuffled(tiny_unet(channels=12), 2), scheduler=scheduler)
    assert folded.multiple == 4 and folded(X.float(), 0.25).shape == X.shape


@pytest.mark.parametrize("arguments, message", [
    (dict(source=tiny_unet()), "a UNet alone does not say its noise schedule; give the scheduler"),
    (dict(source=tiny_unet(), scheduler=ScoreSdeVeScheduler()), "ScoreSdeVeScheduler has no alphas_cumprod"),
    (dict(source=tiny_unet(), scheduler=DDPMScheduler(), config={}), "config and scheduler are both given"),
    (dict(source=torch.nn.Linear(2, 2), scheduler=DDPMScheduler()), "module is a Linear, wanted an unconditional UNet"),
    (dict(source=tiny_unet(channels=4), scheduler=DDPMScheduler()), "the UNet maps 4 channels to 4, wanted 3 to 3"),
    (dict(source="some.pt", scheduler=DDPMScheduler()), r"some\.pt states its schedule by the words of its config"),
])
def test_objects_that_do_not_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_denoiser(**arguments)


def test_a_folder_with_another_scheduler(tmp_path):
    scheduler = HeunDiscreteScheduler()
    den = load_denoiser(save(tiny_unet(), tmp_path), scheduler=scheduler)
    np.testing.assert_allclose(den.alphas_cumprod, scheduler.alphas_cumprod.double().numpy(), rtol=1e-6)


def test_rescaled_timesteps(tmp_path):
    unet = tiny_unet()
    save(unet, tmp_path, num_train_timesteps=4000)
    (tmp_path / "fvit.json").write_text(json.dumps({"timestep_scale": 0.25}))
    den, x = load_denoiser(tmp_path), X.float()
    torch.testing.assert_close(den.network(x, torch.tensor([10, 10])).sample, unet(x, torch.tensor([2.5, 2.5])).sample,
                               **ROUNDING)
    assert (den.network(x, torch.tensor([10, 10])).sample - unet(x, 10).sample).abs().max() > 1e-4
    (tmp_path / "fvit.json").write_text(json.dumps({"timestep_scale": "no"}))
    with pytest.raises(ValueError, match="states timestep_scale 'no', wanted a number above 0"):
        load_denoiser(tmp_path)


def test_the_default_dtype_is_the_callers(tmp_path):
    """Under set_default_dtype(float64) the same float32 network is read, and the setting stays."""
    save(tiny_unet(), tmp_path)
    single = load_denoiser(tmp_path)
    torch.set_default_dtype(torch.float64)
    try:
        den, shipped = load_denoiser(tmp_path), load_denoiser("scenes")
        assert torch.get_default_dtype() == torch.float64
        answer = den(X.float(), 0.25)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_same_weights(den.network, single.network)
    assert {p.dtype for p in shipped.parameters()} == {torch.float32}
    torch.testing.assert_close(answer, single(X.float(), 0.25), **ROUNDING)


def test_paths_as_people_have_them(tmp_path, monkeypatch):
    unet = tiny_unet()
    monkeypatch.setenv("HOME", str(tmp_path))
    save(unet, tmp_path / "my prior")
    assert_same_weights(load_denoiser("~/my prior").network, unet)
    with pytest.raises(FileNotFoundError, match="no folder ~nobody-here/prior"):
        load_denoiser("~nobody-here/prior/x")


def test_pixel_unshuffle(tmp_path):
    unet = tiny_unet(channels=12)
    den = load_denoiser(save(unet, tmp_path, unshuffle=2))
    x, t = X.float(), torch.tensor([15, 15])
    torch.testing.assert_close(den.network(x, t).sample, PixelUnshuffled(unet, 2)(x, t).sample, **ROUNDING)
    folded = torch.stack([x[:, c, i::2, j::2] for c in range(3) for i in range(2) for j in range(2)], 1)
    answer = unet(folded, t).sample
    one_in_four = den.network(x, t).sample[:, 1, 1::2, 0::2]
    torch.testing.assert_close(one_in_four, answer[:, 1 * 4 + 1 * 2 + 0], **ROUNDING)
    with pytest.raises(ValueError, match=r"x_noisy is \(6, 8\), wanted multiples of 4; resize"):
        den(x[:, :, :6], 0.25)


@pytest.mark.parametrize("schedule", [
    dict(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"),
    dict(beta_schedule="scaled_linear", beta_start=0.001, beta_end=0.01, num_train_timesteps=50),
    dict(trained_betas=[0.1, 0.2, 0.3]),
])
def test_the_schedule_is_the_folders_own(tmp_path, schedule):
    den = load_denoiser(save(tiny_unet(), tmp_path, **schedule))
    np.testing.assert_array_equal(den.alphas_cumprod, DDPMScheduler(**schedule).alphas_cumprod.double().numpy())
    assert den.prediction_type == schedule.get("prediction_type", "epsilon")


def test_a_schedule_may_be_given(tmp_path):
    tiny_unet().save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no scheduler/scheduler_config\.json in .*; give config="):
        load_denoiser(tmp_path)
    given = {"num_train_timesteps": 100, "prediction_type": "sample"}
    (tmp_path / "mine.json").write_text(json.dumps(given))
    for config in (given, tmp_path / "mine.json"):
        den = load_denoiser(tmp_path, config=config)
        assert len(den.alphas_cumprod) == 100 and den.prediction_type == "sample"


def test_class_conditional_models_are_refused(tmp_path):
    for number, labels in enumerate([dict(num_class_embeds=10), dict(class_embed_type="timestep")]):
        unet = tiny_unet(**labels)
        with pytest.raises(ValueError, match=r"is class-conditional, .*choose an unconditional model"):
            load_denoiser(save(unet, tmp_path / str(number)))
        with pytest.raises(ValueError, match="is class-conditional"):
            Denoiser(unet, LINEAR)


def test_models_that_are_no_pixel_denoisers_are_refused(tmp_path):
    """Of latents, of a continuous noise level: each loads in diffusers, and would give images that mean nothing."""
    folder = save(tiny_unet(), tmp_path)
    (folder / "vqvae").mkdir()
    with pytest.raises(ValueError, match="denoises the latents of its vqvae; choose a UNet2DModel over pixels"):
        load_denoiser(folder)
    (folder / "vqvae").rmdir()
    pipeline = SimpleNamespace(vqvae=object(), unet=tiny_unet(), scheduler=DDPMScheduler())  # as an LDMPipeline has
    with pytest.raises(ValueError, match="denoises the latents of its vqvae; choose a UNet2DModel over pixels"):
        load_denoiser(pipeline)
    ScoreSdeVeScheduler().save_pretrained(folder / "scheduler")
    with pytest.raises(ValueError, match="ScoreSdeVeScheduler has no alphas_cumprod, wanted a discrete variance-pres"):
        load_denoiser(folder)
    with pytest.raises(ValueError, match=r"\(image_size, num_channels\) is none of diffusers"):  # meant for a .pt
        load_denoiser(folder, config={"image_size": 64, "num_channels": 128})
    with pytest.raises(ValueError, match=r"DDPMScheduler cannot be built from .*cubic .*; choose another"):
        load_denoiser(folder, config={"beta_schedule": "cubic"})
    with pytest.raises(ValueError, match="DDPMScheduler: unknown prediction_type 'flow_prediction'"):
        load_denoiser(folder, config={"beta_schedule": "linear", "prediction_type": "flow_prediction"})
    with pytest.raises(ValueError, match=r"continuous noise level \(fourier\); choose a model with discrete timesteps"):
        load_denoiser(save(tiny_unet(time_embedding_type="fourier"), tmp_path / "fourier"))


@pytest.mark.parametrize("scheduler", [DDIMScheduler, PNDMScheduler, DPMSolverMultistepScheduler])
def test_any_discrete_scheduler_is_read_for_its_betas(tmp_path, scheduler):
    folder = save(tiny_unet(), tmp_path)
    own = scheduler(beta_schedule="scaled_linear", beta_start=0.001, beta_end=0.01, prediction_type="v_prediction")
    (folder / "scheduler" / "scheduler_config.json").unlink()
    own.save_pretrained(folder / "scheduler")
    den = load_denoiser(folder)
    np.testing.assert_array_equal(den.alphas_cumprod, own.alphas_cumprod.double().numpy())
    assert den.prediction_type == "v_prediction"


def test_old_names_of_attention_are_read(tmp_path):
    """Hub models of 2022 call them query, key, value and proj_attn; diffusers renames them."""
    attends = dict(down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"))
    unet = tiny_unet(attention_head_dim=8, **attends)
    weights = save(unet, tmp_path) / "unet" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {re.sub("|".join(old), lambda new: old[new[0]], name): w for name, w in unet.state_dict().items()}
    assert any("proj_attn" in name for name in state)
    save_file(state, weights, metadata={"format": "pt"})
    network, x, t = load_denoiser(tmp_path).network, X.float(), torch.tensor([15, 15])
    assert_same_weights(network, unet)
    torch.testing.assert_close(network(x, t).sample, unet(x, t).sample, **ROUNDING)


def test_a_hub_id_is_downloaded_once_and_read_as_a_folder(tmp_path, monkeypatch):
    unet = tiny_unet()
    save(unet, tmp_path, unet_folder=".")
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: asked.append(name) or str(tmp_path))
    assert_same_weights(load_denoiser("some/model").network, unet)
    assert asked == ["some/model"]
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no weights at .*only as \.bin, a pickle, .*save it again by diff"):
        load_denoiser("some/model")


def test_truncated_weights_name_file_and_mend(tmp_path, monkeypatch):
    weights = save(tiny_unet(), tmp_path / "denoiser") / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(OSError, match=r"diffusion_pytorch_model\.safetensors is truncated .*; copy the file again"):
        load_denoiser(tmp_path / "denoiser")
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path)
    with pytest.raises(OSError, match=r"is truncated .*git checkout .*`fvit train denoiser`"):
        load_denoiser("scenes")
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"no weights at .*`fvit train denoiser`"):
        load_denoiser()


def test_weights_must_fit_the_configuration(tmp_path):
    save(tiny_unet(), tmp_path)
    config = tmp_path / "unet" / "config.json"
    stated = json.loads(config.read_text())
    for changes, message in [
        (dict(layers_per_block=2), "lacks .* tensors|does not fit"),
        (dict(block_out_channels=[8, 24]), r"does not fit .*config\.json"),
        (dict(_class_name="UNet2DConditionModel"), "holds a UNet2DConditionModel, wanted an unconditional UNet2DModel"),
        (dict(in_channels=4), "maps 4 channels to 3, wanted 3 to 3 or 6"),
        (dict(freq_shift=None), r"unet/config\.json beside its weights describes no network that works \(TypeError: "),
        (dict(mid_block_scale_factor=0), "no network that works .*4x4 pixels become 4x4, or no finite numbers"),
    ]:
        config.write_text(json.dumps({**stated, **changes}))
        with pytest.raises(ValueError, match=message):
            load_denoiser(tmp_path)
    config.write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        load_denoiser(tmp_path)


def test_sources_that_do_not_do(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no folder nowhere with a diffusers model"):
        load_denoiser("nowhere")
    with pytest.raises(FileNotFoundError, match=r"no config\.json at"):
        load_denoiser(tmp_path)
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"model\.bin is a file, wanted a guided-diffusion \.pt, or the folder of a d"):
        load_denoiser(tmp_path / "model.bin")

    def offline(*args, **kwargs):
        raise ConnectionError

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(OSError, match=r"no folder some/model, .*hub id .*\(ConnectionError\); check the name"):
        load_denoiser("some/model")


@pytest.mark.parametrize(("arguments", "message"), [
    (dict(x_noisy=X[0]), r"x_noisy\[None\]"),
    (dict(sigma=100), r"sigma=100 is outside \[0\.005, 78\.\d*\]; is x in \[0, 1\]\?"),
    (dict(steps=0), r"steps=0 at sigma=0\.0313725[0-9]*, which is t=15; wanted 1 <= steps <= 16"),
    (dict(steps=17), "wanted 1 <= steps <= 16"),
])
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        Denoiser(gaussian_network(), LINEAR)(**{"x_noisy": X, "sigma": 8 / 255, **arguments})
