"""Every scheduler of diffusers: t(sigma) by its own alphas_cumprod, or refused by its name."""

import json

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UnCLIPScheduler,
    schedulers,
)

from fvit.models.schedule import cosine_alphas_cumprod, linear_alphas_cumprod, sigma_to_timestep
from fvit.models.schedulers import _kinds, schedule_of

ARGUMENTS = {"AmusedScheduler": dict(mask_token_id=1), "VQDiffusionScheduler": dict(num_vec_classes=4),
             "RFD4ProteinaScheduler": None}  # None: needs too much
SIGMAS = (8 / 255, 0.1, 0.25, 0.5, 1.0)
DIFFUSIONS = """CogVideoXDDIM CogVideoXDPM DDIM DDIMInverse DDIMParallel DDPM DDPMParallel DEISMultistep
    DPMSolverMultistep DPMSolverMultistepInverse DPMSolverSinglestep EulerAncestralDiscrete EulerDiscrete HeunDiscrete
    KDPM2AncestralDiscrete KDPM2Discrete LCM LMSDiscrete PNDM RePaint SASolver TCD UnCLIP UniPCMultistep""".split()
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own


def forms(scheduler, folder):
    """A scheduler as people have it: the object, its configuration, the file it writes."""
    yield scheduler
    yield dict(scheduler.config)
    scheduler.save_pretrained(folder)
    yield json.loads((folder / "scheduler_config.json").read_text())


@pytest.mark.parametrize("name", sorted(_kinds()))
def test_every_scheduler(name, tmp_path):
    arguments = ARGUMENTS.get(name, {})
    if arguments is None:
        with pytest.raises(ValueError, match=f"{name} cannot be built from its configuration"):
            schedule_of({"_class_name": name})
        return
    scheduler = _kinds()[name](**arguments)
    own = getattr(scheduler, "alphas_cumprod", None)
    assert (own is not None) == (name.removesuffix("Scheduler") in DIFFUSIONS)
    for form in forms(scheduler, tmp_path):
        if own is None:
            with pytest.raises(ValueError, match=f"{name}.* has (no alphas_cumprod|use_flow.*), wanted a discrete var"):
                schedule_of(form)
            continue
        got, kind = schedule_of(form)
        own = own.double().numpy() if isinstance(own, torch.Tensor) else own
        np.testing.assert_allclose(got, own, rtol=1e-6)
        levels = np.sqrt((1 - own) / own) / 2  # in units of [0, 1]
        for sigma in SIGMAS:
            if levels[0] <= sigma <= levels[-1]:
                assert sigma_to_timestep(sigma, got) == np.abs(np.log(levels) - np.log(sigma)).argmin()
        assert kind == "epsilon"


def test_the_list_above_is_whole():
    assert {f"{name}Scheduler" for name in DIFFUSIONS} <= set(_kinds()) and len(_kinds()) > 40


@pytest.mark.parametrize("kind, settings", [
    (DDIMScheduler, dict(rescale_betas_zero_snr=True, prediction_type="v_prediction")),
    (DDPMScheduler, dict(trained_betas=[0.1, 0.2, 0.3], prediction_type="sample")),
    (DDPMScheduler, dict(beta_schedule="sigmoid", variance_type="learned_range")),
    (DDPMScheduler, dict(beta_schedule="laplace", num_train_timesteps=100)),
    (HeunDiscreteScheduler, dict(beta_schedule="exp")),
    (EulerDiscreteScheduler, dict(rescale_betas_zero_snr=True, timestep_spacing="trailing")),
    (PNDMScheduler, dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, skip_prk_steps=True)),
    (DPMSolverMultistepScheduler, dict(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")),
    (UnCLIPScheduler, dict(prediction_type="sample", num_train_timesteps=50)),
    (schedulers.CogVideoXDDIMScheduler, dict(snr_shift_scale=1.0, rescale_betas_zero_snr=True)),
])
def test_settings_of_all_kinds(kind, settings, tmp_path):
    scheduler = kind(**settings)
    for form in forms(scheduler, tmp_path):
        got, prediction = schedule_of(form)
        last = -1 if settings.get("rescale_betas_zero_snr") else None  # which is 0, or for some classes nearly
        np.testing.assert_allclose(got[:last], scheduler.alphas_cumprod.double().numpy()[:last], rtol=1e-6)
        assert last is None or got[-1] == 0
        assert prediction == settings.get("prediction_type", "epsilon")


def test_a_configuration_states_its_values_also_where_they_are_usual(tmp_path):
    """diffusers notes which of them are its own defaults, for another class to pass over; here they count."""
    config = dict(HeunDiscreteScheduler().config)
    assert "beta_start" in config["_use_default_values"]
    np.testing.assert_allclose(schedule_of(config)[0], linear_alphas_cumprod(1000, 0.00085, 0.012))


def test_what_was_changed_on_the_way_to_another_class():
    """A DDIM made from PNDM keeps settings of both: they count as its own, or nothing is guessed."""
    made = DDIMScheduler.from_config(PNDMScheduler(skip_prk_steps=True, beta_end=0.01).config)
    np.testing.assert_allclose(schedule_of(dict(made.config))[0], made.alphas_cumprod.double().numpy(), rtol=1e-5)
    made = DDIMScheduler.from_config(PNDMScheduler(skip_prk_steps=True).config, rescale_betas_zero_snr=True)
    np.testing.assert_allclose(schedule_of(made)[0], made.alphas_cumprod.double().numpy(), rtol=1e-6)
    with pytest.raises(ValueError, match=r"fits DDIM.*PNDM.*whose schedules differ; give the scheduler itself"):
        schedule_of(dict(made.config))


def test_a_dict_by_hand_is_ddpms():
    np.testing.assert_array_equal(schedule_of({"num_train_timesteps": 100})[0], linear_alphas_cumprod(100))
    ac, kind = schedule_of({"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"})
    np.testing.assert_allclose(ac, cosine_alphas_cumprod(), rtol=2e-4)
    assert kind == "v_prediction"


@pytest.mark.parametrize("scheduler, message", [
    (DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
     "DPMSolverMultistepScheduler has use_flow_sigmas=True, wanted a discrete"),
    (DPMSolverMultistepScheduler(prediction_type="flow_prediction"),
     "DPMSolverMultistepScheduler: unknown prediction_type 'flow_prediction', known: epsilon, sample, v_pred"),
    (EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction"),
     "EulerDiscreteScheduler has timestep_type='continuous', wanted a discrete"),
    (DDPMScheduler(trained_betas=[0.1, -0.2]), "DDPMScheduler: alphas_cumprod of shape .* is no schedule"),
    ({"_class_name": "NoScheduler", "beta_start": 1e-4}, "NoScheduler is no scheduler that diffusers can build here"),
    ({"_class_name": ["a"], "beta_start": 1e-4}, r"\['a'\] is no scheduler that diffusers can build here"),
    ({"beta_schedule": "linear", "shift": 3}, r"\(beta_schedule, shift\) is none of diffusers"),
    ({}, "is none of diffusers"),
    ({"beta_schedule": "cubic"}, "DDPMScheduler cannot be built from its configuration .*cubic"),
    ({"num_train_timesteps": 10**12}, "num_train_timesteps=1000000000000, wanted an integer from 1 to a million"),
    ("ddpm", "str has no alphas_cumprod"),
])
def test_what_is_no_such_diffusion_is_refused_by_name(scheduler, message):
    with pytest.raises(ValueError, match=message):
        schedule_of(scheduler)
