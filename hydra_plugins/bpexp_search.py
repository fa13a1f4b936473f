"""The name under which Hydra finds our search: it takes plug-ins from the namespace `hydra_plugins` only."""

from bpexp.sweep.search import Search

__all__ = ["BpexpSearch"]


class BpexpSearch(Search):
    """`hydra/sweeper=optuna`: trials that Optuna asks for."""
