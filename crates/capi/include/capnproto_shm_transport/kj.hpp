// A channel in kj's event loop: a stream of bytes in place of a socket.
//
//     auto io = kj::setupAsyncIo();
//     ByteStream stream(Transport::connect("log", 1s), io.unixEventPort);
//     stream.write("hello", 5).wait(io.waitScope);
//
// The other side may be a ByteStream too, a Rust `Transport::into_io()`, or a transport that sends pieces of a stream.
// For Cap'n Proto RPC with a Rust program take rpc.hpp: there each message begins a part of its own.

#ifndef CAPNPROTO_SHM_TRANSPORT_KJ_HPP
#define CAPNPROTO_SHM_TRANSPORT_KJ_HPP

#include "../capnproto_shm_transport.hpp"

#include <kj/async-io.h>
#include <kj/async-unix.h>
#include <kj/exception.h>
#include <kj/string.h>

#include <algorithm>

namespace capnproto_shm_transport {

namespace detail {

inline bool is_end(Status status) noexcept {
    return status == CSHM_CLOSED || status == CSHM_PEER_DEAD || status == CSHM_SUPERSEDED;
}

// The last failure of this thread, as kj has it.
inline kj::Exception kj_exception(Status status) {
    const auto type = is_end(status) ? kj::Exception::Type::DISCONNECTED : kj::Exception::Type::FAILED;
    return {type, __FILE__, __LINE__, kj::heapString(cshm_last_error())};
}

// Bytes that lie in pieces.
class Pieces {
public:
    explicit Pieces(kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> pieces) : rest_(pieces) {
        for (const auto& piece : pieces) left_ += piece.size();
    }
    explicit Pieces(kj::ArrayPtr<const kj::byte> piece) : piece_(piece), left_(piece.size()) {}

    std::size_t left() const noexcept { return left_; }

    // Puts the next `size` bytes one behind the other. There are so many.
    void copy(std::uint8_t* to, std::size_t size) {
        left_ -= size;
        while (size > 0) {
            while (piece_.size() == 0) {
                piece_ = rest_[0];
                rest_ = rest_.slice(1, rest_.size());
            }
            const std::size_t now = std::min(size, piece_.size());
            std::memcpy(to, piece_.begin(), now);
            piece_ = piece_.slice(now, piece_.size());
            to += now;
            size -= now;
        }
    }

private:
    kj::ArrayPtr<const kj::byte> piece_;
    kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> rest_;
    std::size_t left_ = 0;
};

// A transport whose two halves wait in a kj event loop.
class KjTransport {
public:
    KjTransport(Transport transport, kj::UnixEventPort& port)
        : transport_(std::move(transport)),
          message_(port, transport_.recv_wait_fd(), kj::UnixEventPort::FdObserver::OBSERVE_READ),
          room_(port, transport_.send_wait_fd(), kj::UnixEventPort::FdObserver::OBSERVE_READ) {}
    KJ_DISALLOW_COPY(KjTransport);

    Transport& transport() noexcept { return transport_; }
    cshm_transport* get() const noexcept { return transport_.get(); }

    // After CSHM_EMPTY: a promise that is kept when there may be a message. None if there is something now; on failure
    // `status` says why.
    kj::Maybe<kj::Promise<void>> when_message(Status& status) {
        bool armed = false;
        status = cshm_recv_arm(get(), &armed);
        if (status != CSHM_OK || !armed) return nullptr;
        return message_.whenBecomesReadable();
    }

    // Sends bytes in parts, as there is room. They stay where they are until the promise is kept.
    kj::Promise<void> send(Pieces pieces) {
        while (pieces.left() > 0) {
            cshm_write_slot slot{};
            Status status = cshm_reserve_part(get(), pieces.left(), CSHM_NOW, &slot);
            if (status == CSHM_FULL) {
                bool armed = false;
                status = cshm_send_arm_part(get(), pieces.left(), &armed);
                if (status == CSHM_OK && !armed) continue;
                if (status == CSHM_OK) {
                    return room_.whenBecomesReadable().then([this, pieces]() { return send(pieces); });
                }
            }
            if (status != CSHM_OK) return failed(status);
            const std::size_t size = std::min(slot.capacity, pieces.left());
            pieces.copy(slot.data, size);
            status = cshm_commit(get(), size);
            if (status != CSHM_OK) return failed(status);
        }
        return kj::READY_NOW;
    }

