/* Ways between C and translated code.  Inside translated code RBP is the state, RBX the base of the write table,
 * R8..R15 and XMM6..XMM15 hold the pinned guest slots; RAX, RCX, RDX, RSI, RDI and XMM2..XMM5 hold values of the
 * block, XMM0 and XMM1 nothing.  The state's memory is right for pinned slots only while C code runs. */
#include "backend-tcg/offsets.h"

.macro load_pinned by
        movq    C_PINNED_INTS(%rbp), \by
        movq    0(\by), %r8
        movq    8(\by), %r9
        movq    16(\by), %r10
        movq    24(\by), %r11
        movq    32(\by), %r12
        movq    40(\by), %r13
        movq    48(\by), %r14
        movq    56(\by), %r15
        movq    C_PINNED_VECTORS(%rbp), \by
        movaps  0*VECTOR_STRIDE(\by), %xmm6
        movaps  1*VECTOR_STRIDE(\by), %xmm7
        movaps  2*VECTOR_STRIDE(\by), %xmm8
        movaps  3*VECTOR_STRIDE(\by), %xmm9
        movaps  4*VECTOR_STRIDE(\by), %xmm10
        movaps  5*VECTOR_STRIDE(\by), %xmm11
        movaps  6*VECTOR_STRIDE(\by), %xmm12
        movaps  7*VECTOR_STRIDE(\by), %xmm13
        movaps  8*VECTOR_STRIDE(\by), %xmm14
        movaps  9*VECTOR_STRIDE(\by), %xmm15
        movq    C_WRITE_BASE(%rbp), %rbx
.endm

.macro store_pinned by
        movq    C_PINNED_INTS(%rbp), \by
        movq    %r8, 0(\by)
        movq    %r9, 8(\by)
        movq    %r10, 16(\by)
        movq    %r11, 24(\by)
        movq    %r12, 32(\by)
        movq    %r13, 40(\by)
        movq    %r14, 48(\by)
        movq    %r15, 56(\by)
        movq    C_PINNED_VECTORS(%rbp), \by
        movaps  %xmm6, 0*VECTOR_STRIDE(\by)
        movaps  %xmm7, 1*VECTOR_STRIDE(\by)
        movaps  %xmm8, 2*VECTOR_STRIDE(\by)
        movaps  %xmm9, 3*VECTOR_STRIDE(\by)
        movaps  %xmm10, 4*VECTOR_STRIDE(\by)
        movaps  %xmm11, 5*VECTOR_STRIDE(\by)
        movaps  %xmm12, 6*VECTOR_STRIDE(\by)
        movaps  %xmm13, 7*VECTOR_STRIDE(\by)
        movaps  %xmm14, 8*VECTOR_STRIDE(\by)
        movaps  %xmm15, 9*VECTOR_STRIDE(\by)
.endm

.macro routine name
        .p2align 4
        .globl  \name
        .hidden \name
        .type   \name, @function
\name:
.endm

        .text
/* unsigned tierce_tcg_enter(void *state, const void *code): enum ir_leave */
routine tierce_tcg_enter
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        subq    $FRAME, %rsp
        movq    %rdi, %rbp
        load_pinned %rax
        call    *%rsi
        store_pinned %rcx
        addq    $FRAME, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret
        .size   tierce_tcg_enter, . - tierce_tcg_enter

/* A helper call: RDI the function, RSI RDX RCX RAX its arguments after the state.  Result in RAX; the block's own
 * values in registers are lost. */
routine tierce_tcg_call
        movq    %rdi, 8+F_RESULT(%rsp)
        store_pinned %rdi
        movq    %rax, %r8
        movq    %rbp, %rdi
        subq    $8, %rsp
        call    *16+F_RESULT(%rsp)
        addq    $8, %rsp
        load_pinned %rcx
        ret
        .size   tierce_tcg_call, . - tierce_tcg_call

/* The slow path of a guest access: F_ADDRESS and F_SIZE_ACCESS in, F_RESULT out: host address, or 0.
 * All registers are kept. */
routine tierce_tcg_slow
        movq    %rax, 8+F_SAVE(%rsp)
        movq    %rcx, 8+F_SAVE+8(%rsp)
        movq    %rdx, 8+F_SAVE+16(%rsp)
        movq    %rsi, 8+F_SAVE+24(%rsp)
        movq    %rdi, 8+F_SAVE+32(%rsp)
        movaps  %xmm2, 8+F_SAVE_XMM(%rsp)
        movaps  %xmm3, 8+F_SAVE_XMM+16(%rsp)
        movaps  %xmm4, 8+F_SAVE_XMM+32(%rsp)
        movaps  %xmm5, 8+F_SAVE_XMM+48(%rsp)
        store_pinned %rax
        movq    %rbp, %rdi
        movq    8+F_ADDRESS(%rsp), %rsi
        movl    8+F_SIZE_ACCESS(%rsp), %edx
        movq    (%rsp), %rcx            /* where in the block */
        subq    $8, %rsp
        call    *C_SLOW_TRANSLATE(%rbp)
        addq    $8, %rsp
        movq    %rax, 8+F_RESULT(%rsp)
        load_pinned %rax
        movaps  8+F_SAVE_XMM(%rsp), %xmm2
        movaps  8+F_SAVE_XMM+16(%rsp), %xmm3
        movaps  8+F_SAVE_XMM+32(%rsp), %xmm4
        movaps  8+F_SAVE_XMM+48(%rsp), %xmm5
        movq    8+F_SAVE(%rsp), %rax
        movq    8+F_SAVE+8(%rsp), %rcx
        movq    8+F_SAVE+16(%rsp), %rdx
        movq    8+F_SAVE+24(%rsp), %rsi
        movq    8+F_SAVE+32(%rsp), %rdi
        ret
        .size   tierce_tcg_slow, . - tierce_tcg_slow

