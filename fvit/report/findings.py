"""What was found, in sentences and tables made from verdicts: each reads as its outcome asks."""

import numpy as np

from fvit.records.claims import ATTACKS, LEAST_UNITS, NOT_TESTED, OUTCOMES, ROWS
from fvit.records.words import said as defence_said
from fvit.report.on_record import most_draws
from fvit.theory.divergences import tokens_to_break

HOLDS, FAILS, OPEN = OUTCOMES
DATA = {"scenes": "scenes", "cifar10": "CIFAR-10", "natural": "Caltech-101"}  # as columns and lines name them
ON = {"scenes": "**Scenes** (one of ten handwritten digits on a photograph, 64 x 64 pixels, a small ViT)",
      "cifar10": "**CIFAR-10** (ten classes, 32 x 32 pixels, a small ViT)",
      "natural": "**Caltech-101** (natural photographs of 101 classes, 224 x 224 pixels, a ViT-S/14)"}
SAID = {  # check -> what is said of it where it holds, where it does not, and where that is open
    "P1.2": ("an explanation attack at 8/255 that tries to hold the class leaves bare attention {n} of its top-k",) * 3,
    "P5.1": ("under a free explanation attack at 8/255 DDS keeps more of the top-k than bare attention, by {n}, if the "
             "attack was made on the bare ViT",
             "under a free explanation attack at 8/255 DDS keeps no more of the top-k than bare attention ({n}), even "
             "if the attack was made on the bare ViT",
             "that DDS keeps more of the top-k than bare attention under a free explanation attack at 8/255 is not "
             "shown ({n}), even if it was made on the bare ViT"),
    "P5.2": ("and by {n} if each meets the attack made through itself",
             "and no more ({n}) if each meets the attack made through itself",
             "and that is not shown ({n}) if each meets the attack made through itself"),
    "P5.21": ("DDS then keeps {n} of it",) * 3,
    "P4.1": ("more predictions are right before and after a prediction attack, by {n} if it was made on the bare ViT",
             "no more predictions are right before and after a prediction attack made on the bare ViT ({n})",
             "that more predictions survive a prediction attack made on the bare ViT is not shown ({n})"),
    "P4.2": ("and by {n} under their own", "and no more under their own ({n})", "which is open under their own ({n})"),
    "P4.8": ("DDS is then right before and after on {n}",) * 3,
    "P6.1": ("clean maps stay as good (IoU {n})", "clean maps get worse (IoU {n})",
             "whether clean maps stay as good is open (IoU {n})"),
    "P6.13": ("clean maps rank pixels as well (area {n})", "clean maps rank pixels worse (area {n})",
              "whether clean maps rank pixels as well is open (area {n})"),
    "P6.14": ("they share {n} of the top-k with the bare ones",) * 3,
    "P6.15": ("clean accuracy changes by {n}",) * 3,
    "P7.7": ("under attacks made through each, DDS beats both its halves, the better one by {n}",
             "under attacks made through each, DDS does not beat its better half ({n})",
             "that DDS beats its better half under attacks made through each is not shown ({n})"),
    "R1.6": ("of all methods the one that gains least (class held) still gains {n} of its top-k",
             "at least one method gains nothing ({n})", "that every method gains is not shown (least: {n})"),
}
FIRST = ("P1.2", "P5.1", "P5.2", "P5.21", "P4.1", "P4.2", "P4.8", "P6.15")  # of these, what the README opens with
LEVELS = ("P5.21", "P6.14")  # shares, without a sign though others of their claim have one
SIGNED = ("P4.1", "P4.2", "P5", "P6.1", "P7", "R1", "O4", "O5", "O6", "O7", "O8")  # differences, which have a sign
BUYS = {HOLDS: "buys {n}", FAILS: "buys nothing ({n})", OPEN: "is not shown to buy any ({n})"}
PARTS = {"O4": "noise before the denoiser", "O5": "the denoiser behind the noise", "O6": "the diffusion prior, over a "
         "blur behind the same noise,", "O7": "over a plain CNN behind the same noise it",
         "O8": "and all of DDS, over a blur alone,"}
OF = {"map": "of the top-k", "prediction": "of the predictions"}


CERTIFICATES = {"votes": "share of draws with the token in their top {k}", "clipped": "mean of min(attention, c)",
                "cdf": "the same, from each token's whole law", "sharp": "mean attention", "renyi": "mean attention"}


