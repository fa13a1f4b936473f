import pytest

from tests.engines.sweep import SWEEP, Numbers, numbers
from tests.sweeps import Sweeps


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Numbers:
    """Of one process, without stacks."""
    sweeps = Sweeps(tmp_path_factory.mktemp("expected"))
    assert sweeps.run(*SWEEP, "hydra.launcher.max_runs=1", "hydra.launcher.n_jobs=1").code == 0
    return numbers(sweeps)
