"""Certificates from draws: maps whose shifted means are exact, slow references, tiny models end to end."""

import itertools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from oracles.maps import dds_loop, images
from oracles.theory import cdf_certified, last_certified, least_loss, subsets, upper_curve
from scipy import stats
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, softmax

from fvit.base import rng
from fvit.certification import (
    ABSTAIN,
    CERTIFICATES,
    certify,
    certify_draws,
    certify_label,
    certify_until,
    draw_maps,
    judged,
    shown_label,
    shown_set,
    votes,
)
from fvit.explanations.methods import METHODS, Method
from fvit.metrics.maps import top_k
from fvit.smoothing import DDS
from fvit.theory import from_draws
from fvit.theory.bounds import dkw_margin, mean_bound
from fvit.theory.radii import certified_radius

pytestmark = pytest.mark.filterwarnings("error")  # a valid call prints no warning
COLUMNS = ("image_id model method defence sigma norm k n_pilot metric certificate n_samples failure_prob level "
           "radius").split()
BUT_RENYI = [c for c in CERTIFICATES if c != "renyi"]  # it is slow, and never above "sharp" on the same bounds
IDS = ["a", "b", "c"]
METRICS = ["radius", "label_radius", "joint_radius"]


# maps with a known truth ---------------------------------------------------------------------------------------------
@dataclass
class Law:
    """A map of g = <u, y> / sigma alone, constant between `cuts`; moving x by s sigma u moves the mean of g by s."""

    cuts: np.ndarray
    rows: np.ndarray  # (len(cuts) + 1, n) the map on each interval, from low g to high
    k: int
    beta: Fraction

    def draws(self, random, m):
        return self.rows[np.searchsorted(self.cuts, random.standard_normal(m))]

    def mean(self, values, shift):
        """Exact E values(g + shift), `values` given on each interval."""
        return np.diff(ndtr(np.r_[-np.inf, self.cuts, np.inf] - shift)) @ values


def softmax_law():
    cuts = np.linspace(-4, 4, 41)
    g = np.r_[-4.1, (cuts[1:] + cuts[:-1]) / 2, 4.1][:, None]
    scores = [2.0, 1.5, 1.0, 0.3, 0.0, -0.5] + g * [-0.3, 0.2, -0.5, 0.4, 0.5, 0.1]
    return Law(cuts, softmax(scores, axis=1), 3, Fraction(2, 3))


