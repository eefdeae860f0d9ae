"""Text classifiers of MHE, against its formulas and BERT by NumPy."""

import importlib
import json

import numpy as np
import pytest

from tests.commands.calls import call
from tests.encoders.hub_folders import CONFIG, bert_arrays, bert_states, write_folder
from tests.torch_files import save
from tfxc.commands import predict
from tfxc.core.errors import DataError
from tfxc.imports.mhe import import_mhe
from tfxc.runs.loaded import load_run

import_model = importlib.import_module("tfxc.commands.import")

TEXTS = ["a red fox", "no hen but a cat !", "unknown owl", "日 fox"]
LABELS, HIDDEN, LAYERS = 11, 6, 2


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """The folder of a language model of two layers; its own weights are others."""
    folder = tmp_path_factory.mktemp("mhe") / "bert"
    write_folder(folder, seed=5)
    return folder


def state_dict(groups, dummy=0, seed=1):
    """A state dict of MHE; without ``groups`` it has one output per label."""
    random = np.random.default_rng(seed)
    width = LAYERS * CONFIG["hidden_size"]
    tensors = {f"bert.{name}": values for name, values in bert_arrays(CONFIG, seed=2).items()}
    shapes = {"l0": (groups or LABELS, width)} | ({"l1": (HIDDEN, width)} if groups else {})
    for name, shape in shapes.items():
        tensors[f"{name}.weight"] = random.normal(0, 0.1, shape).astype("f4")
        tensors[f"{name}.bias"] = random.normal(0, 0.3, shape[:1]).astype("f4")
    if groups:
        shape = (LABELS + dummy, HIDDEN)
        tensors["embed.weight"] = random.normal(0, 0.5, shape).astype("f4")
    return tensors


def features(tensors, ids):
    """The first token's vectors, the last layer first."""
    arrays = {n.removeprefix("bert."): x for n, x in tensors.items() if n.startswith("bert.")}
    states = bert_states(arrays, CONFIG, ids)
    return np.concatenate([state[0] for state in states[:-3:-1]])


def scores_by_numpy(tensors, ids):
    """Logarithms of what MHE ranks by: sigmoids, of a label times that of its group."""
    x = features(tensors, ids)

    def log_sigmoid(name, x):
        return -np.log1p(np.exp(-(tensors[f"{name}.weight"] @ x + tensors[f"{name}.bias"])))

    if "embed.weight" not in tensors:
        return tensors["l0.weight"] @ x + tensors["l0.bias"]
    projected = tensors["l1.weight"] @ x + tensors["l1.bias"]
    labels = -np.log1p(np.exp(-tensors["embed.weight"][:LABELS] @ projected))
    size = -(-LABELS // len(tensors["l0.bias"]))
    return labels + np.repeat(log_sigmoid("l0", x), size)[:LABELS]


@pytest.mark.parametrize(("groups", "dummy"), [(4, 0), (4, 1), (None, 0)])
def test_scores_are_those_of_mhe(tmp_path, bert, groups, dummy):
    """11 labels in 4 groups of 3; code for several devices has a row more."""
    tensors = state_dict(groups, dummy)
    save(tmp_path / "model-eurlex4k.bin", tensors)
    (tmp_path / "names.txt").write_text("".join(f"label {n}\n" for n in range(LABELS)))
    found = import_mhe(
        tmp_path / "model-eurlex4k.bin",
        tmp_path / "run",
        folder=bert,
        names=tmp_path / "names.txt",
        max_length=12,
    )
    rest = "; the last row of embed is of no label" if dummy else ""
    assert found == (f"4 groups of 3, 11 labels{rest}" if groups else "11 labels")
    loaded = load_run(tmp_path / "run")
    rows = loaded.text_features.transform(TEXTS)
    for row in np.split(rows.tokens, rows.indptr[1:-1]):
        own = scores_by_numpy(tensors, row)
        ids, scores = loaded.model.find_top_k(row[None], LABELS)
        np.testing.assert_array_equal(ids[0], np.argsort(-own))
        np.testing.assert_allclose(scores[0], -np.sort(-own), rtol=1e-4, atol=1e-5)


def test_the_row_of_no_label_may_change_the_groups(tmp_path, bert):
    """13 rows are 12 labels in 4 groups of 3, or 13 in groups of 4: only the names say which."""
    tensors = state_dict(4, dummy=2)
    save(tmp_path / "model.bin", tensors)
    files = (tmp_path / "model.bin", tmp_path / "run")
    with pytest.raises(DataError, match=r"--labels: .* 13 labels in groups of 4, or 12 in"):
        import_mhe(*files, folder=bert, max_length=12)
    for count, expected in ((12, "4 groups of 3, 12 labels; the last row"), (13, "4 groups of 4")):
        (tmp_path / "names.txt").write_text("".join(f"label {n}\n" for n in range(count)))
        found = import_mhe(*files, folder=bert, names=tmp_path / "names.txt", max_length=12)
        assert found.startswith(expected)
    for name, shape in (
        ("l0.weight", (0, 32)),
        ("embed.weight", (0, HIDDEN)),
        ("embed.weight", ()),
    ):
        save(tmp_path / "model.bin", tensors | {name: np.zeros(shape, "f4")})
        with pytest.raises(DataError, match=rf"{name.split('.')[0]}.* shape"):
            import_mhe(*files, folder=bert, max_length=12)


def test_the_command(tmp_path, bert, capsys):
    save(tmp_path / "model.bin", state_dict(4))
    run = tmp_path / "run"
    command = (capsys, import_model, "mhe", tmp_path / "model.bin", "--run", run)
    outcome = call(*command)
    assert outcome.code == 2 and "required: --pretrained" in outcome.err
    own = ("--pretrained", bert, "--max-length", 12, "--beam", 2)
    assert call(*command, *own).out == f"{run}: 4 groups of 3, 11 labels\n"
    assert load_run(run).model.head.beam == 2
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    lines = call(capsys, predict, "--run", run, tmp_path / "texts.txt", "--k", 2).out.splitlines()
    assert len(lines) == 4 and len(json.loads(lines[0])["labels"]) == 2


def test_files_that_do_not_fit(tmp_path, bert, capsys):
    tensors = state_dict(4)
    tensors["l1.bias"] = np.zeros(5, "f4")
    del tensors["l0.bias"]
    save(tmp_path / "model.bin", tensors)
    run = tmp_path / "run"
    command = (capsys, import_model, "mhe", tmp_path / "model.bin", "--run", run)
    problem = call(*command, "--pretrained", bert, "--max-length", 12).problem()
    assert "1 missing: l0.bias; 1 of another shape: l1.bias (5,) for (6,)" in problem
    (tmp_path / "names.txt").write_text("a\nb\n")
    names = ("--labels", tmp_path / "names.txt")
    problem = call(*command, "--pretrained", bert, "--max-length", 12, *names).problem()
    assert "the file has 2 names, but there are 11 labels" in problem
    for changes, message in (
        ({"hidden_size": 20}, "the layer l0, of shape (4, 32), does not fit vectors of 20 values"),
        ({"model_type": "xlnet"}, "models with XLNet cannot be imported"),
    ):
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / "config.json").write_text(json.dumps(CONFIG | changes))
        assert message in call(*command, "--pretrained", tmp_path / "other").problem()
    assert not run.exists()
