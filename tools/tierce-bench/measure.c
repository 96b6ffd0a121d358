/* The measurements.  The subjects are started side by side and then work one at a time: each program runs natively, in
 * each tier and under QEMU within a few seconds, so that what disturbs the host disturbs all alike.  Every round starts
 * the guests anew. */
#define _GNU_SOURCE
#include "tools/tierce-bench/measure.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

void command_machine(const struct bench *b, const struct subject *s, const char *const *more, struct command *c)
{
    unsigned n = 0;
    for (unsigned i = 0; i < sizeof s->program / sizeof *s->program && s->program[i]; i++)
        c->argv[n++] = s->program[i];
    if (s->kind != NATIVE) {
        snprintf(c->memory, sizeof c->memory, "%u", b->memory_mib);
        const char *const machine[] = {"-m", c->memory, "-nographic", "-no-reboot", "-nic", "none"};
        memcpy(c->argv + n, machine, sizeof machine);
        n += sizeof machine / sizeof *machine;
        while (*more)
            c->argv[n++] = *more++;
    }
    c->argv[n] = NULL;
}

void command_guest(const struct bench *b, const struct subject *s, const char *initrd, const char *const *more, struct command *c)
{
    const char *all[MAX_ARGUMENTS / 2] = {"-kernel", b->kernel_path, "-initrd", initrd, "-append", KERNEL_OPTIONS};
    unsigned n = 6;
    while (*more && n < sizeof all / sizeof *all - 1)
        all[n++] = *more++;
    command_machine(b, s, all, c);
}

void failed(struct bench *b, const struct subject *who, struct session *s, const char *what, enum session_result r)
{
    int status = session_finish(s, 0.5, NULL, 0);
    if (who->kind != QEMU)
        b->failures++;
    if (r == SESSION_TIMEOUT)
        complain("%s: %s did not end within %u s", who->name, what, b->timeout_s);
    else
        complain("%s: ended in %s, with %s %d; its last line: %s", who->name, what,
                 WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), s->last);
}

/* Starts a subject with the benchmark programs, and waits until it obeys. */
static bool start(struct bench *b, unsigned subject, const char *extra, struct session *s)
{
    struct command c;
    command_guest(b, &b->subjects[subject], b->initrd, (const char *const[]){extra, NULL}, &c);
    progress("starting %s", b->subjects[subject].name);
    if (!session_start(s, c.argv))
        die(1, "cannot start a process for %s", b->subjects[subject].name);
    enum session_result r = session_expect(s, "BENCH-READY", b->timeout_s);
    if (r != SESSION_OK)
        failed(b, &b->subjects[subject], s, "start", r);
    return r == SESSION_OK;
}

/* A guest whose clock is wrong must not gain by it: where it and ours differ by more than a line's way may take on a busy
 * host, ours counts.  The sums of a round, which clock_figures() gives, show small errors. */
static void check_clock(struct sample *m)
{
    m->drift = fabs(m->host - m->elapsed) > 0.1 * m->host + 100e6;
    if (!m->drift || m->elapsed <= 0)
        return;
    m->unit *= m->host / m->elapsed;
    m->best *= m->host / m->elapsed;
}

static enum session_result run(struct bench *b, struct session *s, unsigned budget_ms, const char *name, struct sample *m)
{
    char line[256], ask[96];
    double begin;
    uint64_t wrong = 0;
    snprintf(ask, sizeof ask, "run %s %u\n", name, budget_ms);
    session_send(s, ask);
    enum session_result r = session_line(s, "BENCH-START", b->timeout_s, line, sizeof line);
    begin = now_ns();
    if (r == SESSION_OK)
        r = session_line(s, "BENCH-DONE", b->timeout_s, line, sizeof line);
    m->host = now_ns() - begin;
    m->outcome = r == SESSION_OK ? GOOD : r == SESSION_ENDED ? ENDED : TIMED_OUT;
    if (r != SESSION_OK)
        return r;
    if (sscanf(line, "BENCH-DONE %*s %lf %u %lf %lf %*f %19s %" SCNu64 " %lf", &m->elapsed, &m->units, &m->unit, &m->best, m->result,
               &wrong, &m->instructions) != 7 || wrong)
        m->outcome = WRONG;
    return r;
}

static void run_program(struct bench *b, unsigned program, unsigned subject, unsigned round, struct session *s, bool *alive)
{
    const char *name = b->programs[program].name;
    struct sample *m = &b->samples[program][subject][round];
    progress("round %u of %u: %s %s", round + 1, b->rounds, name, b->subjects[subject].name);
    enum session_result r = run(b, s, b->budget_ms, name, m);
    if (b->subjects[subject].kind != NATIVE)
        check_clock(m);
    if (m->outcome == WRONG) {
        complain("%s: %s gave the wrong result %s", b->subjects[subject].name, name, m->result);
        b->failures += b->subjects[subject].kind != QEMU;
    }
    if (m->drift)
        complain("%s: its clock said %.0f ms for %s and ours %.0f ms: ours counts", b->subjects[subject].name, m->elapsed / 1e6, name,
                 m->host / 1e6);
    if (r == SESSION_OK)
        return;
    failed(b, &b->subjects[subject], s, name, r);
    *alive = start(b, subject, NULL, s); /* the next program gets a new guest */
}

