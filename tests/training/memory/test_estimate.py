"""What is said of memory before a training run."""

import pytest

from tests import label_text_runs, tiny
from tfxc.core.config import parse_config
from tfxc.data.store.manifest import Manifest
from tfxc.data.store.preparation import ensure_prepared
from tfxc.heads.bases import label_chunks
from tfxc.recipes.kfold.recipe import KFold
from tfxc.recipes.repetitions.recipe import Repetitions
from tfxc.training.memory.estimate import Memory, allocated, estimate, memory_lines, needs

LABELS = 30


def found(folder, **changes):
    """(``Estimate`` of a tiny config, its ``Manifest``)."""
    config = parse_config(tiny.tiny_tree(folder, **changes))
    data = ensure_prepared(config.data, folder / "prepared", jobs=1)
    return estimate(config, data), Manifest.load(data)


def test_parts_of_the_memory(tmp_path):
    memory = found(tmp_path, techniques=[{"name": "ema"}])[0].training
    parameters = 60 * 32 + 32 + 32 * LABELS + LABELS
    assert memory.parameters == parameters
    assert memory.weights == memory.averages == 4 * parameters and memory.slots == 8 * parameters
    assert memory.saving == 2 * 4 * 60 * 32
    assert memory.total == sum(memory[1:])
    assert memory.runtime > 200 * 2**20, "TensorFlow is imported here as well"


def test_large_weights_are_written_in_pieces(tmp_path):
    hidden, piece = 2**19, 2**26  # the table of 60 features has 126 MB
    config = parse_config(tiny.tiny_tree(tmp_path, encoder={"hidden": [hidden]}))
    data = ensure_prepared(config.data, tmp_path / "prepared", jobs=1)
    memory = allocated(config, Manifest.load(data))
    assert piece < 4 * 60 * hidden and memory.saving == 2 * piece


def test_chunks_of_a_fused_head_are_written_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(label_chunks, "CHUNK", 16)
    head = {"name": "dense", "update": "fused", "learning_rate": 0.1}
    encoder = {"hidden": [32], "num_hashed_features": 20}
    config = parse_config(tiny.tiny_tree(tmp_path, head=head, encoder=encoder))
    data = ensure_prepared(config.data, tmp_path / "prepared", jobs=1)
    memory = allocated(config, Manifest.load(data))
    assert memory.parameters == 20 * 32 + 32 + 33 * LABELS
    assert memory.saving == 2 * 4 * 20 * 32, "the encoder's table, not 30 labels at once"


def test_activations_grow_with_the_batch(tmp_path):
    hidden = {"hidden": [512]}
    small, large = (
        found(tmp_path, encoder=hidden, training={"batch_size": size})[0].training.activations
        for size in (32, 128)
    )
    assert 4 * 32 * 512 < small < large
    assert 96 * 512 * 4 < large - small < 10 * 96 * 512 * 4


def test_micro_batches_share_their_memory(tmp_path):
    whole, cut = (
        found(tmp_path, training={"batch_size": 1024, **more})[0].training
        for more in ({}, {"accumulate": 8})
    )
    assert cut.activations < 0.7 * whole.activations


def test_no_gradient_of_a_table_of_which_few_rows_are_learned(tmp_path):
    encoder, table = {"hidden": [256]}, 4 * 60 * 256
    data = {"train": str(tmp_path / "few.txt"), "dev": None}
    tiny.tiny_tree(tmp_path)
    lines = (tmp_path / "train.txt").read_text().splitlines()[1:]
    (tmp_path / "few.txt").write_text("\n".join(["2 60000 30", *lines[:2]]) + "\n")
    memory = found(tmp_path, encoder=encoder, data=data, training={"batch_size": 2})[0].training
    assert memory.weights > 4 * 60_000 * 256 > 100 * table
    assert memory.activations < 20 * table, "of the rows that the batch has"


def test_hard_labels_and_near_examples(tmp_path):
    label_text_runs.write_data(tmp_path)

    def memory(**head):
        config = parse_config(label_text_runs.tree_of(tmp_path, head={"mine_from": 1, **head}))
        data = ensure_prepared(config.data, tmp_path / "prepared", jobs=1)
        examples = Manifest.load(data).splits["train"].examples
        return estimate(config, data).training, examples

    (plain, examples), (mined, _) = memory(), memory(mined=8, mined_candidates=10)
    near, queued = memory(batching="near")[0], memory(pre_batch=3)[0]
    assert plain.tables == 0
    assert mined.tables == 2 * 10 * 4 * examples
    assert mined.activations > 1.2 * plain.activations, "more columns"
    assert near.tables == 5 * 16 * examples, "vectors of 16 numbers, and a quarter of them"
    assert near.activations == plain.activations
    slots = 4 * 32
    assert queued.tables == 2 * slots * (16 * 4 + 8) + 3 * slots * 32 * 4


