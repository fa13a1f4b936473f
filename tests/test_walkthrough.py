"""What the walkthrough prints is read back: the numbers put in are the ones named, they make the value, and the value is the derivative."""

import fcntl
import io
import math
import os
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

from bpexp import walkthrough
from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Array, Float64s
from bpexp.core.optimizers import OPTIMIZERS, Block
from tests.core import formulas

ROOT = Path(__file__).parents[1]
NAME = re.compile(r"(?:new )?(?:dL/dW|delta|[zaWy])(?:_\d+)?\[[\d,]+\]|lr")
DIGITS = re.compile(r"\d+\.\d*(?:e[-+]\d+)?")
EXACT = {"0.5"}  # a constant of the formula, not a rounded number
TERMINALS = ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE")  # what may tell of one that is not there
INDENT = 17  # "  name         = "

WALKS = [
    (),
    ("seed=1", "lr=0.001"),
    ("sizes=[1,1]",),
    ("sizes=[3,2,4,2]", "activation=tanh", "seed=5", "lr=1000"),
    ("sizes=[2,3,3,1]", "activation=relu", "seed=2"),
    ("sizes=[8,8,2]", "activation=erf", "lr=0.1"),
    ("sizes=[2,2,2,2,2,2,2]", "activation=linear", "seed=9"),
]


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {key: value for key, value in os.environ.items() if key not in TERMINALS}
    line = [sys.executable, "-m", "bpexp.walkthrough", *arguments]
    return subprocess.run(line, cwd=ROOT, env=variables | environment, capture_output=True, text=True, check=False, timeout=60)


@cache
def printed(arguments: tuple[str, ...]) -> str:
    """Of a step in this process, which takes a hundredth of the time."""
    out, err = io.StringIO(), io.StringIO()
    with patch.dict(os.environ), redirect_stdout(out), redirect_stderr(err):
        for name in TERMINALS:
            os.environ.pop(name, None)
        code = walkthrough.main(arguments)
    assert (code, err.getvalue()) == (0, "")
    return out.getvalue()


@dataclass
class Result:
    """One step as printed; formula and numbers stay empty where only the value is."""

    name: str
    formula: str
    numbers: str
    value: str
    core: str
    mark: str


@dataclass
class Reading:
    given: dict[str, list[str]]
    results: dict[str, Result]

    def vector(self, name: str) -> Float64s:
        return np.array([float(text) for text in self.given[name]])

    def weights(self) -> list[Float64s]:
        rows: dict[str, list[Float64s]] = {}
        for name in self.given:
            if match := re.fullmatch(r"(W_\d+)\[\d+,:\]", name):
                rows.setdefault(match[1], []).append(self.vector(name))
        return [np.array(rows[f"W_{k}"]) for k in range(1, len(rows) + 1)]

    def named(self, lr: str) -> dict[str, str]:
        """Every name that a formula may use, and the digits printed for it."""
        found = {name: result.value for name, result in self.results.items()}
        for name, values in self.given.items():
            base = name.removesuffix(":]") if name.endswith(":]") else f"{name}["
            found |= {f"{base}{j}]": value for j, value in enumerate(values)}
        return found | {"lr": f"{float(lr):#.6g}"}


def equations(text: str) -> list[tuple[str, str]]:
    """(name, right side) of every `name = …`, continued lines joined."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line[INDENT - 3 : INDENT] == " = ":
            found.append((line[: INDENT - 3].strip(), line[INDENT:].strip()))
        elif line.startswith(" " * INDENT) and found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
    return found


def read(text: str) -> Reading:
    given: dict[str, list[str]] = {}
    results: dict[str, Result] = {}
    pending: list[str] = []
    for name, right in equations(text):
        if value := re.fullmatch(r"(\S+) +core +(\S+) +(\S.*)", right):
            first, formula, numbers = pending or [name, "", ""]
            assert first not in results
            results[first] = Result(first, formula, numbers, value[1], value[2], value[3])
            pending = []
        elif re.fullmatch(r"a_0|y|W_\d+\[\d+,:\]", name) and not pending:
            given[name] = right.split()
        elif name not in ("a = phi(z)", "phi'(z)"):
            pending = [name, right] if name else [*pending, right]
    assert not pending
    return Reading(given, results)


def option(arguments: tuple[str, ...], key: str, default: str) -> str:
    return dict(argument.split("=", 1) for argument in arguments).get(key, default)


def half_a_unit(digits: str) -> float:
    """By how much a number printed with six digits may differ from the one meant; what is printed as 0 is 0."""
    number = Decimal(digits)
    return float(Decimal(5).scaleb(int(number.as_tuple().exponent) - 1)) if number else 0.0


def evaluate(expression: str) -> float:
    return float(eval(expression, {"__builtins__": {"max": max}}, vars(math)))


def rounding(expression: str) -> float:
    """How far the value of an expression can be off because its numbers are rounded: each number's share, by putting it half a unit higher."""
    exact, shares = evaluate(expression), 0.0
    for match in DIGITS.finditer(expression):
        if match[0] not in EXACT:
            moved = f"({match[0]} + {half_a_unit(match[0])!r})"
            shares += abs(evaluate(expression[: match.start()] + moved + expression[match.end() :]) - exact)
    return 1.01 * shares + 1e-14 * abs(exact)  # squares of half units are left out: 1 % is ample for a number of six digits


