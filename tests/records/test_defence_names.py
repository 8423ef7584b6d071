"""Names of defences: what names nothing is refused before anything is run."""

import pytest

from fvit.records import defence_names, words


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import sys\nraise SystemExit('run')\nclass Mine: pass\ndef made(vit): pass\nalso = Mine\n")
    return path


def test_names_come_back_once_and_files_by_their_whole_path(mine, monkeypatch):
    monkeypatch.chdir(mine.parent)
    whole = f"{mine}:Mine"
    assert defence_names.check(["dds", "mine.py:Mine", "blur", "dds", whole]) == ["dds", whole, "blur"]
    assert defence_names.check([f"{mine}:made", f"{mine}:also"]) == [f"{mine}:made", f"{mine}:also"]
    assert [*map(defence_names.code, ("dds", whole, "mine.py:Mine"))] == ["dds", "mine.py:Mine", "mine.py:Mine"]


def test_the_digest_is_of_the_file(mine):
    before = defence_names.digest(f"{mine}:Mine")
    mine.write_text(mine.read_text() + "# other\n")
    assert len(before) == 64 and defence_names.digest(f"{mine}:Mine") != before and defence_names.digest("dds") == ""


@pytest.mark.parametrize("names, error, message", [
    ("dds", ValueError, r"defences='dds', wanted a list of names"),
    (["blurr"], ValueError, r"unknown defence 'blurr', known: none, dds.*did you mean 'blur'\?; or FILE\.py:NAME"),
    (["constant_map"], ValueError, "unknown defence 'constant_map'"),
    ([3], ValueError, "unknown defence 3, known"),
    (["{}/other.py:Mine"], FileNotFoundError, r"no file .*other\.py for the defence"),
    (["{}/mine.py:Yours"], ValueError, r"mine\.py defines no 'Yours'.*; it defines Mine, also, made, sys"),
    (["{}/broken.py:Mine"], ValueError, r"broken\.py is no Python .*; mend the file"),
    (["{}/mine.py:Mine", "{}/sub/mine.py:Mine"], ValueError, r"would both be mine\.py:Mine in the rows"),
])
def test_what_names_nothing_is_refused_in_one_line(mine, names, error, message):
    (mine.parent / "broken.py").write_text("class Mine")
    (mine.parent / "sub").mkdir()
    (mine.parent / "sub" / "mine.py").write_text("class Mine: pass")
    given = [n.format(mine.parent) if isinstance(n, str) else n for n in names] if isinstance(names, list) else names
    with pytest.raises(error, match=message) as caught:
        defence_names.check(given)
    assert "\n" not in str(caught.value)


def test_rows_may_hold_a_readers_own_defence_and_say_it(mine):
    assert words.check_word("mine.py:Mine", "defence") == words.check_word("mine.py:Mine", "made_on") == "mine.py:Mine"
    assert words.said("mine.py:Mine") == "mine.py:Mine" and words.said("noise_blur") == "noise and blur"
    for word, column in (("/home/x/mine.py:Mine", "defence"), ("mine:Mine", "defence"), ("mine.py:Mine", "aim")):
        with pytest.raises(ValueError, match="unknown"):
            words.check_word(word, column)
