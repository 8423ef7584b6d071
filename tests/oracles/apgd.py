"""APGD of one image at a time, Croce and Hein 2020, Algorithm 1, by scalars and lists."""

import torch


def apgd_loop(value, gradient, x, eps, norm, start, steps, checkpoints, size=None, momentum=0.25):
    """The best iterate; x (3, H, W), value(x) -> float, gradient(x, step) -> (3, H, W). No checkpoints: the last."""
    def project(v):
        delta = v - x
        if norm == "linf":
            delta = delta.clamp(-eps, eps)
        elif delta.pow(2).sum().sqrt() > eps:
            delta = eps * delta / delta.pow(2).sum().sqrt()
        return (x + delta).clamp(0, 1)

    size = 2 * eps if size is None else size
    iterates, values, now, previous = [start], [value(start)], start, start
    halved_before, best_before = True, values[0]
    at = [0, *checkpoints]
    for k in range(steps):
        g = gradient(now, k)
        z = project(now + size * (g.sign() if norm == "linf" else g / g.pow(2).sum().sqrt()))
        if k > 0:
            z = project(now + (1 - momentum) * (z - now) + momentum * (now - previous))
        previous, now = now, z
        iterates.append(z)
        values.append(value(z))
        if k + 1 in checkpoints:
            j = at.index(k + 1)
            rises = sum(values[i + 1] > values[i] for i in range(at[j - 1], at[j]))
            no_better = not halved_before and max(values) == best_before
            halved_before, best_before = rises <= 0.75 * (at[j] - at[j - 1]) or no_better, max(values)
            if halved_before:
                size, now = size / 2, iterates[torch.tensor(values).argmax()]
    return iterates[torch.tensor(values).argmax()] if checkpoints else now
