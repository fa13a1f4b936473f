"""The numbers of `python -m bpexp.theory`, each a row: symbol, value, what it is, and the equation or the paper that it comes from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite, log10

import numpy as np

from bpexp.core.activations import ACTIVATIONS, Activation
from bpexp.report import words
from bpexp.report.theory_keys import TheoryConfig
from bpexp.theory import relu
from bpexp.theory.jacobian import squared_singular_values
from bpexp.theory.limits import PLATEAUS, floors, input_lost_at, layers_until, plateau
from bpexp.theory.mean_field import NoCriticalPointError, NoFixedPointError, Settled, critical, settled
from bpexp.theory.narrow import Lost, lost_per_layer, lost_to_width
from bpexp.theory.profile import Profile, profile

__all__ = ["Net", "Row", "Section", "sections"]

DECIMALS = 10  # of what is a sum of logarithms: beyond lie the roundings of theory's means
NONE = "none"


@dataclass(frozen=True)
class Row:
    """A number in words and digits."""

    symbol: str
    value: str
    name: str
    source: str


@dataclass(frozen=True)
class Section:
    """Rows that belong together."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Net:
    """The net that is asked about, and what the modules of theory say of it."""

    config: TheoryConfig

    @classmethod
    def of(cls, config: TheoryConfig) -> "Net":
        return cls(config)

    @property
    def phi(self) -> Activation:
        return ACTIVATIONS[self.config.activation]

    @property
    def text(self) -> str:
        it = self.config
        width = "endlessly wide layers" if it.width is None else f"layers of {it.width:,} neurons"
        return f"{it.depth:,} {it.activation} {width}, σw² = {it.sigma_w2:g}, σb² = {it.sigma_b2:g}; mean square of an input {it.q_input:g}"

    @property
    def file_name(self) -> str:
        """A name that tells all keys that the figure hangs on."""
        it = self.config
        told = {"w": it.sigma_w2, "b": it.sigma_b2, "q": it.q_input, "depth": it.depth, "width": it.width}
        return "-".join([it.activation, *(f"{key}{value!r}".removesuffix(".0") for key, value in told.items() if value is not None)])

    @cached_property
    def profile(self) -> Profile:
        """Of as many layers, the last one's output included; norms don't hang on the width, entries do."""
        it = self.config
        return profile(self.phi, (it.width or 1,) * (it.depth + 1), it.sigma_w2, it.sigma_b2, it.q_input, output=self.phi)

    @cached_property
    def lost(self) -> Lost | None:
        """What the width takes from a sample's norms; None for endlessly wide layers."""
        it = self.config
        if it.width is None:
            return None
        return lost_to_width(self.phi, self.profile.sizes, [it.sigma_w2] * it.depth, it.sigma_b2, self.profile.log10_q)

    @cached_property
    def settled(self) -> Settled | None:
        """Where the layers settle; None where the variance of z grows without end."""
        try:
            return settled(self.phi, self.config.sigma_w2, self.config.sigma_b2)
        except NoFixedPointError:
            return None


def sections(net: Net) -> list[Section]:
    """All that is defined for the net."""
    parts: dict[str, Callable[[Net], Iterator[Row]]] = {
        "where the layers settle": _fixed_point,
        f"from layer {net.config.depth:,} back to layer 1": _whole_net,
        "singular values of the Jacobian": _jacobian,
        "what numbers can't hold": _limits,
        "random widths: exact laws": _exact_laws,
        f"loss of a net whose output ignores its input, {net.config.classes:,} classes": _plateaus,
    }
    found = [Section(title, tuple(rows(net))) for title, rows in parts.items()]
    return [section for section in found if section.rows]


def digits(x: float) -> str:
    """Eight of them, without rounding errors around 0."""
    if not isfinite(x):
        return "∞" if x == inf else f"{words.MINUS}∞"
    return f"{x:.8g}".replace("-", words.MINUS)


def decades(x: float) -> str:
    """A power of ten in digits."""
    return digits(round(x, DECIMALS) + 0.0 if isfinite(x) else x)


def _fixed_point(net: Net) -> Iterator[Row]:
    it, found = net.config, net.settled
    if found is None:
        yield Row("q*", NONE, "the variance of z grows from layer to layer without end", "q → σw² E[φ(z)²] + σb²; Poole et al. 2016, eq. 3")
    else:
        yield Row("q*", digits(found.q), "variance of z", "q* = σw² E[φ(z)²] + σb²; Poole et al. 2016, eq. 3")
        yield Row("c*", digits(found.c), "correlation of two samples", "c-map; Poole et al. 2016, eq. 5")
        yield Row("χ₁", digits(found.chi), "factor of ‖δ‖² per layer", "σw² E[φ'(z)²]; Schoenholz et al. 2017, eq. 5")
        yield Row("κ", digits(found.kappa), "how uneven the slopes are", "E[φ'⁴]/E[φ'²]²")
        grows = "grows e-fold in minus so many" if found.gradient_depth < 0 else "falls to 1/e"
        yield Row("ξ_grad", digits(found.gradient_depth), f"layers in which ‖δ‖² {grows}", f"{words.MINUS}1/ln χ₁; Schoenholz et al. 2017, eq. 17")
        source = f"{words.MINUS}1/ln σw² E[φ'(u₁)φ'(u₂)] at c*; Schoenholz et al. 2017, eq. 9"
        yield Row("ξ_c", digits(found.correlation_depth), "layers in which the distance from c* falls to 1/e", source)
        yield Row("s", decades(found.decades_per_layer), "decades that ‖δ‖ loses per layer", f"{words.MINUS}½ log10 χ₁")
        yield from _narrow(net, found)
    try:
        yield Row(
            "σw² crit",
            digits(critical(net.phi, it.sigma_b2).sigma_w2),
            f"σw² at which χ₁ = 1, for σb² = {it.sigma_b2:g}",
            "Schoenholz et al. 2017, sec. 3",
        )
    except NoCriticalPointError as error:
        yield Row("σw² crit", NONE, f"σw² at which χ₁ = 1: {str(error).partition(': ')[2]}", "Schoenholz et al. 2017, sec. 3")


