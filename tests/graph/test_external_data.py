"""External data: the attack layouts of published vulnerabilities are refused, the Hugging Face cache's layout is not."""

import hashlib
import os

import numpy as np
import onnx
import pytest

from sardonyx.base.errors import Fail, InvalidGraph, SardonyxError
from sardonyx.graph.external_data import ExternalData
from sardonyx.graph.load import LoadOptions, load
from tests.graph.models import proto

WEIGHTS = np.arange(6, dtype=np.float32)
DIGEST = hashlib.sha256(WEIGHTS.tobytes()).hexdigest()


def write(folder, location="weights.bin", *, dtype=1, dims=(6,), **entries):
    """model.onnx in the folder, whose initializer w lies at `location`."""
    source = proto("g (float[6] x) => (float[6] z) { z = Add(x, w) }")
    w = source.graph.initializer.add(name="w", data_type=dtype, dims=dims, data_location=onnx.TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        w.external_data.add(key=key, value=value)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    path.write_bytes(source.SerializeToString())
    return path


def numbers(path, **options):
    return load(path, LoadOptions(**options)).graph.initializers["w"].const_value.numpy()


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret.bin"
    path.write_bytes(WEIGHTS.tobytes())
    return path


def test_weights_beside_the_model(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "weights.bin").write_bytes(b"1234" + WEIGHTS.tobytes() + b"rest")
    path = write(tmp_path / "m", offset="4", length="24")
    np.testing.assert_array_equal(numbers(path), WEIGHTS)


def test_weights_in_a_folder_below(tmp_path):
    (tmp_path / "m" / "a" / "b").mkdir(parents=True)
    (tmp_path / "m" / "a" / "b" / "weights.bin").write_bytes(WEIGHTS.tobytes())
    np.testing.assert_array_equal(numbers(write(tmp_path / "m", "./a/b/weights.bin")), WEIGHTS)


def test_a_model_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "weights.bin").write_bytes(WEIGHTS.tobytes())
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(numbers("model.onnx"), WEIGHTS)


def test_the_model_folder_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "weights.bin").write_bytes(WEIGHTS.tobytes())
    write(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    np.testing.assert_array_equal(numbers(tmp_path / "link" / "model.onnx"), WEIGHTS)


def test_bytes_have_no_folder_unless_told(tmp_path):
    (tmp_path / "weights.bin").write_bytes(WEIGHTS.tobytes())
    source = write(tmp_path).read_bytes()
    with pytest.raises(Fail, match="initializer 'w'.*bytes has no folder"):
        load(source)
    np.testing.assert_array_equal(numbers(source, folder=str(tmp_path)), WEIGHTS)


@pytest.mark.parametrize(
    "location",
    [
        "../secret.bin",
        "a/../../secret.bin",
        "a/..",
        "..",
        ".",
        "",
        "/etc/passwd",
        "//etc/passwd",
        "a//b",
        "..\\secret.bin",
        "C:\\secret.bin",
        "C:secret.bin",
        "weights.bin\0",
        "a/./b",
        "*/_ORT_MEM_ADDR_/*",
    ],
)
def test_paths_out_of_the_folder_are_refused(location, tmp_path, secret):
    (tmp_path / "m" / "a").mkdir(parents=True)
    with pytest.raises(Fail, match="External data of initializer 'w' cannot be used"):
        load(write(tmp_path / "m", location))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(Fail, match="initializer 'w' cannot be used: No such file"):
        load(write(tmp_path))


def test_symbolic_links_are_refused(tmp_path, secret):
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "weights.bin").symlink_to(secret)
    with pytest.raises(Fail, match="symbolic link"):
        load(write(folder))


def test_links_within_the_folder_are_refused_too(tmp_path):
    (tmp_path / "real.bin").write_bytes(WEIGHTS.tobytes())
    (tmp_path / "weights.bin").symlink_to("real.bin")
    with pytest.raises(Fail, match="symbolic link"):
        load(write(tmp_path))


def test_symbolic_folders_are_refused(tmp_path, secret):
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "a").symlink_to(tmp_path)
    with pytest.raises(Fail, match="symbolic link"):
        load(write(folder, "a/secret.bin"))


def test_hard_links_are_refused(tmp_path, secret):
    folder = tmp_path / "m"
    folder.mkdir()
    os.link(secret, folder / "weights.bin")
    with pytest.raises(Fail, match="hard links"):
        load(write(folder))


