# make run    the series on the data that ships, in a virtual environment of its own
# make test   lint, format and all tests
# make lab    the notebooks in JupyterLab
# make image  the picture of the README, from the last `make run`

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: run test lab image clean

run: $(READY)
	$(BIN)/saerec run

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest

lab: $(READY)
	$(BIN)/jupyter lab notebooks

image:
	cp runs/ml-latest-small/scores.png notebooks/images/scores.png

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "saerec needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[lab,test]"
	@touch $@

clean:
	rm -rf $(VENV) runs
