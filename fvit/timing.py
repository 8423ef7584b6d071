"""Seconds that calls take, on the wall clock, in turns: a drift of the machine's load meets all of them alike."""

import time

import pandas as pd


def take_turns(calls: dict, repeats: int = 3, warmup: int = 1, clock=time.perf_counter) -> pd.DataFrame:
    """Seconds of each call in each round, as DataFrame of `repeats` rows with a column per call.

    calls    name -> function without arguments, called one after the other in every round; on a GPU each must wait for
             its own result
    warmup   rounds before, not timed: the first call of a network allocates memory and chooses algorithms
    clock    seconds, only differences count

    A median over rounds (`times.median()`) shrugs off a round that was disturbed. For a ratio take the median of the
    ratios of each round, `(times.a / times.b).median()`: both sides then met the same load.
    Raises ValueError for no calls, or repeats or warmup that are no count.
    """
    if not calls or int(repeats) != repeats or repeats < 1 or int(warmup) != warmup or warmup < 0:
        raise ValueError(f"{len(calls)} calls, repeats={repeats}, warmup={warmup}; wanted calls, at least one repeat, "
                         "and a warm-up of 0 or more rounds")
    rounds = []
    for _ in range(warmup + repeats):
        seconds = {}
        for name, call in calls.items():
            start = clock()
            call()
            seconds[name] = clock() - start
        rounds.append(seconds)
    return pd.DataFrame(rounds[warmup:])
