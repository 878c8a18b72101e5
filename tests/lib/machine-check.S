/*
 * A guest without firmware that reads one page for ever, and counts the machine
 * checks that it gets
 *
 * With CHECKS_ON it enables them, as a kernel does.  Its handler turns to
 * another page: the broken one is out of use then.  RAM outlasts a reset, so
 * that BOOTS counts these.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define BEATS    (MAILBOX + 0)
#define CHECKS   (MAILBOX + 4)
#define BOOTS    (MAILBOX + 8)

#define VECTOR   18
#define SEGMENT  0xf000
#define CR4_MCE  0x40
#define MSR_MCG_STATUS 0x17a

    .text
    .code16
start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw $MAILBOX, %sp
    movw $(check - start), VECTOR * 4
    movw $SEGMENT, VECTOR * 4 + 2
    incl BOOTS
#if CHECKS_ON
    movl %cr4, %eax
    orl $CR4_MCE, %eax
    movl %eax, %cr4
#endif
    movw $(BROKEN >> 4), %ax
    movw %ax, %es
again:
    movl %es:0, %eax
    incl BEATS
    jmp again

check:
    pushl %eax
    pushl %ecx
    pushl %edx
    incl CHECKS
    movw $((BROKEN + 4096) >> 4), %ax
    movw %ax, %es
    movl $MSR_MCG_STATUS, %ecx
    xorl %eax, %eax
    xorl %edx, %edx
    wrmsr
    popl %edx
    popl %ecx
    popl %eax
    iretw

    .org 0xfff0
    ljmp $SEGMENT, $0
    .org 0x10000
