"""What a defence keeps of its map as one of its settings, or one of the attack's, is turned: tidy rows."""

import pandas as pd

from fvit.experiments.bench import FREE
from fvit.metrics.maps import topk_overlap


def image_rows(images, values: dict, **about) -> pd.DataFrame:
    """A row for each metric and each of the first images, with a column photograph.

    images   as of `load_images`
    values   metric -> (n,) of the first n images
    about    further columns, such as variant="sigma", level=0.25
    """
    return pd.concat([pd.DataFrame({"image_id": images.ids[:len(v)], "photograph": images.groups[:len(v)], **about,
                                    "metric": metric, "value": v.double().cpu()}) for metric, v in values.items()])


def overlap_rows(images, maps: dict, bare, k: int, **about) -> pd.DataFrame:
    """Top-k overlap with one's own clean map in each condition, and of the clean map with the bare one (fidelity).

    maps    (n, h, w) of a defence for the first n images: "clean" and, under the name of what they met, "fresh noise",
            "transferred attack", made on the bare ViT, and "adaptive attack", made on the defence; both are free to
            change the class
    bare    (B, h, w), the maps of the bare ViT
    about   columns as of `image_rows`; `defence` is "dds" where they do not say
    """
    about = {"defence": "dds", "method": "raw_attention", "k": k} | about
    met = {"fresh noise": ("fresh_noise", ""), "transferred attack": (FREE, "vit"),
           "adaptive attack": (FREE, "vit" if about["defence"] == "none" else about["defence"])}
    found = [image_rows(images, {"topk_overlap": topk_overlap(maps["clean"], maps[name], k)}, aim=aim, made_on=made_on,
                        **about) for name, (aim, made_on) in met.items()]
    shown = topk_overlap(maps["clean"], bare[:len(maps["clean"])], k)
    return pd.concat([*found, image_rows(images, {"fidelity": shown}, aim="none", made_on="", **about)])
