"""Notebooks copied out of the installed package, with what runs and tests them there."""

from pathlib import Path

from fvit.base import paths
from fvit.base.files import SUMS, changed, write_summed

MAKEFILE = """\
# Written by `fvit notebooks`: the two commands of a clone. Without make: `fvit run all`, and the line of `test`.
PYTHON ?= python
JOBS ?= 2
FVIT_THREADS ?= $(if $(filter 1,$(JOBS)),2,1)
export FVIT_THREADS
export HF_HUB_OFFLINE ?= 1

.PHONY: figures test
figures:  ## run every notebook at laptop size; fvit-out/ is written and compared with what came with fvit
\t$(PYTHON) -m fvit run all --jobs $(JOBS)

test:  ## every notebook against its stored outputs
\t@$(PYTHON) -c 'import nbval' || { echo 'make test needs nbval: $(PYTHON) -m pip install nbval'; exit 1; }
\t$(PYTHON) -m pytest --nbval --nbval-current-env --nbval-cell-timeout 900 \\
\t  --nbval-sanitize-with nbval_sanitize.cfg -p no:cacheprovider -q *.ipynb solutions/*.ipynb
"""


def copy_notebooks(folder: Path | str) -> Path:
    """Copy notebooks, their words and solutions to `folder`, with a Makefile and the settings of their tests.

    A copy of an earlier version is brought up to date; what was changed since it was made is never overwritten.
    Raises FileExistsError naming the changed files, before anything is written; FileNotFoundError if fvit has no
    notebooks.
    """
    folder, home = Path(folder).expanduser().absolute(), paths.ROOT / "notebooks"
    found = [home / "README.md", *(path for pattern in ("*.ipynb", "words/*.toml", "solutions/*.ipynb")
                                   for path in home.glob(pattern))]
    files = {path.relative_to(home).as_posix(): path.read_bytes() for path in found if path.is_file()}
    if not files:
        raise FileNotFoundError(f"no notebooks in {home}; they come with fvit, so install it again")
    for name in ("conftest.py", "tests/nbval_sanitize.cfg"):
        files[Path(name).name] = (paths.ROOT / name).read_bytes()
    files["Makefile"] = MAKEFILE.encode()
    sums = folder / SUMS
    listed = {line[66:] for line in sums.read_text(encoding="utf-8").splitlines()} if sums.is_file() else set()
    if sums.is_file() and not listed & set(files):
        raise FileExistsError(f"{sums} is of other files and would be overwritten; name another folder")
    yours = {Path(name).relative_to(folder).as_posix() for name in changed(folder) if Path(name).is_file()}
    yours |= {name for name in set(files) - listed if (folder / name).exists()}
    if yours := sorted(name for name in yours & set(files) if (folder / name).read_bytes() != files[name]):
        raise FileExistsError(f"{folder} has files of yours that would be overwritten: {', '.join(yours)}; move them, "
                              "or name another folder")
    write_summed(folder, files)
    return folder
