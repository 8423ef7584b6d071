"""When memory runs out the batch is halved, and nothing else changes: maps, predictions, attacks, rows."""

import pytest
import torch
from oracles.maps import images

from fvit.attacks import explanation_loss, pgd, prediction_loss, strongest
from fvit.base.memory import in_memory, peak_bytes
from fvit.experiments.bench import Bench
from fvit.smoothing import DDS

IDS = ["a", "b", "c"]
CUDA = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you tried to ...")


class Sized:
    batch_size = 13


@pytest.mark.parametrize("error", [CUDA, CPU, RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")])
def test_the_batch_is_halved_until_memory_suffices_and_stays_so(error, capsys):
    sized, tried = Sized(), []

    def run():
        tried.append(sized.batch_size)
        if sized.batch_size > 4:
            raise error
        return "done"

    assert in_memory(run, sized) == "done" and in_memory(run, sized) == "done"
    assert tried == [13, 6, 3, 3]
    assert capsys.readouterr().err.splitlines()[-1] == "memory ran out; on with 3 images at a time"


@pytest.mark.parametrize("error, size", [(CPU, 1), (RuntimeError("shapes do not match"), 8), (ValueError("no"), 8)])
def test_other_errors_and_a_batch_of_one_are_raised(error, size):
    sized = Sized()
    sized.batch_size = size

    def run():
        raise error

    with pytest.raises(type(error), match=str(error)[:8].replace("[", r"\[")):
        in_memory(run, sized)
    with pytest.raises(RuntimeError, match="can't allocate"):
        in_memory(lambda: (_ for _ in ()).throw(CPU), None)  # nothing to halve


class Narrow(torch.nn.Module):
    """A denoiser that has memory for four images; `backward` only: in the backward pass alone."""

    def __init__(self, backward=False):
        super().__init__()
        self.weight, self.backward, self.refused = torch.nn.Parameter(torch.tensor(0.9)), backward, 0

    def forward(self, x, sigma):
        if len(x) > 4 and not self.backward:
            self._refuse()
        out = x * self.weight
        if self.backward and len(x) > 4 and out.requires_grad:
            out.register_hook(lambda grad: self._refuse())
        return out

    def _refuse(self):
        self.refused += 1
        raise CPU


def smoothers(vit, **narrow):
    """Of six draws: with memory for four images and a batch of sixteen, and with a batch of four from the start."""
    den = Narrow(**narrow).requires_grad_(False).double()
    wide = Narrow(backward=True).requires_grad_(False).double()
    return DDS(vit, den, sigma=0.1, n_samples=6, batch_size=16), DDS(vit, wide, sigma=0.1, n_samples=6, batch_size=4)


def test_maps_and_predictions_are_those_of_the_smaller_batch_to_the_bit(vit):
    dds, small = smoothers(vit)
    methods = ["raw_attention", "vta"]
    got, want = (d(images(3), ids=IDS, method=methods, keep_samples=True) for d in (dds, small))
    assert dds.den.refused == 2 and dds.batch_size == 4
    for method in methods:
        for name in ("heatmap", "heatmap_se", "probs", "probs_se", "samples"):
            assert torch.equal(getattr(got[method], name), getattr(want[method], name))


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("aim", ["prediction", "explanation"])
def test_attacks_are_those_of_the_smaller_batch_to_the_bit(vit, aim, backward):
    def attacked(dds):
        if aim == "prediction":
            loss = prediction_loss(dds, torch.tensor([0, 3, 1]), n_samples=6, ids=IDS)
        else:
            loss = explanation_loss(dds, torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)), 4, ids=IDS,
                                    n_samples=6)
        return pgd(loss, images(3), eps=0.1, steps=3, ids=IDS), strongest(loss, images(3), 2, eps=0.1, steps=1, ids=IDS)

    dds, small = smoothers(vit, backward=backward)
    for got, want in zip(attacked(dds), attacked(small), strict=True):
        assert torch.equal(got, want)
    assert dds.den.refused == 2 and dds.batch_size == 4


def test_bare_views_halve_their_batch_too(vit, monkeypatch):
    sizes = []

    def forward(self, x):
        sizes.append(len(x))
        if len(x) > 2:
            raise CUDA
        return plain(self, x)

    bench, x = Bench(vit, None, 0.1, 2, 4, 1, 1, eval_batch=5, precision=None), images(3)
    plain = type(vit).forward
    want = Bench(vit, None, 0.1, 2, 4, 1, 1, eval_batch=2, precision=None).view("none", x, IDS, ["vta"])
    monkeypatch.setattr(type(vit), "forward", forward)
    got = bench.view("none", x, IDS, ["vta"])
    assert torch.equal(got.maps["vta"], want.maps["vta"]) and torch.equal(got.probs, want.probs)
    assert sizes == [3, 2, 1]


def test_bytes_at_once_by_hand():
    a = torch.ones(1000)
    assert peak_bytes(lambda: (a + 1).sum()) == 4004  # the sum is one number more
    assert peak_bytes(lambda: (a + 1) + (a + 2)) == 12000
    assert peak_bytes(lambda: [a.view(10, 100), a[:5], a.mul_(1)]) == 0  # views, and work in place
    assert peak_bytes(lambda: [(a + n).sum() for n in range(9)]) == 4000 + 9 * 4  # one after the other

    def gone_before():
        b = a.double()
        del b
        return a + 1

    assert peak_bytes(gone_before) == 8000


def test_a_dds_takes_no_more_memory_for_more_draws_or_images_unless_draws_are_kept(vit):
    def taken(n_images, n_samples, **options):
        dds = DDS(vit, None, sigma=0.25, n_samples=n_samples, batch_size=4)
        x = images(n_images)
        return peak_bytes(lambda: dds(x, **options))

    base = taken(1, 4)
    assert max(taken(1, 32), taken(8, 4)) <= 1.05 * base
    kept = [taken(1, n, keep_samples=True) for n in (32, 64)]
    assert kept[1] - kept[0] == 32 * 16 * images(1).element_size()  # 16 tokens
