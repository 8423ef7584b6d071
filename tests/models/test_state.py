"""Changing a shared module for a while: what its owner set comes back, however contexts and threads overlap."""

import copy
import threading

import pytest
from torch import nn

from fvit.models.state import evaluated, held


class Layer(nn.Module):
    fused = True


def test_what_was_found_comes_back_with_the_last_context():
    layer = Layer()
    first, second = held([layer], "fused", False), held([layer], "fused", False)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # not the one that began last
    assert layer.fused is False
    second.__exit__(None, None, None)
    assert layer.fused is True
    with pytest.raises(KeyError), held([layer, nn.Linear(1, 1)], "fused", False):  # a linear layer has no such flag
        raise KeyError("in the middle")
    assert layer.fused is True


def test_a_context_of_another_thread_takes_nothing_of_ours_for_the_owners():
    layer, entered, leave, seen = Layer(), threading.Event(), threading.Event(), []

    def other():
        with held([layer], "fused", False):
            entered.set()
            assert leave.wait(60)
            seen.append(layer.fused)

    with held([layer], "fused", False):
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(60)
    assert layer.fused is False  # the other goes on
    leave.set()
    thread.join()
    assert seen == [False] and layer.fused is True


def test_evaluated_is_evaluation_mode_for_its_length():
    net = nn.Sequential(nn.Dropout(), nn.Linear(1, 1))
    net.grad_checkpointing = True
    net[1].eval()
    with evaluated(net):
        assert not any(module.training for module in net.modules()) and not net.grad_checkpointing
        assert not copy.deepcopy(net).training
    assert [module.training for module in net.modules()] == [True, True, False] and net.grad_checkpointing
    with evaluated(net.eval()):
        assert net.grad_checkpointing  # nothing trains: the backward pass computes what the forward pass did