def _narrow(net: Net, found: Settled) -> Iterator[Row]:
    it = net.config
    if it.width is None:
        return
    for kind, orthogonal in (("Gaussian", False), ("orthogonal", True)):
        lost = lost_per_layer(net.phi, it.sigma_w2, it.sigma_b2, found.q, it.width, orthogonal=orthogonal)
        name = f"the same in a typical net of {it.width:,} neurons per layer, {kind} weights"
        yield Row(f"s({it.width})", decades(found.decades_per_layer + lost), name, "to the first order in 1/N (derived)")


def _whole_net(net: Net) -> Iterator[Row]:
    it, wide, lost = net.config, net.profile, net.lost
    ends = {"δ": (wide.log10_delta, "δ"), "∇W": (wide.log10_grad, "∇W")}
    for symbol, (line, name) in ends.items():
        change = float(line[0] - line[-1])
        source = "Π χ(q_k); Schoenholz et al. 2017" if symbol == "δ" else "‖a_{k-1}‖ ‖δ_k‖ of a sample"
        yield Row(f"log10 {symbol}", decades(change), f"‖{name}_1‖/‖{name}_{it.depth}‖, root mean square over nets", source)
        if lost is not None:
            taken = lost.delta if symbol == "δ" else lost.grad
            typical = change - float(taken[0] - taken[-1])
            yield Row("", decades(typical), f"the same in a typical net of {it.width:,} neurons per layer", "to the first order in 1/N (derived)")
    yield Row(f"q_{it.depth}", digits(float(wide.q[-1])), "variance of z in the last layer", "Poole et al. 2016, eq. 3")


def _jacobian(net: Net) -> Iterator[Row]:
    it, wide = net.config, net.profile
    if not (np.isfinite(wide.q).all() and np.isfinite(wide.log10_delta).all() and wide.chi[-1] > 0.0):
        return
    mean = 2.0 * float(wide.log10_delta[0] - wide.log10_delta[-1]) + log10(it.sigma_w2 * wide.chi[-1])  # a product that may be beyond float64
    paper = "Pennington et al. 2017"
    yield Row("log10 E[s²]", decades(mean), "mean of the squared singular values", f"Π χ(q_k); {paper}")
    for kind, orthogonal, formula in (("Gaussian", False, "Σ κ(q_k)"), ("orthogonal", True, f"Σ (κ(q_k) {words.MINUS} 1)")):
        _, variance = squared_singular_values(net.phi, list(wide.q), it.sigma_w2, it.depth, orthogonal)
        yield Row("Var/E²", digits(variance), f"their variance over their squared mean, {kind} weights", f"{formula}; {paper}, for L well below N")


def _limits(net: Net) -> Iterator[Row]:
    it = net.config
    for dtype in ("float32", "float64"):
        at = input_lost_at(net.phi, it.sigma_w2, it.sigma_b2, dtype, q_input=it.q_input)
        yield Row(
            dtype,
            NONE if at is None else f"layer {at:,}",
            "the first that has lost the input among its roundings",
            "spread ∝ Π √χ (derived)",
        )
    if it.width is None:
        return
    for dtype in ("float32", "float64"):
        least = floors(dtype)
        for floor, line, name in (
            (least.square, net.profile.log10_grad, "gradient norm whose squares are 0"),
            (least.normal, net.profile.log10_grad_entry, "gradient whose entries are subnormal"),
            (least.zero, net.profile.log10_grad_entry, "gradient whose entries are 0"),
        ):
            back = layers_until(floor, line)
            if back is not None:
                yield Row(dtype, f"{back:,} back", f"the first layer with a {name}, for ‖δ_{it.depth}‖ = 1", "the profile and IEEE 754")


def _exact_laws(net: Net) -> Iterator[Row]:
    it = net.config
    if it.width is None or it.sigma_b2 or net.phi.name not in relu.GAINS:
        return
    if net.phi.name == "relu":
        law = relu.log_norm_of_net([it.width] * (it.depth - 1), it.sigma_w2)
        yield Row("E ln", digits(law.mean), f"mean over nets of ln ‖δ_1‖²/‖δ_{it.depth}‖²", "ln(σw²/N χ²_K), K ~ Bin(N, ½); Hanin 2018")
        yield Row("Var ln", digits(law.variance), "its variance over nets", "the same; about 5 Σ 1/N, Hanin & Nica 2019")
    yield Row("g", digits(relu.sussillo_gain(it.width, net.phi)), "gain that keeps the typical norm, as published", "Sussillo & Abbott 2014")
    yield Row("g", digits(relu.exact_gain(it.width, net.phi)), "gain that keeps the typical norm, exactly", "E ln(g²/N χ²_K) = 0 (derived)")


def _plateaus(net: Net) -> Iterator[Row]:
    for loss in PLATEAUS:
        yield Row("L", digits(plateau(net.config.classes, loss)), f"{loss.replace('_', ' ')}, summed over outputs", "best constant output")
    yield Row(
        "L", digits(plateau(net.config.classes, "squared_error", per_class=True)), "squared error without the ½, mean over classes", "(1/C)(1 − 1/C)"
    )
