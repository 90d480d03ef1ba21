/* "Anonymous channels" and "Servers": the client of a server. */
#include "peer.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

static int open_again(int file, int flags) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    return open(path, flags | O_CLOEXEC);
}

/* `given`: both segments, then the events of side A. */
static enum result open_anonymous(struct channel* c, const struct options* o, const int given[4]) {
    enum result r = OK;
    *c = (struct channel){
        .events = {open_again(given[2], O_RDWR | O_NONBLOCK), open_again(given[3], O_RDWR | O_NONBLOCK)}};
    c->rings[0].file = c->rings[1].file = -1;
    for (int i = 0; i < 2 && r == OK; i++) {
        struct segment* g = &c->rings[i];
        int seals = fcntl(given[i], F_GET_SEALS);
        if (seals < 0 || (seals & SEALS) != SEALS)
            r = REFUSED;
        else if ((g->file = open_again(given[i], O_RDWR)) < 0)
            r = FAILED;
        if (r == OK) r = map_header(g);
        if (r == OK) r = check_fixed(g, i);
    }
    if (r == OK && c->rings[0].page->fixed.generation != c->rings[1].page->fixed.generation) r = REFUSED;
    if (r == OK) r = join(c, o);
    if (r != OK) let_go(c);
    return r;
}

struct packet {
    uint8_t magic[8];
    uint32_t version, endian;
    struct payload sends, receives;
    uint32_t tag_bytes, verdict;
    uint8_t tag[64];
};
_Static_assert(sizeof(struct packet) == 136, "a packet");
enum { WELCOME, OTHER_TAG, OTHER_TYPES, FILTERED, FULL_HOUSE, NOT_READ, DESCRIPTORS = 6 };
#define ANY_TAG 0xffffffffu

static int dial(const struct options* o) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct stat s;
    struct ucred server;
    socklen_t length = sizeof server;
    if (snprintf(to.sun_path, sizeof to.sun_path, "%s/%s.fs.socket", o->directory, o->name) >=
        (int)sizeof to.sun_path)
        return -1;
    int file = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (file < 0) return -1;
    if (lstat(to.sun_path, &s) == 0 && S_ISSOCK(s.st_mode) && s.st_uid == geteuid() &&
        connect(file, (struct sockaddr*)&to, sizeof to) == 0 &&
        getsockopt(file, SOL_SOCKET, SO_PEERCRED, &server, &length) == 0 && server.uid == s.st_uid)
        return file;
    close(file);
    return -1;
}

/* Receives the answer. Returns how many descriptors lay beside it, or -1. */
static int receive_answer(int socket, struct packet* answer, int files[DESCRIPTORS]) {
    union {
        char bytes[CMSG_SPACE(sizeof(int) * DESCRIPTORS)];
        struct cmsghdr align;
    } beside;
    struct iovec v = {answer, sizeof *answer};
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = beside.bytes, .msg_controllen = sizeof beside.bytes};
    int count = 0;
    ssize_t n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
    struct cmsghdr* h = n < 0 ? NULL : CMSG_FIRSTHDR(&m);
    if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS) {
        count = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(files, CMSG_DATA(h), sizeof(int) * (size_t)count);
    }
    return n == sizeof *answer && !(m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) ? count : -1;
}

static bool is_pipe(int file) {
    char path[64], target[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    ssize_t n = readlink(path, target, sizeof target - 1);
    return n > 6 && memcmp(target, "pipe:[", 6) == 0;
}

enum result connect_to_server(struct channel* c, const struct options* o) {
    struct packet answer, hello = {.magic = "CPSHMSV\n", .version = 1, .endian = 0x01020304, .tag_bytes = ANY_TAG};
    hello.sends = o->payload[1], hello.receives = o->payload[0];
    int files[DESCRIPTORS] = {-1, -1, -1, -1, -1, -1}, socket = dial(o);
    if (socket < 0) return NOT_YET;
    if (o->tag) {
        hello.tag_bytes = (uint32_t)strlen(o->tag);
        memcpy(hello.tag, o->tag, hello.tag_bytes);
    }
    enum result r = FAILED;
    if (send(socket, &hello, sizeof hello, MSG_NOSIGNAL) == sizeof hello) {
        int count = receive_answer(socket, &answer, files);
        if (count >= 0 && memcmp(answer.magic, hello.magic, 8) == 0 && answer.version == 1 &&
            answer.endian == hello.endian) {
            if (answer.verdict == WELCOME)
                r = count == DESCRIPTORS ? OK : REFUSED;
            else
                r = answer.verdict == FULL_HOUSE ? NOT_YET : REFUSED;
        }
    }
    for (int i = 2; i < DESCRIPTORS && r == OK; i++)
        if (!is_pipe(files[i])) r = REFUSED;
    if (r == OK) r = open_anonymous(c, o, files);
    for (int i = 0; i < DESCRIPTORS; i++)
        if (files[i] >= 0) close(files[i]);
    if (r == OK && send(socket, "joined\n", 8, MSG_NOSIGNAL) != 8) r = FAILED;
    close(socket);
    return r;
}
