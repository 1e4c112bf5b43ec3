"""Arrays in files: written in shards, read as one array, damage named."""

import hashlib
import os
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apelr_data import DataError, token_file
from apelr_data.token_file import Shard, ShardedArray, ShardWriter, shard_path


def written(folder, parts, shard_bytes=16):
    """The array of these parts, in shards of at most 16 bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_file, "SHARD_BYTES", shard_bytes)
        with ShardWriter(folder, "a") as writer:
            for part in parts:
                writer.write(part)
    return ShardedArray(folder, "a", tuple(writer.shards))


PARTS = st.lists(
    st.one_of(
        st.lists(st.integers(0, 255), max_size=30).map(lambda v: np.array(v, "u1")),
        st.lists(st.integers(0, 2**16 - 1), max_size=30).map(lambda v: np.array(v, "<u2")),
        st.lists(st.integers(0, 2**32 - 1), max_size=30).map(lambda v: np.array(v, "<u4")),
    ),
    max_size=8,
).filter(lambda parts: any(len(part) for part in parts))


@given(PARTS, st.data())
@settings(max_examples=60)
def test_what_is_read_is_what_was_written(tmp_path_factory, parts, data):
    array = written(tmp_path_factory.mktemp("array"), parts)
    whole = np.concatenate(parts)
    assert len(array) == len(whole)
    assert array[:].tolist() == whole.tolist()
    positions = data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=20))
    assert array[np.array(positions, np.int64)].tolist() == [whole[i] for i in positions]
    square = np.array([positions, positions], np.int64)
    assert array[square].shape == square.shape
    start, stop = (data.draw(st.none() | st.integers(-40, 40)) for _ in range(2))
    assert array[start:stop].tolist() == whole[start:stop].tolist()
    assert array[:].dtype == array.dtype


def test_shards_are_bounded_and_of_the_smallest_type_that_comes(tmp_path):
    parts = [np.arange(20, dtype="u1"), np.array([300], "<u2"), np.arange(5, dtype="u1"), np.arange(10, dtype="u1")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_file, "SHARD_BYTES", 16)
        with ShardWriter(tmp_path, "a") as writer:
            for part in parts:
                writer.write(part)
    assert [(shard.type, shard.length) for shard in writer.shards] == [("|u1", 16), ("|u1", 4), ("<u2", 8), ("|u1", 8)]
    for number, shard in enumerate(writer.shards):
        content = shard_path(tmp_path, "a", number).read_bytes()
        assert len(content) == shard.size <= 16
        assert hashlib.sha256(content).hexdigest() == shard.sha256


def test_few_files_are_open_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(token_file, "MOST_MAPPED", 2)
    array = written(tmp_path, [np.arange(100, dtype="u1")])
    assert array[:].tolist() == list(range(100))
    assert len(array._maps) == 2
    assert array[np.array([99, 0])].tolist() == [99, 0]


def test_a_file_that_takes_another_s_place_is_read_only_if_its_content_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(token_file, "MOST_MAPPED", 1)
    array = written(tmp_path, [np.arange(40, dtype="u1")])
    array[:]
    path = shard_path(tmp_path, "a", 0)
    content = path.read_bytes()
    for number, new in enumerate((content, content[::-1])):
        (tmp_path / "new").write_bytes(new)
        os.utime(tmp_path / "new", ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + number))
        (tmp_path / "new").replace(path)
        if new == content:
            assert array[:].tolist() == list(range(40))
    with pytest.raises(DataError, match=r"^token cache: .*a-00000\.bin: another file has taken its place; write"):
        array[np.array([0])]


def test_a_file_that_is_cut_off_while_it_is_mapped_is_an_error_and_not_the_end_of_the_process(tmp_path):
    array = written(tmp_path, [np.arange(8, dtype="u1")])
    assert array[3:5].tolist() == [3, 4]
    path = shard_path(tmp_path, "a", 0)
    os.truncate(path, 4)
    with pytest.raises(DataError, match=f"{path}: it has 4 bytes by now, not 8"):
        array[3:5]
    path.unlink()


def test_a_copy_for_another_process_holds_no_values(tmp_path):
    array = written(tmp_path, [np.arange(10_000, dtype="<u2")], shard_bytes=1 << 20)
    array[:]
    content = pickle.dumps(array)
    assert len(content) < 1000
    assert pickle.loads(content)[:].tolist() == list(range(10_000))


def test_a_position_out_of_range_is_refused(tmp_path):
    array = written(tmp_path, [np.arange(20, dtype="u1")])
    for position in (-1, 20):
        with pytest.raises(IndexError, match=r"positions must be in 0 \.\. 19"):
            array[np.array([0, position])]


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


def test_a_flipped_byte_is_found_when_the_file_is_first_used_and_by_the_check(tmp_path):
    array = written(tmp_path, [np.arange(40, dtype="u1")])
    damaged = shard_path(tmp_path, "a", 1)
    flip_a_byte(damaged)
    array = pickle.loads(pickle.dumps(array))
    assert array[np.array([0, 39])].tolist() == [0, 39]
    message = (
        f"token cache: {damaged}: its content is not what was written; "
        "write the cache anew with data.reuse_token_cache false, or remove its folder"
    )
    for use in (lambda: array[np.array([20])], array.check):
        with pytest.raises(DataError) as caught:
            use()
        assert str(caught.value) == message


def make_longer(path):
    path.write_bytes(path.read_bytes() + b"x")


def make_shorter(path):
    path.write_bytes(path.read_bytes()[:-1])


def make_empty(path):
    path.write_bytes(b"")


def make_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (make_longer, "it has 17 bytes, not 16"),
        (make_shorter, "it has 15 bytes, not 16"),
        (make_empty, "it has 0 bytes, not 16"),
        (make_folder, "it is not a regular file"),
        (os.unlink, "No such file or directory"),
    ],
)
def test_a_file_of_another_size_is_named_before_anything_is_read(tmp_path, spoil, what):
    array = written(tmp_path, [np.arange(40, dtype="u1")])
    path = shard_path(tmp_path, "a", 1)
    spoil(path)
    with pytest.raises(DataError) as opened:
        pickle.loads(pickle.dumps(array))
    with pytest.raises(DataError) as used:
        array[:]
    assert str(opened.value) == str(used.value)
    assert str(used.value).startswith(f"token cache: {path}: {what}; write the cache anew with")


def test_an_error_on_the_way_closes_the_file_and_describes_nothing(tmp_path):
    writer = ShardWriter(tmp_path, "a")
    with pytest.raises(KeyboardInterrupt), writer:
        writer.write(np.arange(5, dtype="u1"))
        raise KeyboardInterrupt
    assert writer.shards == []


def test_the_size_of_a_shard_follows_from_its_type():
    assert Shard(length=3, type="<u4", sha256="").size == 12


@pytest.mark.filterwarnings("error")
@given(PARTS)
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
def test_values_are_copies_that_cannot_harm_the_file(tmp_path_factory, parts):
    array = written(tmp_path_factory.mktemp("array"), parts)
    values = array[:]
    values[:] = 0
    assert array[:].tolist() == np.concatenate(parts).tolist()
