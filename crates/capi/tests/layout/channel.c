/* "Create, open, close". */
#include "peer.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool name_allowed(const char* name) {
    size_t n = strlen(name);
    if (n < 1 || n > 200) return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f || name[i] == '/' || name[i] == '\\') return false;
    return true;
}

/* Both halves, on rings that are mapped. */
void begin_channel(struct channel* c, enum side side) {
    struct segment *out = &c->rings[side == SIDE_A ? 0 : 1], *in = &c->rings[side == SIDE_A ? 1 : 0];
    c->side = side;
    c->sender = (struct half){
        .channel = c, .ring = out, .own = &out->page->producer, .other = &out->page->consumer, .producer = true};
    c->receiver = (struct half){.channel = c, .ring = in, .own = &in->page->consumer, .other = &in->page->producer};
    c->sender.next = atomic_load_explicit(&out->page->tail, memory_order_acquire);
    c->receiver.next = atomic_load_explicit(&in->page->head, memory_order_acquire);
    c->sender.limit = atomic_load_explicit(&out->page->head, memory_order_acquire);
    c->receiver.limit = c->receiver.next;
}

/* Steps 6 to 8 of Create, 6 and 7 of Open. */
void attach(struct channel* c, const struct options* o) {
    uint32_t capabilities = c->events[0] >= 0 ? CAN_EVENTS : 0;
    c->barrier = register_barrier() && pass_barrier();
    if (c->barrier) capabilities |= CAN_BARRIER;
    for (int i = 0; i < 2; i++) {
        struct page* p = c->rings[i].page;
        uint64_t unset = POLL_NEVER_SET;
        if (o->poll)
            atomic_store_explicit(&p->poll[c->side], o->poll, memory_order_relaxed);
        else
            atomic_compare_exchange_strong(&p->poll[c->side], &unset, (uint64_t)POLL_PARK);
        atomic_store_explicit(&p->capabilities[c->side], capabilities, memory_order_relaxed);
        atomic_store_explicit(&p->pid[c->side], (uint32_t)getpid(), memory_order_relaxed);
    }
    struct half* halves[2] = {&c->sender, &c->receiver};
    for (int i = 0; i < 2; i++) atomic_store_explicit(&halves[i]->own->life, 0, memory_order_relaxed);
    for (int i = 0; i < 2 && c->barrier; i++) take_part(halves[i]->ring, &halves[i]->own->life);
    atomic_store_explicit(&c->sender.ring->page->attached, 1, memory_order_release);
    wake(&c->sender, true);
    wake(&c->receiver, true);
}

/* Those of both sides. */
static void remove_fifos(const struct segment* a2b) {
    static const char* const halves[4] = {"a.room", "a.message", "b.room", "b.message"};
    for (int i = 0; i < 4; i++) {
        char path[sizeof a2b->path + 32];
        snprintf(path, sizeof path, "%.*s%016llx.%s", (int)strlen(a2b->path) - 3, a2b->path,
            (unsigned long long)a2b->page->fixed.generation, halves[i]);
        unlink(path);
    }
}

/* With the remover's lock on a2b. */
static enum result take_over(struct segment* a2b, const struct options* o) {
    struct segment b2a;
    enum result r = open_segment(&b2a, o, 1);
    if (r != OK && r != NOT_YET) return r;
    atomic_store_explicit(&a2b->page->producer.end, SUPERSEDED, memory_order_release);
    wake_end(&a2b->page->consumer);
    if (r == OK && b2a.page->fixed.generation == a2b->page->fixed.generation) {
        atomic_store_explicit(&b2a.page->consumer.end, SUPERSEDED, memory_order_release);
        wake_end(&b2a.page->producer);
    }
    remove_fifos(a2b);
    if (r == OK) unlink(b2a.path);
    unlink(a2b->path);
    unmap(&b2a);
    return OK;
}

/* Takes away what a dead side A left. NOT_YET: begin again. */
static enum result reclaim(const struct options* o) {
    struct segment a2b;
    enum result r = open_segment(&a2b, o, 0);
    if (r == NOT_YET) return OK;
    if (r != OK) return r;
    if (lock_held(a2b.file, 0) || !take_lock(a2b.file, 1))
        r = IN_USE;
    else
        r = name_stands(&a2b) ? take_over(&a2b, o) : NOT_YET;
    unmap(&a2b);
    return r;
}

static enum result remove_leftover(const struct options* o) {
    struct segment b2a;
    enum result r = open_segment(&b2a, o, 1);
    if (r == NOT_YET) return OK;
    if (r != OK) return r;
    if (!take_lock(b2a.file, 1))
        r = IN_USE;
    else if (name_stands(&b2a))
        unlink(b2a.path);
    unmap(&b2a);
    return r;
}

