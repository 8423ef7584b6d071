"""Where images come from, behind one verb: the embedded scenes, or a data set on disk."""

from fvit.base.checks import check_source
from fvit.data.images import Images
from fvit.data.scenes import load_scenes


def load_images(source="scenes", split=None, n=None, *, seed=0, start=0, root=None, size=None, objects=None,
                masks=None, void=None) -> Images:
    """Images with classes, masks, names and clusters, all in memory; `stream_images` gives data sets in batches.

    source   "scenes", the embedded data set | "imagenet" | "imagenet-seg" | "coco" | "cityscapes" | "cifar10" |
             "caltech101" | a folder of class folders, CLASS/* or SPLIT/CLASS/*; y counts the training classes
             whichever split is read, or is the number that a folder is named by (docs/data.md)
    split    default the one to evaluate on, "test" or else "val"; a set without splits is all "test". "validation",
             "valid", "training" and "testing" are understood. Scenes: "train", "val", "test", and with two digits each
             "pairs", "train_pairs", "val_pairs". Caltech-101: also "train_natural", and those with an outline,
             "outlined", "train_outlined", "val_outlined" (docs/data.md)
    n        number of images; default 64, or all of a data set that has fewer
    seed     scenes: of the endless stream (split, seed), of which number start ... start + n - 1 are made. Data sets:
             of the order in which start counts, see `datasets.choose`; a broken image is left out, see `.skipped`
    root     folder of a named data set; default $FVIT_DATA/<name>
    size     pixels a side, or (height, width); default 224, and 32 for CIFAR-10. Bilinear with antialiasing, masks by
             nearest pixel, aspect not kept: Resize((224, 224)) of the published evaluations. Scenes are 64
    objects  of "coco" and "cityscapes": names of the classes that count as object; default all, and all road users
    masks    of a folder of one's own: a folder with a mask image for each picture, of the same relative path and stem;
             the pictures may then lie in no class folders, and y is -1. Encodings as of `mask_files.MaskFiles`
    void     the value of these masks that is to be ignored; default 255 beside 1, 128 beside 255

    Raises ValueError for an unknown source, split or option, or numbers out of range; FileNotFoundError or OSError for
    a data set or an index that is absent or broken, saying how to get it. Nothing is downloaded.
    """
    if str(check_source(source)) != "scenes":
        from fvit.data.streams import stream_images  # late: only data sets on disk need it

        options = {"seed": seed, "start": start, "root": root, "size": size, "objects": objects,
                   "masks": masks, "void": void}
        return next(iter(stream_images(source, split, n, batch_size=64 if n is None else n, **options)))
    options = {"root": root, "size": size, "objects": objects, "masks": masks, "void": void}
    if given := [name for name, value in options.items() if value is not None]:
        raise ValueError(f"{given[0]}= is for data sets on disk; scenes are drawn, 64x64; leave it out")
    return load_scenes("test" if split is None else split, 64 if n is None else n, seed=seed, start=start)
