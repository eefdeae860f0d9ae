"""Extreme classification with TensorFlow and Keras.

``import tfxc`` is light; what needs TensorFlow is imported when it is first used.
"""

import importlib
import os

# oneDNN is off by default on some processors and is worth a third of the step time; it must be
# chosen before TensorFlow is imported. An explicit setting of the user's wins.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
if os.environ.get("TFXC_VERBOSE", "") in ("", "0"):  # see tfxc.core.quiet
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tfxc.core.deferred import defer_f2py
from tfxc.core.missing_packages import explain_missing_packages
from tfxc.version import __version__

defer_f2py()
explain_missing_packages()

_LAZY = {
    "Run": "tfxc.estimator.run",
    "SearchOptions": "tfxc.inference.search_options",
    "XCClassifier": "tfxc.estimator.classifier",
    "XCModel": "tfxc.model",
    "load_config": "tfxc.data.reading.inspection.completion",
    "load_model": "tfxc.model",
    "read": "tfxc.estimator.reading",
    "register_all": "tfxc.core.registry",
}

__all__ = ["__version__", *sorted(_LAZY)]


def __getattr__(name):
    if name in _LAZY:
        from tfxc.core.quiet import hide_start_lines

        hide_start_lines()
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'tfxc' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_LAZY])
