"""AttnLRP beside its authors' package, where that is installed: pip install --no-deps lxt==2.1 zennit==0.5.1."""

import pytest
import torch
from explanations.test_attn_lrp import CLASSES, LAYOUTS, X, made
from oracles.attn_lrp import SETTINGS, relevance

from fvit.explanations.passes import explain

pytest.importorskip("zennit", reason="zennit is not installed: pip install --no-deps lxt==2.1 zennit==0.5.1")
pytest.importorskip("lxt", reason="lxt is not installed: pip install --no-deps lxt==2.1 zennit==0.5.1")


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "distilled"])  # of two heads, which it has not
def test_relevance_is_that_of_lxt(layout, setting):
    vit, (gamma, conv_gamma) = made(layout), SETTINGS[setting]
    want = relevance(vit.backbone, (X - 0.5) / 0.5, CLASSES, gamma, conv_gamma)
    got = explain(vit, X, "attn_lrp", CLASSES, raw=True, gamma=gamma, conv_gamma=conv_gamma)
    assert ((got - want).flatten(1).norm(dim=1) <= 1e-6 * want.flatten(1).norm(dim=1)).all()
    assert torch.is_tensor(want) and want.abs().sum() > 0
