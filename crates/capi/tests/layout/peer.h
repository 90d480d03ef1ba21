/* A peer written from docs/layout.md alone, without the library. It shows that the document is enough. The first line of
   each file names the sections that it has. The peer leaves out: servers, events of its own, FIFOs, modes other than
   0600, and every system but Linux. */
#ifndef PEER_H
#define PEER_H
#define _GNU_SOURCE
#include "bytes.h"
#include <stdbool.h>
#include <time.h>

enum result { OK, WAIT, CLOSED, PEER_DEAD, TAKEN_OVER, CORRUPT, TOO_LARGE, IN_USE, NOT_YET, REFUSED, FAILED };

struct shape {
    uint32_t slot_size, slot_count, slot_stride;
    uint64_t slots_offset, file_bytes;
};

struct segment {
    int file;
    char path[512];
    struct page* page;
    struct shape shape;
    word32* lengths;
    uint8_t* slots;
    void* life; /* a private page, then the first page once more */
};

/* One end of one ring. `own` and `other` are its two lines of words. */
struct half {
    struct channel* channel;
    struct segment* ring;
    struct end *own, *other;
    bool producer, corrupt;
    uint64_t next;  /* producer: next to write; consumer: next to receive */
    uint64_t limit; /* the other's index when last loaded */
    uint64_t begun; /* producer */
    uint64_t counted, messages, bytes;
    uint32_t asked;     /* the mark of the peer that has been asked about */
    uint64_t looked_at; /* when the peer's life was last asked about */
};

struct options {
    char directory[256], name[201];
    uint32_t slot_size[2], slot_count[2]; /* by direction */
    struct payload payload[2];            /* by direction */
    const char* tag;                      /* NULL: none; an opener then takes any */
    uint64_t poll;                        /* 0: as the other side says, or park */
};

struct channel {
    enum side side;
    struct segment rings[2]; /* a2b, b2a */
    struct half sender, receiver;
    bool barrier, named; /* whether this process passes membarrier; whether the files have names */
    int events[2];       /* of side A in a server's channel: its sender's, its receiver's; else -1 */
};

struct message {
    const uint8_t* bytes;
    uint32_t length;
    uint64_t slots;
};

/* segment.c */
uint64_t now(clockid_t);
uint64_t random_number(void);
struct shape shape_of(uint32_t slot_size, uint32_t slot_count);
void write_fixed(struct fixed*, const struct options*, int direction, uint64_t generation);
enum result check_fixed(const struct segment*, int direction);
enum result map_header(struct segment*);
enum result open_segment(struct segment*, const struct options*, int direction);
void set_path(struct segment*, const struct options*, int direction);
enum result map_slots(struct segment*, bool writable);
void unmap(struct segment*);
bool take_lock(int file, int byte);
bool lock_held(int file, int byte);
void drop_lock(int file, int byte);
bool name_stands(const struct segment*);

/* channel.c */
enum result create_channel(struct channel*, const struct options*);
enum result open_channel(struct channel*, const struct options*);
void close_channel(struct channel*);
void let_go(struct channel*);
enum result join(struct channel*, const struct options*);
void begin_channel(struct channel*, enum side);
void attach(struct channel*, const struct options*);

/* client.c */
enum result connect_to_server(struct channel*, const struct options*);

/* ring.c */
uint32_t max_message(const struct half*);
enum result try_put(struct half*, const void* bytes, uint32_t length); /* writes, publishes nothing */
void publish(struct half*);
enum result try_receive(struct half*, struct message*); /* moves `next` */
void release(struct half*);                             /* everything received */
bool has_news(struct half*);                            /* something to do, for a sleeper */

/* sleep.c */
bool register_barrier(void);
bool pass_barrier(void);
void wake(struct half* actor, bool fence);
void wake_end(struct end*);
void wait_turn(struct half*, uint64_t since);

/* life.c */
void take_part(struct segment*, word32* life);
void leave(struct segment*, word32* life);
void look_after_peer(struct half*);
bool marked(struct half*);
#endif
