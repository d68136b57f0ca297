# Everything a newcomer needs, on a machine with Python 3.11 or 3.12 and its headers, gcc,
# cmake and make. Nothing is installed outside this folder: .venv holds the Python packages
# (with ROS 2 from wheels), .ros the built messages. A target rebuilds only what changed files
# require.
#
# With a ROS installation use `colcon build` and `ros2 launch` instead (see README.md).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
# Newer versions of onnxruntime otherwise send usage data.
export ORT_DISABLE_TELEMETRY := 1
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
RUN := tools/with-ros python
# The lock files list everything, so pip resolves nothing, and source builds may not fetch build
# tools that are not locked.
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(VENV)/bin/python -m pip -qq
PIP_LOCKED := $(PIP) install --no-compile --no-deps --require-hashes

ROS_PACKAGE_FILES := package.xml CMakeLists.txt tools/build-messages tools/nodes/mesh_node \
  $(wildcard msg/*.msg srv/*.srv launch/* config/*)

.PHONY: help
help:  ## list the targets
	@echo "Key2Mesh: body meshes in metres from 2D keypoints."; echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' \
	  | column -t -s '|'
	@echo; echo "PYTHON=python3.12 make ... selects the interpreter for .venv."

.PHONY: demo
demo: .ros/.built  ## play recorded detections through the ROS node (VIEW=1: live view)
	@$(RUN) demo/run.py $(if $(VIEW),--view)

.PHONY: test
test: $(VENV)/.test .ros/.built  ## run the tests (ARGS=... goes to pytest)
	@$(RUN) -m pytest $(ARGS)

.PHONY: test-long
test-long: $(VENV)/.test .ros/.built  ## run the tests that take minutes
	@$(RUN) -m pytest -m long $(ARGS)

.PHONY: bench
bench: $(VENV)/.test .ros/.built  ## measure the engine, the node and a training step (ARGS=...)
	@$(RUN) -m benchmarks $(ARGS)

.PHONY: bench-reliability
bench-reliability: $(VENV)/.test .ros/.built  ## run the reliability tests in their long form: hours (SCALE=0.01)
	@$(RUN) -m pytest test/ros/reliability -rP --timeout 0 --scale $(or $(SCALE),1) $(ARGS)

.PHONY: lint
lint: $(VENV)/.test  ## check style and format
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

.PHONY: env
env: .ros/.built  ## create .venv and .ros: enough to run everything but training and tests

.PHONY: env-test
env-test: $(VENV)/.test .ros/.built  ## the same, with the packages for training and tests

LOCK := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 \
  --fork-strategy fewest --generate-hashes --no-header --no-annotate \
  --override requirements/overrides.txt
.PHONY: lock
lock: $(VENV)/.demo  ## pin the requirements again with uv (ARGS=--upgrade)
	@$(PIP) install uv
	@$(LOCK) $(ARGS) requirements/demo.in -o requirements/demo.txt
	@$(LOCK) $(ARGS) requirements/test.in -c requirements/demo.txt -o requirements/test.txt

.PHONY: clean
clean:  ## remove everything that make created
	rm -rf $(VENV) .ros demo/out benchmarks/out *.egg-info

# --- prerequisites of the targets above: each stamp is newer than its sources

# `python -m venv` with the first suitable interpreter.
$(VENV)/bin/python:
	@for python in $(PYTHON) python3 python3.12 python3.11; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info[:2] not in {(3, 11), (3, 12)})' \
	      2>/dev/null; then \
	    echo "making $(VENV) with $$python ($$("$$python" --version))"; \
	    "$$python" -m venv --clear $(VENV) || { \
	      rm -rf $(VENV); \
	      echo "Python's venv module does not work (Debian, Ubuntu: apt install python3-venv)." >&2; \
	      exit 1; }; \
	    exit 0; \
	  fi; \
	  [ "$$python" != "$(PYTHON)" ] || { echo "PYTHON=$$python is not Python 3.11 or 3.12." >&2; exit 1; }; \
	done; \
	echo "Neither python3, python3.12 nor python3.11 is a Python 3.11 or 3.12: install one," \
	  "or name it with PYTHON=/path/to/python." >&2; \
	exit 1

$(VENV)/.demo: requirements/demo.txt tools/fix_ros_wheels.py setup.py \
    pyproject.toml | $(VENV)/bin/python
	@echo "installing the packages for running (see requirements/)"
	@for tool in gcc cmake; do \
	  command -v $$tool >/dev/null || { echo "$$tool is missing: install it first." >&2; exit 1; }; \
	done
	@$(PIP_LOCKED) --only-binary :all: \
	  -r <(sed -n '/^setuptools==/,/[^\\]$$/p' requirements/demo.txt)
	@$(PIP_LOCKED) --no-build-isolation -r requirements/demo.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@$(VENV)/bin/python tools/fix_ros_wheels.py
	@touch $@

$(VENV)/.test: requirements/test.txt requirements/torch.txt | $(VENV)/.demo
	@echo "installing the packages for training and tests"
	@$(PIP_LOCKED) --no-build-isolation -r requirements/test.txt
	@$(PIP) install -r requirements/torch.txt
	@touch $@

.ros/.built: $(VENV)/.demo $(ROS_PACKAGE_FILES)
	@echo "building the messages"
	@tools/build-messages
	@touch $@
