"""Defences that one figure shows are told apart by colour-blind eyes, and threats in grey."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from skimage.color import deltaE_ciede2000, rgb2lab

from fvit.report import contrasts, style

FIGURES = sorted((Path(__file__).parents[2] / "figures").glob("*/*.csv"))
# Machado, Oliveira and Fernandes 2009: linear RGB as eyes without one kind of cone have it (severity 1)
EYES = {"all three": np.eye(3),
        "no long cones": [[.152286, 1.052583, -.204868], [.114503, .786281, .099216], [-.003882, -.048116, 1.051998]],
        "no middle cones": [[.367322, .860646, -.227968], [.280085, .672501, .047413], [-.011820, .042940, .968881]],
        "no short cones": [[1.255528, -.076749, -.178779], [-.078411, .930809, .147602], [.004733, .691367, .303900]]}


def seen(colour, eye):
    """CIELAB (3,) of a colour as that eye sees it."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= .04045, rgb / 12.92, ((rgb + .055) / 1.055) ** 2.4)
    linear = np.clip(EYES[eye] @ linear, 0, 1)
    return rgb2lab(np.where(linear <= .0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - .055)[None, None])[0, 0]


def too_near(colours, least=9.0):
    """Pairs of names whose colours are nearer than `least` of CIEDE2000 to some eye; about 2 can just be seen."""
    return [(a, b, eye) for a, b in combinations(sorted(colours), 2) for eye in EYES
            if deltaE_ciede2000(seen(colours[a], eye), seen(colours[b], eye)) < least]


def shown_together():
    """The defences of each committed figure that has several."""
    assert FIGURES
    for path in FIGURES:
        rows = pd.read_csv(path)
        known = {value for value in rows.get("defence", []) if value in style.COLOURS}
        if len(known) > 1:
            yield path.stem, known


def test_the_simulation_is_right_on_colours_that_are_known_to_be_confused():
    confused = too_near({"red": "#d55e00", "dark yellow": "#b8860b"})
    assert confused == [("dark yellow", "red", "no long cones"), ("dark yellow", "red", "no middle cones")]
    assert too_near({"black": "#000000", "white": "#ffffff", "blue": "#0173b2"}) == []
    assert np.allclose(seen("#ffffff", "no long cones"), [100, 0, 0], atol=.1)


@pytest.mark.parametrize("name, defences", [("of the axis", set(contrasts.AXIS)), *shown_together()])
def test_defences_of_one_figure_are_told_apart_by_every_eye(name, defences):
    assert too_near({defence: style.COLOURS[defence] for defence in defences}) == []


def test_no_colour_is_so_light_that_it_fades_on_white():
    lightness = {defence: seen(colour, "all three")[0] for defence, colour in style.COLOURS.items()}
    assert [defence for defence, light in lightness.items() if light > 75] == []


def test_in_grey_each_threat_has_a_marker_or_a_dash_of_its_own():
    looks = [(look["marker"], look["markerfacecolor"] == "white", look["linestyle"])
             for look in (style.threat_look("dds", met) for met in ("clean", "transferred", "adaptive"))]
    assert len(set(looks)) == len(looks)
