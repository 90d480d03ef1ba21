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
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
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

// Books of the messages of about 1, 12 and 100 KB, as the Rust benchmark has them.
struct Size {
    const char* name;
    unsigned books;
    // Of the messages of the other rows, one in so many.
    unsigned share;
};
constexpr Size SIZES[] = {{"1 KB", 2, 5}, {"12 KB", 23, 50}, {"100 KB", 193, 500}};
constexpr unsigned LEVELS = 16;
constexpr std::size_t PLACES = 64;

void build(Quotes::Builder quotes, std::uint64_t number, unsigned count) {
    quotes.setVenue("XLON");
    quotes.setTime(number);
    auto books = quotes.initBooks(count);
    for (unsigned at = 0; at < count; ++at) {
        auto book = books[at];
        book.setSymbol("ACME");
        for (auto side : {book.initBids(LEVELS), book.initAsks(LEVELS)}) {
            for (unsigned level = 0; level < LEVELS; ++level) {
                side[level].setPrice(static_cast<double>(number + level));
                side[level].setSize(static_cast<std::uint32_t>(number));
            }
        }
    }
}

void look(Quotes::Reader quotes, std::uint64_t number, unsigned count) {
    double price = 0;
    std::uint64_t size = 0;
    for (auto book : quotes.getBooks()) {
        if (book.getSymbol().size() != 4) throw std::runtime_error("not the message");
        for (auto side : {book.getBids(), book.getAsks()}) {
            for (auto level : side) {
                price += level.getPrice();
                size += level.getSize();
            }
        }
    }
    const auto levels = 2.0 * count * LEVELS;
    if (quotes.getTime() != number ||
        size != static_cast<std::uint64_t>(levels) * static_cast<std::uint32_t>(number) ||
        price != levels * (static_cast<double>(number) + (LEVELS - 1) / 2.0))
        throw std::runtime_error("not the message");
}

// Bytes of such a message's frame.
std::size_t frame(unsigned count) {
    capnp::MallocMessageBuilder message(1 << 16);
    build(message.initRoot<Quotes>(), 1, count);
    return capnp::computeSerializedSizeInWords(message) * 8;
}

void say(CapnpChannel<Quotes>& to, std::uint64_t number, unsigned count) {
    auto message = to.reserve();
    build(message.init(), number, count);
    message.commit();
}

double ping_capnp(const std::string& name, std::uint64_t messages, unsigned count) {
    auto t = CapnpChannel<Quotes>::create(name, config(frame(count)).slot_count(PLACES));
    if (!t.wait_for_peer(WAIT)) throw std::runtime_error("nobody came");
    const auto start = Clock::now();
    for (std::uint64_t number = 0; number < messages; ++number) {
        say(t, number, count);
        look(t.recv().get(), number, count);
    }
    return since(start) / static_cast<double>(messages);
}

void echo_capnp(const std::string& name, std::uint64_t messages, unsigned count) {
    auto t = CapnpChannel<Quotes>::open(name, WAIT, config());
    for (std::uint64_t number = 0; number < messages; ++number) {
        look(t.recv().get(), number, count);
        say(t, number, count);
    }
}

// One direction in plain memory: as many places as the ring has slots, and a line that says where the last message
// lies.
class Lane {
public:
    explicit Lane(unsigned count) : words_((frame(count) / 8 + 15) / 8 * 8), memory_(PLACES * words_) {}

    void send(std::uint64_t number, unsigned count) {
        const auto place = number % PLACES;
        // MallocMessageBuilder clears what it used when it ends.
        auto& built = built_[place].emplace(kj::arrayPtr(memory_.data() + place * words_, words_));
        build(built.initRoot<Quotes>(), number, count);
        segment_ = built.getSegmentsForOutput()[0];
        turn_.store(number + 1, std::memory_order_release);
    }
    void recv(std::uint64_t number, unsigned count) {
        while (turn_.load(std::memory_order_acquire) != number + 1) continue;
        const kj::ArrayPtr<const capnp::word> segments[] = {segment_};
        capnp::SegmentArrayMessageReader reader(kj::arrayPtr(segments, 1));
        look(reader.getRoot<Quotes>(), number, count);
    }

private:
    std::size_t words_;
    std::vector<capnp::word> memory_;
    std::optional<capnp::MallocMessageBuilder> built_[PLACES];
    alignas(128) std::atomic<std::uint64_t> turn_{0};
    kj::ArrayPtr<const capnp::word> segment_;
};

