/* The trusted part of tests/fuzz/tiers_program.h's guests, one for each mode: boots, and handles every exception: records
 * vector, error code, address, flags, and a hash of all registers, and goes on behind the instruction. */
#include "tests/fuzz/tiers_program.h"

/* ECX dwords from `at` on (its register: `si`) into the hash EDX. */
.macro MIX at, si
77: imul $0x01000193, %edx, %edx
    xor \at, %edx
    add $4, %\si
    dec %ecx
    jnz 77b
.endm

/* EDI vector, EBP error code and more, ESI instruction pointer, EBX flags, EDX hash of the general registers.  To EAX: where to
 * go on.  x87 and SSE registers are hashed too, but not what x87 instruction was last (AMD's FXSAVE). */
.macro RECORD base, code, si, ax, cx
    imul $0x01000193, %edx, %edx
    xor %ebp, %edx
    fxsave \base + PROGRAM_CONTROL + CONTROL_FXSAVE
    andl $0xff, \base + PROGRAM_CONTROL + CONTROL_FXSAVE + 4
    movl $0, \base + PROGRAM_CONTROL + CONTROL_FXSAVE + 8
    movl $0, \base + PROGRAM_CONTROL + CONTROL_FXSAVE + 12
    movl $0, \base + PROGRAM_CONTROL + CONTROL_FXSAVE + 16
    movl $0, \base + PROGRAM_CONTROL + CONTROL_FXSAVE + 20
    mov %esi, %eax
    mov $\base + PROGRAM_CONTROL + CONTROL_FXSAVE, %esi
    mov $104, %ecx
    MIX (%\si), \si
    mov %eax, %esi
    incl \base + PROGRAM_CONTROL + CONTROL_COUNT
    mov \base + PROGRAM_CONTROL + CONTROL_COUNT, %ecx
    shl $4, %ecx
    mov %edi, \base + PROGRAM_CONTROL + CONTROL_LOG(%\cx)
    mov %esi, \base + PROGRAM_CONTROL + CONTROL_LOG + 4(%\cx)
    mov %ebx, \base + PROGRAM_CONTROL + CONTROL_LOG + 8(%\cx)
    mov %edx, \base + PROGRAM_CONTROL + CONTROL_LOG + 12(%\cx)
    cmp $CONTROL_MOST << 4, %ecx
    jae 80f
    cmp $8, %edi
    je 80f
    mov %esi, %eax
    sub $\code, %eax
    cmp $PROGRAM_CODE_SIZE, %eax
    jae 79f
    movzwl \base + PROGRAM_RESUME(,%\ax,2), %eax
    test %eax, %eax
    jz 80f
    add $\code, %eax
    jmp 81f
79: 
.if \code
    mov \base + PROGRAM_RECOVER, %eax
    test %eax, %eax
    jnz 81f
.endif
80: mov \base + PROGRAM_CONTROL + CONTROL_END, %eax
81:
.endm

.macro STUBS common, push_zero
    .p2align 4
1:
    .set vector, 0
    .rept 32
    .p2align 4
    .if vector != 8 && (vector < 10 || vector > 14) && vector != 17
    \push_zero
    .endif
    push $vector
    jmp \common
    .set vector, vector + 1
    .endr
.endm

    .section .rodata
    .globl tiers_begin, tiers_end, tiers_stubs32, tiers_stubs64, tiers_real_begin, tiers_real_end
#define AT(label) PROGRAM_BASE + label - tiers_begin
#define CONTROL(field) PROGRAM_BASE + PROGRAM_CONTROL + field
    .code32