def test_devices_pipes_and_folders_are_refused(tmp_path):
    os.mkfifo(tmp_path / "weights.bin")
    with pytest.raises(Fail, match="not a regular file"):
        load(write(tmp_path))
    (tmp_path / "weights.bin").unlink()
    (tmp_path / "weights.bin").mkdir()
    with pytest.raises(Fail, match="'w'"):
        load(write(tmp_path))


@pytest.mark.parametrize(
    "entries",
    [
        {"offset": "-1"},
        {"offset": "1"},
        {"offset": "18446744073709551615"},
        {"offset": "9223372036854775807", "length": "24"},
        {"offset": "1e3"},
        {"offset": " 0"},
        {"offset": "0x0"},
        {"offset": "٣"},
        {"length": "-24"},
        {"length": "23"},
        {"length": "28"},
        {"length": "18446744073709551640"},
        {"length": ""},
    ],
)
def test_offsets_and_lengths_that_do_not_fit_are_refused(entries, tmp_path):
    (tmp_path / "weights.bin").write_bytes(WEIGHTS.tobytes())
    with pytest.raises(Fail, match="External data of initializer 'w'"):
        load(write(tmp_path, **entries))


@pytest.mark.parametrize(
    ("dtype", "dims"), [(1, (7,)), (1, (1 << 60,)), (1, (-6,)), (1, (1 << 40, 1 << 40)), (11, (6,)), (8, (6,)), (0, (6,))]
)
def test_dtypes_and_shapes_that_do_not_fit_are_refused(dtype, dims, tmp_path):
    (tmp_path / "weights.bin").write_bytes(WEIGHTS.tobytes())
    with pytest.raises((Fail, InvalidGraph), match="'w'"):
        load(write(tmp_path, dtype=dtype, dims=dims))


def test_unknown_entries_are_ignored(tmp_path):
    (tmp_path / "weights.bin").write_bytes(WEIGHTS.tobytes())
    path = write(tmp_path, __class__="x", basepath="/etc", checksum="0")
    np.testing.assert_array_equal(numbers(path), WEIGHTS)


def test_a_file_that_changes_after_loading_is_not_read(tmp_path):
    weights = tmp_path / "weights.bin"
    weights.write_bytes(WEIGHTS.tobytes())
    loaded = load(write(tmp_path)).graph.initializers["w"].const_value
    weights.write_bytes(WEIGHTS.tobytes()[:8])
    with pytest.raises(Fail, match="has changed since"):
        loaded.numpy()


def test_a_file_swapped_for_a_link_after_loading_is_not_read(tmp_path, secret):
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(WEIGHTS.tobytes())
    loaded = load(write(folder)).graph.initializers["w"].const_value
    (folder / "weights.bin").unlink()
    (folder / "weights.bin").symlink_to(secret)
    with pytest.raises(Fail, match="symbolic link"):
        loaded.numpy()


def test_narrow_types_and_booleans(tmp_path):
    (tmp_path / "weights.bin").write_bytes(bytes([0x21, 0x43, 0x05]))
    read = ExternalData(str(tmp_path)).tensor
    where = {
        "data_location": onnx.TensorProto.EXTERNAL,
        "external_data": [onnx.StringStringEntryProto(key="location", value="weights.bin")],
    }
    narrow = read(onnx.TensorProto(name="w", data_type=21, dims=[5], **where), 3)
    np.testing.assert_array_equal(narrow.numpy().astype(int), [1, 2, 3, 4, 5])
    booleans = read(onnx.TensorProto(name="w", data_type=9, dims=[3], **where), 3)
    np.testing.assert_array_equal(booleans.numpy(), [True, True, True])
    assert booleans.numpy().tobytes() == b"\1\1\1"


def test_constant_nodes_with_external_data(tmp_path):
    (tmp_path / "weights.bin").write_bytes(WEIGHTS.tobytes())
    source = proto("g (float[6] x) => (float[6] z) { c = Constant<value_float = 1.0>()\n z = Add(x, c) }")
    attribute = source.graph.node[0].attribute[0]
    attribute.CopyFrom(onnx.helper.make_attribute("value", onnx.TensorProto(name="w", data_type=1, dims=[6])))
    attribute.t.data_location = onnx.TensorProto.EXTERNAL
    attribute.t.external_data.add(key="location", value="weights.bin")
    path = tmp_path / "model.onnx"
    path.write_bytes(source.SerializeToString())
    np.testing.assert_array_equal(load(path).graph.initializers["c"].const_value.numpy(), WEIGHTS)


