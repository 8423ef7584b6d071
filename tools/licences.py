"""The licence of every package in requirements.lock, as the installed package states it, in its own metadata.

`python tools/licences.py [FOLDER]` puts the table into docs/supply_chain.md. Packages that only other platforms or
Pythons install are read from FOLDER, which `uv pip install --target FOLDER --no-deps --python-platform ...` has filled,
else from the table as it is. A package that states none, an unknown one, or one that would bind whoever uses fvit, is
refused: somebody has to read it first.
"""

import re
import sys
from collections import defaultdict
from importlib import metadata
from pathlib import Path

import lock
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from fvit.base.files import write_atomic
from fvit.base.paths import ROOT

PAGE = ROOT / "docs" / "supply_chain.md"
MARKS = "<!-- licences -->", "<!-- /licences -->"
# Asking for no more than a notice; MPL-2.0 asks for changes of its own files, and nothing here changes any.
ALLOWED = {"0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC",
           "LLVM-exception", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib"}
OTHERS = {  # name or its beginning -> (what it must state, why it may stay)
    "nvidia-": ("NVIDIA's own", "not free software; torch's wheels for Linux ask for it, a CPU does not use it, and "
                                "fvit neither holds nor passes it on"),
    "cuda-toolkit": ("none stated", "a list of other packages, without a file of its own")}
WORDS = {  # what older packages write, as classifiers or freely -> its SPDX name; "BSD" where the kind is not said
    "2-clause bsd": "BSD-2-Clause", "3-clause bsd license": "BSD-3-Clause", "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0", "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0", "bsd": "BSD", "bsd license": "BSD",
    "bsd 2-clause license": "BSD-2-Clause", "bsd 3-clause license": "BSD-3-Clause", "freebsd": "BSD-2-Clause",
    "isc license": "ISC", "isc license (iscl)": "ISC", "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0", "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0", "licenseref-nvidia-proprietary": "NVIDIA's own",
    "nvidia proprietary software": "NVIDIA's own"}


def stated(package: str) -> str:
    """The licence of an installed package: an SPDX expression, a value of WORDS, "none stated", or its own words.

    The field made for it (License-Expression) counts first, then License where it is one line, then the classifiers.
    Raises ValueError if the package is not installed.
    """
    try:
        said = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        raise ValueError(f"{package} is in requirements.lock and not installed; run make, or give a folder") from None
    free = (said.get("License") or "").strip()
    classifiers = [text.split(" :: ")[-1] for text in said.get_all("Classifier") or () if text.startswith("License ::")]
    texts = [said.get("License-Expression"), None if "\n" in free else free, *classifiers]
    texts = [text for text in texts if text and text != "UNKNOWN"]
    known = [name for text in texts if (name := _spdx(text))]
    return known[0] if known else texts[0] if texts else "none stated"


def _spdx(text):
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return canonicalize_license_expression(text)
    except InvalidLicenseExpression:
        return None


def recorded(page: Path = PAGE) -> dict[str, str]:
    """package -> its licence in the table of the page."""
    rows = re.findall(r"^\| (.+?) \| \d+ \| (.+) \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {package: licence for licence, packages in rows for package in packages.split(", ")}


def licences(path: Path = lock.LOCK) -> dict[str, list[str]]:
    """licence -> the packages of the lock that state it, the most frequent first.

    Raises ValueError naming every package whose licence is neither of ALLOWED nor an exception of OTHERS.
    """
    found, refused, here, known = defaultdict(list), [], lock.here(path), recorded()
    for package, _, _ in lock.PIN.findall(path.read_text(encoding="utf-8")):
        try:
            licence = stated(package)
        except ValueError:
            if package in here or package not in known:
                raise
            licence = known[package]
        parts = set(re.split(r" (?:AND|OR|WITH) |[()]", licence)) - {""}
        exception = any(package.startswith(name) and licence == wanted for name, (wanted, _) in OTHERS.items())
        if not parts <= ALLOWED and not exception:
            refused.append(f"{package} ({licence})")
        found[licence].append(package)
    if refused:
        raise ValueError(f"licence not known here: {', '.join(refused)}; read it, then add it to ALLOWED or OTHERS of "
                         "tools/licences.py, or do without the package")
    return dict(sorted(found.items(), key=lambda entry: (-len(entry[1]), entry[0])))


def table(found: dict[str, list[str]]) -> str:
    """The same as a Markdown table: licence, how many packages, which."""
    lines = [f"| {licence} | {len(packages)} | {', '.join(packages)} |" for licence, packages in found.items()]
    return "\n".join(["| licence, as stated | packages | which |", "|---|---|---|", *lines])


def update(page: Path = PAGE) -> Path:
    """Put the table between the marks of the page."""
    before, rest = page.read_text(encoding="utf-8").split(f"{MARKS[0]}\n")
    _, after = rest.split(MARKS[1])
    return write_atomic(page, f"{before}{MARKS[0]}\n{table(licences())}\n{MARKS[1]}{after}")


if __name__ == "__main__":
    sys.path += sys.argv[1:]
    try:
        print(update())
    except ValueError as error:
        sys.exit(f"licences: {error}")
