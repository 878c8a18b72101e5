/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio_balloon_ex.h: wire format of balloon applications
 *
 * What a program in a guest that gives memory up, asks for memory, or wants to
 * know how much there is (a *balloon application*) and the host say to each
 * other.  docs/specs/balloon-ex-messages.rst has the meaning and the order of
 * messages; this header has their layout.
 *
 * Carriers.  The same messages travel over two virtqueues of the balloon-ex
 * device, a message a buffer, and over a virtio-serial port, one behind the
 * other.  A guest has one connection; whoever holds its end in the guest (the
 * agent) relays for the applications, which the field app tells apart.
 *
 * Layout.  Little endian; every field is aligned to its size; every message is
 * a multiple of 8 bytes long, at most VBX_MESSAGE_MAX.  Fields that are called
 * reserved are sent as 0 and not looked at.
 *
 * Later versions.  A message may be longer than the receiver knows: the rest is
 * passed over.  One that is shorter than given here is an error.  A type that
 * the receiver does not know is passed over where VBX_FLAG_OPTIONAL is set,
 * and answered by VBX_ERROR otherwise.
 *
 * Needs <stdint.h> only; struct fields are in wire order, and on a big endian
 * machine vbx_le*() convert them.
 */
#ifndef LINUX_VIRTIO_BALLOON_EX_H
#define LINUX_VIRTIO_BALLOON_EX_H

#include <stdint.h>

/* Feature bit of the device: has the two queues for messages. */
#define VIRTIO_BALLOON_EX_F_APPLICATION 62

/* Name of the virtio-serial port. */
#define VIRTIO_BALLOON_EX_PORT_NAME "org.qemu.balloon-ex.0"

#define VBX_MAGIC           0x314d5842u     /* "BXM1" */
#define VBX_VERSION         1
#define VBX_MESSAGE_MAX     4096u
#define VBX_NAME_MAX        32u             /* bytes, NUL filled */
#define VBX_SESSION_BYTES   16u
#define VBX_KEY_BYTES       16u
#define VBX_PAGE_BYTES      4096u
#define VBX_GRANULE_BYTES   (2u << 20)

/* Message types; the arrow says who sends it. */
enum {
    VBX_HELLO      = 1,     /* guest -> host: first message of a connection */
    VBX_WELCOME    = 2,     /* host -> guest: answer, and at a new session */
    VBX_ERROR      = 3,     /* both: a message was refused */
    VBX_PING       = 4,     /* both */
    VBX_PONG       = 5,     /* both: same cookie */

    VBX_REGISTER   = 16,    /* guest -> host: an application is there */
    VBX_UNREGISTER = 17,    /* guest -> host: it has gone */

    VBX_RESERVE    = 32,    /* host -> guest: set memory aside, tag it */
    VBX_RESERVED   = 33,    /* guest -> host: so much is set aside */
    VBX_HINTS      = 34,    /* guest -> host: where it lies */
    VBX_VETO       = 35,    /* guest -> host: not now */

    VBX_RELEASE    = 40,    /* both: this memory is to go back */
    VBX_RELEASED   = 41,    /* host -> guest: it is there, unmap it */
    VBX_UNMAPPED   = 42,    /* guest -> host: done, or it went by itself */

    VBX_REQUEST    = 48,    /* guest -> host: more memory, please */
    VBX_ANSWER     = 49,    /* host -> guest: what came of it */
    VBX_CANCEL     = 50,    /* both: REQUEST or RESERVE of this cookie */

    VBX_CONDITION  = 56,    /* host -> guest: memory condition */
    VBX_STATISTICS = 57,    /* guest -> host */
    VBX_POLL       = 58,    /* host -> guest: statistics, please */
};

#define VBX_FLAG_OPTIONAL   0x0001u

