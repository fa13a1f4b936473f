"""A training step works in arrays that exist before it: none is allocated in the steady state."""

import gc
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from bpexp.core.arrays import Array
from bpexp.core.training import Split, Training
from tests.core.nets import DTYPES, architecture, draw, make_task, start

LARGE, SMALL, SAMPLES = 20_000, 3, 64  # a net of wide and narrow layers in turn: a row of a wide one outweighs NumPy's own buffer
SMALL_CHANGE = 4096  # bytes of Python objects: views, slices, exponents of one number per run


def wide_net(loss: str, batch_size: int, dtype: type, *, bias: bool) -> Training:
    net = architecture([LARGE, SMALL, LARGE, SMALL, LARGE], "sigmoid", "softmax" if loss == "cross_entropy" else "sigmoid", bias=bias, dtype=dtype)
    rng = np.random.default_rng(0)
    x: Array = rng.random((SAMPLES, LARGE), np.float32).astype(dtype)
    y: Array = np.eye(SAMPLES, LARGE, dtype=dtype)
    task = make_task(net, 12, batch_size, loss, probes=[0, 12], data=Split(x, y, x[:2], y[:2], classes=True))
    return start(task, draw(net, [0]), [0.1], [0])


def blocks() -> tuple[int, int]:
    """How many blocks NumPy's arrays hold now, and their bytes."""
    numpys = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
    traces = tracemalloc.take_snapshot().filter_traces([numpys]).traces
    return len(traces), sum(trace.size for trace in traces)


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("batch_size", [1, 32, SAMPLES])
@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_allocates_no_array(dtype: type, loss: str, batch_size: int, bias: bool) -> None:
    """None remains after two steps, and none of a layer's size lives within one.

    What a ufunc may buffer, getbufsize() entries of each of two operands that are broadcast, is NumPy's and does not grow with the net.
    """
    advance = wide_net(loss, batch_size, dtype, bias=bias).advance()
    for _ in range(4):
        next(advance)
    gc.collect()
    row = LARGE * np.dtype(dtype).itemsize
    allowed = 2 * np.getbufsize() * np.dtype(dtype).itemsize + SMALL_CHANGE
    assert allowed < row
    before = blocks()
    for _ in range(2):
        start_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        next(advance)
        assert tracemalloc.get_traced_memory()[1] - start_bytes < allowed
    assert blocks() == before


@pytest.mark.usefixtures("traced")
def test_an_array_would_be_seen() -> None:
    before = blocks()
    kept = np.empty(LARGE)
    assert blocks() == (before[0] + 1, before[1] + kept.nbytes)
