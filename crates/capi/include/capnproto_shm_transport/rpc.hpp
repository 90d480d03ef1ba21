// Cap'n Proto RPC of the C++ library over a channel, with a C++ or a Rust program (feature `rpc`) on the other side.
//
//     auto io = kj::setupAsyncIo();
//     RpcClient client(Transport::connect("calculator", 1s), io.unixEventPort);
//     auto calculator = client.bootstrap<Calculator>();
//     ... calculator.addRequest().send().wait(io.waitScope) ...
//
//     RpcServer server(Server<>::bind("calculator"), io.unixEventPort, kj::heap<CalculatorImpl>());
//     server.listen().wait(io.waitScope);
//
// Pipelining, capabilities both ways, exceptions, streaming and messages of any size are as over a socket.

#ifndef CAPNPROTO_SHM_TRANSPORT_RPC_HPP
#define CAPNPROTO_SHM_TRANSPORT_RPC_HPP

#include "capnp.hpp"
#include "kj.hpp"

#include <capnp/rpc-twoparty.h>
#include <capnp/serialize-async.h>
#include <capnp/serialize.h>

#include <limits>

namespace capnproto_shm_transport {

// The messages of a connection, for capnp::TwoPartyVatNetwork. Each begins a part of its own, as docs/layout.md has it under
// "RPC". Incoming messages are copied once, and nothing that the peer writes afterwards matters.
class MessageStream final : public capnp::MessageStream {
public:
    // Takes the transport over. Throws Error if the system gives no descriptors to wait on.
    MessageStream(Transport transport, kj::UnixEventPort& port) : half_(std::move(transport), port) {}
    KJ_DISALLOW_COPY(MessageStream);

    using capnp::MessageStream::tryReadMessage;
    using capnp::MessageStream::writeMessage;
    using capnp::MessageStream::writeMessages;

    kj::Promise<kj::Maybe<capnp::MessageReaderAndFds>> tryReadMessage(
        kj::ArrayPtr<kj::AutoCloseFd>, capnp::ReaderOptions options, kj::ArrayPtr<capnp::word>) override {
        return read(options);
    }

    kj::Promise<void> writeMessage(
        kj::ArrayPtr<const int> descriptors, kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>> segments) override {
        KJ_REQUIRE(descriptors.size() == 0, "a channel carries no descriptors");
        KJ_REQUIRE(segments.size() > 0 && segments.size() <= MOST_SEGMENTS,
            "a message of so many segments is refused", segments.size());
        auto table = kj::heapArray<kj::byte>(detail::table_words(segments.size()) * detail::WORD);
        auto pieces = kj::heapArray<kj::ArrayPtr<const kj::byte>>(segments.size() + 1);
        std::memset(table.begin(), 0, table.size());
        detail::put_u32(table.begin(), segments.size() - 1);
        pieces[0] = table.asPtr();
        for (std::size_t at = 0; at < segments.size(); ++at) {
            detail::put_u32(table.begin() + 4 * (at + 1), segments[at].size());
            pieces[at + 1] = segments[at].asBytes();
        }
        auto sent = half_.send(detail::Pieces(pieces.asPtr()));
        return sent.attach(kj::mv(table), kj::mv(pieces));
    }

    kj::Promise<void> writeMessages(
        kj::ArrayPtr<kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>>> messages) override {
        if (messages.size() == 0) return kj::READY_NOW;
        auto sent = writeMessage(nullptr, messages[0]);
        if (messages.size() == 1) return sent;
        return sent.then([this, rest = messages.slice(1, messages.size())]() { return writeMessages(rest); });
    }

    kj::Maybe<int> getSendBufferSize() override {
        const std::size_t most = std::numeric_limits<int>::max();
        return static_cast<int>(std::min(half_.transport().max_message_size(), most));
    }

    kj::Promise<void> end() override {
        half_.shut_down();
        return kj::READY_NOW;
    }

    // To look and to ask.
    const Transport& transport() noexcept { return half_.transport(); }

private:
    using Message = kj::Maybe<capnp::MessageReaderAndFds>;

