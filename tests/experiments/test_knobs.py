"""Rows of maps whose settings are turned: what each is about, and the numbers in it."""

import pandas as pd
import pytest
import torch

from fvit.experiments import knobs
from fvit.records.rows import conform
from fvit.report import f13_settings


class Images:
    ids, groups = ["a", "b", "c"], ["p", "p", "q"]


def one_hot(*places):
    return torch.eye(4)[list(places)].view(-1, 2, 2)


def test_rows_are_of_the_first_images_and_say_what_they_are_told():
    rows = knobs.image_rows(Images, {"right": torch.tensor([True, False])}, variant="sigma", level=0.25)
    assert rows.to_dict("list") == {"image_id": ["a", "b"], "photograph": ["p", "p"], "variant": ["sigma"] * 2,
                                    "level": [0.25] * 2, "metric": ["right"] * 2, "value": [1.0, 0.0]}


@pytest.mark.parametrize("about, own", [({}, "dds"), ({"defence": "none"}, "vit"), ({"defence": "blur"}, "blur")])
def test_overlaps_are_with_ones_own_clean_map_and_fidelity_with_the_bare_one(about, own):
    maps = {"clean": one_hot(0, 1), "fresh noise": one_hot(0, 1), "transferred attack": one_hot(0, 2),
            "adaptive attack": one_hot(3, 2)}
    rows = knobs.overlap_rows(Images, maps, one_hot(2, 1, 0), 1, variant="n_samples", level=4, **about)
    rows = rows.assign(measure=f13_settings.measures(rows))
    found = rows.groupby("measure", sort=False)["value"].agg(list).to_dict()
    if own != "vit":  # made on the bare ViT, both attacks are its own
        assert found == {"fresh noise": [1, 1], "transferred attack": [1, 0], "adaptive attack": [0, 0],
                         "fidelity": [0, 1]}
    assert rows["made_on"].tolist() == ["", "", "vit", "vit", own, own, "", ""] and set(rows["k"]) == {1}
    kept = conform(rows.drop(columns=["photograph", "measure"]), sigma=0.25, n_samples=16, eps=0.1, norm="linf")
    assert len(kept) == 8 and set(kept["eps"]) == {0, 0.1} and set(kept["level"]) == {4}


def test_a_table_has_the_mean_of_every_measure_at_every_setting():
    rows = pd.concat([knobs.overlap_rows(Images, dict.fromkeys(
        ("clean", "fresh noise", "transferred attack", "adaptive attack"), one_hot(0, 1, 2)), one_hot(0, 1, 3), 1,
        variant="sigma", level=s, sigma=s) for s in (0.1, 0.5)])
    table = f13_settings.by_setting(rows, "sigma").set_index(["sigma", "measure"])["mean"]
    assert table.unstack().to_dict("list") == {"adaptive attack": [1, 1], "fidelity": [pytest.approx(2 / 3)] * 2,
                                               "fresh noise": [1, 1], "transferred attack": [1, 1]}