class Said(str):
    """Markdown text as the value of a cell."""

    def _repr_markdown_(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return str(self)


def number(verdict) -> str:
    """"+0.47 [0.44, 0.49]" of a difference, "0.37 [0.30, 0.44]" of a level, "0.99 (asked for > 0.9)" where nothing was
    sampled. With more than two decimals where one would be printed as the bound that it is not."""
    signed = verdict.check.startswith(SIGNED) and verdict.check not in LEVELS
    value, low, high = verdict.found
    sign, bound, places = "+" * signed, verdict.bound, 2
    while places < 5 and any(v != bound and round(v, places) == round(bound, places) for v in verdict.found):
        places += 1
    said = f"{value:{sign}.{places}f}"
    return said + (f" (asked for {verdict.relation} {bound:g})" if low != low else
                   f" [{low:.{places}f}, {high:.{places}f}]")


def few(verdict) -> str:
    """" (8 units)", if they are too few to decide anything."""
    return f" ({verdict.units} units)" * (verdict.units is not None and verdict.units < LEAST_UNITS)


def found_on(table, data: str, checks=tuple(SAID)) -> str:
    """What was found on a data set, in a sentence; what was not tested is named."""
    said, lacking = [], []
    for check, ways in ((check, SAID[check]) for check in checks):
        verdict = table.of(check, data)
        if verdict is None:
            continue
        if verdict.found is None:
            lacking.append(check.split(".")[0])
            continue
        few = f" (UNDECIDED on {verdict.units} units)" * (verdict.units is not None and verdict.status == OPEN and
                                                           verdict.units < LEAST_UNITS)
        said.append(ways[OUTCOMES.index(verdict.status)].format(n=number(verdict)) + few)
    sizes = [v for v in table if v.data == data and v.found is not None and v.found.n]
    size = f", {max(v.found.n for v in sizes)} images" if sizes else ""
    untested = f"not tested on the images and models that ship now: {', '.join(dict.fromkeys(lacking))}" * bool(lacking)
    return f"{ON.get(data, f'**{data}**')}{size}: {'; '.join([*said, *([untested] if untested else [])])}."


def opening(table) -> Said:
    """The README's first paragraph of numbers: a sentence for each data set that has enough images to decide anything,
    or for each that questions ask about, if none has."""
    asked = [verdict for verdict in table if verdict.data in ON]
    enough = [verdict for verdict in asked if verdict.found is not None and (verdict.units or 0) >= LEAST_UNITS]
    return Said("\n\n".join(found_on(table, data, FIRST) for data in dict.fromkeys(v.data for v in enough or asked)))


def what_buys(table, data: str = "scenes") -> Said:
    """What noise, denoiser and prior buy on a data set, in one sentence, under attacks made through each defence."""
    told = []
    for row, part in PARTS.items():
        both = {measure: table.of(f"{row}.{at}", data) for measure, at in (("map", 2), ("prediction", 4))}
        ways = [f"{BUYS[v.status].format(n=number(v))} {OF[measure]}" for measure, v in both.items()
                if v is not None and v.found is not None]
        if ways:
            told.append(f"{part} {' and '.join(ways)}")
    where = f"{'the ' * (data == 'scenes')}{DATA.get(data, data)}"
    if not told:
        return Said(f"What noise, denoiser and prior each buy on {where} is not tested on the images and models that "
                    "ship now.")
    return Said(f"Under attacks at 8/255 made through each defence, on {where}: {'; '.join(told)} (differences of the "
                "share kept, 95 %).")


def what_buys_table(table) -> Said:
    """The same as Markdown: a line for each part and data set, with every difference, its interval and verdict."""
    heads = [f"{measure}, {threat}" for measure in OF for threat in ATTACKS]
    lines = [f"| what DDS has | over | on | {' | '.join(heads)} |", "|" + "---|" * (len(heads) + 3)]
    for row in PARTS:
        other = ROWS[row]["pair"][1]
        for data in ROWS[row]["data"]:
            four = [table.of(f"{row}.{at}", data) for at in range(1, 5)]
            cells = [NOT_TESTED if v is None or v.found is None else f"{number(v)} {v.status}" + few(v) for v in four]
            what = ROWS[row]["text"].removeprefix("(ours) ")
            lines.append(f"| {row}: {what} | {defence_said(other)} | {DATA[data]} | {' | '.join(cells)} |")
    return Said("\n".join(lines))


def certified(rows) -> Said:
    """What `07_certificates` holds, in a sentence and a Markdown table; `rows` None: that it is not tested."""
    if rows is None:
        return Said("Not tested on the images and models that ship now.")
    at = rows[np.isclose(rows["level"], 0.8)]
    draws = most_draws(at[at["metric"] == "radius"])
    radii = at[(at["metric"] == "radius") & (at["n_samples"] == draws)].assign(value=lambda t: t["value"].clip(lower=0))
    k, n, sigma = int(at["k"].iloc[0]), radii["image_id"].nunique(), at["sigma"].iloc[0]
    lines = ["| certificate | map | median radius | scenes with a radius above 0 |", "|---|---|---|---|"]
    for name, of in CERTIFICATES.items():
        own = radii.loc[radii["certificate"] == name, "value"]
        lines.append(f"| {name} | {of.format(k=k)} | {own.median():.3f} | {(own > 0).sum()} of {n} |")
    kept = k - tokens_to_break(k, "0.8") + 1
    plugin = at[at["metric"] == "plugin_radius"].groupby("certificate")["value"].median()
    return Said(f"On {n} test scenes, sigma {sigma:g}: the l2 radius within which {kept} of the shown {k} tokens must "
                f"stay in the top {k}, wrong with probability 0.001 at most an image (notebook 07's default), from "
                f"draws that choose the set and {draws} others that bound (`study` rows):\n\n" + "\n".join(lines) +
                "\n\nc cuts off what is rarely large; sharp is the largest radius that the mean map allows, renyi what "
                "divergences prove of it. If the mean of the draws that bound were exact, which nobody knows, the "
                f"divergence radius of the paper's kind would be {plugin['renyi']:.3f}, its pooled form (by orders "
                f"above 1 alone; notebook 06, section 3) {plugin['pooled']:.3f}, and the sharp one "
                f"{plugin['sharp']:.3f} (medians).")
