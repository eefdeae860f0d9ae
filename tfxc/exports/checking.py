"""Whether a SavedModel answers as the run it was made from."""

import numpy as np
import tensorflow as tf
from sklearn.preprocessing import normalize

from tfxc.data.kinds import ENCODED, IMAGE, TEXT
from tfxc.data.rows import Rows
from tfxc.inference.searcher import Searcher

# Of scores, relative to the largest one. In half precision a last bit of a feature may tip the
# rounding of a hidden unit.
_TOLERANCE, _HALF_PRECISION_TOLERANCE = 1e-4, 2e-2
_CALIBRATED_TOLERANCE = 1e-6  # of a probability, beside what the tolerance of its score allows
_SMALLEST = 1e-30  # probabilities below count as equal
_SAMPLES = 8


def largest_difference(loaded_run, folder, k, probabilities=False):
    """Largest difference of a score of the SavedModel in ``folder`` to the run's model.

    Args:
        loaded_run: a ``LoadedRun``.
        folder: the SavedModel's.
        k: labels per example.
        probabilities: whether its scores are probabilities. Calibrated ones may differ by what a
            rounding difference of the ranker's score makes of them, others relative to themselves.

    Raises:
        RuntimeError: it is no rounding difference, or the label ids differ: a bug.
    """
    served = tf.saved_model.load(str(folder)).signatures
    inputs, features = sample_inputs(loaded_run)
    model, tolerance = loaded_run.model, tolerance_of(loaded_run)
    calibration = model.calibration if probabilities else None
    relative = probabilities and calibration is None
    expected = Searcher(model, k, probabilities=relative)({"features": features})
    worst = 0.0
    for name, arguments in inputs.items():
        found = served[name](**arguments)
        found = found["ids"].numpy(), found["scores"].numpy()
        what = f"the SavedModel's signature {name!r}"
        # Of logarithms the difference is no smaller than that of the probabilities themselves.
        pair = [_logarithms(*part) for part in (found, expected)] if relative else (found, expected)
        worst = max(worst, checked_difference(*pair, tolerance, what, calibration))
    return worst


def _logarithms(ids, probabilities):
    # NaN stays NaN.
    return ids, np.log(np.maximum(probabilities, _SMALLEST))


def tolerance_of(loaded_run):
    """Largest difference of a score that counts as rounding, relative to the largest score."""
    precision = loaded_run.config.training.precision
    return _TOLERANCE if precision == "float32" else _HALF_PRECISION_TOLERANCE


def checked_difference(found, expected, tolerance, what, calibration=None):
    """Largest difference of the scores found to those expected.

    Args:
        found: NumPy (ids, scores), both (batch, k).
        expected: the same of the run's model.
        tolerance: see ``tolerance_of``.
        what: was asked, for the message.
        calibration: ``Calibration``, if the scores found are its probabilities of those expected.

    Raises:
        RuntimeError: it is no rounding difference, or ids differ whose scores are no tie.
    """
    (ids, scores), (expected_ids, expected) = found, expected
    right = expected if calibration is None else calibration.apply(expected)
    with np.errstate(invalid="ignore"):
        difference = float(np.where(scores == right, 0, np.abs(scores - right)).max())
        gaps = np.abs(np.diff(expected, axis=1, append=-np.inf))  # the last may tie with the next
    finite = np.abs(expected[np.isfinite(expected)])  # lists may be short
    tolerance *= max(1.0, float(finite.max(initial=0)))
    close = np.minimum(gaps, np.roll(gaps, 1, axis=1)) <= tolerance
    close[:, -1] = True
    least = most = right
    if calibration is not None:  # where its map is steep, rounding moves a probability far
        least, most = (calibration.apply(expected + step) for step in (-tolerance, tolerance))
        tolerance = _CALIBRATED_TOLERANCE
    # Not NaN either, which no comparison holds for.
    within = (scores >= least - tolerance) & (scores <= most + tolerance)
    if not within.all() or ((ids != expected_ids) & ~close).any():
        raise RuntimeError(
            f"{what} does not answer as the trained model: scores "
            f"differ by up to {difference:g}, ids {ids[:2].tolist()} instead of "
            f"{expected_ids[:2].tolist()}"
        )
    return difference


def sample_rows(loaded_run):
    """Random examples as the run's data are, but for the scaling of rows.

    Args:
        loaded_run: a ``LoadedRun``.

    Returns:
        tuple: ``Rows``; the texts they were made of, or None.
    """
    kind, manifest, draw = loaded_run.kind, loaded_run.manifest, np.random.default_rng(0)
    texts, width = loaded_run.text_features, manifest["num_features"]
    if texts is None:
        arrays, lines = kind.example(manifest, _SAMPLES, draw), None
    else:
        lines = _sample_texts(texts, draw)
        arrays = kind.arrays_of(texts.transform(lines))
    count = kind.columns[0].count(arrays)
    unlabelled = {"label_indptr": np.zeros(count + 1), "label_ids": []}
    return Rows(kind, arrays, **unlabelled, num_features=width), lines


def scaled(rows, manifest):
    """``Rows`` as the run's model takes them: an independent path through scikit-learn."""
    if manifest["row_normalise"] is None:
        return rows
    matrix = rows.kind.matrix(rows.batch()["features"], rows.num_features)
    arrays = rows.kind.arrays_of(normalize(matrix, manifest["row_normalise"]))
    return Rows(rows.kind, arrays, **rows.labels, num_features=rows.num_features)


def sample_inputs(loaded_run):
    """Arguments of every signature for the same examples, and the run's features of them."""
    rows, texts = sample_rows(loaded_run)
    raw = _tensors(rows.kind.tensors_of(rows.arrays))
    features = _tensors(scaled(rows, loaded_run.manifest).batch()["features"])
    inputs = {"serving_default": raw}
    if rows.kind is IMAGE:  # PNG files lose nothing: the same pixels reach both signatures
        files = [tf.io.encode_png(image).numpy() for image in rows.images]
        inputs["encoded"] = {ENCODED.inputs[0]: tf.constant(files)}
    else:
        inputs["features"] = raw
    if texts is not None:
        inputs["serving_default"] = {TEXT.name: tf.constant(texts)}
    return inputs, features


def _tensors(features):
    return tf.nest.map_structure(tf.constant, features)


def _sample_texts(features, draw):
    parts = [getattr(features, name) for name in features.kind.parts] or [features]
    terms = [term for part in parts for term in part.vocabulary() or ()]
    terms = terms or ["The", "quick", "brown", "fox", "jumps", "Über", "Straße"]
    texts = [" ".join(draw.choice(terms, 12)) for _ in range(_SAMPLES)]
    return [*texts, texts[0].upper(), "", "İstanbul, ΟΔΟΣ: naïve 日本語 x"]
