"""Figures of notebook 14: what an explanation and a draw cost."""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from fvit.records.words import method_said
from fvit.report.style import COLOURS, one_panel, ticks_at

STAGES = ("reference loop", "one call a draw", "in batches of 32", "in bfloat16")  # each saves more than that before
PLAIN = "0.7"  # of bars that are of no defence


@dataclass(frozen=True)
class Timed:
    """The rows of 14_cost by what they time; see `timed`."""

    stages: pd.DataFrame  # stage, one of STAGES in their order, n_samples, seconds of an image
    methods: pd.DataFrame  # method, forwards: time in forward passes of the shipped ViT
    on_b: pd.Series  # method -> forwards, on ViT-B/16 in batches of `batch`
    batch: int
    draws: pd.DataFrame  # n_samples, seconds of an image, from the fewest draws
    forward: float  # seconds of a prediction
    parts: pd.DataFrame  # batch, part (a network), milliseconds of a noisy image
    dds: pd.Series  # batch -> milliseconds of a draw, as a whole


def timed(cost, methods=()) -> Timed:
    """Tidy rows 14_cost apart; `methods` is the order of the methods, and those that the rows lack are left out."""
    of = {metric: part.rename(columns={"value": metric}) for metric, part in cost.groupby("metric")}
    seconds, forwards = of["seconds"], of["forwards"]
    stages = seconds.rename(columns={"variant": "stage"}).set_index("stage")[["n_samples", "seconds"]].loc[[*STAGES]]
    on_b = forwards[forwards["variant"] == "random weights"].set_index("method")
    own = forwards[forwards["variant"] == ""].set_index("method")["forwards"]
    own = own.loc[[method for method in methods or own.index if method in own.index]]
    draws = seconds[(seconds["defence"] == "dds") & (seconds["variant"] == "")].sort_values("n_samples")
    parts = of["milliseconds"].rename(columns={"level": "batch", "variant": "part"}).astype({"batch": int})
    parts = parts.sort_values(["batch", "part"])
    whole = parts["part"] == "DDS"
    return Timed(stages.reset_index(), own.reset_index(), on_b["forwards"], int(on_b["level"].iloc[0]),
                 draws[["n_samples", "seconds"]].reset_index(drop=True),
                 seconds.loc[seconds["variant"] == "forward", "seconds"].item(),
                 parts.loc[~whole, ["batch", "part", "milliseconds"]].reset_index(drop=True),
                 parts[whole].set_index("batch")["milliseconds"])


def plot_method_costs(df) -> plt.Figure:
    """Bars: each explanation method's time in units of a forward pass; df: method, forwards."""
    labels = [f"{times:.1f}" for times in df["forwards"]]
    ax = _bars(4.8, df["method"].map(method_said), df["forwards"], PLAIN, labels, row=0.32)
    ax.axvline(1, color="0.2", linestyle="--", linewidth=1)
    ax.set(xlabel="time, in forward passes without gradients of the same batch", xlim=(0, 1.12 * df["forwards"].max()))
    return ax.figure


def plot_speedup(df) -> plt.Figure:
    """Bars on a log axis: time of an image as one saving after the other is made, its factor beside it.

    df   stage, seconds, in order: the first is what all are compared with
    """
    seconds, factors = df["seconds"], df["seconds"].shift() / df["seconds"]
    labels = [f"{s:.3g} s" + f"  ({f:.2g} times faster)" * (f == f) for s, f in zip(seconds, factors, strict=True)]
    ours = [COLOURS["dds"]] * (len(df) - 1)
    ax = _bars(5.4, df["stage"], seconds, [COLOURS["reference_chain"], *ours], labels, row=0.42)
    ax.set(xscale="log", xlabel="seconds of an image, log scale", xlim=(0.5 * seconds.min(), 4 * seconds.max()))
    ax.xaxis.set_major_formatter("{x:g}")
    return ax.figure


def _bars(width, names, values, colours, labels, row):
    """Lying bars, one of `row` inches each, with their labels beside them."""
    ax = one_panel(width, row * len(names) + 0.9)
    bars = ax.barh(names, values, color=colours, height=0.6)
    ax.bar_label(bars, labels, padding=3, fontsize="small")
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    return ax


def plot_times(df, by_batch) -> plt.Figure:
    """Left: time of an image against its draws, on a line through the origin. Right: time of a draw against the batch.

    df         n_samples, seconds of an image
    by_batch   batch, part, milliseconds of a noisy image; the parts are drawn one upon the other
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(6.8, 2.9), layout="constrained")
    per_draw = (df["seconds"] / df["n_samples"]).iloc[-1]
    left.plot(df["n_samples"], per_draw * df["n_samples"], "-", color="0.6", linewidth=1, label="proportional")
    left.plot(df["n_samples"], df["seconds"], "o", markersize=5, color=COLOURS["dds"], label="measured")
    left.set(xscale="log", yscale="log", xlabel="draws n", ylabel="seconds of an image")
    ticks_at(left, df["n_samples"])
    left.legend(frameon=False, fontsize="small")
    wide = by_batch.pivot(index="batch", columns="part", values="milliseconds")[list(dict.fromkeys(by_batch["part"]))]
    base = np.zeros(len(wide))
    for part, colour, hatch in zip(wide, ("0.45", "0.75", "0.9"), ["", "//", ".."], strict=False):
        right.bar(range(len(wide)), wide[part], bottom=base, width=0.65, color=colour, hatch=hatch, label=part)
        base = base + wide[part].to_numpy()
    right.set_xticks(range(len(wide)), [str(b) for b in wide.index])
    right.set(xlabel="noisy images in a batch", ylabel="milliseconds of a draw", ylim=(0, 1.35 * base.max()))
    right.grid(axis="x", visible=False)
    right.legend(frameon=False, fontsize="small", loc="upper center", ncols=2)
    return fig
