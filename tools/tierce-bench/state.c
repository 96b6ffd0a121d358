/* Saved machines: a guest at its shell is saved and restored by its monitor, and another process goes on with it. */
#define _GNU_SOURCE
#include "tools/tierce-bench/measure.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#define TO_MONITOR "\001c"

/* What the monitor says, from `mark` on. */
static enum session_result ask(struct session *s, const char *command, const char *path, const char *mark, double timeout_s, char line[512])
{
    char text[512];
    snprintf(text, sizeof text, "%s %s\n", command, path);
    session_send(s, text);
    return session_line(s, mark, timeout_s, line, 512);
}

static enum session_result save_and_load(struct bench *b, struct session *s, const char *path, struct saved *m)
{
    char line[512];
    uint64_t bytes, ram;
    m->touched = resident(s->pid, b->memory_mib).ram;
    session_send(s, TO_MONITOR);
    enum session_result r = ask(s, "savevm", path, "saved ", b->timeout_s, line);
    if (r != SESSION_OK || sscanf(line, "saved %*s %" SCNu64 " bytes, for %" SCNu64 " bytes of RAM, in %lf ms", &bytes, &ram, &m->save_ms) != 3)
        return r == SESSION_OK ? SESSION_ENDED : r;
    m->file = (double)bytes / (1 << 20);
    m->not_zero = (double)ram / (1 << 20);
    r = ask(s, "loadvm", path, "restored ", b->timeout_s, line);
    return r == SESSION_OK && sscanf(line, "restored %*s in %lf ms", &m->load_ms) != 1 ? SESSION_ENDED : r;
}

/* From the start of a process to the guest's answer. */
static void start_restored(struct bench *b, unsigned subject, struct session *s, const char *path, struct saved *m)
{
    const char *const more[] = {"--restore", path, NULL};
    struct command c;
    command_machine(b, &b->subjects[subject], more, &c);
    if (!session_start(s, c.argv))
        die(1, "cannot start a process for %s", b->subjects[subject].name);
    session_send(s, "echo answer: $((6 * 7))\n");
    enum session_result r = session_expect(s, "answer: 42", b->timeout_s);
    if (r == SESSION_OK)
        m->start_ms = (now_ns() - s->started) / 1e6;
    else
        failed(b, &b->subjects[subject], s, "the restored guest", r);
    session_send(s, TO_MONITOR "quit\n");
    session_finish(s, b->timeout_s, NULL, 0);
}

static void state_once(struct bench *b, unsigned subject, unsigned round, struct session *s, const char *path)
{
    struct saved *m = &b->saved[subject][round];
    *m = (struct saved){NAN, NAN, NAN, NAN, NAN, NAN};
    progress("state %u of %u: %s", round + 1, b->rounds, b->subjects[subject].name);
    if (!start_shell(b, subject, s))
        return;
    enum session_result r = save_and_load(b, s, path, m);
    if (r != SESSION_OK) {
        failed(b, &b->subjects[subject], s, "savevm and loadvm", r);
        return;
    }
    session_send(s, "quit\n");
    session_finish(s, b->timeout_s, NULL, 0);
    start_restored(b, subject, s, path, m);
}

void measure_state(struct bench *b)
{
    struct session *s = calloc(1, sizeof *s);
    char path[64];
    snprintf(path, sizeof path, "/tmp/tierce-bench-%d.state", (int)getpid());
    for (unsigned round = 0; s && round < b->rounds; round++) {
        for (unsigned i = 0; i < b->subject_count; i++) {
            unsigned subject = (i + round) % b->subject_count;
            if (b->subjects[subject].kind == TIERCE)
                state_once(b, subject, round, s, path);
        }
        b->states_done = round + 1;
    }
    unlink(path);
    free(s);
}
