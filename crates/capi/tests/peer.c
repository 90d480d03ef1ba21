/* One side of a channel, in C. The same program as peer.cpp and peer.rs; tests/pairs starts each with each.

   peer create|open|serve|connect raw|values|capnp ENDING NAME

   A server is the creator of the channel that its first client gets. The creator sends ROUNDS messages and gets each back; the opener answers. Then the ENDING says what happens:
     closes      this side closes              sees-close   the other side must have closed
     dies        this side kills itself        sees-death   the other side must have died
     streams     sends numbers until it is killed, or learns of the other side's death
     sees-stream receives them without a gap, says "there" at the first, then learns of the death, unless it is killed
     waits       (creator) keeps the channel until its input ends
     wrong       (opener) is refused, because it expects another type, or for bytes another tag */

#include "capnproto_shm_transport.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 300
#define SLOT_SIZE 16
#define SLOT_COUNT 8
#define WAIT 60000000000
#define TAG "pairs/1"
/* Struct Level of schema/quotes.capnp. */
#define LEVEL_ID 0x98c2dca98a8ea9fdu

typedef struct {
    uint64_t number;
    double price;
    uint32_t size;
    uint32_t flags;
} Value;

static void need(cshm_status status, cshm_status wanted, const char* what) {
    if (status != wanted) {
        fprintf(stderr, "peer.c: %s: %s, not %s (%s)\n", what, cshm_strerror(status), cshm_strerror(wanted),
            cshm_last_error());
        exit(1);
    }
}

/* Message `number`, in up to 64 bytes; says how many. */
static size_t build(const char* kind, uint32_t number, uint8_t* to) {
    if (strcmp(kind, "raw") == 0) {
        const size_t len = number % 40;
        size_t at;
        for (at = 0; at < len; ++at) to[at] = (uint8_t)(number * 131 + at * 7);
        return len;
    }
    if (strcmp(kind, "values") == 0) {
        Value value;
        value.number = number;
        value.price = number * 0.5;
        value.size = number;
        value.flags = ~number;
        memcpy(to, &value, sizeof value);
        return sizeof value;
    }
    {
        /* A frame by hand: its table (one segment of 3 words), a pointer to a struct of 2 words of data, and these. */
        const uint32_t head[4] = {0, 3, 0, 2};
        const double price = number * 0.5;
        memset(to, 0, 32);
        memcpy(to, head, sizeof head);
        memcpy(to + 16, &price, sizeof price);
        memcpy(to + 24, &number, sizeof number);
        return 32;
    }
}

static cshm_status send_number(cshm_transport* t, const char* kind, uint32_t number) {
    uint8_t message[64];
    const size_t len = build(kind, number, message);
    cshm_write_slot slot;
    const cshm_status status =
        len <= cshm_slot_size(t) ? cshm_reserve(t, WAIT, &slot) : cshm_reserve_span(t, len, WAIT, &slot);
    if (status != CSHM_OK) return status;
    memcpy(slot.data, message, len);
    return cshm_commit(t, len);
}

/* Compares with the message that another program builds of the same values. A longer struct is a newer version of it. */
static int is_number(const char* kind, uint32_t number, const cshm_read_slot* found) {
    uint8_t message[64];
    const size_t len = build(kind, number, message);
    return found->len == len && memcmp(found->data, message, len) == 0;
}

static void recv_number(cshm_transport* t, const char* kind, uint32_t number) {
    cshm_read_slot found;
    need(cshm_recv(t, WAIT, &found), CSHM_OK, "recv");
    if (!is_number(kind, number, &found)) {
        fprintf(stderr, "peer.c: message %u is not as it was sent\n", (unsigned)number);
        exit(1);
    }
    need(cshm_release(t), CSHM_OK, "release");
}

