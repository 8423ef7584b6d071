"""One experiment: a ViT, a denoiser and images, at the sizes of a run; its rows, and those that are shown."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pandas as pd
import torch

from fvit.base import devices
from fvit.base.checks import check_count, check_seed
from fvit.base.paths import ROOT, output_root, results_dir
from fvit.data.images import Images
from fvit.experiments import inputs
from fvit.experiments.bench import Bench
from fvit.experiments.controls import no_information_rows
from fvit.experiments.runs import Run
from fvit.models.denoiser import compiled
from fvit.records import defence_names, parameters, profiles, provenance, sources
from fvit.records.profiles import PROFILES, Profile
from fvit.records.rows import load_rows, save_rows
from fvit.smoothing import DDS

GRIDS = (256, 196)  # tokens that the k of a profile is meant for: of the scenes' ViT, and of ViT-B/16 at 224 pixels


def experiment(notebook: str, profile: str = "laptop", vit="", den="", data="", *, seed: int = 0,
               published: str = "imagenet", **sizes) -> "Experiment":
    """What a notebook works on; its sizes become the current profile, under which claims and figures are filed.

    vit, den, data, published   as of `sources.chosen`: "" is the profile's own; published="scenes" stays with them at
                                `paper`. On a GPU if there is one, but for the scenes, which are of the CPU
    sizes                       as of `fvit.profile`; 0 takes the profile's value, and for k, where the ViT has another
                                grid than GRIDS, a tenth of its tokens; "" for precision is "float32" on mps

    Raises ValueError or FileNotFoundError for a source that is not there, or not for this profile (`sources.chosen`).
    """
    parameters.check_given()
    names = sources.chosen(profile, vit, den, data, published)
    sources.check(names)
    device = "auto" if profile == "natural" or (profile == "paper" and published != "scenes") else "cpu"
    if device == "auto" and devices.best() == "mps":
        sizes["precision"] = sizes.get("precision") or "float32"
    on = Experiment(names, profiles.profile(profile, notebook=notebook, **sizes), check_seed(seed), device)
    if sizes.get("k") or names["vit"]["source"] == "scenes" or (tokens := math.prod(on.networks[0].grid)) in GRIDS:
        return on
    return replace(on, sizes=profiles.profile(profile, notebook=notebook, **sizes | {"k": max(1, round(tokens / 10))}))


@dataclass(frozen=True)
class Experiment:
    """A ViT, a denoiser and images by name, and the sizes and seed of a run; each process loads what it needs, once."""

    names: dict[str, dict]  # as of `sources.chosen`
    sizes: Profile
    seed: int = 0
    device: str = "cpu"  # or "cuda", "mps", or "auto": the best there is where the networks are loaded

    @property
    def place(self) -> str:
        return devices.best() if self.device == "auto" else self.device

    @property
    def networks(self) -> tuple[torch.nn.Module, torch.nn.Module]:
        """(vit, den)."""
        return inputs.networks(self.names, self.place)

    @property
    def bench(self) -> Bench:
        """Views and attacks, bare and behind DDS."""
        names = [field.name for field in fields(Bench) if hasattr(self.sizes, field.name)]
        return Bench(*self.networks, **{name: getattr(self.sizes, name) for name in names}, seed=self.seed)

    def dds(self, seed: int | None = None, **changes) -> DDS:
        """DDS at these sizes; `changes` are arguments of `DDS`, such as n_samples=4, or den=None for noise only."""
        return self.bench.smoother(seed, **changes)

    def compiled(self):
        """The denoiser as torch.compile makes it, or None; as of `models.denoiser.compiled`."""
        return compiled(self.networks[1])

    def defences(self, *names: str) -> dict[str, str]:
        """{what rows call it: name} of defences, each once; errors as of `defence_names.check`."""
        return {defence_names.code(name): name for name in defence_names.check(names)}

    def images(self, n: int | None = None, start: int = 0, **changes) -> Images:
        """Images number start ... start + n - 1 (default n_images), on the device; `changes` such as split="val"."""
        return inputs.images(self.names, self.place, self.sizes.n_images if n is None else n, start, **changes)

    def validation(self, n: int | None = None) -> Images:
        """Images on which choices are made: validation scenes; of a data set on disk those that `data` names."""
        return self.images(n, split="val") if self.is_scenes else self.images(n)

    def unseen(self, n: int, after: int | None = None) -> Images:
        """Training scenes; or the next images of a data set after the first `after` (default n_images), n of them,
        fewer where it ends. Where none is left they are the evaluated ones, and a line says so."""
        if self.is_scenes:
            return self.images(n, split="train")
        there, after = self.n_there(), self.sizes.n_images if after is None else after
        if after >= there:
            print(f"all {there} images are evaluated: a constant map is the mean over {min(n, there)} of them, and so "
                  "knows a little of each; a smaller n_images leaves others for it")
            return self.images(min(n, there))
        return self.images(min(n, there - after), start=after)

    def n_there(self) -> int:
        """Number of images of a data set on disk, from its index."""
        from fvit.data.streams import open_source  # late: only data sets on disk need it

        data = self.names["data"]
        named = ("source", "split", "root", "objects", "masks", "void")
        return len(open_source(**{name: data.get(name) for name in named}).ids)

    @property
    def is_scenes(self) -> bool:
        return self.names["data"]["source"] == "scenes"

    @property
    def folders(self) -> list[str]:
        """Where rows of these images may be, as of `on_record.find_rows`; those of the scenes in several."""
        return [name for name in reversed(PROFILES) if name != "natural"] if self.is_scenes else [self.sizes.name]

    @property
    def has_masks(self) -> bool:
        return self.is_scenes or self.images(min(8, self.n_there())).mask is not None  # of eight, one can be read

    @property
    def unit(self) -> str:
        return "scenes" if self.is_scenes else "images"

    @property
    def dataset(self) -> str:
        """Name of the data set, as rows and captions have it."""
        return Path(self.names["data"]["source"]).expanduser().resolve().name

    def kind(self, split: str = "test") -> str:
        """The images in words: "test scenes", or "images of imagenet"."""
        return f"{split} scenes" if self.is_scenes else f"images of {self.dataset}"

    def count(self, n, groups, split: str = "test") -> str:
        """How many they are, in words: "16 test scenes on 5 photographs", or "16 images of imagenet"."""
        return f"{n} {self.kind(split)}" + f" on {len(set(groups))} photographs" * self.is_scenes

    def clusters(self, groups) -> str:
        """What intervals resample, in words, from the group of each image."""
        if self.is_scenes:
            return "clustered by photograph"
        return "over images" if len(set(groups)) == len(list(groups)) else "clustered by group of images"

    def no_information(self, methods, images: Images | None = None, k: int = 0) -> pd.DataFrame:
        """Rows of `no_information_rows` of the bare ViT and a column photograph, of 32 scenes at least."""
        images = images or self.images(max(self.sizes.n_images, 32) if self.is_scenes else None)
        rows = no_information_rows(replace(self.bench, k=k or self.bench.k), images, methods)
        return rows.assign(photograph=rows["image_id"].map(dict(zip(images.ids, images.groups, strict=True))))

    def run(self, name: str, compute: Callable, block: int = 0, n_images: int = 0, n_adaptive: int = 0,
            **what) -> Run:
        """The rows of `compute(bench, images, **what)` over all images, in blocks; nothing is computed yet.

        name        of the table, such as "09_scores"
        block       images in a block; 0: 4 at `natural`, where one takes minutes, and 16 elsewhere
        n_images    other than that of the sizes
        n_adaptive  images, the first ones, that meet those of the `attacks` made through defences; 0: all
        compute     a function that other processes can import, as `attack_rows.attack_rows`; `what` are JSON values
        """
        on = replace(self, sizes=replace(self.sizes, n_images=n_images)) if n_images else self
        if check_count(n_adaptive, "n_adaptive", least=0) and "attacks" not in what:
            raise ValueError(f"n_adaptive={n_adaptive} for {name}, which takes no `attacks`; leave it out")
        return Run(on, name, compute, what, block or (4 if self.sizes.name == "natural" else 16), int(n_adaptive))

    def on_record(self, names) -> tuple[pd.DataFrame | None, str]:
        """(rows, "") of tables that an earlier run left, all of them, at this profile, or for `laptop` the repository's
        of `study`; (None, "") where they are not there, and (None, why not) where they are of something else."""
        small = self.sizes.name == "laptop"
        folder, roots = "study" if small else self.sizes.name, [ROOT] if small else dict.fromkeys([output_root(), ROOT])
        for results in (root / "results" / folder for root in roots):
            paths = [results / f"{name}.parquet" for name in names]
            if all(path.exists() for path in paths):
                tables, runs = [load_rows(path) for path in paths], provenance.runs_in(results)
                why = next(filter(None, (self._not_these(rows, folder, runs) for rows in tables)), "")
                return (None, why) if why else (pd.concat(tables, ignore_index=True), "")
        return None, ""

    def _not_these(self, rows, folder, runs) -> str:
        """Why rows on record cannot stand for those of this run: for `laptop` as of `provenance.outdated`."""
        if self.sizes.name == "laptop":
            return provenance.outdated(rows, folder, runs)
        free = {name: getattr(self.sizes, name) for name in ("notebook", "n_images", "k")}
        if replace(PROFILES[folder], **free) != self.sizes or self.seed:
            return f"{folder} rows on record are of the sizes of the profile and of seed 0"
        made_of = {run and run.get("inputs") for run in provenance.runs_of(rows, runs)}
        return "" if made_of == {self.inputs(set(rows["defence"]))} else f"{folder} rows are of other models"

    def log(self, name: str, rounds: int) -> str:
        """The `run_id` of rows of times taken now, noted in results/<profile>/runs.csv; as of `provenance.log_run`."""
        return provenance.log_run(results_dir(self.sizes.name) / "runs.csv", name, rounds)

    def save(self, name: str, rows: pd.DataFrame, **given) -> None:
        """Write rows that a notebook made itself to results/<profile>/NAME.parquet; a column "photograph" is left out.

        given   as of `rows.conform`, which also gets the data set, the model, sigma, draws and k of these sizes
        """
        own = {"profile": self.sizes.name, "dataset": self.dataset, "model": self.networks[0].name,
               "run_id": given.get("run_id") or self.run_id(name)}
        own |= {name: getattr(self.sizes, name) for name in ("sigma", "n_samples", "k")}
        rows = rows.drop(columns="photograph", errors="ignore")
        save_rows(rows, results_dir(self.sizes.name) / f"{name}.parquet", **own | given)

    def run_id(self, name: str, defences=()) -> str:
        """Of the run that makes a table, noted in runs.csv; "" at laptop, where a second run is to change no byte."""
        if self.sizes.name == "laptop":
            return ""
        return provenance.log_run(results_dir(self.sizes.name) / "runs.csv", name, inputs=self.inputs(defences))

    def inputs(self, defences=()) -> str:
        """`provenance.inputs_digest` of these images and networks, and of those that defences have of their own."""
        plain = {what: set(said) <= {"source", "root"} for what, said in self.names.items()}
        named = {what: said["source"] if plain[what] else repr(said) for what, said in self.names.items()}
        data = self.dataset if plain["data"] else named["data"]  # other arguments make another: a random ViT, a split
        return provenance.inputs_digest(data, named["vit"], named["den"], defences)
