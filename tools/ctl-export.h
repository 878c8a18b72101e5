/*
 * Figures for machines: CSV and Prometheus text
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CTL_EXPORT_H
#define CTL_EXPORT_H

#include "ctl-field.h"

/* The line that names the columns, with its end. */
void ctl_csv_head(GString *out);

/*
 * A line a guest: the time, the host's state, free and pressure, then the
 * guest's figures; sizes in bytes, nothing where a figure is absent.
 */
void ctl_csv_sample(GString *out, const CtlSample *sample);

/*
 * Prometheus text exposition: base units (bytes, seconds, ratios), a HELP and a
 * TYPE for each metric.
 */
void ctl_metrics(GString *out, const CtlSample *sample);

#endif /* CTL_EXPORT_H */
