/*
 * What a fuzz target offers, to libFuzzer and to the short run of the tests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Aborts where something does not hold for @size bytes of @data. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
