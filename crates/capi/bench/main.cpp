// How far C++ is from Rust, and from the class that this library replaces. Two processes, each pinned to a processor
// of its own, contenders in turns, the median of the rounds. Compare ratios of one run.
//
//   bench RUST-BENCH [ROUNDS [MESSAGES]]
//
// RUST-BENCH is the example `bench` of this crate: `cargo build --release -p capnproto-shm-transport-c --example
// bench`.
//
//   bench echo|sink CONTENDER NAME MESSAGES is one second process; RUST-BENCH has its own.

#include "capnproto_shm_transport/capnp.hpp"
#include "boost_class.hpp"
#include "quotes.capnp.h"

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

using namespace capnproto_shm_transport;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::size_t SIZE = 64;
constexpr std::size_t SLOTS = 1024;
constexpr auto WAIT = 30s;
constexpr std::chrono::milliseconds FOREVER{-1};

void pin(int processor) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    sched_setaffinity(0, sizeof set, &set);
}

Config config(std::size_t size = SIZE) { return Config().slot_size(size).slot_count(SLOTS).poll(PollMode::spin()); }

double since(Clock::time_point start) {
    return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

// Writes and reads a whole message.
void fill(std::uint8_t* to, std::uint64_t number) {
    for (std::size_t at = 0; at < SIZE; at += 8) std::memcpy(to + at, &number, 8);
}
std::uint64_t sum(const std::uint8_t* from) {
    std::uint64_t sum = 0, word;
    for (std::size_t at = 0; at < SIZE; at += 8) {
        std::memcpy(&word, from + at, 8);
        sum += word;
    }
    return sum;
}

void check(std::uint64_t sum, std::uint64_t number) {
    if (sum != number * (SIZE / 8)) throw std::runtime_error("a message is not as it was sent");
}

void send(Transport& to, std::uint64_t number) {
    auto slot = to.reserve();
    fill(slot.data(), number);
    slot.commit(SIZE);
}

// `ping` there and back, nanoseconds a round trip.
double ping(Transport& t, std::uint64_t messages) {
    const auto start = Clock::now();
    for (std::uint64_t number = 0; number < messages; ++number) {
        send(t, number);
        check(sum(t.recv().data()), number);
    }
    return since(start) / static_cast<double>(messages);
}

void echo(Transport& t, std::uint64_t messages) {
    for (std::uint64_t number = 0; number < messages; ++number) {
        const auto message = t.recv();
        check(sum(message.data()), number);
        send(t, number);
    }
}

// One way, nanoseconds a message until the last is received.
double pour(Transport& t, std::uint64_t messages) {
    const auto start = Clock::now();
    for (std::uint64_t number = 0; number < messages; ++number) send(t, number);
    (void)t.recv();
    return since(start) / static_cast<double>(messages);
}

void sink(Transport& t, std::uint64_t messages) {
    for (std::uint64_t number = 0; number < messages; ++number) check(sum(t.recv().data()), number);
    send(t, 0);
}

template <class Class>
double ping_slots(Class& t, std::uint64_t messages) {
    std::vector<std::uint8_t> message(SIZE), answer;
    const auto start = Clock::now();
    for (std::uint64_t number = 0; number < messages; ++number) {
        fill(message.data(), number);
        if (t.sendSlot(message.data(), SIZE, FOREVER) == 0 || t.recvSlot(answer, FOREVER) == 0)
            throw std::runtime_error("closed");
        check(sum(answer.data()), number);
    }
    return since(start) / static_cast<double>(messages);
}

template <class Class>
void echo_slots(Class& t, std::uint64_t messages) {
    std::vector<std::uint8_t> message;
    for (std::uint64_t number = 0; number < messages; ++number) {
        if (t.recvSlot(message, FOREVER) == 0) throw std::runtime_error("closed");
        check(sum(message.data()), number);
        t.sendSlot(message.data(), SIZE, FOREVER);
    }
}

// Request and reply: a level there, its book back.
void ask(Level::Builder level, std::uint64_t number) {
    level.setPrice(static_cast<double>(number));
    level.setSize(static_cast<std::uint32_t>(number));
}
void answer(Book::Builder book, Level::Reader level) {
    book.setSymbol("ACME");
    auto bids = book.initBids(8);
    for (unsigned at = 0; at < 8; ++at) {
        bids[at].setPrice(level.getPrice() - at);
        bids[at].setSize(level.getSize());
    }
}
void look(Book::Reader book, std::uint64_t number) {
    double price = 0;
    for (auto bid : book.getBids()) price += bid.getPrice() + bid.getSize();
    if (book.getSymbol().size() != 4 || price != 16 * static_cast<double>(number) - 28)
        throw std::runtime_error("not the answer");
}

double ping_capnp(const std::string& name, std::uint64_t messages) {
    auto t = CapnpChannel<Level, Book>::create(name, config(512));
    if (!t.wait_for_peer(WAIT)) throw std::runtime_error("nobody came");
    const auto start = Clock::now();
    for (std::uint64_t number = 0; number < messages; ++number) {
        auto request = t.reserve();
        ask(request.init(), number);
        request.commit();
        look(t.recv().get(), number);
    }
    return since(start) / static_cast<double>(messages);
}

void echo_capnp(const std::string& name, std::uint64_t messages) {
    auto t = CapnpChannel<Book, Level>::open(name, WAIT, config());
    for (std::uint64_t number = 0; number < messages; ++number) {
        const auto request = t.recv();
        auto reply = t.reserve();
        answer(reply.init(), request.get());
        reply.commit();
    }
}

// The same messages built and read in one process, in memory that is used again.
double solo_capnp(std::uint64_t messages) {
    std::vector<capnp::word> words(128);
    std::uint64_t sink = 0;
    const auto start = Clock::now();
    for (std::uint64_t number = 0; number < messages; ++number) {
        // MallocMessageBuilder clears what it used when it ends.
        capnp::MallocMessageBuilder request(kj::arrayPtr(words.data(), 32));
        ask(request.initRoot<Level>(), number);
        capnp::SegmentArrayMessageReader asked(request.getSegmentsForOutput());
        capnp::MallocMessageBuilder reply(kj::arrayPtr(words.data() + 64, 64));
        answer(reply.initRoot<Book>(), asked.getRoot<Level>());
        capnp::SegmentArrayMessageReader answered(reply.getSegmentsForOutput());
        look(answered.getRoot<Book>(), number);
        sink += number;
    }
    if (sink == 1) std::puts("");
    return since(start) / static_cast<double>(messages);
}

std::string self;

pid_t start(const std::vector<std::string>& words) {
    std::vector<char*> argv;
    for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    const pid_t child = fork();
    if (child == 0) {
        execv(argv[0], argv.data());
        _exit(127);
    }
    return child;
}

void finish(pid_t child) {
    int status = 0;
    if (waitpid(child, &status, 0) != child || status != 0) throw std::runtime_error("the second process failed");
}

// What a program prints: one number.
double measured(const std::vector<std::string>& words) {
    std::string line;
    for (const auto& word : words) line += "'" + word + "' ";
    FILE* pipe = popen(line.c_str(), "r");
    double nanoseconds = 0;
    const bool read = pipe != nullptr && std::fscanf(pipe, "%lf", &nanoseconds) == 1;
    if (pipe == nullptr || pclose(pipe) != 0 || !read) throw std::runtime_error("failed: " + line);
    return nanoseconds;
}

int second(const std::vector<std::string>& words) {
    pin(1);
    const std::string &job = words[0], &contender = words[1], &name = words[2];
    const std::uint64_t messages = std::stoull(words[3]);
    if (contender == "capnp") {
        echo_capnp(name, messages);
    } else if (contender == "slots") {
        auto t = ShmFixedSlotDuplexTransport::open(name, WAIT, nullptr, 0us);
        echo_slots(t, messages);
    } else if (contender == "boost") {
        auto t = BoostClass::open(name, WAIT);
        echo_slots(t, messages);
    } else {
        auto t = Transport::open(name, WAIT, config());
        job == "echo" ? echo(t, messages) : sink(t, messages);
    }
    return 0;
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

} // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    try {
        if (words.size() == 4) return second(words);
        if (words.empty()) throw std::runtime_error("usage: bench RUST-BENCH [ROUNDS [MESSAGES]]");
        pin(0);
        self = "/proc/self/exe";
        const std::string rust = words[0];
        const int rounds = words.size() > 1 ? std::stoi(words[1]) : 7;
        const std::uint64_t messages = words.size() > 2 ? std::stoull(words[2]) : 1'000'000;
        const std::string count = std::to_string(messages);
        std::map<std::string, std::vector<double>> found;
        int number = 0;
        for (int round = 0; round < rounds; ++round) {
            const auto name = [&] { return "bench-" + std::to_string(getpid()) + "-" + std::to_string(number++); };
            const auto cpp = [&](const std::string& job) {
                const auto at = name();
                auto t = Transport::create(at, config());
                const pid_t child = start({self, job == "ping" ? "echo" : "sink", "raw", at, count});
                if (!t.wait_for_peer(WAIT)) throw std::runtime_error("nobody came");
                found["C++ " + job].push_back(job == "ping" ? ping(t, messages) : pour(t, messages));
                finish(child);
            };
            for (const char* job : {"ping", "pour"}) {
                found[std::string("Rust ") + job].push_back(measured({rust, job, name(), count}));
                cpp(job);
            }
            {
                const auto at = name();
                ShmFixedSlotDuplexTransport t(at, SIZE, SLOTS, nullptr, 0us);
                const pid_t child = start({self, "echo", "slots", at, count});
                found["slots ping"].push_back(ping_slots(t, messages));
                finish(child);
            }
            {
                const auto at = name();
                auto t = BoostClass::create(at, SIZE, SLOTS);
                const pid_t child = start({self, "echo", "boost", at, count});
                found["boost ping"].push_back(ping_slots(t, messages));
                finish(child);
            }
            {
                const auto at = name();
                const pid_t child = start({self, "echo", "capnp", at, count});
                found["capnp ping"].push_back(ping_capnp(at, messages));
                finish(child);
                found["capnp solo"].push_back(solo_capnp(messages));
            }
        }
        const auto of = [&](const char* what) { return median(found[what]); };
        std::printf("%-62s %9s %9s %7s %7s\n", "", "this", "that", "ratio", "bound");
        const auto row = [&](const char* what, const char* mine, const char* that, bool rate, const char* bound) {
            const double ratio = rate ? of(that) / of(mine) : of(mine) / of(that);
            std::printf("%-62s %6.0f ns %6.0f ns %7.2f %7s\n", what, of(mine), of(that), ratio, bound);
        };
        row("round trip 64 B in place, C++ to Rust", "C++ ping", "Rust ping", false, "<= 1.15");
        row("one way 64 B, C++ to Rust (ratio of the rates)", "C++ pour", "Rust pour", true, ">= 0.70");
        row("sendSlot and recvSlot round trip, to the Boost.Interprocess class", "slots ping", "boost ping", false,
            "<= 0.60");
        row("Cap'n Proto request and reply, two processes to one", "capnp ping", "capnp solo", false, "<= 1.15");
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "bench: %s\n", error.what());
        return 1;
    }
}
