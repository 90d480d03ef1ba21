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
// Callbacks return: neither an exception, which ends the program, nor a longjmp may leave them.
//
// Threads. One thread at a time may use the sending functions of a transport (cshm_reserve, cshm_commit, cshm_send,
// cshm_batch_..., cshm_send_..., cshm_finish, cshm_shut_down), and another one its receiving functions (cshm_recv,
// cshm_recv_..., cshm_release, cshm_drain, cshm_window_..., cshm_wait_for_peer, cshm_wait_set_insert). Any thread may at any
// time call those that look and ask: cshm_interrupt, cshm_get_stats, cshm_get_peer, cshm_peer_attached, the poll modes and
// the sizes. The rest (cshm_listen, cshm_listen_stop, cshm_reopen, cshm_close, cshm_free) needs the transport for itself; a
// listener whose callback sends is ended first. As long as a thread waits in a half, other calls that need it are CSHM_BUSY.
// A server, a wait set and a tap are for one thread at a time; a list of channels is only read.
//
// Processes. A forked child has no part in what its parent made with this library: there, calls on it are
// CSHM_HANDLE_CLOSED, and what is freed stays the parent's. It may make its own.


#ifndef CAPNPROTO_SHM_TRANSPORT_H
#define CAPNPROTO_SHM_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if UINTPTR_MAX < 0xffffffffffffffff
#error "capnproto_shm_transport needs a 64-bit target"
#endif


// The version of this interface: it grows when something that was there changes or goes. A program
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
    // The server's filter refuses this client.
    CSHM_REFUSED = 31,
    // The answer under the server's name does not come from a server of this version.
    CSHM_OTHER_VERSION = 32,
    // The system does not attest who the peer is. It does for the channels of a server.
    CSHM_PEER_UNKNOWN = 33,
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
    // Misuse: the wait set has something under this key.
    CSHM_KEY_TAKEN = 45,
    // Misuse: the wait set has nothing under this key.
    CSHM_KEY_UNKNOWN = 46,
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

// Whether a side lives.
enum cshm_life
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // The file that tells cannot be read.
    CSHM_LIFE_UNKNOWN = 0,
    // Its process holds its lock. It may be stopped (SIGSTOP).
    CSHM_LIFE_ALIVE = 1,
    // It has not come yet.
    CSHM_LIFE_ABSENT = 2,
    // It closed in order.
    CSHM_LIFE_CLOSED = 3,
    // Its process ended without closing.
    CSHM_LIFE_DEAD = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum cshm_life cshm_life;
#else
typedef int32_t cshm_life;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// The kind of a direction's messages.
enum cshm_message_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Bytes, of any length.
    CSHM_KIND_BYTES = 0,
    // Values of one type; see cshm_config_sends_values().
    CSHM_KIND_VALUES = 1,
    // Cap'n Proto messages; see cshm_config_sends_capnp().
    CSHM_KIND_CAPNP = 2,
    // A kind that this version does not know.
    CSHM_KIND_OTHER = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum cshm_message_kind cshm_message_kind;
#else
typedef int32_t cshm_message_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Channels, as they were when they were looked at.
typedef struct cshm_channels cshm_channels;

// How a channel is made and how this side of it behaves. NULL in its place stands for the defaults: 1024 slots of
// 1024 bytes in each direction, bytes of any length, parked waits, permissions 0600.
typedef struct cshm_config cshm_config;

// Gives each client that connects a channel of its own, of which it is side A. One thread at a time may use a server.
typedef struct cshm_server cshm_server;

// Reads the messages of a channel in passing: it takes no part, writes nothing and holds nothing up. One thread at a time
// may use a tap.
typedef struct cshm_tap cshm_tap;

// One side of a channel.
typedef struct cshm_transport cshm_transport;

// Waits for messages on many channels at once, in one thread. Each is put in under a key of yours. One thread at a time
// may use a set.
typedef struct cshm_wait_set cshm_wait_set;

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

