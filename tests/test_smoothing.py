"""DDS against slow loops and closed forms; batches, order and memory that must not matter."""

import math
from types import SimpleNamespace

import pytest
import torch
from oracles.maps import class_token_attention, dds_loop, images, tiny_denoiser, tiny_vit
from torch.nn.functional import avg_pool2d

from fvit import smoothing
from fvit.base import rng
from fvit.base.moments import Moments
from fvit.explanations.methods import METHODS, Method
from fvit.explanations.passes import explain, explain_with_logits
from fvit.metrics.maps import top_k
from fvit.records.rows import SCHEMA
from fvit.smoothing import DDS, add_noise

IDS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def vit():
    return tiny_vit()


@pytest.fixture(scope="module")
def den():
    return tiny_denoiser()


@pytest.fixture(scope="module")
def x():
    return images(3, torch.float32)


def identity(x_noisy, sigma):
    return x_noisy


def patch_means(x):
    return avg_pool2d(x.mean(1, keepdim=True), 8)[:, 0]  # (B, 4, 4), std sigma / sqrt(192) under noise


def add_method(monkeypatch, function, class_specific=False):
    monkeypatch.setitem(METHODS, "toy", Method(function, class_specific, False, "for a test"))


# noise ---------------------------------------------------------------------------------------------------------------
def test_noise_has_the_stated_moments_and_one_stream_per_image_and_draw():
    x = torch.full((4, 3, 64, 64), 0.5)
    noisy = add_noise(x, 0.25, 0, "dds", ["a", "a", "b", "b"], [0, 1, 0, 1])
    z = (noisy - x).flatten(1) / 0.25
    assert z.mean(1).abs().max() < 5 / math.sqrt(z.shape[1])
    assert (z.std(1) - 1).abs().max() < 5 / math.sqrt(2 * z.shape[1])
    correlation = z @ z.T / z.shape[1] - torch.eye(4)
    assert correlation.fill_diagonal_(0).abs().max() < 5 / math.sqrt(z.shape[1])
    assert noisy.min() < 0 and noisy.max() > 1  # not clamped
    assert torch.equal(noisy[2:3], add_noise(x[:1], 0.25, 0, "dds", ["b"], 0))
    assert not torch.equal(noisy[:1], add_noise(x[:1], 0.25, 1, "dds", ["a"], 0))
    assert not torch.equal(noisy[:1], add_noise(x[:1], 0.25, 0, "eot", ["a"], 0))
    assert add_noise(x, 0, 0, "dds", None, 0) is x


def test_noise_is_added_once(monkeypatch, vit, x):
    seen = []
    monkeypatch.setattr(smoothing.rng, "normal", lambda shape, *stream, **_: seen.append(stream) or torch.zeros(shape))
    DDS(vit, identity, n_samples=4)(x, IDS)
    assert sorted(seen) == [(0, "dds", i, d) for i in IDS for d in range(4)]


# against the loops ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("denoised", [True, False])
def test_dds_is_the_loop_over_images_and_draws(denoised):
    vit, den, x = tiny_vit(torch.float64), tiny_denoiser(torch.float64) if denoised else None, images(3)
    maps, probs = dds_loop(vit, den, x, IDS, 0.25, range(5), seed=7)
    out = DDS(vit, den, 0.25, n_samples=5, seed=7, batch_size=4)(x, IDS, keep_samples=True)
    for got, want in ((out.samples, maps), (out.heatmap, maps.mean(1)), (out.heatmap_se, maps.std(1) / 5**0.5),
                      (out.probs, probs.mean(1)), (out.probs_se, probs.std(1) / 5**0.5)):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
    assert torch.equal(out.target, probs.mean(1).argmax(1)) and out.ids == IDS
    assert maps.std(1).max() > 1e-3  # the draws differ, or nothing was tested
    torch.testing.assert_close(out.heatmap.sum((1, 2)), torch.ones(3, dtype=torch.float64))


