# Each target sets up the virtual environment by itself. A newcomer needs Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DAGSTER_HOME ?= $(CURDIR)/.dagster
export DAGSTER_HOME
export DAGSTER_DISABLE_TELEMETRY := 1

.PHONY: demo test test-fast check ui dev bench models training-sweep experiments composition screenshots docs reference
demo: $(READY) ## draw the line for the three demo characters, on a laptop
	@$(BIN)/sticker-pipeline demo

test test-fast: export PYTHONDONTWRITEBYTECODE := # the hundreds of processes that tests start compile nothing again
test: $(READY) ## all tests, one file at a time for each core and one more; no GPU, no network
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-fast: $(READY) ## the tests of functions, in minutes: neither slow, nor in a browser, nor on a GPU
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not slow and not ui and not gpu"

check: $(READY) $(DAGSTER_HOME)/dagster.yaml ## lint, format, types, layers, definitions, documentation
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m sticker_pipeline_tests.prose
	@$(BIN)/lint-imports
	@$(BIN)/dg check defs
	@$(MAKE) --no-print-directory docs

ui: $(READY) ## the Dagster UI at the address of STICKER_UI, or at another port: make ui PORT=3001
	@$(BIN)/sticker-pipeline doctor --mend
	@PYTHONWARNINGS="$${PYTHONWARNINGS-ignore}" $(BIN)/sticker-pipeline ui $(if $(PORT),--port $(PORT))

dev: $(READY) $(DAGSTER_HOME)/dagster.yaml ## the same without its guard, and definitions that are reloaded: for developers
	@STICKER_UI=http://127.0.0.1:$(or $(PORT),3000) $(BIN)/dg dev --port $(or $(PORT),3000)

bench: $(READY) ## speed, beside a peer on the same work
	@set -e; for file in sticker_pipeline_tests/benchmarks/bench_*.py; do \
	  name=$$(basename $$file .py); echo "== $$name"; $(BIN)/python -m sticker_pipeline_tests.benchmarks.$$name; done

models: $(READY) ## train the embedded models and draw the demo characters anew (hours; resumable)
	@$(BIN)/python -m sticker_pipeline.embedded

training-sweep: $(READY) ## LoRA settings compared on the demo characters, and whether the defaults pass their gates
	@$(BIN)/python -m sticker_pipeline_tests.experiments.training_sweep

experiments: $(READY) ## common beliefs about LoRA training, tried on the embedded models; writes docs/results/experiments.md
	@$(BIN)/python -m sticker_pipeline_tests.experiments

composition: $(READY) ## LoRAs of style, character and LCM together, with three training seeds; writes docs/results/composition.md
	@$(BIN)/python -m sticker_pipeline_tests.experiments.lora_composition

screenshots: $(READY) ## the README's images of the UI, taken anew by chromium; writes docs/images
	@$(BIN)/python -m sticker_pipeline_tests.ui.screenshots

docs: $(READY) ## the documentation as a site, its links checked; written to site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

reference: $(READY) ## the generated pages: settings, commands, environment, assets, tables, metrics; writes docs/reference
	@$(BIN)/python -m sticker_pipeline_tests.reference_pages

$(DAGSTER_HOME)/dagster.yaml: # where there is none: it turns telemetry off
	@mkdir -p $(DAGSTER_HOME)
	@cp sticker_pipeline/dagster.yaml $(DAGSTER_HOME)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it with make PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (about 6 GB with PyTorch; a few minutes, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,models]'
	@touch $(READY)