@pytest.mark.parametrize("arguments", WALKS)
def test_the_numbers_put_in_are_the_ones_named(arguments: tuple[str, ...]) -> None:
    reading = read(printed(arguments))
    named = reading.named(option(arguments, "lr", "1.0"))

    def digits(match: re.Match[str]) -> str:
        value = named[match[0]]
        return f"({value})" if value.startswith("-") else value

    with_formula = [result for result in reading.results.values() if result.formula]
    assert with_formula
    for result in with_formula:
        assert NAME.sub(digits, result.formula) == result.numbers


@pytest.mark.parametrize("arguments", WALKS)
def test_the_numbers_put_in_make_the_value(arguments: tuple[str, ...]) -> None:
    for result in read(printed(arguments)).results.values():
        if result.numbers:
            assert abs(evaluate(result.numbers) - float(result.value)) <= rounding(result.numbers) + half_a_unit(result.value), result


@pytest.mark.parametrize("arguments", WALKS)
def test_the_values_are_loss_gradient_and_updated_weights(arguments: tuple[str, ...]) -> None:
    """Held against autograd, to all six digits: what is given is printed exactly."""
    reading = read(printed(arguments))
    phi = formulas.activation(option(arguments, "activation", "sigmoid"))
    x, y, weights = reading.vector("a_0"), reading.vector("y"), reading.weights()

    def loss(weights: Sequence[Float64s]) -> Any:
        a = x[None]
        for W in weights:
            a = phi(a @ W)
        return anp.sum((a - y) ** 2) / 2

    gradient = autograd.grad(loss)(weights)
    new = [W - float(option(arguments, "lr", "1.0")) * g for W, g in zip(weights, gradient, strict=True)]
    expected = {"L": loss(weights), "new L": loss(new)}
    for k, (g, W) in enumerate(zip(gradient, new, strict=True), start=1):
        expected |= walkthrough.labelled(f"dL/dW_{k}", g) | walkthrough.labelled(f"new W_{k}", W)
    for name, value in expected.items():
        shown = reading.results[name].value
        assert abs(float(shown) - value) <= 1.01 * half_a_unit(shown) + 1e-14, name


@pytest.mark.parametrize("arguments", WALKS)
def test_every_neuron_and_weight_is_there_and_agrees(arguments: tuple[str, ...]) -> None:
    text = printed(arguments)
    results = read(text).results
    sizes = [int(n) for n in option(arguments, "sizes", "[2,3,1]")[1:-1].split(",")]
    neurons, weights = sum(sizes[1:]), sum(a * b for a, b in pairwise(sizes))
    assert len(results) == 2 * (2 * neurons + 1) + neurons + 2 * weights
    assert {(result.value == result.core, result.mark) for result in results.values()} == {(True, "✓")}
    assert text.endswith(f"All {len(results)} results agree with bpexp.core's, up to rounding.\n")


def test_the_seed_decides() -> None:
    assert command("seed=3").stdout == printed(("seed=3",)) != printed(("seed=4",))


@pytest.mark.parametrize("name", sorted(walkthrough.WRITTEN))
def test_the_closing_lines_say_what_the_step_did(name: str) -> None:
    text = printed((f"activation={name}",))
    results = read(text).results
    assert f"The step took the loss from {results['L'].value} to {results['new L'].value}.\n" in text