/* VBX_RESERVED: status */
enum {
    VBX_RESERVE_PROGRESS = 0,       /* more of this order follows */
    VBX_RESERVE_WHOLE    = 1,       /* last: all of it */
    VBX_RESERVE_PARTIAL  = 2,       /* last: less, by reason */
    VBX_RESERVE_REFUSED  = 3,       /* nothing, by reason */
};

/* Why an application gives less, or gives back. */
enum {
    VBX_REASON_NONE      = 0,
    VBX_REASON_PRESSURE  = 1,       /* its guest is short of memory */
    VBX_REASON_LIMIT     = 2,       /* a limit of its own, or of its cgroup */
    VBX_REASON_DEADLINE  = 3,       /* time was up */
    VBX_REASON_VETO      = 4,       /* the application refuses for now */
    VBX_REASON_BUSY      = 5,       /* another order is being worked on */
    VBX_REASON_UNKNOWN   = 6,       /* no such application, epoch or cookie */
    VBX_REASON_END       = 7,       /* application or connection ends */
    VBX_REASON_HOST      = 8,       /* the host has none to give */
    VBX_REASON_CANCELLED = 9,
    VBX_REASON_HIBERNATE = 10,      /* the guest is about to hibernate */
};

/* VBX_ANSWER: status */
enum {
    VBX_ANSWER_QUEUED  = 0,         /* noted; another answer follows */
    VBX_ANSWER_GRANTED = 1,
    VBX_ANSWER_PARTIAL = 2,         /* bytes: what could be had */
    VBX_ANSWER_REFUSED = 3,
};

/* VBX_REQUEST: why memory is wanted; shown to the operator. */
enum {
    VBX_WANT_UNSAID   = 0,
    VBX_WANT_CACHE    = 1,          /* to be faster */
    VBX_WANT_HEAP     = 2,          /* to go on at all */
    VBX_WANT_START    = 3,          /* a program is about to start */
    VBX_WANT_PRESSURE = 4,          /* the guest is reclaiming */
};
#define VBX_PRIORITY_MAX    9u      /* 0 is the least */
#define VBX_VETO_MAX_MS     60000u
#define VBX_REQUEST_MAX_MS  600000u

/* VBX_ERROR: code */
enum {
    VBX_ERROR_MALFORMED   = 1,      /* size or content makes no sense */
    VBX_ERROR_UNSUPPORTED = 2,      /* unknown type */
    VBX_ERROR_VERSION     = 3,      /* no common version */
    VBX_ERROR_STATE       = 4,      /* not now: no hello, wrong session */
    VBX_ERROR_LIMIT       = 5,      /* too many applications, requests, ... */
    VBX_ERROR_UNKNOWN     = 6,      /* no such application, epoch or cookie */
};

/* VBX_CONDITION: condition, in rising order of need */
enum {
    VBX_CONDITION_HIGH = 0,
    VBX_CONDITION_SOFT = 1,
    VBX_CONDITION_HARD = 2,
    VBX_CONDITION_LOW  = 3,
};

/* VBX_REGISTER: flags */
#define VBX_APP_RESERVES    0x0001u     /* sets memory aside when asked */
#define VBX_APP_AGENT       0x0002u     /* the guest's own balloon: asked last
                                           by none, first by the kernel's OOM */

/* VBX_HELLO, VBX_WELCOME: features, used where both have them */
#define VBX_FEATURE_HINTS   0x0001u

struct vbx_header {
    uint32_t magic;             /* VBX_MAGIC */
    uint16_t type;
    uint16_t flags;
    uint32_t length;            /* of the whole message */
    uint32_t app;               /* 0: the connection as a whole */
    uint64_t cookie;            /* chosen by who asks, repeated by who answers */
};

struct vbx_hello {
    struct vbx_header header;
    uint16_t version_min, version_max;
    uint32_t features;
    uint64_t held_bytes;        /* still set aside for an earlier session */
    uint8_t session[VBX_SESSION_BYTES];     /* the last one known, or 0 */
};

