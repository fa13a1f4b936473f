"""`python -m bpexp.walkthrough`: one step of backpropagation by hand, every number shown and held against the core's.

A small net without biases, one sample, squared error, one update.  Each result is printed as a formula, as the formula with the numbers put
in, and as a value, beside what `bpexp.core` computes in float64.  The arithmetic here is its own, scalar by scalar.  Exit code 1 if the two
differ by more than rounding.
"""

import math
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from io import TextIOWrapper
from itertools import pairwise
from operator import add
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, Strict
from rich.console import Console
from rich.text import Text

from bpexp.cli import arguments, refuse
from bpexp.config import ConfigError, Fault, Finite, Help, OneOf
from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Array, Float64s
from bpexp.core.descent import Descent, Method
from bpexp.core.initializers import INITIALIZERS
from bpexp.core.losses import LOSSES
from bpexp.core.network import Architecture, Gradients, Neurons, Parameters, backward, forward
from bpexp.core.optimizers import OPTIMIZERS

__all__ = ["main"]

DESCRIPTION = """One step of backpropagation by hand: every formula, every number, and the core's result beside it.

usage: python -m bpexp.walkthrough [key=value ...], for example 'sizes=[3,4,4,2]' activation=tanh lr=0.1"""
MAX_LAYERS = 6  # more would scroll for minutes
ROUNDING = 1e-10  # of the terms a result is summed from: float64 keeps 1e-16, and an earlier sum that nearly cancelled less
PIPED_COLUMNS, NARROWEST, WIDEST = 100, 60, 120


# ---------------------------------------------------------------------------------------------- numbers that know their origin


def shown(value: float, plus: str = "") -> str:
    """Six significant digits, trailing zeros kept: 0.125700, -1.30000e-07; `plus` stands where a minus would."""
    digits = f"{value + 0.0:#.6g}"  # + 0.0 makes 0 of -0
    return digits if digits.startswith("-") else plus + digits


ATOM, PRODUCT, SUM = range(3)
GLUE = "\N{NO-BREAK SPACE}"  # a space at which no line is broken


@dataclass(frozen=True)
class Number:
    """A value together with the arithmetic that led to it, in symbols and with the numbers put in.

    `terms` is the sum of the absolute values of what was added up: the scale on which rounding has to be judged.
    """

    value: float
    formula: str
    numbers: str
    terms: float
    rank: int = ATOM

    @staticmethod
    def named(name: str, value: float, scale: float = 0.0) -> "Number":
        """A result, or an input, under its name; `scale`: what its rounding has to be judged by, where that is more than its size."""
        digits = shown(value)
        return Number(value, name.replace(" ", GLUE), f"({digits})" if digits.startswith("-") else digits, max(scale, abs(value)))

    @staticmethod
    def constant(value: float, text: str) -> "Number":
        text = text.replace(" ", GLUE)
        return Number(value, text, text, abs(value))

    def __add__(self, other: "Number") -> "Number":
        return self._joined(" + ", other, self.value + other.value, self.terms + other.terms, SUM)

    def __sub__(self, other: "Number") -> "Number":
        return self._joined(f"{GLUE}-{GLUE}", other, self.value - other.value, self.terms + other.terms, SUM)

    def __mul__(self, other: "Number") -> "Number":
        a, b = self.within(PRODUCT), other.within(PRODUCT)
        space = GLUE if self.rank == other.rank == ATOM else " "
        return a._joined(f"{space}*{GLUE}", b, self.value * other.value, self.terms * other.terms, PRODUCT)

    def _joined(self, sign: str, other: "Number", value: float, terms: float, rank: int) -> "Number":
        return Number(value, self.formula + sign + other.formula, self.numbers + sign + other.numbers, terms, rank)

    def within(self, rank: int) -> "Number":
        """Itself as part of an expression of that rank: in parentheses where it binds less tightly."""
        return self if self.rank <= rank else Number(self.value, f"({self.formula})", f"({self.numbers})", self.terms)

    def squared(self) -> "Number":
        base = self.within(ATOM)
        return Number(self.value * self.value, f"{base.formula}**2", f"{base.numbers}**2", self.terms**2)

    def through(self, function: Callable[[float], float], text: str) -> "Number":
        """A function of itself, written by a template with {z} in it; no steeper than 1."""
        text = text.replace(" ", GLUE)
        return Number(function(self.value), text.format(z=self.formula), text.format(z=self.numbers), 1.0 + self.terms, PRODUCT)