def test_replicas_on_one_machine(tmp_path):
    one, two = (
        found(tmp_path, training={"batch_size": 64, **more})[0]
        for more in ({}, {"strategy": "mirrored", "devices": ["CPU:0", "CPU:1"]})
    )
    assert two.training.weights == 2 * one.training.weights
    assert two.training.slots == 2 * one.training.slots
    assert one.training.activations < two.training.activations < 2 * one.training.activations
    assert two.evaluation - two.training.runtime == one.evaluation - one.training.runtime


def test_sharded_class_centres_are_counted_once(tmp_path):
    head = {"name": "margin", "scale": 8.0}
    two = {"training": {"strategy": "mirrored", "devices": ["CPU:0", "CPU:1"]}}
    whole, shards = (
        found(tmp_path, head={**head, "sharded": sharded}, objective={"name": "softmax"}, **two)[0]
        for sharded in (False, True)
    )
    centres = 4 * tiny.NUM_LABELS * 32
    assert whole.training.weights - shards.training.weights == centres
    assert whole.training.slots - shards.training.slots == 2 * centres
    assert shards.evaluation - shards.training.runtime == whole.evaluation - whole.training.runtime


def test_evaluation_and_export_hold_the_weights(tmp_path):
    memory = found(tmp_path, encoder={"hidden": [4096]})[0]
    beyond = memory.evaluation - memory.training.runtime
    assert memory.training.weights < beyond < 6 * memory.training.weights
    assert beyond < memory.export - memory.training.runtime < beyond + 200 * LABELS, "and the names"


def test_an_export_holds_all_models_of_a_run(tmp_path):
    config = parse_config(tiny.tiny_tree(tmp_path, encoder={"hidden": [4096]}))
    data = ensure_prepared(config.data, tmp_path / "prepared", jobs=1)
    one, three = (estimate(config, data, models=count) for count in (1, 3))
    difference = (three.export - three.training.runtime) - (one.export - one.training.runtime)
    assert difference == 2 * one.training.weights
    assert three.training.weights == one.training.weights


@pytest.mark.parametrize("count", [1, 3])
def test_repetitions_are_put_together_beside_the_one_that_is_read(tmp_path, count):
    head = {"name": "mach", "num_buckets": 16, "num_repetitions": count}
    config = parse_config(tiny.tiny_tree(tmp_path, head=head, recipe={"name": "repetitions"}))
    assert Repetitions().models_at_once(config) == count + 1
    assert Repetitions(together=True).models_at_once(config) == 1
    assert KFold(folds=4).models_at_once(config) == 4


def test_a_tree_with_softmax_whose_lookups_are_not_known(tmp_path):
    """The parents of nodes are looked up, and are the segments of sums."""
    head = {"name": "tree", "nr_splits": 2, "max_leaf_size": 4, "link": "softmax"}
    memory = found(tmp_path, head=head, objective={"name": "softmax"})[0].training
    assert memory.activations > 0


@pytest.mark.parametrize("memory_gb", [2.0, 1e-6])
def test_examples_take_at_most_what_they_may(tmp_path, memory_gb):
    training = {"training": {"memory_gb": memory_gb}}
    config = parse_config(tiny.tiny_tree(tmp_path, **training))
    manifest = Manifest.load(ensure_prepared(config.data, tmp_path / "prepared", jobs=1))
    data = allocated(config, manifest).data
    assert data <= 2 * memory_gb * 2**30 and (data > 2**13) == (memory_gb > 1)


def test_gpus_hold_the_tensors_and_the_host_the_rest(tmp_path, monkeypatch):
    where = "tfxc.training.memory.estimate."
    config = parse_config(tiny.tiny_tree(tmp_path))
    memory = Memory(0, weights=40, slots=80, averages=0, activations=20, tables=0, data=7,
                    saving=5, fragments=10, runtime=3)  # fmt: skip
    (all_of_it,) = needs(memory, config.training)
    assert all_of_it.where == "total" and all_of_it.needed == 165
    monkeypatch.setattr(where + "gpu_bytes", lambda: [1000, 120])
    monkeypatch.setattr("tfxc.training.strategies.num_gpus", lambda: 2)
    gpu, host = needs(memory, config.training)
    assert gpu == ("GPU", 150, 120) and (host.where, host.needed) == ("host", 15)
    settings = config.training.model_copy(update={"strategy": "mirrored"})
    assert needs(memory, settings)[0] == ("GPU", 75, 120), "each has a replica"
    assert [line.split() for line in memory_lines(memory, settings, None)][-2][0] == "GPU"
    on_cpu = settings.model_copy(update={"devices": ["CPU:0", "CPU:1"]})
    assert needs(memory, on_cpu)[0].needed == 165