    static constexpr std::size_t MOST_SEGMENTS = 511;
    static constexpr std::size_t WORD = detail::WORD;

    kj::Promise<Message> read(capnp::ReaderOptions options) {
        if (malformed_) return failed("the peer has sent what is no message");
        for (;;) {
            cshm_read_slot part{};
            Status status = cshm_recv(half_.get(), CSHM_NOW, &part);
            if (status == CSHM_EMPTY) {
                KJ_IF_MAYBE (promise, half_.when_message(status)) {
                    return promise->then([this, options]() { return read(options); });
                }
                if (status == CSHM_OK) continue;
            }
            if (status == CSHM_CLOSED && filled_ == 0) return Message(nullptr);
            if (status != CSHM_OK) return kj::Promise<Message>(detail::kj_exception(status));
            const char* problem = nullptr;
            {
                const ReadSlot held(half_.get(), part);
                problem = take(part, options);
            }
            if (problem != nullptr) {
                malformed_ = true;
                return failed(problem);
            }
            if (filled_ == needed_) return complete(options);
        }
    }

    static kj::Promise<Message> failed(const char* what) {
        return kj::Promise<Message>(
            kj::Exception(kj::Exception::Type::FAILED, __FILE__, __LINE__, kj::heapString(what)));
    }

    // Copies a part behind those before it. Says what is wrong with it.
    const char* take(const cshm_read_slot& part, const capnp::ReaderOptions& options) {
        if (part.len == 0) return "what came is no RPC message: a part has no bytes";
        make_room(filled_ + part.len);
        std::memcpy(words_.asBytes().begin() + filled_, part.data, part.len);
        filled_ += part.len;
        while (filled_ >= needed_) {
            const std::size_t words = capnp::expectedSizeInWordsFromPrefix(words_.slice(0, filled_ / WORD));
            const std::size_t needed = words * WORD;
            if (filled_ >= WORD && segments() > MOST_SEGMENTS) {
                return "what came is no RPC message: it has too many segments";
            }
            if (words > options.traversalLimitInWords &&
                words - options.traversalLimitInWords > MOST_SEGMENTS / 2 + 1) {
                return "a message is too large for what the reader options of this side allow to traverse";
            }
            if (needed < filled_) return "what came is no RPC message: bytes follow its end";
            if (needed == needed_ && needed == filled_) return nullptr;
            needed_ = needed;
            make_room(needed);
            if (needed > filled_) return nullptr;
        }
        return nullptr;
    }

    // As the table in the first word has it. A number that overflows is refused by its size.
    std::size_t segments() const {
        const auto* table = words_.asBytes().begin();
        std::size_t less_one = 0;
        for (int at = 0; at < 4; ++at) less_one |= static_cast<std::size_t>(table[at]) << (8 * at);
        return less_one + 1;
    }

    void make_room(std::size_t bytes) {
        const std::size_t words = (bytes + WORD - 1) / WORD;
        if (words <= words_.size()) return;
        auto larger = kj::heapArray<capnp::word>(words);
        if (filled_ > 0) std::memcpy(larger.asBytes().begin(), words_.asBytes().begin(), filled_);
        words_ = kj::mv(larger);
    }

    kj::Promise<Message> complete(capnp::ReaderOptions options) {
        auto words = kj::mv(words_);
        const std::size_t size = filled_ / WORD;
        filled_ = needed_ = 0;
        auto reader = kj::heap<capnp::FlatArrayMessageReader>(words.slice(0, size), options);
        return Message(capnp::MessageReaderAndFds{reader.attach(kj::mv(words)), nullptr});
    }

    detail::KjTransport half_;
    // The message that is on its way: its first bytes, how many they are, and how many there must be to tell more.
    kj::Array<capnp::word> words_;
    std::size_t filled_ = 0;
    std::size_t needed_ = 0;
    bool malformed_ = false;
};

// One side of a connection that only calls: a client of what the peer serves. Dropping it ends the connection.
class RpcClient {
public:
    RpcClient(Transport transport, kj::UnixEventPort& port, capnp::ReaderOptions options = capnp::ReaderOptions())
        : stream_(std::move(transport), port), network_(stream_, capnp::rpc::twoparty::Side::CLIENT, options),
          system_(capnp::makeRpcClient(network_)) {}
    KJ_DISALLOW_COPY(RpcClient);

