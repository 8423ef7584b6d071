"""The noise schedule of a diffusers scheduler: its own `alphas_cumprod`, from the object or from its configuration."""

import inspect

import numpy as np
from diffusers import DDPMScheduler, SchedulerMixin, schedulers

from fvit.base.checks import as_integer, check_choice
from fvit.models.denoiser import PREDICTION_TYPES
from fvit.models.schedule import linear_alphas_cumprod, timestep_to_sigma
from fvit.models.weight_files import short

KIND = "wanted a discrete variance-preserving diffusion of DDPM's kind"


def schedule_of(scheduler) -> tuple[np.ndarray, str]:
    """(alphas_cumprod, prediction_type) of a scheduler: (T,) float64, and "epsilon", "sample" or "v_prediction".

    scheduler   an object of diffusers, or its configuration, a dict: then it is built by its own class, `_class_name`,
                or that whose settings these are; a dict written by hand is DDPMScheduler's

    Raises ValueError, which names the class, for one that is no discrete variance-preserving diffusion.
    """
    if not isinstance(scheduler, dict):
        return _read(scheduler, type(scheduler).__name__)
    built = _built(dict(scheduler))
    name = " or ".join(type(each).__name__ for each in built)
    found = [_read(each, name) for each in built]
    ac, kind = found[0]
    if any(len(other) != len(ac) or not np.allclose(other, ac, rtol=1e-6) or kind != its for other, its in found):
        raise ValueError(f"the scheduler's configuration fits {name}, whose schedules differ; give the scheduler "
                         "itself, scheduler=..., or '_class_name' in the configuration")
    return ac, kind


def _read(scheduler, name: str) -> tuple[np.ndarray, str]:
    config, ac = getattr(scheduler, "config", None) or {}, getattr(scheduler, "alphas_cumprod", None)
    wrong = next((f"{key}={value!r}" for key, value in (("use_flow_sigmas", True), ("timestep_type", "continuous"))
                  if config.get(key) == value), "no alphas_cumprod" if ac is None else "")
    if wrong:
        raise ValueError(f"{name} has {wrong}, {KIND}; choose a model trained with one")
    try:
        kind = check_choice(config.get("prediction_type", "epsilon"), PREDICTION_TYPES, "prediction_type")
        ac = ac.detach().cpu().double().numpy()
        if config.get("rescale_betas_zero_snr") and len(ac) > 1:
            ac[-1] = 0  # some write 2**-24 there, more than the one before, for a first sigma that is finite
        timestep_to_sigma(0, ac)  # which says what is no schedule
    except (ValueError, AttributeError, TypeError) as err:
        raise ValueError(f"{name}: {err}; {KIND}; choose a model trained with one") from err
    if config.get("beta_schedule") == "linear" and config.get("trained_betas") is None:
        exact = linear_alphas_cumprod(len(ac), config["beta_start"], config["beta_end"])
        ac = exact if np.allclose(exact, ac, rtol=1e-3, atol=0) else ac  # theirs is a product in float32
    return ac, kind


def _built(config: dict) -> list:
    """The schedulers that a configuration can be of, built with the values it states, whether or not they are usual."""
    by_library = bool({"_class_name", "_use_default_values"} & set(config))
    stated = {key: value for key, value in config.items() if not key.startswith("_")}
    n_steps = stated.get("num_train_timesteps", 1000)
    if not 1 <= (as_integer(n_steps) or 0) <= 10**6:
        raise ValueError(f"num_train_timesteps={n_steps!r}, wanted an integer from 1 to a million; 1000 is usual")
    if "_class_name" in config:
        kinds = [kind for name, kind in _kinds().items() if name == config["_class_name"]]
        if not kinds:
            raise ValueError(f"{config['_class_name']} is no scheduler that diffusers can build here; choose another "
                             "model, or give the scheduler itself, scheduler=...")
    elif by_library:
        takes = {kind: _settings(kind) for kind in _kinds().values() if _settings(kind) <= set(stated)}
        kinds = [kind for kind, keys in takes.items() if not any(keys < others for others in takes.values())]
    else:
        by_hand = ("beta_schedule", "trained_betas", "num_train_timesteps", "prediction_type")
        kinds = [DDPMScheduler] * (set(stated) <= _settings(DDPMScheduler) and any(key in stated for key in by_hand))
    if not kinds:
        raise ValueError(f"the scheduler's configuration ({', '.join(config)}) is none of diffusers; {KIND}, given by "
                         f"{', '.join(by_hand[:2]) if not by_library else '_class_name'}, or scheduler=...")
    try:
        return [kind.from_config(stated) for kind in kinds]
    except Exception as err:  # what diffusers does not know, or cannot compute with: several classes
        raise ValueError(f"{kinds[0].__name__} cannot be built from its configuration ({short(err)}); choose another "
                         "model") from err


def _kinds() -> dict[str, type]:
    """diffusers' schedulers by name, without those that it cannot build here and has a stand-in for."""
    found = {name: getattr(schedulers, name, None) for name in dir(schedulers) if name.endswith("Scheduler")}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, SchedulerMixin)}


def _settings(kind: type) -> set[str]:
    return set(inspect.signature(kind.__init__).parameters) - {"self", "args", "kwargs"}
