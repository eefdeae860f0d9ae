"""Trained runs as files of other runtimes."""

FORMATS = ("onnx", "litert", "runtime")
MIN_AGREEMENT = 0.95  # share of examples whose best label quantised weights have to keep
