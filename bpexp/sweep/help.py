"""What `python -m bpexp --help` prints.  Hydra's own way copies all configurations a hundred times, which takes a second."""

from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path

from hydra._internal.hydra import Hydra

from bpexp.config import RunConfig, explain
from bpexp.sweep.names import groups

__all__ = ["help_text"]

TEXT = """\
What backpropagation does to a gradient on its way through a deep network.

python -m bpexp [key=value …]                  trains one net
python -m bpexp -m depth=10,50,100 [key=…]     trains a sweep: every combination of the listed values
python -m bpexp study=cures [key=value …]      trains a study: a sweep that a file in conf/study/ describes
python -m bpexp --cfg job [key=value …]        shows the configuration and trains nothing
python -m bpexp.report --help                  figures from the tracked runs
python -m bpexp.walkthrough --help             backpropagation by hand on a small net

Groups (group=option):

{groups}

Keys (key=default, meaning, what is allowed):
{keys}

{flags}"""


def help_text(parser: ArgumentParser, folders: Iterable[Path]) -> str:
    """Every group with its options, every key, every flag."""
    listed = "\n".join(f"{group}: {', '.join(options)}" for group, options in sorted(groups(folders).items()))
    return TEXT.format(groups=listed, keys=explain(RunConfig, RunConfig()), flags=Hydra.format_args_help(parser))
