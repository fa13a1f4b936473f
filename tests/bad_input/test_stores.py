"""Stores, runs and artifacts that something has happened to: a line says what, and they are left as they are."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from bpexp.config import ConfigError
from bpexp.tracking.reader import NoRunsError, load_runs
from bpexp.tracking.store import connect
from tests.bad_input.commands import listing, refused, watchdog
from tests.cli import query

Spoil = Callable[[Path], object]
RUN = ("depth=3", "width=3", "steps=2")


def statement(text: str, *values: object) -> Spoil:
    return lambda folder: query(folder / "mlflow.db", text, *values)


def content(make: Callable[[bytes], bytes]) -> Spoil:
    return lambda folder: (folder / "mlflow.db").write_bytes(make((folder / "mlflow.db").read_bytes()))


def _foreign(folder: Path) -> None:
    (folder / "mlflow.db").unlink()
    query(folder / "mlflow.db", "create table songs (title)")


def _folder(folder: Path) -> None:
    (folder / "mlflow.db").unlink()
    (folder / "mlflow.db").mkdir()


def _pipe(folder: Path) -> None:
    (folder / "mlflow.db").unlink()
    os.mkfifo(folder / "mlflow.db")


TABLES = ("alembic_version", "experiments", "runs", "params", "tags", "metrics", "latest_metrics", "datasets", "inputs", "input_tags")
DATABASES: dict[str, Spoil] = {
    "random bytes": content(lambda old: os.urandom(len(old))),
    "random bytes behind the header": content(lambda old: old[:100] + os.urandom(len(old) - 100)),
    "nothing": content(lambda _old: b""),
    "text": content(lambda _old: b"runs\n"),
    "another program's": _foreign,
    "a folder": _folder,
    "a pipe": _pipe,
    "of tomorrow": statement("update alembic_version set version_num = 'of tomorrow'"),
    "of no version": statement("delete from alembic_version"),
    "without runs.artifact_uri": statement("alter table runs drop column artifact_uri"),
    "without latest_metrics.timestamp": statement("alter table latest_metrics drop column timestamp"),
} | {f"without {table}": statement(f"drop table {table}") for table in TABLES}


@pytest.mark.parametrize("spoil", DATABASES.values(), ids=DATABASES)
def test_databases_that_are_none(spoil: Spoil, copied: Callable[[], Path]) -> None:
    folder = copied()
    spoil(folder)
    (folder / ".mlflow.db.lock").unlink()
    before = listing(folder)
    with watchdog(), pytest.raises(NoRunsError) as told:
        load_runs(uri=f"sqlite:///{folder}/mlflow.db")
    assert str(told.value).isprintable()
    assert listing(folder) == before
    with watchdog(), pytest.raises(ConfigError) as refusal:
        connect(f"sqlite:///{folder}/mlflow.db", "bpexp")
    (fault,) = refusal.value.faults
    assert fault.key == "tracking.uri"
    (folder / ".mlflow.db.lock").unlink(missing_ok=True)  # where MLflow itself had to be asked
    assert listing(folder) == before


def test_every_beginning_of_a_database(copied: Callable[[], Path]) -> None:
    folder = copied()
    path = folder / "mlflow.db"
    whole = path.read_bytes()
    for length in (1, 15, 16, 99, 100, 101, 511, 512, 1024, *range(4095, len(whole), len(whole) // 20), len(whole) - 4096):
        path.write_bytes(whole[:length])
        with watchdog(), pytest.raises(NoRunsError):
            load_runs(uri=f"sqlite:///{path}")
        with watchdog(), pytest.raises(ConfigError):
            connect(f"sqlite:///{path}", "bpexp")
        assert path.read_bytes() == whole[:length]


@pytest.mark.parametrize(
    ("command", "words"), [("bpexp", RUN), ("bpexp", ("-m", "seed=0,1", *RUN)), ("bpexp.report", ()), ("bpexp.verify", ("nielsen", "--quick"))]
)
@pytest.mark.parametrize("spoil", ["random bytes", "another program's", "without runs"])
def test_commands_on_them(command: str, words: tuple[str, ...], spoil: str, copied: Callable[[], Path]) -> None:
    folder = copied()
    DATABASES[spoil](folder)
    (folder / ".mlflow.db.lock").unlink()
    (line,) = refused(folder, *words, command=command)
    assert "uri=sqlite:///" in line


def test_a_database_that_another_has_locked_is_told_of(copied: Callable[[], Path]) -> None:
    folder = copied()
    with closing(sqlite3.connect(folder / "mlflow.db", isolation_level=None)) as other:
        other.execute("begin exclusive")
        with watchdog(), pytest.raises(NoRunsError, match="locked"):
            load_runs(uri=f"sqlite:///{folder}/mlflow.db")
        other.execute("rollback")
    assert len(load_runs(uri=f"sqlite:///{folder}/mlflow.db", frames=()).runs) == 2


# ---------------------------------------------------------------------------------------------- runs and their files


def artifact(name: str, spoil: Callable[[Path], object]) -> Spoil:
    def each(folder: Path) -> None:
        found = list(folder.glob(f"mlruns/**/{name}"))
        assert found
        for path in found:
            spoil(path)

    return each


def manifest(text: str) -> Spoil:
    return artifact("manifest.json", lambda path: path.write_text(text))


def parameter(key: str, value: str) -> Spoil:
    return statement("update params set value = ? where key = ?", value, key)


def _no_jobs(folder: Path) -> None:
    artifact("manifest.json", Path.unlink)(folder)
    query(folder / "mlflow.db", "update tags set value = 'x' where key = 'bpexp.job'")


def _again(path: Path, make: Callable[[], object]) -> None:
    path.unlink()
    make()


DAMAGED: dict[str, Spoil] = {
    "curves of random bytes": artifact("curves.parquet", lambda path: path.write_bytes(os.urandom(3000))),
    "curves of no bytes": artifact("curves.parquet", lambda path: path.write_bytes(b"")),
    "curves cut off": artifact("curves.parquet", lambda path: path.write_bytes(path.read_bytes()[:-100])),
    "curves of something else": artifact("curves.parquet", lambda path: pd.DataFrame({"a": [1]}).to_parquet(path)),
    "curves of texts": artifact("curves.parquet", lambda path: pd.read_parquet(path).astype(str).to_parquet(path)),
    "layers of something else": artifact("layers.parquet", lambda path: pd.DataFrame({"step": [1]}).to_parquet(path)),
    "a folder": artifact("curves.parquet", lambda path: _again(path, path.mkdir)),
    "a pipe": artifact("curves.parquet", lambda path: _again(path, lambda: os.mkfifo(path))),
    "no artifacts": lambda folder: shutil.rmtree(folder / "mlruns"),
    "an empty manifest": manifest(""),
    "a list for a manifest": manifest("[]"),
    "a deep manifest": manifest("[" * 100_000),
    "a deep manifest that ends": manifest('{"jobs": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    "a manifest with a number": manifest('{"jobs": 3}'),
    "a manifest with a huge number": manifest(f'{{"jobs": {"1" * 5000}}}'),
    "a manifest of numbers": manifest('{"jobs": [3]}'),
    "a manifest with lists for ids": manifest('{"jobs": [{"run_id": [1]}]}'),
    "a manifest of unknown runs": manifest('{"jobs": [{"run_id": "abc"}]}'),
    "a manifest of no runs": manifest('{"jobs": [{"run_id": null}]}'),
    "a manifest that is no text": artifact("manifest.json", lambda path: path.write_bytes(b"\xff\xfe\x00")),
    "jobs without numbers": _no_jobs,
    "no parameters": statement("delete from params"),
    "a text for depth": parameter("depth", "abc"),
    "depth below 0": parameter("depth", "-3"),
    "a list for depth": parameter("depth", "[1,2]"),
    "a table for depth": parameter("depth", '{"a": 1}'),
    "a deep depth": parameter("depth", "[" * 100_000),
    "a huge depth": parameter("depth", "9" * 5000),
    "an unknown activation": parameter("activation", "sigmoit"),
    "an infinite rate": parameter("lr", "Infinity"),
    "no time of divergence": statement("insert into tags select 'bpexp.diverged_at', 'x', run_uuid from runs"),
    "a time of divergence beyond all": statement("insert into tags select 'bpexp.diverged_at', ?, run_uuid from runs", "9" * 30),
    "a start beyond all": statement("update runs set start_time = 9223372036854775807"),
    "no start": statement("update runs set start_time = null"),
    "a text for a start": statement("update runs set start_time = 'abc'"),
    "a text for an end": statement("update runs set end_time = 'abc'"),
    "texts for metrics": statement("update latest_metrics set value = 'abc'"),
    "an address that is none": statement("update runs set artifact_uri = 'nonsense://x'"),
    "no address": statement("update runs set artifact_uri = null"),
}


@pytest.mark.parametrize("spoil", DAMAGED.values(), ids=DAMAGED)
def test_damaged_runs(spoil: Spoil, copied: Callable[[], Path]) -> None:
    folder = copied()
    spoil(folder)
    before = listing(folder)
    with watchdog(), pytest.raises(NoRunsError) as told:
        load_runs("latest", f"sqlite:///{folder}/mlflow.db")
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 1000
    assert listing(folder) == before


@pytest.mark.parametrize("spoil", ["curves of random bytes", "a deep manifest", "a text for depth", "no artifacts"])
def test_the_report_of_damaged_runs(spoil: str, copied: Callable[[], Path]) -> None:
    folder = copied()
    DAMAGED[spoil](folder)
    assert len(refused(folder, command="bpexp.report")) == 1


ODD: dict[str, Spoil] = {
    "config.yaml is gone": artifact("config.yaml", Path.unlink),
    "long names": statement("update runs set name = ?", "n" * 5000),
    "odd names": statement("update runs set name = ?", "../../\N{RIGHT-TO-LEFT OVERRIDE}\n<script>"),
    "no summary": statement("delete from latest_metrics"),
}


@pytest.mark.parametrize("spoil", ODD.values(), ids=ODD)
def test_what_is_only_odd_is_read(spoil: Spoil, copied: Callable[[], Path]) -> None:
    folder = copied()
    spoil(folder)
    assert len(load_runs("latest", f"sqlite:///{folder}/mlflow.db").runs) == 2
