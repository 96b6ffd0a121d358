/* Which operations are instructions of this host: asked for once, before main(), and constant from then on. */
#include "ir/ir.h"
#ifdef __x86_64__
#include <cpuid.h>
#endif

static struct { bool aes, clmul, sha, bmi1, bmi2, lzcnt, crc32, popcnt; } host;

__attribute__((constructor)) static void host_ask(void)
{
#ifdef __x86_64__
    unsigned a, b, c, d;
    if (__get_cpuid(1, &a, &b, &c, &d)) {
        host.clmul = c >> 1 & 1;
        host.aes = c >> 25 & 1;
        host.crc32 = c >> 20 & 1;
        host.popcnt = c >> 23 & 1;
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        host.bmi1 = b >> 3 & 1;
        host.bmi2 = b >> 8 & 1;
        host.sha = b >> 29 & 1;
    }
    if (__get_cpuid(0x80000001, &a, &b, &c, &d))
        host.lzcnt = c >> 5 & 1;
#endif
}

bool ir_host_runs(enum ir_op op)
{
    switch ((unsigned)op) {
    case IR_vaesenc: case IR_vaesenclast: case IR_vaesdec: case IR_vaesdeclast: case IR_vaesimc: case IR_vaeskeygen: return host.aes;
    case IR_vclmul: return host.clmul;
    case IR_vsha1rnds4: case IR_vsha1nexte: case IR_vsha1msg1: case IR_vsha1msg2:
    case IR_vsha256rnds2: case IR_vsha256msg1: case IR_vsha256msg2: return host.sha;
    case IR_pdep: case IR_pext: return host.bmi2;
    case IR_ctz: return host.bmi1;
    case IR_clz: return host.lzcnt;
    case IR_crc32: return host.crc32;
    case IR_popcnt: return host.popcnt;
    default: return true;
    }
}
