"""Work for `blocks.run_blocks` that goes to another process or machine as names: networks are loaded where it runs."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd
import torch

from fvit import estimates
from fvit.denoiser import load_denoiser
from fvit.experiments import Bench
from fvit.profiles import Profile
from fvit.sources import load_images
from fvit.vit import load_vit


@dataclass(frozen=True)
class Task:
    """Rows of images start ... stop - 1 by `task(start, stop)`.

    rows             function of fvit, (bench, images, **what) -> DataFrame, such as `experiments.attack_rows`
    what             its arguments; JSON values
    sizes            a profile: sigma, draws, k, attack steps and draws, batch, precision
    vit, den, data   arguments of load_vit, load_denoiser and load_images: a dict, or the source alone
    device           "cpu", "cuda", or "auto": whichever there is where the task runs

    Raises what the loaders raise, when it first needs them.
    """

    rows: Callable
    what: dict
    sizes: Profile
    seed: int = 0
    vit: str | dict = "scenes"
    den: str | dict = "scenes"
    data: str | dict = "scenes"
    device: str = "cpu"

    def __call__(self, start: int, stop: int) -> pd.DataFrame:
        images = load_images(**_arguments(self.data), n=stop - start, start=start)
        return self.rows(self.bench, replace(images, x=images.x.to(self._device)), **self.what)

    @property
    def bench(self) -> Bench:
        """The networks at these sizes; tasks of one process share networks of one source."""
        vit, den = (_load(load, json.dumps(_arguments(source)), self._device)
                    for load, source in ((load_vit, self.vit), (load_denoiser, self.den)))
        names = "sigma n_samples k attack_steps attack_draws eval_batch precision".split()
        return Bench(vit, den, **{name: getattr(self.sizes, name) for name in names}, seed=self.seed)

    @property
    def settings(self) -> dict:
        """All that the rows depend on besides code, for `blocks.run_blocks`."""
        return {"rows": f"{self.rows.__module__}.{self.rows.__qualname__}", "what": self.what, **self.sources,
                "bench": self.bench.settings}

    @property
    def sources(self) -> dict:
        return {name: _arguments(getattr(self, name)) for name in ("vit", "den", "data")}

    @property
    def code(self) -> list[str]:
        """The modules of fvit that compute the rows, for `blocks.run_blocks`."""
        return ["tasks", *([self.rows.__module__.removeprefix("fvit.")] if self.rows.__module__[:5] == "fvit." else [])]

    def report(self, todo: list[tuple[int, int]]) -> str:
        """What the blocks `todo` load, call and take, for `fvit run --dry-run`."""
        return (f"  loads: {', '.join(f'{name} {arguments}' for name, arguments in self.sources.items())}; "
                f"on {self._device}\n" + estimates.report(self.bench, self.rows, self.what, todo))

    @property
    def _device(self) -> str:
        return ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device


def _arguments(source: str | dict) -> dict:
    return source if isinstance(source, dict) else {"source": source}


@functools.cache
def _load(load: Callable, arguments: str, device: str) -> torch.nn.Module:
    return load(**json.loads(arguments)).to(device)
