"""The probes that runs have chosen by name: where their numbers are kept, and what they need of a step."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bpexp.core.arrays import Float64s, Ints
from bpexp.core.histograms import HISTOGRAM, Histograms
from bpexp.core.jacobians import SPECTRUM, Jacobians, spectrum_shapes
from bpexp.core.moments import Before, Factors
from bpexp.core.network import Architecture
from bpexp.core.probes import PROBES
from bpexp.core.records import Columns
from bpexp.core.state import Windows
from bpexp.core.step import Step

__all__ = ["Chosen"]


class Chosen:
    """Of a stack of R runs that look at their layers `points` times; where nothing is chosen, nothing is kept or done."""

    def __init__(self, names: Sequence[str], net: Architecture, runs: int, batch: int, points: int) -> None:
        self.net = net
        self.probes = [PROBES[name] for name in names if name in PROBES]
        self.pairs = any(probe.pairs for probe in self.probes)
        self.layers: dict[str, Float64s] = {probe.column: np.full((runs, points, net.depth), np.nan) for probe in self.probes}
        shapes = spectrum_shapes(net, batch) if SPECTRUM in names else {}
        self.spectra: dict[int, Float64s] = {k: np.full((runs, points, *shape), np.nan) for k, shape in shapes.items()}
        self.histograms = Histograms(net, runs, points, chosen=HISTOGRAM in names)
        self.previous: Factors | None = None

    def remember(self, step: Step) -> None:
        """Of the step that is over, what is compared with the next one, which is to be probed."""
        if self.pairs:
            self.previous = Factors([a.copy() for a in step.neurons.a], [delta.copy() for delta in step.gradients.delta])

    def look(self, step: Step, index: int, alive: NDArray[np.bool]) -> None:
        """Measure what is chosen, the `index`-th time, of a step that has gone back and not updated yet."""
        if not (self.probes or self.spectra or self.histograms.chosen):
            return
        step.reveal()
        self.histograms.look(step.neurons, index, alive)
        grad = step.gradients
        now = Before(step.neurons, grad.delta, grad.exponent, Jacobians(self.net, step.parameters, step.neurons), self.previous)
        for probe in self.probes:
            for k in self.net.layers:
                self.layers[probe.column][alive, index, k - 1] = probe.measure(now, k)[alive]
        for run in map(int, np.flatnonzero(alive)) if self.spectra else ():
            for k, values in now.jacobians.spectra(run).items():
                self.spectra[k][run, index] = values
        self.previous = None

    def windows(self, run: int, points: int) -> Windows:
        """On what the first `points` looks at a run have found."""
        found = {name: values[run, :points] for name, values in (self.layers | {f"spectra/{k}": v for k, v in self.spectra.items()}).items()}
        return found | self.histograms.windows(run, points)

    def windows_on_step(self, step: Step, run: int) -> Windows:
        """On what `remember` will ask of a step that is over."""
        factors = {"a": step.neurons.a, "delta": step.gradients.delta[1:]} if self.pairs else {}
        return {f"before/{name}/{index}": array[run] for name, arrays in factors.items() for index, array in enumerate(arrays)}

    def spectra_of(self, run: int, probed: Ints) -> Columns:
        """The spectra of one run at its first probed steps, a row per singular value; no columns where they are not chosen."""
        if not self.spectra:
            return {}
        parts = []
        for k, values in self.spectra.items():
            at, sample, index = np.indices(values[run, : len(probed)].shape).reshape(3, -1)
            parts.append((probed[at], np.full(len(at), k), sample + 1, index + 1, values[run, : len(probed)].reshape(-1)))
        step, layer, sample, index, log10 = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((index, sample, layer, step))
        found = {"step": step, "layer": layer, "sample": sample, "index": index, "log10_singular_value": log10}
        return {name: column[order] for name, column in found.items()}
