"""Whether a SavedModel answers as the run it was made from."""

import itertools

import numpy as np
import tensorflow as tf

from tfxc.data.lists import pad_tokens
from tfxc.data.text.joined import JoinedRows
from tfxc.data.text.tokens_base import TokenRows
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
    calibration = model.calibration if probabilities and hasattr(model, "find_top_k") else None
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


def sample_inputs(loaded_run):
    """Arguments of every signature for the same examples, and the run's features of them."""
    manifest, draw = loaded_run.manifest, np.random.default_rng(0)
    if manifest["feature_kind"] == "image":
        return _sample_images(manifest["image_shape"], draw)
    texts = None
    if loaded_run.text_features is not None:
        texts = _sample_texts(loaded_run.text_features, draw)
        raw = _tensors(loaded_run.text_features.transform(texts))
    elif manifest["feature_kind"] == "sparse":
        raw = _sample_bags(manifest["num_features"], draw)
    else:
        raw = {"features": tf.constant(draw.normal(size=(_SAMPLES, manifest["num_features"])),
                                       tf.float32)}  # fmt: skip
    inputs = {"features": raw, "serving_default": raw}
    if texts is not None:
        inputs["serving_default"] = {"text": tf.constant(texts)}
    return inputs, _normalised(raw, manifest)


def _normalised(raw, manifest):
    """What the run's model takes for raw features: an independent path through NumPy."""
    if "tokens" in raw:
        return raw if "ids" in raw else raw["tokens"]
    if manifest["row_normalise"] is None:
        return raw.get("features", raw)
    if "features" in raw:
        matrix = raw["features"].numpy()
        return tf.constant(matrix / np.linalg.norm(matrix, axis=1, keepdims=True))
    weights, splits = raw["weights"].numpy().copy(), raw["row_splits"].numpy()
    for first, last in itertools.pairwise(splits):
        weights[first:last] /= np.linalg.norm(weights[first:last]) or 1.0
    return {**raw, "weights": tf.constant(weights)}


def _tensors(rows):
    if isinstance(rows, JoinedRows):
        return {**_tensors(rows.terms), **_tensors(rows.tokens)}
    if isinstance(rows, TokenRows):
        return {"tokens": tf.constant(pad_tokens(rows.indptr, rows.tokens))}
    return {
        "ids": tf.constant(rows.indices, tf.int32),
        "weights": tf.constant(rows.data, tf.float32),
        "row_splits": tf.constant(rows.indptr, tf.int64),
    }


def _sample_texts(features, draw):
    parts = [features.tokens, features.terms] if features.kind == "joined" else [features]
    terms = [term for part in parts for term in part.vocabulary() or ()]
    terms = terms or ["The", "quick", "brown", "fox", "jumps", "Über", "Straße"]
    texts = [" ".join(draw.choice(terms, 12)) for _ in range(_SAMPLES)]
    return [*texts, texts[0].upper(), "", "İstanbul, ΟΔΟΣ: naïve 日本語 x"]


def _sample_images(shape, draw):
    """PNG files lose nothing: the same pixels reach both signatures."""
    images = draw.integers(0, 256, (_SAMPLES, *shape), np.uint8)
    files = [tf.io.encode_png(image).numpy() for image in images]
    features = tf.constant(images)
    inputs = {
        "serving_default": {"images": features},
        "encoded": {"image_bytes": tf.constant(files)},
    }
    return inputs, features


def _sample_bags(num_features, draw):
    width = min(20, num_features)
    ids = [np.sort(draw.choice(num_features, width, replace=False)) for _ in range(_SAMPLES)]
    return {
        "ids": tf.constant(np.concatenate(ids), tf.int32),
        "weights": tf.constant(draw.uniform(0.1, 1, width * _SAMPLES), tf.float32),
        "row_splits": tf.constant(np.arange(_SAMPLES + 1) * width, tf.int64),
    }
