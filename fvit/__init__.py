"""fvit: a runnable companion to "Improving Interpretation Faithfulness for Vision Transformers" (Hu et al., ICML 2024).

Images are floating point in [0, 1], (B, 3, H, W); every sigma, eps and radius is in these pixel units.
The public names below are imported when first used: importing `fvit` loads no weights and touches no network.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {  # public name: module that holds it
    "load_vit": "vit",
    "load_denoiser": "denoiser",
    "load_images": "sources",
    "stream_images": "extras.datasets",
    "capture_attention": "attention",
    "METHODS": "explanations",
    "explain": "explanations",
    "DDS": "smoothing",
    "pgd": "attacks",
    "strongest": "attacks",
    "prediction_loss": "attacks",
    "explanation_loss": "attacks",
    "topk_overlap": "metrics",
    "segmentation_scores": "segmentation",
    "perturbation_curve": "perturbation",
    "curve_auc": "perturbation",
    "renyi_divergence": "theory",
    "breaking_divergence": "theory",
    "required_sigma": "radii",
    "certified_radius": "radii",
    "certify": "certification",
    "profile": "profiles",
    "claim": "results",
    "save_figure": "figures",
    "show_figure": "figures",
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"fvit has no public name {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
