# SPDX-License-Identifier: GPL-2.0-or-later
#
# A thin front: each target sets up and builds what it needs, then calls one
# script.  `make help` lists the targets.

PYTHON ?= python3
export PYTHONDONTWRITEBYTECODE := 1
# Compilations are found again by another checkout of this tree.
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := 1

QEMU_TARGETS = qemu-system-x86_64 qemu-img qemu-io \
	system/memsched/link/libqemu-system-x86_64.so

# Says what to do after a compiler's own messages.
HINT = { echo 'make: correct the error shown above, then run make again;' \
	'if QEMU itself does not build, try make clean first' >&2; exit 1; }

all: launcher

configured:
	@./configure --recheck

own: configured
	@ninja -C build/memsched || $(HINT)
	@ln -sfn memsched/tools/memschedctl build/memschedctl

# The launcher is copied, not linked: it looks for its libraries beside the
# file that it really is.
launcher: own
	@ninja -C build/qemu $(QEMU_TARGETS) || $(HINT)
	@cmp -s build/memsched/qemu-system-x86_64 build/qemu-system-x86_64 || \
	    cp -f build/memsched/qemu-system-x86_64 build/qemu-system-x86_64

demo: launcher
	@scripts/demo

demo-errors: launcher
	@scripts/demo-errors

demo-scheduler: launcher
	@scripts/demo-scheduler

check: launcher
	@$(PYTHON) scripts/run-tests --level check

check-long: launcher
	@$(PYTHON) scripts/run-tests --level long

# Our own code alone: no QEMU source is fetched or built.
check-fast:
	@./configure --recheck --own-only
	@ninja -C build/memsched || $(HINT)
	@$(PYTHON) scripts/run-tests --level fast

lint:
	@./configure --recheck
	@$(PYTHON) scripts/run-tests lint

bench: launcher
	@scripts/run-bench

fuzz: configured
	@scripts/fuzz

clean:
	@find build -mindepth 1 -maxdepth 1 ! -name cache -exec rm -rf {} +

help:
	@echo 'make             build/qemu-system-x86_64'
	@echo 'make demo        two guests, and memory that moves between them'
	@echo 'make demo-errors a guest takes 1,000 uncorrectable memory errors'
	@echo 'make demo-scheduler  three guests, and memory that follows demand'
	@echo 'make check       every test; upstream qtests included'
	@echo 'make check-fast  our own code without QEMU'
	@echo 'make check-long  what takes more than minutes too'
	@echo 'make lint        style, layering, headers, licences'
	@echo 'make bench       figures, with their baselines'
	@echo 'make fuzz        the fuzzers'
	@echo 'make clean       remove what was built, keep downloads'

.PHONY: all configured own launcher demo demo-errors demo-scheduler check \
	check-long check-fast lint bench fuzz clean help