def test_maps_are_the_draws_of_the_loop():
    vit, den, x = tiny_vit(torch.float64), tiny_denoiser(torch.float64), images(2)
    maps, probs = dds_loop(vit, den, x, ["0", "1"], 0.25, [6, 9], purpose="eot")
    got = DDS(vit, den, 0.25, batch_size=3).maps(x, purpose="eot", draws=[6, 9])
    torch.testing.assert_close(got, (maps, probs), rtol=1e-9, atol=1e-12)
    none, only = DDS(vit, den, 0.25).maps(x, method=None, purpose="eot", draws=[6, 9])
    assert none is None
    torch.testing.assert_close(only, probs, rtol=1e-9, atol=1e-12)


def test_votes_are_the_probability_of_the_top_set(monkeypatch, vit):
    """Two patches contest the first place: p = Phi(gap / (sigma sqrt(2/192)))."""
    x = torch.full((1, 3, 32, 32), 0.2)
    x[..., :8, :8], x[..., 24:, 24:] = 0.52, 0.5
    add_method(monkeypatch, lambda record, target: patch_means(record.x))
    out = DDS(vit, None, 0.25, n_samples=400, aggregate="votes")(x, method="toy", k=1, keep_samples=True)
    p = 0.5 * (1 + math.erf(0.02 / (0.25 * math.sqrt(2 / 192)) / 2**0.5))
    assert 0.7 < p < 0.9
    assert abs(out.heatmap[0, 0, 0].item() - p) < 4 * math.sqrt(p * (1 - p) / 400)
    both = out.heatmap[0, 0, 0] + out.heatmap[0, 3, 3]
    assert both.item() == pytest.approx(1) and out.heatmap[0].count_nonzero() == 2
    share = out.heatmap[0, 0, 0].item()
    assert out.heatmap_se[0, 0, 0].item() == pytest.approx(math.sqrt(share * (1 - share) / 399), rel=1e-5)
    torch.testing.assert_close(out.samples.mean(1), out.heatmap)


def test_votes_break_ties_by_the_lowest_index(monkeypatch, vit, x):
    flat = torch.tensor([1.0, 2, 3, 2, 2, 2, *[0.0] * 10])
    add_method(monkeypatch, lambda record, target: flat.expand(len(record.x), 16).unflatten(1, (4, 4)))
    out = DDS(vit, None, 0.1, n_samples=2, aggregate="votes")(x, method="toy", k=3)
    assert out.heatmap[0].flatten().tolist() == [0, 1, 1, 1] + [0] * 12


def test_votes_sum_to_k_and_are_votes_over_the_kept_maps(vit, den, x):
    maps = DDS(vit, den, 0.25, n_samples=6)(x, IDS, keep_samples=True).samples
    out = DDS(vit, den, 0.25, n_samples=6, aggregate="votes")(x, IDS, k=4)
    tops = [[set(m.flatten().topk(4).indices.tolist()) for m in image] for image in maps]
    want = [[sum(t in top for top in image) / 6 for t in range(16)] for image in tops]
    torch.testing.assert_close(out.heatmap.flatten(1), torch.tensor(want))
    torch.testing.assert_close(out.heatmap.sum((1, 2)), torch.full((3,), 4.0))


# sigma = 0 and the denoiser's levels ---------------------------------------------------------------------------------
@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("denoiser", [identity, None])
@pytest.mark.parametrize("aggregate", ["mean", "votes"])
def test_sigma_zero_with_identity_is_the_plain_explanation_to_the_bit(vit, x, method, denoiser, aggregate):
    with torch.no_grad():  # as a DDS computes: with gradients, kernels may round otherwise
        plain = explain(vit, x, method)
    out = DDS(vit, denoiser, 0.0, n_samples=4, aggregate=aggregate)(x, method=method, k=3, keep_samples=True)
    if aggregate == "mean":
        assert torch.equal(out.heatmap, plain) and torch.equal(out.samples, plain[:, None].expand(-1, 4, -1, -1))
    else:
        assert out.heatmap.unique().tolist() == [0, 1]
        assert (out.heatmap.flatten(1) * plain.flatten(1)).sum(1).tolist() == pytest.approx(
            plain.flatten(1).topk(3).values.sum(1).tolist())
    assert not out.heatmap_se.any() and not out.probs_se.any()
    assert torch.equal(out.target, vit(x).argmax(1))