static enum result make_segment(struct segment* g, const struct options* o, int direction, uint64_t generation) {
    *g = (struct segment){.file = -1};
    set_path(g, o, direction);
    struct shape s = shape_of(o->slot_size[direction], o->slot_count[direction]);
    g->file = open(o->directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (g->file < 0 || fchmod(g->file, 0600) || posix_fallocate(g->file, 0, (off_t)s.file_bytes) ||
        map_header(g) != OK)
        return FAILED;
    write_fixed(&g->page->fixed, o, direction, generation);
    return direction == 1 || take_lock(g->file, 0) ? OK : FAILED;
}

static enum result link_segment(struct segment* g) {
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", g->file);
    if (linkat(AT_FDCWD, self, AT_FDCWD, g->path, AT_SYMLINK_FOLLOW) == 0) return OK;
    return errno == EEXIST ? NOT_YET : FAILED;
}

enum result create_channel(struct channel* c, const struct options* o) {
    uint64_t generation = random_number();
    if (!name_allowed(o->name)) return REFUSED;
    *c = (struct channel){.named = true, .events = {-1, -1}};
    enum result r;
    c->rings[0].file = c->rings[1].file = -1;
    do {
        unmap(&c->rings[0]);
        while ((r = reclaim(o)) == NOT_YET)
            ;
        if (r == OK) r = make_segment(&c->rings[0], o, 0, generation);
        if (r == OK) r = link_segment(&c->rings[0]);
    } while (r == NOT_YET);
    if (r == OK) r = remove_leftover(o);
    if (r == OK) r = make_segment(&c->rings[1], o, 1, generation);
    if (r == OK) r = link_segment(&c->rings[1]);
    if (r == OK) r = map_slots(&c->rings[0], true);
    if (r == OK) r = map_slots(&c->rings[1], false);
    if (r != OK) {
        if (c->rings[0].page && name_stands(&c->rings[0])) unlink(c->rings[0].path);
        let_go(c);
        return r == NOT_YET ? IN_USE : r;
    }
    begin_channel(c, SIDE_A);
    attach(c, o);
    return OK;
}

static bool same_type(const struct payload* mine, const struct payload* theirs) {
    return mine->kind == 0 || (mine->kind == theirs->kind && mine->align == theirs->align &&
                                  mine->size == theirs->size && mine->type_id == theirs->type_id);
}

static bool agree(const struct channel* c, const struct options* o) {
    for (int i = 0; i < 2; i++) {
        const struct fixed* f = &c->rings[i].page->fixed;
        if (!same_type(&o->payload[i], &f->payload)) return false;
        if (o->tag && (f->tag_bytes != strlen(o->tag) || memcmp(f->tag, o->tag, f->tag_bytes))) return false;
    }
    return true;
}

/* The numbered steps of Open, on files whose headers are checked. */
enum result join(struct channel* c, const struct options* o) {
    struct segment *a2b = &c->rings[0], *b2a = &c->rings[1];
    if (!agree(c, o)) return REFUSED;
    for (int i = 0; i < 2; i++)
        if (posix_fallocate(c->rings[i].file, 0, (off_t)c->rings[i].page->fixed.file_bytes)) return FAILED;
    if (atomic_load(&b2a->page->attached)) return lock_held(b2a->file, 0) ? IN_USE : NOT_YET;
    if (!take_lock(b2a->file, 0)) return IN_USE;
    if (atomic_load(&b2a->page->attached)) return NOT_YET;
    if (c->named && (!name_stands(a2b) || !name_stands(b2a))) return NOT_YET;
    if (!lock_held(a2b->file, 0)) return NOT_YET;
    if (atomic_load(&a2b->page->producer.end) && atomic_load(&b2a->page->consumer.end)) return NOT_YET;
    enum result r = map_slots(a2b, false);
    if (r == OK) r = map_slots(b2a, true);
    if (r != OK) return r;
    begin_channel(c, SIDE_B);
    attach(c, o);
    return OK;
}

enum result open_channel(struct channel* c, const struct options* o) {
    if (!name_allowed(o->name)) return REFUSED;
    *c = (struct channel){.named = true, .events = {-1, -1}};
    c->rings[1].file = -1;
    enum result r = open_segment(&c->rings[0], o, 0);
    if (r == OK && (!lock_held(c->rings[0].file, 0) || !name_stands(&c->rings[0]))) r = NOT_YET;
    if (r == OK) r = open_segment(&c->rings[1], o, 1);
    if (r == OK && c->rings[1].page->fixed.generation != c->rings[0].page->fixed.generation) r = NOT_YET;
    if (r == OK) r = join(c, o);
    if (r != OK) let_go(c);
    return r;
}

void let_go(struct channel* c) {
    for (int i = 0; i < 2; i++) {
        if (c->events[i] >= 0) close(c->events[i]);
        unmap(&c->rings[i]);
    }
}

static void close_half(struct half* h) {
    uint32_t at_work = AT_WORK;
    if (atomic_compare_exchange_strong_explicit(
            &h->own->end, &at_work, CLOSED_IN_ORDER, memory_order_release, memory_order_relaxed))
        wake(h, true);
}

void close_channel(struct channel* c) {
    close_half(&c->sender);
    close_half(&c->receiver);
    if (c->named && c->side == SIDE_A) {
        remove_fifos(&c->rings[0]);
        for (int i = 1; i >= 0; i--)
            if (name_stands(&c->rings[i])) unlink(c->rings[i].path);
    }
    drop_lock(c->sender.ring->file, 0);
    leave(c->sender.ring, &c->sender.own->life);
    leave(c->receiver.ring, &c->receiver.own->life);
    let_go(c);
}
