# What people run: `make env`, `make demo`, `make test`. Everything lands in .venv and in folders that git ignores.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
INPUT ?=
OUTPUT ?= demo-output
DISK_MIB := 3500

.PHONY: env env-dev demo check test accept-a accept-b bench lock docs clean

env: $(VENV)/.runtime
env-dev: $(VENV)/.dev

# What the machine lacks is said before anything is downloaded.
$(VENV)/.runtime: pyproject.toml requirements.lock
	@$(PYTHON) tools/preflight.py --disk-mib $(DISK_MIB) --make-version $(MAKE_VERSION)
	@echo "make env: about 1.5 GiB on disk with the CPU build of torch ($(TORCH)), several GiB more with the one for NVIDIA GPUs; see README.md"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/pip install -q --disable-pip-version-check $(TORCH)
	@$(BIN)/pip install -q --disable-pip-version-check -r requirements.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps -e .
	@$(BIN)/dicom-node --version
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	@$(BIN)/pip install -q --disable-pip-version-check -r requirements-dev.lock
	@touch $@

demo: env
	@$(BIN)/dicom-node demo $(if $(INPUT),--input "$(INPUT)",) --output "$(OUTPUT)"

check: env-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.docs --check

test: check
	$(BIN)/python -m pytest

accept-a: env-dev
	@$(BIN)/python -m tools.accept_a

accept-b: env-dev
	@$(BIN)/python -m tools.accept_b

bench: env-dev
	@$(BIN)/python -m benches.receive
	@$(BIN)/python -m benches.reading

docs: env-dev
	$(BIN)/python -m tools.docs

lock: env-dev
	$(BIN)/python tools/lock.py

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache demo-output
