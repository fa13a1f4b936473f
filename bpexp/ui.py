"""`python -m bpexp.ui`: MLflow's pages for the tracked runs, for this machine alone."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, NoReturn

from annotated_types import Ge, Le
from pydantic import Strict

from bpexp.cli import REFUSED, arguments, refuse, tell
from bpexp.config import ConfigError, Fault, Help, StoreUri
from bpexp.stopping import INTERRUPTED, TERMINATED
from bpexp.tracking.pages import HOST, PORT, runs_page

__all__ = ["UiConfig", "main"]

DESCRIPTION = """python -m bpexp.ui [key=value …]: MLflow's pages for the tracked runs, at 127.0.0.1 alone.  Ctrl-C ends them."""
PATIENCE = 5.0  # seconds that the server gets to end by itself
OURS = {  # of the server's environment: nothing is sent to anybody, and no processes for what runs of ours have not
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
}


@dataclass
class UiConfig:
    """Which store is shown, and where."""

    uri: StoreUri | None = None
    experiment: Annotated[str, Strict(), Help("MLflow experiment that the link opens")] = "bpexp"
    port: Annotated[int, Strict(), Ge(1), Le(65535), Help("where the pages are")] = PORT


def main(argv: Sequence[str]) -> int:
    """Serve until told to stop; the exit code."""
    config = arguments(UiConfig, argv, DESCRIPTION)
    signal.signal(signal.SIGTERM, _terminate)
    _check_port(config.port)
    from bpexp.tracking.reader import NoRunsError, experiment_in  # after the arguments: --help and refusals need no MLflow
    from bpexp.tracking.store import resolve

    uri = resolve(config.uri)
    if uri.startswith("http"):
        refuse(ConfigError([Fault("uri", uri, "is a server, which has pages of its own")]))
    try:
        _, experiment = experiment_in(uri, config.experiment)
    except NoRunsError as error:
        tell([error])
        return REFUSED
    print(runs_page(uri, experiment, config.port), flush=True)
    try:
        with _server(uri, config.port) as server:
            return server.wait()
    except KeyboardInterrupt:
        return INTERRUPTED


def _terminate(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(TERMINATED)


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            refuse(ConfigError([Fault("port", port, f"must be free ({error.strerror})")]))


@contextmanager
def _server(uri: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's server, in a session of its own that ends with the block.  The store's address may hold a password: it is no word of the command."""
    names = [f"{name}:{port}" for name in (HOST, "localhost")]
    words = ["--host", HOST, "--port", str(port), "--workers", "1", "--no-serve-artifacts"]
    words += ["--allowed-hosts", ",".join(names), "--cors-allowed-origins", ",".join(f"http://{name}" for name in names)]
    environment = os.environ | OURS | {"MLFLOW_BACKEND_STORE_URI": uri}
    server = subprocess.Popen([sys.executable, "-m", "mlflow", "server", *words], env=environment, stdout=sys.stderr, start_new_session=True)  # noqa: S603
    try:
        yield server
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would leave processes behind
        for sent in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(server.pid, sent)
            with suppress(subprocess.TimeoutExpired):
                server.wait(PATIENCE)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
