/* peer.c without the library: the same arguments, messages and endings, but no server. tests/pairs starts it with the
   others. Its streams are batches. */

#include "peer.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROUNDS = 300, BATCH = 5, MOST_BYTES = 64, PATIENCE_SECONDS = 60 };
static const uint64_t LEVEL_ID = 0x98c2dca98a8ea9fdu;

static void need(enum result found, enum result wanted, const char* what) {
    if (found == wanted) return;
    fprintf(stderr, "layout: %s: result %d, not %d\n", what, found, wanted);
    exit(1);
}

/* Message `number`; says how many bytes it has. */
static uint32_t build(const char* kind, uint32_t number, uint8_t* to) {
    const double price = number * 0.5;
    if (strcmp(kind, "raw") == 0) {
        for (uint32_t at = 0; at < number % 40; at++) to[at] = (uint8_t)(number * 131 + at * 7);
        return number % 40;
    }
    if (strcmp(kind, "values") == 0) {
        const uint64_t wide = number;
        const uint32_t narrow[2] = {number, ~number};
        memcpy(to, &wide, 8);
        memcpy(to + 8, &price, 8);
        memcpy(to + 16, narrow, 8);
        return 24;
    }
    /* A frame: its table (one segment of 3 words), a pointer to a struct of 2 words of data, and these. */
    const uint32_t head[4] = {0, 3, 0, 2}, last[2] = {number, 0};
    memcpy(to, head, 16);
    memcpy(to + 16, &price, 8);
    memcpy(to + 24, last, 8);
    return 32;
}

static enum result put(struct half* h, const char* kind, uint32_t number) {
    uint8_t bytes[MOST_BYTES];
    const uint32_t length = build(kind, number, bytes);
    const uint64_t since = now(CLOCK_MONOTONIC);
    enum result r;
    while ((r = try_put(h, bytes, length)) == WAIT) {
        publish(h);
        wait_turn(h, since);
    }
    return r;
}

static enum result receive(struct half* h, struct message* m) {
    const uint64_t since = now(CLOCK_MONOTONIC);
    enum result r;
    while ((r = try_receive(h, m)) == WAIT) wait_turn(h, since);
    return r;
}

/* Whether the next message is this one; otherwise the channel's end. */
static enum result take(struct half* h, const char* kind, uint32_t number) {
    uint8_t bytes[MOST_BYTES];
    struct message m;
    const enum result r = receive(h, &m);
    if (r != OK) return r;
    if (m.length != build(kind, number, bytes) || memcmp(m.bytes, bytes, m.length) != 0) {
        fprintf(stderr, "layout: message %u is not as it was sent\n", number);
        exit(1);
    }
    release(h);
    return OK;
}

static void set_kind(struct options* o, const char* kind, bool wrong) {
    for (int i = 0; i < 2; i++) {
        o->slot_size[i] = strcmp(kind, "raw") == 0 ? 16 : 64;
        o->slot_count[i] = 8;
        if (strcmp(kind, "values") == 0)
            o->payload[i] = (struct payload){.kind = 1, .align = 8, .size = o->slot_size[i] = 24};
        if (strcmp(kind, "capnp") == 0) o->payload[i] = (struct payload){.kind = 2, .align = 8, .type_id = LEVEL_ID};
    }
    o->tag = wrong && strcmp(kind, "raw") == 0 ? "pairs/2" : "pairs/1";
    if (wrong && o->payload[1].kind == 1) o->payload[1].size += 8;
    if (wrong && o->payload[1].kind == 2) o->payload[1].type_id++;
    /* Each kind waits in its own way: bytes sleep, values look each 50 µs, frames spin. */
    if (strcmp(kind, "values") == 0) o->poll = POLL_INTERVAL + 50000;
    if (strcmp(kind, "capnp") == 0) o->poll = POLL_SPIN;
}

int main(int count, char** words) {
    if (count != 5) return 2;
    const char *role = words[1], *kind = words[2], *ending = words[3], *directory = getenv("CAPNPROTO_SHM_DIR");
    const bool creates = strcmp(role, "create") == 0, wrong = strcmp(ending, "wrong") == 0;
    static struct channel c;
    struct options o = {.slot_size = {0}};
    snprintf(o.name, sizeof o.name, "%s", words[4]);
    snprintf(o.directory, sizeof o.directory, "%s", directory && *directory ? directory : "/dev/shm");
    set_kind(&o, kind, wrong);
    alarm(PATIENCE_SECONDS);

    enum result r = NOT_YET;
    if (creates)
        r = create_channel(&c, &o);
    else
        while ((r = strcmp(role, "connect") == 0 ? connect_to_server(&c, &o) : open_channel(&c, &o)) == NOT_YET)
            usleep(1000);
    need(r, wrong ? REFUSED : OK, role);
    if (wrong) return 0;

    struct half *sender = &c.sender, *receiver = &c.receiver;
    if (strcmp(ending, "waits") == 0) {
        while (getchar() != EOF) continue;
        close_channel(&c);
        return 0;
    }
    if (strcmp(ending, "streams") == 0) {
        for (uint32_t number = 0; (r = put(sender, kind, number)) == OK; number++) {
            if (number % BATCH == BATCH - 1) publish(sender);
        }
        need(r, PEER_DEAD, "the end of those who receive");
        close_channel(&c);
        return 0;
    }
    if (strcmp(ending, "sees-stream") == 0) {
        for (uint32_t number = 0; (r = take(receiver, kind, number)) == OK; number++) {
            if (number == 0) puts("there"), fflush(stdout);
        }
        need(r, PEER_DEAD, "the end of the stream");
        close_channel(&c);
        return 0;
    }
    for (uint32_t number = 0; number < ROUNDS; number++) {
        if (!creates) need(take(receiver, kind, number), OK, "receive");
        need(put(sender, kind, number), OK, "send");
        publish(sender);
        if (creates) need(take(receiver, kind, number), OK, "receive");
    }
    if (strcmp(ending, "dies") == 0) raise(SIGKILL);
    if (strcmp(ending, "sees-death") == 0) need(take(receiver, kind, ROUNDS), PEER_DEAD, "the end");
    if (strcmp(ending, "sees-close") == 0) need(take(receiver, kind, ROUNDS), CLOSED, "the end");
    close_channel(&c);
    return 0;
}
