"""Data sets that ``datasets`` loads: folders it has saved, folders of files, and wrong names."""

import json
import sys

import pytest

from tests.data.reading.inspection.test_contents import rows
from tfxc.core.errors import ConfigError, DataError, MachineError
from tfxc.core.storage.hub import saved_folder
from tfxc.core.storage.remote import is_remote, stage, staged_path


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """Caches of tfxc and of ``datasets``, which asks no server."""
    monkeypatch.setenv("TFXC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def datasets(cache, monkeypatch):
    found = pytest.importorskip("datasets", reason="the extra huggingface is not installed")
    monkeypatch.setattr(found.config, "HF_DATASETS_CACHE", str(cache / "hf"))
    monkeypatch.setattr(found.config, "HF_HUB_OFFLINE", True)
    found.disable_progress_bars()
    return found


def test_addresses():
    assert is_remote("hf:clinc_oos") and is_remote("hf:/data/set") and is_remote("hf:~/set")
    assert not is_remote("hf") and not is_remote("a/hf:b")


def test_a_saved_folder_is_read_where_it_is(cache):
    (cache / "set").mkdir()
    (cache / "set" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert stage(f"hf:{cache}/set") == saved_folder(f"hf:{cache}/set") == cache / "set"
    assert not (cache / "cache").exists()


def test_folders_of_one_name_have_copies_of_their_own(cache, monkeypatch):
    places = set()
    for name in ("a", "b"):
        (cache / name / "set").mkdir(parents=True)
        monkeypatch.chdir(cache / name)
        places |= {staged_path("hf:set"), staged_path(f"hf:{cache}/{name}/set")}
    assert len(places) == 2 and {place.name for place in places} == {"set"}


def test_without_the_package(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"data.train: the package datasets .*\[huggingface\]"):
        stage("hf:clinc_oos", "data.train")


def test_a_folder_of_files(datasets, cache):
    folder = cache / "mine"
    folder.mkdir()
    for split, count in (("train", 30), ("validation", 6)):
        lines = [json.dumps({"text": text, "intent": label}) for text, label in rows(count)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    path = stage(f"hf:{folder}")
    assert path == staged_path(f"hf:{folder}") and saved_folder(str(path)) == path
    assert datasets.load_from_disk(str(path))["validation"].num_rows == 6
    state = path.stat().st_mtime_ns
    assert stage(f"hf:{folder}").stat().st_mtime_ns == state, "written once"
    (folder / "validation.jsonl").write_text("\n".join(lines[:4]))
    assert datasets.load_from_disk(str(stage(f"hf:{folder}")))["validation"].num_rows == 4


def test_wrong_names(datasets, cache):
    with pytest.raises(MachineError, match=r"hf:no_such_set: cannot be loaded: Couldn't reach"):
        stage("hf:no_such_set")
    with pytest.raises(DataError, match=r"hf:~/no/such: no such folder"):
        stage("hf:~/no/such")
    (cache / "empty").mkdir()
    with pytest.raises(DataError, match=f"hf:{cache}/empty: there is no such data set on the Hub"):
        stage(f"hf:{cache}/empty")
    assert not (cache / "cache" / "remote").exists()
