"""Tiny data sets on disk, each in its real format, whose pixels, masks and labels are known by construction."""

import json
import pickle

import h5py
import numpy as np
from PIL import Image

IMAGE_IDS = ("n02123045_17", "n09999999_3", "n02123045_99")  # tabby, a WordNet id outside ImageNet-1k, tabby


def picture(seed, height=6, width=8):
    """Noise (height, width, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def resized(pixels, size, nearest=False):
    """As PIL resizes an array: (h, w, 3), or a mask (h, w) whose values fit a byte."""
    how = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], how))


def gtsegs(path, *, ids=IMAGE_IDS, cells=True):
    """gtsegs_ijcv.mat as MATLAB v7.3 writes it: columns first, cells as object references into #refs#, chars as uint16.

    Returns the pixels and the first outlines. Image 0 has two annotations, and image 2 has none if `cells` is False.
    """
    pixels = [picture(0, 6, 8), picture(1, 5, 7), picture(2, 4, 4)]
    outlines = [np.zeros(p.shape[:2], np.uint8) for p in pixels]
    for n, outline in enumerate(outlines):
        outline[n:n + 2, 1:4] = 1
    with h5py.File(path, "w", userblock_size=512) as file:
        refs, value = file.create_group("#refs#"), file.create_group("value")

        def put(name, array, kind):
            node = refs.create_dataset(name, data=array)
            node.attrs["MATLAB_class"] = np.bytes_(kind)
            return node.ref

        def cell(place, name, references):
            node = place.create_dataset(name, (len(references), 1), dtype=h5py.ref_dtype)
            node[:, 0] = references
            node.attrs["MATLAB_class"] = np.bytes_("cell")
            return node.ref

        cell(value, "img", [put(f"i{n}", p.T, "uint8") for n, p in enumerate(pixels)])
        annotations = []
        for n, outline in enumerate(outlines):
            several = [outline] if n else [outline, 1 - outline]
            annotations.append(cell(refs, f"c{n}", [put(f"g{n}{m}", o.T, "uint8") for m, o in enumerate(several)]))
        if not cells:
            annotations[2] = put("empty", np.array([0, 0], dtype=np.uint64), "cell")  # an empty cell
        cell(value, "gt", annotations)
        if ids is not None:
            codes = [np.array([[ord(c)] for c in name], dtype=np.uint16) for name in ids]
            cell(value, "id", [put(f"n{n}", code, "char") for n, code in enumerate(codes)])
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116))
    return pixels, outlines


def coco(root, split="val2017"):
    """COCO with a polygon, an uncompressed and a compressed RLE, a crowd, and an image without annotations.

    Returns name -> (pixels, mask of all objects, category that covers most).
    """
    from pycocotools import mask as rle

    box, column = np.zeros((6, 8), np.uint8), np.zeros((6, 8), np.uint8)
    box[1:4, 2:6], column[:, 6:] = 1, 1  # a polygon around pixels 2..5, 1..3; a crowd on the right
    corner = np.zeros((6, 8), np.uint8)
    corner[4:, :3] = 1
    counts = rle.encode(np.asfortranarray(corner))["counts"].decode()
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 90, "iscrowd": 0, "area": 12, "bbox": [2, 1, 4, 3],
         "segmentation": [[2, 1, 6, 1, 6, 4, 2, 4]]},
        {"id": 2, "image_id": 7, "category_id": 1, "iscrowd": 1, "area": 12, "bbox": [6, 0, 2, 6],
         "segmentation": {"size": [6, 8], "counts": [36, 12]}},  # column by column: 36 off, 12 on
        {"id": 3, "image_id": 9, "category_id": 17, "iscrowd": 0, "area": 6, "bbox": [0, 4, 3, 2],
         "segmentation": {"size": [6, 8], "counts": counts}},
        {"id": 4, "image_id": 9, "category_id": 1, "iscrowd": 0, "area": 1, "bbox": [0, 0, 1, 1],
         "segmentation": {"size": [6, 8], "counts": [0, 1, 47]}},
        {"id": 5, "image_id": 9, "category_id": 1, "iscrowd": 1, "area": 48, "bbox": [0, 0, 8, 6],
         "segmentation": {"size": [6, 8], "counts": [0, 48]}},
    ]
    names = {7: "000000000007.jpg", 9: "000000000009.png", 4: "000000000004.png"}  # lossless but for one
    index = {"images": [{"id": i, "file_name": name, "height": 6, "width": 8} for i, name in names.items()],
             "annotations": annotations,
             "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 17, "name": "cat"}]}
    (root / split).mkdir(parents=True)
    (root / "annotations").mkdir()
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(index))
    pixels = {}
    for number, name in names.items():
        Image.fromarray(picture(number)).save(root / split / name)
        pixels[number] = np.asarray(Image.open(root / split / name))
    first, second = box.astype(np.int8), np.full((6, 8), -1, np.int8)
    first[column == 1] = -1
    second[corner == 1], second[0, 0] = 1, 1
    return {"000000000007": (pixels[7], first, 2), "000000000009": (pixels[9], second, 1),
            "000000000004": (pixels[4], np.zeros((6, 8), np.int8), -1)}


def cityscapes(root, split="val"):
    """Two cities, three frames: returns id -> (pixels, label ids (H, W), city)."""
    frames = {}
    for n, name in enumerate(("frankfurt_000000_000294", "frankfurt_000001_005898", "lindau_000000_000019")):
        city = name.split("_")[0]
        labels = np.full((6, 8), 7, np.uint8)  # road
        labels[0], labels[1, :3], labels[2, :2 + n], labels[5] = 23, 26, 24, (3, 29, 18)[n]  # sky, car, person, void
        images, targets = root / "leftImg8bit" / split / city, root / "gtFine" / split / city
        for folder in (images, targets):
            folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(n)).save(images / f"{name}_leftImg8bit.png")
        for kind in ("labelIds", "instanceIds", "color"):
            content = labels if kind == "labelIds" else np.full((6, 8), 200, np.uint8)
            Image.fromarray(content).save(targets / f"{name}_gtFine_{kind}.png")
        frames[name] = (picture(n), labels, city)
    return frames


def class_folders(root, classes, n=2, size=(6, 8), suffix="png"):
    """root/CLASS/0000.png ...: returns path below root -> pixels."""
    found = {}
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            found[f"{name}/{i:04d}.{suffix}"] = picture(100 * c + i, *size)
            Image.fromarray(found[f"{name}/{i:04d}.{suffix}"]).save(root / name / f"{i:04d}.{suffix}")
    return found


def cifar_batches(root, n=3, protocol=4):
    """cifar-10-batches-py with n images a batch: returns name of the batch -> (pixels (n, 32, 32, 3), labels, names).

    Python 2 wrote the official ones; see test_datasets for one in its very opcodes.
    """
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    batches = {}
    for b, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        pixels = np.random.default_rng(b).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        labels, names = [(b + i) % 10 for i in range(n)], [f"frog_s_{i:06d}.png" for i in range(n)]
        rows = pixels.transpose(0, 3, 1, 2).reshape(n, -1)
        content = {b"batch_label": b"a batch", b"labels": labels, b"data": rows,
                   b"filenames": [name.encode() for name in names]}
        (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))
        batches[name] = pixels, labels, names
    return batches
