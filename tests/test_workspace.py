"""A network in training reuses the memory of arrays that are no longer referenced, and no other."""

import copy
import gc
import pickle
import tracemalloc

import numpy as np
import pytest

import tinyml
from conftest import peer
from support.compare import assert_same_bits
from tinyml.layers import AvgPool2D, BatchNorm2D, Conv2D, MaxPool2D, MaxUnpool2D, ReLU
from tinyml.net import Sequential
from tinyml_backends import memory, threads
from tinyml_backends.memory import Workspace


def network(side=64):
    pool = MaxPool2D("pool", (16, side, side), 2, 2)
    half = side // 2
    layers = [
        Conv2D("conv1", (3, side, side), 16, 3, padding=1, rng=0),
        BatchNorm2D("norm", (16, side, side)),
        ReLU("relu"),
        pool,
        MaxUnpool2D("unpool", (16, half, half), 2, 2, pool=pool),
        Conv2D("conv2", (16, side, side), 4, 3, padding=1, rng=1),
        AvgPool2D("mean", (4, side, side), 2, 2),
    ]
    return Sequential(layers)


def images(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.host
@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_a_second_step_allocates_no_large_buffer(monkeypatch, name):
    """Except for the columns of convolution, which have a fixed size and are released at once."""
    if name == "numba":
        peer("numba")
    monkeypatch.setattr(threads, "thread_count", lambda: 2)
    with tinyml.use_backend(name):
        model, x = network(), images(32, 3, 64, 64)
        smallest = 32 * 16 * 32 * 32  # bytes of the winners; every float array is larger
        g = images(32, 4, 32, 32)

        def step():
            model.zero_gradients()
            model(x)
            model.backward(g)

        step()
        step()
        gc.collect()
        tracemalloc.start()
        try:
            step()
            before, _ = tracemalloc.get_traced_memory()
            # apart from a thread's scratch buffer, which is allocated once
            but_scratch = tracemalloc.Filter(False, "*/scratch.py")
            snapshot = tracemalloc.take_snapshot().filter_traces([but_scratch])
            kept = [trace for trace in snapshot.traces if trace.size >= smallest]
            tracemalloc.reset_peak()
            step()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert not kept
    activations = 32 * 16 * 64 * 64 * 4
    assert peak - before < activations + 2 * (2 << 21) + (1 << 20)  # columns in two threads


def test_results_are_those_of_fresh_memory(backend):
    """Three steps on one network, and each of them on a new one, have the same bits."""
    model = network(16)
    for seed in range(3):
        x, g = images(8, 3, 16, 16, seed=seed), images(8, 4, 8, 8, seed=9 + seed)
        fresh = network(16)
        results = []
        for one in (model, fresh):
            one.zero_gradients()
            y = one(backend.asarray(x))
            gradient = one.backward(backend.asarray(g))
            arrays = (y, gradient, *(p.gradient for p in one.parameters))
            results.append([backend.to_numpy(a) for a in arrays])
        for ours, expected in zip(*results, strict=True):
            assert_same_bits(ours, expected)


def test_what_a_caller_holds_stays(backend):
    """Results, intermediates and switches of earlier steps are never written again."""
    model = network(32)
    held, copies = [], []
    for seed in range(4):
        y = model(backend.asarray(images(8, 3, 32, 32, seed=seed)))
        pool, conv = model.layers[3], model.layers[5]
        gradient = model.backward(backend.asarray(images(8, 4, 16, 16, seed=seed)))
        held += [y, pool.switches.winners, conv.saved[2:, 1:], gradient]
        copies += [backend.to_numpy(a).copy() for a in held[-4:]]
    for array, copied in zip(held, copies, strict=True):
        assert_same_bits(np.ascontiguousarray(backend.to_numpy(array)), copied)


def test_switches_of_a_network_can_be_kept(backend):
    model = network(16)
    x = backend.asarray(images(8, 3, 16, 16))
    model(x)
    switches = model.layers[3].switches
    kept = switches.copy()
    model(x * 2)
    assert_same_bits(backend.to_numpy(kept.winners), backend.to_numpy(switches.winners))


@pytest.mark.host
class TestMemory:
    dtype = np.dtype("f4")
    shape = (1 << 15,)

    def address(self, array):
        return array.__array_interface__["data"][0]

    def test_memory_returns_with_the_last_view(self):
        workspace = Workspace()
        array = workspace.empty(self.shape, self.dtype)
        address, view = self.address(array), array[5:].reshape(-1)[::2]
        del array
        assert self.address(workspace.empty(self.shape, self.dtype)) != address
        del view
        assert self.address(workspace.empty(self.shape, self.dtype)) == address

    def test_a_dtype_of_the_same_size_takes_it(self):
        workspace = Workspace()
        address = self.address(workspace.empty(self.shape, self.dtype))
        again = workspace.empty((4, 1 << 13), np.dtype("i4"))
        assert self.address(again) == address
        assert (again.dtype, again.shape) == (np.int32, (4, 1 << 13))
        assert again.flags.c_contiguous
        assert again.flags.writeable

    def test_small_arrays_are_new(self):
        workspace = Workspace()
        assert workspace.empty((3,), self.dtype).flags.owndata

    def test_only_where_it_is_in_use(self):
        workspace = Workspace()
        with workspace.in_use():
            assert not memory.empty(np, self.shape, self.dtype).flags.owndata
            zeros = memory.zeros(np, self.shape, self.dtype)
            zeros += 1
            del zeros
            assert not memory.zeros(np, self.shape, self.dtype).any()
        assert memory.empty(np, self.shape, self.dtype).flags.owndata
        assert memory.zeros(np, self.shape, self.dtype).flags.owndata

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda w: pickle.loads(pickle.dumps(w))])
    def test_copies_start_empty(self, duplicate):
        workspace = Workspace()
        workspace.empty(self.shape, self.dtype)
        assert workspace._free
        assert not duplicate(workspace)._free

    def test_a_network_keeps_none_in_use(self):
        """After `eval`, another shape, or `to`, memory kept for the next step is released."""
        model = network(32)
        x = images(8, 3, 32, 32)
        for end in (lambda: model.eval()(x), lambda: model(x[:3]), lambda: model.to("numpy")):
            model.train()(x)
            model(x)
            assert any(model._workspace._free.values())
            end()
            workspace = model._workspace
            assert workspace is None or sum(map(len, workspace._free.values())) <= 1
