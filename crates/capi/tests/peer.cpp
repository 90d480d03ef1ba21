// One side of a channel, in C++: see peer.c.

#include "capnproto_shm_transport/capnp.hpp"
#include "quotes.capnp.h"

#include <csignal>
#include <cstdio>
#include <iostream>
#include <stdexcept>
#include <string>

using namespace capnproto_shm_transport;
using namespace std::chrono_literals;

namespace {

constexpr std::uint32_t ROUNDS = 300;
constexpr auto WAIT = 60s;
const std::string TAG = "pairs/1";

struct Value {
    std::uint64_t number;
    double price;
    std::uint32_t size;
    std::uint32_t flags;
};

struct Larger {
    Value value;
    std::uint64_t more;
};

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error(what); }

void need(bool condition, const char* what) {
    if (!condition) fail(what);
}

std::vector<std::uint8_t> bytes(std::uint32_t number) {
    std::vector<std::uint8_t> message(number % 40);
    for (std::size_t at = 0; at < message.size(); ++at)
        message[at] = static_cast<std::uint8_t>(number * 131 + at * 7);
    return message;
}

struct Raw {
    using Channel = Transport;
    static Config config() { return Config().slot_size(16); }
    static void send(Channel& channel, std::uint32_t number) {
        const auto message = bytes(number);
        if (message.size() <= channel.slot_size()) return channel.send(message);
        auto span = channel.reserve_span(message.size());
        std::copy(message.begin(), message.end(), span.data());
        span.commit(message.size());
    }
    static bool is(const ReadSlot& found, std::uint32_t number) {
        const auto message = bytes(number);
        return std::equal(found.begin(), found.end(), message.begin(), message.end());
    }
    static Transport& base(Channel& channel) { return channel; }
    using Wrong = Transport;
    static constexpr const char* WRONG_TAG = "pairs/2";
    static constexpr Status REFUSED = CSHM_TAG_MISMATCH;
};

struct Values {
    using Channel = capnproto_shm_transport::Channel<Value>;
    static Config config() { return Config(); }
    static void send(Channel& channel, std::uint32_t number) {
        auto value = channel.reserve();
        *value = {number, number * 0.5, number, ~number};
        value.commit();
    }
    static bool is(const ReadValue<Value>& found, std::uint32_t number) {
        return found->number == number && found->price == number * 0.5 && found->size == number &&
               found->flags == ~number;
    }
    using Wrong = capnproto_shm_transport::Channel<Larger, Value>;
    static constexpr const char* WRONG_TAG = "pairs/1";
    static constexpr Status REFUSED = CSHM_TYPE_MISMATCH;
};

struct Capnp {
    using Channel = CapnpChannel<Level>;
    static Config config() { return Config().slot_size(64); }
    static void send(Channel& channel, std::uint32_t number) {
        auto message = channel.reserve();
        auto level = message.init();
        level.setPrice(number * 0.5);
        level.setSize(number);
        message.commit();
    }
    static bool is(const CapnpReader<Level>& found, std::uint32_t number) {
        const auto level = found.get();
        return level.getPrice() == number * 0.5 && level.getSize() == number;
    }
    using Wrong = CapnpChannel<Book, Level>;
    static constexpr const char* WRONG_TAG = "pairs/1";
    static constexpr Status REFUSED = CSHM_TYPE_MISMATCH;
};

template <class Channel>
Status end(Channel& channel) {
    try {
        (void)channel.recv();
    } catch (const Error& error) {
        return error.status();
    }
    return CSHM_OK;
}

template <class Channel>
Channel join(const std::string& role, const std::string& name, const Config& config) {
    if (role == "create") return Channel::create(name, config);
    if (role == "open") return Channel::open(name, WAIT, config);
    if (role == "connect") return Channel::connect(name, WAIT, config);
    auto client = Server<Channel>::bind(name, config).accept_for(WAIT);
    need(client.has_value(), "no client came");
    return std::move(*client);
}

template <class Kind>
void play(const std::string& role, const std::string& ending, const std::string& name) {
    const bool creates = role == "create" || role == "serve";
    using Channel = typename Kind::Channel;
    const auto config = Kind::config().slot_count(8).message_tag(TAG);
    if (ending == "wrong") {
        try {
            (void)join<typename Kind::Wrong>(role, name, Kind::config().message_tag(Kind::WRONG_TAG));
        } catch (const Error& error) {
            return need(error.status() == Kind::REFUSED, error.what());
        }
        fail("the wrong type is not refused");
    }
    Channel channel = join<Channel>(role, name, config);
    if (ending == "waits") {
        while (std::cin.get() != std::char_traits<char>::eof()) continue;
        return;
    }
    if (ending == "streams") {
        try {
            for (std::uint32_t number = 0;; ++number) Kind::send(channel, number);
        } catch (const Error& error) {
            return need(error.status() == CSHM_PEER_DEAD, error.what());
        }
    }
    if (ending == "sees-stream") {
        for (std::uint32_t number = 0;; ++number) {
            try {
                auto message = channel.recv();
                need(Kind::is(message, number), "a message of the stream is not as it was sent");
                if (number == 0) std::cout << "there" << std::endl;
            } catch (const Error& error) {
                return need(error.status() == CSHM_PEER_DEAD, error.what());
            }
        }
    }
    for (std::uint32_t number = 0; number < ROUNDS; ++number) {
        if (creates) Kind::send(channel, number);
        {
            auto message = channel.recv_for(WAIT);
            need(message.has_value(), "no message came");
            need(Kind::is(*message, number), "a message is not as it was sent");
        }
        if (!creates) Kind::send(channel, number);
    }
    if (ending == "dies") std::raise(SIGKILL);
    if (ending == "sees-death") need(end(channel) == CSHM_PEER_DEAD, "the other side has not died");
    if (ending == "sees-close") need(end(channel) == CSHM_CLOSED, "the other side has not closed");
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 5) return 2;
    const std::string kind = argv[2];
    try {
        if (kind == "raw") play<Raw>(argv[1], argv[3], argv[4]);
        if (kind == "values") play<Values>(argv[1], argv[3], argv[4]);
        if (kind == "capnp") play<Capnp>(argv[1], argv[3], argv[4]);
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "peer.cpp: %s\n", error.what());
        return 1;
    }
}
