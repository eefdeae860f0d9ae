"""Data, from files to batches.

Three storeys, each of which uses those below it only: ``reading`` turns files into chunks of
examples, ``store`` keeps prepared data, ``sources`` makes batches. Below them is ``examples``, what
an example is. ``text``, ``images``, ``label_texts`` and ``verification`` are subjects of their own.
"""
