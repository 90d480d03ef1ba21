// The parts that the README's C++ leaves to its reader. `ci/cpp readme` compiles each block behind this; a block's own includes
// come before.

#ifndef README_HPP
#define README_HPP

#include "capnproto_shm_transport.hpp"

#include <cstring>
#include <map>

using namespace capnproto_shm_transport;
using namespace std::chrono_literals;

void use(std::string_view text);
bool answer(Transport& client);

struct Loop {
    void when_readable(int fd, void (*then)());
};
extern Loop loop;
extern Transport channel;

#ifdef CAPNPROTO_SHM_TRANSPORT_CAPNP_HPP
#include "quotes.capnp.h"
#endif

#ifdef CAPNPROTO_SHM_TRANSPORT_RPC_HPP
#include "calculator.capnp.h"
struct CalculatorImpl final : Calculator::Server {};
#endif

#endif
