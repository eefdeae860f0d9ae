"""Training steps of a config, to be timed."""

import tempfile


def step_of(config):
    """A function () that trains one step of a ``Config``, input pipeline included."""
    import tensorflow as tf

    from tfxc.data.store.preparation import ensure_prepared
    from tfxc.training.job import TrainingJob

    folder = ensure_prepared(config.data)
    with tempfile.TemporaryDirectory() as scratch:  # of a run of which nothing is kept
        trainer = TrainingJob(config, folder, scratch).trainer(tf.distribute.get_strategy())
    iterator = iter(trainer.batches())
    return lambda: float(trainer.step_function.run(iterator))


def use_threads(number):
    """Lets TensorFlow work on this many threads; call it before anything else of it."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(number)
    tf.config.threading.set_inter_op_parallelism_threads(number)
