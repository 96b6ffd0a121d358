/* From Multiboot's entry to guest_main, and the way into and out of `run` (guest.h). */
    .section .multiboot, "a"
    .long 0x1badb002, 0, -0x1badb002

#ifndef __x86_64__
/* ---------------------------------------------------------------- 32 bit */
    .text
    .globl start
start:
    cli
    mov %ebx, multiboot_info
    mov $main_stack_end, %esp
    call guest_init
    lgdt gdt_table
    lidt idt_table
    ljmp $0x08, $1f
1:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    mov %eax, %ss
    mov $0x28, %eax
    ltr %ax
    call guest_main
    call finish

/* void run(const struct regs *): offsets are those of struct regs */
#define AX 0
#define SP 28
#define IP 32
#define FLAGS 36
#define CS 40
#define SSEL 44
#define DS 48
#define ES 52
#define FS 56
#define GS 60
    .globl run
run:
    mov 4(%esp), %eax
    push %ebx
    push %esi
    push %edi
    push %ebp
    mov %esp, run_esp
    testl $0x20000, FLAGS(%eax)
    jnz 2f
    testl $3, CS(%eax)
    jz 3f
    pushl SSEL(%eax)
    pushl SP(%eax)
    jmp 4f
2:  pushl GS(%eax)
    pushl FS(%eax)
    pushl DS(%eax)
    pushl ES(%eax)
    pushl SSEL(%eax)
    pushl SP(%eax)
    jmp 5f
3:  mov SP(%eax), %edx
    mov SSEL(%eax), %ss
    mov %edx, %esp
4:  mov ES(%eax), %es
    mov FS(%eax), %fs
    mov GS(%eax), %gs
5:  pushl FLAGS(%eax)
    pushl CS(%eax)
    pushl IP(%eax)
    pushl AX(%eax)
    testl $0x20000, FLAGS(%eax)
    jnz 6f
    pushl DS(%eax)
    jmp 7f
6:  pushl $0x10
7:  mov 4(%eax), %ebx
    mov 8(%eax), %ecx
    mov 12(%eax), %edx
    mov 16(%eax), %esi
    mov 20(%eax), %edi
    mov 24(%eax), %ebp
    pop %ds
    pop %eax
    iret

/* One stub a vector, 16 bytes apart. */
    .balign 16
    .globl stubs
stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17
    .else
    pushl $-1
    .endif
    pushl $vector
    jmp caught
    .set vector, vector + 1
    .endr

/* The stack may be any: it is left before anything else is done. */
caught:
    push %eax
    push %ds
    mov $0x10, %eax
    mov %eax, %ds
    popl ev_regs + DS
    popl ev_regs + AX
    mov %ebx, ev_regs + 4
    mov %ecx, ev_regs + 8
    mov %edx, ev_regs + 12
    mov %esi, ev_regs + 16
    mov %edi, ev_regs + 20
    mov %ebp, ev_regs + 24
    xor %eax, %eax
    mov %es, %ax
    mov %eax, ev_regs + ES
    mov %fs, %ax
    mov %eax, ev_regs + FS
    mov %gs, %ax
    mov %eax, ev_regs + GS
    popl ev
    popl ev + 4
    popl ev_regs + IP
    popl ev_regs + CS
    popl ev_regs + FLAGS
    testl $0x20000, ev_regs + FLAGS
    jnz 2f
    testl $3, ev_regs + CS
    jnz 3f
    mov %esp, ev_regs + SP
    mov %ss, %ax
    mov %eax, ev_regs + SSEL
    jmp back
2:  popl ev_regs + SP
    popl ev_regs + SSEL
    popl ev_regs + ES
    popl ev_regs + DS
    popl ev_regs + FS
    popl ev_regs + GS
    jmp back
3:  popl ev_regs + SP
    popl ev_regs + SSEL
back:
    andl $0xffff, ev_regs + CS
    andl $0xffff, ev_regs + SSEL
    andl $0xffff, ev_regs + DS
    mov %cr2, %eax
    mov %eax, ev + 8
    mov $0x10, %eax
    mov %eax, %ss
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    mov run_esp, %esp
    test %esp, %esp
    jz 9f
    movl $0, run_esp
    cld
    pop %ebp
    pop %edi
    pop %esi
    pop %ebx
    ret
9:  mov $main_stack_end, %esp
    jmp stray

/* The double fault's task, and of what else (task_vector) a program gives its gate to: takes what the switch saved
 * in the TSS that the link names, and goes on in the first task. */
    .globl double_fault