# ---- the Hugging Face cache -----------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path):
    """models--a--b/snapshots/rev/onnx/model.onnx, its data a link to models--a--b/blobs/123."""
    repository = tmp_path / "hub" / "models--a--b"
    (repository / "blobs").mkdir(parents=True)
    (repository / "blobs" / "123").write_bytes(WEIGHTS.tobytes())
    path = write(repository / "snapshots" / "rev" / "onnx")
    (path.parent / "weights.bin").symlink_to("../../../blobs/123")
    return path


def test_the_hugging_face_cache_is_read(hub):
    np.testing.assert_array_equal(numbers(hub), WEIGHTS)


def test_the_model_itself_may_be_a_link_there(hub):
    blob = hub.parents[3] / "blobs" / "456"
    hub.rename(blob)
    hub.symlink_to("../../../blobs/456")
    np.testing.assert_array_equal(numbers(hub), WEIGHTS)


def test_a_model_in_the_hub_that_is_reached_through_links(hub, tmp_path):
    """The cache's own folder may be one: the user names it."""
    (tmp_path / "elsewhere").symlink_to(tmp_path / "hub")
    path = tmp_path / "elsewhere" / hub.relative_to(tmp_path / "hub")
    np.testing.assert_array_equal(numbers(path), WEIGHTS)


def test_blobs_that_are_a_link_let_nobody_out(hub, tmp_path):
    """Not even to a file that is named by its digest."""
    blobs = hub.parents[3] / "blobs"
    for name in ("123", DIGEST):
        (tmp_path / name).write_bytes(WEIGHTS.tobytes())
        (hub.parent / "weights.bin").unlink()
        (hub.parent / "weights.bin").symlink_to(f"../../../blobs/{name}")
        if not blobs.is_symlink():
            blobs.rename(tmp_path / "moved")
            blobs.symlink_to(tmp_path)
        with pytest.raises(Fail, match="'w' cannot be used.*symbolic link"):
            load(hub)


@pytest.mark.parametrize("part", ["models--a--b", "snapshots", "rev", "onnx"])
def test_links_among_the_folders_of_a_snapshot(part, hub, tmp_path):
    """Those above what the user names are followed; the file's link counts from where the folder really is."""
    folder = next(p for p in hub.parents if p.name == part)
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    with pytest.raises(Fail, match="symbolic link"):
        load(hub)


@pytest.mark.parametrize(
    "target",
    [
        "../../../../../secret.bin",
        "../../../blobs/../../../secret.bin",
        "../../../../models--c--d/blobs/123",
        "../../../blobs/sub/123",
        "../../../other/123",
        "/etc/passwd",
    ],
)
def test_other_links_are_refused_there(target, hub, secret):
    other = hub.parents[4] / "models--c--d" / "blobs"
    other.mkdir(parents=True)
    (other / "123").write_bytes(WEIGHTS.tobytes())
    for extra in ("blobs/sub", "other"):
        (hub.parents[3] / extra).mkdir()
        (hub.parents[3] / extra / "123").write_bytes(WEIGHTS.tobytes())
    (hub.parent / "weights.bin").unlink()
    (hub.parent / "weights.bin").symlink_to(target)
    with pytest.raises(Fail, match="symbolic link"):
        load(hub)


def test_a_blob_that_is_a_link_is_refused(hub, secret):
    blob = hub.parents[3] / "blobs" / "123"
    blob.unlink()
    blob.symlink_to(secret)
    with pytest.raises(SardonyxError, match="'w'"):
        load(hub)


def test_a_blob_with_hard_links_is_refused(hub, tmp_path):
    os.link(hub.parents[3] / "blobs" / "123", tmp_path / "again")
    with pytest.raises(Fail, match="has 2 hard links, so it may be a file from elsewhere; only a blob .* SHA-256"):
        load(hub)


@pytest.fixture
def digests(hub):
    """The same, its blob named by its digest."""
    blobs = hub.parents[3] / "blobs"
    (blobs / "123").rename(blobs / DIGEST)
    (hub.parent / "weights.bin").unlink()
    (hub.parent / "weights.bin").symlink_to(f"../../../blobs/{DIGEST}")
    return hub


