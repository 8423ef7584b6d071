"""Did I reproduce it? What was made against what is committed; the committed bytes are kept where the two agree."""

import io
import json
import subprocess
import tarfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fvit.base import paths
from fvit.base.files import write_atomic
from fvit.records import agreement, ledger
from fvit.records.claims import CLAIM_COLUMNS

MANIFEST = "figures/MANIFEST.csv"
MADE = (MANIFEST, "figures/*/F*_*.*", "results/*/*.parquet", "results/*/claims.csv")  # what is compared, or follows


@dataclass(frozen=True)
class Committed:
    """What the repository says: {name: bytes} of MADE, as of its last commit."""

    files: dict[str, bytes]
    what: str  # "commit 1e2abc8"
    edited: bool = False  # code or words are not the commit's, so what is made is meant to be another


def committed() -> Committed:
    """By git where there is a clone; else from disk as they are now, so that a run must ask before it writes."""
    if (paths.ROOT / ".git").exists():
        with suppress(OSError, tarfile.TarError):
            with tarfile.open(fileobj=io.BytesIO(_git("archive", "HEAD", "figures", "results", "notebooks"))) as tar:
                files = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}
            edited = bool(_git("diff", "HEAD", "--name-only", "--", "fvit", "notebooks/words"))
            return Committed(files, f"commit {_git('rev-parse', '--short', 'HEAD').decode().strip()}",
                             edited or any(_rewritten(paths.ROOT / name, data) for name, data in files.items()))
    return Committed({name: (paths.ROOT / name).read_bytes() for name in made(paths.ROOT)}, "what came with fvit")


def is_repository(root: Path) -> bool:
    return root.resolve() == paths.ROOT.resolve()


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=paths.ROOT, capture_output=True).stdout


def _rewritten(path: Path, data: bytes) -> bool:
    """Whether the code of a committed notebook is another on disk; outputs and prose do not count."""
    def code(text):
        return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]

    with suppress(OSError, ValueError, KeyError):
        return path.suffix == ".ipynb" and code(path.read_bytes()) != code(data)
    return False


def made(root: Path) -> dict[str, tuple]:
    """Names of MADE under `root`, each with what changes when it is written anew."""
    found = {path.relative_to(root).as_posix(): path.stat() for pattern in MADE for path in root.glob(pattern)}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items()}


