"""bpexp: what backpropagation does to a gradient on its way through a deep network.

`train(RunConfig(depth=50))` trains one net and returns its records; `load_runs()` reads back what MLflow holds; `add` takes an activation, a
probe or another row of your own.  `python -m bpexp` is the command line.
"""

from typing import TYPE_CHECKING, Any

from bpexp.config import ConfigError, DataConfig, InitConfig, OptimizerConfig, RunConfig, ScheduleConfig, SkipConfig, TrackingConfig
from bpexp.core.own import add
from bpexp.core.records import Records

if TYPE_CHECKING:
    from bpexp.experiment import train
    from bpexp.tracking.reader import Runs, load_runs

__all__ = [
    "ConfigError",
    "DataConfig",
    "InitConfig",
    "OptimizerConfig",
    "Records",
    "RunConfig",
    "Runs",
    "ScheduleConfig",
    "SkipConfig",
    "TrackingConfig",
    "add",
    "load_runs",
    "train",
]

__version__ = "0.1.0"

_LATER = {"train": "bpexp.experiment", "load_runs": "bpexp.tracking.reader", "Runs": "bpexp.tracking.reader"}


def __getattr__(name: str) -> Any:
    """MLflow takes over a second to import: only who reads runs pays for it."""
    if name not in _LATER:
        raise AttributeError(f"module 'bpexp' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATER[name]), name)
