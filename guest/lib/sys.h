/*
 * The system calls of the reservoir, so that tests can refuse them
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef BX_SYS_H
#define BX_SYS_H

#include <stddef.h>

/* Each as the C library's, but 0 (an address) or -errno. */
typedef struct BxSys {
    int (*map)(size_t bytes, void **ret_address);
    int (*unmap)(void *address, size_t bytes);
    int (*advise)(void *address, size_t bytes, int advice);
    /* What is touched from now on stays in memory. */
    int (*lock)(void *address, size_t bytes);
} BxSys;

extern const BxSys bx_sys;

#endif
