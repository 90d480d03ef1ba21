// The class that users had before: the same one on Boost.Interprocess, with one pair of indices for each direction. It has no
// callback here, as sendSlot and recvSlot do not use it; it looks again and again, with a 1 ms sleep after a thousand
// looks in vain.

#ifndef BOOST_CLASS_HPP
#define BOOST_CLASS_HPP

#include <boost/interprocess/managed_shared_memory.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

class BoostClass {
public:
    static BoostClass create(const std::string& name, std::uint64_t size, std::uint64_t slots) {
        remove(name);
        return BoostClass(name, true, [&](const std::string& path) {
            auto memory = std::make_unique<Memory>(
                boost::interprocess::create_only, path.c_str(), sizeof(Ring) + size * slots + 8192);
            memory->construct<std::uint8_t>("slots")[size * slots](std::uint8_t{0});
            auto* ring = memory->construct<Ring>("ring")();
            ring->size = size;
            ring->slots = slots;
            ring->ready.store(1, std::memory_order_release);
            return memory;
        });
    }
    static BoostClass open(const std::string& name, std::chrono::seconds wait) {
        const auto end = std::chrono::steady_clock::now() + wait;
        for (;;) {
            try {
                return BoostClass(name, false, [](const std::string& path) {
                    auto memory = std::make_unique<Memory>(boost::interprocess::open_only, path.c_str());
                    const auto* ring = memory->find<Ring>("ring").first;
                    if (ring == nullptr || ring->ready.load(std::memory_order_acquire) == 0)
                        throw std::runtime_error("not yet");
                    return memory;
                });
            } catch (const std::exception&) {
                if (std::chrono::steady_clock::now() > end) throw;
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
        }
    }
    BoostClass(BoostClass&&) = default;
    ~BoostClass() {
        if (creator_ && tx_memory_) remove(name_);
    }

    std::uint32_t sendSlot(const std::uint8_t* data, std::uint64_t len, std::chrono::milliseconds) {
        if (len != tx_->size) return 0;
        const auto tail = tx_->tail.load(std::memory_order_relaxed);
        wait([&] { return tail - tx_->head.load(std::memory_order_acquire) < tx_->slots; });
        std::memcpy(tx_slots_ + (tail & (tx_->slots - 1)) * tx_->size, data, tx_->size);
        tx_->tail.store(tail + 1, std::memory_order_release);
        return 1;
    }
    std::uint32_t recvSlot(std::vector<std::uint8_t>& out, std::chrono::milliseconds) {
        const auto head = rx_->head.load(std::memory_order_relaxed);
        wait([&] { return rx_->tail.load(std::memory_order_acquire) != head; });
        out.resize(rx_->size);
        std::memcpy(out.data(), rx_slots_ + (head & (rx_->slots - 1)) * rx_->size, rx_->size);
        rx_->head.store(head + 1, std::memory_order_release);
        return 1;
    }

private:
    using Memory = boost::interprocess::managed_shared_memory;

    struct Ring {
        std::uint64_t size{0}, slots{0};
        std::atomic<std::uint32_t> ready{0};
        // Apart by padding, not alignment, which Boost does not give to what it names.
        char apart_1[64];
        std::atomic<std::uint64_t> head{0};
        char apart_2[64];
        std::atomic<std::uint64_t> tail{0};
    };

    template <class Make>
    BoostClass(const std::string& name, bool creator, Make make) : name_(name), creator_(creator) {
        auto a_to_b = make(name + ".boost.a2b");
        auto b_to_a = make(name + ".boost.b2a");
        tx_memory_ = creator ? std::move(a_to_b) : std::move(b_to_a);
        rx_memory_ = creator ? std::move(b_to_a) : std::move(a_to_b);
        tx_ = tx_memory_->find<Ring>("ring").first;
        rx_ = rx_memory_->find<Ring>("ring").first;
        tx_slots_ = tx_memory_->find<std::uint8_t>("slots").first;
        rx_slots_ = rx_memory_->find<std::uint8_t>("slots").first;
    }

    static void remove(const std::string& name) {
        boost::interprocess::shared_memory_object::remove((name + ".boost.a2b").c_str());
        boost::interprocess::shared_memory_object::remove((name + ".boost.b2a").c_str());
    }

    template <class Ready>
    static void wait(Ready ready) {
        for (int looks = 0; !ready(); ++looks) {
            if (looks >= 1000) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }

    std::string name_;
    bool creator_;
    std::unique_ptr<Memory> tx_memory_, rx_memory_;
    Ring *tx_ = nullptr, *rx_ = nullptr;
    std::uint8_t *tx_slots_ = nullptr, *rx_slots_ = nullptr;
};

#endif