void measure_programs(struct bench *b)
{
    struct session *sessions = calloc(MAX_SUBJECTS, sizeof *sessions);
    for (unsigned round = 0; sessions && round < b->rounds; round++) {
        bool alive[MAX_SUBJECTS];
        for (unsigned s = 0; s < b->subject_count; s++) {
            alive[s] = start(b, s, NULL, &sessions[s]);
            b->ready[s][round] = alive[s] ? now_ns() - sessions[s].started : NAN;
        }
        for (unsigned p = 0; p < b->program_count; p++)
            for (unsigned i = 0; i < b->subject_count; i++) {
                unsigned s = (i + round) % b->subject_count;
                if (alive[s])
                    run_program(b, p, s, round, &sessions[s], &alive[s]);
            }
        for (unsigned s = 0; s < b->subject_count; s++)
            if (alive[s]) {
                session_send(&sessions[s], "quit\n");
                session_finish(&sessions[s], b->timeout_s, NULL, 0);
            }
        b->rounds_done = round + 1;
    }
    free(sessions);
}

/* --- Boot */

bool start_guest(struct bench *b, const struct subject *who, const char *initrd, const char *const *more, struct session *s)
{
    struct command c;
    command_guest(b, who, initrd, more, &c);
    if (!session_start(s, c.argv))
        die(1, "cannot start a process for %s", who->name);
    enum session_result r = session_expect(s, "tierce guest ready", b->timeout_s);
    if (r == SESSION_OK)
        r = session_expect(s, "/ # ", b->timeout_s);
    if (r != SESSION_OK)
        failed(b, who, s, "boot", r);
    return r == SESSION_OK;
}

bool start_shell(struct bench *b, unsigned subject, struct session *s)
{
    return start_guest(b, &b->subjects[subject], b->shell_initrd, (const char *const[]){NULL}, s);
}

static void boot_once(struct bench *b, unsigned subject, unsigned round, struct session *s)
{
    b->shell[subject][round] = b->off[subject][round] = NAN;
    progress("boot %u of %u: %s", round + 1, b->rounds, b->subjects[subject].name);
    if (!start_shell(b, subject, s))
        return;
    b->shell[subject][round] = now_ns() - s->started;
    session_send(s, "poweroff -f\n");
    if (session_finish(s, b->timeout_s, NULL, 0) == 0)
        b->off[subject][round] = now_ns() - s->started;
}

void measure_boot(struct bench *b)
{
    struct session *s = calloc(1, sizeof *s);
    for (unsigned round = 0; s && round < b->rounds; round++) {
        for (unsigned i = 0; i < b->subject_count; i++) {
            unsigned subject = (i + round) % b->subject_count;
            if (b->subjects[subject].kind != NATIVE)
                boot_once(b, subject, round, s);
        }
        b->boots_done = round + 1;
    }
    free(s);
}

/* --- Memory: proportional set sizes, so that what is mapped twice counts once.  Guest RAM is the mapping of its size. */

struct memory resident(pid_t pid, unsigned ram_mib)
{
    char path[64], line[512];
    struct memory m = {0, 0};
    unsigned long size = 0, pss;
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/smaps", (int)pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        sscanf(line, "Size: %lu", &size);
        if (sscanf(line, "Pss: %lu", &pss) != 1)
            continue;
        bool ram = size == (unsigned long)ram_mib * 1024;
        found |= ram;
        *(ram ? &m.ram : &m.rest) += (double)pss / 1024;
    }
    if (f)
        fclose(f);
    return found ? m : (struct memory){NAN, NAN};
}

void measure_memory(struct bench *b)
{
    struct session *session = calloc(1, sizeof *session);
    for (unsigned s = 0; session && s < b->subject_count; s++) {
        b->after_boot[s] = b->after_programs[s] = (struct memory){NAN, NAN};
        if (b->subjects[s].kind == NATIVE)
            continue;
        if (start_shell(b, s, session)) {
            b->after_boot[s] = resident(session->pid, b->memory_mib);
            session_send(session, "poweroff -f\n");
            session_finish(session, b->timeout_s, NULL, 0);
        }
        if (!start(b, s, NULL, session))
            continue;
        enum session_result r = SESSION_OK;
        for (unsigned p = 0; p < b->program_count && r == SESSION_OK; p++) {
            struct sample m = {0};
            progress("memory: %s %s", b->programs[p].name, b->subjects[s].name);
            r = run(b, session, 20, b->programs[p].name, &m);
        }
        if (r == SESSION_OK)
            b->after_programs[s] = resident(session->pid, b->memory_mib);
        session_send(session, "quit\n");
        session_finish(session, b->timeout_s, NULL, 0);
    }
    free(session);
}