def test_at_sigma_zero_the_denoiser_is_used_only_where_it_has_a_level(vit, den, x):
    assert not den.has_level(0)
    with torch.no_grad():  # as a DDS computes
        plain, inverted = explain(vit, x, "raw_attention"), explain(vit, 1 - x, "raw_attention")
    assert torch.equal(DDS(vit, den, 0.0)(x).heatmap, plain)

    class WithLevel:
        def has_level(self, sigma):
            return True

        def __call__(self, x_noisy, sigma):
            assert sigma == 0
            return 1 - x_noisy

    assert torch.equal(DDS(vit, WithLevel(), 0.0)(x).heatmap, inverted)
    sizes = []
    out = DDS(vit, lambda x, sigma: sizes.append(len(x)) or 1 - x, 0.0, n_samples=16)(x)
    assert torch.equal(out.heatmap, inverted)
    assert sizes == [3]  # equal draws are not computed twice


def test_a_sigma_outside_the_schedule_is_refused_at_once(vit, den):
    with pytest.raises(ValueError, match=r"sigma=1e-05 lies outside the denoiser's schedule"):
        DDS(vit, den, 1e-5)


# standard errors -----------------------------------------------------------------------------------------------------
def test_one_draw_has_no_standard_error(vit, x):
    out = DDS(vit, None, 0.25, n_samples=1)(x)
    assert out.heatmap_se.isnan().all() and out.probs_se.isnan().all() and out.heatmap.isfinite().all()


# batches, order, subsets ---------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def in_sevens(vit, den, x):
    return DDS(vit, den, 0.25, n_samples=5, batch_size=7)(x, IDS, keep_samples=True)


@pytest.mark.parametrize("batch_size", [1, 2, 6, None])
@pytest.mark.parametrize("pick", [[0, 1, 2], [2, 0, 1], [1]])
def test_batch_size_order_and_subset_change_nothing(vit, den, x, in_sevens, batch_size, pick):
    want = in_sevens
    got = DDS(vit, den, 0.25, n_samples=5, batch_size=batch_size)(x[pick], [IDS[i] for i in pick], keep_samples=True)
    for name in ("heatmap", "heatmap_se", "probs", "probs_se", "samples"):
        torch.testing.assert_close(getattr(got, name), getattr(want, name)[pick], rtol=0, atol=1e-5)
    torch.testing.assert_close(got.heatmap, want.heatmap[pick], rtol=1e-4, atol=1e-7)
    assert torch.equal(got.target, want.target[pick])


@pytest.mark.parametrize("batch_size", [2, 5, 64])
@pytest.mark.parametrize("pick", [[0, 1, 2], [2, 0, 1], [1]])
def test_where_the_maps_are_equal_to_the_bit_so_are_the_averages(monkeypatch, vit, x, batch_size, pick):
    # Whole numbers, whose sum is the same in any order and batch.
    add_method(monkeypatch, lambda record, target: record.x[:, 0, ::8, ::8].mul(256).abs().round())
    want = DDS(vit, None, 0.25, n_samples=33, batch_size=7)(x, IDS, "toy")
    got = DDS(vit, None, 0.25, n_samples=33, batch_size=batch_size)(x[pick], [IDS[i] for i in pick], "toy")
    assert torch.equal(got.heatmap, want.heatmap[pick]) and torch.equal(got.heatmap_se, want.heatmap_se[pick])


def test_without_ids_the_position_is_the_id(vit, x):
    dds = DDS(vit, None, 0.25, n_samples=3)
    assert torch.equal(dds(x).heatmap, dds(x, ["0", "1", "2"]).heatmap)
    assert not torch.allclose(dds(x).heatmap, dds(x, IDS).heatmap, atol=1e-4)


def test_a_run_repeats_to_the_bit_and_leaves_the_global_stream_alone(vit, den, x):
    state = torch.get_rng_state()
    first, second = (DDS(vit, den, 0.25, n_samples=3)(x, IDS) for _ in range(2))
    assert torch.equal(first.heatmap, second.heatmap) and torch.equal(first.probs, second.probs)
    assert torch.equal(state, torch.get_rng_state()) and not first.heatmap.requires_grad


def test_network_batches_cross_images_and_draws(vit, x):
    sizes = []
    DDS(vit, lambda x, sigma: sizes.append(len(x)) or x, 0.25, n_samples=7, batch_size=8)(x)
    assert sizes == [8, 8, 5]


