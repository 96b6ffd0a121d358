/* Writes the lines 00000 to 49999 and ends with status 3.  By the first letter of its command line: p to COM1, where it looks whether the transmitter is
 * empty, and says "w" on the debug console the first time that it is not; o to COM1, without a look; d to the debug console. */
#include "multiboot.inc"
.globl main
main:
    mov multiboot_info, %ebx
    mov 16(%ebx), %ebx
    mov (%ebx), %bl
    mov $50000, %ecx
line:
    mov $digits, %esi
1:  lodsb
    test %al, %al
    jz 2f
    call emit
    jmp 1b
2:  mov $digits + 4, %edi
3:  incb (%edi)
    cmpb $'9' + 1, (%edi)
    jne 4f
    movb $'0', (%edi)
    dec %edi
    jmp 3b
4:  dec %ecx
    jnz line
    mov $1, %al
    jmp debug_exit

emit:
    cmp $'d', %bl
    je 3f
    cmp $'p', %bl
    jne serial_byte
    mov %al, %ah
    mov $0x3fd, %dx
1:  in %dx, %al
    test $0x20, %al
    jnz 2f
    cmpb $0, told
    jne 1b
    movb $1, told
    mov $'w', %al
    out %al, $0xe9
    jmp 1b
2:  mov %ah, %al
    jmp serial_byte
3:  out %al, $0xe9
    ret
.data
digits: .asciz "00000\n"
told: .byte 0