    // Ends the direction in which this side sends.
    void shut_down() {
        const Status status = cshm_shut_down(get());
        if (status != CSHM_OK) kj::throwFatalException(kj_exception(status));
    }

    // Kept once a call has met the end of what the peer receives.
    kj::Promise<void> when_ended() { return ended_.addBranch(); }

    // Notes an end, if it is one of the direction in which this side sends.
    void note_end(Status status) {
        bool armed = false;
        if (status == CSHM_CLOSED) status = cshm_send_arm(get(), &armed);
        if (is_end(status)) end_.fulfiller->fulfill();
    }

private:
    kj::Promise<void> failed(Status status) {
        auto exception = kj_exception(status);
        if (is_end(status)) end_.fulfiller->fulfill();
        return kj::Promise<void>(kj::mv(exception));
    }

    Transport transport_;
    // They watch descriptors of the transport.
    kj::UnixEventPort::FdObserver message_;
    kj::UnixEventPort::FdObserver room_;
    kj::PromiseFulfillerPair<void> end_ = kj::newPromiseAndFulfiller<void>();
    kj::ForkedPromise<void> ended_ = end_.promise.fork();
};

} // namespace detail

// A transport as a stream of bytes in kj's event loop. A write goes into as many slots as are free and it needs, and waits
// for more. A read takes what is there. The borders of messages mean nothing. A peer that closed in order is the end of what
// is read; a peer that died is a DISCONNECTED exception, after everything that it sent was read.
class ByteStream final : public kj::AsyncIoStream {
public:
    // Takes the transport over. Throws Error if the system gives no descriptors to wait on.
    ByteStream(Transport transport, kj::UnixEventPort& port) : half_(std::move(transport), port) {}
    KJ_DISALLOW_COPY(ByteStream);

    kj::Promise<std::size_t> tryRead(void* buffer, std::size_t least, std::size_t most) override {
        return take(static_cast<std::uint8_t*>(buffer), least, most, 0);
    }
    kj::Promise<void> write(const void* buffer, std::size_t size) override {
        return half_.send(detail::Pieces(kj::ArrayPtr<const kj::byte>(static_cast<const kj::byte*>(buffer), size)));
    }
    kj::Promise<void> write(kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> pieces) override {
        return half_.send(detail::Pieces(pieces));
    }
    // Kept once a read or a write has met the end: nobody else looks.
    kj::Promise<void> whenWriteDisconnected() override { return half_.when_ended(); }
    void shutdownWrite() override { half_.shut_down(); }

    // To look and to ask.
    const Transport& transport() noexcept { return half_.transport(); }

private:
    kj::Promise<std::size_t> take(std::uint8_t* to, std::size_t least, std::size_t most, std::size_t got) {
        while (got < most) {
            if (!message_) {
                cshm_read_slot slot{};
                Status status = cshm_recv(half_.get(), CSHM_NOW, &slot);
                if (status == CSHM_EMPTY) {
                    if (got >= least) return got;
                    KJ_IF_MAYBE (promise, half_.when_message(status)) {
                        return promise->then([this, to, least, most, got]() { return take(to, least, most, got); });
                    }
                    if (status == CSHM_OK) continue;
                }
                if (status != CSHM_OK) return end(status, least, got);
                message_.emplace(half_.get(), slot);
                taken_ = 0;
            }
            const std::size_t now = std::min(most - got, message_->size() - taken_);
            std::memcpy(to + got, message_->data() + taken_, now);
            got += now;
            taken_ += now;
            if (taken_ == message_->size()) message_.reset();
        }
        return got;
    }

    kj::Promise<std::size_t> end(Status status, std::size_t least, std::size_t got) {
        auto exception = detail::kj_exception(status);
        half_.note_end(status);
        // A failure is told when everything before it is read.
        if (status == CSHM_CLOSED || (got > 0 && got >= least)) return got;
        return kj::Promise<std::size_t>(kj::mv(exception));
    }

    detail::KjTransport half_;
    // A message that is read in part, and how much of it is.
    std::optional<ReadSlot> message_;
    std::size_t taken_ = 0;
};

} // namespace capnproto_shm_transport

#endif
