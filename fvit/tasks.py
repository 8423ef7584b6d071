"""Work for `blocks.run_blocks` that goes to another process or machine as names: networks are loaded where it runs."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from fvit import estimates
from fvit.experiments import Bench
from fvit.profiles import Profile
from fvit.setting import SCENES, Setting


@dataclass(frozen=True)
class Task:
    """Rows of images start ... stop - 1 by `task(start, stop)`.

    rows    function of fvit, (bench, images, **what) -> DataFrame, such as `experiments.attack_rows`
    what    its arguments; JSON values
    sizes   a profile: sigma, draws, k, attack steps and draws, batch, precision
    on      the ViT, denoiser and images, and the device: by name

    Raises what the loaders raise, when it first needs them.
    """

    rows: Callable
    what: dict
    sizes: Profile
    seed: int = 0
    on: Setting = SCENES

    def __call__(self, start: int, stop: int) -> pd.DataFrame:
        return self.rows(self.bench, self.on.images(stop - start, start), **self.what)

    @property
    def bench(self) -> Bench:
        """The networks at these sizes."""
        names = "sigma n_samples k attack_steps attack_draws eval_batch precision".split()
        return Bench(*self.on.networks, **{name: getattr(self.sizes, name) for name in names}, seed=self.seed)

    @property
    def settings(self) -> dict:
        """All that the rows depend on besides code, for `blocks.run_blocks`."""
        return {"rows": f"{self.rows.__module__}.{self.rows.__qualname__}", "what": self.what, **self.on.names,
                "bench": self.bench.settings}

    @property
    def code(self) -> list[str]:
        """The modules of fvit that compute the rows, for `blocks.run_blocks`."""
        return ["tasks", *([self.rows.__module__.removeprefix("fvit.")] if self.rows.__module__[:5] == "fvit." else [])]

    def report(self, todo: list[tuple[int, int]]) -> str:
        """What the blocks `todo` load, call and take, for `fvit run --dry-run`."""
        return (f"  loads: {', '.join(f'{name} {arguments}' for name, arguments in self.on.names.items())}; "
                f"on {self.on.place}\n" + estimates.report(self.bench, self.rows, self.what, todo))
