/* moving_guest.h - a kernel of a few instructions that is linked for one address in the upper half and loaded for another, as by KASLR: its table of
 * relocations, and what it comes to wherever it lies. */
#ifndef TESTS_RUNTIME_MOVING_GUEST_H
#define TESTS_RUNTIME_MOVING_GUEST_H

#include "tests/runtime/raw_guest.h"

/* Enough for a region to be made meanwhile; not so in the nasty build, which takes a hundred times as long for each. */
#ifdef TIERCE_NASTY
#define MOVING_ROUNDS 2000
#else
#define MOVING_ROUNDS 1000000
#endif
#define MOVING_TEXT_OF(x) #x
#define MOVING_TEXT(x) MOVING_TEXT_OF(x)
enum { MOVING_AT = 0x100000 /* physical */, MOVING_RESULT = 0xff000, MOVING_PER_CPU = 0xfe000, MOVING_PAGE = 2 << 20 };
#define MOVING_LINKED (0xffffffff81000000ull + MOVING_AT)

/* V(label): its virtual address; MOVES behind the instruction, where such a field of `size` bytes ends `behind` bytes before its end. */
#define V(label) "-0x7ef00000 + " label " - moving_begin"
#define MOVES(behind, size) "\n 88: .pushsection .rodata.moving_relocs, \"a\"\n .long 88b - moving_begin - " #behind " - " #size ", " #size "\n .popsection\n"
#define P(label) "0x100000 + " label " - moving_begin"

/* Page tables: the first 8 MiB as they are, and the first 2 at moving_slot of the last 2 GiB.  EAX sums up what the addresses are and lead to. */
__asm__(".pushsection .rodata.moving_relocs, \"a\"\n moving_relocs: .popsection\n"
        ".pushsection .rodata\n"
        ".balign 4096\n"
        ".code32\n"
        "moving_begin:\n"
        "  mov $0x201003, %eax\n mov %eax, 0x200000\n mov $0x202003, %eax\n mov %eax, 0x200ff8\n"
        "  mov $0x203003, %eax\n mov %eax, 0x201000\n mov $0x204003, %eax\n mov %eax, 0x202ff0\n"
        "  mov $0x83, %eax\n mov %eax, 0x203000\n mov $0x200083, %eax\n mov %eax, 0x203008\n"
        "  mov " P("moving_slot") ", %ecx\n movl $0x83, 0x204000(,%ecx,8)\n"
        "  mov %cr4, %eax\n or $0x20, %eax\n mov %eax, %cr4\n mov $0x200000, %eax\n mov %eax, %cr3\n"
        "  mov $0xc0000080, %ecx\n rdmsr\n or $0x100, %eax\n wrmsr\n"
        "  mov %cr0, %eax\n or $0x80000000, %eax\n mov %eax, %cr0\n"
        "  lgdt " P("moving_gdtr") "\n ljmp $8, $" P("moving_64") "\n"
        ".code64\n"
        "moving_64:\n"
        "  mov $0xc0000101, %ecx\n mov $0xfe000, %eax\n xor %edx, %edx\n wrmsr\n" /* GS: per-CPU data begins at 0 there */
        "  movl $7, 0xfe040\n"
        "  mov $0x90000, %esp\n"
        "  movq $" V("moving_high") ", %rbx" MOVES(0, 4) " jmp *%rbx\n"
        "moving_high:\n"
        "  xor %eax, %eax\n mov $" MOVING_TEXT(MOVING_ROUNDS) ", %ecx\n"
        ".balign 16, 0x90\n"
        "1: movq $" V("moving_table") ", %rdi" MOVES(0, 4)
        "  mov %ecx, %edx\n and $3, %edx\n"
        "  addl " V("moving_table") "(,%rdx,4), %eax" MOVES(0, 4)
        "  add %edi, %eax\n"
        "  jmp 2f\n nop\n"
        "2: movabs $" V("moving_table") ", %rsi" MOVES(0, 8)
        "  cmpq $" V("moving_table") ", %rsi" MOVES(0, 4)
        "  jne 3f\n"
        "  sub %edi, %esi\n add %esi, %eax\n"
        "  movq $" V("moving_table") ", " V("moving_word") MOVES(4, 4) MOVES(0, 4)
        "  add " V("moving_word") "(%rdx), %eax" MOVES(0, 4)
        "  pushq $" V("moving_table") MOVES(0, 4) " pop %r8\n add %r8d, %eax\n"
        "  .byte 0x65, 0x03, 0x05\n .long 0x40 + 0x7ef00000 - (4f - moving_begin)\n" /* add %gs:0x40(%rip), %eax: a distance to what stays */
        "4:.pushsection .rodata.moving_relocs, \"a\"\n .long 4b - moving_begin - 4, -4\n .popsection\n"
        "3: dec %ecx\n jnz 1b\n"
        "  mov %eax, 0xff000\n mov $0x501, %edx\n out %al, %dx\n hlt\n"
        ".balign 8\n"
        "moving_gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff\n"
        "moving_gdtr: .word 23\n .long " P("moving_gdt") "\n"
        "moving_slot: .long 0\n"
        ".balign 4096\n" /* apart from the code, for it is written */
        "moving_table: .long 3, 5, 9, 17, 33, 65\n"
        "moving_word: .quad 0, 0\n"
        "moving_end:\n"
        ".popsection\n"
        ".pushsection .rodata.moving_relocs, \"a\"\n moving_relocs_end:\n .popsection\n");
#undef V
#undef MOVES
#undef P
extern const uint8_t moving_begin[], moving_table[], moving_slot[], moving_end[];
extern const struct { uint32_t at; int32_t size; /* below 0: a distance to what stays */ } moving_relocs[], moving_relocs_end[];

/* As a loader leaves it, `by` from where it is linked for. */
static inline struct image moving_image(int64_t by)
{
    struct image i = {.size = 0};
    uint32_t slot = (uint32_t)((MOVING_LINKED - MOVING_AT + (uint64_t)by) % (1 << 30) / MOVING_PAGE);
    put(&i, moving_begin, (size_t)(moving_end - moving_begin));
    memcpy(i.bytes + (moving_slot - moving_begin), &slot, 4);
    for (unsigned n = 0; &moving_relocs[n] < moving_relocs_end; n++) {
        uint64_t v;
        memcpy(&v, i.bytes + moving_relocs[n].at, 8);
        v += (uint64_t)(moving_relocs[n].size < 0 ? -by : by);
        memcpy(i.bytes + moving_relocs[n].at, &v, moving_relocs[n].size == 8 ? 8 : 4);
    }
    return i;
}

/* from: the entry of the table that the loop's second instruction takes for its first. */
static inline uint32_t moving_result(int64_t by, unsigned from)
{
    static const uint32_t table[] = {3, 5, 9, 17, 33, 65};
    uint64_t at = MOVING_LINKED + (uint64_t)(moving_table - moving_begin) + (uint64_t)by;
    uint32_t eax = 0;
    for (uint32_t ecx = MOVING_ROUNDS; ecx; ecx--)
        eax += table[from + ecx % 4] + (uint32_t)at + (uint32_t)(at >> 8 * (ecx % 4)) + (uint32_t)at + 7;
    return eax;
}

#endif
