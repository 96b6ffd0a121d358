/* A process that is talked to over its standard input and output: a guest on its serial line, or the native program. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct session {
    pid_t pid;
    int to, from;
    double started;      /* when, by our clock */
    double cpu;          /* seconds of CPU time that it took, user and system; once it is finished */
    bool ended;          /* its output has ended */
    size_t have;
    char buffer[16384];  /* output that was not consumed yet, its end if there is much */
    char last[160];      /* the last line of it that was not empty, for messages */
};

enum session_result { SESSION_OK, SESSION_ENDED, SESSION_TIMEOUT };

/* argv ends with NULL.  False: no process could be made. */
bool session_start(struct session *s, const char *const argv[]);
/* Waits for `text` and consumes the output up to its end. */
enum session_result session_expect(struct session *s, const char *text, double timeout_s);
/* Waits for a whole line that contains `mark`, and copies it from there on. */
enum session_result session_line(struct session *s, const char *mark, double timeout_s, char *line, size_t size);
void session_send(struct session *s, const char *text);
/* Waits for the end, consuming output; kills it after `timeout_s`.  Gives the wait status; `json`, if not NULL, gets the
 * last line that begins with a brace. */
int session_finish(struct session *s, double timeout_s, char *json, size_t size);
