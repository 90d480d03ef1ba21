// Two processes on one machine exchange messages through shared memory, built and read in place: C++17 over the C
// interface.
//
// Side A creates a named channel, side B opens it. Each direction is a ring of fixed-size slots.
//
//     auto a = Transport::create("quotes");              auto b = Transport::open("quotes", 1s);
//     auto slot = a.reserve();                           for (const auto& message : b.messages())
//     std::memcpy(slot.data(), "hello", 5);                  use(message.data(), message.size());
//     slot.commit(5);
//
// Three faces over one core:
//
//   Transport, Channel<T, R>, ...       throw Error. Calls that may find nothing (try_x, x_for) return an optional, or bool.
//   ExpectedTransport, ...              the same calls return Expected and throw nothing, but for a lack of memory.
//   ShmFixedSlotDuplexTransport         the class that this library replaces, source-compatible.
//
// Server<C> gives many clients a channel each, WaitSet waits for many, Channels and Tap look on from outside.
//
// Forms: try_x never waits, x waits without end, x_for waits at most so long.
//
// A WriteSlot, ReadSlot, Batch or Window belongs to its transport: use it in the thread of that half. Once the transport is
// closed, dropped or assigned to, its calls say CSHM_HANDLE_CLOSED, and its bytes are not there any more: do not look at them.
// Moving the transport does nothing to it. One thread may send while another receives; see the C header.

#ifndef CAPNPROTO_SHM_TRANSPORT_HPP
#define CAPNPROTO_SHM_TRANSPORT_HPP

#if __cplusplus < 201703L && (!defined(_MSVC_LANG) || _MSVC_LANG < 201703L)
#error "capnproto_shm_transport.hpp needs C++17; compile with -std=c++17 or later"
#endif

#include "capnproto_shm_transport.h"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__has_include)
#if __has_include(<version>)
#include <version>
#endif
#endif
#if defined(__cpp_lib_span)
#include <span>
#endif

namespace capnproto_shm_transport {

// How a call ended: CSHM_OK, CSHM_CLOSED and so on.
using Status = cshm_status;

// ---- Errors
// ---------------------------------------------------------------------------------------------------------

// A call that failed. what() has the names and values that matter.
class Error : public std::runtime_error {
public:
    explicit Error(Status status) : Error(status, cshm_last_error()) {}
    Error(Status status, const std::string& text) : std::runtime_error(text), status_(status) {}

    Status status() const noexcept { return status_; }

private:
    Status status_;
};

namespace detail {

[[noreturn]] inline void fail(Status status) { throw Error(status); }

// Nothing there, no room: an outcome, where the caller has said that it may be.
inline bool is_not_now(Status status) noexcept {
    return status == CSHM_FULL || status == CSHM_EMPTY || status == CSHM_TIMEOUT || status == CSHM_NO_PEER;
}

} // namespace detail

// A value, or why there is none: what std::expected of C++23 is.
template <class T>
class [[nodiscard]] Expected {
public:
    template <class... Args>
    explicit Expected(std::in_place_t, Args&&... args) : value_(std::in_place, std::forward<Args>(args)...) {}
    explicit Expected(Status error) noexcept : error_(error) {}

    bool has_value() const noexcept { return value_.has_value(); }
    explicit operator bool() const noexcept { return has_value(); }
    // CSHM_OK if there is a value.
    Status error() const noexcept { return error_; }

    T& operator*() & noexcept { return *value_; }
    const T& operator*() const& noexcept { return *value_; }
    T&& operator*() && noexcept { return *std::move(value_); }
    T* operator->() noexcept { return &*value_; }
    const T* operator->() const noexcept { return &*value_; }

    // The value, or throws Error.
    T& value() & { return require(), *value_; }
    T&& value() && { return require(), *std::move(value_); }

private:
    void require() const {
        if (!value_) throw Error(error_, cshm_strerror(error_));
    }

    std::optional<T> value_;
    Status error_ = CSHM_OK;
};

template <>
class [[nodiscard]] Expected<void> {
public:
    explicit Expected(std::in_place_t) noexcept {}
    explicit Expected(Status error) noexcept : error_(error) {}

    bool has_value() const noexcept { return error_ == CSHM_OK; }
    explicit operator bool() const noexcept { return has_value(); }
    Status error() const noexcept { return error_; }
    void value() const {
        if (!has_value()) throw Error(error_, cshm_strerror(error_));
    }

private:
    Status error_ = CSHM_OK;
};

// How failures are told: by exceptions, ...
struct Throws {
    template <class T>
    using Must = T;
    template <class T>
    using Maybe =
        std::conditional_t<std::is_void_v<T>, bool, std::optional<std::conditional_t<std::is_void_v<T>, int, T>>>;

    template <class T, class... Args>
    static Must<T> must(Status status, Args&&... args) {
        if (status != CSHM_OK) detail::fail(status);
        if constexpr (!std::is_void_v<T>) return T(std::forward<Args>(args)...);
    }

    // Misuse that the C interface was not asked about.
    template <class T>
    [[noreturn]] static Must<T> refuse(Status status, const char* what) {
        throw Error(status, what);
    }

    template <class T, class... Args>
    static Maybe<T> maybe(Status status, Args&&... args) {
        if (status != CSHM_OK && !detail::is_not_now(status)) detail::fail(status);
        if constexpr (std::is_void_v<T>) {
            return status == CSHM_OK;
        } else {
            if (status != CSHM_OK) return std::optional<T>(std::nullopt);
            return std::optional<T>(std::in_place, std::forward<Args>(args)...);
        }
    }
};

// ... or in what is returned.
struct Returns {
    template <class T>
    using Must = Expected<T>;
    template <class T>
    using Maybe = Expected<T>;

    template <class T, class... Args>
    static Expected<T> must(Status status, Args&&... args) {
        if (status != CSHM_OK) return Expected<T>(status);
        return Expected<T>(std::in_place, std::forward<Args>(args)...);
    }

    template <class T>
    static Expected<T> refuse(Status status, const char*) {
        return Expected<T>(status);
    }

    template <class T, class... Args>
    static Expected<T> maybe(Status status, Args&&... args) {
        return must<T>(status, std::forward<Args>(args)...);
    }
};

// ---- Small types
// ----------------------------------------------------------------------------------------------------

#if defined(__cpp_lib_span)
template <class T>
using Span = std::span<T>;
#else
// The part of std::span that is needed here.
template <class T>
class Span {
public:
    constexpr Span() noexcept = default;
    constexpr Span(T* data, std::size_t size) noexcept : data_(data), size_(size) {}
    template <class Container,
        class = std::enable_if_t<!std::is_same_v<std::decay_t<Container>, Span> &&
                                 std::is_convertible_v<decltype(std::declval<Container&>().data()), T*>>>
    constexpr Span(Container&& container) noexcept : data_(container.data()), size_(container.size()) {}

    constexpr T* data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr T* begin() const noexcept { return data_; }
    constexpr T* end() const noexcept { return data_ + size_; }
    constexpr T& operator[](std::size_t index) const noexcept { return data_[index]; }

private:
    T* data_ = nullptr;
    std::size_t size_ = 0;
};
#endif

using Stats = cshm_stats;
using RingStats = cshm_ring_stats;
// The process on the other side, as the system attests it: pid, uid, gid.
using Peer = cshm_peer;

namespace detail {

// A time as the C interface has it. No time and less do not wait; more than a clock can count waits without end.
template <class Rep, class Period>
constexpr std::int64_t nanoseconds(std::chrono::duration<Rep, Period> time) noexcept {
    using Time = std::chrono::duration<Rep, Period>;
    if (!(time > Time::zero())) return CSHM_NOW;
    // In floating point, which cannot overflow.
    if (std::chrono::duration<double>(time).count() > 9.0e9) return CSHM_FOREVER;
    const auto whole = std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
    return whole > 0 ? static_cast<std::int64_t>(whole) : 1;
}

// Text for the C interface, where a zero byte would cut it short: in its place stands what is refused as no UTF-8.
inline std::string c_text(const std::string& text) {
    std::string whole;
    for (const char byte : text) byte == '\0' ? whole.append("\xc0\x80") : whole.append(1, byte);
    return whole;
}

} // namespace detail

// How a side waits.
class PollMode {
public:
    // Look again and again: the shortest latency, and a processor of its own.
    static constexpr PollMode spin() noexcept { return PollMode(CSHM_SPIN); }
    // Spin for as long as a sleep and a wake cost, then sleep in the kernel until the other side acts.
    static constexpr PollMode park() noexcept { return PollMode(CSHM_PARK); }
    // Sleep so long between two looks; spin() if it is no time.
    template <class Rep, class Period>
    static constexpr PollMode interval(std::chrono::duration<Rep, Period> time) noexcept {
        const std::int64_t number = detail::nanoseconds(time);
        return PollMode(number == CSHM_FOREVER ? std::numeric_limits<std::int64_t>::max() : number);
    }
    static constexpr PollMode of_number(std::int64_t number) noexcept {
        return PollMode(number < 0 ? CSHM_PARK : number);
    }

