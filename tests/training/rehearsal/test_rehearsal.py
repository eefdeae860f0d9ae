"""Rehearsals: what a config becomes, and what is made for it."""

import numpy as np
import pytest

from tests.source_tree import ROOT
from tfxc.core.config import load_tree, parse_config
from tfxc.core.errors import ConfigError
from tfxc.data.reading.builtin.synthetic.shapes import SHAPES
from tfxc.data.reading.parsing.feature_set import FeatureSet
from tfxc.data.store.manifest import Manifest, fingerprint
from tfxc.data.store.preparation import ensure_prepared
from tfxc.pretrained.architecture import read_architecture
from tfxc.pretrained.stand_in import write_stand_in
from tfxc.pretrained.tokenizer_files import read_subwords
from tfxc.pretrained.weights import Tensors, layer_weights, read_table, stem_weights
from tfxc.training.rehearsal import config as rehearsal
from tfxc.training.rehearsal import rehearsal as made
from tfxc.training.rehearsal.config import rehearsed
from tfxc.training.rehearsal.rehearsal import source_of

CONFIGS = sorted((ROOT / "configs").rglob("*.json"))


def config_of(name, **data):
    tree = load_tree(ROOT / "configs" / f"{name}.json")
    tree["data"] |= data
    return parse_config(tree)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_names_a_shape_with_its_splits_and_form(path):
    config = parse_config(load_tree(path))
    shape = SHAPES[config.data.rehearsal]
    assert rehearsal._form(config, shape) in shape.forms
    for split in ("dev", "test"):
        if getattr(config.data, split):
            assert shape.examples(source_of(split, shape))


def test_data_run_and_nothing_else_are_replaced(tmp_path):
    config = config_of("mach_amazon670k")
    found = rehearsed(config, 1.0, tmp_path).config
    assert found.run == "runs/mach_amazon670k-rehearsal"
    assert found.data.name == "amazon670k-rehearsal" and found.data.where is None
    assert (found.data.train, found.data.test) == ("builtin:synthetic",) * 2
    assert found.data.dev is None and found.data.normalise == "l2"
    assert found.data.reader_options == {"shape": "amazon670k", "share": 1.0, "form": "features"}
    assert found.data.num_labels == 670_091
    replaced = {"run", "data"}
    assert found.model_dump(exclude=replaced) == config.model_dump(exclude=replaced)
    assert not list(tmp_path.iterdir())  # nothing is made yet


def test_labels_are_as_many_as_the_head_and_the_tree_ask_for(tmp_path):
    buckets = rehearsed(config_of("mach_amazon670k"), 0.001, tmp_path)
    assert buckets.config.data.num_labels == 670 * 16  # 10,000 buckets
    levels = rehearsed(config_of("xr_transformer/eurlex4k_bert"), 0.001, tmp_path)
    assert levels.config.data.reader_options["labels"] == 256 * 8


def test_what_else_a_config_names_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("TFXC_MODELS", str(tmp_path / "models"))
    found = rehearsed(config_of("distill_minilm3_clinc150"), 0.1, tmp_path)
    assert found.config.recipe.section()["teachers"] == ["runs/minilm_clinc150-rehearsal"]
    small = tmp_path / "rehearsal-models" / "minilm-small"
    assert found.models == {small: "minilm"}
    assert found.config.encoder.section()["folder"] == str(small)
    assert found.config.data.text_features["folder"] == str(small)
    (tmp_path / "models" / "minilm").mkdir(parents=True)  # one that is there is used
    assert rehearsed(config_of("minilm_clinc150"), 1.0, tmp_path).models == {}
    joined = rehearsed(config_of("xr_transformer/wiki500k_bert1"), 1.0, tmp_path)
    name = "bert-base-uncased"
    assert joined.models == {tmp_path / "rehearsal-models" / name: name}
    assert joined.config.data.reader_options["form"] == "both"


