"""What every recipe must do before it trains; trainings have their own tests."""

import pytest

from tfxc.core import registry
from tfxc.core.errors import ConfigError
from tfxc.recipes.base import Recipe


class RecipeContract:
    """Inherit, and give the name and arguments.

    Attributes:
        name: name in configs.
        arguments: further keys of its config section.
    """

    name = None
    arguments = {}  # noqa: RUF012 (read only)

    def make(self):
        """The recipe of the config section."""
        section = {"name": self.name, **self.arguments}
        registry.check_section("recipe", section, where="recipe")
        return registry.create("recipe", section)

    def test_is_a_recipe(self):
        recipe = self.make()
        assert isinstance(recipe, Recipe)
        assert type(recipe) is registry.get("recipe", self.name)
        for name, value in self.arguments.items():
            assert getattr(recipe, name) == value

    def test_owns_its_stages(self):
        recipe = type(self.make())
        assert recipe.train is not Recipe.train
        assert recipe.assemble is not Recipe.assemble

    def test_defaults_suffice(self):
        registry.check_section("recipe", {"name": self.name}, where="recipe")
        registry.create("recipe", {"name": self.name})

    def test_unknown_argument_is_named(self):
        section = {"name": self.name, "colour": "red"}
        with pytest.raises(ConfigError, match=r"recipe.colour: .*has no argument 'colour'"):
            registry.check_section("recipe", section, where="recipe")
