"""Every command and every block of code in the README is executed here, in the cheapest form that would notice a fault.

    make TARGET      its dry run, `make -n`, and TARGET is one that `make help` lists
    fvit run         all up to the first cell: arguments, notebooks, parameters and their types
    fvit train, fvit convert-adm   their arguments
    conda env create the file it reads; conda itself and its network are not needed
    Python           in a process of its own, as it stands but for its sizes, which MOST cuts

A block or command of another kind fails: teach KINDS how to execute it.
"""

import re
import shlex
import subprocess
import sys

import pytest
import yaml

from fvit import cli
from fvit.base.paths import ROOT
from fvit.notebooks import runner
from fvit.records import sources

README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = ("", "sh", "bash", "console")
MOST = {"n": 2, "n_samples": 4}  # images and draws; the README's 8, 16 and 300 took nine minutes on a busy machine


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, code) of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)


def commands(text: str) -> list[str]:
    """The lines of the shell's blocks, then what is code in running text and holds a space, or begins as a command."""
    shell = "".join(code for language, code in blocks(text) if language in SHELL).replace("\\\n", " ")
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
    inline = [code for code in inline if " " in code or code in KINDS or re.match(r"--\w|[A-Z_]+=", code)]
    parsed = [shlex.split(line, comments=True) for line in [*shell.splitlines(), *inline]]
    return list(dict.fromkeys(shlex.join(words) for words in parsed if words))


def make(words, monkeypatch):
    known = subprocess.run(["make", "-C", ROOT, "-s", "help"], check=True, capture_output=True, text=True).stdout
    for target in (word for word in words if "=" not in word):
        assert re.search(rf"^make {target} ", known, re.M), f"`make help` lists no {target}"
    subprocess.run(["make", "-C", ROOT, "-n", *words], check=True, capture_output=True)


def fvit(words, monkeypatch):
    planned = []
    for name in ("run", "dry_run"):
        monkeypatch.setattr(runner, name, lambda todo, *_: planned.extend(todo))
    monkeypatch.setattr(sources, "check", lambda names: None)  # the models and data of a reader are not here
    if words[0] == "run":
        assert cli.main(words) == 0 and planned
    else:
        assert words[0] in ("train", "convert-adm", "verify", "notebooks"), "say here how to execute it"
        cli._parser(training=words[0] == "train").parse_args(words)


def conda(words, monkeypatch):
    assert words[:3] == ["env", "create", "-f"] and len(words) == 4, "another form than is known"
    assert "dependencies" in yaml.safe_load((ROOT / words[3]).read_text(encoding="utf-8"))  # more: test_environment.py


KINDS = {"make": make, "fvit": fvit, "conda": conda}


def execute(command: str, monkeypatch) -> None:
    program, *words = shlex.split(command)
    if program.startswith("--"):  # `--profile study` alone is one of `fvit run`, `JOBS=1` one of make's
        return fvit(["run", program, *words], monkeypatch)
    if name := re.match(r"\w+(?==)", program):
        assert re.search(rf"^{name[0]} \?= ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M), f"no {name[0]}"
        return make(["test", program], monkeypatch)
    assert program in KINDS, f"the README has a command that this test cannot execute: {command}"
    return KINDS[program](words, monkeypatch)


@pytest.mark.parametrize("command", commands(README))
def test_a_command_of_the_readme_works(command, monkeypatch):
    execute(command, monkeypatch)


def test_every_block_is_in_a_language_that_is_executed():
    assert {language for language, _ in blocks(README)} <= {*SHELL, "python"}
    assert README.count("```") == 2 * len(blocks(README)), "a block that is not seen here, or code of another form"


@pytest.mark.parametrize("code", [code for language, code in blocks(README) if language == "python"],
                         ids=lambda code: code.split("\n")[0])
def test_a_program_of_the_readme_runs(code, tmp_path):
    code = re.sub(r"\b(n|n_samples)=(\d+)\b", lambda size: f"{size[1]}={min(int(size[2]), MOST[size[1]])}", code)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("spoiled", [
    "`make fly`", "`make figures test2`", "`fvit run 77`", "`fvit run 03 -p sigmas=0.1`", "`fvit run 03 -p sigma=big`",
    "`fvit fly`", "`fvit train vit --stops 3`", "`conda env create -f other.yml`", "`conda install fvit`",
    "`git clone x`", "`--profile holiday`", "`JOB=1`", "`pip install fvit`", "```sh\ncurl x\n```", "`rsync here there`",
    "```\nmake test && rm x\n```",
])
def test_a_wrong_or_unknown_command_is_noticed(spoiled, monkeypatch):
    [command] = commands(spoiled)
    with pytest.raises((AssertionError, SystemExit, OSError, subprocess.CalledProcessError, pytest.fail.Exception)):
        execute(command, monkeypatch)


def test_commands_are_found_wherever_they_stand():
    text = "Say `make lab`, `sigma`, `--profile study` or `JOBS=2`:\n\n```\nmake test    # all of it\nfvit info\n```\n"
    assert commands(text) == ["make test", "fvit info", "make lab", "--profile study", "JOBS=2"]
