"""What docstrings, comments, notebooks and documents name exists: sections, theorems, faults, files, modules, links."""

import ast
import functools
import json
import pkgutil
import re
import tokenize
from pathlib import Path

import pytest

from fvit.base.paths import ROOT

FOLDERS = ("docs", "figures", "fvit", "notebooks", "results", "tests", "tools")
HOME = {**dict.fromkeys(("theorem", "lemma", "corollar", "proposition"), "theory"), "fault": "reference-code"}
NUMBER = r"\d+(?:\.\d+)*"
LIST = rf"{NUMBER}(?: \(\w+\))?(?:(?:,| and|, and| to) {NUMBER}(?: \(\w+\))?)*"
WORD = r"(?<!no )\b(theorem|lemma|corollar|proposition|fault)(?:s|y|ies)?"
FILE = rf"(?<![\w/.~-])(?:{'|'.join(FOLDERS)})/[^\s`'\"(),;:|\[\]\\]+|(?<![\w/.*<-])[\w-]+\.(?:py|md|ipynb|cfg|lock)\b"
BOOK = r"(?:[Nn]otebooks? |\[(?=\d\d\]\()|^#+ (?=\d\d ·)|(?=\d\d_sol))(\d\d)(?!\d)"  # also [06](...), # 03 · ...


