"""Where MLflow's pages are told to be."""

import pytest

from bpexp.tracking.pages import run_page, runs_page
from bpexp.ui import UiConfig


@pytest.mark.parametrize(
    ("uri", "base"),
    [
        ("sqlite:////x/mlflow.db", f"http://127.0.0.1:{UiConfig().port}"),
        ("postgresql://me:hunter2@host/db", f"http://127.0.0.1:{UiConfig().port}"),
        ("https://me:hunter2@lab/tracking/?token=hunter2", "https://lab/tracking"),
    ],
)
def test_on_the_server_that_tracks_or_on_our_own_and_without_secrets(uri: str, base: str) -> None:
    assert runs_page(uri, "7") == f"{base}/#/experiments/7/runs?workflowType=machine_learning"
    assert run_page(uri, "7", "a/b") == f"{base}/#/experiments/7/runs/a%2Fb"