tiers_begin:
    lgdt AT(gdtr)
    mov $PROGRAM_BASE + PROGRAM_HANDLER_STACK, %esp
    mov $PROGRAM_BASE + PROGRAM_TABLES, %eax
    mov %eax, %cr3
    cmpl $0, CONTROL(CONTROL_SELECTOR)
    je boot64
    lidt AT(idtr32)
    mov $0x30, %eax
    ltr %ax
    mov $0x600, %eax
    mov %eax, %cr4
    mov $0x80010033, %eax
    mov %eax, %cr0
    fxrstor CONTROL(CONTROL_FXRSTOR)
    mov $0x10, %edx
    cmpl $0, CONTROL(CONTROL_USER)
    je 1f
    push $0x2b
    pushl CONTROL(CONTROL_STACK)
    mov $0x23, %edx
    jmp 2f
1:  mov CONTROL(CONTROL_STACK), %esp
2:  pushl CONTROL(CONTROL_FLAGS)
    push %edx
    pushl CONTROL(CONTROL_START)
    mov CONTROL(CONTROL_SELECTOR), %eax
    mov %eax, %es
    mov %eax, %ds
    mov %ss:CONTROL(CONTROL_GPR), %eax
    mov %ss:CONTROL(CONTROL_GPR + 8), %ecx
    mov %ss:CONTROL(CONTROL_GPR + 16), %edx
    mov %ss:CONTROL(CONTROL_GPR + 24), %ebx
    mov %ss:CONTROL(CONTROL_GPR + 40), %ebp
    mov %ss:CONTROL(CONTROL_GPR + 48), %esi
    mov %ss:CONTROL(CONTROL_GPR + 56), %edi
    iretl

common32:
    pushal
    push %ds
    cld
    mov %ss, %eax
    mov %eax, %ds
    andl $~0x10, 52(%esp)
    xor %edx, %edx
    lea 4(%esp), %esi
    mov $8, %ecx
    MIX (%esi), esi
    mov 36(%esp), %edi
    mov 40(%esp), %ebp
    mov 44(%esp), %esi
    mov 52(%esp), %ebx
    cmp $14, %edi
    jne 1f
    mov %cr2, %eax
    rol $4, %ebp
    xor %eax, %ebp
1:  RECORD PROGRAM_BASE, PROGRAM_BASE + PROGRAM_CODE, esi, eax, ecx
    mov %eax, 44(%esp)
    pop %ds
    popal
    add $8, %esp
    iretl
    STUBS common32, "push $0"
    .set tiers_stubs32, 1b

boot64:
    mov $0x620, %eax
    mov %eax, %cr4
    mov $0xc0000080, %ecx
    rdmsr
    or $0x100, %eax
    wrmsr
    mov $0x80010033, %eax
    mov %eax, %cr0
    ljmp $0x40, $AT(start64)
    .code64
start64:
    lidt AT(idtr64)
    mov $0x30, %eax
    ltr %ax
    fxrstor CONTROL(CONTROL_FXRSTOR)
    mov $0x18, %eax
    mov $0x40, %edx
    cmpl $0, CONTROL(CONTROL_USER)
    je 1f
    mov $0x2b, %eax
    mov $0x4b, %edx
1:  push %rax
    mov CONTROL(CONTROL_STACK), %eax
    push %rax
    mov CONTROL(CONTROL_FLAGS), %eax
    push %rax
    push %rdx
    mov CONTROL(CONTROL_START), %eax
    push %rax
    .set i, 0
    .irp r, rax, rcx, rdx, rbx, skip, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
    .ifnc \r, skip
    mov CONTROL(CONTROL_GPR) + 8 * i, %\r
    .endif
    .set i, i + 1
    .endr
    iretq

common64:
    .irp r, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax
    push %\r
    .endr
    cld
    andl $~0x10, 152(%rsp)
    xor %edx, %edx
    mov %rsp, %rsi
    mov $42, %ecx
    MIX (%rsi), rsi
    mov 120(%rsp), %edi
    mov 128(%rsp), %ebp
    mov 136(%rsp), %esi
    mov 152(%rsp), %ebx
    cmp $14, %edi
    jne 1f
    mov %cr2, %rax
    rol $4, %ebp
    xor %eax, %ebp
    shr $32, %rax
    rol $4, %ebp
    xor %eax, %ebp
