# Everything a fresh machine needs: `make demo` runs the main job, `make test` passes the checks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS ?= runs
export OMP_NUM_THREADS ?= $(shell nproc)
# Where this is set, as in many images of containers, each of the several hundred processes of the tests would compile
# all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo cluster-demo test tests lint types docs install clean

install: $(VENV)/installed

# torch and torchvision in one request, so that the index gives a pair built for each other. Nothing is compiled ahead:
# Python compiles the modules that are used, a small part, as they are first imported.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile "torch>=2.11" "torchvision>=0.26"
	$(BIN)/pip install --quiet --no-compile --editable ".[dev]"
	touch $@

demo: install
	$(BIN)/sconv-search demo --runs $(RUNS)

# Three Ray nodes, processes of this machine, and PostgreSQL where it is installed; a node is killed half-way.
cluster-demo: install
	$(BIN)/python -m benchmarks.search.cluster_demo --runs $(RUNS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open build/site/index.html; with its search: python3 -m http.server --directory build/site"

# Types are checked beside the tests, which wait for processes, files and pages a part of their time; for the same
# reason there is one process of tests more than there are processors.
test: lint
	$(MAKE) --jobs=2 types tests

tests: install
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $$(($$(nproc) + 1)) --dist loadgroup

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