    constexpr std::int64_t number() const noexcept { return number_; }
    constexpr bool is_spin() const noexcept { return number_ == CSHM_SPIN; }
    constexpr bool is_park() const noexcept { return number_ == CSHM_PARK; }
    // The time between two looks; none for a side that spins or parks.
    constexpr std::chrono::nanoseconds interval() const noexcept {
        return std::chrono::nanoseconds(number_ > 0 ? number_ : 0);
    }
    friend constexpr bool operator==(PollMode a, PollMode b) noexcept { return a.number_ == b.number_; }
    friend constexpr bool operator!=(PollMode a, PollMode b) noexcept { return !(a == b); }

private:
    explicit constexpr PollMode(std::int64_t number) noexcept : number_(number) {}
    std::int64_t number_;
};

namespace detail {

#if defined(__GNUC__)
#define CAPNPROTO_SHM_TRANSPORT_APART __attribute__((noinline, cold))
#else
#define CAPNPROTO_SHM_TRANSPORT_APART
#endif

// A reservation, or why there is none: in two registers. A sender that is ahead of its peer waits for its own stores, so
// that nothing here goes by way of memory.
class Reserved {
public:
    explicit Reserved(cshm_write_slot slot) noexcept : slot_(slot) {}

    Status status() const noexcept {
        return slot_.data != nullptr ? CSHM_OK : static_cast<Status>(static_cast<int>(slot_.capacity));
    }
    const cshm_write_slot& slot() const noexcept { return slot_; }

private:
    // Without data: the status in place of the capacity.
    cshm_write_slot slot_;
};

CAPNPROTO_SHM_TRANSPORT_APART inline Reserved reserve_after_a_look(
    cshm_transport* transport, std::int64_t time) noexcept {
    cshm_write_slot slot{};
    const Status status = cshm_reserve(transport, time, &slot);
    if (status != CSHM_OK) slot = {nullptr, static_cast<std::size_t>(status)};
    return Reserved(slot);
}

inline Reserved reserve(cshm_transport* transport, std::int64_t time) noexcept {
    const Reserved reserved(cshm_reserve_at_hand(transport));
    return reserved.slot().data != nullptr ? reserved : reserve_after_a_look(transport, time);
}

struct FreeConfig {
    void operator()(cshm_config* config) const noexcept { cshm_config_free(config); }
};

struct FreeServer {
    void operator()(cshm_server* server) const noexcept { cshm_server_free(server); }
};

struct FreeWaitSet {
    void operator()(cshm_wait_set* set) const noexcept { cshm_wait_set_free(set); }
};

struct FreeChannels {
    void operator()(cshm_channels* channels) const noexcept { cshm_channels_free(channels); }
};

struct FreeTap {
    void operator()(cshm_tap* tap) const noexcept { cshm_tap_free(tap); }
};

struct FreeTransport {
    // Not before the guards that outlive it. Refused from a callback of this very transport, and while another thread waits
    // in it: a defect of the program, which ends here, with these words.
    void operator()(cshm_transport* transport) const noexcept {
        const Status status = cshm_free_later(transport);
        if (status != CSHM_OK) fail(status);
    }
};

} // namespace detail

// Values of a type, which one direction of a Channel carries.
struct ValueKind {
    std::size_t size;
    std::size_t align;
};

// How a channel is made, and how this side of it behaves. The slots are side A's to choose. Nothing is checked until
// a channel is made or opened.
class Config {
public:
    // Payload bytes of a slot in both directions, and slots, a power of two: 1024 of 1024 if not given.
    Config& slot_size(std::size_t bytes) { return a_to_b_.size = b_to_a_.size = bytes, *this; }
    Config& slot_count(std::size_t slots) { return a_to_b_.count = b_to_a_.count = slots, *this; }
    // The slots in which side A sends to side B, and the other way.
    Config& a_to_b(std::size_t size, std::size_t count) { return a_to_b_ = {size, count}, *this; }
    Config& b_to_a(std::size_t size, std::size_t count) { return b_to_a_ = {size, count}, *this; }
    // How this side waits at first.
    Config& poll(PollMode mode) { return poll_ = mode, *this; }
    // Names the protocol spoken, in up to 64 bytes.
    Config& message_tag(std::string tag) { return tag_ = std::move(tag), *this; }
    // Unix mode of the segments, 0600 if not given.
    Config& permissions(std::uint32_t mode) { return permissions_ = mode, *this; }
    // The directory in which named channels lie, the same for both sides.
    Config& directory(std::string path) { return directory_ = std::move(path), *this; }
    Config& prefault(bool yes = true) { return prefault_ = yes, *this; }
    Config& lock_memory(bool yes = true) { return lock_memory_ = yes, *this; }
    Config& huge_pages(bool yes = true) { return huge_pages_ = yes, *this; }
    Config& numa_node(std::uint32_t node) { return numa_node_ = node, *this; }
    // The kind of this side's messages, for a Transport; a Channel says it by its types.
    Config& sends_values(ValueKind kind) { return sends_ = kind, sends_capnp_.reset(), *this; }
    Config& receives_values(ValueKind kind) { return receives_ = kind, receives_capnp_.reset(), *this; }
    Config& sends_capnp(std::uint64_t type_id) { return sends_capnp_ = type_id, sends_.reset(), *this; }
    Config& receives_capnp(std::uint64_t type_id) { return receives_capnp_ = type_id, receives_.reset(), *this; }

    // The same for the C interface; null if there is no memory.
    std::unique_ptr<cshm_config, detail::FreeConfig> to_c() const {
        std::unique_ptr<cshm_config, detail::FreeConfig> made(cshm_config_new());
        auto* config = made.get();
        if (config == nullptr) return made;
        cshm_config_a_to_b(config, a_to_b_.size, a_to_b_.count);
        cshm_config_b_to_a(config, b_to_a_.size, b_to_a_.count);
        if (poll_) cshm_config_poll(config, poll_->number());
        bool text = true;
        if (tag_) text = cshm_config_message_tag(config, detail::c_text(*tag_).c_str()) == CSHM_OK;
        if (directory_) text = text && cshm_config_directory(config, detail::c_text(*directory_).c_str()) == CSHM_OK;
        if (permissions_) cshm_config_permissions(config, *permissions_);
        if (prefault_) cshm_config_prefault(config, true);
        if (lock_memory_) cshm_config_lock_memory(config, true);
        if (huge_pages_) cshm_config_huge_pages(config, true);
        if (numa_node_) cshm_config_numa_node(config, *numa_node_);
        if (sends_) cshm_config_sends_values(config, sends_->size, sends_->align);
        if (receives_) cshm_config_receives_values(config, receives_->size, receives_->align);
        if (sends_capnp_) cshm_config_sends_capnp(config, *sends_capnp_);
        if (receives_capnp_) cshm_config_receives_capnp(config, *receives_capnp_);
        if (!text) made.reset();
        return made;
    }

private:
    struct Slots {
        std::size_t size = 1024;
        std::size_t count = 1024;
    };
    Slots a_to_b_, b_to_a_;
    std::optional<PollMode> poll_;
    std::optional<std::string> tag_, directory_;
    std::optional<std::uint32_t> permissions_, numa_node_;
    bool prefault_ = false, lock_memory_ = false, huge_pages_ = false;
    std::optional<ValueKind> sends_, receives_;
    std::optional<std::uint64_t> sends_capnp_, receives_capnp_;
};

// ---- Guards
// ---------------------------------------------------------------------------------------------------------

// A reserved slot, or span of slots: the message is built in here, where the peer will read it. It holds
// the bytes that the slot carried before. Dropping it aborts it, and nothing is published.
template <class Policy>
class [[nodiscard]] BasicWriteSlot {
public:
    BasicWriteSlot(cshm_transport* transport, const cshm_write_slot& slot) noexcept
        : transport_(transport), slot_(slot) {}
    BasicWriteSlot(BasicWriteSlot&& other) noexcept
        : transport_(std::exchange(other.transport_, nullptr)), slot_(std::exchange(other.slot_, {})) {}
    BasicWriteSlot& operator=(BasicWriteSlot&& other) noexcept {
        if (this != &other) {
            abort();
            transport_ = std::exchange(other.transport_, nullptr);
            slot_ = std::exchange(other.slot_, {});
        }
        return *this;
    }
    ~BasicWriteSlot() { abort(); }

    std::uint8_t* data() noexcept { return slot_.data; }
    const std::uint8_t* data() const noexcept { return slot_.data; }
    std::size_t capacity() const noexcept { return slot_.capacity; }
    Span<std::uint8_t> bytes() noexcept { return {slot_.data, slot_.capacity}; }
    std::uint8_t& operator[](std::size_t index) noexcept { return slot_.data[index]; }

    // Publishes the first `size` bytes as one message. CSHM_TOO_LARGE if there are fewer: then it stays reserved. Otherwise
    // nothing is left here: data() is null.
    typename Policy::template Must<void> commit(std::size_t size) {
        if (transport_ == nullptr) {
            return Policy::template refuse<void>(CSHM_NOTHING_OPEN, "the slot was committed or aborted already");
        }
        const Status status = cshm_commit(transport_, size);
        if (status == CSHM_OK) {
            transport_ = nullptr;
            slot_ = {};
        }
        return Policy::template must<void>(status);
    }

