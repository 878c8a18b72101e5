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

all: launcher

configured:
	@./configure --recheck

own: configured
	@ninja -C build/memsched

# The launcher is copied, not linked: it looks for its libraries beside the
# file that it really is.
launcher: own
	@ninja -C build/qemu $(QEMU_TARGETS)
	@cmp -s build/memsched/qemu-system-x86_64 build/qemu-system-x86_64 || \
	    cp -f build/memsched/qemu-system-x86_64 build/qemu-system-x86_64

help:
	@echo 'make             build build/qemu-system-x86_64'
	@echo 'make clean       remove what was built, keep downloads'

clean:
	@find build -mindepth 1 -maxdepth 1 ! -name cache -exec rm -rf {} +

.PHONY: all configured own launcher help clean
