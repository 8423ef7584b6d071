"""The one vocabulary of rows, tables, figures and text: codes in the columns, and how they are said."""

import numpy as np
import pandas as pd

DEFENCES = {"none": "bare", "dds": "DDS", "noise_only": "noise only", "denoise_only": "denoise only",
            "constant_map": "constant map"}  # what stands between image and map; the last shows one map whatever comes
AIMS = {"none": "clean", "fresh_noise": "fresh noise", "random_signs": "random signs", "prediction": "prediction",
        "explanation": "explanation", "rollout": "rollout"}  # what the image was changed for: the last three by attack
MADE_ON = {"": "no attack", "vit": "the bare model", "dds": "the model behind DDS",
           "noise_only": "the model behind noise", "denoise_only": "the model behind the denoiser"}
EXPLAINED = {"": "no class, or one that does not vary in the table", "fixed": "the class of the clean image",
             "re-predicted": "the class predicted under attack"}
CODES = {"defence": DEFENCES, "aim": AIMS, "made_on": MADE_ON, "explained": EXPLAINED}  # column -> what it may hold
CONTROL_MAPS = ("random_order", "constant_map", "mask")  # values of `method` that no method made
BARE = ("none", "constant_map")  # defences that add no noise and have no model of their own
TOP_SET = ("topk_overlap", "fidelity", "radius", "plugin_radius", "shown_overlap", "proven_kept", "proven_lost",
           "relative_mass")  # metrics of a top set, of size k
METRICS = {
    "topk_overlap": "share of the top k tokens of the clean map of the same defence that stays, in [0, 1]",
    "rank_correlation": "Spearman's correlation with that map, in [-1, 1]",
    "l2_change": "l2 distance to that map; both sum to 1",
    "fidelity": "share of the top k of the bare clean map that the clean map of the defence has, in [0, 1]",
    "predicted": "class index predicted",
    "right": "1 where the prediction is the label, else 0",
    "class_kept": "1 where the prediction is that on the clean image, else 0",
    "renyi_divergence": "of order 2, in nats, of the clean prediction from this one",
    "labelled": "pixels with a label",
    "inter_bg": "pixels rightly said to be background",
    "inter_fg": "pixels rightly said to be object",
    "average_precision": "of the map as a score of the object's pixels, in [0, 1]",
    "f1": "of the map cut at its mean, in [0, 1]",
    "positive": "1 where the bare model is still right, greatest values removed first; level: share removed, in [0, 1]",
    "negative": "the same, least values removed first; level: share removed, in [0, 1]",
    "pointing": "share of both digits' mass that lies on the digit asked about, in [0, 1]; chance is 0.5",
    "radius": "certified l2 radius for images in [0, 1], -1 where none is; level: overlap asked for, in [0, 1]",
    "plugin_radius": "what the mean of the draws would give if it were exact, no guarantee; level: overlap asked for",
    "shown_overlap": "share of the shown set in the attacked top k; level: attack in certified radii",
    "proven_kept": "1 where the overlap is proven kept, else 0; level: attack in certified radii",
    "proven_lost": "1 where it is proven lost, else 0; level: attack in certified radii",
    "relative_mass": "mass left on the clean top k, over the clean mass; level: value of the knob that `variant` names",
    "seconds": "time of an image, in seconds",
    "milliseconds": "time of a draw; level: images in a batch",
    "forwards": "time over that of a forward pass; level: images in a batch",
    "target": "class index explained, of a `DDSOutput`",
    "target_prob": "its smoothed probability",
    "heatmap_se": "root mean square over tokens of the map's standard error",
}


def condition(rows) -> pd.Series:
    """What each row met: "clean", "fresh noise", "random signs", "prediction, transferred", "explanation, adaptive" ...

    An attack is adaptive where it was made on the defence itself ("vit" for those of BARE), else transferred.
    """
    own = rows["defence"].astype(object).replace(dict.fromkeys(BARE, "vit")) == rows["made_on"]
    said, attacked = rows["aim"].map(AIMS), rows["made_on"] != ""
    return said.where(~attacked, said + pd.Series(np.where(own, ", adaptive", ", transferred"), rows.index))
