"""Figures of notebook 03, how diffusion removes noise."""

import matplotlib.pyplot as plt

from fvit.report.style import COLOURS, label_ends, lines, ticks_at


def plot_psnr(df):
    """Above: PSNR against the noise width, before and after one call, and the gain. Below: what more calls change.

    df   image, sigma, mean, low, high, minus: "" for the PSNR, "one shot" for its difference to that of one call
    """
    fig, (above, below) = plt.subplots(2, 1, figsize=(4.3, 5.0), sharex=True, layout="constrained")
    looks = {"noisy": {"color": "0.45", "linestyle": ":"}, "one shot": {"color": COLOURS["denoise_only"]}}
    whole = df[df["minus"] == ""]
    label_ends(above, lines(above, whole, "image", "sigma", look=lambda image: looks.get(image, {})))
    for sigma, at in whole.pivot(index="sigma", columns="image", values="mean").iterrows():
        above.annotate("", (sigma, at["one shot"]), (sigma, at["noisy"]), arrowprops={
            "arrowstyle": "->", "color": COLOURS["denoise_only"], "shrinkA": 5, "shrinkB": 7})
        above.annotate(f"{at['one shot'] - at['noisy']:+.1f}", (sigma, (at["one shot"] + at["noisy"]) / 2), (-4, 0),
                       textcoords="offset points", ha="right", va="center", fontsize="small")
    below.axhline(0, color=COLOURS["denoise_only"], linewidth=1.4)
    below.annotate("one shot", (0.02, 0), xycoords=below.get_yaxis_transform(), xytext=(0, 3),
                   textcoords="offset points", fontsize="small", color=COLOURS["denoise_only"])
    ends = lines(below, df[df["minus"] != ""], "image", "sigma", colours=["0.25", "#5e3c99"], markers="s^",
                 dashes=["--", "-"], shift=lambda x, place: x * 1.05 ** (2 * place))
    label_ends(below, ends)
    above.set(xscale="log", xlim=(df["sigma"].min() / 1.5, df["sigma"].max() * 1.25), ylabel="PSNR to clean image (dB)")
    below.set(xlabel="noise std sigma, [0, 1] units", ylabel="PSNR minus one shot's (dB)")
    ticks_at(below, df["sigma"], ".2g")
    return fig
