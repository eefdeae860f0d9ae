"""Training steps of a config, to be timed."""

import tempfile


def step_of(config):
    """A function () that trains one step of a ``Config``, input pipeline included."""
    import tensorflow as tf

    from tfxc.data.manifest import Manifest
    from tfxc.data.preparation import ensure_prepared
    from tfxc.runs.folder import RunFolder
    from tfxc.training.job import make_trainer

    folder = ensure_prepared(config.data)
    manifest, strategy = Manifest.load(folder), tf.distribute.get_strategy()
    with tempfile.TemporaryDirectory() as scratch:  # of a run of which nothing is kept
        run = RunFolder(scratch)
        trainer = make_trainer(config, folder, manifest, run, strategy, measured=False)
    iterator = iter(trainer.batches())
    return lambda: float(trainer.step_function.run(iterator))


def use_threads(number):
    """Lets TensorFlow work on so many threads; call it before anything else of it."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(number)
    tf.config.threading.set_inter_op_parallelism_threads(number)
