"""Two generations of a run's state in a folder: the newest whole one that is this run's is found, whatever lies there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpexp.checkpoints import Checkpoints
from bpexp.core.state import LAYOUT, State
from bpexp.durable import TEMPORARY, write
from tests.core.nets import REPEATABLE, architecture, draw, make_task, start
from tests.core.test_shapes import assert_same
from tests.test_durable import room_for


def state(step: int, size: int = 5) -> State:
    return {"last_step": np.array(step), "parameters/W_001": np.full(size, float(step))}


def of(folder: Path, fingerprint: str = "abc", numerics: str = "numpy 2") -> Checkpoints:
    return Checkpoints(folder, fingerprint, numerics)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def step_of(found: State | None) -> int | None:
    return None if found is None else int(found["last_step"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the checkpoints of steps 120 and 240."""
    for step in (40, 120, 240):
        of(tmp_path / "run" / "checkpoints").save(state(step))
    return tmp_path / "run" / "checkpoints"


NEWEST, BEFORE = "checkpoint-0000000240.ckpt", "checkpoint-0000000120.ckpt"


def test_the_two_newest_are_kept_and_the_newest_is_found(folder: Path) -> None:
    assert names(folder) == [BEFORE, NEWEST]
    checkpoints = of(folder)
    found = checkpoints.load()
    assert found is not None
    np.testing.assert_array_equal(found["parameters/W_001"], np.full(5, 240.0))
    assert checkpoints.remarks == []


def test_nothing_is_made_before_there_is_something_to_keep(tmp_path: Path) -> None:
    checkpoints = of(tmp_path / "run")
    assert checkpoints.load() is None
    checkpoints.clear()
    assert checkpoints.remarks == []
    assert names(tmp_path) == []


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def replace_by_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


SPOILS = pytest.mark.parametrize("spoil", [cut, empty, replace_by_a_folder])


@SPOILS
def test_the_one_before_is_found_where_the_newest_is_damaged(spoil: Callable[[Path], None], folder: Path) -> None:
    spoil(folder / NEWEST)
    checkpoints = of(folder)
    assert step_of(checkpoints.load()) == 120
    (remark,) = checkpoints.remarks
    assert remark.startswith(f"{folder / NEWEST}: not used: ")
    assert "\n" not in remark


@SPOILS
def test_none_is_found_where_both_are_damaged(spoil: Callable[[Path], None], folder: Path) -> None:
    for name in (NEWEST, BEFORE):
        spoil(folder / name)
    checkpoints = of(folder)
    assert checkpoints.load() is None
    assert [remark.partition(":")[0] for remark in checkpoints.remarks] == [str(folder / NEWEST), str(folder / BEFORE)]


@REPEATABLE
@given(data=st.data())
def test_damage_never_raises(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    of(folder).clear()
    for step in (1, 2):
        of(folder).save(state(step))
    newest = folder / "checkpoint-0000000002.ckpt"
    whole = bytearray(newest.read_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(0, 255))
    spoilt = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    same = spoilt == newest.read_bytes()
    newest.write_bytes(spoilt)
    checkpoints = of(folder)
    assert step_of(checkpoints.load()) == (2 if same else 1)
    assert len(checkpoints.remarks) == (not same)


@pytest.mark.parametrize(
    ("other", "remark"),
    [({"fingerprint": "xyz"}, "fingerprint abc, not xyz"), ({"numerics": "numpy 3"}, "numerics numpy 2, not numpy 3")],
    ids=["another run", "another machine"],
)
def test_what_is_another_runs_or_another_machines_is_not_used(other: dict[str, str], remark: str, folder: Path) -> None:
    checkpoints = of(folder, **other)
    assert checkpoints.load() is None
    assert checkpoints.remarks == [f"{folder / name}: not used: {remark}" for name in (NEWEST, BEFORE)]
    assert names(folder) == [BEFORE, NEWEST]


def test_states_of_another_layout_are_not_used(folder: Path) -> None:
    write(folder / "checkpoint-0000000300.ckpt", state(300), {"fingerprint": "abc", "numerics": "numpy 2", "layout": LAYOUT + 1})
    write(folder / "checkpoint-0000000310.ckpt", state(310), {})
    checkpoints = of(folder)
    assert step_of(checkpoints.load()) == 240
    assert len(checkpoints.remarks) == 2


def test_a_training_begun_anew_does_not_keep_what_it_could_not_use(folder: Path) -> None:
    """Its steps are earlier ones; those of the run before would else count as newer."""
    anew = of(folder, numerics="numpy 3")
    for step in (10, 20, 30):
        anew.save(state(step))
        assert step_of(of(folder, numerics="numpy 3").load()) == step
    assert names(folder) == ["checkpoint-0000000020.ckpt", "checkpoint-0000000030.ckpt"]


def test_what_was_interrupted_is_removed(folder: Path) -> None:
    left, others = f"checkpoint-0000000360.ckpt.0123{TEMPORARY}", ["notes.tmp", "checkpoint.txt", "my-checkpoint-0000000001.ckpt"]
    for name in (left, *others):
        (folder / name).touch()
    checkpoints = of(folder)
    assert step_of(checkpoints.load()) == 240
    assert checkpoints.remarks == []
    checkpoints.save(state(360))
    assert names(folder) == sorted(["checkpoint-0000000360.ckpt", NEWEST, *others])
    (folder / left).touch()
    checkpoints.clear()
    assert names(folder) == sorted(others)


def test_an_empty_folder_is_removed_with_what_was_in_it(folder: Path) -> None:
    of(folder).clear()
    assert not folder.exists()
    assert folder.parent.exists()


def test_more_steps_than_ten_digits_come_later(folder: Path) -> None:
    for step in (9_999_999_999, 10_000_000_000):
        of(folder).save(state(step))
    assert step_of(of(folder).load()) == 10_000_000_000
    assert len(names(folder)) == 2


def test_the_same_step_twice_leaves_the_one_before(folder: Path) -> None:
    of(folder).save(state(240))
    assert names(folder) == [BEFORE, NEWEST]


def test_on_a_full_disk_both_stay(folder: Path) -> None:
    with room_for(1000), pytest.raises(OSError, match=r"\[Errno 27\]"):
        of(folder).save(state(360, size=10_000))
    assert names(folder) == [BEFORE, NEWEST]
    assert step_of(of(folder).load()) == 240


def test_a_state_with_objects_is_refused(folder: Path) -> None:
    with pytest.raises(TypeError, match="object is no kind of number"):
        of(folder).save({**state(360), "anything": np.array([{}], object)})
    assert names(folder) == [BEFORE, NEWEST]


def test_a_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """Bit for bit; the file that was being written when it was interrupted is no use."""
    net = architecture([6, 5, 5, 4], "tanh", "sigmoid", bias=True, dtype=np.float32)
    task = make_task(net, 20, probes=[0, 7, 20])
    training = start(task, draw(net, [1]), [0.3], [2])
    for step in training.advance():
        if step in {4, 6, 11}:
            of(tmp_path).save(training.state(0))
    cut(tmp_path / "checkpoint-0000000011.ckpt")
    found = of(tmp_path).load()
    assert found is not None
    assert step_of(found) == 6
    again = start(task, draw(net, [3]), [0.3], [4])
    again.restore([found])
    assert list(again.advance()) == list(range(7, 21))
    assert_same(again.records(0), training.records(0))
