# make demo   install into .venv, play a stereo recording through the node, write out/demo/
# make test   install into .venv, run the test suite
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint clean

demo: $(INSTALLED)
	$(VENV)/bin/svp demo --out out/demo

# Two tests at a time; then, one by one, those that need the other core for a node, a player, ...
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -m 'not alone' -n 2 --dist loadfile $(PYTEST_ARGS)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -m alone $(PYTEST_ARGS)

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .

clean:
	rm -rf build install log out *.egg-info .pytest_cache .ruff_cache

# Editable, so that a change in the source needs no new installation.
$(INSTALLED): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo 'svp_ros needs Python 3.10 or newer; choose one with "make PYTHON=python3.11"' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo 'Python cannot make virtual environments; run "apt install python3-venv"' >&2; exit 1; }
	@echo 'installing into $(VENV): about 6 GB, a few minutes'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt setuptools
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[ros,test]'
	touch $@