def total(terms: Iterable[Number]) -> Number:
    return reduce(add, terms)


# ---------------------------------------------------------------------------------------------- activations, written out


def sigmoid(z: float) -> float:
    """1 / (1 + exp(-z)), for z < 0 in the form that does not overflow."""
    return 1.0 / (1.0 + math.exp(-z)) if z >= 0 else math.exp(z) / (1.0 + math.exp(z))


ONE = Number.constant(1.0, "1")
Slope = Callable[[Number, Number], Number]


@dataclass(frozen=True)
class Written:
    """phi(z), its text with {z} in it, and phi'(z) from z and a = phi(z)."""

    function: Callable[[float], float]
    text: str
    slope: Slope


def relu_slope(_z: Number, a: Number) -> Number:
    return Number(float(a.value > 0), f"({a.formula}{GLUE}>{GLUE}0)", f"({a.numbers}{GLUE}>{GLUE}0)", 1.0)


def erf_slope(z: Number, _a: Number) -> Number:
    bell = z.through(lambda value: math.exp(-value * value), "exp(-{z}**2)")
    return Number.constant(2.0 / math.sqrt(math.pi), "2 / sqrt(pi)") * bell


WRITTEN: dict[str, Written] = {
    "sigmoid": Written(sigmoid, "1 / (1 + exp(-{z}))", lambda _z, a: a * (ONE - a)),
    "tanh": Written(math.tanh, "tanh({z})", lambda _z, a: ONE - a.squared()),
    "relu": Written(lambda z: max(0.0, z), "max(0, {z})", relu_slope),
    "linear": Written(lambda z: z, "{z}", lambda _z, _a: ONE),
    "erf": Written(math.erf, "erf({z})", erf_slope),
}
NAMES = OneOf(WRITTEN)


@dataclass
class Settings:
    """The keys of the command line."""

    sizes: list[Annotated[int, Strict(), Ge(1), Le(8), Help(f"inputs, hidden widths, outputs: 2 to {MAX_LAYERS + 1} numbers")]] = field(
        default_factory=lambda: [2, 3, 1]
    )
    seed: Annotated[int, Strict(), Ge(0), Help("of the sample and the weights")] = 0
    activation: Annotated[str, Strict(), NAMES, AfterValidator(NAMES.check), Help("phi, of every layer")] = "sigmoid"
    lr: Annotated[float, Strict(), Gt(0), Le(1000), Finite, Help("learning rate of the one update")] = 1.0


# ---------------------------------------------------------------------------------------------- the core's results


@dataclass(frozen=True)
class Given:
    """What the walk starts from: a sample x, y and weights W[k] (n_in, n_out), k = 1 … depth."""

    x: Float64s
    y: Float64s
    W: list[Float64s]


def draw(settings: Settings) -> Given:
    """Seeded, and rounded to four decimals, so that what is printed is what is computed with."""
    rng = np.random.default_rng(settings.seed)
    x = rng.standard_normal(settings.sizes[0]).round(4)
    y = rng.integers(1, 10, settings.sizes[-1]) / 10  # within the range of every activation
    W = [INITIALIZERS["xavier"].draw(rng, n_in, n_out).round(4) for n_in, n_out in pairwise(settings.sizes)]
    return Given(x, y, [np.empty(0), *W])


