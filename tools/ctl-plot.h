/*
 * Pictures of a recording
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CTL_PLOT_H
#define CTL_PLOT_H

#include <stdbool.h>

#include "ctl-sample.h"

/*
 * One self-contained SVG: a line for each guest of its @path, a size, and, with
 * @pool, the free part of the pool and the transfers.
 */
void ctl_plot(GString *out, const GPtrArray *samples, const char *title,
              const char *path, bool pool);

/* A self-contained HTML page: pictures, guests, transfers, decisions. */
void ctl_page(GString *out, const GPtrArray *samples, const char *title);

#endif /* CTL_PLOT_H */
