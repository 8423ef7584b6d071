"""The step rule of APGD: half the step where an image makes no progress, and on from its best iterate."""

import torch


class Halving:
    """Step lengths and the best iterate of an ascent of `steps` steps, each image's own.

    judge   (B, 3, H, W) -> (B,), what iterates are compared by
    best    the iterate of the greatest judgement so far, the start among them; most: that judgement

    At checkpoints, which come ever closer, the step is halved where at most three quarters of the steps since the last
    one raised the judgement; or where the best is what it was at the last one, and the step was not halved there.
    Source: Croce and Hein 2020, Algorithm 1 in the form of their code. Note: their code counts the first step as a rise
    where the loss is positive after it, since it compares with an empty place; here it is compared with the start.
    """

    def __init__(self, judge, x_adv, size, steps):
        self.judge, self.best, self.most = judge, x_adv.detach(), judge(x_adv)
        self.size = torch.full_like(x_adv[:, :1, :1, :1], size)
        self.latest, self.at_check = self.most, self.most  # judgements of the latest iterate, of the best at the check
        self.rises = torch.zeros_like(self.most)
        self.halved = torch.ones_like(self.most, dtype=torch.bool)  # so that the first checkpoint asks for rises alone
        self.wait, self.least, self.less = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
        self.since = 0

    def after(self, x_adv):
        """(iterate to go on from, step lengths (B, 1, 1, 1)) after the step to `x_adv`."""
        found, self.since = self.judge(x_adv), self.since + 1
        self.rises = self.rises + (found > self.latest)
        self.best = torch.where(_each(found > self.most), x_adv, self.best)
        self.latest, self.most = found, torch.maximum(found, self.most)
        if self.since < self.wait:
            return x_adv, self.size
        self.halved = (self.rises <= 0.75 * self.since) | (~self.halved & (self.at_check >= self.most))
        self.size = torch.where(_each(self.halved), self.size / 2, self.size)
        self.rises, self.since, self.at_check = torch.zeros_like(self.rises), 0, self.most
        self.wait = max(self.wait - self.less, self.least)
        return torch.where(_each(self.halved), self.best, x_adv), self.size


def _each(images):
    return images.view(-1, 1, 1, 1)
