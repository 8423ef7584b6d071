"""Rows of certificates are those of `certify`, with what is right beside them."""

from types import SimpleNamespace

import torch
from oracles.maps import images, tiny_vit

from fvit.certification import certify
from fvit.experiments.bench import Bench
from fvit.experiments.certificate_rows import certificate_rows
from fvit.records.rows import KEY, SCHEMA
from fvit.smoothing import DDS


def test_rows_are_those_of_certify_and_say_where_the_class_is_the_label():
    vit, x, ids = tiny_vit(torch.float64), images(3), ["a", "b", "c"]
    bench = Bench(vit, None, sigma=0.02, n_samples=4, k=5, attack_steps=1, attack_draws=1)
    label = DDS(vit, None, 0.02, 9)(x, ids).probs.argmax(1)
    given = SimpleNamespace(x=x, ids=ids, y=label + torch.tensor([0, 1, 0]), name="toys")
    asked = {"n_bound": [40, 20], "failure_prob": 0.2, "certificates": ["votes", "clipped"], "plugin": ["votes"]}
    rows = certificate_rows(bench, given, betas=["0.6", "0.2"], n_pilot=9, **asked)
    assert list(rows) == list(SCHEMA) and not rows.duplicated(KEY).any()
    want = certify(DDS(vit, None, 0.02, 9), x, 5, ["0.6", "0.2"], [40, 20], 0.2, ids,
                   certificate=["votes", "clipped"], plugin=["votes"], prediction=True)
    radii = rows[rows["metric"] != "right"]
    assert radii["value"].tolist() == want["radius"].tolist() and (radii["norm"] == "l2").all()
    assert radii["metric"].tolist() == want["metric"].tolist() and radii["level"].equals(want["level"])
    right = rows[rows["metric"] == "right"]
    clipped = right[right["certificate"] == "clipped"]
    assert clipped["value"].tolist() == [1, 0, 1] and (right["n_samples"] == 9).all() and len(right) == 6
    prediction = rows["metric"].isin(["right", "label_radius"])
    assert (rows["method"].eq("") == prediction).all() and (rows["k"].isna() == prediction).all()
    assert rows["dataset"].eq("toys").all() and rows["defence"].eq("noise_only").all()
