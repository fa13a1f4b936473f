"""The name under which Hydra finds our sweeper: it takes plug-ins from the namespace `hydra_plugins` only."""

from bpexp.sweep.sweeper import Sweeper

__all__ = ["BpexpSweeper"]


class BpexpSweeper(Sweeper):
    """`hydra/sweeper=bpexp`, the default of `python -m bpexp -m`."""
