"""Where MLflow's pages show what is tracked: on the server that tracks it, else on the one that `python -m bpexp.ui` starts."""

from urllib.parse import quote, urlsplit

__all__ = ["HOST", "PORT", "run_page", "runs_page"]

HOST, PORT = "127.0.0.1", 5000  # of `python -m bpexp.ui`


def runs_page(uri: str, experiment_id: str, port: int = PORT) -> str:
    """The page of an experiment's runs: MLflow's own first page of it shows traces.  `port`: of `python -m bpexp.ui`."""
    return f"{_experiment(uri, experiment_id, port)}/runs?workflowType=machine_learning"


def run_page(uri: str, experiment_id: str, run_id: str) -> str:
    """The page of a run."""
    return f"{_experiment(uri, experiment_id)}/runs/{quote(run_id, safe='')}"


def _experiment(uri: str, experiment_id: str, port: int = PORT) -> str:
    """An experiment's address; of a server's URI without what is secret in it."""
    here = f"http://{HOST}:{port}"
    try:
        parts = urlsplit(uri)
        base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}" if parts.scheme in ("http", "https") else here
    except ValueError:  # an address that is none
        base = here
    return f"{base}/#/experiments/{quote(experiment_id, safe='')}"
