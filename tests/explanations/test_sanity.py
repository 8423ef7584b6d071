"""Pointing on maps whose answer is known; randomisation that keeps the values of weights and leaves the original."""

import pytest
import torch
from oracles.maps import images, tiny_vit

from fvit.explanations import sanity
from fvit.explanations.methods import METHODS
from fvit.explanations.passes import explain


def two_objects(size=8, cell=4):
    """Masks (1, 2, size * cell, size * cell): object 0 fills the left column of patches, object 1 half of the right."""
    mask = torch.zeros(1, 2, size * cell, size * cell, dtype=torch.int8)
    mask[:, 0, :, :cell] = 1
    mask[:, 1, : size * cell // 2, -cell:] = 1
    return mask


def test_a_map_that_is_the_mask_points_perfectly_and_its_swap_not_at_all():
    mask = two_objects()
    maps = torch.nn.functional.avg_pool2d(mask.float(), 4)
    assert sanity.pointing(maps, mask).tolist() == [1.0]
    assert sanity.pointing(maps.flip(1), mask).tolist() == [0.0]


def test_class_agnostic_and_empty_maps_are_at_chance_whatever_the_sizes_of_the_objects():
    mask = two_objects()
    one = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(-1, 2, -1, -1)
    torch.testing.assert_close(sanity.pointing(one, mask), torch.tensor([0.5], dtype=torch.float64))
    empty = torch.zeros(1, 2, 8, 8)
    empty[:, :, :, 3] = 1  # on neither object
    assert sanity.pointing(empty, mask).tolist() == [0.5]


def test_pointing_by_hand_counts_partly_covered_patches_in_part_and_ignored_pixels_not():
    mask = torch.zeros(1, 2, 2, 4, dtype=torch.int8)  # patches of 2 x 2: two of them
    mask[0, 0, :, 0] = 1  # half of the left patch
    mask[0, 0, :, 1] = -1
    mask[0, 1, :, 2:] = 1  # all of the right patch
    maps = torch.tensor([[[[0.6, 0.4]], [[0.2, 0.8]]]])
    # class 0: 0.3 on its own, 0.4 on the other; class 1: 0.8 on its own, 0.1 on the other
    assert sanity.pointing(maps, mask).item() == pytest.approx((0.3 / 0.7 + 0.8 / 0.9) / 2)
    assert sanity.pointing(5 * maps, mask).item() == pytest.approx((0.3 / 0.7 + 0.8 / 0.9) / 2)


@pytest.mark.parametrize("maps, message", [
    (torch.zeros(1, 8, 8), "wanted"), (torch.zeros(1, 3, 8, 8), "two classes"), (torch.zeros(1, 2, 7, 8), "multiples"),
    (-torch.ones(1, 2, 8, 8), "negative"), (torch.full((1, 2, 8, 8), torch.nan), "non-finite"),
])
def test_pointing_says_what_is_wrong(maps, message):
    with pytest.raises(ValueError, match=message):
        sanity.pointing(maps, two_objects())


def test_maps_by_class_are_those_of_explain_whatever_the_batch():
    vit, x, classes = tiny_vit(), images(3, size=32), torch.tensor([[0, 1], [2, 0], [1, 1]])

    def attention_of_the_class(record, target):
        return record.read(record.attention[-1]).mean(1) * (1 + target[:, None, None])

    found = sanity.maps_by_class(vit, x, classes, batch=2)
    assert list(found) == list(METHODS)
    for method, maps in found.items():
        wanted = torch.stack([explain(vit, x, method, target) for target in classes.T], 1)
        torch.testing.assert_close(maps, wanted, rtol=1e-4, atol=1e-6)
        assert not maps.requires_grad
    (name, maps), = sanity.maps_by_class(vit, x, classes, [attention_of_the_class]).items()
    assert name == "attention_of_the_class"
    torch.testing.assert_close(maps[:, 0], explain(vit, x, "raw_attention"), rtol=1e-4, atol=1e-6)


def test_the_cascade_names_every_parameter_once_from_the_head_down():
    vit = tiny_vit()
    stages = sanity.cascade(vit)
    assert list(stages) == ["head", "block 3", "block 2", "block 1", "embedding"]
    names = [name for stage in stages.values() for name in stage]
    assert sorted(names) == sorted(name for name, _ in vit.named_parameters())
    assert {"backbone.head.weight", "backbone.norm.weight"} <= set(stages["head"])
    assert {"backbone.pos_embed", "backbone.cls_token", "backbone.patch_embed.proj.weight"} <= set(stages["embedding"])


def changed(vit, other):
    pairs = zip(vit.named_parameters(), other.parameters(), strict=True)
    return {name for (name, before), after in pairs if not torch.equal(before, after)}


def varied(vit):
    """Parameters that a permutation can change: those with two unlike entries."""
    return {name for name, p in vit.named_parameters() if p.min() < p.max()}


@pytest.mark.parametrize("n_stages", range(6))
def test_randomising_changes_the_named_stages_and_nothing_else(n_stages):
    vit, stages = tiny_vit(), list(sanity.cascade(tiny_vit()).values())
    before = {name: p.clone() for name, p in vit.named_parameters()}
    other = sanity.randomised(vit, n_stages)
    wanted = {name for stage in stages[:n_stages] for name in stage} & varied(vit)
    assert changed(vit, other) == wanted
    assert all(torch.equal(before[name], p) for name, p in vit.named_parameters()), "the original was touched"
    for (name, p), q in zip(vit.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(p.flatten().sort().values, q.flatten().sort().values), f"{name} has other values than before"


def test_randomising_depends_on_the_seed_and_not_on_how_many_stages_follow():
    vit, head = tiny_vit(), "backbone.head.weight"
    one, all_of_them = (dict(sanity.randomised(vit, n, seed=3).named_parameters()) for n in (1, 5))
    assert torch.equal(one[head], all_of_them[head])
    torch.manual_seed(1)  # global state has no say
    assert torch.equal(dict(sanity.randomised(vit, 1, seed=3).named_parameters())[head], one[head])
    others = dict(seed=3), dict(seed=4), dict(seed=3, network="a"), dict(seed=3, network="b")
    heads = [dict(sanity.randomised(vit, 1, **other).named_parameters())[head] for other in others]
    assert len({tuple(weights.flatten().tolist()) for weights in heads}) == 4
    with pytest.raises(ValueError, match="n_stages=6"):
        sanity.randomised(vit, 6)


def test_a_random_head_changes_what_reads_the_class_and_leaves_attention_as_it_was():
    vit, x = tiny_vit(), images(2, size=32)
    other = sanity.randomised(vit, 1)
    torch.testing.assert_close(explain(other, x, "rollout"), explain(vit, x, "rollout"), rtol=0, atol=0)
    assert not torch.allclose(explain(other, x, "vta", 0), explain(vit, x, "vta", 0), atol=1e-4)


def test_edges_of_a_step_lie_on_its_patches():
    x = torch.zeros(1, 3, 8, 8)
    x[..., 3:] = 1  # the step is between columns 2 and 3, in the left patches
    got = sanity.edges(x, (2, 2))
    torch.testing.assert_close(got, torch.tensor([[[0.5, 0.0], [0.5, 0.0]]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(sanity.edges(x * 0, (2, 2)), torch.full((1, 2, 2), 0.25))
