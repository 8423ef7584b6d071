"""Mean and standard error of many draws, without keeping them."""

import math

import torch


class Moments:
    """Running mean and squares (Welford 1962), float64 on the CPU, draw by draw: batches cannot change a bit.

    unit   draws that are one independent value, their mean: 2 for pairs; those of an image come one after another
    """

    def __init__(self, n_images, unit=1):
        self.counts, self.mean, self.squares = [0] * n_images, None, None
        self.unit, self.waiting = unit, []

    def add(self, owners, values):
        values = values.detach().cpu().double()  # an accelerator may lack float64
        if self.unit > 1:
            owners, values = self._units(owners, values)
            if not owners:
                return
        if self.mean is None:
            self.mean, self.squares = values[0].new_zeros(2, len(self.counts), *values[0].shape)
        for i, value in zip(owners, values, strict=True):
            self.counts[i] += 1
            off = value - self.mean[i]
            self.mean[i] += off / self.counts[i]
            self.squares[i] += off * (value - self.mean[i])

    def _units(self, owners, values):
        """Owners and means of the units that are whole now."""
        self.waiting += zip(owners, values, strict=True)
        whole = len(self.waiting) // self.unit * self.unit
        done, self.waiting = self.waiting[:whole], self.waiting[whole:]
        units = [done[at:at + self.unit] for at in range(0, whole, self.unit)]
        if any(len({owner for owner, _ in each}) > 1 for each in units):
            raise ValueError(f"a unit of {self.unit} draws is of two images; give each image a multiple of them")
        return [each[0][0] for each in units], [torch.stack([v for _, v in each]).mean(0) for each in units]

    def result(self, exact):
        n = self.counts[0]
        spread = self.squares / (n * (n - 1)) if n > 1 else torch.full_like(self.mean, 0 if exact else math.nan)
        return self.mean, spread.sqrt()
