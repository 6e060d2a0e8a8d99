# d2prune: `make demo` runs it, `make test` tests it. Both work on a fresh machine with
# Python >= 3.10 (with venv and headers) and a C++ compiler. Everything is installed into .venv.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
BUILD  := build

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo example report test check coverage docs picture package fuzz floors soak bench \
        bench-knn bench-large bench-plan bench-ray evidence evidence-multimodal clean

help:
	@echo "make demo      install d2prune and keep 30 % of the sample data"
	@echo "make example   the same in three steps: Makefile rules that depend on files"
	@echo "make report    a web page of two selections: $(BUILD)/report.html"
	@echo "make test      run the tests"
	@echo "make check     check lint, format and types"
	@echo "make coverage  run the tests with the JIT off; at least 95 % of the lines must run"
	@echo "make docs      write docs/cli.md anew, from the code"
	@echo "make picture   draw docs/picture.svg anew, from the sample data"
	@echo "make package   build wheel and sdist, check them, and run the demo from the wheel"
	@echo "make fuzz      damage input files for FUZZ_SECONDS (600) and check how readers respond"
	@echo "make floors    run the tests with the oldest versions that pyproject.toml admits"
	@echo "make soak      kill a thousand runs at random moments (half an hour)"
	@echo "make bench     measure against other programs (an hour or more; needs the Debian packages"
	@echo "               dataset-fashion-mnist and wordnet-base)"
	@echo "make bench-knn   compare kNN graphs with pynndescent on families of data (hours; ONLY=text"
	@echo "               for one; needs also dict-gcide, dict-foldoc, dict-jargon and linux-doc-6.1)"
	@echo "make bench-large build graphs of 12.8 million rows in 4 GiB and of 4 million in 16 to 1"
	@echo "               (half an hour; 40 GB of disk; SCALE=0.01 takes a hundredth of the rows)"
	@echo "make bench-ray run graph and select on clusters simulated on this machine (an hour; SIZES=...)"
	@echo "make bench-plan  compare the memory of --plan with measured peaks (a quarter of an hour)"
	@echo "make evidence  train on what each method keeps (many hours, resumable; needs also"
	@echo "               linux-doc-6.1 and npm)"
	@echo "make evidence-multimodal  the part of it that filters image-caption pairs (five hours on one"
	@echo "               core; npm)"
	@echo "make clean     remove what was built"

$(BIN)/d2prune: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

# -- the main job, on the sample data --------------------------------------------------------------
demo: $(BIN)/d2prune
	@mkdir -p $(BUILD)
	$(BIN)/d2prune select --emb sample_data/emb.npy --scores sample_data/scores.npy \
	  --ratio 0.3 --out $(BUILD)/selected.npy
	@$(BIN)/python -c "import numpy; kept = numpy.load('$(BUILD)/selected.npy'); \
	  print('first rows kept:', *kept[:8], '…')"

# -- the steps as rules: a file is made again when a file that it depends on changes ----------
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

# -- the report ------------------------------------------------------------------------------------
report: $(BIN)/d2prune
	@mkdir -p $(BUILD)
	$(BIN)/d2prune select --emb sample_data/emb.npy --scores sample_data/scores.npy \
	  --ratio 0.1 --ratio 0.3 --out '$(BUILD)/kept_{ratio}.parquet'
	$(BIN)/d2prune report --emb sample_data/emb.npy --scores sample_data/scores.npy \
	  --labels sample_data/sample.parquet --labels-key class_name \
	  --images sample_data/images.npz --selected '$(BUILD)/kept_*.parquet' \
	  --out $(BUILD)/report.html

# -- for developers --------------------------------------------------------------------------------
test: $(BIN)/d2prune
	$(BIN)/python -m pytest -q -n auto

check: $(BIN)/d2prune
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Coverage does not see compiled code, so the kernels run as plain Python here.
coverage: $(BIN)/d2prune
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -q -n auto --cov --cov-report=term --cov-fail-under=95

docs: $(BIN)/d2prune
	$(BIN)/python -m docs.build_cli

picture: $(BIN)/d2prune
	$(BIN)/python -m docs.build_picture

# What would be published. The wheel is installed into an environment of its own, with its extras.
PACKAGE := $(BUILD)/package

