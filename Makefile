# make train | make test | make demo | make setup
# TORCH names the torch that a new .venv gets, with the torchvision that was built for it: another one cannot be imported.
# requirements.txt itself holds lower bounds only.
PYTHON ?= python3
TORCH ?= torch==2.14.1 torchvision==0.29.1
# JOBS is how many test files run at a time, each with one thread.
JOBS ?= 2
# SLOW names the files of which `make test` runs the slow tests.
SLOW ?= tests
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup train test demo lint clean

setup: $(VENV)/ready

$(VENV)/ready: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed; name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -r requirements.txt -r requirements-dev.txt
	touch $@

# Training needs nothing of this
$(VENV)/demo: $(VENV)/ready requirements-demo.txt
	$(BIN)/python -m pip install --quiet -r requirements-demo.txt
	touch $@

train: setup
	$(BIN)/python train.py --preset quick --resume auto

demo: $(VENV)/demo
	$(BIN)/python demo.py

test: $(VENV)/demo
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -m "not slow"
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -m slow $(SLOW)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV)
