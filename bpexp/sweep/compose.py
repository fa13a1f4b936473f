"""From a job's words to its configuration, thousands of times."""

import copy
from collections.abc import Sequence

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf, open_dict

from bpexp.config import RunConfig, keys
from bpexp.sweep.names import parse_word

__all__ = ["Composer", "Words"]

Words = tuple[str, ...]


class Composer:
    """The configurations of a sweep's jobs.  Hydra composes once per choice of groups, which takes 60 ms; plain values are set on a copy."""

    def __init__(self, loader: ConfigLoader, sweep: DictConfig) -> None:
        """`sweep`: the configuration of the sweep as a whole."""
        self.loader, self.sweep = loader, sweep
        self.bases: dict[Words, DictConfig] = {}

    def __call__(self, words: Sequence[str]) -> DictConfig:
        plain, rest = {}, []
        for word in words:
            override = parse_word(word)
            if override.key_or_group in keys(RunConfig):
                plain[override.key_or_group] = override.value()
            else:
                rest.append(word)
        config = copy.deepcopy(self._base(tuple(rest)))
        for key, value in plain.items():
            OmegaConf.update(config, key, value, merge=False)
        return config

    def _base(self, words: Words) -> DictConfig:
        if words not in self.bases:
            config = self.loader.load_sweep_config(self.sweep, list(words))
            with open_dict(config):
                del config["hydra"]
            self.bases[words] = config
        return self.bases[words]
