// Two processes on one machine exchange messages through shared memory, built and read in place.
//
// Generated from crates/capi/src by cbindgen: do not edit. `UPDATE=1 cargo test -p capnproto-shm-transport-c` makes
// it anew.
//
// Side A creates a named channel, side B opens it. Each direction is a ring of fixed-size slots. A message is built
// inside the slot that carries it (cshm_reserve, fill, cshm_commit) and read inside the slot it arrived in
// (cshm_recv, look, cshm_release).
//
// Errors. Functions return CSHM_OK or another cshm_status. On failure outputs are left as they were. cshm_strerror()
// says what a status means, cshm_last_error() what went wrong in this thread last, with the values.
//
// Timeouts are in nanoseconds: CSHM_NOW (0) never waits and says CSHM_FULL or CSHM_EMPTY; a positive time waits at
// most so long and says CSHM_TIMEOUT; CSHM_FOREVER (any negative number) waits without end.
//
// Pointers. NULL where something is needed is CSHM_NULL_ARGUMENT. Any other pointer must be valid: a handle must come
// from this library and not be freed, text must end with a zero byte, outputs must be writable.
//
// Callbacks return: neither an exception nor a longjmp may leave them.
//
// Threads. One thread at a time may use the sending functions of a transport (cshm_reserve, cshm_commit, cshm_send,
// cshm_batch_..., cshm_finish), and another one its receiving functions (cshm_recv, cshm_release, cshm_drain,
// cshm_window_..., cshm_wait_for_peer). Any thread may at any time call those that look and ask: cshm_interrupt,
// cshm_get_stats, cshm_peer_attached, the poll modes and the sizes. The rest (cshm_listen, cshm_listen_stop,
// cshm_reopen, cshm_close, cshm_free) needs the transport for itself.
//
// Processes. A forked child must not use its parent's transport.


#ifndef CAPNPROTO_SHM_TRANSPORT_H
#define CAPNPROTO_SHM_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if UINTPTR_MAX < 0xffffffffffffffff
#error "capnproto_shm_transport needs a 64-bit target"
#endif


// What of this interface a program can rely on: it grows when something that was there changes or goes. A program
// that was compiled against CSHM_ABI_VERSION needs a library that says the same.
#define CSHM_ABI_VERSION 1

// Never wait.
#define CSHM_NOW 0

// Wait without end.
#define CSHM_FOREVER -1

// A poll mode: this, or nanoseconds between two looks, or CSHM_PARK.
#define CSHM_SPIN 0

// Spin for as long as a sleep and a wake cost, then sleep in the kernel until the other side acts.
#define CSHM_PARK -1

// How a call ended.
enum cshm_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Done.
    CSHM_OK = 0,
    // Every slot is in use, and the call does not wait.
    CSHM_FULL = 1,
    // There is no message, and the call does not wait.
    CSHM_EMPTY = 2,
    // The time is over.
    CSHM_TIMEOUT = 3,
    // The time is over, the ring is full, and no other side has ever come.
    CSHM_NO_PEER = 4,
    // cshm_interrupt() ended the wait. Nothing was received.
    CSHM_INTERRUPTED = 5,
    // The peer closed in order, or this side has finished.
    CSHM_CLOSED = 6,
    // The peer died.
    CSHM_PEER_DEAD = 7,
    // The peer died and a new side A took the name.
    CSHM_SUPERSEDED = 8,
    // The peer put something impossible into shared memory. The half that found it stays unusable.
    CSHM_CORRUPT = 9,
    // The message does not fit the slot, the reservation or the ring.
    CSHM_TOO_LARGE = 10,
    // The ring has fewer slots than the window is to hold messages.
    CSHM_WINDOW_TOO_LARGE = 11,
    // A live process is that side of the channel.
    CSHM_IN_USE = 20,
    // There is nothing of that name.
    CSHM_NOT_FOUND = 21,
    // A name, size or option is invalid.
    CSHM_INVALID_CONFIG = 22,
    // A file in the channel's place is not a whole segment of this user and version.
    CSHM_FOREIGN_SEGMENT = 23,
    // The segments do not fit the file system, or a limit of this process.
    CSHM_NO_SPACE = 24,
    // The two sides gave different message tags.
    CSHM_TAG_MISMATCH = 25,
    // The two sides exchange different types.
    CSHM_TYPE_MISMATCH = 26,
    // Only side B reopens.
    CSHM_WRONG_SIDE = 27,
    // An anonymous channel has no name to open again.
    CSHM_NO_NAME = 28,
    // The system gave no thread.
    CSHM_NO_THREAD = 29,
    // The system refused; cshm_last_os_error() has its number.
    CSHM_SYSTEM = 30,
    // Misuse: a pointer is NULL.
    CSHM_NULL_ARGUMENT = 40,
    // Misuse: an argument has a value that is not allowed.
    CSHM_INVALID_ARGUMENT = 41,
    // Misuse: something else is open on this half, such as a reservation, a message, a batch, a window or a
    // listener.
    CSHM_BUSY = 42,
    // Misuse: there is nothing to commit, abort, publish, release or stop.
    CSHM_NOTHING_OPEN = 43,
    // Misuse: the transport was closed.
    CSHM_HANDLE_CLOSED = 44,
    // This system does not have what was asked for.
    CSHM_UNSUPPORTED = 50,
    // A defect of this library; please report it.
    CSHM_PANIC = 99,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum cshm_status cshm_status;
