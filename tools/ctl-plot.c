/*
 * Pictures of a recording
 *
 * Owns the SVG: time from left to right, sizes in MiB, a line for each guest, a
 * shaded band for each transfer, or, where they are many, a strip for all of
 * them.  A guest that the scheduler does not know
 * leaves a gap.  Nothing outside of the file is referred to.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <math.h>
#include <string.h>

#include "ctl-plot.h"
#include "ctl-table.h"

#define MIB    (1 << 20)
#define WIDTH  960
#define HEIGHT 520
#define LEFT   74
#define RIGHT  24
#define TOP    84
#define BOTTOM 56
#define FLOOR  (HEIGHT - BOTTOM)
#define CHARACTER 7.4           /* about, of the legend */
#define LONGEST_NAME 24u
#define MOST_BANDS 8            /* more would colour the picture */

/* Told apart with any kind of colour vision; more guests repeat them dashed. */
static const char *const colours[] = {
    "#0072b2", "#d55e00", "#009e73", "#aa4499", "#b8860b", "#56b4e9",
    "#882255", "#444444",
};
#define POOL_COLOUR "#8a8a8a"

typedef struct Chart {
    GString *out;
    const GPtrArray *samples;
    double start_s, end_s, top_mib, step_mib;
} Chart;

static CtlSample *sample_at(const Chart *c, guint i)
{
    return g_ptr_array_index(c->samples, i);
}

/* ---- values ---- */

/* MiB, or NAN where it is not known. */
static double mib_of(JsonObject *object, const char *path)
{
    uint64_t bytes = ctl_path(object, path);

    return bytes == CTL_NONE ? NAN : (double)bytes / MIB;
}

/* IDs in the order of their first appearance. */
static GPtrArray *names_of(const GPtrArray *samples)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < samples->len; i++) {
        const CtlSample *s = g_ptr_array_index(samples, i);

        for (guint k = 0; k < json_array_get_length(s->guests); k++) {
            const char *id = ctl_text(ctl_element(s->guests, k), "id");

            if (id && !g_hash_table_contains(seen, id)) {
                char *copy = g_strdup(id);

                g_ptr_array_add(names, copy);
                g_hash_table_add(seen, copy);
            }
        }
    }
    return names;
}

static void scale(Chart *c, const char *path, bool pool)
{
    double most = 1;

    for (guint i = 0; i < c->samples->len; i++) {
        CtlSample *s = sample_at(c, i);

        for (guint k = 0; k < json_array_get_length(s->guests); k++) {
            most = fmax(most, mib_of(ctl_element(s->guests, k), path));
        }
        if (pool) {
            most = fmax(most, mib_of(s->scheduler, "pool.free"));
        }
    }
    /* A power of two, since memory comes in them. */
    c->step_mib = exp2(ceil(log2(fmax(most / 6, 1))));
    c->top_mib = ceil(most / c->step_mib) * c->step_mib;
    c->start_s = sample_at(c, 0)->time_s;
    c->end_s = sample_at(c, c->samples->len - 1)->time_s;
    if (c->end_s <= c->start_s) {
        c->end_s = c->start_s + 1;
    }
}

static double x_of(const Chart *c, double time_s)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * (time_s - c->start_s) /
           (c->end_s - c->start_s);
}

static double y_of(const Chart *c, double mib)
{
    return FLOOR - (FLOOR - TOP) * mib / c->top_mib;
}

/* ---- pieces ---- */

static char *escaped(const char *text)
{
    g_autofree char *clean = ctl_clean(text);

    return g_markup_escape_text(clean, -1);
}

static void text(Chart *c, double x, double y, const char *extra,
                 const char *words)
{
    g_autofree char *safe = escaped(words);

    g_string_append_printf(c->out, "<text x=\"%.1f\" y=\"%.1f\" %s>%s</text>\n",
                           x, y, extra, safe);
}

/* 1, 2 or 5 times a power of ten, for about nine steps. */
static double nice_step(double span)
{
    double rough = span / 9, power = pow(10, floor(log10(rough)));

    return rough <= power ? power : rough <= 2 * power ? 2 * power :
           rough <= 5 * power ? 5 * power : 10 * power;
}

