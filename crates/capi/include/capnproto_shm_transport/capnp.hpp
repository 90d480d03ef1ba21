// Cap'n Proto messages (the C++ library), built and read in the slot that carries them.
//
//     auto channel = CapnpChannel<Quotes, Book>::create("quotes");     Quotes goes out, Book comes in
//     auto message = channel.reserve();
//     message.init().setVenue("XLON");                                 in the slot
//     message.commit();                                                visible now
//     auto answer = channel.recv();                                    borrowed from the slot
//     use(answer.get().getSymbol());
//
// While a message fits its reservation, no byte of it is copied and nothing is allocated. A slot carries one frame of
// the standard stream framing, so the other side may be a Rust CapnpChannel, or any program that reads frames. Both
// sides' type ids are compared when a channel is opened.
//
// The channel's own failures are told as Policy says. capnp's complaint about a message is a kj::Exception.

#ifndef CAPNPROTO_SHM_TRANSPORT_CAPNP_HPP
#define CAPNPROTO_SHM_TRANSPORT_CAPNP_HPP

#include "../capnproto_shm_transport.hpp"

#include <capnp/message.h>
#include <capnp/schema.h>
#include <capnp/serialize.h>

#include <algorithm>
#include <cstdlib>

namespace capnproto_shm_transport {

namespace detail {

constexpr std::size_t WORD = sizeof(capnp::word);
static_assert(WORD == 8, "a Cap'n Proto word has 8 bytes");

// capnp takes slots for zero when it builds, so this side has to clear them. The peer cannot write to the slots. So a
// slot holds only words that this side left there: so many, counted from its start.
class Leftovers {
public:
    explicit Leftovers(const cshm_transport* transport) { forget(transport); }

    // Of a fresh ring, all zeros.
    void forget(const cshm_transport* transport) {
        const std::size_t size = cshm_slot_size(transport);
        // As docs/layout.md has it: how far apart slots are.
        stride_ = 8;
        while (stride_ < size && stride_ < 64) stride_ *= 2;
        if (size > 64) stride_ = (size + 63) / 64 * 64;
        words_.assign(cshm_slot_count(transport), 0);
    }

    // Clears what was left in the slots of a reservation, which are this side's to their ends, and notes that from
    // now on anything may stand there.
    void clear(std::uint8_t* data, std::size_t capacity) {
        for (std::size_t at = 0; at < capacity; at += stride_) {
            std::size_t& left = words(data + at);
            std::memset(data + at, 0, left * WORD);
            left = stride_ / WORD;
        }
    }

    // Notes that nothing stands behind the first `used` bytes of a reservation that was cleared.
    void used(const std::uint8_t* data, std::size_t capacity, std::size_t used) {
        for (std::size_t at = 0; at < capacity; at += stride_) words(data + at) = within(at, used);
    }

    // Notes that bytes were written to a reservation that was not.
    void wrote(const std::uint8_t* data, std::size_t bytes) {
        for (std::size_t at = 0; at < bytes; at += stride_) {
            std::size_t& left = words(data + at);
            left = std::max(left, within(at, bytes));
        }
    }

private:
    // Words of the slot at `at` that so many bytes reach.
    std::size_t within(std::size_t at, std::size_t bytes) const {
        return bytes > at ? (std::min(stride_, bytes - at) + WORD - 1) / WORD : 0;
    }

    // Slots lie one after the other, so their addresses, in strides, count them.
    std::size_t& words(const std::uint8_t* data) {
        return words_[reinterpret_cast<std::uintptr_t>(data) / stride_ % words_.size()];
    }

    std::size_t stride_ = 8;
    std::vector<std::size_t> words_;
};

inline void put_u32(std::uint8_t* to, std::size_t value) {
    for (int at = 0; at < 4; ++at) to[at] = static_cast<std::uint8_t>(value >> (8 * at));
}

// The table in front of a frame's segments, and its length in words.
inline std::size_t table_words(std::size_t segments) { return segments / 2 + 1; }

} // namespace detail

// A message that is built where the peer will read it. commit() makes it visible; dropping it aborts it. One that
// outgrows its reservation goes on on the heap, and is copied once.
template <class M, class Policy>
class [[nodiscard]] BasicCapnpBuilder final : public capnp::MessageBuilder {
public:
    BasicCapnpBuilder(
        cshm_transport* transport, const cshm_write_slot& slot, detail::Leftovers* leftovers, std::int64_t time)
        : slot_(transport, slot), transport_(transport), leftovers_(leftovers), time_(time) {
        leftovers_->clear(slot_.data(), slot_.capacity());
    }
    KJ_DISALLOW_COPY(BasicCapnpBuilder);
    ~BasicCapnpBuilder() noexcept(false) {
        // Of a channel that is gone nothing is to be noted.
        if (!gone_ && !is_closed()) note_used(segments());
        for (auto& segment : spill_) std::free(segment.begin());
    }