    // The capability that the peer serves.
    capnp::Capability::Client bootstrap() {
        capnp::word scratch[4];
        std::memset(scratch, 0, sizeof scratch);
        capnp::MallocMessageBuilder message(scratch);
        auto id = message.getRoot<capnp::rpc::twoparty::VatId>();
        id.setSide(capnp::rpc::twoparty::Side::SERVER);
        return system_.bootstrap(id);
    }
    template <class T>
    typename T::Client bootstrap() {
        return bootstrap().castAs<T>();
    }

    kj::Promise<void> onDisconnect() { return network_.onDisconnect(); }
    // To look and to ask.
    const Transport& transport() noexcept { return stream_.transport(); }

private:
    MessageStream stream_;
    capnp::TwoPartyVatNetwork network_;
    capnp::RpcSystem<capnp::rpc::twoparty::VatId> system_;
};

// Serves a capability to the peer of a transport. The promise is kept when the connection has ended; dropping it ends it.
inline kj::Promise<void> serve(Transport transport, kj::UnixEventPort& port, capnp::Capability::Client bootstrap,
    capnp::ReaderOptions options = capnp::ReaderOptions()) {
    struct Connection {
        Connection(
            Transport taken, kj::UnixEventPort& on, capnp::Capability::Client serves, capnp::ReaderOptions read)
            : stream(std::move(taken), on), network(stream, capnp::rpc::twoparty::Side::SERVER, read),
              system(capnp::makeRpcServer(network, kj::mv(serves))) {}

        MessageStream stream;
        capnp::TwoPartyVatNetwork network;
        capnp::RpcSystem<capnp::rpc::twoparty::VatId> system;
    };
    auto connection = kj::heap<Connection>(std::move(transport), port, kj::mv(bootstrap), options);
    auto ended = connection->network.onDisconnect();
    return ended.attach(kj::mv(connection));
}

// Serves a capability to every client of a server. A client that fails ends alone.
class RpcServer final : private kj::TaskSet::ErrorHandler {
public:
    RpcServer(Server<Transport> server, kj::UnixEventPort& port, capnp::Capability::Client bootstrap,
        capnp::ReaderOptions options = capnp::ReaderOptions())
        : server_(std::move(server)), port_(port), bootstrap_(kj::mv(bootstrap)), options_(options), clients_(*this) {
    }
    KJ_DISALLOW_COPY(RpcServer);

    // Accepts clients, without end: drop the promise to stop. Those who are there stay.
    kj::Promise<void> listen() {
        for (;;) {
            cshm_transport* made = nullptr;
            const Status status = cshm_server_accept(server_.get(), CSHM_NOW, &made);
            if (status == CSHM_OK) {
                clients_.add(kj::evalNow([&]() { return serve(Transport(made), port_, bootstrap_, options_); }));
                continue;
            }
            if (status == CSHM_EMPTY) {
                // Anew each time, so that what was there before is told too.
                auto watch = kj::heap<kj::UnixEventPort::FdObserver>(
                    port_, server_.wait_fd(), kj::UnixEventPort::FdObserver::OBSERVE_READ);
                auto come = watch->whenBecomesReadable();
                return come.attach(kj::mv(watch)).then([this]() { return listen(); });
            }
            // The next try may fail as soon.
            taskFailed(detail::kj_exception(status));
            return port_.getTimer().afterDelay(50 * kj::MILLISECONDS).then([this]() { return listen(); });
        }
    }

    // Kept when no client is there.
    kj::Promise<void> drain() { return clients_.onEmpty(); }

    Server<Transport>& server() noexcept { return server_; }

private:
    void taskFailed(kj::Exception&& exception) override { KJ_LOG(ERROR, exception); }

    Server<Transport> server_;
    kj::UnixEventPort& port_;
    capnp::Capability::Client bootstrap_;
    capnp::ReaderOptions options_;
    kj::TaskSet clients_;
};

} // namespace capnproto_shm_transport

#endif