// The process on the other side of a channel, as the system attests it.
typedef struct cshm_peer {
    // The process's number, as this side's pid namespace knows it; 0 if it does not.
    uint32_t pid;
    // The user's number.
    uint32_t uid;
    // The group's number.
    uint32_t gid;
} cshm_peer;

// A reserved slot, or span of slots: the message is built in here, where the peer will read it. It holds
// the bytes that the slot carried before.
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

// Says whether a client may connect. In the thread that accepts.
typedef bool (*cshm_server_filter_callback)(const struct cshm_peer *client, void *context);

// One side of a channel. Later versions may add fields at the end.
typedef struct cshm_side_info {
    // Whether it lives, as the locks of the system tell. The rest is what it says of itself.
    cshm_life life;
    // Its process number, in its own namespace; 0 if unknown.
    uint32_t pid;
    // How it waits: CSHM_SPIN, CSHM_PARK, or nanoseconds between two looks. CSHM_PARK if unknown.
    int64_t poll;
    // Whether it sleeps in the kernel until there is room to send.
    bool awaits_room;
    // Whether it sleeps in the kernel until there is a message.
    bool awaits_message;
} cshm_side_info;

// One ring of a channel. Later versions may add fields at the end.
typedef struct cshm_ring_info {
    // The kind of its messages.
    cshm_message_kind kind;
    // For CSHM_KIND_VALUES the size of a value; else 0.
    uint64_t value_size;
    // For CSHM_KIND_VALUES the alignment of a value; else 0.
    uint64_t value_align;
    // For CSHM_KIND_CAPNP the type id of the root; else 0.
    uint64_t type_id;
    // Length of its file, in bytes.
    uint64_t file_bytes;
    // Sizes and figures.
    struct cshm_ring_stats stats;
} cshm_ring_info;

// A channel as it stands under its name. Later versions may add fields at the end.
typedef struct cshm_channel_info {
    // The channel's name.
    const char *name;
    // Where its files lie.
    const char *directory;
    // The tag of its protocol, empty if it has none; NULL if unknown.
    const char *tag;
    // The number of this life of the channel; 0 if unknown.
    uint64_t generation;
    // When side A created it, in nanoseconds since 1970; 0 if unknown.
    uint64_t created_ns;
    // The side that created the channel.
    const struct cshm_side_info *a;
    // The side that opens it.
    const struct cshm_side_info *b;
    // The ring from side A to side B; NULL if its file is not a whole segment.
    const struct cshm_ring_info *a_to_b;
    // The ring from side B to side A; NULL if its file is not a whole segment.
    const struct cshm_ring_info *b_to_a;
    // Whether side A is gone, so that the name is free: cshm_remove() takes the files away, and so does the next
    // cshm_create().
    bool is_leftover;
    // CSHM_OK, or what cshm_open() would say because this is not a whole channel that this process may join.
    cshm_status problem;
    // The same with the names and values that matter, in English; NULL if there is no problem.
    const char *problem_text;
} cshm_channel_info;

// A message that a tap has read.
typedef struct cshm_tapped {
    // The first byte of a copy, which stays until the next call on the tap.
    const uint8_t *data;
    // Bytes of the message.
    size_t len;
    // The number of its first slot: they are counted from 0 in each direction.
    uint64_t sequence;
    // Messages of this direction that were lost to the tap since the last that it delivered.
    uint64_t missed;
    // Whether side B sent it, to side A; otherwise A sent it to B.
    bool from_b;
} cshm_tapped;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The CSHM_ABI_VERSION of the library that runs.
uint32_t cshm_abi_version(void);

// The library's version, such as "0.1.0".
const char *cshm_version(void);

// The meaning of a status, in English. The text stays for ever. Takes any number.
const char *cshm_strerror(int32_t status);

// The last failure of this thread, with the names and values that matter, in English; "done" if nothing failed.
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

