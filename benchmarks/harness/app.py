"""`python -m benchmarks.harness.app -m depth=50 lr=0.3,3 'seed=range(32)'`: sigmoid nets in PyTorch, tracked by MLflow.

Initial weights, data and the order of samples are ported from bpexp, so that the nets learn the same.
"""

import os
from itertools import pairwise
from typing import Any

import hydra
import mlflow
import numpy as np
import torch
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from torch import nn

from bpexp.config import DataConfig
from bpexp.core.initializers import xavier
from bpexp.core.schedule import log_spaced
from bpexp.datasets import load

PARENT = "HARNESS_PARENT"
PROBES, LOSSES = 40, 200  # steps at which layers and test set are looked at, and the loss


class Parent(Callback):
    """One MLflow run over all runs of a sweep."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:  # noqa: ARG002 (Hydra's signature)
        mlflow.set_experiment("harness")
        with mlflow.start_run(run_name="sweep") as run:
            os.environ[PARENT] = run.info.run_id

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:  # noqa: ARG002
        del os.environ[PARENT]


def model(config: DictConfig, inputs: int, outputs: int) -> nn.Sequential:
    """Linear layers without biases, each with a sigmoid."""
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(0,)))
    sizes = [inputs, *[config.width] * (config.depth - 1), outputs]
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        linear = nn.utils.skip_init(nn.Linear, n_in, n_out, bias=False)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(xavier(rng, n_in, n_out).T))
        layers += [linear, nn.Sigmoid()]
    return nn.Sequential(*layers)


def batches(config: DictConfig, samples: int) -> Any:
    """Indices of mini-batches: shuffled once per epoch, the rest of an epoch dropped."""
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(1,)))
    order = np.arange(samples)
    while True:
        rng.shuffle(order)
        for start in range(0, samples - config.batch_size + 1, config.batch_size):
            yield torch.from_numpy(order[start : start + config.batch_size].copy())


def loss_of(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over samples of ½‖a − y‖²."""
    return 0.5 * nn.functional.mse_loss(outputs, targets, reduction="sum") / len(targets)


@hydra.main(version_base="1.3", config_path=".", config_name="config")
def main(config: DictConfig) -> None:
    torch.set_num_threads(1)  # the nets are small
    mlflow.set_experiment("harness")
    data = load(DataConfig()).split
    x, y, x_test, y_test = (torch.from_numpy(it.astype(np.float32)) for it in (data.x_train, data.y_train, data.x_test, data.y_test))
    net = model(config, x.shape[1], y.shape[1])
    weights = list(net.parameters())
    optimizer = torch.optim.SGD(weights, lr=config.lr, fused=True)
    probed, told = set(log_spaced(config.steps, PROBES).tolist()), set(log_spaced(config.steps, LOSSES).tolist())
    with mlflow.start_run(run_name=f"depth={config.depth} lr={config.lr} seed={config.seed}", parent_run_id=os.environ.get(PARENT)):
        mlflow.log_params(dict(config))
        mlflow.log_dict(OmegaConf.to_container(config), "config.yaml")  # type: ignore[arg-type]
        for step, index in zip(range(config.steps + 1), batches(config, len(x)), strict=False):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(net(x[index]), y[index])
            loss.backward()
            metrics = {"loss/train": loss.item()} if step in told else {}
            if step in probed:
                norms = torch.stack(torch._foreach_norm([w.grad for w in weights])).tolist()  # noqa: SLF001
                metrics |= {f"grad_norm/layer_{k:03d}": norm for k, norm in enumerate(norms, start=1)}
                with torch.no_grad():
                    outputs = net(x_test)
                    metrics["loss/test"] = loss_of(outputs, y_test).item()
                    metrics["accuracy/test"] = (outputs.argmax(1) == y_test.argmax(1)).float().mean().item()
            if metrics:
                mlflow.log_metrics(metrics, step=step)
            if step < config.steps:
                optimizer.step()


if __name__ == "__main__":
    main()
