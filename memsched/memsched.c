/*
 * Version of the scheduler library.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "memsched/memsched.h"

const char *memsched_version(void)
{
    return MEMSCHED_VERSION;
}
