# `make demo` trains, measures and plays; `make test` tests. Both first make the environment .venv, once.
#
#   make demo PYTHON=python3.12         another Python (>= 3.11)
#   make demo TORCH_INDEX=<address>     another build of PyTorch: the package index that its installation page names
#   make test JOBS=4                    more test processes
#   make test TESTS=tests/nest          some of the tests
#   make sanitize LONG=1                all tests of native code under sanitizers, not only the quick ones

PYTHON ?= python3
TORCH_INDEX ?=
JOBS ?= 2
LONG ?=
TESTS ?= tests

VENV := .venv
BIN := $(VENV)/bin
RUN_DIR := demo_run/ppo_cart_pole
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
TORCH := $(shell grep '^torch==' constraints.txt)
SETTINGS := pyproject.toml setup.py constraints.txt
SOURCES := $(shell find csrc -name tests -prune -o -name '*.cpp' -print -o -name '*.h' -print)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test sanitize clean

help:
	@echo "make demo      set up, train PPO on CartPole, measure it, and record a video"
	@echo "make test      set up, and run the tests"
	@echo "make sanitize  set up, and run the native code under AddressSanitizer and ThreadSanitizer"
	@echo "make clean     remove $(VENV) and demo_run"

demo: $(VENV)/demo.stamp
	@echo "== Training: PPO on CartPole-v1, a few seconds. The same command again resumes."
	@$(BIN)/python -m alf.bin.train --conf ppo_cart_pole_conf.py --root_dir $(RUN_DIR) $(DEMO_FLAGS)
	@echo "== Measuring 100 episodes. The task counts as solved from a mean return of 475; the most is 500."
	@$(BIN)/python -m alf.bin.evaluate --root_dir $(RUN_DIR) --num_episodes 100
	@echo "== Recording 2 episodes."
	@$(BIN)/python -m alf.bin.play --root_dir $(RUN_DIR) --norender --num_episodes 2 --random_seed 0 \
		--record_file $(RUN_DIR)/play.mp4
	@echo "== Done."
	@echo "the run      $(RUN_DIR)"
	@echo "video        $(RUN_DIR)/play.mp4"
	@echo "curves       $(BIN)/tensorboard --logdir $(RUN_DIR)"

test: $(VENV)/test.stamp
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile $(TESTS)

sanitize: $(VENV)/test.stamp
	@.ci/sanitize $(if $(LONG),--long) $(BIN)/python

clean:
	@rm -rf $(VENV) demo_run

$(VENV)/made.stamp:
	@command -v $(PYTHON) > /dev/null || { \
		echo "error: no $(PYTHON). Install Python >= 3.11 (Debian, Ubuntu: sudo apt install python3 python3-venv)," \
			"or name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: alf needs Python >= 3.11, and $(PYTHON) is $$($(PYTHON) --version)." \
			"Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
		echo "error: $(PYTHON) lacks the module venv. On Debian and Ubuntu: sudo apt install" \
			"$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2; exit 1; }
	@echo "== Making the environment $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# The demonstration needs an encoder for the video and pygame to draw CartPole.
$(VENV)/demo.stamp: $(VENV)/made.stamp $(SETTINGS) $(SOURCES)
	@echo "== Installing alf and what it needs into $(VENV); the first time, PyTorch takes minutes"
	@$(if $(TORCH_INDEX),$(PIP_INSTALL) --no-deps --index-url $(TORCH_INDEX) $(TORCH))
	@$(PIP_INSTALL) -e '.[classic-control,video]'
	@touch $@

$(VENV)/test.stamp: $(VENV)/demo.stamp
	@echo "== Installing what the tests need"
	@$(PIP_INSTALL) -e '.[all,dev]'
	@touch $@