@dataclass
class Report:
    """How many figures, tables and claims agree with the committed ones, and what differs; prints as a table.

    names       files made under `root`
    notebooks   numbers of those that a run made them by, at `profile`: of these all must be there. None for whatever
                lies at `root`, of all profiles
    """

    committed: Committed
    root: Path
    names: set[str]
    notebooks: set[str] | None = None
    profile: str | None = None
    counts: dict[str, list[int]] = field(default_factory=dict)  # of "figures", ...: identical, within, different
    wrong: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # what was made and is not committed

    @property
    def keeps(self) -> bool:
        """Whether committed bytes take the place of what agrees with them."""
        return is_repository(self.root) and self.committed.what.startswith("commit") and not self.committed.edited

    def __str__(self) -> str:
        if not self.counts:
            return f"nothing is committed of what was made in {self.root}, so nothing is compared"
        lines = [f"{'against ' + self.committed.what:<24}{'identical':>11}{'within tolerance':>18}{'different':>11}"]
        lines += [f"{kind:<24}{same:>11}{near:>18}{far:>11}" for kind, (same, near, far) in self.counts.items()]
        lines += [f"different: {line}" for line in self.wrong]
        if self.others:
            lines.append(f"not committed, so not compared: {', '.join(self.others)}")
        kept = "the committed files are kept" if self.keeps else f"{self.root} is left as it was made"
        return "\n".join([*lines, f"Not reproduced; what differs is left in {self.root}" if self.wrong else
                          f"Reproduced; {kept}"])

    def _add(self, kind: str, same: bool, wrong: agreement.Wrong) -> None:
        self.counts.setdefault(kind, [0, 0, 0])[2 if wrong else 0 if same else 1] += 1
        self.wrong += wrong

    def _asked(self, notebook: str, profile: str) -> bool:
        return self.profile in (None, profile) and (self.notebooks is None or notebook in self.notebooks)

    def look(self) -> "Report":
        """Compare, and keep what agrees; ValueError naming a ledger that is damaged."""
        files = self.committed.files
        manifest = _table(files.get(MANIFEST, b""), "figure")
        for (figure, profile), row in manifest.items():
            stem = f"figures/{profile}/{figure}_"
            self._figure(sorted(name for name in files if name.startswith(stem)), row)
        for name in sorted(name for name in files if name.endswith(".parquet")):
            _, profile, table = name.split("/")
            if self._asked(table[:2], profile):
                self._files("tables", {name: agreement.rows})
        wanted = self.names if self.notebooks is None else self.names | set(files)
        for name in sorted(name for name in wanted if name.endswith("claims.csv")):
            self._claims(self.root / name, _table(files.get(name, b""), "claim", name))
        new = self.names - set(files)
        self.others += sorted(Path(name).stem for name in new if name.endswith((".parquet", ".json")))
        return self

    def _figure(self, files: list[str], row: dict) -> None:
        how = {".csv": agreement.drawn_at_laptop if row["profile"] == "laptop" else agreement.drawn,
               ".json": agreement.words}
        ways = {name: how[suffix] for name in files if (suffix := Path(name).suffix) in how}
        if not ways or not self._asked(row["notebook"], row["profile"]):
            return  # a row without files is of a figure that is no more
        mine = _table(_bytes(self.root / MANIFEST), "figure").get((row["figure"], row["profile"]))
        if mine and mine.get("seed") != row.get("seed"):
            said = f"figure {row['figure']}: seed {mine['seed']}, committed {row['seed']}"
            return self._add("figures", False, [said])
        if self._files("figures", ways) and self.keeps:
            for name in files:
                self._keep(name)
            if mine != row:
                ledger.upsert(self.root / MANIFEST, row, key=("figure", "profile"), columns=list(row))

    def _files(self, kind: str, ways: dict) -> bool:
        """Compare the files of one figure or table by {name: way}; whether they were made and agree."""
        if not self.names & set(ways) and self.notebooks is None and not is_repository(self.root):
            return False  # an output folder has what was made, and need not have all
        found, same = [], True
        for name, way in ways.items():
            if name not in self.names:
                found.append(f"{name}: not made")
            elif (data := (self.root / name).read_bytes()) != (wanted := self.committed.files[name]):
                try:
                    lines = way(data, wanted)
                except (ValueError, KeyError, TypeError) as error:
                    lines = [f"damaged ({type(error).__name__}: {str(error).partition(chr(10))[0]:.100})"]
                found += [f"{name}: {line}" for line in lines]
                same = same and agreement.same_words(data, wanted)
        self._add(kind, same, found)
        if self.keeps and not found:
            for name in ways:
                self._keep(name)
        return not found

    def _keep(self, name: str) -> None:
        path, data = self.root / name, self.committed.files[name]
        if not path.is_file() or path.read_bytes() != data:
            write_atomic(path, data)

    def _claims(self, path: Path, wanted: dict) -> None:
        mine = _table(_bytes(path), "claim", path)
        for key, row in wanted.items() if self.notebooks is not None else ():
            if key not in mine and self._asked(row["notebook"], row["profile"]):
                self._add("claims", False, [f"claim {row['claim']}: not made"])
        for key, row in mine.items():
            if not self._asked(row["notebook"], row["profile"]):
                continue
            if key not in wanted:
                self.others.append(f"claim {row['claim']}")
                continue
            found = agreement.claims(row, wanted[key])
            self._add("claims", row == wanted[key], found)
            if self.keeps and not found and row != wanted[key]:
                ledger.upsert(path, wanted[key], key=("claim", "profile"), columns=CLAIM_COLUMNS)


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _table(data: bytes, first: str, name: Path | str = MANIFEST) -> dict[tuple, dict]:
    return {(row[first], row["profile"]): row for row in ledger.rows_of(data.decode(errors="replace"), name)}


def after_run(before: dict, known: Committed, notebooks: Iterable[str], profile: str) -> Report:
    """Report of a run, from `made` and `committed` as they were before it."""
    root = paths.output_root()
    names = {name for name, stamp in made(root).items() if before.get(name) != stamp}
    return Report(known, root, names, set(notebooks), profile).look()


def of_what_lies_there(root: Path) -> Report:
    """Report of an output folder, whenever it was made. OSError where there is nothing, or nothing to compare with."""
    known, names = committed(), set(made(root))
    if not names:
        raise FileNotFoundError(f"nothing was made in {root}; `fvit run all` makes it, or name a folder by --out")
    if is_repository(root) and not known.what.startswith("commit"):
        raise FileNotFoundError(f"{root} is no git clone, so nobody knows what was in it at first; compare by "
                                "`fvit run`, which looks before it writes, or by --out with another folder")
    return Report(known, root, names).look()
