"""Is the headline attack at its plateau: what it leaves as its steps, draws or restarts grow, or their rule changes."""

import functools
from dataclasses import replace

import pandas as pd

from fvit.base.checks import check_count
from fvit.experiments.attack_rows import Table, labels
from fvit.experiments.bench import FREE, Bench
from fvit.metrics.maps import top_k, topk_overlap
from fvit.records.defence_names import check as check_defences
from fvit.records.defence_names import code
from fvit.records.rows import conform
from fvit.records.words import KNOBS

METHOD = "raw_attention"


def plateau_rows(bench: Bench, images, steps=(10, 20, 40, 80, 200), draws=(1, 4, 16, 64), restarts=(1, 2, 4),
                 eps: float = 8 / 255, defence: str = "dds") -> pd.DataFrame:
    """What is left of raw attention behind a defence under the explanation attack made on it, free to change the class,
    as one setting of the attack is turned and the others stay those of the bench.

    steps, draws, restarts   values tried; the bench's own is added
    returns   tidy rows of "topk_overlap" and "relative_mass": `variant` is the setting turned, `level` its value.
              "steps, apgd" are the steps once more by the rule of APGD; "steps, constant" by constant steps, where the
              bench has the other rule. Maps are measured on draws that no attack has seen
    """
    [name] = check_defences([defence])
    made_on = "vit" if name == "none" else code(name)
    own = {"steps": bench.attack_steps, "draws": bench.attack_draws, "restarts": bench.attack_restarts}
    tried = {"steps": steps, "draws": draws, "restarts": restarts}
    tried = {knob: {own[knob], *(check_count(value, knob) for value in values)} for knob, values in tried.items()}
    turned = [(variant, value, {knob: value, "rule": rule or bench.attack_rule})
              for variant, (knob, rule) in KNOBS.items() if rule != bench.attack_rule for value in sorted(tried[knob])]
    table = Table(bench, images, (), {code(name): name})
    clean = table.view(code(name), images.x, images.ids, [METHOD])
    order = top_k(clean.maps[METHOD], bench.k)

    def mass(heat):
        return heat.flatten(1).gather(1, order.to(heat.device)).sum(1).double().cpu()

    @functools.cache  # the bench's own settings stand in every row of variants
    def left_by(**setting):
        how = replace(bench, **{f"attack_{knob}": value for knob, value in setting.items()})
        x_adv = how.attack(FREE, "vit" if name == "none" else name, images.x, images.ids, clean, eps)
        heat = table.view(code(name), x_adv, images.ids, [METHOD], clean.predicted, bench.seed + 1).maps[METHOD]
        return {"topk_overlap": topk_overlap(clean.maps[METHOD], heat, bench.k).cpu(),
                "relative_mass": mass(heat) / mass(clean.maps[METHOD])}

    for variant, value, setting in turned:
        about = {"defence": code(name), "aim": FREE, "made_on": made_on, "eps": float(eps), "method": METHOD,
                 "explained": "fixed", "variant": variant, "level": float(value)}
        table.put(about, **left_by(**own | setting))
    return conform(pd.concat(table.frames), **labels(bench, images))
