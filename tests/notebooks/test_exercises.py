"""Exercises that check themselves: right answers by other means, near and far ones."""

import math
import re
from fractions import Fraction
from itertools import pairwise

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import beta, binom, norm

import fvit
from fvit.base import paths
from fvit.notebooks import exercises


def lead_lost(w):
    """Least order-2 divergence to a map whose first two tokens are equal, by a search of that line."""
    def divergence(t):
        return math.log(np.sum(np.square(w) / [t, t, 1 - 2 * t]))

    return minimize_scalar(divergence, bounds=(1e-3, 0.499), method="bounded", options={"xatol": 1e-12}).fun


def logistic_overtakes():
    """By a plain sum over p^2 / q, and not by fvit.theory.noise."""
    z = np.linspace(-300, 300, 400_001)

    def divergence(scale):
        p, q = (-np.abs(z - a) / scale - 2 * np.log1p(np.exp(-np.abs(z - a) / scale)) - math.log(scale) for a in (0, 1))
        return math.log(np.sum(np.exp(2 * p - q)) * (z[1] - z[0]))

    scale = brentq(lambda s: (math.pi * s) ** 2 / 3 - 1 / divergence(s), 0.5, 3)  # the Gaussian's variance: 2 / 2 D
    return divergence(scale)


def agreeing_draws():
    """By the beta distribution, whose quantile an exact bound is; six tokens on either side may be wrong."""
    return next(n for n in range(1, 2000) if beta.ppf(0.001 / 12, n, 1) >= norm.cdf(0.5 / 0.25))


def timestep_undoubled():
    relative = np.sqrt(1 / np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)) - 1)
    return int(np.abs(np.log(relative / 0.25)).argmin())


def looking_more():
    """Chance to have come from token 1, in two steps down from the class token, each a look with probability 3/4."""
    A2, A1 = [[2, 7, 1], [3, 4, 3], [1, 1, 8]], [[6, 3, 1], [1, 8, 1], [2, 2, 6]]  # attention in tenths

    def step(A, i, j):
        return Fraction(3, 4) * Fraction(A[i][j], 10) + Fraction(i == j, 4)

    return float(sum(step(A2, 0, j) * step(A1, j, 1) for j in range(3)))


def twice_too_much():
    """mIoU on nine pixels, of which the first is the object and the first two are found, by counting them."""
    true, found = {0}, {0, 1}
    pairs = (true, found), (set(range(9)) - true, set(range(9)) - found)
    return float(sum(Fraction(len(a & b), len(a | b)) for a, b in pairs) / 2)


def two_switches():
    """DDS beyond the sum of its halves, in images right before and after each defence's own attack, by counting them
    in the committed rows."""
    rows = pd.read_parquet(paths.ROOT / "results/study/12_defences.parquet")
    right = rows[(rows.metric == "right") & (rows.method == "") & rows.aim.isin(["none", "prediction"])]

    def held(defence, made_on):
        return set(right.image_id[(right.defence == defence) & (right.made_on == made_on) & (right.value == 1)])

    sign = {"dds": 1, "noise_only": -1, "denoise_only": -1, "none": 1}
    held_of = {d: len(held(d, "") & held(d, "vit" if d == "none" else d)) for d in sign}
    return sum(sign[d] * n for d, n in held_of.items()) / right.image_id.nunique()


def areas_apart():
    """The two areas under curves that fall once, by trapezoids in fractions: the most that they differ by."""
    def area(curve, width):
        return sum(Fraction(a + b, 2) for a, b in pairwise(curve)) * Fraction(1, width)

    steps = [[1] * n + [0] * (11 - n) for n in range(1, 12)]  # right up to 0, 10, ..., 100 %
    return float(max(abs(area(curve[1:10], 8) - area(curve, 10)) for curve in steps))


def none_right():
    """The least n whose exact upper limit, the root of the binomial tail for none right, is below 0.05."""
    return next(n for n in range(1, 1000) if brentq(lambda rate, n=n: binom.cdf(0, n, rate) - 0.025, 0, 1) < 0.05)


def pairs_lose():
    """Where the mean of f(z) and f(-z) varies as much as that of two draws, by quadrature over the normal density."""
    z, weights = np.polynomial.hermite_e.hermegauss(20)
    weights /= weights.sum()

    def variance(values):
        return weights @ values**2 - (weights @ values) ** 2

    return brentq(lambda c: variance((z + c * z**2 - z + c * z**2) / 2) - variance(z + c * z**2) / 2, 0.1, 5)


TRUTH = {  # exercise: (answer, tolerance)
    "01.2": (math.hypot(*[8 / 255] * (3 * 64 * 64)), 0.02), "02.3": (6400, 0),
    "06.1": (lead_lost([0.6, 0.3, 0.1]), 5e-4), "07.1": (agreeing_draws(), 0),
    "08.3": (logistic_overtakes(), 0.005),
    "03.1": (timestep_undoubled(), 0), "04.1": (looking_more(), 5e-4),
    "09.1": (twice_too_much(), 0.005), "10.1": (areas_apart(), 0.001), "11.1": (none_right(), 0),
    "12.1": (two_switches(), 0.01),
    "13.1": (1 - (1 - 0.64) * (256 - 100) / (256 - 25), 0.002), "14.2": (pairs_lose(), 0.002),
}
WORDS = {"05.4": "+ block 4"}