/* --- The compiler: how soon its code runs, and what it costs meanwhile */

static void latency_round(struct bench *b, unsigned subject, unsigned round, struct session *s)
{
    double *of = &b->latency[subject][round * LATENCIES];
    enum session_result r = SESSION_OK;
    char line[256];
    for (unsigned i = 0; i < LATENCIES; i++)
        of[i] = NAN;
    if (!start(b, subject, NULL, s))
        return;
    for (unsigned i = 0; i < LATENCIES && r == SESSION_OK; i++) {
        double ns = 0;
        progress("latency, round %u of %u: %s", round + 1, b->rounds, b->subjects[subject].name);
        session_send(s, "latency\n");
        r = session_line(s, "BENCH-LATENCY", b->timeout_s, line, sizeof line);
        if (r == SESSION_OK && sscanf(line, "BENCH-LATENCY %lf", &ns) == 1 && ns > 0)
            of[i] = ns;
    }
    if (r != SESSION_OK) {
        failed(b, &b->subjects[subject], s, "latency", r);
        return;
    }
    session_send(s, "quit\n");
    session_finish(s, b->timeout_s, NULL, 0);
}

void measure_latency(struct bench *b)
{
    struct session *session = calloc(1, sizeof *session);
    for (unsigned round = 0; session && round < b->rounds; round++) {
        for (unsigned s = 0; s < b->subject_count; s++)
            if (b->subjects[s].kind == TIERCE)
                latency_round(b, s, round, session);
        b->latencies_done = round + 1;
    }
    free(session);
}

/* What keeps a guest busy once it runs in compiled code, which the first run of each sees to. */
static const char *const steady[] = {"integer_hash", "integer_crc", "calls_fib", "fp_mandelbrot"};
enum { STEADY = sizeof steady / sizeof *steady, SETTLE = 10 /* times the budget */ };

static bool steady_times(struct bench *b, unsigned subject, const char *extra, struct session *s, double times[STEADY])
{
    struct sample m = {0};
    enum session_result r = SESSION_OK;
    if (!start(b, subject, extra, s))
        return false;
    for (unsigned i = 0; i < 2 * STEADY && r == SESSION_OK; i++) {
        bool settling = i < STEADY;
        m = (struct sample){0};
        r = run(b, s, settling ? SETTLE * b->budget_ms : b->budget_ms, steady[i % STEADY], &m);
        times[i % STEADY] = m.outcome != GOOD ? NAN : b->by_best ? m.best : m.unit;
    }
    if (r != SESSION_OK) {
        failed(b, &b->subjects[subject], s, "the steady programs", r);
        return false;
    }
    session_send(s, "quit\n");
    session_finish(s, b->timeout_s, NULL, 0);
    return true;
}

void measure_load(struct bench *b)
{
    struct session *session = calloc(1, sizeof *session);
    for (unsigned round = 0; session && round < b->rounds; round++) {
        for (unsigned s = 0; s < b->subject_count; s++) {
            double alone[STEADY], beside[STEADY], ratios[STEADY];
            b->loss[s][round] = NAN;
            if (b->subjects[s].kind != TIERCE)
                continue;
            progress("compiler load, round %u of %u: %s", round + 1, b->rounds, b->subjects[s].name);
            if (!steady_times(b, s, NULL, session, alone) || !steady_times(b, s, "--compile-again", session, beside))
                continue;
            for (unsigned i = 0; i < STEADY; i++)
                ratios[i] = beside[i] / alone[i];
            b->loss[s][round] = 100 * (geomean_of(ratios, STEADY) - 1);
        }
        b->losses_done = round + 1;
    }
    free(session);
}

/* --- Where translation spends its time, as tierce itself counts it */

void measure_stages(struct bench *b)
{
    static const char *const programs[] = {"translate_straight", "translate_branchy"};
    struct session *session = calloc(1, sizeof *session);
    for (unsigned s = 0; session && s < b->subject_count; s++) {
        if (b->subjects[s].kind != TIERCE || !start(b, s, "--stats=json", session))
            continue;
        for (unsigned p = 0; p < 2; p++) {
            struct sample m = {0};
            run(b, session, b->budget_ms, programs[p], &m);
        }
        session_send(session, "quit\n");
        session_finish(session, b->timeout_s, b->stages[s], sizeof b->stages[s]);
    }
    free(session);
}
