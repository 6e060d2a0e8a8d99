# d2prune: `make demo` shows it, `make test` tests it. Each is complete on a fresh machine with
# Python >= 3.10 (with venv and headers) and a C++ compiler; everything is installed into .venv.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
BUILD  := build

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo example report test check coverage fuzz floors soak bench bench-plan evidence clean

help:
	@echo "make demo      install, and prune the sample data to 30 %"
	@echo "make example   the same in steps that depend on each other through files"
	@echo "make report    a page that shows what was kept: $(BUILD)/report.html"
	@echo "make test      the tests"
	@echo "make check     lint and types"
	@echo "make coverage  the tests with the JIT off, at least 95 % of the lines"
	@echo "make fuzz      damage files of every format for FUZZ_SECONDS (600) and look what readers do"
	@echo "make floors    the tests with the oldest versions that pyproject.toml admits"
	@echo "make soak      a thousand runs killed at random moments (half an hour)"
	@echo "make bench     measure against peers (an hour or more; needs the Debian packages"
	@echo "               dataset-fashion-mnist and wordnet-base)"
	@echo "make bench-plan  hold --plan against what is then measured (a quarter of an hour)"
	@echo "make evidence  train on what each method keeps (many hours, resumable; needs the same)"
	@echo "make clean     remove what was built"

$(BIN)/d2prune: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

# -- the main job, on the data that ships with the repository ---------------------------------------
demo: $(BIN)/d2prune
	@mkdir -p $(BUILD)
	$(BIN)/d2prune select --emb sample_data/emb.npy --scores sample_data/scores.npy \
	  --ratio 0.3 --out $(BUILD)/selected.npy
	@$(BIN)/python -c "import numpy; kept = numpy.load('$(BUILD)/selected.npy'); \
	  print('first rows kept:', *kept[:8], '…')"

# -- data preparation with make: each file is made again when what it depends on has changed ---------
EXAMPLE := $(BUILD)/example

example: $(EXAMPLE)/train.npy $(EXAMPLE)/dropped.txt

$(EXAMPLE)/graph.arrow: sample_data/emb.npy | $(BIN)/d2prune
	@mkdir -p $(@D)
	$(BIN)/d2prune graph --emb $< --out $@

$(EXAMPLE)/propagated.npy: $(EXAMPLE)/graph.arrow sample_data/scores.npy
	$(BIN)/d2prune propagate --graph $< --scores sample_data/scores.npy --out $@

$(EXAMPLE)/train.npy: $(EXAMPLE)/graph.arrow $(EXAMPLE)/propagated.npy
	$(BIN)/d2prune select --graph $< --propagated $(EXAMPLE)/propagated.npy --ratio 0.3 --out $@

$(EXAMPLE)/dropped.txt: $(EXAMPLE)/graph.arrow $(EXAMPLE)/propagated.npy
	$(BIN)/d2prune select --graph $< --propagated $(EXAMPLE)/propagated.npy --ratio 0.3 \
	  --complement --out $@

# -- what was kept, as a page ----------------------------------------------------------------------
report: $(BIN)/d2prune
	@mkdir -p $(BUILD)
	$(BIN)/d2prune select --emb sample_data/emb.npy --scores sample_data/scores.npy \
	  --ratio 0.1 --ratio 0.3 --out '$(BUILD)/kept_{ratio}.parquet'
	$(BIN)/d2prune report --emb sample_data/emb.npy --scores sample_data/scores.npy \
	  --labels sample_data/sample.parquet --labels-key class_name \
	  --images sample_data/images.npz --selected '$(BUILD)/kept_*.parquet' \
	  --out $(BUILD)/report.html

# -- for whoever works on it ---------------------------------------------------------------------
test: $(BIN)/d2prune
	$(BIN)/python -m pytest -q -n auto

check: $(BIN)/d2prune
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Compiled code is invisible to coverage, so the kernels run as plain Python here.
coverage: $(BIN)/d2prune
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -q -n auto --cov --cov-report=term --cov-fail-under=95

# Coverage-guided, for FUZZ_SECONDS; what was learnt is kept in build/fuzz for the next time.
FUZZ_SECONDS ?= 600

fuzz: $(BIN)/d2prune
	$(BIN)/pip install --quiet --editable '.[fuzz]'
	@mkdir -p $(BUILD)/fuzz
	$(BIN)/python -m tests.fuzz.readers $(BUILD)/fuzz/corpus -artifact_prefix=$(BUILD)/fuzz/ \
	  -max_total_time=$(FUZZ_SECONDS) -max_len=6000 -timeout=10

floors:
	$(PYTHON) -m venv $(BUILD)/floors
	$(BUILD)/floors/bin/pip install --quiet --upgrade pip
	$(BUILD)/floors/bin/pip install --quiet --editable '.[test]' --constraint tests/floors.txt
	$(BUILD)/floors/bin/python -m pytest -q -n auto

# KILLS, RACES and SEED may be given: make soak KILLS=100 SEED=7
KILLS ?= 1000
RACES ?= 100
SEED  ?= 0

soak: $(BIN)/d2prune
	$(BIN)/python -m tests.soak --kills $(KILLS) --races $(RACES) --seed $(SEED)

# Peers go into an environment of their own. A CPU build of torch will do.
bench: $(BUILD)/bench-env/installed
	@mkdir -p $(BUILD)/bench
	$(BUILD)/bench-env/bin/python bench/inputs.py --out $(BUILD)/bench
	$(BUILD)/bench-env/bin/python bench/run.py --data $(BUILD)/bench

bench-plan: $(BIN)/d2prune
	$(BIN)/python bench/plan.py --data $(BUILD)/bench-plan

$(BUILD)/bench-env/installed: pyproject.toml
	$(PYTHON) -m venv $(BUILD)/bench-env
	$(BUILD)/bench-env/bin/pip install --quiet --upgrade pip
	$(BUILD)/bench-env/bin/pip install --quiet --editable '.[bench]'
	@touch $@

# Each training adds a line to evidence/results, and what has one is not done again.
evidence: $(BUILD)/evidence-env/installed
	@mkdir -p $(BUILD)/bench
	$(BUILD)/evidence-env/bin/python bench/inputs.py wordnet --out $(BUILD)/bench
	$(BUILD)/evidence-env/bin/python evidence/run.py --data $(BUILD)/bench --cache $(BUILD)/evidence
	$(BUILD)/evidence-env/bin/python evidence/tables.py

$(BUILD)/evidence-env/installed: pyproject.toml
	$(PYTHON) -m venv $(BUILD)/evidence-env
	$(BUILD)/evidence-env/bin/pip install --quiet --upgrade pip
	$(BUILD)/evidence-env/bin/pip install --quiet --editable '.[evidence]'
	@touch $@

clean:
	rm -rf $(BUILD) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find d2cli tests -name __pycache__ -prune -exec rm -rf {} +
