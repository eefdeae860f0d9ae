# Two commands do everything on a fresh machine with Python 3.11-3.13: `make run` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
CONFIG ?= configs/quickstart.json
RUN ?= runs/quickstart

.PHONY: run test test-fast slow lint docs install clean

run: $(VENV)/installed
	$(BIN)/python -m tfxc.train --config $(CONFIG)
	$(BIN)/tfxc evaluate --run $(RUN)
	$(BIN)/python tools/linear_baseline.py --config $(CONFIG) --run $(RUN)
	$(BIN)/tfxc export --run $(RUN)
	$(BIN)/python tools/show_predictions.py --run $(RUN) --savedmodel $(RUN)/savedmodel

# Processes that tests start need not compile what another has compiled.
test test-fast slow: export PYTHONDONTWRITEBYTECODE =

test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

# The inner loop, within 90 seconds: no training, no exported model, no command, no pretrained
# tokenizer, no sets of images, and without the files that take longest.
FAST = core data inference labels metrics objectives ops ranker test_architecture.py test_style.py
NOT_FAST = data/images/test_image_sets.py data/text/test_subwords.py data/text/test_subwords_pruning.py \
	data/text/test_bags.py data/store/test_preparation.py data/sources/test_dataset.py ops/text ops/linear/test_solver.py \
	objectives/test_umax.py objectives/test_asgd.py
test-fast: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(addprefix tests/,$(FAST)) $(addprefix --ignore=tests/,$(NOT_FAST))

slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/linters
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

# The documentation site, in site/; a broken link or reference is an error.
docs: $(VENV)/docs-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

install: $(VENV)/installed

$(VENV)/installed: setup.cfg setup.py pyproject.toml $(shell find tfxc/ops -name '*.pyx' -o -name '*.pxd' -o -name '*.h')
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[test,hub,onnx]'
	touch $@

$(VENV)/linters: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[lint]'
	touch $@

$(VENV)/docs-installed: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info tfxc/ops/*.so tfxc/ops/*/*.so tfxc/ops/*/*/*.so
