/* The first page of a segment as a type: docs/layout.md, "A segment". */
#ifndef BYTES_H
#define BYTES_H
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { PAGE = 4096 };
#define SKIP 0xffffffffu
#define FUTEX_WAITERS_BIT 0x80000000u
#define FUTEX_OWNER_DIED_BIT 0x40000000u

enum side { SIDE_A, SIDE_B };
enum end_value { AT_WORK, CLOSED_IN_ORDER, DIED, SUPERSEDED };
enum poll_mode { POLL_NEVER_SET, POLL_SPIN, POLL_PARK, POLL_INTERVAL };
enum { CAN_BARRIER = 1, CAN_EVENTS = 2 };

struct payload {
    uint32_t kind, align;
    uint64_t size, type_id;
};

struct fixed {
    uint8_t magic[8];
    uint32_t version, endian, header_bytes, direction;
    uint64_t generation, file_bytes;
    uint32_t slot_size, slot_count, slot_stride, creator_pid;
    uint64_t lengths_offset, slots_offset;
    struct payload payload;
    uint32_t tag_bytes, required;
    uint8_t tag[64];
    uint64_t created_at;
    uint8_t zeros[80];
};

typedef _Atomic uint32_t word32;
typedef _Atomic uint64_t word64;

struct end {
    word32 parked, end;
    word64 woken_at;
    word32 life, processor, fenced, event;
    uint8_t zeros[96];
};

struct totals {
    word64 counted, messages, bytes;
};

struct page {
    struct fixed fixed;
    word64 poll[2];
    word32 capabilities[2], attached;
    uint32_t zero_284;
    word32 pid[2];
    uint8_t zeros_296[88];
    word64 tail, begun;
    uint8_t zeros_400[112];
    word64 head;
    uint8_t zeros_520[120];
    struct end producer, consumer;
    word64 full_waits, producer_parks, producer_wakes, version;
    struct totals totals[4];
    uint64_t zero_1024;
    word64 consumer_parks, consumer_wakes;
    uint8_t zeros_1048[PAGE - 1048];
};

#define AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #field)
AT(struct fixed, generation, 24);
AT(struct fixed, slot_size, 40);
AT(struct fixed, lengths_offset, 56);
AT(struct fixed, payload, 72);
AT(struct fixed, tag_bytes, 96);
AT(struct fixed, created_at, 168);
AT(struct page, poll, 256);
AT(struct page, attached, 280);
AT(struct page, pid, 288);
AT(struct page, tail, 384);
AT(struct page, head, 512);
AT(struct page, producer, 640);
AT(struct page, producer.life, 656);
AT(struct page, producer.event, 668);
AT(struct page, consumer, 768);
AT(struct page, full_waits, 896);
AT(struct page, version, 920);
AT(struct page, totals, 928);
AT(struct page, consumer_parks, 1032);
_Static_assert(sizeof(struct page) == PAGE, "a page");
#endif
