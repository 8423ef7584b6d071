"""Certified radii as rows: of the top-k, of the prediction, and of both at once, on the same draws; until an answer."""

import pandas as pd

from fvit.certification import certify
from fvit.experiments.attack_rows import labels
from fvit.experiments.bench import Bench
from fvit.records.rows import conform
from fvit.theory.from_draws import CERTIFICATES


def certificate_rows(bench: Bench, images, *, betas, n_bound, failure_prob, n_pilot=100, certificates=CERTIFICATES,
                     plugin=("votes", "sharp", "renyi", "pooled")) -> pd.DataFrame:
    """Radii of each image behind DDS, all from one sample of it, as of `certify`.

    betas      overlaps to keep, or one; n_bound: draws that bound, or a list
    returns    tidy rows of metrics "radius", "label_radius", "joint_radius" and "plugin_radius", and for each
               certificate "right": 1 where the class that it speaks of is the label
    """
    found = certify(bench.smoother(n_samples=n_pilot), images.x, bench.k, betas, n_bound, failure_prob, images.ids,
                    certificate=certificates, plugin=plugin, prediction=True)
    said = found[found["metric"] == "label_radius"].drop_duplicates(["image_id", "certificate"])
    truth = said["image_id"].map(dict(zip(images.ids, images.y.tolist(), strict=True)))
    right = said.assign(metric="right", n_samples=n_pilot, norm="", radius=(said["label"] == truth).astype(float))
    rows = pd.concat([found, right]).rename(columns={"radius": "value"})
    of_label = rows["metric"].isin(["label_radius", "right"])
    rows = rows.assign(k=rows["k"].mask(of_label), method=rows["method"].mask(of_label, ""))
    return conform(rows.drop(columns=["failure_prob", "n_pilot", "label"]), **labels(bench, images))


def until_rows(bench: Bench, images, *, until, beta, n_bound, failure_prob, n_pilot=16) -> pd.DataFrame:
    """Radii of each image by votes, drawn until `until` is reached or given up, as of `certify`: tidy rows of metrics
    "radius" and "calls", the draws it took, those of the pilot among them; n_samples are those that bound."""
    found = certify(bench.smoother(n_samples=n_pilot), images.x, bench.k, beta, n_bound, failure_prob, images.ids,
                    until=until)
    rows = pd.concat([found, found.assign(metric="calls", radius=n_pilot + found["n_samples"])])
    return conform(rows.rename(columns={"radius": "value"}).drop(columns=["failure_prob", "n_pilot"]),
                   **labels(bench, images))
