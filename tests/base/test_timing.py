"""Timing against a clock that the calls themselves advance: nothing here depends on real time."""

import io

import pytest

from fvit.base.timing import Progress, duration, take_turns


class Clock:
    """A clock that stands still until a call takes its time."""

    def __init__(self):
        self.now, self.called = 0.0, []

    def __call__(self):
        return self.now

    def call(self, name, seconds):
        lengths = iter(seconds)

        def run():
            self.called.append(name)
            self.now += next(lengths)

        return run


def test_each_call_has_its_own_seconds_and_the_warm_up_is_not_among_them():
    clock = Clock()
    calls = {"a": clock.call("a", [100, 1, 2, 3]), "b": clock.call("b", [200, 10, 40, 20])}
    times = take_turns(calls, repeats=3, warmup=1, clock=clock)
    assert times.to_dict("list") == {"a": [1, 2, 3], "b": [10, 40, 20]}
    assert times.median().to_dict() == {"a": 2, "b": 20}


def test_calls_take_turns_so_that_a_load_that_grows_does_not_change_their_ratio():
    clock = Clock()
    loads = [1, 5, 7]
    calls = {"a": clock.call("a", loads), "b": clock.call("b", [3 * load for load in loads])}
    times = take_turns(calls, repeats=3, warmup=0, clock=clock)
    assert clock.called == ["a", "b"] * 3
    assert (times.b / times.a).tolist() == [3, 3, 3]


@pytest.mark.parametrize("changes", [{"calls": {}}, {"repeats": 0}, {"repeats": 1.5}, {"warmup": -1}])
def test_it_refuses_what_it_cannot_count(changes):
    with pytest.raises(ValueError, match="wanted an integer >= "):
        take_turns(**{"calls": {"a": dict}} | changes)


def test_progress_says_what_is_left_at_the_rate_so_far():
    out = io.StringIO()
    times = iter([100.0, 110.0, 160.0, 190.0])
    progress = Progress("09_scores", 3, clock=lambda: next(times), file=out)
    for _ in range(3):
        progress.step()
    assert out.getvalue().splitlines() == ["09_scores: block 1 of 3, about 20 s left",
                                           "09_scores: block 2 of 3, about 30 s left",
                                           "09_scores: block 3 of 3, done in 2 min"]


@pytest.mark.parametrize("seconds, text", [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (3600, "60 min"),
                                           (5400, "1 h 30 min"), (86400, "24 h 0 min"), (3 * 86400 + 7200, "3 d 2 h")])
def test_durations_as_they_are_said(seconds, text):
    assert duration(seconds) == text