    // Gives it up.
    void abort() noexcept {
        if (transport_ == nullptr) return;
        cshm_abort(std::exchange(transport_, nullptr));
        slot_ = {};
    }

private:
    cshm_transport* transport_;
    cshm_write_slot slot_;
};

// A received message, read in the slot it arrived in, which is mapped read-only. Dropping it gives the slot back to
// the peer.
class [[nodiscard]] ReadSlot {
public:
    ReadSlot(cshm_transport* transport, const cshm_read_slot& slot) noexcept : transport_(transport), slot_(slot) {}
    ReadSlot(ReadSlot&& other) noexcept
        : transport_(std::exchange(other.transport_, nullptr)), slot_(std::exchange(other.slot_, {})) {}
    ReadSlot& operator=(ReadSlot&& other) noexcept {
        if (this != &other) {
            release();
            transport_ = std::exchange(other.transport_, nullptr);
            slot_ = std::exchange(other.slot_, {});
        }
        return *this;
    }
    ~ReadSlot() { release(); }

    const std::uint8_t* data() const noexcept { return slot_.data; }
    std::size_t size() const noexcept { return slot_.len; }
    bool empty() const noexcept { return slot_.len == 0; }
    Span<const std::uint8_t> bytes() const noexcept { return {slot_.data, slot_.len}; }
    const std::uint8_t* begin() const noexcept { return slot_.data; }
    const std::uint8_t* end() const noexcept { return slot_.data + slot_.len; }
    std::uint8_t operator[](std::size_t index) const noexcept { return slot_.data[index]; }
    // The bytes as text.
    std::string_view text() const noexcept { return {reinterpret_cast<const char*>(slot_.data), slot_.len}; }

    // Gives it back: then there are no bytes here.
    void release() noexcept {
        if (transport_ != nullptr) cshm_release(std::exchange(transport_, nullptr));
        slot_ = {};
    }

private:
    cshm_transport* transport_;
    cshm_read_slot slot_;
};

// Gathers messages that become visible together. Dropping it publishes them, like publish(), or if a slot of it is still
// reserved, together with that one.
template <class Policy>
class [[nodiscard]] BasicBatch {
public:
    explicit BasicBatch(cshm_transport* transport) noexcept : transport_(transport) {}
    BasicBatch(BasicBatch&& other) noexcept : transport_(std::exchange(other.transport_, nullptr)) {}
    BasicBatch& operator=(BasicBatch&&) = delete;
    ~BasicBatch() {
        if (transport_ != nullptr) cshm_batch_end(transport_);
    }

    // The next slot, unless all are taken, by this batch among others.
    typename Policy::template Maybe<BasicWriteSlot<Policy>> try_reserve() {
        cshm_write_slot slot{};
        const Status status = cshm_reserve(transport_, CSHM_NOW, &slot);
        return Policy::template maybe<BasicWriteSlot<Policy>>(status, transport_, slot);
    }

    typename Policy::template Maybe<void> try_send(Span<const std::uint8_t> message) {
        return Policy::template maybe<void>(cshm_send(transport_, message.data(), message.size(), CSHM_NOW));
    }
    typename Policy::template Maybe<void> try_send(std::string_view text) {
        return Policy::template maybe<void>(cshm_send(transport_, text.data(), text.size(), CSHM_NOW));
    }

    // Makes everything gathered visible, and says how many messages that was. As long as a slot is reserved, it says 0 and
    // goes on to gather.
    std::size_t publish() noexcept {
        std::size_t count = 0;
        if (transport_ != nullptr && cshm_batch_publish(transport_, &count) != CSHM_BUSY) transport_ = nullptr;
        return count;
    }

private:
    cshm_transport* transport_;
};

// Holds received messages, oldest first, each in the slot it arrived in. Dropping it gives all back to the peer.
template <class Policy>
class [[nodiscard]] BasicWindow {
public:
    explicit BasicWindow(cshm_transport* transport) noexcept : transport_(transport) {}
    BasicWindow(BasicWindow&& other) noexcept : transport_(std::exchange(other.transport_, nullptr)) {}
    BasicWindow& operator=(BasicWindow&&) = delete;
    ~BasicWindow() {
        if (transport_ != nullptr) cshm_window_close(transport_);
    }

    // Receives until the window holds `count` messages. Those that came before a failure stay.
    typename Policy::template Must<void> wait_for(std::size_t count) {
        return Policy::template must<void>(wait(count, CSHM_FOREVER));
    }
    typename Policy::template Maybe<void> try_wait_for(std::size_t count) {
        return Policy::template maybe<void>(wait(count, CSHM_NOW));
    }
    template <class Rep, class Period>
    typename Policy::template Maybe<void> wait_for(std::size_t count, std::chrono::duration<Rep, Period> time) {
        return Policy::template maybe<void>(wait(count, detail::nanoseconds(time)));
    }

    std::size_t size() const noexcept { return cshm_window_len(transport_); }
    bool empty() const noexcept { return size() == 0; }
    // A message, counted from the oldest; no bytes if there are not so many.
    Span<const std::uint8_t> operator[](std::size_t index) const noexcept {
        cshm_read_slot message{};
        if (cshm_window_get(transport_, index, &message) != CSHM_OK) return {};
        return {message.data, message.len};
    }
    // Gives the `count` oldest back, all if there are no more.
    void release(std::size_t count) noexcept { cshm_window_release(transport_, count); }

private:
    Status wait(std::size_t count, std::int64_t time) { return cshm_window_wait_for(transport_, count, time); }

    cshm_transport* transport_;
};

namespace detail {

// Goes over what a receiver gets, until the peer closes in order. Each message is released when the next one is asked
// for.
template <class Receiver, class Message>
class Messages {
public:
    struct End {};
    class Iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = Message;
        using difference_type = std::ptrdiff_t;
        using pointer = const Message*;
        using reference = const Message&;

        explicit Iterator(Receiver* receiver) : receiver_(receiver) { ++*this; }
        reference operator*() const { return *message_; }
        pointer operator->() const { return &*message_; }
        Iterator& operator++() {
            message_.reset();
            receiver_->next(message_);
            return *this;
        }
        void operator++(int) { ++*this; }
        friend bool operator==(const Iterator& iterator, End) { return !iterator.message_; }
        friend bool operator!=(const Iterator& iterator, End) { return iterator.message_.has_value(); }

    private:
        Receiver* receiver_;
        std::optional<Message> message_;
    };

    explicit Messages(Receiver* receiver) : receiver_(receiver) {}
    Iterator begin() const { return Iterator(receiver_); }
    End end() const { return {}; }

private:
    Receiver* receiver_;
};

// A function object as a callback of C. An exception ends a drain and goes on behind it.
template <class Each>
struct Draining {
    Each& each;
    std::exception_ptr thrown;

    static int call(const std::uint8_t* data, std::size_t size, void* context) noexcept {
        auto& self = *static_cast<Draining*>(context);
        try {
            using Result = std::invoke_result_t<Each&, Span<const std::uint8_t>>;
            if constexpr (std::is_convertible_v<Result, bool>) {
                return self.each(Span<const std::uint8_t>(data, size)) ? 0 : 1;
            } else {
                self.each(Span<const std::uint8_t>(data, size));
                return 0;
            }
        } catch (...) {
            self.thrown = std::current_exception();
            return 1;
        }
    }
};

struct Listening {
    std::function<void(Span<const std::uint8_t>)> message;
    std::function<void(Status)> ended;

    // As in any thread: an exception that nobody catches ends the program.
    static void on_message(const std::uint8_t* data, std::size_t size, void* context) noexcept {
        static_cast<Listening*>(context)->message(Span<const std::uint8_t>(data, size));
    }
    static void on_end(Status reason, void* context) noexcept {
        auto& self = *static_cast<Listening*>(context);
        if (self.ended) self.ended(reason);
    }
};

} // namespace detail

// ---- Transport
// ------------------------------------------------------------------------------------------------------

// One side of a duplex channel of bytes. Dropping it closes both directions in order; side A also removes the name.
template <class Policy>
class BasicTransport {
    template <class T>
    using Must = typename Policy::template Must<T>;
    template <class T>
    using Maybe = typename Policy::template Maybe<T>;

public:
    // How this face tells failures.
    using Failures = Policy;
    using WriteSlot = BasicWriteSlot<Policy>;
    using Batch = BasicBatch<Policy>;
    using Window = BasicWindow<Policy>;

    // Takes over a transport of the C interface.
    explicit BasicTransport(cshm_transport* transport) noexcept : transport_(transport) {}
    BasicTransport(BasicTransport&&) noexcept = default;
    BasicTransport& operator=(BasicTransport&& other) noexcept {
        if (this != &other) {
            // In this order: the listener's thread ends before what it calls.
            transport_ = std::move(other.transport_);
            listening_ = std::move(other.listening_);
        }
        return *this;
    }

    // Side A: makes the channel afresh.
    static Must<BasicTransport> create(const std::string& name, const Config& config = Config()) {
        cshm_transport* made = nullptr;
        const auto options = config.to_c();
        const Status status =
            options ? cshm_create(detail::c_text(name).c_str(), options.get(), &made) : CSHM_INVALID_ARGUMENT;
        return Policy::template must<BasicTransport>(status, made);
    }

    // Side B: joins the channel, waiting so long for a live side A to have made it.
    template <class Rep, class Period>
    static Must<BasicTransport> open(
        const std::string& name, std::chrono::duration<Rep, Period> wait, const Config& config = Config()) {
        cshm_transport* made = nullptr;
        const auto options = config.to_c();
        const auto time = detail::nanoseconds(wait);
        const Status status =
            options ? cshm_open(detail::c_text(name).c_str(), time, options.get(), &made) : CSHM_INVALID_ARGUMENT;
        return Policy::template must<BasicTransport>(status, made);
    }

