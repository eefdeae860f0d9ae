"""What a run decides of each example: its labels, precision, recall and F1, and the tables."""

from pathlib import Path

from tfxc.files import make_folder
from tfxc.metrics.per_label import PerLabel


class Decided:
    """Collects what was decided, and writes it.

    Decided for are the labels whose score reaches the threshold that is given. Without one, where
    the objective is a yes or no for each label and the training examples do not all have one
    label, those whose probability is 0.5 or more (of logits: 0 or more). Else the best one alone.
    Scores are told as probabilities where no threshold on the scores is given and the head has
    them.

    Args:
        num_labels: number of labels.
        threshold: smallest score, or None for the best label.
        probabilities: whether scores have to be probabilities.
        most: wrong examples to keep.

    Attributes:
        found: ``PerLabel`` to be updated.
    """

    def __init__(self, num_labels, threshold, probabilities, most):
        self.threshold, self.probabilities = threshold, probabilities
        self.found = PerLabel(num_labels, threshold, most)

    @classmethod
    def of(cls, loaded, options):
        """For a ``LoadedRun``, as the options ``threshold`` and ``most`` say."""
        from tfxc.training.search import decides_each_label, has_probabilities

        given = loaded.config.evaluation.threshold
        given = given if options.threshold is None else options.threshold
        split, probabilities = loaded.manifest["splits"]["train"], has_probabilities(loaded.model)
        several = (split["min_labels"], split["max_labels"]) != (1, 1)
        if given is None and several and probabilities and decides_each_label(loaded.model):
            given = 0.5
        else:
            probabilities &= given is None
        return cls(loaded.manifest["num_labels"], given, probabilities, options.most)

    def count(self, least, labels):
        """Labels to be searched for each example.

        Args:
            least: what else is measured needs so many.
            labels: how many, where there is a threshold.
        """
        if self.threshold is None:
            return max(least, 1)
        return min(self.found.num_labels, max(least, labels))

    def write(self, folder, loaded, texts):
        """Writes the three tables.

        Args:
            folder: made if need be.
            loaded: ``LoadedRun``.
            texts: {example: text} of wrong examples, perhaps empty.

        Returns:
            What is to be told, a text.
        """
        from tfxc.reports.tables import average_rows, write_tables

        folder, found, names = Path(folder), self.found, loaded.vocabulary.names
        make_folder(folder)
        kind = "probability" if self.probabilities else "score"
        plural = {"probability": "probabilities", "score": "scores"}[kind]
        write_tables(folder, found, names, loaded.label_counts, texts, scores=plural)
        chosen = (
            "best label"
            if self.threshold is None
            else (f"labels of {kind} {self.threshold:g} or more")
        )
        rows = average_rows(found, names)
        width = max(len(name) for name, *_ in rows)
        lines = [f"of the {chosen}, in %:", " ".ljust(width) + "  precision   recall       F1"]
        for name, *values in rows:
            cells = "".join(f"{100 * value:9.2f}" for value in values)
            lines.append(f"{name.ljust(width)}  {cells}")
        lines.append(f"accuracy: {100 * found.of_examples()[3]:.2f}")
        kept = len(found.wrong)
        if kept < found.num_wrong:
            lines.append(f"of {found.num_wrong:,} wrong examples the surest {kept:,} are kept")
        if found.pairs_left_out:
            lines.append("of the confused pairs the most frequent million is kept")
        lines.append(f"written: {folder}/labels.csv, confusions.csv and wrong.csv")
        return "\n".join(lines)
