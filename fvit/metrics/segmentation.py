"""Does a map show where the object is? Scores of an explanation taken as a segmentation, image by image and pooled."""

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from fvit.base.checks import check_tensor
from fvit.metrics.maps import to_pixels

COLUMNS = "correct labelled inter_bg inter_fg union_bg union_fg average_precision f1".split()
PIXEL_COUNTS = COLUMNS[:6]


class SegmentationScores(pd.DataFrame):
    """Scores of one map in each row; subsets and concatenations keep `summary`, so it can be pooled over any of them.

    correct, labelled     pixels whose class is right, and that have one
    inter_bg, inter_fg    pixels of the class, background or object, in both map and mask; union_bg, union_fg: in either
    average_precision     of both classes pooled, in [0, 1]; NaN without a labelled pixel
    f1                    of the object's pixels, 2 inter_fg / (inter_fg + union_fg); NaN where map and mask have none
    """

    @property
    def _constructor(self):
        return SegmentationScores

    def summary(self) -> pd.Series:
        """Scores of the whole table: pixel_accuracy, mIoU, mAP, mF1, each in [0, 1], and n, the number of images.

        Accuracy and the two IoU are ratios of sums over images, mIoU the mean of the two; mAP and mF1 are means over
        the images that have them. NaN if no pixel is labelled.
        Note: a class that occurs in no mask and in no map has IoU 0, as in the reference code.
        """
        total = self[PIXEL_COUNTS].sum()
        at_least_one = total.clip(lower=1)  # in the reference, 2 ** -52 is added: the same where there is a pixel
        iou = [total[f"inter_{c}"] / at_least_one[f"union_{c}"] for c in ("bg", "fg")]
        scores = {"pixel_accuracy": total.correct / at_least_one.labelled, "mIoU": sum(iou) / 2,
                  "mAP": self.average_precision.mean(), "mF1": self.f1.mean()}
        if total.labelled == 0:
            scores = dict.fromkeys(scores, np.nan)
        return pd.Series({**scores, "n": len(self)})


def segmentation_scores(map, mask) -> SegmentationScores:
    """Scores of maps as segmentations of the object: a pixel is object where its map is greater than the map's mean.

    map       (B, h, w) or (B, H, W), any real values; a coarse map is first interpolated to the mask's size
    mask      (B, H, W): 1 object, 0 background, -1 ignore: left out of every score, though not of the map's mean
    returns   DataFrame, one row per image, see SegmentationScores for its columns; `.summary()` pools them

    A map is scaled to [0, 1] first. A constant map is background everywhere, with average precision 1/2. Average
    precision ranks 2 x labelled items, scores (1 - map, map) against (mask == 0, mask == 1), in the precision of the
    map, as in the reference code.

    Raises ValueError for other shapes, a mask with other values, and maps with NaN or infinite values.
    Source: Chefer et al. 2021, evaluation code (docs/reference-code.md, 3.1).
    Note: F1 is over the image; theirs is over each row of pixels (docs/reference-code.md, fault 3).
    """
    mask = check_tensor(mask, "mask").detach().cpu()
    if mask.ndim != 3 or 0 in mask.shape:
        pairs = "; for pair scenes give the mask of one object, mask[:, 0]" if mask.ndim == 4 else ""
        raise ValueError(f"mask has shape {tuple(mask.shape)}, wanted (B, H, W), one mask an image{pairs}")
    if len(other := mask[(mask != 0) & (mask != 1) & (mask != -1)]):
        raise ValueError(f"mask has the value {other[0].item()}, wanted 1 object, 0 background, -1 ignore; relabel it")
    map = to_pixels(map, tuple(mask.shape[1:]))
    if len(map) != len(mask):
        raise ValueError(f"{len(map)} maps and {len(mask)} masks, wanted one mask for each map")
    rows = [_scores(one.numpy(), truth.numpy()) for one, truth in zip(map, mask, strict=True)]
    return SegmentationScores(rows, columns=COLUMNS)


def _scores(values, mask):
    """A row of the table for one image: values (H, W) real, mask (H, W)."""
    if values.max() / 2 - values.min() / 2 > np.finfo(values.dtype).max / 2:
        values = values / 2  # their range would be infinite
    low, high = values.min(), values.max()
    scaled = (values - low) / (high - low) if high > low else np.full_like(values, 0.5)  # 1/2: 1 - map ties with map
    found, labelled = scaled > scaled.mean(dtype=np.float64), mask >= 0
    found, scaled, mask = found[labelled], scaled[labelled], mask[labelled]  # (labelled,) each
    inter = [np.count_nonzero((found == c) & (mask == c)) for c in (0, 1)]
    union = [np.count_nonzero((found == c) | (mask == c)) for c in (0, 1)]
    precision = average_precision_score(np.r_[mask == 0, mask == 1], np.r_[1 - scaled, scaled]) if mask.size else np.nan
    f1 = 2 * inter[1] / (inter[1] + union[1]) if union[1] else np.nan
    return sum(inter), mask.size, *inter, *union, precision, f1


SEGMENTATION = "labelled inter_bg inter_fg average_precision f1".split()  # the other columns follow from these
