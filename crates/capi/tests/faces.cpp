// Each face of the C++ interface, in one process. `faces NAME` runs all.

#include "capnproto_shm_transport.hpp"
#include "check.hpp"

#include <atomic>
#include <cstdio>
#include <poll.h>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace capnproto_shm_transport;
using namespace std::chrono_literals;

namespace {

constexpr auto LONG = 60s;

std::string name;

struct Order {
    std::uint64_t id;
    double price;
    std::uint32_t amount;
    float weight;
};

struct Padded {
    std::uint8_t kind;
    std::uint32_t value;
};

struct PaddedDouble {
    double price;
    std::uint8_t side;
};

struct Nested {
    Order order;
    std::array<float, 4> rest;
};

static_assert(detail::without_padding<std::uint64_t>());
static_assert(detail::without_padding<double>());
static_assert(detail::without_padding<Order>());
static_assert(detail::without_padding<Nested>());
static_assert(!detail::without_padding<Padded>());
static_assert(!detail::without_padding<PaddedDouble>());

static_assert(!std::is_copy_constructible_v<Transport> && std::is_nothrow_move_constructible_v<Transport>);
static_assert(std::is_nothrow_move_assignable_v<Transport> && std::is_nothrow_destructible_v<Transport>);
static_assert(std::is_nothrow_move_constructible_v<ShmFixedSlotDuplexTransport>);
static_assert(std::is_nothrow_destructible_v<ShmFixedSlotDuplexTransport>);

std::pair<Transport, Transport> both(const Config& config = Config()) {
    auto a = Transport::create(name, config);
    return {std::move(a), Transport::open(name, LONG)};
}

void slots() {
    auto [a, b] = both(Config().slot_size(8).slot_count(4));
    auto slot = a.reserve();
    std::memcpy(slot.data(), "hello", 5);
    CHECK(!b.try_recv());
    slot.commit(5);
    CHECK(b.recv().text() == "hello");

    { auto dropped = a.reserve(); }
    CHECK(!b.try_recv());
    CHECK(a.slot_size() == 8 && a.slot_count() == 4 && a.max_message_size() == 32 && a.is_side_a() && !b.is_side_a());

    auto again = a.reserve_for(1s);
    CHECK(again && again->capacity() == 8);
    CHECK_STATUS(again->commit(9), CSHM_TOO_LARGE);
    CHECK_STATUS(a.reserve(), CSHM_BUSY);
    again->commit(8);
    auto message = b.recv_for(1s);
    CHECK(message && message->size() == 8);
    auto moved = std::move(*message);
    message.reset();
    CHECK(b.stats().rx.used_slots == 1);
    moved.release();
    CHECK(b.stats().rx.used_slots == 0);

    a.send("one");
    a.send("two");
    CHECK(b.recv_latest().text() == "two");
    std::vector<std::uint8_t> copy;
    a.send("copy");
    b.recv_copied(copy);
    CHECK(std::string(copy.begin(), copy.end()) == "copy");
    CHECK(!b.try_recv_copied(copy) && copy.size() == 4);

    const std::vector<std::uint8_t> bytes(20, 7);
    CHECK_STATUS(a.send(bytes), CSHM_TOO_LARGE);
    auto span = a.reserve_span(bytes.size());
    std::memcpy(span.data(), bytes.data(), bytes.size());
    span.commit(bytes.size());
    CHECK(b.recv().size() == 20);
}

void bursts() {
    auto [a, b] = both(Config().slot_size(8).slot_count(4));
    {
        auto batch = a.batch();
        CHECK(batch.try_send(std::vector<std::uint8_t>{1}));
        auto slot = batch.try_reserve();
        CHECK(slot.has_value());
        (*slot)[0] = 2;
        slot->commit(1);
        CHECK(!b.try_recv());
        CHECK(batch.publish() == 2);
    }
    int sum = 0;
    CHECK(b.drain(10, [&](Span<const std::uint8_t> message) { sum += message[0]; }) == 2);
    CHECK(sum == 3);
    a.send("a");
    a.send("b");
    CHECK(b.drain(10, [](Span<const std::uint8_t>) { return false; }) == 1);
    try {
        b.drain(10, [](Span<const std::uint8_t>) { throw std::logic_error("mine"); });
        CHECK(false);
    } catch (const std::logic_error&) {
    }
    CHECK(!b.try_recv());

    for (const char* text : {"x", "y", "z"}) a.send(text);
    {
        auto window = b.window();
        window.wait_for(3);
        CHECK(window.size() == 3 && window[1][0] == 'y');
        window.release(1);
        CHECK(window.size() == 2 && window[0][0] == 'y' && window[9].size() == 0);
        CHECK_STATUS(b.recv(), CSHM_BUSY);
        CHECK(!window.try_wait_for(3));
        CHECK(!window.wait_for(3, 1ms));
    }
    CHECK(!b.try_recv());
}

void ends() {
    {
        auto [a, b] = both();
        a.send("last");
        CHECK(!a.finish(1ms));
        CHECK(b.recv().text() == "last");
        CHECK(a.finish(LONG));
        CHECK_STATUS(b.recv(), CSHM_CLOSED);
        CHECK_STATUS(a.send("more"), CSHM_CLOSED);
    }
    auto [a, b] = both();
    a.send("1");
    a.send("2");
    a.close();
    CHECK_STATUS(a.send("3"), CSHM_HANDLE_CLOSED);
    std::string all;
    for (const auto& message : b.messages()) all += message.text();
    CHECK(all == "12");
    a = Transport::create(name);
    b.reopen(LONG);
    a.send("anew");
    CHECK(b.recv().text() == "anew");

    CHECK_STATUS(Transport::create(name), CSHM_IN_USE);
    CHECK_STATUS(Transport::open(name, 0ms), CSHM_IN_USE);
    CHECK_STATUS(Transport::open("no-such-" + name, 1ms), CSHM_TIMEOUT);
    CHECK_STATUS(Transport::remove("no-such-" + name), CSHM_NOT_FOUND);
    CHECK_STATUS(Transport::create(name, Config().slot_count(3)), CSHM_INVALID_CONFIG);
    try {
        (void)Transport::create("a/b");
        CHECK(false);
    } catch (const std::runtime_error& error) {
        CHECK(std::string(error.what()).find("a/b") != std::string::npos);
    }
}

void expected() {
    CHECK(ExpectedTransport::open(name, 1ms).error() == CSHM_TIMEOUT);
    auto made = ExpectedTransport::create(name, Config().slot_count(1));
    CHECK(made.has_value());
    auto a = std::move(made).value();
    auto b = *ExpectedTransport::open(name, LONG);
    CHECK(b.try_recv().error() == CSHM_EMPTY);
    CHECK(b.recv_for(1ms).error() == CSHM_TIMEOUT);
    if (auto slot = a.reserve()) {
        CHECK(slot->commit(5000).error() == CSHM_TOO_LARGE);
        CHECK(slot->commit(1).has_value());
    }
    CHECK(a.try_send("full").error() == CSHM_FULL);
    CHECK(b.recv()->size() == 1);
    const auto closing = std::move(a);
    CHECK(a.send("moved from").error() == CSHM_NULL_ARGUMENT);
    try {
        b.try_recv().value();
        CHECK(false);
    } catch (const Error& error) {
        CHECK(error.status() == CSHM_EMPTY);
    }
}

void channels() {
    auto a = Channel<Order, std::uint32_t>::create(name, Config().slot_count(4));
    CHECK_STATUS((Channel<std::uint32_t, std::uint64_t>::open(name, LONG)), CSHM_TYPE_MISMATCH);
    CHECK_STATUS((Channel<std::uint32_t, Order>::open(name, LONG, Config().message_tag("x"))), CSHM_TAG_MISMATCH);
    auto b = Channel<std::uint32_t, Order>::open(name, LONG);
    auto order = a.reserve();
    CHECK(order->id == 0 && order->weight == 0.0f);
    order->id = 7;
    order->price = 1.5;
    order.commit();
    CHECK(b.recv()->price == 1.5);
    b.send(9);
    CHECK(*a.recv() == 9);
    CHECK(!a.try_recv() && !a.recv_for(1ms));
    a.send({1, 2, 3, 4});
    Order copy{};
    b.recv_copied(copy);
    CHECK(copy.id == 1 && copy.amount == 3);
    for (std::uint64_t id = 0; id < 3; ++id) CHECK(a.try_send({id, 0, 0, 0}));
    std::uint64_t sum = 0;
    CHECK(b.drain(2, [&](const Order& value) { sum += value.id; }) == 2);
    a.transport().close();
    for (const auto& value : b.values()) sum += value->id;
    CHECK(sum == 3);

    auto failed = ExpectedChannel<Order>::open(name, 0ms);
    CHECK(failed.error() == CSHM_TIMEOUT);
}

void listeners() {
    auto [a, b] = both(Config().slot_count(4));
    std::atomic<int> heard{0};
    std::atomic<int> reason{-1};
    b.listen([&](Span<const std::uint8_t> message) { heard += message[0]; }, [&](Status status) { reason = status; });
    CHECK(b.is_listening());
    for (int at = 0; at < 100; ++at) a.send(std::vector<std::uint8_t>{1});
    while (heard != 100) std::this_thread::sleep_for(1ms);
    Transport moved = std::move(b);
    CHECK(moved.stop_listening() == CSHM_INTERRUPTED && reason == CSHM_INTERRUPTED);
    CHECK_STATUS(moved.stop_listening(), CSHM_NOTHING_OPEN);

    std::thread waiting([&moved = moved] { CHECK_STATUS(moved.recv(), CSHM_INTERRUPTED); });
    moved.interrupt();
    waiting.join();
    moved.listen([](Span<const std::uint8_t>) {}, [&](Status status) { reason = status; });
    a.close();
    while (reason != CSHM_CLOSED) std::this_thread::sleep_for(1ms);
    // Dropped while its listener's thread has ended, or while it runs: both are joined.
    auto [c, d] = both();
    d.listen([](Span<const std::uint8_t>) {});
}

void polls() {
    auto [a, b] = both();
    CHECK(a.local_poll().is_park());
    a.set_remote_poll(PollMode::interval(3us));
    CHECK(b.local_poll() == PollMode::interval(3us) && b.local_poll().interval() == 3us);
    b.set_local_poll(PollMode::spin());
    CHECK(a.remote_poll().is_spin());
    CHECK(a.peer_attached());
    CHECK(a.wait_for_peer(LONG));
    CHECK(detail::nanoseconds(-5ms) == CSHM_NOW && detail::nanoseconds(5ms) == 5'000'000);
    CHECK(detail::nanoseconds(std::chrono::hours::max()) == CSHM_FOREVER);
    CHECK(detail::nanoseconds(std::chrono::duration<double>(0.25)) == 250'000'000);
    CHECK(detail::nanoseconds(std::chrono::duration<double, std::pico>(5)) == 1);
}

void anonymous() {
    std::array<int, 2> descriptors{};
    auto a = Transport::pair(descriptors);
    auto b = Transport::from_fds(descriptors);
    a.send("no name");
    CHECK(b.recv().text() == "no name");
}

// Waits as any event loop does.
bool readable(int fd, std::chrono::milliseconds time) {
    pollfd watched{fd, POLLIN, 0};
    return ::poll(&watched, 1, static_cast<int>(time.count())) == 1;
}

void event_loops() {
    auto [a, b] = both(Config().slot_size(8).slot_count(4));
    const int message = b.recv_wait_fd(), room = a.send_wait_fd();
    CHECK(b.recv_arm() && !readable(message, 0ms));
    a.send("hello");
    CHECK(readable(message, LONG) && !b.recv_arm());
    (void)b.recv();
    CHECK(!a.send_arm());
    while (a.try_send("x")) continue;
    CHECK(a.send_arm() && !readable(room, 0ms));
    CHECK(a.send_arm_span(16) && a.send_arm_part(16) && !a.send_arm_span(33));
    CHECK(a.send_arm());
    (void)b.recv();
    CHECK(readable(room, LONG));
    while (b.try_recv()) continue;

    auto expected = ExpectedTransport::create(name + "-expected");
    CHECK((*expected).recv_wait_fd().has_value() && *(*expected).recv_arm());
}

void parts() {
    auto [a, b] = both(Config().slot_size(8).slot_count(16));
    auto part = a.reserve_part(100);
    CHECK(part.capacity() == 32);
    part.commit(32);
    CHECK(a.try_reserve_part(5)->capacity() == 8);
    CHECK(a.reserve_part_for(17, 1s)->capacity() >= 17);
    CHECK(b.recv().size() == 32);
    a.shut_down();
    CHECK_STATUS(a.send("x"), CSHM_CLOSED);
    CHECK_STATUS(b.recv(), CSHM_CLOSED);
    b.send("still");
    CHECK(a.recv().text() == "still");
}

void wait_sets() {
    auto set = WaitSet::create();
    auto [a, b] = both();
    auto c = Channel<Order, Order>::create(name + "-2");
    auto d = Channel<Order, Order>::open(name + "-2", LONG);
    set.insert(1, b);
    set.insert(2, d);
    CHECK(set.size() == 2 && !set.try_wait() && !set.wait_for(1ms));
    c.send({1, 2, 3, 4});
    auto keys = set.wait();
    CHECK(keys.size() == 1 && keys[0] == 2);
    (void)d.recv();
    int ends[2];
    CHECK(::pipe(ends) == 0);
    set.insert_fd(3, ends[0]);
    std::thread bell([&ends] { CHECK(::write(ends[1], "x", 1) == 1); });
    keys = set.wait();
    CHECK(keys.size() == 1 && keys[0] == 3);
    bell.join();
    CHECK_STATUS(set.insert(1, b), CSHM_KEY_TAKEN);
    CHECK_STATUS(set.remove(4), CSHM_KEY_UNKNOWN);
    set.remove(3);
    ::close(ends[0]);
    ::close(ends[1]);
    a.close();
    CHECK(set.wait()[0] == 1);
    b.close();
    CHECK_STATUS(set.insert(5, b), CSHM_HANDLE_CLOSED);
    auto expected = ExpectedWaitSet::create();
    CHECK((*expected).wait().error() == CSHM_INVALID_ARGUMENT && (*expected).try_wait().error() == CSHM_EMPTY);
}

void servers() {
    auto server = Server<>::bind(name, Config().slot_size(8).slot_count(4));
    CHECK_STATUS(Server<>::bind(name), CSHM_IN_USE);
    CHECK(!server.try_accept() && !server.accept_for(1ms));
    std::thread thread([] {
        auto client = Transport::connect(name, LONG);
        client.send("hello");
        CHECK(client.recv().text() == "welcome");
    });
    CHECK(readable(server.wait_fd(), LONG));
    auto channel = server.accept();
    CHECK(channel.recv().text() == "hello" && server.clients() == 1);
    CHECK(channel.peer()->pid == static_cast<std::uint32_t>(::getpid()) && channel.peer()->uid == ::getuid());
    channel.send("welcome");
    thread.join();

    server.max_clients(5);
    server.max_memory(1 << 30);
    server.handshakes(5, 10s);
    server.filter([](const Peer& peer) { return peer.uid != ::getuid(); });
    std::atomic<bool> refused{false};
    std::thread unwelcome([&refused] {
        CHECK_STATUS(Transport::connect(name, LONG), CSHM_REFUSED);
        refused = true;
    });
    while (!refused) CHECK(!server.accept_for(1ms));
    unwelcome.join();
    server.filter([](const Peer& peer) { return peer.uid == ::getuid(); });
    auto moved = std::move(server);
    std::thread other([] { CHECK(Transport::connect(name, LONG).peer().has_value()); });
    CHECK(moved.accept_for(LONG).has_value());
    other.join();

    auto values = Server<ExpectedChannel<std::uint32_t, Order>>::bind(name + "-values");
    CHECK(values.has_value() && (*values).try_accept().error() == CSHM_EMPTY);
    std::thread client([] {
        CHECK_STATUS((Channel<std::uint64_t, std::uint64_t>::connect(name + "-values", LONG)), CSHM_TYPE_MISMATCH);
        auto sender = Channel<Order, std::uint32_t>::connect(name + "-values", LONG);
        sender.send({7, 0, 0, 0});
    });
    auto orders = (*values).accept();
    CHECK((*orders).recv()->operator*().id == 7);
    client.join();
    CHECK_STATUS(Transport::connect(name + "-none", 0ms), CSHM_TIMEOUT);
    CHECK(!both().first.peer());
}

void lookers() {
    auto [a, b] = both(Config().slot_size(8).slot_count(4).message_tag("look/1"));
    auto tap = Tap::open(name);
    CHECK(!tap.try_next() && !tap.next_for(1ms));
    a.send("hello");
    b.send("world");
    auto first = tap.next();
    CHECK(!first.from_b && first.sequence == 0 && first.missed == 0 &&
          std::memcmp(first.bytes.data(), "hello", 5) == 0);
    auto second = tap.next();
    CHECK(second.from_b && second.bytes.size() == 5 && tap.missed() == 0);

    const auto one = Channels::of(name);
    CHECK(one.size() == 1 && one[0].a->life == CSHM_LIFE_ALIVE && one[0].a_to_b->stats.messages == 1);
    CHECK(std::string(one[0].tag) == "look/1" && one[0].problem == CSHM_OK);
    bool listed = false;
    for (const auto& channel : Channels::list()) listed |= channel.name == name;
    CHECK(listed);
    a.close();
    b.close();
    CHECK_STATUS(tap.next(), CSHM_CLOSED);
    CHECK_STATUS(Channels::of(name), CSHM_TIMEOUT);
    CHECK(ExpectedTap::open(name).error() == CSHM_TIMEOUT);
}

// Mistakes of a program that the library can see.
void misuse() {
    {
        auto [a, b] = both(Config().slot_size(8).slot_count(4));
        auto slot = a.reserve();
        std::memcpy(slot.data(), "once", 4);
        slot.commit(4);
        CHECK(slot.data() == nullptr && slot.capacity() == 0);
        CHECK_STATUS(slot.commit(4), CSHM_NOTHING_OPEN);
        try {
            slot.commit(4);
        } catch (const Error& error) {
            CHECK(std::string(error.what()) == "the slot was committed or aborted already");
        }
        auto message = b.recv();
        message.release();
        CHECK(message.data() == nullptr && message.empty() && message.text().empty());

        // Closed while much is open.
        auto open_slot = a.reserve();
        b.send("held");
        auto held = a.recv();
        a.close();
        a.close();
        CHECK_STATUS(open_slot.commit(1), CSHM_HANDLE_CLOSED);
        held.release();
        CHECK_STATUS(a.reserve(), CSHM_HANDLE_CLOSED);
        CHECK_STATUS(b.recv(), CSHM_CLOSED);
    }
    {
        auto [a, b] = both();
        a.send("x");
        auto window = b.window();
        window.wait_for(1);
        b.close();
        CHECK(window.size() == 0 && window[0].size() == 0);
        CHECK_STATUS(window.wait_for(1), CSHM_HANDLE_CLOSED);
        auto batch = a.batch();
        a.close();
        CHECK(batch.publish() == 0);
    }
    {
        // From a callback that it would take away.
        auto [a, b] = both();
        std::atomic<int> heard{0};
        b.listen([&heard, &b = b](Span<const std::uint8_t>) {
            CHECK_STATUS(b.close(), CSHM_BUSY);
            CHECK_STATUS(b.stop_listening(), CSHM_BUSY);
            ++heard;
        });
        a.send("x");
        while (heard == 0) std::this_thread::sleep_for(1ms);
        CHECK(b.stop_listening() == CSHM_INTERRUPTED);
        a.send("x");
        CHECK_STATUS(b.drain(1, [&b = b](Span<const std::uint8_t>) { b.close(); }), CSHM_BUSY);
        CHECK(b.drain(1, [](Span<const std::uint8_t>) {}) == 0);
        CHECK_STATUS(b.listen(nullptr), CSHM_NULL_ARGUMENT);
        CHECK(!b.is_listening());
    }
    {
        // While another thread waits in it.
        auto [a, b] = both();
        std::thread waiting([&b = b] { CHECK_STATUS(b.recv(), CSHM_INTERRUPTED); });
        while (b.stats().rx.parks == 0) std::this_thread::sleep_for(1ms);
        CHECK_STATUS(b.close(), CSHM_BUSY);
        CHECK_STATUS(b.try_recv(), CSHM_BUSY);
        b.interrupt();
        waiting.join();
        b.close();
    }
    using namespace std::string_literals;
    CHECK_STATUS(Transport::create(name + "\0tail"s), CSHM_INVALID_ARGUMENT);
    CHECK_STATUS(Transport::create(name, Config().message_tag("quotes\0/1"s)), CSHM_INVALID_ARGUMENT);
    CHECK_STATUS(Transport::create(name, Config().directory("/dev/shm\0/x"s)), CSHM_INVALID_ARGUMENT);
    CHECK_STATUS(Transport::create(name, Config().slot_size(SIZE_MAX)), CSHM_INVALID_CONFIG);
    CHECK_STATUS(Transport::create(name, Config().slot_count(SIZE_MAX)), CSHM_INVALID_CONFIG);

    auto [a, b] = both(Config().slot_size(8).slot_count(4));
    CHECK_STATUS(a.reserve_span(SIZE_MAX), CSHM_TOO_LARGE);
    CHECK_STATUS(
        a.send(Span<const std::uint8_t>(reinterpret_cast<const std::uint8_t*>(""), SIZE_MAX)), CSHM_INVALID_ARGUMENT);
    CHECK(a.send_for("text", 1s) && b.recv().text() == "text");
    CHECK(a.batch().try_send("text"));
    CHECK(b.recv().text() == "text");
    CHECK(a.send_for(std::string_view(), -5s) && b.recv().empty());
    CHECK(!b.recv_for(std::chrono::seconds::min()));
    CHECK_STATUS(b.window().wait_for(SIZE_MAX), CSHM_WINDOW_TOO_LARGE);
    CHECK(PollMode::interval(-1s).is_spin());
    CHECK(PollMode::interval(std::chrono::hours::max()).interval().count() > 0);
    CHECK_STATUS(Transport::from_fds({-1, -1}), CSHM_INVALID_ARGUMENT);
    CHECK_STATUS(Server<>::bind(name + "-s").filter(nullptr), CSHM_NULL_ARGUMENT);
}

// A guard whose transport is gone says so.
void outlived() {
    const auto config = Config().slot_size(8).slot_count(8);
    std::optional<WriteSlot> slot;
    std::optional<ReadSlot> message;
    {
        auto [a, b] = both(config);
        b.send("x");
        slot = a.reserve();
        message = a.recv();
    }
    CHECK_STATUS(slot->commit(1), CSHM_HANDLE_CLOSED);
    CHECK_STATUS(slot->commit(1), CSHM_HANDLE_CLOSED);
    slot.reset();
    message->release();
    message.reset();

    std::optional<Batch> batch;
    std::optional<Window> window;
    {
        auto [a, b] = both(config);
        a.send("x");
        batch.emplace(a.batch());
        slot = batch->try_reserve();
        window.emplace(b.window());
        window->wait_for(1);
        // Assigned to.
        a = Transport(nullptr);
        b = Transport(nullptr);
    }
    CHECK(batch->publish() == 0 && window->size() == 0 && (*window)[0].size() == 0);
    CHECK_STATUS(window->wait_for(1), CSHM_HANDLE_CLOSED);
    CHECK_STATUS(slot->commit(1), CSHM_HANDLE_CLOSED);
    batch.reset();
    window.reset();
    slot.reset();
    {
        // Closed first, and moved.
        auto [a, b] = both(config);
        slot = a.reserve();
        a.close();
        auto moved = std::move(a);
        CHECK_STATUS(slot->commit(1), CSHM_HANDLE_CLOSED);
    }
    slot.reset();
    {
        // Moved while much is open, which stays so.
        auto [a, b] = both(config);
        a.send("one");
        a.send("two");
        batch.emplace(a.batch());
        slot = batch->try_reserve();
        window.emplace(b.window());
        window->wait_for(2);
        auto moved_a = std::move(a);
        auto moved_b = std::move(b);
        CHECK_STATUS(moved_b.window(), CSHM_BUSY);
        CHECK((*window)[1][0] == 't' && window->size() == 2);
        window.reset();
        // A reservation keeps a batch open.
        CHECK(batch->publish() == 0);
        CHECK_STATUS(batch->try_send("before"), CSHM_BUSY);
        (*slot)[0] = '3';
        slot->commit(1);
        CHECK(batch->try_send("4") && batch->publish() == 2);
        CHECK(moved_b.recv().text() == "3");
        CHECK(moved_b.recv().text() == "4");
        batch.emplace(moved_a.batch());
        CHECK(batch->try_send("5"));
        slot = batch->try_reserve();
        batch.reset();
        CHECK(!moved_b.try_recv());
        (*slot)[0] = '6';
        slot->commit(1);
        CHECK(moved_b.recv().text() == "5");
        CHECK(moved_b.recv().text() == "6");
        moved_a.send("goes on");
    }
    auto values = Channel<Order>::create(name);
    auto order = values.reserve();
    order->id = 7;
    auto values_moved = std::move(values);
    order.commit();
    CHECK(Channel<Order>::open(name, LONG).recv()->id == 7);
}

// A forked child cannot use its parent's objects, and may drop them.
void forks() {
    auto [a, b] = both();
    auto [c, listening] = std::pair{Transport::create(name + "-2"), Transport::open(name + "-2", LONG)};
    std::atomic<int> heard{0};
    listening.listen([&heard](Span<const std::uint8_t>) { ++heard; });
    a.send("before");
    auto slot = a.reserve();
    auto message = b.recv();
    auto set = WaitSet::create();
    set.insert(1, c);
    auto tap = Tap::open(name);
    auto server = Server<>::bind(name + "-s");

    const pid_t child = ::fork();
    if (child == 0) {
        CHECK_STATUS(slot.commit(1), CSHM_HANDLE_CLOSED);
        message.release();
        CHECK_STATUS(a.send("x"), CSHM_HANDLE_CLOSED);
        CHECK_STATUS(b.recv(), CSHM_HANDLE_CLOSED);
        CHECK_STATUS(a.stats(), CSHM_HANDLE_CLOSED);
        CHECK_STATUS(listening.stop_listening(), CSHM_HANDLE_CLOSED);
        CHECK_STATUS(set.wait(), CSHM_HANDLE_CLOSED);
        CHECK_STATUS(set.remove(1), CSHM_HANDLE_CLOSED);
        CHECK_STATUS(tap.try_next(), CSHM_HANDLE_CLOSED);
        CHECK_STATUS(server.accept(), CSHM_HANDLE_CLOSED);
        a.close();
        for (auto* gone : {&a, &b, &c, &listening}) *gone = Transport(nullptr);
        set = WaitSet(nullptr);
        tap = Tap(nullptr);
        server = Server<>(nullptr);
#if !defined(__SANITIZE_THREAD__) // It lets no forked child begin threads.
        auto [own, other] = std::pair{Transport::create(name + "-own"), Transport::open(name + "-own", LONG)};
        own.send("mine");
        CHECK(other.recv().text() == "mine");
        own.close();
        other.close();
#endif
        // Nobody looks for what a child leaks.
        ::execlp("true", "true", nullptr);
        std::exit(1);
    }
    int status = 0;
    CHECK(::waitpid(child, &status, 0) == child && status == 0);
    // The parent has lost nothing.
    message.release();
    slot.data()[0] = '!';
    slot.commit(1);
    CHECK(b.recv().text() == "!");
    c.send("x");
    while (heard == 0) std::this_thread::sleep_for(1ms);
    CHECK(!set.try_wait());
    listening.stop_listening();
    listening.send("y");
    CHECK(set.wait()[0] == 1);
    CHECK(tap.next().bytes.size() == 6);
    std::thread client([] { CHECK(Transport::connect(name + "-s", LONG).peer().has_value()); });
    CHECK(server.accept_for(LONG).has_value());
    client.join();
}

// The class that older programs were written against.
void replaced() {
    using T = ShmFixedSlotDuplexTransport;
    CHECK(!version().empty());
    T::remove(name);
    std::atomic<std::uint64_t> received{0};
    T a(name, 16, 4, [&](const std::uint8_t* data, std::uint64_t size) { received += data[0] == 7 ? size : 0; });
    CHECK(a.getLocalSidePollInterval() == 1000us);
    auto b = T::open(name, 500ms);
    CHECK(
        a.slotSize() == 16 && a.slotCount() == 4 && a.isCreator() == 1u && b.isCreator() == 0u && b.slotSize() == 16);

    const std::vector<std::uint8_t> slot(16, 7);
    CHECK(b.sendSlot(slot.data(), 15, std::chrono::milliseconds{-1}) == 0u);
    CHECK(b.sendSlot(nullptr, 16, std::chrono::milliseconds{-1}) == 0u);
    CHECK(b.sendSlot(slot.data(), 16, std::chrono::milliseconds{-1}) == 1u);
    while (received != 16) std::this_thread::sleep_for(1ms);
    std::vector<std::uint8_t> out;
    CHECK(a.recvSlot(out, std::chrono::milliseconds{0}) == 0u);
    CHECK(b.recvSlot(out, std::chrono::milliseconds{1}) == 0u);
    for (int at = 0; at < 4; ++at) CHECK(a.sendSlot(slot.data(), slot.size(), std::chrono::milliseconds{0}) == 1u);
    CHECK(a.sendSlot(slot.data(), slot.size(), std::chrono::milliseconds{1}) == 0u);
    T::SlotTransportStats stats;
    CHECK(a.getStats(stats) == 1u);
    CHECK(stats.tx.slotSize == 16 && stats.tx.slotCount == 4 && stats.tx.usedSlots == 4 && stats.tx.shutdown == 0u);
    CHECK(b.recvSlot(out, std::chrono::milliseconds{-1}) == 1u && out == slot);

    a.setLocalSidePollInterval(std::chrono::microseconds{0});
    a.setRemoteSidePollInterval(std::chrono::microseconds{250});
    CHECK(a.getLocalSidePollInterval() == 0us && b.getRemoteSidePollInterval() == 0us);
    CHECK(b.getLocalSidePollInterval() == 250us && a.getRemoteSidePollInterval() == 250us);

    a.setLocalSidePollInterval(std::chrono::microseconds::max());
    CHECK(a.getLocalSidePollInterval() > 1s);
    a.setLocalSidePollInterval(std::chrono::microseconds{0});

    T moved = std::move(a);
    CHECK(a.slotSize() == 0 && a.isCreator() == 0u && a.getStats(stats) == 0u && a.recvSlot(out, 0ms) == 0u);
    CHECK(a.sendSlot(slot.data(), slot.size(), std::chrono::milliseconds{-1}) == 0u);
    CHECK(b.sendSlot(slot.data(), 16, std::chrono::milliseconds{-1}) == 1u);
    while (received != 32) std::this_thread::sleep_for(1ms);
    T::remove(name);
    CHECK(moved.sendSlot(slot.data(), slot.size(), std::chrono::milliseconds{-1}) == 1u);
    T b2 = std::move(b);
    { T gone = std::move(moved); }
    while (b2.recvSlot(out, std::chrono::milliseconds{-1})) continue;
    CHECK(b2.sendSlot(slot.data(), slot.size(), std::chrono::milliseconds{-1}) == 0u);
    CHECK(b2.getStats(stats) == 1u && stats.rx.shutdown == 1u);

    T polling(name + "-2", 16, 4, nullptr, std::chrono::milliseconds(2));
    CHECK(polling.getLocalSidePollInterval() == 2000us);
    polling = T(name + "-3", 8, 2, nullptr);
    CHECK(polling.slotSize() == 8);
    auto other = T::open(name + "-3", std::chrono::milliseconds{-1}, nullptr, std::chrono::microseconds{0});
    CHECK(other.getLocalSidePollInterval() == 0us);
    CHECK_STATUS(T(name + "-4", 16, 3, nullptr), CSHM_INVALID_CONFIG);
    CHECK_STATUS(T::open(name + "-5", std::chrono::milliseconds{1}), CSHM_TIMEOUT);
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    CHECK(cshm_abi_version() == CSHM_ABI_VERSION);
    name = argv[1];
    slots();
    bursts();
    ends();
    expected();
    channels();
    listeners();
    polls();
    anonymous();
    event_loops();
    parts();
    wait_sets();
    servers();
    lookers();
    misuse();
    outlived();
    forks();
    replaced();
    std::puts("faces: ok");
}
