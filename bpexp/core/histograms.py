"""Histograms of the hidden layers' activations: how the outputs f_k = phi(v_k) of a batch are distributed, run by run.

In a plain net f_k is a_k; with skip connections it is what the activation function gives, before anything is added to it.  Each layer's range is cut
into `BINS` equal bins, the last one closed on both sides: the range of phi where that is bounded, else from the lowest to the highest f of the layer.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bpexp.core.activations import Activation
from bpexp.core.arrays import Array, Float64s, Ints
from bpexp.core.network import Architecture, Neurons
from bpexp.core.records import Columns
from bpexp.core.schedule import spread
from bpexp.core.state import Windows

__all__ = ["BINS", "HISTOGRAM", "MOST_STEPS", "Histograms", "histogram"]

HISTOGRAM = "histogram"  # among the probes that are chosen by name, one that is not a number per layer
BINS = 40
MOST_STEPS = 5  # the first probed step, the last one and three between


def histogram(f: Array, phi: Activation) -> tuple[Float64s, Ints]:
    """The ends (2,) of the range of f, and the counts (BINS,) of its bins.

    Where all f are the same, all are in the first bin, and the range has no width.  Where some are not finite, the ends are NaN and the counts 0.
    """
    values: Float64s = f.astype(np.float64).ravel()
    low, high = values.min(), values.max()
    if not np.isfinite(high - low):
        return np.full(2, np.nan), np.zeros(BINS, np.int64)
    if np.isfinite(phi.range).all():
        low, high = phi.range
    places = np.zeros(values.size, np.int64)
    if high > low:
        places = np.minimum((values - low) / (high - low) * BINS, BINS - 1).astype(np.int64)  # towards 0: what a rounding put outside is at the ends
    return np.array([low, high]), np.bincount(places, minlength=BINS)


class Histograms:
    """Those of a stack of R runs that look at their layers `points` times; where they are not chosen, nothing is kept or done."""

    def __init__(self, net: Architecture, runs: int, points: int, *, chosen: bool) -> None:
        self.net, self.layers = net, net.layers[:-1]
        self.looks = spread(np.arange(points), MOST_STEPS) if chosen else np.empty(0, np.int64)  # at which of them there is one
        shape = (runs, len(self.looks), len(self.layers))
        self.ends: Float64s = np.full((*shape, 2), np.nan)
        self.counts: Ints = np.zeros((*shape, BINS), np.int64)

    @property
    def chosen(self) -> bool:
        return len(self.looks) > 0

    def look(self, neurons: Neurons, index: int, alive: NDArray[np.bool]) -> None:
        """Count, if the `index`-th look is one of those at which that is done."""
        for place in np.flatnonzero(self.looks == index):
            for run in np.flatnonzero(alive):
                for at, k in enumerate(self.layers):
                    self.ends[run, place, at], self.counts[run, place, at] = histogram(neurons.f[k][run], self.net.phi(k))

    def windows(self, run: int, points: int) -> Windows:
        """On what the first `points` looks at a run have found."""
        made = int(np.searchsorted(self.looks, points))
        return {f"histograms/{name}": array[run, :made] for name, array in (("ends", self.ends), ("counts", self.counts)) if self.chosen}

    def columns(self, run: int, probed: Sequence[int] | Ints) -> Columns:
        """Those of one run at its first probed steps, a row per bin; no columns where they are not chosen."""
        if not self.chosen:
            return {}
        made = int(np.searchsorted(self.looks, len(probed)))
        counts, ends = self.counts[run, :made], self.ends[run, :made, :, None]
        look, layer, index = (part.ravel() for part in np.indices(counts.shape))
        edges = ends[..., 0] + (ends[..., 1] - ends[..., 0]) * (np.arange(BINS + 1) / BINS)
        steps = np.asarray(probed, np.int64)[self.looks[:made]]
        return {
            "step": steps[look],
            "layer": layer + 1,
            "bin": index + 1,
            "left": edges[..., :-1].ravel(),
            "right": edges[..., 1:].ravel(),
            "count": counts.ravel(),
        }
