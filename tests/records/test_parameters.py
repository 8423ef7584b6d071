"""What papermill's own command line gives, with its ideas of types, against what a notebook states."""

import sys
from types import SimpleNamespace

import pytest

import fvit
from fvit.records import parameters, profiles

CELL = '''profile: str = "laptop"  # sizes
sigma: float = 0.25  # noise
k: int = 25  # top set
eps_255: list = [1, 2]  # radii
beta: str = "0.8"  # share
den: str = ""  # a source'''


def test_what_a_cell_states_is_read_and_not_run():
    assert parameters.declared("n = 8  # draws\nnames: list[str] = ['a']\nsigma: float = -0.5") == {
        "n": ("int", "8"), "names": ("list[str]", "['a']"), "sigma": ("float", "-0.5")}


@pytest.mark.parametrize("name, kind, good, bad", [
    ("n", "int", [0, -3], [True, 4.0, "4", None, [4]]), ("s", "float", [1, 0.5], [True, float("nan"), "0.5", None]),
    ("x", "list", [[], [1]], ["[1]", 1, (1,), {}]), ("b", "bool", [True], [1, "True"]),
    ("m", "str", ["", "a"], [1, None, {"source": "a"}]), ("den", "str", ["", {"source": "a"}], [1, None]),
    ("y", "list[int]", [[1]], [1]),
])
def test_a_value_fits_the_type_that_is_stated(name, kind, good, bad):
    assert all(parameters.fits(name, value, kind) for value in good)
    assert not any(parameters.fits(name, value, kind) for value in bad)


@pytest.fixture
def kernel(monkeypatch):
    """A kernel that has run a cell of parameters, the one that papermill adds, and one more."""
    def given(lines):
        cells = ["", CELL, f"# Parameters\n{lines}\n", "import fvit"]
        shell = SimpleNamespace(user_ns={"In": cells})
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
        monkeypatch.setattr(profiles, "current", None)
    return given


@pytest.mark.parametrize("lines, said", [
    ('eps_255 = "[4]"', r"parameter eps_255 came from papermill as str, '\[4\]'; wanted list, given like "
                        r"-y 'eps_255: \[1, 2\]', or to `fvit run` like -p eps_255=\[1, 2\]"),
    ("eps_255 = 4", "eps_255 .* as int, 4; wanted list"), ("sigma = None", "sigma .* given like -p sigma 0.25"),
    ("k = 4.0", "k came .* as float, 4.0; wanted int"), ("beta = 0.8", "beta .* given like -r beta 0.8"),
    ("den = 3", "den .* given like -r den TEXT"), ('sigma = float("nan")', "sigma .* as float, nan"),
])
@pytest.mark.parametrize("call", [lambda: fvit.profile("laptop", notebook="01"), lambda: fvit.experiment("01")],
                         ids=["profile", "experiment"])
def test_another_type_is_refused_in_one_line_with_the_right_spelling(kernel, call, lines, said):
    kernel(lines)
    with pytest.raises(ValueError, match=said) as caught:
        call()
    assert "\n" not in str(caught.value) and profiles.current is None


def test_what_fits_or_is_no_parameter_or_no_notebook_of_ours_passes(kernel, monkeypatch):
    kernel("sigma = 1\nk = 5\neps_255 = [3]\nden = {'source': 'scenes'}\nelse_ = None")
    assert fvit.profile("laptop", notebook="01").k == 25  # the notebook hands k on
    for cells in ([], ["# Parameters\nk = 4.0"], ["", "for k in range(3): pass", "# Parameters\nk = 4.0"]):
        shell = SimpleNamespace(user_ns={"In": cells})
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda shell=shell: shell))
        fvit.profile("laptop")
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    fvit.profile("laptop")