1:  RECORD PROGRAM_BASE, PROGRAM_BASE + PROGRAM_CODE, rsi, rax, rcx
    mov %rax, 136(%rsp)
    .irp r, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
    pop %\r
    .endr
    add $16, %rsp
    iretq
    STUBS common64, "push $0"
    .set tiers_stubs64, 1b
    .p2align 3
gdt: .quad 0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff
    .quad 0x0000890000000067 | (PROGRAM_BASE + PROGRAM_TSS & 0xffffff) << 16, 0 /* TSS */
    .quad 0x00af9b000000ffff, 0x00affb000000ffff, 0x00cff3000000ffff | PROGRAM_BIAS << 16
gdtr: .word 87
    .long AT(gdt)
idtr32: .word 0x7ff
    .long PROGRAM_BASE + PROGRAM_IDT
idtr64: .word 0xfff
    .quad PROGRAM_BASE + PROGRAM_IDT
tiers_end:

/* Real mode: system 0x1000:0, code 0x2000:0, data 0x3000:0, stack 0x4000:0. */
#undef CONTROL
#define CONTROL(field) PROGRAM_CONTROL + field
    .code16
tiers_real_begin:
    xor %ax, %ax
    mov %ax, %es
    xor %di, %di
    mov $real_stubs - tiers_real_begin, %ax
1:  mov %ax, %es:(%di)
    movw $0x1000, %es:2(%di)
    add $16, %ax
    add $4, %di
    cmp $4 * 32, %di
    jb 1b
2:  movw $real_stubs - tiers_real_begin + 31 * 16, %es:(%di)
    movw $0x1000, %es:2(%di)
    add $4, %di
    cmp $4 * 256, %di
    jb 2b
    mov $0x1000, %ax
    mov %ax, %ds
    mov $0x600, %eax
    mov %eax, %cr4
    mov $0x32, %eax
    mov %eax, %cr0
    fxrstor CONTROL(CONTROL_FXRSTOR)
    mov $0x4000, %ax
    mov %ax, %ss
    mov CONTROL(CONTROL_STACK), %esp
    pushw CONTROL(CONTROL_FLAGS)
    pushw $0x2000
    pushw CONTROL(CONTROL_START)
    mov $0x3000, %ax
    mov %ax, %es
    mov CONTROL(CONTROL_GPR), %eax
    mov CONTROL(CONTROL_GPR + 8), %ecx
    mov CONTROL(CONTROL_GPR + 16), %edx
    mov CONTROL(CONTROL_GPR + 24), %ebx
    mov CONTROL(CONTROL_GPR + 40), %ebp
    mov CONTROL(CONTROL_GPR + 48), %esi
    mov CONTROL(CONTROL_GPR + 56), %edi
    push %es
    pop %ds
    iretw

real_common:
    pushal
    push %ds
    push %es
    cld
    mov $0x1000, %ax
    mov %ax, %ds
    movzwl %sp, %esi
    andw $~0x10, %ss:42(%esi)
    xor %edx, %edx
    add $4, %esi
    mov $8, %ecx
    MIX %ss:(%esi), esi
    movzwl %sp, %eax
    movzwl %ss:36(%eax), %edi
    movzwl %ss:38(%eax), %esi
    movzwl %ss:42(%eax), %ebx
    xor %ebp, %ebp
    RECORD 0, 0, esi, eax, ecx
    movzwl %sp, %ecx
    mov %ax, %ss:38(%ecx)
    pop %es
    pop %ds
    popal
    add $2, %sp
    iretw
    .p2align 4
real_stubs:
    .set vector, 0
    .rept 32
    .p2align 4
    pushw $vector
    jmp real_common
    .set vector, vector + 1
    .endr
tiers_real_end:
    .section .note.GNU-stack, "", @progbits
