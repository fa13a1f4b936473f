"""Passwords and tokens of a store's address: told masked, written nowhere."""

from pathlib import Path

import pytest
import yaml

from bpexp.config import ConfigError, Fault, RunConfig, TrackingConfig, check
from bpexp.experiment import prepare, run
from bpexp.masks import masked, masking
from bpexp.sweep.names import secret_refusal
from bpexp.tracking.reader import NoRunsError, load_runs
from bpexp.tracking.sink import MlflowSink, write_artifacts
from bpexp.tracking.store import Store, connect
from bpexp.tracking.trouble import reason
from bpexp.verify.running import Place, launch
from tests.security.test_targets import Refusal, folder, hydra_as_it_was, refusal

__all__ = ["hydra_as_it_was", "refusal"]

SECRET = "hunter2"
ADDRESSES = {
    "http://me:hunter2@127.0.0.1:9/x": "http://***@127.0.0.1:9/x",
    "https://hunter2@127.0.0.1:9": "https://***@127.0.0.1:9",
    "postgresql://me:hunter2@127.0.0.1:9/db": "postgresql://me:***@127.0.0.1:9/db",
    "mysql+pymysql://me:hunter2@127.0.0.1:9/db?ssl_key=hunter2&charset=utf8": "mysql+pymysql://me:***@127.0.0.1:9/db?ssl_key=***&charset=utf8",
    "postgresql://127.0.0.1:9/db?user=me&password=hunter2": "postgresql://127.0.0.1:9/db?user=me&password=***",
    "http://127.0.0.1:9/?access_token=hunter2": "http://127.0.0.1:9/?access_token=***",
}
ODD = "postgresql://me:a @/'hunter2@127.0.0.1:9/db"  # alone it is known where it ends
PLAIN = ["sqlite:////a:b@c/mlflow.db", "http://127.0.0.1:5000", "postgresql://me@host/db?sslmode=require", "depth=1: must be @ 2? key=3", "mlruns"]


@pytest.mark.parametrize("uri", ADDRESSES)
def test_an_address_alone_and_in_a_text(uri: str) -> None:
    assert masked(uri) == ADDRESSES[uri]
    assert SECRET not in masked(f"can't open ({uri}), nor '{uri}': /api?x=1&token={SECRET}")
    assert masked(masked(uri)) == masked(uri)
    assert masked(ODD) == "postgresql://me:***@127.0.0.1:9/db"


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_not_secret_stays(text: str) -> None:
    assert masked(text) == text


def test_a_refusal_masks_before_it_cuts() -> None:
    told = str(Fault("tracking.uri", f"http://me:{SECRET}{'x' * 200}@host", f"must be open (http://me:{SECRET}@host)"))
    assert SECRET not in told
    assert told == "tracking.uri=http://***@host: must be open (http://***@host)"


@pytest.mark.parametrize("uri", ADDRESSES)
def test_stores_that_cannot_be_opened(uri: str) -> None:
    """MLflow's, the drivers' and our own words."""
    with pytest.raises(ConfigError) as refused:
        connect(uri, "bpexp")
    assert SECRET not in str(refused.value)
    with pytest.raises(NoRunsError) as nothing:
        load_runs(uri=uri)
    assert SECRET not in str(nothing.value)


@pytest.mark.parametrize("words", [[], ["-m", "depth=2,3"]], ids=["lone", "sweep"])
@pytest.mark.parametrize("uri", [*ADDRESSES][:5])
def test_a_word_with_a_secret_is_refused(refusal: Refusal, words: list[str], uri: str) -> None:
    (line,) = refusal(*words, f"tracking.uri='{uri}'")
    assert line.startswith("bpexp: tracking.uri=")
    assert line.endswith("must hold no password or token: set MLFLOW_TRACKING_URI, or tracking.uri='${oc.env:NAME}' with a variable of your own")
    assert SECRET not in line


@pytest.mark.parametrize(
    "uri", [None, "${oc.env:X}", "http://${oc.env:U}:${oc.env:P}@h", "postgresql://me:${oc.env:P}@h/d?token=${oc.env:P}", *PLAIN]
)
def test_what_is_looked_up_is_not_written(uri: str | None) -> None:
    assert secret_refusal(uri) == ""


def test_a_reason_masks_before_it_cuts() -> None:
    assert SECRET not in reason(OSError(f"{'x' * 150} http://me:{SECRET}{'y' * 200}@h"))


def test_a_study_with_a_secret_is_refused(refusal: Refusal, tmp_path: Path) -> None:
    study = f"# @package _global_\nhydra: {{sweeper: {{params: {{depth: '2,3', tracking.uri: 'http://me:{SECRET}@h'}}}}}}"
    (line,) = refusal("--config-dir", folder(tmp_path, study__x=study), "study=x")
    assert line.startswith("bpexp: tracking.uri=http://***@h: must hold no password or token")


def test_a_run_writes_its_store_masked(tmp_path: Path, store: Store) -> None:
    """Where the address comes from the environment, the configuration that a run is given has it all the same."""
    config = check(RunConfig(depth=2, width=4, steps=2, tracking=TrackingConfig(uri=f"http://me:{SECRET}@h")))
    sink = MlflowSink(store)
    write_artifacts(tmp_path, config, run(prepare(config), sink))
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["tracking"]["uri"] == "http://***@h"
    tracked = store.client.get_run(str(sink.run_id))
    assert SECRET not in str(tracked.to_dictionary())
    assert not [path for path in [*tmp_path.rglob("*"), *Path(sink.artifacts).rglob("*")] if SECRET.encode() in path.read_bytes()]
    assert config.tracking.uri == f"http://me:{SECRET}@h"


def test_an_aborted_run_says_why_masked(store: Store) -> None:
    sink = MlflowSink(store)
    sink.open(prepare(check(RunConfig(depth=2, width=4, steps=2))))
    sink.abort(RuntimeError(f"no answer from http://me:{SECRET}@h"))
    tags = store.client.get_run(str(sink.run_id)).data.tags
    assert tags["bpexp.error"] == "RuntimeError: no answer from http://***@h"
    assert SECRET not in str(tags)


def test_an_error_is_raised_masked() -> None:
    with pytest.raises(RuntimeError, match=r"^OSError: no http://\*\*\*@h$") as raised, masking():
        raise OSError(f"no http://me:{SECRET}@h")
    assert raised.value.__suppress_context__
    with pytest.raises(OSError, match="plain"), masking():
        raise OSError("plain")


def test_verify_passes_the_address_where_nobody_sees_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    show = tmp_path / "show"  # stands in for Python: tells its words and one variable
    show.write_text('#!/bin/sh\necho "$@"\necho "$MLFLOW_TRACKING_URI"\n')
    show.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(show))
    (ended,) = launch({"x": []}, Place(f"http://me:{SECRET}@h", "e", None, 1))
    words, uri = ended.told.splitlines()
    assert SECRET not in words
    assert uri == f"http://me:{SECRET}@h"
