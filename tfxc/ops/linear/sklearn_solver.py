"""The linear solver of ``tfxc.ops.linear.solver`` for one label, by scikit-learn."""

import threading
import warnings

import numpy as np
import scipy.sparse

from tfxc.ops.linear.settings import SolverSettings

_ALONE = threading.Lock()  # its random numbers come from one generator of the process


def solve(
    features: scipy.sparse.csr_matrix,
    signs: np.ndarray,
    costs: np.ndarray,
    settings: SolverSettings,
    seed: int,
) -> tuple[np.ndarray, int]:
    """Trains one label.

    Args:
        features: float32 CSR (n, D).
        signs: int (n,), 1 and -1.
        costs: float (n,).
        settings: ``tfxc.ops.linear.settings.SolverSettings``.
        seed: below 2**32.

    Returns:
        weights float32 (D + 1,), the last that of the bias; whether ``max_passes`` were too few.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    shared = {
        "dual": True,
        "tol": settings.epsilon,
        "max_iter": settings.max_passes,
        "fit_intercept": settings.bias > 0,
        "intercept_scaling": settings.bias or 1.0,
        "random_state": seed,
    }
    if settings.loss == "logistic":
        solver = LogisticRegression(solver="liblinear", **shared)
    else:
        solver = LinearSVC(loss=settings.loss.replace("-", "_"), **shared)
    # A row of zeros that hardly counts, as the class refuses to learn without negatives.
    nothing = scipy.sparse.csr_matrix((1, features.shape[1]), dtype=np.float32)
    rows = scipy.sparse.vstack([features, nothing], "csr")
    with _ALONE, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the result says it
        solver.fit(rows, np.append(signs, -1), np.append(costs, 1e-9))
    bias = solver.intercept_ / settings.bias if settings.bias else [0.0]
    weights = np.append(solver.coef_[0], bias).astype(np.float32)
    return weights, int(np.max(solver.n_iter_) >= settings.max_passes)