    // Begins the message.
    typename M::Builder init() { return this->template initRoot<M>(); }
    // The message as it is.
    typename M::Builder root() { return this->template getRoot<M>(); }
    // Makes it a copy of one that exists.
    void set(typename M::Reader message) { this->setRoot(message); }

    // Publishes it. One that outgrew its reservation waits for a larger one as long as the reservation did;
    // CSHM_TOO_LARGE if it exceeds the ring. The message is lost on failure, and the channel goes on.
    typename Policy::template Must<void> commit() {
        if (gone_) {
            return Policy::template refuse<void>(CSHM_NOTHING_OPEN, "the message was committed already");
        }
        // Of a channel that was closed the slots are not there any more.
        if (is_closed()) return slot_.commit(0);
        auto all = segments();
        if (all.size() == 0) {
            // Nothing was set: a null root.
            this->template getRoot<capnp::AnyPointer>();
            all = segments();
        }
        gone_ = true;
        note_used(all);
        if (all.size() > 1 || !spill_.empty()) return Policy::template must<void>(commit_elsewhere(all));
        const std::size_t words = all[0].size();
        detail::put_u32(slot_.data(), 0);
        detail::put_u32(slot_.data() + 4, words);
        return slot_.commit((words + 1) * detail::WORD);
    }

    kj::ArrayPtr<capnp::word> allocateSegment(kj::uint least) override {
        const std::size_t words_in_slot = slot_.capacity() / detail::WORD;
        const std::size_t in_slot = words_in_slot > 0 ? words_in_slot - 1 : 0;
        if (!started_ && least <= in_slot) {
            started_ = true;
            total_ = in_slot;
            return {reinterpret_cast<capnp::word*>(slot_.data() + detail::WORD), in_slot};
        }
        started_ = true;
        // As large as everything before it, so that there are few.
        const std::size_t words = std::max<std::size_t>({least, total_, 128});
        auto* space = static_cast<capnp::word*>(std::calloc(words, detail::WORD));
        if (space == nullptr) throw std::bad_alloc();
        kj::ArrayPtr<capnp::word> segment(space, words);
        spill_.push_back(segment);
        total_ += words;
        return segment;
    }

private:
    using Segments = kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>>;

    bool is_closed() const { return cshm_slot_size(transport_) == 0; }

    Segments segments() { return started_ ? this->getSegmentsForOutput() : Segments(); }

    bool begins_in_slot(Segments all) const {
        return all.size() > 0 && reinterpret_cast<const std::uint8_t*>(all[0].begin()) == slot_.data() + detail::WORD;
    }

    void note_used(Segments all) {
        const std::size_t words = begins_in_slot(all) ? all[0].size() + 1 : 1;
        leftovers_->used(slot_.data(), slot_.capacity(), words * detail::WORD);
    }

    Status commit_elsewhere(Segments all) {
        std::size_t words = detail::table_words(all.size());
        for (const auto& segment : all) words += segment.size();
        slot_.abort();
        cshm_write_slot span{};
        const Status status = cshm_reserve_span(transport_, words * detail::WORD, time_, &span);
        if (status != CSHM_OK) return status;
        // The first segment may lie in these very slots, so it moves first.
        std::uint8_t* to = span.data + detail::table_words(all.size()) * detail::WORD;
        for (const auto& segment : all) {
            std::memmove(to, segment.begin(), segment.size() * detail::WORD);
            to += segment.size() * detail::WORD;
        }
        std::memset(span.data, 0, detail::table_words(all.size()) * detail::WORD);
        detail::put_u32(span.data, all.size() - 1);
        for (std::size_t at = 0; at < all.size(); ++at) detail::put_u32(span.data + 4 * (at + 1), all[at].size());
        leftovers_->wrote(span.data, words * detail::WORD);
        return cshm_commit(transport_, words * detail::WORD);
    }

    BasicWriteSlot<Policy> slot_;
    cshm_transport* transport_;
    detail::Leftovers* leftovers_;
    std::int64_t time_;
    std::vector<kj::ArrayPtr<capnp::word>> spill_;
    // Words given out.
    std::size_t total_ = 0;
    bool started_ = false;
    bool gone_ = false;
};

// A received message. Dropping it gives its slot back to the peer.
template <class R>
class [[nodiscard]] CapnpReader {
public:
    CapnpReader(cshm_transport* transport, const cshm_read_slot& slot, capnp::ReaderOptions options)
        : slot_(transport, slot), options_(options) {}
    KJ_DISALLOW_COPY(CapnpReader);

