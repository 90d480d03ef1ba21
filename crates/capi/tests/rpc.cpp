// RPC of the C++ library over a channel; the other side is this program, or the Rust example `rpc`.
//
//   rpc serve NAME     serves workshops until it is told to die
//   rpc call NAME      calls everything, twice, then has the server die
//   rpc alone NAME     what needs no other process

#include "capnproto_shm_transport/rpc.hpp"
#include "check.hpp"
#include "workshop.capnp.h"

#include <atomic>
#include <string>
#include <thread>
#include <vector>

using namespace capnproto_shm_transport;
using namespace std::chrono_literals;

namespace {

constexpr auto PATIENCE = 60s;
// More than a ring holds.
constexpr std::size_t LARGE = 1 << 20;

kj::Array<kj::byte> payload(std::size_t size) {
    auto bytes = kj::heapArray<kj::byte>(size);
    for (std::size_t at = 0; at < size; ++at) bytes[at] = static_cast<kj::byte>(at * 31 + size);
    return bytes;
}

class WorkshopImpl final : public Workshop::Server {
public:
    explicit WorkshopImpl(std::uint32_t depth = 0) : depth_(depth) {}

protected:
    kj::Promise<void> echo(EchoContext context) override {
        context.getResults().setPayload(context.getParams().getPayload());
        return kj::READY_NOW;
    }
    kj::Promise<void> inner(InnerContext context) override {
        context.getResults().setWorkshop(kj::heap<WorkshopImpl>(depth_ + 1));
        return kj::READY_NOW;
    }
    kj::Promise<void> depth(DepthContext context) override {
        context.getResults().setDepth(depth_);
        return kj::READY_NOW;
    }
    kj::Promise<void> fail(FailContext context) override {
        const auto params = context.getParams();
        return kj::Exception(static_cast<kj::Exception::Type>(params.getKind()), __FILE__, __LINE__,
            kj::heapString(params.getReason()));
    }
    kj::Promise<void> through(ThroughContext context) override {
        auto request = context.getParams().getWorkshop().echoRequest();
        request.setPayload(context.getParams().getPayload());
        return request.send().then([context](capnp::Response<Workshop::EchoResults>&& answer) mutable {
            context.getResults().setPayload(answer.getPayload());
        });
    }
    kj::Promise<void> piece(PieceContext context) override {
        count_ += 1;
        bytes_ += context.getParams().getPayload().size();
        return kj::READY_NOW;
    }
    kj::Promise<void> pieces(PiecesContext context) override {
        context.getResults().setCount(count_);
        context.getResults().setBytes(bytes_);
        count_ = bytes_ = 0;
        return kj::READY_NOW;
    }
    kj::Promise<void> count(CountContext context) override {
        context.getResults().setNumber(counted_++);
        return kj::READY_NOW;
    }
    kj::Promise<void> send(SendContext context) override {
        return send_more(
            context.getParams().getWorkshop(), context.getParams().getCount(), context.getParams().getSize());
    }
    kj::Promise<void> die(DieContext) override { std::abort(); }

private:
    static kj::Promise<void> send_more(Workshop::Client to, std::uint32_t count, std::uint32_t size) {
        if (count == 0) return kj::READY_NOW;
        auto request = to.pieceRequest();
        request.initPayload(size);
        return request.send().then([to, count, size]() mutable { return send_more(to, count - 1, size); });
    }

