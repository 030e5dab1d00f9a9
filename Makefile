# make run    the series on the data that ships, in a virtual environment of its own
# make test   lint, format and all tests
# make lab    the notebooks in JupyterLab
# make image  the pictures of the README, from the last `make run`; CHROMIUM="chromium --no-sandbox" for root

PYTHON ?= python3
VENV ?= .venv
CHROMIUM ?= chromium
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
	cp runs/ml-latest-small/scores.png runs/ml-latest-small/history.png notebooks/images
	$(CHROMIUM) --headless --hide-scrollbars --window-size=1200,1640 --screenshot=notebooks/images/page.png \
		"file://$(CURDIR)/runs/ml-latest-small/recommender.html#259"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "saerec needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[lab,test]"
	@touch $@

clean:
	rm -rf $(VENV) runs
