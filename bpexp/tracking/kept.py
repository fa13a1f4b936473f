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
    """Make these files the report of a run in the store at a resolved URI; those of an earlier one go.  Why that could not be, where it could not."""
    try:
        with hastily():
            folder = str(MlflowClient(uri).get_run(run_id).info.artifact_uri)
            repository = get_artifact_repository(folder, tracking_uri=uri)
            with suppress(NotImplementedError):  # files of the same name are replaced all the same
                repository.delete_artifacts(REPORT)  # type: ignore[no-untyped-call]
            for path in files:
                repository.log_artifact(str(path), REPORT)  # type: ignore[no-untyped-call]
    except Exception as error:  # what stores and the places of artifacts raise is anything
        return f"the report is not kept in MLflow: run {run_id} can't be written to ({reason(error)})"
    return ""
