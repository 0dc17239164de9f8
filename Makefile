# `make` lists the targets. VENV names another environment; PYTHON another interpreter to make it;
# JOBS and SLOW_JOBS how many processes run the fast tests, and the slow ones, which wait about half
# of the time; MODEL what `gpu-pack` packs; SEED and FAULTS the first seed of `chaos` and how many
# faults it injects, CHAOS its other options.
VENV ?= .venv
PYTHON ?= python3
JOBS ?= 2
SLOW_JOBS ?= 3
MODEL ?= yolox_nano
SEED ?= 1
FAULTS ?= 200
CHAOS ?=
BIN := $(VENV)/bin
export VENV

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast coverage mutants pythons fuzz chaos lint bench models docs gpu-pack train-demo clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
	    printf '  make %-11s %s\n' "$$name" "$$text"; done

setup: ## Make the environment, or repair it; seconds when nothing changed
	@$(PYTHON) tools/setup.py

demo: setup ## From nothing to a leaderboard and a picked engine, on the CPU
	$(BIN)/farm run matrices/demo.yaml
	$(BIN)/farm best --target cpu
	@echo
	@echo 'Next:'
	@echo '  $(BIN)/farm plan matrices/demo.yaml       what the matrix asks for, and what is done'
	@echo '  $(BIN)/farm best --target cpu --pareto    what else is worth shipping'
	@echo '  $(BIN)/farm leaderboard --format markdown  the table, to paste'
	@echo '  $(BIN)/farm doctor                        what else this machine can run'

test: setup ## Lint, types and every test; the fast ones with their coverage
	$(MAKE) --jobs=2 lint coverage # mypy has one core
	$(BIN)/python -m pytest -m slow -n $(SLOW_JOBS) --dist loadfile --no-loadscope-reorder \
	    --ignore tests/e2e/test_job.py # in the order of tests/conftest.py
	$(BIN)/python -m pytest tests/e2e/test_job.py # alone: its cluster takes every core

test-fast: setup ## The tests that need no engine and no heavy import
	$(BIN)/python -m pytest -m 'not slow'

coverage: setup ## The fast tests, and how much of the core they reach: 95 % of lines and branches
	@mkdir -p build/coverage && $(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m 'not slow' -n $(JOBS) --dist loadfile
	@find build/coverage -empty -delete # of worker processes that a test has killed
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

mutants: setup ## After `make coverage`: 60 breaks of the core, which tests should notice
	$(BIN)/python tools/mutants.py

pythons: ## The fast tests that need neither torch nor mmcv, on Python 3.10 to 3.13 (noxfile.py)
	@test -x build/nox/bin/nox || ($(PYTHON) -m venv build/nox && build/nox/bin/pip install -q 'nox[uv]')
	build/nox/bin/nox

fuzz: setup ## 10,000 new matrices, annotation files, records and leaderboards each; half an hour
	FARM_FUZZ=10000 $(BIN)/python -m pytest tests/fuzz

chaos: setup ## 200 faults in sweeps on a Ray cluster (SEED, FAULTS); half an hour or more
	PYTHONPATH=tests:. $(BIN)/python -m chaos --seed $(SEED) --faults $(FAULTS) $(CHAOS)

lint: setup ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: setup ## Measure the farm itself, exports, and what precisions cost and give
	-$(BIN)/python benchmarks/overhead.py --demo
	-$(BIN)/python benchmarks/cluster.py
	-$(BIN)/python benchmarks/trust.py
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/export.py
	$(BIN)/python benchmarks/precision.py
	-$(BIN)/python benchmarks/tracker.py

models: setup ## Check every model at every opset, and write docs/models.md; hours, and resumes
	$(BIN)/farm models --records docs/models.jsonl --markdown docs/models.md

docs: setup ## The documentation as a site, in build/site
	$(BIN)/python -m mkdocs build --strict

gpu-pack: setup ## Pack YOLOX-Nano of matrices/gpu.yaml (MODEL names another); see docs/gpu.md
	$(BIN)/python tools/random_models.py tools/gpu_models.yaml build/gpu-models $(MODEL)
	$(BIN)/farm pack matrices/gpu.yaml --model $(MODEL) --results build/gpu-results \
	    --output build/$(MODEL).pack.tar.gz --part-size 60MiB

train-demo: setup ## Train the demo's detectors again
	$(BIN)/python tools/train_demo.py

clean: ## Remove caches and build leftovers; keeps the environment and results
	rm -rf build farm.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
