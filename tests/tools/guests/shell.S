/* For tierce-bench: works for some milliseconds and then talks on COM1 as tests/guests/linux.sh's guests do at their shell, as far as the bench listens.
 * What begins with "po" powers off, as RUN= on the command line does at once; to any other line it says the marks of a program, and works between them. */
#include "multiboot.inc"
.globl main
main:
    call work
    mov $ready, %esi
    call serial_text
    mov multiboot_info, %ebx
    mov 16(%ebx), %ebx
1:  cmpl $0x3d4e5552, (%ebx) /* "RUN=" */
    je power_off
    cmpb $0, (%ebx)
    lea 1(%ebx), %ebx
    jne 1b
prompt:
    mov $prompts, %esi
    call serial_text
    call heard
    mov %al, %cl
    shl $8, %ecx
    call heard
    mov %al, %cl
    cmp $0x706f, %cx
    je power_off
line:
    call heard
    cmp $'\n', %al
    jne line
    mov $begin, %esi
    call serial_text
    call work
    mov $end, %esi
    call serial_text
    jmp prompt
heard:
    mov $0x3fd, %dx
1:  in %dx, %al
    test $1, %al
    jz 1b
    mov $0x3f8, %dx
    in %dx, %al
    ret
work:
    mov $10000000, %ecx
1:  imul $1664525, %eax, %eax
    add $1013904223, %eax
    dec %ecx
    jnz 1b
    ret
.data
ready: .asciz "tierce guest ready\n"
prompts: .asciz "/ # "
begin: .asciz "BRIEF-BEGIN\n"
end: .asciz "BRIEF-END 0\n"
