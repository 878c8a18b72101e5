/*
 * What a Bx is made of
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef BX_INT_H
#define BX_INT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "balloonex.h"
#include "condpage.h"
#include "giver.h"
#include "outbox.h"
#include "wire.h"

#define BX_SOCKET_NAME  "socket"
#define BX_REQUESTS_MAX 16u

/* One step of giving; also what one bx_dispatch() does at most. */
#define BX_STEP_BYTES   (UINT64_C(16) << 20)

/* Nothing is set aside while so much is unsent: the agent reads too slowly. */
#define BX_SLOW_BYTES   (UINT64_C(64) << 10)

typedef struct BxPageList {
    const BxCondPage *page;
    struct BxPageList *next;
} BxPageList;

struct Bx {
    unsigned flags;
    char socket_path[108];      /* as long as sun_path */
    char page_path[128];
    char *run_dir;

    int epoll, timer;
    int socket;                 /* -1: none */
    int inotify;                /* -1: none; with BX_CONDITION_ONLY */
    bool wants_output;          /* epoll waits for the socket to take more */
    uint64_t connect_ms;        /* when to try again */
    unsigned connect_wait_ms;
    BxOutbox outbox;

    bool welcome;               /* the agent has answered */
    uint8_t session[VBX_SESSION_BYTES];

    /* Any thread reads; replaced when the agent made a new file. */
    _Atomic(const BxCondPage *) page;
    uint64_t page_inode;
    BxPageList *old_pages;      /* somebody may be reading them */
    BxConditionFunc *on_condition;
    void *on_condition_opaque;
    BxFigures told;             /* what on_condition() was told last */
    bool was_told;

    BxAnswerFunc *on_answer;
    void *on_answer_opaque;
    uint64_t last_request;
    uint64_t request[BX_REQUESTS_MAX];  /* 0: free */

    BxGiver *giver;             /* NULL: nothing is offered */
    int pagemap;
    BxOffer offer;
    char name[VBX_NAME_MAX];
    bool registered;
    uint64_t freed_bytes;       /* by give(), less what have() was told */
    BxStats stats;
    bool stats_known, stats_due;
    uint64_t stats_ms;          /* when they were sent */
};

static inline uint64_t bx_now_ms(void)
{
    return bx_now_ns() / 1000000;
}

/* bx.c */
/* Queue and try to write.  -ENOTCONN, -EAGAIN, -ENOMEM. */
int bx_send(Bx *bx, BxMessage *message);
void bx_disconnect(Bx *bx);
void bx_arm_timer(Bx *bx);

/* bx-condition.c */
void bx_condition_map(Bx *bx);
void bx_condition_notify(Bx *bx);
void bx_condition_close(Bx *bx);

/* bx-request.c */
void bx_request_answer(Bx *bx, const BxMessage *message);
void bx_request_error(Bx *bx, const BxMessage *message);
/* All open ones end.  Who asked is told where @tell. */
void bx_request_end_all(Bx *bx, bool tell);

/* bx-offer.c */
void bx_offer_welcome(Bx *bx, bool new_session, uint32_t features);
void bx_offer_lost(Bx *bx);
void bx_offer_message(Bx *bx, const BxMessage *message);
/* A step; returns whether something was done. */
bool bx_offer_work(Bx *bx);
uint64_t bx_offer_due_ms(const Bx *bx);

#endif
