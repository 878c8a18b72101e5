/*
 * A short run of a fuzz target, the same one each time
 *
 * For where libFuzzer is not to be had, and for `make check`.  Inputs are
 * random bytes, and bytes made of a few repeated words, which are what sorted
 * and coalesced code stumbles over.  The seed is GLib's (--seed repeats one).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <stdbool.h>

#include "fuzz.h"

#define ROUNDS    20000
#define BYTES_MAX 1500

/* Most are short: the rest of a long one seldom matters. */
static size_t size_of(int round)
{
    int most = round % 16 == 0 ? BYTES_MAX : round % 4 == 0 ? 256 : 64;

    return (size_t)g_test_rand_int_range(0, most);
}

static void fill(uint8_t *data, size_t size)
{
    uint32_t few[4];
    bool words = g_test_rand_bit();

    for (size_t i = 0; i < G_N_ELEMENTS(few); i++) {
        few[i] = i % 2 ? UINT32_MAX - (uint32_t)i
                       : (uint32_t)g_test_rand_int_range(0, 1 << 30);
    }
    for (size_t i = 0; i < size; i++) {
        uint32_t word = few[(i / 4 / 7) % 4] + i / 4;

        data[i] = words ? word >> (i % 4 * 8) : (uint32_t)g_test_rand_int();
    }
}

static void test_random_inputs_break_nothing(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        size_t size = size_of(round);
        /* Of its own, so that a sanitizer sees a read behind it. */
        g_autofree uint8_t *data = g_malloc(size + !size);

        fill(data, size);
        LLVMFuzzerTestOneInput(data, size);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fuzz/random-inputs-break-nothing",
                    test_random_inputs_break_nothing);
    return g_test_run();
}
