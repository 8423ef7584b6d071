"""Exercises that check themselves: right or not yet, and a hint. Solved: notebooks/solutions."""

import math
from dataclasses import dataclass

from fvit.base.checks import as_number, check_choice
from fvit.base.paths import PACKAGE
from fvit.records.templates import read_words


@dataclass(frozen=True)
class Exercise:
    """What an answer looks like, what to think of after a wrong one, and the right one."""

    wanted: str
    hint: str
    answer: float | str  # a number, or words
    within: float = 0.0  # how far off a number may be
    words: tuple[str, ...] = ()  # the words there are


EXERCISES = {name: Exercise(**said) for name, said in read_words(PACKAGE / "exercises.toml").items()}


@dataclass(frozen=True)
class Answer:
    """True for a right one; its text is the same on every machine."""

    right: bool
    text: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return self.text


def exercise(name: str, answer=None) -> Answer:
    """Is `answer` right? A wrong one is answered by a hint.

    name     "NN.n": number of the notebook and of the exercise; EXERCISES holds those that check themselves
    answer   a finite number, within the tolerance that the exercise states, or words; None for no answer yet

    Raises ValueError for an unknown exercise, and for an answer of another kind than wanted.
    """
    asked = EXERCISES[check_choice(name, EXERCISES, "exercise")]
    if answer is None:
        return Answer(False, f"OPEN {name}  wanted: {asked.wanted}")
    if asked.words:
        words = check_choice(" ".join(str(answer).lower().split()), asked.words, f"answer to exercise {name}")
        right = words == asked.answer
    elif math.isfinite(as_number(answer)):
        right = abs(as_number(answer) - asked.answer) <= asked.within
    else:
        raise ValueError(f"answer {answer!r}, wanted one finite number such as 0.25, or None for no answer yet")
    return Answer(right, f"RIGHT {name}" if right else f"NOT YET {name}  {asked.hint}")