    // Side B of a channel of its own, from the server of this name, waiting so long for the server and for a place.
    template <class Rep, class Period>
    static Must<BasicTransport> connect(
        const std::string& name, std::chrono::duration<Rep, Period> wait, const Config& config = Config()) {
        cshm_transport* made = nullptr;
        const auto options = config.to_c();
        const auto time = detail::nanoseconds(wait);
        const Status status =
            options ? cshm_connect(detail::c_text(name).c_str(), time, options.get(), &made) : CSHM_INVALID_ARGUMENT;
        return Policy::template must<BasicTransport>(status, made);
    }

    // An anonymous channel (Linux): this is its side A, and `descriptors` are for side B; see cshm_pair().
    static Must<BasicTransport> pair(std::array<int, 2>& descriptors, const Config& config = Config()) {
        cshm_transport* made = nullptr;
        const auto options = config.to_c();
        const Status status = options ? cshm_pair(options.get(), &made, descriptors.data()) : CSHM_INVALID_ARGUMENT;
        return Policy::template must<BasicTransport>(status, made);
    }

    // Side B of an anonymous channel. The descriptors are the library's from then on.
    static Must<BasicTransport> from_fds(const std::array<int, 2>& descriptors, const Config& config = Config()) {
        cshm_transport* made = nullptr;
        const auto options = config.to_c();
        const Status status =
            options ? cshm_from_fds(descriptors.data(), options.get(), &made) : CSHM_INVALID_ARGUMENT;
        return Policy::template must<BasicTransport>(status, made);
    }

    // Removes what a dead side A left.
    static Must<void> remove(const std::string& name, const Config& config = Config()) {
        const auto options = config.to_c();
        return Policy::template must<void>(
            options ? cshm_remove(detail::c_text(name).c_str(), options.get()) : CSHM_INVALID_ARGUMENT);
    }

    // Side B, after the peer is gone: joins the next generation.
    template <class Rep, class Period>
    Must<void> reopen(std::chrono::duration<Rep, Period> wait) {
        return Policy::template must<void>(cshm_reopen(get(), detail::nanoseconds(wait)));
    }

    // Closes both directions in order, whatever is open: what was, and every later call, says CSHM_HANDLE_CLOSED. CSHM_BUSY
    // from a callback of this transport, and as long as another thread waits in it.
    Must<void> close() {
        const Status status = transport_ ? cshm_close(get()) : CSHM_OK;
        if (status == CSHM_OK) listening_.reset();
        return Policy::template must<void>(status);
    }

    // Closes the direction in which this side sends, once the peer has released everything.
    template <class Rep, class Period>
    Maybe<void> finish(std::chrono::duration<Rep, Period> wait) {
        return Policy::template maybe<void>(cshm_finish(get(), detail::nanoseconds(wait)));
    }

    // Closes it now: the peer receives what was committed, then CSHM_CLOSED. This side goes on to receive.
    Must<void> shut_down() { return Policy::template must<void>(cshm_shut_down(get())); }

    template <class Rep, class Period>
    Maybe<void> wait_for_peer(std::chrono::duration<Rep, Period> wait) {
        return Policy::template maybe<void>(cshm_wait_for_peer(get(), detail::nanoseconds(wait)));
    }

    // Sending.

    Must<WriteSlot> reserve() {
        cshm_transport* const transport = get();
        const auto reserved = detail::reserve(transport, CSHM_FOREVER);
        return Policy::template must<WriteSlot>(reserved.status(), transport, reserved.slot());
    }
    Maybe<WriteSlot> try_reserve() { return reserve_within(CSHM_NOW); }
    template <class Rep, class Period>
    Maybe<WriteSlot> reserve_for(std::chrono::duration<Rep, Period> time) {
        return reserve_within(detail::nanoseconds(time));
    }

    // Adjacent slots for one message of up to `bytes` bytes.
    Must<WriteSlot> reserve_span(std::size_t bytes) {
        cshm_write_slot slot{};
        const Status status = cshm_reserve_span(get(), bytes, CSHM_FOREVER, &slot);
        return Policy::template must<WriteSlot>(status, get(), slot);
    }
    Maybe<WriteSlot> try_reserve_span(std::size_t bytes) { return reserve_span_within(bytes, CSHM_NOW); }
    template <class Rep, class Period>
    Maybe<WriteSlot> reserve_span_for(std::size_t bytes, std::chrono::duration<Rep, Period> time) {
        return reserve_span_within(bytes, detail::nanoseconds(time));
    }

    // The next part of something that has `bytes` bytes left and is sent in parts, each a message of its own; see
    // cshm_reserve_part(). It may hold fewer bytes, and holds at least one.
    Must<WriteSlot> reserve_part(std::size_t bytes) {
        cshm_write_slot slot{};
        const Status status = cshm_reserve_part(get(), bytes, CSHM_FOREVER, &slot);
        return Policy::template must<WriteSlot>(status, get(), slot);
    }
    Maybe<WriteSlot> try_reserve_part(std::size_t bytes) { return reserve_part_within(bytes, CSHM_NOW); }
    template <class Rep, class Period>
    Maybe<WriteSlot> reserve_part_for(std::size_t bytes, std::chrono::duration<Rep, Period> time) {
        return reserve_part_within(bytes, detail::nanoseconds(time));
    }

    // Copies one message into the next slot and publishes it.
    Must<void> send(Span<const std::uint8_t> message) {
        return Policy::template must<void>(cshm_send(get(), message.data(), message.size(), CSHM_FOREVER));
    }
    Must<void> send(std::string_view text) {
        return Policy::template must<void>(cshm_send(get(), text.data(), text.size(), CSHM_FOREVER));
    }
    Maybe<void> try_send(Span<const std::uint8_t> message) {
        return Policy::template maybe<void>(cshm_send(get(), message.data(), message.size(), CSHM_NOW));
    }
    Maybe<void> try_send(std::string_view text) {
        return Policy::template maybe<void>(cshm_send(get(), text.data(), text.size(), CSHM_NOW));
    }
    template <class Rep, class Period>
    Maybe<void> send_for(Span<const std::uint8_t> message, std::chrono::duration<Rep, Period> time) {
        return Policy::template maybe<void>(
            cshm_send(get(), message.data(), message.size(), detail::nanoseconds(time)));
    }
    template <class Rep, class Period>
    Maybe<void> send_for(std::string_view text, std::chrono::duration<Rep, Period> time) {
        return Policy::template maybe<void>(cshm_send(get(), text.data(), text.size(), detail::nanoseconds(time)));
    }

    // Begins to gather messages that become visible together.
    Must<Batch> batch() { return Policy::template must<Batch>(cshm_batch_begin(get()), get()); }

    // Receiving.

    Must<ReadSlot> recv() {
        cshm_read_slot slot{};
        const Status status = cshm_recv(get(), CSHM_FOREVER, &slot);
        return Policy::template must<ReadSlot>(status, get(), slot);
    }
    Maybe<ReadSlot> try_recv() { return recv_within(CSHM_NOW); }
    template <class Rep, class Period>
    Maybe<ReadSlot> recv_for(std::chrono::duration<Rep, Period> time) {
        return recv_within(detail::nanoseconds(time));
    }

    // The newest message. Older ones are released unseen.
    Must<ReadSlot> recv_latest() {
        cshm_read_slot slot{};
        const Status status = cshm_recv_latest(get(), CSHM_FOREVER, &slot);
        return Policy::template must<ReadSlot>(status, get(), slot);
    }
    Maybe<ReadSlot> try_recv_latest() { return latest_within(CSHM_NOW); }
    template <class Rep, class Period>
    Maybe<ReadSlot> recv_latest_for(std::chrono::duration<Rep, Period> time) {
        return latest_within(detail::nanoseconds(time));
    }

    // Copies the oldest message and releases it: for a peer that is not trusted. `out` is as it was if there is none.
    Must<void> recv_copied(std::vector<std::uint8_t>& out) {
        return Policy::template must<void>(copied(out, CSHM_FOREVER));
    }
    Maybe<void> try_recv_copied(std::vector<std::uint8_t>& out) {
        return Policy::template maybe<void>(copied(out, CSHM_NOW));
    }
    template <class Rep, class Period>
    Maybe<void> recv_copied_for(std::vector<std::uint8_t>& out, std::chrono::duration<Rep, Period> time) {
        return Policy::template maybe<void>(copied(out, detail::nanoseconds(time)));
    }

    // Hands up to `max` messages that are there to `each`, as Span<const uint8_t>, and releases them all at once.
    // Says how many there were. Ends early after the message for which `each` returns false, if it returns anything.
    template <class Each>
    Must<std::size_t> drain(std::size_t max, Each&& each) {
        detail::Draining<std::remove_reference_t<Each>> draining{each, nullptr};
        std::size_t count = 0;
        const Status status = cshm_drain(get(), max, &decltype(draining)::call, &draining, &count);
        if (draining.thrown) std::rethrow_exception(draining.thrown);
        return Policy::template must<std::size_t>(status, count);
    }

    // A window that holds several received messages.
    Must<Window> window() {
        if (cshm_window_release(get(), 0) == CSHM_OK) {
            return Policy::template refuse<Window>(CSHM_BUSY, "a window is open; drop it first");
        }
        return Policy::template must<Window>(cshm_window_wait_for(get(), 0, CSHM_NOW), get());
    }

