"""Labels Python functions by their parameters' names, with scikit-learn's interface.

    python examples/estimator.py

Takes about 20 seconds, half of them to start TensorFlow and to collect the built-in texts.
"""

from tfxc import XCClassifier
from tfxc.data.reading.formats import open_reader


def examples(split, count):
    """Texts and label lists of a built-in set: documentation of Python functions."""
    chunk = next(open_reader("builtin:apidocs", split=split).chunks(count))
    return chunk.texts, chunk.labels


texts, labels = examples("train", 4000)
test_texts, test_labels = examples("test", 1000)

model = XCClassifier(
    encoder={"name": "bag_mlp", "hidden": [128], "dropout": 0.3},
    head={"name": "mach", "num_buckets": 256, "num_repetitions": 8},
    epochs=6,
    text_features={"name": "tfidf", "min_df": 2, "sublinear_tf": True},
)
model.fit(texts, labels)
print(f"{len(model.classes_):,} labels, {len(model.text_features_.vocabulary()):,} terms")
print(f"precision at 1 on new texts: {model.score(test_texts, test_labels):.3f}")

best, scores = model.predict_top_k(test_texts[:3], k=3)
for text, names, true in zip(test_texts, best, test_labels, strict=False):
    print(f"{text.strip()[:60]!r}\n  predicted {list(names)}, true {true}")
