"""Figures of what sigma, draws and k cost and buy; as in `plots`, from tables only, and no model is ever seen."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from fvit.report.style import MARKERS


def _lines(ax, df, x, by, dodge=1.0):
    """A line with intervals for each value of `by`, named in a legend; df: x, by, mean, low, high.

    dodge   factor between neighbours' x on a log axis, so that intervals do not hide each other
    """
    middle = (df[by].nunique() - 1) / 2
    lines = zip(df.groupby(by, sort=False), MARKERS, sns.color_palette(), strict=False)
    for i, ((name, part), marker, colour) in enumerate(lines):
        bars = np.maximum(np.stack([part["mean"] - part["low"], part["high"] - part["mean"]]), 0)
        ax.errorbar(part[x] * dodge ** (i - middle), part["mean"], yerr=bars, marker=marker, color=colour, markersize=4,
                    capsize=2, linewidth=1.2, label=name)


def _ticks(ax, values):
    """A logarithmic x axis with the values that were run, and no others."""
    values = sorted(pd.unique(values))
    ax.set_xscale("log")
    ax.set_xticks(values, [f"{v:g}" for v in values])
    ax.minorticks_off()


def _legend(ax, ncols=2, below=-0.2):
    ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, below), ncols=ncols)


def plot_ablation(df, x, xlabel, ylabel, ax=None) -> plt.Figure:
    """Shares in [0, 1] against one setting, a line per measure; df: the column named by x, measure, mean, low, high."""
    ax = ax or plt.subplots(figsize=(4.6, 3.2), layout="constrained")[1]
    _lines(ax, df, x, "measure", dodge=1.02)
    _ticks(ax, df[x])
    ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(-0.02, 1.03))
    _legend(ax)
    return ax.figure


def plot_overlap_by_k(df, n_tokens, ax=None) -> plt.Figure:
    """Top-k overlap against k, with the overlap k / n_tokens of two random sets; df: k, measure, mean, low, high."""
    fig = plot_ablation(df, "k", "k, size of the top set", "top-k overlap", ax)
    ax = fig.axes[0]
    sizes = np.geomspace(df["k"].min(), df["k"].max(), 50)
    ax.plot(sizes, sizes / n_tokens, "--", color="0.4", linewidth=1.2, label="two random sets, k / tokens")
    _legend(ax)
    return fig


def plot_attack_strength(df, k) -> plt.Figure:
    """Attention mass and overlap left by attacks of more and more steps, draws and restarts, a panel each.

    df   knob ("steps", "draws", "restarts"), setting, measure, mean, low, high
    """
    knobs = list(dict.fromkeys(df["knob"]))
    fig, axes = plt.subplots(1, len(knobs), figsize=(2.4 * len(knobs), 2.9), sharey=True, squeeze=False,
                             layout="constrained")
    for ax, knob in zip(axes[0], knobs, strict=True):
        part = df[df["knob"] == knob]
        _lines(ax, part, "setting", "measure")
        _ticks(ax, part["setting"])
        ax.set(xlabel=f"{knob} of the attack", ylim=(0, 1.03))
    axes[0, 0].set_ylabel(f"kept of the clean top-{k}")
    handles = axes[0, 0].get_legend_handles_labels()
    fig.legend(*handles, frameon=False, fontsize="small", loc="outside lower center", ncols=2)
    return fig


def plot_method_costs(df, ax=None) -> plt.Figure:
    """Bars: each explanation method's time in units of a forward pass; df: method, forwards."""
    ax = ax or plt.subplots(figsize=(4.8, 0.32 * len(df) + 0.9), layout="constrained")[1]
    bars = ax.barh(df["method"], df["forwards"], color=sns.color_palette()[0], height=0.6)
    ax.bar_label(bars, [f"{v:.1f}" for v in df["forwards"]], padding=3, fontsize="small")
    ax.axvline(1, color="0.4", linestyle="--", linewidth=1)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set(xlabel="time, in forward passes without gradients of the same batch", xlim=(0, 1.12 * df["forwards"].max()))
    return ax.figure


def plot_times(df, by_batch) -> plt.Figure:
    """Left: time of an image against its draws, on a line through the origin. Right: time of a draw against the batch.

    df         n_samples, seconds of an image
    by_batch   batch, part, milliseconds of a noisy image; the parts are drawn one upon the other
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(6.8, 2.9), layout="constrained")
    per_draw = (df["seconds"] / df["n_samples"]).iloc[-1]
    left.plot(df["n_samples"], per_draw * df["n_samples"], "-", color="0.6", linewidth=1, label="proportional")
    left.plot(df["n_samples"], df["seconds"], "o", markersize=5, color=sns.color_palette()[0], label="measured")
    left.set(yscale="log", xlabel="draws n", ylabel="seconds of an image")
    _ticks(left, df["n_samples"])
    left.legend(frameon=False, fontsize="small")
    wide = by_batch.pivot(index="batch", columns="part", values="milliseconds")[list(dict.fromkeys(by_batch["part"]))]
    base = np.zeros(len(wide))
    for part, colour, hatch in zip(wide, sns.color_palette(), ["", "//", ".."], strict=False):
        right.bar(range(len(wide)), wide[part], bottom=base, width=0.65, color=colour, hatch=hatch, label=part)
        base = base + wide[part].to_numpy()
    right.set_xticks(range(len(wide)), [str(b) for b in wide.index])
    right.set(xlabel="noisy images in a batch", ylabel="milliseconds of a draw", ylim=(0, 1.35 * base.max()))
    right.grid(axis="x", visible=False)
    right.legend(frameon=False, fontsize="small", loc="upper center", ncols=2)
    return fig


def plot_speedup(df, ax=None) -> plt.Figure:
    """Bars on a log axis: time of an image as one saving after the other is made, its factor beside it.

    df   stage, seconds, in order: the first is what all are compared with
    """
    ax = ax or plt.subplots(figsize=(5.4, 0.42 * len(df) + 0.9), layout="constrained")[1]
    bars = ax.barh(df["stage"], df["seconds"], color=sns.color_palette()[1], height=0.6)
    factors = df["seconds"].shift() / df["seconds"]
    labels = [f"{s:.3g} s" + (f"  ({f:.2g} times faster)" if f == f else "") for s, f in zip(df["seconds"], factors,
                                                                                             strict=True)]
    ax.bar_label(bars, labels, padding=3, fontsize="small")
    ax.set(xscale="log", xlabel="seconds of an image, log scale",
           xlim=(0.5 * df["seconds"].min(), 4 * df["seconds"].max()))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    return ax.figure


def plot_frontier(df, k, ax=None) -> plt.Figure:
    """What overlap a number of seconds buys, a line per condition, each point labelled with its draws.

    df   n_samples, seconds of an image, measure, mean, low, high
    """
    ax = ax or plt.subplots(figsize=(4.8, 3.3), layout="constrained")[1]
    _lines(ax, df, "seconds", "measure")
    for n, part in df.groupby("n_samples"):
        ax.annotate(f"n = {n}", (part["seconds"].iloc[0], 0.03), ha="center", fontsize="small", color="0.3")
        ax.axvline(part["seconds"].iloc[0], color="0.85", linewidth=0.8, zorder=0)
    ax.set(xscale="log", xlabel="seconds of an image, log scale", ylabel=f"top-{k} overlap", ylim=(0, 1.03))
    ax.margins(x=0.12)
    _legend(ax)
    return ax.figure
