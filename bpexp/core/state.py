"""What a training needs to go on from where it was, bitwise: the numbers of one run that last from step to step, under names.

Whoever has such numbers shows them through windows, views on one run's part of a stack: a state is a copy of what is seen there, and is put back
by writing through the same windows.  So a state knows nothing of its stack, and may go on in another one.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

__all__ = ["LAYOUT", "State", "Windows", "fill", "pack", "unpack"]

LAYOUT = 1  # raised whenever a state's names or shapes change: older ones are of no use then

State = Mapping[str, NDArray[Any]]
Windows = dict[str, NDArray[Any]]

WORDS = 64  # bits


def fill(windows: Windows, state: State) -> None:
    """Put a state's numbers back.  Raises ValueError where they are not those that are looked for."""
    for name, window in windows.items():
        found = state.get(name)
        if found is None or (found.shape, found.dtype) != (window.shape, window.dtype):
            raise ValueError(f"not a state of this training: {name} must be {window.dtype} {window.shape}")
        window[...] = found


def pack(generator: Generator) -> NDArray[np.uint64]:
    """A PCG64 generator as six whole numbers: its state and its increment, of 128 bits each, the lower half first; whether half of the last draw is
    left over, and that half.
    """
    told: Mapping[str, Any] = generator.bit_generator.state
    halves = [number >> shift & (1 << WORDS) - 1 for number in (told["state"]["state"], told["state"]["inc"]) for shift in (0, WORDS)]
    return np.array([*halves, told["has_uint32"], told["uinteger"]], np.uint64)


def unpack(words: NDArray[np.uint64], generator: Generator) -> None:
    """Set a generator to where another one was."""
    low, high, inc_low, inc_high, left, half = map(int, words)
    inner = {"state": low | high << WORDS, "inc": inc_low | inc_high << WORDS}
    generator.bit_generator.state = {"bit_generator": "PCG64", "state": inner, "has_uint32": left, "uinteger": half}
