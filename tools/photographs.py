"""Where the photographs of the scenes come from: `python tools/photographs.py FOLDER` makes their crops anew.

FOLDER holds the Debian packages of PACKAGES as `apt-get download` leaves them. Writes the crops and their table into
fvit/data/photographs, and the table into docs/photographs.md; without FOLDER only the page.
"""

import csv
import hashlib
import io
import re
import struct
import sys
import tarfile
import zlib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from PIL import Image

from fvit.base.files import write_atomic
from fvit.base.paths import ROOT
from fvit.data.photographs import FOLDER, TABLE, TABLE_CRC32, table

PAGE = ROOT / "docs" / "photographs.md"
MARKS = "<!-- photographs -->", "<!-- /photographs -->"
WALLPAPERS = "./usr/share/backgrounds/"
PACKAGES = {  # package_version -> (folder of its pictures, what its copyright file calls that folder, which of them)
    "gcompris-qt-data_1.0-1": ("gcompris/src/activities/", "src/activities/",
                               r"categorization/.*/(fishes|monuments|others|renewable)/|erase/|explore_world_animals/"),
    "lomiri-wallpapers-16.04_20.04.0-2": (WALLPAPERS, "16.04/", ""),
    "lomiri-wallpapers-20.04_20.04.0-2": (WALLPAPERS, "20.04/", ""),
    "budgie-backgrounds_3.0-1": (WALLPAPERS + "budgie/", "", "")}
FREE = re.compile(r"CC0-1\.0|CC-BY(-SA)?-[\d.]+|public-domain")
DROPPED = {  # file -> why it is no background of a scene; looked at one by one
    "fish2": "a drawing", "fish5": "a drawing", "fish8": "a drawing", "fish23": "a drawing", "fish24": "a drawing",
    "baseball": "cut out", "buffetset": "cut out", "bulb": "cut out", "erasers": "cut out", "plate": "cut out",
    "volleyball": "cut out", "bucket": "cut out", "fish19": "cut out", "weighingMachine": "shows digits",
    "golden_toad": "no author", "analogpattern_by_Peter_Nerlich": "abstract", "umang_by_Abhishek_Mudgal": "abstract",
    "Fossa_by_Jasper_Roks": "a drawing", "Infinite-Sea_by_Aury88": "rendered",
    "Painting-Colors_by__herobrine7gamer": "a drawing", "ocean-waves": "a painting", "valley-midnight": "a drawing",
    "waves-midnight": "a drawing", "saturnian-profile": "put together from many"}
SIDE, LEAST = 256, 200  # pixels a side of a crop, and of the smallest that is taken
N_TEST, N_VAL = 37, 13  # of these, beside those of the wheels; fixed before any model saw them


def members(deb: Path) -> Iterator[tuple[str, bytes]]:
    """Files of a Debian package: an ar archive that holds a tar archive."""
    raw, at = deb.read_bytes(), 8
    while at < len(raw):
        name, size = raw[at : at + 16].decode().strip().rstrip("/"), int(raw[at + 48 : at + 58])
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(raw[at + 60 : at + 60 + size])) as tar:
                yield from ((m.name, tar.extractfile(m).read()) for m in tar if m.isfile())
        at += 60 + size + size % 2


