/* "Messages", "Send and receive", "Figures", and what "Readers from outside" asks of a producer. */
#include "peer.h"
#include <string.h>

static uint64_t mask(const struct half* h) { return h->ring->shape.slot_count - 1; }
static uint64_t rest_of_lap(const struct half* h, uint64_t sequence) {
    return h->ring->shape.slot_count - (sequence & mask(h));
}
static word32* length_word(const struct half* h, uint64_t sequence) { return &h->ring->lengths[sequence & mask(h)]; }
static uint8_t* slot(const struct half* h, uint64_t s) {
    return h->ring->slots + (s & mask(h)) * h->ring->shape.slot_stride;
}

static uint64_t slots_for(const struct half* h, uint32_t length) {
    uint64_t n = ((uint64_t)length + h->ring->shape.slot_stride - 1) / h->ring->shape.slot_stride;
    return n ? n : 1;
}

uint32_t max_message(const struct half* h) {
    uint64_t n = (uint64_t)h->ring->shape.slot_size * h->ring->shape.slot_count;
    return n < SKIP ? (uint32_t)n : SKIP - 1;
}

static enum result corrupt(struct half* h) {
    h->corrupt = true;
    return CORRUPT;
}

static enum result ended(struct half* h) {
    switch (atomic_load_explicit(&h->other->end, memory_order_acquire)) {
    case AT_WORK:
        return WAIT;
    case CLOSED_IN_ORDER:
        return CLOSED;
    case DIED:
        return PEER_DEAD;
    case SUPERSEDED:
        return TAKEN_OVER;
    default:
        return corrupt(h);
    }
}

/* Counts what is published since the last totals, before its slots are used again. */
static void count(struct half* h) {
    struct page* p = h->ring->page;
    uint64_t tail = atomic_load_explicit(&p->tail, memory_order_relaxed);
    if (h->counted == tail) return;
    while ((int64_t)(tail - h->counted) > 0) {
        uint32_t length = atomic_load_explicit(length_word(h, h->counted), memory_order_relaxed);
        if (length == SKIP) {
            h->counted += rest_of_lap(h, h->counted);
            continue;
        }
        h->counted += slots_for(h, length);
        h->messages++;
        h->bytes += length;
    }
    uint64_t version = atomic_load_explicit(&p->version, memory_order_relaxed) + 1;
    struct totals* t = &p->totals[version % 4];
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&t->counted, h->counted, memory_order_relaxed);
    atomic_store_explicit(&t->messages, h->messages, memory_order_relaxed);
    atomic_store_explicit(&t->bytes, h->bytes, memory_order_relaxed);
    atomic_store_explicit(&p->version, version, memory_order_release);
}

static enum result room(struct half* h, uint64_t slots) {
    uint64_t count_of_slots = h->ring->shape.slot_count;
    if (h->next - h->limit + slots <= count_of_slots) return OK;
    count(h);
    h->limit = atomic_load_explicit(&h->ring->page->head, memory_order_acquire);
    atomic_thread_fence(memory_order_release);
    if (h->next - h->limit > count_of_slots) return corrupt(h);
    if (h->next - h->limit + slots <= count_of_slots) return OK;
    return ended(h);
}

static void begin(struct half* h, uint64_t until) {
    uint64_t tail = atomic_load_explicit(&h->ring->page->tail, memory_order_relaxed);
    if (until <= tail + 1 || until <= h->begun) return;
    h->begun = until;
    atomic_store_explicit(&h->ring->page->begun, until, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
}

enum result try_put(struct half* h, const void* bytes, uint32_t length) {
    if (h->corrupt) return CORRUPT;
    if (length > max_message(h)) return TOO_LARGE;
    uint64_t slots = slots_for(h, length), rest = rest_of_lap(h, h->next), skip = slots > rest ? rest : 0;
    if (skip && skip + slots > h->ring->shape.slot_count) {
        enum result r = room(h, skip);
        if (r) return r;
        begin(h, h->next + 1);
        atomic_store_explicit(length_word(h, h->next), SKIP, memory_order_relaxed);
        h->next += skip;
        publish(h);
        skip = 0;
    }
    enum result r = room(h, skip + slots);
    if (r) return r;
    begin(h, h->next + skip + slots);
    if (skip) atomic_store_explicit(length_word(h, h->next), SKIP, memory_order_relaxed);
    h->next += skip;
    memcpy(slot(h, h->next), bytes, length);
    atomic_store_explicit(length_word(h, h->next), length, memory_order_relaxed);
    h->next += slots;
    return OK;
}

void publish(struct half* h) {
    if (atomic_load_explicit(&h->ring->page->tail, memory_order_relaxed) == h->next) return;
    atomic_store_explicit(&h->ring->page->tail, h->next, memory_order_release);
    wake(h, false);
}

enum result try_receive(struct half* h, struct message* m) {
    if (h->corrupt) return CORRUPT;
    uint64_t count_of_slots = h->ring->shape.slot_count;
    for (;;) {
        if (h->next == h->limit) {
            h->limit = atomic_load_explicit(&h->ring->page->tail, memory_order_acquire);
            if (h->next == h->limit) {
                enum result end = ended(h);
                if (end == WAIT || end == CORRUPT) return end;
                h->limit = atomic_load_explicit(&h->ring->page->tail, memory_order_acquire);
                if (h->next == h->limit) return end;
            }
            if (h->limit - h->next > count_of_slots) return corrupt(h);
        }
        uint64_t published = h->limit - h->next, rest = rest_of_lap(h, h->next);
        uint32_t length = atomic_load_explicit(length_word(h, h->next), memory_order_relaxed);
        if (length == SKIP) {
            if (rest > published || rest > count_of_slots - 1) return corrupt(h);
            bool alone = h->next == atomic_load_explicit(&h->ring->page->head, memory_order_relaxed);
            h->next += rest;
            if (alone) release(h);
            continue;
        }
        if (length > h->ring->shape.slot_stride * (published < rest ? published : rest)) return corrupt(h);
        if (h->ring->page->fixed.payload.kind == 1 && length != h->ring->page->fixed.payload.size) return corrupt(h);
        *m = (struct message){slot(h, h->next), length, slots_for(h, length)};
        h->next += m->slots;
        return OK;
    }
}

void release(struct half* h) {
    if (atomic_load_explicit(&h->ring->page->head, memory_order_relaxed) == h->next) return;
    atomic_store_explicit(&h->ring->page->head, h->next, memory_order_release);
    wake(h, false);
}

bool has_news(struct half* h) {
    struct page* p = h->ring->page;
    if (atomic_load_explicit(&h->other->end, memory_order_acquire) || marked(h)) return true;
    if (h->producer) return atomic_load_explicit(&p->head, memory_order_acquire) != h->limit;
    return atomic_load_explicit(&p->tail, memory_order_acquire) != h->next;
}
