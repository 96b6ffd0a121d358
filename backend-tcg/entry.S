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

        .section .note.GNU-stack,"",@progbits