#else
typedef int32_t cshm_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How a channel is made and how this side of it behaves. NULL in its place stands for the defaults: 1024 slots of
// 1024 bytes in each direction, bytes of any length, parked waits, permissions 0600.
typedef struct cshm_config cshm_config;

// One side of a channel.
typedef struct cshm_transport cshm_transport;

// Figures of one ring. Each is true of some recent moment.
typedef struct cshm_ring_stats {
    // Payload bytes of a slot.
    uint64_t slot_size;
    // Slots of the ring.
    uint64_t slot_count;
    // Slots published and not yet released.
    uint64_t used_slots;
    // Messages published.
    uint64_t messages;
    // Payload bytes published.
    uint64_t bytes;
    // Times the sender found the ring full.
    uint64_t full_waits;
    // Times either end went to sleep.
    uint64_t parks;
    // Times either end woke the other.
    uint64_t wakes;
    // Whether either end has closed, died or been superseded, as far as it is known: 1, else 0.
    uint64_t closed;
} cshm_ring_stats;

// Both rings of a channel, as seen from one side.
typedef struct cshm_stats {
    // The ring this side sends into.
    struct cshm_ring_stats tx;
    // The ring this side receives from.
    struct cshm_ring_stats rx;
} cshm_stats;

// A reserved slot, or span of slots: the message is built in here, where the peer will read it. What stands there is
// whatever the slot carried before.
typedef struct cshm_write_slot {
    // The first byte; valid until the reservation is committed or aborted.
    uint8_t *data;
    // Bytes that may be written.
    size_t capacity;
} cshm_write_slot;

// A received message, where it lies.
typedef struct cshm_read_slot {
    // The first byte.
    const uint8_t *data;
    // Bytes of the message.
    size_t len;
} cshm_read_slot;

// Gets one message of cshm_drain(), for the time of the call. Returns 0 to go on, anything else to end after this
// message.
typedef int (*cshm_drain_callback)(const uint8_t *data, size_t len, void *context);

// Gets one message of a listener, for the time of the call, in the listener's thread.
typedef void (*cshm_message_callback)(const uint8_t *data, size_t len, void *context);

// Gets why a listener ended: CSHM_CLOSED, CSHM_PEER_DEAD, CSHM_SUPERSEDED, CSHM_CORRUPT, or CSHM_INTERRUPTED if it
// was stopped. In the listener's thread, after the last message.
typedef void (*cshm_ended_callback)(cshm_status reason, void *context);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The CSHM_ABI_VERSION of the library that runs.
uint32_t cshm_abi_version(void);

// The library's version, such as "0.1.0".
const char *cshm_version(void);

// What a status means, in English. The text stays for ever. Takes any number.
const char *cshm_strerror(int32_t status);

// What went wrong in this thread last, with the names and values that matter, in English; "done" if nothing did.
// The text stays until the next call of this thread that fails.
const char *cshm_last_error(void);

// The system's number (errno) of this thread's last failure, if that was CSHM_SYSTEM; else 0.
int cshm_last_os_error(void);

// A configuration with the defaults; free it with cshm_config_free(). NULL if there is no memory.
struct cshm_config *cshm_config_new(void);

// Frees a configuration. Channels that were made with it stay as they are. NULL is nothing.
void cshm_config_free(struct cshm_config *config);

