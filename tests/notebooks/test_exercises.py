"""Exercises that check themselves: right answers by other means, near and far ones, and nothing to read by a glance."""

import math
import re
from fractions import Fraction

import nbformat
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar

from fvit.base import paths
from fvit.models import schedule
from fvit.notebooks import exercises
from fvit.theory import noise

SOURCE = (paths.PACKAGE / "notebooks" / "exercises.py").read_text(encoding="utf-8")


def lead_lost(w):
    """Least order-2 divergence to a map whose first two tokens are equal, by a search of that line."""
    def divergence(t):
        return math.log(np.sum(np.square(w) / [t, t, 1 - 2 * t]))

    return minimize_scalar(divergence, bounds=(1e-3, 0.499), method="bounded", options={"xatol": 1e-12}).fun


def logistic_overtakes():
    """By a plain sum over p^2 / q, and not by fvit.noise."""
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
    "01.2": (math.hypot(*[8 / 255] * (3 * 64 * 64)), 0.02),
    "02.3": (6400, 0),
    "03.1": (lead_lost([0.6, 0.3, 0.1]), 5e-4),
    "04.3": (logistic_overtakes(), 0.005),
    "05.1": (timestep_undoubled(), 0),
}
WORDS = {"06.5": "+ block 4"}


def test_every_exercise_is_known_here():
    assert set(TRUTH) | set(WORDS) == set(exercises.EXERCISES)


def test_each_of_the_six_lessons_has_one():
    assert {name[:2] for name in exercises.EXERCISES} == {f"{n:02d}" for n in range(1, 7)}


@pytest.mark.parametrize("name", TRUTH)
def test_the_truth_and_all_within_the_tolerance_is_right(name):
    truth, within = TRUTH[name]
    within -= 1e-6 * within  # the oracles agree to six figures
    for answer in np.linspace(truth - within, truth + within, 9):
        assert exercises.check(name, answer)
    for same in (np.float64(truth), torch.tensor(truth, dtype=torch.float64), Fraction(truth)):
        assert exercises.check(name, same)
    assert repr(exercises.check(name, truth)) == f"RIGHT {name}"


@pytest.mark.parametrize("name", TRUTH)
def test_anything_further_off_is_not_yet_right_and_gets_the_hint(name):
    (truth, within), exercise = TRUTH[name], exercises.EXERCISES[name]
    for off in (1.01 * (within + exercise.step), 3 * within + exercise.step + 0.01 * truth, truth, 1e6, 1e300):
        for answer in (truth + off, truth - off):
            verdict = exercises.check(name, answer)
            assert not verdict and repr(verdict) == f"NOT YET {name}  {exercise.hint}"


@pytest.mark.parametrize("name", WORDS)
def test_words_are_taken_whatever_their_case_and_blanks(name):
    choices = exercises.EXERCISES[name].choices
    assert [word for word in choices if exercises.check(name, f"  {word.upper()} ")] == [WORDS[name]]


def test_no_answer_yet_says_what_is_wanted():
    for name, exercise in exercises.EXERCISES.items():
        verdict = exercises.check(name)
        assert not verdict and repr(verdict) == f"OPEN {name}  wanted: {exercise.wanted}"


@pytest.mark.parametrize("answer", [math.nan, math.inf, "6400", True, [1, 2], torch.ones(2), np.ones(2), 1j, object()])
def test_what_is_no_number_is_refused(answer):
    with pytest.raises(ValueError, match=r"wanted one finite number such as 0\.25, or None for no answer yet"):
        exercises.check("02.3", answer)


def test_other_words_and_exercises_are_refused_with_what_is_known():
    with pytest.raises(ValueError, match=r"answer 'nonsense' to exercise 06\.5, wanted one of: 'head', '\+ block 5'"):
        exercises.check("06.5", "nonsense")
    with pytest.raises(ValueError, match=r"unknown exercise '2\.3', known: 01\.2, .*did you mean '02\.3'"):
        exercises.check("2.3", 1)


@settings(max_examples=300, deadline=None)
@given(truth=st.floats(-1e6, 1e6), within=st.floats(0, 10), step=st.floats(1e-3, 10), at=st.floats(-1, 1))
def test_cells_leave_out_no_number_within_the_tolerance_however_it_rounds(truth, within, step, at):
    low, high = truth - within, truth + within
    answer = min(max(truth + at * within, low), high)
    assert exercises.cell(low, step) <= exercises.cell(answer, step) <= exercises.cell(high, step)
    assert (exercises.cell(high, step) - exercises.cell(low, step) - 1) * step <= 2 * within + 1e-6


def test_digests_are_those_of_the_table_and_do_not_tell_the_order_of_cells():
    for name, (truth, within) in TRUTH.items():
        exercise = exercises.EXERCISES[name]
        assert exercise.accepted == exercises.digests(name, truth, within, exercise.step)
        assert list(exercise.accepted) == sorted(exercise.accepted)
    for name, word in WORDS.items():
        assert exercises.EXERCISES[name].accepted == exercises.digests(name, word)


def test_one_answer_has_another_digest_in_another_exercise():
    assert exercises.digest("02.3", 6400) != exercises.digest("02.4", 6400)


def test_no_answer_stands_in_the_module_in_clear():
    """Nor does one of its hints hold a number that would be accepted."""
    table = SOURCE[SOURCE.index("EXERCISES = {"):]
    table = re.sub(r'"[0-9a-f]{12}"', "", table)
    for name in TRUTH:
        numbers = {float(n) for n in re.findall(r"\d+\.?\d*", table)}
        assert not [n for n in numbers if exercises.check(name, n)], name


def test_the_wrong_factor_is_the_one_asked_for_in_05():
    alphas_cumprod = schedule.linear_alphas_cumprod(1000, 1e-4, 0.02)
    assert TRUTH["05.1"][0] == schedule.sigma_to_timestep(0.125, alphas_cumprod)


def test_the_crossing_of_04_is_where_the_library_has_it():
    assert noise.relative_variance("logistic", TRUTH["04.3"][0], 2) == pytest.approx(1, abs=1e-6)


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


def test_the_solutions_answer_every_exercise_that_checks_itself_and_the_lessons_none():
    answered = [output.data["text/plain"] for path in sorted(paths.NOTEBOOKS.glob("solutions/*.ipynb"))
                for c in cells(path) if "exercise" in c.metadata.get("tags", []) for output in c.outputs]
    assert answered == [f"RIGHT {name}" for name in sorted(exercises.EXERCISES)]
    for path in LESSONS:
        for name, rest in re.findall(r'lessons\.check\("([\d.]+)"(.*)\)', "\n".join(c.source for c in cells(path))):
            assert name in exercises.EXERCISES and rest in ("", ", None"), f"{path.name} gives {name} away"


def test_solutions_make_no_claims_and_write_no_files():
    for path in paths.NOTEBOOKS.glob("solutions/*.ipynb"):
        code = "\n".join(c.source for c in cells(path) if c.cell_type == "code")
        assert not re.search(r"fvit\.claim|save_figure|save_rows|write_|to_csv|open\(", code), path.name


def test_the_lesson_plan_names_every_notebook_and_no_other():
    plan = (paths.NOTEBOOKS / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\((\d\d_\w+\.ipynb)\)", plan))
    assert linked == {path.name for path in paths.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")}
    assert set(re.findall(r'lessons\.check\("([\d.]+)"', plan)) <= set(exercises.EXERCISES)
