/* "Files", "A segment", "The lock": open a file, check it, map it, lock it. */
#include "peer.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t MAGIC[8] = "CPSHMTR\n";
static uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

uint64_t now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t random_number(void) {
    uint64_t n = 0;
    if (getrandom(&n, sizeof n, 0) != sizeof n) n = now(CLOCK_REALTIME) ^ (uint64_t)getpid() << 32;
    return n;
}

struct shape shape_of(uint32_t slot_size, uint32_t slot_count) {
    struct shape s = {.slot_size = slot_size, .slot_count = slot_count};
    uint64_t stride = 8;
    if (slot_size > 64)
        stride = round_up(slot_size, 64);
    else
        while (stride < slot_size) stride *= 2;
    s.slot_stride = (uint32_t)stride;
    s.slots_offset = round_up(PAGE + 4 * (uint64_t)slot_count, PAGE);
    s.file_bytes = round_up(s.slots_offset + stride * slot_count, PAGE);
    return s;
}

void write_fixed(struct fixed* f, const struct options* o, int direction, uint64_t generation) {
    struct shape s = shape_of(o->slot_size[direction], o->slot_count[direction]);
    memcpy(f->magic, MAGIC, 8);
    f->version = 2;
    f->endian = 0x01020304;
    f->header_bytes = PAGE;
    f->direction = (uint32_t)direction;
    f->generation = generation;
    f->file_bytes = s.file_bytes;
    f->slot_size = s.slot_size;
    f->slot_count = s.slot_count;
    f->slot_stride = s.slot_stride;
    f->creator_pid = (uint32_t)getpid();
    f->lengths_offset = PAGE;
    f->slots_offset = s.slots_offset;
    f->payload = o->payload[direction];
    if (o->tag) {
        f->tag_bytes = (uint32_t)strlen(o->tag);
        memcpy(f->tag, o->tag, f->tag_bytes);
    }
    f->created_at = now(CLOCK_REALTIME);
}

void set_path(struct segment* g, const struct options* o, int direction) {
    snprintf(g->path, sizeof g->path, "%s/%s.fs.%s", o->directory, o->name, direction == 0 ? "a2b" : "b2a");
}

enum result check_fixed(const struct segment* g, int direction) {
    const struct fixed* f = &g->page->fixed;
    if (memcmp(f->magic, MAGIC, 8) || f->endian != 0x01020304 || f->version != 2) return REFUSED;
    if (f->slot_size < 1 || f->slot_count < 1 || (f->slot_count & (f->slot_count - 1))) return REFUSED;
    struct shape s = shape_of(f->slot_size, f->slot_count);
    if (f->slot_stride != s.slot_stride || f->lengths_offset != PAGE || f->slots_offset != s.slots_offset ||
        f->file_bytes != s.file_bytes || s.file_bytes > UINT64_C(1) << 32)
        return REFUSED;
    if (f->header_bytes != PAGE || f->direction != (uint32_t)direction || f->required || f->tag_bytes > 64)
        return REFUSED;
    for (size_t i = 0; i < sizeof f->zeros; i++)
        if (f->zeros[i]) return REFUSED;
    if (f->payload.kind == 1 && f->payload.size != f->slot_size) return REFUSED;
    struct stat st;
    if (fstat(g->file, &st) || (uint64_t)st.st_size != s.file_bytes) return REFUSED;
    return OK;
}

enum result map_header(struct segment* g) {
    struct stat s;
    if (fstat(g->file, &s) || s.st_size < PAGE) return REFUSED;
    void* p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, g->file, 0);
    if (p == MAP_FAILED) return FAILED;
    g->page = p;
    return OK;
}

/* Opens the file of a name and checks it. Maps the first page alone. */
enum result open_segment(struct segment* g, const struct options* o, int direction) {
    struct stat s;
    *g = (struct segment){.file = -1};
    set_path(g, o, direction);
    g->file = open(g->path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (g->file < 0) return errno == ENOENT ? NOT_YET : REFUSED;
    enum result r = fstat(g->file, &s) == 0 && S_ISREG(s.st_mode) && s.st_uid == geteuid() ? OK : REFUSED;
    if (r == OK) r = map_header(g);
    if (r == OK) r = check_fixed(g, direction);
    if (r != OK) unmap(g);
    return r;
}

enum result map_slots(struct segment* g, bool writable) {
    g->shape = shape_of(g->page->fixed.slot_size, g->page->fixed.slot_count);
    void* p =
        mmap(NULL, g->shape.file_bytes - PAGE, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, g->file, PAGE);
    if (p == MAP_FAILED) return FAILED;
    g->lengths = p;
    g->slots = (uint8_t*)p + (g->shape.slots_offset - PAGE);
    return OK;
}

void unmap(struct segment* g) {
    if (g->lengths) munmap(g->lengths, g->shape.file_bytes - PAGE);
    if (g->page) munmap(g->page, PAGE);
    if (g->file >= 0) close(g->file);
    *g = (struct segment){.file = -1};
}

static struct flock lock_of(int type, int byte) {
    return (struct flock){.l_type = (short)type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
}

bool take_lock(int file, int byte) {
    struct flock l = lock_of(F_WRLCK, byte);
    return fcntl(file, F_OFD_SETLK, &l) == 0;
}

void drop_lock(int file, int byte) {
    struct flock l = lock_of(F_UNLCK, byte);
    fcntl(file, F_OFD_SETLK, &l);
}

bool lock_held(int file, int byte) {
    struct flock l = lock_of(F_WRLCK, byte);
    return fcntl(file, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

bool name_stands(const struct segment* g) {
    struct stat here, there;
    return fstat(g->file, &here) == 0 && lstat(g->path, &there) == 0 && here.st_dev == there.st_dev &&
           here.st_ino == there.st_ino;
}