    // Messages until the peer closes: `for (const auto& message : transport.messages())`. With exceptions, another
    // end throws; else it ends the loop, and the next call says which it was.
    detail::Messages<BasicTransport, ReadSlot> messages() & {
        return detail::Messages<BasicTransport, ReadSlot>(this);
    }

    // Receives in a thread of its own: `message(Span<const uint8_t>)` gets each, `ended(Status)` why it ended.
    Must<void> listen(
        std::function<void(Span<const std::uint8_t>)> message, std::function<void(Status)> ended = nullptr) {
        if (!message) return Policy::template refuse<void>(CSHM_NULL_ARGUMENT, "a listener needs a callback");
        auto listening = std::make_unique<detail::Listening>(detail::Listening{std::move(message), std::move(ended)});
        const Status status =
            cshm_listen(get(), &detail::Listening::on_message, &detail::Listening::on_end, listening.get());
        if (status == CSHM_OK) listening_ = std::move(listening);
        return Policy::template must<void>(status);
    }
    // Stops that, and says why it had ended: CSHM_INTERRUPTED if it had not.
    Must<Status> stop_listening() {
        Status reason = CSHM_OK;
        const Status status = cshm_listen_stop(get(), &reason);
        if (status == CSHM_OK) listening_.reset();
        return Policy::template must<Status>(status, reason);
    }
    bool is_listening() const noexcept { return cshm_is_listening(get()); }

    // For event loops: poll, epoll, asio, kj, GLib, Qt, libuv.

    // A descriptor that becomes readable when a message has come, after recv_arm() was true. Neither read nor close it.
    Must<int> recv_wait_fd() { return descriptor(&cshm_recv_wait_fd); }
    // Prepares to wait. True: there is nothing now, and the descriptor will tell. False: receive first.
    Must<bool> recv_arm() {
        bool armed = false;
        const Status status = cshm_recv_arm(get(), &armed);
        return Policy::template must<bool>(status, armed);
    }
    // The same for room: a slot, a span of `bytes` bytes, a part of something that has `bytes` bytes left.
    Must<int> send_wait_fd() { return descriptor(&cshm_send_wait_fd); }
    Must<bool> send_arm() {
        bool armed = false;
        const Status status = cshm_send_arm(get(), &armed);
        return Policy::template must<bool>(status, armed);
    }
    Must<bool> send_arm_span(std::size_t bytes) {
        bool armed = false;
        const Status status = cshm_send_arm_span(get(), bytes, &armed);
        return Policy::template must<bool>(status, armed);
    }
    Must<bool> send_arm_part(std::size_t bytes) {
        bool armed = false;
        const Status status = cshm_send_arm_part(get(), bytes, &armed);
        return Policy::template must<bool>(status, armed);
    }

    // From any thread.

    // The peer's process; none but on a channel of a server (Linux).
    std::optional<Peer> peer() const noexcept {
        Peer peer{};
        if (cshm_get_peer(get(), &peer) != CSHM_OK) return std::nullopt;
        return peer;
    }
    void interrupt() const noexcept { cshm_interrupt(get()); }
    Must<Stats> stats() const {
        Stats stats{};
        const Status status = cshm_get_stats(get(), &stats);
        return Policy::template must<Stats>(status, stats);
    }
    std::size_t slot_size() const noexcept { return cshm_slot_size(get()); }
    std::size_t slot_count() const noexcept { return cshm_slot_count(get()); }
    std::size_t max_message_size() const noexcept { return cshm_max_message_size(get()); }
    bool is_side_a() const noexcept { return cshm_is_side_a(get()); }
    bool peer_attached() const noexcept { return cshm_peer_attached(get()); }
    PollMode local_poll() const noexcept { return PollMode::of_number(cshm_local_poll(get())); }
    PollMode remote_poll() const noexcept { return PollMode::of_number(cshm_remote_poll(get())); }
    void set_local_poll(PollMode mode) const noexcept { cshm_set_local_poll(get(), mode.number()); }
    void set_remote_poll(PollMode mode) const noexcept { cshm_set_remote_poll(get(), mode.number()); }

    // The transport of the C interface; null when moved from.
    cshm_transport* get() const noexcept { return transport_.get(); }

private:
    friend class detail::Messages<BasicTransport, ReadSlot>::Iterator;
    template <class C>
    friend class Server;

    static const Config& declared(const Config& config) { return config; }

    void next(std::optional<ReadSlot>& message) {
        cshm_read_slot slot{};
        const Status status = cshm_recv(get(), CSHM_FOREVER, &slot);
        if (status == CSHM_OK) {
            message.emplace(get(), slot);
        } else if (status != CSHM_CLOSED && std::is_same_v<Policy, Throws>) {
            detail::fail(status);
        }
    }

    Maybe<WriteSlot> reserve_within(std::int64_t time) {
        cshm_transport* const transport = get();
        const auto reserved = detail::reserve(transport, time);
        return Policy::template maybe<WriteSlot>(reserved.status(), transport, reserved.slot());
    }
    Maybe<WriteSlot> reserve_span_within(std::size_t bytes, std::int64_t time) {
        cshm_write_slot slot{};
        const Status status = cshm_reserve_span(get(), bytes, time, &slot);
        return Policy::template maybe<WriteSlot>(status, get(), slot);
    }
    Maybe<WriteSlot> reserve_part_within(std::size_t bytes, std::int64_t time) {
        cshm_write_slot slot{};
        const Status status = cshm_reserve_part(get(), bytes, time, &slot);
        return Policy::template maybe<WriteSlot>(status, get(), slot);
    }
    Must<int> descriptor(Status (*wait_fd)(cshm_transport*, int*)) {
        int fd = -1;
        const Status status = wait_fd(get(), &fd);
        return Policy::template must<int>(status, fd);
    }
    Maybe<ReadSlot> recv_within(std::int64_t time) {
        cshm_read_slot slot{};
        const Status status = cshm_recv(get(), time, &slot);
        return Policy::template maybe<ReadSlot>(status, get(), slot);
    }
    Maybe<ReadSlot> latest_within(std::int64_t time) {
        cshm_read_slot slot{};
        const Status status = cshm_recv_latest(get(), time, &slot);
        return Policy::template maybe<ReadSlot>(status, get(), slot);
    }
    Status copied(std::vector<std::uint8_t>& out, std::int64_t time) {
        cshm_read_slot copy{};
        const Status status = cshm_recv_copied(get(), time, &copy);
        if (status == CSHM_OK) out.assign(copy.data, copy.data + copy.len);
        return status;
    }

    // Before the transport, whose end stops the listener that uses it.
    std::unique_ptr<detail::Listening> listening_;
    std::unique_ptr<cshm_transport, detail::FreeTransport> transport_;
};

using Transport = BasicTransport<Throws>;
using ExpectedTransport = BasicTransport<Returns>;
using WriteSlot = BasicWriteSlot<Throws>;
using Batch = BasicBatch<Throws>;
using Window = BasicWindow<Throws>;

// ---- Channel
// --------------------------------------------------------------------------------------------------------

namespace detail {

template <class T>
struct Bytes {
    unsigned char bytes[sizeof(T)];
};

#if defined(__has_builtin)
#if __has_builtin(__builtin_bit_cast)
#define CAPNPROTO_SHM_TRANSPORT_BIT_CAST
#endif
#endif

// Reading a padding byte is no constant expression, so this is none for a type that has one.
template <class T>
constexpr bool all_bytes_count() {
#if defined(CAPNPROTO_SHM_TRANSPORT_BIT_CAST)
    const auto cast = __builtin_bit_cast(Bytes<T>, T{});
    unsigned sum = 0;
    for (unsigned char byte : cast.bytes) sum += byte;
    return sum + 1 != 0;
#else
    return false;
#endif
}
#undef CAPNPROTO_SHM_TRANSPORT_BIT_CAST

template <class T, class = void>
struct AllBytesCount : std::false_type {};
template <class T>
struct AllBytesCount<T, std::enable_if_t<all_bytes_count<T>()>> : std::true_type {};

// Whether a type has no padding. The library's own answer is "no" for every type with a floating-point field.
template <class T>
constexpr bool without_padding() {
    if constexpr (std::has_unique_object_representations_v<T>) {
        return true;
    } else if constexpr (std::is_default_constructible_v<T>) {
        return AllBytesCount<T>::value;
    } else {
        return false;
    }
}

template <class T>
constexpr ValueKind value_kind() {
    static_assert(!std::is_const_v<T> && !std::is_reference_v<T>, "give the type of the message itself");
    static_assert(std::is_trivially_copyable_v<T>,
        "a message goes to another process as its bytes: it must be trivially copyable");
    static_assert(!std::is_pointer_v<T>, "a pointer means nothing in another process");
    static_assert(!std::is_empty_v<T>, "an empty type carries nothing");
    static_assert(alignof(T) <= 64, "slots are aligned to at most 64 bytes");
    static_assert(without_padding<T>(), "a message must have no padding: sort its fields by size, or fill the gaps "
                                        "with fields; and it must be constructible by T{} in "
                                        "a constant expression, so that this can be checked");
    return {sizeof(T), alignof(T)};
}

} // namespace detail

// A reserved slot as the value that it will carry, all zeros at first. Dropping it aborts it.
template <class T, class Policy>
class [[nodiscard]] BasicWriteValue {
public:
    BasicWriteValue(cshm_transport* transport, const cshm_write_slot& slot) noexcept : slot_(transport, slot) {
        std::memset(slot_.data(), 0, sizeof(T));
    }

