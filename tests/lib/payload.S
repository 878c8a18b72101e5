/*
 * A guest without firmware: 64 KiB of ROM that test a part of the guest's RAM
 * for ever
 *
 * Each page from START to END holds its address, mixed with the number of the
 * pass, in its first and, inverted, in its last word.  The CPU compares both
 * and writes those of the next pass, page by page.  So whoever takes a page
 * away, or gives another one's content, is found within one pass, and every
 * page that was captured comes back by a touch of the CPU's.
 *
 * What it says, and what it is told, is at MAILBOX: see payload.py.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define COMMAND  (MAILBOX + 0)
#define BEATS    (MAILBOX + 4)
#define ERRORS   (MAILBOX + 8)
#define BAD      (MAILBOX + 12)
#define PASSES   (MAILBOX + 16)
#define EXIT_PORT 0x501

/* Where the ROM lies for the CPU in real mode. */
#define SEGMENT  0xf0000

    .text
    .code16
start16:
    cli
    movw $(SEGMENT >> 4), %ax
    movw %ax, %ds
    lgdtl gdt_pointer - start16
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $8, $(SEGMENT + start32 - start16)

    .code32
start32:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $0, COMMAND
    movl $0, ERRORS
    movl $0, BAD
    xorl %ebx, %ebx             /* the number of the pass */

    movl $START, %esi
fill:
    movl %esi, %eax
    movl %eax, (%esi)
    notl %eax
    movl %eax, 4092(%esi)
    addl $4096, %esi
    cmpl $END, %esi
    jb fill

pass:
    movl %ebx, PASSES
    movl $START, %esi
page:
    movl %esi, %eax
    xorl %ebx, %eax
    cmpl (%esi), %eax
    jne wrong
    notl %eax
    cmpl 4092(%esi), %eax
    jne wrong
write:
    leal 1(%ebx), %eax
    xorl %esi, %eax
    movl %eax, (%esi)
    notl %eax
    movl %eax, 4092(%esi)
    incl BEATS
    cmpl $0, COMMAND
    jne leave
    addl $4096, %esi
    cmpl $END, %esi
    jb page
    incl %ebx
    jmp pass

wrong:
    incl ERRORS
    movl %esi, BAD
    jmp write

/* isa-debug-exit: exit() on the CPU's thread. */
leave:
    movw $EXIT_PORT, %dx
    movb $1, %al
    outb %al, %dx
    jmp page

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9a000000ffff    /* code: all 4 GiB */
    .quad 0x00cf92000000ffff    /* data: the same */
gdt_pointer:
    .word 23
    .long SEGMENT + gdt - start16

    .org 0xfff0
    .code16
    ljmp $(SEGMENT >> 4), $0
    .org 0x10000