def test_an_error_in_the_core_is_said_plainly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A derivative that is off in its eighth digit: the six that are printed do not show it, the mark, the closing line and the exit code do."""
    row = ACTIVATIONS["sigmoid"]

    def wrong(z: Array, a: Array, out: Array) -> None:
        row.derivative(z, a, out)
        out *= 1.0 + 1e-8

    monkeypatch.setitem(ACTIVATIONS, "sigmoid", replace(row, derivative=wrong))
    assert walkthrough.main([]) == 1
    text = capsys.readouterr().out
    results = read(text).results
    differing = [name for name, result in results.items() if result.mark.startswith("✗")]
    assert {name for name in results if name.startswith(("delta", "dL/dW"))} <= set(differing)
    assert all(results[name].mark == "✓" for name in ("z_1[0]", "a_2[0]", "L"))
    last = text.splitlines()[-1]
    assert last.startswith(f"{len(differing)} of {len(results)} results DIFFER from bpexp.core's by more than rounding: delta_2[0]")


def test_an_error_in_the_cores_forward_pass_is_seen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(ACTIVATIONS, "tanh", replace(ACTIVATIONS["tanh"], function=ACTIVATIONS["erf"].function))
    assert walkthrough.main(["activation=tanh"]) == 1
    marks = {name: result.mark[0] for name, result in read(capsys.readouterr().out).results.items()}
    assert (marks["z_1[0]"], marks["a_1[0]"], marks["L"]) == ("✓", "✗", "✗")


def test_an_error_in_the_cores_update_is_seen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def half(block: Block, t: int) -> None:
        np.subtract(block.weights, 0.5 * block.rate * block.gradient, out=block.weights)

    monkeypatch.setitem(OPTIMIZERS, "sgd", replace(OPTIMIZERS["sgd"], rule=half))
    assert walkthrough.main([]) == 1
    marks = {name: result.mark[0] for name, result in read(capsys.readouterr().out).results.items()}
    assert (marks["dL/dW_1[0,0]"], marks["new W_1[0,0]"], marks["L"], marks["new L"]) == ("✓", "✗", "✓", "✗")


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["sizes=[2]"], ["sizes"]),
        (["sizes=[1,1,1,1,1,1,1,1]"], ["sizes"]),
        (["sizes=[]"], ["sizes"]),
        (["sizes=3"], ["sizes"]),
        (["sizes=[2,9,1]"], ["sizes"]),
        (["sizes=[2,0,1]"], ["sizes"]),
        (["sizes=[2,1.5,1]"], ["sizes"]),
        (["seed=-1"], ["seed"]),
        (["activation=softmax"], ["activation"]),
        (["activation=tan"], ["activation"]),
        (["lr=0"], ["lr"]),
        (["lr=nan"], ["lr"]),
        (["lr=2000"], ["lr"]),
        (["depth=3"], ["depth"]),
        (["lr=x", "seed=true", "activation=1"], ["seed", "activation", "lr"]),
    ],
)
def test_refusals_are_a_line_per_fault(arguments: list[str], keys: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        walkthrough.main(arguments)
    out, lines = capsys.readouterr()
    assert (left.value.code, out) == (2, "")
    assert [line.split("=")[0] for line in lines.splitlines()] == [f"bpexp: {key}" for key in keys]


def test_a_refusal_from_the_shell() -> None:
    done = command("sizes=[2,9,1]", "lr=-1")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_names_every_key(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        walkthrough.main([word])
    assert left.value.code == 0
    text = capsys.readouterr().out
    for key in ("sizes=[2,3,1]", "seed=0", "activation=sigmoid", "lr=1.0"):
        assert f"  {key} " in text


@cache
def on_a_terminal(columns: int, *arguments: str) -> str:
    """What a terminal of that width receives."""
    leader, follower = os.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    inherited = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR", "TTY_COMPATIBLE")}
    environment = inherited | {"TERM": "xterm-256color"}
    line = [sys.executable, "-m", "bpexp.walkthrough", *arguments]
    received = b""
    with subprocess.Popen(line, cwd=ROOT, env=environment, stdin=follower, stdout=follower, stderr=follower) as process:
        os.close(follower)
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:  # Linux says end of file on a terminal with EIO
                break
            if not part:
                break
            received += part
    os.close(leader)
    assert process.returncode == 0
    return received.decode().replace("\r\n", "\n")


COLOUR = re.compile(r"\x1b\[[\d;]*m")


@pytest.mark.parametrize(("columns", "widest", "activation"), [(80, 80, "sigmoid"), (80, 80, "erf"), (110, 110, "erf"), (200, 120, "erf")])
def test_lines_fit_a_terminal_and_are_coloured_there(columns: int, widest: int, activation: str) -> None:
    """A heading runs to the edge; beyond 120 columns lines would be hard to read."""
    arguments = ("sizes=[8,8,2]", f"activation={activation}")
    text = on_a_terminal(columns, *arguments)
    assert COLOUR.search(text)
    plain = COLOUR.sub("", text)
    assert max(map(len, plain.splitlines())) == widest
    assert read(plain) == read(printed(arguments))


def test_a_pipe_gets_plain_text_of_a_hundred_columns() -> None:
    text = printed(("sizes=[8,8,2]", "activation=erf"))
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) == 100


def test_an_output_that_knows_no_unicode() -> None:
    done = command(PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert {result.mark for result in read(done.stdout).results.values()} == {"ok"}
