# Rales: `make demo` and `make test` on a fresh machine need only Python 3.11+, git and make.
# Each target makes .venv when it is missing or older than pyproject.toml.

# GPU=1 makes an environment of its own with ONNX Runtime for NVIDIA GPUs.
RUNTIME := $(if $(GPU),gpu,cpu)
VENV ?= $(if $(GPU),.venv-gpu,.venv)
BIN := $(VENV)/bin
SERIES ?=
OUT ?= demo/out
SLICES ?=
CHESTS ?=
START ?= inference/models
RUNS ?= runs
PORT ?= 3000
TRAINING = $(BIN)/python -m training
LEARNED = --slices "$(SLICES)" --chest "$(RUNS)/chests/train" --watch "$(RUNS)/chests/selection" \
	--restorer "$(RUNS)/restorer.pt"

# The first interpreter that is new enough; PYTHON=/path/to/python chooses another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

# uv only makes it faster; UV= does without.
UV ?= $(shell uv --version >/dev/null 2>&1 && echo uv)

ifeq ($(strip $(UV)),)
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
else
PIP = $(UV) pip --quiet
endif

# ONNX Runtime from PyPI reports to its maker unless told not to, before it is imported.
export ORT_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo viewer test check soak bench env train conformance lock sbom audit clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.run-stamp  ## run the main job end to end: SERIES=/path/to/dicom, OUT=demo/out, GPU=1
	$(BIN)/rales demo --out $(OUT) $(if $(SERIES),--series "$(SERIES)")

viewer: $(VENV)/.run-stamp  ## look at the results in OHIF, from Orthanc: SERIES=/path/to/dicom, PORT=3000
	$(BIN)/python -m viewer --port $(PORT) $(if $(SERIES),--series "$(SERIES)")

test: $(VENV)/.dev-stamp  ## run every check: ruff, mypy, import-linter, all tests; TESTS="tests/scp -x"
	BIN=$(BIN) scripts/check --durations=20 $(TESTS)

check: $(VENV)/.dev-stamp  ## run the quick checks: ruff, mypy, import-linter, unit tests
	BIN=$(BIN) scripts/check -n logical -m "not (slow or real or orthanc or dcmtk or train or viewer)" $(TESTS)

soak: $(VENV)/.dev-stamp  ## 1,000 series, kill -9, a moody destination (an hour): SOAK="--series 50"; writes soak.md
	$(BIN)/python bench/soak.py $(SOAK)

bench: $(VENV)/.dev-stamp  ## measure speed and memory beside peers (15 minutes, nothing else may run): bench.md
	$(BIN)/python bench/report.py | tee bench.md

env: $(VENV)/.dev-stamp  ## make .venv with everything that the checks need

# Stop it at any time; the same command goes on after the last whole step or epoch.
train: $(VENV)/.train-stamp  ## train both networks: SLICES=slices.npz CHESTS="chest-hu/*" RUNS=runs; resumable
	@test -n "$(SLICES)" && test -n "$(CHESTS)" || { echo "make train needs SLICES=slices.npz and \
	CHESTS='FOLDER ...', folders of CT series: docs/model/training.md says which"; exit 2; }
	$(TRAINING) label-chest $(CHESTS) --out "$(RUNS)/chests"
	test -f "$(RUNS)/restorer.pt" || $(TRAINING) restorer $(CHESTS) --out "$(RUNS)/restorer.pt"
	$(TRAINING) train lungs $(LEARNED) --start "$(START)/lungs.onnx" --runs "$(RUNS)"
	$(TRAINING) train lesions $(LEARNED) --start "$(START)/lesions.onnx" --runs "$(RUNS)"
	$(TRAINING) export "$(RUNS)/lungs" "$(RUNS)/lesions" --version dev --out "$(RUNS)/models"
	$(TRAINING) choose-presence --slices "$(SLICES)" --chest "$(RUNS)/chests/selection" \
		--models "$(RUNS)/models" --write
	$(TRAINING) evaluate --slices "$(SLICES)" --split validation --models "$(RUNS)/models"

conformance: $(VENV)/.run-stamp  ## update docs/conformance.md after a change of what it lists
	PYTHONPATH=tests/support $(BIN)/python -m conformance --out docs/conformance.md

lock:  ## pin what the container images install, after a change of dependencies (needs uv)
	uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --upgrade \
		--extra cpu --output-file deploy/requirements.txt pyproject.toml

sbom: $(VENV)/.dev-stamp  ## list what the container images install as CycloneDX: dist/rales.cdx.json
	@mkdir -p dist
	$(BIN)/cyclonedx-py requirements deploy/requirements.txt --pyproject pyproject.toml \
		--mc-type application --output-reproducible --output-format JSON --output-file dist/rales.cdx.json

audit: $(VENV)/.dev-stamp  ## report known vulnerabilities of the locked dependencies
	BIN=$(BIN) scripts/audit-dependencies

clean:  ## remove .venv and what tools left behind; never data
	rm -rf $(VENV) dist build var/viewer .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Rales needs Python 3.11 or newer; '$(or $(PYTHON),python3)' is none."; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.11 test"; exit 1; }
	@echo "making $(VENV) with $$("$(PYTHON)" --version)"
ifeq ($(strip $(UV)),)
	@"$(PYTHON)" -m venv --clear $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv"; \
		exit 1; }
else
	@$(UV) venv --quiet --clear --seed --python "$(PYTHON)" $(VENV)
endif

# Installing the checks installs what running needs, so the demo after the tests installs nothing.
$(VENV)/.run-stamp: pyproject.toml | $(BIN)/python
	@echo "installing what Rales needs to run ($(if $(GPU),3 GB,170 MB) from PyPI the first time)"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(PIP) install --editable '.[$(RUNTIME)]'
	@touch $@

$(VENV)/.dev-stamp: pyproject.toml | $(BIN)/python
	@echo "installing Rales and its checks (250 MB from PyPI the first time)"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(PIP) install --editable '.[$(RUNTIME),dev]'
	@touch $(VENV)/.run-stamp $@

$(VENV)/.train-stamp: pyproject.toml | $(BIN)/python
	@echo "installing Rales and what training needs (torch is several GB)"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(PIP) install --editable '.[$(RUNTIME),train]'
	@touch $(VENV)/.run-stamp $@