# methods and classes -------------------------------------------------------------------------------------------------
def test_a_list_of_methods_shares_the_denoised_draws(vit, den, x):
    calls = []

    def counting(x_noisy, sigma):
        calls.append(len(x_noisy))
        return den(x_noisy, sigma)

    both = DDS(vit, counting, 0.25, n_samples=4)(x, IDS, method=["raw_attention", "rollout"], keep_samples=True)
    assert sum(calls) == 12 and list(both) == ["raw_attention", "rollout"]
    for name, out in both.items():
        alone = DDS(vit, den, 0.25, n_samples=4)(x, IDS, method=name, keep_samples=True)
        for field in ("heatmap", "samples", "probs"):  # alone, blocks that are not read stay fused: other roundings
            torch.testing.assert_close(getattr(out, field), getattr(alone, field), rtol=0, atol=1e-6)
    assert not torch.allclose(both["rollout"].heatmap, both["raw_attention"].heatmap, atol=1e-3)


def test_one_class_for_all_draws_the_argmax_of_the_smoothed_prediction(monkeypatch, vit, x):
    seen, grads = [], []

    def toy(record, target):
        seen.extend(target.tolist())
        grads.append(torch.is_grad_enabled())
        return patch_means(record.x) * (1 + target[:, None, None])

    add_method(monkeypatch, toy, class_specific=True)
    _, probs = DDS(vit, None, 0.5, n_samples=9).maps(x, ids=IDS, method=None)
    smoothed = probs.mean(1).argmax(1)
    assert (probs.argmax(2) != smoothed[:, None]).any()  # some draw on its own would explain another class
    out = DDS(vit, None, 0.5, n_samples=9, batch_size=4)(x, IDS, method=["toy", "rollout"])
    assert seen == smoothed.repeat_interleave(9).tolist() and all(grads)
    assert torch.equal(out["toy"].target, smoothed) and torch.equal(out["toy"].probs, out["rollout"].probs)
    assert not out["toy"].heatmap.requires_grad
    seen.clear()
    given = DDS(vit, None, 0.5, n_samples=2)(x, IDS, method="toy", target=torch.tensor([4, 0, 1]))
    assert seen == [4, 4, 0, 0, 1, 1] and given.target.tolist() == [4, 0, 1]


def test_class_specific_methods_share_the_draws_and_take_their_options(vit, x):
    x, vit = x.double(), tiny_vit(torch.float64)
    names, settings = ["vta", "lrp", "raw_attention"], dict(target=torch.tensor([1, 2, 0]), keep_samples=True)
    dds = DDS(vit, None, 0.1, n_samples=3, batch_size=4)
    shared = dds(x, IDS, names, **settings)
    for i in range(3):
        for draw in range(3):
            noisy = add_noise(x[i : i + 1], 0.1, 0, "dds", [IDS[i]], draw)
            for name in names:
                alone = explain_with_logits(vit, noisy, name, settings["target"][i])[0][0]
                torch.testing.assert_close(shared[name].samples[i, draw], alone, rtol=0, atol=1e-9)
    out = dds(x, IDS, "vta", rules="orig", start_layer=0, **settings)
    at = add_noise(x[:1], 0.1, 0, "dds", IDS[:1], 0)
    alone = explain_with_logits(vit, at, "vta", 1, rules="orig", start_layer=0)[0][0]
    torch.testing.assert_close(out.samples[0, 0], alone, rtol=0, atol=1e-9)
    assert not torch.allclose(out.heatmap, shared["vta"].heatmap, atol=1e-4)


@pytest.mark.parametrize(("method", "options", "message"), [
    ("vta", {"start_layer": 3}, "start_layer=3 with 3 blocks"),
    (["vta", "rollout"], {"rules": "orig"}, "unknown option of rollout 'rules'"),
    ("lrp", {"rules": "our"}, "unknown rules 'our'"),
])
def test_options_are_checked_before_any_network_runs(vit, x, method, options, message):
    def never(x_noisy, sigma):
        raise AssertionError("ran")

    with pytest.raises(ValueError, match=message):
        DDS(vit, never, 0.1)(x, method=method, **options)


