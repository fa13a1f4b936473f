"""What is written down, what is refused, and that what is made of it computes the same bits."""

import numpy as np

from bpexp.core.tape import spaced


def test_arrays_of_different_blocks_of_memory_are_not_one() -> None:
    """Two of them are always at some distance; what held only the first would read and write where the second has been freed."""
    assert spaced([np.zeros(4), np.zeros(4)]) is None
