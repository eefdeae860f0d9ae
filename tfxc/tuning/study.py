"""Settings chosen by Optuna: by the results so far, with hopeless ones ended early."""

import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core.errors import missing_package
from tfxc.core.storage.reading import read_json_lines
from tfxc.tuning.space import Values, name_of

with missing_package("search", where="--trials"):
    import optuna
    from optuna.trial import Trial, TrialState

if TYPE_CHECKING:
    from tfxc.core.settings import Config


_STARTED = 5  # trials that are trained to their end before others are compared with them
_FAILED = "failed"  # attribute of a trial whose training has failed: its exit code
_AGAIN = "again"  # attribute of the study: numbers of failed trials that were tried again


class Study:
    """The trials of one search space, kept in ``search.db`` of a folder.

    Args:
        folder: an existing folder; None keeps them in memory.
        config: ``Config`` that is changed.
        tried: list of ``Values``.
        metric: name of the dev metric.
        smaller: whether smaller values are better.

    Attributes:
        tried: see above.
    """

    def __init__(
        self,
        folder: Path | None,
        config: "Config",
        tried: Sequence[Values],
        metric: str,
        smaller: bool = False,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.tried = tried
        self._seed = 0
        self._jobs = 1
        self._asking = threading.Lock()
        space = [values._asdict() for values in tried]
        tree = config.model_dump(mode="json", exclude={"about", "run"})
        self._study = optuna.create_study(
            storage=None if folder is None else f"sqlite:///{(folder / 'search.db').resolve()}",
            study_name=name_of({"config": tree, "space": space, "metric": metric, "of": smaller}),
            direction="minimize" if smaller else "maximize",
            load_if_exists=True,
        )

    def resume(self, seed: int, jobs: int) -> list[tuple[dict[str, Any], float | None, bool]]:
        """Puts interrupted and failed trials first, and returns those that are done.

        Args:
            seed: of the choice.
            jobs: how many trials run at a time.

        Returns:
            (changes, result or None, whether it was ended early) of each.
        """
        self._seed = seed
        self._jobs = jobs
        self._study.pruner = optuna.pruners.MedianPruner(_STARTED, n_warmup_steps=1)
        done = []
        again = set(self._study.user_attrs.get(_AGAIN, ()))
        for trial in self._study.get_trials(deepcopy=False):
            pruned = trial.state == TrialState.PRUNED
            if pruned or trial.state == TrialState.COMPLETE:
                changes = {v.key: v.value_of(trial.params) for v in self.tried}
                done.append((changes, None if pruned else trial.value, pruned))
            elif trial.state == TrialState.RUNNING:
                self._study.tell(trial.number, state=TrialState.FAIL)
                if len(trial.params) == len(self.tried):  # else it is drawn again
                    self._study.enqueue_trial(trial.params)
            elif _FAILED in trial.user_attrs and trial.number not in again:
                self._study.enqueue_trial(trial.params)
                again.add(trial.number)
        self._study.set_user_attr(_AGAIN, sorted(again))
        return done

    def enqueue(self, changes: Mapping[str, Any]) -> None:
        """Makes a setting the next one that is tried."""
        self._study.enqueue_trial({v.key: v.param_of(changes[v.key]) for v in self.tried})

    def ask(self, changed: str | None = None) -> tuple[Trial, dict[str, Any]]:
        """Returns the next trial, and its setting.

        Args:
            changed: the only key in which it differs from the best setting so far; None for all.

        Trial n is drawn by the seed and n, from the results of those before it: one at a time, a
        search that was killed goes on with the settings of one that was not.
        """
        with self._asking:
            # Trials that were interrupted or tried again count once.
            asked = sum(
                trial.state not in (TrialState.FAIL, TrialState.WAITING)
                or _FAILED in trial.user_attrs
                for trial in self._study.get_trials(deepcopy=False)
            )
            seed = self._seed + asked - len(self._study.user_attrs.get(_AGAIN, ()))
            sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=self._jobs > 1)
            self._study.sampler = sampler
            if changed is not None:
                best = {**self._study.best_trial.params}
                best.pop(changed)
                self._study.sampler = optuna.samplers.PartialFixedSampler(best, sampler)
            trial = self._study.ask()
            return trial, {values.key: values.suggest(trial) for values in self.tried}

    def report(self, trial: Trial, result: float | None, code: int = 0) -> None:
        """Ends a trial.

        Args:
            trial: of ``ask``.
            result: its dev value, or None if its training has failed.
            code: exit code of the training.
        """
        if result is None:
            trial.set_user_attr(_FAILED, code)
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, result)

    def prune(self, trial: Trial) -> None:
        """Ends a trial whose training was ended early."""
        self._study.tell(trial, state=TrialState.PRUNED)

    def importance(self) -> tuple[int, dict[str, float] | None]:
        """Returns which share of the differences between results each key explains, by fANOVA.

        Returns:
            The number of finished trials, and {key: share} by falling share; None unless two of
            them differ.
        """
        finished = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        values = [trial.value for trial in finished]
        if len(set(values)) < 2:
            return len(values), None
        return len(values), optuna.importance.get_param_importances(self._study)


class DevCurve:
    """Passes the dev values of a run on to a trial, while it is trained.

    Args:
        trial: of ``Study.ask``.
        run: run folder.
        metric: name of the dev metric.

    Attributes:
        pruned: whether training is to end early.
    """

    def __init__(self, trial: Trial, run: Path, metric: str) -> None:
        self._trial = trial
        self._path = run / "metrics.jsonl"
        self._name = f"dev {metric}"
        self._count = 0
        self.pruned = False

    def is_hopeless(self) -> bool:
        """Reports new values; whether the trial is worse than the others were at that time."""
        if self.pruned or not self._path.is_file():
            return self.pruned
        values = [line.get(self._name) for line in read_json_lines(self._path)]
        known = [value for value in values if value is not None]
        for value in known[self._count :]:
            self._trial.report(value, self._count)  # evaluations, as batches differ in size
            self._count += 1
            self.pruned = self.pruned or self._trial.should_prune()
        return self.pruned
