"""The rows of bare and DDS, in the order and by the calls of the time when there were no other defences."""

import torch

from fvit.attacks import explanation_loss, pgd, prediction_loss
from fvit.explanations.methods import METHODS
from fvit.explanations.passes import explain_pass, forward_pass
from fvit.metrics.maps import l2_change, rank_correlation, topk_overlap
from fvit.smoothing import DDS
from fvit.theory.divergences import renyi_divergence

MOVED = {"prediction": None, "explanation": "raw_attention", "rollout": "rollout"}


def bare_and_dds(bench, images, methods, attacks, radii):
    """Records (defence, aim, made_on, eps, method, explained, metric, image id, value); stability alone."""
    def dds(seed):
        return DDS(bench.vit, bench.den, bench.sigma, bench.n_samples, seed, bench.eval_batch,
                   precision=bench.precision)

    def view(defence, x, ids, names, target=None, seed=bench.seed):
        if defence == "dds":
            found = dds(seed)(x, ids=ids, method=list(names), target=target)
            return next(iter(found.values())).probs.double(), {m: out.heatmap for m, out in found.items()}
        probs, maps = [], []
        for start in range(0, len(x), bench.eval_batch):
            part = slice(start, start + bench.eval_batch)
            with torch.no_grad():
                record = forward_pass(bench.vit, x[part], names)
                classes = record.logits.argmax(1) if target is None else target[part]
                probs.append(record.logits.double().softmax(1))
                maps.append([explain_pass(record, m, classes) for m in names])
        return torch.cat(probs), dict(zip(names, map(torch.cat, zip(*maps, strict=True)), strict=True))

    rows = []

    def put(about, **metrics):
        rows.extend((*about, metric, image_id, float(v)) for metric, values in metrics.items()
                    for image_id, v in zip(images.ids, values, strict=True))

    def add(about, seen, names, before=None, explained="fixed"):
        if explained == "fixed":
            predicted = seen[0].argmax(1)
            put((*about, "", ""), predicted=predicted, right=predicted == images.y)
            if before:
                put((*about, "", ""), class_kept=predicted == before[0].argmax(1), renyi_divergence=renyi_divergence(
                    before[0].numpy(), seen[0].numpy(), order=2))
        for m in names if before else ():
            a, b = before[1][m], seen[1][m]
            put((*about, m, explained), topk_overlap=topk_overlap(a, b, bench.k),
                rank_correlation=rank_correlation(a, b), l2_change=l2_change(a, b))

    needed = list(dict.fromkeys([*methods, *(MOVED[aim] for aim, _ in attacks if MOVED[aim])]))
    clean = {d: view(d, images.x, images.ids, needed) for d in ("none", "dds")}
    for d, seen in clean.items():
        add((d, "none", "", 0.0), seen, methods)
        for m in methods:
            put((d, "none", "", 0.0, m, "fixed"), fidelity=topk_overlap(clean["none"][1][m], seen[1][m], bench.k))
    again = view("dds", images.x, images.ids, methods, clean["dds"][0].argmax(1), bench.seed + 1)
    add(("dds", "fresh_noise", "", 0.0), again, methods, clean["dds"])
    for aim, made_on in attacks:
        for eps in radii:
            model, (probs, maps) = (bench.vit, clean["none"]) if made_on == "vit" else (dds(bench.seed), clean["dds"])
            y, method, draws = probs.argmax(1), MOVED[aim], {"n_samples": bench.attack_draws, "ids": images.ids}
            loss = (prediction_loss(model, y, **draws) if method is None else
                    explanation_loss(model, maps[method], bench.k, keep_class=y, method=method, **draws))
            x_adv = pgd(loss, images.x, eps=eps, steps=bench.attack_steps, seed=bench.seed, ids=images.ids)
            shown = ["rollout"] if aim == "rollout" else methods
            for d in ("none", "dds") if made_on == "vit" else ("dds",):
                about, before = (d, aim, made_on, eps), clean[d]
                after = view(d, x_adv, images.ids, shown, before[0].argmax(1), bench.seed + 1)
                add(about, after, shown, before)
                specific = [m for m in shown if METHODS[m].class_specific]
                anew = {m: after[1][m].clone() for m in specific}
                for i in (after[0].argmax(1) != before[0].argmax(1)).nonzero()[:, 0].tolist() if specific else ():
                    one = slice(i, i + 1)
                    for m, heat in view(d, x_adv[one], images.ids[one], specific, after[0].argmax(1)[one],
                                        bench.seed + 1)[1].items():
                        anew[m][one] = heat
                add(about, (after[0], anew), specific, before, "re-predicted")
    return rows
