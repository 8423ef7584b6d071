"""The prediction under an ensemble of attacks, as the field reports it: right only where none of them moves it."""

from dataclasses import replace

import pandas as pd

from fvit.attacks import prediction_loss
from fvit.attacks.dlr import dlr_loss
from fvit.base.checks import check_choice, check_count
from fvit.experiments.attack_rows import Table, labels
from fvit.experiments.bench import Bench
from fvit.experiments.defences import check_gradient
from fvit.records.defence_names import check as check_defences
from fvit.records.defence_names import code
from fvit.records.rows import conform

MEMBERS = ("pgd", "apgd-ce", "apgd-dlr", "apgd-t")


def ensemble_rows(bench: Bench, images, *, radii, defences=("none", "dds"), members=MEMBERS,
                  targets: int = 3) -> pd.DataFrame:
    """Whether each defence is right on clean images, under each of several attacks on its prediction that are made on
    itself, and under all of them: rows of metric "right" whose `variant` is the attack, or "ensemble".

    radii      linf, in [0, 1] pixel units; 0 is the clean image, always measured
    defences   names as of `records.defence_names.check`
    members    "pgd" is that of the other tables (`Bench.attack`); "apgd-ce", "apgd-dlr" and "apgd-t" are APGD on
               cross-entropy, on `dlr_loss`, and on its targeted form for each of the `targets` likeliest other classes,
               right under "apgd-t" being right under all of these. Steps, draws and restarts are those of the bench
    returns    tidy rows. An image is right under the ensemble if it is right when clean and under every member

    Where a defence draws, attacks average over fresh draws (expectation over transformation), and all results are
    judged by one set of others: the least of several judgements is not the least of several noises.
    Raises ValueError for unknown names, and for fewer classes than `dlr_loss` needs.
    Source: Croce and Hein 2020, AutoAttack, of which FAB and Square are left out: Square asks 5,000 times an image.
    """
    named = {code(name): name for name in check_defences(defences)}
    members = [check_choice(member, MEMBERS, "member of the ensemble") for member in members]
    check_count(targets, "targets")
    table, x, ids = Table(bench, images, (), named), images.x, images.ids
    for defence, name in named.items():
        clean = table.view(defence, x, ids, [])
        model, right = (bench.vit if name == "none" else bench.defence(name)), clean.predicted == images.y
        table.put({"defence": defence}, right=right)
        for eps in (eps for eps in radii if eps > 0):
            about = {"defence": defence, "aim": "prediction", "made_on": "vit" if name == "none" else defence,
                     "eps": float(eps)}
            withstood = right
            for member in members:
                holds = right | True
                for x_adv in _attacked(bench, member, name, model, images, clean, eps, targets):
                    holds &= table.view(defence, x_adv, ids, [], None, bench.seed + 1).predicted == images.y
                table.put(about | {"variant": member}, right=holds)
                withstood = withstood & holds
            table.put(about | {"variant": "ensemble"}, right=withstood)
    return conform(pd.concat(table.frames), **labels(bench, images))


def _attacked(bench, member, name, model, images, clean, eps, targets):
    """The images of one member, one after the other."""
    if member == "pgd":
        yield bench.attack("prediction", "vit" if name == "none" else name, images.x, images.ids, clean, eps)
        return
    y, n = clean.predicted, {"n_samples": bench.attack_draws, "ids": images.ids}
    others = clean.probs.scatter(1, y[:, None], -1).argsort(dim=1, descending=True, stable=True)[:, :-1]
    losses = {"apgd-ce": lambda: [prediction_loss(model, y, **n)], "apgd-dlr": lambda: [dlr_loss(model, y, **n)],
              "apgd-t": lambda: [dlr_loss(model, y, target, **n) for target in others.T[:targets]]}[member]()
    for loss in losses:
        if ":" in name:
            check_gradient(name, loss, images.x)
        yield replace(bench, attack_rule="apgd").ascend(loss, images.x, images.ids, eps, model)
