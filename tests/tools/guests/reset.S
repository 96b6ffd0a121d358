/* Boots: says "boot N", where N is kept in memory that no loader touches, and resets by the way that the first letter of
 * its command line names: c port 0xcf9, k keyboard controller, 9 port 0x92, t triple fault, v the same by an instruction
 * of AVX; the third time, and for p at once, it powers off; h waits for ever. */
#include "multiboot.inc"
.set BOOTS, 0x300000
.globl main
main:
    cmpl $0x600d, BOOTS + 4     /* RAM is zero at first */
    je 1f
    movl $0x600d, BOOTS + 4
    movl $0, BOOTS
1:  incl BOOTS
    mov $boot, %esi
    call serial_text
    mov BOOTS, %al
    add $'0', %al
    call serial_byte
    mov $'\n', %al
    call serial_byte
    cmpl $3, BOOTS
    jae power_off
    mov multiboot_info, %ebx
    mov 16(%ebx), %ebx
    mov (%ebx), %al
    cmp $'c', %al
    je port_cf9
    cmp $'k', %al
    je keyboard
    cmp $'9', %al
    je port_92
    cmp $'t', %al
    je triple
    cmp $'v', %al
    je avx
    cmp $'h', %al
    je wait
    jmp power_off
port_cf9:
    mov $0xcf9, %dx
    mov $6, %al
    out %al, %dx
    jmp wait
keyboard:
    mov $0xfe, %al
    out %al, $0x64
    jmp wait
port_92:
    mov $1, %al
    out %al, $0x92
    jmp wait
triple:
    lidt no_idt
    ud2
avx:
    lidt no_idt
    vaddps %ymm0, %ymm0, %ymm0
wait:
    hlt
    jmp wait
.data
boot: .asciz "boot "
no_idt: .word 0
    .long 0
