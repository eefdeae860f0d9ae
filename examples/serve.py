"""From texts to a SavedModel that takes raw strings and answers with label names.

    python examples/serve.py

The last part needs only TensorFlow: it could run in another process or on another machine.
"""

import tempfile
import time
from pathlib import Path

import tensorflow as tf

from tfxc import Run, XCClassifier

texts = ["melt the butter", "boil the pasta", "fry the egg", "bake the bread"] * 20
labels = [["butter"], ["pasta", "water"], ["egg", "butter"], ["bread", "oven"]] * 20

with tempfile.TemporaryDirectory() as folder:
    XCClassifier(epochs=30, batch_size=32).fit(texts, labels).save(Path(folder, "run"))
    run = Run(Path(folder, "run"))
    print(run.predict(["Fry an EGG!"], k=2).labels)
    served = run.export(Path(folder, "served"), k=3)

    model = tf.saved_model.load(str(served)).signatures["serving_default"]
    answer = model(text=tf.constant(["Fry an EGG!", "some pasta, please"]))
    for names, scores in zip(answer["labels"].numpy(), answer["scores"].numpy(), strict=True):
        print([f"{name.decode()} {score:.2f}" for name, score in zip(names, scores, strict=True)])

    began = time.perf_counter()
    for _ in range(100):
        model(text=tf.constant(["Fry an EGG!"]))
    print(f"{10 * (time.perf_counter() - began):.2f} ms per text")