struct vbx_welcome {
    struct vbx_header header;
    uint16_t version;           /* to be used from now on */
    uint16_t apps_max;          /* applications at a time */
    uint32_t features;
    uint8_t session[VBX_SESSION_BYTES];
};

struct vbx_error {
    struct vbx_header header;   /* cookie: of the refused message */
    uint16_t code;
    uint16_t type;              /* of the refused message */
    uint32_t reserved;
};

/* VBX_PING, VBX_PONG, VBX_UNREGISTER, VBX_CANCEL, VBX_POLL */
struct vbx_plain {
    struct vbx_header header;
};

struct vbx_register {
    struct vbx_header header;   /* app: 1 to 65535, chosen by the agent */
    uint32_t flags;
    uint32_t priority;          /* asked to give in rising order; 0 to 9 */
    uint64_t offer_bytes;       /* about what it could give; UINT64_MAX:
                                   unknown */
    char name[VBX_NAME_MAX];
};

/*
 * One order is one epoch: the page with sequence number k of an epoch is the
 * k-th page that the application sets aside for it.
 */
struct vbx_reserve {
    struct vbx_header header;
    uint64_t epoch;             /* never used before in this session */
    uint64_t bytes;             /* a multiple of granule_bytes */
    uint32_t granule_bytes;     /* 4096 or VBX_GRANULE_BYTES */
    uint32_t deadline_ms;       /* from arrival */
    uint8_t key[VBX_KEY_BYTES];
};

/* Pages [first_seq, first_seq + count) of the epoch are tagged. */
struct vbx_reserved {
    struct vbx_header header;   /* cookie: of the order */
    uint64_t epoch;
    uint64_t first_seq;
    uint64_t count;             /* 0 is fine in a last message */
    uint16_t status;            /* VBX_RESERVE_* */
    uint16_t reason;            /* VBX_REASON_* */
    uint32_t reserved;
};

/* A run of pages: sequence seq + i lies at guest frame number gfn + i. */
struct vbx_hint {
    uint64_t seq;
    uint64_t gfn;
    uint64_t count;
};

#define VBX_HINTS_MAX       160u

struct vbx_hints {
    struct vbx_header header;
    uint64_t epoch;
    uint32_t runs;              /* 1 to VBX_HINTS_MAX */
    uint32_t reserved;
    struct vbx_hint run[];
};

struct vbx_veto {
    struct vbx_header header;
    uint32_t duration_ms;       /* at most VBX_VETO_MAX_MS; 0 ends it */
    uint16_t reason;
    uint16_t reserved;
};

/* VBX_RELEASE, VBX_RELEASED, VBX_UNMAPPED */
struct vbx_range {
    struct vbx_header header;
    uint64_t epoch;
    uint64_t first_seq;
    uint64_t count;             /* pages */
    uint16_t reason;            /* VBX_REASON_* */
    uint16_t reserved[3];
};

struct vbx_request {
    struct vbx_header header;
    uint64_t bytes;
    uint32_t deadline_ms;       /* from arrival, at most VBX_REQUEST_MAX_MS */
    uint16_t priority;          /* 0 to VBX_PRIORITY_MAX */
    uint16_t reason;            /* VBX_WANT_* */
};

struct vbx_answer {
    struct vbx_header header;   /* cookie: of the request */
    uint64_t bytes;             /* got so far */
    uint16_t status;            /* VBX_ANSWER_* */
    uint16_t reason;            /* VBX_REASON_* */
    uint32_t reserved;
};

struct vbx_condition {
    struct vbx_header header;
    uint8_t session[VBX_SESSION_BYTES];
    uint64_t generation;        /* rises with every change of content */
    uint32_t condition;         /* VBX_CONDITION_* of this guest */
    uint32_t host;              /* the same of the host, coarse */
    uint32_t pressure;          /* wanted / had x 100; 100: content */
    uint32_t shares;
    uint32_t age_ms;            /* of the figures, when they were sent */
    uint32_t reserved;
    /* bytes: */
    uint64_t ram;               /* what the guest was told to have */
    uint64_t min, max, entitlement, target;
    uint64_t allocated;         /* host memory that it holds */
    uint64_t reservable;        /* what it could still get now */
    uint64_t ballooned_kernel, ballooned_application, ballooned_reported;
};

