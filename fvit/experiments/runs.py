"""The rows of an experiment over many images: computed in blocks, and those that figures show."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from fvit.base.paths import results_dir
from fvit.data.images import Images
from fvit.experiments.bench import OTHER
from fvit.experiments.blocks import run_blocks
from fvit.models.weight_files import network_digest
from fvit.records import defence_names, sources
from fvit.records.profiles import PROFILES, Profile
from fvit.records.rows import conform, save_rows
from fvit.records.words import made_on_itself


@dataclass(frozen=True)
class Run:
    """Rows of an experiment, to be computed: `run(start, stop)` are those of some images; see `Experiment.run`."""

    on: object  # the Experiment, of setting.py, which imports this file
    name: str
    compute: Callable
    what: dict
    block: int
    n_adaptive: int = 0

    def __call__(self, start: int, stop: int) -> pd.DataFrame:
        cut = min(max(self.n_adaptive or stop, start), stop)
        rows = [self.compute(self.on.bench, self.on.images(end - begin, begin), **what)
                for begin, end, what in ((start, cut, self.what), (cut, stop, self.without_adaptive)) if end > begin]
        return pd.concat(rows, ignore_index=True)

    @property
    def without_adaptive(self) -> dict:
        """`what` without attacks made through defences."""
        attacks = [[aim, on] for aim, on in self.what.get("attacks", ()) if on == "vit" or on.startswith(OTHER)]
        return self.what | ({"attacks": attacks} if "attacks" in self.what else {})

    @property
    def device(self) -> str:
        return self.on.device

    @property
    def settings(self) -> dict:
        """All that the rows depend on besides code; a reader's own defences are named by what is in their files."""
        what = dict(self.what)
        if own := [name for name in what.get("defences", ()) if ":" in name]:
            what["defences"] = [defence_names.code(name) for name in what["defences"]]
            what["files"] = [defence_names.digest(name) for name in own]
        if others := [made_on for _, made_on in what.get("attacks", ()) if made_on.startswith(OTHER)]:
            what["others"] = [network_digest(self.on.bench.on_vit(made_on).vit) for made_on in others]
        if self.n_adaptive:
            what["n_adaptive"] = self.n_adaptive
        return {"rows": f"{self.compute.__module__}.{self.compute.__qualname__}", "what": what, **self.on.names,
                "bench": self.on.bench.settings, "inputs": self.on.inputs(what.get("defences", ()))}

    def rows(self) -> pd.DataFrame:
        """Compute what is not there yet (`blocks.run_blocks`), write results/<profile>/NAME.parquet, return all."""
        return self._rows

    @functools.cached_property
    def _rows(self) -> pd.DataFrame:
        sizes = self.on.sizes
        found = run_blocks(self, sizes.n_images, self.block, name=self.name, profile=sizes.name, settings=self.settings)
        if os.environ.get("FVIT_DRY_RUN"):
            print(f"  loads: {sources.said(self.on.names)}; on {self.on.place}")
        else:
            found = conform(found, run_id=self.on.run_id(self.name, set(found["defence"])))
            save_rows(found, results_dir(sizes.name) / f"{self.name}.parquet")
        return found

    def shown(self, own: bool = False, of: tuple[str, ...] = ()) -> "Shown":
        """The rows that figures show: at `laptop` those of `study` that come with the repository, if they are of the
        images and models that ship now; else, or where `own` is asked for, our own.

        of   tables of another notebook that hold these rows, and more. They are shown in the place of this one; at the
             other profiles too, where they are on record of these images and networks at the sizes of the profile
        """
        on, small = self.on, self.on.sizes.name == "laptop"
        rows, why = (None, "") if own or not (small or of) else on.on_record(of or (self.name,))
        if why:
            print(f"{self.name}: {why}; shown are those of this run")
        if rows is not None:
            sizes, images = PROFILES["study"] if small else on.sizes, on.images(rows.image_id.nunique())
        else:
            rows, sizes, images = self.rows(), on.sizes, on.images()
        n_at = rows.groupby("eps").image_id.nunique()
        fewer = [f"{n} of them at {255 * eps:.0f}/255" for eps, n in n_at.items() if n < n_at.max()]
        adaptive = rows[made_on_itself(rows) & (rows.defence != "none")].image_id.nunique()
        if 0 < adaptive < n_at.max():
            fewer.append(f"{adaptive} of them under attacks made through a defence")
        counted, which = f"{n_at.max()}" + (f" ({', '.join(fewer)})" if fewer else ""), f"{sizes.name} rows"
        said = (f"{which}: {on.count(counted, images.groups)}, {sizes.n_samples} draws, sigma {sizes.sigma}; "
                f"{sizes.attack}")
        photograph = dict(zip(images.ids, images.groups, strict=True))
        return Shown(rows, sizes, images, photograph, counted, which, said, on.clusters(images.groups))


@dataclass(frozen=True)
class Shown:
    """The rows that figures show, and what captions say of them."""

    rows: pd.DataFrame
    sizes: Profile  # of the run that made them
    images: Images
    photograph: dict[str, str]  # image id -> its photograph, or other group
    counted: str  # how many images, and under which attacks fewer: "96 (64 of them at 2/255)"
    which: str  # "study rows"
    said: str  # "study rows: 96 test scenes on 5 photographs, 16 draws, sigma 0.25; PGD linf, ..."
    resampled: str  # "clustered by photograph"