def test_a_feature_set_is_written_and_continued(tmp_path, monkeypatch):
    found = rehearsed(config_of("scent_omniglot"), 0.06, tmp_path)
    assert found.config.data.reader == "feature_set"
    write = made.FeatureWriter.write

    def stopped(self, start, rows):
        if self.num_examples == 1024:
            raise KeyboardInterrupt
        write(self, start, rows)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(made.FeatureWriter, "write", stopped)
        found.prepared(found.config.data, tmp_path / "prepared")
    found.prepared(found.config.data, tmp_path / "prepared")
    train, dev = (FeatureSet(getattr(found.config.data, split)) for split in ("train", "dev"))
    assert (train.num_examples, train.num_features, train.num_labels) == (1363, 128, 256)
    assert dev.num_examples == 1024
    assert np.allclose(np.linalg.norm(train.features, axis=1), 1, atol=1e-5)


def test_the_name_of_a_shape_changes_nothing_that_is_prepared():
    one, other = config_of("mach_bibtex").data, config_of("mach_bibtex", rehearsal=None).data
    assert one != other and fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("mach_bibtex", {"rehearsal": None}, r"data.rehearsal: .*the name of a shape.*amazon3m"),
        ("mach_bibtex", {"rehearsal": "bibtexx"}, r"unknown shape 'bibtexx', did you mean"),
        ("dense_cooking", {"rehearsal": "cifar10"}, r"reads texts, .* 'cifar10' has images"),
        (
            "minilm_clinc150",
            {"text_features": {"name": "pretrained", "folder": "absent/gpt"}},
            r"encoder.folder|data.text_features.folder: there is no folder 'gpt'.*minilm",
        ),
    ],
)
def test_refused(tmp_path, name, data, problem, monkeypatch):
    monkeypatch.setenv("TFXC_MODELS", str(tmp_path))
    with pytest.raises(ConfigError, match=problem):
        rehearsed(config_of(name, **data), 0.1, tmp_path)


def test_a_sample_stands_for_all_examples(tmp_path):
    found = rehearsed(config_of("xr_linear_delicious"), 1.0, tmp_path, sample=True)
    sample = Manifest.load(ensure_prepared(found.config.data, tmp_path, jobs=1))
    whole = found.enlarged(sample)
    assert sample.split("train").examples == rehearsal.SAMPLE
    assert whole.split("train").examples == 12_920 and whole.split("test").examples == 3_185
    ratio = whole.split("train").nonzeros / sample.split("train").nonzeros
    assert ratio == pytest.approx(12_920 / rehearsal.SAMPLE, rel=1e-3)
    assert sum(shard.labels for shard in whole.split("train").shards) == pytest.approx(
        whole.split("train").labels, abs=5
    )


def test_stand_ins_of_pretrained_models_are_read(tmp_path):
    """Every family: its tokeniser has the syllables, its network all weights in their shapes."""
    pytest.importorskip("safetensors", reason="the extra hub is not installed")
    for name in ("bert-base-uncased", "roberta-base", "xlnet-base-cased"):
        folder = tmp_path / name
        write_stand_in(folder, name, small=True, syllables=made.SYLLABLES)
        shape = read_architecture(folder)
        pieces = read_subwords(folder).pieces
        assert {"ba", "zu"} <= set(pieces) and len(pieces) <= shape.vocabulary_size == 1000
        assert (shape.hidden_dim, shape.num_layers, shape.num_heads) == (48, 12, 12)
        tensors = Tensors(folder, shape.family)
        assert read_table(tensors, shape, 900).shape == (900, 48)
        for weight in (*stem_weights(shape), *layer_weights(shape, 0), *layer_weights(shape, 11)):
            assert weight.read(tensors).shape == weight.shape


def test_texts_of_labels_are_their_names(tmp_path):
    found = rehearsed(config_of("label_text_wn18rr"), 0.01, tmp_path).config
    assert found.data.label_texts == "names" and found.data.self_part == " : "
