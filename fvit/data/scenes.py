"""The embedded data set: real handwritten digits on real photographs, 64x64, with a pixel-exact mask.

Digits are scikit-learn's `load_digits` (8x8 scans), photographs those of fvit.data.photographs: no download, and those
of train, validation and test are disjoint. A scene is a pure function of (split, seed, index), and every photograph of
a split comes once in each round of as many scenes; colour carries no class information; distractor strokes see to it
that "any blob" is no answer. Our own design.
"""

import colorsys
from functools import cache

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from fvit.base import checks, rng
from fvit.data.images import Images
from fvit.data.photographs import is_grey, names, photograph

SIZE = 64  # pixels a side
DIGITS = {"train": slice(0, 1200), "val": slice(1200, 1400), "test": slice(1400, None)}  # file order; writers unknown
SPLITS = {  # split: (sources of digits and photographs, digits in a scene)
    "train": ("train", 1), "val": ("val", 1), "test": ("test", 1),
    "pairs": ("test", 2), "train_pairs": ("train", 2), "val_pairs": ("val", 2)}
CLASS_NAMES = tuple("0123456789")
LUMA = np.array([0.299, 0.587, 0.114])
MIN_CONTRAST = 0.2  # luminance step that nine tenths of the digit's rim must show


@cache
def digits(source: str) -> tuple[np.ndarray, np.ndarray]:
    """Legible digits of one source: (n, 8, 8) in [0, 1] and their classes (n,).

    A scan whose five nearest neighbours among all scans mostly have another label is left out as ambiguous (under 2 %).
    """
    from sklearn.datasets import load_digits
    from sklearn.neighbors import KNeighborsClassifier

    scans, labels = load_digits(return_X_y=True)
    neighbours = KNeighborsClassifier(6).fit(scans, labels).kneighbors(scans, return_distance=False)[:, 1:]
    legible = (labels[neighbours] == labels[:, None]).sum(1) >= 3
    part = DIGITS[source]
    return scans.reshape(-1, 8, 8)[part][legible[part]] / 16, labels[part][legible[part]]


def _crop(g: np.random.Generator, name: str) -> np.ndarray:
    """A random crop of a photograph at a random zoom and focus, (SIZE, SIZE, 3) in [0, 1]."""
    photo = photograph(name)
    side = g.uniform(0.25, 0.9) * min(photo.size)
    left, top = g.uniform(0, photo.width - side), g.uniform(0, photo.height - side)
    detail = int(g.integers(20, 49))  # lines kept: a near digit on a far, slightly defocused scene
    crop = photo.resize((detail, detail), Image.Resampling.BOX, box=(left, top, left + side, top + side))
    pixels = np.asarray(crop.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.float64) / 255
    pixels = pixels[:, ::-1] if g.random() < 0.5 else pixels
    return pixels ** g.uniform(0.6, 1.6, size=3) if is_grey(name) else pixels  # toned, so that grey says nothing


def _photograph_of(split: str, seed: int, index: int) -> str:
    """Its name: each round of scenes shows every photograph of the split once, in an order of its own."""
    known = names(SPLITS[split][0])
    number, place = divmod(index, len(known))
    return known[rng.numpy_generator(seed, "photographs", split, number).permutation(len(known))[place]]


def photograph_of(image_id: str) -> str:
    """Name of the photograph that the scene of an id, such as "test-0-17", stands on; no image is made."""
    split, seed, index = image_id.rsplit("-", 2)
    return _photograph_of(checks.check_choice(split, SPLITS, "split"), int(seed), int(index))


def _background(g: np.random.Generator, source: str, name: str) -> np.ndarray:
    """Background (SIZE, SIZE, 3) from a photograph; training also sees recoloured, turned, mixed ones."""
    pixels = _crop(g, name)
    if source == "train":  # the photographs are few: without this the ViT learns their colours
        pixels = np.rot90(pixels, g.integers(4))[:, :, g.permutation(3)]
        if g.random() < 0.3:
            pixels = 1 - pixels
        if g.random() < 0.4:
            share = g.uniform(0.3, 0.7)
            other = _crop(g, str(g.choice(names(source)))) if g.random() < 0.6 else _one_over_f(g)
            pixels = share * pixels + (1 - share) * other
        pixels = np.clip((pixels - 0.5) * g.uniform(0.6, 1.3) + g.uniform(0.3, 0.7), 0, 1)
    return pixels


def _one_over_f(g: np.random.Generator) -> np.ndarray:
    """A coloured random texture whose amplitude falls as a power of the frequency, as in natural images."""
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None])
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(g.standard_normal((3, SIZE, SIZE))) / frequency ** g.uniform(1.0, 2.0)
    spectrum[:, 0, 0] = 0
    texture = np.fft.irfft2(spectrum, s=(SIZE, SIZE)).transpose(1, 2, 0)
    return np.clip(0.5 + 0.2 * texture / texture.std() + g.uniform(-0.2, 0.2, size=3), 0, 1)


def _colour(g: np.random.Generator) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(g.random(), g.uniform(0.3, 0.9), g.uniform(0.25, 1.0)))


