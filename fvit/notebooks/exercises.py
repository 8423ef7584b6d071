"""Exercises that check themselves: right or not yet, and a hint. Solved: notebooks/solutions."""

import math
from dataclasses import dataclass

from fvit.base.checks import as_number, check_choice


@dataclass(frozen=True)
class Exercise:
    """What an answer looks like, what to think of after a wrong one, and the right one."""

    wanted: str
    hint: str
    answer: float | str  # a number, or words
    within: float = 0.0  # how far off a number may be
    words: tuple[str, ...] = ()  # the words there are


@dataclass(frozen=True)
class Answer:
    """True for a right one; its text is the same on every machine."""

    exercise: str
    right: bool
    text: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return self.text


def check(exercise: str, answer=None) -> Answer:
    """Is `answer` right? A wrong one is answered by a hint.

    exercise   "NN.n": number of the notebook and of the exercise; EXERCISES holds those that check themselves
    answer     a finite number, within the tolerance that the exercise states, or words; None for no answer yet

    Raises ValueError for an unknown exercise, and for an answer of another kind than wanted.
    """
    asked = EXERCISES[check_choice(exercise, EXERCISES, "exercise")]
    if answer is None:
        return Answer(exercise, False, f"OPEN {exercise}  wanted: {asked.wanted}")
    if asked.words:
        words = check_choice(" ".join(str(answer).lower().split()), asked.words, f"answer to exercise {exercise}")
        right = words == asked.answer
    elif math.isfinite(as_number(answer)):
        right = abs(as_number(answer) - asked.answer) <= asked.within
    else:
        raise ValueError(f"answer {answer!r}, wanted one finite number such as 0.25, or None for no answer yet")
    return Answer(exercise, right, f"RIGHT {exercise}" if right else f"NOT YET {exercise}  {asked.hint}")


EXERCISES = {
    "01.2": Exercise(
        "the l2 length of the longest change that an linf radius of 8/255 allows on a 3 x 64 x 64 image, to 0.02",
        "Every one of the 3 x 64 x 64 values may move by the whole radius at once; how does an l2 length add them up?",
        3.47769, 0.02),
    "02.3": Exercise(
        "a number of draws",
        "The standard error falls as one over the root of n: what must n be multiplied by?",
        6400),
    "03.1": Exercise(
        "the least divergence of order 2 at which (0.6, 0.3, 0.1) loses its top token, k = 1, to 0.0005 nats",
        "Two tokens are contested: they meet at their root mean square, the third stays, and all are scaled to sum 1.",
        0.0950708, 0.0005),
    "04.3": Exercise(
        "the divergence, at order 2, where logistic and Gaussian noise have equal variance, to 0.005 nats",
        "noise.relative_variance is 1 there; it is above 1 at a smaller divergence, so close in from both sides.",
        0.377492, 0.005),
    "05.1": Exercise(
        "the timestep t that the denoiser is told at sigma 0.25 by who forgets that [-1, 1] is twice as wide as [0, 1]",
        "Which sigma has that person in mind, in [0, 1] units? den.timestep gives the t of it.",
        73),
    "06.5": Exercise(
        "the stage of F06c from which rollout with start_layer=3 is gone (rank correlation below 0.3), in words",
        "Rollout dies when the blocks that it reads have all forgotten; start_layer counts from 0. Which are left?",
        "+ block 4", words=("head", "+ block 5", "+ block 4", "+ block 3", "+ block 2", "+ block 1", "+ embedding")),
}
