"""Mean and standard error of many draws, without keeping them."""

import math

import torch


class Moments:
    """Running mean and squares (Welford 1962), float64 on the CPU, draw by draw: batches cannot change a bit."""

    def __init__(self, n_images):
        self.counts, self.mean, self.squares = [0] * n_images, None, None

    def add(self, owners, values):
        values = values.detach().cpu().double()  # an accelerator may lack float64
        if self.mean is None:
            self.mean, self.squares = values.new_zeros(2, len(self.counts), *values.shape[1:])
        for i, value in zip(owners, values, strict=True):
            self.counts[i] += 1
            off = value - self.mean[i]
            self.mean[i] += off / self.counts[i]
            self.squares[i] += off * (value - self.mean[i])

    def result(self, exact):
        n = self.counts[0]
        spread = self.squares / (n * (n - 1)) if n > 1 else torch.full_like(self.mean, 0 if exact else math.nan)
        return self.mean, spread.sqrt()
