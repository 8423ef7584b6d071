"""Exercises that check themselves: right answers by other means, near and far ones."""

import math
import re
from fractions import Fraction

import nbformat
import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize_scalar

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


def timestep_undoubled():
    relative = np.sqrt(1 / np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)) - 1)
    return int(np.abs(np.log(relative / 0.25)).argmin())


TRUTH = {  # exercise: (answer, tolerance)
    "01.2": (math.hypot(*[8 / 255] * (3 * 64 * 64)), 0.02), "02.3": (6400, 0),
    "06.1": (lead_lost([0.6, 0.3, 0.1]), 5e-4), "08.3": (logistic_overtakes(), 0.005),
    "03.1": (timestep_undoubled(), 0),
}
WORDS = {"04.5": "+ block 4"}


def test_every_exercise_is_known_here_and_says_what_is_wanted():
    assert set(TRUTH) | set(WORDS) == set(exercises.EXERCISES)
    assert {name[:2] for name in exercises.EXERCISES} == {f"{n:02d}" for n in range(1, 7)}  # one in each lesson
    for name, exercise in exercises.EXERCISES.items():
        answer = exercises.check(name)
        assert not answer and repr(answer) == f"OPEN {name}  wanted: {exercise.wanted}"


@pytest.mark.parametrize("name", TRUTH)
def test_a_number_is_right_within_the_tolerance_and_gets_the_hint_beyond(name):
    (truth, within), exercise = TRUTH[name], exercises.EXERCISES[name]
    assert exercise.answer == pytest.approx(truth, rel=1e-5) and exercise.within == within
    for answer in (*np.linspace(truth - 0.99 * within, truth + 0.99 * within, 5), torch.tensor(truth), Fraction(truth)):
        assert repr(exercises.check(name, answer)) == f"RIGHT {name}" and exercises.check(name, answer)
    for off in (1.01 * within + 1e-6, truth, 1e300):
        for answer in (truth + off, truth - off):
            assert repr(exercises.check(name, answer)) == f"NOT YET {name}  {exercise.hint}"
            assert not exercises.check(name, answer)


@pytest.mark.parametrize("name", WORDS)
def test_words_are_taken_whatever_their_case_and_blanks(name):
    words = exercises.EXERCISES[name].words
    assert [word for word in words if exercises.check(name, f"  {word.upper()} ")] == [WORDS[name]]


@pytest.mark.parametrize("name, answer, message", [
    *(("02.3", answer, r"wanted one finite number such as 0\.25, or None for no answer yet")
      for answer in (math.nan, math.inf, "6400", True, [1, 2], torch.ones(2), 1j)),
    ("04.5", "nonsense", r"unknown answer to exercise 06\.5 'nonsense', known: head, \+ block 5"),
    ("2.3", 1, r"unknown exercise '2\.3', known: 01\.2, .*did you mean '02\.3'"),
])
def test_what_is_no_answer_is_refused(name, answer, message):
    with pytest.raises(ValueError, match=message):
        exercises.check(name, answer)


# The lessons themselves ---------------------------------------------------------------------------------------------
LESSONS = [next(paths.NOTEBOOKS.glob(f"{n:02d}_*.ipynb")) for n in range(1, 7)]


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
        for name, rest in re.findall(r'exercises\.check\("([\d.]+)"(.*)\)', "\n".join(c.source for c in cells(path))):
            assert name in exercises.EXERCISES and rest in ("", ", None"), f"{path.name} gives {name} away"


def test_the_lesson_plan_names_every_notebook_and_no_other():
    plan = (paths.NOTEBOOKS / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\((\d\d_\w+\.ipynb)\)", plan))
    assert linked == {path.name for path in paths.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")}
    assert set(re.findall(r'exercises\.check\("([\d.]+)"', plan)) <= set(exercises.EXERCISES)
