// Cap'n Proto messages in their slots, in one process. `capnp NAME` runs all.

#include "capnproto_shm_transport/capnp.hpp"
#include "check.hpp"
#include "quotes.capnp.h"

#include <kj/exception.h>

#include <cstdio>
#include <random>
#include <string>
#include <thread>

using namespace capnproto_shm_transport;
using namespace std::chrono_literals;

namespace {

constexpr auto LONG = 60s;
std::string name;

using Side = CapnpChannel<Quotes>;

std::pair<Side, Side> both(std::size_t size, std::size_t count) {
    auto a = Side::create(name, Config().slot_size(size).slot_count(count));
    return {std::move(a), Side::open(name, LONG)};
}

void fill(Quotes::Builder quotes, unsigned books, const std::string& venue) {
    quotes.setVenue(venue);
    quotes.setTime(books);
    auto list = quotes.initBooks(books);
    for (unsigned at = 0; at < books; ++at) {
        list[at].setSymbol("S" + std::to_string(at));
        auto bids = list[at].initBids(at % 4);
        for (unsigned level = 0; level < bids.size(); ++level) bids[level].setPrice(at + level / 8.0);
    }
}

bool is_filled(Quotes::Reader quotes, unsigned books, const std::string& venue) {
    bool so = quotes.getVenue() == venue.c_str() && quotes.getTime() == books && quotes.getBooks().size() == books;
    for (unsigned at = 0; so && at < books; ++at) {
        const auto book = quotes.getBooks()[at];
        so = book.getSymbol() == ("S" + std::to_string(at)).c_str() && book.getBids().size() == at % 4 &&
             book.getAsks().size() == 0;
        for (unsigned level = 0; so && level < book.getBids().size(); ++level) {
            so = book.getBids()[level].getPrice() == at + level / 8.0 && book.getBids()[level].getSize() == 0;
        }
    }
    return so;
}

void misuse() {
    auto [a, b] = both(1024, 4);
    auto twice = a.reserve();
    twice.init().setTime(7);
    twice.commit();
    CHECK_STATUS(twice.commit(), CSHM_NOTHING_OPEN);
    auto message = b.recv();
    CHECK(message.get().getTime() == 7);
    auto late = a.reserve();
    late.init();
    a.close();
    CHECK_STATUS(late.commit(), CSHM_HANDLE_CLOSED);
    CHECK_STATUS(a.send(message.get()), CSHM_HANDLE_CLOSED);
}

// A guard whose channel is gone says so.
void outlived() {
    auto [a, b] = both(1024, 4);
    a.send(capnp::MallocMessageBuilder().getRoot<Quotes>());
    std::optional<Side> gone(std::move(a)), other(std::move(b));
    auto begun = gone->reserve();
    fill(begun.init(), 1, "moved");
    auto moved = std::move(*gone);
    CHECK(is_filled(begun.root().asReader(), 1, "moved"));
    auto message = other->recv();
    other.reset();
    moved = Side(nullptr);
    CHECK_STATUS(begun.commit(), CSHM_HANDLE_CLOSED);
}

void in_place() {
    auto [a, b] = both(1024, 4);
    auto message = a.reserve();
    fill(message.init(), 3, "XLON");
    CHECK(is_filled(message.root().asReader(), 3, "XLON"));
    CHECK(!b.try_recv());
    message.commit();
    {
        auto received = b.recv();
        CHECK(is_filled(received.get(), 3, "XLON"));
        CHECK(received.frame_bytes().size() % 8 == 0);
        b.send(received.get());
    }
    CHECK(is_filled(a.recv_copied().get(), 3, "XLON"));
    {
        auto dropped = a.reserve();
        dropped.init().setVenue("never seen");
    }
    CHECK(!b.recv_for(1ms));
    // Nothing set: the default.
    a.reserve().commit();
    CHECK(!b.recv().get().hasVenue());
}

// A field that was not set is empty, whatever the slot held before.
void laps() {
    // Spans of less than half the ring, which find room whenever it is empty.
    auto [a, b] = both(256, 16);
    std::mt19937 random(1);
    for (int round = 0; round < 20'000; ++round) {
        const auto books = static_cast<unsigned>(random() % 12);
        const std::string venue(random() % 100, 'v');
        {
            auto aborted = a.reserve();
            fill(aborted.init(), static_cast<unsigned>(random() % 12), "aborted");
        }
        if (random() % 4 == 0) {
            auto message = a.reserve_with_capacity(random() % 1024);
            fill(message.init(), books, venue);
            message.commit();
        } else {
            auto message = a.reserve();
            fill(message.init(), books, venue);
            message.commit();
        }
        CHECK(is_filled(b.recv().get(), books, venue));
    }
}

void outgrown() {
    auto [a, b] = both(64, 32);
    for (unsigned books : {2u, 5u, 9u}) {
        auto message = a.reserve();
        fill(message.init(), books, "X");
        message.commit();
        CHECK(is_filled(b.recv().get(), books, "X"));
    }
    auto message = a.reserve();
    fill(message.init(), 100, "X");
    CHECK_STATUS(message.commit(), CSHM_TOO_LARGE);
    // It is lost.
    CHECK_STATUS(message.commit(), CSHM_NOTHING_OPEN);
    auto next = a.reserve();
    fill(next.init(), 1, "goes on");
    next.commit();
    CHECK(is_filled(b.recv().get(), 1, "goes on"));
    CHECK_STATUS(Side::create(name + "-8", Config().slot_size(8)), CSHM_INVALID_CONFIG);
}

void malformed() {
    auto a = Transport::create(
        name, Config().sends_capnp(capnp::typeId<Quotes>()).receives_capnp(capnp::typeId<Quotes>()));
    CHECK_STATUS((CapnpChannel<Quotes, Book>::open(name, LONG)), CSHM_TYPE_MISMATCH);
    auto b = Side::open(name, LONG);
    const std::vector<std::vector<std::uint8_t>> frames = {
        {1, 2, 3},                                                        // less than a word
        {0, 0, 0, 0, 9, 0, 0, 0},                                         // words that are not there
        {255, 255, 255, 255, 0, 0, 0, 0},                                 // 2^32 segments
        {0, 0, 0, 0, 1, 0, 0, 0, 252, 255, 255, 127, 255, 255, 255, 255}, // a root far outside
        {0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0},                 // a list for a root
    };
    for (const auto& frame : frames) {
        a.send(frame);
        auto message = b.recv();
        bool found = false;
        try {
            const auto quotes = message.get();
            found = quotes.hasVenue() || quotes.getBooks().size() > 0;
        } catch (const kj::Exception&) {
        }
        CHECK(!found);
    }
    a.send("12345678");
    CHECK(b.recv().frame_bytes().size() == 8);
}

void ends() {
    auto [a, b] = both(256, 4);
    for (unsigned books = 0; books < 3; ++books) {
        auto message = a.reserve();
        fill(message.init(), books, "V");
        message.commit();
    }
    a.close();
    unsigned books = 0;
    for (const auto& message : b.messages()) CHECK(is_filled(message.get(), books++, "V"));
    CHECK(books == 3);
    a = Side::create(name, Config().slot_size(128));
    b.reopen(LONG);
    auto message = b.reserve();
    fill(message.init(), 1, "anew");
    message.commit();
    CHECK(is_filled(a.recv().get(), 1, "anew"));

    auto opened = ExpectedCapnpChannel<Quotes>::open(name + "-no", 1ms);
    CHECK(opened.error() == CSHM_TIMEOUT);
    auto made = ExpectedCapnpChannel<Quotes>::create(name + "-2");
    CHECK(made && made->try_recv().error() == CSHM_EMPTY);
    if (auto builder = made->try_reserve()) {
        builder->init().setTime(1);
        CHECK(builder->commit().has_value());
    }
    CHECK(made->transport().stats()->tx.messages == 1);
}

void served() {
    auto server = Server<Side>::bind(name + "-server", Config().slot_size(512));
    std::thread client([] {
        CHECK_STATUS((CapnpChannel<Book>::connect(name + "-server", LONG)), CSHM_TYPE_MISMATCH);
        auto side = Side::connect(name + "-server", LONG);
        side.send(side.recv().get());
    });
    auto side = server.accept();
    auto set = WaitSet::create();
    set.insert(1, side);
    CHECK(!set.try_wait() && !side.send_arm());
    auto message = side.reserve();
    fill(message.init(), 2, "there");
    message.commit();
    CHECK(set.wait().size() == 1);
    CHECK(is_filled(side.recv().get(), 2, "there"));
    client.join();
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    name = argv[1];
    in_place();
    misuse();
    outlived();
    laps();
    outgrown();
    malformed();
    ends();
    served();
    std::puts("capnp: ok");
}
