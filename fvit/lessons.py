"""Exercises that check themselves: right or not yet, and a hint; the answers are not here to be read by accident.

An answer is kept as slow salted hashes. Numbers are first sorted into cells, and each cell that an answer near enough
may fall into is accepted, so that the last digits of a computation do not matter. It stops a glance, no search:
the solved exercises are in notebooks/solutions.
"""

import hashlib
import math
from dataclasses import dataclass

from fvit.checks import check_choice


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
}
