/* tiers_program.h - random guest programs that end: made from a fuzzer's input, for real, protected and long mode.
 *
 * Where things lie, from the program's base on (both the machine's physical memory and, where there is paging, what it is
 * mapped to); the guest's own small trusted part is tiers_guest.S:
 *   system    boot code and exception handler, IDT, page tables, control block, handler's stack, and the table that says for each
 *             instruction where the next one is: the handler records what it sees, and goes on there
 *   code      the program; may be written by anyone
 *   data      sixteen pages; in the paging modes HOLE is not there, RIGID may not be written, TWIN is page 2 once more
 *   stack     four pages
 *   ALIAS     the four code pages once more (paging modes)
 *   MMIO      the local APIC (paging modes) */
#ifndef TESTS_FUZZ_TIERS_PROGRAM_H
#define TESTS_FUZZ_TIERS_PROGRAM_H

#define PROGRAM_IDT 0x1000
#define PROGRAM_TABLES 0x2000
#define PROGRAM_CONTROL 0x6000
#define PROGRAM_TSS 0x6c00
#define PROGRAM_HANDLER_STACK 0x8000
#define PROGRAM_RESUME 0x8000
#define PROGRAM_CODE 0x10000
#define PROGRAM_CODE_SIZE 0x4000
#define PROGRAM_DATA 0x20000
#define PROGRAM_STACK 0x30000
#define PROGRAM_SIZE 0x34000
#define PROGRAM_ALIAS 0x40000
#define PROGRAM_MMIO 0x50000
#define PROGRAM_BASE 0x100000
#define PROGRAM_REAL_BASE 0x10000
#define PROGRAM_RECOVER (PROGRAM_DATA + 0x1700) /* where to go on behind a jump to nowhere */
#define PROGRAM_BIAS 0x1230 /* base of the data segment that is not flat */

/* The control block. */
#define CONTROL_END 0x04        /* address of the program's end */
#define CONTROL_COUNT 0x08      /* exceptions so far */
#define CONTROL_FLAGS 0x10
#define CONTROL_USER 0x14
#define CONTROL_START 0x18
#define CONTROL_STACK 0x1c
#define CONTROL_SELECTOR 0x20   /* of the data segment (32-bit) */
#define CONTROL_GPR 0x40        /* sixteen of 8 bytes */
#define CONTROL_FXRSTOR 0x100
#define CONTROL_FXSAVE 0x300
#define CONTROL_LOG 0x600       /* of each exception, from 1: vector, instruction pointer, flags, hash of the registers */
#define CONTROL_MOST 48         /* exceptions */

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum program_mode { PROGRAM_64, PROGRAM_32, PROGRAM_16, PROGRAM_MODES };
struct program {
    enum program_mode mode;
    bool flags_defined;          /* at the end all of them are; else AF may be anything */
    uint32_t base;               /* where the image is loaded, and entered */
    uint8_t image[PROGRAM_SIZE];
    uint16_t next[PROGRAM_CODE_SIZE]; /* of the instruction at this offset of the code: where it ends; 0: there is none */
    unsigned code_size, start;
    uint64_t insns;              /* that it will run, roughly */
};
void program_make(struct program *, const uint8_t *input, size_t size);
void program_print(FILE *, const struct program *); /* its disassembly */
#endif
#endif
