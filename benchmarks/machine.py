"""What was measured on: `python -m benchmarks.machine` prints it as JSON."""

import json
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.timing import ROOT, environment

__all__ = ["describe", "section"]

FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile")
PACKAGES = ("numpy", "scipy", "torch", "jax", "jaxlib", "numba", "hydra-core", "mlflow", "sqlalchemy")


def main() -> None:
    import scipy.linalg.blas  # noqa: F401 (so that SciPy's library is loaded, and NumPy's)
    import torch
    from threadpoolctl import threadpool_info

    torch.set_num_threads(1)
    cpu = Path("/proc/cpuinfo").read_text()
    found: dict[str, Any] = {
        "processor": _field(cpu, "model name") + f", family {_field(cpu, 'cpu family')} model {_field(cpu, 'model')}",
        "flags": " ".join(flag for flag in FLAGS if flag in _field(cpu, "flags").split()),
        "cores": str(os.cpu_count()),
        "cache": _field(cpu, "cache size"),
        "system": platform.platform(),
        "Python": platform.python_version(),
    }
    for pool in threadpool_info():
        if pool["user_api"] == "blas":
            library = next(name for name in ("numpy", "scipy", "torch", "") if name in Path(pool["filepath"]).parent.name)
            words = f"{pool['internal_api']} {pool['version']}, kernels {pool.get('architecture')}, {pool['num_threads']} thread"
            found[f"BLAS of {library}"] = words
    mkl = re.search(r"oneAPI Math Kernel Library Version (\S+)", torch.__config__.show())
    capability = torch.backends.cpu.get_cpu_capability()
    found["BLAS of torch"] = f"{f'MKL {mkl[1]}' if mkl else 'not MKL'}; own kernels {capability}; {torch.get_num_threads()} thread"
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "–"
    print(json.dumps(found))


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1] if found else "?"


def describe() -> dict[str, str]:
    """As the contenders' processes see it."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.machine"], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def section(machines: dict[str, dict[str, str]]) -> str:
    """A table, one column for each machine, or set of versions, by the parts that ran on it."""
    from benchmarks.tables import table

    columns: dict[str, list[str]] = {}
    for part, machine in machines.items():
        columns.setdefault(json.dumps(machine, sort_keys=True), []).append(part)
    found = [json.loads(written) for written in columns]
    names = list(dict.fromkeys(name for machine in machines.values() for name in machine))
    head = ["", *(", ".join(parts) if len(found) > 1 else "" for parts in columns.values())]
    return table(head, [[name, *(machine.get(name, "–") for machine in found)] for name in names])


if __name__ == "__main__":
    main()
