"""JupyterLab as `make lab` sets it up, in a real browser: each notebook is opened, restarted, run and looked at.

The notebooks are copies without outputs, so what is on the page comes from this run; what they write goes to a
temporary folder (FVIT_OUT, by the root conftest.py). Nothing waits for a clock: times are limits.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading

import nbformat
import pytest
from looks import CUT, HEIGHT, MINUTE, NOT_DRAWN, WIDTHS, photograph

from fvit.base.paths import NOTEBOOKS, ROOT

NAMES = [path.name for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))]
WITH_HANDLES = [name for name in NAMES if "widgets.explore_" in (NOTEBOOKS / name).read_text(encoding="utf-8")]
WHOLE = '{"windowingMode": "none"}'  # the page then holds all of a notebook, not the part in the window alone

# In the browser `app` is JupyterLab; a panel is the notebook that is open.
PANEL = "window.jupyterapp?.shell.currentWidget"
OPEN = f"""path => {PANEL}?.context?.path === path && {PANEL}.context.isReady
    && {PANEL}.sessionContext.session?.kernel?.status === 'idle'"""
CELLS = f"""[...{PANEL}.content.model.cells].filter(cell => cell.type === 'code')
    .map(cell => ({{count: cell.executionCount, outputs: cell.outputs.toJSON()}}))"""
DONE = f"""() => {{ const cells = {CELLS};
    return cells.some(cell => cell.outputs.some(output => output.output_type === 'error'))
        || cells.every(cell => cell.count) && {PANEL}.sessionContext.session?.kernel?.status === 'idle'; }}"""
REDRAWN = """([at, before]) => { const image = document.querySelectorAll('.jupyter-widgets img')[at];
    return image && image.src !== before && image.complete; }"""
LEFTOVER_TEX = """root => [...root.querySelectorAll('.jp-RenderedMarkdown')].flatMap(cell => {
    const copy = cell.cloneNode(true);
    copy.querySelectorAll('code, mjx-container').forEach(node => node.remove());
    return copy.innerText.match(/.*\\$.*/g) ?? []; })"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory, request):
    """A running JupyterLab: the address of a notebook, with {} for its name. The repository must end as it began.

    Its parameter is FVIT_WIDGETS: "0" for outputs as stored, "" for handles, as `make lab` leaves it.
    """
    before, home, desk = _digests(), tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("my desk")
    _lay_out(desk)
    tracker = home / "SETTINGS" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    tracker.parent.mkdir(parents=True)
    tracker.write_text(WHOLE, encoding="utf-8")
    made = subprocess.run(["make", "-n", "lab"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    line, = [line for line in made.splitlines() if "jupyter lab" in line]  # others: an installation, make's own
    words = shlex.split(line)
    command = [sys.executable, "-m", "jupyterlab", *(word for word in words if word.startswith("--"))]
    command += ["--LabApp.expose_app_in_browser=True", "--no-browser", "--ip=127.0.0.1", "--port=0",
                "--IdentityProvider.token=letmein", f"--ServerApp.root_dir={desk}"]
    environment = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}  # as `make lab` does
    environment |= {f"JUPYTER_{name}_DIR": str(home / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment |= {f"JUPYTERLAB_{name}_DIR": str(home / name) for name in ("SETTINGS", "WORKSPACES")}
    environment |= {"JUPYTER_PREFER_ENV_PATH": "1", "IPYTHONDIR": str(home / "ipython"),
                    "FVIT_WIDGETS": request.param}
    server = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        said = [""]
        while not re.search(r"http://127\S+/lab\?token", said[-1]):
            said.append(server.stderr.readline())
            assert said[-1], f"JupyterLab did not start:\n{''.join(said)}"
        threading.Thread(target=server.stderr.read, daemon=True).start()  # else it stops when the pipe is full
        yield said[-1].split()[-1].partition("?")[0] + "/tree/notebooks/{}?token=letmein&reset"
    finally:
        server.terminate()
        server.wait()
    assert _digests() == before, "a run in JupyterLab changed the notebooks, figures or results of the repository"


def _lay_out(desk):
    for name in ("figures", "notebooks"):
        shutil.copytree(ROOT / name, desk / name)
    for path in desk.rglob("*.ipynb"):
        notebook = nbformat.read(path, 4)
        for cell in notebook.cells:
            cell.update({"outputs": [], "execution_count": None} if cell.cell_type == "code" else {})
        nbformat.write(notebook, path)


def _digests():
    files = sorted(path for top in ("notebooks", "figures", "results") for path in (ROOT / top).rglob("*.*"))
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}


@pytest.mark.parametrize("lab", ["0"], indirect=True, ids=["still"])
@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.removesuffix(".ipynb"))
def test_a_notebook_runs_and_can_be_read(lab, page, name):
    stored = nbformat.read(NOTEBOOKS / name, 4)
    _run_all(page, lab, name)
    _check_outputs(page.evaluate(CELLS), [cell for cell in stored.cells if cell.cell_type == "code"])
    notebook = page.locator(".jp-Notebook")
    assert notebook.evaluate(NOT_DRAWN) == []  # alt text JupyterLab drops: it stands below each figure as well
    assert notebook.evaluate(LEFTOVER_TEX) == [] and page.locator("mjx-merror, merror").count() == 0
    formulas = any("$" in cell.source for cell in stored.cells if cell.cell_type == "markdown")
    assert notebook.evaluate("root => root.querySelectorAll('mjx-container').length") > 0 or not formulas
    assert page.locator(".Toastify__toast").count() == 0, "JupyterLab asks something before one has read a word"
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        assert notebook.evaluate(CUT) == []
        _photograph_all(page, name[:2])
    assert {url.split("/")[2] for url in page.heard.requests if not url.startswith("data:")} == {lab.split("/")[2]}
    _follow_a_link(page, stored)
    page.evaluate("jupyterapp.serviceManager.sessions.shutdownAll()")


@pytest.mark.parametrize("lab", [""], indirect=True, ids=["live"])
@pytest.mark.parametrize("name", WITH_HANDLES, ids=lambda name: name[:2])
def test_a_moved_handle_draws_the_figure_anew(lab, page, name):
    _run_all(page, lab, name)
    assert _errors(page.evaluate(CELLS)) == []
    figures = page.locator(".jp-OutputArea-output:has(.noUi-handle)")
    assert figures.count() == (NOTEBOOKS / name).read_text(encoding="utf-8").count("widgets.explore_")
    for at, figure in enumerate(figures.all()):
        handles, picture = figure.locator(".noUi-handle"), figure.locator(".jupyter-widgets img")
        assert handles.count() >= 1 and picture.count() == 1
        for handle in handles.all():
            before, said = picture.get_attribute("src"), picture.get_attribute("alt")
            first = handle.evaluate("e => e.ariaValueNow === e.ariaValueMin")
            handle.press("ArrowRight" if first else "ArrowLeft")
            page.wait_for_function(REDRAWN, arg=[at, before])
            assert picture.get_attribute("alt") not in ("", said), "the words do not say what is drawn now"
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        assert page.locator(".jp-Notebook").evaluate(NOT_DRAWN) == page.locator(".jp-Notebook").evaluate(CUT) == []
        for at, figure in enumerate(figures.all()):
            figure.locator("img").scroll_into_view_if_needed()
            photograph(page, "handles", name[:2], str(at))
    page.evaluate("jupyterapp.serviceManager.sessions.shutdownAll()")


def _run_all(page, lab, name):
    page.goto(lab.format(name))
    page.wait_for_function(OPEN, arg=f"notebooks/{name}")
    page.keyboard.press("Control+b")  # no file browser beside it
    page.keyboard.press("Control+Shift+c")
    page.keyboard.type("Restart Kernel and Run All Cells")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    page.wait_for_function(DONE, timeout=30 * MINUTE, polling=500)


def _check_outputs(ran, stored):
    """Everything ran once and in order, without an error or a warning, and as many figures came as are stored."""
    assert _errors(ran) == []
    assert [cell["count"] for cell in ran] == list(range(1, len(stored) + 1))
    assert [output["text"] for cell in ran for output in cell["outputs"] if output.get("name") == "stderr"] == []
    assert _kinds(ran) == _kinds(stored), "not the outputs that are stored: a figure, a table or a caption is missing"


def _errors(ran):
    return [f"{output['ename']}: {output['evalue']}" for cell in ran for output in cell["outputs"]
            if output["output_type"] == "error"]


def _kinds(cells):
    return [[sorted(output.get("data", {})) for output in cell["outputs"]] for cell in cells]


def _photograph_all(page, name):
    scroller = page.locator(".jp-WindowedPanel-outer")
    for part, top in enumerate(range(0, scroller.evaluate("e => e.scrollHeight"), HEIGHT - 150)):
        scroller.evaluate("(e, top) => e.scrollTo(0, top)", top)
        photograph(page, "lab", name, f"{part:02}")


def _follow_a_link(page, stored):
    """Every link to a notebook names one that is there, and the first cell's last one opens it."""
    texts = [cell.source for cell in stored.cells if cell.cell_type == "markdown"]
    linked = re.findall(r"\]\(([^)]+\.ipynb)\)", "\n".join(texts))
    paths = page.locator(".jp-Notebook a[href*='.ipynb']").evaluate_all("links => links.map(a => a.pathname)")
    assert [path.removeprefix("/files/notebooks/") for path in paths] == linked
    assert [name for name in linked if not (NOTEBOOKS / name).is_file()] == []
    link = page.locator(".jp-RenderedMarkdown").first.locator("a[href*='.ipynb']").last
    target = link.evaluate("a => a.pathname").removeprefix("/files/")
    link.click()
    page.wait_for_function(OPEN, arg=target)