    std::uint32_t depth_;
    std::uint64_t counted_ = 0, count_ = 0, bytes_ = 0;
};

bool same(capnp::Data::Reader found, std::size_t size) { return found == payload(size).asPtr(); }

void call_all(Workshop::Client workshop, kj::WaitScope& scope) {
    // Pipelined: each call is on what the one before will return.
    auto inner = workshop;
    for (int at = 0; at < 3; ++at) inner = inner.innerRequest().send().getWorkshop();
    CHECK(inner.depthRequest().send().wait(scope).getDepth() == 3);

    for (const std::size_t size : {std::size_t{0}, std::size_t{5}, std::size_t{240}, std::size_t{4000}, LARGE}) {
        auto request = workshop.echoRequest();
        request.setPayload(payload(size));
        CHECK(same(request.send().wait(scope).getPayload(), size));
    }

    // The server calls back.
    Workshop::Client own = kj::heap<WorkshopImpl>();
    auto through = workshop.throughRequest();
    through.setWorkshop(own);
    through.setPayload(payload(100'000));
    CHECK(same(through.send().wait(scope).getPayload(), 100'000));

    for (const std::uint16_t kind : std::initializer_list<std::uint16_t>{0, 1, 3}) {
        auto request = workshop.failRequest();
        request.setKind(kind);
        request.setReason("out of wood");
        KJ_IF_MAYBE (exception, kj::runCatchingExceptions([&]() { request.send().wait(scope); })) {
            CHECK(static_cast<std::uint16_t>(exception->getType()) == kind);
            CHECK(std::string(exception->getDescription().cStr()).find("out of wood") != std::string::npos);
        } else {
            CHECK(false && "it did not fail");
        }
    }

    // Streams, there and back.
    for (int at = 0; at < 200; ++at) {
        auto request = workshop.pieceRequest();
        request.setPayload(payload(1000));
        request.send().wait(scope);
    }
    auto counted = workshop.piecesRequest().send().wait(scope);
    CHECK(counted.getCount() == 200 && counted.getBytes() == 200'000);
    auto send = workshop.sendRequest();
    send.setWorkshop(own);
    send.setCount(200);
    send.setSize(1000);
    send.send().wait(scope);
    auto own_count = own.piecesRequest().send().wait(scope);
    CHECK(own_count.getCount() == 200 && own_count.getBytes() == 200'000);

    // Many at once, in order.
    std::vector<kj::Promise<capnp::Response<Workshop::CountResults>>> calls;
    for (int at = 0; at < 500; ++at) calls.push_back(workshop.countRequest().send());
    for (std::uint64_t at = 0; at < 500; ++at) CHECK(calls[at].wait(scope).getNumber() == at);
}

void call(const std::string& name) {
    auto io = kj::setupAsyncIo();
    {
        RpcClient client(Transport::connect(name, PATIENCE), io.unixEventPort);
        call_all(client.bootstrap<Workshop>(), io.waitScope);
    }
    RpcClient client(Transport::connect(name, PATIENCE), io.unixEventPort);
    auto workshop = client.bootstrap<Workshop>();
    call_all(workshop, io.waitScope);
    CHECK(client.transport().peer()->pid != 0);
    KJ_IF_MAYBE (exception, kj::runCatchingExceptions([&]() { workshop.dieRequest().send().wait(io.waitScope); })) {
        CHECK(exception->getType() == kj::Exception::Type::DISCONNECTED);
    } else {
        CHECK(false && "it lives");
    }
    client.onDisconnect().wait(io.waitScope);
}

// Each client has a workshop of its own, so that counts begin anew.
void serve_all(const std::string& name) {
    auto io = kj::setupAsyncIo();
    auto server = Server<>::bind(name, Config().slot_size(256).slot_count(16));
    for (;;) {
        auto served = serve(server.accept(), io.unixEventPort, kj::heap<WorkshopImpl>());
        served.wait(io.waitScope);
    }
}

std::pair<Transport, Transport> both(const std::string& name, const Config& config = Config()) {
    auto a = Transport::create(name, config);
    return {std::move(a), Transport::open(name, PATIENCE)};
}

void bytes(const std::string& name) {
    auto io = kj::setupAsyncIo();
    auto [a, b] = both(name, Config().slot_size(16).slot_count(8));
    {
        ByteStream from(std::move(a), io.unixEventPort), to(std::move(b), io.unixEventPort);
        auto sent = payload(10'000);
        const kj::ArrayPtr<const kj::byte> pieces[] = {sent.slice(0, 1), sent.slice(1, 1), sent.slice(1, 10'000)};
        auto written =
            from.write(kj::arrayPtr(pieces, 3)).then([&from]() { from.shutdownWrite(); }).eagerlyEvaluate(nullptr);
        auto read = to.readAllBytes();
        const auto all = read.wait(io.waitScope);
        written.wait(io.waitScope);
        CHECK(all == sent);

        // The other way is open still, and a read takes what is there.
        to.write("hello", 5).wait(io.waitScope);
        char text[16];
        CHECK(from.tryRead(text, 2, 3).wait(io.waitScope) == 3 && std::memcmp(text, "hel", 3) == 0);
        CHECK(from.tryRead(text, 1, sizeof text).wait(io.waitScope) == 2 && std::memcmp(text, "lo", 2) == 0);
        auto waits = from.tryRead(text, 1, sizeof text);
        CHECK(!waits.poll(io.waitScope));
        to.write("x", 1).wait(io.waitScope);
        CHECK(waits.wait(io.waitScope) == 1);

        // A write waits for room until somebody reads.
        auto large = to.write(sent.begin(), sent.size()).eagerlyEvaluate(nullptr);
        CHECK(!large.poll(io.waitScope));
        auto got = kj::heapArray<kj::byte>(sent.size());
        from.read(got.begin(), got.size()).wait(io.waitScope);
        large.wait(io.waitScope);
        CHECK(got == sent);
    }
    auto [c, d] = both(name);
    ByteStream stream(std::move(c), io.unixEventPort);
    auto gone = stream.whenWriteDisconnected();
    CHECK(!gone.poll(io.waitScope));
    char text[16];
    auto end = stream.tryRead(text, 1, sizeof text);
    d.close();
    CHECK(end.wait(io.waitScope) == 0);
    KJ_IF_MAYBE (exception, kj::runCatchingExceptions([&]() { stream.write("x", 1).wait(io.waitScope); })) {
        CHECK(exception->getType() == kj::Exception::Type::DISCONNECTED);
    } else {
        CHECK(false && "it was written");
    }
    gone.wait(io.waitScope);
}

// Bytes that are no message end the connection, and nothing else.
void malformed(const std::string& name) {
    const std::vector<std::vector<std::uint8_t>> messages = {
        {},
        // Bytes behind the end of a message.
        {0, 0, 0, 0, 0, 0, 0, 0, 1},
        // More segments than are allowed, and as many as overflow.
        {255, 1, 0, 0, 0, 0, 0, 0},
        {255, 255, 255, 255, 0, 0, 0, 0},
        // Larger than what may be traversed.
        {0, 0, 0, 0, 0, 0, 0, 128},
    };
    for (const auto& message : messages) {
        auto io = kj::setupAsyncIo();
        auto [a, b] = both(name);
        MessageStream stream(std::move(a), io.unixEventPort);
        b.send(message);
        for (int round = 0; round < 2; ++round) {
            KJ_IF_MAYBE (exception,
                kj::runCatchingExceptions([&]() { (void)stream.tryReadMessage().wait(io.waitScope); })) {
                CHECK(exception->getType() == kj::Exception::Type::FAILED);
            } else {
                CHECK(false && "it was read");
            }
        }
    }
    // However it is cut, a message is what it was; and one that is cut off is an end like no other.
    auto io = kj::setupAsyncIo();
    auto [a, b] = both(name, Config().slot_size(8).slot_count(512));
    MessageStream stream(std::move(a), io.unixEventPort);
    capnp::MallocMessageBuilder builder(2, capnp::AllocationStrategy::FIXED_SIZE);
    auto list = builder.initRoot<capnp::List<capnp::Text>>(5);
    for (unsigned at = 0; at < 5; ++at) list.set(at, "twenty-four letters, yes");
    const auto words = capnp::messageToFlatArray(builder);
    const auto frame = words.asBytes();
    for (const std::size_t part : std::initializer_list<std::size_t>{1, 3, 8}) {
        for (std::size_t at = 0; at < frame.size(); at += part) {
            b.send({frame.begin() + at, std::min(part, frame.size() - at)});
        }
        auto read = stream.readMessage().wait(io.waitScope);
        CHECK(read->getRoot<capnp::List<capnp::Text>>()[4] == "twenty-four letters, yes");
    }
    b.send({frame.begin(), 8});
    b.close();
    KJ_IF_MAYBE (exception, kj::runCatchingExceptions([&]() { (void)stream.tryReadMessage().wait(io.waitScope); })) {
        CHECK(exception->getType() == kj::Exception::Type::DISCONNECTED);
    } else {
        CHECK(false && "half a message was read");
    }
}

// A server and its clients in one loop.
void together(const std::string& name) {
    auto io = kj::setupAsyncIo();
    RpcServer server(Server<>::bind(name), io.unixEventPort, kj::heap<WorkshopImpl>());
    auto listening = server.listen();
    kj::Promise<void> drained = nullptr;
    {
        // Connecting waits in a thread of its own: this one serves.
        auto connect = [&]() {
            std::optional<Transport> made;
            std::atomic<bool> done{false};
            std::thread thread([&]() {
                made.emplace(Transport::connect(name, PATIENCE));
                done = true;
            });
            while (!done) {
                io.provider->getTimer().afterDelay(1 * kj::MILLISECONDS).wait(io.waitScope);
            }
            thread.join();
            return std::move(*made);
        };
        RpcClient one(connect(), io.unixEventPort);
        RpcClient two(connect(), io.unixEventPort);
        auto count = [&](RpcClient& client) {
            return client.bootstrap<Workshop>().countRequest().send().wait(io.waitScope).getNumber();
        };
        CHECK(count(one) == 0 && count(two) == 1 && count(one) == 2);
        drained = server.drain();
        CHECK(!drained.poll(io.waitScope));
    }
    drained.wait(io.waitScope);
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    const std::string job = argv[1], name = argv[2];
    if (job == "serve") {
        serve_all(name);
    } else if (job == "call") {
        call(name);
    } else if (job == "alone") {
        bytes(name);
        malformed(name);
        together(name);
    } else {
        return 2;
    }
    std::puts("rpc: ok");
}
