"""Images as a torch Dataset: what DataLoaders, subsets and loops get of them."""

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, random_split

import fvit
from fvit.base.paths import ROOT
from fvit.data.images import Images


@pytest.fixture
def images():
    g = torch.Generator().manual_seed(0)
    return Images(torch.rand(5, 3, 4, 4, generator=g), torch.tensor([3, 1, 4, 1, 5]),
                  torch.randint(-1, 2, (5, 4, 4), generator=g, dtype=torch.int8), list("abcde"), list("gghhi"),
                  tuple("012345"), "mine", ["f"], {"f": "torn"})


def test_one_image_is_x_y_and_id(images):
    assert isinstance(images, Dataset) and len(images) == 5
    for i in (2, -3, "c", torch.tensor(2)):
        x, y, name = images[i]
        assert torch.equal(x, images.x[2]) and y == 4 and name == "c"
    assert [name for _, _, name in images] == list("abcde")
    for i in (5, -6, "f"):
        with pytest.raises(IndexError, match=f"no image '?{i}'? among these 5 of mine"):
            images[i]


@pytest.mark.parametrize("part", [slice(1, None, 2), ["b", "d"], [1, -2], ("b", 3)])
def test_several_are_images_again(images, part):
    found = images[part]
    assert isinstance(found, Images) and found.ids == ["b", "d"] and found.groups == ["g", "h"]
    assert torch.equal(found.x, images.x[[1, 3]]) and torch.equal(found.mask, images.mask[[1, 3]])
    assert found.y.tolist() == [1, 1] and found.class_names == images.class_names and found.skipped == ["f"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_keeps_ids_and_masks_can_be_had_for_them(images, workers):
    seen = []
    loader = DataLoader(images, 2, shuffle=True, num_workers=workers, generator=torch.Generator().manual_seed(1))
    for x, y, ids in loader:
        places = ["abcde".index(name) for name in ids]
        assert torch.equal(x, images.x[places]) and torch.equal(y, images.y[places]) and y.dtype == torch.int64
        assert torch.equal(images[ids].mask, images.mask[places])
        seen += ids
    assert sorted(seen) == list("abcde") != seen


def test_torchs_own_tools_take_it(images):
    parts = random_split(images, [2, 3], torch.Generator().manual_seed(0))
    assert sorted(name for part in parts for _, _, name in part) == list("abcde")
    assert sorted(name for part in parts for _, _, ids in DataLoader(part, 2) for name in ids) == list("abcde")
    assert len(ConcatDataset([images, images])) == 10 and images == images and images != images[:]


def test_pairs_have_two_labels_and_no_mask_is_none():
    pairs = fvit.load_images("scenes", "pairs", 2)
    assert pairs[1][1].tolist() == pairs.y[1].tolist() and pairs[:1].mask.shape == (1, 2, 64, 64)
    bare = Images(pairs.x, pairs.y, None, pairs.ids, pairs.groups, ())
    assert bare[[0]].mask is None


def test_a_loop_over_a_loader_is_the_whole_batch_at_once():
    """The ids name the noise, so batches change nothing: what fails without them."""
    vit, data = fvit.load_vit("scenes"), fvit.load_images("scenes", n=4)
    dds = fvit.DDS(vit, None, sigma=0.25, n_samples=2)
    whole = dict(zip(data.ids, dds(data.x, ids=data.ids).heatmap, strict=True))
    for x, _, ids in DataLoader(data, 3, shuffle=True, generator=torch.Generator().manual_seed(0)):
        for name, heat in zip(ids, dds(x, ids=ids).heatmap, strict=True):
            torch.testing.assert_close(heat, whole[name], rtol=0, atol=1e-5)


def test_the_loop_of_the_docs_runs_as_it_stands():
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    there = {}
    exec(text.split("```python\n")[1].split("```")[0], there)
    heat, data = there["heat"], there["data"]
    assert heat.keys() == set(data.ids) and all(each.shape == (16, 16) for each in heat.values())
    assert torch.equal(there["masks"], data[list(there["ids"])].mask)
