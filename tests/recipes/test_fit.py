from tests.contracts.recipe import RecipeContract


class TestFit(RecipeContract):
    name = "fit"
