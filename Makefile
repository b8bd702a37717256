PYTHON ?= python3
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE # many processes start, and none should compile again what another has

.PHONY: help compare picture bench docs test coverage oldest newest lint clean

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

coverage: .venv/ready ## run the tests and report which lines and branches they reach
	$(BIN)/pytest -n auto --cov --cov-report=term:skip-covered --cov-report=html:build/coverage

oldest: ## run the tests with the oldest supported versions, on PYTHON (downloads a CUDA build of PyTorch, several GB)
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --constraint constraints-oldest.txt --editable '.[test,docs]'
	.venv-oldest/bin/pytest -n auto

newest: ## run the tests with the newest versions that there are, on PYTHON (downloads a CUDA build of PyTorch, several GB)
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/pip install --quiet --upgrade --editable '.[test,docs]'
	.venv-newest/bin/pytest -n auto

lint: .venv/ready ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean: ## remove the environment, the results, the documentation and the compiled kernels
	rm -rf .venv .venv-oldest .venv-newest results site build docs/reference
	find src -name "*.nb[ci]" -delete

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]' # bytecode as it is needed
	touch $@

.venv/bench: .venv/ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@
