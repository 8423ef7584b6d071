"""What a wheel holds besides code and weights: notebooks, figures and results, in a folder named repository."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
TRAVEL = ["notebooks/*.ipynb", "notebooks/README.md", "notebooks/words/*.toml", "notebooks/solutions/*.ipynb",
          "figures/MANIFEST.csv", "figures/*/F*.csv", "figures/*/F*.json", "figures/*/F*.png", "results/*/*.parquet",
          "results/*/*.csv", "conftest.py", "tests/nbval_sanitize.cfg"]  # what runs and tests notebooks without a clone


class WithRepository(build_py):
    def _files(self) -> dict[str, str]:
        files = {path.relative_to(ROOT).as_posix() for pattern in TRAVEL for path in ROOT.glob(pattern)}
        return {str(Path(self.build_lib, "fvit", "repository", name)): name for name in sorted(files)}

    def run(self):
        super().run()
        for target, source in self._files().items() if not self.editable_mode else ():
            self.mkpath(str(Path(target).parent))
            self.copy_file(str(ROOT / source), target, preserve_mode=False)

    def get_source_files(self):  # of an sdist
        return [*super().get_source_files(), *self._files().values()]

    def get_outputs(self, include_bytecode=True):
        return [*super().get_outputs(include_bytecode), *({} if self.editable_mode else self._files())]


setup(cmdclass={"build_py": WithRepository})