    T& operator*() noexcept { return *get(); }
    T* operator->() noexcept { return get(); }
    T* get() noexcept { return std::launder(reinterpret_cast<T*>(slot_.data())); }

    // Makes it visible.
    typename Policy::template Must<void> commit() { return slot_.commit(sizeof(T)); }
    void abort() noexcept { slot_.abort(); }

private:
    BasicWriteSlot<Policy> slot_;
};

// A received value, in the slot it arrived in. Dropping it gives the slot back to the peer.
template <class R>
class [[nodiscard]] ReadValue {
public:
    ReadValue(cshm_transport* transport, const cshm_read_slot& slot) noexcept : slot_(transport, slot) {}

    const R& operator*() const noexcept { return *get(); }
    const R* operator->() const noexcept { return get(); }
    const R* get() const noexcept { return std::launder(reinterpret_cast<const R*>(slot_.data())); }
    void release() noexcept { slot_.release(); }

private:
    ReadSlot slot_;
};

// One side of a duplex channel of values: T goes out, R comes in. Both are plain data without padding, which is
// checked here; that both sides mean the same is checked, by size and alignment, when it is opened. A slot is exactly
// one value. Its other side may be a Rust `Channel` whose types are laid out alike.
template <class T, class R, class Policy>
class BasicChannel {
    template <class V>
    using Must = typename Policy::template Must<V>;
    template <class V>
    using Maybe = typename Policy::template Maybe<V>;
    using Inner = BasicTransport<Policy>;

public:
    using Failures = Policy;
    using WriteValue = BasicWriteValue<T, Policy>;
    using ReadValue = capnproto_shm_transport::ReadValue<R>;

    // Takes over a transport of the C interface, whose messages are these types.
    explicit BasicChannel(cshm_transport* transport) noexcept : transport_(transport) {}

    static Must<BasicChannel> create(const std::string& name, Config config = Config()) {
        cshm_transport* made = nullptr;
        const auto options = declared(std::move(config)).to_c();
        const Status status =
            options ? cshm_create(detail::c_text(name).c_str(), options.get(), &made) : CSHM_INVALID_ARGUMENT;
        return Policy::template must<BasicChannel>(status, made);
    }
    template <class Rep, class Period>
    static Must<BasicChannel> open(
        const std::string& name, std::chrono::duration<Rep, Period> wait, Config config = Config()) {
        cshm_transport* made = nullptr;
        const auto options = declared(std::move(config)).to_c();
        const auto time = detail::nanoseconds(wait);
        const Status status =
            options ? cshm_open(detail::c_text(name).c_str(), time, options.get(), &made) : CSHM_INVALID_ARGUMENT;
        return Policy::template must<BasicChannel>(status, made);
    }
    template <class Rep, class Period>
    static Must<BasicChannel> connect(
        const std::string& name, std::chrono::duration<Rep, Period> wait, Config config = Config()) {
        cshm_transport* made = nullptr;
        const auto options = declared(std::move(config)).to_c();
        const auto time = detail::nanoseconds(wait);
        const Status status =
            options ? cshm_connect(detail::c_text(name).c_str(), time, options.get(), &made) : CSHM_INVALID_ARGUMENT;
        return Policy::template must<BasicChannel>(status, made);
    }

    Must<WriteValue> reserve() {
        cshm_transport* const transport = get();
        const auto reserved = detail::reserve(transport, CSHM_FOREVER);
        return Policy::template must<WriteValue>(reserved.status(), transport, reserved.slot());
    }
    Maybe<WriteValue> try_reserve() { return reserve_within(CSHM_NOW); }
    template <class Rep, class Period>
    Maybe<WriteValue> reserve_for(std::chrono::duration<Rep, Period> time) {
        return reserve_within(detail::nanoseconds(time));
    }
    Must<void> send(const T& value) {
        return Policy::template must<void>(cshm_send(get(), &value, sizeof(T), CSHM_FOREVER));
    }
    Maybe<void> try_send(const T& value) {
        return Policy::template maybe<void>(cshm_send(get(), &value, sizeof(T), CSHM_NOW));
    }
    template <class Rep, class Period>
    Maybe<void> send_for(const T& value, std::chrono::duration<Rep, Period> time) {
        return Policy::template maybe<void>(cshm_send(get(), &value, sizeof(T), detail::nanoseconds(time)));
    }

    Must<ReadValue> recv() {
        cshm_read_slot slot{};
        const Status status = cshm_recv(get(), CSHM_FOREVER, &slot);
        return Policy::template must<ReadValue>(status, get(), slot);
    }
    Maybe<ReadValue> try_recv() { return recv_within(CSHM_NOW); }
    template <class Rep, class Period>
    Maybe<ReadValue> recv_for(std::chrono::duration<Rep, Period> time) {
        return recv_within(detail::nanoseconds(time));
    }
    Must<ReadValue> recv_latest() {
        cshm_read_slot slot{};
        const Status status = cshm_recv_latest(get(), CSHM_FOREVER, &slot);
        return Policy::template must<ReadValue>(status, get(), slot);
    }
    // Copies the oldest value and releases it: for a peer that is not trusted.
    Must<void> recv_copied(R& out) { return Policy::template must<void>(copied(out, CSHM_FOREVER)); }
    Maybe<void> try_recv_copied(R& out) { return Policy::template maybe<void>(copied(out, CSHM_NOW)); }

    // Hands up to `max` values that are there to `each`, as const R&; see BasicTransport::drain.
    template <class Each>
    Must<std::size_t> drain(std::size_t max, Each&& each) {
        return transport_.drain(max, [&each](Span<const std::uint8_t> bytes) {
            return each(*std::launder(reinterpret_cast<const R*>(bytes.data())));
        });
    }

    // Values until the peer closes: `for (const auto& value : channel.values()) use(value->id)`.
    detail::Messages<BasicChannel, ReadValue> values() & { return detail::Messages<BasicChannel, ReadValue>(this); }

    Must<void> listen(std::function<void(const R&)> value, std::function<void(Status)> ended = nullptr) {
        if (!value) return Policy::template refuse<void>(CSHM_NULL_ARGUMENT, "a listener needs a callback");
        auto each = [value = std::move(value)](Span<const std::uint8_t> bytes) {
            value(*std::launder(reinterpret_cast<const R*>(bytes.data())));
        };
        return transport_.listen(std::move(each), std::move(ended));
    }

    // Everything else is the transport's.
    Inner& transport() noexcept { return transport_; }
    const Inner& transport() const noexcept { return transport_; }
    cshm_transport* get() const noexcept { return transport_.get(); }

private:
    friend class detail::Messages<BasicChannel, ReadValue>::Iterator;
    template <class C>
    friend class Server;

    static Config declared(Config config) {
        config.sends_values(detail::value_kind<T>()).receives_values(detail::value_kind<R>());
        return config;
    }
    void next(std::optional<ReadValue>& value) {
        cshm_read_slot slot{};
        const Status status = cshm_recv(get(), CSHM_FOREVER, &slot);
        if (status == CSHM_OK) {
            value.emplace(get(), slot);
        } else if (status != CSHM_CLOSED && std::is_same_v<Policy, Throws>) {
            detail::fail(status);
        }
    }
    Maybe<WriteValue> reserve_within(std::int64_t time) {
        cshm_transport* const transport = get();
        const auto reserved = detail::reserve(transport, time);
        return Policy::template maybe<WriteValue>(reserved.status(), transport, reserved.slot());
    }
    Maybe<ReadValue> recv_within(std::int64_t time) {
        cshm_read_slot slot{};
        const Status status = cshm_recv(get(), time, &slot);
        return Policy::template maybe<ReadValue>(status, get(), slot);
    }
    Status copied(R& out, std::int64_t time) {
        cshm_read_slot copy{};
        const Status status = cshm_recv_copied(get(), time, &copy);
        if (status == CSHM_OK) std::memcpy(&out, copy.data, sizeof(R));
        return status;
    }

    Inner transport_;
};

template <class T, class R = T>
using Channel = BasicChannel<T, R, Throws>;
template <class T, class R = T>
using ExpectedChannel = BasicChannel<T, R, Returns>;

// ---- Many clients
// ---------------------------------------------------------------------------------------------------

// Gives each client that connects a channel of its own, of which it is side A: a Transport, a Channel<T, R> or a
// CapnpChannel<M, R>, of either face. Dropping it frees the name; its clients' channels stay.
template <class C = Transport>
class Server {
    using Policy = typename C::Failures;
    template <class T>
    using Must = typename Policy::template Must<T>;
    template <class T>
    using Maybe = typename Policy::template Maybe<T>;

public:
    explicit Server(cshm_server* server) noexcept : server_(server) {}
    Server(Server&&) noexcept = default;
    Server& operator=(Server&& other) noexcept {
        if (this != &other) {
            // In this order: the server ends before what it calls.
            server_ = std::move(other.server_);
            filter_ = std::move(other.filter_);
        }
        return *this;
    }

    // Takes the name and listens. Each client's channel is as the configuration says.
    static Must<Server> bind(const std::string& name, const Config& config = Config()) {
        cshm_server* made = nullptr;
        const auto options = C::declared(config).to_c();
        const Status status =
            options ? cshm_server_bind(detail::c_text(name).c_str(), options.get(), &made) : CSHM_INVALID_ARGUMENT;
        return Policy::template must<Server>(status, made);
    }