@pytest.mark.parametrize("batch_size", [64, 4])
def test_under_attack_a_class_specific_map_and_the_prediction_keep_their_graph(vit, x, batch_size):
    y = x.clone().requires_grad_()
    dds = DDS(vit, None, 0.1, n_samples=4, batch_size=batch_size)
    maps, probs = dds.maps(y, method="vta", target=torch.tensor([0, 1, 2]))
    (grad,) = torch.autograd.grad(probs[:, :, 0].sum(), y)
    expected = dds.maps(y, method=None)[1]
    assert maps.requires_grad and maps.isfinite().all()
    torch.testing.assert_close(grad, torch.autograd.grad(expected[:, :, 0].sum(), y)[0], rtol=1e-3, atol=1e-6)


# draws in pairs ------------------------------------------------------------------------------------------------------
def test_pairs_are_a_draw_and_its_mirror_image_and_single_draws_are_those_of_before(x):
    single = [add_noise(x[:1], 0.25, 3, "dds", ["a"], d) - x[:1] for d in range(4)]
    pairs = [add_noise(x[:1], 0.25, 3, "dds", ["a"], d, antithetic=True) - x[:1] for d in range(4)]
    for j in (0, 2):
        assert torch.equal(pairs[j], single[j]) and torch.allclose(pairs[j + 1], -single[j], atol=1e-7)
    wanted = x[:1] + 0.25 * torch.stack([rng.normal(x.shape[1:], 3, "dds", "a", 2)])
    assert torch.equal(add_noise(x[:1], 0.25, 3, "dds", ["a"], 2), wanted)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_the_mean_of_pairs_is_that_of_their_draws_and_its_error_is_that_of_their_means(vit, den, x, batch_size):
    """Whether a batch holds whole pairs or not."""
    dds = DDS(vit, den, 0.25, n_samples=6, seed=4, batch_size=batch_size, draws="antithetic")
    out = dds(x, IDS, keep_samples=True)
    maps, probs = dds.maps(x, ids=IDS)
    for mean, se, each in ((out.heatmap, out.heatmap_se, maps), (out.probs, out.probs_se, probs)):
        units = each.double().unflatten(1, (3, 2)).mean(2)
        torch.testing.assert_close(mean.double(), units.mean(1), rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(se.double(), units.std(1) / 3**0.5, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(out.samples, maps)
    votes = DDS(vit, den, 0.25, n_samples=6, seed=4, draws="antithetic", aggregate="votes")(x, IDS, k=3)
    cast = torch.zeros_like(maps.flatten(2)).scatter_(2, top_k(maps.flatten(0, 1), 3).view(len(x), 6, 3), 1)
    torch.testing.assert_close(votes.heatmap.flatten(1), cast.mean(1))


def test_what_is_odd_in_the_noise_cancels_in_a_pair_and_two_draws_have_no_error(vit, x):
    """A linear network of the noisy image: its mean over a pair is that of the clean one, and one pair has no error."""
    weight = torch.randn(4, x[0].numel(), generator=torch.Generator().manual_seed(0))

    def average(draws, n):
        dds = DDS(vit, None, 0.1, n_samples=n, draws=draws)
        noisy = torch.stack([add_noise(x, 0.1, 0, "dds", IDS, d, dds.draws == "antithetic") for d in range(n)])
        return (noisy.flatten(2) @ weight.T).mean(0)

    clean = x.flatten(1) @ weight.T
    assert (average("antithetic", 8) - clean).abs().max() < 1e-3 < (average("independent", 8) - clean).abs().max()
    dds = DDS(vit, None, 0.1, n_samples=2, draws="antithetic")
    with pytest.raises(ValueError, match="n_samples=3 of a DDS whose draws come in pairs; take an even number"):
        dds.as_classifier(3)
    one = dds(x, IDS)
    assert one.heatmap_se.isnan().all() and one.probs_se.isnan().all()
    assert DDS(vit, None, 0, n_samples=3, draws="antithetic")(x, IDS).heatmap_se.eq(0).all()


# precision -----------------------------------------------------------------------------------------------------------
def test_precision_is_set_for_this_dds_only(vit, den, x):
    low = DDS(vit, den, 0.25, n_samples=3, precision="bfloat16")
    assert low.den.precision == "bfloat16" and den.precision == "float32"
    out, full = low(x, IDS), DDS(vit, den, 0.25, n_samples=3)(x, IDS)
    assert out.heatmap.dtype == torch.float32
    assert 1e-6 < (out.heatmap - full.heatmap).abs().max() < 0.05
    assert DDS(vit, identity, 0.25, precision="float32").den is identity


@pytest.mark.parametrize("method", ["raw_attention", "rollout", "gradcam", "vta"])
def test_in_bfloat16_a_vit_multiplies_so_but_for_maps_of_a_class(vit, x, method):
    low, full = (DDS(vit, None, 0.25, n_samples=3, precision=p)(x, IDS, method) for p in ("bfloat16", "float32"))
    moved = (low.heatmap - full.heatmap).abs().max()
    assert 1e-6 < moved < 0.01 if method in ("raw_attention", "rollout") else moved == 0
    assert low.heatmap.dtype == low.probs.dtype == torch.float32


@pytest.mark.parametrize("target", [None, torch.tensor([0, 1, 2])])
def test_in_bfloat16_a_map_hangs_on_no_other_method_of_the_list(vit, x, target):
    dds = DDS(vit, None, 0.25, n_samples=2, precision="bfloat16")
    both = dds(x, IDS, ["raw_attention", "vta"], target)
    for method, out in both.items():
        alone = dds(x, IDS, method, target)
        torch.testing.assert_close(out.heatmap, alone.heatmap, rtol=0, atol=1e-6)
        torch.testing.assert_close(out.probs, alone.probs, rtol=0, atol=1e-6)
    clean = dds(x, IDS, ["raw_attention", "vta"])["raw_attention"].heatmap  # no target: as clean maps are made
    torch.testing.assert_close(both["raw_attention"].heatmap, clean, rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 32])
def test_in_bfloat16_attacks_meet_the_same_loss_and_gradient(vit, x, batch_size):
    def ascend(precision):
        at = x.clone().requires_grad_()
        dds = DDS(vit, None, 0.1, n_samples=2, precision=precision, batch_size=batch_size)
        maps, probs = dds.maps(at, ids=IDS, purpose="eot")
        loss = maps.square().sum() - probs[..., 0].log().sum()
        return loss, torch.autograd.grad(loss, at)[0].flatten()

    (low, low_gradient), (full, gradient) = ascend("bfloat16"), ascend("float32")
    assert low.item() == pytest.approx(full.item(), rel=0.02) and not torch.equal(low_gradient, gradient)
    assert torch.cosine_similarity(low_gradient, gradient, 0) > 0.99


def test_the_average_is_that_of_float64():
    values = torch.full((4096, 1), 0.1) + torch.tensor([1e-6, -1e-6]).repeat(2048)[:, None]
    moments = Moments(1)
    moments.add([0] * 4096, values)
    mean, se = moments.result(exact=False)
    assert mean.item() == pytest.approx(values.double().mean().item(), rel=1e-14)
    assert se.item() == pytest.approx(values.double().std().item() / 64, rel=1e-9, abs=0)  # it is 1.6e-8


# errors --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("kwargs", "message"), [
    ({"sigma": -0.1}, "sigma=-0.1, wanted a number in .*noise std"),
    ({"sigma": 25}, r"sigma=25, wanted at most 5, the noise std for images in \[0, 1\]; .*: sigma=25 / 255"),
    ({"n_samples": 0}, "n_samples=0, wanted an integer >= 1"), ({"batch_size": 0}, "batch_size=0, wanted"),
    ({"aggregate": "vote"}, "unknown aggregate 'vote'.*did you mean 'votes'"),
    ({"draws": "antithetical"}, "unknown draws 'antithetical'.*did you mean 'antithetic'"),
    ({"draws": "antithetic", "n_samples": 5}, "n_samples=5 with draws='antithetic', which come in pairs; take an even"),
    ({"precision": "float16"}, "unknown precision 'float16'"),
])
def test_bad_settings_are_refused(vit, kwargs, message):
    with pytest.raises(ValueError, match=message):
        DDS(vit, identity, **kwargs)


