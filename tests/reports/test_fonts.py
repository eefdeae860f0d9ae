"""Names of labels in plots: drawn with a font that has their characters, or by number."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from matplotlib import font_manager

from tfxc.reports import fonts, plots


def test_the_own_font_suffices_for_most_names():
    assert fonts.drawable(["fox", "Füchsin", "лиса"]) == (
        ["fox", "Füchsin", "лиса"],
        ["DejaVu Sans"],
    )


def test_another_font_is_found(monkeypatch):
    """DejaVu Sans Mono stands in for a font of Chinese: the own font is made to lack letters."""
    own = font_manager.findfont("DejaVu Sans")
    characters = fonts._characters

    def without_letters(path):
        return characters(path) - set("abc") if path == own else characters(path)

    monkeypatch.setattr(fonts, "_characters", without_letters)
    names, families = fonts.drawable(["abc", "xyz"])
    assert names == ["abc", "xyz"]
    assert families[0] == "DejaVu Sans" and len(families) == 2
    assert "a" in characters(font_manager.findfont(families[1]))


def test_boxes_are_not_taken_for_characters():
    """matplotlib brings a font that has a box for every character."""
    names, families = fonts.drawable(["fox", "\U000f1234"])  # for private use: nobody's letter
    assert names == ["fox", "#1"], families


def test_a_name_that_no_font_has_is_shown_by_its_number(tmp_path, monkeypatch):
    monkeypatch.setattr(fonts, "_installed_fonts", lambda: iter(()))
    assert fonts.drawable(["fox", "狐", "hen"])[0] == ["fox", "#1", "hen"]
    found = SimpleNamespace(
        num_labels=2, hits=np.array([1, 2]), confusions=lambda: np.array([[0, 1, 3]])
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a glyph that it draws as a box
        assert plots.confusion_matrix(found, ["狐", "a $x_2$ b"], tmp_path / "confusions.png")
    assert (tmp_path / "confusions.png").stat().st_size > 1000
