/* Work for a sampling profiler, and the same result each time: a loop that calls two functions, one of them by a pointer, with a branch in it that
 * goes both ways; as many rounds as the number that is its command line.  Ends with status 2 * (sum & 63) + 1. */
#include "multiboot.inc"
.globl main, round, add, mix, loop_in_mix
main:
    mov multiboot_info, %ebx
    mov 16(%ebx), %ebx
    xor %edi, %edi          /* the number */
1:  movzbl (%ebx), %eax
    sub $'0', %al
    cmp $9, %al
    ja 2f
    imul $10, %edi
    add %eax, %edi
    inc %ebx
    jmp 1b
2:  xor %ebp, %ebp          /* the sum */
round:
    call add
    test $3, %edi
    jz 3f
    mov pointer, %eax
    call *%eax
3:  dec %edi
    jnz round
    mov %ebp, %eax
    and $63, %al
    jmp debug_exit
add:
    add %edi, %ebp
    rol $3, %ebp
    ret
mix:
    push %esi
    mov $20, %esi
loop_in_mix:
    imul $0x01000193, %ebp
    xor %esi, %ebp
    dec %esi
    jnz loop_in_mix
    pop %esi
    ret
.data
pointer: .long mix
