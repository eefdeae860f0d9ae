"""The command verify, against embeddings and scores computed here with NumPy."""

import json
import pickle
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.commands.calls import call, listing
from tests.small_runs import make_run
from tfxc.commands import verify
from tfxc.core import registry
from tfxc.data.images.alignment import TEMPLATE
from tfxc.data.verification.pairs import make_pairs
from tfxc.encoders.base import Encoder
from tfxc.encoders.bases.image import ImageShape

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (40, 6, 5, 3), np.uint8)
FEATURES = RANDOM.normal(size=(40, 20)).astype(np.float32)
LABELS = np.arange(40) % 8
PAIRS, SAME = make_pairs(LABELS, 60)


@keras.saving.register_keras_serializable("tests")
class Slope(Encoder):
    """Sums of pixels under fixed weights that differ from left to right."""

    input_kind = "image"

    def __init__(self, image_shape: ImageShape, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.image_shape = tuple(image_shape)

    def call(self, features, training=False):
        return tf.einsum("bhwc,hwcd->bd", tf.cast(features, tf.float32), slopes(self.image_shape))


@pytest.fixture(autouse=True, scope="module")
def _trusted():
    """The runs of these tests have an encoder of their own, which they may import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "refuse_modules", lambda *_: None)
        yield


def slopes(shape):
    """The weights of ``Slope``, float32 (height, width, channels, 4)."""
    return np.random.default_rng(9).normal(size=(*shape, 4)).astype(np.float32)


def vectors(images, flip):
    """What a run with ``Slope`` should give."""
    images = images.astype(np.float64)
    images = images + images[:, :, ::-1] if flip else images
    return np.einsum("bhwc,hwcd->bd", images, slopes(images.shape[1:]).astype(np.float64))


def distances(embeddings, pairs):
    """Squared distances of unit vectors, pair by pair."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.array([((unit[a] - unit[b]) ** 2).sum() for a, b in pairs])


def slope_run(folder, shape):
    return make_run(
        folder,
        kind="image",
        image_shape=shape,
        num_features=int(np.prod(shape)),
        encoder={"name": "tests.commands.test_verify:Slope"},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs on images and on features, and pairs of both."""
    folder = tmp_path_factory.mktemp("verify")
    slope_run(folder / "images", (6, 5, 3))
    precision = {"training": {"precision": "mixed_bfloat16"}}
    make_run(folder / "dense", kind="dense", encoder={"name": "precomputed"}, **precision)
    make_run(folder / "sparse", normalise="l2")
    np.savez(folder / "images.npz", images=IMAGES, pairs=PAIRS, same=SAME)
    np.savez(folder / "features.npz", features=FEATURES, pairs=PAIRS, same=SAME)
    np.savez(folder / "labelled.npz", features=FEATURES, labels=LABELS)
    np.save(folder / "embeddings.npy", FEATURES)
    np.savez(folder / "bare.npz", pairs=PAIRS, same=SAME)
    return folder


def measure(capsys, tmp_path, *arguments, name):
    """Calls the command; returns its output, the record and the values per pair."""
    outcome = call(capsys, verify, *arguments, "--output", tmp_path)
    assert outcome.code == 0, outcome.err
    record = json.loads((tmp_path / f"verification-{name}.json").read_text())
    with np.load(tmp_path / f"verification-{name}.npz") as stored:
        return outcome.out, record, dict(stored)


@pytest.mark.parametrize("flip", [True, False])
def test_images(folder, tmp_path, capsys, flip):
    command = ["--run", folder / "images", "--pairs", folder / "images.npz"]
    command += [] if flip else ["--no-flip"]
    out, record, values = measure(capsys, tmp_path, *command, "--batch-size", 7, name="images-npz")
    expected = distances(vectors(IMAGES, flip), PAIRS)
    np.testing.assert_allclose(values["distance"], expected, atol=1e-5)
    np.testing.assert_array_equal(values["pairs"], PAIRS)
    assert record["flip"] is flip
    assert record["metrics"]["accuracy"] == pytest.approx(values["correct"].mean())
    assert out.startswith(f"{folder / 'images'} on images.npz: 60 pairs, 30 of them the same\n")
    shown = float(re.search(r"^accuracy +(\S+)", out, re.MULTILINE)[1])
    assert shown == pytest.approx(100 * record["metrics"]["accuracy"], abs=0.006)


def test_encoded_images_of_other_sizes(folder, tmp_path, capsys):
    """Images of the run's size come through unchanged; larger ones are scaled as in training."""
    large = np.repeat(np.repeat(IMAGES, 2, axis=1), 2, axis=2)
    files = [tf.io.encode_png(image).numpy() for image in IMAGES]
    order = PAIRS.ravel()
    content = [files[row] for row in order]
    content[0] = tf.io.encode_png(large[order[0]]).numpy()
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps((content, SAME.tolist()), 2))
    command = ["--run", folder / "images", "--pairs", tmp_path / "lfw.bin"]
    _, _, values = measure(capsys, tmp_path, *command, name="lfw-bin")
    expected = distances(vectors(IMAGES, True), PAIRS)
    np.testing.assert_allclose(values["distance"][1:], expected[1:], atol=1e-5)
    assert values["distance"][0] != pytest.approx(expected[0], abs=1e-6)


def test_images_of_a_folder(folder, tmp_path, capsys):
    names = [f"{'abcdefgh'[label]}/{row}.png" for row, label in enumerate(LABELS)]
    for name, image in zip(names, IMAGES, strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(tf.io.encode_png(image).numpy())
    flags = SAME.astype(int)
    lines = [f"{names[a]},{names[b]},{f}\n" for (a, b), f in zip(PAIRS, flags, strict=True)]
    (tmp_path / "list.csv").write_text("".join(lines))
    command = ["--run", folder / "images", "--pairs", tmp_path / "list.csv", "--images", tmp_path]
    _, _, values = measure(capsys, tmp_path, *command, name="list-csv")
    expected = distances(vectors(IMAGES, True), PAIRS)
    np.testing.assert_allclose(values["distance"], expected, atol=1e-5)


def test_dense_vectors_in_float32(folder, tmp_path, capsys):
    """The run was trained in bfloat16, which would be wrong in the third decimal."""
    command = ["--run", folder / "dense", "--pairs", folder / "features.npz", "--folds", 3]
    _, record, values = measure(capsys, tmp_path, *command, name="features-npz")
    np.testing.assert_allclose(values["distance"], distances(FEATURES, PAIRS), atol=1e-6)
    assert record["flip"] is False and len(record["metrics"]["thresholds"]) == 3


def test_sparse_bags(folder, tmp_path, capsys):
    from tfxc.runs.loaded import load_run

    command = ["--run", folder / "sparse", "--pairs", folder / "features.npz"]
    _, _, values = measure(capsys, tmp_path, *command, name="features-npz")
    table, bias, *_ = [w.numpy() for w in load_run(folder / "sparse").model.trainable_variables]
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    expected = distances(np.maximum(unit @ table + bias, 0), PAIRS)
    np.testing.assert_allclose(values["distance"], expected, atol=1e-5)


@pytest.mark.parametrize("source", [["--run", "{}/dense"], ["--embeddings", "{}/embeddings.npy"]])
def test_pairs_from_labels(folder, tmp_path, capsys, source):
    command = [source[0], source[1].format(folder), "--pairs-from-labels", folder / "labelled.npz"]
    command += ["--num-pairs", 40, "--seed", 5, "--folds", 4, "--disjoint-classes"]
    _, _, values = measure(capsys, tmp_path, *command, name="labelled-npz")
    pairs, same = make_pairs(LABELS, 40, seed=5, folds=4, disjoint=True)
    np.testing.assert_array_equal(values["same"], same)
    np.testing.assert_allclose(values["distance"], distances(FEATURES, pairs), atol=1e-6)


def test_embeddings(folder, tmp_path, capsys):
    """From a file of their own, from the pairs' file, as two halves."""
    expected = distances(FEATURES, PAIRS)
    command = ["--pairs", folder / "bare.npz", "--embeddings", folder / "embeddings.npy"]
    _, record, values = measure(capsys, tmp_path, *command, name="bare-npz")
    np.testing.assert_allclose(values["distance"], expected, atol=1e-6)
    assert record["run"] is None
    np.savez(tmp_path / "own.npz", embeddings=FEATURES, pairs=PAIRS, same=SAME)
    _, _, values = measure(capsys, tmp_path, "--pairs", tmp_path / "own.npz", name="own-npz")
    np.testing.assert_allclose(values["distance"], expected, atol=1e-6)
    sums = FEATURES[:, :10] + FEATURES[:, 10:]
    for more, halves in ([], sums), (["--no-flip"], FEATURES[:, :10]):
        _, record, values = measure(capsys, tmp_path, *command, "--halves", *more, name="bare-npz")
        np.testing.assert_allclose(values["distance"], distances(halves, PAIRS), atol=1e-6)
        assert record["flip"] is not bool(more)


def test_nothing_is_written_without_a_folder(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["--pairs", folder / "bare.npz", "--embeddings", folder / "embeddings.npy"]
    assert "not written: neither --run nor --output" in call(capsys, verify, *command).out
    assert not listing(tmp_path)


def test_plot(folder, tmp_path, capsys):
    command = ["--pairs", folder / "bare.npz", "--embeddings", folder / "embeddings.npy"]
    call(capsys, verify, *command, "--roc", tmp_path / "roc.svg")
    assert b"<svg" in (tmp_path / "roc.svg").read_bytes()


TEMPLATES = [[7, 1, 0.9], [7, 1, 0.8], [7, 2, 0.7], [3, 1, 0.6], [5, 4, 1.0], [5, 9, 0.5]]


@pytest.fixture
def ijb(tmp_path):
    """Six aligned faces in three templates; template 7 has a media of two frames."""
    root = tmp_path / "ijb"
    for part in ("meta", "loose_crop"):
        (root / part).mkdir(parents=True)
    faces = np.random.default_rng(4).integers(0, 256, (6, 112, 112, 3), np.uint8)
    landmarks = " ".join(f"{value:.4f}" for value in TEMPLATE.ravel())
    names = [f"{number}.png" for number in range(6)]
    for name, face in zip(names, faces, strict=True):
        (root / "loose_crop" / name).write_bytes(tf.io.encode_png(face).numpy())
    rows = list(zip(names, TEMPLATES, strict=True))
    scores = [f"{name} {landmarks} {score}\n" for name, (_, _, score) in rows]
    (root / "meta/ijbb_name_5pts_score.txt").write_text("".join(scores))
    members = [f"{name} {template} {media}\n" for name, (template, media, _) in rows]
    (root / "meta/ijbb_face_tid_mid.txt").write_text("".join(members))
    (root / "meta/ijbb_template_pair_label.txt").write_text("7 3 0\n7 5 1\n3 5 0\n")
    return root, faces


def template_scores(embeddings):
    """Scores of the three pairs: weighted, mean over frames, sum over media, unit length."""
    weighted = embeddings * np.array([score for *_, score in TEMPLATES])[:, None]
    seven = (weighted[0] + weighted[1]) / 2 + weighted[2]
    three, five = weighted[3], weighted[4] + weighted[5]
    unit = [vector / np.linalg.norm(vector) for vector in (seven, three, five)]
    return [unit[0] @ unit[1], unit[0] @ unit[2], unit[1] @ unit[2]]


def test_ijb_by_a_run(ijb, tmp_path, capsys):
    root, faces = ijb
    run = slope_run(tmp_path / "run", (112, 112, 3))
    for more, flip in ([], True), (["--no-flip"], False):
        command = ["--run", run, "--ijb", root, "--target", "ijbb", *more]
        out, record, values = measure(capsys, tmp_path, *command, name="ijbb")
        expected = template_scores(vectors(faces, flip))
        np.testing.assert_allclose(values["score"], expected, atol=1e-4)
        assert values["same"].tolist() == [False, True, False]
        assert record["flip"] is flip and "accuracy" not in record["metrics"]
        assert " on ijbb: 3 pairs, 1 of them the same" in out and "TAR@1e-04" in out


def test_ijb_by_embeddings(ijb, tmp_path, capsys):
    root, _ = ijb
    np.save(tmp_path / "e.npy", FEATURES[:6])
    command = ["--embeddings", tmp_path / "e.npy", "--ijb", root, "--target", "ijbb", "--halves"]
    _, _, values = measure(capsys, tmp_path, *command, name="ijbb")
    expected = template_scores(FEATURES[:6, :10] + FEATURES[:6, 10:])
    np.testing.assert_allclose(values["score"], expected, atol=1e-6)
    np.save(tmp_path / "e.npy", FEATURES[:5])
    problem = call(capsys, verify, *command).problem()
    assert "5 embeddings, but 6 template ids" in problem


def write_people(folder, rows):
    """Images of the given rows in one sub-folder per label; returns the folder."""
    for row in rows:
        path = folder / "abcdefgh"[LABELS[row]] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(IMAGES[row]).numpy())
    return folder


def best_of(vectors, gallery, probes):
    """The label of the best gallery image of each probe, and its cosine."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = unit[probes] @ unit[gallery].T
    return np.array(list("abcdefgh"))[LABELS[gallery][scores.argmax(axis=1)]], scores.max(axis=1)


GALLERY, PROBES = np.arange(0, 21), np.arange(24, 40)


def test_identification_of_own_images(folder, tmp_path, capsys):
    """Galleries and probes as folders of people, and as lists of files; with mirror images."""
    gallery, probes = (
        write_people(tmp_path / name, rows) for name, rows in (("in", GALLERY), ("out", PROBES))
    )
    write_people(tmp_path / "all", [*GALLERY, *PROBES])
    for name, rows in (("in", GALLERY), ("out", PROBES)):
        lines = [
            f"{p}/{row}.png,{p}"
            for row, p in zip(rows, np.array(list("abcdefgh"))[LABELS[rows]], strict=True)
        ]
        (tmp_path / f"{name}.csv").write_text("image,person\n" + "\n".join(lines) + "\n")
    expected, scores = best_of(vectors(IMAGES, True), GALLERY, PROBES)
    order = np.argsort(LABELS[PROBES], kind="stable")  # of folders
    listed = (tmp_path / "in.csv", "--probes", tmp_path / "out.csv", "--images", tmp_path / "all")
    for given, places in (((gallery, "--probes", probes), order), (listed, np.arange(16))):
        command = ["--run", folder / "images", "--gallery", *given, "--output", tmp_path]
        outcome = call(capsys, verify, *command)
        assert outcome.code == 0, outcome.err
        name = "out" if given[0] == gallery else "out-csv"
        with np.load(tmp_path / f"identification-{name}.npz") as found:
            np.testing.assert_array_equal(found["found"], expected[places])
            np.testing.assert_allclose(found["score"], scores[places], atol=1e-5)
        record = json.loads((tmp_path / f"identification-{name}.json").read_text())
        right = expected == np.array(list("abcdefgh"))[LABELS[PROBES]]
        assert record["metrics"]["rank"]["1"] == pytest.approx(right.mean())
        assert "16 probes, 16 of them of people in galleries of 8\n" in outcome.out


def test_identification_of_embeddings(folder, tmp_path, capsys):
    """The second gallery lacks people: an open set. Names are row numbers."""
    lists = {"one": GALLERY, "two": np.flatnonzero(LABELS < 3)[:9], "probes": PROBES}
    for name, rows in lists.items():
        lines = [f"{row} {'abcdefgh'[LABELS[row]]}\n" for row in rows]
        (tmp_path / f"{name}.txt").write_text("".join(lines))
    command = ["--embeddings", folder / "embeddings.npy", "--probes", tmp_path / "probes.txt"]
    command += ["--gallery", tmp_path / "one.txt", "--gallery", tmp_path / "two.txt"]
    outcome = call(capsys, verify, *command, "--output", tmp_path)
    assert "16 probes, 16 of them of people in galleries of 8 and 3\n" in outcome.out
    record = json.loads((tmp_path / "identification-probes-txt.json").read_text())
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    scores = unit[PROBES] @ unit[lists["two"]].T
    known = LABELS[PROBES] < 3
    strangers = np.sort(scores[~known].max(axis=1))[::-1]
    first = LABELS[lists["two"]][scores.argmax(axis=1)] == LABELS[PROBES]
    hits = first[known] & (scores[known].max(axis=1) > strangers[1])
    assert len(strangers) == 10
    assert record["metrics"]["tpir_at_fpir"]["0.1"] == {"tpir": hits.mean(), "fpir": 0.1}
    (tmp_path / "probes.txt").write_text("3 a\n3 b\n")
    assert "'3' has two subjects, 'a' and 'b'" in call(capsys, verify, *command).problem()
    (tmp_path / "probes.txt").write_text("3\n")
    assert "probes.txt:1: '3' is not 'name subject'" in call(capsys, verify, *command).problem()
    problem = call(capsys, verify, *command[:2], "--gallery", folder, "--probes", folder).problem()
    assert "this is a folder, but embeddings need a list of names and subjects" in problem


def test_identification_of_ijb(ijb, tmp_path, capsys):
    """Template 7 is of person 1, in the first gallery; 3 of person 2, in the second."""
    root, _ = ijb
    np.save(tmp_path / "e.npy", FEATURES[:6])
    header = "TEMPLATE_ID,SUBJECT_ID,FILENAME\n"
    lists = {
        "gallery_S1": "7,1,a\n7,1,b\n",
        "gallery_S2": "3,2,a\n",
        "probe_mixed": "5,1,a\n3,2,b\n",
    }
    for name, lines in lists.items():
        (root / f"meta/ijbb_1N_{name}.csv").write_text(header + lines)
    command = ["--embeddings", tmp_path / "e.npy", "--ijb", root, "--target", "ijbb", "--identify"]
    outcome = call(capsys, verify, *command, "--output", tmp_path)
    assert "2 probes, 2 of them of people in galleries of 1 and 1\n" in outcome.out
    weak, right, wrong = template_scores(FEATURES[:6])  # 7 and 3, 7 and 5, 3 and 5
    with np.load(tmp_path / "identification-ijbb.npz") as found:
        np.testing.assert_allclose(found["score"], [max(right, wrong), 1], atol=1e-6)
        assert found["found"].tolist() == ["1" if right > wrong else "2", "2"]
    metrics = json.loads((tmp_path / "identification-ijbb.json").read_text())["metrics"]
    # In each gallery the probe of the other one is a stranger.
    hits = [right > weak, wrong < 1]
    assert metrics["tpir_at_fpir"]["0.1"] == {"tpir": np.mean(hits), "fpir": 0.0}
    (root / "meta/ijbb_1N_gallery_S2.csv").write_text(header + "8,2,a\n")
    problem = call(capsys, verify, *command).problem()
    assert "S2.csv:2: template '8' has no images" in problem
    (root / "meta/ijbb_1N_gallery_S2.csv").unlink()
    assert "ijbb_1N_gallery_S2.csv: no such file" in call(capsys, verify, *command).problem()


BARE = ["--pairs", "{}/bare.npz"]
EMBEDDED = [*BARE, "--embeddings", "{}/embeddings.npy"]
RUN = ["--run", "{}/dense"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pairs", "x.bin"], "neither --run nor --embeddings is given"),
        (BARE, "the array images, features or embeddings is missing"),
        (["--pairs", "{}/features.npz"], "these pairs have no embeddings"),
        ([*RUN, *BARE], "the array images, features or embeddings is missing"),
        ([*RUN, "--pairs", "{}/images.npz"], "the examples have no features, but images"),
        (
            ["--run", "{}/images", "--pairs", "{}/features.npz"],
            "the examples have no images, but features",
        ),
        ([*RUN, "--pairs", "absent.bin"], "absent.bin: no such file"),
        ([*RUN, "--ijb", "x"], "--target: the set in the folder of --ijb is not named"),
        (
            [*RUN, "--ijb", "x", "--target", "ijbc", "--far", "0.1"],
            "--folds and --far do not apply to --ijb",
        ),
        ([*RUN, "--ijb", "x", "--target", "ijbc"], "ijbc_name_5pts_score.txt: no such file"),
        ([*EMBEDDED, "--images", "x"], "--images: --embeddings are used in place of images"),
        ([*RUN, *BARE, "--images", "x"], "bare.npz. Leave it out"),
        (
            [*RUN, "--gallery", "{}", "--probes", "{}", "--images", "x"],
            "--images: no text file names images of this folder",
        ),
        ([*EMBEDDED, "--target", "ijbc"], "--target: this option needs --ijb"),
        ([*EMBEDDED, "--identify"], "--identify: this option needs --ijb"),
        ([*RUN, "--gallery", "x"], "--gallery: this option needs --probes"),
        ([*EMBEDDED, "--probes", "x"], "--probes: this option needs --gallery"),
        (
            [*RUN, "--gallery", "x", "--probes", "y", "--folds", "3"],
            "--folds: this option is for pairs",
        ),
        (
            [*RUN, "--gallery", "x", "--probes", "y"],
            "y: the list of names needs a folder of images",
        ),
        ([*EMBEDDED, "--num-pairs", "8"], "--num-pairs: this option needs --pairs-"),
        ([*EMBEDDED, "--seed", "0"], "--seed: this option needs --pairs-from-labels"),
        ([*EMBEDDED, "--batch-size", "8"], "--batch-size: this option needs --run"),
        ([*RUN, *BARE, "--halves"], "--halves: this option needs --embeddings"),
        ([*EMBEDDED, "--no-flip"], "--no-flip: --embeddings are used as they are"),
        ([*EMBEDDED, "--folds", "61"], "61 folds are impossible for 60 pairs. Give 2 to 60"),
        (
            [*BARE, "--embeddings", "{}/bare.npz"],
            "there is no array 'embeddings', only pairs",
        ),
        (
            [*RUN, "--pairs-from-labels", "{}/labelled.npz"],
            "of the same class were requested, but there are only",
        ),
        ([*RUN, "--pairs-from-labels", "builtin:glyph"], "did you mean 'glyphs'"),
    ],
)
def test_user_errors(folder, tmp_path, capsys, arguments, message):
    before = listing(folder)
    command = [text.format(folder) for text in arguments]
    assert message in call(capsys, verify, *command, "--output", tmp_path).problem()
    assert listing(folder) == before and not listing(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*EMBEDDED, *RUN], "--run: not allowed with argument --embeddings"),
        ([*EMBEDDED, "--folds", "1"], "--folds: must be an integer of at least 2, not 1"),
        ([*EMBEDDED, "--far", "1"], "--far: must be a number above 0 and below 1, not 1"),
    ],
)
def test_options_that_are_refused_at_once(folder, capsys, arguments, message):
    command = [text.format(folder) for text in arguments]
    assert message in call(capsys, verify, *command).err
