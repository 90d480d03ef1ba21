// A message that is sent and received in place allocates nothing: not in C++, not in the library. `allocations NAME`.

#include "capnproto_shm_transport/capnp.hpp"
#include "check.hpp"
#include "quotes.capnp.h"

#include <cstdio>
#include <cstdlib>

using namespace capnproto_shm_transport;

// The C library's own, by which everything in this program allocates.
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* from, std::size_t size);
void* __libc_memalign(std::size_t align, std::size_t size);

static unsigned long allocations = 0;

void* malloc(std::size_t size) { return ++allocations, __libc_malloc(size); }
void* calloc(std::size_t count, std::size_t size) { return ++allocations, __libc_calloc(count, size); }
void* realloc(void* from, std::size_t size) { return ++allocations, __libc_realloc(from, size); }
int posix_memalign(void** to, std::size_t align, std::size_t size) {
    ++allocations;
    *to = __libc_memalign(align, size);
    return 0;
}
void* aligned_alloc(std::size_t align, std::size_t size) { return ++allocations, __libc_memalign(align, size); }
}

namespace {

struct Value {
    std::uint64_t number;
    double price;
};

// The allocations of `step` in a thousand rounds, after a few.
template <class Step>
unsigned long steady(Step step) {
    for (int round = 0; round < 100; ++round) step();
    const unsigned long before = allocations;
    for (int round = 0; round < 1000; ++round) step();
    return allocations - before;
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    using namespace std::chrono_literals;
    const std::string name = argv[1];
    const Config config = Config().slot_count(8);
    std::free(std::malloc(1));
    CHECK(allocations > 0);

    auto a = Transport::create(name, config);
    auto b = Transport::open(name, 60s);
    CHECK(steady([&] {
        auto slot = a.reserve();
        slot[0] = 1;
        slot.commit(64);
        CHECK(b.recv().size() == 64);
        CHECK(!b.try_recv());
        CHECK(a.batch().publish() == 0);
        a.send("x");
        CHECK(b.drain(8, [](Span<const std::uint8_t>) {}) == 1);
    }) == 0);

    auto c = Channel<Value>::create(name + "-values", config);
    auto d = Channel<Value>::open(name + "-values", 60s);
    CHECK(steady([&] {
        auto value = c.reserve();
        value->number = 7;
        value.commit();
        CHECK(d.recv()->number == 7);
    }) == 0);

    auto e = CapnpChannel<Quotes>::create(name + "-capnp", config);
    auto f = CapnpChannel<Quotes>::open(name + "-capnp", 60s);
    CHECK(steady([&] {
        auto message = e.reserve();
        auto quotes = message.init();
        quotes.setVenue("XLON");
        auto books = quotes.initBooks(2);
        books[1].initBids(1)[0].setPrice(1.5);
        message.commit();
        CHECK(f.recv().get().getBooks()[1].getBids()[0].getPrice() == 1.5);
    }) == 0);

    const std::vector<std::uint8_t> slot(1024, 1);
    ShmFixedSlotDuplexTransport g(name + "-slots", 1024, 8, nullptr);
    auto h = ShmFixedSlotDuplexTransport::open(name + "-slots", 60s);
    std::vector<std::uint8_t> out;
    CHECK(steady([&] {
        CHECK(g.sendSlot(slot.data(), slot.size(), -1ms) == 1u);
        CHECK(h.recvSlot(out, -1ms) == 1u);
    }) == 0);
    std::puts("allocations: ok");
}
