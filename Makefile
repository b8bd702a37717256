PYTHON ?= python3
BIN := .venv/bin

.PHONY: help compare picture bench docs test lint clean

help: ## what the targets do
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

compare: .venv/ready ## make the environment and compare estimators and KL terms on the built-in data
	$(BIN)/softhot compare

picture: .venv/ready ## draw the picture of the README again (needs a Chrome or Chromium)
	$(BIN)/softhot compare --plot docs/overview.png

bench: .venv/bench ## time softhot and its peers, and write docs/performance.md (about twenty minutes; nothing else should run)
	$(BIN)/python -m benchmarks.sampler
	$(BIN)/python -m benchmarks.exact
	$(BIN)/python -m benchmarks.accuracy
	$(BIN)/python -m benchmarks.estimators
	$(BIN)/python -m benchmarks.train_step
	$(BIN)/python -m benchmarks.together
	$(BIN)/python -m benchmarks.report

docs: .venv/ready ## write the documentation to site/; what is undocumented, or leads nowhere, is an error
	$(BIN)/sphinx-build --fail-on-warning --keep-going --fresh-env --quiet --doctree-dir build/doctrees docs site

test: .venv/ready ## make the environment and run the tests
	$(BIN)/pytest -n auto

lint: .venv/ready ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean: ## remove the environment, the results, the documentation and the compiled kernels
	rm -rf .venv results site build docs/reference
	find src -name "*.nb[ci]" -delete

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/bench: .venv/ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@
