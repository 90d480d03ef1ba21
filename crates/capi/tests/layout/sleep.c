/* "Sleep and wake", "The barrier", "Poll modes". */
#include "peer.h"
#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

bool register_barrier(void) { return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0; }
bool pass_barrier(void) { return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0; }

static struct timespec in(uint64_t nanoseconds) {
    return (struct timespec){
        .tv_sec = (time_t)(nanoseconds / 1000000000u), .tv_nsec = (long)(nanoseconds % 1000000000u)};
}

static void note_processor(struct half* h) {
    int cpu = sched_getcpu();
    atomic_store_explicit(&h->own->processor, cpu < 0 ? 0 : (uint32_t)cpu + 1, memory_order_relaxed);
}

static enum side other_side(const struct half* h) { return h->channel->side == SIDE_A ? SIDE_B : SIDE_A; }

static bool may_leave_fence_out(struct half* h) {
    uint32_t theirs = atomic_load_explicit(&h->ring->page->capabilities[other_side(h)], memory_order_acquire);
    return h->channel->barrier && (theirs & CAN_BARRIER) &&
           !atomic_load_explicit(&h->own->fenced, memory_order_relaxed);
}

/* Steps 3 to 5 of the actor. `event` is what it sets for a sleeper that has one. */
static bool take_down(struct end* sleeper, int event) {
    if (!atomic_load_explicit(&sleeper->parked, memory_order_relaxed)) return false;
    atomic_store_explicit(&sleeper->woken_at, now(CLOCK_MONOTONIC), memory_order_relaxed);
    switch (atomic_exchange_explicit(&sleeper->parked, 0, memory_order_acq_rel)) {
    case 1:
        syscall(SYS_futex, &sleeper->parked, FUTEX_WAKE, 1, NULL, NULL, 0);
        return true;
    /* A pipe that is full is set. */
    case 2:
        return event >= 0 && (write(event, "", 1) == 1 || errno == EAGAIN);
    default:
        return false;
    }
}

static void add_one(word64* figure) {
    atomic_store_explicit(figure, atomic_load_explicit(figure, memory_order_relaxed) + 1, memory_order_relaxed);
}

/* Wakes the other end of an actor. An act that is no message and no release needs the full fence. */
void wake(struct half* h, bool full_fence) {
    if (!full_fence && may_leave_fence_out(h))
        atomic_signal_fence(memory_order_seq_cst);
    else
        atomic_thread_fence(memory_order_seq_cst);
    if (!atomic_load_explicit(&h->other->parked, memory_order_relaxed)) return;
    note_processor(h);
    if (take_down(h->other, h->channel->events[h->producer ? 1 : 0]))
        add_one(h->producer ? &h->ring->page->producer_wakes : &h->ring->page->consumer_wakes);
}

/* Wakes a side B whose dead side A is superseded. */
void wake_end(struct end* sleeper) {
    atomic_thread_fence(memory_order_seq_cst);
    take_down(sleeper, -1);
}

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
struct waiter {
    uint64_t value, address;
    uint32_t flags, reserved;
};
enum { SIZE_U32 = 2 };

static void sleep_on(struct half* h) {
    uint32_t life = atomic_load_explicit(&h->other->life, memory_order_acquire);
    if (h->channel->barrier && life && !(life & FUTEX_OWNER_DIED_BIT)) {
        struct waiter two[2] = {
            {1, (uintptr_t)&h->own->parked, SIZE_U32, 0}, {life, (uintptr_t)&h->other->life, SIZE_U32, 0}};
        struct timespec until = in(now(CLOCK_MONOTONIC) + 2000000000u);
        if (syscall(SYS_futex_waitv, two, 2, 0, &until, CLOCK_MONOTONIC) >= 0 || errno != ENOSYS) return;
    }
    struct timespec at_most = in(40000000);
    syscall(SYS_futex, &h->own->parked, FUTEX_WAIT, 1, &at_most, NULL, 0);
}

static void park(struct half* h) {
    word64* parks = h->producer ? &h->ring->page->producer_parks : &h->ring->page->consumer_parks;
    note_processor(h);
    atomic_exchange_explicit(&h->own->parked, 1, memory_order_acq_rel);
    atomic_thread_fence(memory_order_seq_cst);
    uint32_t mine = atomic_load_explicit(&h->ring->page->capabilities[h->channel->side], memory_order_relaxed);
    if ((mine & CAN_BARRIER) && !atomic_load_explicit(&h->other->fenced, memory_order_acquire)) pass_barrier();
    if (!has_news(h)) {
        add_one(parks);
        sleep_on(h);
    }
    atomic_exchange_explicit(&h->own->parked, 0, memory_order_acq_rel);
}

/* One turn of a waiting loop. */
void wait_turn(struct half* h, uint64_t since) {
    uint64_t poll = atomic_load_explicit(&h->ring->page->poll[h->channel->side], memory_order_acquire),
             t = now(CLOCK_MONOTONIC);
    if (poll >= POLL_INTERVAL) {
        struct timespec pause = in(poll - POLL_INTERVAL < 20000000 ? poll - POLL_INTERVAL : 20000000);
        nanosleep(&pause, NULL);
    } else if (poll == POLL_SPIN || t - since < 20000) {
        sched_yield();
    } else {
        park(h);
    }
    if (marked(h) || now(CLOCK_MONOTONIC) - h->looked_at > 20000000) {
        h->looked_at = now(CLOCK_MONOTONIC);
        look_after_peer(h);
    }
}
