"""The one vocabulary of rows, tables, figures and text: codes, and how each is written for a reader."""

DEFENCES = {  # what stands between image and map -> its name
    "none": "bare", "dds": "DDS", "noise_only": "noise only", "denoise_only": "denoise only",
    "constant_map": "constant map",  # the control that never moves
}
AIMS = {"none": "clean", "fresh_noise": "fresh noise", "random_signs": "random signs", "prediction": "prediction",
        "explanation": "explanation", "rollout": "rollout"}  # what the image was changed for: the last three by attack
