/* offsets.h - what entry.S and the C files of backend-tcg/ both know: where things lie from the state pointer and on
 * the stack of translated code.  The context's offsets are checked against struct tcg_context in run.c. */
#ifndef BACKEND_TCG_OFFSETS_H
#define BACKEND_TCG_OFFSETS_H

/* struct tcg_context, from the state pointer: */
#define C_LINK (-256)
#define C_MAP_EPOCH (-192)
#define C_PINNED_INTS (-128)   /* address of the first pinned integer slot */
#define C_PINNED_VECTORS (-120)
#define C_WRITE_BASE (-112)    /* RBX of translated code */
#define C_SLOW_TRANSLATE (-104)
#define C_STUB_CALL (-96)
#define C_STUB_SLOW (-88)
#define C_STUB_LEAVE (-80)
#define C_EXIT_SITE (-72)
#define C_JUMPS (-56)
#define C_MISS (-48)
#define C_REGION_ENTER (-40)
#define C_REGION_GO (-32)
#define C_REGION_LEAVE (-24)
#define C_PC_SLOT (-8)
#define C_STOP_SLOT (-152)
#define LEAVE_NEXT 0           /* IR_LEAVE_NEXT */
#ifdef TIERCE_NASTY
#define JUMP_MASK 3            /* TCG_JUMP_ENTRIES - 1 */
#else
#define JUMP_MASK 16383
#endif
#define JUMP_SIZE_LOG 4        /* of struct tcg_jump */
#define JUMP_FACTOR 4097       /* tcg_jump_hash */
#define JUMP_SHIFT 12

/* struct tcg_link */
#define L_TO 16
#define L_TO_DATA 24
#define L_VALID 32
#define L_GLOBAL 40

/* The frame, from RSP inside a block; [RSP] is the way out.  FRAME is what tierce_tcg_enter sets up. */
#define FRAME 1040
#define F_SCRATCH 8
#define F_ADDRESS 16           /* guest address for the slow path */
#define F_SIZE_ACCESS 24
#define F_RESULT 32
#define F_SAVE 40              /* RAX RCX RDX RSI RDI */
#define F_SAVE_XMM 80          /* XMM2..XMM5 */
#define F_SPILL 144

#define VECTOR_STRIDE 64       /* between pinned vector slots */

#endif
