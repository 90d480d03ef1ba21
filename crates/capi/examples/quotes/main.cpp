// Quotes with nested lists and text, from a venue to a desk and the best book back: Cap'n Proto messages built and
// read in shared memory. Either side may be the Rust example capnp_quotes.
//
//   quotes venue NAME          and in another terminal    quotes desk NAME
//   quotes venue NAME                                     cargo run --example capnp_quotes -- desk NAME
//   cargo run --example capnp_quotes -- venue NAME        quotes desk NAME

#include "capnproto_shm_transport/capnp.hpp"
#include "quotes.capnp.h"

#include <kj/exception.h>

#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

using namespace capnproto_shm_transport;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t ROUNDS = 5;
constexpr auto PATIENCE = 60s;

// Side A: quotes go out, the best book comes back.
void venue(const std::string& name) {
    auto config = Config().slot_size(2048).slot_count(64).message_tag("quotes/1");
    auto channel = CapnpChannel<Quotes, Book>::create(name, config);
    for (std::uint64_t round = 0; round < ROUNDS; ++round) {
        // Built where the desk will read it: nothing is serialized or copied.
        auto message = channel.reserve();
        auto quotes = message.init();
        quotes.setVenue("XLON");
        quotes.setTime(round);
        auto books = quotes.initBooks(3);
        const char* const symbols[] = {"VOD", "BARC", "HSBA"};
        for (unsigned at = 0; at < 3; ++at) {
            auto book = books[at];
            book.setSymbol(symbols[at]);
            const double middle = 100.0 + 50.0 * at + static_cast<double>(round);
            const double spread = 0.25 * static_cast<double>((at + round) % 3 + 1);
            auto bids = book.initBids(4);
            for (unsigned level = 0; level < 4; ++level) {
                bids[level].setPrice(middle - spread * (level + 1));
                bids[level].setSize(100 * (level + 1));
            }
            auto ask = book.initAsks(1)[0];
            ask.setPrice(middle + spread);
            ask.setSize(500);
        }
        message.commit();

        auto answer = channel.recv_for(PATIENCE);
        if (!answer) throw std::runtime_error("the desk does not answer");
        std::printf(
            "venue: the desk takes %s in round %d\n", answer->get().getSymbol().cStr(), static_cast<int>(round));
    }
}

// Side B: looks at each message in the slot it arrived in, and answers with the book of the smallest spread.
void desk(const std::string& name) {
    auto channel = CapnpChannel<Book, Quotes>::open(name, PATIENCE, Config().message_tag("quotes/1"));
    for (const auto& message : channel.messages()) {
        const auto quotes = message.get();
        const auto spread = [](Book::Reader book) {
            return book.getAsks()[0].getPrice() - book.getBids()[0].getPrice();
        };
        auto best = quotes.getBooks()[0];
        for (auto book : quotes.getBooks()) {
            std::printf("desk:  %s %-4s bid %.2f ask %.2f\n", quotes.getVenue().cStr(), book.getSymbol().cStr(),
                book.getBids()[0].getPrice(), book.getAsks()[0].getPrice());
            if (spread(book) < spread(best)) best = book;
        }
        channel.send(best);
    }
}

} // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    if (words.size() != 2 || (words[0] != "venue" && words[0] != "desk")) {
        std::fprintf(stderr, "usage: quotes venue|desk NAME\n");
        return 2;
    }
    try {
        words[0] == "venue" ? venue(words[1]) : desk(words[1]);
        return 0;
    } catch (const kj::Exception& error) {
        std::fprintf(stderr, "quotes: %s\n", error.getDescription().cStr());
    } catch (const std::exception& error) {
        std::fprintf(stderr, "quotes: %s\n", error.what());
    }
    return 1;
}