@pytest.mark.parametrize(("change", "kwargs", "message"), [
    (lambda x: x * 255, {}, "divide by 255"), (lambda x: x[..., :24], {}, "wants .32, 32."),
    (lambda x: x, {"ids": ["a"]}, "got 1 ids for 3 images"),
    (lambda x: x, {"method": ["rollout", "no"]}, "unknown method 'no'"),
    (lambda x: x, {"k": 17}, "k=17 with maps of 16 tokens"),
    (lambda x: x, {"target": torch.tensor([0, 1])}, r"wanted class indices \(B,\) = \(3,\)"),
    (lambda x: x, {"target": torch.tensor([0, 1, 5])}, r"wanted 0\.\.4"),
])
def test_bad_calls_are_refused_before_any_network_runs(vit, x, change, kwargs, message):
    def never(x_noisy, sigma):
        raise AssertionError("the denoiser ran")

    with pytest.raises(ValueError, match=message):
        DDS(vit, never)(change(x), **kwargs)
    if "k" not in kwargs and "method" not in kwargs:
        with pytest.raises(ValueError, match=message):
            DDS(vit, never).maps(change(x), **kwargs)


def test_votes_need_k_and_maps_need_draws(monkeypatch, vit, x):
    with pytest.raises(ValueError, match='aggregate="votes" needs k'):
        DDS(vit, None, aggregate="votes")(x)
    with pytest.raises(ValueError, match="number of draws=0"):
        DDS(vit, None).maps(x, draws=[])
    add_method(monkeypatch, lambda record, target: patch_means(record.x), class_specific=True)
    with pytest.raises(ValueError, match="'toy' explains a class: give target"):
        DDS(vit, None).maps(x, method="toy")
    with pytest.raises(ValueError, match=r"sigma=64, wanted at most 5, .*sigma=64 / 255"):
        add_noise(x, 64, 0, "dds", IDS, 0)
    with pytest.raises(ValueError, match="got 2 ids for 3 images"):
        add_noise(x, 0.1, 0, "dds", ["a", "b"], [0, 1, 2])