// Payload bytes of a slot in both directions, at least 1.
cshm_status cshm_config_slot_size(struct cshm_config *config, size_t bytes);

// Slots in both directions, a power of two. All of them are usable.
cshm_status cshm_config_slot_count(struct cshm_config *config, size_t slots);

// The slots in which side A sends to side B.
cshm_status cshm_config_a_to_b(struct cshm_config *config, size_t slot_size, size_t slot_count);

// The slots in which side B sends to side A.
cshm_status cshm_config_b_to_a(struct cshm_config *config, size_t slot_size, size_t slot_count);

// How this side waits at first: CSHM_SPIN, CSHM_PARK, or nanoseconds between two looks.
cshm_status cshm_config_poll(struct cshm_config *config, int64_t mode);

// Names the protocol spoken, in up to 64 bytes of UTF-8. Side A writes it into the channel; a side B that gives
// another one is refused with CSHM_TAG_MISMATCH.
cshm_status cshm_config_message_tag(struct cshm_config *config,
                                    const char *tag);

// The directory in which named channels lie, the same for both sides. Otherwise the environment variable
// CAPNPROTO_SHM_DIR says, or else it is the system's: /dev/shm on Linux.
cshm_status cshm_config_directory(struct cshm_config *config, const char *path);

// Unix mode of the segments, 0600 by default. With bits for the group or others, side B must give the same.
cshm_status cshm_config_permissions(struct cshm_config *config, uint32_t mode);

// Maps every page at once, so that the first lap takes no page fault.
cshm_status cshm_config_prefault(struct cshm_config *config, bool yes);

// Keeps this side's mapping in memory. Creating and opening fail where the limit is too low.
cshm_status cshm_config_lock_memory(struct cshm_config *config, bool yes);

// Asks for transparent huge pages. Creating and opening fail where the system has none.
cshm_status cshm_config_huge_pages(struct cshm_config *config, bool yes);

// Places the memory on one NUMA node. Creating and opening fail where the system cannot.
cshm_status cshm_config_numa_node(struct cshm_config *config, uint32_t node);

// Declares that this side sends values of one type: plain data without padding, `size` bytes each, aligned to
// `align`. A slot is exactly one value, whatever the slot size says. The other side must receive the same: a Rust
// Channel, a C++ Channel, or a side that declares it.
cshm_status cshm_config_sends_values(struct cshm_config *config,
                                     size_t size,
                                     size_t align);

// Declares that this side receives values of one type; see cshm_config_sends_values().
cshm_status cshm_config_receives_values(struct cshm_config *config, size_t size, size_t align);

// Declares that this side sends Cap'n Proto messages whose root has this type id: each is one frame of the standard
// stream framing, unpacked. The other side must receive the same.
cshm_status cshm_config_sends_capnp(struct cshm_config *config,
                                    uint64_t type_id);

// Declares that this side receives Cap'n Proto messages; see cshm_config_sends_capnp().
cshm_status cshm_config_receives_capnp(struct cshm_config *config, uint64_t type_id);

// Side A: makes the channel `name` afresh, and gives a transport to be freed with cshm_free(). What a dead side A
// left under the name is reclaimed. CSHM_IN_USE if a live side A holds the name.
cshm_status cshm_create(const char *name,
                        const struct cshm_config *config,
                        struct cshm_transport **out);

// Side B: joins the channel `name`, waiting for a live side A to have made it. The slots are side A's to choose.
// CSHM_TIMEOUT if there was none to join; CSHM_IN_USE if a live side B is there; CSHM_TAG_MISMATCH,
// CSHM_TYPE_MISMATCH if the two sides do not speak the same.
cshm_status cshm_open(const char *name,
                      int64_t timeout_ns,
                      const struct cshm_config *config,
                      struct cshm_transport **out);

// Side B, after the peer closed, died or was superseded: joins the next generation of the channel. On failure the
// transport is as it was. CSHM_WRONG_SIDE on side A, which creates anew; CSHM_BUSY on a transport that has listened:
// open anew.
cshm_status cshm_reopen(struct cshm_transport *transport,
                        int64_t timeout_ns);