static void axes(Chart *c)
{
    double span = c->end_s - c->start_s, step = nice_step(span);
    char words[32];

    for (unsigned i = 0; i * c->step_mib <= c->top_mib; i++) {
        double y = y_of(c, i * c->step_mib);

        g_string_append_printf(c->out, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" "
                               "y2=\"%.1f\" stroke=\"%s\"/>\n", LEFT, y,
                               WIDTH - RIGHT, y, i ? "#e3e3e3" : "#555555");
        g_snprintf(words, sizeof(words), "%.0f", i * c->step_mib);
        text(c, LEFT - 8, y + 4, "font-size=\"12\" text-anchor=\"end\"",
             words);
    }
    for (unsigned i = 0; i * step <= span + 0.000000001; i++) {
        double x = x_of(c, c->start_s + i * step);

        g_string_append_printf(c->out, "<line x1=\"%.1f\" y1=\"%d\" "
                               "x2=\"%.1f\" y2=\"%d\" stroke=\"#555555\"/>\n",
                               x, FLOOR, x, FLOOR + 5);
        g_snprintf(words, sizeof(words), "%g", i * step);
        text(c, x, FLOOR + 19, "font-size=\"12\" text-anchor=\"middle\"",
             words);
    }
    text(c, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14,
         "font-size=\"13\" text-anchor=\"middle\"", "time (s)");
    text(c, 20, (TOP + FLOOR) / 2, "font-size=\"13\" text-anchor=\"middle\" "
         "transform=\"rotate(-90 20 274)\"", "host memory (MiB)");
}

/* Of a guest, or of the pool where @id is NULL. */
static double value_at(const Chart *c, guint i, const char *id,
                       const char *path)
{
    CtlSample *s = sample_at(c, i);

    return id ? mib_of(ctl_sample_guest(s, id), path)
              : mib_of(s->scheduler, path);
}

static void line(Chart *c, const char *id, const char *path,
                 const char *style)
{
    bool open = false;

    for (guint i = 0; i < c->samples->len; i++) {
        double mib = value_at(c, i, id, path);

        if (isnan(mib)) {
            g_string_append(c->out, open ? "\"/>\n" : "");
            open = false;
            continue;
        }
        if (!open) {
            g_string_append_printf(c->out, "<polyline fill=\"none\" "
                                   "stroke-linejoin=\"round\" %s points=\"",
                                   style);
        }
        g_string_append_printf(c->out, "%s%.1f,%.1f", open ? " " : "",
                               x_of(c, sample_at(c, i)->time_s),
                               y_of(c, mib));
        open = true;
    }
    g_string_append(c->out, open ? "\"/>\n" : "");
}

/* ---- transfers ---- */

typedef struct Band {
    uint64_t id;
    double begin_s;
    JsonObject *last;
} Band;

static double duration_s(JsonObject *transfer)
{
    uint64_t ms = ctl_number(transfer, "duration");

    return ms == CTL_NONE ? 0 : (double)ms / 1000;
}

/* A sample that first shows one says how long it had been running. */
static GArray *bands_of(const Chart *c)
{
    GArray *bands = g_array_new(FALSE, FALSE, sizeof(Band));

    for (guint i = 0; i < c->samples->len; i++) {
        CtlSample *s = sample_at(c, i);
        guint count = s->transfers ? json_array_get_length(s->transfers) : 0;

        for (guint k = 0; k < count; k++) {
            JsonObject *t = ctl_element(s->transfers, k);
            Band band = { ctl_number(t, "id"), s->time_s - duration_s(t), t };
            guint at = 0;

            while (at < bands->len &&
                   g_array_index(bands, Band, at).id != band.id) {
                at++;
            }
            if (at < bands->len) {
                g_array_index(bands, Band, at).last = t;
            } else if (t) {
                g_array_append_val(bands, band);
            }
        }
    }
    return bands;
}

/* To be freed.  Out of the pool where nobody gives, into it likewise. */
static char *band_words(const Band *b)
{
    const char *from = ctl_text(b->last, "from"), *to = ctl_text(b->last, "to");
    const char *state = ctl_text(b->last, "state");

    return g_strdup_printf("%s \u2192 %s %.0f MiB, %s", from ? from : "pool",
                           to ? to : "pool", mib_of(b->last, "requested"),
                           state ? state : "?");
}

static void band(Chart *c, const Band *b, double *free_from)
{
    double end_s = b->begin_s + duration_s(b->last);
    double left = x_of(c, fmax(b->begin_s, c->start_s));
    double right = fmax(x_of(c, fmin(end_s, c->end_s)), left + 1.5), room;
    g_autofree char *words = band_words(b);
    g_autofree char *safe = escaped(words);

    if (end_s < c->start_s) {
        return;
    }
    g_string_append_printf(c->out, "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" "
                           "height=\"%d\" fill=\"#f2e6c9\" "
                           "fill-opacity=\"0.7\"><title>%s</title></rect>\n",
                           left, TOP, right - left, FLOOR - TOP, safe);
    room = 6.2 * (double)g_utf8_strlen(words, -1);
    if (left < *free_from) {
        return;
    }
    if (left + room > WIDTH - RIGHT) {
        if (right - room < *free_from) {
            return;
        }
        text(c, right, TOP - 6, "font-size=\"11\" fill=\"#7a6020\" "
             "text-anchor=\"end\"", words);
        *free_from = WIDTH;
    } else {
        text(c, left, TOP - 6, "font-size=\"11\" fill=\"#7a6020\"", words);
        *free_from = left + room + 12;
    }
}

