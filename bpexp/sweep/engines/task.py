"""What a process of another engine does with a stack."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import bpexp
from bpexp import plugins
from bpexp.config import ConfigError
from bpexp.sweep.carry import Job, Outcome, Where, carry_out

__all__ = ["Task"]

_one = Lock()  # a worker may have several threads, but BLAS has one setting for all of them


@dataclass(frozen=True)
class Task:
    """A call that carries out what it is given; pickled, it is a few hundred bytes: modules and data are named, not sent."""

    version: str
    plugins: str

    @classmethod
    def here(cls) -> "Task":
        """As this process would carry it out."""
        return cls(bpexp.__version__, os.environ.get(plugins.VARIABLE, ""))

    def __call__(self, jobs: Sequence[Job], where: Where) -> list[Outcome]:
        """Raises RuntimeError where this process has another version of bpexp, or not the modules that are named."""
        if self.version != bpexp.__version__:
            raise RuntimeError(f"the worker has bpexp {bpexp.__version__}, the command {self.version}")
        try:
            plugins.load(self.plugins)  # a cluster's worker serves commands that name others
        except ConfigError as error:
            raise RuntimeError(f"the worker: {error}") from None
        with _one:
            return carry_out(jobs, where)