def pieces(file: Path):
    """(text, may it hold links) of each docstring, run of comments, cell, or paragraph with its heading, of a file."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".ipynb":
        for cell in json.loads(text)["cells"]:
            yield "".join(cell["source"]), cell["cell_type"] == "markdown"
    elif file.suffix == ".py":
        nodes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
        yield from ((ast.get_docstring(node) or "", False) for node in nodes)
        tokens = tokenize.generate_tokens(iter(text.splitlines(keepends=True)).__next__)
        comments = {token.start[0]: token.string.strip("# -") for token in tokens if token.type == tokenize.COMMENT}
        lines = [comments.get(n, "\n") for n in range(1, max(comments, default=0) + 1)]
        yield from ((run, False) for run in " ".join(lines).split("\n"))
    else:
        head = ""
        for paragraph in re.split(r"\n\s*\n|\n(?=#+ |[-|] )", text):
            head = paragraph if paragraph.startswith("#") else head
            yield f"{head}\n{paragraph}", file.suffix == ".md"


@functools.cache
def defined(file: Path) -> set:
    """What a document or notebook numbers: "2.3" for a section, ("fault", "12") for a statement set in bold."""
    text = "\n".join(text for text, prose in pieces(file) if prose) if file.is_file() else ""
    statements = re.findall(rf"^(?:#+ |(?:[-*] )?\*\*){WORD} ({NUMBER})", text, re.M | re.I)
    sections = re.findall(rf"^(?:#+ |\*\*)(?:section |§ ?)?({NUMBER})[. ]", text, re.M | re.I)
    return {(word.lower(), number) for word, number in statements} | set(sections)


def wrong(text: str, prose: bool, file: Path, root: Path = ROOT) -> set[str]:
    """What `text`, of `file`, names and nobody finds."""
    flat, bad = " ".join(text.split()), set()
    for word, numbers in re.findall(rf"{WORD} ({LIST})", flat, re.I):
        there = defined(root / "docs" / f"{HOME[word.lower()]}.md")
        bad |= {f"{word} {n}" for n in re.findall(NUMBER, numbers) if (word.lower(), n) not in there}
    rest = re.sub(rf"{WORD} {LIST}(?:,? remark \(\w\))?", "", flat, flags=re.I)
    for name, numbers in re.findall(rf"docs/([\w-]+\.md),? (?:sections? )?({LIST})", rest):
        bad |= {f"{name}, {n}" for n in re.findall(NUMBER, numbers) if n not in defined(root / "docs" / name)}
    books = {n: list(root.glob(f"notebooks/{n}_*.ipynb")) for n in re.findall(BOOK, f"{flat} {file.name}")}
    bad |= {f"notebook {number}" for number, found in books.items() if not found}
    near = {file, *(root / name for name in re.findall(r"docs/[\w-]+\.md", flat))}.union(*books.values())
    for numbers in re.findall(rf"\bsections? ({LIST})", flat, re.I):
        bad |= {f"section {n}" for n in re.findall(NUMBER, numbers) if n not in set().union(*map(defined, near))}
    if file.name not in ("CHANGELOG.md", "measurements.md"):  # what was: files may have moved since
        bad |= {name for name in re.findall(FILE, flat) if not _exists(name.partition("#")[0].rstrip("."), file, root)}
        bad |= {name for name in re.findall(r"\bfvit(?:\.(?!json)[a-z]\w*)+", flat, re.A) if not _imports(name)}
    links = re.findall(r"(?:\]\(|^\[[^]\n]+\]: )(?!<?\w+:)([^)\s#]*)#?([^)\s]*)", text, re.M) if prose else []
    return bad | {f"({link}#{anchor})" for link, anchor in links if not _leads(file, link, anchor)}


def _exists(name, file, root):
    places = [name] if "/" in name else [name, *(f"{folder}/**/{name}" for folder in FOLDERS)]
    theirs = "/" not in name and file.name == "reference-code.md"  # files of other code bases
    readers = name in ("mine.py", "FILE.py")  # the reader's own, as of "FILE.py:NAME"
    made = re.search(r"[<>{}$]|results/.+/(blocks|notebooks)", name)  # a pattern, or what a run leaves uncommitted
    return theirs or readers or made or any(any(root.glob(place)) for place in places)


def _imports(name):
    try:
        return pkgutil.resolve_name(name) is not None
    except (ImportError, AttributeError):
        return False


def _leads(file, link, anchor):
    file = file.parent / link if link else file
    heads = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.M) if file.suffix == ".md" and file.exists() else []
    slugs = [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads]
    return file.exists() and (not anchor or not heads or anchor in slugs)


FILES = sorted({*ROOT.glob("*.py"), *ROOT.glob("*.md"), ROOT / "Makefile"} | {
    file for folder in ("docs", "fvit", "notebooks", "tests", "tools") for file in (ROOT / folder).rglob("*")
    if file.suffix in (".py", ".md", ".ipynb") and not {"fixtures", ".ipynb_checkpoints"} & set(file.parts)})


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_is_named_is_there(file):
    bad = set().union(*(wrong(text, prose, file) for text, prose in pieces(file)))
    assert not bad, f"{file.relative_to(ROOT)} names what is not there: {', '.join(sorted(bad))}"


BAD = ["docs/none.md", "NONE.md", "docs/theory.md, 1.2", "docs/theory.md, Lemma 1 and section 1.2", "section 3",
       "Theorem 7", "Corollary 1", "faults 12 and 13", "fvit/none.py", "none.py", "tests/no_*.py", "results/no.csv",
       "notebook 02", "notebook 01, section 2", "[a](none.md)", "[a](here.md#none)", "[a]: none.md", "fvit.none"]
GOOD = ["docs/theory.md, 1.1", "docs/theory.md, Theorem 1 (i), and section 1.1", "section 1 of notebook 01",
        "section 4", "Lemma 1", "docs/reference-code.md, fault 12", "`fvit/a.py`.", "results/<profile>/x.csv",
        "fvit.explain", "[a](theory.md#1-a-b)", "[a](https://x)", "[a]: here.md#4-h"]
TREE = {"docs/theory.md": "# 1. A b\n\n## 1.1 C\n\n**Theorem 1.** D\n\n**Lemma 1 (e).** F", "fvit/a.py": "",
        "docs/reference-code.md": "**Fault 12.** G", "docs/here.md": "# 4. H",
        "notebooks/01_a.ipynb": '{"cells": [{"cell_type": "markdown", "source": ["# 1. I"]}]}'}


@pytest.mark.parametrize("text", [*BAD, *GOOD])
def test_a_bad_reference_is_found_and_a_good_one_is_not(tmp_path, text):
    for name, content in TREE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert bool(wrong(text, True, tmp_path / "docs" / "here.md", tmp_path)) == (text in BAD)