def _digit_alpha(g: np.random.Generator, scan: np.ndarray, centre: np.ndarray, height: float) -> np.ndarray:
    """Opacity (SIZE, SIZE) in [0, 1] of a smoothly upsampled scan, turned, sheared and stretched a little."""
    angle, shear, stretch = np.radians(g.uniform(-12, 12)), g.uniform(-0.15, 0.15), g.uniform(0.9, 1.12)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    pixels_per_cell = height / 8 * turn @ np.array([[1, 0], [shear, stretch]])
    to_scan = np.linalg.inv(pixels_per_cell)
    offset = 5.5 - to_scan @ centre
    values = ndimage.affine_transform(np.pad(scan, 2), to_scan, offset, output_shape=(SIZE, SIZE), order=3)
    return np.clip((values - 0.3) / 0.3, 0, 1)


def _paint(pixels: np.ndarray, alpha: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return pixels * (1 - alpha[..., None]) + colour * alpha[..., None]


def _paint_stroke(g: np.random.Generator, pixels: np.ndarray, free: np.ndarray) -> np.ndarray:
    """A short curved stroke in a colour of its own, kept off the digits: shorter than any digit, as thick as one."""
    start = g.uniform(4, SIZE - 4, size=2)
    heading, bend, length = g.uniform(0, 2 * np.pi), g.uniform(-2.5, 2.5), g.uniform(6, 15)
    s = np.linspace(0, 1, 12)
    turn = heading + bend * s
    path = start + np.cumsum(np.stack([np.sin(turn), np.cos(turn)], 1), 0) * length / 12  # (12, 2)
    down, across = (path.T[:, :, None] - np.arange(SIZE)) ** 2  # (12, SIZE) each
    distance = np.sqrt((down[:, :, None] + across[:, None]).min(0))
    return _paint(pixels, np.clip(g.uniform(1.2, 2.4) - distance + 0.5, 0, 1) * free, _colour(g))


def _paint_digit(g: np.random.Generator, pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Tint a digit so that it stands out *where it lies*: by its colour if one is found, else with a soft halo."""
    mask = alpha > 0.5
    rim = ndimage.binary_dilation(mask, iterations=3) & ~mask
    spread = ndimage.gaussian_filter(ndimage.binary_dilation(mask, iterations=2).astype(float), 1.5)[..., None]
    for halo in (0.0, 0.0, 0.0, 0.0, 0.3, 0.6, 0.9):
        colour = _colour(g)
        light = colour @ LUMA
        opposite = 0.0 if light > 0.5 else 1.0
        behind = pixels + halo * spread * (opposite - pixels)
        if np.quantile(np.abs(behind[rim] @ LUMA - light), 0.1) >= MIN_CONTRAST:
            break
    return _paint(behind, alpha, colour)


def _place(g: np.random.Generator, n_digits: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres (n, 2) in pixels and heights (n,) of the digits: inside the border, pairs side by side."""
    if n_digits == 1:
        height = g.uniform(28, 44, size=1)
        return g.uniform(height / 2 + 2, SIZE - height / 2 - 2, size=(1, 2)), height
    height = g.uniform(26, 32, size=2)
    across = np.array([g.uniform(15, 18), g.uniform(46, 49)])
    return np.stack([g.uniform(height / 2 + 2, SIZE - height / 2 - 2), across], 1), height


def scene(split: str, seed: int, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """One scene: image (SIZE, SIZE, 3) uint8, classes (n,), masks (n, SIZE, SIZE) bool, name of its photograph."""
    source, n_digits = SPLITS[split]
    g = rng.numpy_generator(seed, "scene", split, index)
    photo = _photograph_of(split, seed, index)
    pixels = _background(g, source, photo)
    scans, labels = digits(source)
    classes = g.choice(10, size=n_digits, replace=False)
    centres, heights = _place(g, n_digits)
    alphas = [_digit_alpha(g, scans[g.choice(np.flatnonzero(labels == c))], centre, height)
              for c, centre, height in zip(classes, centres, heights, strict=True)]
    free = ~ndimage.binary_dilation(np.max(alphas, 0) > 0, iterations=2)
    for _ in range(g.integers(2, 6)):
        pixels = _paint_stroke(g, pixels, free)
    for alpha in alphas:
        pixels = _paint_digit(g, pixels, alpha)
    masks = np.stack([a > 0.5 for a in alphas])
    return np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8), classes, masks, photo


def scene_batch(split: str, seed: int, indices: range) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str]]:
    """Scenes as tensors: x (B, 3, H, W) uint8, y (B, n), masks (B, n, H, W) bool, photographs."""
    pixels, classes, masks, photos = zip(*(scene(split, seed, i) for i in indices), strict=True)
    x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    return x, torch.from_numpy(np.stack(classes)), torch.from_numpy(np.stack(masks)), list(photos)


def load_scenes(split: str = "test", n: int = 64, *, seed: int = 0, start: int = 0) -> Images:
    """Scenes number start ... start + n - 1 of the endless stream named by (split, seed); see `fvit.load_images`.

    Raises ValueError for an unknown split, or n < 1.
    """
    checks.check_choice(split, SPLITS, "split")
    n, start, seed = checks.check_count(n, "n"), checks.check_count(start, "start", least=0), checks.check_seed(seed)
    x, y, mask, photos = scene_batch(split, seed, range(start, start + n))
    single = SPLITS[split][1] == 1
    ids = [f"{split}-{seed}-{i}" for i in range(start, start + n)]
    return Images(x=x.float() / 255, y=y[:, 0] if single else y, mask=(mask[:, 0] if single else mask).to(torch.int8),
                  ids=ids, groups=photos, class_names=CLASS_NAMES)
