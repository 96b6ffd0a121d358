/* For debuggers: 32-bit code that counts, then long mode with known values in registers of each kind, an interrupt
 * gate and a page fault, then a loop that goes on until `go_on` is not 0. */
#include "multiboot.inc"
.set PAGES, 0x400000        /* PML4, PDPT, one page directory with pages of 2 MiB */
.globl main, work, counter, target, long_mode, after_work, loop64, go_on, filled, faulted, handler, read_here, copy_here, done
main:
    mov multiboot_info, %ebx
    mov 16(%ebx), %ebx
    cmpb $'g', (%ebx)        /* a command line of g: nobody is needed to let it go on */
    sete go_on
    mov $100, %ecx
1:  call work
    dec %ecx
    jnz 1b
after_work:
    movl $0x1234, target
read_here:
    mov target, %edx
    mov $filled, %edi
    mov $64, %ecx
    mov $0x5a, %al
    rep stosb
copy_here:
    nop
    mov $handler, %eax       /* the gate for page faults */
    mov %ax, idt + 14 * 16
    shr $16, %eax
    mov %ax, idt + 14 * 16 + 6
    /* Long mode. */
    movl $PAGES + 0x1000 + 3, PAGES
    movl $PAGES + 0x2000 + 3, PAGES + 0x1000
    xor %ecx, %ecx
    mov $0x83, %eax
1:  mov %eax, PAGES + 0x2000(, %ecx, 8)
    add $0x200000, %eax
    inc %ecx
    cmp $4, %ecx             /* 8 MiB: beyond, a page fault */
    jne 1b
    mov %cr4, %eax
    or $0x620, %eax          /* PAE, OSFXSR, OSXMMEXCPT */
    mov %eax, %cr4
    mov $PAGES, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x100, %eax
    wrmsr
    mov %cr0, %eax
    or $0x80000002, %eax
    and $~4, %eax
    mov %eax, %cr0
    lgdt gdt_pointer
    ljmp $8, $long_mode
work:
    incl counter
    ret

.code64
long_mode:
    mov $16, %eax
    mov %eax, %ds
    mov %eax, %ss
    lidt idt_pointer(%rip)
    movabs $0x1122334455667788, %r8
    movabs $0x8877665544332211, %r15
    mov $0xc0000100, %ecx
    mov $0x76543210, %eax
    mov $0xfe, %edx
    wrmsr
    movabs $0x400921fb54442d18, %rax
    movq %rax, %xmm3
    fninit
    fldpi
    fld1
    nop
loop64:
    incl counter(%rip)
    cmpl $0, go_on(%rip)
    je loop64
    mov 0x12345678, %al       /* not mapped */
after_fault:
    nop
done:
    mov $0x2a, %al
    mov $0x501, %dx
    out %al, %dx
1:  hlt
    jmp 1b
handler:
    incl faulted(%rip)
    add $8, %rsp
    addq $7, (%rsp)           /* over the MOV */
    iretq

.data
.align 8
counter: .long 0
target: .long 0
go_on: .long 0
faulted: .long 0
gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_pointer: .word . - gdt - 1
    .long gdt
.align 16
idt: .skip 14 * 16
    .word 0, 8
    .byte 0, 0x8e
    .word 0
    .quad 0
idt_pointer: .word . - idt - 1
    .long idt, 0
.bss
.align 64
filled: .skip 64
