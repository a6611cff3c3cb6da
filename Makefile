# Two commands do all the set-up with Python and pip alone: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

QUICK = tests/test_house.py tests/pruning tests/store tests/measure tests/results \
  tests/settings/test_identity.py tests/settings/test_validity.py tests/commands/test_list.py

.PHONY: help install demo quick test lint types wheel-test docs bench gpu endurance clean

help:  ## these lines
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install: $(INSTALLED)  ## .venv with the suite and what its tests need

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev,docs,joblib,minilm,onnx]'
	touch $@

demo: $(INSTALLED)  ## prune a real ViT on real digits with nine methods; a table and a page
	$(BIN)/python -m seven_bench experiment=digits_demo hydra/launcher=parallel \
	  logger=none output_root=outputs/demo
	$(BIN)/seven-bench report outputs/demo --out outputs/demo/report

test: $(INSTALLED) lint types  ## all tests, after the linter and the type checker
	$(BIN)/python -m pytest -n 2 --dist worksteal

quick: $(INSTALLED)  ## under a minute on one core: the engine, settings, records, figures
	$(BIN)/python -m pytest -p no:xdist --ignore tests/results/test_simulation.py $(QUICK)

lint: $(INSTALLED)  ## ruff, and the order of the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo

types: $(INSTALLED)
	$(BIN)/mypy

wheel-test: $(INSTALLED)  ## the wheel, in a second empty environment and an empty folder
	bash .ci/try-wheel $(abspath $(BIN)/python)

docs: $(INSTALLED)  ## the documentation, into site/: every warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --config-file docs/mkdocs.yml

bench: $(INSTALLED)  ## what pruning costs, as ratios against plain references; outputs/bench
	$(BIN)/python -m tests.benchmarks

gpu: $(INSTALLED)  ## on a CUDA device: checks, then measures, into docs/pages/cost.md; minutes
	$(BIN)/python -m tests.gpu

endurance: $(INSTALLED)  ## kills, signals, full disks, damage, fuzz, every launcher, 5,000 records: an hour
	$(BIN)/python -m tests.endurance

clean:  ## everything that was made, but for outputs
	rm -rf $(VENV) dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
