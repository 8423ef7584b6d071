"""Seconds that calls take, on the wall clock: compared in turns, or said while they pass."""

import sys
import time

import pandas as pd

from fvit.base import devices
from fvit.base.checks import check_count


def take_turns(calls: dict, repeats: int = 3, warmup: int = 1, clock=time.perf_counter) -> pd.DataFrame:
    """Seconds of each call in each round, as DataFrame of `repeats` rows with a column per call.

    calls    name -> function without arguments, called one after the other in every round; a GPU is waited for
    warmup   rounds before, not timed: the first call of a network allocates memory and chooses algorithms
    clock    seconds, only differences count

    For a ratio take the median of each round's, `(times.a / times.b).median()`: both sides then met the same load.
    Raises ValueError for no calls, or repeats or warmup that are no count.
    """
    check_count(len(calls), "number of calls")
    repeats, warmup = check_count(repeats, "repeats"), check_count(warmup, "warmup", least=0)
    rounds = []
    for _ in range(warmup + repeats):
        seconds = {}
        for name, call in calls.items():
            start = clock()
            call()
            devices.wait()
            seconds[name] = clock() - start
        rounds.append(seconds)
    return pd.DataFrame(rounds[warmup:])


class Progress:
    """A line on stderr, which nbval does not compare, for each finished part of a long run, with the time left."""

    def __init__(self, name: str, parts: int, clock=time.monotonic, file=None):
        self.name, self.parts, self.clock, self.file = name, parts, clock, file
        self.done, self.start = 0, clock()

    def step(self) -> None:
        self.done += 1
        seconds = self.clock() - self.start
        left = seconds / self.done * (self.parts - self.done)
        said = f"about {duration(left)} left" if self.done < self.parts else f"done in {duration(seconds)}"
        print(f"{self.name}: block {self.done} of {self.parts}, {said}", file=self.file or sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """A time as it is said: 40 s, 12 min, 5 h 10 min, 2 d 3 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if (minutes := round(seconds / 60)) < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
