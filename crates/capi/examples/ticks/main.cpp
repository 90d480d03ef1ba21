// Market data through Channel: a feed fills ticks in shared memory, a subscriber reads them there. Either side may be
// the Rust example typed_ticks, whose Tick is laid out alike.
//
//   ticks feed NAME        and in another terminal   ticks subscriber NAME
//   ticks feed NAME                                  cargo run --release --example typed_ticks -- subscriber NAME
//   cargo run --release --example typed_ticks -- feed NAME        ticks subscriber NAME

#include "capnproto_shm_transport.hpp"

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

using namespace capnproto_shm_transport;
using namespace std::chrono_literals;

namespace {

// The message: plain data. That it has no padding is checked when it is compiled, its size and alignment when a
// channel is opened.
struct Tick {
    std::uint64_t timestamp_ns;
    double bid;
    double ask;
    std::uint32_t bid_size;
    std::uint32_t ask_size;
    char symbol[8];
};

// Ticks sent as fast as they go, then ticks sent one at a time.
constexpr std::uint32_t BURST = 200'000;
constexpr std::uint32_t SINGLE = 100;
constexpr auto PATIENCE = 60s;

std::uint64_t now_ns() {
    const auto since = std::chrono::system_clock::now().time_since_epoch();
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(since).count());
}

void feed(const std::string& name) {
    // Nothing comes back, but a channel is always duplex: a byte is the smallest answer.
    auto channel = Channel<Tick, std::uint8_t>::create(name, Config().message_tag("ticks/1"));
    if (!channel.transport().wait_for_peer(PATIENCE)) throw std::runtime_error("no subscriber came");
    for (std::uint32_t n = 0; n < BURST + SINGLE; ++n) {
        if (n >= BURST) std::this_thread::sleep_for(5ms);
        // `tick` is the slot itself. A subscriber that died is an exception here, a slow one only makes us wait.
        auto tick = channel.reserve();
        const double price = 100.0 + n % 1000 / 100.0;
        std::memcpy(tick->symbol, "ACME    ", sizeof tick->symbol);
        tick->bid = price - 0.01;
        tick->ask = price + 0.01;
        tick->bid_size = n % 700;
        tick->ask_size = n % 300;
        tick->timestamp_ns = now_ns();
        tick.commit();
    }
    // Dropping our side ends the subscriber's loop, after it has received everything.
}

void subscriber(const std::string& name) {
    // Spinning costs a processor and saves the time to wake up.
    auto config = Config().message_tag("ticks/1").poll(PollMode::spin());
    auto channel = Channel<std::uint8_t, Tick>::open(name, PATIENCE, config);

    std::uint32_t received = 0;
    std::vector<std::uint64_t> latencies;
    Tick last{};
    const auto start = std::chrono::steady_clock::now();
    auto burst = start - start;
    for (const auto& tick : channel.values()) {
        last = *tick;
        if (++received == BURST) {
            burst = std::chrono::steady_clock::now() - start;
        } else if (received > BURST) {
            const auto now = now_ns();
            latencies.push_back(now > last.timestamp_ns ? now - last.timestamp_ns : 0);
        }
    }
    if (received != BURST + SINGLE) throw std::runtime_error("received " + std::to_string(received) + " ticks");

    std::sort(latencies.begin(), latencies.end());
    std::printf("received %u ticks, %.1f million a second in the burst\n", received,
        BURST / std::chrono::duration<double>(burst).count() / 1e6);
    std::printf("latency of a single tick: median %" PRIu64 " ns\n", latencies[latencies.size() / 2]);
    std::printf(
        "last tick: %.4s %.2f x %u / %.2f x %u\n", last.symbol, last.bid, last.bid_size, last.ask, last.ask_size);
}

} // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    if (words.size() != 2 || (words[0] != "feed" && words[0] != "subscriber")) {
        std::fprintf(stderr, "usage: ticks feed|subscriber NAME\n");
        return 2;
    }
    try {
        words[0] == "feed" ? feed(words[1]) : subscriber(words[1]);
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "ticks: %s\n", error.what());
        return 1;
    }
}