def core_results(settings: Settings, given: Given) -> dict[str, float]:
    """Every number of the walk by its name, from `bpexp.core` in float64."""
    phi = ACTIVATIONS[settings.activation]
    net = Architecture(tuple(settings.sizes), phi, phi, dtype=np.float64)
    parameters, neurons, gradients = Parameters(net, 1), Neurons(net, 1, 1), Gradients(net, 1, 1)
    neurons.a[0][:] = given.x
    for k in net.layers:
        parameters.W[k][:] = given.W[k]
    found = core_forward(net, parameters, neurons, given.y, "")
    loss, z, a = LOSSES["squared_error"], neurons.z[-1], neurons.a[-1]
    loss.delta(z, a, given.y, phi, np.empty_like(z), gradients.delta[-1])
    backward(net, parameters, neurons, gradients)
    for k in net.layers:
        power = int(gradients.exponent[0, k])
        found |= labelled(f"delta_{k}", np.ldexp(gradients.delta[k][0, 0], power)) | labelled(f"dL/dW_{k}", np.ldexp(gradients.W[k][0], power))
    Descent(Method(OPTIMIZERS["sgd"]), parameters, gradients, np.array([settings.lr])).step(0)
    for k in net.layers:
        found |= labelled(f"new W_{k}", parameters.W[k][0])
    return found | core_forward(net, parameters, neurons, given.y, "new ")


def core_forward(net: Architecture, parameters: Parameters, neurons: Neurons, y: Float64s, prefix: str) -> dict[str, float]:
    a = forward(net, parameters, neurons)
    value = np.empty(1)
    LOSSES["squared_error"].value(neurons.z[-1], a, y, np.empty_like(a), value)
    found = {f"{prefix}L": float(value[0])}
    for k in net.layers:
        found |= labelled(f"{prefix}z_{k}", neurons.z[k][0, 0]) | labelled(f"{prefix}a_{k}", neurons.a[k][0, 0])
    return found


def labelled(name: str, values: Array) -> dict[str, float]:
    return {f"{name}[{','.join(map(str, index))}]": float(value) for index, value in np.ndenumerate(values)}


# ---------------------------------------------------------------------------------------------- the walk


@dataclass(frozen=True)
class Step:
    """One result, the arithmetic that led to it, and the core's."""

    name: str
    number: Number
    core: float

    @property
    def agrees(self) -> bool:
        return abs(self.number.value - self.core) <= ROUNDING * self.number.terms


@dataclass(frozen=True)
class Section:
    """Steps under a heading and general formulas; `brief`: values alone, where the arithmetic has been seen before."""

    title: str
    rules: tuple[str, ...]
    brief: bool = False
    steps: list[Step] = field(default_factory=list)


Layers = list[list[Number]]  # [k][j]
Weights = list[list[list[Number]]]  # [k][i][j]


