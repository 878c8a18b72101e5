/*
 * Lines of log and trace files of a guest carry its id.
 *
 * Everything that QEMU logs, trace events too, is written between
 * qemu_log_trylock() and qemu_log_unlock(), in pieces, to a stream that it is
 * given.  In a guest's copy that is a stream in memory; at the unlock its
 * lines go to the file with the id in front.  So guests may log to one file,
 * and to the process's standard error, and each line says whose it is.
 *
 * A thread of a guest that has ended is cancelled where it waits.  While it
 * has the lock it is not: its line is written whole, and the stream, which is
 * libc's and not of the copy's heap, is freed.
 *
 * In instance 0 all of this passes through.
 *
 * Threads: any; the stream is the thread's own.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/log.h"
#include "wrap.h"

static __thread struct {
    unsigned depth;             /* locks are taken again under themselves */
    FILE *to;                   /* QEMU's own */
    FILE *stream;
    char *text;                 /* what the stream has, once it is closed */
    size_t length;
    int cancel;                 /* as it was before the lock */
    bool in_line;               /* what was written last has no end yet */
} out;

DECLARE_WRAP(FILE *, qemu_log_trylock, (void));
DECLARE_WRAP(void, qemu_log_unlock, (FILE *stream));
DECLARE_WRAP(void, qemu_log, (const char *format, ...)) G_GNUC_PRINTF(1, 2);

static void write_lines(void)
{
    const char *line = out.text;
    const char *end = out.text + out.length;

    while (line < end) {
        const char *newline = memchr(line, '\n', end - line);
        const char *next = newline ? newline + 1 : end;

        if (!out.in_line) {
            fprintf(out.to, "%s ", instance_id());
        }
        fwrite(line, 1, next - line, out.to);
        out.in_line = !newline;
        line = next;
    }
}

FILE *__wrap_qemu_log_trylock(void)
{
    if (!instance_guest()) {
        return __real_qemu_log_trylock();
    }
    if (out.depth) {
        out.depth++;
        return out.stream;
    }
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &out.cancel);
    out.to = __real_qemu_log_trylock();
    out.stream = out.to ? open_memstream(&out.text, &out.length) : NULL;
    if (!out.stream) {
        __real_qemu_log_unlock(out.to);
        pthread_setcancelstate(out.cancel, NULL);
        return NULL;
    }
    out.depth = 1;
    return out.stream;
}

void __wrap_qemu_log_unlock(FILE *stream)
{
    if (!instance_guest()) {
        __real_qemu_log_unlock(stream);
        return;
    }
    if (!stream || --out.depth) {
        return;
    }
    fclose(out.stream);
    write_lines();
    free(out.text);
    __real_qemu_log_unlock(out.to);
    pthread_setcancelstate(out.cancel, NULL);
}

void __wrap_qemu_log(const char *format, ...)
{
    FILE *stream = __wrap_qemu_log_trylock();
    va_list arguments;

    if (stream) {
        va_start(arguments, format);
        vfprintf(stream, format, arguments);
        va_end(arguments);
        __wrap_qemu_log_unlock(stream);
    }
}