def resources(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Files of a Qt resource collection (.rcc): a tree of nodes, their names, their data."""
    version, tree, data, names = struct.unpack(">4I", raw[4:20])

    def walk(node: int, folder: str) -> Iterator[tuple[str, bytes]]:
        at = tree + node * (14 if version == 1 else 22)
        name, flags, first, second = struct.unpack(">IHII", raw[at : at + 14])
        length = struct.unpack(">H", raw[names + name : names + name + 2])[0]
        path = folder + raw[names + name + 6 : names + name + 6 + 2 * length].decode("utf-16-be") * (node > 0)
        if flags & 2:  # a folder: how many nodes, and the first
            for child in range(second, second + first):
                yield from walk(child, f"{path}/" if node else "")
        else:
            at = data + second
            body = raw[at + 4 : at + 4 + struct.unpack(">I", raw[at : at + 4])[0]]
            yield path, zlib.decompress(body[4:]) if flags & 1 else body

    yield from walk(0, "")


def paragraphs(copyright_file: str) -> list[dict[str, str]]:
    """Paragraphs of a machine-readable Debian copyright file that are about files: field -> text."""
    found = []
    for paragraph in re.split(r"\n\s*\n", copyright_file):
        fields = re.split(r"^([\w-]+):", paragraph.strip(), flags=re.MULTILINE)[1:]
        found.append({key: " ".join((text.strip().splitlines()[0] if key == "License" else text).split())
                      for key, text in zip(fields[::2], fields[1::2], strict=True)})
    return [p for p in found if "Files" in p]


def candidates(deb: Path) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """Pictures of a package under a free licence with an author: file, bytes, its paragraph of the copyright file."""
    folder, called, which = PACKAGES[package(deb)]
    pictures, said = {}, []
    for name, raw in members(deb):
        if name.endswith("/copyright"):
            said = paragraphs(raw.decode())
        elif name.endswith(".rcc"):
            pictures |= dict(resources(raw))
        else:
            pictures[name] = raw
    for file, raw in sorted(pictures.items()):
        short = called + file.removeprefix(folder)
        own = [p for p in said if any(fnmatch(short, pattern) for pattern in p["Files"].split())][-1:]
        wanted = file.startswith(folder) and re.search(rf"^{called}({which}).*[.](jpg|png)$", short)
        if wanted and own and FREE.fullmatch(own[0]["License"]) and Path(file).stem not in DROPPED:
            yield short, raw, own[0]


def package(deb: Path) -> str:
    return deb.name.rpartition("_")[0]


def crop(raw: bytes) -> Image.Image | None:
    """The central square, at most SIDE pixels a side; None if smaller than LEAST, or mostly of one flat colour."""
    image = Image.open(io.BytesIO(raw)).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    square = square.resize((SIDE, SIDE), Image.Resampling.LANCZOS) if side > SIDE else square
    flat = max(n for n, _ in square.point(lambda value: value >> 4).getcolors(16**3)) / (square.width * square.height)
    return square if side >= LEAST and flat <= 0.5 else None


def slug(file: str) -> str:
    """Name of a photograph from that of its file: arcDeTriomphe -> arc_de_triomphe, Wine_by_Jakkub_Mede -> wine."""
    stem = re.sub(r"_by_.*", "", Path(file).stem)
    return re.sub(r"\W+|_+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", stem)).lower()


def make(folder: Path) -> None:
    """Crops and table from the packages in `folder`; the rows of photographs in other wheels stay."""
    rows = [row for row in table() if not row["file"].startswith("fvit/")]
    new = {}
    for name in PACKAGES:
        [deb] = folder.glob(f"{name}_*.deb")
        for file, raw, own in candidates(deb):
            if (square := crop(raw)) is None:
                continue
            photo, packed = slug(file), io.BytesIO()
            square.save(packed, "JPEG", quality=85)
            if photo in new or photo in {row["name"] for row in rows}:
                raise ValueError(f"two photographs are called {photo}")
            new[photo] = {"name": photo, "crc32": f"{zlib.crc32(packed.getvalue()):08x}",
                          "file": f"fvit/data/photographs/{photo}.jpg", "author": own["Copyright"],
                          "licence": own["License"], "package": name, "original": file,
                          "page": own.get("Comment", "").split(" ")[0]}
            write_atomic(FOLDER / f"{photo}.jpg", packed.getvalue())
    for rank, photo in enumerate(sorted(new, key=lambda n: hashlib.sha256(n.encode()).hexdigest())):
        new[photo]["split"] = "test" if rank < N_TEST else "val" if rank < N_TEST + N_VAL else "train"
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows([*rows, *(new[photo] for photo in sorted(new))])
    write_atomic(TABLE, text.getvalue())
    table.cache_clear()
    if (crc := zlib.crc32(text.getvalue().encode())) != TABLE_CRC32:
        raise ValueError(f"another table: set TABLE_CRC32 = 0x{crc:08X} in fvit/data/photographs.py, then rerun")


def page_table() -> str:
    """The table of docs/photographs.md: name, split, author, licence, and the photograph that it is a crop of."""
    lines = ["| name | split | author | licence | from |", "|---|---|---|---|---|"]
    for row in sorted(table(), key=lambda row: row["name"]):
        where = f"[{Path(row['original']).name}](<{row['page']}>), " if row["page"] else (
            f"{Path(row['original']).name}, " if row["original"] else "")
        lines.append(f"| `{row['name']}` | {row['split']} | {row['author']} | {row['licence']} | {where}"
                     f"{row['package'].replace('_', ' ')} |")
    return "\n".join(lines)


def write_page() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    write_atomic(PAGE, f"{before}{MARKS[0]}\n{page_table()}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}")


def main(folders: list[str]) -> int:
    try:
        for folder in folders:
            make(Path(folder))
    except ValueError as error:
        print(f"photographs: {error}", file=sys.stderr)
        return 1
    write_page()
    print({split: sum(row["split"] == split for row in table()) for split in ("train", "val", "test")})
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
