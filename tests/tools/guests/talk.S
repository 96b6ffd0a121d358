/* Says what it hears on COM1: "ready", then [c] for each byte c, <break> for a break; q ends it with status 3, p by
 * power-off, and u stops listening for ever. */
#include "multiboot.inc"
.globl main
main:
    mov $0x3fb, %dx         /* 8n1; turning the FIFO on would lose what is there already */
    mov $3, %al
    out %al, %dx
    mov $ready, %esi
    call serial_text
listen:
    mov $0x3fd, %dx
    in %dx, %al
    mov %al, %bl
    test $1, %al
    jz listen
    mov $0x3f8, %dx
    in %dx, %al
    test $0x10, %bl
    jnz heard_break
    cmp $'q', %al
    je quit
    cmp $'p', %al
    je power_off
    cmp $'u', %al
    je deaf
    mov %al, %cl
    mov $'[', %al
    call serial_byte
    mov %cl, %al
    call serial_byte
    mov $']', %al
    call serial_byte
    jmp listen
heard_break:
    mov $broke, %esi
    call serial_text
    jmp listen
quit:
    mov $1, %al
    jmp debug_exit
deaf:
    jmp deaf
.data
ready: .asciz "ready\n"
broke: .asciz "<break>"
