"""Products in bfloat16: which operations they are, whose thread, and what is left in float32."""

import threading

import pytest
import torch
import torch.nn.functional as F
from oracles.maps import images, tiny_vit

import fvit
from fvit.models.products import products


def bfloat16(*values):
    return [v.bfloat16() for v in values]


def test_linear_layers_and_convolutions_multiply_in_bfloat16_and_answer_as_they_are_asked():
    x, net, conv = torch.randn(4, 8), torch.nn.Linear(8, 3), torch.nn.Conv2d(3, 2, 3, padding=1)
    with products("cpu", "bfloat16"), torch.no_grad():
        assert torch.equal(net(x), F.linear(*bfloat16(x, net.weight, net.bias)).float())
        pictures = torch.randn(1, 3, 6, 6)
        assert torch.equal(conv(pictures), F.conv2d(*bfloat16(pictures, conv.weight, conv.bias), padding=1).float())
        exact = x @ x.T, x.softmax(1), F.layer_norm(x, (8,))
        named = F.linear(input=x, weight=net.weight, bias=net.bias)
    assert torch.equal(named, F.linear(*bfloat16(x, net.weight, net.bias)).float())
    for got, want in zip(exact, (x @ x.T, x.softmax(1), F.layer_norm(x, (8,))), strict=True):
        assert torch.equal(got, want)
    with products("cpu", "float32"), torch.no_grad():
        assert torch.equal(net(x), F.linear(x, net.weight, net.bias))


def test_attention_keeps_the_rows_of_float32_and_lies_nearer_to_it_than_under_autocast():
    vit, x = fvit.load_vit("scenes"), fvit.load_images("scenes", "val", 4).x
    contexts = {"float32": products("cpu", "float32"), "products": products("cpu", "bfloat16"),
                "autocast": torch.autocast("cpu", torch.bfloat16)}
    found = {}
    for name, context in contexts.items():
        with context, fvit.capture_attention(vit) as maps, torch.no_grad():
            vit(x)
        found[name] = maps.stack()
    rows = found["products"].sum(-1)
    torch.testing.assert_close(rows, torch.ones_like(rows), rtol=0, atol=1e-6)  # bfloat16's softmax: some 1e-3
    error = {name: (attention - found["float32"]).abs().mean() for name, attention in found.items()}
    assert found["products"].dtype == torch.float32 and 0 < error["products"] < 0.8 * error["autocast"]


def test_another_thread_computes_as_it_did():
    vit, x, other = tiny_vit(), images(2), []
    with torch.no_grad():
        want = vit(x)
        with products("cpu", "bfloat16"):
            thread = threading.Thread(target=lambda: other.append(vit(x).detach()))
            thread.start()
            thread.join()
    torch.testing.assert_close(other[0], want, rtol=0, atol=1e-6)


def test_it_is_refused_where_autocast_is():
    with pytest.raises(ValueError, match="precision='bfloat16' on mps"):
        products("mps", "bfloat16")