LAWS = {  # the first three break at the very radius that their best certificate has in the limit of many draws
    "one-hot": Law(ndtri([0.5, 0.6, 0.7, 0.8]), np.eye(5)[[0, 2, 3, 4, 1]], 1, Fraction(1)),
    "counterexample A": Law(ndtri([0.62, 0.92]), np.array([[0.5, 0.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), 2,
                            Fraction(1, 2)),  # docs/theory.md, section 1.6
    "second place": Law(np.array([0.6]), np.array([[0.6, 0.25, 0.15, 0], [0.6, 0.15, 0.25, 0]]), 2, Fraction(1)),
    "softmax": softmax_law(),
}  # fmt: skip


def best(row, k):
    return sorted(range(len(row)), key=lambda i: (-row[i], i))[:k]


def clip_level(pilot, k):
    return min(1, 2 * sorted(pilot.mean(0))[-k])


def averaged(maps, certificate, k, level):
    """What the map of a certificate averages: memberships of the top-k, the map clipped, or the map itself."""
    if certificate == "votes":
        return np.array([np.isin(range(maps.shape[1]), best(row, k)) for row in maps], dtype=float)
    return np.minimum(maps, level) if certificate in ("clipped", "cdf") else maps


def is_broken(q, top, lost):
    """Lemma 1: some choice of the top-k of q has lost `lost` tokens of `top`."""
    return sorted(q[top])[lost - 1] <= sorted(np.delete(q, top))[-lost]


def outcomes(law, certificate, failure_prob, repetitions, m=200, seed=0):
    """(repetitions that certify something, those of them in which the set breaks inside the radius)."""
    random, some, wrong = np.random.default_rng(seed), 0, 0
    for _ in range(repetitions):
        pilot, draws = law.draws(random, 50), law.draws(random, m)
        rho = certify_draws(pilot, draws, law.k, [law.beta], failure_prob, certificate)[0]
        level = clip_level(pilot, law.k)
        top = best(averaged(pilot, certificate, law.k, level).mean(0), law.k)
        values = averaged(law.rows, certificate, law.k, level)
        shifts = min(rho, 6) * np.outer([-1, 1], [0, 0.25, 0.5, 0.75, 0.999]).ravel()
        some += rho > 0
        wrong += rho > 0 and any(is_broken(law.mean(values, s), top, least_loss(law.k, law.beta)) for s in shifts)
    return some, wrong


@pytest.mark.parametrize("certificate, name", [*itertools.product(BUT_RENYI, LAWS), ("renyi", "one-hot")])
def test_the_set_breaks_inside_the_radius_no_more_often_than_stated(certificate, name):
    repetitions = 100 if certificate == "renyi" else 300
    some, wrong = outcomes(LAWS[name], certificate, 0.05, repetitions, m=500 if name == "second place" else 200)
    assert some > repetitions / 2  # the certificates say something
    assert stats.binomtest(wrong, repetitions, 0.05, alternative="greater").pvalue > 0.01
    if name == "one-hot" and certificate != "renyi":  # one in a thousand
        some, wrong = outcomes(LAWS[name], certificate, 1e-3, 300, m=500, seed=1)
        assert some > 250 and wrong == 0


@pytest.mark.parametrize("certificate, name", [
    *itertools.product(BUT_RENYI, ["one-hot"]), ("sharp", "counterexample A"), ("votes", "second place"),
    ("cdf", "second place"), ("votes", "softmax")])  # fmt: skip
def test_means_in_place_of_bounds_are_caught(monkeypatch, certificate, name):
    monkeypatch.setattr(from_draws, "rate_bound", lambda counts, m, each, side: counts / m)
    monkeypatch.setattr(from_draws, "mean_bound", lambda values, each, side, high: values.mean(0))
    monkeypatch.setattr(from_draws, "dkw_margin", lambda m, each: 0.0)
    some, wrong = outcomes(LAWS[name], certificate, 0.05, 100)
    assert some == 100 and stats.binomtest(wrong, 100, 0.05, alternative="greater").pvalue < 1e-4


@pytest.mark.parametrize("certificate", ["votes", "clipped"])
def test_bounds_cover_all_tokens_and_the_set_is_not_chosen_from_the_draws_that_bound(certificate):
    """Tokens drawn alike: all means are equal at every shift, whatever is certified is wrong."""
    n, k, beta, level, repetitions = 24, 12, ["1/12"], 0.04, 150  # one of the 12 may stay: its best bound is decisive
    random = np.random.default_rng(1)
    base = softmax(random.normal(size=n))
    wrong = dict.fromkeys(["as it is", "each token at the level of all", "and the set from the same draws"], 0)
    for _ in range(repetitions):
        pilot, draws = (random.permuted(np.tile(base, (m, 1)), axis=1) for m in (50, 200))
        for case, (first, p) in zip(wrong, [(pilot, level), (pilot, n * level), (draws, n * level)], strict=True):
            wrong[case] += certify_draws(first, draws, k, beta, p, certificate)[0] > 0
    rates = [count / repetitions for count in wrong.values()]
    assert rates[0] <= level < 0.12 < rates[1] < rates[2]


@pytest.mark.parametrize("certificate", ["votes", "clipped"])
def test_bounds_cover_the_tokens_whose_loss_breaks_the_set_and_no_others_are_paid_for(certificate):
    """Three of the set change places with three others at every other draw, so whatever is certified is wrong; the
    greatest of three lower bounds decides, so that each alone at the stated level is not enough."""
    k, beta, level, repetitions = 12, ["10/12"], 0.1, 600
    random, wrong = np.random.default_rng(2), [0, 0]
    pilot = np.where(np.arange(24) < k, 7, 1)[None] / 96
    for _ in range(repetitions):
        rows = exchanged(random, 100, slots=3)
        for case, p in enumerate((level, 6 * level)):
            wrong[case] += certify_draws(pilot, rows, k, beta, p, certificate)[0] > 0
    at_level = [stats.binomtest(count, repetitions, level, alternative="greater").pvalue for count in wrong]
    assert at_level[0] > 0.01
    if certificate == "votes":  # exact bounds; betting has room to spare
        assert at_level[1] < 1e-4


# prediction and top-k at once ----------------------------------------------------------------------------------------
@dataclass
class LawOfBoth(Law):
    """A law that also predicts: `probs` (len(cuts) + 1, C), the class probabilities on each interval."""

    probs: np.ndarray

    def both(self, random, m):
        at = np.searchsorted(self.cuts, random.standard_normal(m))
        return self.rows[at], self.probs[at]


def law_of_both(set_breaks, label_breaks):
    """Token 1 leads in the lower tail, class 1 is predicted in the upper: each breaks at its radius, to its side."""
    return LawOfBoth(np.array([-set_breaks, label_breaks]), np.array([[0, 1.0], [1, 0], [1, 0]]), 1, Fraction(1),
                     probs=np.array([[0.9, 0.1], [0.9, 0.1], [0, 1]]))


def wrong_of_both(law, certificate, level, repetitions, m=100):
    """Shares of repetitions: some joint radius; set or label lost inside it; set or label lost inside its own."""
    random, found = np.random.default_rng(0), []
    values = [np.eye(2)[law.probs.argmax(1)] if certificate == "votes" else law.probs, law.rows]
    for _ in range(repetitions):
        pilot, draws = law.both(random, 50), law.both(random, m)
        rho = (certify_label(pilot[1], draws[1], level, certificate),
               certify_draws(pilot[0], draws[0], 1, [1], level, certificate)[0])
        lead = [int(of[np.searchsorted(law.cuts, 0)].argmax()) for of in values]  # the truth, and so the pilot's
        lost = [[any(law.mean(of, s)[first] <= 0.5 for s in 0.999 * np.array([-r, r])) for r in (min(rho), own)]
                for of, first, own in zip(values, lead, rho, strict=True)]  # fmt: skip
        found.append([min(rho) > 0, any(together for together, _ in lost), any(own for _, own in lost)])
    return np.mean(found, axis=0)


@pytest.mark.parametrize("certificate", ["votes", "sharp"])
@pytest.mark.parametrize("breaks", [(0.7, 0.7), (1.4, 0.7), (0.7, 1.4)])
def test_prediction_and_top_k_are_lost_inside_the_joint_radius_no_more_often_than_stated(certificate, breaks):
    level, n = 0.2, 400
    some, together, apart = wrong_of_both(law_of_both(*breaks), certificate, level, n)
    assert some > 0.9 and stats.binomtest(round(together * n), n, level, alternative="greater").pvalue > 0.01
    if certificate == "votes" and breaks[0] > breaks[1]:  # the label decides, by one exact bound: no idle caution
        assert together > 0.6 * level
    if certificate == "votes" and breaks[0] == breaks[1]:  # two radii are two statements, which the level cannot cover
        assert stats.binomtest(round(apart * n), n, level, alternative="greater").pvalue < 0.01


def test_a_joint_radius_of_means_in_place_of_bounds_is_caught(monkeypatch):
    monkeypatch.setattr(from_draws, "rate_bound", lambda counts, m, each, side: counts / m)
    for breaks in ((1.4, 0.7), (0.7, 1.4)):
        together = wrong_of_both(law_of_both(*breaks), "votes", 0.2, 100)[1]
        assert stats.binomtest(round(together * 100), 100, 0.2, alternative="greater").pvalue < 1e-3


def test_a_label_s_radius_by_hand():
    probs = np.random.default_rng(0).permutation([[0.6, 0.3, 0.1]] * 80 + [[0.2, 0.5, 0.3]] * 20)
    low = brentq(lambda p: stats.binom.sf(79, 100, p) - 0.01, 0.01, 0.99)  # Clopper-Pearson
    pilot = probs[:20]
    assert certify_label(pilot, probs, 0.01) == pytest.approx(ndtri(low)) and ndtri(low) > 0.3
    mean = mean_bound(probs[:, [0]], 0.01, "lower").item()
    assert mean < 0.5 and certify_label(pilot, probs, 0.01, "sharp") == 0  # the mean is .52
    sure = np.array([[0.9, 0.1]] * 100)
    want = ndtri(mean_bound(sure[:, [0]], 0.01, "lower").item())
    assert certify_label(sure[:9], sure, 0.01, "renyi") == pytest.approx(want) and want > 0.5
    assert certify_label(sure[:9, ::-1], sure, 0.01) == 0  # the class is the pilot's
    assert [shown_label(probs[probs[:, 0] < 0.5], c) for c in ("votes", "sharp")] == [1, 1]
    unlike = np.array([[0.51, 0.49]] * 2 + [[0, 1]])
    assert [shown_label(unlike, c) for c in ("votes", "sharp")] == [0, 1]
    assert certify_label(np.ones((3, 1)), np.ones((3, 1)), 0.01) == np.inf  # one class, nothing to lose


# until an answer -----------------------------------------------------------------------------------------------------
def exchanged(random, m, slots=1):
    """Maps of 24 tokens, 12 in the top, of whom `slots` change places with others at every other draw: their votes are
    equal, so whatever is certified is wrong."""
    rows = np.full((m, 24), 1 / 96)
    rows[:, slots:12] = 7 / 96
    outside = random.integers(0, 2, (m, slots))
    for slot in range(slots):
        rows[np.arange(m), slot + 12 * outside[:, slot]] = 7 / 96
    return rows


def test_looks_at_the_draws_do_not_make_a_radius_wrong_more_often(monkeypatch):
    """Stopped at the first look that certifies anything, which is the worst that a reader can ask for."""
    pilot, level, repetitions = np.where(np.arange(24) < 12, 7, 1)[None] / 96, 0.2, 500

    def wrong():
        random, count = np.random.default_rng(3), 0
        for _ in range(repetitions):
            rho, n = certify_until(lambda at: exchanged(random, len(at)), pilot, 12, 1, 320, level, 1e-9)
            count += rho > 0
            assert n in (40, 80, 160, 320)
        return stats.binomtest(count, repetitions, level, alternative="greater").pvalue

    assert sum(part for _, part in from_draws.LOOKS) == pytest.approx(1) and wrong() > 0.01
    monkeypatch.setattr(from_draws, "HOPE", 1e-9)  # nothing is given up
    assert wrong() > 0.01
    monkeypatch.setattr(from_draws, "LOOKS", [(share, 2) for share, _ in from_draws.LOOKS])
    assert wrong() < 1e-4  # looks that do not share


def test_drawing_ends_where_the_radius_is_reached_where_there_is_no_hope_and_at_the_last_look():
    clear = np.eye(6)[[0, 1, 2]].sum(0)[None] / 3 + np.zeros((400, 1))
    close = softmax_draws(1, 400, n=6, spread=1.5)
    asked = []

    def draw(maps):
        return lambda at: (asked.append((at.start, at.stop)), maps[list(at)])[1]

    rho, n = certify_until(draw(clear), clear[:20], 3, "2/3", 400, 1e-3, 0.5)
    assert n == 50 and asked == [(0, 50)] and rho > 0.5
    assert rho == certify_draws(clear[:20], clear[:50], 3, ["2/3"], 1e-3 / 6, "votes")[0]
    rho, n = certify_until(draw(close), close[:20], 3, "2/3", 400, 1e-3, 3)
    assert n == 50 and rho < 3  # given up
    for certificate in ("clipped", "cdf", "sharp"):
        rho, n = certify_until(draw(close), close[:20], 3, "1/3", 40, 0.5, 1e-3, certificate)
        assert n in (5, 10, 20, 40) and rho >= 0
    assert certify_until(draw(clear), clear[:20], 3, "2/3", 3, 0.1, 99)[1] <= 3


def test_rows_until_a_radius_say_how_many_were_drawn(dds, x):
    common = dict(k=5, beta="0.6", n_samples=80, failure_prob=0.2, ids=IDS)
    frame = certify(dds, x, until=1e-9, **common)
    assert list(frame["image_id"]) == IDS and set(frame["n_samples"]) <= {10, 20, 40, 80}
    pairs = DDS(dds.vit, dds.den, dds.sigma, n_samples=10, seed=dds.seed, draws="antithetic")
    assert list(certify(pairs, x, **common)["n_samples"]) == [80] * 3 and pairs.draws == "antithetic"
    with pytest.raises(ValueError, match=r"failure_prob=2, wanted a number in \(0, 1\)"):
        certify(dds, x, until=0.1, **common | {"failure_prob": 2})
    for changes in ({"beta": ["0.6", "1"]}, {"certificate": "all"}, {"n_samples": [4, 8]}, {"plugin": ["sharp"]},
                    {"prediction": True}):
        with pytest.raises(ValueError, match="until= asks for one certificate, one beta and one n_samples"):
            certify(dds, x, until=0.1, **common | changes)
    with pytest.raises(ValueError, match=r"until=0, wanted a number in \(0, inf\), a radius in"):
        certify(dds, x, until=0, **common)


# against the definitions ---------------------------------------------------------------------------------------------
def test_what_draws_prove_of_a_set_at_another_image():
    """Eight tokens, four shown, of which one may be lost: two that sink below two others break it."""
    order = {"kept": [0, 1, 2, 3], "one lost": [0, 1, 2, 4], "two lost": [0, 1, 4, 5], "all lost": [4, 5, 6, 7]}
    maps = {name: np.full((200, 8), 0.01) for name in order}
    for name, top in order.items():
        maps[name][:, top] = 0.24
    found = {name: judged(draws, np.arange(4), 4, "0.75", 0.01) for name, draws in maps.items()}
    assert [list(f.values()) for f in found.values()] == [[1, 1, 0], [0.75, 1, 0], [0.5, 0, 1], [0, 0, 1]]
    half = np.concatenate([maps["kept"][:100], maps["two lost"][:100]])  # tokens 2, 3, 4, 5 have half of the votes
    assert list(judged(half, np.arange(4), 4, "0.75", 0.01).values()) == [1, 0, 0]  # ties go to the lowest index
    assert list(judged(maps["kept"][:3], np.arange(4), 4, "0.75", 0.01).values()) == [1, 0, 0]  # too few to prove it
    assert list(judged(maps["all lost"], np.arange(4), 4, "0", 0.01).values()) == [0, 1, 0]  # nothing is asked


def test_votes_by_hand():
    rows = [[0.4, 0.3, 0.2, 0.1]] * 60 + [[0.25] * 4] * 10 + [[0.4, 0.1, 0.3, 0.2]] * 30  # a tie: to 0 and 1
    draws = np.random.default_rng(0).permutation(rows)  # votes: 100, 70, 30, 0 of 100
    assert votes(draws, 2).sum(0).tolist() == [100, 70, 30, 0] and (votes(draws, 2).sum(1) == 2).all()
    each = 0.05 / 2  # beta 1: of the last of the set and of the first outside
    low = brentq(lambda p: stats.binom.sf(69, 100, p) - each, 0.01, 0.99)  # Clopper-Pearson: P(>= 70) = each
    high = brentq(lambda p: stats.binom.cdf(30, 100, p) - each, 0.01, 0.99)  # P(<= 30) = each
    always = (0.05 / 4) ** (1 / 100)  # of two on either side, beta 1/2; always^100 = .0125; never is its mirror image
    want = [(ndtri(low) - ndtri(high)) / 2, ndtri(always), np.inf]
    assert 0 < want[0] < want[1]
    assert certify_draws(draws[:20], draws, 2, ["1", "0.5", 0], 0.05) == pytest.approx(want)
    backwards = draws[:20, ::-1]  # the shown set is the pilot's alone: here the tokens 3 and 2, or with ties 0 and 1
    assert certify_draws(backwards, draws, 2, [1], 0.05) == [0]


def reference(certificate, pilot, draws, k, beta, failure_prob):
    """Theorem 6 (b) and (d) as they are worded, with every token's bound computed alone."""
    n, lost, level = draws.shape[1], least_loss(k, beta), clip_level(pilot, k)
    high = level if certificate in ("clipped", "cdf") else 1
    top = best(averaged(pilot, certificate, k, level).mean(0), k)
    values, each = averaged(draws, certificate, k, level), failure_prob / (2 * lost)
    if certificate == "cdf":
        margin = dkw_margin(len(draws), each)
        return last_certified(lambda rho: cdf_certified(values, top, lost, rho, 0, high, margin, 4000), steps=18)
    lower = [mean_bound(values[:, [i]], each, "lower", high).item() for i in top]
    upper = [mean_bound(values[:, [i]], each, "upper", high).item() for i in range(n) if i not in top]
    a, b = sorted(lower)[:lost], sorted(upper, reverse=True)[:lost]
    if certificate == "clipped":  # the m-th largest lower bound inside, the k0-th largest upper bound outside
        return max(0, (ndtri(sorted(lower, reverse=True)[k - lost] / high) - ndtri(b[-1] / high)) / 2)
    if certificate == "sharp":  # Theorem 3 over all subsets U
        u = subsets(lost)[subsets(lost).sum(1) > 0]
        size = u.sum(1)
        return last_certified(
            lambda rho: ((1 - upper_curve(1 - u @ a, rho)) / size).max() > (upper_curve(u @ b, rho) / size).min())
    return np.sqrt(2 * max(least_rate(s, np.array(a), np.array(b)) for s in np.linspace(-8, 9, 1701) + 0.005))


def least_rate(s, a, b):
    """Lambda(s; a, b) of Theorem 1, s neither 0 nor 1: the level tau from its equation."""
    if a.max() <= b.min():
        return 0.0

    def excess(tau):
        return abs(a[a > tau] ** s - tau**s).sum() - abs(b[b < tau] ** s - tau**s).sum()

    tau = brentq(excess, b.min(), a.max(), xtol=1e-15)
    return np.log1p((tau - a[a > tau]).sum() + (tau - b[b < tau]).sum()) / (s - 1)


def softmax_draws(seed, m, n=7, spread=0.3):
    noise = np.random.default_rng(seed).normal(size=(m, n))
    return softmax(np.linspace(2, -1, n) + spread * noise, axis=1)


@pytest.mark.parametrize("certificate", ["clipped", "cdf", "sharp", "renyi"])
@pytest.mark.parametrize("beta, failure_prob", [(Fraction(1), 0.1), (Fraction(2, 3), 0.01), (Fraction(1, 3), 1e-4)])
def test_mean_certificates_are_the_slow_reference(certificate, beta, failure_prob):
    pilot, draws = softmax_draws(0, 30), softmax_draws(1, 1000)
    got = certify_draws(pilot, draws, 3, [beta], failure_prob, certificate)
    want = reference(certificate, pilot, draws, 3, beta, failure_prob)
    assert want > 0.01
    assert got == pytest.approx([want], rel=1e-3 if certificate in ("cdf", "renyi") else 1e-6)


def test_clipped_certificates_where_the_kth_value_of_the_pilot_is_zero():
    one_hot = np.eye(5)[np.random.default_rng(0).integers(0, 2, 400)]
    for certificate in CERTIFICATES[1:]:
        assert certify_draws(one_hot[:50], one_hot, 3, [1, 0], 0.05, certificate).tolist() == [0, np.inf]


@pytest.mark.parametrize("certificate, name, limit", [
    *[(c, "one-hot", -ndtri(0.2) / 2) for c in ("votes", "clipped", "cdf")],  # contested: 0.5 and 0.2 of the draws
    ("votes", "second place", 0.6),  # (Phi^-1(p_(m)) - Phi^-1(p_(2k-m+1))) / 2 with p = Phi(0.6) and 1 - p
    ("sharp", "counterexample A", 0.56156),
    ("renyi", "counterexample A", certified_radius([0.31, 0.31, 0.3, 0.08], 2, "1/2", 1, certificate="renyi")),
])  # fmt: skip
def test_many_draws_come_close_to_the_radius_of_the_exact_map(certificate, name, limit):
    law = LAWS[name]
    draws = law.draws(np.random.default_rng(2), 100_000)
    rho = certify_draws(draws[:50], draws[50:], law.k, [law.beta], 1e-3, certificate)[0]
    assert 0.93 * limit < rho < limit


# end to end ----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def x():
    return images(3)


@pytest.fixture
def dds(vit):
    return DDS(vit, None, sigma=0.02, n_samples=9, seed=3, batch_size=16)


def radii(*args, **options):
    return certify(*args, **options)["radius"].tolist()


def add_method(monkeypatch, function, class_specific=False):
    monkeypatch.setitem(METHODS, "toy", Method(function, class_specific, False, "for a test"))


def test_certify_is_the_loop_over_images_and_draws(vit, x):
    def clamp(x_noisy, sigma):
        return x_noisy.clamp(0, 1)  # a denoiser of a kind

    pilots, draws = (next(dds_loop(vit, clamp, x[:2], IDS[:2], 0.05, range(n), 3, purpose)).flatten(2).numpy()
                     for purpose, n in (("dds", 9), ("certify", 60)))  # fmt: skip
    betas = [1, "0.39", 0.2]
    frame = certify(DDS(vit, clamp, 0.05, 9, seed=3, batch_size=16), x[:2], 5, betas, 60, 0.3, IDS[:2],
                    certificate="all")  # fmt: skip
    want = [(i, c, level, 0.05 * rho if rho > 0 else ABSTAIN)
            for i, pilot, draw in zip(IDS[:2], pilots, draws, strict=True) for c in CERTIFICATES
            for level, rho in zip([1, 0.39, 0.2], certify_draws(pilot, draw, 5, betas, 0.3, c), strict=True)]
    ids, names, levels, radius = zip(*want, strict=True)
    assert frame["radius"].to_numpy() == pytest.approx(np.array(radius), rel=1e-6)
    assert ABSTAIN == -1 and 5 < radius.count(ABSTAIN) < 25
    assert frame.columns.tolist() == COLUMNS and frame["level"].tolist() == list(levels)
    assert frame["image_id"].tolist() == list(ids) and frame["certificate"].tolist() == list(names)
    rest = ["model", "method", "defence", "sigma", "k", "failure_prob", "n_pilot", "n_samples"]
    assert frame[rest].drop_duplicates().to_numpy().tolist() == [
        ["tiny", "raw_attention", "dds", 0.05, 5, 0.3, 9, 60]]  # fmt: skip


def test_a_row_does_not_depend_on_company_order_or_batch_size(vit, dds, x):
    options = {"k": 5, "beta": "0.4", "n_samples": 50, "failure_prob": 0.2, "certificate": ["votes", "clipped"]}
    frame = certify(dds, x, ids=IDS, **options)
    assert (frame["radius"] > 0).any() and frame["defence"].eq("noise_only").all()
    for i, image_id in enumerate(IDS):
        alone = certify(dds, x[i : i + 1], ids=[image_id], **options)
        assert alone.equals(frame[frame["image_id"] == image_id].reset_index(drop=True))
    turned = certify(dds, x.flip(0), ids=IDS[::-1], **options)
    assert turned.sort_values("image_id", kind="stable", ignore_index=True).equals(frame)
    for size in (1, 7):
        other = DDS(vit, None, 0.02, 9, seed=3, batch_size=size)
        assert radii(other, x[:1], ids=["a"], **options) == pytest.approx(frame["radius"].tolist()[:2], rel=1e-6)
    assert radii(dds, x[:1], ids=["d"], **options) != frame["radius"].tolist()[:2]


def test_lists_are_each_alone_and_every_form_of_beta_is_read(dds, x):
    common = {"ids": ["a"], "n_samples": 60, "failure_prob": 0.2}
    frame = certify(dds, x[:1], 5, ["0.6", "0.2"], certificate=["clipped", "votes"], **common)
    assert frame["radius"].nunique() == 4 and frame["level"].tolist() == [0.6, 0.2] * 2
    parts = [certify(dds, x[:1], 5, beta, certificate=name, **common)
             for name, beta in itertools.product(["clipped", "votes"], ["3/5", "1/5"])]  # fmt: skip
    assert pd.concat(parts, ignore_index=True).equals(frame)
    for beta in (0.6, "0.6", Fraction(3, 5), [0.6], ("3/5",)):
        assert certify(dds, x[:1], 5, beta, certificate="clipped", **common).equals(parts[0])


def test_several_numbers_of_draws_are_the_first_of_one_sample_and_plugins_take_its_mean(dds, x):
    common = {"k": 5, "beta": ["0.6", "0.2"], "failure_prob": 0.2, "ids": ["a"], "certificate": ["votes", "sharp"]}
    both = certify(dds, x[:1], n_samples=[60, 20], plugin=["sharp", "pooled", "votes"], **common)
    for n in (60, 20):
        alone = certify(dds, x[:1], n_samples=n, **common)
        assert both[(both.n_samples == n) & (both.metric == "radius")].reset_index(drop=True).equals(alone)
    draws = draw_maps(dds, x[:1], "a", "certify", 60)
    plugin = both[both.metric == "plugin_radius"]
    share = sorted(np.mean([np.isin(range(16), best(row, 5)) for row in draws], axis=0), reverse=True)
    share = np.clip(share, 1 / 120, 119 / 120)  # half a draw from 0 and from 1
    at = [(2, 7), (0, 9)]  # the m-th in all and the (2k - m + 1)-th, from 0: of 5 tokens 3 are to stay, or 1
    assert plugin.radius.tolist() == pytest.approx(
        [certified_radius(draws.mean(0), 5, b, 0.02, certificate=c)
         for c in ("sharp", "pooled") for b in ("0.6", "0.2")]
        + [0.02 * (ndtri(share[i]) - ndtri(share[j])) / 2 for i, j in at])  # fmt: skip
    assert (plugin.n_samples == 60).all() and (plugin.failure_prob == 1).all() and len(both) == 14


def test_rows_of_prediction_and_of_both_stand_beside_the_others(vit, dds, x):
    common = {"k": 5, "beta": ["0.6", "0.2"], "n_samples": [60, 20], "failure_prob": 0.2, "ids": IDS[:2],
              "certificate": ["votes", "clipped"], "plugin": ["sharp"]}
    frame = certify(dds, x[:2], prediction=True, **common)
    old = frame[frame["metric"].isin(["radius", "plugin_radius"])].drop(columns="label").reset_index(drop=True)
    assert old.equals(certify(dds, x[:2], **common))
    for i, image_id in enumerate(IDS[:2]):
        pilot, draws = (dds.maps(x[i : i + 1], ids=[image_id], draws=range(n), purpose=purpose)[1][0].numpy()
                        for purpose, n in (("dds", 9), ("certify", 60)))  # class probabilities
        for name, n in itertools.product(["votes", "clipped"], [60, 20]):
            rows = frame[(frame["image_id"] == image_id) & (frame["certificate"] == name) & (frame["n_samples"] == n)]
            radius, label, joint = (rows.loc[rows["metric"] == m, "radius"] for m in METRICS)
            rho = certify_label(pilot, draws[:n], 0.2, name)
            assert label.tolist() == pytest.approx([0.02 * rho if rho > 0 else ABSTAIN], rel=1e-6)
            assert joint.tolist() == np.minimum(radius, label.item()).tolist()
            assert (rows["failure_prob"] == 0.2).all() and (rows["label"] == shown_label(pilot, name)).all()
    labels, joint = (frame[frame["metric"] == metric] for metric in METRICS[1:])
    assert labels["level"].isna().all() and joint["level"].tolist() == [0.6, 0.2] * 8
    assert 0 < (joint["radius"] > 0).sum() < len(joint)
    means = labels[labels["certificate"] == "clipped"].drop_duplicates("image_id")
    assert means["label"].tolist() == dds(x[:2], IDS[:2]).probs.argmax(1).tolist()


def test_the_shown_set_is_what_the_dds_shows(vit, dds, x):
    votes = DDS(vit, None, 0.02, 9, seed=3, batch_size=16, aggregate="votes")
    mean = top_k(dds(x, IDS).heatmap, 5).tolist()
    maps = dds(x, IDS, keep_samples=True).samples.flatten(2).numpy()
    for i, image_id in enumerate(IDS):
        pilot = draw_maps(dds, x[i : i + 1], image_id, "dds", 9)
        np.testing.assert_allclose(pilot, maps[i], rtol=1e-9)
        for name in ("sharp", "renyi"):
            assert shown_set(pilot, 5, name).tolist() == mean[i]
        shares = votes(x, IDS, k=5).heatmap.float()  # in float32, where shares that are equal round alike
        assert shown_set(pilot, 5, "votes").tolist() == top_k(shares, 5)[i].tolist()
        clipped = np.minimum(maps[i], clip_level(maps[i], 5)).mean(0)
        for name in ("clipped", "cdf"):
            assert shown_set(pilot, 5, name).tolist() == best(clipped, 5)


def test_pilot_and_bounds_come_from_streams_apart_each_used_once(monkeypatch, dds, x):
    seen, normal = [], rng.normal
    monkeypatch.setattr("fvit.smoothing.rng.normal", lambda shape, *s, **o: seen.append(s) or normal(shape, *s, **o))
    certify(dds, x, 5, [1, 0.2], 20, 0.1, IDS, certificate=list(CERTIFICATES))
    assert sorted(seen) == sorted(
        (3, purpose, i, d) for i in IDS for purpose, n in (("dds", 9), ("certify", 20)) for d in range(n))


@pytest.mark.parametrize("sigma", [0.05, 0.2])
def test_the_radius_is_in_pixel_units_and_nearly_the_distance_at_which_the_set_breaks(monkeypatch, vit, sigma):
    """<u, y>, with u = 1 / sqrt(192) on patch 0, has std sigma; the second place turns at a threshold 0.6 sigma off."""

    def second_place(record, target):
        dark = (record.x[:, :, :8, :8].mean((1, 2, 3)) - 0.5) * 192**0.5 < 0.6 * sigma
        rows = torch.tensor([[0.6, 0.15, 0.25], [0.6, 0.25, 0.15]], dtype=record.x.dtype)[dark.long()]
        return torch.nn.functional.pad(rows, (0, 13)).unflatten(1, (4, 4))

    add_method(monkeypatch, second_place)
    grey = torch.full((1, 3, 32, 32), 0.5, dtype=torch.float64)
    (radius,) = radii(DDS(vit, None, sigma, 16), grey, 2, 1, 800, 1e-2, method="toy")
    assert 0.7 * 0.6 * sigma < radius < 0.6 * sigma  # 0.6 sigma u away tokens 1 and 2 are equally often in the top 2


def test_a_set_that_cannot_break_has_an_infinite_radius(dds, x):
    assert radii(dds, x[:1], 5, [0, 1], 20, 0.1, certificate="votes")[0] == np.inf
    for k, beta in ((16, 1), (15, "14/15")):  # one token can go, two cannot
        frame = certify(dds, x[:1], k, beta, 20, 0.1, certificate=list(CERTIFICATES))
        assert frame["radius"].eq(np.inf).all() and frame["level"].eq(float(Fraction(beta))).all()


def test_the_target_of_a_class_specific_method_is_given_and_goes_with_its_image(monkeypatch, dds, x):
    def favour(record, target):  # the class chooses the spread of the map
        noise = record.x[:, 0, ::8, ::8].flatten(1)
        return (noise * 20 * (target[:, None] + 1)).softmax(1).unflatten(1, (4, 4))

    add_method(monkeypatch, favour, class_specific=True)
    options = {"k": 3, "beta": "1/3", "n_samples": 40, "failure_prob": 0.2, "method": "toy", "certificate": "clipped"}
    with pytest.raises(ValueError, match=r"method 'toy' explains a class: give target \(B,\), constants"):
        certify(dds, x, **options)
    together = radii(dds, x, ids=IDS, target=torch.tensor([0, 4, 2]), **options)
    for i, target in enumerate([0, 4, 2]):
        assert radii(dds, x[i : i + 1], ids=[IDS[i]], target=torch.tensor([target]), **options) == together[i : i + 1]
    assert together != radii(dds, x, ids=IDS, target=torch.tensor([2, 4, 0]), **options)
    assert radii(dds, x, ids=IDS, target=2, **options) == radii(dds, x, ids=IDS, target=[2, 2, 2], **options)


# refusals ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("change, message", [
    ({"failure_prob": 0}, r"failure_prob=0, wanted a number in \(0, 1\), e.g. 1e-3"),
    ({"n_samples": 0}, "n_samples=0, wanted an integer >= 1"),
    ({"certificate": "vote"}, "unknown certificate 'vote', known: votes, clipped, .*did you mean 'votes'"),
    ({"certificate": ["votes", "pooled"]}, "unknown certificate 'pooled'"),
    ({"plugin": ["cdf"]}, "unknown certificate of plugin 'cdf', known: votes, sharp, "),
    ({"prediction": 1}, "prediction=1, wanted True or False"),
    ({"method": "attention"}, "unknown method 'attention', known: .*raw_attention"),
    ({"k": 17}, "k=17 with maps of 16 tokens, wanted an integer, 1 <= k <= 16"),
    ({"beta": 1.5}, r"beta=1.5, wanted a share of the top-k in \[0, 1\]"),
    ({"beta": [1, "most"]}, "beta='most', wanted a number"),
    ({"x": torch.full((2, 3, 32, 32), 7.0)}, r"values in \[7, 7\], wanted \[0, 1\]; it looks like \[0, 255\]"),
    ({"x": torch.zeros(2, 3, 32, 24)}, r"images of \(32, 24\) pixels, the model wants \(32, 32\)"),
    ({"ids": ["a"]}, "got 1 ids for 2 images"),
    ({"target": [0, 1, 2]}, r"target is .*\(3,\), wanted class indices \(B,\) = \(2,\)"),
    ({"target": [0, 99]}, r"target has classes 0\.\.99, wanted 0\.\.4"),
    ({"sigma": 0}, r"sigma=0 adds no noise, .* give the DDS a sigma > 0"),
])  # fmt: skip
def test_certify_refuses_before_any_network_runs(vit, change, message):
    def den(x_noisy, sigma):
        raise AssertionError("a network ran")

    arguments = {"x": torch.zeros(2, 3, 32, 32), "k": 3, "beta": 1, "n_samples": 4, "failure_prob": 0.1, **change}
    dds = DDS(vit, den, arguments.pop("sigma", 0.05), 4)
    with pytest.raises(ValueError, match=message):
        certify(dds, **arguments)