int main(int argc, char** argv) {
    const int serves = argc == 5 && strcmp(argv[1], "serve") == 0;
    const int connects = argc == 5 && strcmp(argv[1], "connect") == 0;
    const int creates = serves || (argc == 5 && strcmp(argv[1], "create") == 0);
    const char* kind = argc == 5 ? argv[2] : "";
    const char* ending = argc == 5 ? argv[3] : "";
    const char* name = argc == 5 ? argv[4] : "";
    const int wrong = strcmp(ending, "wrong") == 0;
    cshm_config* config = cshm_config_new();
    cshm_transport* t = NULL;
    uint32_t number;
    if (argc != 5) return 2;

    cshm_config_message_tag(config, wrong && strcmp(kind, "raw") == 0 ? "pairs/2" : TAG);
    cshm_config_slot_size(config, strcmp(kind, "capnp") == 0 ? 64 : SLOT_SIZE);
    cshm_config_slot_count(config, SLOT_COUNT);
    if (strcmp(kind, "values") == 0) {
        cshm_config_sends_values(config, sizeof(Value) + (wrong ? 8 : 0), 8);
        cshm_config_receives_values(config, sizeof(Value), 8);
    } else if (strcmp(kind, "capnp") == 0) {
        cshm_config_sends_capnp(config, LEVEL_ID + wrong);
        cshm_config_receives_capnp(config, LEVEL_ID);
    }

    if (serves) {
        cshm_server* server = NULL;
        need(cshm_server_bind(name, config, &server), CSHM_OK, "bind");
        need(cshm_server_accept(server, WAIT, &t), CSHM_OK, "accept");
        cshm_server_free(server);
    } else if (creates) {
        need(cshm_create(name, config, &t), CSHM_OK, "create");
    } else {
        const cshm_status refused = strcmp(kind, "raw") == 0 ? CSHM_TAG_MISMATCH : CSHM_TYPE_MISMATCH;
        const cshm_status status =
            connects ? cshm_connect(name, WAIT, config, &t) : cshm_open(name, WAIT, config, &t);
        need(status, wrong ? refused : CSHM_OK, argv[1]);
        if (wrong) {
            cshm_config_free(config);
            return 0;
        }
    }
    cshm_config_free(config);

    if (strcmp(ending, "waits") == 0) {
        while (getchar() != EOF) continue;
        need(cshm_free(t), CSHM_OK, "free");
        return 0;
    }
    if (strcmp(ending, "streams") == 0) {
        cshm_status status;
        for (number = 0; (status = send_number(t, kind, number)) == CSHM_OK; ++number) continue;
        need(status, CSHM_PEER_DEAD, "the end of those who receive");
        need(cshm_free(t), CSHM_OK, "free");
        return 0;
    }
    if (strcmp(ending, "sees-stream") == 0) {
        cshm_read_slot found;
        cshm_status status;
        for (number = 0; (status = cshm_recv(t, WAIT, &found)) == CSHM_OK; ++number) {
            if (!is_number(kind, number, &found)) {
                fprintf(stderr, "peer.c: not message %u\n", (unsigned)number);
                return 1;
            }
            if (number == 0) {
                puts("there");
                fflush(stdout);
            }
            need(cshm_release(t), CSHM_OK, "release");
        }
        need(status, CSHM_PEER_DEAD, "the end of the stream");
        need(cshm_free(t), CSHM_OK, "free");
        return 0;
    }
    for (number = 0; number < ROUNDS; ++number) {
        if (creates) need(send_number(t, kind, number), CSHM_OK, "send");
        recv_number(t, kind, number);
        if (!creates) need(send_number(t, kind, number), CSHM_OK, "send");
    }
    if (strcmp(ending, "dies") == 0) {
        raise(SIGKILL);
    } else if (strcmp(ending, "sees-death") == 0) {
        cshm_read_slot found;
        need(cshm_recv(t, WAIT, &found), CSHM_PEER_DEAD, "the end");
    } else if (strcmp(ending, "sees-close") == 0) {
        cshm_read_slot found;
        need(cshm_recv(t, WAIT, &found), CSHM_CLOSED, "the end");
    }
    need(cshm_free(t), CSHM_OK, "free");
    return 0;
}
