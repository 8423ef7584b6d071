"""Whether an attack is at its plateau: does doubling one of its settings change what it leaves."""

import pandas as pd

from fvit.records.claims import LEAST_UNITS
from fvit.records.words import KNOBS
from fvit.theory.intervals import mean_interval

COLUMNS = ["knob", "rule", "level", "base", "mean", "low", "high", "n", "n_groups", "half", "change", "change_low",
           "change_high", "allowed", "settled"]


def plateau_table(rows, sizes, metric: str = "topk_overlap") -> pd.DataFrame:
    """What an attack leaves at each value of each of its settings, and what changed since that was half as great.

    rows      tidy rows of `fvit.experiments.plateau.plateau_rows` with a column photograph
    sizes     the run's: its attack_steps, attack_draws, attack_restarts and attack_rule are the headline's
    returns   DataFrame COLUMNS, in the order of the rows: `knob` "steps", "draws" or "restarts", `rule` of the steps,
              `level`, `base` the headline's value of the knob; mean over images and its 95 % interval by photograph;
              `half` the greatest level of at most half this one, `change` the paired difference from it with its
              interval, `allowed` half the width of the interval at `half`. `settled`: the whole interval of the change
              lies within what is allowed; None, which decides nothing, on fewer than LEAST_UNITS photographs

    Raises ValueError without such rows, and for images that have not been attacked at every level.
    """
    own = rows[(rows["metric"] == metric) & rows["variant"].isin(list(KNOBS))]
    if own.empty:
        raise ValueError(f"no rows of {metric!r} with a setting in `variant`; wanted those of plateau_rows")
    found = []
    for variant, part in own.groupby("variant", sort=False):
        knob, rule = KNOBS[variant]
        cells = part.pivot(index=["image_id", "photograph"], columns="level", values="value")
        if cells.isna().any(axis=None):
            raise ValueError(f"{variant}: some images lack a level of {list(cells)}; complete the run")
        groups = cells.index.get_level_values("photograph")
        reached = {level: mean_interval(cells[level], groups=groups) for level in cells}
        for level, interval in reached.items():
            half = max((other for other in reached if 2 * other <= level), default=float("nan"))
            change, allowed, settled = (float("nan"),) * 3, float("nan"), None
            if half in reached:
                change = mean_interval(cells[level] - cells[half], groups=groups)
                allowed = (reached[half][2] - reached[half][1]) / 2
                if len(set(groups)) >= LEAST_UNITS:
                    settled = bool(max(map(abs, change[1:3])) < allowed)
            found.append([knob, rule or sizes.attack_rule, level, getattr(sizes, f"attack_{knob}"), *interval,
                          interval.n, interval.n_groups, half, *change, allowed, settled])
    return pd.DataFrame(found, columns=COLUMNS).astype({"level": int})


def at_plateau(table) -> pd.DataFrame:
    """The first rows of `plateau_table` that at least double the headline attack: one for each knob and rule, none
    where a knob was not raised so far. It is at its plateau where all knobs have one and all are `settled`."""
    return table[table["half"] == table["base"]].groupby(["knob", "rule"], sort=False).head(1)