/* VBX_STATISTICS: tags.  app 0: of the guest; else of the application. */
enum {
    VBX_STAT_TOTAL         = 1,     /* bytes */
    VBX_STAT_FREE          = 2,
    VBX_STAT_AVAILABLE     = 3,
    VBX_STAT_CACHED        = 4,
    VBX_STAT_SWAP_TOTAL    = 5,
    VBX_STAT_SWAP_FREE     = 6,
    VBX_STAT_RESERVED      = 7,     /* set aside for the host */
    VBX_STAT_PSI_SOME      = 16,    /* avg10, hundredths of a per cent */
    VBX_STAT_PSI_FULL      = 17,
    VBX_STAT_OOM_KILLS     = 18,    /* count since boot */
    VBX_STAT_CACHE_SIZE    = 32,    /* of an application, bytes */
    VBX_STAT_CACHE_HITS    = 33,    /* counts */
    VBX_STAT_CACHE_MISSES  = 34,
};

struct vbx_stat {
    uint32_t tag;
    uint32_t reserved;
    uint64_t value;
};

#define VBX_STATS_MAX       64u

struct vbx_statistics {
    struct vbx_header header;
    uint32_t count;             /* 1 to VBX_STATS_MAX */
    uint32_t reserved;
    struct vbx_stat stat[];
};

/*
 * Tag: the first 64 bytes of a page that is set aside.  The other 4,032 bytes
 * are 0.
 */
#define VBX_TAG_MAGIC       UINT64_C(0x3147415458422ab5)
#define VBX_TAG_VERSION     1u

struct vbx_tag {
    uint64_t magic;             /* VBX_TAG_MAGIC */
    uint32_t version;           /* VBX_TAG_VERSION */
    uint32_t app;
    uint64_t epoch;
    uint64_t sequence;
    uint8_t key[VBX_KEY_BYTES];
    uint64_t reserved;          /* 0 */
    uint64_t checksum;          /* vbx_checksum() of the 56 bytes before */
};

/* From the machine's order to the wire's, and back. */
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define vbx_le16(v) __builtin_bswap16(v)
#define vbx_le32(v) __builtin_bswap32(v)
#define vbx_le64(v) __builtin_bswap64(v)
#else
#define vbx_le16(v) ((uint16_t)(v))
#define vbx_le32(v) ((uint32_t)(v))
#define vbx_le64(v) ((uint64_t)(v))
#endif

/* FNV-1a, 64 bits (Fowler, Noll, Vo): the algorithm is in the public domain */
static inline uint64_t vbx_checksum(const void *data, uint32_t bytes)
{
    const uint8_t *byte = (const uint8_t *)data;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    while (bytes--) {
        hash = (hash ^ *byte++) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* Fill in a tag, in wire order. */
static inline void vbx_tag_make(struct vbx_tag *tag, uint32_t app,
                                uint64_t epoch, uint64_t sequence,
                                const uint8_t key[VBX_KEY_BYTES])
{
    uint32_t i;

    tag->magic = vbx_le64(VBX_TAG_MAGIC);
    tag->version = vbx_le32(VBX_TAG_VERSION);
    tag->app = vbx_le32(app);
    tag->epoch = vbx_le64(epoch);
    tag->sequence = vbx_le64(sequence);
    for (i = 0; i < VBX_KEY_BYTES; i++) {
        tag->key[i] = key[i];
    }
    tag->reserved = 0;
    tag->checksum = vbx_le64(vbx_checksum(tag, sizeof(*tag) - 8));
}

#endif /* LINUX_VIRTIO_BALLOON_EX_H */