/*
 * What a scheduler does by itself is many transfers, at the same time too:
 * they have a narrow strip, which says when any ran.
 */
static void strip(Chart *c, const GArray *bands)
{
    g_autofree char *words = g_strdup_printf("%u transfers", bands->len);

    for (guint i = 0; i < bands->len; i++) {
        const Band *b = &g_array_index(bands, Band, i);
        double end_s = b->begin_s + duration_s(b->last);
        double left = x_of(c, fmax(b->begin_s, c->start_s));
        g_autofree char *about = band_words(b);
        g_autofree char *safe = escaped(about);

        if (end_s >= c->start_s) {
            g_string_append_printf(
                c->out, "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" "
                "height=\"8\" fill=\"#d9b95c\"><title>%s</title></rect>\n",
                left, TOP - 10, fmax(x_of(c, fmin(end_s, c->end_s)) - left,
                                     1.5), safe);
        }
    }
    text(c, LEFT, TOP - 16, "font-size=\"11\" fill=\"#7a6020\"", words);
}

static void transfers(Chart *c)
{
    g_autoptr(GArray) bands = bands_of(c);
    double free_from = -1;

    if (bands->len > MOST_BANDS) {
        strip(c, bands);
        return;
    }
    for (guint i = 0; i < bands->len; i++) {
        band(c, &g_array_index(bands, Band, i), &free_from);
    }
}

/* ---- legend ---- */

/* False where there is no room. */
static bool legend(Chart *c, double *x, const char *words, const char *style)
{
    g_autofree char *cut = ctl_cut(words, LONGEST_NAME);
    double width = 34 + CHARACTER * (double)g_utf8_strlen(cut, -1) + 18;

    if (*x + width > WIDTH - RIGHT - 90) {
        return false;
    }
    g_string_append_printf(c->out, "<line x1=\"%.1f\" y1=\"44\" x2=\"%.1f\" "
                           "y2=\"44\" %s/>\n", *x, *x + 26, style);
    text(c, *x + 34, 48, "font-size=\"13\"", cut);
    *x += width;
    return true;
}

static void lines(Chart *c, const char *path, bool pool)
{
    g_autoptr(GPtrArray) names = names_of(c->samples);
    const char *pool_style = "stroke=\"" POOL_COLOUR "\" stroke-width=\"1.5\" "
                             "stroke-dasharray=\"2 3\"";
    guint shown = names->len;
    double x = LEFT;

    if (pool) {
        line(c, NULL, "pool.free", pool_style);
        legend(c, &x, "free in the pool", pool_style);
    }
    for (guint i = 0; i < names->len; i++) {
        const char *id = g_ptr_array_index(names, i);
        g_autofree char *style = g_strdup_printf(
            "stroke=\"%s\" stroke-width=\"2.5\"%s",
            colours[i % G_N_ELEMENTS(colours)],
            i < G_N_ELEMENTS(colours) ? "" : " stroke-dasharray=\"6 3\"");
        g_autofree char *words = g_strdup_printf("guest %s", id);

        line(c, id, path, style);
        if (shown == names->len && !legend(c, &x, words, style)) {
            shown = i;
        }
    }
    if (shown < names->len) {
        g_autofree char *words = g_strdup_printf("and %u more",
                                                 names->len - shown);

        text(c, x, 48, "font-size=\"13\"", words);
    }
}

void ctl_plot(GString *out, const GPtrArray *samples, const char *title,
              const char *path, bool pool)
{
    Chart c = { .out = out, .samples = samples };
    g_autofree char *safe = escaped(title);

    scale(&c, path, pool);
    g_string_append_printf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" "
        "width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" font-family=\""
        "DejaVu Sans, Helvetica, Arial, sans-serif\" fill=\"#222222\">\n"
        "<title>%s</title>\n<rect width=\"%d\" height=\"%d\" "
        "fill=\"#ffffff\"/>\n", WIDTH, HEIGHT, WIDTH, HEIGHT, safe, WIDTH,
        HEIGHT);
    text(&c, LEFT, 26, "font-size=\"16\" font-weight=\"bold\"", title);
    if (pool) {
        transfers(&c);
    }
    axes(&c);
    lines(&c, path, pool);
    g_string_append(out, "</svg>\n");
}
