/* What the measurements share: how a subject is started, and given up (measure.c). */
#pragma once
#include "tools/tierce-bench/bench.h"
#include "tools/tierce-bench/session.h"

#define KERNEL_OPTIONS "console=ttyS0 quiet panic=-1"
struct command { const char *argv[MAX_ARGUMENTS]; char memory[16]; };
/* A subject's program with the options of the machine and `more`, up to NULL. */
void command_machine(const struct bench *, const struct subject *, const char *const *more, struct command *);
/* The kernel with this initramfs, and further options, up to NULL. */
void command_guest(const struct bench *, const struct subject *, const char *initrd, const char *const *more, struct command *);
/* Boots the kernel to the shell of an initramfs of tests/guests/linux.sh's; `more`, up to NULL, are further options.  False: it was told. */
bool start_guest(struct bench *, const struct subject *, const char *initrd, const char *const *more, struct session *);
bool start_shell(struct bench *, unsigned subject, struct session *);
struct memory resident(pid_t, unsigned ram_mib); /* NAN: no mapping has the size of the guest's RAM */
/* Tells it, and ends the session. */
void failed(struct bench *, const struct subject *, struct session *, const char *what, enum session_result);