// Side A: makes the channel `name` afresh, and gives a transport to be freed with cshm_free(). The files of a dead side A
// under the name are reclaimed. CSHM_IN_USE if a live side A holds the name.
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

// Asks the server `name` for a channel, and is its side B, waiting for the server and for a place. The slots are the
// server's to choose. CSHM_TIMEOUT if there was no server or no place; CSHM_TAG_MISMATCH, CSHM_TYPE_MISMATCH if the two
// sides do not speak the same; CSHM_REFUSED if the server's filter says no; CSHM_OTHER_VERSION if what answers is not a
// server of this version.
cshm_status cshm_connect(const char *name,
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

// Closes the direction in which this side sends, now: the peer receives what was committed, then CSHM_CLOSED. This side
// goes on to receive. Closing it again is nothing.
cshm_status cshm_shut_down(struct cshm_transport *transport);

// Closes both directions in order. An open reservation is aborted, a batch published, messages released, a listener
// stopped: its callback ends what it has begun to send, and what it begins is CSHM_HANDLE_CLOSED. The peer receives what was committed, then CSHM_CLOSED. Side A also removes the channel's name. The
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

// Closes a transport as cshm_close() does, and frees it once what was open has been ended, by cshm_abort(),
// cshm_batch_publish() or cshm_batch_end(), cshm_release() and cshm_window_close(): for guards that may outlive their transport, as those of C++
// do. Until then these and all other calls by which something open is used are CSHM_HANDLE_CLOSED. NULL is nothing. Refused
// with CSHM_BUSY as cshm_free() is.
cshm_status cshm_free_later(struct cshm_transport *transport);

// The peer's process. CSHM_PEER_UNKNOWN but on the channels of a server (Linux): nobody attests the others.
cshm_status cshm_get_peer(const struct cshm_transport *transport, struct cshm_peer *out);

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

// Reserves the next slot, if an earlier call has seen that it is free: the shortest way, for code that calls
// cshm_reserve() otherwise. `data` is NULL if not, for whatever reason, which is no failure.
struct cshm_write_slot cshm_reserve_at_hand(struct cshm_transport *transport);

// Reserves adjacent slots for one message of up to `bytes` bytes. The rest of the lap is skipped if the message
// does not fit it, so a span of more than half the ring may find no room even in an empty ring, until the receiver
// has looked once.
cshm_status cshm_reserve_span(struct cshm_transport *transport,
                              size_t bytes,
                              int64_t timeout_ns,
                              struct cshm_write_slot *out);

// Reserves room for the next part of something that has `bytes` bytes left and goes out in parts, each a message of its
// own: a stream of bytes, or a message larger than the ring. A part takes adjacent slots, at most a quarter of the ring, and
// skips none. It may hold fewer bytes than were asked for, and holds at least one. CSHM_BUSY in a batch.
cshm_status cshm_reserve_part(struct cshm_transport *transport,
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

// Publishes and ends the batch: at once, or if a reservation is open, when that is committed or aborted. For a guard that may
// go before the reservation does.
cshm_status cshm_batch_end(struct cshm_transport *transport);

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

// A descriptor that becomes readable when a message has come, for event loops: poll, epoll, GLib, Qt, asio, libuv, kj.
// It tells after cshm_recv_arm(). It is the transport's, made by the first call, and closes with it: watch it for reading,
// and neither read nor close it. CSHM_UNSUPPORTED on a system without descriptors.
cshm_status cshm_recv_wait_fd(struct cshm_transport *transport,
                              int *fd);

// The same for sending: it becomes readable when there is room. It tells after cshm_send_arm(), cshm_send_arm_span() or
// cshm_send_arm_part().
cshm_status cshm_send_wait_fd(struct cshm_transport *transport,
                              int *fd);

// Prepares to wait for a message in an event loop. `armed` true: there is none now, and the descriptor becomes readable when
// there is, or when the peer is gone, and now and then for no reason. `armed` false: receive first, and call this again
// when that says CSHM_EMPTY. Once the channel has ended, this says how; after cshm_interrupt() CSHM_INTERRUPTED, once.
cshm_status cshm_recv_arm(struct cshm_transport *transport,
                          bool *armed);

// Prepares to wait for a free slot in an event loop, as cshm_recv_arm() does for a message. `armed` false: a slot is free
// now.
cshm_status cshm_send_arm(struct cshm_transport *transport,
                          bool *armed);

// The same for cshm_reserve_span() of `bytes` bytes. `armed` false also if it can never fit: the reservation says so.
cshm_status cshm_send_arm_span(struct cshm_transport *transport,
                               size_t bytes,
                               bool *armed);

// The same for cshm_reserve_part() with `bytes` bytes left.
cshm_status cshm_send_arm_part(struct cshm_transport *transport, size_t bytes, bool *armed);

// A wait set without anything in it; free it with cshm_wait_set_free(). CSHM_SYSTEM if there is no descriptor for it, or
// the system has none (Windows).
cshm_status cshm_wait_set_new(struct cshm_wait_set **out);

// Frees a wait set. The transports that are in it stay as they are. NULL is nothing.
void cshm_wait_set_free(struct cshm_wait_set *set);

// Puts the receiving half of a transport in. It stays yours: calls that do not wait may come at any time. Do not wait for it
// otherwise meanwhile, and do not put it into another set. After cshm_reopen() take it out and put it in again. CSHM_KEY_TAKEN if the key
// is in use, CSHM_BUSY if the transport is in the set already.
cshm_status cshm_wait_set_insert(struct cshm_wait_set *set,
                                 uint64_t key,
                                 struct cshm_transport *transport);

// Puts a descriptor of something else in: a server's (cshm_server_wait_fd()), a socket, a timer, a pipe by which another
// thread ends the wait. The set keeps a duplicate of it.
cshm_status cshm_wait_set_insert_fd(struct cshm_wait_set *set,
                                    uint64_t key,
                                    int fd);

// Takes out what has this key. CSHM_KEY_UNKNOWN if nothing has.
cshm_status cshm_wait_set_remove(struct cshm_wait_set *set, uint64_t key);

// How many keys the set has; 0 for NULL. The key of a transport that was closed counts until it is removed.
size_t cshm_wait_set_len(struct cshm_wait_set *set);

// Waits until there is something to receive. `keys` gets the keys of those that have something, or whose peer is gone, and
// of descriptors that are readable; `count` how many there are. They stay until the next call on the set. A key comes
// again as long as its transport has messages that were not released, and after its peer's end until it is removed. It
// may come though there is nothing to receive. CSHM_EMPTY and CSHM_TIMEOUT if there is none; CSHM_INVALID_ARGUMENT for a
// wait without end on a set without keys.
cshm_status cshm_wait_set_wait(struct cshm_wait_set *set,
                               int64_t timeout_ns,
                               const uint64_t **keys,
                               size_t *count);

// Takes the name and listens: clients come by cshm_connect(). Free it with cshm_server_free(). The files of a dead server
// under the name are reclaimed; CSHM_IN_USE if a live one holds it. Each client's channel is as the configuration says.
cshm_status cshm_server_bind(const char *name,
                             const struct cshm_config *config,
                             struct cshm_server **out);

// Frees the name, and the server. The channels of its clients stay as they are. NULL is nothing, and so is a server whose
// filter's callback calls this.
void cshm_server_free(struct cshm_server *server);

// The channel of the next client, as soon as a client has joined: a transport to be freed with cshm_free(). CSHM_EMPTY or
// CSHM_TIMEOUT if none has. After any failure the server goes on: one to make a channel refuses that client.
cshm_status cshm_server_accept(struct cshm_server *server,
                               int64_t timeout_ns,
                               struct cshm_transport **out);

// A descriptor that is readable as long as cshm_server_accept() with CSHM_NOW has something to do, for event loops and for
// cshm_wait_set_insert_fd(). It is the server's: neither read nor close it. CSHM_UNSUPPORTED but on Linux.
cshm_status cshm_server_wait_fd(struct cshm_server *server,
                                int *fd);

// How many clients have a channel now, those included that have not joined yet; 0 for NULL.
size_t cshm_server_clients(struct cshm_server *server);

// Clients at once, 1000 by default. Further ones wait, as long as they want. Each takes six descriptors of this process.
cshm_status cshm_server_max_clients(struct cshm_server *server,
                                    size_t clients);

// Bytes of shared memory of all clients together, 4 GiB by default. Further clients wait.
cshm_status cshm_server_max_memory(struct cshm_server *server, uint64_t bytes);

// Clients at once that have connected and have not joined yet, 64 by default; and how long one may take to join, two
// seconds by default.
cshm_status cshm_server_handshakes(struct cshm_server *server,
                                   size_t clients,
                                   int64_t time_ns);

// Says who may connect, by what the system attests of a client (Linux; else CSHM_UNSUPPORTED). The others get
// CSHM_REFUSED. Without it everybody may who can reach the server: the same user, unless the configuration's permissions
// open it to a group. `callback` gets `context` and is called until the server is freed. It must not use the server:
// CSHM_BUSY.
cshm_status cshm_server_filter(struct cshm_server *server,
                               cshm_server_filter_callback callback,
                               void *context);

// Every channel of the directory, in the order of the names, as it is now: a list to be freed with cshm_channels_free().
// A name without a whole channel of this user and version is listed too, with its problem. Of the configuration the directory and
// the permissions count.
cshm_status cshm_channels_list(const struct cshm_config *config,
                               struct cshm_channels **out);

// The channel `name` alone: a list of one, to be freed with cshm_channels_free(). CSHM_TIMEOUT if there is no whole
// channel of that name, CSHM_FOREIGN_SEGMENT if what stands there is not a whole segment of this user and version. A
// channel whose sides are gone is no failure: see `life`.
cshm_status cshm_channels_of(const char *name,
                             const struct cshm_config *config,
                             struct cshm_channels **out);

// Frees a list, and all that it points to. NULL is nothing.
void cshm_channels_free(struct cshm_channels *channels);

// How many channels there are; 0 for NULL.
size_t cshm_channels_len(const struct cshm_channels *channels);

// A channel of the list, which stays until the list is freed; NULL if there are not so many.
const struct cshm_channel_info *cshm_channels_get(const struct cshm_channels *channels, size_t index);

// Opens the channel `name` for looking on; free it with cshm_tap_free(). It begins with what is sent and not released yet.
// The sides may be gone: the messages that they left are read then. Of the configuration the directory and the permissions count.
// CSHM_TIMEOUT if there is no such channel.
cshm_status cshm_tap_open(const char *name,
                          const struct cshm_config *config,
                          struct cshm_tap **out);

// Frees a tap. NULL is nothing.
void cshm_tap_free(struct cshm_tap *tap);

// The next message of either direction, whole, in the order of its direction. A tap that falls behind loses messages, and
// says how many: see `missed`. Nobody wakes a tap: a call that waits looks at intervals of 50 us to 2 ms. The end comes
// when both directions have ended: CSHM_CLOSED, CSHM_PEER_DEAD or CSHM_SUPERSEDED.
cshm_status cshm_tap_next(struct cshm_tap *tap,
                          int64_t timeout_ns,
                          struct cshm_tapped *out);

// Messages that were lost to the tap so far, in both directions, also those after which none was delivered; 0 for NULL.
uint64_t cshm_tap_missed(struct cshm_tap *tap);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CAPNPROTO_SHM_TRANSPORT_H */
