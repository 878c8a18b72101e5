/*
 * The agent of a pretended guest: answers orders by tagging pages of one range
 * of its guest's RAM, and remembers all that it was told
 *
 * It plays by the rules unless it is told not to (quiet, liar, most).  What it
 * tags and answers happens in a thread of its own, as a guest's would.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_AGENT_H
#define TESTS_AGENT_H

#include <glib.h>

#include "guest.h"
#include "lock.h"

#define AGENT_EPOCHS 64u
#define AGENT_APPS   4u

/* What it knows of one order. */
typedef struct AgentEpoch {
    MemSchedAppOrder order;
    uint64_t page;              /* of sequence number 0 */
    uint64_t told;              /* [0, told) is tagged */
    bool cancelled;
} AgentEpoch;

typedef struct Agent {
    Guest *guest;
    uint64_t first, count;      /* pages that it may set aside, in order */
    GThread *thread;
    MsLock lock;
    MsCond cond;

    /* lock: */
    uint64_t used;              /* of its pages */
    AgentEpoch epoch[AGENT_EPOCHS];
    unsigned epochs, worked;    /* orders that came, and were answered */
    MemSchedAppRange release[256], released[256];
    unsigned releases, released_count;
    uint64_t released_pages;
    unsigned polls, cancels;
    MemSchedAppAnswer answer;   /* the last one but "queued" */
    unsigned answers, queued;
    bool stop;
    uint8_t session[MEMSCHED_SESSION_BYTES];

    /* How it behaves, by application; set before the first order. */
    uint64_t most[AGENT_APPS + 1];      /* pages it gives; UINT64_MAX */
    MemSchedReason reason;      /* when it gives less */
    bool hints;                 /* tells where they are */
    bool quiet;                 /* never answers */
    bool liar;                  /* says so, and tags nothing */
    unsigned work_until;        /* answers so many orders; lock */
    bool keeps;                 /* never says UNMAPPED */
} Agent;

/* Attached, with one application of number 1; it owns [first, +count). */
Agent *agent_new(Guest *guest, uint64_t first, uint64_t count);
/* Another one: @offer in pages. */
void agent_add(Agent *agent, uint32_t app, unsigned priority, bool is_agent,
               uint64_t offer);
void agent_free(Agent *agent);          /* detaches */

/* Write the tag as a guest would. */
void agent_tag(const Agent *agent, const MemSchedAppOrder *order,
               uint64_t sequence, uint64_t page);
bool agent_is_tag(const Agent *agent, const MemSchedAppOrder *order,
                  uint64_t sequence, uint64_t page);
void agent_assert_tag(const Agent *agent, const MemSchedAppOrder *order,
                      uint64_t sequence, uint64_t page);

/* Bounded waits, until so much is credited (pages); so many orders answered. */
void agent_wait_captured(Agent *agent, uint64_t pages);
void agent_wait_worked(Agent *agent, unsigned orders);
void agent_wait_released(Agent *agent, uint64_t pages);
/* Until so many requests have their last answer: the last of these. */
MemSchedAppAnswer agent_wait_answer(Agent *agent, unsigned answers);

/* The application's own line in the query. */
MemSchedAppInfo agent_query(Agent *agent, uint32_t app);
MemSchedAppsInfo agent_query_all(Agent *agent);

#endif /* TESTS_AGENT_H */