def test_a_blob_with_hard_links_is_read_if_its_name_is_its_digest(digests, tmp_path):
    blob = digests.parents[3] / "blobs" / DIGEST
    os.link(blob, tmp_path / "again")
    np.testing.assert_array_equal(numbers(digests), WEIGHTS)
    blob.write_bytes(WEIGHTS[::-1].tobytes())
    with pytest.raises(Fail, match="hard links"):
        load(digests)


def test_a_hard_link_to_a_blob_in_a_snapshot(digests):
    (digests.parent / "weights.bin").unlink()
    os.link(digests.parents[3] / "blobs" / DIGEST, digests.parent / "weights.bin")
    np.testing.assert_array_equal(numbers(digests), WEIGHTS)


def test_a_hard_link_under_the_name_of_another_digest_is_refused(hub, secret):
    name = "0" * 64
    os.link(secret, hub.parents[3] / "blobs" / name)
    (hub.parent / "weights.bin").unlink()
    (hub.parent / "weights.bin").symlink_to(f"../../../blobs/{name}")
    with pytest.raises(Fail, match="hard links"):
        load(hub)
    (hub.parent / "weights.bin").unlink()
    os.link(secret, hub.parent / "weights.bin")
    with pytest.raises(Fail, match="hard links"):
        load(hub)


@pytest.mark.parametrize("how", ["absolute", "relative"])
def test_a_local_folder_of_links_into_the_cache(how, digests, tmp_path):
    """What `local_dir` of huggingface_hub before 0.23 made."""
    blob = digests.parents[3] / "blobs" / DIGEST
    path = write(tmp_path / "local" / "onnx")
    (path.parent / "weights.bin").symlink_to(blob if how == "absolute" else os.path.relpath(blob, path.parent))
    np.testing.assert_array_equal(numbers(path), WEIGHTS)
    (tmp_path / "cache").symlink_to(tmp_path / "hub")  # a cache that is reached through a link
    (path.parent / "weights.bin").unlink()
    (path.parent / "weights.bin").symlink_to(tmp_path / "cache" / "models--a--b" / "blobs" / DIGEST)
    np.testing.assert_array_equal(numbers(path), WEIGHTS)


def test_a_local_folder_of_links_to_what_is_no_blob(digests, tmp_path, secret):
    blobs = digests.parents[3] / "blobs"
    (blobs / ("0" * 64)).write_bytes(WEIGHTS.tobytes())
    (blobs / "123").write_bytes(WEIGHTS.tobytes())
    (tmp_path / DIGEST).write_bytes(WEIGHTS.tobytes())
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / DIGEST).write_bytes(WEIGHTS.tobytes())
    path = write(tmp_path / "local")
    for target in (blobs / ("0" * 64), blobs / "123", tmp_path / DIGEST, tmp_path / "blobs" / DIGEST, secret):
        (path.parent / "weights.bin").symlink_to(target)
        with pytest.raises(Fail, match="symbolic link"):
            load(path)
        (path.parent / "weights.bin").unlink()


def test_a_blob_behind_a_link_in_another_cache_is_refused(digests, tmp_path, secret):
    blob = digests.parents[3] / "blobs" / DIGEST
    blob.rename(tmp_path / "moved")
    blob.symlink_to(tmp_path / "moved")
    path = write(tmp_path / "local")
    (path.parent / "weights.bin").symlink_to(blob)
    with pytest.raises(Fail, match="symbolic link"):
        load(path)


def test_a_blob_that_changes_after_loading_is_not_read(digests, tmp_path):
    path = write(tmp_path / "local")
    blob = digests.parents[3] / "blobs" / DIGEST
    (path.parent / "weights.bin").symlink_to(blob)
    loaded = load(path).graph.initializers["w"].const_value
    blob.write_bytes(WEIGHTS[::-1].tobytes())
    with pytest.raises(Fail, match="'w' cannot be used"):
        loaded.numpy()


def test_the_layout_outside_a_repository_is_refused(tmp_path, secret):
    folder = tmp_path / "elsewhere" / "snapshots" / "rev"
    path = write(folder)
    (tmp_path / "elsewhere" / "blobs").mkdir()
    (tmp_path / "elsewhere" / "blobs" / "123").write_bytes(WEIGHTS.tobytes())
    (folder / "weights.bin").symlink_to("../../blobs/123")
    with pytest.raises(Fail, match="symbolic link"):
        load(path)
