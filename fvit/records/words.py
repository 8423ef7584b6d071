"""The one vocabulary of rows, tables, figures and text: codes, and how they are said. Metrics: docs/results.md."""

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


def condition(rows) -> pd.Series:
    """What each row met: "clean", "fresh noise", "random signs", "prediction, transferred", "explanation, adaptive" ...

    An attack is adaptive where it was made on the defence itself ("vit" for those of BARE), else transferred.
    """
    own = rows["defence"].astype(object).replace(dict.fromkeys(BARE, "vit")) == rows["made_on"]
    said, attacked = rows["aim"].map(AIMS), rows["made_on"] != ""
    return said.where(~attacked, said + pd.Series(np.where(own, ", adaptive", ", transferred"), rows.index))