package: $(BIN)/d2prune
	rm -rf $(PACKAGE)
	$(BIN)/python -m build --outdir $(PACKAGE)/dist
	$(BIN)/python -m twine check --strict $(PACKAGE)/dist/*
	$(PYTHON) -m venv $(PACKAGE)/env
	wheel=$$(echo $(PACKAGE)/dist/*.whl) && \
	  $(PACKAGE)/env/bin/pip install --quiet "$$wheel[formats,report,score]"
	cd $(PACKAGE) && env/bin/d2prune --version && env/bin/d2prune select \
	  --emb $(CURDIR)/sample_data/emb.npy --scores $(CURDIR)/sample_data/scores.npy --ratio 0.3

# Coverage-guided, for FUZZ_SECONDS. The corpus is kept in build/fuzz for the next run.
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

# KILLS, RACES, LOSSES and SEED may be given: make soak KILLS=100 SEED=7
KILLS  ?= 1000
RACES  ?= 100
LOSSES ?= 20
SEED   ?= 0

soak: $(BIN)/d2prune
	$(BIN)/python -m tests.soak --kills $(KILLS) --races $(RACES) --losses $(LOSSES) \
	    --seed $(SEED)

# The other programs have their own environment. A CPU build of torch is enough.
bench: $(BUILD)/bench-env/installed
	@mkdir -p $(BUILD)/bench
	$(BUILD)/bench-env/bin/python bench/inputs.py --out $(BUILD)/bench
	$(BUILD)/bench-env/bin/python bench/run.py --data $(BUILD)/bench

# ONLY names families or sets, REPEAT the runs of each setting: make bench-knn ONLY='text clustered_4m'
ONLY   ?=
REPEAT ?= 3

bench-knn: $(BUILD)/bench-env/installed
	@mkdir -p $(BUILD)/bench-knn
	for threads in 1 2; do \
	  $(BUILD)/bench-env/bin/python bench/knn.py --data $(BUILD)/bench-knn --repeat $(REPEAT) \
	    --threads $$threads $(if $(ONLY),--only $(ONLY)) || exit 1; \
	done

SCALE ?= 1

bench-large: $(BIN)/d2prune
	$(BIN)/python bench/large.py --data $(BUILD)/bench-large --scale $(SCALE)

SIZES ?= 1000000 2000000 4000000

bench-ray: $(BIN)/d2prune
	$(BIN)/pip install --quiet --editable '.[ray]'
	PYTHONPATH=bench $(BIN)/python bench/cluster.py --data $(BUILD)/bench-ray --sizes $(SIZES)
	PYTHONPATH=bench $(BIN)/python bench/cluster_model.py --data $(BUILD)/bench-ray

bench-plan: $(BIN)/d2prune
	$(BIN)/python bench/plan.py --data $(BUILD)/bench-plan

$(BUILD)/bench-env/installed: pyproject.toml
	$(PYTHON) -m venv $(BUILD)/bench-env
	$(BUILD)/bench-env/bin/pip install --quiet --upgrade pip
	$(BUILD)/bench-env/bin/pip install --quiet --editable '.[bench]'
	@touch $@

# Each training adds a line to a folder results. A training that has a line is not run again.
evidence: $(BUILD)/evidence-env/installed
	@mkdir -p $(BUILD)/bench
	$(BUILD)/evidence-env/bin/python bench/inputs.py wordnet kernel_docs --out $(BUILD)/bench
	$(BUILD)/evidence-env/bin/python evidence/run.py --data $(BUILD)/bench --cache $(BUILD)/evidence
	$(BUILD)/evidence-env/bin/python evidence/tables.py
	$(MAKE) evidence-multimodal

evidence-multimodal: $(BUILD)/evidence-env/installed
	PYTHONPATH=evidence $(BUILD)/evidence-env/bin/python -m multimodal.run --cache $(BUILD)/multimodal
	PYTHONPATH=evidence $(BUILD)/evidence-env/bin/python -m multimodal.tables

$(BUILD)/evidence-env/installed: pyproject.toml
	$(PYTHON) -m venv $(BUILD)/evidence-env
	$(BUILD)/evidence-env/bin/pip install --quiet --upgrade pip
	$(BUILD)/evidence-env/bin/pip install --quiet --editable '.[evidence]'
	@touch $@

clean:
	rm -rf $(BUILD) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find d2cli tests -name __pycache__ -prune -exec rm -rf {} +