// The same messages between two threads, in plain memory: what it takes to have them on two processors.
double threads_capnp(std::uint64_t messages, unsigned count) {
    Lane there(count), back(count);
    std::thread other([&] {
        pin(1);
        for (std::uint64_t number = 0; number < messages; ++number) {
            there.recv(number, count);
            back.send(number, count);
        }
    });
    const auto start = Clock::now();
    for (std::uint64_t number = 0; number < messages; ++number) {
        there.send(number, count);
        back.recv(number, count);
    }
    const double found = since(start) / static_cast<double>(messages);
    other.join();
    return found;
}

// The same messages built and read by one thread, in memory that is used again.
double solo_capnp(std::uint64_t messages, unsigned count) {
    Lane there(count), back(count);
    const auto start = Clock::now();
    for (std::uint64_t number = 0; number < messages; ++number) {
        there.send(number, count);
        there.recv(number, count);
        back.send(number, count);
        back.recv(number, count);
    }
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

// The number that a program prints.
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
    if (contender.rfind("capnp-", 0) == 0) {
        echo_capnp(name, messages, static_cast<unsigned>(std::stoul(contender.substr(6))));
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
        // A side that sleeps for a millisecond takes long.
        const std::string count = std::to_string(messages), few = std::to_string(messages / 20);
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
                const pid_t child = start({self, "echo", "slots", at, few});
                found["slots ping"].push_back(ping_slots(t, messages / 20));
                finish(child);
            }
            {
                const auto at = name();
                auto t = BoostClass::create(at, SIZE, SLOTS);
                const pid_t child = start({self, "echo", "boost", at, few});
                found["boost ping"].push_back(ping_slots(t, messages / 20));
                finish(child);
            }
            for (const auto& size : SIZES) {
                const auto at = name();
                const std::string books = std::to_string(size.books);
                const std::uint64_t fewer = std::max<std::uint64_t>(messages / size.share, 100);
                const pid_t child = start({self, "echo", "capnp-" + books, at, std::to_string(fewer)});
                found["capnp ping " + books].push_back(ping_capnp(at, fewer, size.books));
                finish(child);
                found["capnp threads " + books].push_back(threads_capnp(fewer, size.books));
                found["capnp solo " + books].push_back(solo_capnp(fewer, size.books));
            }
        }
        const auto of = [&](const std::string& what) { return median(found[what]); };
        std::printf("%-62s %9s %9s %7s %7s\n", "", "this", "that", "ratio", "bound");
        const auto row = [&](const std::string& what, const std::string& mine, const std::string& that, bool rate,
                             const char* bound) {
            const double ratio = rate ? of(that) / of(mine) : of(mine) / of(that);
            std::printf("%-62s %6.0f ns %6.0f ns %7.2f %7s\n", what.c_str(), of(mine), of(that), ratio, bound);
        };
        row("round trip 64 B in place, C++ to Rust", "C++ ping", "Rust ping", false, "<= 1.15");
        row("one way 64 B, C++ to Rust (ratio of the rates)", "C++ pour", "Rust pour", true, ">= 0.70");
        row("sendSlot and recvSlot round trip, to the Boost.Interprocess class", "slots ping", "boost ping", false,
            "<= 0.60");
        for (const auto& size : SIZES) {
            const std::string books = std::to_string(size.books),
                              what = std::string("Cap'n Proto request and reply, ") + size.name;
            row(what + ", to one thread", "capnp ping " + books, "capnp solo " + books, false, "<= 1.15");
            row(what + ", to two threads", "capnp ping " + books, "capnp threads " + books, false, "<= 1.15");
        }
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "bench: %s\n", error.what());
        return 1;
    }
}
