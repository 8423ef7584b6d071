"""fvit: a runnable companion to "Improving Interpretation Faithfulness for Vision Transformers" (Hu et al., ICML 2024).

Images are floating point in [0, 1], (B, 3, H, W); every sigma, eps and radius is in these pixel units.
The public names below are imported when first used: importing `fvit` loads no weights and touches no network.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {  # public name: module that holds it
    "load_vit": "models.vit_files",
    "load_denoiser": "models.diffusers_files",
    "load_images": "data.loading",
    "stream_images": "data.streams",
    "capture_attention": "models.attention",
    "METHODS": "explanations.methods",
    "explain": "explanations.passes",
    "supports": "explanations.passes",
    "register_method": "explanations.own",
    "DDS": "smoothing",
    "pgd": "attacks",
    "strongest": "attacks",
    "prediction_loss": "attacks",
    "explanation_loss": "attacks",
    "topk_overlap": "metrics.maps",
    "segmentation_scores": "metrics.segmentation",
    "perturbation_curve": "metrics.perturbation",
    "curve_auc": "metrics.perturbation",
    "renyi_divergence": "theory.divergences",
    "breaking_divergence": "theory.divergences",
    "required_sigma": "theory.radii",
    "certified_radius": "theory.radii",
    "certify": "certification",
    "as_quantus": "adapters",
    "as_captum": "adapters",
    "experiment": "experiments.setting",
    "profile": "records.profiles",
    "stamp": "records.provenance",
    "claim": "records.claims",
    "exercise": "notebooks.exercises",
    "figure": "report.captions",
    "save_figure": "report.saving",
    "show_figure": "report.saving",
}
_MODULES = {"schedule": "models.schedule"}  # the one sigma-to-t map
__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str):
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in _MODULES:
        return import_module(f"{__name__}.{_MODULES[name]}")
    raise AttributeError(f"fvit has no public name {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
