"""Training logs."""

import matplotlib.pyplot as plt


def plot_training(df, title="Training") -> plt.Figure:
    """Every column of a training log against the step, one small panel each, the last value written at its point."""
    columns = [column for column in df if column != "step"]
    fig, axes = plt.subplots(1, len(columns), figsize=(2.6 * len(columns), 2.2), squeeze=False, layout="constrained")
    for ax, column in zip(axes.flat, columns, strict=True):
        ax.plot(df["step"], df[column], marker=".")
        ax.annotate(f"{df[column].iloc[-1]:.3g}", (df["step"].iloc[-1], df[column].iloc[-1]),
                    xytext=(-2, 4), textcoords="offset points", ha="right")
        ax.set(xlabel="optimiser step", title=column)
    fig.suptitle(title)
    return fig
