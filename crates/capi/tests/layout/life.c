/* "Life and death": a life word of this process, the mark and the lock of the other. */
#include "peer.h"
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct robust_list_head list = {{&list.list}, PAGE, NULL};
static pthread_mutex_t links = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t started = PTHREAD_ONCE_INIT;
static _Atomic uint32_t owner;

static void* live(void* unused) {
    (void)unused;
    uint32_t tid = (uint32_t)syscall(SYS_gettid);
    if (syscall(SYS_set_robust_list, &list, sizeof list)) tid = UINT32_MAX;
    atomic_store(&owner, tid);
    for (;;) pause();
    return NULL;
}

static void start(void) {
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread, NULL, live, NULL)) atomic_store(&owner, UINT32_MAX);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    while (!atomic_load(&owner)) usleep(100);
}

static struct robust_list* node_of(struct segment* g, word32* life) {
    return (struct robust_list*)((char*)g->life + ((char*)life - (char*)g->page));
}

/* The node lies in a private page, the word 4096 bytes behind it in the first page mapped once more. */
void take_part(struct segment* g, word32* life) {
    pthread_once(&started, start);
    if (atomic_load(&owner) == UINT32_MAX) return;
    void* two = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (two == MAP_FAILED) return;
    if (mmap((char*)two + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, g->file, 0) == MAP_FAILED) {
        munmap(two, 2 * PAGE);
        return;
    }
    g->life = two;
    struct robust_list* node = node_of(g, life);
    pthread_mutex_lock(&links);
    node->next = list.list.next;
    atomic_signal_fence(memory_order_seq_cst);
    list.list.next = node;
    pthread_mutex_unlock(&links);
    atomic_store_explicit(life, FUTEX_WAITERS_BIT | atomic_load(&owner), memory_order_release);
}

void leave(struct segment* g, word32* life) {
    atomic_store_explicit(life, 0, memory_order_release);
    if (!g->life) return;
    struct robust_list *node = node_of(g, life), *before = &list.list;
    pthread_mutex_lock(&links);
    while (before->next != node) before = before->next;
    before->next = node->next;
    pthread_mutex_unlock(&links);
    munmap(g->life, 2 * PAGE);
    g->life = NULL;
}

/* The peer's ends: of its sender in the ring that this side receives from, of its receiver in the other. */
static struct segment* theirs(struct channel* c) { return c->receiver.ring; }

static bool attached(struct channel* c) {
    return c->side == SIDE_B || atomic_load_explicit(&theirs(c)->page->attached, memory_order_acquire);
}

bool marked(struct half* h) {
    uint32_t life = atomic_load_explicit(&h->other->life, memory_order_acquire);
    return (life & FUTEX_OWNER_DIED_BIT) && life != h->asked;
}

static bool mark_proves(struct half* h) {
    struct channel* c = h->channel;
    enum side peer = c->side == SIDE_A ? SIDE_B : SIDE_A;
    uint32_t life = atomic_load_explicit(&h->other->life, memory_order_acquire);
    if (!(life & FUTEX_OWNER_DIED_BIT) || life == h->asked) return false;
    h->asked = life;
    return atomic_load_explicit(&theirs(c)->page->attached, memory_order_acquire) &&
           (atomic_load_explicit(&h->ring->page->capabilities[peer], memory_order_acquire) & CAN_BARRIER) &&
           pass_barrier();
}

static void set_dead(word32* end) {
    uint32_t at_work = AT_WORK;
    atomic_compare_exchange_strong_explicit(end, &at_work, DIED, memory_order_acq_rel, memory_order_acquire);
}

void look_after_peer(struct half* h) {
    struct channel* c = h->channel;
    if (!attached(c)) return;
    if (!mark_proves(h) && lock_held(theirs(c)->file, 0)) return;
    set_dead(&c->receiver.ring->page->producer.end);
    set_dead(&c->sender.ring->page->consumer.end);
}
