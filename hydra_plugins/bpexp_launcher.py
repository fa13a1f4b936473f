"""The name under which Hydra finds our launcher: it takes plug-ins from the namespace `hydra_plugins` only."""

from bpexp.sweep.launcher import StackedLauncher

__all__ = ["BpexpLauncher"]


class BpexpLauncher(StackedLauncher):
    """`hydra/launcher=stacked`: runs of one shape train together."""