double_fault:
    pop ev + 4
    mov task_vector, %eax
    mov %eax, ev
    movzwl tss_df, %ebx
    mov gdt + 4(%ebx), %ecx
    mov gdt + 2(%ebx), %edx
    and $0xff000000, %ecx
    and $0x00ffffff, %edx
    or %ecx, %edx
    mov 0x20(%edx), %eax
    mov %eax, ev_regs + IP
    mov 0x24(%edx), %eax
    mov %eax, ev_regs + FLAGS
    mov 0x4c(%edx), %eax
    mov %eax, ev_regs + CS
    mov 0x38(%edx), %eax
    mov %eax, ev_regs + SP
    mov 0x50(%edx), %eax
    mov %eax, ev_regs + SSEL
    andb $0xfd, gdt + 0x28 + 5
    andb $0xfd, gdt + 0x30 + 5
    mov $0x28, %eax
    ltr %ax
    pushf
    andl $~0x4000, (%esp)
    popf
    movl $double_fault, tss_df + 0x20
    jmp back

    .bss
    .balign 16
    .skip 16384
    .globl main_stack_end
main_stack_end:
run_esp: .long 0
    .data
    .globl task_vector
task_vector: .long 8
#else
/* ---------------------------------------------------------------- 64 bit */
    .code32
    .text
    .globl start
start:
    cli
    mov %ebx, multiboot_info
    mov $main_stack_end, %esp
    mov $boot_pml4, %edi
    movl $boot_pdpt + 7, (%edi)
    movl $boot_pd + 7, boot_pdpt
    movl $boot_pd + 0x1000 + 7, boot_pdpt + 8
    movl $boot_pd + 0x2000 + 7, boot_pdpt + 16
    movl $boot_pd + 0x3000 + 7, boot_pdpt + 24
    mov $boot_pd, %edi
    mov $0x83, %eax
    mov $2048, %ecx
1:  mov %eax, (%edi)
    add $0x200000, %eax
    add $8, %edi
    loop 1b
    orb $4, boot_pd + 16
    mov %cr4, %eax
    or $0x620, %eax
    mov %eax, %cr4
    mov $boot_pml4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x900, %eax
    wrmsr
    mov %cr0, %eax
    or $0x80010022, %eax
    and $~0xc, %eax
    mov %eax, %cr0
    lgdt boot_table
    ljmp $0x08, $2f
    .code64
2:  xor %eax, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $main_stack_end, %esp
    call guest_init
    lgdt gdt_table
    lidt idt_table
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    mov $0x40, %eax
    ltr %ax
    call guest_main
    call finish

#define SP 56
#define R8 64
#define IP 128
#define FLAGS 136
#define CS 144
#define SSEL 152
#define DS 160
#define ES 168
#define FS 176
#define GS 184
    .globl run
run:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, run_rsp
    pushq SSEL(%rdi)
    pushq SP(%rdi)
    pushq FLAGS(%rdi)
    pushq CS(%rdi)
    pushq IP(%rdi)
    mov DS(%rdi), %ds
    mov ES(%rdi), %es
    mov (%rdi), %rax
    mov 8(%rdi), %rbx
    mov 16(%rdi), %rcx
    mov 24(%rdi), %rdx
    mov 32(%rdi), %rsi
    mov 48(%rdi), %rbp
    .set i, 8
    .irp r, %r8, %r9, %r10, %r11, %r12, %r13, %r14, %r15
    mov i * 8(%rdi), \r
    .set i, i + 1
    .endr
    mov 40(%rdi), %rdi
    iretq

    .balign 16
    .globl stubs
stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17
    .else
    pushq $-1
    .endif
    pushq $vector
    jmp caught
    .set vector, vector + 1
    .endr

caught:
    mov %rax, ev_regs
    mov %rbx, ev_regs + 8
    mov %rcx, ev_regs + 16
    mov %rdx, ev_regs + 24
    mov %rsi, ev_regs + 32
    mov %rdi, ev_regs + 40
    mov %rbp, ev_regs + 48
    .set i, 8
    .irp r, %r8, %r9, %r10, %r11, %r12, %r13, %r14, %r15
    mov \r, ev_regs + i * 8
    .set i, i + 1
    .endr
    xor %eax, %eax
    mov %ds, %ax
    mov %rax, ev_regs + DS
    mov %es, %ax
    mov %rax, ev_regs + ES
    mov %fs, %ax
    mov %rax, ev_regs + FS
    mov %gs, %ax
    mov %rax, ev_regs + GS
    popq ev
    popq ev + 8
    popq ev_regs + IP
    popq ev_regs + CS
    popq ev_regs + FLAGS
    popq ev_regs + SP
    popq ev_regs + SSEL
    mov %cr2, %rax
    mov %rax, ev + 16
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov run_rsp, %rsp
    test %rsp, %rsp
    jz 9f
    movq $0, run_rsp
    cld
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
9:  mov $main_stack_end, %rsp
    jmp stray

    .data
    .balign 16
boot_gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
boot_table: .word 23
    .long boot_gdt
    .bss
    .balign 4096
    .globl boot_pml4, boot_pdpt, boot_pd
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pd: .skip 16384
    .balign 16
    .skip 16384
    .globl main_stack_end
main_stack_end:
run_rsp: .quad 0
#endif
    .bss
    .globl multiboot_info
multiboot_info: .long 0
    .section .note.GNU-stack, "", @progbits
