# Two commands: `make demo` and `make test`. Both build .venv once, from the pinned set in constraints.txt.
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
DEMO ?= demo
# Attack libraries that tests and benchmarks compare with; their own pins contradict each other.
PEERS := torchattacks foolbox eagerpy GitPython gitdb smmap requests urllib3 idna certifi charset-normalizer

.PHONY: demo test test-pipeline test-random test-all lint clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt torch==2.13.0
	$(PIP) install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	$(PIP) install --quiet --constraint constraints.txt --no-deps $(PEERS)
	touch $@

demo: $(VENV)/installed
	$(VENV)/bin/model-audit demo $(DEMO)

test: $(VENV)/installed-dev lint
	$(VENV)/bin/python -m pytest -m "not slow and not pipeline" --numprocesses 2 --dist loadfile

test-pipeline: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest -m "pipeline and not slow" --numprocesses 2 --dist loadfile

test-random: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest -m "hypothesis and not slow" --hypothesis-profile=random --numprocesses 2

test-all: $(VENV)/installed-dev lint
	$(VENV)/bin/python -m pytest

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

clean:
	rm -rf $(VENV) dist build demo