@pytest.mark.parametrize("change, message", [
    ({"draws": [[0.5, 0.6]]}, "draws has rows that do not sum to 1 within 1e-4; normalise each draw"),
    ({"pilot": [[0.5, 0.4]]}, "pilot has rows that do not sum to 1"),
    ({"draws": [[1.1, -0.1]]}, "draws has shape .* entries that are negative or NaN"),
    ({"draws": [[np.nan, 1.0]]}, "draws has shape .* negative or NaN"),
    ({"draws": [0.5, 0.5]}, r"draws has shape \(2,\)"), ({"draws": np.zeros((0, 2))}, r"draws has shape \(0, 2\)"),
    ({"pilot": [[0.5, 0.25, 0.25]]}, "pilot has 3 tokens, draws 2; wanted maps of one image by one method"),
    ({"k": 3}, "k=3 with maps of 2 tokens"), ({"failure_prob": 1.0}, "failure_prob=1.0, wanted a number in"),
    ({"certificate": "cp"}, "unknown certificate 'cp'"),
])  # fmt: skip
@pytest.mark.parametrize("certificate", ["votes", "cdf"])
def test_maps_that_are_no_distributions_are_refused(certificate, change, message):
    even = [[0.5, 0.5]]
    arguments = {"pilot": even, "draws": even, "k": 1, "betas": [1], "failure_prob": 0.1, "certificate": certificate}
    with pytest.raises(ValueError, match=message):
        certify_draws(**arguments | change)
