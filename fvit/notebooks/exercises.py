"""Exercises that check themselves: right or not yet, and a hint; the answers are not here to be read by accident.

An answer is kept as slow salted hashes. Numbers are first sorted into cells, and each cell that an answer near enough
may fall into is accepted, so that the last digits of a computation do not matter. It stops a glance, no search:
the solved exercises are in notebooks/solutions.
"""

import hashlib
import math
from dataclasses import dataclass

from fvit.base.checks import check_choice


@dataclass(frozen=True)
class Exercise:
    """What an answer looks like, what to think of after a wrong one, and the digests of right ones."""

    wanted: str
    hint: str
    accepted: tuple[str, ...]
    step: float = 0.0  # width of a cell of numbers; 0: the answer is words
    choices: tuple[str, ...] = ()  # the words there are


@dataclass(frozen=True)
class Verdict:
    """True for a right answer; its text is the same on every machine."""

    exercise: str
    right: bool
    text: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return self.text


def check(exercise: str, answer=None) -> Verdict:
    """Is `answer` right? A wrong one is answered by a hint.

    exercise   "NN.n": number of the notebook and of the exercise; EXERCISES holds those that check themselves
    answer     a finite number, within the tolerance that the exercise states, or words; None for no answer yet

    Raises ValueError for an unknown exercise, and for an answer of another kind than wanted.
    """
    asked = EXERCISES[check_choice(exercise, EXERCISES, "exercise")]
    if answer is None:
        return Verdict(exercise, False, f"OPEN {exercise}  wanted: {asked.wanted}")
    found = cell(answer, asked.step) if asked.step else _words(exercise, answer, asked.choices)
    if digest(exercise, found) in asked.accepted:
        return Verdict(exercise, True, f"RIGHT {exercise}")
    return Verdict(exercise, False, f"NOT YET {exercise}  {asked.hint}")


def cell(answer, step: float) -> int:
    """Number of the cell of width `step` that `answer` lies in; it never falls as the answer grows."""
    try:
        number = math.nan if isinstance(answer, str | bool) else float(answer)
    except (TypeError, ValueError, RuntimeError):  # Runtime: a tensor of several numbers
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"answer {answer!r}, wanted one finite number such as 0.25, or None for no answer yet")
    return math.floor(number / step + 0.5)


def _words(exercise, answer, choices):
    words = " ".join(str(answer).lower().split())
    if words not in choices:
        raise ValueError(f"answer {answer!r} to exercise {exercise}, wanted one of: {', '.join(map(repr, choices))}")
    return words


def digest(exercise: str, found: int | str) -> str:
    """Salted hash of a cell or of words, slow enough that a table of all of them takes longer than thinking."""
    return hashlib.pbkdf2_hmac("sha256", str(found).encode(), f"fvit exercise {exercise}".encode(), 20_000, 6).hex()


def digests(exercise: str, truth, within: float = 0.0, step: float = 0.0) -> tuple[str, ...]:
    """The `accepted` of an exercise: sorted, so that their order does not tell the middle one.

    Every number at most `within` from the truth is right, none further than `within` + `step` is; between is either.
    """
    if not step:
        return (digest(exercise, truth),)
    return tuple(sorted(digest(exercise, n) for n in range(cell(truth - within, step), cell(truth + within, step) + 1)))


EXERCISES = {
    "01.2": Exercise(
        "the l2 length of the longest change that an linf radius of 8/255 allows on a 3 x 64 x 64 image, to 0.02",
        "Every one of the 3 x 64 x 64 values may move by the whole radius at once; how does an l2 length add them up?",
        ("10613027dc6d", "38f82a70823b", "a60de86d6561", "e54c5dccaba5", "f5bc5e6ebee0"), step=0.01),
    "02.3": Exercise(
        "a number of draws",
        "The standard error falls as one over the root of n: what must n be multiplied by?",
        ("a0df109bd490",), step=1),
    "03.1": Exercise(
        "the least divergence of order 2 at which (0.6, 0.3, 0.1) loses its top token, k = 1, to 0.0005 nats",
        "Two tokens are contested: they meet at their root mean square, the third stays, and all are scaled to sum 1.",
        ("0e60eaeee8d4", "635e6f8857dd", "dba6710542d7", "de6ec9f20dc8", "e2ee7ade94c7"), step=0.00025),
    "04.3": Exercise(
        "the divergence, at order 2, where logistic and Gaussian noise have equal variance, to 0.005 nats",
        "noise.relative_variance is 1 there; it is above 1 at a smaller divergence, so close in from both sides.",
        ("0b6cabbd7966", "69f61d1bdf23", "84b64598994c", "9b6b5c6a6bea", "b388ae5de5af"), step=0.0025),
    "05.1": Exercise(
        "the timestep t that the denoiser is told at sigma 0.25 by who forgets that [-1, 1] is twice as wide as [0, 1]",
        "Which sigma has that person in mind, in [0, 1] units? den.timestep gives the t of it.",
        ("e7b89868761c",), step=1),
    "06.5": Exercise(
        "the stage of F06c from which rollout with start_layer=3 is gone (rank correlation below 0.3), in words",
        "Rollout dies when the blocks that it reads have all forgotten; start_layer counts from 0. Which are left?",
        ("4dbae2f6ce8e",), choices=("head", "+ block 5", "+ block 4", "+ block 3", "+ block 2", "+ block 1",
                                    "+ embedding")),
}
