// Two processes send each other messages of one slot, by the class ShmFixedSlotDuplexTransport.
//
//   demo                                                   both sides, for 2 seconds
//   demo --a   SECONDS SLOT_SIZE SLOT_COUNT [LOCAL] [REMOTE]    side A, as fast as it goes
//   demo --b   SECONDS                      [LOCAL] [REMOTE]    side B, as fast as it goes
//   demo --a30 SECONDS SLOT_SIZE SLOT_COUNT [LOCAL] [REMOTE]    side A, one message each 30 ms
//   demo --b30 SECONDS                      [LOCAL] [REMOTE]    side B, one message each 30 ms
//
// LOCAL is how this side polls, REMOTE what it asks of the other side: microseconds between two looks, 0 to spin.
// Without LOCAL a side sleeps in the kernel until it is woken.

#include "capnproto_shm_transport.hpp"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using capnproto_shm_transport::ShmFixedSlotDuplexTransport;
using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;

namespace {

constexpr const char* NAME = "capnproto_fixedslot_demo";
constexpr milliseconds PERIOD{30};
constexpr milliseconds FOREVER{-1};

struct Usage : std::invalid_argument {
    using std::invalid_argument::invalid_argument;
};

struct Plan {
    bool is_a = false;
    bool paced = false;
    std::chrono::seconds time{0};
    std::uint64_t slot_size = 0;
    std::uint64_t slot_count = 0;
    std::optional<microseconds> local, remote;
};

std::uint64_t number(const std::string& text) {
    std::size_t used = 0;
    try {
        const auto value = std::stoull(text, &used);
        if (used == text.size() && text[0] != '-') return value;
    } catch (const std::logic_error&) {
    }
    throw Usage("not a number: " + text);
}

Plan parse(const std::vector<std::string>& words) {
    Plan plan;
    plan.is_a = words[0] == "--a" || words[0] == "--a30";
    plan.paced = words[0] == "--a30" || words[0] == "--b30";
    if (!plan.is_a && words[0] != "--b" && words[0] != "--b30") throw Usage("no such mode: " + words[0]);
    std::size_t at = 1;
    const auto next = [&](const char* what) {
        if (at == words.size()) throw Usage(std::string(what) + " is missing");
        return number(words[at++]);
    };
    plan.time = std::chrono::seconds(next("SECONDS"));
    if (plan.time.count() < 1) throw Usage("SECONDS is at least 1");
    if (plan.is_a) {
        plan.slot_size = next("SLOT_SIZE");
        plan.slot_count = next("SLOT_COUNT");
        if (plan.slot_size < sizeof(std::uint64_t))
            throw Usage("SLOT_SIZE is at least 8, for the number of the message");
    }
    if (at < words.size()) plan.local = microseconds(next("LOCAL"));
    if (at < words.size()) plan.remote = microseconds(next("REMOTE"));
    if (at < words.size()) throw Usage("too many words");
    return plan;
}

// Processor seconds that this process has used.
double processor_seconds() {
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    };
    return seconds(used.ru_utime) + seconds(used.ru_stime);
}

ShmFixedSlotDuplexTransport join(const Plan& plan, std::atomic<std::uint64_t>& received) {
    const auto count = [&received](
                           const std::uint8_t*, std::uint64_t) { received.fetch_add(1, std::memory_order_relaxed); };
    if (!plan.is_a) {
        const milliseconds wait{5000};
        if (plan.local) return ShmFixedSlotDuplexTransport::open(NAME, wait, count, *plan.local);
        return ShmFixedSlotDuplexTransport::open(NAME, wait, count);
    }
    if (plan.local) return {NAME, plan.slot_size, plan.slot_count, count, *plan.local};
    return {NAME, plan.slot_size, plan.slot_count, count};
}

void run(const Plan& plan) {
    std::atomic<std::uint64_t> received{0};
    auto transport = join(plan, received);
    if (plan.remote) transport.setRemoteSidePollInterval(*plan.remote);

    std::vector<std::uint8_t> message(transport.slotSize());
    std::uint64_t sent = 0;
    const double used_before = processor_seconds();
    const auto start = Clock::now();
    const auto end = start + plan.time;
    for (auto due = start; Clock::now() < end; due += PERIOD) {
        if (plan.paced) std::this_thread::sleep_until(std::min(due, end));
        std::memcpy(message.data(), &sent, sizeof sent);
        // 0 once the other side is gone.
        if (transport.sendSlot(message.data(), message.size(), FOREVER) == 0) break;
        ++sent;
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    const auto a_second = [&](std::uint64_t count) {
        return static_cast<unsigned long long>(static_cast<double>(count) / seconds);
    };
    std::printf("side %c, %s: sent %llu (%llu/s), received %llu (%llu/s), processor %.0f %%\n", plan.is_a ? 'A' : 'B',
        plan.paced ? "one each 30 ms" : "burst", static_cast<unsigned long long>(sent), a_second(sent),
        static_cast<unsigned long long>(received), a_second(received),
        100 * (processor_seconds() - used_before) / seconds);
}

// Both sides, each in a process of its own.
int both(const char* self) {
    const pid_t child = fork();
    if (child < 0) throw std::runtime_error("no second process");
    if (child == 0) {
        execl(self, self, "--b", "2", static_cast<char*>(nullptr));
        _exit(127);
    }
    run(parse({"--a", "2", "1024", "1024"}));
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

} // namespace

int main(int argc, char** argv) {
    try {
        const std::vector<std::string> words(argv + 1, argv + argc);
        if (words.empty()) return both("/proc/self/exe");
        run(parse(words));
        return 0;
    } catch (const Usage& error) {
        std::fprintf(stderr,
            "demo: %s\nusage: demo [--a|--a30 SECONDS SLOT_SIZE SLOT_COUNT | --b|--b30 SECONDS] [LOCAL] [REMOTE]\n",
            error.what());
        return 2;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "demo: %s\n", error.what());
        return 1;
    }
}