    // The next client's channel, as soon as a client has joined.
    Must<C> accept() {
        cshm_transport* made = nullptr;
        const Status status = cshm_server_accept(get(), CSHM_FOREVER, &made);
        return Policy::template must<C>(status, made);
    }
    Maybe<C> try_accept() { return accept_within(CSHM_NOW); }
    template <class Rep, class Period>
    Maybe<C> accept_for(std::chrono::duration<Rep, Period> time) {
        return accept_within(detail::nanoseconds(time));
    }

    // A descriptor that is readable as long as try_accept() has something to do (Linux). Neither read nor close it.
    Must<int> wait_fd() {
        int fd = -1;
        const Status status = cshm_server_wait_fd(get(), &fd);
        return Policy::template must<int>(status, fd);
    }

    // Says who may connect, by what the system attests of a client (Linux). In the thread that accepts; it throws nothing.
    Must<void> filter(std::function<bool(const Peer&)> allows) {
        if (!allows) return Policy::template refuse<void>(CSHM_NULL_ARGUMENT, "a filter needs a callback");
        auto filter = std::make_unique<Filter>(std::move(allows));
        const Status status = cshm_server_filter(get(), &ask, filter.get());
        if (status == CSHM_OK) filter_ = std::move(filter);
        return Policy::template must<void>(status);
    }
    // Clients at once, and their shared memory together. Further clients wait.
    Must<void> max_clients(std::size_t clients) {
        return Policy::template must<void>(cshm_server_max_clients(get(), clients));
    }
    Must<void> max_memory(std::uint64_t bytes) {
        return Policy::template must<void>(cshm_server_max_memory(get(), bytes));
    }
    // Clients at once that have not joined yet, and how long one may take to join.
    template <class Rep, class Period>
    Must<void> handshakes(std::size_t clients, std::chrono::duration<Rep, Period> time) {
        return Policy::template must<void>(cshm_server_handshakes(get(), clients, detail::nanoseconds(time)));
    }
    // How many clients have a channel now.
    std::size_t clients() const noexcept { return cshm_server_clients(get()); }

    cshm_server* get() const noexcept { return server_.get(); }

private:
    using Filter = std::function<bool(const Peer&)>;

    // As in a listener: an exception that nobody catches ends the program.
    static bool ask(const cshm_peer* client, void* context) noexcept {
        return (*static_cast<Filter*>(context))(*client);
    }
    Maybe<C> accept_within(std::int64_t time) {
        cshm_transport* made = nullptr;
        const Status status = cshm_server_accept(get(), time, &made);
        return Policy::template maybe<C>(status, made);
    }

    // Before the server, which calls it.
    std::unique_ptr<Filter> filter_;
    std::unique_ptr<cshm_server, detail::FreeServer> server_;
};

// Waits for messages on many channels at once, in one thread. Each is put in under a key of yours.
template <class Policy>
class BasicWaitSet {
    template <class T>
    using Must = typename Policy::template Must<T>;
    template <class T>
    using Maybe = typename Policy::template Maybe<T>;

public:
    using Keys = Span<const std::uint64_t>;

    explicit BasicWaitSet(cshm_wait_set* set) noexcept : set_(set) {}

    static Must<BasicWaitSet> create() {
        cshm_wait_set* made = nullptr;
        const Status status = cshm_wait_set_new(&made);
        return Policy::template must<BasicWaitSet>(status, made);
    }

    // Puts a Transport, Channel or CapnpChannel in, which stays yours. Do not wait for it otherwise meanwhile.
    template <class C>
    Must<void> insert(std::uint64_t key, C& channel) {
        return Policy::template must<void>(cshm_wait_set_insert(get(), key, channel.get()));
    }
    // Puts a duplicate of a descriptor in: a server's, a socket, a timer.
    Must<void> insert_fd(std::uint64_t key, int fd) {
        return Policy::template must<void>(cshm_wait_set_insert_fd(get(), key, fd));
    }
    Must<void> remove(std::uint64_t key) { return Policy::template must<void>(cshm_wait_set_remove(get(), key)); }
    std::size_t size() const noexcept { return cshm_wait_set_len(get()); }

    // The keys of those that have something to receive, or whose peer is gone. They stay until the next call.
    Must<Keys> wait() {
        const std::uint64_t* keys = nullptr;
        std::size_t count = 0;
        const Status status = cshm_wait_set_wait(get(), CSHM_FOREVER, &keys, &count);
        return Policy::template must<Keys>(status, keys, count);
    }
    Maybe<Keys> try_wait() { return wait_within(CSHM_NOW); }
    template <class Rep, class Period>
    Maybe<Keys> wait_for(std::chrono::duration<Rep, Period> time) {
        return wait_within(detail::nanoseconds(time));
    }

    cshm_wait_set* get() const noexcept { return set_.get(); }

private:
    Maybe<Keys> wait_within(std::int64_t time) {
        const std::uint64_t* keys = nullptr;
        std::size_t count = 0;
        const Status status = cshm_wait_set_wait(get(), time, &keys, &count);
        return Policy::template maybe<Keys>(status, keys, count);
    }

    std::unique_ptr<cshm_wait_set, detail::FreeWaitSet> set_;
};

using WaitSet = BasicWaitSet<Throws>;
using ExpectedWaitSet = BasicWaitSet<Returns>;

// ---- Looking on
// -----------------------------------------------------------------------------------------------------

// A channel as it stands under its name. It belongs to its Channels.
using ChannelInfo = cshm_channel_info;

// Channels as they were when they were looked at: `for (const auto& channel : Channels::list()) puts(channel.name)`.
template <class Policy>
class BasicChannels {
    template <class T>
    using Must = typename Policy::template Must<T>;

public:
    class Iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = ChannelInfo;
        using difference_type = std::ptrdiff_t;
        using pointer = const ChannelInfo*;
        using reference = const ChannelInfo&;

        Iterator(const cshm_channels* channels, std::size_t at) noexcept : channels_(channels), at_(at) {}
        reference operator*() const noexcept { return *cshm_channels_get(channels_, at_); }
        pointer operator->() const noexcept { return cshm_channels_get(channels_, at_); }
        Iterator& operator++() noexcept { return ++at_, *this; }
        Iterator operator++(int) noexcept { return {channels_, at_++}; }
        friend bool operator==(Iterator a, Iterator b) noexcept { return a.at_ == b.at_; }
        friend bool operator!=(Iterator a, Iterator b) noexcept { return a.at_ != b.at_; }

    private:
        const cshm_channels* channels_;
        std::size_t at_;
    };

    explicit BasicChannels(cshm_channels* channels) noexcept : channels_(channels) {}

    // Every channel of the directory, in the order of the names; also what is none that may be joined, with its problem.
    static Must<BasicChannels> list(const Config& config = Config()) {
        cshm_channels* made = nullptr;
        const auto options = config.to_c();
        const Status status = options ? cshm_channels_list(options.get(), &made) : CSHM_INVALID_ARGUMENT;
        return Policy::template must<BasicChannels>(status, made);
    }
    // One alone.
    static Must<BasicChannels> of(const std::string& name, const Config& config = Config()) {
        cshm_channels* made = nullptr;
        const auto options = config.to_c();
        const Status status =
            options ? cshm_channels_of(detail::c_text(name).c_str(), options.get(), &made) : CSHM_INVALID_ARGUMENT;
        return Policy::template must<BasicChannels>(status, made);
    }

    std::size_t size() const noexcept { return cshm_channels_len(channels_.get()); }
    bool empty() const noexcept { return size() == 0; }
    const ChannelInfo& operator[](std::size_t index) const noexcept {
        return *cshm_channels_get(channels_.get(), index);
    }
    Iterator begin() const noexcept { return {channels_.get(), 0}; }
    Iterator end() const noexcept { return {channels_.get(), size()}; }

private:
    std::unique_ptr<cshm_channels, detail::FreeChannels> channels_;
};

using Channels = BasicChannels<Throws>;
using ExpectedChannels = BasicChannels<Returns>;

// A message that a tap has read: a copy, which stays until the next call on the tap.
struct Tapped {
    explicit Tapped(const cshm_tapped& tapped) noexcept
        : bytes(tapped.data, tapped.len), sequence(tapped.sequence), missed(tapped.missed), from_b(tapped.from_b) {}

    Span<const std::uint8_t> bytes;
    // The number of its first slot, counted from 0 in each direction.
    std::uint64_t sequence;
    // Messages of this direction that were lost to the tap since the last that it delivered.
    std::uint64_t missed;
    // Whether side B sent it, to side A.
    bool from_b;
};

// Reads the messages of a channel in passing, as a third process: it takes no part and holds nothing up.
template <class Policy>
class BasicTap {
    template <class T>
    using Must = typename Policy::template Must<T>;
    template <class T>
    using Maybe = typename Policy::template Maybe<T>;

public:
    explicit BasicTap(cshm_tap* tap) noexcept : tap_(tap) {}

    static Must<BasicTap> open(const std::string& name, const Config& config = Config()) {
        cshm_tap* made = nullptr;
        const auto options = config.to_c();
        const Status status =
            options ? cshm_tap_open(detail::c_text(name).c_str(), options.get(), &made) : CSHM_INVALID_ARGUMENT;
        return Policy::template must<BasicTap>(status, made);
    }

