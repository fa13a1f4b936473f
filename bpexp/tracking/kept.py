"""Reports as artifacts of the run that they are about: MLflow's pages show them there."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from bpexp.tracking.store import hastily
from bpexp.tracking.trouble import reason

__all__ = ["REPORT", "keep"]

REPORT = "report"  # the artifacts' folder


def keep(uri: str, run_id: str, files: Iterable[Path]) -> str:
    """Make these files the report of a run in the store at a resolved URI.  Why that could not be, where it could not.

    What an earlier report has besides them goes when all of them are there: at any moment there is one.
    """
    names = set()
    try:
        with hastily():
            folder = str(MlflowClient(uri).get_run(run_id).info.artifact_uri)
            repository = get_artifact_repository(folder, tracking_uri=uri)
            for path in files:
                repository.log_artifact(str(path), REPORT)  # type: ignore[no-untyped-call]
                names.add(f"{REPORT}/{path.name}")
            with suppress(NotImplementedError):  # a place from which nothing can be removed
                for item in repository.list_artifacts(REPORT):
                    if item.path not in names:
                        repository.delete_artifacts(item.path)  # type: ignore[no-untyped-call]
    except Exception as error:  # what stores and the places of artifacts raise is anything
        return f"the report is not kept in MLflow: run {run_id} can't be written to ({reason(error)})"
    return ""
