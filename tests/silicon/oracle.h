/* oracle.h - runs one guest instruction on the host's own CPU, in this process, between two traps: registers,
 * flags, x87 and SSE state go in and come out through the signal frame. */
#ifndef TESTS_SILICON_ORACLE_H
#define TESTS_SILICON_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#define ORACLE_CODE 0x20000000ull      /* three pages; code at the middle one's start or end */
#define ORACLE_DATA 0x30000000ull      /* mapped pages of data between unmapped ones */
#define ORACLE_DATA_SIZE 0x4000u

struct oracle_fx { uint16_t fcw, fsw; uint8_t ftw, pad; uint16_t fop; uint64_t fip, fdp; uint32_t mxcsr, mxcsr_mask;
                   struct { uint64_t low; uint16_t high; uint16_t pad[3]; } st[8]; uint64_t xmm[16][2]; uint64_t rest[12]; };
struct oracle_state {
    uint64_t gpr[16], rip, rflags;
    int trap;                /* vector that ended it; 3: ran to its end */
    uint64_t error, cr2;
    struct oracle_fx fx;
};
/* Where a SIGSEGV outside of oracle_run goes on, by its PC; NULL: it ends the process. */
extern const void *(*oracle_resume)(const void *pc);
bool oracle_init(void);
uint8_t *oracle_code(void);   /* writable, ORACLE_CODE's three pages; fill with 0xcc */
uint8_t *oracle_data(void);   /* alias of ORACLE_DATA */
/* Runs from s->rip until a trap or fault. */
void oracle_run(struct oracle_state *s);

#endif
