"""The fixture that follows a recipe, with the compiler only."""

import shlex

import pytest

from tests.field.make import Field
from tests.marks import compiled
from tests.pages import RECIPES, all_blocks, lines_of

PAGES = {path.stem: path for path in RECIPES}


class Recipe(Field):
    """Runs the blocks of a page, as written, in a folder that holds what the recipe begins with.

    Attributes:
        said: what the commands of each ``sh`` block printed.
        names: the names that each ``python`` block defined.
        found: the rows that each ``sql`` block returned; ``COPY`` returns their number.
    """

    def follow(self, name):
        """Run all blocks of docs/recipes/`name`.md in order; blocks of `text` are not run.

        A block finds the files that earlier blocks wrote, and no variables.
        """
        self.said, self.names, self.found = [], [], []
        run = {"sh": self._shell, "python": self._python, "sql": self._sql, "text": str}
        for language, text in all_blocks(PAGES[name]):
            run[language](text)
        return self

    def _shell(self, text):
        for line in lines_of(text):
            program, *words = shlex.split(line)
            assert program == "d2prune", line
            self.said.append(self.run(*words).done())

    def _python(self, text):
        names = {"__name__": "__main__"}
        exec(compile(text, "recipe", "exec"), names)
        self.names.append(names)

    def _sql(self, text):
        import duckdb

        self.found.append(duckdb.execute(text).fetchall())


def pytest_collection_modifyitems(items):
    for item in items:
        if "recipe" in getattr(item, "fixturenames", ()):
            item.add_marker(compiled)


@pytest.fixture
def recipe(run_cli, tmp_path):
    """An empty folder in which a recipe is followed."""
    return Recipe(run_cli, tmp_path)