/* Out by no chainable exit, for the reason in EAX.  Jumped to. */
routine tierce_tcg_leave
        movq    $-1, C_EXIT_SITE(%rbp)
        ret
        .size   tierce_tcg_leave, . - tierce_tcg_leave

/* No entry in the jump table: on at PC RSI, through the cpu loop.  Jumped to. */
routine tierce_tcg_miss
        movq    C_PC_SLOT(%rbp), %rax
        movq    %rsi, (%rax)
        movl    $LEAVE_NEXT, %eax
        jmp     tierce_tcg_leave
        .size   tierce_tcg_miss, . - tierce_tcg_miss

/* --- Regions.  One is a function of LLVM's calling convention preserve_none: R12 R13 R14 R15 are the guest's RSP RBP RSI RDI,
 * RDI the PC, RSI the region's data, RDX RCX R8 R9 the guest's RDX RBX RAX RCX, R11 the state; XMM0..5 guest XMM2..7, XMM6 and XMM7
 * guest XMM0 and XMM1 as in template code.  Guest XMM8 and XMM9 go through the state. */
.macro to_template by
        addq    $8, %rsp
        movq    %r11, %rbp
        movq    %rdx, %r10
        movq    %rcx, %r11
        movaps  %xmm5, %xmm13
        movaps  %xmm4, %xmm12
        movaps  %xmm3, %xmm11
        movaps  %xmm2, %xmm10
        movaps  %xmm1, %xmm9
        movaps  %xmm0, %xmm8
        movq    C_PINNED_VECTORS(%rbp), \by
        movaps  8*VECTOR_STRIDE(\by), %xmm14
        movaps  9*VECTOR_STRIDE(\by), %xmm15
        movq    C_WRITE_BASE(%rbp), %rbx
.endm

/* From template code: RAX the region, RDI and RSI as there.  Jumped to, as are the next two. */
routine tierce_region_enter
        subq    $8, %rsp                /* functions begin with the stack so */
        movq    %r11, %rcx
        movq    %r10, %rdx
        movq    %rbp, %r11
        movq    C_PINNED_VECTORS(%rbp), %rbx
        movaps  %xmm14, 8*VECTOR_STRIDE(%rbx)
        movaps  %xmm15, 9*VECTOR_STRIDE(%rbx)
        movaps  %xmm8, %xmm0
        movaps  %xmm9, %xmm1
        movaps  %xmm10, %xmm2
        movaps  %xmm11, %xmm3
        movaps  %xmm12, %xmm4
        movaps  %xmm13, %xmm5
        jmp     *%rax
        .size   tierce_region_enter, . - tierce_region_enter

/* On at PC RDI, by the jump table; through the cpu loop where it does not know, or where that asks. */
routine tierce_region_go
        to_template %rax
        movq    C_STOP_SLOT(%rbp), %rax
        imull   $JUMP_FACTOR, %edi, %ecx
        movq    %rdi, %rsi
        shrl    $(JUMP_SHIFT - JUMP_SIZE_LOG), %ecx
        andl    $(JUMP_MASK << JUMP_SIZE_LOG), %ecx
        addq    C_JUMPS(%rbp), %rcx
        cmpl    $0, (%rax)
        jne     tierce_tcg_miss
        cmpq    (%rcx), %rdi
        jne     tierce_tcg_miss
        jmp     *8(%rcx)
        .size   tierce_region_go, . - tierce_region_go

/* --- Links: where a region's way out to a known successor leads, PC in RDI.  Not linked yet, RSI the link: the cpu loop is told of it. */
routine tierce_link_ask
        to_template %rax
        movq    %rsi, C_LINK(%rbp)
        movq    C_PC_SLOT(%rbp), %rax
        movq    %rdi, (%rax)
        movl    $LEAVE_NEXT, %eax
        jmp     tierce_tcg_leave
        .size   tierce_link_ask, . - tierce_link_ask

/* RSI the template code. */
routine tierce_link_block
        to_template %rax
        jmp     *%rsi
        .size   tierce_link_block, . - tierce_link_block

/* RSI the link, which holds while no mapping changes. */
routine tierce_link_checked
        movl    L_GLOBAL(%rsi), %eax
        movq    C_MAP_EPOCH(%r11,%rax,8), %rax
        cmpq    L_VALID(%rsi), %rax
        jne     tierce_link_ask
        movq    L_TO(%rsi), %rax
        movq    L_TO_DATA(%rsi), %rsi
        jmp     *%rax
        .size   tierce_link_checked, . - tierce_link_checked

/* To the cpu loop at PC RDI, for the reason in RSI. */
routine tierce_region_leave
        to_template %rax
        movq    C_PC_SLOT(%rbp), %rax
        movq    %rdi, (%rax)
        movl    %esi, %eax
        jmp     tierce_tcg_leave
        .size   tierce_region_leave, . - tierce_region_leave

        .section .note.GNU-stack,"",@progbits
