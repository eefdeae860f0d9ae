"""Tests of the readers."""

from tests.folders import data_folder

__all__ = ["data_folder"]