class Walk:
    """Forward, loss, backward, update, forward again, noted down section by section."""

    def __init__(self, settings: Settings, given: Given) -> None:
        self.sizes, self.phi = settings.sizes, WRITTEN[settings.activation]
        self.layers = range(1, len(self.sizes))
        self.core = core_results(settings, given)
        self.sections: list[Section] = []
        x, y = ([Number.named(*item) for item in labelled(name, values).items()] for name, values in (("a_0", given.x), ("y", given.y)))
        W: Weights = [[[Number.named(f"W_{k}[{i},{j}]", w) for j, w in enumerate(row)] for i, row in enumerate(M)] for k, M in enumerate(given.W)]
        z, a = self.forward(x, W)
        self.loss(a[-1], y)
        gradient = self.backward(z, a, W, y)
        new = self.update(W, gradient, Number.named("lr", settings.lr))
        _, a = self.forward(x, new, "new ")
        self.loss(a[-1], y, "new ")

    def section(self, title: str, *rules: str, brief: bool = False) -> None:
        self.sections.append(Section(title, rules, brief))

    def take(self, name: str, number: Number, scale: float = 0.0) -> Number:
        """Note a result down; from here on it goes by its name."""
        self.sections[-1].steps.append(Step(name, number, self.core[name]))
        return Number.named(name, number.value, scale)

    def forward(self, x: list[Number], W: Weights, new: str = "") -> tuple[Layers, Layers]:
        z: Layers = [[]]
        a: Layers = [x]
        for k in self.layers:
            if new:
                self.section(f"The same with the new weights, layer {k}", brief=True)
            else:
                self.section(f"Forward, layer {k}", f"z_{k}[j] = sum over i of a_{k - 1}[i] * W_{k}[i,j]", f"a_{k}[j] = phi(z_{k}[j])")
            sums = [total(a[k - 1][i] * W[k][i][j] for i in range(self.sizes[k - 1])) for j in range(self.sizes[k])]
            z.append([self.take(f"{new}z_{k}[{j}]", number) for j, number in enumerate(sums)])
            outputs = [number.through(self.phi.function, self.phi.text) for number in z[k]]
            a.append([self.take(f"{new}a_{k}[{j}]", number, scale=1.0) for j, number in enumerate(outputs)])  # the core's sigmoid is 1/2 + …
        return z, a

    def loss(self, outputs: list[Number], y: list[Number], new: str = "") -> Number:
        self.section("Loss with the new weights" if new else "Loss", f"L = 0.5 * sum over j of (a_{self.layers[-1]}[j] - y[j])**2")
        return self.take(f"{new}L", Number.constant(0.5, "0.5") * total((a - t).squared() for a, t in zip(outputs, y, strict=True)))

    def backward(self, z: Layers, a: Layers, W: Weights, y: list[Number]) -> Weights:
        gradient: Weights = [[] for _ in a]
        delta: list[Number] = []
        for k in reversed(self.layers):
            if k == self.layers[-1]:
                rule = f"delta_{k}[j] = dL/dz_{k}[j] = (a_{k}[j] - y[j]) * phi'(z_{k}[j])"
                back = [output - target for output, target in zip(a[k], y, strict=True)]
            else:
                rule = f"delta_{k}[i] = dL/dz_{k}[i] = (sum over j of delta_{k + 1}[j] * W_{k + 1}[i,j]) * phi'(z_{k}[i])"
                back = [total(d * w for d, w in zip(delta, row, strict=True)) for row in W[k + 1]]
            self.section(f"Backward, layer {k}", rule, f"dL/dW_{k}[i,j] = a_{k - 1}[i] * delta_{k}[j]")
            slopes = [self.phi.slope(*pair) for pair in zip(z[k], a[k], strict=True)]
            delta = [self.take(f"delta_{k}[{j}]", back[j] * slopes[j]) for j in range(self.sizes[k])]
            gradient[k] = [[self.take(f"dL/dW_{k}[{i},{j}]", ai * dj) for j, dj in enumerate(delta)] for i, ai in enumerate(a[k - 1])]
        return gradient

    def update(self, W: Weights, gradient: Weights, lr: Number) -> Weights:
        new: Weights = [[]]
        for k in self.layers:
            self.section(f"Update, layer {k}", f"new W_{k}[i,j] = W_{k}[i,j] - lr * dL/dW_{k}[i,j]")
            pairs = ([*zip(*rows, strict=True)] for rows in zip(W[k], gradient[k], strict=True))
            new.append([[self.take(f"new W_{k}[{i},{j}]", w - lr * g) for j, (w, g) in enumerate(row)] for i, row in enumerate(pairs)])
        return new


# ---------------------------------------------------------------------------------------------- on the screen


NAME, VALUE = 12, 16  # columns
INTRODUCTION = """One sample x = a_0 with target y, squared error, no biases, one update. Layers are counted from 1, neurons from 0;
W_k[i,j] leads from neuron i of layer k-1 to neuron j of layer k. Each result is shown as a formula, as the formula with the numbers put in
(which Python evaluates after "from math import *"), and as a value, beside the one that bpexp.core computed."""


