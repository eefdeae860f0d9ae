"""What a frozen encoder with a trained projection reaches where head ``label_text`` trains it all.

    python benchmarks/frozen_label_texts.py --config CONFIG [--split dev] [--seeds 0 1 2]

The encoder of the config reads examples and labels' texts once, as it is before training. One
matrix, from zero, is added to the identity and trained on these vectors: softmax over the cosines
of all training labels by a temperature that is trained, too. A tenth of the labels (``--held-out``)
is held out as by ``data.held_out_labels`` with ``data.seed``, so that the figures stand beside
those of ``tfxc train --set data.held_out_labels=0.1 --set seed=S --set data.seed=S``. Printed are
P@1 and R@1 of trained and untrained labels, and the same with the ``seen_penalty`` that has the
best harmonic mean of the two on this very split. For sets with one label per example.
"""

import argparse
import sys
import tempfile

MARGIN = 0.02
TEMPERATURE = 0.05
BATCH = 64
PENALTIES = [number / 100 for number in range(40)]


def vectors(config, split, folder):
    """Frozen vectors of a split and of the labels, true labels, and which labels are trained."""
    import numpy as np

    from tfxc.data.store.preparation import ensure_prepared
    from tfxc.inference.embedder import vectors_of_texts
    from tfxc.training.job import TrainingJob
    from tfxc.training.strategies import make_strategy

    data = ensure_prepared(config.data, folder)
    job = TrainingJob(config, data, f"{folder}/run-{config.seed}")
    trainer = job.trainer(make_strategy(config.training, config))
    arrays = [vectors_of_texts(trainer.model, trainer.source.label_texts().rows)]
    for source in (trainer.source, job.open_source(split)):
        rows = source.rows()
        labels = np.asarray(rows.batch()["labels"])
        if labels.shape[1] != 1 or (labels < 0).any():
            raise SystemExit(f"{config.data.name}: an example has not exactly one label")
        vectors_there = vectors_of_texts(trainer.model, rows, "encoding examples", "examples")
        arrays += [vectors_there, labels[:, 0]]
    return *arrays, trainer.source.label_counts() > 0


def trained_projection(examples, labels, texts, options, seed):
    """Function of vectors -> projected unit vectors; ``labels`` count the ``texts``."""
    import numpy as np
    import tensorflow as tf

    width = texts.shape[1]
    draw = np.random.default_rng(seed)
    matrix = tf.Variable(tf.zeros((width, width)))
    log_scale = tf.Variable(-np.log(TEMPERATURE), dtype=tf.float32)
    steps = options.epochs * (len(examples) // BATCH)
    rate = tf.keras.optimizers.schedules.PolynomialDecay(options.learning_rate, steps, 0.0)
    optimizer = tf.keras.optimizers.Adam(rate)

    def project(rows):
        return tf.math.l2_normalize(rows + rows @ matrix, axis=1)

    @tf.function
    def step(rows, true):
        with tf.GradientTape() as tape:
            cosines = tf.matmul(project(rows), project(texts), transpose_b=True)
            cosines -= MARGIN * tf.one_hot(true, len(texts))
            logits = cosines * tf.exp(tf.minimum(log_scale, np.log(100)))
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(true, logits)
            loss = tf.reduce_mean(losses)
        weights = [matrix, log_scale]
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    for _ in range(options.epochs):
        order = draw.permutation(len(examples))
        for first in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[first : first + BATCH]
            step(tf.constant(examples[chosen]), tf.constant(labels[chosen]))
    return project


def measured(config, options, folder):
    """Shares of right answers (all, trained, untrained) at penalty 0, and at the best one."""
    import numpy as np

    texts, examples, labels, queries, true, trained = vectors(config, options.split, folder)
    numbers = np.cumsum(trained) - 1  # of the trained labels among themselves
    project = trained_projection(examples, numbers[labels], texts[trained], options, config.seed)
    scores = np.asarray(project(queries)) @ np.asarray(project(texts)).T

    def shares(penalty):
        right = (scores - penalty * trained).argmax(axis=1) == true
        return penalty, right.mean(), right[trained[true]].mean(), right[~trained[true]].mean()

    def harmonic(row):
        return 2 * row[2] * row[3] / max(row[2] + row[3], 1e-9)

    return shares(0), max(map(shares, PENALTIES), key=harmonic)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--held-out", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    options = parser.parse_args(arguments)

    import numpy as np

    from tfxc.data.reading.inspection.completion import load_config

    rows = []
    for seed in options.seeds:
        changes = [f"data.held_out_labels={options.held_out}", f"seed={seed}", f"data.seed={seed}"]
        config = load_config(options.config, changes)
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measured(config, options, folder))
        for penalty, *shares in rows[-1]:
            shown = "  ".join(f"{100 * share:.2f}" for share in shares)
            print(f"seed {seed}, seen_penalty {penalty:.2f}: all, trained, untrained: {shown}")
    for name, measures in zip(("as trained", "calibrated"), np.swapaxes(rows, 0, 1), strict=True):
        means = 100 * measures[:, 1:].mean(axis=0)
        spread = 100 * measures[:, 1:].std(axis=0)
        shown = "  ".join(f"{m:.2f} ± {s:.2f}" for m, s in zip(means, spread, strict=True))
        print(f"{name}: all, trained, untrained: {shown}")


if __name__ == "__main__":
    sys.exit(main())
