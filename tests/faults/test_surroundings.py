"""No network, little memory, and homes, locales and time zones that are not ours."""

import importlib
import os
import resource
import socket
import subprocess
import sys
import threading
from pathlib import Path

import harm
import pytest
from harm import TIMES, Child, long

from fvit.base import paths

LOCALES = {"tr_TR.UTF-8": ("tr_TR", "UTF-8"), "de_DE.UTF-8": ("de_DE", "UTF-8"),
           "de_DE.ISO-8859-1": ("de_DE", "ISO-8859-1")}
ZONES = ["UTC", "America/St_Johns", "Asia/Kathmandu", "Pacific/Kiritimati", "Europe/Berlin"]


@long
@pytest.mark.parametrize("hub", ["offline", "closed", "cut off"])
def test_the_hub_has_vanished(hub, dice, tally, tmp_path):
    """HF_HUB_OFFLINE; a port where nobody listens; a server that ends its answer at a random byte."""
    names = [dice.choice(["vit_tiny_patch16_224", "hf-hub:nobody/model", "deit_small_patch16_224", "nobody/ddpm"])
             for _ in range(TIMES)]
    code = ("import fvit, sys\n"
            "for name in sys.argv[1:]:\n"
            "    try:\n"
            "        (fvit.load_denoiser if '/ddpm' in name else fvit.load_vit)(name)\n"
            "        sys.exit('loaded without a hub')\n"
            "    except OSError as error:\n"
            "        assert ('network' in str(error)) and len(str(error)) < 700, error\n"
            "        print('named')\n"
            "print(fvit.load_vit('scenes').num_classes)\n")
    environment = {"HF_HUB_OFFLINE": str(int(hub == "offline")), "HF_HOME": str(tmp_path)}
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if hub == "cut off":
            server.listen()
            answer = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n{"id": "nobody/mo'
            threading.Thread(target=answers, args=(server, answer, dice), daemon=True).start()
        environment["HF_ENDPOINT"] = f"http://127.0.0.1:{server.getsockname()[1]}"
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, *names], cwd=paths.ROOT, text=True,
                              capture_output=True, env=os.environ | environment, timeout=500)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["named"] * TIMES + ["15"]
    for _ in names:
        tally(f"vanished hub: {hub}")


def answers(server, answer, dice):
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return  # closed: the test is over
        with connection:
            connection.recv(4096)
            connection.sendall(answer[: dice.randrange(len(answer))])


@long
def test_training_in_little_memory(dice, tally, tmp_path):
    """A limit somewhere between what the imports take, with room for OpenBLAS, and what the training wants.

    With 64 MiB to spare OpenBLAS cannot have its buffers, and ends the process in words of its own.
    """
    importlib.import_module("fvit.training.loop")  # before the fork
    big = [*harm.SMALL, "--batch", "400"]  # scenes of a second, activations of more than 256 MiB

    def limited():
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        harm.limit(resource.RLIMIT_AS, pages * resource.getpagesize() + more)
        return harm.command("train", "teacher", "--out", tmp_path / str(number), *big)()

    for number in range(TIMES):
        more = dice.randint(160 * 2**20, 224 * 2**20)
        child = Child(limited)
        assert child.wait() == 1, child.said
        harm.check_message(child.said, "out of memory", "smaller --batch")
        assert not (tmp_path / str(number)).exists()
        tally("memory limit")


@long
def test_a_kernel_in_little_memory(dice, tally, tmp_path):
    folder = harm.notebook(tmp_path / "notebooks", "import numpy as np; a = np.ones((40, 1000, 1000, 10))")

    def limited():
        harm.limit(resource.RLIMIT_AS, dice.randint(2400, 3200) * 2**20)
        return harm.command("run", "01", folder=folder)()

    for _ in range(max(1, TIMES // 3)):
        child = Child(limited)
        assert child.wait() == 1, child.said
        harm.check_message(child.said, "01_writes.ipynb failed")
        assert "emory" in child.said and not list(paths.output_root().rglob(".*.tmp"))
        tally("memory limit")


@pytest.fixture(scope="session")
def locales(tmp_path_factory):
    """LOCPATH with locales that are not installed, and the names of those that could be made."""
    folder, made = tmp_path_factory.mktemp("locales"), ["C", "C.UTF-8", "POSIX"]
    for name, (source, charset) in LOCALES.items():
        try:
            subprocess.run(["localedef", "-i", source, "-f", charset, folder / name], capture_output=True)
        except OSError:
            break
        made += [name] * (folder / name).is_dir()
    return folder, made


@long
def test_homes_locales_and_time_zones(dice, tally, tmp_path, locales):
    """The command in a home of spaces and letters, its numbers and dates written as elsewhere: the same bytes."""
    wanted = harm.undisturbed(harm.write_everything)
    folder, made = locales
    code = (f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(paths.ROOT)!r}]\n"
            "import locale, harm\n"
            "locale.setlocale(locale.LC_ALL, '')\n"
            "harm.write_everything()\n"
            "print(f'{1.5:n}')")
    for number in range(TIMES):
        name = made[number % len(made)] if TIMES > 1 else dice.choice(made)
        home = tmp_path / dice.choice(["Jürgen Ünal's Haus", "ev İşığı {1}", "家 家", "a b"]) / str(number)
        home.mkdir(parents=True)
        out = home / "çıktı 100%"
        environment = {"HOME": str(home), "LC_ALL": name, "TZ": dice.choice(ZONES), "LOCPATH": str(folder),
                       "FVIT_OUT": str(out), "TMPDIR": str(home)}
        done = subprocess.run([sys.executable, "-c", code], cwd=home, env=os.environ | environment, capture_output=True)
        assert done.returncode == 0, (environment, done.stderr.decode(errors="replace"))
        assert done.stdout.endswith(b"1,5\n" if name[:2] in ("de", "tr") else b"1.5\n"), "the locale is not in force"
        assert harm.snapshot(out) == wanted, environment
        tally("home, locale and time zone")


@long
def test_run_in_such_a_home(dice, tally, tmp_path, locales):
    """`fvit run` with its kernel, from a clone in such a home."""
    wanted = None
    for name in ("C.UTF-8", "C", locales[1][-1]):
        home = tmp_path / f"Jürgen Ünal's {name}"
        harm.notebook(home / "fvit clone" / "notebooks")
        (home / "fvit clone" / "fvit").symlink_to(paths.PACKAGE)
        code = ("import sys; from pathlib import Path; from fvit import cli; from fvit.base import paths\n"
                "paths.NOTEBOOKS = Path.cwd() / 'notebooks'; sys.exit(cli.main(['run', '01']))")
        environment = {"HOME": str(home), "LC_ALL": name, "TZ": dice.choice(ZONES), "LOCPATH": str(locales[0]),
                       "FVIT_OUT": str(home / "out"), "TMPDIR": str(home)}
        done = subprocess.run([sys.executable, "-c", code], cwd=home / "fvit clone", env=os.environ | environment,
                              capture_output=True)
        assert done.returncode == 0, (environment, done.stderr.decode(errors="replace"))
        wanted = wanted or harm.snapshot(home / "out")
        assert harm.snapshot(home / "out") == wanted, environment
        tally("home, locale and time zone")