def test_every_exercise_is_known_here_and_says_what_is_wanted():
    assert set(TRUTH) | set(WORDS) == set(exercises.EXERCISES)
    assert {name[:2] for name in exercises.EXERCISES} == {f"{n:02d}" for n in range(1, 15)}  # one in each lesson
    for name, exercise in exercises.EXERCISES.items():
        answer = fvit.exercise(name)
        assert not answer and repr(answer) == f"OPEN {name}  wanted: {exercise.wanted}"


@pytest.mark.parametrize("name", TRUTH)
def test_a_number_is_right_within_the_tolerance_and_gets_the_hint_beyond(name):
    (truth, within), exercise = TRUTH[name], exercises.EXERCISES[name]
    assert exercise.answer == pytest.approx(truth, rel=1e-5) and exercise.within == within
    for answer in (*np.linspace(truth - 0.99 * within, truth + 0.99 * within, 5), torch.tensor(truth), Fraction(truth)):
        assert repr(fvit.exercise(name, answer)) == f"RIGHT {name}" and fvit.exercise(name, answer)
    for off in (1.01 * within + 1e-6, truth, 1e300):
        for answer in (truth + off, truth - off):
            assert repr(fvit.exercise(name, answer)) == f"NOT YET {name}  {exercise.hint}"
            assert not fvit.exercise(name, answer)


@pytest.mark.parametrize("name", WORDS)
def test_words_are_taken_whatever_their_case_and_blanks(name):
    words = exercises.EXERCISES[name].words
    assert [word for word in words if fvit.exercise(name, f"  {word.upper()} ")] == [WORDS[name]]


@pytest.mark.parametrize("name, answer, message", [
    *(("02.3", answer, r"wanted one finite number such as 0\.25, or None for no answer yet")
      for answer in (math.nan, math.inf, "6400", True, [1, 2], torch.ones(2), 1j)),
    ("05.4", "nonsense", r"unknown answer to exercise 05\.4 'nonsense', known: head, \+ block 5"),
    ("2.3", 1, r"unknown exercise '2\.3', known: 01\.2, .*did you mean '02\.3'"),
])
def test_what_is_no_answer_is_refused(name, answer, message):
    with pytest.raises(ValueError, match=message):
        fvit.exercise(name, answer)


# The lessons themselves ---------------------------------------------------------------------------------------------
LESSONS = [next(paths.NOTEBOOKS.glob(f"{n:02d}_*.ipynb")) for n in range(1, 15)]


def cells(path):
    return nbformat.read(path, 4).cells


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_exercise_of_a_lesson_is_solved_apart(path):
    text = next(c.source for c in cells(path) if "## Exercises" in c.source).partition("## Exercises")[2]
    asked = re.findall(r"^(\d)\. ", text, flags=re.M)
    solved = cells(paths.NOTEBOOKS / "solutions" / f"{path.name[:2]}_solutions.ipynb")
    prose = "\n".join(c.source for c in solved if c.cell_type == "markdown")
    headings = re.findall(r"^## Exercise (\d)$", prose, flags=re.M)
    assert headings == asked == [str(n) for n in range(1, len(asked) + 1)] and 3 <= len(asked) <= 5
    assert f"(../{path.name})" in solved[0].source


def test_the_solutions_answer_every_exercise_that_checks_itself_and_no_more_and_the_lessons_none():
    answered = []
    for path in sorted(paths.NOTEBOOKS.glob("solutions/*.ipynb")):
        code = [c for c in cells(path) if c.cell_type == "code"]
        answered += [output.data["text/plain"] for c in code if "exercise" in c.metadata.get("tags", [])
                     for output in c.outputs]
        writes = re.compile(r"fvit\.claim|save_figure|save_rows|write_|to_csv|open\(")
        assert not writes.search("\n".join(c.source for c in code)), path.name
    assert answered == [f"RIGHT {name}" for name in sorted(exercises.EXERCISES)]
    for path in LESSONS:
        for name, rest in re.findall(r'fvit\.exercise\("([\d.]+)"(.*)\)', "\n".join(c.source for c in cells(path))):
            assert name in exercises.EXERCISES and rest in ("", ", None"), f"{path.name} gives {name} away"


def test_the_lesson_plan_names_every_notebook_and_no_other():
    plan = (paths.NOTEBOOKS / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\((\d\d_\w+\.ipynb)\)", plan))
    assert linked == {path.name for path in paths.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")}
    assert set(re.findall(r'fvit\.exercise\("([\d.]+)"', plan)) <= set(exercises.EXERCISES)
