"""Faults: `make test-faults` (FVIT_FAULTS=10 disturbances of each kind), and FVIT_FAULTS=1 in `make test`.

A plain `pytest tests` collects nothing here. Moments and bytes are drawn from a seed that is printed; FVIT_FAULTS_SEED
repeats them (moments given by a clock vary all the same).
"""

import os
import random
import secrets
from collections import Counter

import pytest

os.environ["FVIT_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # a pool of threads does not live through a fork

from harm import TIMES

SEED = os.environ.get("FVIT_FAULTS_SEED") or str(secrets.randbelow(10**6))
COUNTS = Counter()
collect_ignore_glob = [] if TIMES else ["*"]


def pytest_report_header():
    return f"faults: {TIMES} disturbances of each kind, FVIT_FAULTS_SEED={SEED}"


@pytest.fixture
def dice(request):
    """Random numbers of this test, the same for the same seed."""
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture
def tally():
    """tally(kind): one more disturbance of this kind, after which all was as it should be."""
    return lambda kind: COUNTS.update([kind])


@pytest.fixture(autouse=True)
def own_output(tmp_path, monkeypatch):
    monkeypatch.setenv("FVIT_OUT", str(tmp_path / "out"))


def pytest_terminal_summary(terminalreporter):
    if COUNTS:
        terminalreporter.section(f"disturbances survived, FVIT_FAULTS_SEED={SEED}")
        for kind in sorted(COUNTS):
            terminalreporter.write_line(f"{COUNTS[kind]:4}  {kind}")
        terminalreporter.write_line(f"{sum(COUNTS.values()):4}  in all; results lost or corrupted: none if all passed")