    // The next message of either direction. The end comes when both directions have ended.
    Must<Tapped> next() {
        cshm_tapped tapped{};
        const Status status = cshm_tap_next(get(), CSHM_FOREVER, &tapped);
        return Policy::template must<Tapped>(status, tapped);
    }
    Maybe<Tapped> try_next() { return next_within(CSHM_NOW); }
    template <class Rep, class Period>
    Maybe<Tapped> next_for(std::chrono::duration<Rep, Period> time) {
        return next_within(detail::nanoseconds(time));
    }
    // Messages that were lost so far, in both directions.
    std::uint64_t missed() const noexcept { return cshm_tap_missed(get()); }

    cshm_tap* get() const noexcept { return tap_.get(); }

private:
    Maybe<Tapped> next_within(std::int64_t time) {
        cshm_tapped tapped{};
        const Status status = cshm_tap_next(get(), time, &tapped);
        return Policy::template maybe<Tapped>(status, tapped);
    }

    std::unique_ptr<cshm_tap, detail::FreeTap> tap_;
};

using Tap = BasicTap<Throws>;
using ExpectedTap = BasicTap<Returns>;

// ---- The class that this library replaces
// ---------------------------------------------------------------------------

struct SlotRingStats {
    std::uint64_t slotSize{0};
    std::uint64_t slotCount{0};
    std::uint64_t usedSlots{0};
    std::uint32_t shutdown{0};
};

struct SlotTransportStats {
    SlotRingStats tx;
    SlotRingStats rx;
};

// The library's version.
inline std::string version() { return cshm_version(); }

// Source-compatible with the class of this name that was built on Boost.Interprocess; see the README of crates/capi,
// "Coming from ShmFixedSlotDuplexTransport". Messages are exactly one slot long.
class ShmFixedSlotDuplexTransport {
public:
    using SlotRingStats = capnproto_shm_transport::SlotRingStats;
    using SlotTransportStats = capnproto_shm_transport::SlotTransportStats;
    using Callback = std::function<void(const std::uint8_t*, std::uint64_t)>;

    // Side A. With a callback, a thread of its own receives, in bursts of up to 64. Without initialPoll this side
    // sleeps in the kernel when idle, and is woken; with it, it looks at that interval, and 0 spins. Throws Error.
    ShmFixedSlotDuplexTransport(
        const std::string& name, std::uint64_t slotSize, std::uint64_t slotCount, Callback callback)
        : ShmFixedSlotDuplexTransport(created(name, slotSize, slotCount, PollMode::park()), std::move(callback)) {}
    ShmFixedSlotDuplexTransport(const std::string& name, std::uint64_t slotSize, std::uint64_t slotCount,
        Callback callback, std::chrono::microseconds initialPoll)
        : ShmFixedSlotDuplexTransport(created(name, slotSize, slotCount, mode(initialPoll)), std::move(callback)) {}

    // Side B, waiting up to `wait` for side A; a negative time waits without end. Throws Error.
    static ShmFixedSlotDuplexTransport open(const std::string& name, std::chrono::milliseconds wait) {
        return open(name, wait, nullptr);
    }
    static ShmFixedSlotDuplexTransport open(
        const std::string& name, std::chrono::milliseconds wait, Callback callback) {
        return {opened(name, wait, PollMode::park()), std::move(callback)};
    }
    static ShmFixedSlotDuplexTransport open(const std::string& name, std::chrono::milliseconds wait,
        Callback callback, std::chrono::microseconds initialPoll) {
        return {opened(name, wait, mode(initialPoll)), std::move(callback)};
    }

    ShmFixedSlotDuplexTransport(ShmFixedSlotDuplexTransport&&) noexcept = default;
    ShmFixedSlotDuplexTransport& operator=(ShmFixedSlotDuplexTransport&& other) noexcept {
        if (this != &other) {
            // In this order: the listener's thread ends before what it calls.
            transport_ = std::move(other.transport_);
            callback_ = std::move(other.callback_);
            slotSize_ = std::exchange(other.slotSize_, 0);
            slotCount_ = std::exchange(other.slotCount_, 0);
        }
        return *this;
    }
    ShmFixedSlotDuplexTransport(const ShmFixedSlotDuplexTransport&) = delete;
    ShmFixedSlotDuplexTransport& operator=(const ShmFixedSlotDuplexTransport&) = delete;
    ~ShmFixedSlotDuplexTransport() = default;

    // 1 if it was sent; 0 on timeout, once the peer is gone, and if `len` is not slotSize(). {-1} waits without end.
    std::uint32_t sendSlot(const std::uint8_t* data, std::uint64_t len, std::chrono::milliseconds timeout) {
        if (data == nullptr || len != slotSize_ || !transport_) return 0;
        return cshm_send(transport_.get(), data, len, time(timeout)) == CSHM_OK;
    }

    // 1 if a message was received, which `out` then is; 0 on timeout, once the peer is gone and everything is
    // received, and with a callback, which gets all.
    std::uint32_t recvSlot(std::vector<std::uint8_t>& out, std::chrono::milliseconds timeout) {
        cshm_read_slot message{};
        if (cshm_recv(transport_.get(), time(timeout), &message) != CSHM_OK) return 0;
        const ReadSlot borrowed(transport_.get(), message);
        out.assign(borrowed.begin(), borrowed.end());
        return 1;
    }

    std::uint32_t getStats(SlotTransportStats& out) {
        cshm_stats stats{};
        if (cshm_get_stats(transport_.get(), &stats) != CSHM_OK) return 0;
        const auto ring = [](const cshm_ring_stats& from) {
            return SlotRingStats{
                from.slot_size, from.slot_count, from.used_slots, static_cast<std::uint32_t>(from.closed)};
        };
        out = {ring(stats.tx), ring(stats.rx)};
        return 1;
    }

    std::uint64_t slotSize() const noexcept { return transport_ ? slotSize_ : 0; }
    std::uint64_t slotCount() const noexcept { return transport_ ? slotCount_ : 0; }
    // 1 on side A.
    std::uint32_t isCreator() const noexcept { return cshm_is_side_a(transport_.get()); }

    // 0 spins; a negative time sleeps in the kernel, which no interval does.
    void setLocalSidePollInterval(std::chrono::microseconds us) {
        cshm_set_local_poll(transport_.get(), mode(us).number());
    }
    void setRemoteSidePollInterval(std::chrono::microseconds us) {
        cshm_set_remote_poll(transport_.get(), mode(us).number());
    }
    // A side that sleeps in the kernel until it is woken is said to have the interval that was this class's default,
    // 1 ms.
    std::chrono::microseconds getLocalSidePollInterval() const { return interval(cshm_local_poll(transport_.get())); }
    std::chrono::microseconds getRemoteSidePollInterval() const {
        return interval(cshm_remote_poll(transport_.get()));
    }

    // Removes what a dead side A left. A channel whose side A lives stays.
    static void remove(const std::string& name) { cshm_remove(detail::c_text(name).c_str(), nullptr); }

private:
    using Handle = std::unique_ptr<cshm_transport, detail::FreeTransport>;

    ShmFixedSlotDuplexTransport(Handle transport, Callback callback)
        : callback_(callback ? std::make_unique<Callback>(std::move(callback)) : nullptr),
          transport_(std::move(transport)), slotSize_(cshm_slot_size(transport_.get())),
          slotCount_(cshm_slot_count(transport_.get())) {
        if (callback_) {
            const Status status = cshm_listen(transport_.get(), &received, nullptr, callback_.get());
            if (status != CSHM_OK) detail::fail(status);
        }
    }

    static Handle created(const std::string& name, std::uint64_t slotSize, std::uint64_t slotCount, PollMode poll) {
        const auto config = Config().slot_size(slotSize).slot_count(slotCount).poll(poll).to_c();
        cshm_transport* made = nullptr;
        const Status status =
            config ? cshm_create(detail::c_text(name).c_str(), config.get(), &made) : CSHM_INVALID_ARGUMENT;
        if (status != CSHM_OK) detail::fail(status);
        return Handle(made);
    }
    static Handle opened(const std::string& name, std::chrono::milliseconds wait, PollMode poll) {
        const auto config = Config().poll(poll).to_c();
        cshm_transport* made = nullptr;
        const Status status =
            config ? cshm_open(detail::c_text(name).c_str(), time(wait), config.get(), &made) : CSHM_INVALID_ARGUMENT;
        if (status != CSHM_OK) detail::fail(status);
        return Handle(made);
    }

    static void received(const std::uint8_t* data, std::size_t size, void* context) noexcept {
        (*static_cast<Callback*>(context))(data, size);
    }
    static PollMode mode(std::chrono::microseconds us) noexcept {
        return us.count() < 0 ? PollMode::park() : PollMode::interval(us);
    }
    static std::chrono::microseconds interval(std::int64_t mode) noexcept {
        return mode < 0 ? std::chrono::microseconds(1000) : std::chrono::microseconds(mode / 1000);
    }
    static std::int64_t time(std::chrono::milliseconds timeout) noexcept {
        return timeout.count() < 0 ? CSHM_FOREVER : detail::nanoseconds(timeout);
    }

    // Before the transport, whose end stops the thread that calls it.
    std::unique_ptr<Callback> callback_;
    Handle transport_;
    std::uint64_t slotSize_ = 0;
    std::uint64_t slotCount_ = 0;
};

} // namespace capnproto_shm_transport

#endif