// Makes an anonymous channel over sealed memory (Linux), and is its side A. `fds`, an array of two, gets the
// descriptors for side B: let a child inherit them (they close on exec; clear FD_CLOEXEC for that) or send them over
// a Unix socket, call cshm_from_fds() there, and close them here.
cshm_status cshm_pair(const struct cshm_config *config,
                      struct cshm_transport **out,
                      int *fds);

// Side B of an anonymous channel, from the two descriptors that cshm_pair() gave, in that order. The descriptors are
// the library's from then on, also if it fails: do not close them. They stay yours only if they are refused as
// CSHM_NULL_ARGUMENT or CSHM_INVALID_ARGUMENT.
cshm_status cshm_from_fds(const int *fds,
                          const struct cshm_config *config,
                          struct cshm_transport **out);

// Waits until the other side has come.
cshm_status cshm_wait_for_peer(struct cshm_transport *transport, int64_t timeout_ns);

// Closes the direction in which this side sends, in order, once the peer has released everything that was sent.
// Receiving goes on. CSHM_TIMEOUT if the peer did not receive everything in time: then nothing is closed.
cshm_status cshm_finish(struct cshm_transport *transport,
                        int64_t timeout_ns);

// Closes both directions in order. An open reservation is aborted, a batch published, messages released, a listener
// stopped. The peer receives what was committed, then CSHM_CLOSED. Side A also removes the channel's name. The
// transport stays to be freed; until then every call on it is CSHM_HANDLE_CLOSED.
cshm_status cshm_close(struct cshm_transport *transport);

// Closes a transport, if that was not done, and frees it. The pointer is invalid afterwards. NULL is nothing. From a
// callback of this very transport it is refused, with CSHM_BUSY, and nothing is freed.
cshm_status cshm_free(struct cshm_transport *transport);

// Removes what a dead side A left under `name`. CSHM_NOT_FOUND if there is nothing, CSHM_IN_USE if a live side A
// holds the name. Of the configuration only the directory counts.
cshm_status cshm_remove(const char *name,
                        const struct cshm_config *config);

// Looks at the channel `name` from outside, without taking part: `tx` is the ring from A to B. Of the configuration
// the directory and the permissions count. CSHM_TIMEOUT if there is no such channel.
cshm_status cshm_stats_of(const char *name,
                          const struct cshm_config *config,
                          struct cshm_stats *out);

// Figures of both rings, now.
cshm_status cshm_get_stats(const struct cshm_transport *transport, struct cshm_stats *out);

// Payload bytes of a slot in the direction this side sends; 0 for a transport that is NULL or closed.
size_t cshm_slot_size(const struct cshm_transport *transport);

// Slots in the direction this side sends; 0 for a transport that is NULL or closed.
size_t cshm_slot_count(const struct cshm_transport *transport);

// The largest message this side can send, as a span, in bytes; 0 for a transport that is NULL or closed.
size_t cshm_max_message_size(const struct cshm_transport *transport);

// Whether this is side A, which created the channel; false for a transport that is NULL or closed.
bool cshm_is_side_a(const struct cshm_transport *transport);

// Whether the other side has ever been there. It may have gone since.
bool cshm_peer_attached(const struct cshm_transport *transport);

// Ends a wait of the receiving half: the call that waits for a message now, or else the next one that would, returns
// CSHM_INTERRUPTED, once.
cshm_status cshm_interrupt(const struct cshm_transport *transport);

// How this side waits: CSHM_SPIN, CSHM_PARK, or nanoseconds between two looks. CSHM_PARK for a transport that is
// NULL or closed.
int64_t cshm_local_poll(const struct cshm_transport *transport);

// How the other side waits.
int64_t cshm_remote_poll(const struct cshm_transport *transport);

// Changes how this side waits, now.
cshm_status cshm_set_local_poll(const struct cshm_transport *transport, int64_t mode);

// Changes how the other side waits, now.
cshm_status cshm_set_remote_poll(const struct cshm_transport *transport, int64_t mode);

// Reserves the next slot. In a batch it does not wait, whatever the timeout says.
cshm_status cshm_reserve(struct cshm_transport *transport, int64_t timeout_ns, struct cshm_write_slot *out);

// Reserves adjacent slots for one message of up to `bytes` bytes. What is left of the lap is skipped if the message
// does not fit it, so a span of more than half the ring may find no room even in an empty ring, until the receiver
// has looked once.
cshm_status cshm_reserve_span(struct cshm_transport *transport,
                              size_t bytes,
                              int64_t timeout_ns,
                              struct cshm_write_slot *out);

