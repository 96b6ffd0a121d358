/* A timer interrupt each millisecond, which counts in `ticks`, and a loop that counts in eax beside it; the letter h of
 * its command line puts HLT into the loop. */
#include "multiboot.inc"
.globl main, loop, loop_end, tick, ticks, halting, halted
main:
    lgdt gdt_pointer
    lidt idt_pointer
    mov $tick, %eax
    mov %ax, idt + 0x20 * 8
    shr $16, %eax
    mov %ax, idt + 0x20 * 8 + 6
    mov $0x11, %al          /* the master PIC at vector 0x20, timer alone */
    out %al, $0x20
    mov $0x20, %al
    out %al, $0x21
    mov $4, %al
    out %al, $0x21
    mov $1, %al
    out %al, $0x21
    mov $0xfe, %al
    out %al, $0x21
    mov $0x34, %al          /* channel 0, rate generator, 1193 */
    out %al, $0x43
    mov $0xa9, %al
    out %al, $0x40
    mov $4, %al
    out %al, $0x40
    mov multiboot_info, %ebx
    mov 16(%ebx), %ebx
    xor %eax, %eax
    sti
    cmpb $'h', (%ebx)
    je halting
loop:
    inc %eax
    nop
    jmp loop
loop_end:
halting:
    inc %eax
    hlt
halted:
    jmp halting
tick:
    push %eax
    incl ticks
    mov $0x20, %al
    out %al, $0x20
    pop %eax
    iret
.data
.align 8
gdt: .quad 0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_pointer: .word . - gdt - 1
    .long gdt
ticks: .long 0
.align 8
idt: .skip 0x20 * 8
    .word 0, 0x10
    .byte 0, 0x8e
    .word 0
idt_pointer: .word . - idt - 1
    .long idt
