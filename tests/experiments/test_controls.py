"""Maps that are known to be good and bad, by hand, and whether the perturbation test tells them apart."""

import pytest
import torch

from fvit import curve_auc, perturbation_curve
from fvit.data.images import Images
from fvit.experiments.bench import Bench
from fvit.experiments.controls import KNOWN_MAPS, fill_rows, occlusion_map
from fvit.records.rows import KEY
from fvit.report.contrasts import told_apart


class Bright(torch.nn.Module):
    """Class 1 while the object, the upper left quarter of a 16 x 16 image, is brighter than .5 in its mean."""

    grid, num_classes, image_size, name = (4, 4), 2, (16, 16), "bright"

    def forward(self, x):
        light = 8 * (x[:, :, :8, :8].mean((1, 2, 3)) - 0.5)
        return torch.stack([torch.zeros_like(light), light], 1)


@pytest.fixture(scope="module")
def data():
    x = torch.full((4, 3, 16, 16), 0.1) + 0.02 * torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    x[:, :, :8, :8] += 0.75
    mask = torch.zeros(4, 16, 16, dtype=torch.int8)
    mask[:, :8, :8] = 1
    return Images(x, torch.ones(4, dtype=torch.long), mask, list("abcd"), ["p", "p", "q", "r"], ("dark", "bright"),
                  "toys")


def test_what_a_rectangle_takes_is_what_the_model_loses(data):
    vit, (x, y) = Bright(), (data.x, data.y)
    found = occlusion_map(vit, x, y, batch_size=3)
    assert found.shape == (4, 8, 8)
    for row, column in ((0, 0), (3, 2), (4, 0), (7, 7)):
        darker = x.clone()
        darker[:, :, 2 * row:2 * row + 2, 2 * column:2 * column + 2] = 0
        torch.testing.assert_close(found[:, row, column], -vit(darker).softmax(1)[:, 1])
    assert found[:, :4, :4].amin() > found[:, 4:].amax()  # the object's rectangles, all others


def test_rows_are_the_curves_of_each_fill_and_square(data):
    bench = Bench(Bright(), None, sigma=0.1, n_samples=1, k=2, attack_steps=1, attack_draws=1, eval_batch=3)
    rows = fill_rows(bench, data, fills=("black", "mean"), patches=(1, 4))
    assert not rows.duplicated(KEY).any()
    assert rows.variant.unique().tolist() == ["black, 1", "black, 4", "mean, 1", "mean, 4"]
    assert set(rows.method) == set(KNOWN_MAPS) and len(rows) == 4 * 4 * 4 * 2 * 11
    mask = rows[(rows.method == "mask") & (rows.variant == "mean, 4") & (rows.metric == "positive")]
    want = perturbation_curve(bench.vit, data.x, data.y, (data.mask == 1).float(), fill="mean", patch=4)
    assert mask.pivot(index="image_id", columns="level", values="value").to_numpy().tolist() == want.tolist()
    table = told_apart(rows.assign(photograph=rows.image_id.map(dict(zip(data.ids, data.groups, strict=True)))))
    one = table[(table.variant == "mean, 4") & (table.kind == "positive") & (table.good == "mask")]
    one = one.set_index("bad").loc["inverted_mask"]
    worse = perturbation_curve(bench.vit, data.x, data.y, (data.mask != 1).float(), fill="mean", patch=4)
    gap = curve_auc(worse, "mean_height") - curve_auc(want, "mean_height")
    assert one.difference == pytest.approx(gap.mean().item()) and one.difference > 0.3
    assert (table.n == 4).all() and (table.n_groups == 3).all() and len(table) == 4 * 2 * 4
    negative = table[(table.kind == "negative") & (table.bad == "inverted_mask")]
    assert (negative.difference > 0.3).all() and (table.low <= table.difference).all()