    // The message. Throws kj::Exception if it is malformed: the first time for its frame, and where a field is looked
    // at.
    typename R::Reader get() const {
        if (!reader_) reader_.emplace(words(), options_);
        return reader_->template getRoot<R>();
    }

    // The frame as it was received, of the standard stream framing.
    Span<const std::uint8_t> frame_bytes() const noexcept { return slot_.bytes(); }

private:
    kj::ArrayPtr<const capnp::word> words() const {
        return {reinterpret_cast<const capnp::word*>(slot_.data()), slot_.size() / detail::WORD};
    }

    ReadSlot slot_;
    capnp::ReaderOptions options_;
    mutable std::optional<capnp::FlatArrayMessageReader> reader_;
};

// One side of a duplex channel of Cap'n Proto messages: M goes out, R comes in.
template <class M, class R, class Policy>
class BasicCapnpChannel {
    template <class T>
    using Must = typename Policy::template Must<T>;
    template <class T>
    using Maybe = typename Policy::template Maybe<T>;
    using Inner = BasicTransport<Policy>;

public:
    using Failures = Policy;
    using Builder = BasicCapnpBuilder<M, Policy>;
    using Reader = CapnpReader<R>;

    explicit BasicCapnpChannel(cshm_transport* transport)
        : transport_(transport), leftovers_(std::make_unique<detail::Leftovers>(transport)) {}

    static Must<BasicCapnpChannel> create(const std::string& name, Config config = Config()) {
        cshm_transport* made = nullptr;
        const auto options = declared(std::move(config)).to_c();
        const Status status =
            options ? cshm_create(detail::c_text(name).c_str(), options.get(), &made) : CSHM_INVALID_ARGUMENT;
        return Policy::template must<BasicCapnpChannel>(status, made);
    }
    template <class Rep, class Period>
    static Must<BasicCapnpChannel> open(
        const std::string& name, std::chrono::duration<Rep, Period> wait, Config config = Config()) {
        cshm_transport* made = nullptr;
        const auto options = declared(std::move(config)).to_c();
        const auto time = detail::nanoseconds(wait);
        const Status status =
            options ? cshm_open(detail::c_text(name).c_str(), time, options.get(), &made) : CSHM_INVALID_ARGUMENT;
        return Policy::template must<BasicCapnpChannel>(status, made);
    }

    template <class Rep, class Period>
    static Must<BasicCapnpChannel> connect(
        const std::string& name, std::chrono::duration<Rep, Period> wait, Config config = Config()) {
        cshm_transport* made = nullptr;
        const auto options = declared(std::move(config)).to_c();
        const auto time = detail::nanoseconds(wait);
        const Status status =
            options ? cshm_connect(detail::c_text(name).c_str(), time, options.get(), &made) : CSHM_INVALID_ARGUMENT;
        return Policy::template must<BasicCapnpChannel>(status, made);
    }

    // A message in the next slot.
    Must<Builder> reserve() {
        const auto reserved = detail::reserve(get(), CSHM_FOREVER);
        return Policy::template must<Builder>(
            reserved.status(), get(), reserved.slot(), leftovers_.get(), std::int64_t{CSHM_FOREVER});
    }
    Maybe<Builder> try_reserve() { return reserve_within(CSHM_NOW); }
    template <class Rep, class Period>
    Maybe<Builder> reserve_for(std::chrono::duration<Rep, Period> time) {
        return reserve_within(detail::nanoseconds(time));
    }
    // The same with room for a frame of so many bytes, which are 8 and the message's own words.
    Must<Builder> reserve_with_capacity(std::size_t bytes) {
        cshm_write_slot slot{};
        const Status status =
            cshm_reserve_span(get(), std::max<std::size_t>(16, (bytes + 7) / 8 * 8), CSHM_FOREVER, &slot);
        return Policy::template must<Builder>(status, get(), slot, leftovers_.get(), std::int64_t{CSHM_FOREVER});
    }
    // Sends a copy of a message that exists.
    Must<void> send(typename M::Reader message) {
        const auto reserved = detail::reserve(get(), CSHM_FOREVER);
        if (reserved.status() != CSHM_OK) return Policy::template must<void>(reserved.status());
        Builder builder(get(), reserved.slot(), leftovers_.get(), CSHM_FOREVER);
        builder.set(message);
        return builder.commit();
    }