# rows ----------------------------------------------------------------------------------------------------------------
def test_rows_are_tidy(vit, den, x):
    out = DDS(vit, den, 0.25, n_samples=4)(x, IDS, method="rollout")
    rows = out.rows()
    assert list(rows.columns) == list(SCHEMA) and len(rows) == 9
    row = rows[(rows.image_id == "b") & (rows.metric == "target_prob")].iloc[0]
    c = out.target[1].item()
    assert row.value == pytest.approx(out.probs[1, c].item())
    assert row.ci_high - row.ci_low == pytest.approx(2 * 1.96 * out.probs_se[1, c].item())
    assert (row.model, row.method, row.defence, row.sigma, row.n_samples) == ("tiny", "rollout", "dds", 0.25, 4)
    assert rows[rows.metric == "target"].value.tolist() == out.target.tolist()
    rms = rows[(rows.image_id == "a") & (rows.metric == "heatmap_se")].value.item()
    assert rms == pytest.approx(out.heatmap_se[0].square().mean().sqrt().item())
    kinds = {(d is not None, s): DDS(vit, d, s, n_samples=2)(x).rows().defence[0]
             for d in (None, identity) for s in (0.0, 0.25)}
    assert kinds == {(False, 0.0): "none", (False, 0.25): "noise_only", (True, 0.0): "denoise_only",
                     (True, 0.25): "dds"}


# gradients -----------------------------------------------------------------------------------------------------------
def test_gradients_do_not_depend_on_batches_and_keep_one_batch_of_activations():
    vit, den, x = tiny_vit(torch.float64), tiny_denoiser(torch.float64), images(2)

    def run(batch_size):
        kept, y = SimpleNamespace(bytes=0), x.clone().requires_grad_()

        def pack(t):
            kept.bytes += t.nbytes
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            maps, probs = DDS(vit, den, 0.25, batch_size=batch_size).maps(y, draws=range(4))
            value = maps[:, :, 0, 0].mean() + probs[..., 0].log().mean()
        return torch.autograd.grad(value, y)[0], kept.bytes

    (whole, much), (parts, little) = run(64), run(2)
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-15)
    assert whole.abs().max() > 0 and little < 0.1 * much


def test_the_oracle_sees_the_attention_that_explain_sees():
    vit, x = tiny_vit(torch.float64), images(2)
    torch.testing.assert_close(class_token_attention(vit, x), explain(vit, x, "raw_attention"), rtol=1e-10, atol=1e-14)
