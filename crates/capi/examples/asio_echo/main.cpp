// Echo in Boost.Asio's event loop: one thread serves every client, and sleeps while none has anything to say.
//
//   asio_echo server NAME [CLIENTS]     until so many clients have come and gone; without end if not given
//   asio_echo client NAME               in other terminals

#include "capnproto_shm_transport.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

using namespace capnproto_shm_transport;
using namespace std::chrono_literals;
namespace asio = boost::asio;

namespace {

constexpr std::uint32_t MESSAGES = 100'000;
constexpr auto PATIENCE = 60s;
// Messages that one client is answered before it is another's turn.
constexpr int TURN = 64;

// A descriptor that belongs to a channel or a server, watched and never closed here.
class Watch {
public:
    Watch(asio::io_context& loop, int descriptor) : descriptor_(loop, descriptor) {}
    ~Watch() { descriptor_.release(); }

    void when_readable(std::function<void()> then) {
        descriptor_.async_wait(asio::posix::stream_descriptor::wait_read,
            [then = std::move(then)](const boost::system::error_code& error) {
                if (!error) then();
            });
    }

private:
    asio::posix::stream_descriptor descriptor_;
};

// One client: each message goes back as it is, from the slot in which it came.
class Session : public std::enable_shared_from_this<Session> {
public:
    Session(asio::io_context& loop, Transport channel, std::function<void()> ended)
        : loop_(loop), channel_(std::move(channel)), message_(loop, channel_.recv_wait_fd()),
          room_(loop, channel_.send_wait_fd()), ended_(std::move(ended)) {}

    void go_on() {
        try {
            for (int at = 0; at < TURN; ++at) {
                if (!echo_one()) return;
            }
            asio::post(loop_, [self = shared_from_this()] { self->go_on(); });
        } catch (const Error& end) {
            if (end.status() != CSHM_CLOSED) std::fprintf(stderr, "asio_echo: a client: %s\n", end.what());
            ended_();
        }
    }

private:
    // Whether it did anything. Otherwise a descriptor will tell when there is something to do.
    bool echo_one() {
        auto again = [self = shared_from_this()] { self->go_on(); };
        if (!asked_) {
            asked_ = channel_.try_recv();
            if (!asked_) {
                if (!channel_.recv_arm()) return true;
                message_.when_readable(again);
                return false;
            }
        }
        // A client that does not read holds up itself alone.
        if (!channel_.try_send(asked_->bytes())) {
            if (!channel_.send_arm()) return true;
            room_.when_readable(again);
            return false;
        }
        asked_.reset();
        return true;
    }

    asio::io_context& loop_;
    Transport channel_;
    // A message that is not answered yet.
    std::optional<ReadSlot> asked_;
    Watch message_, room_;
    std::function<void()> ended_;
};

class EchoServer {
public:
    EchoServer(asio::io_context& loop, const std::string& name, std::uint32_t clients)
        : loop_(loop), server_(Server<>::bind(name, Config().slot_size(64))), come_(loop, server_.wait_fd()),
          clients_(clients) {}

    void accept() {
        while (auto channel = server_.try_accept()) {
            auto ended = [this] {
                std::printf("a client has gone, %zu are left\n", server_.clients() - 1);
                if (--clients_ == 0) loop_.stop();
            };
            auto session = std::make_shared<Session>(loop_, std::move(*channel), ended);
            asio::post(loop_, [session] { session->go_on(); });
        }
        come_.when_readable([this] { accept(); });
    }

private:
    asio::io_context& loop_;
    Server<> server_;
    Watch come_;
    // How many are still to come and go; 0 is without end.
    std::uint32_t clients_;
};

class Client {
public:
    Client(asio::io_context& loop, const std::string& name)
        : loop_(loop), channel_(Transport::connect(name, PATIENCE)), message_(loop, channel_.recv_wait_fd()),
          room_(loop, channel_.send_wait_fd()) {}

    void send() {
        while (sent_ < MESSAGES) {
            auto slot = channel_.try_reserve();
            if (!slot) {
                if (!channel_.send_arm()) continue;
                return room_.when_readable([this] { send(); });
            }
            std::memcpy(slot->data(), &sent_, sizeof sent_);
            slot->commit(sizeof sent_);
            ++sent_;
        }
    }

    void receive() {
        while (received_ < MESSAGES) {
            const auto answer = channel_.try_recv();
            if (!answer) {
                if (!channel_.recv_arm()) continue;
                return message_.when_readable([this] { receive(); });
            }
            if (answer->size() != sizeof received_ ||
                std::memcmp(answer->data(), &received_, sizeof received_) != 0) {
                throw std::runtime_error("message " + std::to_string(received_) + " came back changed");
            }
            ++received_;
        }
        loop_.stop();
    }

private:
    asio::io_context& loop_;
    Transport channel_;
    Watch message_, room_;
    std::uint32_t sent_ = 0, received_ = 0;
};

void serve(const std::string& name, std::uint32_t clients) {
    asio::io_context loop(1);
    EchoServer server(loop, name, clients);
    server.accept();
    loop.run();
}

void call(const std::string& name) {
    asio::io_context loop(1);
    Client client(loop, name);
    const auto start = std::chrono::steady_clock::now();
    client.receive();
    client.send();
    loop.run();
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
    std::printf("%u messages there and back, %.2f us each\n", MESSAGES, time.count() / MESSAGES);
}

} // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    const bool serves = (words.size() == 2 || words.size() == 3) && words[0] == "server";
    if (!serves && !(words.size() == 2 && words[0] == "client")) {
        std::fprintf(stderr, "usage: asio_echo server NAME [CLIENTS] | client NAME\n");
        return 2;
    }
    try {
        if (serves) {
            serve(words[1], words.size() == 3 ? static_cast<std::uint32_t>(std::atol(words[2].c_str())) : 0);
        } else {
            call(words[1]);
        }
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "asio_echo: %s\n", error.what());
        return 1;
    }
}
