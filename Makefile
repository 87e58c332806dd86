# make beam | test | coverage | check | docs | pretrained | clean
#   ARGS=...     handed to the command:              make beam ARGS=--quick      make test ARGS="-k newton"
#   PYTHON=...   the Python to make .venv with:      make beam PYTHON=python3.12
#   TORCH=...    cpu, cuda or skip; see install.py:  make beam TORCH=cpu

PYTHON ?= python3
ARGS   ?=
VENV   := .venv
BIN    := $(VENV)/bin

beam: $(VENV)/installed
	$(BIN)/hodsim beam $(ARGS)

test: $(VENV)/installed-test
	$(BIN)/python -m pytest $(ARGS)

# Lines that the tests reach, of all that are not numba's; an error below nine in ten.
coverage: $(VENV)/installed-dev
	$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered $(ARGS)

# pyright cannot see that apps/ and trainers/ are installed as hodsim.apps and hodsim.trainers; the links tell it (stubPath in pyproject.toml).
check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	@mkdir -p $(VENV)/layout/hodsim && ln -sfn $(CURDIR)/apps $(CURDIR)/trainers $(VENV)/layout/hodsim/
	$(BIN)/pyright

# The documentation site, in out/site; a link that leads nowhere is an error.
docs: $(VENV)/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# The model that comes with hodsim, meshes/beam.hod: made again where something changes what `hodsim beam` trains.
pretrained: $(VENV)/installed
	$(BIN)/hodsim beam --no-view
	$(BIN)/python -c "from hodsim import Model; print('saved', Model.load('out/beam/model.hod').save('meshes/beam.hod', single=True))"

clean:
	rm -rf $(VENV) build dist *.egg-info

# Made again when the dependencies or the set-up change, or when TORCH is named.
$(VENV)/installed: pyproject.toml install.py $(if $(TORCH),always)
	$(PYTHON) install.py
	@touch $@

$(VENV)/installed-%: pyproject.toml install.py $(if $(TORCH),always)
	$(PYTHON) install.py --extra $*
	@touch $@ $(VENV)/installed $(if $(filter dev,$*),$(VENV)/installed-test)

always:

.PHONY: beam test coverage check docs pretrained clean always