    // The oldest message, in its slot.
    Must<Reader> recv() {
        cshm_read_slot slot{};
        const Status status = cshm_recv(get(), CSHM_FOREVER, &slot);
        return Policy::template must<Reader>(status, get(), slot, options(slot));
    }
    Maybe<Reader> try_recv() { return recv_within(CSHM_NOW); }
    template <class Rep, class Period>
    Maybe<Reader> recv_for(std::chrono::duration<Rep, Period> time) {
        return recv_within(detail::nanoseconds(time));
    }
    // The oldest message, copied out of its slot, for a peer that is not trusted. The copy stays until the next call
    // of this.
    Must<Reader> recv_copied() {
        cshm_read_slot copy{};
        const Status status = cshm_recv_copied(get(), CSHM_FOREVER, &copy);
        if (status == CSHM_OK && reinterpret_cast<std::uintptr_t>(copy.data) % detail::WORD != 0) {
            copy_.resize((copy.len + 7) / 8);
            std::memcpy(copy_.data(), copy.data, copy.len);
            copy.data = reinterpret_cast<const std::uint8_t*>(copy_.data());
        }
        return Policy::template must<Reader>(status, nullptr, copy, options(copy));
    }

    // Messages until the peer closes: `for (const auto& message : channel.messages()) use(message.get())`.
    detail::Messages<BasicCapnpChannel, Reader> messages() & {
        return detail::Messages<BasicCapnpChannel, Reader>(this);
    }

    // How far readers go into each message received from now on. By default messages may nest 64 deep, and 64 MiB may
    // be traversed, or eight times the frame if that is more.
    void reader_options(capnp::ReaderOptions options) { options_ = options; }

    // As the transport's.
    template <class Rep, class Period>
    Must<void> reopen(std::chrono::duration<Rep, Period> wait) {
        const Status status = cshm_reopen(get(), detail::nanoseconds(wait));
        if (status == CSHM_OK) leftovers_->forget(get());
        return Policy::template must<void>(status);
    }
    template <class Rep, class Period>
    Maybe<void> finish(std::chrono::duration<Rep, Period> wait) {
        return transport_.finish(wait);
    }
    template <class Rep, class Period>
    Maybe<void> wait_for_peer(std::chrono::duration<Rep, Period> wait) {
        return transport_.wait_for_peer(wait);
    }
    Must<void> shut_down() { return transport_.shut_down(); }
    Must<void> close() { return transport_.close(); }
    Must<int> recv_wait_fd() { return transport_.recv_wait_fd(); }
    Must<bool> recv_arm() { return transport_.recv_arm(); }
    Must<int> send_wait_fd() { return transport_.send_wait_fd(); }
    Must<bool> send_arm() { return transport_.send_arm(); }

    // To look and to ask; send by the channel alone, which knows what it left in the slots.
    const Inner& transport() const noexcept { return transport_; }
    cshm_transport* get() const noexcept { return transport_.get(); }

private:
    friend class detail::Messages<BasicCapnpChannel, Reader>::Iterator;

    template <class C>
    friend class Server;

    static Config declared(Config config) {
        config.sends_capnp(capnp::typeId<M>()).receives_capnp(capnp::typeId<R>());
        return config;
    }
    void next(std::optional<Reader>& message) {
        cshm_read_slot slot{};
        const Status status = cshm_recv(get(), CSHM_FOREVER, &slot);
        if (status == CSHM_OK) {
            message.emplace(get(), slot, options(slot));
        } else if (status != CSHM_CLOSED && std::is_same_v<Policy, Throws>) {
            detail::fail(status);
        }
    }
    capnp::ReaderOptions options(const cshm_read_slot& slot) const {
        if (options_) return *options_;
        capnp::ReaderOptions options;
        options.traversalLimitInWords = std::max<std::uint64_t>(options.traversalLimitInWords, slot.len);
        return options;
    }
    Maybe<Builder> reserve_within(std::int64_t time) {
        const auto reserved = detail::reserve(get(), time);
        return Policy::template maybe<Builder>(reserved.status(), get(), reserved.slot(), leftovers_.get(), time);
    }
    Maybe<Reader> recv_within(std::int64_t time) {
        cshm_read_slot slot{};
        const Status status = cshm_recv(get(), time, &slot);
        return Policy::template maybe<Reader>(status, get(), slot, options(slot));
    }

    Inner transport_;
    std::unique_ptr<detail::Leftovers> leftovers_;
    std::optional<capnp::ReaderOptions> options_;
    std::vector<std::uint64_t> copy_;
};

template <class M, class R = M>
using CapnpChannel = BasicCapnpChannel<M, R, Throws>;
template <class M, class R = M>
using ExpectedCapnpChannel = BasicCapnpChannel<M, R, Returns>;

} // namespace capnproto_shm_transport

#endif