class Page:
    """Prints a walk: in colour on a terminal, as plain text into a pipe."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        self.console = Console(highlight=False, markup=False, soft_wrap=True)
        self.width = min(max(self.console.width, NARROWEST), WIDEST) if self.console.is_terminal else PIPED_COLUMNS
        self.right, self.wrong, self.bar = ("ok", "DIFFERS", "-") if self.console.options.ascii_only else ("✓", "✗", "─")

    def line(self, *parts: tuple[str, str]) -> None:
        self.console.print(Text.assemble(*parts))

    def paragraph(self, text: str, style: str = "", indent: str = "") -> None:
        for line in textwrap.wrap(text, self.width, initial_indent=indent, subsequent_indent=indent):
            self.line((line, style))

    def heading(self, title: str) -> None:
        self.line()
        self.line((f"{self.bar * 2} {title} {self.bar * (self.width - len(title) - 4)}", "bold"))

    def equation(self, name: str, right: str, style: str = "") -> None:
        """`name = right`, with the equals signs below each other; too long a right side goes on below itself."""
        before = f"  {name:<{NAME}} = "
        lines = textwrap.wrap(right, self.width - len(before), break_long_words=False, break_on_hyphens=False)
        for first, line in zip([before, *[" " * len(before)] * len(lines)], lines, strict=False):
            self.line((first, ""), (line.replace(GLUE, " "), style))

    def given(self, settings: Settings, given: Given) -> None:
        sizes = "-".join(map(str, settings.sizes))
        self.heading(f"Backpropagation by hand: {sizes} neurons, {settings.activation}, lr = {settings.lr:g}")
        self.paragraph(INTRODUCTION)
        self.line()
        phi, z, a = WRITTEN[settings.activation], Number.named("z", 0.0), Number.named("a", 0.0)
        self.equation("a = phi(z)", z.through(phi.function, phi.text).formula)
        self.equation("phi'(z)", phi.slope(z, a).formula)
        rows = [("a_0", given.x), ("y", given.y), *((f"W_{k}[{i},:]", row) for k, M in enumerate(given.W) for i, row in enumerate(M))]
        for name, values in rows:
            self.equation(name, " ".join(f"{shown(value):{GLUE}>9}" for value in values))

    def section(self, section: Section) -> None:
        self.heading(section.title)
        for rule in section.rules:
            self.paragraph(rule, "italic", "  ")
        if section.rules:
            self.line()
        for step in section.steps:
            self.step(step, brief=section.brief)

    def step(self, step: Step, *, brief: bool) -> None:
        name = step.name
        if not brief:
            self.equation(name, step.number.formula, "cyan")
            self.equation("", step.number.numbers)
            name = ""
        value, core = (f"{shown(value, ' '):<{VALUE}}" for value in (step.number.value, step.core))
        mark = (self.right, "green") if step.agrees else (f"{self.wrong} by {abs(step.number.value - step.core):.1e}", "bold red")
        self.line((f"  {name:<{NAME}} = ", ""), (value, "bold"), (f"core {core}", "dim"), mark)

    def verdict(self, walk: Walk) -> bool:
        """What the step did to the loss, and whether all agrees."""
        steps = {step.name: step for section in walk.sections for step in section.steps}
        before, after = (steps[name].number.value for name in ("L", "new L"))
        self.line()
        self.line((f"The step took the loss from {shown(before)} to {shown(after)}.", ""))
        if wrong := [step.name for step in steps.values() if not step.agrees]:
            self.line((f"{len(wrong)} of {len(steps)} results DIFFER from bpexp.core's by more than rounding: {', '.join(wrong)}", "bold red"))
        else:
            self.line((f"All {len(steps)} results agree with bpexp.core's, up to rounding.", "green"))
        return not wrong


def main(argv: Sequence[str]) -> int:
    settings = arguments(Settings, argv, DESCRIPTION)
    if not 2 <= len(settings.sizes) <= MAX_LAYERS + 1:
        given_sizes = f"[{','.join(map(str, settings.sizes))}]"
        refuse(ConfigError([Fault("sizes", given_sizes, f"must be 2 to {MAX_LAYERS + 1} numbers: inputs, hidden widths, outputs")]))
    given, page = draw(settings), Page()
    walk = Walk(settings, given)
    page.given(settings, given)
    for section in walk.sections:
        page.section(section)
    return 0 if page.verdict(walk) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