// Publishes the first `len` bytes of the reservation as one message. CSHM_TOO_LARGE if it has fewer, and
// CSHM_INVALID_ARGUMENT if this side sends values of another size: then the reservation stays open.
cshm_status cshm_commit(struct cshm_transport *transport, size_t len);

// Gives the reservation up: nothing is published.
cshm_status cshm_abort(struct cshm_transport *transport);

// Copies one message into the next slot and publishes it. In a batch it does not wait, whatever the timeout says.
cshm_status cshm_send(struct cshm_transport *transport,
                      const void *data,
                      size_t len,
                      int64_t timeout_ns);

// Begins to gather messages that become visible together. Until cshm_batch_publish() each commit and send is
// gathered, none waits, and CSHM_FULL means: publish, so that the peer can make room.
cshm_status cshm_batch_begin(struct cshm_transport *transport);

// Makes everything gathered visible: one publication, at most one wake. `count`, if it is not NULL, gets the number
// of messages.
cshm_status cshm_batch_publish(struct cshm_transport *transport,
                               size_t *count);

// Borrows the oldest message, in the slot it arrived in, until cshm_release(). It is the shared memory itself,
// mapped read-only: it trusts the peer to leave a committed slot alone. For a peer that is not trusted use
// cshm_recv_copied().
cshm_status cshm_recv(struct cshm_transport *transport,
                      int64_t timeout_ns,
                      struct cshm_read_slot *out);

// Borrows the newest message until cshm_release(). Older ones are released unseen.
cshm_status cshm_recv_latest(struct cshm_transport *transport,
                             int64_t timeout_ns,
                             struct cshm_read_slot *out);

// Gives the borrowed message's slot back to the peer.
cshm_status cshm_release(struct cshm_transport *transport);

// Copies the oldest message into memory of the transport and releases it. The copy stays until the next call of this
// function. This is the form for a peer that is not trusted: the length is read once, the bytes are copied once,
// and nothing that the peer writes afterwards matters.
cshm_status cshm_recv_copied(struct cshm_transport *transport,
                             int64_t timeout_ns,
                             struct cshm_read_slot *out);

// Hands up to `max` messages to `callback`: those that are there now, and perhaps some that come meanwhile. Releases
// them all at once. Never waits. `count`, if it is not NULL, gets how many there were, also 0. The callback may
// send, and may not receive from this transport.
cshm_status cshm_drain(struct cshm_transport *transport,
                       size_t max,
                       cshm_drain_callback callback,
                       void *context,
                       size_t *count);

// Opens a window, if none is open, and receives until it holds `count` messages. Those that came before a failure
// stay. Messages that are held take slots. Other receiving calls are CSHM_BUSY until cshm_window_close().
cshm_status cshm_window_wait_for(struct cshm_transport *transport,
                                 size_t count,
                                 int64_t timeout_ns);

// Messages that the window holds; 0 if none is open.
size_t cshm_window_len(struct cshm_transport *transport);

// A message that the window holds, counted from the oldest, which is 0. It stays until it is released.
cshm_status cshm_window_get(struct cshm_transport *transport, size_t index, struct cshm_read_slot *out);

// Gives the `count` oldest messages of the window back to the peer, all if there are no more.
cshm_status cshm_window_release(struct cshm_transport *transport, size_t count);

// Gives all messages of the window back, and ends it.
cshm_status cshm_window_close(struct cshm_transport *transport);

// Receives in a thread of its own, in bursts of up to 64, until cshm_listen_stop(), cshm_close(), or the end of the
// channel. `callback` gets each message, `ended`, if it is not NULL, why the listener ended; both get `context`. The
// callback may send, if nobody else does. A transport that has listened cannot be reopened.
cshm_status cshm_listen(struct cshm_transport *transport,
                        cshm_message_callback callback,
                        cshm_ended_callback ended,
                        void *context);

// Stops the listener after the burst it is in; the transport receives again. `reason`, if it is not NULL, gets why
// the listener had ended: CSHM_INTERRUPTED if it had not before this call.
cshm_status cshm_listen_stop(struct cshm_transport *transport,
                             cshm_status *reason);

// Whether a listener's thread receives: false once the channel has ended.
bool cshm_is_listening(const struct cshm_transport *transport);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CAPNPROTO_SHM_TRANSPORT_H */
